"""The operations by which webhooks are received: their forms, their proof, and every refusal as it is written."""

import json
from collections.abc import Iterable, Mapping

from pydantic import BaseModel, TypeAdapter

from relay.errors import FieldError, Invalid, RelayError
from relay.events import TYPES
from relay.listening.connection import CROWDED
from relay.openapi.answered import AT_THE_DOOR_ALONE, at_the_door, told
from relay.openapi.asking import parameter
from relay.openapi.examples import EMAIL, shown
from relay.openapi.links import links
from relay.openapi.schemas import Json, Schemas
from relay.problem import CONTENT_TYPE, FAILED, Problem, problem, unavailable
from relay.receive import refusals
from relay.receive.answers import ManyTaken, NoneTaken, Taken
from relay.receive.asked import AskedWebhook
from relay.receive.auth import ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER
from relay.receive.http import BODIES
from relay.receive.parse import MESSAGE_ID_PATTERN, Malformed, TooMany
from relay.receive.reading import JSON_LINES
from relay.receive.refusals import REFUSALS, refusal_of, refuse
from relay.settings import Name

TAG = "Webhooks in"

SCHEMES: Mapping[str, Json] = {
    "sourceToken": {
        "type": "http",
        "scheme": "bearer",
        "description": "One of the source's `bearer_tokens`.",
    },
    "webhookId": {
        "type": "apiKey",
        "in": "header",
        "name": ID_HEADER,
        "description": "Standard Webhooks: the webhook's id, which the signature covers.",
    },
    "webhookTimestamp": {
        "type": "apiKey",
        "in": "header",
        "name": TIMESTAMP_HEADER,
        "description": "Standard Webhooks: when this attempt was made, in Unix seconds; at most 5 minutes off.",
    },
    "webhookSignature": {
        "type": "apiKey",
        "in": "header",
        "name": SIGNATURE_HEADER,
        "description": "Standard Webhooks: `v1,` and HMAC-SHA256 in base64 over `id.timestamp.body`; several with "
        "spaces between, of which one has to fit.",
    },
}

_SECURITY: list[Json] = [
    {"webhookId": [], "webhookTimestamp": [], "webhookSignature": []},
    {"sourceToken": []},
]

_ID = {"type": "string", "pattern": MESSAGE_ID_PATTERN}

_CREATED = {
    "type": "customer.created",
    "timestamp": "2026-11-22T12:00:00+09:00",
    "data": {"email": EMAIL, "name": "佐藤 結衣", "birthday": "1990-04-01"},
}
_DELETED = {"type": "customer.deleted", "timestamp": "2026-11-22T12:05:00+09:00", "data": {"email": EMAIL}}
_CLOUD_EVENT = {
    "specversion": "1.0",
    "id": "A234-1234-1234",
    "source": "/crm",
    "type": "jp.example.customer.created",
    "time": "2026-11-22T12:00:00+09:00",
    "datacontenttype": "application/json",
    "data": {"email": EMAIL, "name": "佐藤 結衣"},
}

HAND_MADE: Mapping[str, Json] = {
    "CloudEvent": {
        "type": "object",
        "description": "A CloudEvent 1.0 in its JSON format. Other attributes and extensions may be there.",
        "required": ["specversion", "id", "type"],
        "properties": {
            "specversion": {"const": "1.0"},
            "id": {**_ID, "description": "The webhook's id."},
            "source": {"type": "string", "description": "Not looked at."},
            "type": {
                "type": "string",
                "description": f"Ends in one of {', '.join(TYPES)}, or is the source's own name for one.",
            },
            "time": {"type": ["string", "null"], "format": "date-time", "description": "When it happened."},
            "data": {"type": ["object", "null"], "description": "The customer."},
            "data_base64": {
                "type": ["string", "null"],
                "contentEncoding": "base64",
                "description": "The customer as JSON in base64, instead of `data`.",
            },
        },
        "anyOf": [
            {"required": ["data"], "properties": {"data": {"type": "object"}, "data_base64": {"type": "null"}}},
            {"required": ["data_base64"], "properties": {"data_base64": {"type": "string"}, "data": {"type": "null"}}},
        ],
    }
}
"""Schemas that no model stands behind: what a standard of others defines."""

_ONE = """
A source sends its own form (its setting `plain`), or any of: a JSON body with `type`, `timestamp` and `data`; a
CloudEvent in structured mode (`application/cloudevents+json`); or one in binary mode, with its attributes in headers
(`ce-specversion`, `ce-id`, `ce-type`, `ce-time`) and the customer alone in the JSON body.

The webhook's id is the header `webhook-id`, or the body's `id`, or the CloudEvent's. The same id with the same content
is a duplicate and gets 202 again; with other content it gets 409.

What `data` has to hold is said by the columns of the source's accounts; of a `customer.deleted`, `.stopped`, `.banned`
or `.allowed` nothing but the address is looked at.

Beside the two proofs named here, a source may have a signature over the body alone in a header of its own (its setting
`body_signature`), as shop systems send it.

A body may be compressed (`Content-Encoding: gzip` or `deflate`); its signature covers it as it is sent, or as it was.

202 means that it is in the database. After 429 and 503 the sender has to send it again.
"""

_MANY = """
A JSON array, NDJSON with one webhook a line, or an array of CloudEvents; each webhook has its own `id`. How many may be
in one request, and how large it may be, is set by `RELAY_WEBHOOKS_MAX` (1,000) and `RELAY_BODY_BYTES_MAX` (10,000,000).

Each is taken or refused by itself; the refused are listed by their place, counted from 0. If none can be taken, the
answer is a 422 with the same list. A signature covers the whole body; its `webhook-id` names the request and is not
looked at otherwise.
"""

SAMPLES: Iterable[RelayError] = (
    Malformed("a number has too many digits"),
    refusals.Unauthorized(),
    refusals.Forbidden(FieldError("type", "this source may only send customer.created, customer.updated")),
    refusals.TooSlow(),
    refusals.Reused(),
    refusals.TooLarge(),
    TooMany("expected at most 1000 webhooks in one request"),
    refusals.Unsupported("expected Content-Type application/json"),
    Invalid(FieldError("data.email", "expected an e-mail address with one @ and something on either side")),
    refusals.TooOften(2.0),
)
"""One error of each kind in `REFUSALS`."""


def models() -> tuple[list[type[BaseModel]], list[type[BaseModel]]]:
    """Give the models that are asked with, and those that are answered."""
    return [AskedWebhook], [Taken, ManyTaken, NoneTaken]


def operations(schemas: Schemas) -> dict[str, dict[str, Json]]:
    """Describe how webhooks are received, by path and method."""
    source = parameter(
        "path", "source", "The source's name in the settings.", TypeAdapter(Name).json_schema(), required=True
    )
    text = "The webhook's id, if it is not in the body. It comes before the body's."
    message_id = parameter(
        "header", ID_HEADER, text, {"type": "string", "pattern": "^[!-~]([ -~]{0,198}[!-~])?$"}, required=False
    )
    common = {"tags": [TAG], "security": _SECURITY}
    one: Json = {
        **common,
        "operationId": "receive_webhook",
        "summary": "Send one webhook",
        "description": _ONE.strip(),
        "parameters": [source, message_id],
        "requestBody": {"required": True, "content": _one(schemas)},
        "responses": {"202": _taken("The webhook is in the log.", Taken, schemas), **_refused(schemas, TooMany)},
    }
    one["responses"]["202"].update(links("receive_webhook"))
    many = {
        **common,
        "operationId": "receive_webhooks",
        "summary": "Send many webhooks",
        "description": _MANY.strip(),
        "parameters": [source],
        "requestBody": {"required": True, "content": _many(schemas)},
        "responses": {
            "202": _taken("Webhooks are in the log; the refused are listed.", ManyTaken, schemas),
            **_refused(schemas, refusals.Reused),
        },
    }
    return {"/v1/webhooks/{source}": {"post": one}, "/v1/webhooks/{source}/batch": {"post": many}}


def _one(schemas: Schemas) -> Json:
    own = dict(schemas.all[AskedWebhook.__name__])
    own["required"] = [name for name in own["required"] if name != "id"]  # it may be in the header
    own.pop("examples", None)
    return {
        "application/json": {
            "schema": own,
            "examples": {
                "created": {"summary": "A new customer", "value": {"id": "msg_2YdQ8s", **_CREATED}},
                "deleted": {"summary": "A customer has gone", "value": {"id": "msg_2YdQ8v", **_DELETED}},
            },
        },
        "application/cloudevents+json": {
            "schema": {"$ref": "#/components/schemas/CloudEvent"},
            "examples": {"created": {"summary": "A new customer", "value": _CLOUD_EVENT}},
        },
    }


def _many(schemas: Schemas) -> Json:
    entries = [{"id": "msg_2YdQ8s", **_CREATED}, {"id": "msg_2YdQ8v", **_DELETED}]
    return {
        "application/json": {
            "schema": {"type": "array", "minItems": 1, "items": schemas.of(AskedWebhook)},
            "examples": {"two": {"summary": "Two webhooks", "value": entries}},
        },
        "application/cloudevents-batch+json": {
            "schema": {"type": "array", "minItems": 1, "items": {"$ref": "#/components/schemas/CloudEvent"}},
            "examples": {"one": {"summary": "One event", "value": [_CLOUD_EVENT]}},
        },
        **{
            kind: {
                "schema": {"type": "string", "description": "One webhook a line, each as in the JSON array."},
                "examples": {"one": {"summary": "One line", "value": _line(entries[0])}},
            }
            for kind in sorted(JSON_LINES)
        },
    }


def _taken(description: str, model: type[BaseModel], schemas: Schemas) -> Json:
    content = {"application/json": {"schema": schemas.of(model), "examples": shown(model)}}
    return {"description": description, "content": content}


def _refused(schemas: Schemas, *never: type[RelayError]) -> Json:
    """Describe every refusal but those that never happen here."""
    by_status: dict[int, list[RelayError]] = {}
    for error in SAMPLES:
        if not isinstance(error, never):
            by_status.setdefault(refusal_of(error).status, []).append(error)
    problem_schema = schemas.of(Problem)
    found = {}
    for status, errors in by_status.items():
        kinds = {type(error) for error in errors}
        said = " ".join(refusal.detail for kind, refusal in REFUSALS.items() if kind in kinds)
        found[str(status)] = told(said, [*map(refuse, errors), *at_the_door(status)], problem_schema)
    if refusals.Reused in never:
        found["422"]["description"] = "The body cannot be taken as a whole, or none of its webhooks can."
        answer = found["422"]["content"][CONTENT_TYPE]
        answer["schema"] = {"anyOf": [problem_schema, schemas.of(NoneTaken)]}
        answer["examples"].update(shown(NoneTaken))
    for status, description in AT_THE_DOOR_ALONE.items():
        found[str(status)] = told(description, at_the_door(status), problem_schema)
    found["500"] = told("A bug in relay.", [problem(500, FAILED)], problem_schema)
    turned_away = [unavailable(), unavailable(BODIES), unavailable(CROWDED)]
    found["503"] = told("Nothing is known to be in the log: send it again.", turned_away, problem_schema)
    return dict(sorted(found.items()))


def _line(webhook: object) -> str:
    return json.dumps(webhook, ensure_ascii=False) + "\n"
