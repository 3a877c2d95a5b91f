"""Opt-outs that wait for an address of their customer, over HTTP: listed and dismissed."""

from aiohttp import web

from relay.errors import Conflict
from relay.log import logger
from relay.status import answers
from relay.status.acting import Missing, count
from relay.status.asked import Nothing, UnresolvedQuery
from relay.status.auth import Caller
from relay.status.context import Context
from relay.status.proof import proof_unresolved
from relay.status.respond import json_of
from relay.status.why import why_unresolved
from relay.store import ToldUnresolved

log = logger(__name__)


async def list_unresolved(context: Context, _request: web.Request, _: Caller, asked: UnresolvedQuery) -> web.Response:
    """`GET /v1/unresolved`: opt-outs of customers without a known address, the oldest first, a page at a time."""
    found = await context.store.list_unresolved(asked.source, behind=asked.after, limit=asked.limit + 1)
    page = found[: asked.limit]
    return json_of(
        answers.UnresolvedPage(
            unresolved=[unresolved_of(one) for one in page], next=page[-1].id if len(found) > asked.limit else None
        )
    )


async def dismiss_webhook(context: Context, request: web.Request, caller: Caller, _: Nothing) -> web.Response:
    """`POST /v1/webhooks/{source}/{webhook_id}/dismiss`: count an opt-out no more that waits for an address.

    It is resolved all the same when the address becomes known.
    """
    source, message_id = request.match_info["source"], request.match_info["webhook_id"]
    if not storable(source, message_id) or not await context.store.find_unresolved(source, message_id):
        raise Missing("There is no such webhook that waits for an address.")
    dismissed = await context.store.dismiss_unresolved(source, message_id, caller.operator)
    if not dismissed:
        raise Conflict("it is dismissed already")
    count(context, "dismiss")
    log.info("unresolved_dismissed", source=source, events=dismissed, token=caller.name)
    return json_of(answers.Changed(events=dismissed))


def storable(source: str, message_id: str) -> bool:
    """Say whether a webhook of these names can be kept at all: Postgres has no text with NUL."""
    return "\0" not in source + message_id


def unresolved_of(told: ToldUnresolved) -> answers.Unresolved:
    """Tell one."""
    why = why_unresolved(told)
    return answers.Unresolved(
        account=told.account,
        source=told.source,
        webhook_id=told.message_id,
        operation=told.operation,
        occurred_at=told.occurred_at,
        received_at=told.received_at,
        why=why,
        dismissed_at=told.dismissed_at,
        proof=proof_unresolved(told, why),
    )
