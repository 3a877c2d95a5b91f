"""`relay demo --part traffic`: webhooks at a steady rate, without end, whatever becomes of relay meanwhile.

Theory of operation. A few senders take webhooks from one stream, each at its turn of the beat. What relay does not take
now (503, 429, another 5xx, no connection) is sent again under its id until it is taken; the beat waits for it and is
not caught up with, so that relay's return meets no flood. What relay refuses is a mistake of whoever set this up, and
ends it with what relay said.
"""

import asyncio
import contextlib
import os
import re
import signal
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from urllib.parse import quote

import aiohttp
from rich.console import Console

from relay.demo.names import SIGNING_SECRET
from relay.demo.signing import signed
from relay.demo.traffic import Sent, endless
from relay.errors import FieldError, RelayError, SettingsError
from relay.receive.auth import signing_key

SENDERS = 8
"""So many webhooks are under way at once: one answer takes some milliseconds, so 200 a second need no more."""

TOLD_EVERY_S = 10.0
TIMEOUT = aiohttp.ClientTimeout(total=15)
RETRY_DELAYS_S = (0.5, 1.0, 2.0, 5.0)
"""Between two tries of a webhook, the last one again and again; longer where relay asks for it."""

RETRY_AFTER_MAX_S = 30.0
TAKEN = 202
PATIENCE = frozenset((408, 429, 500, 502, 503, 504))


class Refused(RelayError):
    """relay refuses what it is sent, and would for ever."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to send where: the source's endpoint, its key, webhooks a second, and about how many customers."""

    endpoint: str
    key: bytes
    rate: float
    customers: int
    seed: int

    @classmethod
    def of(
        cls, url: str | None, source: str, rate: float, customers: int, seed: int, *, env: Mapping[str, str]
    ) -> "Wanted":
        """Complete the arguments with what the environment says. Raises SettingsError."""
        base = url or env.get("RELAY_URL") or "http://127.0.0.1:8080"
        if not re.fullmatch(r"https?://[^\s?#@]+", base):  # no name and password: it stands in what is told
            name = "--url" if url else "RELAY_URL"
            raise SettingsError([FieldError(name, "expected http://… or https://…, without a name or password")])
        try:
            key = signing_key((env.get("DEMO_SIGNING_SECRET") or SIGNING_SECRET).rstrip("\r\n"))
        except ValueError as error:
            raise SettingsError([FieldError("DEMO_SIGNING_SECRET", str(error))]) from None
        return cls(f"{base.rstrip('/')}/v1/webhooks/{quote(source, safe='')}", key, rate, customers, seed)


async def send_traffic(wanted: Wanted) -> int:
    """Send until SIGTERM or SIGINT; a webhook under way then is still seen to. Raises Refused."""
    console = Console(highlight=False, markup=False)
    async with aiohttp.ClientSession(timeout=TIMEOUT) as session:
        traffic = Traffic(session, wanted)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, traffic.stop)
        console.print(f"{wanted.rate:g} webhooks a second to {wanted.endpoint}", soft_wrap=True)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(SENDERS):
                    group.create_task(traffic.send())
                group.create_task(_tell(console, traffic))
        except* Refused as refused:
            raise refused.exceptions[0] from None
    console.print(traffic.told(), soft_wrap=True)
    return 0


async def _tell(console: Console, traffic: "Traffic") -> None:
    while not traffic.stopped.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(traffic.stopped.wait(), TOLD_EVERY_S)
            return
        console.print(traffic.told(), soft_wrap=True)


class Traffic:
    """The stream of webhooks, its beat, and what has become of them."""

    def __init__(self, session: aiohttp.ClientSession, wanted: Wanted) -> None:
        self.stopped = asyncio.Event()
        self._session = session
        self._wanted = wanted
        run = f"demo_{os.urandom(6).hex()}"
        self._webhooks = endless(wanted.customers, wanted.seed, run, lambda: datetime.now(UTC))
        self._turn = asyncio.Lock()
        self._next_at = monotonic()
        self._sent = 0
        self._again: Counter[str] = Counter()

    def stop(self) -> None:
        """Begin to end."""
        self.stopped.set()

    def told(self) -> str:
        """Say how many webhooks relay has taken, and why some had to be sent again."""
        again = ", ".join(f"{count:,} × {why}" for why, count in sorted(self._again.items()))
        return f"{self._sent:,} webhooks taken" + (f"; sent again after {again}" if again else "")

    async def send(self) -> None:
        """Send one webhook after another until it is stopped. Raises Refused."""
        while (webhook := await self._next()) is not None:
            if await self._post(webhook):
                self._sent += 1

    async def _next(self) -> Sent | None:
        """Wait for the next beat; None when it is stopped."""
        async with self._turn:
            self._next_at = max(self._next_at + 1 / self._wanted.rate, monotonic())
            await self._pause(self._next_at - monotonic())
            return None if self.stopped.is_set() else next(self._webhooks)

    async def _post(self, webhook: Sent) -> bool:
        """Post one webhook until relay takes it; False if it was stopped before. Raises Refused."""
        for delay_s in self._delays():
            try:
                why, wait_s = await self._try(webhook)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                why, wait_s = type(error).__name__, 0.0
            if not why:
                return True
            self._again[why] += 1
            if self.stopped.is_set():
                break
            await self._pause(max(delay_s, wait_s))
        return False

    def _delays(self) -> Iterator[float]:
        yield from RETRY_DELAYS_S
        while True:
            yield RETRY_DELAYS_S[-1]

    async def _try(self, webhook: Sent) -> tuple[str, float]:
        """Post a webhook once; return why relay did not take it ("" if it did) and how long to wait. Raises Refused."""
        body, headers = signed(webhook, self._wanted.key)
        async with self._session.post(
            self._wanted.endpoint, data=body, headers=headers, allow_redirects=False
        ) as response:
            if response.status == TAKEN:
                return "", 0.0
            if response.status in PATIENCE:
                return str(response.status), _retry_after_s(response)
            said = (await response.content.read(500)).decode("utf-8", "replace")
            raise Refused(f"{self._wanted.endpoint} answered {response.status}: {said}")

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.stopped.wait(), max(seconds, 0.0))


def _retry_after_s(response: aiohttp.ClientResponse) -> float:
    given = response.headers.get("Retry-After", "")
    return min(float(given), RETRY_AFTER_MAX_S) if given.isascii() and given.isdecimal() else 0.0
