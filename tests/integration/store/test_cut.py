"""The cut: exact limits, each event in its batch or superseded, and nothing moved by a cut that fails."""

import random
from dataclasses import replace

import pytest

from relay.batches import BatchState
from relay.errors import ConservationBroken
from relay.events import SUPERSEDED_BY, Event, Operation
from relay.store import Cut, Lease, cuts
from tests.integration.store.made import ACCOUNT, HEADER, HEADER_BYTES, Bench

U, D, S, A = Operation.UPSERT, Operation.DELETE, Operation.STOP, Operation.ALLOW


async def close(bench: Bench, batch_id: int) -> None:
    """Let a batch have ended, so that the next can be cut."""
    await bench.execute("update batch set state = 'delivered', ended_at = now() where id = $1", batch_id)


def later(event: Event, event_id: int, other: Event, other_id: int) -> bool:
    """Whether the other is a later word that replaces the event, by the rules as they are written down."""
    return (
        event.customer == other.customer
        and other.operation in SUPERSEDED_BY[event.operation]
        and (other.occurred_at, other.operation.opt_out, other.received_at, other_id)
        > (event.occurred_at, event.operation.opt_out, event.received_at, event_id)
    )


async def fill(bench: Bench, rng: random.Random, count: int) -> dict[int, Event]:
    """Append events of random customers, times and lengths of line, half of them upserts."""
    events = [
        bench.event(
            rng.choice((U, U, U, D, S, A)),
            f"c{rng.randrange(count)}",
            occurred=rng.randrange(5),
            line=b"x" * rng.randint(1, 60) + b"\r\n",
        )
        for _ in range(count)
    ]
    return dict(zip(await bench.append(*events), events, strict=True))


async def cut_all(bench: Bench, lease: Lease, operation: Operation, rows_max: int, bytes_max: int) -> list[int]:
    """Cut until nothing is left; return the batches."""
    batches: list[int] = []
    while True:
        before = (await bench.cursor(operation))["position"]
        cut = await bench.cut(lease, operation, rows_max=rows_max, bytes_max=bytes_max)
        if cut.batch_id is None and (await bench.cursor(operation))["position"] == before:
            return batches
        if cut.batch_id is not None:
            batches.append(cut.batch_id)
            await close(bench, cut.batch_id)


@pytest.mark.parametrize("chunk_rows", [1, 3, 20_000])
async def test_limits_are_exact(bench: Bench, monkeypatch: pytest.MonkeyPatch, chunk_rows: int) -> None:
    """A file holds as many lines as its limits let in and not one more, however the work is divided into chunks.

    For random lines and limits: bytes are header and lines, at most the limit but for a single line that is larger
    than it; the next line would not have fitted; and every event is in one file or superseded, as the rules say.
    """
    monkeypatch.setattr(cuts, "CHUNK_ROWS", chunk_rows)
    rng = random.Random(chunk_rows)
    lease = await bench.lease()
    events: dict[int, Event] = {}
    for _ in range(12 if chunk_rows > 1 else 6):
        events |= await fill(bench, rng, 40)
        rows_max, bytes_max = rng.choice((1, 2, 7, 1000)), HEADER_BYTES + rng.choice((-10, 1, 30, 62, 200, 100_000))
        for operation in rng.sample([U, D, S, A], 4):
            for batch_id in await cut_all(bench, lease, operation, rows_max, bytes_max):
                await check_file(bench, events, batch_id, rows_max, bytes_max)
    superseded = await bench.column("select event_id from superseded")
    for event_id, by in await bench.connection.fetch("select event_id, by_event_id from superseded"):
        assert later(events[event_id], event_id, events[by], by)
    rows = await bench.column("select sum(rows)::bigint from batch")
    assert rows == [len(events) - len(superseded)]
    replaceable = {i for i, e in events.items() if any(later(e, i, o, j) for j, o in events.items() if j < i)}
    assert replaceable <= set(superseded), "what came too late to be sent is never sent"


async def check_file(bench: Bench, events: dict[int, Event], batch_id: int, rows_max: int, bytes_max: int) -> None:
    """Check one file's size against its limits and the next line."""
    batch = await bench.store.manifest(ACCOUNT, batch_id)
    superseded = set(await bench.column("select event_id from superseded"))
    ids = [i for i, e in events.items() if e.operation is batch.operation and i not in superseded]
    mine = [i for i in ids if batch.cut_from < i <= batch.cut_to]
    assert await bench.lines(batch) == b"".join(events[i].line for i in mine)
    assert (batch.rows, batch.bytes) == (len(mine), HEADER_BYTES + sum(len(events[i].line) for i in mine))
    assert batch.rows <= rows_max
    assert batch.bytes <= bytes_max or batch.rows == 1
    behind = next((i for i in ids if i > batch.cut_to), None)
    if behind is not None:
        assert batch.rows == rows_max or batch.bytes + len(events[behind].line) > bytes_max


async def test_the_cursor_s_smaller_limits_go_before(bench: Bench) -> None:
    """What a vendor would not take is remembered with the cursor and holds for every later file."""
    await bench.append(*(bench.event(U, f"c{n}", line=b"x" * 8 + b"\r\n") for n in range(10)))
    lease = await bench.lease()
    await bench.execute("update cursor set rows_max = 3 where operation = 'upsert'")
    first = await bench.filed(lease, U)
    assert first.rows == 3
    await close(bench, first.id)
    await bench.execute(
        "update cursor set rows_max = null, bytes_max = $1 where operation = 'upsert'", HEADER_BYTES + 29
    )
    second = await bench.filed(lease, U)
    assert (second.rows, second.bytes) == (2, HEADER_BYTES + 20)
    await close(bench, second.id)
    await bench.execute("update cursor set rows_max = 100, bytes_max = 100000 where operation = 'upsert'")
    assert (await bench.filed(lease, U, rows_max=4)).rows == 4


async def test_a_line_larger_than_the_limit_is_taken_alone(bench: Bench) -> None:
    """Or the cursor would stop before it for ever; also behind superseded events, whatever the header's size."""
    lease = await bench.lease()
    for limit in (1, HEADER_BYTES, HEADER_BYTES + 5):
        await bench.append(
            bench.event(U, f"old{limit}", 1), bench.event(U, f"a{limit}"), bench.event(U, f"b{limit}"),
            bench.event(U, f"old{limit}", 2), bench.event(U, f"last{limit}"),
        )  # fmt: skip
        batches = await cut_all(bench, lease, U, 1000, limit)
        assert await bench.column("select rows from batch where id = any($1)", batches) == [1, 1, 1, 1]


async def test_a_cut_stops_where_the_layout_changes(bench: Bench) -> None:
    """Lines of one file have one header. Superseded lines of another layout do not end it."""
    other = await bench.store.ensure_layout(ACCOUNT, U, [{"header": "E-Mail", "path": "mail"}])
    made = [bench.event(U, f"c{n}", occurred=n) for n in range(7)]
    made[2] = replace(made[2], layout=other, customer=made[3].customer)  # replaced by the next
    made[5], made[6] = replace(made[5], layout=other), replace(made[6], layout=other)
    ids = await bench.append(*made)
    lease = await bench.lease()
    fence = await bench.w.fence()
    headers: list[tuple[str, ...]] = []
    for expected in ([0, 1, 3, 4], [5, 6]):
        cut = await bench.store.cut(
            lease, bench.target(U), fence, lambda columns: tuple(column["header"] for column in columns)
        )
        assert cut.batch_id is not None
        batch = await bench.store.manifest(ACCOUNT, cut.batch_id)
        assert await bench.lines(batch) == b"".join(made[n].line for n in expected)
        assert batch.cut_to == ids[expected[-1]]
        headers.append(batch.header)
        await close(bench, batch.id)
    assert headers == [HEADER, ("E-Mail",)]


async def test_superseded_events_are_recorded_once_and_for_ever(bench: Bench) -> None:
    """With the word that replaced them and the cut that found it, also when the batch is taken apart and cut anew."""
    lease = await bench.lease()
    old, new = await bench.say(U, "a", 1), await bench.say(U, "a", 2)
    await bench.say(U, "b")
    first = await bench.filed(lease, U)
    rows = "select event_id, by_event_id, batch_id from superseded order by event_id"
    assert [tuple(row) for row in await bench.connection.fetch(rows)] == [(old, new, first.id)]
    assert await bench.store.uncut(lease, ACCOUNT, first.id, "to be cut anew")
    newest = await bench.say(U, "a", 3)
    cut = await bench.cut(lease, U)
    assert cut == Cut(cut.batch_id, 1)
    assert [tuple(row) for row in await bench.connection.fetch(rows)] == [
        (old, new, first.id),
        (new, newest, cut.batch_id),
    ]


async def test_what_lies_beyond_the_fence_supersedes_as_well(bench: Bench) -> None:
    """A replica with an old fence leaves out what a later word replaced that another replica may have sent already."""
    first, _ = await bench.say(U, "a", 1), await bench.say(D, "a", 2)
    lease = await bench.lease()
    assert (await bench.cut(lease, D)).batch_id is not None
    assert await bench.cut(lease, U, fence=first) == Cut(None, 1)
    assert (await bench.cursor(U))["position"] == first


async def test_a_cut_with_nothing_left_moves_the_cursor_and_files_nothing(bench: Bench) -> None:
    """Where a later word replaced everything there is no file, and the events do not wait for ever."""
    last = (await bench.say(U, "a"), await bench.say(U, "b"))[-1]
    await bench.append(bench.event(D, "a", 1), bench.event(D, "b", 1))
    lease = await bench.lease()
    assert await bench.cut(lease, U) == Cut(None, 2)
    assert (await bench.cursor(U))["position"] == last
    assert await bench.column("select count(*) from batch") == [0]
    assert await bench.cut(lease, U) == Cut(None, 0)


async def test_a_late_repeat_of_an_older_word_is_not_sent(bench: Bench) -> None:
    """A create that failed an hour ago and arrives after the delete does not bring the customer back."""
    lease = await bench.lease()
    await bench.say(D, "a", occurred=9)
    await close(bench, (await bench.filed(lease, D)).id)
    await bench.say(U, "a", occurred=5)
    assert await bench.cut(lease, U) == Cut(None, 1)


async def test_a_manifest_tells_what_was_filed(bench: Bench) -> None:
    """Range, rows, bytes, header, the age of the oldest line, and what the cursor remembers."""
    first = bench.event(S, "a")
    (event_id,) = await bench.append(first)
    await bench.append(bench.event(S, "b"))
    await bench.execute(
        "update cursor set attempts = 2, sent_to = 5, refused_lines = 1, refused_from = 0, suspect_to = 9"
    )
    lease = await bench.lease()
    batch = await bench.filed(lease, S)
    assert (batch.account, batch.login, batch.operation, batch.header) == (ACCOUNT, "login-0", S, HEADER)
    assert (batch.cut_from, batch.cut_to, batch.state, batch.sha256) == (0, event_id + 1, BatchState.READY, None)
    assert (batch.cursor.attempts, batch.cursor.sent_to, batch.cursor.refused_lines) == (2, 5, 1)
    assert (batch.cursor.refused_from, batch.cursor.suspect_to, batch.uploads) == (0, 9, 0)
    assert await bench.column("select oldest_received_at from batch") == [first.received_at]
    await bench.store.spooled(lease, batch, "ab" * 32)
    assert (await bench.store.manifest(ACCOUNT, batch.id)).sha256 == "ab" * 32
    with pytest.raises(LookupError):
        await bench.store.manifest(ACCOUNT, batch.id + 1)


async def test_a_cut_that_would_lose_or_double_an_event_writes_nothing(bench: Bench) -> None:
    """Each cut counts: events are rows or superseded. Where the sum is wrong it stops, for a bug must lose nothing."""
    await bench.append(bench.event(U, "a", 1), bench.event(U, "b"), bench.event(U, "a", 2))
    await bench.execute("create function forget() returns trigger language plpgsql as 'begin return null; end'")
    await bench.execute("create trigger forget before insert on superseded for each row execute function forget()")
    lease = await bench.lease()
    before = await bench.dump()
    with pytest.raises(ConservationBroken, match="3 events in \\(0, 3\\], but 2 rows and 0 superseded"):
        await bench.cut(lease, U)
    assert await bench.dump() == before
