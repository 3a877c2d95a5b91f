"""Refused logins are counted, refused settings stay out, and unknown columns stop data only."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from relay.batches import BatchState, Manifest, choose
from relay.errors import LaneLost
from relay.events import Operation
from relay.store import Lease, UploadRecord
from relay.store.lanes import REFUSED_S
from tests.integration.store.made import ACCOUNT, FINGERPRINT, LOGIN, Bench, settled

U, D, S, B, A = Operation.UPSERT, Operation.DELETE, Operation.STOP, Operation.BAN, Operation.ALLOW
OLD, NEW, THIRD = "old settings", "new settings", "a third one's settings"
HOUR_S = 3600


async def ended(
    bench: Bench, fingerprint: str, outcome: str = "delivered", *, lease: Lease | None = None, per_hour_max: int = 5
) -> None:
    """Upload a file with these settings; it comes to this."""
    held = lease or await bench.lease(fingerprint=fingerprint)
    filed = await bench.column("select id from batch where ended_at is null and operation = 'upsert'")
    if filed:
        batch = await bench.store.manifest(ACCOUNT, filed[0])
    else:
        await bench.say(U, f"c{uuid4()}")
        batch = await bench.filed(held, U)
    await settle(bench, held, batch, fingerprint, outcome, per_hour_max=per_hour_max)
    if lease is None:
        await bench.store.release_lane(held)


async def settle(
    bench: Bench, lease: Lease, batch: Manifest, fingerprint: str, outcome: str, *, per_hour_max: int = 5
) -> None:
    """Begin an upload of a batch and settle it as relay does."""
    number = await bench.store.begin_upload(lease, batch, None)
    assert number is not None
    refusal = outcome in ("unauthorized", "misconfigured")
    changes: dict[str, object] = (
        {"pause": outcome, "lane_delay_s": 60.0, "proven": False} if refusal else {"proven": outcome != "transient"}
    )
    settlement = settled("delivered" if outcome == "delivered" else "waiting", **changes)
    await bench.store.settle(
        lease,
        batch,
        number,
        UploadRecord(outcome, settlement.reason),
        settlement,
        fingerprint,
        login_failures_per_hour_max=per_hour_max,
    )


async def rested(bench: Bench) -> None:
    """Let the minute pass that a lane rests after a refusal, but not a wait for refused logins."""
    await bench.execute("update lane set not_before = '-infinity' where wait_reason <> 'logins_refused'")


async def passes(bench: Bench, seconds: float) -> None:
    """Let so much time pass for everything that a lane remembers."""
    await bench.execute(
        "update lane set not_before = not_before - make_interval(secs => $1),"
        " refused_at = refused_at - make_interval(secs => $1),"
        " refused_logins = array(select moment - make_interval(secs => $1) from unnest(refused_logins) moment)",
        seconds,
    )


async def waits(bench: Bench) -> bool:
    """Whether the lane waits."""
    return (await bench.column("select not_before > now() from lane")) == [True]


async def free(bench: Bench, fingerprint: str) -> bool:
    """Whether a replica with these settings may have the lane, and sees what there is to do."""
    targets = [bench.target(operation) for operation in (U, D, S, B, A)]
    seen = bool(await bench.store.survey(targets, {LOGIN: fingerprint}, await bench.w.fence()))
    lease = await bench.store.lease_lane(LOGIN, uuid4(), 60, fingerprint)
    if lease is not None:
        await bench.store.release_lane(lease)
    assert seen == (lease is not None), "the survey and the lease have to agree"
    return seen


def is_in(moment: datetime, seconds: float) -> bool:
    """Whether a moment is so many seconds from now, give or take what a busy machine needs."""
    return abs((moment - datetime.now(UTC)).total_seconds() - seconds) < 10


# -- refused logins --------------------------------------------------------------------------------------------------


async def test_the_last_refusal_of_an_hour_makes_the_lane_wait(bench: Bench) -> None:
    """Up to there it rests a minute and may be resumed; then nobody gets it, whatever the settings, resumed or not."""
    for number in range(1, 6):
        await rested(bench)
        await bench.store.resume_lane(LOGIN)
        await ended(bench, f"typo {number}", "unauthorized")
        lane = await bench.lane()
        assert len(lane["refused_logins"]) == number
        assert lane["wait_reason"] == ("logins_refused" if number == 5 else "")
        assert is_in(lane["not_before"], HOUR_S if number == 5 else 60)
    for _ in range(2):
        assert not await free(bench, "yet other settings")
        await bench.store.resume_lane(LOGIN)
        lane = await bench.lane()
        assert (lane["pause_reason"], lane["wait_reason"]) == (None, "logins_refused"), "the pause ends, the wait stays"
        assert is_in(lane["not_before"], HOUR_S)
    await passes(bench, HOUR_S + 1)
    assert await free(bench, "yet other settings")


async def test_never_more_than_so_many_in_any_hour(bench: Bench) -> None:
    """An hour that begins anew on the clock is no new hour: the oldest of the last so many has to be an hour ago."""
    tried: list[float] = []
    now = 0.0
    for _ in range(40):
        if not await waits(bench):
            await ended(bench, f"typo {now}", "unauthorized", per_hour_max=3)
            tried.append(now)
        await rested(bench)
        await passes(bench, 300)
        now += 300
    assert len(tried) > 6
    assert max(sum(1 for other in tried if at <= other < at + HOUR_S) for at in tried) == 3


async def test_a_lowered_limit_counts_at_once(bench: Bench) -> None:
    """What was refused before the settings changed counts, however many there were."""
    for number in range(4):
        await ended(bench, f"typo {number}", "unauthorized", per_hour_max=10)
        await rested(bench)
        await passes(bench, 60)
    assert 0 < HOUR_S - await bench.store.logins_again_s(LOGIN, 2) < 150, "the second last is two minutes ago"
    await ended(bench, "typo", "unauthorized", per_hour_max=2)
    assert is_in((await bench.lane())["not_before"], HOUR_S - 60)


@pytest.mark.parametrize("outcome", ["delivered", "accepted", "refused"])
async def test_a_login_that_succeeds_begins_anew(bench: Bench, outcome: str) -> None:
    """The vendor has looked at the file: whatever was refused before is forgotten, and a wait because of it over."""
    for number in range(4):
        await ended(bench, f"typo {number}", "unauthorized")
        await rested(bench)
    lease = await bench.lease(fingerprint=NEW)
    await bench.say(S, "a")
    batch = await bench.uploading(lease, S)
    await bench.store.count_refused_login(LOGIN, 5)  # by a check, meanwhile
    assert (await bench.lane())["wait_reason"] == "logins_refused"
    await bench.store.settle(
        lease, batch, 1, _record(outcome), settled("delivered"), NEW, login_failures_per_hour_max=5
    )
    lane = await bench.lane()
    assert (lane["refused_logins"], lane["wait_reason"], await waits(bench)) == ([], "", False)


def _record(outcome: str) -> UploadRecord:
    """What is remembered of an upload."""
    return UploadRecord(outcome, "a reason")


@pytest.mark.parametrize("outcome", ["busy", "too_large", "transient", "unknown", "quota", "misconfigured"])
async def test_what_does_not_prove_the_login_forgets_nothing(bench: Bench, outcome: str) -> None:
    """A 429 or 413 may come from what stands before the vendor; and no shorter wait takes the place of the long one."""
    lease = await bench.lease()
    await bench.say(U, "a")
    batch = await bench.uploading(lease, U)
    for _ in range(5):
        await bench.store.count_refused_login(LOGIN, 5)
    waiting = settled("waiting", lane_delay_s=20.0, wait_reason="busy")
    await bench.store.settle(lease, batch, 1, _record(outcome), waiting, FINGERPRINT, login_failures_per_hour_max=5)
    lane = await bench.lane()
    assert (len(lane["refused_logins"]), lane["wait_reason"]) == (5, "logins_refused")
    assert is_in(lane["not_before"], HOUR_S)
    assert await bench.store.begin_upload(lease, batch, None) == 2
    long = settled("waiting", lane_delay_s=2.0 * HOUR_S, wait_reason="busy")
    await bench.store.settle(lease, batch, 2, _record(outcome), long, FINGERPRINT, login_failures_per_hour_max=5)
    assert is_in((await bench.lane())["not_before"], 2 * HOUR_S), "a longer one does"


async def test_calls_beside_uploads_count_too(bench: Bench) -> None:
    """A check, or `relay check --online`, counts without a lease, many at once; and asks before whether it may."""
    assert await bench.store.logins_again_s(LOGIN, 5) == 0
    waits = await asyncio.gather(*(bench.store.count_refused_login(LOGIN, 5) for _ in range(5)))
    assert sorted(wait > HOUR_S - 10 for wait in waits) == [False, False, False, False, True]
    assert HOUR_S - 10 < await bench.store.logins_again_s(LOGIN, 5) <= HOUR_S
    assert await bench.store.logins_again_s(LOGIN, 6) == 0
    assert (
        await bench.store.logins_again_s("unheard of", 5) == await bench.store.count_refused_login("unheard of", 5) == 0
    )
    told = (await bench.store.tell_lanes([LOGIN]))[LOGIN]
    assert (told.refused_logins, told.wait_reason) == (5, "logins_refused")
    await bench.store.forget_refused_logins(LOGIN)
    assert await bench.store.logins_again_s(LOGIN, 5) == 0
    assert not (await bench.store.tell_lanes([LOGIN]))[LOGIN].waits_until
    await bench.say(U, "a")
    assert await free(bench, FINGERPRINT)


# -- refused settings ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["unauthorized", "misconfigured"])
async def test_settings_that_failed_stay_out_while_others_work(bench: Bench, reason: str) -> None:
    """The pause ends with the others' success, but who failed does not come in between; after an hour it may again."""
    await ended(bench, OLD, reason)
    await rested(bench)
    assert [await free(bench, OLD), await free(bench, NEW)] == [False, True]
    await ended(bench, NEW)
    lane = await bench.lane()
    assert (lane["pause_reason"], lane["paused_fingerprint"], lane["refused_fingerprints"]) == (None, None, [OLD])
    await bench.say(U, "a")
    assert [await free(bench, OLD), await free(bench, NEW)] == [False, True]
    await passes(bench, REFUSED_S - 10)
    assert not await free(bench, OLD)
    told = (await bench.store.tell_lanes([LOGIN]))[LOGIN]
    assert told.refused_fingerprints == (OLD,)
    assert 0 < told.refused_s <= 10
    await passes(bench, 11)
    assert await free(bench, OLD), "a rollback heals by itself"
    told = (await bench.store.tell_lanes([LOGIN]))[LOGIN]
    assert (told.refused_fingerprints, told.refused_until, told.refused_s) == ((), None, 0)


async def test_what_proves_nothing_ends_no_pause(bench: Bench) -> None:
    """The others have not reached the vendor either: nobody knows yet whose settings are right."""
    await ended(bench, OLD, "unauthorized")
    await rested(bench)
    await ended(bench, NEW, "transient")
    lane = await bench.lane()
    assert (lane["paused_fingerprint"], lane["refused_fingerprints"]) == (OLD, [])


async def test_several_wrong_settings_take_one_turn_each(bench: Bench) -> None:
    """Whose pause is told is the last one's; none of them tries again because another one failed or worked."""
    for wrong in (OLD, THIRD):
        await ended(bench, wrong, "unauthorized")
        await rested(bench)
    lane = await bench.lane()
    assert (lane["paused_fingerprint"], lane["refused_fingerprints"]) == (THIRD, [OLD])
    assert [await free(bench, one) for one in (OLD, THIRD, NEW)] == [False, False, True]
    await ended(bench, NEW)
    await bench.say(U, "a")
    assert [await free(bench, one) for one in (OLD, THIRD, NEW)] == [False, False, True]
    assert (await bench.lane())["refused_fingerprints"] == [OLD, THIRD]


async def test_settings_that_work_again_are_forgotten(bench: Bench) -> None:
    """After its hour the one that failed works: it is not kept out by what it was."""
    await ended(bench, OLD, "unauthorized")
    await rested(bench)
    await ended(bench, NEW)
    await passes(bench, REFUSED_S + 1)
    await ended(bench, OLD)
    await ended(bench, NEW, "unauthorized")
    await rested(bench)
    await ended(bench, OLD)
    lane = await bench.lane()
    assert lane["refused_fingerprints"] == [NEW]
    await bench.say(U, "a")
    assert [await free(bench, OLD), await free(bench, NEW)] == [True, False]


async def test_an_operator_lets_them_in_again(bench: Bench) -> None:
    """Resume forgets who failed."""
    await ended(bench, OLD, "unauthorized")
    await rested(bench)
    await ended(bench, NEW)
    await bench.say(U, "a")
    assert not await free(bench, OLD)
    await bench.store.resume_lane(LOGIN)
    assert await free(bench, OLD)


async def data_paused(bench: Bench) -> None:
    """Pause the lane because the vendor does not understand the old settings' data."""
    lease = await bench.lease(fingerprint=OLD)
    batch = await bench.filed(lease, U)
    number = await bench.store.begin_upload(lease, batch, None)
    assert number is not None
    pause = settled("waiting", pause="data", proven=False)
    await bench.store.settle(lease, batch, number, UploadRecord("misconfigured", "no such column"), pause, OLD)
    await bench.store.release_lane(lease)


async def opt_out(bench: Bench, fingerprint: str) -> None:
    """Deliver an opt-out with these settings."""
    await bench.say(S, f"c{uuid4()}")
    lease = await bench.lease(fingerprint=fingerprint)
    batch = await bench.filed(lease, S)
    await settle(bench, lease, batch, fingerprint, "delivered")
    await bench.store.release_lane(lease)


@pytest.mark.parametrize("others", ["unauthorized", "misconfigured", "delivered", "columns"])
async def test_settings_whose_data_failed_send_their_opt_outs_whatever_others_came_to(
    bench: Bench, others: str
) -> None:
    """A rollback to them leaves no opt-out standing; their data stays out for an hour, whatever opt-outs come to."""
    await bench.say(U, "a")
    await data_paused(bench)
    if others == "columns":
        lease = await bench.lease(fingerprint=NEW)
        assert await bench.store.pause_for_columns(lease, "unknown", NEW)
        await bench.store.release_lane(lease)
    else:
        await ended(bench, NEW, others)
    assert (await bench.lane())["refused_fingerprints"] == [f"data:{OLD}"]
    await rested(bench)
    for _ in range(2):
        await opt_out(bench, OLD)
        await bench.say(U, "b")
        await bench.say(S, "c")
        assert {one for one, (waits, _) in (await seen(bench)).items() if not waits} == {S}
        await opt_out(bench, NEW) if others == "delivered" else None
    assert f"data:{OLD}" in (await bench.lane())["refused_fingerprints"]
    told = (await bench.store.tell_lanes([LOGIN]))[LOGIN]
    assert (OLD in told.refused_fingerprints, told.refused_data_fingerprints) == (False, (OLD,))
    await passes(bench, REFUSED_S + 1)
    assert (await seen(bench))[U][0] is False, "a rollback heals by itself"
    told = (await bench.store.tell_lanes([LOGIN]))[LOGIN]
    assert (told.refused_fingerprints, told.refused_data_fingerprints) == ((), ())


async def test_settings_that_fail_wholly_after_their_data_stay_out_once(bench: Bench) -> None:
    """What was remembered of their data makes way for what is worse; and `resume` forgets both."""
    await bench.say(U, "a")
    await data_paused(bench)
    await ended(bench, NEW)
    await bench.say(S, "a")
    lease = await bench.lease(fingerprint=OLD)
    await settle(bench, lease, await bench.filed(lease, S), OLD, "unauthorized")
    await bench.store.release_lane(lease)
    await rested(bench)
    await bench.say(U, "b")
    await ended(bench, NEW)
    assert (await bench.lane())["refused_fingerprints"] == [OLD]
    assert not await free(bench, OLD)
    await bench.store.resume_lane(LOGIN)
    assert await free(bench, OLD)


# -- columns ---------------------------------------------------------------------------------------------------------


async def columns_paused(bench: Bench) -> None:
    """Pause the lane because of the old settings' columns."""
    lease = await bench.lease(fingerprint=OLD)
    assert await bench.store.pause_for_columns(lease, "unknown: 氏名", OLD)
    await bench.store.release_lane(lease)


async def seen(bench: Bench, fingerprint: str = OLD) -> dict[Operation, tuple[bool, bool]]:
    """What a replica sees: by operation, whether it waits for later, and whether there is a batch."""
    targets = [bench.target(operation) for operation in (U, D, S, B, A)]
    found = await bench.store.survey(targets, {LOGIN: fingerprint}, await bench.w.fence())
    return {one.operation: (one.waits, one.batch_id is not None) for one in found}


async def test_unknown_columns_stop_data_and_nothing_else(bench: Bench) -> None:
    """Opt-outs are cut and sent as ever, and end no such pause; data waits until the pause has ended."""
    for operation in (U, A, D, S, B):
        await bench.say(operation, f"{operation}")
    await columns_paused(bench)
    lane = await bench.lane()
    assert (lane["pause_reason"], lane["pause_detail"], lane["paused_fingerprint"]) == ("columns", "unknown: 氏名", OLD)
    assert set(await seen(bench)) == {D, S, B}
    for operation in (D, S, B):
        lease = await bench.lease(fingerprint=OLD)
        batch = await bench.filed(lease, operation)
        await settle(bench, lease, batch, OLD, "delivered")
        await bench.store.release_lane(lease)
        assert (await bench.lane())["pause_reason"] == "columns"
    assert await seen(bench) == {}
    assert (await bench.lane())["refused_fingerprints"] == []


async def test_open_data_gives_way_to_opt_outs_under_a_columns_pause(bench: Bench) -> None:
    """A file of upserts that waits is cut anew behind the opt-outs: it must not bring back whom they delete."""
    await bench.say(U, "a")
    lease = await bench.lease(fingerprint=OLD)
    batch = await bench.filed(lease, U)
    assert await bench.store.pause_for_columns(lease, "unknown: 氏名", OLD)
    await bench.store.release_lane(lease)
    assert await seen(bench) == {U: (True, True)}
    await bench.say(D, "a", occurred=1)
    targets = [bench.target(operation) for operation in (U, D)]
    choice = choose(await bench.store.survey(targets, {LOGIN: OLD}, await bench.w.fence()))
    assert choice.pick is not None
    assert choice.pick.operation is D
    assert [one.batch_id for one in choice.uncut] == [batch.id]
    await bench.execute("update batch set state = $1", BatchState.UPLOADING)
    choice = choose(await bench.store.survey(targets, {LOGIN: OLD}, await bench.w.fence()))
    assert choice.take_over is not None, "a dead replica's upload is settled, whatever it was"


async def test_what_ends_a_columns_pause(bench: Bench) -> None:
    """A check that passed, other settings' success, or an operator; its settings are not kept out by it."""
    await bench.say(U, "a")
    await columns_paused(bench)
    lease = await bench.lease(fingerprint=OLD)
    assert await bench.store.end_columns_pause(lease)
    assert not await bench.store.end_columns_pause(lease)
    await bench.store.release_lane(lease)
    assert await seen(bench) == {U: (False, False)}

    await columns_paused(bench)
    assert await seen(bench, NEW) == {U: (False, False)}, "others have other columns"
    await ended(bench, NEW)
    lane = await bench.lane()
    assert (lane["pause_reason"], lane["paused_fingerprint"], lane["refused_fingerprints"]) == (None, None, [])

    await columns_paused(bench)
    await bench.store.resume_lane(LOGIN)
    assert (await bench.lane())["pause_reason"] is None


async def test_a_columns_pause_weakens_no_other(bench: Bench) -> None:
    """Neither an operator's, nor that of a login that was refused; and these take its place."""
    lease = await bench.lease(fingerprint=OLD)
    assert await bench.store.pause_for_columns(lease, "one header", OLD)
    since = (await bench.lane())["paused_at"]
    assert await bench.store.pause_for_columns(lease, "two headers", OLD)
    lane = await bench.lane()
    assert (lane["paused_at"], lane["pause_detail"]) == (since, "two headers"), "the same pause, told anew"
    await ended(bench, OLD, "unauthorized", lease=lease)
    assert (await bench.lane())["pause_reason"] == "unauthorized"
    assert not await bench.store.pause_for_columns(lease, "one header", OLD)
    assert not await bench.store.end_columns_pause(lease)
    assert await bench.store.pause_for_columns(lease, "one header", NEW), "others' failure is not one's own"
    lane = await bench.lane()
    assert (lane["pause_reason"], lane["paused_fingerprint"], lane["refused_fingerprints"]) == ("columns", NEW, [OLD])
    await bench.store.pause_lane(LOGIN, "moving house")
    assert not await bench.store.pause_for_columns(lease, "one header", THIRD)
    assert (await bench.lane())["pause_reason"] == "operator"


async def test_who_lost_the_lane_pauses_nothing(bench: Bench) -> None:
    """A check that took too long is forgotten."""
    lease = await bench.lease()
    await bench.execute("update lane set leased_until = now()")
    await bench.lease()
    for write in (bench.store.pause_for_columns(lease, "late", OLD), bench.store.end_columns_pause(lease)):
        with pytest.raises(LaneLost):
            await write
    assert (await bench.lane())["pause_reason"] is None
    assert timedelta(seconds=REFUSED_S) == timedelta(hours=1), "README says so"
