"""The flusher through lost leases and outages, and to an orderly end."""

import asyncio
from pathlib import Path
from uuid import uuid4

import pytest

from relay.batches import Transient
from relay.demo.postgres import Cluster
from relay.errors import LaneLost, Unavailable
from relay.events import Operation
from relay.flush import LaneWorker, Worked
from relay.flush.lease import Kept, boot_clock_s
from relay.store import Lease
from tests.integration.faults import (
    Waiting,
    WatchedStore,
    batch_states,
    delays_pass,
    flusher,
    lease_runs_out,
    replica,
    running,
    say_to,
)
from tests.integration.model import Answering, Readers, delivering, settings, world
from tests.waiting import until

U, S = Operation.UPSERT, Operation.STOP


# -- lost leases -----------------------------------------------------------------------------------------------------


async def test_a_lease_is_renewed_while_an_upload_takes_its_time(database: str, tmp_path: Path) -> None:
    """However short the lease, nobody takes a lane whose owner lives."""
    async with world(database, tmp_path, settings(1)) as w:
        vendor = Waiting(held={"login-0"})
        await say_to(w, 0)
        plan, fence = w.plans["login-0"], await w.fence()
        working = asyncio.create_task(replica(w, vendor, lease_s=0.6).work(plan, fence))
        seen: set[object] = set()
        while len(seen) < 4:
            seen.add(await w.connection.fetchval("select leased_until from lane"))
            assert not await w.worker(delivering(Readers())).survey([plan], fence)
            assert not working.done()
            assert not vendor.under_way or vendor.under_way[0].lease_left_s() > 0
        vendor.go.set()
        assert (await working).outcome == "delivered"
        assert await w.connection.fetchval("select lease from lane") is None


async def test_a_renewal_that_finds_the_lane_lost_ends_the_lease_at_once(database: str, tmp_path: Path) -> None:
    """Nothing more may be sent from then on, though the lease would have lasted; one that succeeds prolongs it."""
    async with world(database, tmp_path, settings(1)) as w:
        leased_at = boot_clock_s() - 50
        lease = await w.store.lease_lane("login-0", uuid4(), 60, "any")
        assert lease is not None
        kept = Kept(lease, 60, leased_at)
        assert 0 < kept.left_s() <= 10
        await kept.renew(w.store)
        assert 50 < kept.left_s() <= 60
        await lease_runs_out(w)
        await w.store.lease_lane("login-0", uuid4(), 60, "any")
        with pytest.raises(LaneLost):
            await kept.renew(w.store)
        assert kept.left_s() <= 0


async def test_a_lost_lease_makes_a_result_forgotten(database: str, tmp_path: Path) -> None:
    """A replica that was away too long learns that its upload is nobody's business any more, and counts it."""
    async with world(database, tmp_path, settings(1)) as w:
        vendor = Waiting(held={"login-0"})
        first, second = replica(w, vendor, lease_s=0.6), replica(w, vendor)
        await say_to(w, 0)
        plan, fence = w.plans["login-0"], await w.fence()
        working = asyncio.create_task(first.work(plan, fence))
        await until(lambda: bool(vendor.under_way))
        await lease_runs_out(w)
        while not (taken := await second.work(plan, fence)).leased:
            await lease_runs_out(w)  # the owner may have renewed in between
        assert taken == Worked(leased=True, taken_over=True, outcome="unknown")
        await until(lambda: vendor.under_way[0].lease_left_s() <= 0)
        before = await w.connection.fetch("select b.*, u.*, c.* from batch b, upload u, cursor c")
        vendor.go.set()
        assert await working == Worked(leased=True)
        assert await w.connection.fetch("select b.*, u.*, c.* from batch b, upload u, cursor c") == before
        assert first.metrics.registry.get_sample_value("relay_lanes_lost_total", {"vendor": "haihai"}) == 1
        await delays_pass(w)
        assert (await second.work(plan, fence)).outcome == "delivered"


async def test_a_flusher_never_takes_its_own_lane_over(database: str, tmp_path: Path) -> None:
    """A lease that ran out, with nobody else to take it: the work that goes on is left alone, and its result counts."""
    async with world(database, tmp_path, settings(1)) as w, WatchedStore.open(database) as store:
        vendor = Waiting(held={"login-0"})
        await say_to(w, 0)
        async with running(flusher(w, replica(w, vendor, store=store))):
            await until(lambda: bool(vendor.under_way))
            await lease_runs_out(w)
            seen = store.rounds
            await until(lambda: store.rounds >= seen + 3)
            vendor.go.set()
            await until(lambda: vendor.ended == ["login-0"])
        outcomes = await w.connection.fetch("select outcome from upload")
        assert [row["outcome"] for row in outcomes] == ["delivered"]


async def test_an_upload_that_ends_for_a_lost_lease_is_no_error(database: str, tmp_path: Path) -> None:
    """The client raises LaneLost when the lease is over; the round goes on."""
    async with world(database, tmp_path, settings(1)) as w:

        def lost(*_: object) -> Transient:
            raise LaneLost("the lease ran out during an upload")

        await say_to(w, 0)
        flushed = await flusher(w, w.worker(Answering(lost))).flush_once()
        assert flushed.worked == {"login-0": Worked(leased=True)}


# -- outages and the end ---------------------------------------------------------------------------------------------


async def test_it_survives_postgres_being_away(database: str, cluster: Cluster, tmp_path: Path) -> None:
    """Rounds fail while Postgres is down, an upload that ends meanwhile is settled later, and all goes on by itself."""
    async with world(database, tmp_path, settings(2)) as w, WatchedStore.open(database) as store:
        vendor = Waiting(held={"login-1"})
        worker = replica(w, vendor, store=store)
        one = flusher(w, worker)
        await say_to(w, 0, 1)
        async with running(one):
            await until(lambda: vendor.ended == ["login-0"] and len(vendor.under_way) == 1)
            async with cluster.interrupted():
                vendor.go.set()
                await until(lambda: vendor.ended == ["login-0", "login-1"])
                one.wake()
                await until(lambda: store.missed > 0)
            await say_to(w, 0, 1)

            def woken() -> bool:
                one.wake()
                return len(vendor.ended) == 4

            await until(woken)
        async with w.store.connection() as connection:
            ended = await connection.fetch("select state, count(*) from batch group by state")
            outcomes = await connection.fetch("select outcome, count(*) from upload group by outcome")
        assert [tuple(row) for row in ended] == [("delivered", 4)]
        assert [tuple(row) for row in outcomes] == [("delivered", 4)]
        assert worker.metrics.registry.get_sample_value("relay_round_errors_total") == 0, "an outage is no bug"


async def test_a_lane_that_could_not_be_given_back_is_worked_on_by_its_owner(database: str, tmp_path: Path) -> None:
    """Postgres was away at the moment of the release: the lane does not stand still until the lease runs out."""

    class Forgetful(WatchedStore):
        async def release_lane(self, lease: Lease) -> None:
            raise Unavailable(f"no release of {lease.login}")

    async with world(database, tmp_path, settings(1)) as w, Forgetful.open(database) as store:
        vendor = Waiting()
        await say_to(w, 0)
        async with running(flusher(w, replica(w, vendor, store=store))):
            await until(lambda: len(vendor.ended) == 1)
            await say_to(w, 0)
            await until(lambda: len(vendor.ended) == 2)


async def test_a_bug_in_one_lane_stops_no_other(database: str, tmp_path: Path) -> None:
    """An unexpected error is counted and logged; the loop and the other lanes go on."""
    async with world(database, tmp_path, settings(2)) as w:
        vendor = Waiting()

        class Broken(LaneWorker):
            async def work(self, plan: object, fence: int) -> Worked:
                if plan is w.plans["login-0"]:
                    raise ValueError("a bug")
                return await super().work(plan, fence)  # type: ignore[arg-type]

        worker = replica(w, vendor)
        broken = Broken(worker.store, worker.spool, vendor, worker.metrics, worker.owner, 60)
        await say_to(w, 0, 1)
        async with running(flusher(w, broken)):
            await until(lambda: (worker.metrics.registry.get_sample_value("relay_round_errors_total") or 0) > 2)
            await until(lambda: vendor.ended == ["login-1"])


async def test_stopping_lets_uploads_end(database: str, tmp_path: Path) -> None:
    """Nothing new is begun after `stop`; what is under way ends and is settled within the grace."""
    async with world(database, tmp_path, settings(2)) as w:
        vendor = Waiting(held={"login-0"})
        one = flusher(w, replica(w, vendor))
        await say_to(w, 0)
        run = asyncio.create_task(one.run())
        await until(lambda: bool(vendor.under_way))
        one.stop()
        await say_to(w, 1)
        await until(lambda: bool(vendor.under_way) and not run.done())
        vendor.go.set()
        await run
        assert await batch_states(w) == {"login-0": {"delivered"}}


async def test_stopping_gives_up_uploads_that_take_too_long(database: str, tmp_path: Path) -> None:
    """After the grace an upload is settled as unknown, for it may have arrived, and its lane is free at once."""
    async with world(database, tmp_path, settings(2)) as w:
        vendor = Waiting(held={"login-0", "login-1"})
        one = flusher(w, replica(w, vendor), grace_s=0.01)
        await say_to(w, 0, 1)
        async with running(one):
            await until(lambda: len(vendor.under_way) == 2)
        assert await batch_states(w) == {"login-0": {"waiting"}, "login-1": {"waiting"}}
        uploads = await w.connection.fetch("select outcome, reason from upload")
        assert {tuple(row) for row in uploads} == {("unknown", "relay was stopped during the upload")}
        assert await w.connection.fetchval("select count(*) from lane where leased_until > now()") == 0
        assert await w.connection.fetchval("select min(sent_to) > 0 from cursor join batch using (account, operation)")


async def test_being_cancelled_is_as_orderly(database: str, tmp_path: Path) -> None:
    """Who cancels `run` gets the same: uploads settled as unknown, lanes free."""
    async with world(database, tmp_path, settings(1)) as w:
        vendor = Waiting(held={"login-0"})
        await say_to(w, 0)
        run = asyncio.create_task(flusher(w, replica(w, vendor)).run())
        await until(lambda: bool(vendor.under_way))
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert await batch_states(w) == {"login-0": {"waiting"}}
        assert await w.connection.fetchval("select lease from lane") is None
