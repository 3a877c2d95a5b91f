"""Batches: what an upload came to, and what follows from it. Pure: no clock, no database, no vendor.

Theory of operation. A batch is a range of the log, so nothing is ever lost with it: it can always be *replaced* (its
cursor set back) and cut anew. What must survive that stays with the cursor: attempts, the delay, the size a file
takes at present. `settle` is the one place that turns an outcome into what happens next; `relay.store` writes it down
in one transaction together with the lane's lease.

    ready ──► uploading ──► delivered | accepted | unconfirmed | failed
      │            └──► waiting ──► uploading …
      └──────────────────┴──► replaced   (cut anew from the same place)
"""

from relay.batches.choosing import Candidate, Choice, choose
from relay.batches.narrowing import (
    AGAIN_DELAYS_S,
    NARROW_AFTER,
    REFUSED_LINES_MAX,
    ROWS_UNLIMITED,
    SINGLE_TRIES_MAX,
    UNANSWERED,
    UPSERTS_AGAIN_MAX,
)
from relay.batches.outcomes import (
    OUTCOMES,
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
from relay.batches.pacing import AGAIN_MAX_S, DAY_S, Day, Pace, going_up, pace_of
from relay.batches.settlement import DATA_PAUSES, PAUSE_S, RETRY_DELAYS_S, Settlement
from relay.batches.settling import BUSY_DELAY_S, RETRY_AFTER_MAX_S, settle
from relay.batches.states import OPEN, TRANSITIONS, BatchState, Cursor, Manifest, Terms

__all__ = [
    "AGAIN_DELAYS_S",
    "AGAIN_MAX_S",
    "BUSY_DELAY_S",
    "DATA_PAUSES",
    "DAY_S",
    "NARROW_AFTER",
    "OPEN",
    "OUTCOMES",
    "PAUSE_S",
    "REFUSED_LINES_MAX",
    "RETRY_AFTER_MAX_S",
    "RETRY_DELAYS_S",
    "ROWS_UNLIMITED",
    "SINGLE_TRIES_MAX",
    "TRANSITIONS",
    "UNANSWERED",
    "UPSERTS_AGAIN_MAX",
    "Accepted",
    "BatchState",
    "Busy",
    "Candidate",
    "Choice",
    "Cursor",
    "Day",
    "Delivered",
    "LineRejection",
    "Manifest",
    "Misconfigured",
    "Outcome",
    "Pace",
    "Quota",
    "Refused",
    "Settlement",
    "Terms",
    "TooLarge",
    "Transient",
    "Unauthorized",
    "Unknown",
    "choose",
    "going_up",
    "pace_of",
    "settle",
]
