"""How a customer stands at an account: what the words that are in force come to. Pure.

Theory of operation. Of all words about a customer at most two are in force, by the same order and the same table as
when relay sends (`relay.events`): the last upsert or delete, and the last stop, ban or allow that no delete followed. A
standing is confirmed when the vendor has confirmed every word that it rests on; whatever may undo it is told.
"""

from collections.abc import Iterable, Sequence

from relay.events import PERMISSIONS, SUPERSEDED_BY, EventState, Operation
from relay.status import answers
from relay.status.why import Around, why_event
from relay.store import ToldEvent

_NOBODY_KNOWS = "an earlier {} may still hold at the vendor: the delete between was {}"
_UNDELETED = {
    EventState.PENDING: "replaced before it was sent",  # by what the customer is subscribed with, at the next cut
    EventState.SUPERSEDED: "replaced before it was sent",
    EventState.REJECTED: "refused",
    EventState.UNCONFIRMED: "never confirmed",
    EventState.FAILED: "given up",
}
_UNDONE = "an upsert is being uploaded that may undo it; the {} is then sent again"


def order(event: ToldEvent) -> tuple[object, ...]:
    """Order words as `relay.events` does; the account only keeps them together where all else is equal."""
    return (event.occurred_at, event.operation.opt_out, event.received_at, event.account, event.event_id)


def in_force(words: Iterable[ToldEvent]) -> list[ToldEvent]:
    """Leave out the words of one account that a later one supersedes."""
    later: set[Operation] = set()
    left: list[ToldEvent] = []
    for word in sorted(words, key=order, reverse=True):
        if not later & SUPERSEDED_BY[word.operation]:
            left.append(word)
        later.add(word.operation)
    return left[::-1]


def standing(words: Sequence[ToldEvent], around: Around | None) -> answers.Standing:
    """Say how a customer stands at an account by the words about them there, at least one.

    Needed are the last upsert or delete, the last permission word and the last delete; more do no harm. `around` as for
    `why_event`.
    """
    held = {word.operation: word for word in in_force(words)}
    name, rests_on = _rests_on(held)
    why = next((f"{word.operation}: {why_event(word, around)}" for word in rests_on if not _confirmed(word)), None)
    why = why or _doubt(name, held, words)
    confirmed = [word.settled_at for word in rests_on if word.settled_at is not None]
    return answers.Standing(
        account=words[0].account,
        standing=name,
        occurred_at=rests_on[0].occurred_at,
        event_ids=[word.event_id for word in rests_on],
        confirmed_at=None if why else max(confirmed, default=None),
        why=why,
    )


def _rests_on(held: dict[Operation, ToldEvent]) -> tuple[answers.StandingName, list[ToldEvent]]:
    """Name the standing and the words that it rests on, the one that decides first."""
    allow = [held[Operation.ALLOW]] if Operation.ALLOW in held else []
    if Operation.DELETE in held:
        return "deleted", [held[Operation.DELETE]]
    if Operation.BAN in held:
        return "banned", [held[Operation.BAN]]
    if Operation.STOP in held:
        return "stopped", [held[Operation.STOP]]
    if Operation.UPSERT in held:
        return "subscribed", [held[Operation.UPSERT], *allow]
    return "allowed", allow


def _confirmed(word: ToldEvent) -> bool:
    return word.state is EventState.DELIVERED


def _doubt(name: answers.StandingName, held: dict[Operation, ToldEvent], words: Iterable[ToldEvent]) -> str | None:
    """Say what may hold at the vendor although all words that the standing rests on are confirmed."""
    upsert = held.get(Operation.UPSERT)
    if name in ("stopped", "banned"):
        undoing = upsert is not None and upsert.state is EventState.UPLOADING
        return _UNDONE.format("stop" if name == "stopped" else "ban") if undoing else None
    permission = max((word for word in words if word.operation in PERMISSIONS), key=order, default=None)
    if name != "subscribed" or permission is None or permission.operation is Operation.ALLOW:
        return None
    deletes = [word for word in words if word.operation is Operation.DELETE and order(word) > order(permission)]
    undeleted = [_UNDELETED.get(word.state) for word in deletes]
    return _NOBODY_KNOWS.format(permission.operation, undeleted[-1]) if undeleted and all(undeleted) else None
