"""What relay appends again: stops and bans that upserts may have undone."""

import pytest

from relay.batches import Delivered, Terms, Unknown, settle
from relay.events import Operation
from tests.integration.store.made import ACCOUNT, Bench

U, D, S, B, A = Operation.UPSERT, Operation.DELETE, Operation.STOP, Operation.BAN, Operation.ALLOW
TERMS = Terms(attempts_max=10, file_bytes_max=10_000_000, settle_after_s=0)

CUT, PENDING = "cut before", "not cut yet"
CASES: dict[str, tuple[list[tuple[Operation, int, str]], Operation | None]] = {
    "a stop that was cut": ([(S, 1, CUT)], S),
    "a ban that was cut": ([(B, 1, CUT)], B),
    "a stop said after the upsert": ([(S, 9, CUT)], S),
    "a stop that is not cut yet goes by itself": ([(S, 1, PENDING)], None),
    "an allow": ([(A, 1, CUT)], None),
    "a delete": ([(D, 1, CUT)], None),
    "an allow after a stop": ([(S, 1, CUT), (A, 2, CUT)], None),
    "an allow after a stop, not cut yet": ([(S, 1, CUT), (A, 2, PENDING)], None),
    "an older allow that came late": ([(S, 3, CUT), (A, 2, CUT)], S),
    "a tie is the opt-out's": ([(S, 2, CUT), (A, 2, CUT)], S),
    "a delete after a stop": ([(S, 1, CUT), (D, 2, CUT)], None),
    "a delete after a stop, not cut yet": ([(S, 1, CUT), (D, 2, PENDING)], None),
    "a stop after a delete": ([(D, 1, CUT), (S, 2, CUT)], S),
    "a delete that came late": ([(S, 2, CUT), (D, 1, CUT)], S),
    "a ban after a stop": ([(S, 1, CUT), (B, 2, CUT)], B),
    "a stop after a ban, not cut yet": ([(B, 1, CUT), (S, 2, PENDING)], None),
    "no word at all": ([], None),
}


async def test_only_the_last_permission_word_is_appended_again(bench: Bench) -> None:
    """Each case is a customer of its own in one file of upserts; what is appended again is as it was the first time."""
    for when in (CUT, PENDING):
        words = [(case, word) for case, (said, _) in CASES.items() for word in said if word[2] == when]
        await bench.append(*(bench.event(operation, case, occurred) for case, (operation, occurred, _) in words))
        if when == CUT:
            await bench.execute("update cursor set position = (select max(id) from event)")
    known = set(await bench.column("select id from event"))
    await bench.append(*(bench.event(U, case, 4) for case in CASES))
    lease = await bench.lease()
    batch = await bench.uploading(lease, U)
    result = await bench.settle(lease, batch, settle(batch, Delivered(), TERMS))
    expected = {case: operation for case, (_, operation) in CASES.items() if operation}
    assert result.again == {S: sum(o is S for o in expected.values()), B: sum(o is B for o in expected.values())}
    customers = {bench.event(U, case).customer: case for case in CASES}
    copies = await bench.connection.fetch("select * from event where again_of is not null")
    assert {customers[row["customer"]]: row["operation"] for row in copies} == expected
    assert len(copies) == len(expected)
    for copy in copies:
        assert copy["again_of"] in known
        original = await bench.row("select * from event where id = $1", copy["again_of"])
        differs = {"id", "source", "message_id", "again_of"}
        assert {k: v for k, v in copy.items() if k not in differs} == {
            k: v for k, v in original.items() if k not in differs
        }
        assert (copy["source"], copy["message_id"]) == ("relay", f"again:{original['id']}:{batch.id}.1")


async def test_only_customers_in_the_file_count(bench: Bench) -> None:
    """A superseded upsert was not sent, so it undid nothing; nor did a file undo what it does not hold."""
    await bench.append(
        bench.event(S, "superseded", 1), bench.event(S, "in the file", 1), bench.event(S, "elsewhere", 1)
    )
    await bench.append(bench.event(D, "superseded", 0))
    await bench.execute("update cursor set position = (select max(id) from event)")
    await bench.append(bench.event(U, "superseded", -1), bench.event(U, "in the file", 2))
    lease = await bench.lease()
    batch = await bench.uploading(lease, U)
    assert batch.rows == 1
    assert (await bench.settle(lease, batch, settle(batch, Delivered(), TERMS))).again == {S: 1}


async def test_each_upload_that_may_have_arrived_counts(bench: Bench) -> None:
    """A lost answer and the one after it each send the stop again; copies of copies name the first original."""
    original = await bench.say(S, "a", 1)
    lease = await bench.lease()
    await bench.filed(lease, S)
    await bench.execute("update batch set state = 'delivered', ended_at = now()")
    await bench.say(U, "a", 0)
    batch = await bench.uploading(lease, U)
    settlement = settle(batch, Unknown("reset"), TERMS)
    assert (await bench.settle(lease, batch, settlement, outcome="unknown")).again == {S: 1}
    patient = bench.target(S, flush_after_s=1e9)
    surveyed = await bench.store.survey([patient], {patient.login: "any"}, await bench.w.fence(), lease.owner)
    assert [candidate.due for candidate in surveyed] == [True], "it is due at once"
    assert await bench.store.begin_upload(lease, batch, None) == 2
    assert (await bench.settle(lease, batch, settle(batch, Delivered(), TERMS), number=2)).again == {}
    stops = await bench.filed(lease, S)
    assert stops.rows == 1
    await bench.execute("update batch set state = 'delivered', ended_at = now() where ended_at is null")
    await bench.say(U, "a", 2)
    batch = await bench.uploading(lease, U)
    assert (await bench.settle(lease, batch, settle(batch, Delivered(), TERMS))).again == {S: 1}
    assert await bench.column("select again_of from event where again_of is not null") == [original, original]
    assert (await bench.filed(lease, S)).rows == 1


@pytest.mark.parametrize("operation", [D, S, A])
async def test_other_files_send_nothing_again(bench: Bench, operation: Operation) -> None:
    """Only an upsert can undo a stop."""
    await bench.say(S, "a", 5)
    await bench.execute("update cursor set position = (select max(id) from event)")
    await bench.say(operation, "a", 6)
    lease = await bench.lease()
    batch = await bench.uploading(lease, operation)
    assert (await bench.settle(lease, batch, settle(batch, Delivered(), TERMS))).again == {}
    assert batch.account == ACCOUNT
