"""Fixtures for tests of the image: built once on a base that is made here, and run on a real Postgres."""

import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import asyncpg
import pytest

from relay.demo.databases import Databases
from relay.demo.postgres import Cluster
from tests.acceptance.harness import World
from tests.conftest import Servers
from tests.image.containers import Image
from tests.image.engine import ROOT, Engine, missing


@dataclass(frozen=True, slots=True)
class Built:
    """The image as it was built, how long that took, and what `make image` said."""

    image: Image
    seconds: float
    said: str


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """Give podman and buildah on a storage of their own. What runs there ends with the test run."""
    lacking = missing()
    if lacking and os.environ.get("CI") == "true":
        pytest.fail(lacking)
    if lacking:
        pytest.skip(lacking)
    engine = Engine(ROOT / ".cache" / "image")
    engine.prepare()
    yield engine
    engine.leave()


KIND = """\
#!/bin/sh
echo "kind $1 $2 $4 $5"
tar -xOf "$3" manifest.json
"""
"""Stands in for kind: says what it was asked, and what is in the archive."""


@pytest.fixture(scope="session")
def built(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build relay's image through `make image`, and have it loaded into a cluster that only says what it got."""
    tools = tmp_path_factory.mktemp("tools")
    (tools / "kind").write_text(KIND, encoding="utf-8")
    (tools / "kind").chmod(0o755)
    engine.make_base()
    begin = time.monotonic()
    said = engine.make_image("LOAD=kind", "CLUSTER=mine", f"PATH={tools}:{os.environ['PATH']}")
    seconds = time.monotonic() - begin
    version = engine.call("sed", "-n", 's/^version = "\\(.*\\)"$/\\1/p', "pyproject.toml").stdout.strip()
    return Built(Image(engine, f"relay:{version}", version), seconds, said.stdout + said.stderr)


@pytest.fixture(scope="session")
def image(built: Built) -> Image:
    """The image."""
    return built.image


@pytest.fixture
async def empty_database(servers: Servers, server: Databases) -> AsyncIterator[str]:
    """Give the URL of a fresh database without a schema, by way of TCP, as the container sees it."""
    name = servers.name()
    await server.create_database(name)
    yield server.url(name, tcp=True) if isinstance(server, Cluster) else server.url(name)
    await server.drop_database(name)


@pytest.fixture
async def world(
    empty_database: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> AsyncIterator[World]:
    """Give a world whose database has no schema yet, and in which no process runs: relay is in containers."""
    async with (
        aiohttp.ClientSession() as session,
        asyncpg.create_pool(empty_database, min_size=0, max_size=4) as pool,
    ):
        yield World(tmp_path, empty_database, session, pool, lambda told: record_property("measured", told))
