"""A file of customers as webhooks: CSV with a header of field names, or NDJSON. Streams; nothing is read as a whole.

Theory of operation. Sending a file again must change nothing, and a customer who is in the file twice must end as the
later line says, in whatever order requests arrive. So all that a webhook says follows from the file: its id from the
type, the file's moment, its bytes and the line; its timestamp is the file's moment less a microsecond for each line
that follows. The file's moment is when it was last written, unless it is given: what a list says was true then at the
latest, so a list from last week does not bring back who was deleted yesterday.
"""

import codecs
import csv
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, TextIO

from relay.errors import FieldError, RelayError
from relay.events import TYPES
from relay.receive.parse import Malformed, strict_json

PIECE_BYTES = 1 << 20
"""How much of the file is looked at in one go."""

HASH_DIGITS = 20
"""80 bits of the file's hash in each id: no two files of a company share them by chance."""


class Unreadable(RelayError):
    """The file cannot be sent at all; the text says why."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What a first pass over the file found: its kind, encoding, number of lines, and the hash of all that it says."""

    kind: Literal["csv", "ndjson"]
    encoding: Literal["utf-8-sig", "cp932"]
    lines: int
    sha256: str
    moment: datetime


@dataclass(frozen=True, slots=True)
class Line:
    """One webhook to send: the line of the file that it begins on (the first is 1), its id, and its JSON."""

    number: int
    webhook_id: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Unsendable:
    """One line of the file that is no webhook, found before sending."""

    number: int
    problem: FieldError


def survey(path: Path, moment: datetime | None = None) -> Survey:
    """Look through the file once. `moment` stands in for the time at which it was last written. Raises Unreadable."""
    try:
        with path.open("rb") as file:
            begin = file.read(PIECE_BYTES)
        if begin.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise Unreadable("the file is UTF-16: save it as UTF-8 or Shift_JIS")
        first = begin.removeprefix(codecs.BOM_UTF8).lstrip()[:1]
        if not first:
            raise Unreadable("the file is empty")
        encoding: Literal["utf-8-sig", "cp932"] = "utf-8-sig" if _decodes(path, "utf-8") else "cp932"
        if encoding == "cp932" and not _decodes(path, "cp932"):
            raise Unreadable("the file is neither UTF-8 nor Shift_JIS (CP932)")
        lines, digest = _measure(path)
        written = datetime.fromtimestamp(path.stat().st_mtime_ns // 1000 / 1e6, UTC)
    except OSError as error:
        raise Unreadable(f"cannot read the file: {error.strerror or type(error).__name__}") from None
    return Survey("ndjson" if first == b"{" else "csv", encoding, lines, digest, moment or written)


def read(path: Path, found: Survey, kind: str, id_prefix: str) -> Iterator[Line | Unsendable]:
    """Read the file as webhooks of type `kind`, in its order. Raises Unreadable where the header makes no sense."""
    said = f"{kind} {found.moment.isoformat()} {found.sha256}"
    numbered = f"{id_prefix}{hashlib.sha256(said.encode()).hexdigest()[:HASH_DIGITS]}-"
    with path.open(encoding=found.encoding, newline="\n" if found.kind == "ndjson" else "") as text:
        rows = _objects(text) if found.kind == "ndjson" else _rows(text)
        for number, row in rows:
            if isinstance(row, FieldError):
                yield Unsendable(number, row)
                continue
            timestamp = (found.moment - timedelta(microseconds=max(found.lines - number, 0))).isoformat()
            given = {"id": f"{numbered}{number}", "type": kind, "timestamp": timestamp}
            yield _line(number, {**given, **row})


def _line(number: int, webhook: Mapping[str, object]) -> Line:
    return Line(number, str(webhook["id"]), json.dumps(webhook, ensure_ascii=False).encode("utf-8", "surrogatepass"))


# -- CSV -------------------------------------------------------------------------------------------------------------


def _rows(text: TextIO) -> Iterator[tuple[int, dict[str, object] | FieldError]]:
    reader = csv.reader(text, strict=True)
    try:
        header = next(reader, [])
    except csv.Error as error:
        raise Unreadable(f"the header is no CSV: {error}") from None
    paths = _paths(header)
    while True:
        number = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            yield number, FieldError("line", f"is no CSV: {error}")
            continue
        if row is None:
            return
        if len(row) == len(paths):
            yield number, {"data": _data(paths, row)}
        elif row:
            yield number, FieldError("line", f"has {len(row)} cells, the header has {len(paths)}")


def _paths(header: Sequence[str]) -> list[list[str]]:
    """Split the header's dotted names; each must be there once, and none may be both a value and a group.

    Columns are told by their numbers: where a file has no header, its first customer stands there.
    """
    names = [name.strip() for name in header]
    for index, name in enumerate(names):
        if not all(name.split(".")):
            raise Unreadable(f"column {index + 1} of the header has no name, or one with an empty part")
        if name in names[:index]:
            raise Unreadable(f"column {index + 1} of the header has the same name as column {names.index(name) + 1}")
        inner = next((number for number, other in enumerate(names, 1) if other.startswith(f"{name}.")), None)
        if inner is not None:
            raise Unreadable(f"column {index + 1} of the header is a value, and column {inner} lies within it")
    return [name.split(".") for name in names]


def _data(paths: Sequence[Sequence[str]], row: Sequence[str]) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for (*groups, last), cell in zip(paths, row, strict=True):
        place = data
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = cell
    return data


# -- NDJSON ----------------------------------------------------------------------------------------------------------


def _objects(text: TextIO) -> Iterator[tuple[int, dict[str, object] | FieldError]]:
    """Read each line as a customer's data, or as a whole webhook if it has a known `type` and an object `data`."""
    for number, line in enumerate(text, 1):
        if not line.strip():
            continue
        try:
            value = strict_json(line.encode())
        except Malformed as error:
            yield number, FieldError("line", str(error))
            continue
        if not isinstance(value, dict):
            yield number, FieldError("line", "expected a JSON object")
        elif value.get("type") in TYPES and isinstance(value.get("data"), dict):
            yield number, {key: value[key] for key in ("id", "type", "timestamp", "data") if value.get(key) is not None}
        else:
            yield number, {"data": value}


# -- the first pass --------------------------------------------------------------------------------------------------


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece


def _decodes(path: Path, encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        for piece in _pieces(path):
            decoder.decode(piece)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _measure(path: Path) -> tuple[int, str]:
    """Count the lines (a last one without its end counts too) and hash the bytes."""
    digest = hashlib.sha256()
    lines = 1
    for piece in _pieces(path):
        digest.update(piece)
        lines += piece.count(b"\n")
    return lines, digest.hexdigest()
