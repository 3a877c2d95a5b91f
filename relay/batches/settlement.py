"""What is written down after an upload, and the delays between tries."""

from dataclasses import dataclass, replace

from relay.batches.outcomes import LineRejection
from relay.batches.states import BatchState, Cursor
from relay.events import Operation

RETRY_DELAYS_S = (15.0, 60.0, 300.0, 1800.0, 7200.0)
"""The delay after the first, second, … failed attempt; the last one repeats. ± 10 % jitter is added when it is
stored."""

PAUSE_S = 60.0
"""How long a lane rests after a pause, even for a replica with other settings: two wrong ones must not lock a login
out."""


DATA_PAUSES = frozenset({"columns", "data"})
"""Reasons to pause that hold up upserts and allows only: what is wrong with those need not be wrong with opt-outs."""


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


def ended(cursor: Cursor) -> Cursor:
    """Begin afresh behind a batch that has ended, whatever became of it.

    Refused lines in front of it are no longer taken back: setting the cursor back there would cut the batch once more.
    """
    return replace(cursor, attempts=0, unanswered=0, rounds=0, refused_lines=0, refused_from=None)


def not_understood(settlement: Settlement, operation: Operation) -> Settlement:
    """Pause the lane because the vendor does not understand what the settings make relay send.

    After a file of data that is for data only, and no rest either: opt-outs that are due find out by themselves.
    """
    if operation.opt_out:
        return replace(settlement, pause="misconfigured", lane_delay_s=PAUSE_S, proven=False)
    return replace(settlement, pause="data", proven=False)
