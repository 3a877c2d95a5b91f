"""The ops page as files over HTTP: what anybody gets, under which policy, and that its parts fit together.

What it does in a browser is tried in `tests/browser`.
"""

import itertools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import pytest
from aiohttp import ClientSession, web

import relay
from relay import ops
from relay.batches import DATA_PAUSES, OUTCOMES, BatchState
from relay.events import EventState, Operation
from relay.metrics import PAUSE_REASONS
from relay.status import answers
from tests.integration.served import SCOPES, Served, served

FOLDER = Path(relay.__file__).parent / "ops"
FILES = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.iterdir() if path.suffix in ops.KINDS}
MODULES = {name: text for name, text in FILES.items() if name.endswith(".js")}
ALL_BYTES_MAX = 150_000


async def get(s: Served, path: str, **headers: str) -> tuple[int, Mapping[str, str], str]:
    """Get something: its status, headers and text."""
    async with s.client.get(s.url + path, headers=headers) as response:
        return response.status, response.headers, await response.text()


async def test_the_page_and_its_files_are_served_under_a_strict_policy(database: str, tmp_path: Path) -> None:
    """Everybody gets them, without a token, each as what it is; nothing inline, nobody else's, no frame, no form."""
    async with served(database, tmp_path, {"crm": {}}) as s:
        for name, text in FILES.items():
            path = "/" if name == "page.html" else f"/ops/{name}"
            status, headers, told = await get(s, path)
            assert (status, told) == (200, text), path
            assert headers["Content-Type"] == f"{ops.KINDS[Path(name).suffix]}; charset=utf-8"
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Referrer-Policy"] == "no-referrer"
            assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
            allowed = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
            assert allowed["default-src"] == "'none'"
            assert {allowed[name] for name in ("script-src", "style-src", "connect-src", "img-src")} == {"'self'"}
            assert {allowed[name] for name in ("base-uri", "form-action", "frame-ancestors")} == {"'none'"}
            assert "unsafe" not in headers["Content-Security-Policy"]
        for path in ("/ops/", "/ops/__init__.py", "/ops/page.html", "/ops/../app.py", "/ops/%2e%2e/app.py"):
            assert (await get(s, path))[0] == 404, path


async def test_caches_keep_what_is_the_same(database: str, tmp_path: Path) -> None:
    """A browser asks each time, and gets nothing anew that it has; after a rollout it gets the new files."""
    async with served(database, tmp_path, {"crm": {}}) as s:
        for path in ("/", "/ops/main.js", "/ops/page.css"):
            _, headers, _ = await get(s, path)
            assert headers["Cache-Control"] == "no-cache"
            status, again, told = await get(s, path, **{"If-None-Match": headers["ETag"]})
            assert (status, told, again["ETag"]) == (304, "", headers["ETag"])
            assert "Content-Type" not in again  # a browser would take the file for that from then on
            assert (await get(s, path, **{"If-None-Match": '"another"'}))[0] == 200


async def test_it_is_small() -> None:
    """All of it together is less than one picture of most pages, as nothing compresses it."""
    assert sum(len(text.encode()) for text in FILES.values()) < ALL_BYTES_MAX


async def test_it_works_behind_a_proxy_that_puts_a_path_before(database: str, tmp_path: Path) -> None:
    """Every address in the page is relative, so that all of it is found below a path."""
    for name in ("page.html", *MODULES):
        assert not re.search(
            r"""(?:href|src)="/|(?:ask|path|from)\(?\s*["'`]/|https?://(?!www\.w3\.org/2000/svg)""", FILES[name]
        ), name
    async with served(database, tmp_path, {"crm": {}}) as s, ClientSession() as client:

        async def passed_on(request: web.Request) -> web.Response:
            async with client.get(s.url + "/" + request.match_info["path"]) as answer:
                return web.Response(body=await answer.read(), status=answer.status)

        app = web.Application()
        app.router.add_get("/tools/relay/{path:.*}", passed_on)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        base = f"http://127.0.0.1:{runner.addresses[0][1]}/tools/relay/"
        try:
            for path in re.findall(r'(?:href|src)="([^"#]+)"', FILES["page.html"]):
                async with client.get(base + path) as answer:
                    assert answer.status == 200, path
        finally:
            await runner.cleanup()


def test_text_reaches_the_page_as_text_only() -> None:
    """No module writes markup, code, styles or anything into a browser's storage, however well it would escape it."""
    forbidden = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|srcdoc|\beval\b|new Function|\.style\b"
        r"|localStorage|sessionStorage|indexedDB|document\.cookie|history\.(?:push|replace)State"
    )
    for name, text in MODULES.items():
        assert not forbidden.search(text), name
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon\w+=", FILES["page.html"])


# -- texts -----------------------------------------------------------------------------------------------------------


def texts(language: str) -> set[str]:
    """The keys of a language's texts."""
    found = [
        key
        for name in (f"texts_{language}.js", f"words_{language}.js")
        for key in re.findall(r'^  "?([\w.]+)"?:', FILES[name], re.MULTILINE)
    ]
    assert len(found) == len(set(found))
    return set(found)


def test_both_languages_say_the_same() -> None:
    """Each text is there in English and in Japanese."""
    assert texts("en") == texts("ja")
    assert len(texts("en")) > 200


def test_one_kind_of_colon_in_japanese() -> None:
    """Parts of one sentence come from several texts: all of them have the wide colon, none the one of English."""
    said = "".join(FILES[f"{name}_ja.js"].split("export const ", 1)[1] for name in ("texts", "words"))
    written = re.findall(r'"([^"\n]*)"', re.sub(r'^  "[\w.]+":', "", said, flags=re.MULTILINE))
    written += re.findall(r"`([^`\n]*)`", said)
    assert len(written) > 200
    assert [text for text in written if re.search(r"[^ ]:(?: |$)", text)] == []


def test_every_text_that_is_said_exists_and_every_one_is_said() -> None:
    """No key is misspelt, and none has outlived its use."""
    code = "\n".join(text for name, text in FILES.items() if not name.startswith(("texts_", "words_")))
    said = set(re.findall(r'\bt\(\s*"([\w.]+)"', code)) | set(re.findall(r'data-(?:label-)?t="([\w.]+)"', code))
    assert said <= texts("en")
    rest = texts("en") - said
    mentioned = set(re.findall(r'"([\w.]+)"', code))
    begun = {begun for begun in re.findall(r"t\(`([\w.]*)\$", code) if begun}
    ended = {ended for ended in re.findall(r"t\(`\$\{\w+\}([\w.]+)`", code) if ended}
    families = {f"{family}." for family in re.findall(r'word\("(\w+)"', code)}
    left = {
        key
        for key in rest
        if key not in mentioned
        and not any(key.startswith(one) for one in begun | families)
        and not any(key.endswith(one) for one in ended)
    }
    assert left == set()


def choices(model: type[answers.Answer], field: str) -> list[str]:
    """What a field of an answer may say."""
    return [str(one) for one in get_args(model.model_fields[field].annotation)]


@pytest.mark.parametrize("language", ["en", "ja"])
def test_all_of_relays_codes_have_words(language: str) -> None:
    """Whatever state, operation, outcome, pause or act relay tells has a word in both languages."""
    codes = {
        "state": [*BatchState, *EventState, "unresolved"],
        "operation": list(Operation),
        "outcome": list(OUTCOMES.values()),
        "pause": list(PAUSE_REASONS),
        "wait": ["quota", "busy", "settling", "logins_refused", "other"],
        "act": choices(answers.Act, "act"),
        "through": choices(answers.Act, "through"),
        "standing": choices(answers.Standing, "standing"),
        "proof": choices(answers.Evidence, "result"),
    }
    wanted = set(itertools.chain.from_iterable([f"{family}.{code}" for code in of] for family, of in codes.items()))
    assert wanted - texts(language) == set()


def test_what_counts_as_late_is_what_the_alerts_say() -> None:
    """The page and the alerts agree when something is late, and which pauses hold up data alone."""
    rules = (FOLDER.parents[1] / "k8s/monitoring/rules.yaml").read_text(encoding="utf-8")
    said = {
        name: int(value) for name, value in re.findall(r"const (\w+_LATE_AFTER_S) = ([\d_]+);", FILES["findings.js"])
    }
    for kind, name, alert in (("opt_out", "OPT_OUTS", "OptOutLate"), ("data", "DATA", "DataLate")):
        rule = rules[rules.index(f"- alert: Relay{alert}\n") :]
        [after_s] = re.findall(rf'relay_flush_after_seconds\{{kind="{kind}"\}}\) \+ (\d+)', rule)[:1]
        assert said[f"{name}_LATE_AFTER_S"] == int(after_s)
    for name in ("findings.js", "lanes.js"):
        [listed] = re.findall(r"const DATA_PAUSES = \[(.*)\];", FILES[name])
        assert set(re.findall(r'"(\w+)"', listed)) == set(DATA_PAUSES)


# -- what the page asks besides --------------------------------------------------------------------------------------


async def test_a_token_is_told_what_it_is(database: str, tmp_path: Path) -> None:
    """Any token may ask for its own name and scopes, so that the page knows what to offer; nobody else is told."""
    async with served(database, tmp_path, {"crm": {}}) as s:
        for name, scopes in SCOPES.items():
            _, _, told = await get(s, "/v1/token", Authorization=f"Bearer {name}-token")
            assert json.loads(told) == {"name": name, "scopes": scopes}
        for wrong in ({}, {"Authorization": "Bearer wrong"}):
            assert (await get(s, "/v1/token", **wrong))[0] == 401
