"""Files that the vendor never answers properly: the line at fault is found, all others are delivered, and soon.

What is said of 5xx holds for anything that ends Unknown, as a reset does; a time-out only goes faster to work.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.batches import (
    AGAIN_DELAYS_S,
    NARROW_AFTER,
    REFUSED_LINES_MAX,
    RETRY_DELAYS_S,
    SINGLE_TRIES_MAX,
    UNANSWERED,
    UPSERTS_AGAIN_MAX,
    BatchState,
    Cursor,
    Delivered,
    LineRejection,
    Outcome,
    Refused,
    Settlement,
    Transient,
    Unknown,
    settle,
)
from relay.batches.narrowing import LATER_LINES_MAX
from relay.events import Operation
from tests.unit.manifests import TERMS, PureLog, assert_sizes_grow_back, manifest

U, D, S, A = Operation.UPSERT, Operation.DELETE, Operation.STOP, Operation.ALLOW
FAILURES = (Unknown("HTTP 500"), Unknown("slow", timed_out=True))


def failing(*bad: int, outcome: Outcome = FAILURES[0]) -> Callable[[range], Outcome]:
    """A vendor that breaks down at a file with any of these lines in it."""
    return lambda ids: outcome if any(i in ids for i in bad) else Delivered()


def flushed(log: PureLog, answer: Callable[[range], Outcome], uploads_max: int = 2_000) -> list[Settlement]:
    """Flush a log until every event is in a batch that has ended."""
    settlements = []
    while log.position < log.events:
        settlements.append(log.flush(answer))
        assert len(settlements) < uploads_max, "no end of it"
    return settlements


# -- one line at fault -----------------------------------------------------------------------------------------------


def assert_only_the_bad_line_is_rejected(rows: int, bad: int, outcome: Outcome, operation: Operation = U) -> None:
    """Check what became of every line and what it cost: all uploads, that line's own tries and the growing back."""
    log = PureLog(rows, operation)
    flushed(log, failing(bad, outcome=outcome))
    assert log.uploads <= 2 * math.log2(rows) + 8, f"{bad} of {rows} took {log.uploads} uploads"
    assert log.waited_s <= log.uploads * RETRY_DELAYS_S[0] + RETRY_DELAYS_S[1]
    assert [(b.cut_from + 1, b.cut_to, b.state) for b in log.filed if b.refused] == [(bad, bad, BatchState.FAILED)]
    assert log.ids_in(BatchState.DELIVERED) == set(range(1, rows + 1)) - {bad}


@pytest.mark.parametrize("outcome", FAILURES, ids=repr)
def test_a_bad_line_anywhere_in_a_small_file(outcome: Outcome) -> None:
    """Every place in every size: it is rejected, all others are delivered, within 2·log2(rows) + 8 uploads in all."""
    for rows in range(1, 50):
        for bad in range(1, rows + 1):
            assert_only_the_bad_line_is_rejected(rows, bad, outcome)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 100_000).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n))), st.sampled_from([U, D, S]))
def test_a_bad_line_anywhere_in_a_large_file(place: tuple[int, int], operation: Operation) -> None:
    """The same for files of up to 100,000 lines, upserts and opt-outs."""
    assert_only_the_bad_line_is_rejected(*place, FAILURES[0], operation)


@pytest.mark.parametrize("rows", [65_535, 65_536, 65_537, 100_000])
def test_a_bad_line_at_the_edges_of_a_large_file(rows: int) -> None:
    """The first, the last, and those about the middle, at and about powers of two."""
    for bad in (1, 2, rows // 2, rows // 2 + 1, rows - 1, rows):
        assert_only_the_bad_line_is_rejected(rows, bad, FAILURES[0])


@settings(max_examples=60, deadline=None)
@given(st.integers(10, 2_000), st.sets(st.integers(1, 2_000), max_size=5), st.sampled_from(FAILURES))
def test_several_bad_lines(rows: int, bad: set[int], outcome: Outcome) -> None:
    """Bad lines that are not neighbours are each rejected, all others delivered, at a cost for each."""
    bad = {line for line in bad if line <= rows and line - 1 not in bad}
    log = PureLog(rows)
    flushed(log, failing(*bad, outcome=outcome))
    assert {b.cut_to for b in log.filed if b.refused} == bad
    assert log.ids_in(BatchState.DELIVERED) == set(range(1, rows + 1)) - bad
    assert log.uploads <= max(1, len(bad)) * (2 * math.log2(rows) + 8)


def test_sizes_grow_back() -> None:
    """Once the line at fault is out, each delivered file lets the next be twice as large, until there is no limit."""
    assert_sizes_grow_back(PureLog(10_000_000), failing(777))


def test_the_rejected_line_says_why() -> None:
    """It tells plainly that it was no word of the vendor's, with what happened at last."""
    batch = manifest(S, 1, cursor=Cursor(unanswered=SINGLE_TRIES_MAX - 1))
    settlement = settle(batch, Unknown("HTTP 502"), TERMS)
    assert settlement.rejections == (LineRejection(2, f"{UNANSWERED}: HTTP 502"),)
    assert (settlement.state, settlement.refused, settlement.proven) == (BatchState.FAILED, True, False)
    assert settlement.cursor.sent_to == batch.cut_to, "it may have arrived all the same"
    assert settlement.delay_s is None, "what is behind it goes on at once"


# -- when files get smaller ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", [U, D])
def test_a_file_is_tried_whole_before_it_is_halved(operation: Operation) -> None:
    """The first time may be a moment's trouble; the second time it stays as it is till its next try, then is halved."""
    cursor = Cursor()
    for tries in range(1, NARROW_AFTER + 1):
        batch = manifest(operation, 1001, cursor=cursor)
        settlement = settle(batch, Unknown("HTTP 500"), TERMS, 0.1)
        cursor = settlement.cursor
        assert (settlement.state, settlement.position) == (BatchState.WAITING, None)
        assert settlement.delay_s == pytest.approx(15 * 1.1)
        assert (cursor.attempts, cursor.sent_to) == (tries, batch.cut_to)
        assert (cursor.rows_max, cursor.suspect_to) == ((500, 2001) if tries == NARROW_AFTER else (None, None))
        assert replace(batch, cursor=cursor).must_shrink == (tries == NARROW_AFTER)


def test_a_time_out_is_halved_at_once() -> None:
    """It took up to 10 minutes: the batch waits with half the size at its cursor, and its attempt counts."""
    batch = manifest(rows=1001)
    settlement = settle(batch, FAILURES[1], TERMS)
    assert (settlement.state, settlement.position, settlement.delay_s) == (BatchState.WAITING, None, 15)
    assert (settlement.cursor.rows_max, settlement.cursor.suspect_to) == (500, batch.cut_to)
    assert (settlement.cursor.attempts, settlement.cursor.sent_to) == (1, batch.cut_to)
    assert replace(batch, cursor=settlement.cursor).must_shrink


def test_a_part_of_a_halved_file_is_halved_at_once() -> None:
    """Within the file that failed it takes one failure more each time, and that is no attempt of a whole file."""
    cursor = Cursor(attempts=2, rows_max=500, suspect_to=2001)
    settlement = settle(manifest(rows=500, cursor=cursor), Unknown("HTTP 500"), TERMS)
    assert (settlement.cursor.rows_max, settlement.cursor.suspect_to, settlement.cursor.attempts) == (250, 1500, 2)
    behind = manifest(rows=500, cut_from=2001, cursor=cursor)
    assert settle(behind, Unknown("HTTP 500"), TERMS).cursor.rows_max == 500, "behind it another file begins"


@pytest.mark.parametrize("operation", [U, D])
@pytest.mark.parametrize("rows", [1, 100])
def test_a_dead_host_makes_no_file_smaller(rows: int, operation: Operation) -> None:
    """Where nothing can have arrived it is not the file: however often, it stays as it is, and no line is rejected."""
    cursor = Cursor()
    for _ in range(TERMS.attempts_max - 1):
        settlement = settle(manifest(operation, rows, cursor=cursor), Transient("refused connection"), TERMS)
        cursor = settlement.cursor
        assert (cursor.rows_max, cursor.suspect_to, cursor.unanswered) == (None, None, 0)
        assert settlement.rejections == ()
    settlement = settle(manifest(S, 100, cursor=cursor), Unknown("HTTP 500"), TERMS)
    assert settlement.cursor.rows_max is None, "those tries say nothing of the file"


def test_a_proper_answer_ends_the_count() -> None:
    """A file that fails now and then, but not twice in a row, keeps its size."""
    log = PureLog(60, D, cursor=Cursor(rows_max=10))
    answers: Iterator[Outcome] = itertools.cycle([Unknown("HTTP 500"), Delivered()])
    flushed(log, lambda _: next(answers))
    assert not [b for b in log.filed if b.refused]
    assert log.uploads <= 12


@pytest.mark.parametrize("rows", [1, 100])
def test_an_allow_is_never_halved_or_rejected(rows: int) -> None:
    """It is not sent again once it may have arrived: it ends unconfirmed, and what is behind it starts afresh."""
    for outcome in FAILURES:
        settlement = settle(manifest(A, rows, cursor=Cursor(unanswered=5, rounds=1)), outcome, TERMS)
        assert (settlement.state, settlement.rejections) == (BatchState.UNCONFIRMED, ())
        assert (settlement.cursor.rows_max, settlement.cursor.unanswered, settlement.cursor.rounds) == (None, 0, 0)


# -- when it is not the lines ----------------------------------------------------------------------------------------


def round_of(log: PureLog, outcome: Outcome = FAILURES[0]) -> tuple[Settlement, int]:
    """Let a vendor that answers nothing properly have a round; return how it ended, and its uploads."""
    before = log.uploads
    while (settlement := log.flush(lambda _: outcome)).take_back_from is None:
        assert settlement.state is not BatchState.FAILED or settlement.refused, "given up"
        assert settlement.pause is None
    return settlement, log.uploads - before


@pytest.mark.parametrize("outcome", FAILURES, ids=repr)
@pytest.mark.parametrize("rows", [1, 2, 3, 1000])
@pytest.mark.parametrize("operation", [U, D, S])
def test_three_lines_in_a_row_are_taken_back(operation: Operation, rows: int, outcome: Outcome) -> None:
    """Then it is the vendor: no line is rejected, sizes are forgotten, it waits long, and the lane does not pause."""
    log = PureLog(max(rows, REFUSED_LINES_MAX), operation, cursor=Cursor(rows_max=1 if rows == 1 else None))
    settlement, uploads = round_of(log, outcome)
    assert (log.position, log.closed) == (0, [])
    assert settlement.state is BatchState.REPLACED
    after = replace(log.cursor, sent_to=0, attempts=0)
    assert after == Cursor(rounds=1)
    assert settlement.delay_s == 1800
    assert (settlement.pause, settlement.lane_delay_s, settlement.proven) == (None, None, False)
    assert uploads <= NARROW_AFTER + math.log2(log.events) + SINGLE_TRIES_MAX * REFUSED_LINES_MAX
    settlement, later = round_of(log, outcome)
    assert settlement.delay_s == 7200
    assert later <= 1 + math.log2(log.events) + LATER_LINES_MAX
    flushed(log, lambda _: Delivered())
    assert log.ids_in(BatchState.DELIVERED) == set(range(1, log.events + 1))
    assert (log.cursor.attempts, log.cursor.rounds) == (0, 0)


@pytest.mark.parametrize("neighbours", [3, 4, 6, LATER_LINES_MAX - 1])
def test_neighbours_at_fault_hold_nobody_up_for_ever(neighbours: int) -> None:
    """Three and more bad lines in a row look like an unwell vendor at first; in the next round they are got over."""
    bad = range(500, 500 + neighbours)
    log = PureLog(1000, D)
    settlements = flushed(log, failing(*bad))
    assert {b.cut_to for b in log.closed if b.refused} == set(bad)
    assert log.ids_in(BatchState.DELIVERED) == set(range(1, 1001)) - set(bad)
    assert sum(s.take_back_from is not None for s in settlements) == 1
    assert log.waited_s <= 1800 + 15 * log.uploads


def test_upserts_are_given_up_in_the_end() -> None:
    """A vendor that breaks down at everything for ever: `attempts_max` whole files, counted over all rounds."""
    log = PureLog(1000, U)
    whole = 0
    while not log.closed or log.closed[0].state is not BatchState.FAILED or log.closed[0].refused:
        before = log.cursor
        log.flush(lambda _: FAILURES[0])
        whole += log.cursor.attempts > before.attempts
        assert log.uploads <= TERMS.attempts_max * 25
    assert (whole + 1, log.closed[0].cut_to) == (TERMS.attempts_max, 1000), "all of them, in one file"
    assert 12 * 3600 <= log.waited_s <= 24 * 3600


def test_single_upserts_are_given_up_in_the_end() -> None:
    """Where files have one line each no whole file is counted: the rounds are, so that it ends all the same."""
    log = PureLog(REFUSED_LINES_MAX, U, terms=replace(TERMS, attempts_max=4))
    rounds = 0
    while BatchState.FAILED not in {b.state for b in log.closed if not b.refused}:
        log.cursor = replace(log.cursor, rows_max=1)
        rounds += log.flush(lambda _: FAILURES[0]).take_back_from is not None
        assert log.uploads <= 100, "no end of it"
    assert rounds == 3


def test_opt_outs_are_tried_for_ever() -> None:
    """However many rounds: they are never given up, one round is 2 h behind the other, and it spends few calls."""
    log = PureLog(20, D)
    for number in range(1, 30):
        settlement, uploads = round_of(log)
        assert settlement.delay_s == (1800 if number == 1 else 7200)
        assert uploads <= (16 if number == 1 else 14)
    assert log.closed == []


@pytest.mark.parametrize("attempts_max", [1, 2, 3])
def test_innocents_are_not_given_up_before_files_were_halved(attempts_max: int) -> None:
    """Even where the settings allow a single attempt: many lines are tried in halves before they are dead letters."""
    terms = replace(TERMS, attempts_max=attempts_max)
    log = PureLog(1000, U, terms=terms)
    flushed(log, failing(300))
    assert log.ids_in(BatchState.DELIVERED) >= set(range(1, 1001)) - {300}
    log = PureLog(1000, U, terms=terms)
    while log.position < log.events:
        log.flush(lambda _: FAILURES[0])
    assert [b.cut_to for b in log.closed if b.state is BatchState.FAILED] == [1000]


def test_a_word_of_the_vendor_s_ends_the_rounds() -> None:
    """A line that is refused by word shows that the vendor is well: what counts its failures begins anew."""
    cursor = Cursor(attempts=7, unanswered=1, rounds=2)
    settlement = settle(manifest(D, 1, cursor=cursor), Refused("bad"), TERMS)
    assert (settlement.cursor.attempts, settlement.cursor.unanswered, settlement.cursor.rounds) == (0, 0, 0)
    settlement = settle(manifest(D, 1, cursor=replace(cursor, refused_lines=2, refused_from=9)), Refused("bad"), TERMS)
    assert settlement.pause == "misconfigured"
    assert settlement.cursor.rounds == 0


@pytest.mark.parametrize("rows", [1, 5])
def test_taking_back_never_reaches_behind_a_batch_that_was_given_up(rows: int) -> None:
    """Rejected lines in front of it stay rejected: the cursor is not set back over it."""
    cursor = Cursor(attempts=9) if rows == 1 else Cursor(attempts=9, refused_lines=2, refused_from=900)
    settlement = settle(manifest(U, rows, cursor=cursor), FAILURES[0], TERMS)
    assert (settlement.state, settlement.refused) == (BatchState.FAILED, False)
    assert replace(settlement.cursor, sent_to=0) == Cursor()


@pytest.mark.parametrize("rounds", [0, 2])
@pytest.mark.parametrize("before", [0, 2])
@pytest.mark.parametrize("operation", [U, D])
def test_a_rejected_line_s_tries_are_not_charged_to_whom_is_behind_it(
    operation: Operation, before: int, rounds: int
) -> None:
    """The next file's first failure waits 15 s, or as long as it would have without that line; upserts live on."""
    log = PureLog(2, operation, terms=replace(TERMS, attempts_max=6), cursor=Cursor(attempts=before, rounds=rounds))
    log.cursor = replace(log.cursor, rows_max=1)
    while not (settlement := log.flush(lambda _: FAILURES[0])).refused:
        assert settlement.state is BatchState.WAITING
    assert settlement.cursor.attempts == before
    behind = manifest(operation, 5, cut_from=log.position, cursor=log.cursor)
    failed = settle(behind, Transient("refused connection"), TERMS)
    assert failed.delay_s == RETRY_DELAYS_S[before]


def test_a_rejected_line_waits_as_any_failed_attempt() -> None:
    """Its tries alone and its repeats together are the table of delays: only that nothing waits behind it."""
    tries = [settle(manifest(D, 1, cursor=Cursor(unanswered=n)), FAILURES[0], TERMS).delay_s for n in range(3)]
    assert (*tries[:2], *AGAIN_DELAYS_S) == RETRY_DELAYS_S
    assert tries[2] is None
    assert sum(AGAIN_DELAYS_S) + (UPSERTS_AGAIN_MAX - len(AGAIN_DELAYS_S)) * AGAIN_DELAYS_S[-1] > 8 * 3600


failures = st.sampled_from([*FAILURES, *FAILURES, Transient("refused"), Refused("bad"), Delivered(), Delivered()])


@settings(max_examples=300, deadline=None)
@given(st.lists(failures, max_size=80), st.sampled_from([U, D]), st.sampled_from([1, 3, 10]))
def test_every_event_ends_in_one_batch_whatever_happens(
    answers: list[Outcome], operation: Operation, attempts_max: int
) -> None:
    """Through any outcomes, batches that were not replaced follow each other up to the cursor, none over another."""
    log = PureLog(40, operation, terms=replace(TERMS, attempts_max=attempts_max))
    for answer in answers:
        if log.position < log.events:
            log.flush(lambda _, answer=answer: answer)  # type: ignore[misc]
            at = 0
            for batch in log.closed:
                assert batch.cut_from == at
                at = batch.cut_to
            assert at == log.position
            assert operation is U or all(b.refused or b.state is BatchState.DELIVERED for b in log.closed)
