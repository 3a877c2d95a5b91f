"""Waiting for a condition instead of sleeping and hoping."""

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    """Return as soon as the condition holds; raises TimeoutError if it does not within the time."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - processes and files set no asyncio.Event
            await asyncio.sleep(0.01)
