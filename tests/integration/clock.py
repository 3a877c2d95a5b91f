"""A clock for a test's database: what is due, delayed or counted by the day can then be tried at any hour.

relay reads one clock, Postgres's `now()`. A function of that name in a schema that comes before `pg_catalog` takes its
place for every session that opens afterwards. Defaults of columns keep the real one.
"""

from datetime import datetime, timedelta, timezone

import asyncpg

JAPAN = timezone(timedelta(hours=9))


class Clock:
    """The time that Postgres tells in one database."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    @classmethod
    async def install(cls, connection: asyncpg.Connection, at: datetime) -> "Clock":
        """Make the clock; sessions that are open already keep the real one, but for `connection`."""
        name = await connection.fetchval("select current_database()")
        await connection.execute(
            "create schema virtual;"  # noqa: S608 (the name is Postgres's own)
            "create table virtual.clock (at timestamptz not null);"
            "create function virtual.now() returns timestamptz language sql stable as 'select at from virtual.clock';"
            f'alter database "{name}" set search_path = virtual, pg_catalog, public;'
            "set search_path = virtual, pg_catalog, public"
        )
        await connection.execute("insert into virtual.clock values ($1)", at)
        return cls(connection)

    async def set(self, at: datetime) -> None:
        """Set the time."""
        await self._connection.execute("update virtual.clock set at = $1", at)

    async def advance(self, seconds: float) -> None:
        """Let time pass."""
        await self._connection.execute("update virtual.clock set at = at + make_interval(secs => $1)", seconds)

    async def now(self) -> datetime:
        """Tell the time."""
        at: datetime = await self._connection.fetchval("select at from virtual.clock")
        return at
