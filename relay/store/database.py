"""The connection to Postgres: named queries from `sql/queries`, one pool, and one exception for "not now"."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any, Self

import asyncpg
from asyncpg.exceptions import _base

from relay.errors import Unavailable
from relay.metrics import Metrics
from relay.store.watching import Watch

Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy

BadArgument = _base.DataError
"""An argument that cannot be sent. asyncpg exports Postgres's error of the same name in its place."""

COMMAND_TIMEOUT_S = 60.0
"""No statement of relay's takes this long on a healthy database; a cut of 200,000 rows takes about one second."""

CONNECT_TIMEOUT_S = 4.0
"""Webhooks get their 503 within five seconds, connecting included."""

_NOT_NOW = (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What comes up on this side: no connection, none in time, or one that has broken off."""

SQLSTATES_NOT_NOW = (
    "08",  # the connection
    "25006",  # read-only: a standby, or a disk that is about to be full
    "25P03",  # ended because a transaction stood idle
    "25P04",  # ended because a transaction took too long
    "26",  # a pooler gave us another session, which does not know our statement,
    "42P05",  # or knows it already
    "28",  # the role or its password
    "3D",  # the database
    "40",  # a deadlock, or a transaction that a standby or a cluster gave up
    "53",  # no disk, memory, locks or connections left
    "55",  # a lock was not to be had in time
    "57",  # cancelled, shut down, crashed, starting up, dropped
    "58",  # an error of the operating system's,
    "72",  # a snapshot that is too old
    "XX",  # or one that Postgres has no code for, like a quota; or damage
)
"""What Postgres says when the request is not at fault, by the beginnings of SQLSTATEs (Postgres's appendix A).

What is not here is the data's fault (22, 23, 54) or a bug.
"""

_SQLSTATES_TAKEN_AWAY = (
    "3F",  # the schema,
    "42501",  # a grant,
    "42704",  # or an object in it,
    "42703",  # a column,
    "42883",  # a function,
    "42P01",  # a table
)
"""Mistakes of operators: every query was prepared on the migrated schema before it was shipped, so that what is missing
was there when relay started and may come back. The sender is told to keep what it has until somebody has mended it."""

_SQLSTATES_OF_SESSION = ("25006", "26", "42P05")
"""What belongs to the session and may be otherwise in a new one, which finds the new primary after a failover."""


def sql_directory() -> Path:
    """The folder with `migrations` and `queries`: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "sql"
    return inside if inside.is_dir() else package.parent / "sql"


@cache
def sql(name: str) -> str:
    """The text of `sql/queries/<name>.sql`."""
    return (sql_directory() / "queries" / f"{name}.sql").read_text(encoding="utf-8")


@contextmanager
def available(sqlstates: tuple[str, ...] = SQLSTATES_NOT_NOW + _SQLSTATES_TAKEN_AWAY) -> Iterator[None]:
    """Turn every way in which Postgres can be gone into `Unavailable`, whose text names only the error's class."""
    try:
        yield
    except BadArgument:  # an InterfaceError, but a bug
        raise
    except _NOT_NOW as error:
        raise Unavailable(type(error).__name__) from error
    except asyncpg.PostgresError as error:
        if not _begins(error, sqlstates):
            raise
        raise Unavailable(type(error).__name__) from error


def _begins(error: asyncpg.PostgresError, sqlstates: tuple[str, ...]) -> bool:
    return (error.sqlstate or "").startswith(sqlstates)


async def one(connection: Connection, name: str, *args: object) -> asyncpg.Record:
    """Run a named query that always has a row, on a connection at hand, and return the row."""
    row = await connection.fetchrow(sql(name), *args)
    if row is None:
        raise LookupError(f"{name} returned no row")
    return row


async def _keep(_: object) -> None:
    """Reset nothing when a connection goes back: nothing is set outside transactions, and it costs a fifth."""


class Database:
    """A pool of connections that runs named queries. Every method raises `Unavailable` when Postgres is gone."""

    def __init__(self, pool: asyncpg.Pool, watch: Watch | None = None) -> None:
        self._pool = pool
        self._watch = watch or Watch.of(pool, None, "")

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        url: str,
        *,
        connections_max: int = 10,
        statement_cache: int = 100,
        metrics: Metrics | None = None,
        pool: str = "work",
    ) -> AsyncIterator[Self]:
        """Open a pool. Nothing is connected yet, so that relay can start before Postgres does.

        `statement_cache` must be 0 behind a pooler in transaction mode. `pool` is what `metrics` call it.
        """
        opened = await asyncpg.create_pool(
            url,
            min_size=0,
            max_size=connections_max,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=COMMAND_TIMEOUT_S,
            statement_cache_size=statement_cache,
            reset=_keep,
        )
        database = cls(opened, Watch.of(opened, metrics, pool))
        try:
            yield database
        finally:
            await database.close()

    async def close(self) -> None:
        """Close the pool, by force where a connection does not end in time."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Borrow a connection. One that turns out to be of no use is closed, and so are its elders."""
        asked = perf_counter()
        try:
            with available():
                async with self._pool.acquire(timeout=CONNECT_TIMEOUT_S) as connection:
                    self._watch.waited(perf_counter() - asked)
                    try:
                        yield connection
                    except asyncpg.PostgresError as error:
                        if _begins(error, _SQLSTATES_OF_SESSION):
                            await self._pool.expire_connections()
                        raise
        except Unavailable:
            self._watch.missed()
            raise

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Run one READ COMMITTED transaction: committed at the end, rolled back on an exception.

        Said, not left to the server's default: who waits for a lock has to see what was committed meanwhile.
        """
        async with self.connection() as connection, connection.transaction(isolation="read_committed"):
            yield connection

    async def fetch(self, name: str, *args: object) -> list[asyncpg.Record]:
        """Run a named query and return its rows."""
        async with self.connection() as connection:
            return await connection.fetch(sql(name), *args)

    async def fetchrow(self, name: str, *args: object) -> asyncpg.Record | None:
        """Run a named query and return its first row."""
        async with self.connection() as connection:
            return await connection.fetchrow(sql(name), *args)

    async def fetchval(self, name: str, *args: object) -> Any:  # noqa: ANN401 (the query says the type)
        """Run a named query and return the first column of its first row."""
        async with self.connection() as connection:
            return await connection.fetchval(sql(name), *args)

    async def execute(self, name: str, *args: object) -> None:
        """Run a named query for its effect."""
        async with self.connection() as connection:
            await connection.execute(sql(name), *args)
