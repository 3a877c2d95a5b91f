"""The audit record over HTTP: what operators did, and when."""

from aiohttp import web

from relay.status import answers
from relay.status.asked import ActsQuery
from relay.status.auth import Caller
from relay.status.context import Context
from relay.status.respond import json_of
from relay.store import ToldAct


async def list_acts(context: Context, _request: web.Request, _: Caller, asked: ActsQuery) -> web.Response:
    """`GET /v1/acts`: what operators changed, and when they looked at customers' data, the newest first, by pages."""
    return json_of(await find_acts(context, asked))


async def find_acts(context: Context, asked: ActsQuery) -> answers.ActsPage:
    """Tell a page of the audit record."""
    below = {} if asked.after is None else {"below": asked.after}
    found = await context.store.tell_acts(
        login=asked.login,
        account=asked.account,
        batch_id=asked.batch,
        who=asked.who,
        act=asked.act,
        limit=asked.limit + 1,
        **below,
    )
    page = found[: asked.limit]
    return answers.ActsPage(acts=[_act(told) for told in page], next=page[-1].id if len(found) > asked.limit else None)


def _act(told: ToldAct) -> answers.Act:
    return answers.Act(
        id=told.id,
        at=told.at,
        who=told.who,
        through=told.through,
        act=told.act,
        login=told.login,
        account=told.account,
        batch=told.batch_id,
        source=told.source,
        webhook_id=told.message_id,
        events=told.events,
        detail=told.detail,
    )
