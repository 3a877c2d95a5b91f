"""relay in processes of its own: `relay serve` with its log in a file, and what a command said when it had ended."""

import asyncio
import contextlib
import json
import random
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import aiohttp

ENDS_WITHIN_S = 40.0

_PORTS = range(20_000, 32_000)
"""Below what the system gives to outgoing connections, so that nobody takes a port between two starts of relay."""


@dataclass(frozen=True, slots=True)
class Done:
    """What a command that has ended said."""

    code: int
    out: str
    err: str


class Listening(Protocol):
    """A relay that can be posted to, whatever it runs in."""

    url: str


class Relay:
    """One `relay serve`, with everything it logs in a file."""

    def __init__(self, name: str, log: Path, env: Mapping[str, str]) -> None:
        self.name = name
        self.log = log
        self.url = f"http://127.0.0.1:{env['RELAY_PORT']}"
        self.ops_url = f"http://127.0.0.1:{env['RELAY_OPS_PORT']}"
        self._env = env
        self._process: asyncio.subprocess.Process | None = None

    @property
    def process(self) -> asyncio.subprocess.Process:
        """The process; it may have ended."""
        assert self._process is not None, "not started"
        return self._process

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.returncode is None

    async def spawn(self) -> None:
        """Start the process, and do not wait for anything."""
        assert not self.running, "started already"
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *relay_command("serve"), env=self._env, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
            )

    async def start(self) -> None:
        """Start the process and wait until it says that it is ready."""
        await self.spawn()
        await self.ready()

    async def ready(self) -> None:
        """Wait until it says that it is ready; fails at once if it ends instead."""

        async def is_ready() -> bool:
            assert self.running, f"{self.name} ended with {self.process.returncode}"
            return await self.ops("/readyz") == 200

        await until(f"{self.name} is ready", is_ready, 30)

    async def ops(self, path: str) -> int | None:
        """Ask the port for operators; returns the status, None if nobody listens."""
        try:
            async with aiohttp.request("GET", self.ops_url + path) as response:
                return response.status
        except aiohttp.ClientConnectionError:
            return None

    async def stop(self) -> int:
        """Send SIGTERM and wait for the end; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return await self.ended()

    async def kill(self) -> None:
        """Send SIGKILL and wait for the end."""
        self.process.kill()
        await self.ended()

    async def ended(self) -> int:
        """Wait for the end; returns the exit code."""
        async with asyncio.timeout(ENDS_WITHIN_S):
            return await self.process.wait()

    def said(self, event: str | None = None) -> list[dict[str, Any]]:
        """Return what it has logged so far, of one kind or all. A line that is not JSON counts as critical."""
        lines = self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else []
        told = [json.loads(line) if line.startswith("{") else {"event": line, "level": "critical"} for line in lines]
        return [line for line in told if event in (None, line["event"])]

    async def says(self, event: str) -> None:
        """Wait until it logs something; fails at once if it ends instead."""

        async def said() -> bool:
            assert self.said(event) or self.running, f"{self.name} ended with {self.process.returncode}"
            return bool(self.said(event))

        await until(f"{self.name} says {event}", said)

    def peak_bytes(self) -> int:
        """Return the most memory that the process has held so far (VmHWM)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")))


def relay_command(*arguments: str | Path) -> list[str]:
    """Return how relay is run with these arguments."""
    return [sys.executable, "-m", "relay", *map(str, arguments)]


def free_port() -> int:
    """Find a port on loopback that nobody listens on."""
    while True:
        port = random.SystemRandom().choice(_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


async def until(what: str, holds: Callable[[], Awaitable[bool]], timeout_s: float = 30.0) -> None:
    """Return as soon as it holds; fails, saying what was waited for, if it does not within the time."""
    try:
        async with asyncio.timeout(timeout_s):
            while not await holds():  # noqa: ASYNC110 - processes and tables set no asyncio.Event
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"waited {timeout_s:.0f} s in vain until {what}") from None
