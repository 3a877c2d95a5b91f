"""How answers are written: models as JSON that no cache keeps, and who is turned away."""

from http import HTTPStatus

from aiohttp import web

from relay.problem import CHALLENGE, problem
from relay.settings import Scope
from relay.status.answers import Answer

PRIVATE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
"""What stands in every answer: nobody keeps it, or takes it for another type."""
"""Answers say how things stand now, and some of them hold customers' data."""


def json_of(answer: Answer) -> web.Response:
    """Answer 200 with a model."""
    return web.Response(body=answer.model_dump_json().encode(), content_type="application/json", headers=PRIVATE)


def nobody() -> web.Response:
    """Answer 401: the caller brings no token that is known."""
    detail = "An API token is needed: Authorization: Bearer <token>."
    return problem(HTTPStatus.UNAUTHORIZED, detail, headers={"WWW-Authenticate": CHALLENGE})


def lacks(scope: Scope) -> web.Response:
    """Answer 403: the caller's token has not the scope that is needed."""
    wanted = {"WWW-Authenticate": f'{CHALLENGE}, error="insufficient_scope", scope="{scope}"'}
    return problem(HTTPStatus.FORBIDDEN, f"The token lacks the scope `{scope}`.", headers=wanted)


def not_found(detail: str) -> web.HTTPNotFound:
    """Make a 404; the middleware makes a problem of it, whose detail is `detail`."""
    return web.HTTPNotFound(reason=detail)
