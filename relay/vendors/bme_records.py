"""blastmail's and blaynmail's records of failed lines (`contact/import/error/…`): how they are asked for, and read.

Both API documents: the vendor keeps a record of each import in which lines failed, by type (`登録エラー` of `all`,
`create` and `update`, `削除エラー` of `delete`) and time; `export` answers the failed lines as a CSV file, `delete`
forgets them. A record's type and time are all that names it. That the time is Japan's is a guess, and so is everything
about the CSV file: its encoding, its columns and their order are not documented.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from http import HTTPStatus
from typing import Final

from relay.events import Operation
from relay.settings import BmeLogin, Login
from relay.vendors.base import Call, Reply, excerpt
from relay.vendors.bme_counting import WRAPPERS, whole
from relay.vendors.charsets import texts
from relay.vendors.elements import Doubt, Scalar, elements

CREATE_ERROR: Final = "登録エラー"
DELETE_ERROR: Final = "削除エラー"

KINDS: Final = {"create": CREATE_ERROR, "delete": DELETE_ERROR}
"""The types as they can be typed without Japanese."""

JAPAN: Final = timezone(timedelta(hours=9))

LISTED_MAX: Final = 100_000
DELETED_MAX: Final = 1_000
"""So many elements of a list, and of the answer to a deletion, are read: a record has five of them."""

EXPORTED_ROWS_MAX: Final = 200_000
EXPORTED_COLUMNS_MAX: Final = 1_000
EXPORTED_ROW_CHARACTERS_MAX: Final = 1_000_000
"""So much of a CSV file is read: in Python an empty row takes fifty times the room that it takes there."""

_PATH = "contact/import/error"
_PARAMETERS = {CREATE_ERROR: "createErrors", DELETE_ERROR: "deleteErrors"}
_PARTS = ("type", "date", "count")
_FAULTS = frozenset({"failure", "error", "errors", "message"})
_DATE = re.compile(r"([0-9]{4})-?([0-9]{2})-?([0-9]{2})T([0-9]{2}):?([0-9]{2}):?([0-9]{2})")
_NOT_CSV = re.compile(r"\s*(?:[<{\[]|\"?failure_)", re.IGNORECASE)  # a page, XML, JSON, a message


@dataclass(frozen=True, slots=True)
class ErrorRecord:
    """A record as the vendor lists it: `kind` and `date` are its own texts, which name it, `count` the failed lines.

    `at` is the date as a time; None where it cannot be read.
    """

    kind: str
    date: str
    count: int
    at: datetime | None


@dataclass(frozen=True, slots=True)
class Failed:
    """Why there is no answer, without a word that may be a customer's."""

    reason: str


@dataclass(frozen=True, slots=True)
class ErrorTable:
    """The CSV file of a record: its columns' names, and its rows, each with as many cells."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...] = field(repr=False)


def keeps_records(login: Login) -> bool:
    """Whether a login's vendor keeps such records at all."""
    return isinstance(login, BmeLogin)


def kind_of(operation: Operation) -> str:
    """Say which type of record an operation's failed lines are kept in."""
    return DELETE_ERROR if operation is Operation.DELETE else CREATE_ERROR


# -- calls -----------------------------------------------------------------------------------------------------------


def search_call(token: str | None) -> Call:
    """List all records. `format` is never sent: on a GET it was seen to answer 500 `illegal format: json,json`."""
    return Call("GET", f"{_PATH}/search", query=(("access_token", _given(token)), ("f", "json")))


def export_call(kind: str, date: str, token: str | None) -> Call:
    """Get the failed lines of a record."""
    return Call("GET", f"{_PATH}/export", query=(("access_token", _given(token)), ("type", kind), ("date", date)))


def delete_call(kind: str, date: str, token: str | None) -> Call:
    """Delete a record: exactly that type and time. Raises KeyError for a type that is not documented."""
    fields = (("access_token", _given(token)), ("f", "json"), (_PARAMETERS[kind], date))
    return Call("POST", f"{_PATH}/delete", fields=fields)


def _given(token: str | None) -> str:
    if token is None:
        raise TypeError("blastmail and blaynmail want a token")
    return token


# -- replies ---------------------------------------------------------------------------------------------------------


def read_search(reply: Reply) -> tuple[ErrorRecord, ...] | Failed:
    """Read a list of records, or one, or none, in JSON or XML: all of it can be read, or none of it counts."""
    if failed := _failed(reply):
        return failed
    listing = _Listing()
    try:
        for kind, name, value in elements(texts(reply.body, reply.content_type), LISTED_MAX):
            listing.take(kind, name, value)
    except Doubt as doubt:
        return Failed(f"{excerpt(reply)}; {doubt}")
    return tuple(listing.records)


def read_export(reply: Reply, rows_max: int = EXPORTED_ROWS_MAX) -> ErrorTable | Failed:
    """Read a CSV file in UTF-8 or Shift_JIS; a page or an error that came with a 200 is none.

    One with more than `rows_max` rows below the header is read no further, and counts as none.
    """
    if failed := _failed(reply):
        return failed
    text = reply.text
    if _NOT_CSV.match(text):
        return Failed(f"{excerpt(reply)}; no CSV file")
    try:
        found = list(_table(text, rows_max))
    except csv.Error:
        return Failed(f"{excerpt(reply)}; not valid CSV")
    except Doubt as doubt:
        return Failed(f"{excerpt(reply)}; {doubt}")
    return ErrorTable(found[0], tuple(found[1:])) if found else Failed(f"{excerpt(reply)}; no table")


def _table(text: str, rows_max: int) -> Iterator[tuple[str, ...]]:
    """Read the header and rows, as many cells in each. Raises csv.Error, or Doubt."""
    columns: int | None = None
    for number, cells in enumerate(_rows(text)):
        columns = columns or len(cells)
        if len(cells) != columns or columns > EXPORTED_COLUMNS_MAX:
            raise Doubt("no table")
        if number > rows_max:
            raise Doubt(f"more than {rows_max} rows")
        yield cells


def _rows(text: str) -> Iterator[tuple[str, ...]]:
    """Read rows one at a time, none of them with much more than it may have. Raises csv.Error, or Doubt."""
    characters = 0

    def lines() -> Iterator[str]:
        nonlocal characters
        for line in io.StringIO(text, newline=""):
            characters += len(line)
            if characters > EXPORTED_ROW_CHARACTERS_MAX:
                raise Doubt("a row that is too long")
            yield line

    for cells in csv.reader(lines(), strict=True):
        characters = 0
        if cells:
            yield tuple(cells)


def read_deleted(reply: Reply) -> tuple[str, ...] | Failed:
    """Read the times of the records that were deleted.

    One document answers `success` and an empty `failure`, the other `contact` with `date`: both are taken. Anything in
    a failure, or a message, is a failure.
    """
    if failed := _failed(reply):
        return failed
    around: list[str] = []
    dates: list[str] = []
    try:
        for kind, name, value in elements(texts(reply.body, reply.content_type), DELETED_MAX):
            if kind == "start":
                around.append(name)
            elif kind == "end":
                around.pop()
            elif value is None or value == "":
                continue
            elif not _FAULTS.isdisjoint((*around, name)):
                return Failed(f"{excerpt(reply)}; not deleted")
            elif name in ("success", "date"):
                dates.append(str(value))
    except Doubt as doubt:
        return Failed(f"{excerpt(reply)}; {doubt}")
    return tuple(dates) if dates else Failed(f"{excerpt(reply)}; nothing was deleted")


def read_date(text: str) -> datetime | None:
    """Read a record's time, `yyyyMMddTHH:mm:ss` in Japan; None for anything else."""
    found = _DATE.fullmatch(text)
    try:
        return datetime(*map(int, found.groups()), tzinfo=JAPAN) if found else None  # type: ignore[misc,arg-type] # six
    except ValueError:
        return None


def _failed(reply: Reply) -> Failed | None:
    if reply.status != HTTPStatus.OK or reply.truncated:
        return Failed(excerpt(reply))
    return None


class _Listing:
    """Gathers records from a reply's elements."""

    def __init__(self) -> None:
        self.records: list[ErrorRecord] = []
        self._open: list[dict[str, Scalar]] = []

    def take(self, kind: str, name: str, value: Scalar) -> None:
        """Take the next element.

        Raises:
            Doubt: there is something else than records in it.
        """
        if kind == "end":
            self._end(self._open.pop())
        elif kind == "start":
            if name and name not in WRAPPERS:
                raise Doubt("something else than records")
            self._open.append({})
        elif self._open:
            if name in _PARTS and name in self._open[-1]:
                raise Doubt("a record with two times, types or counts")
            self._open[-1][name] = value
        elif name not in WRAPPERS or value:
            raise Doubt("something else than records")

    def _end(self, parts: dict[str, Scalar]) -> None:
        if not any(part in parts for part in _PARTS):
            if any(value not in (None, "") for value in parts.values()):
                raise Doubt("something else than records")
            return
        kind, date, count = parts.get("type"), parts.get("date"), whole(parts.get("count"))
        if not isinstance(kind, str) or not isinstance(date, str) or count is None:
            raise Doubt("a record without a time, type or count")
        self.records.append(ErrorRecord(kind, date, count, read_date(date)))


# -- times -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Window:
    """Between how many and how few seconds ago a record must have been made, by the vendor's own clock."""

    oldest_s: float
    newest_s: float


def age_s(record: ErrorRecord, now: datetime) -> float | None:
    """Say how old a record was when the vendor answered; None where its time cannot be read."""
    return None if record.at is None else (now.astimezone(UTC) - record.at).total_seconds()


def within(records: Iterable[ErrorRecord], kind: str, now: datetime, window: Window) -> Sequence[ErrorRecord]:
    """Give the records of a type that were made in a window; one whose time cannot be read may have been, too."""
    ages = ((record, age_s(record, now)) for record in records if record.kind == kind)
    return [record for record, age in ages if age is None or window.newest_s <= age <= window.oldest_s]
