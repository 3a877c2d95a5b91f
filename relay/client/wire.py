"""HTTP as all calls to vendors do it: one session, bounded time, answers read up to a limit."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from datetime import datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from yarl import URL

from relay import __version__
from relay.client.body import CHUNK_BYTES, cause
from relay.client.turns import LARGE_BYTES
from relay.settings import Login
from relay.vendors import Reply

REPLY_BYTES_MAX: Final = 16_777_216
"""More of a reply is not read: it would repeat over 30,000 refused lines."""

FAILED: Final = (aiohttp.ClientError, OSError, UnicodeError)
"""What talking can end in. A time-out is an OSError, a host that is no name for DNS a UnicodeError."""


UNREACHED: Final = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, UnicodeError)
"""Which of that means that nothing was sent: no name, no connection, no TLS."""


Certified = Callable[[str, float], None]
"""Is told the URL of each connection with TLS, and when the certificate there expires, by the world's clock."""


class Connector(aiohttp.TCPConnector):
    """Makes connections, each for one request, and tells what certificates it meets."""

    def __init__(self, certified: Certified, tls: ssl.SSLContext | None) -> None:
        super().__init__(force_close=True, limit=0, ssl=True if tls is None else tls)  # the lanes are the limit
        self._certified = certified

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 (aiohttp's)
    ) -> Connection:
        """Connect as aiohttp does."""
        connection = await super().connect(req, traces, timeout)
        certificate = connection.transport and connection.transport.get_extra_info("peercert")
        if certificate and "notAfter" in certificate:
            self._certified(str(req.url), ssl.cert_time_to_seconds(certificate["notAfter"]))
        return connection


def open_session(certified: Certified, tls: ssl.SSLContext | None = None) -> aiohttp.ClientSession:
    """Open a session: no cookies, no proxy or credentials from the environment, no connection used twice.

    A vendor may close an idle connection at the moment in which it is used again, which would read as `Unknown`.
    `tls` says whom to trust; by default it is whom the system trusts.
    """
    return aiohttp.ClientSession(
        connector=Connector(certified, tls),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": f"relay/{__version__}", "Accept-Encoding": "identity"},
        trust_env=False,
    )


def url_of(login: Login, path: str) -> URL:
    """Join a path that an adapter names to a login's base URL."""
    return URL(f"{login.base_url.rstrip('/')}/{path.lstrip('/')}", encoded=True)


def timeout_of(login: Login, total_s: float) -> aiohttp.ClientTimeout:
    """Bound everything together, and connecting (DNS, TCP, TLS) by itself."""
    return aiohttp.ClientTimeout(total=total_s, connect=login.connect_timeout_s, sock_connect=login.connect_timeout_s)


async def read(response: aiohttp.ClientResponse, turn: Callable[[], Awaitable[None]] | None = None) -> Reply:
    """Read an answer up to the limit. One that breaks off still has its status, unless that is a yes.

    A large one waits for its `turn` before more of it is read.
    """
    body, truncated = bytearray(), False
    try:
        async for chunk in response.content.iter_chunked(CHUNK_BYTES):
            body += chunk
            if turn is not None and len(body) > LARGE_BYTES:
                await turn()
            if len(body) > REPLY_BYTES_MAX:
                del body[REPLY_BYTES_MAX:]
                truncated = True
                break
    except (aiohttp.ClientError, OSError):
        if response.status < HTTPStatus.MULTIPLE_CHOICES:
            raise
        truncated = True
    if truncated:
        response.close()
    retry_after_s = _retry_after_s(response.headers.get("Retry-After"), response.headers.get("Date"))
    kind, date = response.headers.get("Content-Type", ""), _date(response.headers.get("Date"))
    return Reply(response.status, kind, bytes(body), truncated, retry_after_s, date)


def _retry_after_s(value: str | None, date: str | None) -> float | None:
    """Read `Retry-After`: seconds, or a date, which is compared with the server's own clock. None if it is neither."""
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        return max(0.0, (parsedate_to_datetime(value) - parsedate_to_datetime(date or "")).total_seconds())
    except (TypeError, ValueError):
        return None


def _date(value: str | None) -> datetime | None:
    """Read a `Date`, which says of its own time zone what it is; None for anything else."""
    try:
        date = parsedate_to_datetime(value or "")
    except (TypeError, ValueError):
        return None
    return None if date.tzinfo is None else date


async def reach(login: Login) -> str:
    """Connect to a login's host and let go again; see `Client.reach`."""
    parts = urlsplit(login.base_url)
    tls = parts.scheme == "https"
    try:
        async with asyncio.timeout(login.connect_timeout_s or None):
            _, writer = await asyncio.open_connection(
                parts.hostname, parts.port or (443 if tls else 80), ssl=tls or None
            )
    except ssl.SSLError as error:
        return type(error).__name__  # its number is the library's own
    except FAILED as error:
        return cause(error)
    writer.transport.abort()
    return ""
