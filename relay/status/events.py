"""Events over HTTP: what became of a webhook, and everything that happened to a customer."""

from collections import Counter
from collections.abc import Mapping

from aiohttp import web

from relay.log import logger
from relay.status import answers
from relay.status.asked import CustomerSearch, body
from relay.status.auth import Caller
from relay.status.context import Context
from relay.status.respond import json_of, not_found
from relay.status.why import Around, why_event
from relay.store import ToldEvent

EVENTS_MAX = 1000
"""So many events of a customer are told for each account, those that occurred last."""

log = logger(__name__)


async def tell_webhook(context: Context, request: web.Request, caller: Caller) -> web.Response:
    """`GET /v1/webhooks/{source}/{webhook_id}`: what became of it at each account, and why it is not delivered yet."""
    source, message_id = request.match_info["source"], request.match_info["webhook_id"]
    storable = "\0" not in source + message_id
    keys = await context.store.find_webhook(source, message_id) if storable else []
    if not keys:
        raise not_found("There is no such webhook in the log.")
    told = await context.store.tell_events(keys)
    around = await context.around(event.account for event in told)
    told.sort(key=lambda event: (event.account, event.event_id))
    events = [_event(event, around, caller) for event in told]
    return json_of(answers.Webhook(source=source, webhook_id=message_id, events=events))


async def search_customer(context: Context, request: web.Request, caller: Caller) -> web.Response:
    """`POST /v1/customers/search`: everything that happened to a customer, in the order in which it happened."""
    asked = await body(request, CustomerSearch)
    customer = context.keys.customer(asked.email)
    keys = await context.store.find_customer(context.settings.accounts, customer, EVENTS_MAX + 1)
    told = sorted(await context.store.tell_events(keys), key=_in_order)
    full = [account for account, count in Counter(account for account, _ in keys).items() if count > EVENTS_MAX]
    for account in full:
        told.remove(next(event for event in told if event.account == account))
    around = await context.around(event.account for event in told)
    log.info("customer_searched", events=len(told), token=caller.name)
    events = [_event(event, around, caller) for event in told]
    return json_of(answers.Customer(events=events, truncated=bool(full)))


def _in_order(event: ToldEvent) -> tuple[object, ...]:
    """The order of the last word (`relay.events`)."""
    return (event.occurred_at, event.operation.opt_out, event.received_at, event.account, event.event_id)


def _event(event: ToldEvent, around: Mapping[str, Around], caller: Caller) -> answers.Event:
    return answers.Event(
        account=event.account,
        event_id=event.event_id,
        source=event.source,
        webhook_id=event.message_id,
        operation=event.operation,
        occurred_at=event.occurred_at,
        received_at=event.received_at,
        state=event.state,
        why=why_event(event, around.get(event.account)),
        batch_id=event.batch_id,
        line=event.line,
        message=event.message if caller.sees_customers else None,
        superseded_by=event.superseded_by,
        retried_as=event.retried_as,
        again_of=event.again_of,
    )
