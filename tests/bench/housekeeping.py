"""How long a recount of a log takes, and deleting what is old of it, with appends beside.

    .venv/bin/python -m tests.bench.housekeeping [--events 2000000]

Each customer has 20 records, half of them older than is kept. All were sent, in files of 20,000. Both works run without
their rests here; the service spends 2 % (recounts) and 5 % (retention) of its time on them.
"""

import argparse
import asyncio
import logging
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import asyncpg

from relay.demo.postgres import Cluster, find_binaries
from relay.events import Event, Operation
from relay.flush import Pruner, Recounter
from relay.metrics import Metrics
from relay.migrate import migrate
from relay.store import Store

DATABASE = "bench"
RECORDS = 20
KEEP_DAYS = 30
APPENDED_AT_ONCE = 20
APPENDS_EVERY_S = 0.05

FILL = """
insert into event (account, source, message_id, digest, operation, customer, layout, line, occurred_at, received_at)
select 'news', 'crm', 'evt_' || n, substring(sha256(int8send(n)) for 16), 'upsert',
       substring(sha256(int8send(n % ($1::bigint / $2))) for 16), 1,
       convert_to(format('"c%s@example.jp","髙橋 %s","東京都","有料"', n % ($1::bigint / $2), n), 'SJIS') || '\\x0d0a',
       now() - (1 - n / $1::float8) * make_interval(days => 2 * $3),
       now() - (1 - n / $1::float8) * make_interval(days => 2 * $3)
from generate_series(1, $1::bigint) n
"""
FILE = """
insert into batch (account, id, login, operation, layout, header, cut_from, cut_to, rows, bytes, state,
                   oldest_received_at, created_at, ended_at)
select 'news', nextval('batch_id_seq'), 'blast', 'upsert', 1, array['E-Mail', '氏名'], part * 20000, max(id), count(*),
       sum(octet_length(line)), 'delivered', min(received_at), max(received_at), max(received_at)
from (select *, (id - 1) / 20000 as part from event) e
group by part
order by part
"""
UPLOAD = """
insert into upload (account, batch_id, number, started_at, ended_at, outcome, bytes_sent)
select account, id, 1, ended_at, ended_at, 'delivered', bytes from batch
"""


async def fill(connection: asyncpg.Connection, events: int) -> None:
    """Make the log, of which all was delivered."""
    await connection.execute(FILL, events, RECORDS, KEEP_DAYS)
    await connection.execute(FILE)
    await connection.execute(UPLOAD)
    await connection.execute(
        "insert into cursor (account, operation, position) select 'news', 'upsert', max(id) from event"
    )
    await connection.execute("vacuum analyze")


class Appending:
    """Appends some events every now and then, and remembers how long each append took."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._number = 0
        self.took_s: list[float] = []

    async def run(self) -> None:
        """Append until cancelled."""
        while True:
            began = time.perf_counter()
            await self._store.append([self._event() for _ in range(APPENDED_AT_ONCE)])
            self.took_s.append(time.perf_counter() - began)
            await asyncio.sleep(APPENDS_EVERY_S)

    def _event(self) -> Event:
        self._number += 1
        customer, now = self._number.to_bytes(16, "big"), datetime.now(UTC)
        line = f'"new{self._number}@example.jp"\r\n'.encode()
        return Event("shop", "crm", f"new_{self._number}", customer, Operation.UPSERT, customer, 1, line, now, now)

    @asynccontextmanager
    async def beside(self, what: str) -> AsyncIterator[None]:
        """Append beside the body, and print how long that took."""
        self.took_s = []
        task = asyncio.create_task(self.run())
        began = time.perf_counter()
        try:
            yield
        finally:
            task.cancel()
            median_ms, worst_ms = 1000 * statistics.median(self.took_s), 1000 * max(self.took_s)
            print(  # noqa: T201
                f"{what}: {time.perf_counter() - began:.1f} s; appends of {APPENDED_AT_ONCE} beside it: "
                f"median {median_ms:.1f} ms, worst {worst_ms:.0f} ms"
            )


async def run(events: int) -> None:
    """Make the log and measure."""
    with tempfile.TemporaryDirectory(prefix="relay-bench-") as name:
        directory = Path(name)
        directory.chmod(0o711)  # Postgres may run as another user
        async with Cluster.start(directory / "postgres", binaries=find_binaries(), durable=True) as cluster:
            await cluster.create_database(DATABASE)
            url = cluster.url(DATABASE)
            await migrate(url)
            connection = await asyncpg.connect(url)
            try:
                await fill(connection, events)
                async with Store.open(url) as store:
                    await measure(store, connection)
            finally:
                await connection.close()


async def measure(store: Store, connection: asyncpg.Connection) -> None:
    """Recount, delete, recount."""
    appending = Appending(store)
    async with appending.beside("nothing"):
        await asyncio.sleep(5)
    for _ in range(2):
        async with appending.beside("recount"):
            walk = await Recounter(store, Metrics(), share_max=1).walk()
        print(f"    {walk.events} events, {len(walk.findings)} findings")  # noqa: T201
    for _ in range(2):
        async with appending.beside("retention"):
            done = await Pruner(store, Metrics(), KEEP_DAYS * 86_400.0, share_max=1).prune()
        left = await connection.fetchval("select count(*) from event")
        print(f"    {done.events.total()} events deleted, {done.batches.total()} batches, {left} events left")  # noqa: T201
    walk = await Recounter(store, Metrics(), share_max=1).walk()
    print(f"recounted afterwards: {walk.events} events, {len(walk.findings)} findings")  # noqa: T201


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=2_000_000)
    options = parser.parse_args()
    logging.disable()
    asyncio.run(run(options.events))


if __name__ == "__main__":
    main()
