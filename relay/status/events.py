"""Events over HTTP: what became of a webhook, and everything that happened to a customer."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from aiohttp import web

from relay.events import RELAY_SOURCE, origin
from relay.log import logger
from relay.status import answers
from relay.status.acting import Missing, looked
from relay.status.asked import CustomerSearch, WebhookQuery
from relay.status.auth import Caller
from relay.status.context import Context
from relay.status.proof import Key, opt_outs, proof, word_of
from relay.status.respond import json_of
from relay.status.standing import order, standing
from relay.status.unresolved import storable, unresolved_of
from relay.status.why import Around, why_event
from relay.store import Act, FoundEvent, Operator, ToldEvent

EVENTS_MAX = 1000
"""So many events of a customer are told for each account, those that occurred last."""

log = logger(__name__)


async def tell_webhook(context: Context, request: web.Request, caller: Caller, asked: WebhookQuery) -> web.Response:
    """`GET /v1/webhooks/{source}/{webhook_id}`: what became of it, by account, and why it is not delivered."""
    source, message_id = request.match_info["source"], request.match_info["webhook_id"]
    by = caller.operator if caller.sees_customers and asked.messages else None
    return json_of(await find_webhook(context, source, message_id, by))


async def find_webhook(context: Context, source: str, message_id: str, by: Operator | None) -> answers.Webhook:
    """Tell what became of a webhook, with vendors' messages only to an operator, who is noted. Raises Missing."""
    kept = storable(source, message_id)
    found = await context.store.find_webhook(source, message_id) if kept else []
    waiting = await context.store.find_unresolved(source, message_id) if kept else []
    if not found and not waiting:
        known = () if source in (*context.settings.sources, RELAY_SOURCE) else context.settings.sources
        raise Missing("There is no such webhook in the log.", known)
    told = await context.store.tell_events(found)
    around = await context.around(event.account for event in told)
    told.sort(key=lambda event: (event.account, event.event_id))
    events = _events(told, around, await _proofs(context, told, around), messages=by is not None)
    if by is not None and (seen := sum(event.message is not None for event in events)):
        await looked(context, by, Act("see_rejections", source=source, message_id=message_id, events=seen))
    unresolved = [unresolved_of(one) for one in waiting]
    return answers.Webhook(source=source, webhook_id=message_id, events=events, unresolved=unresolved)


async def search_customer(
    context: Context, _request: web.Request, caller: Caller, asked: CustomerSearch
) -> web.Response:
    """`POST /v1/customers/search`: everything that happened to a customer, in the order in which it happened."""
    customer = context.keys.customer(asked.email)
    words = await context.store.find_words(customer)
    latest = await context.store.find_customer(customer, EVENTS_MAX + 1)
    truncated = any(count > EVENTS_MAX for count in Counter(event.account for event in latest).values())
    told = sorted(await context.store.tell_events([*words, *_first(latest)]), key=order)
    around = await context.around(event.account for event in told)
    events = _events(told, around, await _proofs(context, told, around), messages=True)
    await looked(context, caller.operator, Act("search", events=len(told)))
    log.info("customer_searched", events=len(told), token=caller.name)
    return json_of(answers.Customer(standings=_standings(told, around), events=events, truncated=truncated))


def _first(found: Iterable[FoundEvent]) -> Iterator[FoundEvent]:
    """Leave out of each account what goes beyond `EVENTS_MAX`."""
    seen: Counter[str] = Counter()
    for event in found:
        seen[event.account] += 1
        if seen[event.account] <= EVENTS_MAX:
            yield event


def _standings(told: Iterable[ToldEvent], around: Mapping[str, Around]) -> list[answers.Standing]:
    by_account: dict[str, list[ToldEvent]] = {}
    for event in told:
        by_account.setdefault(event.account, []).append(event)
    return [standing(words, around.get(account)) for account, words in sorted(by_account.items())]


async def _proofs(
    context: Context, told: Iterable[ToldEvent], around: Mapping[str, Around]
) -> dict[Key, answers.Proof]:
    """Put together the proofs of the opt-outs among events, each from all that relay appended again of it."""
    last: dict[Key, ToldEvent] = {}
    for event in told:
        if (kept := last.get(word_of(event))) is None or kept.event_id < event.event_id:
            last[word_of(event)] = event
    chains = await context.store.tell_proofs(opt_outs(told))
    return {
        key: proof(chain, last.get(key), around.get(key[0]), context.settings.logins) for key, chain in chains.items()
    }


def _events(
    told: Iterable[ToldEvent], around: Mapping[str, Around], proofs: Mapping[Key, answers.Proof], *, messages: bool
) -> list[answers.Event]:
    """Tell events; the proof of an opt-out stands with the first that says it."""
    first = {word_of(event): event.event_id for event in reversed(list(told))}
    return [
        _event(
            event,
            around,
            proofs.get(word_of(event)) if first[word_of(event)] == event.event_id else None,
            messages=messages,
        )
        for event in told
    ]


def _event(
    event: ToldEvent, around: Mapping[str, Around], proven: answers.Proof | None, *, messages: bool
) -> answers.Event:
    webhook_id, added = origin(event.message_id)
    return answers.Event(
        account=event.account,
        event_id=event.event_id,
        source=event.source,
        webhook_id=webhook_id,
        operation=event.operation,
        occurred_at=event.occurred_at,
        received_at=event.received_at,
        state=event.state,
        why=why_event(event, around.get(event.account)),
        batch_id=event.batch_id,
        uploaded_at=event.uploaded_at,
        settled_at=event.settled_at,
        line=event.line,
        message=event.message if messages else None,
        superseded_by=event.superseded_by,
        retried_as=event.retried_as,
        again_of=event.again_of,
        added=added,
        proof=proven,
    )
