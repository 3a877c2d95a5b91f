"""What Schemathesis cannot know of relay, because settings give it its meaning: what a customer's data has to hold.

The document says that `data` is an object and `type` a text, which is all that holds for every relay. In the settings
of this test they need an address and the customer's id, and one of relay's own names. So what is generated as a good
webhook is made one that the accounts can take; then only 202 (or 409, for an id that is known) will do as its answer.
"""

import base64
import json
import os
import zlib
from collections.abc import Mapping
from typing import Any

import schemathesis
from schemathesis import Case, GenerationMode, HookContext

ADDRESSES = [f"schemathesis{n}@example.jp" for n in range(5)]
TYPES = [f"customer.{word}" for word in ("created", "updated", "deleted", "stopped", "banned", "allowed")]
MOMENT = "2026-01-01T00:00:00+09:00"
DEAD_LETTERS = {
    f"/v1/batches/{{id}}/{deed}": [int(number) for number in os.environ.get(f"TO_{deed.upper()}", "0").split()]
    for deed in ("retry", "dismiss")
}
"""The batches that have anything to be retried or dismissed: some for each, because either can be done once."""

DISMISS = "/v1/webhooks/{source}/{webhook_id}/dismiss"
"""For opt-outs that wait for an address: the test has sent some, `lost-0` to `lost-30`."""

REPORT = "/v1/batches/{id}/report"

LINES = ("application/x-ndjson", "application/ndjson")


@schemathesis.serializer(*LINES)
def as_it_is(ctx: object, value: object) -> bytes:  # noqa: ARG001 - what Schemathesis asks for
    """Send text as text, and what a broken body is instead of text as JSON."""
    return value if isinstance(value, bytes) else _text(value).encode("utf-8", "surrogatepass")


@schemathesis.hook
def before_call(context: HookContext, case: Case[Any], kwargs: dict[str, Any]) -> None:  # noqa: ARG001 - asked by these names
    """Make good requests ones that the sources, accounts and batches of the test can take."""
    if case.meta is None or case.meta.generation.mode is not GenerationMode.POSITIVE:
        return
    if case.operation.path == REPORT:
        case.body = {"success": _chance(case.body) % 2, "failure": 0}  # more lines than a batch has are refused
    if case.method != "POST":
        return
    number = case.path_parameters.get("id")
    if case.operation.path in DEAD_LETTERS and isinstance(number, int) and number % 2:
        mine = DEAD_LETTERS[case.operation.path]
        case.path_parameters["id"] = mine[number % len(mine)]
    if case.operation.path == DISMISS and (chance := _chance(case.path_parameters)) % 2:
        case.path_parameters.update(source="ids", webhook_id=f"lost-{chance // 2 % 4 * 10}")
    if case.operation.path == "/v1/customers/search" and _chance(case.body) % 2:
        case.body = {"email": ADDRESSES[0]}  # else nobody is ever found
    if case.operation.path in ("/v1/webhooks/{source}", "/v1/webhooks/{source}/batch"):
        case.body = _whole(case.body, case.media_type)
        if isinstance(case.body, dict) and "id" not in case.body:
            case.headers.setdefault("webhook-id", f"made-{_chance(case.body)}")


def _whole(body: Any, media_type: str | None) -> Any:  # noqa: ANN401 - any JSON
    if media_type in LINES:
        return "\n".join(json.dumps(_taken({"id": f"line-{_chance(body)}-{n}"})) for n in range(3))
    if isinstance(body, list):
        # An id that is known with another content is a 409 alone, but no good entry of many.
        return [_taken({**entry, "id": f"entry-{_chance(entry)}-{n}"}) for n, entry in enumerate(body)]
    return _taken(body)


def _taken(webhook: Mapping[str, Any]) -> dict[str, Any]:
    chance = _chance(webhook)
    event = "specversion" in webhook
    when = {name: MOMENT for name in ("timestamp", "time") if webhook.get(name) is not None}
    made = {**webhook, **when, "type": ("jp.example." if event else "") + TYPES[chance % len(TYPES)]}
    number = chance % len(ADDRESSES)
    data = {**(webhook.get("data") or {}), "id": f"customer-{number}", "email": ADDRESSES[number]}
    if isinstance(webhook.get("data_base64"), str):
        return {**made, "data_base64": base64.b64encode(json.dumps(data).encode()).decode()}
    return {**made, "data": data}


def _chance(value: object) -> int:
    """Draw a number that is always the same for the same value."""
    return zlib.crc32(_text(value).encode("utf-8", "surrogatepass"))


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
