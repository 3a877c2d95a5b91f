"""The demo in parts, as a cluster runs it: vendors and traffic in processes of their own, relay between them."""

import asyncio
import itertools
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice

from relay.demo.names import PORTS, SIGNING_SECRET
from relay.demo.traffic import Expected, endless
from tests.acceptance.demo_vendors import CONTRACTS, settings
from tests.acceptance.harness import World
from tests.acceptance.lists import List, differences, wanted
from tests.acceptance.processes import relay_command, until
from tests.acceptance.settings_file import HEADERS

CUSTOMERS, SEED = 150, 4
SECRET_OF_VENDORS = "another password of the vendors"


class Part:
    """One part of the demo in a process of its own, and the lines it has said."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []

    async def listen(self) -> None:
        """Keep what it says until it ends."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(line.decode().rstrip("\n"))

    async def says(self, pattern: str) -> re.Match[str]:
        """Wait until a line matches, and return the match."""

        async def said() -> bool:
            return any(re.search(pattern, line) for line in self.lines)

        await until(f"{pattern} is said", said)
        return next(match for line in self.lines if (match := re.search(pattern, line)))

    async def stop(self) -> int:
        """Send SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            return await self.process.wait()


@asynccontextmanager
async def part(*arguments: str, **variables: str) -> AsyncIterator[Part]:
    """Run `relay demo --part …` for the length of the block."""
    process = await asyncio.create_subprocess_exec(
        *relay_command("demo", "--part", *arguments),
        env={"PATH": os.environ["PATH"], **variables},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    running = Part(process)
    listening = asyncio.create_task(running.listen())
    try:
        yield running
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await listening


def vendors_on_free_ports() -> tuple[str, ...]:
    """Say where the vendors shall listen."""
    ports = (argument for vendor in PORTS for argument in (f"--port-{vendor}", "0"))
    return ("vendors", "--host", "127.0.0.1", *ports)


async def readers(world: World, base_url: str, contract: str) -> List:
    """Ask a vendor's control API for its list."""
    origin = base_url.removesuffix("/rest/1.0")
    async with world.session.get(f"{origin}/_sim/readers", params={"contract": contract}) as response:
        assert response.status == 200, await response.text()
        found = await response.json()
    return {
        address.casefold(): (seen["mailable"], {header: seen["fields"][header] for header in HEADERS})
        for address, seen in found.items()
    }


def said_to_relay(taken: int) -> Expected:
    """Play the first webhooks of the traffic's stream again: it is the same for the same seed."""
    moments = (datetime(2026, 11, 22, tzinfo=UTC) + timedelta(milliseconds=n) for n in itertools.count())
    expected = Expected()
    for webhook in islice(endless(CUSTOMERS, SEED, "again", lambda: next(moments)), taken):
        expected.hear(webhook)
    return expected


async def test_traffic_reaches_the_vendors_and_nothing_is_lost_at_either_end(world: World) -> None:
    """What the traffic part says stands at all three vendors in the end; both parts end with 0 at SIGTERM."""
    async with part(*vendors_on_free_ports(), DEMO_PASSWORD=SECRET_OF_VENDORS) as vendors:
        await vendors.says("ready")
        urls = {name: (await vendors.says(rf"^{name}: (\S+) contract {CONTRACTS[name]}$"))[1] for name in PORTS}
        settings(world, urls)
        relay = world.relay(DEMO_PASSWORD=SECRET_OF_VENDORS, SIGNING_SECRET=SIGNING_SECRET)
        await relay.start()
        wishes = ("--rate", "200", "--customers", str(CUSTOMERS), "--seed", str(SEED))
        async with part("traffic", *wishes, RELAY_URL=relay.url) as traffic:

            async def enough() -> bool:
                return bool(await world.value("select count(*) >= 600 from event"))

            await until("200 webhooks are in the log for three accounts", enough)
            assert await traffic.stop() == 0, traffic.lines
        taken = int((await traffic.says(r"^([\d,]+) webhooks taken"))[1].replace(",", ""))
        await world.settled()
        for url in urls.values():
            async with world.session.post(f"{url.removesuffix('/rest/1.0')}/_sim/settle") as response:
                assert response.status == 204
        asked = wanted(said_to_relay(taken))
        assert asked
        for name, url in urls.items():
            assert differences(await readers(world, url, CONTRACTS[name]), asked) == {}, name
        assert await relay.stop() == 0
        assert await vendors.stop() == 0, vendors.lines


async def test_a_port_that_is_taken_is_told() -> None:
    """Who starts the vendors twice is told which port is taken, with the exit code of a mistake in settings."""
    async with part(*vendors_on_free_ports()) as first:
        port = (await first.says(r"^blastmail: http://127\.0\.0\.1:(\d+)/"))[1]
        arguments = [port if before == "--port-blastmail" else now for before, now in pairs(vendors_on_free_ports())]
        async with part(*arguments) as second:
            await second.says("--port-blastmail: cannot listen there: ")
            assert await second.process.wait() == 2


def pairs(arguments: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return each argument with the one before it."""
    return list(zip(("", *arguments), arguments, strict=False))
