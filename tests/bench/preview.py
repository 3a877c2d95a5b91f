"""How long a preview takes where a million rows wait, and what it costs a cut that is made at the same time.

    .venv/bin/python -m tests.bench.preview [--rows 1000000]

Makes the log in an embedded Postgres (a minute, some 500 MB in TMPDIR). Each row is a customer's, every tenth replaced
by a later one. *limited* is what `POST /v1/accounts/{account}/preview` does; *whole* looks at everything.
"""

import argparse
import asyncio
import logging
import math
import tempfile
import time
from pathlib import Path
from uuid import uuid4

from relay.batches.headers import present_header
from relay.demo.postgres import Cluster, find_binaries
from relay.events import Operation
from relay.migrate import migrate
from relay.status.context import Context
from relay.status.previewing import FILES_MAX, LOOK_S, preview
from tests.integration.model import KEYS, World, settings, world

DATABASE, ACCOUNT, LOGIN = "bench", "account-0", "login-0"
CUTS = 3

FILL = """
insert into event (account, source, message_id, digest, operation, customer, layout, line, occurred_at, received_at)
select 'account-0', 'crm', i::text, '\\x00', 'upsert', decode(md5((i * 9 / 10)::text), 'hex'), $2,
       convert_to(format('"c%s@example.jp","髙橋 %s","タカハシ","1990-04-01","東京都"', i, i), 'SJIS') || '\\x0d0a',
       now() - interval '1 day' + i * interval '1 ms', now() - interval '1 day' + i * interval '1 ms'
from generate_series(1, $1::int) i
"""


async def cut_s(w: World) -> float:
    """Cut one file, and put everything back; returns the seconds that the cut took."""
    plan = w.plans[LOGIN]
    target = next(t for t in plan.targets if t.operation is Operation.UPSERT)
    lease = await w.store.lease_lane(LOGIN, uuid4(), 600, plan.fingerprint)
    if lease is None:
        raise RuntimeError("the lane is not to be had")
    present, fence = plan.columns[ACCOUNT, target.operation], await w.fence()
    began = time.perf_counter()
    await w.store.cut(lease, target, fence, lambda stored: present_header(stored, present))
    took_s = time.perf_counter() - began
    await w.store.release_lane(lease)
    await w.connection_execute("delete from batch; delete from superseded; update cursor set position = 0")
    return took_s


async def measure(w: World) -> None:
    """Print the figures."""
    context = Context(w.store, settings(1), KEYS, w.metrics, lambda: None)
    alone = [await cut_s(w) for _ in range(CUTS)]
    for name, files_max, look_s in (("limited", FILES_MAX, LOOK_S), ("whole", 10**6, math.inf)):
        began = time.perf_counter()
        told = await preview(context, ACCOUNT, files_max=files_max, look_s=look_s)
        took_s = time.perf_counter() - began
        print(  # noqa: T201
            f"{name}: {took_s:.2f} s, {told.files} files, {told.rows} rows, {told.bytes} bytes, "
            f"{told.superseded} superseded, complete: {told.complete}"
        )
    beside = []
    for _ in range(CUTS):
        async with asyncio.TaskGroup() as group:
            looking = group.create_task(preview(context, ACCOUNT))
            beside.append(await cut_s(w))
            await looking
    print(f"cutting 10 MB: {min(alone):.2f} s alone, {min(beside):.2f} s beside a preview")  # noqa: T201


async def run(rows: int) -> None:
    """Make the log and measure."""
    with tempfile.TemporaryDirectory(prefix="relay-bench-") as name:
        directory = Path(name)
        directory.chmod(0o711)  # Postgres may run as another user
        async with Cluster.start(directory / "postgres", binaries=find_binaries(), durable=False) as cluster:
            await cluster.create_database(DATABASE)
            await migrate(cluster.url(DATABASE))
            async with world(cluster.url(DATABASE), directory / "spool", settings(1)) as w:
                await w.connection.execute(FILL, rows, w.layouts[ACCOUNT, Operation.UPSERT], timeout=600)
                await w.connection.execute("analyze")
                await measure(w)


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args()
    logging.disable()
    asyncio.run(run(options.rows))


if __name__ == "__main__":
    main()
