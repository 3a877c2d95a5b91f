"""What the status API answers, as models: they are its documentation as well.

Moments are ISO 8601 in UTC, names that end in `_s` seconds from now by Postgres's clock. Whoever reads a model with
`message` or an address in it needs the scope `pii`, or finds null there.
"""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from relay.batches import BatchState
from relay.events import Added, EventState, Operation
from relay.settings import Scope
from relay.store import ActName, Through


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
    """The counts that were recorded for a batch; `uncounted` are the rows of its file that they leave out."""

    batch: int
    success: int
    failure: int
    uncounted: int


# -- events ----------------------------------------------------------------------------------------------------------


class Word(Answer):
    """What a webhook said about a customer, and when relay received it: it was answered only once that was safe."""

    event_id: int
    operation: Operation
    source: str
    webhook_id: str
    occurred_at: datetime
    received_at: datetime


class ProofUpload(Answer):
    """One upload of a file that held an opt-out, in `line` (the header is line 1), and what the vendor answered.

    `event_id` is the opt-out, or what relay appended again of it. `proves` is `confirmed` where the vendor confirmed
    this line, `accepted` where it took the file and told nothing of the line, and null for an upload that proves
    nothing: it failed, had no answer, is under way, or the vendor refused the line (`refused`). `rows` and
    `rejected` count the file, `reported_…` are what 配配メール's report mail counts of it, where somebody has recorded
    that. `vendor` is null where the settings no longer have the login.
    """

    event_id: int
    login: str
    vendor: str | None
    batch_id: int
    number: int
    line: int
    sha256: str | None
    rows: int
    rejected: int
    refused: bool
    reported_success: int | None
    reported_failure: int | None
    started_at: datetime
    ended_at: datetime | None
    http_status: int | None
    outcome: str | None
    reason: str
    bytes_sent: int
    reply_excerpt: str
    proves: Literal["confirmed", "accepted"] | None


class Evidence(Answer):
    """How far it is proven that the vendor knows of an opt-out.

    `result` is about its last event: `confirmed` by the vendor, `accepted` (the file was taken, its lines are not
    confirmed), `rejected` (the vendor refused the line), `unconfirmed` (it may have arrived, and the vendor never said
    so), `superseded` (a later word replaced it before it was sent), `unresolved` (waits for an address of its
    customer), or `waiting`. `confirmed_at` is when the vendor last confirmed its line (or refused a delete or stop by
    one of the login's `unknown_address_messages`: the address is not there, which counts as delivered), `accepted_at`
    when it last took a file with it. A `confirmed_at` beside another result: it was confirmed, and then appended again,
    because an upsert may have undone it. `uploads` are the last 20 that held it, in their order; `truncated`: there may
    be earlier ones.
    """

    result: Literal["confirmed", "accepted", "rejected", "unconfirmed", "superseded", "unresolved", "waiting"]
    confirmed_at: datetime | None
    accepted_at: datetime | None
    uploads: list[ProofUpload]
    truncated: bool


class SupersedingWord(Word):
    """A word that replaced another one before it was sent; `evidence` where it is an opt-out itself."""

    evidence: Evidence | None


class Proof(Evidence):
    """The record of one opt-out, from the webhook to the vendor's answer, with all that relay appended again of it.

    `why` says why the vendor has not confirmed its last event; null where it has. `superseded_by` is the word that
    replaced it, then the one that replaced that, and so on up to five. `lifted_by` is the first later word that ends
    the opt-out: an allow, or an upsert behind a deletion; one that was never sent, or that the vendor refused, ends no
    stop or ban. Whether the customer may be mailed now say the `standings` of `/v1/customers/search`.
    """

    occurred_at: datetime
    received_at: datetime
    why: str | None
    superseded_by: list[SupersedingWord]
    lifted_by: Word | None


class Event(Answer):
    """One event and what became of it. `why` says why it is not delivered; null where it is.

    `again_of` names the original of an event that relay appended again, `retried_as` the last one appended again of
    this one. `batch_id` is the latest batch that holds it, `uploaded_at` when the last upload of that batch began, and
    `settled_at` when it ended: when the vendor confirmed a delivered event. `message` is what the vendor says about its
    line, with the scope `pii`. `added` says why relay added an event that the webhook did not ask for at this address,
    because its customer has or had another one: `moved` and `previous` take leave of an old address, `kept` is a stop
    or ban that holds at another address too, or again, `deleted` a deletion at another address. `proof` is that of an
    opt-out; it stands with the first of the events that say it, and is null at those that relay appended again behind
    it.
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
    proof: Proof | None = None


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
    proof: Proof | None = None


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

    `truncated`: older events are left out, but for those that say how the customer stands. The last 50 opt-outs at each
    account have their `proof`; that of an older one is told with its webhook.
    """

    standings: list[Standing]
    events: list[Event]
    truncated: bool


# -- accounts and logins ---------------------------------------------------------------------------------------------


class OldestUnsettled(Answer):
    """The age in seconds of the oldest opt-out and the oldest other event that are not settled; null where all are."""

    opt_out_s: float | None
    data_s: float | None


class FlushAfter(Answer):
    """How long in seconds opt-outs and other events may wait for more before a file is cut of them."""

    opt_out_s: float
    data_s: float


class Cursor(Answer):
    """How far an operation has been cut, and the limits of its next file.

    The limits are lower than the login's after the vendor refused a larger file; null is no limit of rows. `why` says
    what its next try waits for: a failed attempt's delay, or the vendor's calls of the day.
    """

    operation: Operation
    position: int
    pending: int
    attempts: int
    next_try_s: float
    why: str | None = None
    rows_max: int | None
    bytes_max: int
    batch_id: int | None
    batch_state: BatchState | None


class Check(Answer):
    """What the last look at the vendor found for an account, at `at`.

    `fingerprint_current`: with the present settings. `result` is `good`, `columns` (some that are mapped or needed are
    not there), `unauthorized`, `failed` (no answer of use) or `none`. `unknown` are mapped headers that the vendor does
    not have: one of them fails every row. `missing` are those of `required`, which relay cannot do without, that it
    does not have; `not_mapped` are the vendor's that nothing fills. `meant` names for a header what it may have been
    meant to be. `encoding` is the one in which the vendor told its columns.
    """

    at: datetime
    fingerprint_current: bool
    result: str
    reachable: bool | None = None
    login_good: bool | None = None
    known: list[str] = []
    unknown: list[str] = []
    missing: list[str] = []
    not_mapped: list[str] = []
    required: list[str] = []
    meant: dict[str, str] = {}
    encoding: str | None = None
    detail: str = ""


class Account(Answer):
    """One account. `headers` are those of an upsert's file.

    `check` is null where the vendor was not asked for its columns yet, and at 配配メール, which does not tell them.
    """

    name: str
    login: str
    vendor: str
    mode: str
    headers: list[str]
    pending: int
    oldest_unsettled: OldestUnsettled
    flush_after: FlushAfter
    dead_letters: int
    cursors: list[Cursor]
    check: Check | None = None


class Accounts(Answer):
    """All accounts of the settings."""

    accounts: list[Account]


class Paused(Answer):
    """Since when and why a lane pauses: `operator`, `unauthorized`, `misconfigured`, `columns` or `data`.

    With `columns` (a header that the vendor does not know) and `data` (a file of data that it did not understand)
    opt-outs go on. `holds`: for the present settings, too; else the lane goes on by itself.
    """

    since: datetime
    reason: str
    detail: str
    holds: bool


class Waits(Answer):
    """Until when a lane waits and for what: `quota`, `busy`, `settling`, `logins_refused`, or nothing in particular.

    `logins_refused`: the vendor has refused the login so often within an hour that it might lock it. `resume` ends
    every wait but this one and `settling`.
    """

    until: datetime
    seconds: float
    reason: str


class Quota(Answer):
    """The vendor's calls a day; `per_day` and all behind it are null where it counts none. The day is Japan's.

    Of those `left`, data may not have the ones `kept_for_opt_outs`. `why` says in words what waits because of that. The
    calls left are fewer than the settings say while the vendor has of late refused calls below its limit.
    """

    calls_today: int
    per_day: int | None
    left: int | None = None
    kept_for_opt_outs: int | None = None
    why: str | None = None


class RefusedSettings(Answer):
    """Until when the replica that answers stays out of the lane: its settings failed there while others work.

    It is so while a change of settings is rolled out, and ends by itself or with `resume`. Where only its data failed,
    opt-outs go on (`data_only`).
    """

    until: datetime
    seconds: float
    data_only: bool


class RefusedLogins(Answer):
    """How often the vendor has refused the login within the last hour; from `per_hour_max` on the lane waits."""

    last_hour: int
    per_hour_max: int


class Breaker(Answer):
    """How the vendor's host stands, as the replica that answers sees it; others may see it otherwise.

    After several failures in a row it is `open`: nothing is sent there for `next_try_s` seconds. Then it is
    `half_open`: one upload or call goes through, and its answer makes it `closed`.
    """

    host: str
    state: Literal["closed", "open", "half_open"]
    next_try_s: float


class Login(Answer):
    """One login and its lane: who works it, what it waits for, and how many calls the day has seen.

    `breaker` is null where the process that answers uploads nothing, and so does not know.
    """

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
    refused_settings: RefusedSettings | None
    refused_logins: RefusedLogins
    breaker: Breaker | None


class Logins(Answer):
    """All logins of the settings."""

    logins: list[Login]


# -- acts and history -----------------------------------------------------------------------------------------------


class Act(Answer):
    """What an operator did: who (a token's name, or the user who gave a command), when, and to what.

    `flush`, `pause` and `resume` are of a login; `retry`, `dismiss` and `report` of a batch, with its account and
    login; `dismiss` also of a webhook that waits for an address; `delete_records` of an account's records at the
    vendor. `download`, `search` and `see_rejections` are looks at customers' data. `events` says how many it concerned
    or found, where that can be said. Nothing in it is a customer's: of a search it does not tell whom it was for.
    """

    id: int
    at: datetime
    who: str
    through: Through
    act: ActName
    login: str | None
    account: str | None
    batch: int | None
    source: str | None
    webhook_id: str | None
    events: int | None
    detail: str


class ActsPage(Answer):
    """What operators did, the newest first. `next` is the next page's `after`; null at the end."""

    acts: list[Act]
    next: int | None


class Bin(Answer):
    """What happened from one moment up to, and without, another.

    `received` are events, one for each account of a webhook, by the moment of their receipt; what relay appends again
    is not counted. `delivered`, `accepted` and `rejected` are lines of the files that ended then, those appended again
    included: confirmed by the vendor, taken without a word about the lines, and refused. Not `complete`: more may come.
    """

    model_config = ConfigDict(frozen=True, from_attributes=True, serialize_by_alias=True)

    from_: datetime = Field(serialization_alias="from")
    to: datetime
    received: int
    delivered: int
    accepted: int
    rejected: int
    complete: bool


class History(Answer):
    """What was received and what ended over the last hours, the oldest first, in bins of `bin_s` seconds each.

    Of one account, or of all (null), those that the settings no longer name included. The last bin has not ended yet.
    """

    account: str | None
    bin_s: int
    bins: list[Bin]


# -- who asks --------------------------------------------------------------------------------------------------------


class Token(Answer):
    """The token that this is asked with: its name in the settings, and what it may do."""

    name: str
    scopes: list[Scope]


# -- previews --------------------------------------------------------------------------------------------------------


class OpenBatch(Answer):
    """A batch that is cut already. `cut_anew`: it will be taken apart first, and `files` hold what it holds."""

    id: int
    state: BatchState
    rows: int
    bytes: int
    cut_anew: bool


class PreviewedFile(Answer):
    """One file: `rows` without its header, `bytes` with it, as exact as when it is cut.

    `superseded` events between its lines are left out. `in_s` says in how many seconds it may go up, where nothing else
    comes; null where that depends on an operator.
    """

    header: list[str]
    rows: int
    bytes: int
    superseded: int
    in_s: float | None


class PreviewedOperation(Answer):
    """What one operation would send next.

    `due_in_s` is 0 for what is due, `next_try_s` how much longer its next try has to wait; `why` says in words what it
    waits for. `open_batch` goes up before the `files`, unless it is cut anew. `complete` is false where there is more
    than was looked at.
    """

    operation: Operation
    due_in_s: float
    next_try_s: float
    why: str
    open_batch: OpenBatch | None
    open_batch_in_s: float | None
    files: list[PreviewedFile]
    rows: int
    bytes: int
    superseded: int
    complete: bool


class PreviewedCalls(Answer):
    """The uploads that all of it needs, and the vendor's calls of the day; null where the vendor counts none.

    `takes_s` says in how many seconds the last file may go up, without the time that uploads take themselves; null
    where that depends on an operator.
    """

    needed: int
    per_day: int | None
    left: int | None
    kept_for_opt_outs: int | None
    takes_s: float | None


class Preview(Answer):
    """What the next cuts of an account would send: its operations in the order in which they would go.

    It is as of one moment, and supposes that nothing arrives, that every file is taken, and that no other account of
    the login has anything to send; stops and bans that relay would append again behind upserts are not counted. Nothing
    is cut or moved by asking. The sums are those of the files, without batches that are open. `complete` is false
    where there is more than was looked at: 20 files, or 2 seconds of looking (10 for the first file).
    """

    account: str
    login: str
    vendor: str
    operations: list[PreviewedOperation]
    files: int
    rows: int
    bytes: int
    superseded: int
    calls: PreviewedCalls
    complete: bool
