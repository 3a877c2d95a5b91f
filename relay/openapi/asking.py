"""The operations of the status API, from its table of endpoints: what is asked, with which scope, what is answered."""

import inspect
import re
from typing import Any

from aiohttp import web
from pydantic import BaseModel, TypeAdapter

from relay.errors import FieldError
from relay.listening.connection import CROWDED
from relay.openapi.answered import AT_THE_DOOR, AT_THE_DOOR_ALONE, at_the_door, headers, told
from relay.openapi.examples import PARAMETERS, shown
from relay.openapi.links import links
from relay.openapi.schemas import Json, Schemas
from relay.problem import FAILED, WRONG, problem, problem_of_http, unavailable
from relay.receive.parse import MESSAGE_ID_PATTERN
from relay.settings import Name
from relay.status.asked import BODY_BYTES_MAX, ENDED_EARLY, TOO_SLOW, UNSUPPORTED, Asked, Nothing
from relay.status.respond import lacks, nobody, not_found
from relay.status.service import ENDPOINTS, ID_DIGITS_MAX, Endpoint

_NAME = TypeAdapter(Name).json_schema()
_PLACES: dict[str, tuple[str, Json]] = {
    "id": ("The batch's number.", {"type": "integer", "minimum": 0, "maximum": 10**ID_DIGITS_MAX - 1}),
    "account": ("The account's name in the settings.", _NAME),
    "login": ("The login's name in the settings.", _NAME),
    "source": ("The source's name in the settings; `relay` for what relay has appended again.", _NAME),
    "webhook_id": ("The webhook's id, percent-encoded.", {"type": "string", "pattern": MESSAGE_ID_PATTERN}),
}
"""What stands in a path's braces: description and schema."""

_TAGS = {
    "batches": "Batches",
    "webhooks": "Webhooks and customers",
    "unresolved": "Webhooks and customers",
    "customers": "Webhooks and customers",
    "accounts": "Accounts and logins",
    "logins": "Accounts and logins",
    "token": "Accounts and logins",
    "acts": "Acts and history",
    "history": "Acts and history",
}


def models() -> tuple[list[type[BaseModel]], list[type[BaseModel]]]:
    """Give the models that are asked with, and those that are answered."""
    asked: list[type[BaseModel]] = [endpoint.asks for endpoint in ENDPOINTS if endpoint.asks is not Nothing]
    return asked, [endpoint.answer for endpoint in ENDPOINTS if endpoint.answer is not None]


def operations(schemas: Schemas) -> dict[str, dict[str, Json]]:
    """Describe what can be asked, by path and method."""
    found: dict[str, dict[str, Json]] = {}
    for endpoint in ENDPOINTS:
        found.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, schemas)
    return found


def parameter(place: str, name: str, description: str, schema: Json, *, required: bool) -> Json:
    """Describe a parameter in the path, the query or the headers, with an example."""
    return {
        "name": name,
        "in": place,
        "required": required,
        "description": description,
        "schema": schema,
        **({"example": PARAMETERS[name]} if name in PARAMETERS else {}),
    }


def in_path(path: str) -> list[Json]:
    """Describe what stands in a path's braces."""
    names = re.findall(r"{(\w+)}", path)
    return [parameter("path", name, *_PLACES.get(name, ("", {"type": "string"})), required=True) for name in names]


def _operation(endpoint: Endpoint[Any], schemas: Schemas) -> Json:
    name = endpoint.act.__name__
    text = (inspect.getdoc(endpoint.act) or name).partition("`: ")
    summary, _, more = (text[2] or text[0]).partition("\n")
    in_query = _in_query(endpoint.asks, schemas) if endpoint.method == "GET" else []
    return {
        "operationId": name,
        "tags": [_TAGS.get(endpoint.path.split("/")[2], "More")],
        "summary": summary[:1].upper() + summary[1:].rstrip("."),
        "description": f"{_needs(endpoint)}\n{more}".rstrip(),
        "security": [{"apiToken": []}],
        "parameters": in_path(endpoint.path) + in_query,
        **(_in_body(endpoint.asks, schemas) if endpoint.method != "GET" and endpoint.asks is not Nothing else {}),
        "responses": {"200": _success(endpoint, name, schemas), **_failures(endpoint)},
    }


def _needs(endpoint: Endpoint[Any]) -> str:
    return "Needs a token." if endpoint.scope is None else f"Needs a token with the scope `{endpoint.scope}`."


def _in_query(asks: type[Asked], schemas: Schemas) -> list[Json]:
    members = schemas.members(asks) if asks is not Nothing else {}
    return [
        parameter("query", name, schema.pop("description", ""), _given(schema), required=False)
        for name, schema in ((name, dict(schema)) for name, schema in members.items())
    ]


def _given(schema: Json) -> Json:
    """Leave out null: in a query that is said by saying nothing."""
    if "anyOf" not in schema:
        return schema
    [given] = [one for one in schema["anyOf"] if one != {"type": "null"}]
    return dict(given)


def _in_body(asks: type[Asked], schemas: Schemas) -> Json:
    needed = any(field.is_required() for field in asks.model_fields.values())
    content = {"application/json": {"schema": schemas.of(asks), "examples": shown(asks)}}
    return {"requestBody": {"required": needed, "content": content}}


def _success(endpoint: Endpoint[Any], name: str, schemas: Schemas) -> Json:
    if endpoint.answer is None:
        text = '"E-Mail","氏名"\r\n"sato.yui@example.jp","佐藤 結衣"\r\n'
        return {
            "description": "The file, in Shift_JIS (CP932).",
            **headers(["Cache-Control", "Content-Disposition"]),
            "content": {"text/csv": {"schema": {"type": "string"}, "examples": {"file": {"value": text}}}},
        }
    return {
        "description": (inspect.getdoc(endpoint.answer) or "").split("\n", maxsplit=1)[0],
        **headers(["Cache-Control"]),
        "content": {"application/json": {"schema": schemas.of(endpoint.answer), "examples": shown(endpoint.answer)}},
        **links(name),
    }


def _failures(endpoint: Endpoint[Any]) -> Json:
    asks_body = endpoint.method != "GET"
    statuses = [401, 422, 500, 503, *AT_THE_DOOR]
    statuses += [404] if "{" in endpoint.path else []
    statuses += [409] if endpoint.conflicts else []
    statuses += [413, 415] if asks_body else []
    found: Json = {
        str(status): {"$ref": f"#/components/responses/{_KEY.format(status)}"} for status in sorted(statuses)
    }
    if endpoint.scope is not None:
        found["403"] = {"$ref": f"#/components/responses/{_KEY.format(403)}-{endpoint.scope}"}
    return dict(sorted(found.items()))


# -- errors ----------------------------------------------------------------------------------------------------------

_KEY = "status-{}"


def responses(schema: Json) -> Json:
    """Describe every way in which a question is refused, for all operations to refer to."""
    made = {
        400: ("It is no HTTP, or its body ended early.", [problem_of_http(web.HTTPBadRequest(reason=ENDED_EARLY))]),
        401: ("No token, or none that is known.", [nobody()]),
        404: ("There is no such thing.", [problem_of_http(not_found("There is no such batch."))]),
        408: ("It did not arrive in time.", [problem_of_http(web.HTTPRequestTimeout(reason=TOO_SLOW))]),
        409: (
            "It does not fit the present state.",
            [problem(409, "batch 4711 is delivered and has no dead letters that could be retried")],
        ),
        413: (
            f"The body has more than {BODY_BYTES_MAX:,} bytes.",
            [problem_of_http(web.HTTPRequestEntityTooLarge(BODY_BYTES_MAX, BODY_BYTES_MAX + 1))],
        ),
        415: (
            "The body is not JSON, or compressed.",
            [problem_of_http(web.HTTPUnsupportedMediaType(reason=UNSUPPORTED))],
        ),
        422: (
            "What is asked is wrong, or not asked for here; `errors` names each mistake.",
            [problem(422, WRONG, [FieldError("limit", "Input should be less than or equal to 500")])],
        ),
        **{status: (text, []) for status, text in AT_THE_DOOR_ALONE.items()},
        500: ("A bug in relay.", [problem(500, FAILED)]),
        503: (
            "Postgres does not answer, relay is just starting, or too many are connected.",
            [unavailable(), unavailable(CROWDED)],
        ),
    }
    found = {
        _KEY.format(status): told(text, [*answers, *at_the_door(status)], schema)
        for status, (text, answers) in made.items()
    }
    for scope in ("read", "operate", "pii"):
        found[f"{_KEY.format(403)}-{scope}"] = told(f"The token lacks the scope `{scope}`.", [lacks(scope)], schema)
    return found
