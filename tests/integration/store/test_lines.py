"""A batch's lines: the same each time they are read, whatever has happened to the log since."""

import random

import pytest

from relay.events import Operation
from relay.store import cuts
from tests.integration.store.made import ACCOUNT, Bench

U, S, D = Operation.UPSERT, Operation.STOP, Operation.DELETE


@pytest.mark.parametrize("chunk_rows", [2, 20_000])
async def test_a_batch_renders_the_same_for_ever(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, chunk_rows: int
) -> None:
    """Through un-cuts, later words and later cuts, every batch, replaced or not, keeps its lines byte for byte.

    Line n is the (n - 1)th event of its range that no cut up to its own found superseded.
    """
    monkeypatch.setattr(cuts, "CHUNK_ROWS", chunk_rows)
    rng = random.Random(3)
    lease = await bench.lease()
    rendered: dict[int, bytes] = {}
    for turn in range(25):
        for _ in range(rng.randrange(4)):
            await bench.say(rng.choice((U, U, U, D)), f"c{rng.randrange(9)}", occurred=turn + rng.randrange(8))
        cut = await bench.cut(lease, U, rows_max=rng.choice((2, 5, 100)))
        if cut.batch_id is not None:
            batch = await bench.store.manifest(ACCOUNT, cut.batch_id)
            rendered[batch.id] = await bench.lines(batch)
            assert rendered[batch.id].count(b"\r\n") == batch.rows
            if turn % 3:
                assert await bench.store.uncut(lease, ACCOUNT, batch.id, "cut anew")
            else:
                await bench.execute("update batch set state = 'delivered', ended_at = now() where id = $1", batch.id)
        for batch_id, lines in rendered.items():
            assert await bench.lines(await bench.store.manifest(ACCOUNT, batch_id)) == lines
    states = await bench.column("select distinct state from batch order by state")
    assert states[0] == "delivered"
    assert "replaced" in states
    found_late = await bench.column(
        "select count(*) from superseded s join batch b on s.event_id > b.cut_from and s.event_id <= b.cut_to"
        " where b.state = 'replaced' and s.batch_id > b.id"
    )
    assert found_late[0] > 0, "the walk has to reach what this is about"


async def test_what_a_later_word_replaced_is_left_out_after_an_un_cut(bench: Bench) -> None:
    """A batch that was taken apart is cut without what was replaced meanwhile; its own lines are still told."""
    lease = await bench.lease()
    a, b, c = (bench.event(U, name, occurred=1) for name in "abc")
    await bench.append(a, b, c)
    first = await bench.filed(lease, U)
    assert await bench.lines(first) == a.line + b.line + c.line
    assert await bench.store.uncut(lease, ACCOUNT, first.id, "opt-outs go first")
    await bench.say(D, "b", occurred=2)
    second = await bench.filed(lease, U)
    assert (second.cut_from, second.cut_to, second.rows) == (first.cut_from, first.cut_to, 2)
    assert await bench.lines(second) == a.line + c.line
    assert await bench.lines(first) == a.line + b.line + c.line


async def test_un_cutting_sets_the_cursor_back_and_forgets_nothing(bench: Bench) -> None:
    """Only a batch that is ready or waiting can be un-cut; what the cursor remembers stays."""
    lease = await bench.lease()
    await bench.say(U, "a")
    await bench.say(U, "b")
    first = await bench.filed(lease, U, rows_max=1)
    await bench.execute("update batch set state = 'delivered', ended_at = now() where id = $1", first.id)
    await bench.execute("update cursor set attempts = 3, not_before = 'infinity', rows_max = 7, sent_to = 4")
    second = await bench.filed(lease, U)
    before = await bench.cursor(U)
    assert await bench.store.uncut(lease, ACCOUNT, second.id, "a reason")
    assert await bench.cursor(U) == before | {"position": first.cut_to}
    row = await bench.row("select state, reason, ended_at is not null as ended from batch where id = $1", second.id)
    assert row == {"state": "replaced", "reason": "a reason", "ended": True}
    everything = await bench.dump()
    for batch_id in (first.id, second.id, second.id + 1):
        assert not await bench.store.uncut(lease, ACCOUNT, batch_id, "again")
    assert await bench.dump() == everything
    third = await bench.uploading(lease, U)
    assert not await bench.store.uncut(lease, ACCOUNT, third.id, "too late")
