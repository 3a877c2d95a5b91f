"""Large answers are read and judged one at a time: sixteen at once would not fit into the memory of a container."""

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from relay.client.body import LEASE_CHECK_S, Body

LARGE_BYTES: Final = 1_048_576
"""An answer is large from here on. Sixteen smaller ones at once, one for each lane that is served, do fit."""


class Turn:
    """One upload's turn, taken if its answer turns out to be large, and given back at the end in any case.

    Who waits reads no more from the vendor meanwhile; the upload's own time-out goes on. Who holds a turn waits for
    nobody else's, so there is no deadlock.
    """

    def __init__(self, lock: asyncio.Lock) -> None:
        self._lock = lock
        self._held = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._held:
            self._held = False
            self._lock.release()

    async def take(self, body: Body) -> None:
        """Wait for the turn, unless it is held already.

        Raises:
            ConnectionAbortedError: the lane was lost meanwhile, as a read from the connection would raise it.
        """
        while not self._held:
            if body.lane_lost:
                raise ConnectionAbortedError
            with suppress(TimeoutError):
                async with asyncio.timeout(LEASE_CHECK_S):
                    await self._lock.acquire()
                    self._held = True
