"""The words for a login's calls of the day."""

from dataclasses import replace

import pytest

from relay.batches import BatchState, Day, Pace
from relay.events import Operation
from relay.status.quota import kept_back, quota
from relay.status.why import why_event, why_later, why_operation
from tests.unit.status.test_why import EVENT, LANE, WAITING, around, cursor

SHARED = Pace(240, 600.0)
NOON = replace(LANE, calls_today=168, day_left_s=43_200.0, since_call_s=0.0)
KEPT = replace(WAITING, wait_reason="quota", next_try_s=239.1, first_age_s=4000)


@pytest.mark.parametrize(
    ("calls", "opt_out", "told"),
    [
        (228, False, "kept back: 12 of the day's 240 calls are left, kept for opt-outs"),
        (228, True, "kept back: 12 of the day's 240 calls are left, spread over the rest of the day"),
        (239, False, "kept back: 1 of the day's 240 calls is left, kept for opt-outs"),
        (240, False, "the day's 240 calls are spent"),
        (300, True, "the day's 240 calls are spent"),
    ],
)
def test_who_is_kept_back_and_why(calls: int, opt_out: bool, told: str) -> None:  # noqa: FBT001
    """Each with its own sentence, in numbers."""
    assert kept_back(SHARED, Day(calls, 43_200.0), opt_out=opt_out) == told


def test_one_call_a_day_is_told_in_the_singular() -> None:
    """As small as that is, it is a limit that can be set."""
    assert kept_back(Pace(1, 144_000.0), Day(1, 500.0), opt_out=True) == "the day's 1 call is spent"
    kept = kept_back(Pace(1, 144_000.0), Day(0, 50_000.0), opt_out=False)
    assert kept == "kept back: 1 of the day's 1 call is left, kept for opt-outs"


def test_a_file_that_waits_for_the_vendors_record_says_so() -> None:
    """As long as there is the file: one that was un-cut meanwhile waits for its next try alone."""
    young = replace(WAITING, wait_reason="record", next_try_s=50.0, attempts=1, tried_reason="reset", batch_id=3)
    told = why_later(replace(young, batch_state=BatchState.WAITING), None, None)
    assert told == "the vendor's record of the upload without an answer is too young to be believed; next try in 50 s"
    uncut = replace(young, batch_id=None, batch_state=None)
    assert why_later(uncut, None, None) == "next try in 50 s after 1 failed attempt: reset"


def test_an_operation_that_waits_for_a_call_says_so() -> None:
    """With the calls that are left and the time of its next try; a failed attempt keeps its own words."""
    told = "kept back: 72 of the day's 240 calls are left, kept for opt-outs; next try in 240 s"
    near = replace(around(KEPT, lane=NOON), pace=SHARED)
    assert why_operation(KEPT, near) == told
    assert why_event(EVENT, near) == told
    stop = replace(cursor(Operation.STOP), wait_reason="quota", next_try_s=3.2, first_id=9, first_age_s=99)
    spread = "kept back: 72 of the day's 240 calls are left, spread over the rest of the day; next try in 4 s"
    assert why_operation(stop, replace(around(stop, lane=NOON), pace=SHARED)) == spread
    failed = replace(KEPT, wait_reason="", attempts=2, tried_reason="reset")
    assert why_later(failed, NOON, SHARED) == "next try in 240 s after 2 failed attempts: reset"
    assert why_later(KEPT, None, None) == "kept back for the calls of the day; next try in 240 s"


def test_what_is_told_of_a_day() -> None:
    """Calls made, left and kept; words only where somebody waits or the vendor counts otherwise."""
    assert quota(None, NOON).model_dump() == {
        "calls_today": 168,
        "per_day": None,
        "left": None,
        "kept_for_opt_outs": None,
        "why": None,
    }
    told = quota(SHARED, NOON)
    assert (told.calls_today, told.left, told.kept_for_opt_outs) == (168, 72, 72)
    assert told.why == "kept back: 72 of the day's 240 calls are left, kept for opt-outs"
    assert quota(SHARED, replace(NOON, calls_today=161)).why is None
    assert (quota(SHARED, None).left, quota(SHARED, None).why) == (240, None)


def test_a_vendor_that_counts_more_than_relay_is_told_of() -> None:
    """Somebody else uses the login as well: that is for an operator to find out."""
    told = quota(SHARED, replace(NOON, calls_today=20, met_calls=180))
    assert told.left == 160
    assert told.why == (
        "of late the vendor took no more after 180 of 240 calls: somebody else may use the login, too, so that 180 are"
        " counted on"
    )
    assert quota(SHARED, replace(NOON, calls_today=20, met_calls=240)).why is None, "that was relay alone"
