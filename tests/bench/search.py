"""How long a search for a customer takes in a log of five million events.

    .venv/bin/python -m tests.bench.search [--events 5000000]

Makes the log in an embedded Postgres (some minutes, about 5 GB in TMPDIR), serves relay on it and asks
`POST /v1/customers/search` over HTTP. *warm*: each question is asked once before it is timed. *cold*: Postgres has just
been started, and none of its files is in the system's cache any more; each question is asked once, the first included.
"""

import argparse
import asyncio
import hashlib
import logging
import math
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import asyncpg

from relay import app
from relay.demo.postgres import Cluster, find_binaries
from relay.events import Keys
from relay.migrate import migrate
from relay.settings import load, process
from tests.bench.search_log import FORMER, LOGINS, Customers, address, fill

SECRET_KEY = "the benchmark's own secret"
TOKEN = "bench-token-0123456789"
DATABASE = "bench"
COLD_STARTS = 5
STARTED_S = 3.0
"""Until relay has looked over its cursors and taken its first sample, which read from the disk, too."""

SETTINGS = f"""
[sources.crm]
bearer_tokens = ["{TOKEN}"]
accounts = ["news", "letter", "shop", "event"]
[api.tokens.bench]
sha256 = "{hashlib.sha256(TOKEN.encode()).hexdigest()}"
scopes = ["pii"]
"""
LOGIN = """
[logins.{login}]
vendor = "blastmail"
base_url = "http://127.0.0.1:1"
username = "{login}"
password = "bench"
api_key = "bench"
"""
ACCOUNT = """
[accounts.{account}]
login = "{login}"
flush_after_s = 86400
flush_opt_outs_after_s = 86400
operations = {{ "customer.banned" = "stop" }}
columns = {{ "E-Mail" = "email" }}
"""

Kinds = Mapping[str, Sequence[str]]
"""Addresses to ask for, by the kind of customer."""


def kinds(events: int) -> Kinds:
    """Choose customers of each kind."""
    customers = Customers.of(events)
    first = 1 + customers.busy
    step = customers.ordinary // 200
    return {
        "1 to 5 events or so": [address(first + n * step) for n in range(200)],
        "1,000 events": [address(1 + n) for n in range(min(20, customers.busy))],
        "20,000 events": [address(0)],
        "unknown": [f"nobody{n}@example.jp" for n in range(200)],
    }


@asynccontextmanager
async def relay(cluster: Cluster, directory: Path) -> AsyncIterator[str]:
    """Serve relay on the log for the length of the block; gives its URL."""
    config = directory / "relay.toml"
    served = {account: login for account, login in LOGINS.items() if login != FORMER}
    parts = [SETTINGS, *(LOGIN.format(login=login) for login in sorted(set(served.values())))]
    parts += [ACCOUNT.format(account=account, login=login) for account, login in served.items()]
    config.write_text("".join(parts), encoding="utf-8")
    env = {
        "RELAY_DATABASE_URL": cluster.url(DATABASE),
        "RELAY_SECRET_KEY": SECRET_KEY,
        "RELAY_SPOOL_DIR": str(directory / "spool"),
        "RELAY_HOST": "127.0.0.1",
        "RELAY_PORT": "0",
        "RELAY_OPS_HOST": "127.0.0.1",
        "RELAY_OPS_PORT": "0",
    }
    async with app.running(process(env), load(config, env)) as addresses:
        yield addresses.url


async def ask(session: aiohttp.ClientSession, url: str, email: str) -> tuple[float, int]:
    """Search once; returns the milliseconds until the whole answer was there, and the events in it."""
    began = time.perf_counter()
    async with session.post(f"{url}/v1/customers/search", json={"email": email}) as response:
        body = await response.read()
        took_ms = 1000 * (time.perf_counter() - began)
        if response.status != 200:
            raise RuntimeError(body.decode())
    return took_ms, body.count(b'"event_id"')


async def ask_all(url: str, emails: Iterable[str]) -> list[tuple[float, int]]:
    """Search for one customer after the other."""
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as session:
        return [await ask(session, url, email) for email in emails]


async def measure(cluster: Cluster, directory: Path, asked: Kinds) -> None:
    """Ask for everybody, cold and warm, and print what it took."""
    for kind, emails in asked.items():
        found = []
        for part in range(COLD_STARTS):
            async with cluster.interrupted():
                await asyncio.to_thread(forget, directory / "postgres")
            async with relay(cluster, directory) as url:
                await asyncio.sleep(STARTED_S)
                found += await ask_all(url, emails[part::COLD_STARTS] or emails)
        tell(f"{kind}, cold", found)
    async with relay(cluster, directory) as url:
        for kind, emails in asked.items():
            await ask_all(url, emails)
            tell(f"{kind}, warm", await ask_all(url, list(emails) * (1 + 20 // len(emails))))


def forget(directory: Path) -> None:
    """Drop all files of a folder from the system's cache."""
    for path in directory.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())  # what is not on the disk yet cannot be dropped
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def tell(what: str, asked: Sequence[tuple[float, int]]) -> None:
    """Print one row."""
    times = sorted(took_ms for took_ms, _ in asked)
    p95 = times[math.ceil(0.95 * len(times)) - 1]
    events = statistics.mean(events for _, events in asked)
    print(  # noqa: T201
        f"{what:28} {len(times):4} asked, {events:6.1f} events told each: "
        f"median {statistics.median(times):7.1f} ms, p95 {p95:7.1f} ms, max {times[-1]:7.1f} ms"
    )


async def run(events: int) -> None:
    """Make the log and measure."""
    with tempfile.TemporaryDirectory(prefix="relay-bench-") as name:
        directory = Path(name)
        directory.chmod(0o711)  # Postgres may run as another user
        async with Cluster.start(directory / "postgres", binaries=find_binaries(), durable=False) as cluster:
            await cluster.create_database(DATABASE)
            await migrate(cluster.url(DATABASE))
            connection = await asyncpg.connect(cluster.url(DATABASE))
            try:
                await fill(connection, Keys(SECRET_KEY.encode()), events)
                await connection.execute("analyze")
                await connection.execute("checkpoint")  # or the start after a crash would read it all
                await tell_size(connection)
            finally:
                await connection.close()
            await measure(cluster, directory, kinds(events))


async def tell_size(connection: asyncpg.Connection) -> None:
    """Print what there is and how large it is."""
    for table in ("event", "batch", "superseded", "rejection"):
        rows = await connection.fetchval(f"select count(*) from {table}")  # noqa: S608 (names of our own)
        size = await connection.fetchval("select pg_size_pretty(pg_total_relation_size($1::text::regclass))", table)
        print(f"{table:12} {rows:9} rows, {size} with indexes")  # noqa: T201
    size = await connection.fetchval("select pg_size_pretty(pg_database_size(current_database()))")
    print(f"database     {size}")  # noqa: T201


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=5_000_000)
    options = parser.parse_args()
    logging.disable()  # relay complains of the account that its settings do not know
    asyncio.run(run(options.events))


if __name__ == "__main__":
    main()
