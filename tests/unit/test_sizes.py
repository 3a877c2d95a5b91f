"""Files that get smaller and grow again.

One bad line costs few uploads, its neighbours nothing, and settings that are wrong reject no line at all.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.batches import (
    PAUSE_S,
    REFUSED_LINES_MAX,
    Accepted,
    BatchState,
    Cursor,
    Delivered,
    LineRejection,
    Misconfigured,
    Outcome,
    Refused,
    Settlement,
    TooLarge,
    Transient,
    Unknown,
)
from relay.events import Operation
from tests.unit.manifests import HEADER_BYTES, LINE_BYTES, TERMS, PureLog, assert_sizes_grow_back

DONE = frozenset({BatchState.DELIVERED})


def refusing(*bad: int) -> Callable[[range], Outcome]:
    """A vendor that refuses a file with any of these lines in it, and names none."""
    return lambda ids: Refused("Failure_Data is incorrect") if any(i in ids for i in bad) else Delivered()


def bisect(rows: int, bad: int) -> PureLog:
    """Send `rows` events of which one is bad, up to the end of the first file."""
    log = PureLog(rows)
    while log.position < rows:
        log.flush(refusing(bad))
    return log


def assert_only_the_bad_line_is_rejected(rows: int, bad: int) -> None:
    """Check what became of every line, and what it cost beyond the one upload that was needed anyway."""
    log = bisect(rows, bad)
    extra = log.uploads - 1
    assert extra <= 2 * math.log2(rows) + 8, f"{bad} of {rows} took {extra} more uploads"
    refused = [b for b in log.filed if b.refused]
    assert [(b.cut_from + 1, b.cut_to, b.state) for b in refused] == [(bad, bad, BatchState.FAILED)]
    delivered = log.ids_in(BatchState.DELIVERED)
    assert len(delivered) == rows - 1
    assert bad not in delivered


def test_a_bad_line_anywhere_in_a_small_file() -> None:
    """Every place in every size of file: the line is rejected, all others are delivered, within the bound."""
    for rows in range(1, 70):
        for bad in range(1, rows + 1):
            assert_only_the_bad_line_is_rejected(rows, bad)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 100_000).flatmap(lambda rows: st.tuples(st.just(rows), st.integers(1, rows))))
def test_a_bad_line_anywhere_in_a_large_file(place: tuple[int, int]) -> None:
    """The same for files of up to 100,000 lines."""
    assert_only_the_bad_line_is_rejected(*place)


@pytest.mark.parametrize("rows", [65_535, 65_536, 65_537, 100_000])
def test_a_bad_line_at_the_edges_of_a_large_file(rows: int) -> None:
    """The first, the last, and those about the middle, at and about powers of two."""
    for bad in (1, 2, rows // 2, rows // 2 + 1, rows - 1, rows):
        assert_only_the_bad_line_is_rejected(rows, bad)


@settings(max_examples=100, deadline=None)
@given(st.integers(10, 2_000), st.sets(st.integers(1, 2_000), max_size=5))
def test_several_bad_lines(rows: int, bad: set[int]) -> None:
    """Bad lines that are not neighbours are each rejected, all others delivered, at a cost for each."""
    bad = {line for line in bad if line <= rows and line - 1 not in bad}
    log = PureLog(rows)
    while log.position < rows:
        log.flush(refusing(*bad))
    assert {b.cut_to for b in log.filed if b.refused} == bad
    assert log.ids_in(BatchState.DELIVERED) == set(range(1, rows + 1)) - bad
    assert log.uploads - 1 <= max(1, len(bad)) * (2 * math.log2(rows) + 8)


def test_a_small_file_does_not_let_sizes_grow() -> None:
    """A limit found by a large file that timed out is not forgotten because some small ones were delivered."""
    log = PureLog(3, terms=TERMS)
    log.cursor = replace(log.cursor, rows_max=1_000, bytes_max=5_000)
    log.flush(refusing())
    assert (log.cursor.rows_max, log.cursor.bytes_max) == (1_000, 5_000)


def test_sizes_grow_back_after_a_refused_file() -> None:
    """Once the line at fault is out, each delivered file lets the next be twice as large, until there is no limit."""
    assert_sizes_grow_back(PureLog(10_000_000, terms=TERMS), refusing(777))


@pytest.mark.parametrize("limit_bytes", [5_000, 123_456, 9_999_999])
def test_a_vendor_s_lower_limit_is_found_and_tried_again(limit_bytes: int) -> None:
    """After 413 files get half as large, then grow by a quarter; no line is refused for it, most uploads succeed."""

    def answer(ids: range) -> Outcome:
        return TooLarge("413") if HEADER_BYTES + len(ids) * LINE_BYTES > limit_bytes else Delivered()

    log = PureLog(400_000)
    while log.position < log.events and log.uploads < 400:
        log.flush(answer)
    assert log.ids_in(BatchState.FAILED) == set()
    assert log.ids_in(BatchState.DELIVERED) == set(range(1, log.position + 1))
    tried = [b.state for b in log.filed[30:]]
    assert tried.count(BatchState.REPLACED) <= len(tried) / 2
    log = PureLog(5_000_000, cursor=Cursor(bytes_max=5_000))
    while log.cursor.bytes_max is not None:
        log.flush(lambda _: Delivered())
        assert log.uploads < 60
    assert log.cursor.bytes_max is None


@pytest.mark.parametrize("refusal", [Refused("Failure_Data is incorrect"), TooLarge("413")], ids=repr)
@pytest.mark.parametrize("operation", [Operation.UPSERT, Operation.STOP, Operation.ALLOW])
def test_wrong_settings_reject_no_line(refusal: Outcome, operation: Operation) -> None:
    """Three lines refused alone, nothing delivered between: they are taken back, and the lane pauses."""
    log = PureLog(1000, operation)
    pauses: list[Settlement] = []
    while not pauses:
        settlement = log.flush(lambda _: refusal)
        pauses += [settlement] if settlement.pause else []
        assert log.uploads <= 2 * math.log2(1000) + REFUSED_LINES_MAX
    wanted = ("misconfigured", PAUSE_S, False) if operation.opt_out else ("data", None, False)
    assert (pauses[0].pause, pauses[0].lane_delay_s, pauses[0].proven) == wanted
    assert (pauses[0].position, log.position) == (0, 0)
    assert log.closed == []
    assert (log.cursor.refused_lines, log.cursor.refused_from) == (0, None)
    while log.position < log.events:  # the settings are mended
        log.flush(lambda _: Delivered())
    assert log.ids_in(BatchState.DELIVERED) == set(range(1, 1001))


def test_a_delivery_between_refused_lines_starts_the_count_anew() -> None:
    """Two bad lines, a good one, two bad ones: each is that line's own fault."""
    log = PureLog(1000, cursor=Cursor(rows_max=1))
    answer = refusing(1, 2, 4, 5)
    pauses = [log.flush(answer).pause for _ in range(6)]
    assert pauses == [None] * 6
    assert log.ids_in(BatchState.FAILED) == {1, 2, 4, 5}


CLOSING: dict[str, tuple[Operation, Outcome]] = {
    "accepted": (Operation.UPSERT, Accepted()),
    "all its lines were rejected": (Operation.UPSERT, Delivered((LineRejection(2, "no"),))),
    "given up": (Operation.UPSERT, Transient("refused")),
    "unconfirmed": (Operation.ALLOW, Unknown("reset")),
}


@pytest.mark.parametrize("closed", CLOSING)
def test_taking_back_never_reaches_behind_a_batch_that_has_ended(closed: str) -> None:
    """What lies between refused lines and has ended by itself stays as it ended: its events are not cut once more."""
    operation, outcome = CLOSING[closed]
    log = PureLog(20, operation, cursor=Cursor(rows_max=1))
    for outcomes in ((Refused("bad"),) * 2, (outcome,) * TERMS.attempts_max, (Refused("bad"),) * 6):
        for one in outcomes:
            before = len(log.closed)
            if log.flush(lambda _, one=one: one).pause:  # type: ignore[misc]
                break
            if one is outcome and len(log.closed) > before:
                break
    ended = [b for b in log.closed if not b.refused]
    assert len(ended) == 1
    assert log.position >= ended[0].cut_to


outcomes = st.sampled_from(
    [
        Delivered(),
        Delivered((LineRejection(2, "no"),)),
        Accepted(),
        Transient("refused"),
        Unknown("reset"),
        Unknown("slow", timed_out=True),
        Misconfigured("81435"),
        TooLarge("413"),
        Refused("bad"),
        Refused("bad"),
        Refused("bad"),
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(outcomes, max_size=60), st.sampled_from([Operation.UPSERT, Operation.STOP, Operation.ALLOW]))
def test_every_event_ends_in_one_batch_whatever_happens(answers: list[Outcome], operation: Operation) -> None:
    """Through any outcomes, batches that were not replaced follow each other up to the cursor, none over another."""
    log = PureLog(40, operation, terms=TERMS.__class__(3, 10_000_000, 0))
    for answer in answers:
        if log.position < log.events:
            log.flush(lambda _, answer=answer: answer)  # type: ignore[misc]
            at = 0
            for batch in log.closed:
                assert batch.cut_from == at
                at = batch.cut_to
            assert at == log.position
