"""A relay under load that a real Prometheus has scraped: made once for all tests here, which then only ask.

Whoever adds a test asks for `scraped`: `scraped.query(expr)` evaluates PromQL at the end of the load.
"""

import asyncio
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import asyncpg
import pytest

from relay.demo.databases import Databases
from relay.demo.sim_bme import BASE_PATH
from tests.acceptance.harness import ROOT, World
from tests.conftest import TEMPLATE, Servers
from tests.monitoring.load import Load
from tests.monitoring.prometheus import NAMESPACE, Prometheus, Series, prometheus, write_config
from tests.monitoring.stage import Vendors, make_certificate, tls_before, write_settings

PROGRAMS = ("prometheus", "promtool", "openssl")
RULES = ROOT / "k8s/monitoring/rules.yaml"
RUNBOOK_URL = "https://example.com/relay/README.md"
"""Where alerts and dashboards suppose README to be, until whoever installs them says better."""

STEP_S = 5.0
SEEN_FOR_S = 40.0
"""How long Prometheus has seen relay at least: more than twice what a rate is taken over."""


@dataclass(frozen=True)
class Scraped:
    """What Prometheus has seen of relay under load.

    `begin` and `end` are when, in seconds since 1970; `texts` each process's last answer to a scrape, by pod; `moved`
    the metrics that were seen not to be zero; `config` Prometheus's configuration.
    """

    prometheus: Prometheus
    begin: float
    end: float
    texts: dict[str, str]
    moved: frozenset[str]
    config: Path
    namespace: str = NAMESPACE

    @property
    def range_s(self) -> int:
        """How long the load lasted."""
        return int(self.end - self.begin)

    def query(self, expr: str) -> list[Series]:
        """Evaluate PromQL at the end of the load."""
        return self.prometheus.query(expr, self.end)

    def query_range(self, expr: str) -> list[Series]:
        """Evaluate PromQL over the whole load."""
        return self.prometheus.query_range(expr, self.begin, self.end, STEP_S)


@pytest.hookimpl(tryfirst=True)  # before xdist looks for groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep what asks for `scraped` in one process: with two, the load would be made twice."""
    for item in items:
        if "scraped" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("scraped"))


@pytest.fixture(scope="session")
def programs() -> None:
    """Skip what needs a program that is not installed; in CI that fails."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing and os.environ.get("CI") != "true":
        pytest.skip(f"{', '.join(missing)} not installed (on Debian: apt-get install prometheus openssl)")
    assert not missing, f"not installed: {missing}"


@pytest.fixture(scope="session")
def scraped(
    programs: None,  # noqa: ARG001 - without them nothing starts
    servers: Servers,
    wanted_version: int | None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Scraped]:
    """Give a Prometheus that has seen everything happen to relay. relay has ended by then, Prometheus still answers."""
    directory = tmp_path_factory.mktemp("monitoring")
    with ExitStack() as after:
        yield asyncio.run(_load(after, servers.get(wanted_version), servers.name(), directory))


async def _load(after: ExitStack, server: Databases, name: str, directory: Path) -> Scraped:
    """Start everything, put relay under load, and end all but Prometheus, which ends with `after`."""
    async with AsyncExitStack() as stack:
        await server.create_database(name, TEMPLATE)
        stack.push_async_callback(server.drop_database, name)
        session = await stack.enter_async_context(aiohttp.ClientSession())
        pool = await stack.enter_async_context(asyncpg.create_pool(server.url(name), min_size=0, max_size=4))
        world = World(directory, server.url(name), session, pool, lambda _: None)
        stack.push_async_callback(world.end)
        load = await _started(stack, world)
        targets = {relay.name: relay.ops_url.removeprefix("http://") for relay in (load.receive, load.flush)}
        config = write_config(directory, targets, RULES)
        found = after.enter_context(prometheus(directory, config))
        begin = time.time()
        await load.run(stack, found, SEEN_FOR_S)
        return Scraped(found, begin, time.time(), load.texts, frozenset(load.moved), config)


async def _started(stack: AsyncExitStack, world: World) -> Load:
    """Start the vendors, write the settings, and prepare a process that receives and one that flushes."""
    vendors = Vendors.make()
    await vendors.serve(stack)
    certificate = make_certificate(world.directory)
    url = await stack.enter_async_context(tls_before(vendors.blast.url, certificate))
    before = write_settings(world, vendors, url + BASE_PATH)
    more = {
        "RELAY_RETENTION_DAYS": "400",
        "WRONG_PASSWORD": "not the vendor's",
        "SSL_CERT_FILE": str(certificate),
    }
    receive = world.relay("relay-receive-0", RELAY_ROLES="receive", RELAY_CONFIG=str(before), **more)
    flush = world.relay("relay-0", RELAY_ROLES="flush", **more)
    return Load(world, vendors, receive, flush)
