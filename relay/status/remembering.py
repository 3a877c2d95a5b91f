"""The counts of the last hours, of which those are remembered that cannot change any more.

Theory of operation. A page that shows the last hours asks every few seconds, and all but the last bins of what it gets
are the same again. So bins of `BIN_S` are kept for each account that is asked for, without a gap, up to the last that
is complete, and Postgres is asked for what comes behind. A bin is complete when it has been over for
`COMPLETE_AFTER_S`: an event is stamped when its request was read, and committed some seconds later, or never. One
question goes to Postgres at a time, so that many readers do not cost more than one.
"""

import asyncio
from collections import OrderedDict
from datetime import datetime, timedelta

from relay.store import Store, ToldBin, ToldHistory

BIN_S = 300
"""How long a bin is that is remembered; what is told is made of whole ones."""

COMPLETE_AFTER_S = 300
"""Many times what passes between an event's stamp and its commit: a body that comes slowly, a queue, a commit."""

SPAN_MAX_S = 49 * 3600
"""How far back bins are remembered: a little more than is ever told."""

ACCOUNTS_MAX = 16
"""Of so many accounts bins are remembered, those that were asked for last: some 600 bins each, 150 kB."""


class Remembered:
    """The bins that are remembered, by account; None is all accounts."""

    def __init__(self) -> None:
        self._known: OrderedDict[str | None, list[ToldBin]] = OrderedDict()
        self._asking = asyncio.Lock()

    async def tell(self, store: Store, account: str | None, *, span_s: int, step_s: int) -> ToldHistory:
        """Tell the bins of the last `span_s` seconds, the oldest of which begins on a whole `step_s`."""
        async with self._asking:
            known = self._known.get(account, [])
            span = (known[0].begins_at, ends_at(known[-1])) if known else None
            told = await store.tell_history(account, bin_s=BIN_S, span_s=span_s, step_s=step_s, known=span)
            first = told.bins[0].begins_at
            if span is None or not span[0] <= first <= span[1]:
                known = []  # it was no help: it began too late, or ended too long ago
            bins = [*(one for one in known if one.begins_at < first), *told.bins]
            self._keep(account, bins, told.now)
        return ToldHistory([one for one in bins if one.begins_at >= told.oldest], told.oldest, told.now)

    def _keep(self, account: str | None, bins: list[ToldBin], now: datetime) -> None:
        oldest = now - timedelta(seconds=SPAN_MAX_S)
        self._known[account] = [one for one in bins if one.begins_at >= oldest and is_complete(ends_at(one), now)]
        self._known.move_to_end(account)
        while len(self._known) > ACCOUNTS_MAX:
            self._known.popitem(last=False)


def ends_at(one: ToldBin) -> datetime:
    """Say when a bin ends."""
    return one.begins_at + timedelta(seconds=BIN_S)


def is_complete(end: datetime, now: datetime) -> bool:
    """Say whether no event can enter any more what ends then."""
    return end + timedelta(seconds=COMPLETE_AFTER_S) <= now
