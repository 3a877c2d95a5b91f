"""The fence: every event up to it is visible or will never exist, whoever commits last."""

import asyncio
import time

import pytest

from relay.events import Operation
from relay.store import Cut
from relay.store.lanes import FENCE_TIMEOUT_MS
from tests.integration.store.made import Bench, raw_append, raw_connection

U = Operation.UPSERT


async def test_a_fresh_sequence(bench: Bench) -> None:
    """Before the first event the fence is 0, after it the event's id, which is 1; a cut at 0 does nothing."""
    assert await bench.store.fence() == 0
    lease = await bench.lease()
    assert (await bench.cut(lease, U)).batch_id is None
    assert (await bench.cursor(U))["position"] == 0
    assert await bench.say(U, "a") == 1
    assert await bench.store.fence() == 1
    batch = await bench.filed(lease, U)
    assert (batch.cut_from, batch.cut_to, batch.rows) == (0, 1, 1)


@pytest.mark.parametrize("ends", ["commit", "rollback"])
async def test_lower_ids_that_commit_last_are_not_skipped(bench: Bench, ends: str) -> None:
    """While an append with lower ids is under way there is no fence; afterwards a cut has what it committed."""
    lease = await bench.lease()
    async with raw_connection(bench.url) as slow:
        transaction = slow.transaction()
        await transaction.start()
        lower = await raw_append(slow, bench.event(U, "slow"))
        higher = await bench.say(U, "fast")
        assert lower < higher
        started = time.monotonic()
        assert await bench.store.fence() is None
        assert time.monotonic() - started >= FENCE_TIMEOUT_MS / 1000
        await (transaction.commit() if ends == "commit" else transaction.rollback())
        assert await bench.store.fence() == higher
    batch = await bench.filed(lease, U)
    assert (batch.cut_to, batch.rows) == (higher, 2 if ends == "commit" else 1)


async def test_ids_that_nobody_committed_are_passed(bench: Bench) -> None:
    """Ids that were drawn and rolled back never exist: the fence counts them, a cut finds nothing there."""
    async with raw_connection(bench.url) as failing:
        transaction = failing.transaction()
        await transaction.start()
        drawn = await raw_append(failing, bench.event(U, "never"))
        await transaction.rollback()
    assert await bench.store.fence() == drawn
    lease = await bench.lease()
    before = await bench.dump()
    assert await bench.cut(lease, U) == Cut(None, 0)
    assert await bench.dump() == before


async def test_a_fence_that_is_waited_for_lets_appends_go_on(bench: Bench) -> None:
    """An append that comes while the fence waits is held up for no longer than the fence may wait."""
    async with raw_connection(bench.url) as slow:
        transaction = slow.transaction()
        await transaction.start()
        await raw_append(slow, bench.event(U, "slow"))
        fence = asyncio.create_task(bench.store.fence())
        waiting = "select 1 from pg_locks where locktype = 'advisory' and mode = 'ExclusiveLock' and not granted"
        while not fence.done() and not await bench.column(waiting):
            pass
        await bench.say(U, "fast")
        assert await fence is None
        await transaction.commit()


async def test_readers_do_not_hold_up_the_fence(bench: Bench) -> None:
    """A long read of the log, as a backup or a report does, is no append."""
    await bench.say(U, "a")
    async with raw_connection(bench.url) as reader, reader.transaction(isolation="repeatable_read", readonly=True):
        assert await reader.fetchval("select count(*) from event") == 1
        assert await bench.store.fence() == 1


async def test_nothing_is_lost_while_many_append_and_one_cuts(bench: Bench) -> None:
    """Transactions of all lengths, some rolled back, with cuts all the while: each event is in exactly one batch."""
    committed: set[int] = set()

    async def appending(number: int) -> None:
        async with raw_connection(bench.url) as connection:
            for turn in range(12):
                transaction = connection.transaction()
                await transaction.start()
                ids = {
                    await raw_append(connection, bench.event(U, f"c{number}-{turn}-{n}")) for n in range(turn % 4 + 1)
                }
                if (number + turn) % 5:
                    await transaction.commit()
                    committed.update(ids)
                else:
                    await transaction.rollback()

    lease = await bench.lease()
    batches, ended = [], False
    async with asyncio.TaskGroup() as group:
        appends = [group.create_task(appending(number)) for number in range(6)]
        while not ended:
            ended = all(task.done() for task in appends)
            cut = await bench.cut(lease, U)
            if cut.batch_id is not None:
                batches.append(cut.batch_id)
                await bench.execute(
                    "update batch set state = 'delivered', ended_at = now() where id = $1", cut.batch_id
                )
    filed = await bench.column(
        "select e.id from batch b join event e on e.account = b.account and e.id > b.cut_from and e.id <= b.cut_to"
    )
    assert len(batches) > 1, "the cuts came in between"
    assert sorted(filed) == sorted(committed)
    rows = await bench.row("select sum(rows)::bigint as rows from batch")
    assert rows["rows"] == len(committed)
