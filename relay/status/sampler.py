"""The sampler: sets the gauges that tell how the database stands, so that a scrape asks nothing."""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path

from relay.errors import Unavailable
from relay.log import logger
from relay.metrics import Metrics
from relay.settings import Settings, secret_files
from relay.status.gauges import Gauges
from relay.store import Store

log = logger(__name__)

INTERVAL_S = 5.0
"""How old a gauge may be: a third of Prometheus's usual 15 seconds."""

SELDOM_S = 60.0
"""How old one may be of what changes slowly: the log's size, accounts that the settings do not name, secrets."""

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
        self._gauges = Gauges(settings, metrics, fingerprints or {})
        self._served = [(a.name, o) for a in settings.accounts.values() for o in settings.login_of(a).operations]
        self._secrets = secret_files(settings)
        self._changed_at: dict[str, float] = {}
        self._sampled_at = time.monotonic()
        metrics.sample_age.set_function(lambda: time.monotonic() - self._sampled_at)

    async def sample_once(self) -> None:
        """Set all gauges. Without Postgres only `relay_database_up` is set, the others keep what was true last.

        So does the age of a secret whose file is gone: it goes on from when that was last seen.
        """
        await self._sample(seldom=True)

    async def run(self) -> None:
        """Sample until cancelled."""
        seldom_at = time.monotonic()
        while True:
            began = time.monotonic()
            seldom, reached = began >= seldom_at, False
            try:
                reached = await self._sample(seldom=seldom)
            except Exception:  # a gauge that cannot be read must not end the service
                self._metrics.round_errors.inc()
                log.exception("sample_failed")
            if seldom and reached:
                seldom_at = began + SELDOM_S
            await asyncio.sleep(max(self._interval_s, (time.monotonic() - began) / SHARE_MAX))

    async def _sample(self, *, seldom: bool) -> bool:
        """Sample, and say whether Postgres was there."""
        if seldom:
            self._gauges.set_cadences()
            await self._sample_secrets()
        try:
            await self._sample_often()
            if seldom:
                await self._sample_seldom()
        except Unavailable as error:
            self._metrics.database_up.set(0)
            log.warning("not_sampled", reason=str(error))
            return False
        self._metrics.database_up.set(1)
        self._sampled_at = time.monotonic()
        return True

    async def _sample_often(self) -> None:
        unsettled = await self._store.tell_unsettled()
        lanes = await self._store.tell_lanes(self._settings.logins)
        postponed = await self._store.tell_postponed()
        unresolved = await self._store.count_unresolved()
        dead = await self._store.tell_dead_letters({*self._settings.accounts, *(entry.account for entry in unsettled)})
        self._gauges.set_unsettled(unsettled)
        self._gauges.set_lanes(lanes, postponed)
        self._gauges.set_unresolved(unresolved)
        self._gauges.set_dead_letters(dead)

    async def _sample_seldom(self) -> None:
        self._gauges.set_log(await self._store.tell_log())
        unserved = {account for account, _ in await self._store.unserved(self._served)}
        self._metrics.accounts_without_settings.set(len(unserved))

    async def _sample_secrets(self) -> None:
        self._changed_at.update(await asyncio.to_thread(_changed_at, self._secrets))
        for secret, changed_at in self._changed_at.items():
            self._metrics.secret_age.labels(secret).set(max(0.0, time.time() - changed_at))


def _changed_at(files: Mapping[str, Path]) -> dict[str, float]:
    """Say when files were last changed; one that is gone is left out."""
    found: dict[str, float] = {}
    for secret, path in files.items():
        try:
            found[secret] = path.stat().st_mtime
        except OSError:
            log.warning("secret_file_gone", secret=secret)
    return found
