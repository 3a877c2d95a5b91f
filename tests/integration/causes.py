"""Ways in which a real Postgres cannot take events: each a block during which it cannot, and after which it can."""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from relay.demo.postgres import Cluster

ROLE = "relay_limited"
"""Whom relay connects as: no superuser, so that grants and limits hold for it."""

FILE_BYTES_MAX = 16 * 1024 * 1024
"""A segment of the WAL: were files limited to less, Postgres would end."""


@dataclass(frozen=True, slots=True)
class Place:
    """Relay's database on a server of ours; whatever is done there is done by an administrator."""

    name: str
    cluster: Cluster

    @property
    def url(self) -> str:
        """The database as relay connects to it."""
        return self.cluster.url(self.name).replace("://relay@", f"://{ROLE}@")

    @asynccontextmanager
    async def connected(self, database: str | None = None) -> AsyncIterator[asyncpg.Connection]:
        """Connect to relay's database, or to another one."""
        connection = await asyncpg.connect(self.cluster.url(database or self.name))
        try:
            yield connection
        finally:
            await connection.close()

    async def inside(self, *statements: str) -> None:
        """Execute statements in relay's database."""
        async with self.connected() as connection:
            for statement in statements:
                await connection.execute(statement)

    async def outside(self, statement: str, *args: object) -> Any:  # noqa: ANN401 - the statement says the type
        """Execute a statement in another database of the server; returns the first column of what it says."""
        async with self.connected("postgres") as connection:
            rows = await connection.fetch(statement, *args)
        return [row[0] for row in rows]

    async def sessions(self) -> list[int]:
        """Return the process ids of relay's sessions."""
        found: list[int] = await self.outside("select pid from pg_stat_activity where usename = $1", ROLE)
        return found

    async def end_sessions(self) -> None:
        """End relay's sessions, as a failover does."""
        await self.outside("select pg_terminate_backend(pid) from pg_stat_activity where usename = $1", ROLE)


@asynccontextmanager
async def place_of(name: str, cluster: Cluster) -> AsyncIterator[Place]:
    """Let the limited role into a database for the length of the block."""
    place = Place(name, cluster)
    await place.inside(
        f"create role {ROLE} login",
        f"grant all on all tables in schema public to {ROLE}",
        f"grant all on all sequences in schema public to {ROLE}",
    )
    try:
        yield place
    finally:
        await place.inside(f"drop owned by {ROLE}", f"drop role {ROLE}")


Cause = Callable[[Place], AbstractAsyncContextManager[None]]


def outside(wrong: str, right: str) -> Cause:
    """Make a cause of two statements, `{name}` in them is the database; relay has to connect anew to notice."""

    @asynccontextmanager
    async def cause(place: Place) -> AsyncIterator[None]:
        await place.outside(wrong.format(name=place.name))
        try:
            await place.end_sessions()
            yield
        finally:
            await place.outside(right.format(name=place.name))

    return cause


def inside(wrong: str, right: str) -> Cause:
    """Make a cause of two statements in relay's database."""

    @asynccontextmanager
    async def cause(place: Place) -> AsyncIterator[None]:
        await place.inside(wrong)
        try:
            yield
        finally:
            await place.inside(right)

    return cause


def interrupted(how: signal.Signals) -> Cause:
    """Make a cause of the server's end by a signal; it is started again."""
    return lambda place: place.cluster.interrupted(how)


@asynccontextmanager
async def read_only_server(place: Place) -> AsyncIterator[None]:
    """Make the whole server read-only, also for the sessions that are open, as a demoted primary is."""
    await place.outside("alter system set default_transaction_read_only = on")
    try:
        await place.outside("select pg_reload_conf()")
        yield
    finally:
        await place.outside("alter system reset default_transaction_read_only")
        await place.outside("select pg_reload_conf()")


@asynccontextmanager
async def locked(place: Place) -> AsyncIterator[None]:
    """Hold a lock on the log, as a careless `vacuum full` does."""
    async with place.connected() as connection, connection.transaction():
        await connection.execute("lock table event in access exclusive mode")
        yield


@asynccontextmanager
async def locked_without_patience(place: Place) -> AsyncIterator[None]:
    """Hold a lock on the log, where relay's role may not wait for locks."""
    impatient = outside(f"alter role {ROLE} set lock_timeout = '50ms'", f"alter role {ROLE} reset all")
    async with impatient(place), locked(place):
        yield


@asynccontextmanager
async def cancelled(place: Place) -> AsyncIterator[None]:
    """Cancel whatever relay is doing, again and again, while a lock keeps it from ever being quick enough."""
    query = "select pg_cancel_backend(pid) from pg_stat_activity where usename = $1 and wait_event_type = 'Lock'"

    async def cancel() -> None:
        async with place.connected("postgres") as connection:
            while True:
                await connection.fetch(query, ROLE)
                await asyncio.sleep(0.02)

    async with locked(place):
        cancelling = asyncio.create_task(cancel())
        try:
            yield
        finally:
            cancelling.cancel()
            await asyncio.gather(cancelling, return_exceptions=True)


@asynccontextmanager
async def no_locks_left(place: Place) -> AsyncIterator[None]:
    """Take every lock that fits into the server's shared memory."""
    async with place.connected("postgres") as hog:
        with pytest.raises(asyncpg.OutOfMemoryError):
            await hog.execute("select pg_advisory_lock(n) from generate_series(1, 10000000) n")
        yield


@asynccontextmanager
async def disk_full(place: Place) -> AsyncIterator[None]:
    """Move the log to a disk of its own, 2 MB of memory, and fill that up."""
    async with small_disk(place) as disk:
        await place.inside(f"create tablespace small location '{disk}'", "alter table event set tablespace small")
        ballast = disk / "ballast"
        try:
            with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
                while file.write(bytes(1024)):
                    pass
            yield
            ballast.unlink()
        finally:
            await place.inside("alter table event set tablespace pg_default", "drop tablespace small")


@asynccontextmanager
async def small_disk(place: Place) -> AsyncIterator[Path]:
    """Mount a disk of 2 MB for the server; the test is skipped where that is not allowed."""
    [directory] = await place.outside("show data_directory")
    owner = Path(directory).stat()
    disk = Path(directory).parent / "small-disk"
    disk.mkdir()
    try:
        options = f"size=2m,uid={owner.st_uid},gid={owner.st_gid},mode=700"
        if await ended("mount", "-t", "tmpfs", "-o", options, "relay", disk):
            pytest.skip("only root can mount a small disk")
        try:
            yield disk
        finally:
            assert await ended("umount", disk) == 0
    finally:
        disk.rmdir()


async def ended(*command: str | Path, owner_of: int | str = "self") -> int:
    """Run a command as whoever owns a process, by default our own; return its exit code."""
    owner = Path(f"/proc/{owner_of}").stat()
    user, group = (None, None) if owner.st_uid == os.getuid() else (owner.st_uid, owner.st_gid)
    process = await asyncio.create_subprocess_exec(
        *command, stderr=subprocess.DEVNULL, user=user, group=group, extra_groups=None if user is None else ()
    )
    return await process.wait()


@asynccontextmanager
async def quota_spent(place: Place) -> AsyncIterator[None]:
    """Let the log become as large as a file may be. Postgres has no name for that error, nor for a spent quota."""
    server = place.cluster.server_pid

    async def limit(soft: int | str) -> None:
        for pid in (server, *await place.sessions()):
            assert await ended("prlimit", f"--pid={pid}", f"--fsize={soft}:", owner_of=server) == 0

    await limit(FILE_BYTES_MAX)
    try:
        with pytest.raises(asyncpg.InternalServerError):
            await fill_up(place)
        yield
    finally:
        await limit("unlimited")


async def fill_up(place: Place) -> None:
    """Append events of nobody's until that fails."""
    async with place.connected() as connection:
        for start in range(0, 100_000, 500):
            await connection.execute(
                "insert into event (account, source, message_id, digest, operation, customer, layout, line, "
                "occurred_at, received_at) select 'none', 'none', n::text, '', 'upsert', '', 0, "
                "convert_to(repeat(md5(n::text), 60) || E'\\r\\n', 'UTF8'), now(), now() "
                "from generate_series($1::int, $1 + 499) n",
                start,
            )
