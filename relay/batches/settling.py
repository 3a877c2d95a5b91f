"""What follows from an outcome, for the batch, its cursor and its lane."""

from dataclasses import replace
from typing import assert_never

from relay.batches.narrowing import grown, halved, refused_line, smaller, unanswered_file, unanswered_line
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
from relay.batches.settlement import PAUSE_S, RETRY_DELAYS_S, Settlement, ended, not_understood
from relay.batches.states import BatchState, Manifest, Terms
from relay.events import Operation

BUSY_DELAY_S = 30.0
"""How long to wait when a vendor is busy with another import and names no time itself."""

RETRY_AFTER_MAX_S = 3600.0
"""A vendor that asks for more patience than this is asked again all the same: opt-outs wait behind it."""


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
            # A 429, as a 413 below, may come from a proxy in front of the vendor.
            settlement = _waiting(batch, outcome.reason, lane_delay_s=patience, wait_reason="busy")
            return replace(settlement, proven=False)
        case Quota():
            return _waiting(batch, outcome.reason, lane_until_next_day=True, wait_reason="quota")
        case Unauthorized():
            return replace(_waiting(batch, outcome.reason, lane_delay_s=PAUSE_S), pause="unauthorized", proven=False)
        case Misconfigured():
            return not_understood(_waiting(batch, outcome.reason), batch.operation)
        case Transient():
            return replace(_failed(batch, outcome.reason, terms, jitter), proven=False)
        case Unknown():
            return _unknown(batch, outcome, terms, jitter)
        case TooLarge():
            if batch.rows == 1:
                return replace(refused_line(batch, outcome.reason), proven=False)
            cursor = replace(batch.cursor, bytes_max=max(1, batch.bytes // 2))
            return replace(smaller(batch, outcome.reason, cursor), proven=False)
        case Refused():
            if batch.rows == 1:
                return refused_line(batch, outcome.reason)
            return smaller(batch, outcome.reason, halved(batch, batch.cursor))
        case _:
            assert_never(outcome)


def _confirmed(
    batch: Manifest, state: BatchState, reason: str, terms: Terms, rejections: tuple[LineRejection, ...] = ()
) -> Settlement:
    cursor = ended(grown(batch, terms))
    return _arrived(batch, terms, Settlement(state, reason, cursor, rejections=rejections))


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


def _failed(batch: Manifest, reason: str, terms: Terms, jitter: float) -> Settlement:
    """Count a failed attempt. Opt-outs are never given up: the last delay of the table repeats for them."""
    attempts = batch.cursor.attempts + 1
    if attempts >= terms.attempts_max and not batch.operation.opt_out:
        return Settlement(BatchState.FAILED, reason, ended(batch.cursor))
    delay = RETRY_DELAYS_S[min(attempts, len(RETRY_DELAYS_S)) - 1] * (1 + jitter)
    return Settlement(BatchState.WAITING, reason, replace(batch.cursor, attempts=attempts), delay_s=delay)


def _unknown(batch: Manifest, outcome: Unknown, terms: Terms, jitter: float) -> Settlement:
    """Send again later, unless it is an `allow`, which could undo an opt-out made at the vendor in the meantime."""
    if batch.operation is Operation.ALLOW:
        settlement = Settlement(BatchState.UNCONFIRMED, outcome.reason, ended(batch.cursor))
    elif batch.rows > 1:
        settlement = unanswered_file(batch, outcome, terms, jitter)
    else:
        settlement = unanswered_line(batch, outcome.reason, terms, jitter)
    cursor = replace(settlement.cursor, sent_to=max(settlement.cursor.sent_to, batch.cut_to))
    return _arrived(batch, terms, replace(settlement, cursor=cursor, proven=False))
