"""The document: what `/openapi.json` answers."""

import json
import re
from collections.abc import Iterable

from relay import __version__
from relay.openapi import asking, webhooks
from relay.openapi.answered import AT_THE_DOOR, HEADERS, headers
from relay.openapi.schemas import Json, Schemas
from relay.problem import Problem

OPENAPI = "3.1.1"

_TEXT = """
relay takes what happens to customers as webhooks, keeps it in Postgres, and brings it to e-mail vendors as files.

Every error is `application/problem+json` (RFC 9457): `detail` is for people, `errors` names each mistake by its field.
No answer repeats values that were sent. 503 and 429 come with `Retry-After`.

Moments are ISO 8601. Names that end in `_s` are seconds.
""".strip()

_TAGS = {
    webhooks.TAG: "Internal systems say what happened to their customers.",
    "Webhooks and customers": "What became of a webhook, and what happened to a customer.",
    "Batches": "Files of events: where they are, what the vendor said, and what to do about refused lines.",
    "Accounts and logins": "What waits where, and since when; logins are flushed, paused and resumed.",
    "Acts and history": "What operators did, and what the last hours brought.",
    "This document": "For people and for programs. It needs no token and tells nothing of the settings.",
}

_API_TOKEN = {
    "type": "http",
    "scheme": "bearer",
    "description": "A token of `[api.tokens.<name>]` in the settings. Each operation says which scope it needs.",
}


def document() -> Json:
    """Make the document."""
    families = (webhooks.models(), asking.models())
    schemas = Schemas(
        [model for asked, _ in families for model in asked],
        [Problem, *(model for _, answered in families for model in answered)],
    )
    schemas.all.update(webhooks.HAND_MADE)
    paths = {**webhooks.operations(schemas), **_own()}
    for path, operations in asking.operations(schemas).items():
        paths.setdefault(path, {}).update(operations)
    made: Json = {
        "openapi": OPENAPI,
        "info": {
            "title": "relay",
            "version": __version__,
            "summary": "Customer webhooks in, Shift_JIS CSV files to e-mail vendors out.",
            "description": _TEXT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "This relay."}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": schemas.all,
            "headers": dict(HEADERS),
            "responses": asking.responses(schemas.of(Problem)),
            "securitySchemes": {"apiToken": _API_TOKEN, **webhooks.SCHEMES},
        },
    }
    named = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(made)))
    made["components"]["schemas"] = {name: schemas.all[name] for name in sorted(schemas.all.keys() & named)}
    return made


# -- the document itself ---------------------------------------------------------------------------------------------

JSON_PATH = "/openapi.json"
PAGE_PATH = "/docs"


def _own() -> dict[str, dict[str, Json]]:
    """Describe the document and its page."""
    content = {"application/json": {"schema": {"type": "object", "required": ["openapi"]}}}
    page = {"text/html": {"schema": {"type": "string"}}}
    return {
        JSON_PATH: {"get": _read("tell_document", "This document", "OpenAPI 3.1.", content, [])},
        PAGE_PATH: {
            "get": _read(
                "tell_docs",
                "This document as a page for people",
                "One page without scripts; it loads nothing.",
                page,
                ["Content-Security-Policy"],
            )
        },
    }


def _read(name: str, summary: str, description: str, content: Json, more: Iterable[str]) -> Json:
    kept = ["Cache-Control", "ETag"]
    return {
        "operationId": name,
        "tags": ["This document"],
        "summary": summary,
        "description": description,
        "security": [],
        "responses": {
            "200": {"description": "As it is now.", **headers([*kept, *more]), "content": content},
            "304": {"description": "The version that `If-None-Match` names.", **headers(kept)},
            **{str(status): {"$ref": f"#/components/responses/status-{status}"} for status in (*AT_THE_DOOR, 503)},
        },
    }
