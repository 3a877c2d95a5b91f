"""The history over HTTP: what was received and what ended over the last hours, for a chart."""

from collections.abc import Sequence
from datetime import timedelta

from aiohttp import web

from relay.status import answers
from relay.status.asked import HistoryQuery
from relay.status.auth import Caller
from relay.status.context import Context
from relay.status.remembering import BIN_S, is_complete
from relay.status.respond import json_of
from relay.store import ToldBin

HOUR_S = 3600

STEPS_S = {8: BIN_S, 24: 3 * BIN_S, 48: 6 * BIN_S}
"""How long a bin is that is told, by up to how many hours are asked for: a chart has room for a hundred."""


async def tell_history(context: Context, _request: web.Request, _: Caller, asked: HistoryQuery) -> web.Response:
    """`GET /v1/history`: what was received and what ended over the last hours, by bins of equal length."""
    return json_of(await history(context, asked))


async def history(context: Context, asked: HistoryQuery) -> answers.History:
    """Tell the bins of the last hours, the last of which has not ended yet."""
    step_s = next(step_s for hours, step_s in STEPS_S.items() if asked.hours <= hours)
    told = await context.remembered.tell(context.store, asked.account, span_s=asked.hours * HOUR_S, step_s=step_s)
    step, begins_at, bins = timedelta(seconds=step_s), told.oldest, list[answers.Bin]()
    while begins_at <= told.now:
        ends_at = begins_at + step
        within = [one for one in told.bins if begins_at <= one.begins_at < ends_at]
        sums = {name: _sum(within, name) for name in ("received", "delivered", "accepted", "rejected")}
        complete = is_complete(ends_at, told.now)
        bins.append(answers.Bin(from_=begins_at, to=ends_at, complete=complete, **sums))
        begins_at = ends_at
    return answers.History(account=asked.account, bin_s=step_s, bins=bins)


def _sum(bins: Sequence[ToldBin], name: str) -> int:
    return sum(getattr(one, name) for one in bins)
