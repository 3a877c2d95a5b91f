"""Canaries: values that occur nowhere by chance, and finding them again however they were written.

Theory of operation. What leaks is rarely written as it came: a log escapes it, a URL percent-encodes it, a repr shows
its bytes, an error page makes entities of it, a header holds it in base64, and a limit cuts it off. So a text is first
looked at through `_VIEWS`, which undo escapes (one in another too), and in each view the beginning and the end of every
canary are looked for in several encodings, in upper and lower case alike. Who leaks ten characters of a password has
leaked it.
"""

import base64
import html
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import unquote_to_bytes

PIECE_CHARACTERS = 10
"""So much of a long value's beginning or end is enough to be found: asyncio's reprs show some 12 characters of each."""

ENCODINGS = ("utf-8", "cp932", "utf-16-le", "utf-16-be")


@dataclass(frozen=True)
class Canary:
    """One value that must not be found, and what it stands for."""

    what: str
    value: str

    @cached_property
    def _pieces(self) -> dict[str, bytes]:
        """The bytes to look for, by how the value would have been written."""
        value = self.value
        ends = {value[:PIECE_CHARACTERS], value[-PIECE_CHARACTERS:]}
        return {
            f"{how} of {end!r}": piece
            for end in ends
            for encoding in ENCODINGS
            for how, piece in _written(end, encoding)
        }

    def found_in(self, seen: Iterable[bytes]) -> str | None:
        """Say how it is written in one of a text's views (see `views`); None if it is in none of them."""
        for view in seen:
            lowered = view.lower()
            for how, piece in self._pieces.items():
                if piece in (view if how.startswith("base64") else lowered):
                    return how
        return None


def find(canaries: Iterable[Canary], told: bytes) -> list[str]:
    """Name the canaries in a text, each with how it was written there."""
    seen = views(told)
    return [f"{canary.what}: {how}" for canary in canaries if (how := canary.found_in(seen))]


def views(told: bytes) -> set[bytes]:
    """Undo the ways in which texts are escaped, two deep: `%5Cu9ad9` is a percent-encoded JSON escape."""
    found = {told}
    for _ in range(2):
        found |= {undo(view) for view in found for undo in _VIEWS}
    return found


# -- how a value may be written --------------------------------------------------------------------------------------


def _written(text: str, encoding: str) -> Iterator[tuple[str, bytes]]:
    try:
        data = text.encode(encoding)
    except UnicodeEncodeError:
        return
    yield encoding, data.lower()
    yield f"hex ({encoding})", data.hex().encode()
    for place in range(3):
        for alphabet in (b"+/", b"-_"):
            yield f"base64 at {place} {alphabet!r} ({encoding})", _base64_inside(data, place, alphabet)


def _base64_inside(data: bytes, place: int, alphabet: bytes) -> bytes:
    """Give the characters of base64 that only `data` decides, where `place` bytes (mod 3) stand before it."""
    encoded = base64.b64encode(bytes(place) + data, alphabet).rstrip(b"=")
    first = -(-place * 8 // 6)  # characters that the bytes before have a part in
    last = (place + len(data)) * 8 // 6  # and those that the bytes behind would have
    return encoded[first:last]


# -- undoing escapes -------------------------------------------------------------------------------------------------

_CODE_POINT = re.compile(rb"\\+(?:U([0-9a-fA-F]{8})|u([0-9a-fA-F]{4}))")
_CODE_POINTS = re.compile(rb"(?:\\+(?:U[0-9a-fA-F]{8}|u[0-9a-fA-F]{4}))+")
_BYTE = re.compile(rb"\\+x([0-9a-fA-F]{2})")
_ESCAPED = re.compile(rb"\\+([\"'/\\])")


def _unescaped(view: bytes) -> bytes:
    r"""Undo the escapes of JSON and of Python's reprs: \u9ad9, surrogate pairs, \U0001f363, \xfb, \" and \/."""
    view = _CODE_POINTS.sub(_characters, view)
    view = _BYTE.sub(lambda found: bytes.fromhex(found[1].decode()), view)
    return _ESCAPED.sub(rb"\1", view)


def _characters(found: re.Match[bytes]) -> bytes:
    units = [chr(int(long or short, 16) % 0x110000) for long, short in _CODE_POINT.findall(found[0])]
    pairs = "".join(units).encode("utf-16-be", "surrogatepass")
    return pairs.decode("utf-16-be", "replace").encode()


def _entities(view: bytes) -> bytes:
    """Undo HTML's entities: &lt; &#37329; &#x91d1;."""
    return html.unescape(view.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


def _percent(view: bytes) -> bytes:
    """Undo percent-encoding, a form's plus signs included."""
    return unquote_to_bytes(view.replace(b"+", b" ") if b"%" in view else view)


_VIEWS: tuple[Callable[[bytes], bytes], ...] = (_unescaped, _entities, _percent, unquote_to_bytes)
