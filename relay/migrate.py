"""Migrations: plain SQL files, numbered, applied in order under an advisory lock and in one transaction.

A file that has been applied is remembered with its hash; a changed one is refused, for the schema would no longer be
known.
"""

import asyncio
import hashlib
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from relay.errors import RelayError, SchemaUnknown
from relay.log import logger
from relay.store.database import CONNECT_TIMEOUT_S, SQLSTATES_NOT_NOW, available, sql_directory

log = logger(__name__)

_LOCK = 7235419866101

LOCK_TIMEOUT_S = 2.0
"""Behind who waits for a table all others wait that come later, appends as well: a webhook bears this, and few
transactions of relay's hold a table for longer. An autovacuum gives way after the second of `deadlock_timeout`."""

REST_S = 3.0
"""The rest between two tries, in which what has piled up behind the one gets done."""

TRIES_MAX = 12
"""So many make a minute: what holds a table for longer is a backup or a forgotten session, which somebody must end."""

_TABLE = """
create table if not exists migration (
    version integer primary key,
    name text not null,
    sha256 text not null,
    applied_at timestamptz not null default now()
)
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file."""

    version: int
    name: str
    text: str

    @property
    def sha256(self) -> str:
        """The hash by which a changed file is noticed."""
        return hashlib.sha256(self.text.encode("utf-8")).hexdigest()


def migrations(directory: Path | None = None) -> list[Migration]:
    """Read all migrations in order. Their numbers count up from 1 without a gap."""
    directory = directory or sql_directory() / "migrations"
    paths = sorted(directory.glob("*.sql"))
    if [path.stem.partition("_")[0] for path in paths] != [f"{n:04}" for n in range(1, len(paths) + 1)]:
        raise SchemaUnknown(f"the migrations in {directory} are not numbered 0001, 0002, 0003 …")
    return [Migration(n, path.stem, path.read_text(encoding="utf-8")) for n, path in enumerate(paths, 1)]


async def migrate(url: str, directory: Path | None = None, *, tries_max: int = TRIES_MAX) -> list[int]:
    """Bring a database to the schema this relay knows; return the versions applied now.

    Several may run at the same time: they queue. Raises Unavailable, SchemaUnknown for a newer or changed schema, or
    RelayError where a table that it changes was in use at every try; nothing is applied then.
    """
    known = migrations(directory)
    with available(SQLSTATES_NOT_NOW):  # here nothing is taken away: what is missing is a mistake in a migration
        connection = await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_S, statement_cache_size=0)
        try:
            return await _patiently(connection, known, tries_max)
        finally:
            await connection.close()


async def _patiently(connection: asyncpg.Connection, known: list[Migration], tries_max: int) -> list[int]:
    """Try again where a lock was not to be had, or a deadlock was lost to a relay that runs: nothing was applied."""
    for tries_left in reversed(range(tries_max)):
        try:
            return await _migrate(connection, known)
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as error:
            log.warning("migration_gave_way", reason=type(error).__name__, tries_left=tries_left)
        if tries_left:
            await asyncio.sleep(REST_S)
    raise RelayError(
        f"nothing was applied: at each of {tries_max} tries others used a table for longer than {LOCK_TIMEOUT_S:.0f} s "
        "(pg_stat_activity tells who); run `relay migrate` again when they have ended"
    )


async def _migrate(connection: asyncpg.Connection, known: list[Migration]) -> list[int]:
    async with connection.transaction():
        await connection.execute("select pg_advisory_xact_lock($1)", _LOCK)  # for this one waits as long as it takes
        await connection.execute("select set_config('lock_timeout', $1, true)", f"{LOCK_TIMEOUT_S * 1000:.0f}ms")
        await connection.execute(_TABLE)
        applied = await _applied(connection, known)
        fresh = known[len(applied) :]
        for migration in fresh:
            await connection.execute(migration.text)
            await connection.execute(
                "insert into migration (version, name, sha256) values ($1, $2, $3)",
                migration.version,
                migration.name,
                migration.sha256,
            )
    return [migration.version for migration in fresh]


async def check_schema(connection: asyncpg.Connection | asyncpg.pool.PoolConnectionProxy) -> None:
    """Raise SchemaUnknown, with what to do, unless the schema is exactly the one this relay knows."""
    known = migrations()
    if not await connection.fetchval("select to_regclass('migration') is not null"):
        raise SchemaUnknown("the database has no schema yet: run `relay migrate`")
    applied = await _applied(connection, known)
    if len(applied) < len(known):
        raise SchemaUnknown(f"the schema is at {len(applied)}, this relay needs {len(known)}: run `relay migrate`")


async def _applied(
    connection: asyncpg.Connection | asyncpg.pool.PoolConnectionProxy, known: list[Migration]
) -> list[int]:
    rows = await connection.fetch("select version, name, sha256 from migration order by version")
    if len(rows) > len(known):
        raise SchemaUnknown(f"the schema is at {len(rows)}, newer than this relay, which knows {len(known)}")
    for row, migration in zip(rows, known, strict=False):
        if (row["version"], row["sha256"]) != (migration.version, migration.sha256):
            raise SchemaUnknown(f"migration {row['name']} was changed after it had been applied")
    return [row["version"] for row in rows]
