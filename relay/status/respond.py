"""How answers are written: models as JSON that no cache keeps, and the one problem that is not an error of ours."""

from aiohttp import web

from relay.status.answers import Answer

NO_STORE = {"Cache-Control": "no-store"}
"""Answers say how things stand now, and some of them hold customers' data."""


def json_of(answer: Answer) -> web.Response:
    """Answer 200 with a model."""
    return web.Response(body=answer.model_dump_json().encode(), content_type="application/json", headers=NO_STORE)


def not_found(detail: str) -> web.HTTPNotFound:
    """Make a 404; the middleware makes a problem of it, whose detail is `detail`."""
    return web.HTTPNotFound(reason=detail)
