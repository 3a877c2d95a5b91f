"""The counts and refused lines in a reply of blastmail or blaynmail, gathered while its elements go by.

The documents' samples have `success` and `failure` and, beside them, `details` of one `detail` or more. Seen as well:
wrappers around them, `details` missing or empty, one object instead of a list. Wherever a reply may be meant in two
ways there is doubt, and no counts.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from relay.vendors.base import Claim, Counted
from relay.vendors.claims import Claims
from relay.vendors.elements import Doubt, Element, Scalar

COUNTS: Final = ("success", "failure")

WRAPPERS: Final = frozenset({"contact", "contacts", "data", "import", "response", "result", "results"})
"""What may stand around the counts; the outermost element may have any name."""

SAID_MAX: Final = 20
"""So many messages about the whole request are kept: there is one in all that was seen."""

SAID_CHARS_MAX: Final = 1_000
"""So much of each; the known texts are short."""

_FIELDS = ("lineNumber", "content", "message")
_ERRORS = ("error", "errors")
_WHOLE = re.compile("[0-9]{1,9}")
_WHOLE_END = 1_000_000_000


class _Place(Enum):
    """Where an element stands, as far as that matters."""

    AROUND = auto()  # the outermost one, and wrappers in it: the counts may be here
    DETAILS = auto()
    DETAIL = auto()
    WITHIN = auto()  # in details, but no part of a line
    ASIDE = auto()  # beside the counts
    FAULT = auto()  # in an error


@dataclass(slots=True, eq=False)
class _Level:
    """An element that has begun: the parts of a refused line that stand in it, and whether it holds anything else."""

    place: _Place
    fields: dict[str, Scalar] = field(default_factory=dict)
    holds: bool = False


class Counting:
    """Gathers counts, refused lines, and what else a reply says. `rows` were sent: no more can be refused."""

    def __init__(self, rows: int) -> None:
        self.said: list[str] = []
        """The messages that are not about a line."""
        self._rows = rows
        self._open: list[_Level] = []
        self._home: _Level | None = None  # where the counts are
        self._counts: dict[str, int] = {}
        self._claims = Claims()
        self._failed = False

    def take(self, element: Element) -> None:
        """Take the next element.

        Raises:
            Doubt: the reply may be meant in two ways, or names more lines than were sent.
        """
        kind, name, value = element
        if kind == "leaf":
            self._leaf(name, value)
        elif kind == "start":
            self._start(name)
        else:
            self._finish(self._open.pop())

    def counted(self) -> Counted | None:
        """Give the counts when all has been taken; None where there are none.

        Raises:
            Doubt: one count is missing, or there is a failure beside them.
        """
        if not self._counts:
            return None
        if len(self._counts) < len(COUNTS):
            raise Doubt("one count is missing")
        if self._failed or any("failure_" in said.lower() for said in self.said):
            raise Doubt("counts and a failure")
        return Counted(self._counts["success"], self._counts["failure"], self._claims)

    def _start(self, name: str) -> None:
        outer = self._open[-1] if self._open else None
        place = _place(outer.place, name) if outer else _Place.AROUND
        if name in _ERRORS and place in (_Place.AROUND, _Place.ASIDE):
            place = _Place.FAULT
        if outer and place is _Place.DETAILS:
            self._at_home(outer)
        if outer and (place is _Place.DETAIL or outer.place is _Place.DETAIL):
            outer.holds = True
        self._open.append(_Level(place))

    def _leaf(self, name: str, value: Scalar) -> None:
        outer = self._open[-1] if self._open else _Level(_Place.ASIDE)
        if name in COUNTS:
            self._count(outer, name, value)
        elif outer.place in (_Place.DETAILS, _Place.DETAIL):
            self._part(outer, name, value)
        elif value is None or value == "" or outer.place is _Place.WITHIN:
            return
        elif name == "details" and outer.place is _Place.AROUND:
            raise Doubt("details that name no line")
        else:
            self._say(outer, name, value)

    def _count(self, outer: _Level, name: str, value: Scalar) -> None:
        number = whole(value)
        if outer.place is not _Place.AROUND or name in self._counts:
            raise Doubt("a count out of place")
        if number is None:
            raise Doubt("a count that is no whole number")
        self._at_home(outer)
        self._counts[name] = number

    def _at_home(self, level: _Level) -> None:
        """Both counts and all details are of one element, or they may be of two results."""
        if self._home not in (None, level):
            raise Doubt("a count out of place")
        self._home = level

    def _part(self, outer: _Level, name: str, value: Scalar) -> None:
        """Take a part of a refused line, which stands in `details` itself where there is but one."""
        if name in _FIELDS and name not in outer.fields:
            outer.fields[name] = value
        elif name == "message":  # one line may have several faults
            outer.fields[name] = f"{outer.fields[name]} / {value}"
        elif name in _FIELDS:
            raise Doubt("a line with two numbers or contents")
        elif outer.place is _Place.DETAIL:
            outer.holds = True
        elif name == "detail" and value is not None and value != "":
            outer.holds = True
            self._claim({})

    def _finish(self, level: _Level) -> None:
        """End an element. Where it was a refused line, keep it; an empty one says nothing."""
        if level.place is _Place.DETAIL and (level.fields or level.holds):
            self._claim(level.fields)
        elif level.place is _Place.DETAILS and level.fields:
            if level.holds:
                raise Doubt("details that are a line and hold lines")
            self._claim(level.fields)

    def _claim(self, fields: Mapping[str, Scalar]) -> None:
        """Keep a refused line; one without a readable number gets 0, which no line has."""
        if len(self._claims) == self._rows:
            raise Doubt("more lines are named than were sent")
        content, message = (
            text if isinstance(text := fields.get(name), str) else "" for name in ("content", "message")
        )
        self._claims.add(Claim(whole(fields.get("lineNumber")) or 0, content, message))

    def _say(self, outer: _Level, name: str, value: Scalar) -> None:
        if outer.place is _Place.FAULT or name in _ERRORS:
            self._failed = self._failed or bool(value)
        if (name == "message" or name in _ERRORS) and isinstance(value, str) and len(self.said) < SAID_MAX:
            self.said.append(value[:SAID_CHARS_MAX])


def _place(outer: _Place, name: str) -> _Place:
    """Say where an element with others in it stands."""
    if name in COUNTS or (outer in (_Place.DETAILS, _Place.DETAIL) and name in _FIELDS):
        raise Doubt("a count or a part of a line that is no single value")
    match outer:
        case _Place.AROUND if name == "details":
            return _Place.DETAILS
        case _Place.AROUND:
            return _Place.AROUND if name in WRAPPERS else _Place.ASIDE
        case _Place.DETAILS:
            return _Place.DETAIL if name == "detail" else _Place.WITHIN
        case _Place.DETAIL:
            return _Place.WITHIN
        case _:
            return outer


def whole(value: Scalar) -> int | None:
    """Take a number of lines, written as a number or as a string of ASCII digits."""
    if isinstance(value, str):
        return int(value) if _WHOLE.fullmatch(value.strip(" ")) else None
    return value if type(value) is int and 0 <= value < _WHOLE_END else None
