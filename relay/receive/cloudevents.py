"""CloudEvents 1.0 over HTTP: structured (the event is the body), binary (its attributes are headers), batched. Pure.

`id` is the webhook's id, the end of `type` says what happened, `time` is when. Attributes that are not needed
(`source`, `subject`, extensions) are not looked at: nothing of no use may keep an opt-out out.
"""

import base64
import re
from collections.abc import Mapping, Sequence
from urllib.parse import unquote_to_bytes

from relay.errors import FieldError, Invalid
from relay.receive.limits import Limits
from relay.receive.parse import (
    EXPECTED_ID,
    EXPECTED_OBJECT,
    Malformed,
    TimeAt,
    Types,
    Webhook,
    asks_opt_out,
    bounded_json,
    check,
    may_exceed,
    sound_id,
)

VERSION = "1.0"
STRUCTURED = "application/cloudevents"
"""How the media types of structured events and of batches begin."""

VERSION_HEADER = "ce-specversion"

_TIME = TimeAt("time")
_TIME_HEADER = TimeAt("ce-time")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*+)"', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def is_structured(kind: str) -> bool:
    """Say whether a media type is that of an event, or of many."""
    return kind.startswith(STRUCTURED)


def is_binary(headers: Mapping[str, str], kind: str) -> bool:
    """Say whether a request's headers are an event's attributes. A structured event may carry them as well."""
    return VERSION_HEADER in headers and not is_structured(kind)


class StructuredForm:
    """Reads events that stand in the body with all that they have."""

    __slots__ = ("_limits", "_types")

    def __init__(self, types: Types, limits: Limits) -> None:
        self._types = types
        self._limits = limits

    def read(self, value: object, headers: Mapping[str, str]) -> Webhook:  # noqa: ARG002 - other forms read them
        """Read an event. Raises Invalid with all that is wrong."""
        if not isinstance(value, dict):
            raise Invalid(FieldError("body", "expected a CloudEvent, a JSON object; many are for /batch"))
        outer = _Outer(value.get("specversion"), value.get("id"), value.get("type"), self._types)
        problems = outer.problems("")
        try:
            data = self._data(value, opt_out=asks_opt_out(outer.kind))
        except Invalid as error:
            raise Invalid(*problems, *error.problems) from None
        return outer.webhook(problems, value.get("time"), data, _TIME)

    def told(self, value: object, headers: Mapping[str, str]) -> tuple[str | None, str | None]:  # noqa: ARG002 - as above
        """Tell the id and the type of what cannot be read, as far as they are there and sound."""
        if not isinstance(value, dict):
            return None, None
        return sound_id(value.get("id")), self._types.find_end(value.get("type"))

    def _data(self, event: Mapping[str, object], *, opt_out: bool) -> dict[str, object]:
        """Take the data, as JSON or as JSON in base64. An opt-out's is taken by what it is, whatever it is called."""
        kind = event.get("datacontenttype")
        if not opt_out and kind is not None and not _is_json(kind):
            raise Invalid(FieldError("datacontenttype", "expected application/json, or none"))
        data, encoded = event.get("data"), event.get("data_base64")
        if data is not None and encoded is not None:
            raise Invalid(FieldError("data_base64", "expected nothing beside `data`"))
        if encoded is None:
            return _object(data, "data")
        return _object(self._decoded(encoded), "data_base64")

    def _decoded(self, encoded: object) -> object:
        try:
            body = base64.b64decode(encoded, validate=True) if isinstance(encoded, str) else None
        except ValueError:
            body = None
        if body is None:
            raise Invalid(FieldError("data_base64", "expected base64"))
        try:
            value = bounded_json(body, self._limits)
            if may_exceed(body, self._limits):
                check(value, self._limits)
        except Malformed as error:
            raise Invalid(FieldError("data_base64", str(error))) from None
        return value


class BinaryForm:
    """Reads events whose attributes are headers and whose data is the body."""

    __slots__ = ("_types",)

    def __init__(self, types: Types) -> None:
        self._types = types

    def read(self, value: object, headers: Mapping[str, str]) -> Webhook:
        """Read an event. Raises Invalid with all that is wrong."""
        version, message_id, kind = (_attribute(headers, name) for name in ("specversion", "id", "type"))
        outer = _Outer(version, message_id, kind, self._types)
        problems = outer.problems("ce-")
        try:
            data = _object(value, "body")
        except Invalid as error:
            raise Invalid(*problems, *error.problems) from None
        time = _attribute(headers, "time")
        return outer.webhook(problems, headers.get("ce-time") if time is None else time, data, _TIME_HEADER)

    def told(self, value: object, headers: Mapping[str, str]) -> tuple[str | None, str | None]:  # noqa: ARG002 - as above
        """Tell the id and the type of what cannot be read, as far as they are there and sound."""
        return sound_id(_attribute(headers, "id")), self._types.find_end(_attribute(headers, "type"))


class _Outer:
    """The attributes that every event needs, wherever they were found."""

    __slots__ = ("_expected", "_sent_type", "_sound_version", "kind", "message_id")

    def __init__(self, version: object, message_id: object, sent_type: object, types: Types) -> None:
        self._sound_version = version == VERSION
        self.message_id = sound_id(message_id)
        self.kind = types.find_end(sent_type)
        self._sent_type = sent_type
        self._expected = types.expected

    def problems(self, prefix: str) -> list[FieldError]:
        """Say what is wrong with them; `prefix` is what stands before their names."""
        problems = []
        if not self._sound_version:
            problems.append(FieldError(f"{prefix}specversion", f'expected "{VERSION}"'))
        if self.message_id is None:
            problems.append(FieldError(f"{prefix}id", EXPECTED_ID))
        if self.kind is None:
            problems.append(FieldError(f"{prefix}type", f"{self._expected}, or a name that ends in one of relay's"))
        return problems

    def webhook(
        self, problems: Sequence[FieldError], time: object, data: dict[str, object], time_at: TimeAt
    ) -> Webhook:
        """Make the webhook. Raises Invalid where there are problems."""
        if problems or self.message_id is None or self.kind is None:
            raise Invalid(*problems)
        sent_type = self._sent_type if isinstance(self._sent_type, str) and self._sent_type != self.kind else None
        return Webhook(self.message_id, self.kind, time, data, sent_type, time_at)


def _object(data: object, field: str) -> dict[str, object]:
    if not isinstance(data, dict):
        raise Invalid(FieldError(field, EXPECTED_OBJECT))
    return data


def _is_json(kind: object) -> bool:
    """Say whether a media type's subtype is `json` or ends in `+json`, as the JSON event format puts it."""
    if not isinstance(kind, str):
        return False
    subtype = kind.partition(";")[0].strip().lower().rpartition("/")[2]
    return subtype == "json" or subtype.endswith("+json")


def _attribute(headers: Mapping[str, str], name: str) -> str | None:
    """Read an attribute's header: first out of double quotes, then percent-decoded once. None where it is no UTF-8."""
    value = headers.get(f"ce-{name}")
    if value is None or ("%" not in value and '"' not in value):
        return value
    if quoted := _QUOTED.fullmatch(value):
        value = _ESCAPED.sub(r"\1", quoted[1])
    try:
        return unquote_to_bytes(value).decode("utf-8")
    except UnicodeError:
        return None
