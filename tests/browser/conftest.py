"""The fixtures for tests of the page: a relay with simulated vendors, and one Chromium for all of them."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.browser.browser import CHROMIUM, chromium
from tests.browser.stage import Stage, stage


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run all tests of this folder in one loop: Chromium, which takes a second to start, belongs to it."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(loop_scope="session")
async def staged(database: str, tmp_path: Path) -> AsyncIterator[Stage]:
    """Give a relay with simulated vendors, on a database of its own."""
    async with stage(database, tmp_path) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Give Chromium, in which each test opens contexts of its own. Without it they are skipped; in CI that fails."""
    if not Path(CHROMIUM).exists() and os.environ.get("CI") != "true":
        pytest.skip(f"{CHROMIUM} is not installed (on Debian: apt-get install chromium fonts-vlgothic)")
    async with chromium() as made:
        yield made
