"""relay's own form of a webhook, as the model by which it is read and documented. Pure."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, InstanceOf, JsonValue, ValidationError, WithJsonSchema

from relay.errors import FieldError, Invalid
from relay.events import TYPES
from relay.receive.auth import ID_HEADER
from relay.receive.parse import EXPECTED_ID, EXPECTED_OBJECT, MESSAGE_ID_PATTERN, Types, Webhook, sound_id

_EXAMPLE: dict[str, JsonValue] = {
    "id": "msg_1",
    "type": "customer.created",
    "timestamp": "2026-11-22T09:00:00+09:00",
    "data": {"email": "taro@example.jp", "name": "髙橋 太郎"},
}


class AskedWebhook(BaseModel):
    """One webhook in relay's own form. Members that are not named here may be there and are not looked at."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
        json_schema_extra={"examples": [_EXAMPLE]},
    )

    id: Annotated[str, Field(pattern=MESSAGE_ID_PATTERN)]
    """Names the webhook: the same id again is a duplicate. The header `webhook-id`, where there is one, comes first."""

    type: Annotated[str, Field(examples=list(TYPES))]
    """What happened: `customer.created`, `customer.updated`, `customer.deleted`, `customer.stopped`, `customer.banned`,
    `customer.allowed`, or the source's own name for one of them (its setting `types`)."""

    timestamp: Annotated[object, WithJsonSchema({"type": ["string", "null"], "format": "date-time"})] = None
    """When it happened: ISO 8601 with an offset. Without it the time of arrival counts."""

    data: Annotated[InstanceOf[dict[str, object]], WithJsonSchema({"type": "object", "additionalProperties": True})]
    """The customer: of a `customer.created` or `.updated` the whole record, of all others the address is enough."""


class OwnForm:
    """Reads relay's own form for one source."""

    __slots__ = ("_expected", "_types")

    def __init__(self, types: Types) -> None:
        self._types = types
        self._expected = {"id": EXPECTED_ID, "type": types.expected, "data": EXPECTED_OBJECT}

    def read(self, value: object, headers: Mapping[str, str]) -> Webhook:
        """Read a webhook. Its id is the header's, else the body's. Raises Invalid with all that is wrong."""
        header_id = headers.get(ID_HEADER)
        if header_id is not None and isinstance(value, dict):
            value = {**value, "id": header_id}
        try:
            asked = AskedWebhook.model_validate(value)
            kind = self._types.find(asked.type)
        except ValidationError as error:
            wrong = {mistake["loc"][0] if mistake["loc"] else "body" for mistake in error.errors(include_input=False)}
        else:
            if kind is not None:
                sent_type = None if kind == asked.type else asked.type
                return Webhook(asked.id, kind, asked.timestamp, asked.data, sent_type)
            wrong = set()
        # Outside of `except`: pydantic's error, which holds what was sent, must not be chained to ours.
        raise Invalid(*self._problems(value, wrong, "id" if header_id is None else ID_HEADER))

    def told(self, value: object, headers: Mapping[str, str]) -> tuple[str | None, str | None]:
        """Tell the id and the type of what cannot be read, as far as they are there and sound."""
        if not isinstance(value, dict):
            return None, None
        return sound_id(headers.get(ID_HEADER, value.get("id"))), self._types.find(value.get("type"))

    def _problems(self, value: object, wrong: set[int | str], id_field: str) -> list[FieldError]:
        if not isinstance(value, dict):
            return [FieldError("body", EXPECTED_OBJECT)]
        if self._types.find(value.get("type")) is None:
            wrong.add("type")
        names = [name for name in self._expected if name in wrong]
        return [FieldError(id_field if name == "id" else name, self._expected[name]) for name in names]
