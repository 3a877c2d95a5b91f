"""Conservation, recounted all the time: every event is in one state, and every batch holds what it was filed with.

Theory of operation. A walk goes over the whole log, by account and operation in the order of the ids, a part at a time
(`relay.store.recounting`), and then begins anew. Between two parts it rests so long that Postgres spends no more than
`SHARE_MAX` of one core on it. Each process that flushes walks by itself: nothing has to be agreed on, one that hangs
keeps no other from finding what is wrong, and every replica's metrics say what it has seen itself.

Nothing is mended: what has been found once is told in the log, and counted until a later walk does not find it.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

from relay.errors import Unavailable
from relay.events import Operation
from relay.log import logger
from relay.metrics import Metrics
from relay.store import Astray, Recounted, RecountedBatch, Store

log = logger(__name__)

PART_EVENTS: Final = 50_000
"""Events recounted by one statement: some 0.2 s, so that it holds up neither a vacuum nor a connection."""

SHARE_MAX: Final = 0.02
"""The share of its time that a walk may keep Postgres busy."""

WALK_EVERY_S: Final = 60.0
"""A walk over a small log does not begin sooner than this after the one before."""

FORGIVEN_S: Final = 5.0
"""The rest after a part that could not be recounted."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that does not add up. `events` says how many events or lines; ids and counts only, nobody's data.

    `lost`: in no state. `doubled`: in more than one. `miscounted`: a batch holds other than its rows. `astray`: refused
    lines that are not lines of their batch.
    """

    account: str
    operation: Operation
    kind: Literal["lost", "doubled", "miscounted", "astray"]
    events: int
    first_id: int
    last_id: int
    batch_id: int | None = None
    rows: int | None = None

    @property
    def violations(self) -> int:
        """How many it counts for: each event and each refused line, and a miscounted batch once."""
        return 1 if self.kind == "miscounted" else self.events


@dataclass(slots=True)
class Walk:
    """One walk over the log. `held` are the events so far of batches that reach into the next part."""

    began: float
    events: int = 0
    findings: list[Finding] = field(default_factory=list)
    held: dict[int, int] = field(default_factory=dict)

    def take(self, account: str, operation: Operation, behind: int, part: Recounted) -> list[Finding]:
        """Take note of a part that begins behind the id `behind`; return what does not add up."""
        self.events += part.events
        found = [
            Finding(account, operation, kind, astray.events, astray.first_id, astray.last_id)
            for kind, astray in _astray(part)
        ]
        held, self.held = self.held, {}
        for batch in part.batches:
            if batch.astray:
                found.append(_of(batch, account, operation, "astray", batch.astray))
            if batch.cut_from < behind and batch.id not in held:
                continue  # it was cut behind our back, from what had been recounted as pending
            so_far = held.get(batch.id, 0) + batch.held
            if part.until is not None and batch.cut_to > part.until:
                self.held[batch.id] = so_far
            elif so_far > batch.rows or (so_far < batch.rows and not batch.pruned):
                found.append(_of(batch, account, operation, "miscounted", so_far))
        self.findings += found
        return found

    def violations(self) -> Counter[str]:
        """Count the violations so far by account."""
        counted: Counter[str] = Counter()
        for finding in self.findings:
            counted[finding.account] += finding.violations
        return counted


def _astray(part: Recounted) -> Iterator[tuple[Literal["lost", "doubled"], Astray]]:
    if part.lost:
        yield "lost", part.lost
    if part.doubled:
        yield "doubled", part.doubled


def _of(
    batch: RecountedBatch, account: str, operation: Operation, kind: Literal["miscounted", "astray"], events: int
) -> Finding:
    return Finding(account, operation, kind, events, batch.cut_from + 1, batch.cut_to, batch.id, batch.rows)


class Recounter:
    """Walks over the log again and again, and tells what does not add up."""

    def __init__(
        self,
        store: Store,
        metrics: Metrics,
        *,
        part_events: int = PART_EVENTS,
        share_max: float = SHARE_MAX,
        walk_every_s: float = WALK_EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._part_events = part_events
        self._share_max = share_max
        self._walk_every_s = walk_every_s
        self._clock = clock
        self._last: Counter[str] = Counter()
        self._told: set[Finding] = set()
        self._labels: set[str] = set()
        self._complete_began = clock()
        metrics.conservation_recount_age.set_function(lambda: self._clock() - self._complete_began)

    async def run(self) -> None:
        """Walk until cancelled."""
        while True:
            began = self._clock()
            try:
                await self.walk()
            except Unavailable as error:
                log.warning("not_recounted", reason=str(error))
            except Exception:  # what looks after the log must not end the service
                self._metrics.round_errors.inc()
                log.exception("recount_failed")
            await asyncio.sleep(max(FORGIVEN_S, self._walk_every_s - (self._clock() - began)))

    async def walk(self) -> Walk:
        """Walk over the whole log once. Raises Unavailable; then what was found before stays told."""
        walk = Walk(self._clock())
        for account, operation in await self._store.list_operations():
            behind: int | None = 0
            while behind is not None:
                behind = await self._part(walk, account, operation, behind)
        self._last, self._told = walk.violations(), set(walk.findings)
        self._complete_began = walk.began
        self._set(self._last)
        log.debug("recounted", events=walk.events, violations=self._last.total())
        return walk

    async def _part(self, walk: Walk, account: str, operation: Operation, behind: int) -> int | None:
        """Recount a part and rest; return where the next one begins, None at the end."""
        began = self._clock()
        part = await self._store.recount(account, operation, behind, self._part_events)
        took_s = self._clock() - began
        self._metrics.conservation_recounted.inc(part.events)
        if found := walk.take(account, operation, behind, part):
            self._tell(found)
            self._set(self._last | walk.violations())  # the larger of the two, by account
        await asyncio.sleep(took_s * (1 / self._share_max - 1))
        return part.until

    def _tell(self, found: list[Finding]) -> None:
        for finding in found:
            if finding not in self._told:
                self._told.add(finding)
                log.error(
                    "conservation_broken",
                    account=finding.account,
                    operation=finding.operation,
                    kind=finding.kind,
                    events=finding.events,
                    first_id=finding.first_id,
                    last_id=finding.last_id,
                    batch=finding.batch_id,
                    rows=finding.rows,
                )

    def _set(self, violations: Counter[str]) -> None:
        by_label: Counter[str] = Counter()
        for account, count in violations.items():
            by_label[self._metrics.account(account)] += count
        for label in self._labels | by_label.keys():
            self._metrics.conservation_violations.labels(label).set(by_label[label])
        self._labels = set(by_label)
