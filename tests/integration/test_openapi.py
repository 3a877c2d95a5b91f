"""The document over HTTP, and that the status API takes what the document says and nothing else."""

import re
from pathlib import Path

import pytest
from aiohttp import ClientResponse

from relay.openapi import document
from relay.openapi.page import page, policy
from tests.integration.served import Served, served

READER = {"Authorization": "Bearer reader-token"}
OPERATOR = {"Authorization": "Bearer operator-token"}
JSON = {"Content-Type": "application/json"}


async def get(s: Served, path: str, **headers: str) -> ClientResponse:
    """Get something and read it."""
    response = await s.client.get(s.url + path, headers=headers)
    await response.read()
    return response


async def test_the_document_needs_no_token_and_is_kept_by_caches(database: str, tmp_path: Path) -> None:
    """Anybody gets it, with a name for its version; who has that version already gets a 304 without a body."""
    async with served(database, tmp_path, {"crm": {}}) as s:
        for path, kind in [("/openapi.json", "application/json"), ("/docs", "text/html")]:
            first = await get(s, path)
            assert (first.status, first.content_type, first.charset) == (200, kind, "utf-8")
            assert first.headers["Cache-Control"] == "no-cache"
            assert first.headers["X-Content-Type-Options"] == "nosniff"
            tag = first.headers["ETag"]
            for known in (tag, f'"another", {tag}', "*", f"W/{tag}"):
                again = await get(s, path, **{"If-None-Match": known})
                assert (again.status, await again.read(), again.headers["ETag"]) == (304, b"", tag)
            assert (await get(s, path, **{"If-None-Match": '"another"'})).status == 200
        assert await (await get(s, "/openapi.json")).json() == document()
        docs = await get(s, "/docs")
        assert await docs.text() == page(document())
        assert docs.headers["Content-Security-Policy"] == policy()


async def test_the_document_tells_nothing_of_the_settings(database: str, tmp_path: Path) -> None:
    """No name of a source, an account, a login or a token is in what everybody may read."""
    async with served(database, tmp_path, {"canary-source": {}}) as s:
        for path in ("/openapi.json", "/docs"):
            text = await (await get(s, path)).text()
            for name in ("canary-source", "letter", "hai", "auditor"):
                assert not re.search(rf"\b{name}\b", text), (path, name)


async def test_other_methods_are_refused_with_those_that_there_are(database: str, tmp_path: Path) -> None:
    """Whatever the document has not got is a 405 that says in `Allow` what there is."""
    async with served(database, tmp_path, {"crm": {}}) as s:
        for path, methods in document()["paths"].items():
            concrete = path.format(id=1, account="letter", login="hai", source="crm", webhook_id="msg_1")
            for method in {"GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS"} - {m.upper() for m in methods}:
                if (path, method) == ("/v1/webhooks/{source}/batch", "GET"):
                    continue  # asks for the webhook whose id is `batch`
                answer = await s.client.request(method, s.url + concrete)
                assert answer.status == 405, (method, path)
                assert {m.upper() for m in methods} <= set(answer.headers["Allow"].split(","))


BAD_QUERIES = (
    "?limit=10&limit=20",
    "?limit=0",
    "?limit=501",
    "?limit=1_0",
    "?limit=+10",
    "?limit=1e1",
    "?limit=",
    "?limit=%EF%BC%91",
    "?after=-1",
    "?after=9223372036854775808",
    "?after=99999999999999999999999999999999999999",
    "?state=lost",
    "?operation=",
    "?account=UPPER",
    "?account=a%0A",
    "?account=%00",
    "?account=%FF",
    "?taro@example.jp=1",
    "?limit=%ED%A0%80",
)


async def test_a_bad_query_is_refused_without_repeating_it(
    database: str, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    """What is given twice, is out of bounds, or is not asked for, is a 422 that repeats nothing of it."""
    async with served(database, tmp_path, {"crm": {}}) as s:
        for query in BAD_QUERIES:
            with subtests.test(query=query):
                answer = await get(s, f"/v1/batches{query}", **READER)
                assert answer.status == 422, await answer.text()
                assert answer.content_type == "application/problem+json"
                assert "taro" not in await answer.text()


async def test_what_is_not_asked_for_is_refused(database: str, tmp_path: Path) -> None:
    """A query where none is asked for, and a body where none is, is not passed over: it meant something."""
    async with served(database, tmp_path, {"crm": {}}) as s:
        assert (await get(s, "/v1/logins?name=hai", **READER)).status == 422
        flush = f"{s.url}/v1/logins/hai/flush"
        for data, status in ((b'{"account": "letter"}', 422), (b"{}", 200), (b"", 200), (b"[]", 422), (b"null", 422)):
            answer = await s.client.post(flush, data=data, headers={**OPERATOR, **JSON})
            assert answer.status == status, (data, await answer.text())
        assert (await s.client.post(f"{flush}?account=letter", headers=OPERATOR)).status == 422


async def test_a_body_is_json_and_short(database: str, tmp_path: Path) -> None:
    """Another kind of body is a 415, a long one a 413, and broken JSON a 422; none of them does anything."""
    async with served(database, tmp_path, {"crm": {}}) as s:
        pause = f"{s.url}/v1/logins/hai/pause"
        cases: list[tuple[bytes, dict[str, str], int]] = [
            (b"reason=x", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
            (b'{"reason": "x"}', {"Content-Type": "text/plain"}, 415),
            (b'{"reason": "x"}', {**JSON, "Content-Encoding": "br"}, 415),
            (b'{"reason": "%s"}' % (b"x" * 10_000), JSON, 413),
            (b'{"reason": "x"', JSON, 422),
            (b'{"reason": "\xff"}', JSON, 422),
            (b'{"reason": "\\ud800"}', JSON, 422),
            (b'{"reason": "a\\nb"}', JSON, 422),
            (b'{"reason": "a\\n"}', JSON, 422),
            (b'{"reason": "a\\u202eb"}', JSON, 422),
            (b'{"reason": 1}', JSON, 422),
            (b'{"taro@example.jp": 1}', JSON, 422),
        ]
        for data, headers, status in cases:
            answer = await s.client.post(pause, data=data, headers={**OPERATOR, **headers})
            assert answer.status == status, (data[:40], await answer.text())
            assert answer.content_type == "application/problem+json"
            assert "taro" not in await answer.text()
        assert [row["paused_at"] for row in await s.rows("select paused_at from lane")] == [None]


async def test_odd_places_are_not_found(database: str, tmp_path: Path) -> None:
    """A path with NUL, broken UTF-8, slashes or dots in its names is a 404 like any other that leads nowhere."""
    async with served(database, tmp_path, {"crm": {}}) as s:
        odd = ("%00", "%FF", "%ED%A0%80", "a%2Fb", "%7Ba%7D", "%2E%2E", "x" * 5000, "%E2%80%AE", "%25")
        for name in odd:
            for path in (f"/v1/webhooks/crm/{name}", f"/v1/webhooks/{name}/msg", f"/v1/batches/{name}"):
                answer = await get(s, path, **READER)
                assert answer.status == 404, (path[:60], await answer.text())
                assert answer.content_type == "application/problem+json"
