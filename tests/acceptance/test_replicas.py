"""Two `relay serve` on one database: they share the logins, and no login ever sees two uploads at once."""

import itertools
from collections import Counter
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

from relay.demo.sim_bme import BmeContract, BmeSim
from relay.demo.sim_haihai import HaihaiContract, HaihaiSim
from relay.demo.sim_server import Sim
from relay.demo.traffic import Expected, Sent, stream
from tests.acceptance.harness import World
from tests.acceptance.lists import differences, found, wanted
from tests.acceptance.senders import Sender
from tests.acceptance.settings_file import HEADERS, PASSWORD, account, bme, haihai

BME_LOGINS = 40
HAIHAI_LOGINS = 10
CUSTOMERS = 45
"""Of each login; they make some 70 webhooks."""

OVERLAPPING = """
with uploads as (
    select b.login, b.id, u.number, tstzrange(u.started_at, u.ended_at) as lasted
    from batch b join upload u on (u.account, u.batch_id) = (b.account, b.id)
)
select one.login, one.id as one, other.id as other
from uploads one
join uploads other on one.login = other.login and (one.id, one.number) < (other.id, other.number)
where one.lasted && other.lasted
"""


class Vendors:
    """Fifty contracts at two vendors, where every import takes some time."""

    def __init__(self) -> None:
        names = [f"user-{number}" for number in range(BME_LOGINS)]
        self.bme = BmeSim(
            *(BmeContract(name, PASSWORD, PASSWORD, columns=tuple(HEADERS), import_s=(0.05, 0.5)) for name in names)
        )
        columns = ("メールアドレス", *HEADERS)
        aids = range(1, HAIHAI_LOGINS + 1)
        self.haihai = HaihaiSim(
            *(
                HaihaiContract(aid, "user", PASSWORD, columns=columns, calls_per_day=None, import_delay_s=(0.0, 0.4))
                for aid in aids
            )
        )
        self.contracts: dict[str, tuple[Sim, str]] = {
            **{f"bme-{name}": (self.bme, name) for name in names},
            **{f"haihai-{aid}": (self.haihai, str(aid)) for aid in aids},
        }

    async def serve(self, stack: AsyncExitStack, world: World) -> None:
        """Serve them and write relay's settings: each login has an account, each account a source of its own."""
        await stack.enter_async_context(self.bme.serve())
        await stack.enter_async_context(self.haihai.serve())
        logins: dict[str, object] = {}
        accounts: dict[str, object] = {}
        for name, (sim, contract) in self.contracts.items():
            of_bme = sim is self.bme
            logins[name] = bme(self.bme.base_url, contract) if of_bme else haihai(sim.url, int(contract))
            accounts[name] = account(name, "E-Mail" if of_bme else "メールアドレス")
        world.write_settings(logins, accounts, {name: [name] for name in accounts})


async def test_two_replicas_share_fifty_logins_without_an_overlap(world: World) -> None:
    """Thousands of webhooks for fifty logins go to both replicas in turn, and both upload.

    No login sees two uploads at once, neither by the vendor's count nor by relay's own, and all reader lists are right.
    """
    async with AsyncExitStack() as stack:
        vendors = Vendors()
        await vendors.serve(stack, world)
        replicas = [world.relay("one"), world.relay("two")]
        for replica in replicas:
            await replica.spawn()
        for replica in replicas:
            await replica.ready()
        traffic = _traffic(list(vendors.contracts))
        sender = Sender(world, *replicas)
        await sender.send(traffic)
        await world.settled(vendors.bme, vendors.haihai)

        assert sender.statuses.keys() == {202}
        assert [dict(row) for row in await world.rows(OVERLAPPING)] == []
        assert {name: sim.record.of(contract).overlaps for name, (sim, contract) in vendors.contracts.items()} == (
            dict.fromkeys(vendors.contracts, 0)
        )
        expected = {name: Expected() for name in vendors.contracts}
        for source, webhook in traffic:
            expected[source].hear(webhook)
        for name, (sim, contract) in vendors.contracts.items():
            assert differences(found(sim, contract), wanted(expected[name])) == {}, name
        shares = {replica.name: Counter(s["login"] for s in replica.said("upload_settled")) for replica in replicas}
        uploads = await world.value("select count(*) from upload")
        assert sum(share.total() for share in shares.values()) == uploads
        for name, share in shares.items():
            assert len(share) >= len(vendors.contracts) // 5, f"{name} worked on {len(share)} logins only"
        assert not [line for replica in replicas for line in replica.said("lane_lost")]
        for replica in replicas:
            assert await replica.stop() == 0
        told = ", ".join(f"{name} made {share.total()} on {len(share)} logins" for name, share in shares.items())
        world.measured(f"two replicas, 50 logins: {len(sender.attempts)} webhooks, {uploads} uploads; {told}")


def _traffic(names: list[str]) -> list[tuple[str, Sent]]:
    """Make each account's webhooks and mix them, each account's own staying in their order."""
    begin = datetime.now(UTC) - timedelta(hours=1)
    streams = [[(name, webhook) for webhook in stream(CUSTOMERS, seed, begin)] for seed, name in enumerate(names)]
    mixed = itertools.zip_longest(*streams)
    return [entry for entries in mixed for entry in entries if entry is not None]
