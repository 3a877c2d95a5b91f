"""`relay demo --part traffic`: a steady stream that outlives whatever becomes of relay."""

import asyncio
import itertools
import json
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise

import aiohttp
import pytest
from aiohttp import web

from relay.demo.names import SIGNING_SECRET
from relay.demo.posting import Refused, Traffic, Wanted
from relay.demo.traffic import Expected, endless
from relay.errors import SettingsError
from relay.receive.auth import sign, signing_key
from tests.waiting import until


class Listener:
    """A stand-in for relay's door: answers as told, and keeps what it took by id."""

    def __init__(self) -> None:
        self.answers: Iterator[tuple[int, dict[str, str]]] = iter(())
        self.taken: list[tuple[str, dict[str, object]]] = []
        self.statuses: Counter[int] = Counter()
        self.unsigned = 0

    async def take(self, request: web.Request) -> web.Response:
        """Check the signature as Standard Webhooks says, then answer."""
        body = await request.read()
        message_id, moment = request.headers["webhook-id"], request.headers["webhook-timestamp"]
        key = signing_key(SIGNING_SECRET)
        self.unsigned += request.headers["webhook-signature"] != sign(key, message_id, moment, body)
        status, headers = next(self.answers, (202, {}))
        self.statuses[status] += 1
        if status == 202:
            self.taken.append((message_id, json.loads(body)))
        return web.Response(status=status, headers=headers)

    @asynccontextmanager
    async def serve(self, port: int = 0) -> AsyncIterator[str]:
        """Listen on loopback; yields the URL."""
        app = web.Application()
        app.add_routes([web.post("/v1/webhooks/crm", self.take)])
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", port, reuse_address=True).start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


@asynccontextmanager
async def sending(url: str, rate: float = 200) -> AsyncIterator[Traffic]:
    """Send to a URL for the length of the block, with two senders."""
    wanted = Wanted.of(url, "crm", rate, 100, 1, env={})
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        traffic = Traffic(session, wanted)
        for _ in range(2):
            group.create_task(traffic.send())
        try:
            yield traffic
        finally:
            traffic.stop()


async def test_what_relay_does_not_take_now_is_sent_again_under_its_id() -> None:
    """After a 503, a 429 and a 500 each webhook arrives all the same, signed anew, and none is made up twice."""
    listener = Listener()
    listener.answers = iter([(503, {"Retry-After": "0"}), (429, {"Retry-After": "1"}), (500, {})])
    async with listener.serve() as url, sending(url) as traffic:
        await until(lambda: len(listener.taken) >= 60 and listener.statuses.total() >= 63)
    told = traffic.told()
    assert listener.unsigned == 0
    assert dict(listener.statuses) == {202: len(listener.taken), 503: 1, 429: 1, 500: 1}
    assert told == f"{len(listener.taken):,} webhooks taken; sent again after 1 × 429, 1 × 500, 1 × 503"
    said: dict[str, dict[str, object]] = {}
    for message_id, body in listener.taken:
        assert said.setdefault(message_id, body) == body, "an id stood for two things"


async def test_it_waits_for_a_relay_that_is_away() -> None:
    """Where nobody listens it goes on trying, tells so, and goes on as soon as somebody does."""
    listener = Listener()
    async with listener.serve() as url:
        pass
    port = int(url.rpartition(":")[2])
    async with sending(url) as traffic:
        await until(lambda: "sent again after" in traffic.told())
        async with listener.serve(port):
            await until(lambda: len(listener.taken) >= 5)
            traffic.stop()
    assert "ClientConnectorError" in traffic.told()


async def test_what_was_never_taken_is_not_counted() -> None:
    """Whoever stops it while relay takes nothing is not told otherwise, and does not wait for relay."""
    listener = Listener()
    listener.answers = itertools.repeat((503, {"Retry-After": "30"}))
    async with asyncio.timeout(10), listener.serve() as url, sending(url) as traffic:
        await until(lambda: listener.statuses[503] == 2)
    assert traffic.told() == "0 webhooks taken; sent again after 4 × 503", "each is tried once more at the end"


@pytest.mark.parametrize("status", [401, 404, 422])
async def test_a_refusal_ends_it_with_what_relay_said(status: int) -> None:
    """A wrong secret or source is not knocked at for ever: whoever set it up is told."""
    listener = Listener()
    listener.answers = itertools.repeat((status, {}))

    async def until_it_ends() -> None:
        async with listener.serve() as url, sending(url) as traffic:
            await traffic.stopped.wait()

    with pytest.raises(ExceptionGroup) as caught:
        await until_it_ends()
    [error] = {str(one) for one in caught.value.exceptions if isinstance(one, Refused)}
    assert f"/v1/webhooks/crm answered {status}" in error


async def test_the_rate_is_kept_and_nothing_is_caught_up_with() -> None:
    """So many a second and not more, also after relay was slow to answer."""
    listener = Listener()
    async with listener.serve() as url, sending(url, rate=20):
        begin = asyncio.get_running_loop().time()
        await until(lambda: len(listener.taken) >= 30)
        took_s = asyncio.get_running_loop().time() - begin
    assert 1.4 < took_s < 4


async def test_sigterm_ends_the_command_with_what_it_did() -> None:
    """The command tells the sum and ends with 0; RELAY_URL and the secret come from the environment."""
    listener = Listener()
    async with listener.serve() as url:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "relay", "demo", "--part", "traffic", "--rate", "100"),
            env={"PATH": os.environ["PATH"], "RELAY_URL": url, "DEMO_SIGNING_SECRET": SIGNING_SECRET},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        await until(lambda: len(listener.taken) >= 10)
        process.send_signal(signal.SIGTERM)
        out, _ = await process.communicate()
        assert process.returncode == 0, out.decode()
        taken = re.search(r"^([\d,]+) webhooks taken$", out.decode(), re.MULTILINE)
        assert taken is not None, out.decode()
        assert int(taken[1].replace(",", "")) == len(listener.taken)
        assert f"100 webhooks a second to {url}/v1/webhooks/crm" in out.decode()
    assert listener.unsigned == 0


@pytest.mark.parametrize(
    ("url", "env", "field"),
    [
        (None, {"RELAY_URL": "relay:8080"}, "RELAY_URL"),
        ("http://user:secret@example.jp", {}, "--url"),
        (None, {"DEMO_SIGNING_SECRET": "whsec_%"}, "DEMO_SIGNING_SECRET"),
    ],
)
def test_mistakes_are_named(url: str | None, env: dict[str, str], field: str) -> None:
    """A mistake is told by where it stands, without repeating what may be a secret."""
    with pytest.raises(SettingsError) as caught:
        Wanted.of(url, "crm", 1, 1, 1, env=env)
    [problem] = caught.value.problems
    assert problem.field == field
    assert "secret" not in problem.message.replace("password", "")


def ticking() -> Iterator[datetime]:
    """Yield moments a millisecond apart."""
    return (datetime(2026, 11, 22, tzinfo=UTC) + timedelta(milliseconds=n) for n in itertools.count())


def test_the_stream_never_ends_and_stays_about_the_same_customers() -> None:
    """However long it runs, the reader lists do not grow, and every change fits how the customer stands."""
    clock = ticking()
    expected = Expected()
    happened = []
    for webhook in islice(endless(50, 3, "run", lambda: next(clock)), 5_000):
        expected.hear(webhook)
        happened.append(webhook)
    assert {w.data["email"] for w in happened} <= {w.data["email"] for w in happened[:2_000]}
    readers = expected.readers()
    assert 20 < len(readers) <= 50
    assert {mailable for mailable, _ in readers.values()} == {True, False}
    assert {w.type.partition(".")[2] for w in happened} == {"created", "updated", "stopped", "allowed", "deleted"}
    before: dict[str, set[str | None]] = {
        "created": {None, "deleted"},
        "allowed": {"stopped", "updated"},
        "stopped": {"created", "updated", "allowed"},
    }
    by_customer: dict[str, list[str]] = {}
    for webhook in sorted({w.message_id: w for w in happened}.values(), key=lambda w: w.timestamp):
        by_customer.setdefault(webhook.data["email"], []).append(webhook.type.partition(".")[2])
    for said in by_customer.values():
        for earlier, later in pairwise([None, *said]):
            assert earlier in before.get(later or "", {earlier})


def test_two_runs_with_one_seed_share_no_id() -> None:
    """A pod that is started anew says the same customers' news under ids of its own: none is a conflict."""
    clock = ticking()
    one, other = (
        {webhook.message_id for webhook in islice(endless(20, 1, run, lambda: next(clock)), 200)} for run in ("a", "b")
    )
    assert not one & other
