"""A connection's last word: an answer to who has sent no request, or one that is not read on."""

import asyncio
from collections.abc import Callable
from typing import cast

from aiohttp import web

UNREAD_BYTES_MAX = 20_000_000
"""So much of what comes is passed over, held nowhere. Closing with bytes unread would make the system reset the
connection, and the answer might be lost; and many senders look for it only behind their whole body. This is twice the
largest body that is taken by default. Who sends still more does not listen."""


def rendered(response: web.Response) -> bytes:
    """Write an answer as bytes, for which aiohttp would need a request. The connection closes after it."""
    body = cast("bytes", response.body)
    headers = {**response.headers, "Content-Length": str(len(body)), "Connection": "close"}
    lines = [f"HTTP/1.1 {response.status} {response.reason}", *(f"{name}: {value}" for name, value in headers.items())]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("ascii") + body


class Farewell(asyncio.Protocol):
    """Says an answer, passes over what still comes, and closes soon, at once when the other side does.

    `ended` is called with the transport when the connection has gone.
    """

    def __init__(
        self, transport: asyncio.Transport, seconds_max: float, ended: Callable[[asyncio.Transport], None]
    ) -> None:
        self._transport = transport
        self._ended = ended
        self._unread_bytes = 0
        self._end = asyncio.get_running_loop().call_later(seconds_max, transport.abort)

    @classmethod
    def say(
        cls,
        transport: asyncio.Transport,
        answer: web.Response,
        seconds_max: float,
        ended: Callable[[asyncio.Transport], None],
    ) -> None:
        """Take over a connection and end it with an answer, within some seconds."""
        transport.set_protocol(cls(transport, seconds_max, ended))
        transport.write(rendered(answer))
        if transport.can_write_eof():
            transport.write_eof()

    def data_received(self, data: bytes) -> None:
        """Pass over it."""
        self._unread_bytes += len(data)
        if self._unread_bytes > UNREAD_BYTES_MAX:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio gives it
        """Forget it."""
        self._end.cancel()
        self._ended(self._transport)
