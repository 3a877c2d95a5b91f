"""The vendors' reader lists: what each operation does to a reader, row by row. Pure.

A vendor keeps a reader's permission (the state) apart from the reader's data: registering one who is there already
never touches the state, unless the file says so. One who was deleted and is registered anew is mailable again. The
messages are made up, as the vendors' own are not public; only that there are messages is known.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import ClassVar, Protocol

from relay.demo.sim_csv import Sheet, check, record, rows

MAILABLE = "配信中"

BAD_ADDRESS = "メールアドレスの形式が正しくありません"
ALREADY_THERE = "既に登録されているメールアドレスです"
NOT_THERE = "登録されていないメールアドレスです"
IN_TRASH = "ゴミ箱に存在するメールアドレスです"
BAD_STATE = "状態の値が正しくありません"
BAD_NUMBER = "数値の形式が正しくありません"
BAD_DATE = "日付の形式が正しくありません"
EMPTY_REQUIRED = "必須項目が入力されていません"
BAD_HEADER = "項目名が正しくありません"

_ADDRESS = re.compile(r"[\x21-\x2b\x2d-\x3f\x41-\x7e]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
"""Lenient about dots, as Japanese carriers are: one @, ASCII, no comma, no space."""


@dataclass(slots=True)
class Reader:
    """One reader: the address as it was last written, the state, and a value for each of the list's columns."""

    address: str
    state: str
    values: list[str]


class Readers:
    """One list of readers. Addresses that differ in upper and lower case only are the same reader."""

    operations: ClassVar[frozenset[str]]

    def __init__(self, columns: Sequence[str], address_column: str) -> None:
        self.address_column = address_column
        self.columns = tuple(dict.fromkeys((address_column, *columns)))
        self._place = {column: place for place, column in enumerate(self.columns)}
        self._readers: dict[str, Reader] = {}
        self._trash: dict[str, Reader] = {}

    def __len__(self) -> int:
        return len(self._readers)

    def find(self, address: str) -> Reader | None:
        """Look one reader up; None if there is none, or only in the trash."""
        return self._readers.get(address.casefold())

    def everyone(self) -> Iterator[Reader]:
        """Yield the readers as they stand when this is called, in the order of registration."""
        return iter(tuple(self._readers.values()))

    def trash(self) -> Iterator[Reader]:
        """Yield the deleted readers that still lie in the trash."""
        return iter(tuple(self._trash.values()))

    def purge(self) -> int:
        """Empty the trash; returns how many lay there."""
        gone = len(self._trash)
        self._trash.clear()
        return gone

    def fields(self, reader: Reader) -> dict[str, str]:
        """Return a reader's values by column name."""
        return dict(zip(self.columns, reader.values, strict=True))

    def header_fault(self, operation: str, header: Sequence[str]) -> str | None:
        """Say why no row of a file with this header can be taken, or None."""
        raise NotImplementedError

    def apply(self, operation: str, row: Mapping[str, str]) -> str | None:
        """Do one row's operation; returns the message if the row fails, and then nothing has changed."""
        raise NotImplementedError

    def _add(self, row: Mapping[str, str], state: str) -> None:
        address = row[self.address_column]
        self._trash.pop(address.casefold(), None)
        self._readers[address.casefold()] = Reader(address, state, [row.get(column, "") for column in self.columns])

    def _overwrite(self, reader: Reader, row: Mapping[str, str], *, with_empty: bool) -> None:
        for column, value in row.items():
            place = self._place.get(column)
            if place is not None and (value or with_empty):
                reader.values[place] = value
        reader.address = reader.values[0]

    def _delete(self, reader: Reader, state: str) -> None:
        key = reader.address.casefold()
        del self._readers[key]
        reader.state = state
        self._trash[key] = reader


class HaihaiReaders(Readers):
    """A list at 配配メール: the contract's database, a group or a step plan. Columns it does not know are ignored."""

    operations = frozenset({"register", "register_new", "delete", "stop", "ban", "allow"})
    states: ClassVar[Mapping[str, str]] = {"stop": "停止", "ban": "禁止", "allow": MAILABLE}

    def header_fault(self, operation: str, header: Sequence[str]) -> str | None:  # noqa: ARG002 - the same for all
        """Refuse all rows of a file without the address column: whom it is about is not known."""
        return None if self.address_column in header else BAD_HEADER

    def apply(self, operation: str, row: Mapping[str, str]) -> str | None:
        """`register` overwrites one who is there (`is_overwrite` 1), `register_new` (0) leaves the reader alone."""
        address = row[self.address_column]
        if not _ADDRESS.fullmatch(address):
            return BAD_ADDRESS
        reader = self.find(address)
        if operation in {"register", "register_new"}:
            return self._register(reader, row, overwrite=operation == "register")
        if reader is None:
            return NOT_THERE
        if operation == "delete":
            self._delete(reader, "削除")
        else:
            reader.state = self.states[operation]
        return None

    def _register(self, reader: Reader | None, row: Mapping[str, str], *, overwrite: bool) -> str | None:
        if reader is None:
            self._add(row, MAILABLE)
        elif overwrite:
            self._overwrite(reader, row, with_empty=True)
        else:
            return ALREADY_THERE
        return None


@dataclass(frozen=True, slots=True)
class BmeColumns:
    """The items of a contract at blastmail or blaynmail, by the names that the contract gave them."""

    address: str = "E-Mail"
    state: str = "状態"
    error_count: str = "エラーカウント"
    items: tuple[str, ...] = ()
    dates: frozenset[str] = frozenset()
    required: frozenset[str] = frozenset()

    def template(self, operation: str) -> tuple[str, ...]:
        """Return the header that `contact/import/usage` shows: all names for registering, the address for deleting."""
        items = tuple(item for item in self.items if item != self.address)
        return (self.address,) if operation == "delete" else (self.state, self.error_count, self.address, *items)


class BmeReaders(Readers):
    """The list of a contract at blastmail or blaynmail. One header it does not know fails every row."""

    operations = frozenset({"all", "create", "update", "delete"})
    states = frozenset({MAILABLE, "配信停止", "解除", "削除", "エラー停止"})

    def __init__(self, columns: BmeColumns, *, trash_blocks: bool) -> None:
        super().__init__((columns.address, columns.error_count, *columns.items), columns.address)
        self.names = columns
        self.trash_blocks = trash_blocks

    def add_item(self, name: str) -> None:
        """Add an item, in which nobody has a value yet."""
        self.names = replace(self.names, items=(*self.names.items, name))
        self._place[name] = len(self.columns)
        self.columns = (*self.columns, name)
        for reader in (*self._readers.values(), *self._trash.values()):
            reader.values.append("")

    def header_fault(self, operation: str, header: Sequence[str]) -> str | None:
        """Refuse all rows if a name is unknown, stands twice, or the address column is missing."""
        unknown = set(header) - set(self.names.template(operation))
        twice = len(set(header)) != len(header)
        return BAD_HEADER if unknown or twice or self.address_column not in header else None

    def apply(self, operation: str, row: Mapping[str, str]) -> str | None:
        """Register or change (`all`), register only, change only, or delete one reader."""
        address = row[self.address_column]
        if not _ADDRESS.fullmatch(address):
            return BAD_ADDRESS
        reader = self.find(address)
        if operation == "delete":
            if reader is None:
                return NOT_THERE
            self._delete(reader, "削除")
            return None
        wrong = self._wrong_value(row)
        if wrong:
            return wrong
        if reader is None:
            return NOT_THERE if operation == "update" else self._create(row)
        return ALREADY_THERE if operation == "create" else self._change(reader, row)

    def _create(self, row: Mapping[str, str]) -> str | None:
        if self.trash_blocks and row[self.address_column].casefold() in self._trash:
            return IN_TRASH
        if any(not row.get(column) for column in self.names.required):
            return EMPTY_REQUIRED
        self._add(row, row.get(self.names.state) or MAILABLE)
        return None

    def _change(self, reader: Reader, row: Mapping[str, str]) -> str | None:
        """Change what is not empty; but an empty 状態 makes the reader mailable again, which is the vendor's danger."""
        if any(column in row and not row[column] for column in self.names.required):
            return EMPTY_REQUIRED
        self._overwrite(reader, row, with_empty=False)
        if self.names.state in row:
            reader.state = row[self.names.state] or MAILABLE
        if reader.state == "削除":
            self._delete(reader, "削除")
        return None

    def _wrong_value(self, row: Mapping[str, str]) -> str | None:
        state, count = row.get(self.names.state), row.get(self.names.error_count)
        if state and state not in self.states:
            return BAD_STATE
        if count and not (count.isascii() and count.isdigit()):
            return BAD_NUMBER
        if any(row.get(column) and not _is_date(row[column]) for column in self.names.dates):
            return BAD_DATE
        return None


def _is_date(text: str) -> bool:
    """Whether this is a date as the vendors take it: yyyyMMdd in half-width digits, 1910-01-01 to 2037-12-31."""
    if not re.fullmatch("[0-9]{8}", text) or not "19100101" <= text <= "20371231":
        return False
    try:
        datetime.strptime(text, "%Y%m%d")  # noqa: DTZ007 - a date, no instant
    except ValueError:
        return False
    return True


# -- one file against one list ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Failure:
    """A row that failed: its line (the header is line 1), the row repeated as CSV, and the vendor's message."""

    line: int
    content: str
    message: str


class Refuse(Protocol):
    """A test's say about a row: the message with which it fails although nothing is wrong with it, or None."""

    def __call__(self, line: int, address: str) -> str | None:
        """Look at the line's number and the address in it."""


class Import:
    """One file applied to one list. Raises BadFile before anything is applied if the file is no good CSV.

    `repeated` counts rows about a reader whom the file had named before: no file that relay makes holds one.
    """

    def __init__(self, readers: Readers, operation: str, data: bytes | bytearray, refuse: Refuse | None = None) -> None:
        if operation not in readers.operations:
            raise ValueError(f"the list knows no operation {operation!r}")
        self.sheet: Sheet = check(data)
        self.success = 0
        self.failures: list[Failure] = []
        self.repeated = 0
        self._readers = readers
        self._operation = operation
        self._data = data
        self._refuse: Callable[[int, str], str | None] = refuse or (lambda _line, _address: None)

    def steps(self, rows_per_step: int = 500) -> Iterator[None]:
        """Apply all rows, giving way to the caller now and then, as a file can hold 100,000 of them."""
        header = self.sheet.header
        fault = self._readers.header_fault(self._operation, header)
        seen: set[str] = set()
        for line, cells in rows(self._data):
            message = fault or self._row(line, dict(zip(header, cells, strict=True)), seen)
            if message is None:
                self.success += 1
            else:
                self.failures.append(Failure(line, record(cells), message))
            if line % rows_per_step == 0:
                yield

    def _row(self, line: int, row: Mapping[str, str], seen: set[str]) -> str | None:
        address = row[self._readers.address_column]
        self.repeated += address.casefold() in seen
        seen.add(address.casefold())
        return self._refuse(line, address) or self._readers.apply(self._operation, row)
