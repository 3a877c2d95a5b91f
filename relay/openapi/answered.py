"""What can be answered, as OpenAPI has it: headers, problems with an example each, and answers with theirs."""

import json
from collections.abc import Iterable, Mapping

from aiohttp import web

from relay.listening.connection import HEADERS_MAX, MALFORMED, TOO_SLOW, UNEXPECTED
from relay.openapi.schemas import Json
from relay.problem import CONTENT_TYPE, problem

AT_THE_DOOR: Mapping[int, str] = {
    400: MALFORMED,
    408: TOO_SLOW,
    417: UNEXPECTED,
    431: f"The request's head has more than 16384 bytes or {HEADERS_MAX} headers.",
}
"""What any request can be answered before anybody looks at what it asks for."""

AT_THE_DOOR_ALONE: Mapping[int, str] = {
    417: "The request expects (`Expect`) what relay does not meet.",
    431: "The head of the request is too large.",
}
"""Those that nothing is answered later: what they mean."""

HEADERS: Mapping[str, Json] = {
    "Allow": {"description": "The methods that there are.", "schema": {"type": "string"}},
    "Cache-Control": {"description": "Whether a copy may be kept.", "schema": {"type": "string"}},
    "Content-Disposition": {"description": "The name to keep the file under.", "schema": {"type": "string"}},
    "Content-Security-Policy": {"description": "What the page may load: nothing.", "schema": {"type": "string"}},
    "ETag": {"description": "Names this very version, for `If-None-Match`.", "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}},
    "WWW-Authenticate": {"description": "What proof is wanted (RFC 6750).", "schema": {"type": "string"}},
}
"""The headers of answers that callers can make use of."""


def headers(names: Iterable[str]) -> Json:
    """Say which headers an answer has."""
    found = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
    return {"headers": found} if found else {}


def told(description: str, problems: Iterable[web.Response], schema: Json, names: Iterable[str] = ()) -> Json:
    """Describe an answer that is a problem, by the answers themselves: their bodies are the examples.

    `names` are headers that it may also have.
    """
    answers = list(problems)
    present = {str(name) for answer in answers for name in answer.headers if name in HEADERS}
    shown = {f"problem-{n}": _example(answer) for n, answer in enumerate(answers, 1)}
    return {
        "description": description,
        **headers(sorted(present.union(names))),
        "content": {CONTENT_TYPE: {"schema": schema, "examples": shown}},
    }


def at_the_door(status: int) -> list[web.Response]:
    """Give the answer of a status that any request can get, if there is one."""
    return [problem(status, AT_THE_DOOR[status])] if status in AT_THE_DOOR else []


def _example(answer: web.Response) -> Json:
    body = json.loads(answer.text or "")
    return {"summary": body["detail"], "value": body}
