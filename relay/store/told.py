"""What the store tells about events, batches, cursors and lanes: how they stood at one moment of Postgres's clock.

Names that end in `_s` are seconds from that moment; what is over or was never set is 0 or None.
"""

import math
from dataclasses import dataclass, field
from datetime import datetime

from relay.batches import DAY_S, BatchState, Day
from relay.events import EventState, Operation


@dataclass(frozen=True, slots=True)
class FoundEvent:
    """One event. `source` and `message_id` are its webhook's, or relay's own where `again_of` names the original."""

    account: str
    event_id: int
    source: str
    message_id: str
    operation: Operation
    occurred_at: datetime
    received_at: datetime
    again_of: int | None


@dataclass(frozen=True, slots=True)
class ToldEvent(FoundEvent):
    """One event and what became of it.

    `batch_id` is its latest batch that is not replaced, `uploaded_at` when the last upload of that began, `settled_at`
    when it ended. `line` and `message` are set where the vendor refused its line; the message may repeat the customer's
    data.
    """

    state: EventState
    superseded_by: int | None
    retried_as: int | None
    batch_id: int | None
    batch_reason: str
    uploaded_at: datetime | None
    settled_at: datetime | None
    dismissed: bool
    line: int | None
    message: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class ToldWord:
    """What a webhook said about a customer, whatever relay appended again of it."""

    event_id: int
    operation: Operation
    source: str
    message_id: str
    occurred_at: datetime
    received_at: datetime


@dataclass(frozen=True, slots=True)
class ToldCarrier:
    """One upload of a file that held an opt-out, or a copy of it (`event_id`), in `line`; the header is line 1.

    `came_to`, `settled_at` and `batch_reason` are the state of its batch, its end and why, if no later upload of the
    batch is known. `refused` says that the line, and not only its file, is down as a rejection. `rows` and `rejected`
    count the file's.
    """

    event_id: int
    login: str
    batch_id: int
    number: int
    line: int
    refused: bool
    sha256: str | None
    rows: int
    rejected: int
    reported_success: int | None
    reported_failure: int | None
    started_at: datetime
    ended_at: datetime | None
    http_status: int | None
    outcome: str | None
    reason: str
    bytes_sent: int
    reply_excerpt: str
    came_to: BatchState | None
    settled_at: datetime | None
    batch_reason: str | None


@dataclass(frozen=True, slots=True)
class ToldProof:
    """A word, the state of the last event that says it (None where it is no opt-out), and the uploads that held it.

    `carriers` are the last ones, in their order; `truncated` says that there may be earlier ones. `lifted_by` is the
    first later word that ends the opt-out.
    """

    word: ToldWord
    state: EventState | None
    carriers: tuple[ToldCarrier, ...]
    truncated: bool
    lifted_by: ToldWord | None


@dataclass(frozen=True, slots=True)
class ToldUnresolved:
    """One opt-out that waits under one account for an address of its customer. `id` is its place among all of them."""

    account: str
    source: str
    message_id: str
    operation: Operation
    occurred_at: datetime
    received_at: datetime
    dismissed_at: datetime | None
    id: int


@dataclass(frozen=True, slots=True)
class ToldBatch:
    """One batch. `rows` and `bytes` are the file's, the header counted in `bytes` only."""

    account: str
    id: int
    login: str
    operation: Operation
    header: tuple[str, ...]
    cut_from: int
    cut_to: int
    rows: int
    bytes: int
    sha256: str | None
    state: BatchState
    reason: str
    refused: bool
    rejected: int
    reported_success: int | None
    reported_failure: int | None
    oldest_received_at: datetime
    created_at: datetime
    ended_at: datetime | None
    dismissed_at: datetime | None
    retried_at: datetime | None


@dataclass(frozen=True, slots=True)
class ToldUpload:
    """One upload of a batch; without an outcome it is under way, or its replica has ended."""

    number: int
    started_at: datetime
    ended_at: datetime | None
    http_status: int | None
    outcome: str | None
    reason: str
    bytes_sent: int
    reply_excerpt: str


@dataclass(frozen=True, slots=True)
class ToldRejection:
    """One line that the vendor refused, with the webhook that it came from. The message may repeat customers' data."""

    line: int
    event_id: int
    source: str | None
    message_id: str | None
    message: str = field(repr=False)
    unconfirmed: bool
    dismissed_at: datetime | None
    retried_at: datetime | None


@dataclass(frozen=True, slots=True)
class ToldCursor:
    """How far an operation of an account has been cut, and what it has to do.

    `batch_id` and `batch_state` are its open batch's; `first_id` and `first_age_s` those of the first event that waits
    beyond the cursor; `again` says that relay has appended one of those again, so that they are due. `tried_reason`
    is what the last upload came to where attempts have failed, `wait_reason` is `quota` where the next try waits for a
    call of the vendor's day, `record` where it waits for the vendor's record of the last upload to be old enough.
    """

    account: str
    operation: Operation
    position: int
    attempts: int
    rows_max: int | None
    bytes_max: int | None
    next_try_s: float
    tried_reason: str
    batch_id: int | None
    batch_state: BatchState | None
    first_id: int | None
    first_age_s: float | None
    again: bool
    wait_reason: str = ""


@dataclass(frozen=True, slots=True)
class ToldLane:
    """A login's lane: its lease, what it waits for, and why it pauses. `calls_today` counts the day of Japan.

    Replicas whose settings have one of `refused_fingerprints` stay out of it until `refused_until`; those with one of
    `refused_data_fingerprints` send opt-outs only. `refused_logins` are the last hour's.
    Of the vendor's day `day_left_s` are left; the last call was `since_call_s` ago; `met_calls` is after how many the
    vendor took no more, if it has said so within a week.
    """

    login: str
    generation: int
    leased: bool
    leased_s: float
    waits_until: datetime | None
    wait_s: float
    wait_reason: str
    paused_at: datetime | None
    pause_reason: str | None
    pause_detail: str
    paused_fingerprint: str | None
    flush_to: int
    calls_today: int
    refused_fingerprints: tuple[str, ...] = ()
    refused_data_fingerprints: tuple[str, ...] = ()
    refused_until: datetime | None = None
    refused_s: float = 0.0
    refused_logins: int = 0
    day_left_s: float = DAY_S
    since_call_s: float = math.inf
    met_calls: int | None = None

    @property
    def day(self) -> Day:
        """How the login stands in the vendor's day."""
        return Day(self.calls_today, self.day_left_s, self.since_call_s, self.met_calls)


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """Events of an account that nobody will send unless an operator retries them, nor has dismissed."""

    opt_outs: int = 0
    data: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.opt_outs + self.data


@dataclass(frozen=True, slots=True)
class Unsettled:
    """What one cursor has not settled: events that wait beyond it, and the age of the oldest that is not done with."""

    account: str
    operation: Operation
    pending: int
    oldest_s: float | None
