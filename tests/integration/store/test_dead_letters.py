"""Dead letters: refused lines and failed batches wait for an operator, who retries or dismisses them, once."""

import asyncio

import pytest

from relay.batches import Delivered, LineRejection, Manifest, Refused, Terms, Transient, Unknown, settle
from relay.events import Operation
from relay.store import Lease
from tests.integration.store.made import ACCOUNT, Bench

U, S, A = Operation.UPSERT, Operation.STOP, Operation.ALLOW
TERMS = Terms(attempts_max=1, file_bytes_max=10_000_000, settle_after_s=0)
FEW = Terms(attempts_max=10, file_bytes_max=10_000_000, settle_after_s=0)
COPIES = "select convert_from(line, 'SQL_ASCII') from event where again_of is not null order by id"


async def failed(bench: Bench, lease: Lease) -> Manifest:
    """Give up a batch of a, b and c, of which b is superseded."""
    await bench.append(bench.event(U, "a", 1), bench.event(U, "b", 1), bench.event(U, "c", 1), bench.event(U, "b", 0))
    batch = await bench.uploading(lease, U)
    await bench.settle(lease, batch, settle(batch, Transient("refused"), TERMS), outcome="transient")
    return await bench.store.manifest(ACCOUNT, batch.id)


async def test_a_failed_batch_is_retried_once(bench: Bench) -> None:
    """Its lines are appended again as they were, each once, however often and by however many operators it is asked."""
    lease = await bench.lease()
    batch = await failed(bench, lease)
    assert batch.state == "failed"
    counts = await asyncio.gather(*(bench.store.retry_batch(ACCOUNT, batch.id) for _ in range(5)))
    assert sorted(counts) == [0, 0, 0, 0, 3]
    assert await bench.column(COPIES) == [f'"{name}@example.jp"\r\n' for name in "abc"]
    rows = await bench.connection.fetch(
        "select o.id, n.again_of, n.message_id from event n join event o on o.id = n.again_of"
    )
    assert all(row["message_id"] == f"again:{row['id']}:retry-{batch.id}" for row in rows)
    assert await bench.store.dismiss_batch(ACCOUNT, batch.id) == 0
    again = await bench.filed(lease, U)
    assert again.rows == 3


async def test_a_failed_batch_is_dismissed_once(bench: Bench) -> None:
    """Then there is nothing left to retry."""
    lease = await bench.lease()
    batch = await failed(bench, lease)
    assert sorted(await asyncio.gather(*(bench.store.dismiss_batch(ACCOUNT, batch.id) for _ in range(4)))) == [
        0,
        0,
        0,
        3,
    ]
    assert await bench.store.retry_batch(ACCOUNT, batch.id) == 0
    assert await bench.column(COPIES) == []


async def test_a_retried_word_keeps_its_place_in_the_order(bench: Bench) -> None:
    """What was said since goes before: a retry never brings an old record, or a customer, back."""
    lease = await bench.lease()
    batch = await failed(bench, lease)
    await bench.append(bench.event(U, "a", 2), bench.event(Operation.DELETE, "c", 2))
    assert await bench.store.retry_batch(ACCOUNT, batch.id) == 3
    again = await bench.filed(lease, U)
    assert b"c@" not in await bench.lines(again)
    assert (await bench.lines(again)).count(b"a@") == 1


async def test_refused_lines_of_a_delivered_batch(bench: Bench) -> None:
    """Only these are retried or dismissed, not their neighbours."""
    lease = await bench.lease()
    await bench.append(*(bench.event(U, name) for name in "abcd"))
    batch = await bench.uploading(lease, U)
    refused = (LineRejection(3, "no"), LineRejection(5, "no"))
    await bench.settle(lease, batch, settle(batch, Delivered(refused), FEW))
    assert await bench.store.retry_batch(ACCOUNT, batch.id) == 2
    assert await bench.column(COPIES) == ['"b@example.jp"\r\n', '"d@example.jp"\r\n']
    assert await bench.store.retry_batch(ACCOUNT, batch.id) == 0
    again = await bench.uploading(lease, U)
    await bench.settle(lease, again, settle(again, Delivered((LineRejection(2, "no"),)), FEW))
    assert await bench.store.dismiss_batch(ACCOUNT, again.id) == 1
    assert await bench.store.dismiss_batch(ACCOUNT, again.id) == 0
    assert await bench.store.retry_batch(ACCOUNT, again.id) == 0


async def test_a_line_refused_alone_is_one_dead_letter(bench: Bench) -> None:
    """The batch of one has failed, and its line is refused: one event all the same."""
    lease = await bench.lease()
    await bench.say(S, "a")
    batch = await bench.uploading(lease, S)
    result = await bench.settle(lease, batch, settle(batch, Refused("bad"), FEW), outcome="refused")
    assert result.rejected == 1
    assert await bench.store.retry_batch(ACCOUNT, batch.id) == 1
    again = await bench.uploading(lease, S)
    await bench.settle(lease, again, settle(again, Refused("bad"), FEW), outcome="refused")
    assert await bench.store.dismiss_batch(ACCOUNT, again.id) == 1


async def test_an_allow_without_an_answer_can_be_retried(bench: Bench) -> None:
    """It is not sent again by itself; an operator who has looked may send it."""
    lease = await bench.lease()
    await bench.say(A, "a")
    batch = await bench.uploading(lease, A)
    await bench.settle(lease, batch, settle(batch, Unknown("reset"), FEW), outcome="unknown")
    assert await bench.column("select state from batch") == ["unconfirmed"]
    assert await bench.store.retry_batch(ACCOUNT, batch.id) == 1


async def test_what_is_no_dead_letter_is_neither_retried_nor_dismissed(bench: Bench) -> None:
    """Batches that are open, delivered or replaced, and those that do not exist."""
    lease = await bench.lease()
    await bench.say(U, "a")
    batch = await bench.filed(lease, U)
    for state in ("ready", "waiting", "uploading", "delivered", "accepted", "replaced"):
        ended = "null" if state in ("ready", "waiting", "uploading") else "now()"
        await bench.execute(f"update batch set state = $1, ended_at = {ended}", state)  # noqa: S608 (from the line above)
        before = await bench.dump()
        assert await bench.store.retry_batch(ACCOUNT, batch.id) == 0
        assert await bench.store.dismiss_batch(ACCOUNT, batch.id) == 0
        assert await bench.store.retry_batch("another account", batch.id) == 0
        assert await bench.dump() == before, state


async def test_three_lines_refused_alone_are_taken_back(bench: Bench) -> None:
    """Their batches are replaced, their rejections gone, and the cursor stands before the first of them."""
    lease = await bench.lease()
    await bench.append(*(bench.event(U, name) for name in "abcdef"))
    await bench.say(S, "f")
    first = await bench.uploading(lease, U, rows_max=1)
    await bench.settle(lease, first, settle(first, Delivered(), FEW))
    stop = await bench.uploading(lease, S)
    await bench.settle(lease, stop, settle(stop, Refused("bad"), FEW), outcome="refused")
    refused = []
    for _ in range(3):
        batch = await bench.uploading(lease, U, rows_max=1)
        refused.append(batch.id)
        result = await bench.settle(lease, batch, settle(batch, Refused("bad"), FEW), outcome="refused")
        assert result.rejected == (1 if len(refused) < 3 else 0)
    states = {row["id"]: row["state"] for row in await bench.connection.fetch("select id, state from batch")}
    assert states == {first.id: "delivered", stop.id: "failed"} | dict.fromkeys(refused, "replaced")
    assert await bench.column("select batch_id from rejection") == [stop.id], "another operation's is not taken back"
    assert (await bench.cursor(U))["position"] == first.cut_to
    lane = await bench.lane()
    assert (lane["pause_reason"], lane["pause_detail"]) == ("data", "bad")
    whole = await bench.filed(lease, U)
    assert whole.rows == 5


async def refuse(bench: Bench, lease: Lease, batch: Manifest) -> None:
    """Let the vendor refuse a batch of one line."""
    await bench.settle(lease, batch, settle(batch, Refused("bad"), FEW), outcome="refused")


@pytest.mark.parametrize("act", ["retry_batch", "dismiss_batch"])
async def test_who_acts_on_a_refused_line_ends_the_row(bench: Bench, act: str) -> None:
    """It is not taken back with the next ones, and the lines in front of it are no longer either."""
    lease = await bench.lease()
    await bench.append(*(bench.event(S, name) for name in "abcdef"))
    filed = []
    for _ in range(2):
        filed.append(await bench.uploading(lease, S, rows_max=1))
        await refuse(bench, lease, filed[-1])
    assert await getattr(bench.store, act)(ACCOUNT, filed[1].id) == 1
    cursor = await bench.cursor(S)
    assert (cursor["refused_lines"], cursor["refused_from"]) == (0, None)
    await refuse(bench, lease, await bench.uploading(lease, S, rows_max=1))
    assert await bench.column("select state from batch order by id") == ["failed"] * 3
    assert await bench.column("select pause_reason from lane") == [None]
    assert (await bench.cursor(S))["refused_from"] == filed[1].cut_to


@pytest.mark.parametrize("act", ["retry_batch", "dismiss_batch"])
async def test_who_acts_on_a_refused_line_while_the_third_is_under_way(bench: Bench, act: str) -> None:
    """The third one's settlement knows nothing of it, and takes back only what is behind the line acted on."""
    lease = await bench.lease()
    await bench.append(*(bench.event(S, name) for name in "abcdef"))
    filed = []
    for number in range(3):
        filed.append(await bench.uploading(lease, S, rows_max=1))
        if number < 2:
            await refuse(bench, lease, filed[-1])
    assert await getattr(bench.store, act)(ACCOUNT, filed[0].id) == 1
    await refuse(bench, lease, filed[2])
    assert await bench.column("select state from batch order by id") == ["failed", "replaced", "replaced"]
    assert await bench.column("select batch_id from rejection") == [filed[0].id]
    assert (await bench.cursor(S))["position"] == filed[0].cut_to
    again = await bench.filed(lease, S)
    assert b"a@" not in await bench.lines(again) or act == "retry_batch", "once: as the copy, if at all"
    assert (await bench.lines(again)).count(b"a@") == (act == "retry_batch")


@pytest.mark.parametrize("act", ["retry_batch", "dismiss_batch"])
async def test_a_batch_that_was_not_refused_ends_no_row(bench: Bench, act: str) -> None:
    """Other dead letters of the operation say nothing about the lines under way."""
    lease = await bench.lease()
    batch = await failed(bench, lease)
    await bench.execute("update cursor set refused_lines = 2, refused_from = 0 where operation = 'upsert'")
    assert await getattr(bench.store, act)(ACCOUNT, batch.id) == 3
    assert (await bench.cursor(U))["refused_lines"] == 2
