"""What follows from an outcome, for the batch, its cursor and its lane."""

import math
from dataclasses import dataclass, replace
from typing import assert_never

from relay.batches.outcomes import (
    Accepted,
    Busy,
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
)
from relay.batches.states import BatchState, Cursor, Manifest, Terms
from relay.events import Operation

RETRY_DELAYS_S = (15.0, 60.0, 300.0, 1800.0, 7200.0)
"""The delay after the first, second, … failed attempt; the last one repeats. ± 10 % jitter is added when it is
stored."""

BUSY_DELAY_S = 30.0
"""How long to wait when a vendor is busy with another import and names no time itself."""

REFUSED_LINES_MAX = 3
"""So many single lines refused in a row, nothing ended otherwise between, mean that the settings are wrong, not the
lines."""

ROWS_UNLIMITED = 1_000_000
"""A row limit that has grown to this is forgotten: no vendor's file size lets so many rows in."""

RETRY_AFTER_MAX_S = 3600.0
"""A vendor that asks for more patience than this is asked again all the same: opt-outs wait behind it."""

PAUSE_S = 60.0
"""How long a lane rests after a pause, even for a replica with other settings: two wrong ones must not lock a login
out."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """What is written down after an upload. Delays are seconds from now.

    `delay_s` keeps the cursor from its next try, `lane_delay_s` or `lane_until_next_day` the whole lane; `position`
    sets the cursor back; `take_back_from` undoes the single refused lines cut from there on; `proven` says that the
    vendor let relay in; `send_again` that stops and bans of the file's customers have to be appended again.
    """

    state: BatchState
    reason: str
    cursor: Cursor
    delay_s: float | None = None
    position: int | None = None
    rejections: tuple[LineRejection, ...] = ()
    refused: bool = False
    take_back_from: int | None = None
    lane_delay_s: float | None = None
    lane_until_next_day: bool = False
    wait_reason: str = ""
    pause: str | None = None
    proven: bool = True
    send_again: bool = False


def settle(  # noqa: C901, PLR0911, PLR0912 (one row for each outcome, as in the table of README)
    batch: Manifest, outcome: Outcome, terms: Terms, jitter: float = 0.0
) -> Settlement:
    """Turn an outcome into what happens next. `jitter` (-0.1 to 0.1) is a share of the delay."""
    match outcome:
        case Delivered():
            return _confirmed(batch, BatchState.DELIVERED, outcome.reason, terms, outcome.rejections)
        case Accepted():
            return _confirmed(batch, BatchState.ACCEPTED, outcome.reason, terms)
        case Busy():
            patience = BUSY_DELAY_S if outcome.retry_after_s is None else outcome.retry_after_s
            patience = min(max(patience, 1.0), RETRY_AFTER_MAX_S)
            return _waiting(batch, outcome.reason, lane_delay_s=patience, wait_reason="busy")
        case Quota():
            return _waiting(batch, outcome.reason, lane_until_next_day=True, wait_reason="quota")
        case Unauthorized():
            return _paused(batch, outcome.reason, "unauthorized")
        case Misconfigured():
            return _paused(batch, outcome.reason, "misconfigured")
        case Transient():
            return replace(_failed(batch, outcome.reason, terms, jitter), proven=False)
        case Unknown():
            return _unknown(batch, outcome, terms, jitter)
        case TooLarge():
            if batch.rows == 1:
                return _refused_line(batch, outcome.reason)
            return _smaller(batch, outcome.reason, replace(batch.cursor, bytes_max=max(1, batch.bytes // 2)))
        case Refused():
            if batch.rows == 1:
                return _refused_line(batch, outcome.reason)
            half = replace(batch.cursor, rows_max=batch.rows // 2, suspect_to=batch.cut_to)
            return _smaller(batch, outcome.reason, half)
        case _:
            assert_never(outcome)


def _confirmed(
    batch: Manifest, state: BatchState, reason: str, terms: Terms, rejections: tuple[LineRejection, ...] = ()
) -> Settlement:
    cursor = _ended(_grown(batch, terms))
    return _arrived(batch, terms, Settlement(state, reason, cursor, rejections=rejections))


def _ended(cursor: Cursor) -> Cursor:
    """Begin afresh behind a batch that has ended, whatever became of it.

    Refused lines in front of it are no longer taken back: setting the cursor back there would cut the batch once more.
    """
    return replace(cursor, attempts=0, refused_lines=0, refused_from=None)


def _grown(batch: Manifest, terms: Terms) -> Cursor:
    """Let the file size grow back, or go on halving while the rest of a refused file holds the line at fault."""
    cursor = batch.cursor
    rows, size = cursor.rows_max, cursor.bytes_max
    # A small file says nothing about large ones.
    if size is not None and batch.bytes * 2 > size:
        size = size + size // 4 + 1
        size = size if size < terms.file_bytes_max else None
    if cursor.suspect_to is not None and batch.cut_to < cursor.suspect_to:
        return replace(cursor, rows_max=None if rows is None else math.ceil(rows / 2), bytes_max=size)
    if rows is not None and (batch.rows * 2 > rows or batch.bytes * 2 > terms.file_bytes_max):
        rows = rows * 2 if rows * 2 < ROWS_UNLIMITED else None
    return replace(cursor, rows_max=rows, bytes_max=size, suspect_to=None)


def _arrived(batch: Manifest, terms: Terms, settlement: Settlement) -> Settlement:
    """What follows wherever a file may have arrived: the vendor may still be importing, and may have undone a stop."""
    wait = terms.settle_after_s or None
    return replace(
        settlement,
        send_again=batch.operation is Operation.UPSERT,
        lane_delay_s=wait,
        wait_reason="settling" if wait else "",
    )


def _waiting(
    batch: Manifest,
    reason: str,
    *,
    lane_delay_s: float | None = None,
    lane_until_next_day: bool = False,
    wait_reason: str = "",
) -> Settlement:
    return Settlement(
        BatchState.WAITING,
        reason,
        batch.cursor,
        lane_delay_s=lane_delay_s,
        lane_until_next_day=lane_until_next_day,
        wait_reason=wait_reason,
    )


def _paused(batch: Manifest, reason: str, pause: str) -> Settlement:
    return Settlement(BatchState.WAITING, reason, batch.cursor, pause=pause, lane_delay_s=PAUSE_S, proven=False)


def _failed(batch: Manifest, reason: str, terms: Terms, jitter: float) -> Settlement:
    """Count a failed attempt. Opt-outs are never given up: the last delay of the table repeats for them."""
    attempts = batch.cursor.attempts + 1
    if attempts >= terms.attempts_max and not batch.operation.opt_out:
        return Settlement(BatchState.FAILED, reason, _ended(batch.cursor))
    delay = RETRY_DELAYS_S[min(attempts, len(RETRY_DELAYS_S)) - 1] * (1 + jitter)
    return Settlement(BatchState.WAITING, reason, replace(batch.cursor, attempts=attempts), delay_s=delay)


def _unknown(batch: Manifest, outcome: Unknown, terms: Terms, jitter: float) -> Settlement:
    """Send again later, unless it is an `allow`, which could undo an opt-out made at the vendor in the meantime."""
    settlement = _failed(batch, outcome.reason, terms, jitter)
    if batch.operation is Operation.ALLOW:
        settlement = Settlement(BatchState.UNCONFIRMED, outcome.reason, _ended(batch.cursor))
    settlement = replace(
        settlement,
        cursor=replace(settlement.cursor, sent_to=max(settlement.cursor.sent_to, batch.cut_to)),
        proven=False,
    )
    if outcome.timed_out and batch.rows > 1 and settlement.state is BatchState.WAITING:
        settlement = replace(
            settlement,
            state=BatchState.REPLACED,
            position=batch.cut_from,
            cursor=replace(settlement.cursor, rows_max=batch.rows // 2),
        )
    return _arrived(batch, terms, settlement)


def _smaller(batch: Manifest, reason: str, cursor: Cursor) -> Settlement:
    return Settlement(BatchState.REPLACED, reason, cursor, position=batch.cut_from)


def _refused_line(batch: Manifest, reason: str) -> Settlement:
    """Reject the one line of a file that was refused, or take back the last few such lines: the settings are wrong."""
    refused_from = batch.cut_from if batch.cursor.refused_from is None else batch.cursor.refused_from
    refused_lines = batch.cursor.refused_lines + 1
    if refused_lines >= REFUSED_LINES_MAX:
        cursor = replace(_ended(batch.cursor), suspect_to=None)
        return Settlement(
            BatchState.REPLACED,
            reason,
            cursor,
            position=refused_from,
            take_back_from=refused_from,
            pause="misconfigured",
            lane_delay_s=PAUSE_S,
            proven=False,
        )
    past_suspect = batch.cursor.suspect_to is not None and batch.cut_to >= batch.cursor.suspect_to
    cursor = replace(
        batch.cursor,
        attempts=0,
        suspect_to=None if past_suspect else batch.cursor.suspect_to,
        refused_lines=refused_lines,
        refused_from=refused_from,
    )
    return Settlement(BatchState.FAILED, reason, cursor, rejections=(LineRejection(2, reason),), refused=True)
