"""Plain bodies: webhooks of senders that know nothing of relay, read as the source's settings say. Pure.

All paths are compiled once. What is wrong is told by where it was looked for, as the operator wrote it:
`header X-Topic` or `body customer.id`.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from relay.errors import FieldError, Invalid
from relay.receive.parse import EXPECTED_ID, EXPECTED_OBJECT, TimeAt, Types, Webhook, sound_id
from relay.receive.paths import reader
from relay.settings import Place, Plain

_Read = Callable[[object, Mapping[str, str]], object]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER = re.compile(r"-?[0-9]{1,16}(?:\.[0-9]{1,9})?")
_EVERYTHING = "@"
_TIME_FORMATS: Final[Mapping[str, tuple[timedelta | None, str | None]]] = {
    "iso8601": (None, None),
    "unix": (timedelta(seconds=1), "expected Unix seconds, as in 1775001600"),
    "unix_ms": (timedelta(milliseconds=1), "expected Unix milliseconds, as in 1775001600000"),
}


class PlainForm:
    """Reads the bodies of one source."""

    __slots__ = (
        "_data",
        "_data_at",
        "_id",
        "_id_at",
        "_id_in_header",
        "_time",
        "_time_at",
        "_type",
        "_type_at",
        "_types",
        "_unit",
    )

    def __init__(self, plain: Plain, types: Types) -> None:
        self._id, self._id_at = _reader(plain.id), where(plain.id)
        self._id_in_header = plain.id.header is not None
        self._type, self._type_at = _reader(plain.type), where(plain.type)
        self._time = None if plain.time is None else _reader(plain.time)
        self._data, self._data_at = _path_reader(plain.data), _body_at(plain.data)
        self._unit, expected = _TIME_FORMATS[plain.time_format]
        self._time_at = TimeAt("timestamp" if plain.time is None else where(plain.time), expected)
        self._types = types

    def read(self, value: object, headers: Mapping[str, str]) -> Webhook:
        """Read a webhook. Raises Invalid with all that is wrong."""
        message_id, sent_type, kind = self._outer(value, headers)
        data = self._data(value, headers)
        problems = []
        if message_id is None:
            problems.append(FieldError(self._id_at, f"{EXPECTED_ID}, or a whole number"))
        if kind is None:
            problems.append(FieldError(self._type_at, self._types.expected))
        if not isinstance(data, dict):
            problems.append(FieldError(self._data_at, EXPECTED_OBJECT))
        if message_id is None or kind is None or not isinstance(data, dict):
            raise Invalid(*problems)
        time = None if self._time is None else self._time(value, headers)
        if self._unit is not None:
            time = _moment(time, self._unit)
        return Webhook(message_id, kind, time, data, None if kind == sent_type else sent_type, self._time_at)

    def told(self, value: object, headers: Mapping[str, str]) -> tuple[str | None, str | None]:
        """Tell the id and the type of what cannot be read, as far as they are there and sound."""
        message_id, _, kind = self._outer(value, headers)
        return message_id, kind

    def check_many(self) -> None:
        """Raise Invalid where each body of many could not have an id of its own."""
        if self._id_in_header:
            raise Invalid(FieldError(self._id_at, "names one webhook: send them one by one, not to /batch"))

    def _outer(self, value: object, headers: Mapping[str, str]) -> tuple[str | None, str | None, str | None]:
        message_id = sound_id(_text(self._id(value, headers)))
        sent_type = _word(self._type(value, headers))
        return message_id, sent_type, self._types.find(sent_type)


def where(place: Place) -> str:
    """Name a place as errors do."""
    return f"header {place.header}" if place.header is not None else _body_at(place.path or "")


def _body_at(path: str) -> str:
    return "body" if path == _EVERYTHING else f"body {path}"


def _reader(place: Place) -> _Read:
    if place.header is not None:
        return _header_reader(place.header)
    return _path_reader(place.path or "")


def _header_reader(name: str) -> _Read:
    def read(_value: object, headers: Mapping[str, str]) -> object:
        return headers.get(name)

    return read


def _path_reader(path: str) -> _Read:
    """Compile a path into the body; what is not there, or what it cannot be applied to, is None."""
    if path == _EVERYTHING:
        return lambda value, _headers: value
    read = reader(path)
    return lambda value, _headers: read(value)


def _text(value: object) -> str | None:
    """Take text as it is and whole numbers in digits; None for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else None


def _word(value: object) -> str | None:
    """Take text, numbers, and booleans as JSON writes them: a type may be told by `"opted_out": true`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return _text(value)


def _moment(time: object, unit: timedelta) -> object:
    """Write a number of units since 1970 as ISO 8601. Anything else is passed on: mapping says what it makes of it."""
    number: int | float
    if isinstance(time, str) and _NUMBER.fullmatch(time):
        number = float(time) if "." in time else int(time)
    elif isinstance(time, int | float) and not isinstance(time, bool):
        number = time
    else:
        return time
    try:
        return (_EPOCH + number * unit).isoformat()
    except (OverflowError, ValueError):  # too far away; an expression can make infinity and NaN
        return time
