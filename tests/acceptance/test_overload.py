"""Far more comes than Postgres takes: relay holds only so much, says so at once, and goes on as soon as it can."""

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import Callable
from time import monotonic

import aiohttp

from relay.demo.postgres import Cluster
from tests.acceptance.harness import World
from tests.acceptance.processes import Relay, until
from tests.acceptance.settings_file import account, bme
from tests.acceptance.test_postgres_gone import ANSWER_S_MAX, SOURCE, frozen

WAITING_EVENTS_MAX = 2_000
AT_ONCE = 100
"""Senders, each with one request after the other."""

MANY = 100
"""Webhooks in each of them."""

FROZEN_S = 4.5
"""Longer than an append is waited for, so that one is given up."""

BACK_WITHIN_S = 1.5
GROWTH_BYTES_MAX = 40_000_000
"""What AT_ONCE requests take while they are read and mapped, twice over; what is refused must not stay (1 kB each)."""


class Flood:
    """Senders that neither wait as they are told nor send anything a second time."""

    def __init__(self, world: World, relay: Relay) -> None:
        self.statuses: Counter[int] = Counter()
        self.seconds: list[float] = []
        self.acknowledged: set[str] = set()
        self._world = world
        self._relay = relay
        self._numbers = itertools.count()

    async def send(self, wanted: Callable[[], bool], senders: int = AT_ONCE) -> None:
        """Send as long as it is wanted."""

        async def work() -> None:
            while wanted():
                await self.once()

        async with asyncio.TaskGroup() as group:
            for _ in range(senders):
                group.create_task(work())

    async def once(self) -> None:
        """Send one request."""
        number = next(self._numbers)
        webhooks = [
            {"id": f"{number}-{n}", "type": "customer.created", "data": {"email": "taro@example.jp", "name": "太郎"}}
            for n in range(MANY)
        ]
        began = monotonic()
        path = f"/v1/webhooks/{SOURCE}/batch"
        status, _, _ = await self._world.post(self._relay, path, f"many-{number}", json.dumps(webhooks).encode())
        self.seconds.append(monotonic() - began)
        self.statuses[status] += 1
        if status == 202:
            self.acknowledged.update(f"{number}-{n}" for n in range(MANY))


async def test_a_frozen_database_under_a_flood(world: World, cluster: Cluster) -> None:
    """Thousands of webhooks that nobody takes: each is refused in time, memory stays, and recovery is immediate."""
    news = account("blast", flush_after_s=3600, flush_opt_outs_after_s=3600)
    world.write_settings({"blast": bme("http://127.0.0.1:9", "user")}, {"news": news})
    relay = world.relay(RELAY_WAITING_EVENTS_MAX=str(WAITING_EVENTS_MAX))
    await relay.start()
    calm, flood, after = Flood(world, relay), Flood(world, relay), Flood(world, relay)
    await calm.send(lambda: calm.statuses.total() < AT_ONCE, senders=3)
    before = relay.peak_bytes()
    async with frozen(cluster):
        end = monotonic() + FROZEN_S
        await flood.send(lambda: monotonic() < end)
        assert await relay.ops("/healthz") == 200
    thawed = monotonic()
    await until("webhooks are taken again", lambda: taken(after))
    back_s = monotonic() - thawed
    growth = relay.peak_bytes() - before
    refused = flood.statuses[503]
    world.measured(
        f"{refused * MANY} webhooks refused in {FROZEN_S} s, the slowest after {max(flood.seconds):.1f} s; "
        f"{growth / 1e6:.0f} MB more memory; taken again after {back_s:.1f} s"
    )
    assert flood.statuses.keys() <= {202, 503}
    assert refused * MANY > 5 * WAITING_EVENTS_MAX
    assert max(flood.seconds) < ANSWER_S_MAX
    assert growth < GROWTH_BYTES_MAX
    assert back_s < BACK_WITHIN_S
    assert await met(relay, "waiting_events") > 0
    assert len(relay.said("append_unavailable")) <= 4
    assert calm.acknowledged | flood.acknowledged | after.acknowledged <= await world.in_log(SOURCE)
    assert await relay.stop() == 0


async def taken(flood: Flood) -> bool:
    """Send once, and say whether anything has been taken."""
    await flood.once()
    return flood.statuses[202] > 0


async def met(relay: Relay, limit: str) -> float:
    """Read how often a limit was met."""
    async with aiohttp.request("GET", f"{relay.ops_url}/metrics") as response:
        lines = (await response.text()).splitlines()
    return next(
        float(line.split()[1]) for line in lines if line.startswith(f'relay_limits_met_total{{limit="{limit}"}}')
    )
