"""How long the history takes with a million events in the hours that are asked for.

    .venv/bin/python -m tests.bench.history [--events 1000000]

Makes the log in an embedded Postgres (half a minute, some 600 MB in TMPDIR), with 20 accounts. *Cold* is the first
question to a process, *warm* is what a page costs that asks again and again.
"""

import argparse
import asyncio
import logging
import statistics
import time

import asyncpg

from relay.demo.postgres import Cluster, find_binaries
from relay.migrate import migrate
from relay.status.remembering import BIN_S, Remembered
from relay.store import Store

DATABASE = "bench"
HOURS = 6
WARM = 20

FILL = """
insert into event (account, source, message_id, digest, operation, customer, layout, line, occurred_at, received_at)
select 'account-' || i % 20, 'crm', i::text, decode(md5(i::text), 'hex'), 'upsert', decode(md5(i::text), 'hex'), 1,
       convert_to(format('"c%s@example.jp","髙橋 %s","タカハシ","1990-04-01","東京都"', i, i), 'SJIS') || '\\x0d0a',
       now(), now() - make_interval(hours => $2) + i * make_interval(hours => $2) / $1::int
from generate_series(1, $1::int) i
"""


async def ask_s(remembered: Remembered, store: Store, account: str | None) -> float:
    """Ask once; returns the seconds that it took."""
    began = time.perf_counter()
    await remembered.tell(store, account, span_s=HOURS * 3600, step_s=BIN_S)
    return time.perf_counter() - began


async def measure(url: str) -> None:
    """Print the figures."""
    async with Store.open(url) as store:
        for account in (None, "account-7"):
            remembered = Remembered()
            cold_s = await ask_s(remembered, store, account)
            warm_s = [await ask_s(remembered, store, account) for _ in range(WARM)]
            median_ms, most_ms = statistics.median(warm_s) * 1000, max(warm_s) * 1000
            print(f"{account or 'all'}: cold {cold_s * 1000:.0f} ms, warm {median_ms:.1f} ms, at most {most_ms:.1f}")  # noqa: T201


async def main(events: int) -> None:
    """Make the log and measure."""
    async with Cluster.start(binaries=find_binaries(), durable=False) as cluster:
        await cluster.create_database(DATABASE)
        url = cluster.url(DATABASE)
        await migrate(url)
        connection = await asyncpg.connect(url)
        await connection.execute(FILL, events, HOURS)
        await connection.execute("vacuum analyze event")  # as autovacuum does while the log grows
        await connection.close()
        await measure(url)


if __name__ == "__main__":
    logging.disable()
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=1_000_000)
    asyncio.run(main(parser.parse_args().events))
