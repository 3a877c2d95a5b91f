"""`relay preview ACCOUNT`: what the next cuts would send, read from the database; nothing moves."""

import argparse
import asyncio
import os

from relay.cli.tables import print_json, print_table
from relay.metrics import Metrics
from relay.migrate import check_schema
from relay.settings import load, process
from relay.status import answers
from relay.status.context import Context
from relay.status.previewing import preview
from relay.status.why import spell
from relay.store import Store

COLUMNS = ("operation", "file", "rows", "bytes", "superseded", "goes up", "why")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("account", metavar="ACCOUNT", help="an account of the settings")
    parser.add_argument("--json", action="store_true", help="print JSON, as the status API answers")


def run(options: argparse.Namespace) -> int:
    """Look and print; the exit code is 0."""
    told = asyncio.run(_look(options.account))
    if options.json:
        print_json(told.model_dump(mode="json"))
    else:
        _print(told)
    return 0


async def _look(account: str) -> answers.Preview:
    own = process(os.environ)
    settings = load(own.config, os.environ)
    async with Store.open(own.database_url.value, statement_cache=own.database_statement_cache) as store:
        async with store.connection() as connection:
            await check_schema(connection)
        return await preview(Context(store, settings, own.keys, Metrics(), wake=lambda: None), account)


def _print(told: answers.Preview) -> None:
    print_table(COLUMNS, [row for one in told.operations for row in _rows(one)])
    calls = told.calls
    sums = f"{told.files} files to cut, {told.rows} rows, {told.bytes} bytes, {told.superseded} superseded"
    print(f"{told.account} at {told.vendor} ({told.login}): {sums}" + ("" if told.complete else "; there is more"))
    uploads = f"uploads needed: {calls.needed}"
    if calls.takes_s is not None:
        uploads += f", the last of them in {spell(calls.takes_s)} at the soonest"
    print(uploads)
    if calls.per_day is not None:
        kept = f"{calls.kept_for_opt_outs} of them kept for opt-outs"
        print(f"calls left of the vendor's day: {calls.left} of {calls.per_day}, {kept}")


def _rows(one: answers.PreviewedOperation) -> list[dict[str, object]]:
    """One row for each file, the first with the operation's reason; or for the superseded alone."""
    rows: list[dict[str, object]] = []
    if one.open_batch is not None:
        batch = one.open_batch
        name = f"batch {batch.id}, {'cut anew' if batch.cut_anew else batch.state}"
        size: dict[str, object] = {} if batch.cut_anew else {"rows": batch.rows, "bytes": batch.bytes}
        rows.append({"file": name, **size, "goes up": _in(one.open_batch_in_s)})
    for number, file in enumerate(one.files, 1):
        size = {"rows": file.rows, "bytes": file.bytes, "superseded": file.superseded}
        rows.append({"file": number, **size, "goes up": _in(file.in_s)})
    if not one.files:
        rows.append({"superseded": one.superseded} if one.complete else {"file": "more"})
    rows[0] |= {"operation": one.operation, "why": one.why}
    return rows


def _in(seconds: float | None) -> str | None:
    return None if seconds is None else f"in {spell(seconds)}" if seconds else "now"
