"""The CSV files that the vendors take, read strictly. Pure.

A file is CP932 (the "SJIS" of Japanese services). A line ends in CRLF, the last one too, and is one record; a cell that
begins with a quote ends with one and doubles those within; every line has as many cells as the first, the header.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

ENCODING = "cp932"

_CELL = re.compile(r'(?:"((?:[^"]|"")*)"|([^",]*))(,|\Z)')

_NOT_TEXT = re.compile("[\x00-\x08\x0a-\x1f\x7f-\xa0\ue000-\uf8ff]")
"""Control characters, and what Python's cp932 makes of bytes that Windows-31J does not assign (TAB may stand)."""


class BadFile(Exception):
    """A file that is no CSV or no Shift_JIS. The message names the line and the fault, never the content."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """What a good file holds: its header and the number of rows below it."""

    header: tuple[str, ...]
    rows: int


def check(data: bytes | bytearray) -> Sheet:
    """Read the whole file once, keeping nothing of it. Raises BadFile at the first fault."""
    header: list[str] | None = None
    number = 0
    for number, line in _numbered(data):
        found = _cells(number, line)
        if header is None:
            header = found
        elif len(found) != len(header):
            raise BadFile(f"line {number}: {len(found)} cells where the header has {len(header)}")
    if header is None:
        raise BadFile("line 1: there is no header")
    return Sheet(tuple(header), number - 1)


def rows(data: bytes | bytearray) -> Iterator[tuple[int, list[str]]]:
    """Yield the line number (the header is line 1) and the cells of each row below the header of a checked file."""
    for number, line in _numbered(data):
        if number > 1:
            yield number, _cells(number, line)


def record(cells: Sequence[str]) -> str:
    """Write one record the way the vendors write theirs: every cell quoted, quotes doubled, without the line's end."""
    return ",".join('"' + cell.replace('"', '""') + '"' for cell in cells)


def _numbered(data: bytes | bytearray) -> Iterator[tuple[int, bytes]]:
    """Yield the physical lines. No second byte of a CP932 character is CR or LF, so bytes can be searched."""
    number, start = 0, 0
    while start < len(data):
        number += 1
        end = data.find(b"\r\n", start)
        if end < 0:
            raise BadFile(f"line {number}: does not end in CRLF")
        yield number, bytes(data[start:end])
        start = end + 2


def _cells(number: int, line: bytes) -> list[str]:
    try:
        text = line.decode(ENCODING)
    except UnicodeDecodeError:
        raise BadFile(f"line {number}: not Shift_JIS") from None
    if _NOT_TEXT.search(text):
        raise BadFile(f"line {number}: a control character, or a character that Shift_JIS does not have")
    if len(text) > 2 and text[0] == text[-1] == '"' and '""' not in text:  # noqa: PLR2004 - a quote on each side
        inner = text[1:-1].split('","')
        if not any('"' in cell for cell in inner):
            return inner
    return _quoted_cells(number, text)


def _quoted_cells(number: int, text: str) -> list[str]:
    found, position = [], 0
    while True:
        match = _CELL.match(text, position)
        if match is None:
            raise BadFile(f"line {number}: a quote is missing, not doubled, or followed by text")
        quoted, plain, comma = match.groups()
        found.append(plain if quoted is None else quoted.replace('""', '"'))
        if not comma:
            return found
        position = match.end()
