"""Batches: what an upload came to, and what follows from it. Pure: no clock, no database, no vendor.

Theory of operation. A batch is a range of the log, so nothing is ever lost with it: it can always be *replaced* (its
cursor set back) and cut anew. What must survive that stays with the cursor: attempts, the delay, the size a file
takes at present. `settle` is the one place that turns an outcome into what happens next; `relay.store` writes it down
in one transaction together with the lane's lease.

    ready ──► uploading ──► delivered | accepted | unconfirmed | failed
      │            └──► waiting ──► uploading …
      └──────────────────┴──► replaced   (cut anew from the same place)
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import assert_never

from relay.events import Operation


class BatchState(StrEnum):
    """The states of a batch."""

    READY = "ready"
    UPLOADING = "uploading"
    WAITING = "waiting"
    DELIVERED = "delivered"
    ACCEPTED = "accepted"
    UNCONFIRMED = "unconfirmed"
    FAILED = "failed"
    REPLACED = "replaced"


OPEN = frozenset({BatchState.READY, BatchState.UPLOADING, BatchState.WAITING})

TRANSITIONS: Mapping[BatchState, frozenset[BatchState]] = {
    BatchState.READY: frozenset({BatchState.UPLOADING, BatchState.REPLACED}),
    BatchState.UPLOADING: frozenset(
        {
            BatchState.WAITING,
            BatchState.DELIVERED,
            BatchState.ACCEPTED,
            BatchState.UNCONFIRMED,
            BatchState.FAILED,
            BatchState.REPLACED,
        }
    ),
    BatchState.WAITING: frozenset({BatchState.UPLOADING, BatchState.REPLACED}),
    BatchState.DELIVERED: frozenset(),
    BatchState.ACCEPTED: frozenset(),
    BatchState.UNCONFIRMED: frozenset(),
    BatchState.FAILED: frozenset({BatchState.REPLACED}),  # three refused lines in a row are taken back
    BatchState.REPLACED: frozenset(),
}

RETRY_DELAYS_S = (15.0, 60.0, 300.0, 1800.0, 7200.0)
"""The delay after the first, second, … failed attempt; the last one repeats. ± 10 % jitter is added when it is
stored."""

BUSY_DELAY_S = 30.0
"""How long to wait when a vendor is busy with another import and names no time itself."""

REFUSED_LINES_MAX = 3
"""So many single lines refused in a row, nothing ended otherwise between, mean that the settings are wrong, not the
lines."""


# -- what an upload came to ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LineRejection:
    """One line that the vendor refused. `line` counts the header as line 1. `message` is the vendor's text.

    `unconfirmed` marks a line whose refusal may only echo an earlier upload of the same line (mode `create`).
    """

    line: int
    message: str
    unconfirmed: bool = False


@dataclass(frozen=True, slots=True)
class Delivered:
    """The vendor confirmed every line but the rejected ones."""

    rejections: tuple[LineRejection, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The vendor took the file and will not tell more."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Busy:
    """The vendor is busy with another import, or asks for patience. No attempt is burnt."""

    reason: str
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Quota:
    """The day's calls are spent: the lane waits until the vendor's next day (00:00 in Japan)."""

    reason: str


@dataclass(frozen=True, slots=True)
class Transient:
    """It failed before the first byte of the body was sent: nothing can have arrived."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """It may have arrived, wholly or in part. `timed_out` makes the next file smaller."""

    reason: str
    timed_out: bool = False


@dataclass(frozen=True, slots=True)
class Unauthorized:
    """The vendor does not let this login in: an operator has to act."""

    reason: str


@dataclass(frozen=True, slots=True)
class Misconfigured:
    """The vendor does not understand what the settings make relay send: an operator has to act."""

    reason: str


@dataclass(frozen=True, slots=True)
class TooLarge:
    """The vendor takes no file of this size."""

    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The vendor refused the whole file for its content without naming a line."""

    reason: str


Outcome = Delivered | Accepted | Busy | Quota | Transient | Unknown | Unauthorized | Misconfigured | TooLarge | Refused

OUTCOMES: Mapping[type[Outcome], str] = {
    Delivered: "delivered",
    Accepted: "accepted",
    Busy: "busy",
    Quota: "quota",
    Transient: "transient",
    Unknown: "unknown",
    Unauthorized: "unauthorized",
    Misconfigured: "misconfigured",
    TooLarge: "too_large",
    Refused: "refused",
}
"""The outcome's name in the `upload` table, in logs and as a metric's label."""


# -- what is to be done next -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Candidate:
    """What one operation of one account has to do: an open batch, or events that wait beyond the cursor.

    `waits` says that its next try is not due yet, `due` that waiting events may be cut, `age_s` how long they have
    waited.
    """

    login: str
    account: str
    operation: Operation
    waits: bool
    due: bool
    age_s: float
    batch_id: int | None = None
    batch_state: BatchState | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """What a login does next: take over an upload that nobody settled, or un-cut batches, then send or cut one.

    `opt_outs` says that opt-outs have something to do, now or behind what is done first.
    """

    take_over: Candidate | None = None
    uncut: tuple[Candidate, ...] = ()
    pick: Candidate | None = None
    opt_outs: bool = False

    def __bool__(self) -> bool:
        return bool(self.take_over or self.uncut or self.pick)

    @property
    def urgency(self) -> tuple[bool, float]:
        """The order in which lanes are served: opt-outs first, then the longest waiting (sort in reverse)."""
        first = self.take_over or self.pick or (self.uncut[0] if self.uncut else None)
        return (self.opt_outs, first.age_s) if first else (False, 0.0)


def choose(candidates: Sequence[Candidate]) -> Choice:
    """Choose what one login does next among what its accounts have to do.

    While an opt-out has anything to do, nothing else is sent or cut, and batches of upserts and allows are un-cut: what
    the opt-outs supersede is then left out of them. Whoever waits for a next try is passed over.
    """
    active = [c for c in candidates if c.batch_id is not None or c.due]
    opt_outs = [c for c in active if c.operation.opt_out]
    for candidate in active:
        if candidate.batch_state is BatchState.UPLOADING:
            return Choice(take_over=candidate, opt_outs=bool(opt_outs))
    ready = [c for c in (opt_outs or active) if not c.waits]
    return Choice(
        uncut=tuple(c for c in active if c.batch_id is not None and not c.operation.opt_out) if opt_outs else (),
        pick=max(ready, key=lambda c: c.age_s, default=None),
        opt_outs=bool(opt_outs),
    )


# -- what follows from an outcome ------------------------------------------------------------------------------------

ROWS_UNLIMITED = 1_000_000
"""A row limit that has grown to this is forgotten: no vendor's file size lets so many rows in."""

RETRY_AFTER_MAX_S = 3600.0
"""A vendor that asks for more patience than this is asked again all the same: opt-outs wait behind it."""

PAUSE_S = 60.0
"""How long a lane rests after a pause, even for a replica with other settings: two wrong ones must not lock a login
out."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """What an operation of an account remembers across batches."""

    attempts: int = 0
    sent_to: int = 0
    rows_max: int | None = None
    bytes_max: int | None = None
    suspect_to: int | None = None
    refused_lines: int = 0
    refused_from: int | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """A batch as it was filed, with its cursor's memory and the number of uploads so far."""

    account: str
    id: int
    login: str
    operation: Operation
    layout: int
    header: tuple[str, ...]
    cut_from: int
    cut_to: int
    rows: int
    bytes: int
    sha256: str | None
    state: BatchState
    uploads: int
    cursor: Cursor


@dataclass(frozen=True, slots=True)
class Terms:
    """What a login's settings say about settling."""

    attempts_max: int
    file_bytes_max: int
    settle_after_s: float


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
    if size is not None:
        size = size + size // 4 + 1
        size = size if size < terms.file_bytes_max else None
    if cursor.suspect_to is not None and batch.cut_to < cursor.suspect_to:
        return replace(cursor, rows_max=None if rows is None else math.ceil(rows / 2), bytes_max=size)
    if rows is not None:
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
