"""The vendor's calls of a day: counted in Postgres, given back, and who waits for one."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from relay.batches import (
    AGAIN_MAX_S,
    Accepted,
    Busy,
    Day,
    Manifest,
    Outcome,
    Pace,
    Quota,
    Terms,
    Transient,
    Unknown,
    settle,
)
from relay.batches.outcomes import OUTCOMES
from relay.events import Operation
from relay.store import Lease
from relay.store.calls import read_day
from tests.integration.clock import JAPAN, Clock
from tests.integration.model import settings, world
from tests.integration.store.made import ACCOUNT, FINGERPRINT, LOGIN, Bench

U, D, S, A = Operation.UPSERT, Operation.DELETE, Operation.STOP, Operation.ALLOW
NOON = datetime(2026, 4, 1, 12, tzinfo=JAPAN)
TERMS = Terms(attempts_max=10, file_bytes_max=10_000_000, settle_after_s=0)
SHARED = Pace(240, 600.0)


@pytest.fixture
async def clock(database: str) -> AsyncIterator[Clock]:
    """Let it be noon in Japan."""
    connection = await asyncpg.connect(database)
    yield await Clock.install(connection, NOON)
    await connection.close()


@pytest.fixture
async def noon(clock: Clock, database: str, tmp_path: Path) -> AsyncIterator[Bench]:  # noqa: ARG001 - it comes first
    """Give a store with one login and one account, by the clock of the test."""
    async with world(database, tmp_path, settings(1)) as w:
        yield Bench(w, database)


async def day(bench: Bench) -> Day:
    """Read how the login stands in the vendor's day."""
    async with bench.store.connection() as connection:
        return await read_day(connection, LOGIN)


async def keep_back(bench: Bench, lease: Lease, pace: Pace, *, opt_outs: bool) -> float:
    """Keep the account's opt-outs or data back where they have to wait."""
    return await bench.store.keep_back(lease, [ACCOUNT], Operation, pace, opt_outs=opt_outs)


async def upload(bench: Bench, lease: Lease, batch: Manifest, outcome: Outcome) -> None:
    """Upload a batch, which ends so."""
    number = await bench.store.begin_upload(lease, batch, 240)
    assert number is not None
    settlement = settle(batch, outcome, TERMS)
    await bench.settle(lease, batch, settlement, outcome=OUTCOMES[type(outcome)], number=number)
    await bench.execute("update lane set not_before = '-infinity'")


async def test_the_vendor_s_day_is_japan_s(noon: Bench, clock: Clock) -> None:
    """Calls of another day do not count, and seconds are left until 00:00 in Japan, whatever the time zone here."""
    await noon.execute("update lane set calls = 7, calls_day = '2026-04-01', called_at = now() - interval '90 s'")
    assert await day(noon) == Day(7, 43_200.0, 90.0)
    await clock.set(NOON.replace(hour=23, minute=59, second=59))
    assert await day(noon) == Day(7, 1.0, 43_289.0)
    await clock.advance(1)
    assert await day(noon) == Day(0, 86_400.0, 43_290.0)
    await noon.execute("update lane set called_at = null")
    assert (await day(noon)).since_call_s == float("inf")
    [told] = (await noon.store.tell_lanes([LOGIN])).values()
    assert told.day == await day(noon), "the status API and the sampler tell the same"


async def test_who_is_kept_back_waits_and_nobody_else(noon: Bench) -> None:
    """All opt-outs of the login, or all of its data; attempts, longer delays and the lane are left alone."""
    lease = await noon.lease()
    await noon.execute("update lane set calls = 168, calls_day = '2026-04-01', called_at = now()")
    await noon.execute("update cursor set attempts = 3, not_before = now() + interval '2 h' where operation = 'delete'")
    assert await keep_back(noon, lease, SHARED, opt_outs=False) == AGAIN_MAX_S
    rows = await noon.connection.fetch(
        "select operation, wait_reason, extract(epoch from not_before - now())::int as s from cursor"
        " where not_before > now()"
    )
    assert {row["operation"]: (row["wait_reason"], row["s"]) for row in rows} == {
        "delete": ("", 7200),
        "upsert": ("quota", 600),
        "allow": ("quota", 600),
    }
    assert await keep_back(noon, lease, SHARED, opt_outs=True) == 1.0, "72 calls for 72 times 600 s"
    rows = await noon.connection.fetch("select operation, attempts from cursor where wait_reason = 'quota' order by 1")
    assert [tuple(row) for row in rows] == [("allow", 0), ("ban", 0), ("stop", 0), ("upsert", 0)]
    lane = await noon.lane()
    assert (lane["wait_reason"], lane["calls"]) == ("", 168)
    await noon.execute("update lane set calls = 167")
    assert await keep_back(noon, lease, SHARED, opt_outs=True) == 0.0


async def test_who_was_kept_back_keeps_his_place(noon: Bench, clock: Clock) -> None:
    """Among opt-outs that waited for a call the one goes first that came first, not the one that came last."""
    await noon.execute("update lane set calls = 240, calls_day = '2026-04-01', called_at = now()")
    first = await noon.say(S, "a")
    await noon.execute("alter table event disable trigger event_is_immutable")
    await noon.execute("update event set received_at = $2 where id = $1", first, NOON - timedelta(hours=1))
    lease = await noon.lease()
    assert await keep_back(noon, lease, SHARED, opt_outs=True) > 0
    await clock.advance(700)
    second = await noon.say(D, "b")
    await noon.execute("update event set received_at = $2 where id = $1", second, NOON + timedelta(seconds=690))
    targets = [noon.target(S), noon.target(D)]
    found = await noon.store.survey(targets, {LOGIN: FINGERPRINT}, await noon.w.fence(), lease.owner)
    ages = {candidate.operation: candidate.age_s for candidate in found}
    assert ages == {S: 4300.0, D: 10.0}


async def test_the_next_settlement_ends_the_reason(noon: Bench) -> None:
    """Once a file went up, its operation no longer waits for a call, whatever became of the file."""
    await noon.execute("update cursor set wait_reason = 'quota'")
    await noon.say(S, "a")
    lease = await noon.lease()
    await upload(noon, lease, await noon.filed(lease, S), Unknown("reset"))
    cursor = await noon.cursor(S)
    assert (cursor["wait_reason"], cursor["attempts"]) == ("", 1)
    [told] = [c for c in await noon.store.tell_cursors([ACCOUNT]) if c.operation is U]
    assert told.wait_reason == "quota"


async def test_a_call_that_never_reached_the_vendor_is_given_back(bench: Bench) -> None:
    """A refused connection costs no call, whatever may have reached the vendor does; a call of yesterday stays."""
    await bench.say(S, "a")
    lease = await bench.lease()
    batch = await bench.filed(lease, S)
    for outcome, calls in ((Transient("refused"), 0), (Unknown("reset"), 1), (Busy("429"), 2), (Transient("DNS"), 2)):
        await upload(bench, lease, batch, outcome)
        assert (await bench.lane())["calls"] == calls
    number = await bench.store.begin_upload(lease, batch, None)
    assert number is not None
    await bench.execute("update upload set started_at = started_at - interval '1 day' where number = $1", number)
    settlement = settle(batch, Transient("refused"), TERMS)
    await bench.settle(lease, batch, settlement, outcome="transient", number=number)
    assert (await bench.lane())["calls"] == 3, "the day of that call is over"


async def test_a_given_back_call_is_written_with_the_settlement(bench: Bench) -> None:
    """Whoever lost the lane gives nothing back."""
    await bench.say(S, "a")
    lease = await bench.lease()
    batch = await bench.filed(lease, S)
    number = await bench.store.begin_upload(lease, batch, 240)
    await bench.execute("update lane set leased_until = now()")
    await bench.lease()
    with pytest.raises(Exception, match=LOGIN):
        await bench.settle(lease, batch, settle(batch, Transient("x"), TERMS), outcome="transient", number=number or 0)
    assert (await bench.lane())["calls"] == 1


async def test_replicas_share_one_count(bench: Bench) -> None:
    """However many replicas take turns at a login, together they make no more calls than its day has."""
    for customer in "abcde":
        await bench.say(S, customer)
    begun = 0
    for _ in range(5):
        lease = await bench.lease()
        batch = await bench.filed(lease, S, rows_max=1)
        number = await bench.store.begin_upload(lease, batch, 3)
        begun += number is not None
        if number is not None:
            await bench.settle(lease, batch, settle(batch, Accepted(), TERMS), number=number)
        await bench.execute("update batch set state = 'replaced', ended_at = now() where ended_at is null")
        await bench.store.release_lane(lease)
    assert begun == 3


async def test_what_the_vendor_refused_is_remembered_for_a_week(noon: Bench, clock: Clock) -> None:
    """81404 below the limit: somebody else uses the login. The lane waits until midnight and counts on less."""
    await noon.execute("update lane set calls = 179, calls_day = '2026-04-01'")
    await noon.say(S, "a")
    lease = await noon.lease()
    batch = await noon.filed(lease, S)
    number = await noon.store.begin_upload(lease, batch, 240)
    await noon.settle(lease, batch, settle(batch, Quota("81404"), TERMS), outcome="quota", number=number or 0)
    lane = await noon.lane()
    assert lane["not_before"] == NOON.replace(hour=0, second=30) + timedelta(days=1)
    assert (await day(noon)).met == 179
    await clock.set(NOON + timedelta(days=6))
    assert await day(noon) == Day(0, 43_200.0, 6 * 86_400.0, 179)
    assert SHARED.left(await day(noon)) == 179
    await clock.advance(86_400)
    assert (await day(noon)).met is None, "perhaps nobody does any more"


async def test_just_after_midnight_the_vendor_may_still_be_in_the_day_before(noon: Bench, clock: Clock) -> None:
    """81404 in the first hour is asked again after five minutes: a clock that is behind must not cost a whole day."""
    await clock.set(NOON.replace(hour=0, minute=0, second=2))
    await noon.say(S, "a")
    lease = await noon.lease()
    batch = await noon.filed(lease, S)
    number = await noon.store.begin_upload(lease, batch, 240)
    await noon.settle(lease, batch, settle(batch, Quota("81404"), TERMS), outcome="quota", number=number or 0)
    lane = await noon.lane()
    assert lane["not_before"] == await clock.now() + timedelta(minutes=5)
    assert (await day(noon)).met is None


async def test_resuming_a_lane_without_calls_forgets_what_the_vendor_said(noon: Bench) -> None:
    """The operator knows better: the limit was raised. Another reason to resume leaves it as it is."""
    await noon.execute("update lane set met_calls = 100, met_day = '2026-04-01', wait_reason = 'busy'")
    await noon.store.resume_lane(LOGIN)
    assert (await day(noon)).met == 100
    await noon.execute("update lane set wait_reason = 'quota', not_before = now() + interval '3 h'")
    await noon.store.resume_lane(LOGIN)
    assert (await day(noon)).met is None
    assert await noon.column("select not_before <= now() from lane") == [True]
