"""Reading a request's body: only of a kind that is understood, only so much, and only so long."""

import asyncio
from dataclasses import dataclass

from aiohttp import HttpVersion11, StreamReader, web

from relay.errors import Unavailable
from relay.metrics import Metrics
from relay.receive.inflating import ENCODINGS, EXPECTED_ENCODING, inflated
from relay.receive.limits import Budget, Limits, Share
from relay.receive.parse import Malformed
from relay.receive.refusals import TooLarge, TooSlow, Unsupported, note_limit

JSON_LINES = frozenset({"application/x-ndjson", "application/ndjson"})
UTF_8 = frozenset({"utf-8", "utf8"})

STEPS_AT_ONCE = 8
"""After so many steps of inflating (some 2 ms) other requests get their turn."""


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
        self._budget = budget = Budget(limits.receiving_bytes_max)
        metrics.receiving_bytes.set_function(lambda: budget.held)

    def share(self) -> Share:
        """Open what one request holds of the memory for bodies: a context, to be left when the body is done with."""
        return Share(self._budget)

    def check_kind(self, request: web.Request, more_types: frozenset[str]) -> None:
        """Refuse by the headers what need not be read. Raises Unsupported."""
        kind = request.content_type
        if kind != "application/json" and not kind.endswith("+json") and kind not in more_types:
            raise Unsupported(f"expected Content-Type {' or '.join(['application/json', *sorted(more_types)])}")
        charset = request.charset
        if charset is not None and charset.lower() not in UTF_8:
            raise Unsupported("expected UTF-8")
        _encoding(request)

    async def read(self, request: web.Request, bytes_max: int, share: Share) -> Body:
        """Read the body, at most `bytes_max` as sent and as much inflated.

        Raises TooLarge, TooSlow, Malformed, or Unavailable where all bodies together are too many bytes.
        """
        try:
            sent = await self._read(request, bytes_max, share)
            encoding = _encoding(request)
            return Body(sent, sent if encoding is None else await inflate(sent, encoding, bytes_max, share))
        except TooLarge:
            note_limit(self._metrics, "body_bytes")
            raise
        except TimeoutError:
            note_limit(self._metrics, "body_time")
            raise TooSlow from None
        except Unavailable:
            note_limit(self._metrics, "receiving_bytes")
            raise

    async def _read(self, request: web.Request, bytes_max: int, share: Share) -> bytes:
        if (request.content_length or 0) > bytes_max:
            raise TooLarge
        content = request.content
        if content.is_eof():  # a small body comes in one piece with the headers
            body = content.read_nowait()
            if len(body) > bytes_max:
                raise TooLarge
            share.take(len(body))
            return body
        try:
            async with asyncio.timeout(self._limits.body_timeout_s):
                await _ask_for(request)
                return await _read_on(content, bytes_max, share)
        except TimeoutError:
            raise
        except (OSError, web.RequestPayloadError):
            raise Malformed("the body ended early, or where it should not") from None


async def expect(_: web.Request) -> None:
    """Take `Expect: 100-continue` without a word: the sender is asked for its body once it is to be read, if ever.

    Other expectations are refused before any request gets here, by its connection.
    """


async def _ask_for(request: web.Request) -> None:
    if request.version >= HttpVersion11 and "Expect" in request.headers:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await request.writer.drain()
        request.writer.output_size = 0  # or the answer would seem to have begun; aiohttp itself does the same


async def _read_on(content: StreamReader, bytes_max: int, share: Share) -> bytes:
    body = bytearray()
    async for chunk in content.iter_any():
        if len(body) + len(chunk) > bytes_max:
            raise TooLarge
        share.take(len(chunk))
        body += chunk
    return bytes(body)


def _encoding(request: web.Request) -> str | None:
    """Tell how the body is compressed; None where it is not. Raises Unsupported."""
    if "Content-Encoding" not in request.headers:
        return None
    given = ",".join(request.headers.getall("Content-Encoding")).lower().split(",")
    [*encodings] = (name for part in given if (name := part.strip()) not in ("", "identity"))
    if not encodings:
        return None
    if len(encodings) > 1 or encodings[0] not in ENCODINGS:
        raise Unsupported(EXPECTED_ENCODING)
    return encodings[0]


async def inflate(sent: bytes, encoding: str, bytes_max: int, share: Share) -> bytes:
    """Inflate a body, giving other requests their turn. Raises TooLarge, Malformed or Unavailable."""
    pieces: list[bytes] = []
    bytes_ = 0
    for step, piece in enumerate(inflated(sent, encoding), 1):
        bytes_ += len(piece)
        if bytes_ > bytes_max:
            raise TooLarge
        share.take(len(piece))
        pieces.append(piece)
        if step % STEPS_AT_ONCE == 0:
            await asyncio.sleep(0)
    return b"".join(pieces)
