"""The sentences that say why something is not delivered yet."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from relay.batches import UNANSWERED, BatchState
from relay.client import HostState, State
from relay.events import EventState, Operation
from relay.status.why import UNNAMED, Around, spell, why_batch, why_event
from relay.store import ToldBatch, ToldCursor, ToldEvent, ToldLane

NOON = datetime(2026, 4, 1, 12, tzinfo=UTC)

LANE = ToldLane(
    login="blast",
    generation=7,
    leased=False,
    leased_s=0,
    waits_until=None,
    wait_s=0,
    wait_reason="",
    paused_at=None,
    pause_reason=None,
    pause_detail="",
    paused_fingerprint=None,
    flush_to=0,
    calls_today=0,
)

EVENT = ToldEvent(
    account="news",
    event_id=100,
    source="crm",
    message_id="msg_1",
    operation=Operation.UPSERT,
    occurred_at=NOON,
    received_at=NOON,
    again_of=None,
    state=EventState.PENDING,
    superseded_by=None,
    retried_as=None,
    batch_id=None,
    batch_reason="",
    uploaded_at=None,
    settled_at=None,
    dismissed=False,
    line=None,
    message=None,
)

BATCH = ToldBatch(
    account="news",
    id=12,
    login="blast",
    operation=Operation.UPSERT,
    header=("E-Mail",),
    cut_from=0,
    cut_to=200,
    rows=9,
    bytes=900,
    sha256=None,
    state=BatchState.READY,
    reason="",
    refused=False,
    rejected=0,
    reported_success=None,
    reported_failure=None,
    oldest_received_at=NOON,
    created_at=NOON,
    ended_at=None,
    dismissed_at=None,
    retried_at=None,
)


def cursor(operation: Operation = Operation.UPSERT, account: str = "news") -> ToldCursor:
    """A cursor with nothing to do."""
    return ToldCursor(
        account=account,
        operation=operation,
        position=50,
        attempts=0,
        rows_max=None,
        bytes_max=None,
        next_try_s=0,
        tried_reason="",
        batch_id=None,
        batch_state=None,
        first_id=None,
        first_age_s=None,
        again=False,
    )


WAITING = replace(cursor(), first_id=90, first_age_s=37.5)
"""Upserts wait since 37.5 s."""

OPEN = replace(cursor(), batch_id=12, batch_state=BatchState.WAITING)
"""The batch of the upserts waits."""


def around(*cursors: ToldCursor, lane: ToldLane | None = LANE, paused: bool = False) -> Around:
    """A login whose data waits for 60 s and whose opt-outs for 10 s."""
    return Around(
        lane=lane,
        paused=paused,
        cursors={(c.account, c.operation): c for c in cursors},
        flush_after_s={(c.account, c.operation): 10 if c.operation.opt_out else 60 for c in cursors},
    )


def lane_waits(seconds: float, reason: str) -> ToldLane:
    """A lane that waits."""
    return replace(LANE, waits_until=NOON, wait_s=seconds, wait_reason=reason)


# -- events that are done with ---------------------------------------------------------------------------------------


ALONE: dict[str, Any] = {"batch_id": 12, "line": 2, "batch_reason": f"{UNANSWERED}: HTTP 500"}


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (replace(EVENT, state=EventState.DELIVERED), None),
        (
            replace(EVENT, state=EventState.SUPERSEDED, superseded_by=123),
            "was replaced by a later word (event 123)",
        ),
        (replace(EVENT, state=EventState.RETRIED, retried_as=124), "was appended again as event 124"),
        (
            replace(EVENT, state=EventState.ACCEPTED, batch_id=12),
            "the vendor took the file and does not tell what became of its lines",
        ),
        (
            replace(EVENT, state=EventState.REJECTED, batch_id=12, line=3, message="taro@example.jp?"),
            "the vendor refused its line, line 3 of batch 12",
        ),
        (
            replace(EVENT, operation=Operation.UPSERT, state=EventState.REJECTED, **ALONE),
            f"{UNANSWERED} (line 2 of batch 12)",
        ),
        (
            replace(EVENT, operation=Operation.STOP, state=EventState.REJECTED, **ALONE),
            f"{UNANSWERED} (line 2 of batch 12), and it is appended again",
        ),
        (
            replace(EVENT, operation=Operation.STOP, state=EventState.REJECTED, dismissed=True, **ALONE),
            f"{UNANSWERED} (line 2 of batch 12); an operator dismissed it",
        ),
        (
            replace(EVENT, state=EventState.REJECTED, batch_id=12, line=3, dismissed=True),
            "the vendor refused its line, line 3 of batch 12; an operator dismissed it",
        ),
        (
            replace(EVENT, state=EventState.UNCONFIRMED, batch_id=12, line=3),
            "the vendor refused its line as already there, perhaps because of an earlier upload (line 3 of batch 12)",
        ),
        (
            replace(EVENT, state=EventState.UNCONFIRMED, batch_id=12, batch_reason="reset"),
            "may have arrived, and is not sent again by itself: reset",
        ),
        (
            replace(EVENT, state=EventState.FAILED, batch_id=12, batch_reason="refused connection"),
            "was given up: refused connection",
        ),
    ],
    ids=lambda value: value.state.value if isinstance(value, ToldEvent) else "",
)
def test_what_is_done_with_needs_nothing_around_it(event: ToldEvent, told: str | None) -> None:
    """States that stay are told from the event alone, never with the vendor's message about the line."""
    assert why_event(event, None) == told


@pytest.mark.parametrize("state", list(EventState))
def test_every_state_but_delivered_has_a_sentence(state: EventState) -> None:
    """No state leaves an operator without a word."""
    told = why_event(replace(EVENT, state=state), around(WAITING))
    assert (told is None) == (state is EventState.DELIVERED)


@pytest.mark.parametrize("state", [EventState.PENDING, EventState.READY, EventState.WAITING])
def test_an_account_without_settings_is_named_as_the_reason(state: EventState) -> None:
    """What waits for an account that the settings no longer name waits for ever; that is said."""
    assert why_event(replace(EVENT, state=state), None) == UNNAMED


# -- pending ---------------------------------------------------------------------------------------------------------


def pending(*cursors: ToldCursor, lane: ToldLane | None = LANE, paused: bool = False) -> str | None:
    """Why a pending upsert is not delivered."""
    return why_event(EVENT, around(*cursors, lane=lane, paused=paused))


def test_waiting_for_more() -> None:
    """What is not due says until when it waits; the time left is that of the oldest that waits."""
    assert pending(WAITING) == "waits for more or until 60 s after it arrived (in 23 s)"


@pytest.mark.parametrize(
    "due",
    [
        replace(WAITING, first_age_s=60.0),
        replace(WAITING, again=True),
        replace(WAITING, first_id=80),
    ],
    ids=["old enough", "appended again", "flushed"],
)
def test_what_is_due_is_cut_next(due: ToldCursor) -> None:
    """Age, an event that relay appended again, and an operator's flush each make all that waits due."""
    assert pending(due, lane=replace(LANE, flush_to=80)) == "is due, and is cut next"


def test_a_paused_login_comes_before_all_else() -> None:
    """A pause is told with its reason and detail, whatever else there is to wait for."""
    lane = replace(lane_waits(40, "busy"), paused_at=NOON, pause_reason="unauthorized", pause_detail="81401: wrong")
    stop = replace(cursor(Operation.STOP), batch_id=3, batch_state=BatchState.WAITING)
    assert pending(WAITING, stop, lane=lane, paused=True) == "its login is paused: unauthorized: 81401: wrong"


def test_a_pause_of_other_settings_holds_nothing_back() -> None:
    """A lane that other settings paused goes on by itself after its rest, so the pause is not the reason."""
    lane = replace(lane_waits(40, ""), paused_at=NOON, pause_reason="unauthorized")
    assert pending(WAITING, lane=lane) == "its login rests for 40 s"


def test_an_operators_pause_without_a_detail() -> None:
    """A pause without a detail ends with its reason."""
    lane = replace(LANE, paused_at=NOON, pause_reason="operator")
    assert pending(WAITING, lane=lane, paused=True) == "its login is paused: operator"


def test_unknown_columns_hold_back_data_only() -> None:
    """An opt-out under such a pause tells what else it waits for."""
    lane = replace(LANE, paused_at=NOON, pause_reason="columns", pause_detail="news: 氏名")
    stop = replace(cursor(Operation.STOP), first_id=90, first_age_s=4)
    held = around(WAITING, stop, lane=lane, paused=True)
    assert why_event(EVENT, held) == "its login is paused: columns: news: 氏名"
    told = why_event(replace(EVENT, operation=Operation.STOP), held)
    assert told == "waits for more or until 10 s after it arrived (in 6 s)"


def test_settings_that_were_refused_say_so() -> None:
    """This replica leaves the lane to those with other settings, whatever else it waits for."""
    held = replace(around(WAITING, lane=lane_waits(40, "busy")), refused_s=3000.0)
    told = "its login is left to replicas with other settings: the vendor refused this one's, which try again in 50 min"
    assert why_event(EVENT, held) == told


def test_data_that_was_refused_says_so_and_opt_outs_tell_what_else_they_wait_for() -> None:
    """This replica leaves data, and data alone, to those with other settings."""
    stop = replace(cursor(Operation.STOP), first_id=90, first_age_s=4)
    held = replace(around(WAITING, stop), refused_data_s=3000.0)
    told = "its login's data is left to replicas with other settings: the vendor refused this one's"
    assert why_event(EVENT, held) == f"{told}, which try again in 50 min"
    told = "waits for more or until 10 s after it arrived (in 6 s)"
    assert why_event(replace(EVENT, operation=Operation.STOP), held) == told


def test_a_host_that_fails_is_the_reason_where_it_takes_longest() -> None:
    """Open, it says when it is tried again; half-open, that somebody tries; and nothing beside what takes longer."""
    failing = replace(around(WAITING), host=HostState(State.OPEN, 24.2))
    told = "the vendor's host has failed several times in a row, and is tried again in 25 s"
    assert why_event(EVENT, failing) == told
    assert why_batch(BATCH, replace(around(OPEN), host=HostState(State.OPEN, 24.2))) == told
    soon = replace(failing, host=HostState(State.OPEN, 20))
    assert why_event(EVENT, soon) == "waits for more or until 60 s after it arrived (in 23 s)"
    waiting = replace(around(OPEN, lane=lane_waits(40, "busy")), host=HostState(State.OPEN, 24.2))
    assert why_batch(BATCH, waiting) == "the vendor is busy with another import and is asked again in 40 s"
    probing = replace(around(OPEN), host=HostState(State.HALF_OPEN))
    told = "the vendor's host has failed several times in a row, and one upload tries first whether it answers"
    assert why_batch(BATCH, probing) == told


@pytest.mark.parametrize(
    ("lane", "told"),
    [
        (lane_waits(7201, "quota"), "the vendor's quota of the day is spent until 2026-04-01 12:00 UTC (for 3 h)"),
        (lane_waits(24.2, "busy"), "the vendor is busy with another import and is asked again in 25 s"),
        (
            lane_waits(42, "settling"),
            "the vendor may still be importing the last file; the next one may go up in 42 s",
        ),
        (
            lane_waits(2400, "logins_refused"),
            "the vendor has refused the login too often: nobody logs in before 2026-04-01 12:00 UTC (for 40 min)",
        ),
    ],
    ids=["quota", "busy", "settling", "logins_refused"],
)
def test_what_a_lane_waits_for(lane: ToldLane, told: str) -> None:
    """Each of a lane's waits has its own words."""
    assert pending(WAITING, lane=lane) == told
    assert why_batch(BATCH, around(OPEN, lane=lane)) == told


def test_the_longer_of_two_waits_is_told() -> None:
    """A lane that waits for 20 s is no reason for what waits for more for 22.5 s, nor a next try in 20 s."""
    assert pending(WAITING, lane=lane_waits(20, "busy")) == "waits for more or until 60 s after it arrived (in 23 s)"
    soon = replace(WAITING, next_try_s=20, attempts=1)
    assert pending(soon) == "waits for more or until 60 s after it arrived (in 23 s)"
    later = replace(WAITING, next_try_s=30, attempts=1, tried_reason="reset")
    assert pending(later, lane=lane_waits(25, "busy")) == "next try in 30 s after 1 failed attempt: reset"


@pytest.mark.parametrize(
    "opt_out",
    [
        replace(cursor(Operation.DELETE), batch_id=3, batch_state=BatchState.WAITING),
        replace(cursor(Operation.STOP, "letter"), first_id=95, first_age_s=10),
    ],
    ids=["an open file", "another account's that are due"],
)
def test_data_waits_behind_opt_outs(opt_out: ToldCursor) -> None:
    """While an opt-out of the login has anything to do, data waits behind it, whether cut or not."""
    assert pending(WAITING, opt_out) == "waits behind opt-outs"
    assert why_batch(BATCH, around(OPEN, opt_out)) == "waits behind opt-outs"


def test_opt_outs_that_are_not_due_hold_nobody() -> None:
    """Opt-outs that still wait for more themselves are no reason."""
    young = replace(cursor(Operation.STOP), first_id=95, first_age_s=9)
    assert pending(replace(WAITING, first_age_s=61), young) == "is due, and is cut next"


def test_opt_outs_do_not_wait_behind_opt_outs() -> None:
    """An opt-out waits behind another one only while that is being uploaded."""
    stop = replace(cursor(Operation.STOP), first_id=95, first_age_s=11)
    delete = replace(cursor(Operation.DELETE), batch_id=3, batch_state=BatchState.WAITING, next_try_s=60)
    event = replace(EVENT, operation=Operation.STOP)
    assert why_event(event, around(stop, delete)) == "is due, and is cut next"


def test_a_failed_attempt_tells_number_and_reason() -> None:
    """The next try is told with what the last one came to, even after its batch was un-cut."""
    tried = replace(WAITING, first_age_s=600, next_try_s=239.4, attempts=3, tried_reason="refused connection")
    assert pending(tried) == "next try in 240 s after 3 failed attempts: refused connection"


def test_pending_behind_the_batch_of_its_own_operation() -> None:
    """An operation has one open batch: what arrives later waits behind it, and says what that waits for."""
    ahead = replace(WAITING, batch_id=12, batch_state=BatchState.UPLOADING)
    leased = replace(LANE, leased=True)
    assert pending(ahead, lane=leased) == "waits behind batch 12 (is being uploaded now)"


def test_pending_while_another_account_uploads() -> None:
    """A login uploads one file at a time."""
    other = replace(cursor(account="letter"), batch_id=9, batch_state=BatchState.UPLOADING)
    due = replace(WAITING, first_age_s=61)
    assert pending(due, other) == "waits for its turn: batch 9 of letter is being uploaded"


def test_an_event_without_a_cursor_still_gets_a_sentence() -> None:
    """Another replica with newer settings may have made the account's cursor since."""
    assert pending() == "is cut next"


# -- open batches ----------------------------------------------------------------------------------------------------


def test_an_open_batch() -> None:
    """An event in an open batch has the batch's reason."""
    tried = replace(OPEN, next_try_s=14.9, attempts=1, tried_reason="DNS")
    told = "next try in 15 s after 1 failed attempt: DNS"
    assert why_batch(replace(BATCH, state=BatchState.WAITING), around(tried)) == told
    assert why_event(replace(EVENT, state=EventState.WAITING), around(tried)) == told
    assert why_batch(BATCH, around(OPEN)) == "is the next to go up"


def test_a_batch_that_is_uploading() -> None:
    """An upload goes on while its lane is leased, even where the lane pauses; without a lease its replica has ended."""
    uploading = replace(BATCH, state=BatchState.UPLOADING)
    leased = replace(LANE, leased=True, paused_at=NOON, pause_reason="operator")
    own = replace(OPEN, batch_state=BatchState.UPLOADING)
    assert why_batch(uploading, around(own, lane=leased, paused=True)) == "is being uploaded now"
    told = "was being uploaded when its replica ended; another takes it over"
    assert why_batch(uploading, around(own)) == told


@pytest.mark.parametrize("state", [state for state in BatchState if state not in {"ready", "uploading", "waiting"}])
def test_a_batch_that_has_ended_waits_for_nothing(state: BatchState) -> None:
    """The reason of a batch that has ended stands in `reason`."""
    assert why_batch(replace(BATCH, state=state), around(OPEN)) is None


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.2, "1 s"), (23, "23 s"), (600, "600 s"), (600.1, "11 min"), (7200, "120 min"), (7201, "3 h"), (86400, "24 h")],
)
def test_durations_are_rounded_up(seconds: float, told: str) -> None:
    """Nobody waits less than is said."""
    assert spell(seconds) == told
