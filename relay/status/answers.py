"""What the status API answers, as models: they are its documentation as well.

Moments are ISO 8601 in UTC, names that end in `_s` seconds from now by Postgres's clock. Whoever reads a model with
`message` or an address in it needs the scope `pii`, or finds null there.
"""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from relay.batches import BatchState
from relay.events import Added, EventState, Operation


class Answer(BaseModel):
    """Frozen, and made from what the store tells."""

    model_config = ConfigDict(frozen=True, from_attributes=True)


# -- batches ---------------------------------------------------------------------------------------------------------


class Batch(Answer):
    """A batch: one file of one account and one operation.

    Its lines are the account's events of the operation with `cut_from < id <= cut_to`, less the superseded. `rows` does
    not count the header, `bytes` does. `rejected` are lines that the vendor refused; `reported_…` are the counts of
    配配メール's report mail, where somebody has recorded them.
    """

    id: int
    account: str
    login: str
    operation: Operation
    state: BatchState
    reason: str
    rows: int
    bytes: int
    rejected: int
    cut_from: int
    cut_to: int
    oldest_received_at: datetime
    created_at: datetime
    ended_at: datetime | None
    dismissed_at: datetime | None
    retried_at: datetime | None
    reported_success: int | None
    reported_failure: int | None


class BatchesPage(Answer):
    """Batches, the newest first. `next` is the next page's `after`; null at the end."""

    batches: list[Batch]
    next: int | None


class Upload(Answer):
    """One upload of a batch. Without an outcome it is under way. The excerpt of the reply holds no customer's data."""

    number: int
    started_at: datetime
    ended_at: datetime | None
    http_status: int | None
    outcome: str | None
    reason: str
    bytes_sent: int
    reply_excerpt: str


class BatchDetail(Batch):
    """A batch with its uploads. `why` says why an open batch waits; attempts and next try are those of its cursor."""

    header: list[str]
    sha256: str | None
    refused: bool
    attempts: int
    next_try_s: float
    why: str | None
    uploads: list[Upload]


class Rejection(Answer):
    """One line that the vendor refused (the header is line 1) and the webhook that it came from.

    `unconfirmed`: it may only echo an earlier upload of the same line. `message` is the vendor's, with the scope `pii`.
    """

    line: int
    event_id: int
    source: str | None
    webhook_id: str | None
    message: str | None
    unconfirmed: bool
    dismissed_at: datetime | None
    retried_at: datetime | None


class RejectionsPage(Answer):
    """Refused lines in their order. `next` is the next page's `after`; null at the end."""

    rejections: list[Rejection]
    next: int | None


class Changed(Answer):
    """How many events a command has retried or dismissed."""

    events: int


class Reported(Answer):
    """The counts that were recorded for a batch."""

    batch: int
    success: int
    failure: int


# -- events ----------------------------------------------------------------------------------------------------------


class Event(Answer):
    """One event and what became of it. `why` says why it is not delivered; null where it is.

    `again_of` names the original of an event that relay appended again, `retried_as` the last one appended again of
    this one. `batch_id` is the latest batch that holds it, `uploaded_at` when the last upload of that batch began, and
    `settled_at` when it ended: when the vendor confirmed a delivered event. `message` is what the vendor says about its
    line, with the scope `pii`. `added` says why relay added an event that the webhook did not ask for at this address,
    because its customer has or had another one: `moved` and `previous` take leave of an old address, `kept` is a stop
    or ban that holds at another address too, or again, `deleted` a deletion at another address.
    """

    account: str
    event_id: int
    source: str
    webhook_id: str
    operation: Operation
    occurred_at: datetime
    received_at: datetime
    state: EventState
    why: str | None
    batch_id: int | None
    uploaded_at: datetime | None
    settled_at: datetime | None
    line: int | None
    message: str | None
    superseded_by: int | None
    retried_as: int | None
    again_of: int | None
    added: Added | None = None


class Unresolved(Answer):
    """An opt-out that names its customer by an id for which no address is known: it waits for one, at one account.

    It is resolved as soon as there is one, dismissed or not; the dismissed are no longer counted.
    """

    account: str
    source: str
    webhook_id: str
    operation: Operation
    occurred_at: datetime
    received_at: datetime
    state: Literal["unresolved"] = "unresolved"
    why: str
    dismissed_at: datetime | None


class UnresolvedPage(Answer):
    """Opt-outs that wait for an address, less the dismissed, the oldest first. `next` is the next page's `after`."""

    unresolved: list[Unresolved]
    next: int | None


class Webhook(Answer):
    """What became of a webhook: by account its events, each followed by the last one that relay appended again, if any.

    `unresolved` is what of it waits for an address of its customer, and is no event yet.
    """

    source: str
    webhook_id: str
    events: list[Event]
    unresolved: list[Unresolved] = []


StandingName = Literal["subscribed", "allowed", "stopped", "banned", "deleted"]


class Standing(Answer):
    """How a customer stands at an account, as far as relay knows: it cannot see opt-outs made at the vendor.

    `subscribed`: there is a record, and nothing forbids to mail it; `allowed`: nothing forbids it, but relay has no
    record of the customer; `stopped`, `banned` and `deleted`: not to be mailed. It happened at `occurred_at`, and rests
    on the events `event_ids`. Either the vendor has confirmed it (`confirmed_at`), or `why` says why it may not hold
    there.
    """

    account: str
    standing: StandingName
    occurred_at: datetime
    event_ids: list[int]
    confirmed_at: datetime | None
    why: str | None


class Customer(Answer):
    """How a customer stands at each account, and what happened, in the order in which it happened.

    `truncated`: older events are left out, but for those that say how the customer stands.
    """

    standings: list[Standing]
    events: list[Event]
    truncated: bool


# -- accounts and logins ---------------------------------------------------------------------------------------------


class OldestUnsettled(Answer):
    """The age in seconds of the oldest opt-out and the oldest other event that are not settled; null where all are."""

    opt_out_s: float | None
    data_s: float | None


class Cursor(Answer):
    """How far an operation has been cut, and the limits of its next file.

    The limits are lower than the login's after the vendor refused a larger file; null is no limit of rows.
    """

    operation: Operation
    position: int
    pending: int
    attempts: int
    next_try_s: float
    rows_max: int | None
    bytes_max: int
    batch_id: int | None
    batch_state: BatchState | None


class Account(Answer):
    """One account. `headers` are those of an upsert's file."""

    name: str
    login: str
    vendor: str
    mode: str
    headers: list[str]
    pending: int
    oldest_unsettled: OldestUnsettled
    dead_letters: int
    cursors: list[Cursor]


class Accounts(Answer):
    """All accounts of the settings."""

    accounts: list[Account]


class Paused(Answer):
    """Since when and why a lane pauses. `holds`: for the present settings too; else the lane goes on by itself."""

    since: datetime
    reason: str
    detail: str
    holds: bool


class Waits(Answer):
    """Until when a lane waits and for what: `quota`, `busy`, `settling`, or nothing in particular."""

    until: datetime
    seconds: float
    reason: str


class Quota(Answer):
    """The vendor's calls a day; `per_day` is null where it counts none. The day is Japan's."""

    calls_today: int
    per_day: int | None


class Login(Answer):
    """One login and its lane: who works it, what it waits for, and how many calls the day has seen."""

    name: str
    vendor: str
    accounts: list[str]
    leased: bool
    generation: int
    leased_s: float
    uploading_batch: int | None
    waits: Waits | None
    paused: Paused | None
    quota: Quota


class Logins(Answer):
    """All logins of the settings."""

    logins: list[Login]
