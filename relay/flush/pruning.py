"""Retention: passes over the log that delete what is old and settled for good (`relay.store.pruning`).

A pass goes over each operation of each account from its oldest event on, a part at a time, as far as anything is old,
and then over its batches. It ends where it was cancelled or Postgres went away, and the next one begins anew: each part
is a transaction of its own, which leaves the log as right as it was.

One replica does it: a part takes a lock, and who does not get it ends its pass. Those that begin together go side by
side until they meet, which is soon, as each comes upon another's part once in some `1 / SHARE_MAX` parts.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Final

from relay.errors import Unavailable
from relay.events import Operation
from relay.log import logger
from relay.metrics import Metrics
from relay.store import Pruned, PrunedBatches, Store

log = logger(__name__)

PART_EVENTS: Final = 5_000
"""Events looked at by one transaction: some 0.2 s, so that what it locks is free again before anybody notices."""

PART_BATCHES: Final = 1_000
"""Batches looked at by one transaction."""

SHARE_MAX: Final = 0.05
"""The share of its time that a pass may keep Postgres busy."""

PASS_EVERY_S: Final = 6 * 3600.0
"""A pass begins so long after the one before: it looks at all that was kept, which may have become needless since."""

FORGIVEN_S: Final = 60.0
"""The rest after a pass that failed."""


@dataclass(slots=True)
class Pass:
    """What a pass came to, by account. `whole` is False where it ended early, as another replica was at work."""

    events: Counter[str] = field(default_factory=Counter)
    batches: Counter[str] = field(default_factory=Counter)
    whole: bool = True


class Pruner:
    """Passes over the log again and again, and deletes what is older than `keep_s` seconds and settled for good."""

    def __init__(
        self,
        store: Store,
        metrics: Metrics,
        keep_s: float,
        *,
        deletes_records: Collection[str] = (),
        part_events: int = PART_EVENTS,
        share_max: float = SHARE_MAX,
        pass_every_s: float = PASS_EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`deletes_records` are the accounts that delete error records at their vendor."""
        self._store = store
        self._metrics = metrics
        self._keep_s = keep_s
        self._deletes_records = frozenset(deletes_records)
        self._part_events = part_events
        self._share_max = share_max
        self._pass_every_s = pass_every_s
        self._clock = clock
        self._whole_began = clock()
        metrics.retention.set(keep_s)
        metrics.retention_pass_age.set_function(lambda: self._clock() - self._whole_began)

    async def run(self) -> None:
        """Pass until cancelled."""
        while True:
            began, rest_s = self._clock(), FORGIVEN_S
            try:
                await self.prune()
                rest_s = self._pass_every_s - (self._clock() - began)
            except Unavailable as error:
                log.warning("not_pruned", reason=str(error))
            except Exception:  # keeping house must not end the service
                self._metrics.round_errors.inc()
                log.exception("pruning_failed")
            await asyncio.sleep(max(0.0, rest_s))

    async def prune(self) -> Pass:
        """Pass over the whole log once, or until another replica is met that does.

        Raises Unavailable; what was deleted before stays so.
        """
        began, done = self._clock(), Pass()
        await self._over_all(done)
        if done.whole:
            self._whole_began = began
        for account in sorted(done.events.keys() | done.batches.keys()):
            log.info("pruned", account=account, events=done.events[account], batches=done.batches[account])
        return done

    async def _over_all(self, done: Pass) -> None:
        operations = await self._store.list_operations()
        for account, operation in operations:
            await self._events(done, account, operation)
            if not done.whole:
                return
        for account in dict.fromkeys(account for account, _ in operations):
            await self._batches(done, account)
            if not done.whole:
                return

    async def _events(self, done: Pass, account: str, operation: Operation) -> None:
        """Delete events, as far as any are old."""
        part = Pruned(0, 0, 0, 0)
        while part.until is not None:
            began = self._clock()
            found = await self._store.prune(
                account, operation, part.until, keep_s=self._keep_s, events_max=self._part_events
            )
            await self._rest(began)
            if found is None:
                done.whole = False
                return
            part = found
            if part.deleted:
                done.events[account] += part.deleted
                self._metrics.retention_deleted.inc(part.deleted)
            if not part.old or part.looked_at < self._part_events:
                return

    async def _batches(self, done: Pass, account: str) -> None:
        """Delete batches of which nothing is left."""
        part = PrunedBatches(0, 0, 0)
        while part.until is not None:
            began = self._clock()
            found = await self._store.prune_batches(
                account,
                part.until,
                keep_s=self._keep_s,
                batches_max=PART_BATCHES,
                deletes_records=account in self._deletes_records,
            )
            await self._rest(began)
            if found is None:
                done.whole = False
                return
            part = found
            if part.deleted:
                done.batches[account] += part.deleted

    async def _rest(self, began: float) -> None:
        await asyncio.sleep((self._clock() - began) * (1 / self._share_max - 1))
