"""Columns: from a webhook's `data` to the cells of one line. Pure.

Theory of operation. A `Plan` is compiled once for each account and operation, from the columns that the vendor wants
for it, and then renders every webhook. What is not in the plan is not looked at: the plan of an opt-out has the address
and constants only, so nothing else in `data` can keep it out. What `render` gives has a CP932 form, cell by cell;
`csvline.record` makes it a line. All problems of one `data` are reported together, naming fields, never values.
"""

import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Final, Literal

import jmespath

from relay import csvline
from relay.errors import FieldError, Invalid, SettingsError
from relay.settings import Column, Settings, plain_path

CELL_CHARS_MAX = 4096
"""The longest value, in characters as received. No name or street comes near; a longer one is a mapping gone wrong, and
a few such lines would fill a file."""

NAMED_CHARACTERS_MAX = 10
"""So many characters are named in a warning or refusal: enough to find them, too few to repeat a text."""

YEAR_MIN = 1000
"""Earlier years mean "none" in some systems (0001-01-01), and strftime does not write them with four digits."""

JAPAN: Final = timezone(timedelta(hours=9), "JST")
"""The vendors' time. Japan has had no daylight saving since 1951."""

MISSING: Final[object] = object()
"""What a reader gives for what is not there."""

Read = Callable[[object], object]
_Write = Callable[[object], str]


@dataclass(frozen=True, slots=True)
class Warning_:  # noqa: N801 - `Warning` is a builtin
    """What happened to a field on the way: the field's path (as in `data.name`) and what it was."""

    field: str
    message: str


@dataclass(frozen=True, slots=True)
class Rendered:
    """One line's cells in the order of the columns, folded and with a CP932 form.

    `address` is the customer's address as received (stripped), `replaced` the number of characters that became 〓.
    """

    cells: tuple[str, ...]
    address: str
    warnings: tuple[Warning_, ...] = ()
    replaced: int = 0


class Plan:
    """How to render `data` for one account and operation. Compiled once, used from anywhere, never changed.

    `columns` are the line's columns by header, one of them with the path `address_path`, a plain dotted path.

    Raises:
        SettingsError: a constant, a choice's value or a date's format has no CP932 form, or no column has the address.
    """

    __slots__ = ("_address_at", "_cells")

    def __init__(self, columns: Mapping[str, Column], address_path: str) -> None:
        problems = [problem for header, column in columns.items() for problem in _unwritable(header, column)]
        paths = [column.path for column in columns.values()]
        if address_path not in paths:
            problems.append(FieldError("columns", f"expected a column with the path of the address, {address_path!r}"))
        if problems:
            raise SettingsError(problems)
        self._address_at = paths.index(address_path)
        self._cells = tuple(_compiled(column, address_path) for column in columns.values())

    def render(self, data: Mapping[str, object], unencodable: Literal["replace", "reject"]) -> Rendered:
        """Render one `data`.

        Characters without a CP932 form become 〓 with a warning, or are refused. A value that is there but empty gets
        a warning, because an empty cell does not blank a field at blastmail and blaynmail.

        Raises:
            Invalid: the values that cannot become cells, all of them, as `data.<path>`.
        """
        notes = _Notes()
        cells = tuple([cell.render(data, unencodable, notes) for cell in self._cells])
        if notes.problems:
            raise Invalid(*dict.fromkeys(notes.problems))
        return Rendered(cells, cells[self._address_at], tuple(dict.fromkeys(notes.warnings)), notes.replaced)


def check(settings: Settings) -> list[FieldError]:
    """Find what the accounts' columns themselves would write though it has no CP932 form."""
    return [
        FieldError(f"accounts.{account.name}.{problem.field}", problem.message)
        for account in settings.accounts.values()
        for header, column in account.columns.items()
        for problem in _unwritable(header, column)
    ]


# -- one cell --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Notes:
    """What comes up while one line is rendered."""

    problems: list[FieldError] = field(default_factory=list)
    warnings: list[Warning_] = field(default_factory=list)
    replaced: int = 0


class UnfitError(Exception):
    """A value that cannot become a cell. The text says what was expected and holds nothing of the value."""


@dataclass(frozen=True, slots=True)
class _Constant:
    """A cell that reads nothing."""

    text: str

    def render(self, _data: Mapping[str, object], _unencodable: str, _notes: _Notes) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class _Cell:
    """A cell with its reader and its writer compiled in."""

    field: str
    read: Read
    write: _Write
    required: bool

    def render(self, data: Mapping[str, object], unencodable: str, notes: _Notes) -> str:
        try:
            value = self.read(data)
            text = self._text(value)
            if not text:
                self._note_empty(value, notes)
            elif missing := csvline.unencodable(text):
                text = self._replaced(text, missing, unencodable, notes)
        except UnfitError as error:
            notes.problems.append(FieldError(self.field, str(error)))
            return ""
        return text

    def _text(self, value: object) -> str:
        if value is None or value is MISSING:
            return ""
        if isinstance(value, str):
            if len(value) > CELL_CHARS_MAX:
                raise UnfitError(f"expected at most {CELL_CHARS_MAX} characters")
            if csvline.broken(value):
                raise UnfitError("holds NUL or half of a surrogate pair, which no text may")
        text = csvline.fold(self.write(value))
        return "" if text.isspace() else text

    def _note_empty(self, value: object, notes: _Notes) -> None:
        if self.required:
            raise UnfitError("expected a value, but it is missing or empty")
        if value is not MISSING:
            notes.warnings.append(Warning_(self.field, "is empty: an empty cell may leave the vendor's old value"))

    def _replaced(self, text: str, missing: Sequence[str], unencodable: str, notes: _Notes) -> str:
        if unencodable == "reject":
            raise UnfitError(f"has characters without a Shift_JIS (CP932) form: {_named(missing)}")
        replaced = csvline.replace_unencodable(text)
        notes.warnings.append(Warning_(self.field, f"{_named(missing)} replaced by {csvline.GETA}"))
        notes.replaced += replaced.count(csvline.GETA) - text.count(csvline.GETA)
        return replaced


def _named(characters: Sequence[str]) -> str:
    more = len(characters) - NAMED_CHARACTERS_MAX
    named = ", ".join(_glyph(character) for character in characters[:NAMED_CHARACTERS_MAX])
    return f"{named} and {more} more" if more > 0 else named


def _glyph(character: str) -> str:
    """Show a character that can be seen on its own, else its code point."""
    visible = character.isprintable() and not unicodedata.combining(character)
    return character if visible else f"U+{ord(character):04X}"


# -- compiling -------------------------------------------------------------------------------------------------------


def _unwritable(header: str, column: Column) -> list[FieldError]:
    """Find what the settings themselves would write into cells though it has no CP932 form."""
    texts = {"constant": column.constant or "", "format": column.format}
    texts |= {f"values.{key}": text for key, text in column.values.items()}
    return [
        FieldError(f"columns.{header}.{key}", f"has characters without a Shift_JIS (CP932) form: {_named(missing)}")
        for key, text in texts.items()
        if (missing := csvline.unencodable(text))
    ]


def _compiled(column: Column, address_path: str) -> _Constant | _Cell:
    if column.type == "constant":
        return _Constant(csvline.fold(column.constant or ""))
    is_address = column.path == address_path
    write = _address if is_address else _writer(column)
    return _Cell(f"data.{column.path}", reader(column.path), write, column.required or is_address)


def reader(path: str) -> Read:
    """Compile a plain dotted path into a JSON value to a direct look-up, anything else to JMESPath.

    What is not there is MISSING. The reader raises UnfitError where the expression cannot be applied to the value.
    """
    keys = plain_path(path)
    if keys is None:
        return _expression(path)

    def read(data: object) -> object:
        value = data
        for key in keys:
            if not isinstance(value, dict):
                return MISSING
            value = value.get(key, MISSING)
        return value

    return read


def _expression(path: str) -> Read:
    search = jmespath.compile(path).search

    def read(data: object) -> object:
        try:
            value = search(data)
        # jmespath's own errors are ValueErrors; they repeat values
        except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError):
            raise UnfitError("expected data that this expression can be applied to") from None
        return MISSING if value is None else value  # JMESPath does not tell null from missing

    return read


def _writer(column: Column) -> _Write:
    match column.type:
        case "number":
            return _number
        case "date":
            return _date(column.format)
        case "choice":
            return _choice(column.values)
        case _:
            return _scalar


# -- writers: a value that is not None to text, or UnfitError --------------------------------------------------------


def _address(value: object) -> str:
    if not isinstance(value, str):
        raise UnfitError("expected an e-mail address as text")
    if not value.strip():
        return ""
    try:
        return csvline.address(value)
    except ValueError as error:
        raise UnfitError(f"expected {error}") from None


def _scalar(value: object) -> str:
    """Write text as it is, numbers without exponent, booleans as JSON does."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float | Decimal):
        return _digits(value)
    raise UnfitError("expected text, a number or true or false")


_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")


def _number(value: object) -> str:
    if isinstance(value, str):
        text = value.strip()
        if not text or _NUMBER.fullmatch(text):
            return text
    elif isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return _digits(value)
    raise UnfitError("expected a number such as 1200 or -0.5")


def _digits(value: float | Decimal) -> str:
    """Write a number with digits only: no exponent, and no point where a float is whole (JSON's 5.0 is 5)."""
    if isinstance(value, int):
        too_long = value.bit_length() > 3 * CELL_CHARS_MAX  # 3.3 bits a digit; str() refuses far longer ones itself
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise UnfitError("expected a finite number")
        value = int(value) if value.is_integer() else Decimal(repr(value))
        too_long = False
    else:
        if not value.is_finite():
            raise UnfitError("expected a finite number")
        too_long = abs(value.adjusted()) > CELL_CHARS_MAX  # 1E+999999999 is short until it is written out
    if too_long:
        raise UnfitError(f"expected a number of fewer than {CELL_CHARS_MAX} digits")
    return format(value, "f" if isinstance(value, Decimal) else "d")


_ISO_DATE = re.compile(r"[0-9]{4}(?:-[0-9]{2}-[0-9]{2}|[0-9]{4})(?:[T ][0-9].*)?")


def _date(form: str) -> _Write:
    """Write the day in Japan: a moment with an offset is put into Japan's time, any other date is taken as it stands.

    So `1990-05-04T15:00:00Z`, which JavaScript makes of a birthday typed in Tokyo, is the 5th again.
    """

    def write(value: object) -> str:
        text = value.strip() if isinstance(value, str) else None
        if text == "":
            return ""
        if text is None or not _ISO_DATE.fullmatch(text):
            raise UnfitError("expected an ISO 8601 date such as 1990-05-31 or 1990-05-31T09:00:00+09:00")
        try:
            moment = datetime.fromisoformat(text)
            moment = moment.astimezone(JAPAN) if moment.tzinfo else moment
        except (ValueError, OverflowError):
            raise UnfitError("expected a date that exists, in ISO 8601") from None
        if moment.year < YEAR_MIN:
            raise UnfitError(f"expected a year from {YEAR_MIN} on")
        return moment.strftime(form)

    return write


def _choice(values: Mapping[str, str]) -> _Write:
    expectation = "expected one of " + ", ".join(values)

    def write(value: object) -> str:
        key = _scalar(value).strip()
        chosen = values.get(key)
        if chosen is None:
            if not key:
                return ""
            raise UnfitError(expectation)
        return chosen

    return write
