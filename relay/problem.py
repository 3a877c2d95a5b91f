"""Errors over HTTP: `application/problem+json` (RFC 9457), written once for webhooks and status API.

`Problem` is what such an answer holds; `problem` makes one; the middleware `problems` makes one of whatever is raised,
so that a caller never gets HTML or a bare line of text. No answer holds values that the caller sent: only fields, and
what is expected there.
"""

import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, Literal

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from relay.errors import Conflict, FieldError, Invalid, Unavailable
from relay.log import logger

RETRY_AFTER_S = range(2, 6)
"""What a caller is told to wait, one of these seconds: long enough not to hammer, short beside a failover, and spread,
because those that were all turned away in one moment must not all come back in another."""

CONTENT_TYPE = "application/problem+json"

WRONG = "The request is well-formed but wrong."
UNAVAILABLE = "The database cannot be used now, or too much waits for it. Nothing is known to be stored: send it again."
FAILED = "relay failed on this request. The log says where."

CHALLENGE = 'Bearer realm="relay"'
"""How a 401 says what is wanted, whatever was given (RFC 6750, which demands a parameter)."""

log = logger(__name__)


class Mistake(BaseModel):
    """One mistake: the field's path and what was expected there."""

    model_config = ConfigDict(frozen=True)

    field: str
    message: str


class Heading(BaseModel):
    """What every problem begins with; `title` names the status, `detail` is for people."""

    model_config = ConfigDict(frozen=True)

    type: Literal["about:blank"]
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: str


class Problem(Heading):
    """An error (RFC 9457). `errors` names each mistake; none where `detail` says it all."""

    errors: list[Mistake]


def heading(status: int, detail: str) -> dict[str, object]:
    """Give the members that every problem begins with."""
    return {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}


def problem(
    status: int,
    detail: str,
    errors: Sequence[FieldError] = (),
    *,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """Answer with a problem: `detail` for people, `errors` by field."""
    mistakes = [Mistake(field=error.field, message=error.message) for error in errors]
    return problem_of(Problem.model_validate({**heading(status, detail), "errors": mistakes}), headers)


def problem_of(told: Heading, headers: Mapping[str, str] | None = None) -> web.Response:
    """Answer with a problem that has more to tell than mistakes."""
    body = told.model_dump_json(exclude_unset=True).encode("utf-8")
    return web.Response(status=told.status, body=body, content_type=CONTENT_TYPE, headers=headers)


def unavailable(detail: str = UNAVAILABLE) -> web.Response:
    """Answer 503: nothing is known to be safe in Postgres, so the caller has to send it again, some seconds later."""
    retry_after_s = secrets.choice(RETRY_AFTER_S)
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"Retry-After": str(retry_after_s)})


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
        return problem_of_http(error)
    except Invalid as error:
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, WRONG, error.problems)
    except Conflict as error:
        return problem(HTTPStatus.CONFLICT, str(error))
    except Unavailable as error:
        log.warning("answered_unavailable", reason=str(error))
        return unavailable()
    except Exception:  # the outermost line of a request: the caller still gets a problem
        log.exception("request_failed")
        return problem(HTTPStatus.INTERNAL_SERVER_ERROR, FAILED)


def problem_of_http(error: web.HTTPException) -> web.Response:
    """Answer with the problem of an error that aiohttp or we ourselves raise; its reason is the detail."""
    kept = {name: error.headers[name] for name in ("Allow", "Retry-After", "WWW-Authenticate") if name in error.headers}
    return problem(error.status, error.reason, headers=kept)
