"""Receiving and flushing in processes of their own: together they do the work of one."""

import asyncio
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from relay.demo.sim_bme import BmeContract, BmeSim
from relay.demo.sim_haihai import HaihaiContract, HaihaiSim
from relay.demo.traffic import Expected, stream
from tests.acceptance.harness import World, signed
from tests.acceptance.lists import differences, found, wanted
from tests.acceptance.processes import Relay, until
from tests.acceptance.senders import Sender
from tests.acceptance.settings_file import HEADERS, PASSWORD, account, bme, haihai

CUSTOMERS = 60
UPLOADING = re.compile(r"relay_(batches|uploads|upload_bytes|logins|stage_seconds|confirmed_seconds|lanes_lost)_?")
"""Metrics of who uploads."""


async def series(world: World, relay: Relay) -> dict[str, float]:
    """Return all of a process's series."""
    async with world.session.get(f"{relay.ops_url}/metrics") as response:
        lines = (await response.text()).splitlines()
    told = (line.rpartition(" ") for line in lines if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in told}


def roles(told: Mapping[str, float]) -> dict[str, float]:
    """Return what a process says that it does."""
    return {name: told[f'relay_role{{role="{name}"}}'] for name in ("receive", "flush")}


def total(told: Mapping[str, float], name: str) -> float:
    """Sum up the series of a metric."""
    return sum(value for series, value in told.items() if series.partition("{")[0] == f"relay_{name}")


async def breakers(world: World, relay: Relay) -> list[object]:
    """Return how the vendors' hosts stand, as a process knows it, without the seconds."""
    logins = (await world.api(relay, "GET", "/v1/logins"))["logins"]
    return [login["breaker"] and login["breaker"]["state"] for login in logins]


async def test_one_receives_and_another_flushes(world: World) -> None:
    """What the one takes is delivered by the other, at two vendors, and both tell of it.

    The flushing one answers webhooks with a 503 that says when to come again. The receiving one uploads nothing, and
    says of the vendors' hosts that it does not know how they stand.
    """
    columns = ("メールアドレス", *HEADERS)
    blast = BmeSim(BmeContract("user", PASSWORD, PASSWORD, columns=tuple(HEADERS)))
    hai = HaihaiSim(HaihaiContract(1, "user", PASSWORD, columns=columns, calls_per_day=None))
    async with blast.serve(), hai.serve():
        world.write_settings(
            {"blast": bme(blast.base_url, "user"), "hai": haihai(hai.url, 1)},
            {"news": account("blast"), "shop": account("hai", "メールアドレス")},
        )
        receiving = world.relay("receiving", RELAY_ROLES="receive")
        flushing = world.relay("flushing", RELAY_ROLES="flush")
        await asyncio.gather(receiving.start(), flushing.start())

        begin = datetime.now(UTC) - timedelta(hours=1)
        traffic = [("crm", webhook) for webhook in stream(CUSTOMERS, 5, begin)]
        sender = Sender(world, receiving)
        await sender.send(traffic)
        await world.settled(blast, hai)
        assert sender.statuses.keys() == {202}
        expected = Expected()
        for _, webhook in traffic:
            expected.hear(webhook)
        for sim, contract in ((blast, "user"), (hai, 1)):
            assert differences(found(sim, contract), wanted(expected)) == {}, contract

        body = b'{"type": "customer.deleted", "data": {"email": "taro@example.jp"}}'
        for path in ("/v1/webhooks/crm", "/v1/webhooks/crm/batch"):
            async with world.session.post(flushing.url + path, data=body, headers=signed("late", body)) as answer:
                assert answer.status == 503
                assert int(answer.headers["Retry-After"]) > 0
                assert answer.content_type == "application/problem+json"
        assert "late" not in await world.in_log("crm")

        assert await breakers(world, receiving) == [None, None]
        assert await breakers(world, flushing) == ["closed", "closed"]
        await _told(world, receiving, flushing, len(traffic))
        assert await receiving.stop() == await flushing.stop() == 0
    assert not receiving.said("upload_settled")
    assert flushing.said("upload_settled")


async def _told(world: World, receiving: Relay, flushing: Relay, webhooks: int) -> None:
    """Each counts what it does, and nothing of what the other does."""

    async def each_is_confirmed_or_replaced() -> bool:
        taken, sent = await series(world, receiving), await series(world, flushing)
        ended = ("superseded_events_total", "rejections_total", "confirmed_seconds_count")
        return total(taken, "events_total") == sum(total(sent, name) for name in ended) > 0

    await until("each webhook's event is confirmed once, or replaced", each_is_confirmed_or_replaced)
    taken, sent = await series(world, receiving), await series(world, flushing)
    assert roles(taken) == {"receive": 1, "flush": 0}
    assert roles(sent) == {"receive": 0, "flush": 1}
    assert taken["relay_ready"] == sent["relay_ready"] == 1
    assert total(taken, "webhooks_total") == taken["relay_webhook_seconds_count"] == webhooks
    assert total(sent, "webhooks_total") == sent["relay_webhook_seconds_count"] == 0
    assert [name for name, value in taken.items() if UPLOADING.match(name) and value] == []
    for vendor, stage in (("blastmail", "delivered"), ("haihai", "accepted")):
        assert sent[f'relay_uploads_total{{outcome="{stage}",vendor="{vendor}"}}'] > 0
    assert taken['relay_database_connections_max{pool="append"}'] > 0
    assert sent['relay_database_connections_max{pool="append"}'] == 0
