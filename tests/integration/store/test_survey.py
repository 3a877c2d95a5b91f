"""The survey: what is due, and why; what waits; and the lanes that stay out of it."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from relay.batches import BatchState, Candidate
from relay.events import Event, Operation
from relay.store import Target
from tests.integration.store.made import ACCOUNT, FINGERPRINT, LOGIN, Bench, raw_append, raw_connection

U, D, S = Operation.UPSERT, Operation.DELETE, Operation.STOP


def received(event: Event, ago_s: float) -> Event:
    """The event, received so many seconds ago."""
    return replace(event, received_at=datetime.now(UTC) - timedelta(seconds=ago_s))


async def survey(bench: Bench, target: Target, fence: int | None = None) -> Candidate | None:
    """Survey one target."""
    found = await bench.store.survey([target], {LOGIN: FINGERPRINT}, await bench.w.fence() if fence is None else fence)
    assert len(found) <= 1
    return found[0] if found else None


async def due(bench: Bench, target: Target) -> bool:
    """Whether waiting events are due."""
    candidate = await survey(bench, target)
    assert candidate is not None
    return candidate.due


async def test_nothing_waits(bench: Bench) -> None:
    """Without events beyond the cursor there is no candidate, whatever other operations have."""
    await bench.say(D, "a")
    assert await survey(bench, bench.target(U)) is None
    lease = await bench.lease()
    await bench.filed(lease, D)
    await bench.execute("update batch set state = 'delivered', ended_at = now()")
    await bench.store.release_lane(lease)
    assert await survey(bench, bench.target(D)) is None


async def test_due_by_age_of_the_oldest(bench: Bench) -> None:
    """What has waited for `flush_after_s` is due; what arrives meanwhile never puts it off."""
    await bench.append(received(bench.event(U, "a"), ago_s=100), received(bench.event(U, "b"), ago_s=1))
    assert not await due(bench, bench.target(U, flush_after_s=200))
    assert await due(bench, bench.target(U, flush_after_s=99))
    candidate = await survey(bench, bench.target(U, flush_after_s=200))
    assert candidate is not None
    assert 100 <= candidate.age_s < 110
    assert (candidate.batch_id, candidate.batch_state, candidate.waits) == (None, None, False)
    assert (candidate.login, candidate.account, candidate.operation) == (LOGIN, ACCOUNT, U)


async def test_what_has_failed_waits_since_its_next_try_is_due(bench: Bench) -> None:
    """Else its older events would always go before what has not been tried, whenever both may go."""
    await bench.append(received(bench.event(S, "a"), ago_s=9000), received(bench.event(D, "b"), ago_s=50))
    failed = "update cursor set not_before = now() - interval '20 s' where operation = 'stop'"
    ages = []
    for query in ("select 1", failed):
        await bench.execute(query)
        found = [await survey(bench, bench.target(operation)) for operation in (S, D)]
        ages.append([round(one.age_s, -1) for one in found if one])
    assert ages == [[9000, 50], [20, 50]]


async def test_a_clock_that_ran_ahead_holds_nothing_up(bench: Bench) -> None:
    """What was stamped with a time to come is due now, and with it all that came after it."""
    patient = bench.target(U, flush_after_s=100)
    await bench.append(received(bench.event(U, "a"), ago_s=-3600), received(bench.event(U, "b"), ago_s=0))
    assert await due(bench, patient)


async def test_due_by_rows_or_bytes_that_fill_a_file(bench: Bench) -> None:
    """As many rows or bytes as a file holds are due at once; the cursor's smaller limits count, too."""
    await bench.append(*(received(bench.event(U, f"c{n}", line=b"x" * 98 + b"\r\n"), ago_s=0) for n in range(5)))
    patient = bench.target(U, flush_after_s=1e6)
    assert not await due(bench, replace(patient, rows_max=6, bytes_max=501))
    assert await due(bench, replace(patient, rows_max=5))
    assert await due(bench, replace(patient, bytes_max=500))
    remember = "update cursor set rows_max = $1, bytes_max = $2"
    for rows_max, bytes_max, is_due in ((6, 501, False), (5, None, True), (None, 500, True), (6, None, False)):
        await bench.execute(remember, rows_max, bytes_max)
        assert await due(bench, patient) == is_due


async def test_due_because_an_operator_asks(bench: Bench) -> None:
    """Everything up to the id of the moment is due; what comes later waits its time."""
    asked, _ = await bench.append(*(received(bench.event(U, name), ago_s=0) for name in "ab"))
    patient = bench.target(U, flush_after_s=1e6)
    assert not await due(bench, patient)
    await bench.execute("update lane set flush_to = $1", asked)
    assert await due(bench, patient)
    await bench.execute("update cursor set position = $1 where operation = 'upsert'", asked)
    assert not await due(bench, patient)


async def test_due_because_relay_appended_it_again(bench: Bench) -> None:
    """A stop that an upsert may have undone is due at once, even behind one that is not; beyond the fence it is not."""
    event = received(bench.event(S, "a"), ago_s=0)
    (original,) = await bench.append(event)
    patient = bench.target(S, flush_after_s=1e6)
    assert not await due(bench, patient)
    await bench.execute(
        "insert into event (account, source, message_id, digest, operation, customer, layout, line, occurred_at,"
        " received_at, again_of) select account, 'relay', 'again:1:1', digest, operation, customer, layout, line,"
        " occurred_at, received_at, id from event"
    )
    assert await due(bench, patient)
    candidate = await survey(bench, patient, fence=original)
    assert candidate is not None
    assert not candidate.due


async def test_what_lies_beyond_the_fence_does_not_wait_yet(bench: Bench) -> None:
    """It may not be cut, so it makes no candidate."""
    async with raw_connection(bench.url) as other:
        transaction = other.transaction()
        await transaction.start()
        lower = await raw_append(other, bench.event(U, "slow"))
        await bench.say(U, "fast")
        assert await survey(bench, bench.target(U), fence=lower - 1) is None
        await transaction.rollback()


async def test_an_open_batch_is_told_with_its_state_and_age(bench: Bench) -> None:
    """Ready, uploading or waiting, however new the events behind it; then nothing is due, for nothing may be cut."""
    await bench.append(received(bench.event(U, "a"), ago_s=500))
    lease = await bench.lease()
    batch = await bench.filed(lease, U)
    await bench.append(received(bench.event(U, "b"), ago_s=1))
    await bench.store.release_lane(lease)
    for state in (BatchState.READY, BatchState.UPLOADING, BatchState.WAITING):
        await bench.execute("update batch set state = $1", state)
        candidate = await survey(bench, bench.target(U))
        assert candidate is not None
        assert (candidate.batch_id, candidate.batch_state, candidate.due) == (batch.id, state, False)
        assert 500 <= candidate.age_s < 510
    await bench.execute("update batch set state = 'delivered', ended_at = now()")
    candidate = await survey(bench, bench.target(U))
    assert candidate is not None
    assert (candidate.batch_id, candidate.due) == (None, True)


async def test_who_waits_for_a_next_try_is_told_so(bench: Bench) -> None:
    """With a batch or without, the cursor's delay is what counts."""
    await bench.say(U, "a")
    for not_before, waits in (("now() + interval '1 hour'", True), ("now()", False)):
        await bench.execute(f"update cursor set not_before = {not_before}")  # noqa: S608 (from the line above)
        candidate = await survey(bench, bench.target(U))
        assert candidate is not None
        assert (candidate.waits, candidate.due) == (waits, True)


Hold = Callable[[Bench], Awaitable[object]]
OUT: dict[str, Hold] = {
    "leased": lambda bench: bench.lease(),
    "waiting": lambda bench: bench.execute("update lane set not_before = now() + interval '1 s'"),
    "paused": lambda bench: bench.execute("update lane set paused_at = now(), pause_reason = 'operator'"),
    "paused on these settings": lambda bench: bench.execute(
        "update lane set paused_at = now(), pause_reason = 'unauthorized', paused_fingerprint = $1", FINGERPRINT
    ),
    "unknown": lambda bench: bench.execute("delete from lane"),
}


@pytest.mark.parametrize("why", OUT)
async def test_lanes_that_may_not_be_worked_stay_out(bench: Bench, why: str) -> None:
    """There is no use in telling what there is to do there."""
    await bench.say(U, "a")
    assert await survey(bench, bench.target(U)) is not None
    await OUT[why](bench)
    assert await survey(bench, bench.target(U)) is None


async def test_the_owner_sees_its_own_lane(bench: Bench) -> None:
    """Who holds the lane looks again what there is to do; nobody else's lease lets anybody in."""
    await bench.say(U, "a")
    lease = await bench.lease()
    fence = await bench.w.fence()
    mine = await bench.store.survey([bench.target(U)], {LOGIN: FINGERPRINT}, fence, lease.owner)
    assert [candidate.due for candidate in mine] == [True]
    assert await bench.store.survey([bench.target(U)], {LOGIN: FINGERPRINT}, fence, uuid4()) == []


async def test_many_targets_are_kept_apart(bench: Bench) -> None:
    """Each operation is told by itself, with its own time; accounts without a cursor are nobody's."""
    await bench.append(*(received(bench.event(operation, "a"), ago_s=30) for operation in (U, D, S)))
    targets = [bench.target(U, flush_after_s=60), bench.target(D, flush_after_s=10), bench.target(S, flush_after_s=29)]
    stranger = replace(bench.target(U), account="nobody")
    found = await bench.store.survey([*targets, stranger], {LOGIN: FINGERPRINT}, await bench.w.fence())
    assert {candidate.operation: candidate.due for candidate in found} == {U: False, D: True, S: True}


async def test_an_upload_of_an_account_that_nobody_names_is_told(bench: Bench) -> None:
    """A replica that knows the account no longer has to settle it, or the login could never upload again."""
    await bench.say(U, "a")
    lease = await bench.lease()
    batch = await bench.uploading(lease, U)
    fence = await bench.w.fence()
    named = [replace(bench.target(U), account="another"), bench.target(S)]
    assert await bench.store.survey(named, {LOGIN: FINGERPRINT}, fence) == [], "its replica may be alive"
    await bench.execute("update lane set leased_until = now()")
    (orphan,) = await bench.store.survey(named, {LOGIN: FINGERPRINT}, fence)
    assert (orphan.account, orphan.operation, orphan.batch_id) == (ACCOUNT, U, batch.id)
    assert (orphan.batch_state, orphan.due) == (BatchState.UPLOADING, False)
    assert len(await bench.store.survey([bench.target(U)], {LOGIN: FINGERPRINT}, fence)) == 1, "and not twice"
    await bench.execute("update batch set state = 'waiting'")
    assert await bench.store.survey(named, {LOGIN: FINGERPRINT}, fence) == []


async def test_an_upload_counts_for_the_login_that_makes_it(bench: Bench) -> None:
    """A batch that was cut under another login, before the account moved, does not block that one."""
    await bench.say(U, "a")
    lease = await bench.lease()
    await bench.filed(lease, U)
    await bench.execute("update batch set login = 'the login of old'")
    (number,) = await bench.column("select id from batch")
    batch = await bench.store.manifest(ACCOUNT, number)
    assert await bench.store.begin_upload(lease, batch, None) == 1
    assert (await bench.store.manifest(ACCOUNT, number)).login == LOGIN
