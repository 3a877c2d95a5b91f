"""README's senders, as a new user pastes them: a webhook is in relay, also when relay cannot take it at once.

Each block is run as it stands in README, with the two variables that README names. Between it and relay stands a
front that hears every attempt and spoils the first ones where a test says so.
"""

import asyncio
import base64
import hmac
import json
import os
import re
import shutil
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import asyncpg
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from relay import app
from relay.settings import load, process

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
SECTION = README.partition("\n## Send webhooks\n")[2].partition("\n## ")[0]
KEY = bytes(range(200, 232))  # in base64 with + and /
SECRET = "whsec_" + base64.b64encode(KEY).decode()
TOKEN = "a token of a system that cannot sign"
TIMEOUT_S = 30.0

SURNAME = b"\xfb\xfc\x8b\xb4"
"""髙橋 in Windows-31J, with IBM's code for 髙."""


@dataclass(frozen=True, slots=True)
class Sender:
    """One of README's blocks: the language of its fence, what runs it, and the given name of its customer."""

    fence: str
    command: tuple[str, ...]
    file: str
    given_name: str
    heeds_retry_after: bool = True

    @property
    def block(self) -> str:
        """What is pasted."""
        blocks = re.findall(rf"^```{self.fence}\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL)
        [block] = [block for block in blocks if "webhook-signature" in block]
        return str(block)

    @property
    def webhook_id(self) -> str:
        """The id that it sends."""
        [found] = re.findall(r"\boutbox-\d+", self.block)
        return str(found)


SENDERS = {
    "sh": Sender("sh", ("sh",), "send.sh", "太郎", heeds_retry_after=False),
    "bash": Sender("sh", ("bash",), "send.sh", "太郎", heeds_retry_after=False),
    "python": Sender("python", (sys.executable,), "send.py", "花子"),
    "php": Sender("php", ("php",), "send.php", "次郎"),
    "node": Sender("js", ("node",), "send.mjs", "三郎"),
}


@pytest.fixture(params=SENDERS)
def sender(request: pytest.FixtureRequest) -> Sender:
    """Give each sender that can run here."""
    found = SENDERS[request.param]
    programs = [*found.command[:1], *(["curl", "openssl"] if found.fence == "sh" else [])]
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} is not installed here (as root: make packages)")
    return found


@dataclass(slots=True)
class Heard:
    """One attempt: when it came, what it was, and relay's answer, if it was let through."""

    at: float
    headers: Mapping[str, str]
    body: bytes
    status: int | None = None
    answer: str = ""


@dataclass(slots=True)
class Front:
    """Stands before relay. `spoil` says what becomes of the next attempts: an answer, or None for no answer at all."""

    relay_url: str
    session: aiohttp.ClientSession
    url: str = ""
    spoil: list[web.Response | None] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)

    async def pass_on(self, request: web.Request) -> web.Response:
        """Take one attempt."""
        heard = Heard(time.monotonic(), request.headers.copy(), await request.read())
        self.heard.append(heard)
        if self.spoil:
            answer = self.spoil.pop(0)
            if answer is None and request.transport is not None:
                request.transport.abort()
            return answer or web.Response()
        kept = {name: value for name, value in request.headers.items() if name.lower() not in ("host", "expect")}
        async with self.session.post(self.relay_url + request.path, data=heard.body, headers=kept) as response:
            heard.status, heard.answer = response.status, await response.text()
            return web.Response(status=response.status, text=heard.answer, content_type=response.content_type)


@dataclass(frozen=True, slots=True)
class Done:
    """How a sender ended, and everything that it said."""

    code: int
    said: str


async def paste(sender: Sender, directory: Path, url: str) -> Done:
    """Run a sender as a new user does."""
    path = directory / sender.file
    path.write_text(sender.block, encoding="utf-8")
    return await run(*sender.command, str(path), CRM_WEBHOOK_URL=url, CRM_WEBHOOK_SECRET=SECRET)


async def run(*command: str, **variables: str) -> Done:
    """Run a program to its end."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env={"PATH": os.environ["PATH"], **variables},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Done(process.returncode or 0, said.decode())


@asynccontextmanager
async def relay(database: str, directory: Path) -> AsyncIterator[str]:
    """Serve relay with README's own settings, whose vendors are on loopback here, and a source that is strict."""
    example = next(block for block in re.findall(r"```toml\n(.*?)```", README, re.DOTALL))
    (directory / "api-key").write_text("key", encoding="utf-8")
    example = example.replace("/run/secrets/blastmail-api-key", str(directory / "api-key"))
    example = example.replace("https://contract.example.jp", "http://127.0.0.1:1").replace('"5f8f…"', f'"{"5f" * 32}"')
    example = example.replace('vendor = "blastmail"', 'vendor = "blastmail"\nbase_url = "http://127.0.0.1:1"')
    assert example.count("http://127.0.0.1:1") == 2
    config = directory / "relay.toml"
    config.write_text(example + STRICT, encoding="utf-8")
    env = {
        "RELAY_DATABASE_URL": database,
        "RELAY_SECRET_KEY": "the secret of this test's deployment",
        "RELAY_SPOOL_DIR": str(directory / "spool"),
        "RELAY_HOST": "127.0.0.1",
        "RELAY_PORT": "0",
        "RELAY_OPS_HOST": "127.0.0.1",
        "RELAY_OPS_PORT": "0",
        "CRM_WEBHOOK_SECRET": SECRET,
        "CRM_TOKEN": TOKEN,
        "BLASTMAIL_PASSWORD": "password",
        "HAIHAI_PASSWORD": "password",
    }
    async with app.running(process(env), load(config, env)) as addresses:
        yield addresses.url


STRICT = """
[sources.strict]
signing_secrets = [{ env = "CRM_WEBHOOK_SECRET" }]
accounts = ["strict"]
[accounts.strict]
login = "hai"
group_id = 8
[accounts.strict.columns]
"メールアドレス" = "email"
"会員番号" = { path = "code", required = true }
"""


@pytest.fixture
async def front(database: str, tmp_path: Path) -> AsyncIterator[Front]:
    """Give a front with a relay behind it."""
    async with relay(database, tmp_path) as url, aiohttp.ClientSession() as session:
        made = Front(url, session)
        served = web.Application()
        served.router.add_post("/{path:.*}", made.pass_on)
        served.router.add_get("/login", _login_page)
        async with TestServer(served) as server:
            made.url = str(server.make_url("/v1/webhooks/"))
            yield made


async def _login_page(_: web.Request) -> web.Response:
    return web.Response(text="<html>Log in first</html>", content_type="text/html")


async def lines(database: str, message_id: str) -> list[bytes]:
    """Look up a webhook's lines in the log."""
    connection = await asyncpg.connect(database)
    try:
        rows = await connection.fetch("select line from event where message_id = $1", message_id)
    finally:
        await connection.close()
    return [row["line"] for row in rows]


def signature(heard: Heard) -> str:
    """Sign an attempt as Standard Webhooks says."""
    signed = f"{heard.headers['webhook-id']}.{heard.headers['webhook-timestamp']}.".encode() + heard.body
    return "v1," + base64.b64encode(hmac.digest(KEY, signed, "sha256")).decode()


async def test_a_paste_is_in_relay(sender: Sender, front: Front, database: str, tmp_path: Path) -> None:
    """One paste, one 202, and the customer's name in Shift_JIS in the log; pasted again, it changes nothing."""
    for duplicate in (False, True):
        done = await paste(sender, tmp_path, front.url + "crm")
        assert done.code == 0, done.said
        assert front.heard[-1].status == 202
        answer = json.loads(front.heard[-1].answer)
        assert (answer["webhook_id"], answer["duplicate"]) == (sender.webhook_id, duplicate)
        assert answer["warnings"] == []
        name = b'"' + SURNAME + b" " + sender.given_name.encode("cp932") + b'"'
        found = await lines(database, sender.webhook_id)
        assert [name in line for line in found] == [True, True]
        assert str(answer["events"][0]["event_id"]) in done.said
    assert len(front.heard) == 2


@pytest.mark.parametrize("fault", ["gone", "unavailable", "too often"])
async def test_a_paste_tries_again(sender: Sender, fault: str, front: Front, database: str, tmp_path: Path) -> None:
    """No answer, a 503 or a 429: it waits as long as it is told, and sends the same under the same id, signed anew."""
    waits_s = 3 if fault == "unavailable" and sender.heeds_retry_after else 1
    faults: Mapping[str, web.Response | None] = {
        "gone": None,
        "unavailable": web.Response(status=503, headers={"Retry-After": "3"}),
        "too often": web.Response(status=429, headers={"Retry-After": "1"}),
    }
    front.spoil = [faults[fault]]
    done = await paste(sender, tmp_path, front.url + "crm")
    assert done.code == 0, done.said
    first, second = front.heard
    assert (first.status, second.status) == (None, 202)
    assert second.at - first.at >= waits_s
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == sender.webhook_id
    assert int(second.headers["webhook-timestamp"]) >= int(first.headers["webhook-timestamp"]) + waits_s
    for heard in (first, second):
        assert heard.headers["webhook-signature"] == signature(heard)
    assert second.body == first.body
    assert "髙橋".encode() in second.body
    assert len(await lines(database, sender.webhook_id)) == 2


async def test_a_refused_paste_says_so(sender: Sender, front: Front, database: str, tmp_path: Path) -> None:
    """A 422 is not sent again: it ends with an error, and shows the fields at fault."""
    done = await paste(sender, tmp_path, front.url + "strict")
    assert done.code != 0
    assert [heard.status for heard in front.heard] == [422]
    assert "data.code" in done.said
    assert await lines(database, sender.webhook_id) == []


async def test_a_redirect_is_no_success(sender: Sender, front: Front, tmp_path: Path) -> None:
    """A proxy that sends senders elsewhere has not taken the webhook, whatever is there."""
    front.spoil = [web.Response(status=302, headers={"Location": "/login"})]
    done = await paste(sender, tmp_path, front.url + "crm")
    assert done.code != 0
    assert len(front.heard) == 1


async def test_the_first_example_needs_only_a_token(database: str, tmp_path: Path) -> None:
    """The curl with which the section begins, for a system that cannot sign."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed here (as root: make packages)")
    [block] = [b for b in re.findall(r"^```sh\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL) if "CRM_TOKEN" in b]
    async with relay(database, tmp_path) as url:
        done = await run("sh", "-c", block.replace("http://localhost:8080", url), CRM_TOKEN=TOKEN)
        assert done.code == 0
        assert '"webhook_id":"msg_1"' in done.said
        assert [SURNAME in line for line in await lines(database, "msg_1")] == [True, True]
