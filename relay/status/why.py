"""Why something is not delivered yet, in a plain English sentence. Pure: everything it rests on is an argument.

The sentences follow what the flusher does (`relay.batches.choose`): a paused or waiting lane does nothing; while an
opt-out of the login has anything to do, nothing else is sent; an operation has one open batch, a login one upload. Of
several reasons the one that lasts longest is told.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from relay.batches import DATA_PAUSES, OPEN, UNANSWERED, BatchState, Pace
from relay.client import HostState, State
from relay.events import EventState, Operation
from relay.status.quota import kept_back
from relay.store import ToldBatch, ToldCursor, ToldEvent, ToldLane, ToldUnresolved

SPELLED_AS_SECONDS_MAX = 600
SPELLED_AS_MINUTES_MAX = 7200

CLOSED = HostState()

UNNAMED = "its account is no longer in the settings, so that nothing is sent for it"


@dataclass(frozen=True, slots=True)
class Around:
    """What stands around an event or a batch: its login's lane, and what all of the login's accounts have to do.

    `paused` says that the lane's pause holds for the present settings, too, and `refused_s` how much longer this
    replica stays out of the lane because they failed there, `refused_data_s` how much longer its data does. `host` is
    the vendor's host as this replica sees it, `pace` how the vendor's calls of a day are spread. Keys are account and
    operation.
    """

    lane: ToldLane | None
    paused: bool
    cursors: Mapping[tuple[str, Operation], ToldCursor]
    flush_after_s: Mapping[tuple[str, Operation], float]
    refused_s: float = 0.0
    refused_data_s: float = 0.0
    host: HostState = CLOSED
    pace: Pace | None = None

    def due_in_s(self, cursor: ToldCursor) -> float | None:
        """How long what waits beyond a cursor still waits for more; 0 when it is due, None when nothing waits."""
        if cursor.first_id is None or cursor.first_age_s is None:
            return None
        asked_for = self.lane is not None and cursor.first_id <= self.lane.flush_to
        if asked_for or cursor.again:
            return 0.0
        return max(0.0, self.flush_after_s[cursor.account, cursor.operation] - cursor.first_age_s)

    def behind_opt_outs(self, operation: Operation) -> bool:
        """Whether opt-outs of the login have something to do that goes before this operation."""
        return not operation.opt_out and bool(self.opt_outs_at_work())

    def opt_outs_at_work(self) -> list[ToldCursor]:
        """The cursors of the login's opt-outs that have something to do."""
        opt_outs = [cursor for cursor in self.cursors.values() if cursor.operation.opt_out]
        return [cursor for cursor in opt_outs if cursor.batch_id is not None or self.due_in_s(cursor) == 0]

    def pauses(self, operation: Operation) -> bool:
        """Whether the lane's pause holds an operation back; some hold back data only."""
        data_only = self.lane is not None and self.lane.pause_reason in DATA_PAUSES
        return self.paused and not (data_only and operation.opt_out)

    def uploading(self) -> ToldCursor | None:
        """The cursor whose batch is being uploaded, if any is."""
        return next((c for c in self.cursors.values() if c.batch_state is BatchState.UPLOADING), None)


def why_event(  # noqa: C901, PLR0911 (one row for each state)
    event: ToldEvent, around: Around | None
) -> str | None:
    """Say why an event is not delivered; None where it is. `around` is None for an account that is not in the settings.

    Nothing in the sentence is a customer's: of a refused line it does not tell the vendor's message.
    """
    match event.state:
        case EventState.DELIVERED:
            return None
        case EventState.SUPERSEDED:
            return f"was replaced by a later word (event {event.superseded_by})"
        case EventState.RETRIED:
            return f"was appended again as event {event.retried_as}"
        case EventState.ACCEPTED:
            return "the vendor took the file and does not tell what became of its lines"
        case EventState.REJECTED if event.batch_reason.startswith(UNANSWERED):
            again = ", and it is appended again" if event.operation.opt_out and not event.dismissed else ""
            return f"{UNANSWERED} (line {event.line} of batch {event.batch_id}){again}" + _dismissed(event)
        case EventState.REJECTED:
            return f"the vendor refused its line, line {event.line} of batch {event.batch_id}" + _dismissed(event)
        case EventState.UNCONFIRMED if event.line is not None:
            told = "the vendor refused its line as already there, perhaps because of an earlier upload"
            return f"{told} (line {event.line} of batch {event.batch_id})" + _dismissed(event)
        case EventState.UNCONFIRMED:
            return f"may have arrived, and is not sent again by itself: {event.batch_reason}" + _dismissed(event)
        case EventState.FAILED:
            return f"was given up: {event.batch_reason}" + _dismissed(event)
        case EventState.PENDING:
            return UNNAMED if around is None else _why_pending(event.account, event.operation, around)
        case EventState.READY | EventState.UPLOADING | EventState.WAITING:
            state = BatchState(event.state)
            return UNNAMED if around is None else _why_open(event.account, event.operation, state, around)


def why_unresolved(told: ToldUnresolved) -> str:
    """Say why an opt-out is no event yet."""
    why = "no address is known for the customer's id at this account: it is kept until there is one"
    return why if told.dismissed_at is None else f"{why}, and is not counted meanwhile"


def why_batch(batch: ToldBatch, around: Around | None) -> str | None:
    """Say why a batch waits; None where it has ended. `around` as for `why_event`."""
    if batch.state not in OPEN:
        return None
    return UNNAMED if around is None else _why_open(batch.account, batch.operation, batch.state, around)


def why_operation(cursor: ToldCursor, around: Around) -> str:
    """Say what an operation waits for that has an open batch, or events beyond its cursor."""
    if cursor.batch_state is not None:
        return _why_open(cursor.account, cursor.operation, cursor.batch_state, around)
    return _why_pending(cursor.account, cursor.operation, around)


def _why_pending(account: str, operation: Operation, around: Around) -> str:
    cursor = around.cursors.get((account, operation))
    if cursor is None:
        return "is cut next"
    due_in_s = around.due_in_s(cursor) or 0.0
    held = _held(cursor, around, due_in_s)
    if held is None and cursor.batch_id is not None and cursor.batch_state is not None:
        ahead = _why_open(account, operation, cursor.batch_state, around)
        return f"waits behind batch {cursor.batch_id} ({ahead})"
    if held is None and due_in_s:
        after_s = around.flush_after_s[account, operation]
        return f"waits for more or until {spell(after_s)} after it arrived (in {spell(due_in_s)})"
    return held or _turn(around) or "is due, and is cut next"


def _why_open(account: str, operation: Operation, state: BatchState, around: Around) -> str:
    if state is BatchState.UPLOADING:
        leased = around.lane is not None and around.lane.leased
        return "is being uploaded now" if leased else "was being uploaded when its replica ended; another takes it over"
    cursor = around.cursors.get((account, operation))
    return _held(cursor, around, 0.0) or _turn(around) or "is the next to go up"


def _held(cursor: ToldCursor | None, around: Around, due_in_s: float) -> str | None:
    """Say what holds an operation back for longer than it waits for more: its lane, opt-outs, or a failed attempt."""
    if stopped := _stopped(cursor, around):
        return stopped
    lane = around.lane
    lane_s = lane.wait_s if lane is not None else 0.0
    try_s = cursor.next_try_s if cursor is not None else 0.0
    host_s = around.host.next_try_s
    if host_s > max(due_in_s, lane_s, try_s):
        return f"the vendor's host has failed several times in a row, and is tried again in {spell(host_s)}"
    if lane is not None and lane_s > due_in_s and lane_s >= try_s:
        return _lane_waits(lane)
    if cursor is not None and around.behind_opt_outs(cursor.operation):
        return "waits behind opt-outs"
    if cursor is not None and try_s > due_in_s:
        return why_later(cursor, lane, around.pace)
    return None


def _stopped(cursor: ToldCursor | None, around: Around) -> str | None:
    """Say what stops an operation on this replica: a pause of its lane, or its settings."""
    lane, opt_out = around.lane, cursor is not None and cursor.operation.opt_out
    if lane is not None and around.paused and not (lane.pause_reason in DATA_PAUSES and opt_out):
        detail = f": {lane.pause_detail}" if lane.pause_detail else ""
        return f"its login is paused: {lane.pause_reason}{detail}"
    out_s = around.refused_s or (0.0 if opt_out else around.refused_data_s)
    if out_s:
        what = "its login" if around.refused_s else "its login's data"
        left = f"{what} is left to replicas with other settings"
        return f"{left}: the vendor refused this one's, which try again in {spell(out_s)}"
    return None


def _lane_waits(lane: ToldLane) -> str:
    match lane.wait_reason:
        case "logins_refused":
            until = f" before {lane.waits_until:%Y-%m-%d %H:%M} UTC" if lane.waits_until else ""
            return f"the vendor has refused the login too often: nobody logs in{until} (for {spell(lane.wait_s)})"
        case "quota":
            until = f" until {lane.waits_until:%Y-%m-%d %H:%M} UTC" if lane.waits_until else ""
            return f"the vendor's quota of the day is spent{until} (for {spell(lane.wait_s)})"
        case "busy":
            return f"the vendor is busy with another import and is asked again in {spell(lane.wait_s)}"
        case "settling":
            return f"the vendor may still be importing the last file; the next one may go up in {spell(lane.wait_s)}"
        case _:
            return f"its login rests for {spell(lane.wait_s)}"


def why_later(cursor: ToldCursor, lane: ToldLane | None, pace: Pace | None) -> str:
    """Say why an operation's next try is later: the vendor's calls of the day, its record, or a failed attempt."""
    told = f"next try in {spell(cursor.next_try_s)}"
    if cursor.wait_reason == "quota":
        kept = "" if lane is None or pace is None else kept_back(pace, lane.day, opt_out=cursor.operation.opt_out)
        return f"{kept or 'kept back for the calls of the day'}; {told}"
    if cursor.wait_reason == "record" and cursor.batch_state is BatchState.WAITING:
        return f"the vendor's record of the upload without an answer is too young to be believed; {told}"
    if cursor.attempts:
        told += f" after {cursor.attempts} failed attempt{'s' if cursor.attempts > 1 else ''}"
    return f"{told}: {cursor.tried_reason}" if cursor.tried_reason else told


def _turn(around: Around) -> str | None:
    other = around.uploading()
    if other is None and around.host.state is State.HALF_OPEN:
        return "the vendor's host has failed several times in a row, and one upload tries first whether it answers"
    if other is None:
        return None
    return f"waits for its turn: batch {other.batch_id} of {other.account} is being uploaded"


def _dismissed(event: ToldEvent) -> str:
    return "; an operator dismissed it" if event.dismissed else ""


def spell(seconds: float) -> str:
    """Spell a duration in whole units, rounded up: `23 s`, `34 min`, `5 h`."""
    if seconds <= SPELLED_AS_SECONDS_MAX:
        return f"{math.ceil(seconds)} s"
    if seconds <= SPELLED_AS_MINUTES_MAX:
        return f"{math.ceil(seconds / 60)} min"
    return f"{math.ceil(seconds / 3600)} h"
