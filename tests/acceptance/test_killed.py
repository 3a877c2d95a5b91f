"""relay is killed with SIGKILL in the middle of uploads, and started again: the reader lists end right."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from relay.demo.customers import Customer, generate
from relay.demo.sim_bme import BmeContract, BmeSim
from relay.demo.sim_haihai import HaihaiContract, HaihaiSim
from relay.demo.sim_server import Sim
from relay.demo.traffic import Expected, Sent
from tests.acceptance.harness import World
from tests.acceptance.lists import differences, found, wanted
from tests.acceptance.narrows import Narrows
from tests.acceptance.processes import until
from tests.acceptance.settings_file import HEADERS, PASSWORD, account, bme, haihai

OPERATIONS = {"upsert": "customer.updated", "delete": "customer.deleted", "stop": "customer.stopped"}
WAYS = ("imported", "forgotten", "half", "later")
"""What becomes at the vendor of the file that was on its way: imported all the same, thrown away though it arrived
whole, only half arrived, or (at 配配メール) taken and imported later."""

CUSTOMERS = 200
CONCERNED = 120
"""So many of them are changed, deleted or stopped in the file at which relay is killed."""

PASSES = 4_000
"""Bytes of a request that come through where half of a file arrives: the head, and some of the lines."""

LEASE_S = 5.0

HELD_S = 12.0
"""Long enough for all uploads to be under way at once on a busy machine, and over before relay sends a file again: that
is not before the lease has ended, a third of it may be over already, and the first delay of 15 s less a tenth.
"""


class Vendors:
    """A vendor's contract for each way and operation."""

    def __init__(self) -> None:
        names = [f"{way}-{operation}" for way in WAYS[:3] for operation in OPERATIONS]
        self.bme = BmeSim(*(BmeContract(name, PASSWORD, PASSWORD, columns=tuple(HEADERS)) for name in names))
        columns = ("メールアドレス", *HEADERS)
        self.haihai = HaihaiSim(
            *(HaihaiContract(aid, "user", PASSWORD, columns=columns, calls_per_day=None) for aid in (1, 2, 3))
        )
        self.narrows = Narrows(0)

    def of(self, name: str) -> tuple[Sim, str]:
        """Return the server and the contract of a login."""
        way, operation = name.split("-")
        return (self.haihai, str(1 + list(OPERATIONS).index(operation))) if way == "later" else (self.bme, name)

    async def serve(self, stack: AsyncExitStack, world: World) -> None:
        """Serve them and write relay's settings: a login, an account, and for each operation a source to its ways."""
        bme_url = await stack.enter_async_context(self.bme.serve())
        haihai_url = await stack.enter_async_context(self.haihai.serve())
        self.narrows.server_port = int(bme_url.rpartition(":")[2])
        await stack.enter_async_context(self.narrows.serve())
        narrow_url = self.bme.base_url.replace(f":{self.narrows.server_port}", f":{self.narrows.port}")
        logins: dict[str, object] = {}
        accounts: dict[str, object] = {}
        for way in WAYS:
            for place, operation in enumerate(OPERATIONS, 1):
                name = f"{way}-{operation}"
                url = narrow_url if way == "half" else self.bme.base_url
                logins[name] = haihai(haihai_url, place) if way == "later" else bme(url, name)
                accounts[name] = account(name, "メールアドレス" if way == "later" else "E-Mail")
        sources = {op: [f"{way}-{op}" for way in WAYS] for op in OPERATIONS}
        world.write_settings(logins, accounts, {"all": list(accounts), **sources})

    def go_wrong(self) -> None:
        """Arm what keeps the next upload of every contract under way."""
        for operation in OPERATIONS:
            self.bme.faults.add(fault="slow", seconds=HELD_S, contract=f"imported-{operation}")
            self.bme.faults.add(fault="hang", contract=f"forgotten-{operation}")
            self.haihai.faults.add(
                fault="slow", seconds=HELD_S, contract=self.of(f"later-{operation}")[1], applied=True
            )
        self.narrows.bytes_max = PASSES

    def under_way(self) -> int:
        """Return how many uploads are held at a vendor or on the way."""
        met = [u for sim in (self.bme, self.haihai) for u in sim.record.uploads if u.fault and u.status is None]
        return len(met) + self.narrows.swallowed


def created(customers: list[Customer], begin: datetime) -> list[Sent]:
    """Make webhooks that create them all."""
    return [
        Sent(f"created-{number}", "customer.created", begin, customer.data())
        for number, customer in enumerate(customers)
    ]


def changed(customers: list[Customer], operation: str, now: datetime) -> list[Sent]:
    """Make webhooks that do one operation on the first of them."""
    return [
        Sent(
            f"{operation}-{number}",
            OPERATIONS[operation],
            now,
            replace(customer, name=f"{customer.name}様", plan="premium").data(),
        )
        for number, customer in enumerate(customers[:CONCERNED])
    ]


async def test_a_killed_relay_goes_on_where_it_was(world: World) -> None:
    """Killed in the middle of twelve uploads and started again, relay leaves every reader list right.

    It waits for the leases to run out, takes the uploads for unknown and sends them again, whatever became of them.
    """
    async with AsyncExitStack() as stack:
        vendors = Vendors()
        await vendors.serve(stack, world)
        relay = world.relay()
        await relay.start()
        customers = list(generate(CUSTOMERS, seed=2))
        begin = datetime.now(UTC) - timedelta(minutes=1)
        history = {operation: created(customers, begin) for operation in OPERATIONS}
        await world.post_many(relay, "all", history["upsert"])
        await world.settled(vendors.bme, vendors.haihai)

        vendors.go_wrong()
        for operation in OPERATIONS:
            webhooks = changed(customers, operation, begin + timedelta(seconds=10))
            history[operation] = history[operation] + webhooks
            await world.post_many(relay, operation, webhooks)

        async def all_are_under_way() -> bool:
            uploading = await world.value("select count(*) from batch where state = 'uploading'")
            return bool(vendors.under_way() == uploading == len(WAYS) * len(OPERATIONS))

        await until("all uploads are under way", all_are_under_way, HELD_S)
        await relay.kill()
        leases = {row["login"]: row["leased_until"] for row in await world.rows("select * from lane")}
        now = await world.value("select now()")
        assert all(lease <= now + timedelta(seconds=LEASE_S) for lease in leases.values())
        vendors.narrows.bytes_max = None

        await relay.start()
        await world.settled(vendors.bme, vendors.haihai)
        await _check_uploads(world, leases)
        _check_lists(vendors, history)
        assert await relay.stop() == 0
        assert list((world.directory / "relay-spool").iterdir()) == []


async def _check_uploads(world: World, leases: Mapping[str, datetime]) -> None:
    """Each upload was taken over when its lease ran out, counts as unknown, and was followed by one that went well."""
    rows = await world.rows(
        "select b.login, u.number, u.outcome, u.reason, u.ended_at, b.state from upload u "
        "join batch b on (b.account, b.id) = (u.account, u.batch_id) "
        "where (b.account, b.id) in (select account, max(id) from batch group by account) order by b.login, u.number"
    )
    uploads = {login: [row for row in rows if row["login"] == login] for login in leases}
    for login, (first, second) in uploads.items():
        good = ("accepted", "accepted") if login.startswith("later") else ("delivered", "delivered")
        assert first["outcome"] == "unknown"
        assert "taken over" in first["reason"]
        assert (second["outcome"], second["state"]) == good
        waited = first["ended_at"] - leases[login]
        assert timedelta() <= waited < timedelta(seconds=LEASE_S), f"{login} was taken over {waited} after its lease"
    assert await world.value("select count(*) from rejection") == 0
    taken_over = max(first["ended_at"] - leases[login] for login, (first, _) in uploads.items())
    world.measured(
        f"after SIGKILL the last lane was taken over {taken_over.total_seconds():.1f} s after its lease ended"
    )


def _check_lists(vendors: Vendors, history: Mapping[str, list[Sent]]) -> None:
    for operation, webhooks in history.items():
        expected = Expected()
        for webhook in webhooks:
            expected.hear(webhook)
        for way in WAYS:
            sim, contract = vendors.of(f"{way}-{operation}")
            assert differences(found(sim, contract), wanted(expected)) == {}, f"{way}-{operation}"
            assert sim.record.of(contract).overlaps == 0
