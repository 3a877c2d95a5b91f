"""Errors over HTTP: `application/problem+json` (RFC 9457), written once for webhooks and status API.

`problem` makes one such answer; the middleware `problems` makes one of whatever is raised, so that a caller never gets
HTML or a bare line of text. No answer holds values that the caller sent: only fields, and what is expected there.
"""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus

from aiohttp import web

from relay.errors import Conflict, FieldError, Invalid, Unavailable
from relay.log import logger

RETRY_AFTER_S = 2
"""What a caller is told to wait when Postgres does not answer: long enough not to hammer, short beside a failover."""

CONTENT_TYPE = "application/problem+json"

log = logger(__name__)


def problem(
    status: int,
    detail: str,
    errors: Sequence[FieldError] = (),
    *,
    headers: Mapping[str, str] | None = None,
    members: Mapping[str, object] | None = None,
) -> web.Response:
    """Answer with a problem: `detail` for people, `errors` by field, `members` for what else there is to tell."""
    body: dict[str, object] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "errors": [{"field": error.field, "message": error.message} for error in errors],
        **(members or {}),
    }
    text = json.dumps(body, ensure_ascii=False)
    return web.Response(status=status, text=text, content_type=CONTENT_TYPE, headers=headers)


def unavailable() -> web.Response:
    """Answer 503: nothing is known to be safe in Postgres, so the caller has to send it again."""
    detail = "The database does not answer. Nothing is known to be stored: send it again."
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"Retry-After": str(RETRY_AFTER_S)})


@web.middleware
async def problems(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Turn whatever is raised into a problem. A bug is logged and told as 500."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < HTTPStatus.BAD_REQUEST:
            raise
        return _of_http(error)
    except Invalid as error:
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, "The request is well-formed but wrong.", error.problems)
    except Conflict as error:
        return problem(HTTPStatus.CONFLICT, str(error))
    except Unavailable:
        return unavailable()
    except Exception:  # the outermost line of a request: the caller still gets a problem
        log.exception("request_failed")
        return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "relay failed on this request. The log says where.")


def _of_http(error: web.HTTPException) -> web.Response:
    kept = {name: error.headers[name] for name in ("Allow", "Retry-After", "WWW-Authenticate") if name in error.headers}
    return problem(error.status, error.reason, headers=kept)
