"""A pgbouncer in transaction mode before a test's Postgres."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from tests.acceptance.processes import free_port
from tests.integration.causes import ROLE, Place

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
"""Debian keeps it where only root looks."""

STARTS_WITHIN_S = 10.0

SETTINGS = """
[databases]
* = host={host} port={postgres} user={role}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 4
server_login_retry = 1
"""


@asynccontextmanager
async def pooled(place: Place) -> AsyncIterator[str]:
    """Run a pgbouncer before a database, as whoever runs the server; give the URL."""
    if PGBOUNCER is None:
        pytest.skip("pgbouncer is not installed here (on Debian: apt-get install pgbouncer)")
    [data] = await place.outside("show data_directory")
    [host] = await place.outside("show unix_socket_directories")
    owner = Path(data).stat()
    port = free_port()
    file = Path(data).parent / "pgbouncer.ini"
    file.write_text(SETTINGS.format(host=host, postgres=place.cluster.port, role=ROLE, port=port), encoding="utf-8")
    user, group = (None, None) if owner.st_uid == os.getuid() else (owner.st_uid, owner.st_gid)
    process = await asyncio.create_subprocess_exec(
        PGBOUNCER, "--quiet", file, user=user, group=group, extra_groups=None if user is None else ()
    )
    try:
        url = f"postgresql://{ROLE}@127.0.0.1:{port}/{place.name}"
        async with asyncio.timeout(STARTS_WITHIN_S):
            while not await answers(url):
                assert process.returncode is None, "pgbouncer did not start"
        yield url
    finally:
        process.kill()
        await process.wait()
        file.unlink()


async def answers(url: str) -> bool:
    """Say whether one can connect."""
    try:
        connection = await asyncpg.connect(url, statement_cache_size=0)
    except OSError:
        await asyncio.sleep(0.02)
        return False
    await connection.close()
    return True
