"""The fixture for acceptance tests: a world, whose logs are shown when a test fails."""

from collections.abc import AsyncIterator, Callable, Generator
from pathlib import Path

import aiohttp
import asyncpg
import pytest

from tests.acceptance.harness import World


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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
    call: pytest.CallInfo[None],  # noqa: ARG001 - pytest asks by these names
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what relay said beside a test that failed."""
    report = yield
    world = getattr(item, "funcargs", {}).get("world")
    if report.failed and isinstance(world, World):
        report.sections.extend(world.shown())
    return report
