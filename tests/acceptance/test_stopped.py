"""relay is stopped with SIGTERM in the middle of everything: it ends in time, and loses nothing it has acknowledged."""

import asyncio
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import aiohttp

from relay.demo.sim_bme import BmeContract, BmeSim
from relay.demo.traffic import Expected, stream
from tests.acceptance.harness import World
from tests.acceptance.lists import differences, found, wanted
from tests.acceptance.processes import until
from tests.acceptance.senders import Sender, body
from tests.acceptance.settings_file import HEADERS, PASSWORD, account, bme

LOGINS = ("slow", "hanging")
CUSTOMERS = 120
WAITING = 20
ENDS_WITHIN_S = 28.0
"""Kubernetes kills after 30 seconds."""

APPEND_LOCK = 7235419866102
"""What every append to the log locks, shared (see the first migration). Who holds it keeps requests waiting."""


async def test_sigterm_during_uploads_and_with_requests_waiting(world: World) -> None:
    """An upload that ends within the grace counts, one that does not is unknown, and requests that wait are answered.

    What got a 202 is in the log, the exit code is 0, and a second start finishes the work.
    """
    sim = BmeSim(*(BmeContract(name, PASSWORD, PASSWORD, columns=tuple(HEADERS)) for name in LOGINS))
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(sim.serve())
        world.write_settings(
            {name: bme(sim.base_url, name) for name in LOGINS}, {name: account(name) for name in LOGINS}
        )
        relay = world.relay()
        await relay.start()
        sim.faults.add(fault="slow", seconds=6, contract="slow")
        sim.faults.add(fault="hang", contract="hanging")
        webhooks = list(stream(CUSTOMERS, 5, datetime.now(UTC) - timedelta(hours=1)))
        first, last = webhooks[:-WAITING], webhooks[-WAITING:]
        sender = Sender(world, relay)
        await sender.send(("crm", webhook) for webhook in first)
        await until("both upload", lambda: both_upload(sim))

        # Requests that wait for the log when the signal comes.
        async with world.database.acquire() as connection, connection.transaction():
            await connection.execute("select pg_advisory_xact_lock($1)", APPEND_LOCK)
            waiting = asyncio.gather(*(sender.once("crm", w.message_id, body(w)) for w in last))
            await until("they wait for the log", lambda: appends_wait(world))
            relay.process.terminate()
            signalled = time.monotonic()
            await relay.says("draining")
            await until("relay takes no new requests", lambda: is_closed(relay.url))
        answers = await waiting
        assert await relay.ended() == 0
        took_s = time.monotonic() - signalled
        assert took_s < ENDS_WITHIN_S
        assert {answer.status for answer in answers} <= {202, 503, None}
        assert [answer for answer in answers if answer.status == 202], "nobody who waited was answered"
        assert sender.acknowledged <= await world.in_log("crm")
        assert await outcomes(world) == {"slow": ["delivered"], "hanging": ["unknown"]}
        world.measured(f"SIGTERM with an upload that never ends: relay ended after {took_s:.1f} s")

        await relay.start()
        await sender.send(("crm", webhook) for webhook in last)
        await world.settled(sim)
        expected = Expected()
        for webhook in webhooks:
            expected.hear(webhook)
        for name in LOGINS:
            assert differences(found(sim, name), wanted(expected)) == {}, name
            assert sim.record.of(name).overlaps == 0
        assert await relay.stop() == 0


async def is_closed(url: str) -> bool:
    """Say whether nobody listens there any more."""
    try:
        async with aiohttp.request("GET", url):
            return False
    except aiohttp.ClientConnectionError:
        return True


async def outcomes(world: World) -> dict[str, list[str]]:
    """Return the outcomes of each login's uploads so far."""
    rows = await world.rows(
        "select b.login, array_agg(u.outcome order by u.started_at) as outcomes "
        "from upload u join batch b on (b.account, b.id) = (u.account, u.batch_id) group by b.login"
    )
    return {row["login"]: row["outcomes"] for row in rows}


async def appends_wait(world: World) -> bool:
    """Say whether an append waits for the lock of the log."""
    return bool(await world.value("select count(*) from pg_locks where locktype = 'advisory' and not granted"))


async def both_upload(sim: BmeSim) -> bool:
    """Say whether both contracts hold an upload."""
    return {u.contract for u in sim.record.uploads if u.fault and u.status is None} == set(LOGINS)
