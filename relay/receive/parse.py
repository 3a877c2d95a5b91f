"""From bytes to JSON that cannot be understood in two ways, and what all forms of webhooks become. Pure.

Two kinds of mistake: bytes that are not the JSON they claim to be (`Malformed`, HTTP 400: the sender's encoder is at
fault), and JSON that says the wrong thing (`Invalid`, HTTP 422: names each field). JSON is read strictly, because what
two readers understand differently is no safe instruction: no key twice, no NaN, no overlong numbers, no deep nesting.
NUL and halves of surrogate pairs are not looked for here: only what is read later may not hold them.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NoReturn, cast

from relay.errors import FieldError, Invalid, RelayError
from relay.events import TYPES
from relay.receive.limits import Limits

MESSAGE_ID_CHARACTERS_MAX = 200
MESSAGE_ID_PATTERN = f"^[ -~]{{1,{MESSAGE_ID_CHARACTERS_MAX}}}$"  # for pydantic, whose `$` is the very end
EXPECTED_ID = f"expected 1 to {MESSAGE_ID_CHARACTERS_MAX} printable ASCII characters"
EXPECTED_OBJECT = "expected a JSON object"

INTEGER_CHARACTERS_MAX = 4_000
"""Python refuses to write out whole numbers of 4,300 digits; so a source's expression can sum up what a body holds."""

_MESSAGE_ID = re.compile(f"[ -~]{{1,{MESSAGE_ID_CHARACTERS_MAX}}}")
_BYTE_ORDER_MARK = "\ufeff"


class Malformed(RelayError):
    """The body is not the JSON it claims to be. The text holds no values.

    `limit` is the limit that it goes beyond, if it is one; `type` what the webhook asked for, where that can be told.
    """

    def __init__(self, text: str, *, limit: str | None = None, type: str | None = None) -> None:  # noqa: A002 - the word
        self.limit = limit
        self.type = type
        super().__init__(text)


class InvalidWebhook(Invalid):
    """A webhook that cannot be read; `type` is what it asked for, where that can be told."""

    def __init__(self, *problems: FieldError, type: str | None = None) -> None:  # noqa: A002 - the word
        self.type = type
        super().__init__(*problems)


class TooMany(RelayError):
    """More webhooks than one request may hold (HTTP 413)."""

    limit = "webhooks"


@dataclass(frozen=True, slots=True)
class TimeAt:
    """Where a webhook's timestamp was found, and what was expected there (None: ISO 8601 with an offset)."""

    field: str = "timestamp"
    expected: str | None = None


@dataclass(frozen=True, slots=True)
class Webhook:
    """One webhook as it was sent. `timestamp` is not looked at yet: None if there is none, else any JSON value.

    `type` is one of relay's; `sent_type` is what the sender called it, where that was something else.
    """

    message_id: str
    type: str
    timestamp: object
    data: dict[str, object]
    sent_type: str | None = None
    time_at: TimeAt = TimeAt()

    def canonical(self) -> bytes:
        """What the digest is made of: type, timestamp and data, the same for any order of keys and any white space.

        The type is the sender's word: a repeat stays a repeat when the settings translate it otherwise.
        """
        return _canonical([self.sent_type or self.type, self.timestamp, self.data]).encode("ascii")


@dataclass(frozen=True, slots=True)
class Refused:
    """An entry of a batch that is no webhook: its id where it has a sound one, and what is wrong with it.

    `opt_out` tells that a customer may be mailed who must not be, `limit` which limit it met.
    """

    message_id: str | None
    problems: tuple[FieldError, ...]
    opt_out: bool = False
    limit: str | None = None


class Types:
    """What a source calls the types: its own names (the setting `types`) come before relay's."""

    __slots__ = ("_known", "expected")

    def __init__(self, own: Mapping[str, str]) -> None:
        self._known = {**own, **{name: name for name in TYPES if name not in own}}
        self.expected = f"expected one of {', '.join(self._known)}"

    def find(self, name: object) -> str | None:
        """Translate a name; None for what is none."""
        return self._known.get(name) if isinstance(name, str) else None

    def find_end(self, name: object) -> str | None:
        """Translate a name, or one that ends in a type: `com.example.crm.customer.created`."""
        found = self.find(name)
        if found is None and isinstance(name, str):
            end = ".".join(name.rsplit(".", 2)[-2:])
            found = end if end in TYPES else None
        return found


def asks_opt_out(kind: str | None) -> bool:
    """Say whether a type (None where it cannot be told) asks for an opt-out."""
    return kind is not None and TYPES[kind].opt_out


def sound_id(given: object) -> str | None:
    """Return what can be a webhook's id, and None for anything else."""
    return given if isinstance(given, str) and _MESSAGE_ID.fullmatch(given) else None


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
        if text.startswith(_BYTE_ORDER_MARK):
            raise Malformed("begins with a byte order mark, which JSON does not have") from None
        raise Malformed(f"not JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise Malformed("nested far too deeply", limit="nesting") from None


def bounded_json(body: bytes, limits: Limits) -> object:
    """Read JSON as `strict_json` does, but not what would take many times its size in memory, and long to read.

    Values are counted by the commas between them; those in texts count as well, and are few beside the limit.
    """
    bound_values(body.count(b","), limits)
    return strict_json(body)


def bound_values(separators: int, limits: Limits) -> None:
    """Raise Malformed where as many separators as were counted stand between too many values."""
    if separators >= limits.values_max:
        raise Malformed(f"more than {limits.values_max} values", limit="values")


def may_exceed(body: bytes, limits: Limits) -> bool:
    """Say whether a body is large enough to hold what `check` looks for. Most are not, and this is the hot path."""
    return (
        body.count(b"{") + body.count(b"[") > limits.nesting_max  # else nothing in it is nested more deeply
        or len(body) > limits.string_characters_max  # else no string in it is longer
    )


def check(value: object, limits: Limits) -> None:
    """Raise Malformed where a value is nested too deeply or has too long a string. Needs no stack itself."""
    level = [value]
    for _ in range(limits.nesting_max):
        inner = [one for outer in level for one in _inside(outer)]
        if any(isinstance(one, str) and len(one) > limits.string_characters_max for one in inner):
            raise Malformed(
                f"a string has more than {limits.string_characters_max} characters", limit="string_characters"
            )
        level = [one for one in inner if isinstance(one, dict | list)]
        if not level:
            return
    raise Malformed(f"nested deeper than {limits.nesting_max} levels", limit="nesting")


def _inside(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return (*value, *value.values())
    return value if isinstance(value, list) else (value,)


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise Malformed("an object has the same key twice")
    return made


def _constant(name: str) -> NoReturn:
    raise Malformed(f"{name} is not JSON")


def _int(text: str) -> int:
    if len(text) > INTEGER_CHARACTERS_MAX:
        raise Malformed("a number has too many digits")
    return int(text)


def _float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise Malformed("a number is too large")
    return number


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_int=_int, parse_float=_float)
_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
