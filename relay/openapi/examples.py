"""Examples of what is asked and answered, as instances of the models: they cannot say what a model does not.

Names and addresses are made up; `example.jp` belongs to nobody (JPRS keeps it for documents).
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from pydantic import BaseModel

from relay.batches import BatchState
from relay.events import EventState, Operation
from relay.problem import Mistake, heading
from relay.receive.answers import (
    ManyTaken,
    NoneTaken,
    RefusedWebhook,
    Taken,
    TakenEvent,
    Warned,
    WarnedWebhook,
)
from relay.status import answers
from relay.status.asked import CustomerSearch, Pause, Report

NOON = datetime(2026, 11, 22, 3, 0, 0, tzinfo=UTC)
EMAIL = "sato.yui@example.jp"

_BATCH = answers.Batch(
    id=4711,
    account="newsletter",
    login="blast",
    operation=Operation.UPSERT,
    state=BatchState.DELIVERED,
    reason="",
    rows=1200,
    bytes=148_211,
    rejected=1,
    cut_from=90_000,
    cut_to=91_250,
    oldest_received_at=NOON,
    created_at=NOON + timedelta(seconds=61),
    ended_at=NOON + timedelta(seconds=66),
    dismissed_at=None,
    retried_at=None,
    reported_success=None,
    reported_failure=None,
)
_UPLOAD = answers.Upload(
    number=1,
    started_at=NOON + timedelta(seconds=62),
    ended_at=NOON + timedelta(seconds=66),
    http_status=200,
    outcome="delivered",
    reason="",
    bytes_sent=148_211,
    reply_excerpt="",
)
_EVENT = answers.Event(
    account="newsletter",
    event_id=91_022,
    source="crm",
    webhook_id="msg_2YdQ8s",
    operation=Operation.UPSERT,
    occurred_at=NOON,
    received_at=NOON + timedelta(milliseconds=84),
    state=EventState.DELIVERED,
    why=None,
    batch_id=4711,
    line=None,
    message=None,
    superseded_by=None,
    retried_as=None,
    again_of=None,
    uploaded_at=NOON + timedelta(seconds=62),
    settled_at=NOON + timedelta(seconds=66),
)
_PENDING = _EVENT.model_copy(
    update={
        "account": "shop",
        "event_id": 18_203,
        "state": EventState.PENDING,
        "why": "waits for more or until 15 min after it arrived (in 11 min)",
        "batch_id": None,
        "uploaded_at": None,
        "settled_at": None,
    }
)
_OPT_OUT = _EVENT.model_copy(
    update={
        "webhook_id": "msg_2YdQ9a",
        "operation": Operation.STOP,
        "batch_id": 4712,
        "proof": answers.Proof(
            result="confirmed",
            confirmed_at=NOON + timedelta(seconds=66),
            accepted_at=None,
            uploads=[
                answers.ProofUpload(
                    event_id=91_022,
                    login="blast",
                    vendor="blastmail",
                    batch_id=4712,
                    number=1,
                    line=7,
                    sha256="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                    rows=12,
                    rejected=0,
                    refused=False,
                    reported_success=None,
                    reported_failure=None,
                    started_at=NOON + timedelta(seconds=62),
                    ended_at=NOON + timedelta(seconds=66),
                    http_status=200,
                    outcome="delivered",
                    reason="12 of 12 lines delivered",
                    bytes_sent=1_204,
                    reply_excerpt="HTTP 200",
                    proves="confirmed",
                )
            ],
            truncated=False,
            occurred_at=NOON,
            received_at=NOON + timedelta(milliseconds=84),
            why=None,
            superseded_by=[],
            lifted_by=answers.Word(
                event_id=95_310,
                operation=Operation.ALLOW,
                source="crm",
                webhook_id="msg_2YdRb4",
                occurred_at=NOON + timedelta(days=9),
                received_at=NOON + timedelta(days=9, milliseconds=71),
            ),
        ),
    }
)
_UNRESOLVED = answers.Unresolved(
    account="newsletter",
    source="crm",
    webhook_id="msg_2YdQ8z",
    operation=Operation.STOP,
    occurred_at=NOON,
    received_at=NOON + timedelta(milliseconds=84),
    why="waits for an address: none is known for the customer's id",
    dismissed_at=None,
)
_CURSOR = answers.Cursor(
    operation=Operation.UPSERT,
    position=91_250,
    pending=12,
    attempts=0,
    next_try_s=0,
    rows_max=None,
    bytes_max=10_000_000,
    batch_id=None,
    batch_state=None,
)
_LOGIN = answers.Login(
    name="blast",
    vendor="blastmail",
    accounts=["newsletter"],
    leased=False,
    generation=57,
    leased_s=0,
    uploading_batch=None,
    waits=None,
    paused=None,
    quota=answers.Quota(calls_today=31, per_day=None),
    refused_settings=None,
    refused_logins=answers.RefusedLogins(last_hour=0, per_hour_max=5),
    breaker=answers.Breaker(host="https://api.bme.jp", state="closed", next_try_s=0),
)
_REJECTION = answers.Rejection(
    line=18,
    event_id=91_023,
    source="crm",
    webhook_id="msg_2YdQ8t",
    message="配信先が重複しています",
    unconfirmed=False,
    dismissed_at=None,
    retried_at=None,
)
_MISTAKE = Mistake(field="data.email", message="expected an e-mail address with one @ and something on either side")
_REFUSED = RefusedWebhook(index=1, webhook_id="msg_2YdQ8w", errors=[_MISTAKE])
_WARNED = Warned(account="newsletter", field="data.name", message="1 character without a Shift_JIS form became 〓")

EXAMPLES: Mapping[type[BaseModel], Mapping[str, BaseModel]] = {
    answers.BatchesPage: {"One page": answers.BatchesPage(batches=[_BATCH], next=None)},
    answers.BatchDetail: {
        "Delivered, but for one line": answers.BatchDetail(
            **_BATCH.model_dump(),
            header=["E-Mail", "氏名", "生年月日"],
            sha256="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            refused=False,
            attempts=0,
            next_try_s=0,
            why=None,
            uploads=[_UPLOAD],
        )
    },
    answers.RejectionsPage: {"One refused line": answers.RejectionsPage(rejections=[_REJECTION], next=None)},
    answers.Changed: {"Three events": answers.Changed(events=3)},
    answers.Reported: {"Recorded": answers.Reported(batch=4711, success=98, failure=2, uncounted=0)},
    answers.Webhook: {
        "Delivered to one of two accounts": answers.Webhook(
            source="crm", webhook_id="msg_2YdQ8s", events=[_EVENT, _PENDING]
        ),
        "An opt-out with its proof": answers.Webhook(source="crm", webhook_id="msg_2YdQ9a", events=[_OPT_OUT]),
    },
    answers.UnresolvedPage: {"One opt-out": answers.UnresolvedPage(unresolved=[_UNRESOLVED], next=None)},
    answers.Customer: {
        "Subscribed": answers.Customer(
            standings=[
                answers.Standing(
                    account="newsletter",
                    standing="subscribed",
                    occurred_at=NOON,
                    event_ids=[91_022],
                    confirmed_at=NOON + timedelta(seconds=66),
                    why=None,
                )
            ],
            events=[_EVENT],
            truncated=False,
        )
    },
    answers.Accounts: {
        "One account": answers.Accounts(
            accounts=[
                answers.Account(
                    name="newsletter",
                    login="blast",
                    vendor="blastmail",
                    mode="all",
                    headers=["E-Mail", "氏名", "生年月日"],
                    pending=12,
                    oldest_unsettled=answers.OldestUnsettled(opt_out_s=None, data_s=23.5),
                    flush_after=answers.FlushAfter(opt_out_s=10, data_s=60),
                    dead_letters=1,
                    cursors=[_CURSOR],
                    check=answers.Check(
                        at=NOON,
                        fingerprint_current=True,
                        result="good",
                        reachable=True,
                        login_good=True,
                        known=["E-Mail", "氏名", "生年月日"],
                        not_mapped=["都道府県"],
                        required=["E-Mail", "状態"],
                        encoding="Shift_JIS",
                    ),
                )
            ]
        )
    },
    answers.ActsPage: {
        "A pause, and a look at refused lines": answers.ActsPage(
            acts=[
                answers.Act(
                    id=87,
                    at=NOON + timedelta(minutes=4),
                    who="oncall",
                    through="api",
                    act="pause",
                    login="blast",
                    account=None,
                    batch=None,
                    source=None,
                    webhook_id=None,
                    events=None,
                    detail="配信設定の見直しのため",
                ),
                answers.Act(
                    id=86,
                    at=NOON + timedelta(minutes=2),
                    who="oncall",
                    through="api",
                    act="see_rejections",
                    login="blast",
                    account="newsletter",
                    batch=4711,
                    source=None,
                    webhook_id=None,
                    events=1,
                    detail="",
                ),
            ],
            next=None,
        )
    },
    answers.History: {
        "Two of the last bins": answers.History(
            account="newsletter",
            bin_s=300,
            bins=[
                answers.Bin(
                    from_=NOON,
                    to=NOON + timedelta(minutes=5),
                    received=1250,
                    delivered=1199,
                    accepted=0,
                    rejected=1,
                    complete=True,
                ),
                answers.Bin(
                    from_=NOON + timedelta(minutes=5),
                    to=NOON + timedelta(minutes=10),
                    received=12,
                    delivered=0,
                    accepted=0,
                    rejected=0,
                    complete=False,
                ),
            ],
        )
    },
    answers.Token: {"Who is on call": answers.Token(name="oncall", scopes=["operate", "pii", "read"])},
    answers.Preview: {
        "Opt-outs that are due, and data that waits for more": answers.Preview(
            account="shop",
            login="contract",
            vendor="haihai",
            operations=[
                answers.PreviewedOperation(
                    operation=Operation.STOP,
                    due_in_s=0,
                    next_try_s=0,
                    why="is due, and is cut next",
                    open_batch=None,
                    open_batch_in_s=None,
                    files=[answers.PreviewedFile(header=["メールアドレス"], rows=3, bytes=79, superseded=1, in_s=0)],
                    rows=3,
                    bytes=79,
                    superseded=1,
                    complete=True,
                ),
                answers.PreviewedOperation(
                    operation=Operation.UPSERT,
                    due_in_s=412.6,
                    next_try_s=0,
                    why="waits for more or until 15 min after it arrived (in 413 s)",
                    open_batch=None,
                    open_batch_in_s=None,
                    files=[
                        answers.PreviewedFile(
                            header=["メールアドレス", "お名前"], rows=1_204, bytes=51_907, superseded=16, in_s=412.6
                        )
                    ],
                    rows=1_204,
                    bytes=51_907,
                    superseded=16,
                    complete=True,
                ),
            ],
            files=2,
            rows=1_207,
            bytes=51_986,
            superseded=17,
            calls=answers.PreviewedCalls(needed=2, per_day=240, left=131, kept_for_opt_outs=79, takes_s=412.6),
            complete=True,
        )
    },
    answers.Logins: {"One login": answers.Logins(logins=[_LOGIN])},
    answers.Login: {
        "At work": _LOGIN,
        "Paused by an operator": _LOGIN.model_copy(
            update={
                "paused": answers.Paused(since=NOON, reason="operator", detail="配信設定の見直しのため", holds=True)
            }
        ),
    },
    Report: {"As the report mail says": Report(success=98, failure=2)},
    Pause: {"With a reason": Pause(reason="配信設定の見直しのため")},
    CustomerSearch: {"By address": CustomerSearch(email=EMAIL)},
    Taken: {
        "Taken": Taken(
            webhook_id="msg_2YdQ8s",
            duplicate=False,
            events=[TakenEvent(account="newsletter", event_id=91_022), TakenEvent(account="shop", event_id=18_203)],
            warnings=[],
        ),
        "Sent again": Taken(
            webhook_id="msg_2YdQ8s",
            duplicate=True,
            events=[TakenEvent(account="newsletter", event_id=91_022)],
            warnings=[],
        ),
        "Taken, with a warning": Taken(
            webhook_id="msg_2YdQ8u",
            duplicate=False,
            events=[TakenEvent(account="newsletter", event_id=91_024)],
            warnings=[_WARNED],
        ),
    },
    ManyTaken: {
        "One of three is refused": ManyTaken(
            accepted=2,
            duplicates=0,
            refused=1,
            events=2,
            errors=[_REFUSED],
            warnings=[WarnedWebhook(index=2, webhook_id="msg_2YdQ8x", **_WARNED.model_dump())],
        )
    },
    NoneTaken: {
        "All are refused": NoneTaken.model_validate(
            {
                **heading(422, "None of the webhooks can be taken."),
                **ManyTaken(accepted=0, duplicates=0, refused=1, events=0, errors=[_REFUSED], warnings=[]).model_dump(),
            }
        )
    },
}
"""Examples by model, each with what it shows."""

PARAMETERS: Mapping[str, object] = {
    "account": "newsletter",
    "state": "failed",
    "operation": "upsert",
    "limit": 100,
    "after": 4711,
    "id": 4711,
    "login": "blast",
    "source": "crm",
    "webhook_id": "msg_2YdQ8s",
    "webhook-id": "msg_2YdQ8s",
    "batch": 4711,
    "who": "oncall",
    "act": "pause",
    "hours": 6,
    "messages": True,
}
"""An example of each parameter, by name."""


def shown(model: type[BaseModel]) -> dict[str, dict[str, object]]:
    """Give the examples of a model as OpenAPI has them."""
    return {
        _key(summary): {"summary": summary, "value": _written(example)}
        for summary, example in EXAMPLES.get(model, {}).items()
    }


def _written(example: BaseModel) -> object:
    """Write it as it would be: the status API leaves out nothing, a warning no account where it concerns all."""
    return example.model_dump(mode="json", exclude_unset=not isinstance(example, answers.Answer))


def _key(summary: str) -> str:
    return "-".join("".join(c for c in summary if c.isalnum() or c == " ").lower().split())
