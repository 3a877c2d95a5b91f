"""The fixtures for acceptance tests: a world, and one that is searched for canaries; logs are shown on a failure."""

from collections.abc import AsyncIterator, Callable, Generator
from pathlib import Path

import aiohttp
import asyncpg
import pytest

from tests.acceptance.harness import World
from tests.acceptance.watched import Watched, role_with_password


@pytest.fixture
async def world(database: str, tmp_path: Path, record_property: Callable[[str, object], None]) -> AsyncIterator[World]:
    """Give a world on a fresh, migrated database. Nothing runs in it yet; what then runs may log no error."""
    async with (
        aiohttp.ClientSession() as session,
        asyncpg.create_pool(database, min_size=0, max_size=4) as pool,
    ):
        world = World(tmp_path, database, session, pool, lambda told: record_property("measured", told))
        try:
            yield world
        finally:
            await world.end()
        world.check_logs()


@pytest.fixture
async def watched(
    database: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> AsyncIterator[Watched]:
    """Give a watched world on a fresh, migrated database, to which relay connects with a password that is a canary.

    Fails in the end if any canary is found where it does not belong.
    """
    async with (
        aiohttp.ClientSession() as session,
        asyncpg.create_pool(database, min_size=0, max_size=4) as pool,
        role_with_password(pool, database) as url,
    ):
        watched = Watched(tmp_path, url, session, pool, lambda told: record_property("measured", told))
        try:
            yield watched
        finally:
            await watched.end()
        assert watched.leaks() == []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
    call: pytest.CallInfo[None],  # noqa: ARG001 - pytest asks by these names
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what relay said beside a test that failed."""
    report = yield
    arguments = getattr(item, "funcargs", {})
    world = arguments.get("world") or arguments.get("watched")
    if report.failed and isinstance(world, World):
        report.sections.extend(world.shown())
    return report
