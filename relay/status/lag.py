"""How late the event loop comes to what is due: everything that a process does waits so long besides."""

import asyncio

from relay.metrics import Metrics

LOOKED_AT_EVERY_S = 0.5
"""A block of half a second or more is seen for certain, a shorter one as often as it comes."""


async def watch_loop(metrics: Metrics, every_s: float = LOOKED_AT_EVERY_S) -> None:
    """Measure it until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + every_s
        await asyncio.sleep(every_s)
        metrics.loop_lag.observe(max(0.0, loop.time() - due))
