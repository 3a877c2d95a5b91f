"""Postgres dies or freezes under load, or is not there yet: senders are told, nothing is lost, relay recovers."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from relay.demo.postgres import Cluster
from relay.demo.sim_bme import BmeContract, BmeSim
from relay.demo.sim_haihai import HaihaiContract, HaihaiSim
from relay.demo.traffic import Expected, Sent, stream
from tests.acceptance.harness import World
from tests.acceptance.lists import differences, found, wanted
from tests.acceptance.processes import until
from tests.acceptance.senders import Sender
from tests.acceptance.settings_file import HEADERS, PASSWORD, account, bme, haihai

CUSTOMERS = 1_500
AWAY_S = 6.0
"""Longer than a webhook may wait for its 503."""

ANSWER_S_MAX = 5.0
SOURCE = "crm"


class Vendors:
    """Two vendors with a contract each."""

    def __init__(self) -> None:
        self.bme = BmeSim(BmeContract("user", PASSWORD, PASSWORD, columns=tuple(HEADERS), import_s=(0.1, 0.3)))
        self.haihai = HaihaiSim(
            HaihaiContract(1, "user", PASSWORD, columns=("メールアドレス", *HEADERS), calls_per_day=None)
        )

    async def serve(self, stack: AsyncExitStack, world: World) -> None:
        """Serve them and write relay's settings."""
        bme_url = await stack.enter_async_context(self.bme.serve())
        assert bme_url
        haihai_url = await stack.enter_async_context(self.haihai.serve())
        world.write_settings(
            {"blast": bme(self.bme.base_url, "user"), "haihai": haihai(haihai_url, 1)},
            {"news": account("blast"), "letter": account("haihai", "メールアドレス")},
        )

    def check(self, webhooks: list[Sent]) -> None:
        """Fail unless both lists are what the webhooks say."""
        expected = Expected()
        for webhook in webhooks:
            expected.hear(webhook)
        assert differences(found(self.bme, "user"), wanted(expected)) == {}
        assert differences(found(self.haihai, 1), wanted(expected)) == {}


def traffic(customers: int, seed: int) -> list[Sent]:
    """Make the webhooks of so many customers."""
    return list(stream(customers, seed, datetime.now(UTC) - timedelta(hours=1)))


def children(parent: int) -> Iterator[int]:
    """Yield the ids of a process's children."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            after_name = stat.read_text().rpartition(")")[2].split()
            if int(after_name[1]) == parent:
                yield int(stat.parent.name)


@asynccontextmanager
async def frozen(cluster: Cluster) -> AsyncIterator[None]:
    """Stop all processes of the server for the length of the block: connections stay, and nobody answers."""
    stopped = []
    try:
        os.kill(cluster.server_pid, signal.SIGSTOP)  # first, so that it starts no more
        for pid in children(cluster.server_pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
                stopped.append(pid)
        yield
    finally:
        for pid in (cluster.server_pid, *stopped):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


async def under_load(world: World, outage: AbstractAsyncContextManager[None]) -> None:
    """Take Postgres away while senders are busy, bring it back, and check what was promised."""
    async with AsyncExitStack() as stack:
        vendors = Vendors()
        await vendors.serve(stack, world)
        relay = world.relay()
        await relay.start()
        webhooks = traffic(CUSTOMERS, seed=11)
        sender = Sender(world, relay)
        sending = asyncio.create_task(sender.send((SOURCE, webhook) for webhook in webhooks))
        await until("some are taken", lambda: enough(sender, 202, 400))
        async with outage:
            before = len(sender.attempts)
            await asyncio.sleep(AWAY_S)  # how long the outage lasts is what is tested
            meanwhile = sender.attempts[before:]
            assert not sending.done(), "the outage came too late"
            assert [attempt for attempt in meanwhile if attempt.status == 503], "nobody noticed the outage"
            assert await relay.ops("/healthz") == 200
            assert await relay.ops("/readyz") == 200
        await sending
        await world.settled(vendors.bme, vendors.haihai)
        assert sender.statuses.keys() == {202, 503}
        slowest = max(attempt.seconds for attempt in sender.attempts)
        assert slowest < ANSWER_S_MAX, f"an answer took {slowest:.1f} s"
        assert all(int(a.retry_after or 0) > 0 for a in sender.attempts if a.status == 503)
        assert sender.acknowledged == {webhook.message_id for webhook in webhooks} == await world.in_log(SOURCE)
        vendors.check(webhooks)
        assert await relay.stop() == 0
        world.measured(f"answers while Postgres was away: {dict(sender.statuses)}, the slowest took {slowest:.1f} s")


async def enough(sender: Sender, status: int, count: int) -> bool:
    """Say whether a status was answered so often."""
    return sender.statuses[status] >= count


async def test_postgres_crashes_under_load(world: World, cluster: Cluster) -> None:
    """Postgres dies and comes back: each webhook is answered 202, or 503 with Retry-After, within five seconds.

    What got a 202 is in the log, relay goes on by itself, and the reader lists are right.
    """
    await under_load(world, cluster.interrupted())


async def test_postgres_freezes_under_load(world: World, cluster: Cluster) -> None:
    """Postgres keeps its connections but answers nothing: the same is promised."""
    await under_load(world, frozen(cluster))


async def test_relay_starts_before_postgres(world: World, cluster: Cluster) -> None:
    """Started without Postgres, relay is alive but not ready, answers 503, and becomes ready when Postgres comes."""
    async with AsyncExitStack() as stack:
        vendors = Vendors()
        await vendors.serve(stack, world)
        relay = world.relay()
        webhooks = traffic(20, seed=3)
        sender = Sender(world, relay)
        async with cluster.interrupted():
            await relay.spawn()
            await relay.says("postgres_unavailable")
            assert await relay.ops("/healthz") == 200
            assert await relay.ops("/readyz") == 503
            attempt = await sender.once(SOURCE, "early", b"{}")
            assert (attempt.status, attempt.retry_after is not None) == (503, True)
        await relay.ready()
        await sender.send((SOURCE, webhook) for webhook in webhooks)
        await world.settled(vendors.bme, vendors.haihai)
        vendors.check(webhooks)
        assert await relay.stop() == 0


async def test_relay_can_be_stopped_while_it_waits_for_postgres(world: World, cluster: Cluster) -> None:
    """SIGTERM ends a relay that has not found Postgres yet, with exit code 0."""
    async with AsyncExitStack() as stack:
        await Vendors().serve(stack, world)
        relay = world.relay()
        async with cluster.interrupted():
            await relay.spawn()
            await relay.says("postgres_unavailable")
            assert await relay.stop() == 0
