"""The store's tests run on the Postgres that everything runs on and on the oldest that is supported."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.demo.postgres import VERSION_MIN
from tests.integration.model import settings, world
from tests.integration.store.made import Bench


@pytest.fixture(params=[None, VERSION_MIN], ids=["newest", f"postgres{VERSION_MIN}"])
def postgres_version(request: pytest.FixtureRequest, wanted_version: int | None) -> int | None:
    """Return both versions in turn, or only the one that RELAY_TEST_POSTGRES asks for."""
    version: int | None = request.param
    if wanted_version is None:
        return version
    if version is not None:
        pytest.skip(f"RELAY_TEST_POSTGRES={wanted_version} asks for one version only")
    return wanted_version


@pytest.fixture
async def bench(database: str, tmp_path: Path) -> AsyncIterator[Bench]:
    """Give a store on a fresh database with one login and one account, and what a lane's work needs."""
    async with world(database, tmp_path, settings(1)) as w:
        yield Bench(w, database)
