"""Reading a request's body: only of a kind that is understood, only so much, and only so long."""

import asyncio
from dataclasses import dataclass

from aiohttp import StreamReader, web

from relay.metrics import Metrics
from relay.receive.limits import Limits
from relay.receive.parse import Malformed
from relay.receive.refusals import TooLarge, TooSlow, Unsupported, note_limit

JSON_LINES = frozenset({"application/x-ndjson", "application/ndjson"})


@dataclass(frozen=True, slots=True)
class Body:
    """A body as it was `sent`, which is what a signature covers, and as it is to be read (`text`, inflated)."""

    sent: bytes
    text: bytes


class Reading:
    """Reads bodies for all requests of a process."""

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self._limits = limits
        self._metrics = metrics

    def check_kind(self, request: web.Request, more_types: frozenset[str]) -> None:
        """Refuse by the headers what need not be read. Raises Unsupported."""
        kind = request.content_type
        if kind != "application/json" and not kind.endswith("+json") and kind not in more_types:
            raise Unsupported(f"expected Content-Type {' or '.join(['application/json', *sorted(more_types)])}")
        if request.headers.get("Content-Encoding", "identity") != "identity":
            raise Unsupported("expected no Content-Encoding: signatures cover the bytes as sent")

    async def read(self, request: web.Request, bytes_max: int) -> Body:
        """Read the body, at most `bytes_max` of it. Raises TooLarge, TooSlow or Malformed."""
        try:
            sent = await self._read(request, bytes_max)
        except TooLarge:
            note_limit(self._metrics, "body_bytes")
            raise
        except TimeoutError:
            note_limit(self._metrics, "body_time")
            raise TooSlow from None
        return Body(sent, sent)

    async def _read(self, request: web.Request, bytes_max: int) -> bytes:
        if (request.content_length or 0) > bytes_max:
            raise TooLarge
        content = request.content
        if content.is_eof():  # a small body comes in one piece with the headers
            body = content.read_nowait()
            if len(body) > bytes_max:
                raise TooLarge
            return body
        try:
            async with asyncio.timeout(self._limits.body_timeout_s):
                return await _read_on(content, bytes_max)
        except TimeoutError:
            raise
        except (OSError, web.RequestPayloadError):
            raise Malformed("the body ended early") from None


async def _read_on(content: StreamReader, bytes_max: int) -> bytes:
    body = bytearray()
    async for chunk in content.iter_any():
        body += chunk
        if len(body) > bytes_max:
            raise TooLarge
    return bytes(body)
