"""Keeping a lease while working: renewed in the background, with a deadline that counts suspension, too."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from relay.errors import LaneLost, Unavailable
from relay.log import logger
from relay.store import Lease, Store

log = logger(__name__)

RENEWALS_PER_LEASE = 3
"""Two renewals may fail before a lease runs out."""


def boot_clock_s() -> float:
    """Seconds since boot, suspension included: a laptop or a frozen machine must not believe in an old lease."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Kept:
    """A lease with the moment until which it is surely ours."""

    def __init__(self, lease: Lease, lease_s: float, leased_at: float) -> None:
        self.lease = lease
        self._lease_s = lease_s
        self._deadline = leased_at + lease_s

    def left_s(self) -> float:
        """Seconds for which the lane is surely still ours; none left means that nothing more may be sent."""
        return self._deadline - boot_clock_s()

    async def renew(self, store: Store) -> None:
        """Renew once. The new deadline counts from before the call, so that it is never later than Postgres's."""
        asked_at = boot_clock_s()
        try:
            await store.renew_lane(self.lease, self._lease_s)
        except LaneLost:
            self._deadline = 0
            raise
        self._deadline = asked_at + self._lease_s


@asynccontextmanager
async def keeping(store: Store, lease: Lease, lease_s: float, leased_at: float) -> AsyncIterator[Kept]:
    """Keep renewing a lease while the body runs, then give the lane back."""
    kept = Kept(lease, lease_s, leased_at)

    async def renewing() -> None:
        while True:
            await asyncio.sleep(lease_s / RENEWALS_PER_LEASE)
            try:
                await kept.renew(store)
            except Unavailable as error:
                log.warning("lease_not_renewed", login=lease.login, reason=str(error))
            except LaneLost:
                return
            except asyncpg.PostgresError:  # whatever it is: the deadline decides, and the next renewal may succeed
                log.exception("lease_not_renewed", login=lease.login)

    renewal = asyncio.create_task(renewing())
    try:
        yield kept
    finally:
        renewal.cancel()
        await asyncio.gather(renewal, return_exceptions=True)
        try:
            await store.release_lane(lease)
        except Unavailable as error:
            log.warning("lane_not_released", login=lease.login, reason=str(error))
