"""Lanes: one replica at a time works a login, and who lost its lane changes nothing any more."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta, timezone
from uuid import uuid4

import pytest

from relay.batches import Manifest, Pace
from relay.errors import Conflict, LaneLost
from relay.events import Operation
from relay.store import Lease
from tests.integration.store.made import ACCOUNT, FINGERPRINT, LOGIN, Bench, raw_connection, settled

U, S = Operation.UPSERT, Operation.STOP
JAPAN = timezone(timedelta(hours=9))


async def test_one_replica_has_the_lane(bench: Bench) -> None:
    """Of many that ask at once exactly one gets it, turn after turn, each time with a higher generation."""
    for generation in range(1, 11):
        owners = [uuid4() for _ in range(10)]
        leases = await asyncio.gather(*(bench.store.lease_lane(LOGIN, owner, 60, FINGERPRINT) for owner in owners))
        won = [lease for lease in leases if lease is not None]
        assert [lease.generation for lease in won] == [generation]
        lane = await bench.lane()
        assert (lane["lease"], lane["generation"]) == (won[0].owner, generation)
        await bench.store.release_lane(won[0])
    assert await bench.store.lease_lane("unheard of", uuid4(), 60, FINGERPRINT) is None


async def test_a_lease_that_has_run_out_is_taken_over(bench: Bench) -> None:
    """Before that nobody else gets the lane, however often the owner renews; after it, the next one does."""
    lease = await bench.lease(lease_s=0.2)
    await bench.store.renew_lane(lease, 3600)
    assert await bench.store.lease_lane(LOGIN, uuid4(), 60, FINGERPRINT) is None
    left_s = await bench.column("select extract(epoch from leased_until - now())::float8 from lane")
    assert 3590 < left_s[0] <= 3600
    await bench.execute("update lane set leased_until = now()")
    successor = await bench.lease()
    assert successor.generation == lease.generation + 1
    with pytest.raises(LaneLost):
        await bench.store.renew_lane(lease, 60)
    await bench.store.release_lane(lease)
    lane = await bench.lane()
    assert (lane["lease"], lane["generation"]) == (successor.owner, successor.generation)


async def test_the_same_owner_with_an_old_generation_has_lost(bench: Bench) -> None:
    """A replica that lost a lane and got it back must not finish what it began the first time."""
    first = await bench.lease()
    await bench.execute("update lane set leased_until = now()")
    second = await bench.store.lease_lane(LOGIN, first.owner, 60, FINGERPRINT)
    assert second == Lease(LOGIN, first.owner, first.generation + 1)
    with pytest.raises(LaneLost):
        await bench.store.keep_back(first, [ACCOUNT], [S], SPENT, opt_outs=True)


SPENT = Pace(0, 600.0)
"""A day without calls."""

Write = Callable[[Bench, Lease, Manifest], Awaitable[object]]
WRITES: dict[str, Write] = {
    "cut": lambda bench, lease, _: bench.cut(lease, S),
    "uncut": lambda bench, lease, batch: bench.store.uncut(lease, ACCOUNT, batch.id, "too late"),
    "spooled": lambda bench, lease, batch: bench.store.spooled(lease, batch, "ab" * 32),
    "begin_upload": lambda bench, lease, batch: bench.store.begin_upload(lease, batch, None),
    "keep_back": lambda bench, lease, _: bench.store.keep_back(lease, [ACCOUNT], [S], SPENT, opt_outs=True),
    "renew_lane": lambda bench, lease, _: bench.store.renew_lane(lease, 60),
}


@pytest.mark.parametrize("how", ["taken over", "given back", "given to itself"])
async def test_every_write_with_an_old_lease_changes_nothing(bench: Bench, how: str) -> None:
    """The lane is another's, or nobody's: each write raises LaneLost and leaves every table as it was."""
    await bench.say(U, "a")
    await bench.say(S, "b")
    old = await bench.lease()
    waiting = await bench.filed(old, U)
    if how == "given back":
        await bench.store.release_lane(old)
    else:
        await bench.execute("update lane set leased_until = now()")
        await bench.store.lease_lane(LOGIN, old.owner if how == "given to itself" else uuid4(), 60, FINGERPRINT)
    before = await bench.dump()
    for name, write in WRITES.items():
        with pytest.raises(LaneLost):
            await write(bench, old, waiting)
        assert await bench.dump() == before, name


async def test_a_result_is_forgotten_when_the_lane_is_lost(bench: Bench) -> None:
    """What an upload came to is not written once another replica has the lane: for that one it is unknown."""
    await bench.say(U, "a")
    old = await bench.lease()
    batch = await bench.uploading(old, U)
    await bench.execute("update lane set leased_until = now()")
    new = await bench.lease()
    before = await bench.dump()
    with pytest.raises(LaneLost):
        await bench.settle(old, batch, settled("delivered", send_again=True))
    assert await bench.dump() == before
    await bench.settle(new, batch, settled("waiting"), outcome="unknown")
    assert (await bench.store.manifest(ACCOUNT, batch.id)).state == "waiting"


async def test_nobody_gets_the_lane_while_its_work_is_being_written(bench: Bench) -> None:
    """A lease that runs out during a write is not lost before the commit."""
    lease = await bench.lease()
    async with bench.store.holding(lease):
        await asyncio.wait_for(bench.w.fence(), 5)
        assert await bench.store.lease_lane(LOGIN, uuid4(), 60, FINGERPRINT) is None
        async with raw_connection(bench.url) as other:
            await other.execute("set lock_timeout = 50")
            expire = other.execute("update lane set leased_until = now()")
            with pytest.raises(Exception, match="lock timeout"):
                await expire


@pytest.mark.parametrize("reason", ["unauthorized", "misconfigured"])
async def test_a_paused_lane_goes_on_with_other_settings(bench: Bench, reason: str) -> None:
    """Replicas with the settings that failed stay out; one with others may try, until an operator says so."""
    await bench.say(U, "a")
    lease = await bench.lease()
    batch = await bench.uploading(lease, U)
    await bench.settle(lease, batch, settled("waiting", pause=reason, proven=False), outcome=reason)
    await bench.store.release_lane(lease)
    lane = await bench.lane()
    assert (lane["pause_reason"], lane["pause_detail"], lane["paused_fingerprint"]) == (reason, "a reason", FINGERPRINT)
    assert lane["paused_at"] is not None
    assert await surveyed(bench, FINGERPRINT) == []
    assert await surveyed(bench, "mended settings") == [U]
    assert await bench.store.lease_lane(LOGIN, uuid4(), 60, FINGERPRINT) is None
    await bench.store.release_lane(await bench.lease(fingerprint="mended settings"))
    await bench.execute("update lane set paused_at = now(), pause_reason = 'operator'")
    for fingerprint in (FINGERPRINT, "mended settings"):
        assert await bench.store.lease_lane(LOGIN, uuid4(), 60, fingerprint) is None
        assert await surveyed(bench, fingerprint) == []


async def surveyed(bench: Bench, fingerprint: str) -> list[Operation]:
    """Name the operations that a replica with these settings would see."""
    found = await bench.store.survey([bench.target(U)], {LOGIN: fingerprint}, await bench.w.fence())
    return [candidate.operation for candidate in found]


async def test_a_lane_waits_until_its_time(bench: Bench) -> None:
    """`not_before` keeps the lane out of surveys and out of everybody's hands."""
    await bench.say(U, "a")
    await bench.execute("update lane set not_before = now() + interval '1 hour'")
    assert await bench.store.lease_lane(LOGIN, uuid4(), 60, FINGERPRINT) is None
    assert await surveyed(bench, FINGERPRINT) == []
    await bench.execute("update lane set not_before = now()")
    assert await surveyed(bench, FINGERPRINT) == [U]
    await bench.lease()


async def test_calls_are_counted_by_the_day_in_japan(bench: Bench) -> None:
    """Each upload counts; the one above the quota is not begun; the next day in Japan begins at nought."""
    await bench.say(U, "a")
    lease = await bench.lease()
    batch = await bench.filed(lease, U)

    async def begin(calls_per_day: int | None) -> int | None:
        number = await bench.store.begin_upload(lease, batch, calls_per_day)
        await bench.execute("update batch set state = 'waiting' where id = $1", batch.id)
        return number

    assert [await begin(2), await begin(2), await begin(2), await begin(2)] == [1, 2, None, None]
    assert await begin(3) == 3
    lane = await bench.lane()
    today = datetime.now(JAPAN).date()
    assert (lane["calls"], lane["calls_day"]) == (3, today)
    await bench.execute("update lane set calls_day = $1", today - timedelta(days=1))
    assert await begin(1) == 4
    assert (await bench.lane())["calls"] == 1
    assert await begin(1) is None
    assert await begin(None) == 5, "a vendor without a quota"
    await bench.execute("update batch set state = 'delivered', ended_at = now()")
    calls = (await bench.lane())["calls"]
    with pytest.raises(Conflict):
        await bench.store.begin_upload(lease, batch, None)
    assert (await bench.lane())["calls"] == calls, "what was not begun is not counted"
