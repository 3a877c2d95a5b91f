"""Problems: whatever a request ends in, the caller gets one form of answer, and nothing that was not meant for it."""

import pytest
from aiohttp import ClientSession, web

from relay.errors import Conflict, FieldError, Invalid, Unavailable
from relay.problem import problems

RAISED: list[tuple[Exception, int, list[str]]] = [
    (
        Invalid(FieldError("data.email", "expected an address"), FieldError("id", "is missing")),
        422,
        ["data.email", "id"],
    ),
    (Conflict("the batch was delivered"), 409, []),
    (Unavailable("gone"), 503, []),
    (ValueError("taro@example.jp"), 500, []),
    (web.HTTPNotFound(text="<html>"), 404, []),
    (web.HTTPMethodNotAllowed("PUT", ["GET", "POST"]), 405, []),
    (web.HTTPRequestEntityTooLarge(1, 2), 413, []),
]


async def test_whatever_is_raised(subtests: pytest.Subtests, caplog: pytest.LogCaptureFixture) -> None:
    """Each exception becomes a problem with its status and fields; a bug tells the caller nothing, and is logged."""

    async def answer(request: web.Request) -> web.Response:
        raise RAISED[int(request.match_info["number"])][0]

    async def elsewhere(_: web.Request) -> web.Response:
        raise web.HTTPFound("/nowhere")

    app = web.Application(middlewares=[problems])
    app.add_routes([web.get("/{number:[0-9]+}", answer), web.get("/elsewhere", elsewhere)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}") as client:
        for number, (raised, status, fields) in enumerate(RAISED):
            with subtests.test(raised=type(raised).__name__):
                response = await client.get(f"/{number}")
                body = await response.json()
                assert response.content_type == "application/problem+json"
                assert (response.status, body["status"]) == (status, status)
                assert [error["field"] for error in body["errors"]] == fields
                assert ("Retry-After" in response.headers) == (status == 503)
                assert ("Allow" in response.headers) == (status == 405)
                assert "taro@example.jp" not in await response.text()
                assert "<html>" not in await response.text()
        assert (await client.get("/elsewhere", allow_redirects=False)).status == 302
    await runner.cleanup()
    assert [record.levelname for record in caplog.records] == ["WARNING", "ERROR"]
