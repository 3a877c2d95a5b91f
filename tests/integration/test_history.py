"""The history: what was received and what ended, in bins that add up, of which the complete ones are remembered."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import asyncpg
import pytest

from relay.batches import Accepted, Delivered, LineRejection
from relay.events import Operation
from relay.status.remembering import ACCOUNTS_MAX, BIN_S, COMPLETE_AFTER_S, SPAN_MAX_S, Remembered
from relay.store.database import sql
from tests.integration.store.test_queries import work_of
from tests.integration.telling import ACCOUNT, Desk, Json, desk, told_settings

UPSERT, STOP = Operation.UPSERT, Operation.STOP
COUNTS = ("received", "delivered", "accepted", "rejected")

EVENTS_AGO = """
insert into event (account, source, message_id, digest, operation, customer, layout, line, occurred_at, received_at)
select $1, 'crm', format('ago-%s-%s', $2::float8, n), '\\x00', 'upsert', '\\x00', 1, '\\x610d0a', now(),
       now() - make_interval(secs => $2)
from generate_series(1, $3::int) n
"""
"""Events of an account ($1) received so many seconds ago ($2)."""


async def history(d: Desk, query: str = "") -> list[dict[str, Json]]:
    """The bins as they are told, the oldest first."""
    bins: list[dict[str, Json]] = (await d.get(f"/v1/history{query}", by="reader"))["bins"]
    return bins


async def sums(d: Desk, query: str = "") -> dict[str, int]:
    """What all bins come to."""
    bins = await history(d, query)
    return {name: sum(one[name] for one in bins) for name in COUNTS}


# -- what is counted -------------------------------------------------------------------------------------------------


async def test_what_was_received_and_what_became_of_it(database: str, tmp_path: Path) -> None:
    """Events by their receipt, lines by the end of their file, less the refused, of one account or of all."""
    async with desk(database, tmp_path, told_settings(2)) as d:
        await d.append(*((UPSERT, f"c{n}@example.jp") for n in range(5)), now=True)
        await d.flush(Delivered((LineRejection(2, "no"), LineRejection(4, "no"))))
        await d.append(*((UPSERT, f"d{n}@example.jp") for n in range(3)), now=True)
        await d.flush(Accepted())
        await d.append((UPSERT, "e@example.jp"), now=True)
        of_account = {"received": 9, "delivered": 3, "accepted": 3, "rejected": 2}
        assert await sums(d, f"?account={ACCOUNT}") == of_account
        assert await sums(d) == of_account
        assert await sums(d, "?account=account-1") == dict.fromkeys(COUNTS, 0)
        await d.w.connection_execute(EVENTS_AGO, "account-1", 0.0, 4)
        assert await sums(d) == {**of_account, "received": 13}
        assert (await sums(d, "?account=account-1"))["received"] == 4


async def test_what_is_appended_again_was_not_received_again(database: str, tmp_path: Path) -> None:
    """A stop that goes up behind an upsert once more was one webhook, but two confirmed lines."""
    async with desk(database, tmp_path, told_settings()) as d:
        await d.append((STOP, "taro@example.jp"), (UPSERT, "taro@example.jp"), now=True)
        await d.flush()
        again = await d.w.connection.fetchval("select count(*) from event where again_of is not null")
        assert again == 1
        assert await sums(d) == {"received": 2, "delivered": 3, "accepted": 0, "rejected": 0}


async def test_what_nobody_confirmed_is_not_delivered(database: str, tmp_path: Path) -> None:
    """Lines that may only echo an earlier upload are neither delivered nor rejected; replaced files count nothing."""
    async with desk(database, tmp_path, told_settings()) as d:
        await d.append(*((UPSERT, f"c{n}@example.jp") for n in range(4)), now=True)
        await d.flush(Delivered((LineRejection(2, "no"), LineRejection(3, "there"), LineRejection(4, "there"))))
        assert await sums(d) == {"received": 4, "delivered": 1, "accepted": 0, "rejected": 3}
        await d.w.connection_execute("update rejection set unconfirmed = true where message = 'there'")
        await d.w.connection_execute("update batch set rejected = 1")  # as a settlement counts them
        assert await sums(d) == {"received": 4, "delivered": 1, "accepted": 0, "rejected": 1}
        await d.w.connection_execute("update batch set state = 'replaced'")
        assert await sums(d) == {"received": 4, "delivered": 0, "accepted": 0, "rejected": 0}


# -- bins ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("hours", "bin_s", "bins"), [(1, 300, 12), (6, 300, 72), (24, 900, 96), (48, 1800, 96)])
async def test_bins_are_equal_and_whole(database: str, tmp_path: Path, hours: int, bin_s: int, bins: int) -> None:
    """One behind the other from so many hours ago to now, each at the same places of the clock."""
    async with desk(database, tmp_path, told_settings()) as d:
        for ago_s in (60.0, hours * 3600 - bin_s - 1.0, hours * 3600 + 1.0):  # the last lies before the first bin
            await d.w.connection_execute(EVENTS_AGO, ACCOUNT, ago_s, 1)
        told = await d.get(f"/v1/history?hours={hours}")
    assert (told["bin_s"], told["account"], len(told["bins"])) == (bin_s, None, bins)
    spans = [(datetime.fromisoformat(one["from"]), datetime.fromisoformat(one["to"])) for one in told["bins"]]
    assert all(since.timestamp() % bin_s == 0 for since, _ in spans)
    assert {(until - since).total_seconds() for since, until in spans} == {bin_s}
    assert all(before[1] == after[0] for before, after in pairwise(spans))
    assert spans[-1][0] <= datetime.now(UTC) + timedelta(seconds=5)
    assert spans[-1][1] > datetime.now(UTC) - timedelta(seconds=5)
    assert sum(one["received"] for one in told["bins"]) == 2
    complete = [one["complete"] for one in told["bins"]]
    assert complete == sorted(complete, reverse=True)
    assert not complete[-1]
    assert complete[0]


async def test_without_hours_six_are_told(database: str, tmp_path: Path) -> None:
    """And neither none nor more than two days."""
    async with desk(database, tmp_path, told_settings()) as d:
        assert len(await history(d)) == 72
        for wrong in ("hours=0", "hours=49", "hours=1.5", "hours=-1", "account=UPPER", "days=1"):
            await d.problem(422, "GET", f"/v1/history?{wrong}")


# -- what is remembered ----------------------------------------------------------------------------------------------

LONG_AGO_S = 2.0 * 3600
"""In a bin that is complete, however the test's moment lies in its own."""


async def test_complete_bins_are_not_counted_again(database: str, tmp_path: Path) -> None:
    """What they came to is remembered, while the last ones are always counted anew; a longer look counts all anew."""
    async with desk(database, tmp_path, told_settings()) as d:
        await d.w.connection_execute(EVENTS_AGO, ACCOUNT, LONG_AGO_S, 3)
        assert (await sums(d, "?hours=6"))["received"] == 3
        await d.w.connection_execute(EVENTS_AGO, ACCOUNT, LONG_AGO_S + 1, 40)
        for ago_s in (0.0, COMPLETE_AFTER_S - 60.0):
            await d.w.connection_execute(EVENTS_AGO, ACCOUNT, ago_s, 1)
        assert (await sums(d, "?hours=6"))["received"] == 5
        assert (await sums(d, "?hours=3"))["received"] == 5
        assert (await sums(d, "?hours=24"))["received"] == 45
        assert (await sums(d, "?hours=6"))["received"] == 45


async def test_a_gap_is_never_left(database: str, tmp_path: Path) -> None:
    """Who has not asked for longer than is asked for now gets everything, then and afterwards, not what lies around."""
    async with desk(database, tmp_path, told_settings()) as d:
        remembered = Remembered()
        await remembered.tell(d.w.store, None, span_s=3600, step_s=BIN_S)
        known = remembered._known  # noqa: SLF001 (only time could move it)
        known[None] = [replace(one, begins_at=one.begins_at - timedelta(hours=39)) for one in known[None]]
        for ago_s in (0.0, LONG_AGO_S, 20.0 * 3600):
            await d.w.connection_execute(EVENTS_AGO, ACCOUNT, ago_s, 1)
        for hours, received in ((6, 2), (40, 3)):
            told = await remembered.tell(d.w.store, None, span_s=hours * 3600, step_s=6 * BIN_S)
            assert {(two.begins_at - one.begins_at).total_seconds() for one, two in pairwise(told.bins)} == {BIN_S}
            assert told.bins[0].begins_at == told.oldest
            assert sum(one.received for one in told.bins) == received


async def test_what_is_remembered_is_bounded(database: str, tmp_path: Path) -> None:
    """However many accounts are asked for, and however long relay runs."""
    async with desk(database, tmp_path, told_settings()) as d:
        remembered = Remembered()
        for n in range(ACCOUNTS_MAX + 5):
            await remembered.tell(d.w.store, f"account-{n}", span_s=48 * 3600, step_s=6 * BIN_S)
        kept = remembered._known  # noqa: SLF001 (nobody can see it from outside)
        assert list(kept) == [f"account-{n}" for n in range(5, ACCOUNTS_MAX + 5)]
        assert max(map(len, kept.values())) <= SPAN_MAX_S // BIN_S + 1


# -- how it is found -------------------------------------------------------------------------------------------------

EVENTS = 60_000
DAYS = f"""
insert into event (account, source, message_id, digest, operation, customer, layout, line, occurred_at, received_at)
select 'account-' || n % 3, 'crm', n::text, '\\x00', 'upsert', '\\x00', 1, '\\x610d0a', now(),
       now() - interval '30 days' + n * interval '30 days' / {EVENTS}
from generate_series(1, {EVENTS}) n;
insert into batch
    (account, id, login, operation, layout, header, cut_from, cut_to, rows, bytes, state, oldest_received_at, ended_at)
select 'account-0', n, 'login-0', 'upsert', 1, '{{メール}}', n, n + 1, 50, 1000, 'delivered', now(),
       now() - interval '30 days' + n * interval '30 days' / 20000
from generate_series(1, 20000) n;
"""  # noqa: S608 (numbers of our own)


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
async def test_only_the_time_that_is_asked_for_is_read(database: str, tmp_path: Path, mode: str) -> None:
    """A month in the log costs no more than a day: events are found by their blocks, batches by their end."""
    async with desk(database, tmp_path, told_settings()) as d:
        async with d.w.store.connection() as connection:
            await connection.execute(DAYS)
        connection = d.w.connection
        await connection.execute("vacuum analyze event")  # which sums up the blocks, as autovacuum does
        await connection.execute("analyze batch")
        await connection.execute(f"set plan_cache_mode = {mode}")
        for since in ("null, null", "now() - interval '6 hours', now() - interval '10 minutes'"):
            plan = await plan_of(connection, f"300, 21600, 300, 'account-0', {since}")
            assert "event_received" in plan, plan
            assert "batch_ended" in plan, plan
            assert "Seq Scan on event" not in plan, plan
            assert "Seq Scan on batch" not in plan, plan
            assert work_of(plan) < EVENTS / 10, plan


async def plan_of(connection: asyncpg.Connection, args: str) -> str:
    """Explain the prepared query as it runs."""
    await connection.execute(f"prepare q as {sql('tell_history')}")
    rows = await connection.fetch(f"explain (analyze, costs off, timing off) execute q({args})")
    await connection.execute("deallocate q")
    return "\n".join(row[0] for row in rows)
