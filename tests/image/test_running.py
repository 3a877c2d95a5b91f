"""The image at work with 128 MiB, read-only and without capabilities, between a real Postgres and simulated vendors."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import asyncpg

from relay.demo.names import PASSWORD
from relay.demo.parts import simulated
from relay.demo.sim_bme import BmeSim
from relay.demo.sim_server import Sim
from relay.demo.traffic import Expected, Sent, stream
from tests.acceptance.demo_vendors import CONTRACTS, settings
from tests.acceptance.harness import World
from tests.acceptance.lists import differences, found, wanted
from tests.acceptance.processes import until
from tests.acceptance.senders import Sender
from tests.image.containers import MEMORY_BYTES_MAX, STRICT, Container, Image, Memory, mounted, serving

CUSTOMERS = 20_000
PER_REQUEST = 500
REQUESTS_AT_ONCE = 2
LATER = 300
"""Webhooks that are sent while relay is stopped and started again."""

ENDS_WITHIN_S = 28.0
"""Kubernetes kills after 30 seconds."""

ANONYMOUS_BYTES_MAX = 110_000_000
"""What relay may hold that cannot be given back: the limit less what a file's pages and a health check need."""

MIGRATION_LOCK = 7235419866101
"""What every migration takes first (relay.migrate)."""


@asynccontextmanager
async def vendors(world: World) -> AsyncIterator[dict[str, Sim]]:
    """Serve the demo's vendors in this process, and write settings that fit them."""
    async with AsyncExitStack() as stack:
        sims = {name: sim for name, (sim, _) in simulated(PASSWORD).items()}
        urls = {name: await stack.enter_async_context(sim.serve()) for name, sim in sims.items()}
        urls |= {name: sim.base_url for name, sim in sims.items() if isinstance(sim, BmeSim)}
        settings(world, urls)
        yield sims


async def command(image: Image, world: World, *words: str, user: str | None = None) -> str:
    """Run a command of relay in the image; returns what it said. Fails unless it ends well."""
    as_user = () if user is None else ("--user", user)
    options = (*STRICT, *as_user, *mounted(world, {"DEMO_PASSWORD": PASSWORD}))
    done = await asyncio.to_thread(image.run, *words, options=options)
    assert done.code == 0, done
    return done.out


def chunks(webhooks: Iterable[Sent]) -> Iterator[list[Sent]]:
    """Split webhooks for requests; one that is repeated within a request is sent once."""
    given = iter(webhooks)
    while chunk := list(islice(given, PER_REQUEST)):
        yield list({webhook.message_id: webhook for webhook in chunk}.values())


async def post_all(world: World, relay: Container, webhooks: Iterable[Sent]) -> None:
    """Post webhooks in bulk, two requests at a time."""
    requests = chunks(webhooks)

    async def work() -> None:
        for request in requests:
            await world.post_many(relay, "crm", request)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(REQUESTS_AT_ONCE):
            tasks.create_task(work())


@asynccontextmanager
async def watched(relay: Container) -> AsyncIterator[list[Memory]]:
    """Look at the container's memory a few times a second."""
    seen: list[Memory] = [await relay.memory()]
    path = (await relay.state())["CgroupPath"]
    ended = asyncio.Event()

    async def watch() -> None:
        while not ended.is_set():
            seen.append(Memory.read(path))
            await asyncio.wait([asyncio.ensure_future(ended.wait())], timeout=0.1)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(watch())
        yield seen
        ended.set()


def lists_differ(sims: Mapping[str, Sim], webhooks: Iterable[Sent]) -> dict[str, object]:
    """Return what is wrong in each vendor's list, after these webhooks."""
    expected = Expected()
    for webhook in webhooks:
        expected.hear(webhook)
    asked = wanted(expected)
    return {name: wrong for name, sim in sims.items() if (wrong := differences(found(sim, CONTRACTS[name]), asked))}


async def test_twenty_thousand_customers_in_128_mib(image: Image, world: World) -> None:
    """Migrated and checked by the image itself, 20,000 customers stand right at three vendors; the memory suffices.

    SIGTERM while webhooks come ends it with 0 in time, and nothing that got its 202 is lost.
    """
    webhooks = list(stream(CUSTOMERS, 11, datetime.now(UTC) - timedelta(hours=1)))
    first, later = webhooks[:-LATER], webhooks[-LATER:]
    async with vendors(world) as sims:
        assert re.match(r"applied 1, 2, 3", await command(image, world, "migrate"))
        assert "schema and secret fit" in await command(image, world, "check")
        async with serving(image, world, DEMO_PASSWORD=PASSWORD) as relay:
            await relay.ready()
            assert await relay.health() == 0
            async with watched(relay) as seen:
                begin = time.monotonic()
                await post_all(world, relay, first)
                received_s = time.monotonic() - begin
                await world.settled(*sims.values())
                took_s = time.monotonic() - begin
                assert await relay.health() == 0
            assert lists_differ(sims, first) == {}
            memory = await relay.memory()
            anonymous = max(one.anonymous_bytes for one in seen)
            said = f"{len(first)} webhooks received in {received_s:.0f} s, at three vendors after {took_s:.0f} s; "
            said += f"{anonymous >> 20} MiB at most, {memory.peak_bytes >> 20} MiB with the cache of files"
            code, ends_s = await stopped_and_started(world, relay, later)
            world.measured(f"{said}; ended {ends_s:.1f} s after SIGTERM")
            await world.settled(*sims.values())
            logs = await relay.logs()
        assert lists_differ(sims, webhooks) == {}
    assert (memory.killed, memory.peak_bytes <= MEMORY_BYTES_MAX, anonymous < ANONYMOUS_BYTES_MAX) == (0, True, True)
    assert (code, ends_s < ENDS_WITHIN_S) == (0, True)
    assert not re.search(r'"level": ?"(error|critical)"|@', logs), logs[-4000:]


async def stopped_and_started(world: World, relay: Container, later: list[Sent]) -> tuple[int, float]:
    """Stop and start the container while webhooks come, one by one; returns how it ended, and after how long."""
    sender = Sender(world, relay)

    async def some() -> bool:
        return len(sender.acknowledged) >= 20

    async def stop() -> tuple[int, float]:
        await until("some are acknowledged", some)
        ended = await relay.terminate()
        assert (await relay.state())["OOMKilled"] is False
        assert sender.acknowledged <= await world.in_log("crm")
        await relay.start_again()
        return ended

    async with asyncio.TaskGroup() as tasks:
        ending = tasks.create_task(stop())
        tasks.create_task(sender.send((("crm", webhook) for webhook in later), at_once=4))
    assert None in sender.statuses, "it ended when all had been sent: nothing was shown"
    return ending.result()


async def test_the_health_check_tells_a_relay_that_does_not_answer(image: Image, world: World) -> None:
    """A container in which nobody listens is unhealthy; so is one that answers, but not well."""
    settings(world, dict.fromkeys(CONTRACTS, "http://127.0.0.1:9"))
    program = (
        "import http.server as h, os; "
        "h.HTTPServer(('', int(os.environ['RELAY_OPS_PORT'])), h.BaseHTTPRequestHandler).serve_forever()"
    )
    async with serving(image, world, "-c", "import time; time.sleep(600)", entrypoint="python") as silent:
        assert await silent.health() == 1
    async with serving(image, world, "-c", program, entrypoint="python") as wrong:

        async def answers() -> bool:
            return await wrong.ops("/healthz") == 501

        await until("the server answers", answers)
        assert await wrong.health() == 1


async def test_sigterm_ends_a_command_that_waits(image: Image, world: World) -> None:
    """A migration that queues behind another one ends at once: as process 1 it would not hear a signal by itself."""
    settings(world, dict.fromkeys(CONTRACTS, "http://127.0.0.1:9"))
    connection = await asyncpg.connect(world.database_url)
    try:
        async with connection.transaction():
            await connection.execute("select pg_advisory_xact_lock($1)", MIGRATION_LOCK)
            async with serving(image, world, "migrate") as migrating:

                async def waits() -> bool:
                    return bool(await world.value("select count(*) from pg_locks where not granted"))

                await until("the migration waits", waits)
                code, took_s = await migrating.terminate()
                logs = await migrating.logs()
    finally:
        await connection.close()
    assert (code, took_s < 10) == (128 + 15, True)
    assert "Traceback" not in logs


async def test_sigterm_while_it_is_importing_ends_it(image: Image, world: World, tmp_path: Path) -> None:
    """A container that is stopped in its first moments does not run on until somebody kills it."""
    settings(world, dict.fromkeys(CONTRACTS, "http://127.0.0.1:9"))
    (tmp_path / "endless.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(600)\n", "utf-8")
    (tmp_path / "no-bytecode").mkdir()
    cli = "/opt/relay/app/relay/cli"
    volumes = (f"{tmp_path}/endless.py:{cli}/__init__.py:ro", f"{tmp_path}/no-bytecode:{cli}/__pycache__:ro")
    async with serving(image, world, volumes=volumes, DEMO_PASSWORD=PASSWORD) as relay:

        async def imports() -> bool:
            return "importing" in await relay.logs()

        await until("it is importing", imports)
        code, took_s = await relay.terminate()
    assert (code, took_s < 10) == (128 + 15, True)


async def test_any_user_will_do(image: Image, world: World) -> None:
    """A user drawn by lot, in group 0, without a name or a home, as OpenShift gives: all of it works as ever."""
    user = "1000680000:0"
    settings(world, dict.fromkeys(CONTRACTS, "http://127.0.0.1:9"))
    assert "applied" in await command(image, world, "migrate", user=user)
    assert "schema and secret fit" in await command(image, world, "check", user=user)
    volume = f"spool-{world.directory.name}"
    async with serving(image, world, user=user, spool=volume, DEMO_PASSWORD=PASSWORD) as relay:
        await relay.ready()
        assert await relay.health() == 0
        assert await relay.podman("exec", relay.name, "id", "-u") == "1000680000"
        await relay.podman("exec", relay.name, "touch", "/var/spool/relay/it-can-write")
        assert (await relay.terminate())[0] == 0
    await asyncio.to_thread(image.engine.podman, "volume", "rm", volume)


async def test_the_demo_runs_in_the_image(image: Image, world: World) -> None:
    """The simulated vendors and the traffic need nothing that the image lacks, and end with 0 at SIGTERM."""
    settings(world, dict.fromkeys(CONTRACTS, "http://127.0.0.1:9"))
    ports = [f"--port-{vendor}=0" for vendor in CONTRACTS]
    for words, told in ((["vendors", "--host=127.0.0.1", *ports], "ready"), (["traffic"], "5 webhooks a second")):
        async with serving(image, world, "demo", "--part", *words, RELAY_URL="http://127.0.0.1:9") as part:

            async def says(part: Container = part, told: str = told) -> bool:
                return told in await part.logs()

            await until(f"it says {told}", says)
            code, took_s = await part.terminate()
            assert (code, took_s < 10) == (0, True), await part.logs()
