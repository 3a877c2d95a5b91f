"""A live relay keeps to its document, whatever it is asked."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest

from relay.demo.customers import generate
from relay.demo.sim_bme import BmeContract, BmeSim
from relay.demo.sim_haihai import HaihaiContract, HaihaiSim
from relay.demo.sim_server import Sim
from relay.demo.traffic import Sent
from relay.openapi import document
from tests.acceptance.harness import World
from tests.acceptance.processes import Relay
from tests.acceptance.settings_file import HEADERS, PASSWORD, account, bme, haihai, toml

HERE = Path(__file__).parent
Json = dict[str, Any]

API_TOKEN = "relay_schemathesis"
SOURCE_TOKEN = "source_schemathesis"
AID = 7
CUSTOMERS = 40
PER_BATCH = 10
SHOWN_BYTES = 20_000

LONGER = "SCHEMATHESIS_MAX_TIME_S"
"""The variable that makes it go on for so many seconds."""


@pytest.fixture
async def world(database: str, tmp_path: Path, record_property: Callable[[str, object], None]) -> AsyncIterator[World]:
    """Give a world whose relay may say that it has refused opt-outs, which is an error for somebody else."""
    async with aiohttp.ClientSession() as session, asyncpg.create_pool(database, min_size=0, max_size=4) as pool:
        world = World(tmp_path, database, session, pool, lambda told: record_property("measured", told))
        try:
            yield world
        finally:
            await world.end()
        for relay in world.relays:
            wrong = [line for line in relay.said() if line["level"] in {"error", "critical"}]
            assert [line for line in wrong if line["event"] != "opt_out_refused"] == []
            assert "@" not in relay.log.read_text(encoding="utf-8")


def write_settings(world: World, blast: BmeSim, hai: HaihaiSim) -> None:
    """Write settings with two sources, two logins with an account each, and a token that may do everything."""
    token = {"sha256": sha256(API_TOKEN.encode()).hexdigest(), "scopes": ["read", "operate", "pii"]}
    source = {"bearer_tokens": [{"env": "SOURCE_TOKEN"}], "accounts": ["news", "shop"]}
    settings = {
        "sources": {"crm": source, "ids": {**source, "customer_id": "id"}},
        "logins": {"blast": bme(blast.base_url, "user"), "hai": haihai(hai.url, AID)},
        "accounts": {"news": account("blast"), "shop": account("hai", "メールアドレス")},
        "api": {"tokens": {"all": token}},
    }
    world.config.write_text("".join(f"{key} = {toml(value)}\n" for key, value in settings.items()), encoding="utf-8")


async def fill(world: World, relay: Relay, *sims: Sim) -> None:
    """Have batches made: delivered ones with refused lines, and accepted ones; opt-outs, some of them unresolved."""
    customers = [customer.data() for customer in generate(CUSTOMERS, seed=3)]
    for place in range(0, CUSTOMERS, PER_BATCH):
        now = datetime.now(UTC)
        some = customers[place : place + PER_BATCH]
        created = [Sent(f"msg-{place + n}", "customer.created", now, data) for n, data in enumerate(some)]
        gone = Sent(f"bye-{place}", "customer.deleted", now, {"email": customers[0]["email"]})
        await post(world, relay, "crm", *created, gone)
        await post(world, relay, "ids", Sent(f"lost-{place}", "customer.stopped", now, {"id": f"nobody-{place}"}))
        await world.settled(*sims)


async def post(world: World, relay: Relay, source: str, *webhooks: Sent) -> None:
    """Send webhooks, all of which must be taken."""
    answer = await world.session.post(
        f"{relay.url}/v1/webhooks/{source}/batch",
        json=[{"id": webhook.message_id, **webhook.body()} for webhook in webhooks],
        headers={"Authorization": f"Bearer {SOURCE_TOKEN}"},
    )
    assert (await answer.json())["refused"] == 0, await answer.text()


async def test_every_answer_keeps_to_the_document(world: World) -> None:
    """Good and bad requests, alone and in sequences, get answers that the document has, and no error of relay's own."""
    blast = BmeSim(BmeContract("user", PASSWORD, PASSWORD, columns=tuple(HEADERS)))
    hai = HaihaiSim(HaihaiContract(AID, "user", PASSWORD, columns=("メールアドレス", *HEADERS)))
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(blast.serve())
        await stack.enter_async_context(hai.serve())
        blast.faults.add(fault="reject_lines", every=5)
        write_settings(world, blast, hai)
        relay = world.relay(SOURCE_TOKEN=SOURCE_TOKEN)
        await relay.start()
        await fill(world, relay, blast, hai)
        report = await schemathesis(world, relay)
        assert await relay.stop() == 0
    check(report)
    world.measured(f"{report['test_cases']['generated']} requests in {report['running_time']:.0f} s")


async def schemathesis(world: World, relay: Relay) -> Json:
    """Run it in a process of its own: as a pytest plugin it would slow down the start of every test run by a second."""
    rejected = [str(row["batch_id"]) for row in await world.rows("select distinct batch_id from rejection order by 1")]
    to_retry, to_dismiss = " ".join(rejected[::2]), " ".join(rejected[1::2])
    report = world.directory / "report.json"
    arguments: list[str | Path] = ["--report", "json", "--report-json-path", report]
    longer = os.environ.get(LONGER)  # then other requests each time; else always the same
    arguments += ["--max-time", longer] if longer else ["--generation-deterministic"]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", HERE / "schemathesis.toml"),
        *("run", f"{relay.url}/openapi.json", *arguments),
        cwd=world.directory,
        env=world.env(API_TOKEN=API_TOKEN, SOURCE_TOKEN=SOURCE_TOKEN, TO_RETRY=to_retry, TO_DISMISS=to_dismiss),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, out.decode()[-SHOWN_BYTES:]
    found: Json = json.loads(report.read_text(encoding="utf-8"))
    return found


def check(report: Json) -> None:
    """Fail if it has not done what it was started for: each operation asked, and each asked well at least once."""
    told = {f"{method.upper()} {path}" for path, methods in document()["paths"].items() for method in methods}
    told.remove("GET /openapi.json")  # which it has read, but does not test
    assert report["operations"] == {**report["operations"], "tested": len(told), "errored": 0, "skipped": 0}
    assert {phase["status"] for phase in report["phases"].values()} == {"success"}
    taken = {
        operation for operation, phases in report["valid_rates"].items() if sum(p["accepted"] for p in phases.values())
    }
    if LONGER not in os.environ:  # which tells only how its last pass went
        assert taken == told
