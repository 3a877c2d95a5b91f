"""Migrations and what is made sure of at start: the schema, the secret, lanes, cursors, layouts."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from relay.demo.databases import Databases
from relay.errors import RelayError, SchemaUnknown, SettingsError, Unavailable
from relay.events import Operation
from relay.migrate import LOCK_TIMEOUT_S, check_schema, migrate, migrations
from relay.store import Store
from tests.conftest import Servers
from tests.integration.store.made import ACCOUNT, LOGIN, Bench, raw_connection

U, D = Operation.UPSERT, Operation.DELETE


@pytest.fixture
async def empty(servers: Servers, server: Databases) -> AsyncIterator[str]:
    """Give the URL of a database with nothing in it."""
    name = servers.name()
    await server.create_database(name)
    yield server.url(name)
    await server.drop_database(name)


def written(directory: Path, **files: str) -> Path:
    """Write migrations into a directory."""
    directory.mkdir(exist_ok=True)
    for name, text in files.items():
        (directory / f"{name}.sql").write_text(text)
    return directory


async def test_many_migrate_at_the_same_time(empty: str) -> None:
    """Replicas that start together queue: one applies everything, the others find it done."""
    applied = await asyncio.gather(*(migrate(empty) for _ in range(6)))
    everything = [migration.version for migration in migrations()]
    assert sorted(applied) == [[]] * 5 + [everything]
    async with raw_connection(empty) as connection:
        await check_schema(connection)


async def test_only_what_is_new_is_applied(empty: str, tmp_path: Path) -> None:
    """In order, and never twice."""
    directory = written(tmp_path, **{"0001_a": "create table a (x int)"})
    assert await migrate(empty, directory) == [1]
    written(
        tmp_path, **{"0002_b": "insert into a values (2)", "0003_c": "update a set x = x + 1; insert into a values (7)"}
    )
    assert await migrate(empty, directory) == [2, 3]
    assert await migrate(empty, directory) == []
    async with raw_connection(empty) as connection:
        assert [row["x"] for row in await connection.fetch("select x from a order by x")] == [3, 7]


async def test_a_migration_that_fails_leaves_nothing(empty: str, tmp_path: Path) -> None:
    """All or nothing, the ones before it included."""
    directory = written(tmp_path, **{"0001_a": "create table a (x int)", "0002_b": "create table b (x no_such_type)"})
    with pytest.raises(asyncpg.UndefinedObjectError):
        await migrate(empty, directory)
    async with raw_connection(empty) as connection:
        with pytest.raises(SchemaUnknown, match="no schema yet: run `relay migrate`"):
            await check_schema(connection)
    assert await migrate(empty, written(tmp_path, **{"0002_b": "create table b (x int)"})) == [1, 2]


async def test_a_changed_migration_is_refused(empty: str, tmp_path: Path) -> None:
    """The schema would no longer be known: it says which file, and applies nothing."""
    directory = written(tmp_path, **{"0001_a": "create table a (x int)"})
    await migrate(empty, directory)
    written(tmp_path, **{"0001_a": "create table a (x bigint)", "0002_b": "create table b (x int)"})
    with pytest.raises(SchemaUnknown, match="migration 0001_a was changed"):
        await migrate(empty, directory)
    async with raw_connection(empty) as connection:
        assert await connection.fetchval("select to_regclass('b')") is None


async def test_a_newer_schema_is_refused(database: str, tmp_path: Path) -> None:
    """An older relay does not start on it, nor does it migrate it."""
    newest = len(migrations())
    for migration in migrations():
        written(tmp_path, **{migration.name: migration.text})
    await migrate(database, written(tmp_path, **{f"{newest + 1:04}_next": "select 1"}))
    with pytest.raises(SchemaUnknown, match=f"at {newest + 1}, newer than this relay, which knows {newest}"):
        await migrate(database)
    async with raw_connection(database) as connection:
        with pytest.raises(SchemaUnknown, match="newer than this relay"):
            await check_schema(connection)


async def test_an_older_schema_is_told_with_what_to_do(database: str) -> None:
    """`relay serve` on a database that was not migrated to the end says what to run; on a changed one it refuses."""
    async with raw_connection(database) as connection:
        await check_schema(connection)
        await connection.execute(
            "update migration set sha256 = 'x' where version = (select max(version) from migration)"
        )
        with pytest.raises(SchemaUnknown, match="was changed after it had been applied"):
            await check_schema(connection)
        await connection.execute("delete from migration where version = (select max(version) from migration)")
        with pytest.raises(SchemaUnknown, match="run `relay migrate`"):
            await check_schema(connection)


@pytest.mark.parametrize("names", [("0002_b",), ("0001_a", "0003_c"), ("0001_a", "0001_b"), ("a",)])
def test_migrations_are_numbered_without_a_gap(tmp_path: Path, names: tuple[str, ...]) -> None:
    """A gap or a double is found before anything is applied."""
    with pytest.raises(SchemaUnknown, match="not numbered"):
        migrations(written(tmp_path, **dict.fromkeys(names, "select 1")))


async def test_no_postgres_is_unavailable(server: Databases, empty: str) -> None:
    """Whether it refuses, does not know the database, or ends the connection while a migration waits."""
    with pytest.raises(Unavailable):
        await migrate("postgresql://relay@127.0.0.1:1/relay")
    with pytest.raises(Unavailable):
        await migrate(server.url("no_such_database"))
    async with raw_connection(empty) as other, other.transaction():
        await other.execute("select pg_advisory_xact_lock(7235419866101)")
        waiting = asyncio.create_task(migrate(empty))
        while not (pids := await other.fetch("select pid from pg_locks where not granted")):
            pass
        await other.execute("select pg_terminate_backend($1)", pids[0]["pid"])
        with pytest.raises(Unavailable):
            await waiting


# -- beside a relay that runs -----------------------------------------------------------------------------------------

WAITING = "select exists (select from pg_locks where not granted and relation = $1::regclass)"
THEN_CURSOR = """
do $$ begin
    while not exists (select from pg_locks where not granted and relation = 'batch'::regclass) loop
        perform pg_sleep(0.01);
    end loop;
    lock table cursor in row exclusive mode;
end $$
"""


@pytest.fixture
async def older(empty: str, tmp_path: Path) -> str:
    """Give the URL of a database as the version before left it: the newest migration is not applied."""
    before = {migration.name: migration.text for migration in migrations()[:3]}
    assert await migrate(empty, written(tmp_path / "older", **before)) == [1, 2, 3]
    return empty


async def test_a_deadlock_with_a_relay_that_settles_is_tried_again(
    older: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Settling holds its batch and then wants the cursor; the migration, the other way round, gives way."""
    async with raw_connection(older) as settling:
        transaction = settling.transaction()
        await transaction.start()
        await settling.execute("lock table batch in row exclusive mode")
        migrating = asyncio.create_task(migrate(older))
        await settling.execute(THEN_CURSOR)
        await transaction.commit()
        assert await migrating == [migration.version for migration in migrations()[3:]]
        await check_schema(settling)
    told = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    assert [line["reason"] for line in told if line["event"] == "migration_gave_way"] == ["DeadlockDetectedError"]


async def test_who_comes_behind_a_waiting_migration_does_not_wait_for_long(older: str) -> None:
    """A long transaction uses a table: what comes later gets at it soon, and the migration when that has ended."""
    async with raw_connection(older) as long, raw_connection(older) as later, asyncio.TaskGroup() as group:
        transaction = long.transaction()
        await transaction.start()
        await long.execute("lock table cursor in access share mode")
        migrating = group.create_task(migrate(older))
        while not await later.fetchval(WAITING, "cursor"):
            pass
        async with asyncio.timeout(LOCK_TIMEOUT_S + 2):
            await later.execute("update cursor set attempts = attempts")
        assert not migrating.done()
        await transaction.commit()
        assert await migrating == [migration.version for migration in migrations()[3:]]


async def test_a_table_that_stays_in_use_is_told(older: str) -> None:
    """After the last try: that nothing was applied and what to do, not that Postgres does not answer."""
    async with raw_connection(older) as long, long.transaction():
        await long.execute("lock table cursor in access share mode")
        with pytest.raises(RelayError, match=r"nothing was applied.* run `relay migrate` again") as told:
            await migrate(older, tries_max=1)
        assert not isinstance(told.value, Unavailable)
    assert await migrate(older) == [migration.version for migration in migrations()[3:]]


# -- what is made sure of at start -----------------------------------------------------------------------------------


async def test_the_secret_is_claimed_by_the_first(bench: Bench) -> None:
    """Another secret would not recognise the customers: it is refused, whoever comes first of many."""
    claims = await asyncio.gather(
        *(bench.store.claim_deployment(f"key {n % 2}") for n in range(8)), return_exceptions=True
    )
    assert sum(isinstance(claim, SettingsError) for claim in claims) == 4
    assert claims.count(None) == 4
    (known,) = await bench.column("select key_fingerprint from deployment")
    await bench.store.claim_deployment(known)
    with pytest.raises(SettingsError, match="RELAY_SECRET_KEY: another secret"):
        await bench.store.claim_deployment("key 3")


async def test_the_database_must_be_able_to_keep_promises(bench: Bench) -> None:
    """Commits that may be lost and ids that are drawn ahead are refused, both named at once."""
    await bench.store.check_database()
    await bench.execute("alter sequence event_id_seq cache 20")
    name = (await bench.column("select current_database()"))[0]
    await bench.execute(f"alter database {name} set synchronous_commit = off")
    async with Store.open(bench.url) as store:
        with pytest.raises(SettingsError) as refused:
            await store.check_database()
    assert [problem.field for problem in refused.value.problems] == ["RELAY_DATABASE_URL"] * 2
    assert "synchronous_commit is off" in str(refused.value)
    assert "CACHE above 1" in str(refused.value)


async def test_lanes_and_cursors_are_made_once(bench: Bench) -> None:
    """Starting again, or several at once, changes nothing of what is there."""
    await bench.execute("update lane set calls = 5")
    await bench.execute("update cursor set position = 9")
    before = await bench.dump()
    await asyncio.gather(*(bench.store.ensure_lanes([LOGIN]) for _ in range(3)))
    await asyncio.gather(*(bench.store.ensure_cursors(ACCOUNT, list(Operation)) for _ in range(3)))
    assert await bench.dump() == before
    await bench.store.ensure_cursors("shop", [U, D])
    assert await bench.column("select position from cursor where account = 'shop'") == [0, 0]


async def test_a_layout_is_what_makes_the_rendering(bench: Bench) -> None:
    """Another header is the same layout; another path, type, order, operation or account is another."""
    name, mail = {"header": "氏名", "path": "name"}, {"header": "E-Mail", "path": "email"}
    ensure = bench.store.ensure_layout
    first = await ensure(ACCOUNT, U, [mail, name])
    assert (
        await asyncio.gather(*(ensure(ACCOUNT, U, [mail, name | {"header": "お名前"}]) for _ in range(4)))
        == [first] * 4
    )
    others = [
        await ensure(ACCOUNT, U, [name, mail]),
        await ensure(ACCOUNT, U, [mail, name | {"path": "full_name"}]),
        await ensure(ACCOUNT, U, [mail, name | {"type": "number"}]),
        await ensure(ACCOUNT, U, [mail]),
        await ensure(ACCOUNT, D, [mail, name]),
        await ensure("shop", U, [mail, name]),
    ]
    assert len({first, *others}) == 7
    assert await bench.store.find_layout(ACCOUNT, first) == [mail, name]
    with pytest.raises(LookupError):
        await bench.store.find_layout("shop", first)
