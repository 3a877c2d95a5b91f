"""Migrations: plain SQL files, numbered, applied in order under an advisory lock and in one transaction.

A file that has been applied is remembered with its hash; a changed one is refused, for the schema would no longer be
known.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from relay.errors import SchemaUnknown
from relay.store.database import CONNECT_TIMEOUT_S, SQLSTATES_NOT_NOW, available, sql_directory

_LOCK = 7235419866101

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


async def migrate(url: str, directory: Path | None = None) -> list[int]:
    """Bring a database to the schema this relay knows; return the versions applied now.

    Several may run at the same time: they queue. Raises Unavailable, or SchemaUnknown for a newer or changed schema.
    """
    known = migrations(directory)
    with available(SQLSTATES_NOT_NOW):  # here nothing is taken away: what is missing is a mistake in a migration
        connection = await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_S, statement_cache_size=0)
        try:
            return await _migrate(connection, known)
        finally:
            await connection.close()


async def _migrate(connection: asyncpg.Connection, known: list[Migration]) -> list[int]:
    async with connection.transaction():
        await connection.execute("select pg_advisory_xact_lock($1)", _LOCK)
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
