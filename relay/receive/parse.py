"""From a request's bytes to webhooks. Pure.

Two kinds of mistake: bytes that are not the JSON they claim to be (`Malformed`, HTTP 400: the sender's encoder is at
fault), and JSON that says the wrong thing (`Invalid`, HTTP 422: names each field). JSON is read strictly, because what
two readers understand differently is no safe instruction: no key twice, no NaN, no overlong numbers, no deep nesting.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NoReturn, cast

from relay.errors import FieldError, Invalid, RelayError
from relay.events import TYPES

NESTING_MAX = 64
"""Far deeper than a customer's record is; far from what a recursive reader can bear."""

WEBHOOKS_MAX = 1_000
"""Of one request. Mapping so many takes some 50 ms, in slices; more would gain nothing and only hold memory."""

MESSAGE_ID_CHARACTERS_MAX = 200

_MESSAGE_ID = re.compile(f"[ -~]{{1,{MESSAGE_ID_CHARACTERS_MAX}}}")
_EXPECTED_ID = f"expected 1 to {MESSAGE_ID_CHARACTERS_MAX} printable ASCII characters"
_TOO_DEEP = f"nested deeper than {NESTING_MAX} levels"
_EXPECTED_TYPE = f"expected one of {', '.join(TYPES)}"


class Malformed(RelayError):
    """The body is not the JSON it claims to be. The text holds no values."""


class TooMany(RelayError):
    """More webhooks than one request may hold (HTTP 413)."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """One webhook as it was sent. `timestamp` is not looked at yet: None if there is none, else any JSON value."""

    message_id: str
    type: str
    timestamp: object
    data: dict[str, object]

    def canonical(self) -> bytes:
        """What the digest is made of: type, timestamp and data, the same for any order of keys and any white space."""
        return _canonical([self.type, self.timestamp, self.data]).encode("ascii")


@dataclass(frozen=True, slots=True)
class Refused:
    """An entry of a batch that is no webhook: its id where it has a sound one, and what is wrong with it."""

    message_id: str | None
    problems: tuple[FieldError, ...]


def parse(body: bytes, header_id: str | None) -> Webhook:
    """Read a body that holds one webhook. The id is the header's, else the body's. Raises Malformed or Invalid."""
    value = strict_json(body)
    if (
        body.count(b"{") + body.count(b"[") > NESTING_MAX
    ):  # else it cannot be nested more deeply, and this is the hot path
        value = _shallow(value)
    return _webhook(value, header_id)


def parse_array(body: bytes) -> Iterator[Webhook | Refused]:
    """Read a body that is a JSON array of webhooks, each with an `id`.

    Raises Malformed, TooMany or Invalid for the body as a whole before anything is yielded.
    """
    entries = strict_json(body)
    if not isinstance(entries, list):
        raise Invalid(FieldError("body", "expected a JSON array, or NDJSON as application/x-ndjson"))
    _count(len(entries))
    return (_entry(entry) for entry in entries)


def parse_lines(body: bytes) -> Iterator[Webhook | Refused]:
    """Read a body that is NDJSON: one webhook a line, each with an `id`; blank lines are passed over and not counted.

    Raises TooMany or Invalid for the body as a whole. A line that is no JSON is refused alone: its neighbours are none
    the worse for it.
    """
    lines = [line for line in body.split(b"\n") if line.strip()]
    _count(len(lines))
    return (_line(line) for line in lines)


def _count(entries: int) -> None:
    if entries == 0:
        raise Invalid(FieldError("body", "expected at least one webhook"))
    if entries > WEBHOOKS_MAX:
        raise TooMany(f"expected at most {WEBHOOKS_MAX} webhooks in one request")


def _line(line: bytes) -> Webhook | Refused:
    try:
        return _entry(strict_json(line))
    except Malformed as error:
        return Refused(None, (FieldError("body", str(error)),))


def _entry(entry: object) -> Webhook | Refused:
    try:
        return _webhook(_shallow(entry), None)
    except Malformed as error:
        return Refused(_sound_id(entry), (FieldError("body", str(error)),))
    except Invalid as error:
        return Refused(_sound_id(entry), error.problems)


def _sound_id(entry: object) -> str | None:
    given = entry.get("id") if isinstance(entry, dict) else None
    return given if isinstance(given, str) and _MESSAGE_ID.fullmatch(given) else None


def _webhook(value: object, header_id: str | None) -> Webhook:
    """Check the outer members, all of them, before any mistake is reported."""
    if not isinstance(value, dict):
        raise Invalid(FieldError("body", "expected a JSON object"))
    problems = []
    id_field, message_id = ("webhook-id", header_id) if header_id is not None else ("id", value.get("id"))
    if not isinstance(message_id, str) or not _MESSAGE_ID.fullmatch(message_id):
        problems.append(FieldError(id_field, _EXPECTED_ID))
    kind = value.get("type")
    if not isinstance(kind, str) or kind not in TYPES:
        problems.append(FieldError("type", _EXPECTED_TYPE))
    data = value.get("data")
    if not isinstance(data, dict):
        problems.append(FieldError("data", "expected a JSON object"))
    if problems:
        raise Invalid(*problems)
    return Webhook(cast("str", message_id), cast("str", kind), value.get("timestamp"), cast("dict[str, object]", data))


# -- strict JSON -----------------------------------------------------------------------------------------------------


def strict_json(body: bytes) -> object:
    """Read UTF-8 JSON that cannot be understood in two ways; raises Malformed."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed(f"not UTF-8 at byte {error.start}") from None
    try:
        return cast("object", _DECODER.decode(text))
    except json.JSONDecodeError as error:
        raise Malformed(f"not JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise Malformed(_TOO_DEEP) from None
    except ValueError:  # Python's limit on the digits of a whole number
        raise Malformed("a number has too many digits") from None


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise Malformed("an object has the same key twice")
    return made


def _constant(name: str) -> NoReturn:
    raise Malformed(f"{name} is not JSON")


def _float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise Malformed("a number is too large")
    return number


def _shallow(value: object) -> object:
    """Return the value, unless it is nested too deeply. Goes level by level, so that it needs no stack itself."""
    level = [value]
    for _ in range(NESTING_MAX):
        level = [inner for outer in level for inner in _inside(outer) if isinstance(inner, dict | list)]
        if not level:
            return value
    raise Malformed(_TOO_DEEP)


def _inside(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_float=_float)
_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
