"""The sampler: sets the gauges that tell how the database stands, so that a scrape asks nothing."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping

from relay import vendors
from relay.errors import Unavailable
from relay.log import logger
from relay.metrics import PAUSE_REASONS, UNSETTLED_KINDS, Metrics
from relay.settings import Settings
from relay.store import Store, ToldLane, Unsettled

log = logger(__name__)

INTERVAL_S = 5.0
"""How old a gauge may be: a third of Prometheus's usual 15 seconds."""

SHARE_MAX = 0.1
"""The share of its time that the sampler may keep Postgres busy: with millions of events waiting it samples less."""


class Sampler:
    """Samples the database into the metrics every `interval_s` seconds. `fingerprints` are those of the logins."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        metrics: Metrics,
        interval_s: float = INTERVAL_S,
        *,
        fingerprints: Mapping[str, str] | None = None,
    ) -> None:
        self._store = store
        self._settings = settings
        self._metrics = metrics
        self._interval_s = interval_s
        self._fingerprints = fingerprints or {}
        self._sources = set(settings.sources)  # and those that the settings name no longer but that left something

    async def sample_once(self) -> None:
        """Set all gauges. Without Postgres only `relay_database_up` is set, the others keep what was true last."""
        try:
            unsettled = await self._store.tell_unsettled()
            lanes = await self._store.tell_lanes(self._settings.logins)
            unresolved = await self._store.count_unresolved()
        except Unavailable as error:
            self._metrics.database_up.set(0)
            log.warning("not_sampled", reason=str(error))
            return
        self._metrics.database_up.set(1)
        self._set_unsettled(unsettled)
        self._sources.update(unresolved)
        for source in self._sources:
            self._metrics.opt_outs_unresolved.labels(source).set(unresolved.get(source, 0))
        for lane in lanes.values():
            self._set_lane(lane)

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            began = time.monotonic()
            try:
                await self.sample_once()
            except Exception:  # a gauge that cannot be read must not end the service
                self._metrics.round_errors.inc()
                log.exception("sample_failed")
            await asyncio.sleep(max(self._interval_s, (time.monotonic() - began) / SHARE_MAX))

    def _set_unsettled(self, unsettled: Iterable[Unsettled]) -> None:
        pending: dict[str, int] = defaultdict(int)
        oldest_s: dict[tuple[str, str], float] = defaultdict(float)
        for entry in unsettled:
            pending[entry.account] += entry.pending
            key = (entry.account, "opt_out" if entry.operation.opt_out else "data")
            oldest_s[key] = max(oldest_s[key], entry.oldest_s or 0.0)
        for account, count in pending.items():
            self._metrics.pending.labels(account).set(count)
            for kind in UNSETTLED_KINDS:
                self._metrics.oldest_unsettled.labels(account, kind).set(oldest_s[account, kind])

    def _set_lane(self, lane: ToldLane) -> None:
        for reason in PAUSE_REASONS:
            self._metrics.lane_paused.labels(lane.login, reason).set(reason == lane.pause_reason)
        kept_out = lane.refused_fingerprints + lane.refused_data_fingerprints
        refused = self._fingerprints.get(lane.login) in kept_out
        self._metrics.settings_refused.labels(lane.login).set(refused)
        pace = vendors.pace(self._settings.logins[lane.login], self._settings.accounts_of(lane.login))
        if pace is not None:
            left = pace.left(lane.day)
            self._metrics.quota_left.labels(lane.login).set(left)
            self._metrics.quota_kept.labels(lane.login).set(min(left, pace.kept(lane.day)))
