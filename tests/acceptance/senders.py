"""An internal system that sends webhooks and does not give up before it has its 202."""

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import aiohttp

from relay.demo.traffic import Sent
from tests.acceptance.harness import World
from tests.acceptance.processes import Listening


def body(webhook: Sent) -> bytes:
    """Write what is posted."""
    return json.dumps(webhook.body(), ensure_ascii=False).encode()


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request and its answer; no status where the connection was refused or broken."""

    message_id: str
    status: int | None
    retry_after: str | None
    seconds: float


class Sender:
    """An internal system: it posts webhooks side by side, each again and again until it gets its 202.

    It goes from one replica to the next with each request, as a load balancer would. `acknowledged` are the ids that
    got a 202, `attempts` all requests in the order in which they were answered.
    """

    def __init__(self, world: World, *relays: Listening) -> None:
        self.attempts: list[Attempt] = []
        self.acknowledged: set[str] = set()
        self._world = world
        self._relays = relays
        self._sent = 0

    @property
    def statuses(self) -> Counter[int | None]:
        """How often which status was answered."""
        return Counter(attempt.status for attempt in self.attempts)

    async def send(self, webhooks: Iterable[tuple[str, Sent]], *, at_once: int = 16) -> None:
        """Send webhooks, each with its source, in their order but for those under way at once."""
        given = iter(webhooks)

        async def work() -> None:
            for source, webhook in given:
                await self._until_taken(source, webhook)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(at_once):
                tasks.create_task(work())

    async def _until_taken(self, source: str, webhook: Sent) -> None:
        while (attempt := await self.once(source, webhook.message_id, body(webhook))).status != 202:
            assert attempt.status in (None, 503), attempt
            await asyncio.sleep(float(attempt.retry_after or 0.2))

    async def once(self, source: str, message_id: str, sent: bytes) -> Attempt:
        """Make one request."""
        self._sent += 1
        relay = self._relays[self._sent % len(self._relays)]
        began = time.monotonic()
        status: int | None = None
        retry_after = None
        with contextlib.suppress(aiohttp.ClientConnectionError):
            status, headers, _ = await self._world.post(relay, f"/v1/webhooks/{source}", message_id, sent)
            retry_after = headers.get("Retry-After")
        attempt = Attempt(message_id, status, retry_after, time.monotonic() - began)
        self.attempts.append(attempt)
        if status == 202:
            self.acknowledged.add(message_id)
        return attempt
