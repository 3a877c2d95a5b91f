"""The proof of an opt-out: what the vendor has confirmed of it, by which upload, and what ended it. Pure.

Theory of operation. An opt-out is proven by its own line: the batch that held it ended as delivered, and the line is no
rejection. The last upload of the batch is what confirmed it; every other one that held the line is told beside it,
because it may have arrived. A file that was only accepted proves that the vendor took it, never the line.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal

from relay.batches import BatchState
from relay.events import EventState, origin
from relay.settings import Login
from relay.status import answers
from relay.status.why import Around, why_event
from relay.store import ToldCarrier, ToldEvent, ToldProof, ToldUnresolved, ToldWord

PROOFS_MAX = 50
"""So many opt-outs of a customer are told with their proofs for each account, those that occurred last."""

Key = tuple[str, int]
"""An account and the event that a webhook made."""

_RESULTS: Mapping[EventState, str] = {
    EventState.DELIVERED: "confirmed",
    EventState.ACCEPTED: "accepted",
    EventState.REJECTED: "rejected",
    EventState.SUPERSEDED: "superseded",
    EventState.UNCONFIRMED: "unconfirmed",
    EventState.FAILED: "unconfirmed",
}
"""The result by the state of the last event; in any other state it waits."""


def word_of(event: ToldEvent) -> Key:
    """Name the event that a webhook made, of an event or of what relay appended again of it."""
    return event.account, event.event_id if event.again_of is None else event.again_of


def opt_outs(told: Iterable[ToldEvent]) -> list[Key]:
    """Name the opt-outs among events, of each account the `PROOFS_MAX` that stand last."""
    events = [event for event in told if event.operation.opt_out]
    words = list(dict.fromkeys(word_of(event) for event in reversed(events)))
    seen: Counter[str] = Counter()
    kept = []
    for account, event_id in words:
        seen[account] += 1
        if seen[account] <= PROOFS_MAX:
            kept.append((account, event_id))
    return kept


def proof(
    chain: list[ToldProof], last: ToldEvent | None, around: Around | None, logins: Mapping[str, Login]
) -> answers.Proof:
    """Put together an opt-out's proof. `chain` is what the store tells of it; `last` the last event that says it."""
    own = chain[0]
    return answers.Proof(
        **_evidence(own, logins).model_dump(),
        occurred_at=own.word.occurred_at,
        received_at=own.word.received_at,
        why=why_event(last, around) if last else None,
        superseded_by=[_superseding(later, logins) for later in chain[1:]],
        lifted_by=answers.Word.model_validate(_word(own.lifted_by)) if own.lifted_by else None,
    )


def proof_unresolved(told: ToldUnresolved, why: str) -> answers.Proof:
    """Put together the proof of an opt-out that is no event yet: it was received, and nothing has been sent."""
    return answers.Proof(
        result="unresolved",
        confirmed_at=None,
        accepted_at=None,
        uploads=[],
        truncated=False,
        occurred_at=told.occurred_at,
        received_at=told.received_at,
        why=why,
        superseded_by=[],
        lifted_by=None,
    )


def _superseding(told: ToldProof, logins: Mapping[str, Login]) -> answers.SupersedingWord:
    evidence = _evidence(told, logins) if told.word.operation.opt_out else None
    return answers.SupersedingWord.model_validate({**_word(told.word), "evidence": evidence})


def _evidence(told: ToldProof, logins: Mapping[str, Login]) -> answers.Evidence:
    uploads = [_upload(carrier, logins) for carrier in told.carriers]
    return answers.Evidence.model_validate(
        {
            "result": _result(told),
            "confirmed_at": _last(told, "confirmed"),
            "accepted_at": _last(told, "accepted"),
            "uploads": uploads,
            "truncated": told.truncated,
        }
    )


def _result(told: ToldProof) -> str:
    result = _RESULTS.get(told.state, "waiting") if told.state else "waiting"
    # A line that was given up because no answer ever came was refused by nobody.
    unanswered = bool(told.carriers) and told.carriers[-1].outcome == "unknown"
    return "unconfirmed" if result == "rejected" and unanswered else result


def _last(told: ToldProof, proven: str) -> object:
    found = (c.settled_at for c in told.carriers if _proves(c) == proven and c.settled_at is not None)
    return max(found, default=None)


def _proves(carrier: ToldCarrier) -> Literal["confirmed", "accepted"] | None:
    if carrier.refused:
        return None
    if carrier.came_to is BatchState.DELIVERED:
        return "confirmed"
    return "accepted" if carrier.came_to is BatchState.ACCEPTED else None


def _upload(carrier: ToldCarrier, logins: Mapping[str, Login]) -> answers.ProofUpload:
    told = {name: getattr(carrier, name) for name in answers.ProofUpload.model_fields if hasattr(carrier, name)}
    vendor = logins[carrier.login].vendor if carrier.login in logins else None
    proves = _proves(carrier)
    if proves and carrier.outcome == "unknown" and carrier.batch_reason:  # found out after it had ended
        told["reason"] = f"{carrier.reason}; {carrier.batch_reason}"
    return answers.ProofUpload(**told, vendor=vendor, proves=proves)


def _word(word: ToldWord) -> dict[str, object]:
    return {
        "event_id": word.event_id,
        "operation": word.operation,
        "source": word.source,
        "webhook_id": origin(word.message_id)[0],
        "occurred_at": word.occurred_at,
        "received_at": word.received_at,
    }
