"""Settling: all that follows from an outcome is written in one go, and dead letters wait for an operator."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from relay.batches import (
    OPEN,
    TRANSITIONS,
    BatchState,
    Cursor,
    Delivered,
    LineRejection,
    Outcome,
    Refused,
    Settlement,
    Terms,
    Transient,
    Unknown,
    settle,
)
from relay.errors import Conflict
from relay.events import Operation
from relay.store.settling import MESSAGE_CHARACTERS_MAX
from tests.integration.clock import JAPAN
from tests.integration.store.made import ACCOUNT, FINGERPRINT, Bench, settled

U, D, S, A = Operation.UPSERT, Operation.DELETE, Operation.STOP, Operation.ALLOW
TERMS = Terms(attempts_max=3, file_bytes_max=10_000_000, settle_after_s=0)


def is_soon(moment: datetime, delay_s: float) -> bool:
    """Whether a moment is so many seconds from now, give or take what a busy machine needs."""
    return abs((moment - datetime.now(UTC)).total_seconds() - delay_s) < 10


async def begun(bench: Bench, *customers: str, operation: Operation = U) -> Any:  # noqa: ANN401 (a pair)
    """Append, lease, cut and begin an upload; return the lease and the batch."""
    for customer in customers:
        await bench.say(operation, customer)
    lease = await bench.lease()
    return lease, await bench.uploading(lease, operation)


async def test_the_upload_is_written_down(bench: Bench) -> None:
    """When it began and ended, what came of it, and how much was sent."""
    lease, batch = await begun(bench, "a")
    assert (await bench.row("select * from upload"))["ended_at"] is None
    await bench.settle(lease, batch, settled("waiting"), outcome="unknown")
    row = await bench.row("select * from upload")
    assert is_soon(row.pop("started_at"), 0)
    assert is_soon(row.pop("ended_at"), 0)
    assert row == {
        "account": ACCOUNT,
        "batch_id": batch.id,
        "number": 1,
        "http_status": 200,
        "outcome": "unknown",
        "reason": "a reason",
        "bytes_sent": batch.bytes,
        "reply_excerpt": "HTTP 200",
        "whole": None,
    }


@pytest.mark.parametrize("state", sorted(TRANSITIONS[BatchState.UPLOADING]))
async def test_the_batch_gets_its_state(bench: Bench, state: BatchState) -> None:
    """With the reason, and an end unless it goes on. A second settlement finds nothing to settle."""
    lease, batch = await begun(bench, "a")
    await bench.settle(lease, batch, settled(state))
    row = await bench.row("select state, reason, ended_at from batch")
    assert (row["state"], row["reason"], row["ended_at"] is None) == (state, "a reason", state in OPEN)
    before = await bench.dump()
    with pytest.raises(Conflict):
        await bench.settle(lease, batch, settled("delivered"))
    assert await bench.dump() == before


async def test_the_cursor_remembers(bench: Bench) -> None:
    """Everything that must survive the batch is stored with the cursor and comes back with the next manifest."""
    lease, batch = await begun(bench, "a")
    memory = Cursor(
        attempts=2,
        unanswered=1,
        rounds=3,
        sent_to=batch.cut_to,
        rows_max=5,
        bytes_max=600,
        suspect_to=7,
        refused_lines=1,
        refused_from=0,
    )
    await bench.settle(lease, batch, settled("waiting", cursor=memory, delay_s=300.0))
    assert (await bench.store.manifest(ACCOUNT, batch.id)).cursor == memory
    cursor = await bench.cursor(U)
    assert is_soon(cursor["not_before"], 300)
    assert cursor["position"] == batch.cut_to
    others = await bench.column("select count(*) from cursor where attempts <> 0 or not_before > '-infinity'")
    assert others == [1], "no other cursor is touched"
    assert await bench.store.begin_upload(lease, batch, None) == 2
    lower = replace(memory, sent_to=0, attempts=0)
    await bench.settle(lease, batch, settled("replaced", cursor=lower, position=batch.cut_from), number=2)
    cursor = await bench.cursor(U)
    assert (cursor["position"], cursor["sent_to"], cursor["attempts"]) == (batch.cut_from, batch.cut_to, 0)
    waits = await bench.column("select not_before > now() from cursor where operation = 'upsert'")
    assert waits == [False], "no delay means at once"


async def test_the_lane_waits_or_pauses(bench: Bench) -> None:
    """For so many seconds, until the next day in Japan, or until an operator acts; else it is left as it is."""
    lease, batch = await begun(bench, "a")
    number = 0

    async def settle_lane(**changes: object) -> dict[str, Any]:
        nonlocal number
        number += 1
        await bench.settle(lease, batch, settled("waiting", **changes), number=number)
        await bench.store.begin_upload(lease, batch, None)
        return await bench.lane()

    lane = await settle_lane(lane_delay_s=40.0, wait_reason="busy")
    assert is_soon(lane["not_before"], 40)
    assert (lane["wait_reason"], lane["paused_at"], lane["pause_reason"]) == ("busy", None, None)
    untouched = await settle_lane()
    assert untouched["not_before"] == lane["not_before"]
    lane = await settle_lane(lane_until_next_day=True, wait_reason="quota")
    if datetime.now(JAPAN).hour:
        midnight = lane["not_before"].astimezone(JAPAN).replace(hour=0, minute=0, second=0, microsecond=0)
        assert lane["not_before"] - midnight == timedelta(seconds=30), "00:00 in Japan, by a clock that may be behind"
        assert timedelta(0) < midnight - datetime.now(UTC) <= timedelta(days=1)
    else:
        assert is_soon(lane["not_before"], 300), "in the first hour the vendor may still be in the day before"
    lane = await settle_lane(pause="misconfigured", lane_delay_s=60.0, proven=False)
    assert is_soon(lane["paused_at"], 0)
    told = (lane["pause_reason"], lane["pause_detail"], lane["paused_fingerprint"])
    assert told == ("misconfigured", "a reason", FINGERPRINT)
    lane = await settle_lane(proven=False)
    assert lane["pause_reason"] == "misconfigured", "a refused connection proves nothing"
    lane = await settle_lane()
    assert (lane["paused_at"], lane["pause_reason"], lane["pause_detail"]) == (None, None, "")
    assert lane["paused_fingerprint"] is None, "no replica is left out without a pause that can be seen"
    await bench.execute("update lane set paused_at = now(), pause_reason = 'operator', pause_detail = 'moving house'")
    for changes in ({}, {"pause": "unauthorized", "proven": False}):
        lane = await settle_lane(**changes)
        assert (lane["pause_reason"], lane["pause_detail"]) == ("operator", "moving house")


async def test_rejections_name_their_events(bench: Bench) -> None:
    """Line n is the (n - 1)th event of the file, superseded ones not counted; odd messages are kept in part."""
    await bench.say(U, "a", 1)
    lease, batch = await begun(bench, "b", "a", "c", "a", "d")  # the first «a» is not the last
    ids = await bench.column("select id from event where id not in (select event_id from superseded) order by id")
    assert len(ids) == batch.rows
    rejections = (
        LineRejection(batch.rows + 1, "x" * 5000),
        LineRejection(2, "NUL \0 in it"),
        LineRejection(3, "an echo?", unconfirmed=True),
        LineRejection(batch.rows + 2, "no such line"),
    )
    result = await bench.settle(lease, batch, settled("delivered", rejections=rejections))
    assert result.rejected == 3, "what did not arrive before is no echo"
    rows = await bench.connection.fetch("select line, event_id, message, unconfirmed from rejection order by line")
    assert [tuple(row) for row in rows] == [
        (2, ids[0], "NUL  in it", False),
        (3, ids[1], "an echo?", False),
        (batch.rows + 1, ids[-1], "x" * MESSAGE_CHARACTERS_MAX, False),
    ]
    assert await bench.column("select rejected from batch") == [3]


async def test_an_echo_of_what_may_have_arrived_is_unconfirmed(bench: Bench) -> None:
    """In the mode `create`, a line that may have arrived before is refused the second time: that is no rejection.

    A copy that an operator retried counts as its original.
    """
    lease, batch = await begun(bench, "a", "b")
    await bench.settle(lease, batch, settle(batch, Unknown("reset"), TERMS), outcome="unknown")
    await bench.say(U, "c")
    assert await bench.store.begin_upload(lease, batch, None) == 2
    batch = await bench.store.manifest(ACCOUNT, batch.id)
    echoes: tuple[LineRejection, ...] = (LineRejection(2, "exists", unconfirmed=True), LineRejection(3, "wrong"))
    result = await bench.settle(lease, batch, settle(batch, Delivered(echoes), TERMS), number=2)
    assert result.rejected == 1
    assert await bench.column("select unconfirmed from rejection order by line") == [True, False]
    assert await bench.store.retry_batch(ACCOUNT, batch.id) == 2
    again = await bench.uploading(lease, U)
    echoes = tuple(LineRejection(line, "exists", unconfirmed=True) for line in (2, 3, 4))
    await bench.settle(lease, again, settle(again, Delivered(echoes), TERMS))
    told = await bench.column("select unconfirmed from rejection where batch_id = $1 order by line", again.id)
    assert told == [False, True, True], "c, then the copies of a and b"


async def test_states_change_only_along_the_table(bench: Bench) -> None:
    """Whatever is done in whatever order, no batch takes a way that the table of transitions does not have."""
    allowed = [f"{a}>{b}" for a, after in TRANSITIONS.items() for b in after]
    await bench.execute(
        "create function check_way() returns trigger language plpgsql as $f$ begin"
        "  if not (old.state || '>' || new.state) = any(%s) and old.state <> new.state then"
        "    raise exception 'no way from % to %', old.state, new.state using errcode = 'ZZ001'; end if;"
        "  return new; end $f$;".replace("%s", f"'{{{','.join(allowed)}}}'::text[]")
    )
    await bench.execute("create trigger way before update on batch for each row execute function check_way()")
    rng = random.Random(1)
    lease = await bench.lease()
    outcomes: list[Outcome] = [
        Delivered(),
        *[Refused("bad")] * 6,
        *[Transient("no")] * 3,
        Unknown("slow", timed_out=True),
    ]
    ways = set()
    for turn in range(120):
        operation = rng.choice((U, S, A))
        await bench.say(operation, f"c{turn}")
        filed = await bench.column("select id from batch where operation = $1 and ended_at is null", operation)
        batch_id = filed[0] if filed else (await bench.cut(lease, operation, rows_max=2)).batch_id
        if batch_id is None:
            continue
        batch = await bench.store.manifest(ACCOUNT, batch_id)
        if rng.random() < 0.2 or batch.must_shrink:
            assert await bench.store.uncut(lease, ACCOUNT, batch.id, "un-cut")
            continue
        number = await bench.store.begin_upload(lease, batch, None)
        assert number is not None
        settlement = settle(batch, rng.choice(outcomes), TERMS)
        await bench.settle(lease, batch, settlement, number=number)
        ways |= set(await bench.column("select state || '/' || refused from batch"))
    assert {"replaced/true", "failed/true", "failed/false", "unconfirmed/false", "delivered/false"} <= ways
    with pytest.raises(asyncpg.PostgresError, match="no way from delivered to waiting"):
        await bench.execute("update batch set state = 'waiting', ended_at = null where state = 'delivered'")


async def test_settling_is_all_or_nothing(bench: Bench) -> None:
    """When one part cannot be written, none is."""
    lease, batch = await begun(bench, "a")
    before = await bench.dump()
    twice = (LineRejection(2, "no"), LineRejection(2, "no"))
    settlement: Settlement = settled("delivered", rejections=twice, lane_delay_s=60.0, send_again=True)
    with pytest.raises(asyncpg.UniqueViolationError):
        await bench.settle(lease, batch, settlement)
    assert await bench.dump() == before
