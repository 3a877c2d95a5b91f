"""The one client that talks to all vendors: sessions, time-outs, size limits, redaction, tokens.

Theory of operation. What an upload came to hangs on one question: can the vendor have the file? Before the first byte
of the body nothing can have arrived, so every failure is `Transient`; afterwards anything but an answer is `Unknown`.
So nothing here sends a file twice on its own: each request has a connection of its own, redirects are not followed, and
aiohttp tries none but idempotent methods again. An answer counts even if it comes before the whole body was sent (413,
401) and even if the connection breaks because of it; only "yes" to half a file is no answer.

A lane's lease may run out during an upload, and then another replica may be sending to the same login. Before each
chunk, and at least every `LEASE_CHECK_S` while waiting, the lease is looked at; when it is over, the connection is
reset, so that not even bytes under way in a buffer complete the file. The same is done with whatever ends without an
answer: an upload that has been given up must not complete later.

No text made here holds a query, a form's content, a token, or of a reply anything but what `vendors.excerpt` lets
through.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from types import TracebackType
from typing import Final, Self

import aiofiles
import aiohttp
from yarl import URL

from relay import __version__
from relay.batches import Misconfigured, Outcome, Transient, Unauthorized, Unknown
from relay.client.body import CHUNK_BYTES, Body, body_bytes, cause
from relay.errors import LaneLost
from relay.events import Operation
from relay.log import logger
from relay.metrics import Metrics
from relay.settings import Account, BmeLogin, Login
from relay.spool import Spool, SpoolFile
from relay.vendors import Counted, Form, Reply, Sent, Vendor, excerpt, vendor_of

__all__ = ["Client", "UploadJob", "Uploaded", "body_bytes"]

log = logger(__name__)

REPLY_BYTES_MAX: Final = 16_777_216
"""More of a reply is not read: it would repeat over 30,000 refused lines, and parsing takes several times its size."""

LOGIN_TIMEOUT_S: Final = 30.0
"""A login call does no work at the vendor; one that takes longer has failed."""


_FAILED: Final = (aiohttp.ClientError, OSError, UnicodeError)
"""What talking can end in. A time-out is an OSError, a host that is no name for DNS a UnicodeError."""


@dataclass(frozen=True, slots=True)
class UploadJob:
    """One file to upload. `lease_left_s` says how long the lane is still ours, on a clock that counts suspension."""

    login: Login
    account: Account
    operation: Operation
    file: SpoolFile
    lease_left_s: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What an upload came to; `http_status` is None without an answer, `bytes_sent` counts bodies of uploads only."""

    outcome: Outcome
    http_status: int | None
    bytes_sent: int
    excerpt: str


@dataclass(frozen=True, slots=True)
class _Token:
    """A token with the login settings that it was got with, and when to renew it."""

    login: Login
    value: str = field(repr=False)
    renew_at: float


class Client:
    """Talks to vendors for all lanes of a process. Use as a context manager, or `close` it."""

    def __init__(self, metrics: Metrics, spool: Spool, *, token_clock: Callable[[], float] = time.monotonic) -> None:
        self._metrics = metrics
        self._spool = spool
        self._clock = token_clock
        self._session: aiohttp.ClientSession | None = None
        self._tokens: dict[str, _Token] = {}
        self._logging_in: dict[str, asyncio.Lock] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections. Tokens are forgotten."""
        self._tokens.clear()
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def upload(self, job: UploadJob) -> Uploaded:
        """Send one file and say what it came to. A token that has expired is renewed once and the file sent again.

        Raises:
            LaneLost: the lease ran out; whatever the vendor did must not be written down.
        """
        vendor = vendor_of(job.login)
        if not vendor.needs_token:
            return await self._attempt(job, vendor, None)
        token = await self._token(job.login, vendor)
        if isinstance(token, Uploaded):
            return token
        first = await self._attempt(job, vendor, token)
        if first.http_status != HTTPStatus.UNAUTHORIZED:
            return first
        self._drop(job.login, token)
        token = await self._token(job.login, vendor)
        if isinstance(token, Uploaded):
            return replace(token, bytes_sent=first.bytes_sent)
        second = await self._attempt(job, vendor, token)
        if second.http_status == HTTPStatus.UNAUTHORIZED:
            self._drop(job.login, token)
        return replace(second, bytes_sent=first.bytes_sent + second.bytes_sent)

    # -- tokens ------------------------------------------------------------------------------------------------------

    async def _token(self, login: Login, vendor: Vendor) -> str | Uploaded:
        """Give a login's token: the one at hand if it is good, else a new one; one login call at a time."""
        async with self._logging_in.setdefault(login.name, asyncio.Lock()):
            known = self._tokens.get(login.name)
            if known is not None and known.login == login and self._clock() < known.renew_at:
                return known.value
            renew_after_s = login.token_renew_after_s if isinstance(login, BmeLogin) else 0.0
            renew_at = self._clock() + renew_after_s
            got = await self._log_in(login, vendor)
            if isinstance(got, str):
                self._tokens[login.name] = _Token(login, got, renew_at)
            return got

    def _drop(self, login: Login, token: str) -> None:
        known = self._tokens.get(login.name)
        if known is not None and known.value == token:
            del self._tokens[login.name]

    async def _log_in(self, login: Login, vendor: Vendor) -> str | Uploaded:
        path, fields = vendor.login_form(login)
        timeout = _timeout(login, min(LOGIN_TIMEOUT_S, login.upload_timeout_s))
        reply: Reply | None = None
        token: str | Outcome
        try:
            async with self._open_session().post(
                _url(login, path), data=aiohttp.FormData(fields), timeout=timeout, allow_redirects=False
            ) as response:
                reply = await _read(response)
            token = vendor.read_token(reply)
        except _FAILED as error:
            token = Transient(f"login: {cause(error)}")  # no file has been sent, whatever became of this call
        kept = "" if reply is None else excerpt(reply)
        if isinstance(token, str):
            result = "ok"
        else:
            result = "refused" if isinstance(token, Unauthorized | Misconfigured) else "failed"
        self._metrics.logins.labels(login.vendor, result).inc()
        log.info("vendor_login", login=login.name, vendor=login.vendor, result=result, reply=kept)
        return token if isinstance(token, str) else Uploaded(token, None if reply is None else reply.status, 0, kept)

    # -- files -------------------------------------------------------------------------------------------------------

    async def _attempt(self, job: UploadJob, vendor: Vendor, token: str | None) -> Uploaded:
        """Send the file once, and count time and bytes."""
        form = vendor.upload_form(job.login, job.account, job.operation, token)
        started = time.monotonic()
        body: Body | None = None
        try:
            async with aiofiles.open(job.file.path, "rb") as file:
                body = Body(form, file, job.file.bytes, job.lease_left_s)
                try:
                    answer = await self._exchange(job, form, body)
                finally:
                    self._metrics.upload_bytes.labels(job.login.vendor).inc(body.sent)
        except OSError as error:
            reason = f"the spooled file cannot be read: {cause(error)}"
            sent = 0 if body is None else body.sent
            return Uploaded(Unknown(reason) if sent else Transient(reason), None, sent, "")
        finally:
            self._metrics.upload_seconds.labels(job.login.vendor).observe(time.monotonic() - started)
        if not isinstance(answer, Reply):
            return Uploaded(answer, None, body.sent, "")
        outcome = await self._understand(answer, job, vendor)
        if body.begun and not body.whole and HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
            outcome = Unknown("answered before the whole file was sent")
        return Uploaded(outcome, answer.status, body.sent, excerpt(answer))

    async def _exchange(self, job: UploadJob, form: Form, body: Body) -> Reply | Outcome:
        """Send the body and get the answer, or say what its absence means; reset the connection if the lane is lost."""
        async with asyncio.TaskGroup() as tasks:
            watch = tasks.create_task(body.watch())
            answer: Reply | Outcome | None = None
            try:
                answer = await self._answer(job, form, body)
            finally:
                watch.cancel()
                if not isinstance(answer, Reply):
                    body.reset()
        if body.lane_lost:
            raise LaneLost("the lease ran out during an upload")
        return answer

    async def _answer(self, job: UploadJob, form: Form, body: Body) -> Reply | Outcome:
        timeout = _timeout(job.login, job.login.upload_timeout_s)
        try:
            async with self._open_session().post(
                _url(job.login, form.path), data=body, timeout=timeout, allow_redirects=False
            ) as response:
                return await _read(response)
        except _FAILED as error:
            reason = body.broken or cause(error)
            if body.sent == 0:
                return Transient(reason)
            return Unknown(reason, timed_out=isinstance(error, TimeoutError))

    async def _understand(self, reply: Reply, job: UploadJob, vendor: Vendor) -> Outcome:
        """Read and judge in a thread: a reply of many megabytes takes seconds, and webhooks must not wait for it."""
        sent = Sent(job.login, job.account, job.operation, job.file.rows)
        claimed = await asyncio.to_thread(vendor.read, reply, sent)
        if not isinstance(claimed, Counted):
            return claimed
        try:
            lines = await self._spool.lines(job.file, {claim.line for claim in claimed.claims})
        except OSError as error:
            return Unknown(f"the spooled file cannot be compared with the answer: {cause(error)}")
        return await asyncio.to_thread(vendor.judge, claimed, sent, lines)

    # -- HTTP --------------------------------------------------------------------------------------------------------

    def _open_session(self) -> aiohttp.ClientSession:
        """Open the one session: no cookies, no proxy or credentials from the environment, no connection used twice.

        A vendor may close an idle connection at the moment in which it is used again, which would read as `Unknown`.
        """
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(force_close=True, limit=0),  # the lanes are the limit
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": f"relay/{__version__}", "Accept-Encoding": "identity"},
                trust_env=False,
            )
        return self._session


def _url(login: Login, path: str) -> URL:
    return URL(f"{login.base_url.rstrip('/')}/{path.lstrip('/')}", encoded=True)


def _timeout(login: Login, total_s: float) -> aiohttp.ClientTimeout:
    """Bound everything together, and connecting (DNS, TCP, TLS) by itself."""
    return aiohttp.ClientTimeout(total=total_s, connect=login.connect_timeout_s, sock_connect=login.connect_timeout_s)


async def _read(response: aiohttp.ClientResponse) -> Reply:
    """Read an answer up to the limit. One that breaks off still has its status, unless that is a yes."""
    body, truncated = bytearray(), False
    try:
        async for chunk in response.content.iter_chunked(CHUNK_BYTES):
            body += chunk
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
    return Reply(response.status, response.headers.get("Content-Type", ""), bytes(body), truncated, retry_after_s)


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
