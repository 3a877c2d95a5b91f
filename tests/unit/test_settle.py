"""What follows from an outcome: delays, attempts, sizes, pauses, and what is remembered."""

from dataclasses import replace

import pytest

from relay.batches import (
    BUSY_DELAY_S,
    OUTCOMES,
    PAUSE_S,
    RETRY_AFTER_MAX_S,
    RETRY_DELAYS_S,
    TRANSITIONS,
    Accepted,
    BatchState,
    Busy,
    Cursor,
    Delivered,
    LineRejection,
    Misconfigured,
    Outcome,
    Quota,
    Refused,
    TooLarge,
    Transient,
    Unauthorized,
    Unknown,
    settle,
)
from relay.events import Operation
from tests.unit.manifests import TERMS, manifest

U, D, S, A = Operation.UPSERT, Operation.DELETE, Operation.STOP, Operation.ALLOW
OPT_OUTS = (D, S, Operation.BAN)

ALL: tuple[Outcome, ...] = (
    Delivered(),
    Delivered((LineRejection(2, "no"),)),
    Accepted(),
    Busy("busy"),
    Quota("81404"),
    Transient("refused"),
    Unknown("reset"),
    Unknown("slow", timed_out=True),
    Unauthorized("401"),
    Misconfigured("81435"),
    TooLarge("413"),
    Refused("Failure_Data is incorrect"),
)
FULL = Cursor(attempts=3, sent_to=9, rows_max=400, bytes_max=9_000, refused_lines=1, refused_from=900)


def test_every_outcome_is_tried_here() -> None:
    """A new outcome has to be added to these tests."""
    assert {type(outcome) for outcome in ALL} == set(OUTCOMES)


@pytest.mark.parametrize("operation", [U, D, A])
@pytest.mark.parametrize("rows", [1, 100])
@pytest.mark.parametrize("outcome", ALL, ids=repr)
def test_states_change_only_along_the_table(outcome: Outcome, rows: int, operation: Operation) -> None:
    """Whatever comes of an upload is a change of state that the table allows, with the memory in bounds."""
    for cursor in (Cursor(), FULL, replace(FULL, attempts=99, refused_lines=2)):
        settlement = settle(manifest(operation, rows, cursor=cursor), outcome, TERMS)
        assert settlement.state in TRANSITIONS[BatchState.UPLOADING]
        after = settlement.cursor
        assert after.rows_max is None or after.rows_max >= 1
        assert after.bytes_max is None or after.bytes_max >= 1
        assert (after.refused_from is None) == (after.refused_lines == 0)
        assert after.sent_to >= cursor.sent_to
        assert (settlement.position is None) == (settlement.state is not BatchState.REPLACED)
        assert settlement.refused == (settlement.state is BatchState.FAILED and bool(settlement.rejections))


EXPECTED = {
    # outcome: (upsert, opt-out, allow), each (state with many rows, state with one row)
    Delivered(): (("delivered",) * 2,) * 3,
    Accepted(): (("accepted",) * 2,) * 3,
    Busy("busy"): (("waiting",) * 2,) * 3,
    Quota("81404"): (("waiting",) * 2,) * 3,
    Transient("refused"): (("waiting",) * 2,) * 3,
    Unknown("reset"): (("waiting",) * 2, ("waiting",) * 2, ("unconfirmed",) * 2),
    Unknown("slow", timed_out=True): (("waiting",) * 2, ("waiting",) * 2, ("unconfirmed",) * 2),
    Unauthorized("401"): (("waiting",) * 2,) * 3,
    Misconfigured("81435"): (("waiting",) * 2,) * 3,
    TooLarge("413"): (("replaced", "failed"),) * 3,
    Refused("bad"): (("replaced", "failed"),) * 3,
}


@pytest.mark.parametrize(("outcome", "states"), EXPECTED.items(), ids=repr)
def test_each_outcome_leads_to_its_state(outcome: Outcome, states: tuple[tuple[str, str], ...]) -> None:
    """The table of outcomes, for upserts, opt-outs and allows, with many rows and with one."""
    for operation, (many, single) in zip((U, S, A), states, strict=True):
        assert settle(manifest(operation, 100), outcome, TERMS).state == many
        assert settle(manifest(operation, 1), outcome, TERMS).state == single
    last_try = Cursor(attempts=TERMS.attempts_max - 1)
    gives_up = {Transient, Unknown} & {type(outcome)}
    assert (settle(manifest(U, 1, cursor=last_try), outcome, TERMS).state == "failed") == bool(
        gives_up or states[0][1] == "failed"
    )


# -- trying again ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", [U, D])
def test_delays_follow_the_table_with_jitter(operation: Operation) -> None:
    """15 s, 1 min, 5 min, 30 min, then 2 h each time, a tenth less or more, as long as nobody is reached."""
    terms = replace(TERMS, attempts_max=1000)
    for attempts, delay_s in enumerate((15, 60, 300, 1800, 7200, 7200, 7200)):
        batch = manifest(operation, cursor=Cursor(attempts=attempts))
        for jitter in (-0.1, 0.0, 0.1):
            settlement = settle(batch, Transient("refused"), terms, jitter)
            assert settlement.delay_s == pytest.approx(delay_s * (1 + jitter))
            assert settlement.cursor.attempts == attempts + 1
            assert settlement.lane_delay_s is None, "other accounts of the login go on"


@pytest.mark.parametrize("outcome", [Transient("refused"), Unknown("reset")], ids=repr)
def test_data_is_given_up_after_the_last_attempt(outcome: Outcome) -> None:
    """The `attempts_max`th failure gives upserts up, and what comes after them starts afresh."""
    settlement = settle(manifest(U, cursor=Cursor(attempts=8)), outcome, TERMS)
    assert settlement.state is BatchState.WAITING
    settlement = settle(manifest(U, cursor=Cursor(attempts=9)), outcome, TERMS)
    assert (settlement.state, settlement.cursor.attempts, settlement.delay_s) == (BatchState.FAILED, 0, None)
    assert not settlement.refused


@pytest.mark.parametrize("operation", OPT_OUTS)
def test_opt_outs_are_never_given_up(operation: Operation) -> None:
    """After a thousand attempts an opt-out is still tried every two hours, or at once where somebody answers."""
    for attempts in (9, 10, 1000):
        batch = manifest(operation, cursor=Cursor(attempts=attempts))
        settlement = settle(batch, Transient("refused"), TERMS)
        assert (settlement.state, settlement.delay_s) == (BatchState.WAITING, RETRY_DELAYS_S[-1])
        settlement = settle(batch, Unknown("500"), TERMS)
        assert (settlement.state, settlement.delay_s) == (BatchState.WAITING, RETRY_DELAYS_S[0])


@pytest.mark.parametrize("operation", list(Operation))
def test_busy_and_quota_burn_nothing(operation: Operation) -> None:
    """The cursor stays as it was; the lane waits."""
    batch = manifest(operation, cursor=replace(FULL, attempts=9))
    for outcome in (Busy("busy"), Quota("81404")):
        settlement = settle(batch, outcome, TERMS)
        assert (settlement.state, settlement.cursor, settlement.delay_s) == (BatchState.WAITING, batch.cursor, None)
        assert settlement.pause is None
        assert settlement.proven == isinstance(outcome, Quota)
    assert settle(batch, Quota("81404"), TERMS).lane_until_next_day


@pytest.mark.parametrize(
    ("asked_s", "waits_s"), [(None, BUSY_DELAY_S), (0, 1), (12.5, 12.5), (1e9, RETRY_AFTER_MAX_S), (float("inf"), 3600)]
)
def test_a_vendor_s_patience_has_bounds(asked_s: float | None, waits_s: float) -> None:
    """At least a second, at most an hour: opt-outs wait behind it."""
    settlement = settle(manifest(), Busy("busy", asked_s), TERMS)
    assert (settlement.lane_delay_s, settlement.wait_reason) == (waits_s, "busy")
    assert not settlement.lane_until_next_day


@pytest.mark.parametrize(
    ("outcome", "pause"), [(Unauthorized("81401"), "unauthorized"), (Misconfigured("81435"), "misconfigured")]
)
@pytest.mark.parametrize("operation", [U, D, A])
def test_an_operator_s_fault_pauses_the_lane_and_burns_nothing(
    outcome: Outcome, pause: str, operation: Operation
) -> None:
    """The batch waits as it is; the lane rests even for other settings, so that a login is not locked out.

    A file of data that is not understood holds up data only: opt-outs find out by themselves.
    """
    rest_s: float | None = PAUSE_S
    if pause == "misconfigured" and not operation.opt_out:
        pause, rest_s = "data", None
    batch = manifest(operation, cursor=replace(FULL, attempts=9))
    settlement = settle(batch, outcome, TERMS)
    assert (settlement.state, settlement.pause, settlement.cursor) == (BatchState.WAITING, pause, batch.cursor)
    assert settlement.lane_delay_s == rest_s
    assert not settlement.proven


# -- what may have arrived -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", ALL, ids=repr)
@pytest.mark.parametrize("operation", list(Operation))
def test_what_may_have_arrived_has_consequences(outcome: Outcome, operation: Operation) -> None:
    """Only then does the lane wait for the vendor to import, and only after upserts are stops sent again."""
    may_have = isinstance(outcome, Delivered | Accepted | Unknown)
    settlement = settle(manifest(operation), outcome, replace(TERMS, settle_after_s=60))
    assert settlement.send_again == (may_have and operation is U)
    assert (settlement.wait_reason == "settling") == may_have
    if may_have:
        assert settlement.lane_delay_s == 60
    without_an_answer = isinstance(outcome, Unknown)
    assert settlement.cursor.sent_to == (1100 if without_an_answer else 0)


def test_only_an_answer_proves_that_the_vendor_lets_relay_in() -> None:
    """A refused connection, a reset or a refused login says nothing for the settings; nor does a proxy's 429 or 413."""
    for rows in (1, 100):
        proven = {type(o).__name__ for o in ALL if settle(manifest(rows=rows), o, TERMS).proven}
        assert proven == {"Delivered", "Accepted", "Quota", "Refused"}


def test_an_allow_is_not_sent_again_when_its_answer_is_lost() -> None:
    """The customer may have left at the vendor meanwhile: it ends unconfirmed, however early the attempt."""
    for timed_out in (False, True):
        settlement = settle(manifest(A), Unknown("reset", timed_out), TERMS)
        assert (settlement.state, settlement.delay_s) == (BatchState.UNCONFIRMED, None)
        assert settlement.position is None
    assert settle(manifest(A), Transient("refused"), TERMS).state is BatchState.WAITING, "it never left"


def test_success_forgets_failures() -> None:
    """Attempts and refused lines start afresh; the rejections are written down."""
    rejections = (LineRejection(2, "no"), LineRejection(101, "no", unconfirmed=True))
    settlement = settle(manifest(cursor=FULL), Delivered(rejections, "some"), TERMS)
    after = settlement.cursor
    assert (after.attempts, after.refused_lines, after.refused_from) == (0, 0, None)
    assert (settlement.rejections, settlement.reason) == (rejections, "some")
