"""Inflating bodies in small steps, so that a bomb is found when it reaches a limit and not in memory. Pure.

Understood are `gzip` (RFC 1952; several members one behind the other are one body) and `deflate`, which HTTP calls a
zlib stream (RFC 1950); as many senders mean the bare data in it (RFC 1951), that is taken as well.
"""

import zlib
from collections.abc import Generator, Iterator

from relay.receive.parse import Malformed

ENCODINGS = ("gzip", "x-gzip", "deflate")
EXPECTED_ENCODING = "expected no Content-Encoding, or gzip or deflate alone"

STEP_BYTES = 65_536
"""What one step reads and gives at most: some 0.2 ms of work."""

MEMBERS_MAX = 1_000
"""Of a gzip body: an empty one has 20 bytes, and half a million of them would be much work for nothing."""

_GZIP = 16 + zlib.MAX_WBITS
_ZLIB = zlib.MAX_WBITS
_BARE = -zlib.MAX_WBITS


def inflated(sent: bytes, encoding: str) -> Iterator[bytes]:
    """Inflate a body in steps: each piece, which may be empty, has at most `STEP_BYTES`. Raises Malformed."""
    members_max, wbits = (1, _bare_or_zlib(sent)) if encoding == "deflate" else (MEMBERS_MAX, _GZIP)
    position = 0
    for _ in range(members_max):
        position = yield from _member(memoryview(sent), position, wbits)
        if position == len(sent):
            return
    raise Malformed("the compressed body goes on behind its end")


def _bare_or_zlib(sent: bytes) -> int:
    """Tell a zlib stream by its first two bytes: what they mean, and that they are a multiple of 31."""
    zlib_header = len(sent) > 1 and sent[0] & 0x0F == zlib.DEFLATED and (sent[0] << 8 | sent[1]) % 31 == 0
    return _ZLIB if zlib_header else _BARE


def _member(sent: memoryview, position: int, wbits: int) -> Generator[bytes, None, int]:
    """Inflate one stream that begins at a position; return the position behind it."""
    stream = zlib.decompressobj(wbits)
    while not stream.eof:
        given: bytes | memoryview = stream.unconsumed_tail
        if not given:
            given = sent[position : position + STEP_BYTES]
            position += len(given)
        try:
            piece = stream.decompress(given, STEP_BYTES)
        except zlib.error:
            raise Malformed("the compressed body cannot be inflated") from None
        if not given and not piece and not stream.eof:
            raise Malformed("the compressed body ends early")
        yield piece
    return position - len(stream.unused_data)
