"""The vendor's error records, asked for: every way in which there is no answer is a value."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Protocol

from relay.batches import Outcome
from relay.settings import Login
from relay.vendors import Call, Reply, bme_records
from relay.vendors.bme_records import EXPORTED_ROWS_MAX, ErrorRecord, ErrorTable, Failed


class Asks(Protocol):
    """Who makes calls without a file: `relay.client.Client`."""

    async def ask(self, login: Login, call_with: Callable[[str | None], Call]) -> Reply | Outcome:
        """Make a call, with a token where the vendor has any; an outcome says why there is no answer."""


@dataclass(frozen=True, slots=True)
class Listed:
    """All records of a login, and what the vendor's clock said then."""

    records: tuple[ErrorRecord, ...]
    now: datetime | None


async def search(asks: Asks, login: Login) -> Listed | Failed:
    """List all records."""
    reply = await asks.ask(login, bme_records.search_call)
    if not isinstance(reply, Reply):
        return Failed(reply.reason)
    found = await asyncio.to_thread(bme_records.read_search, reply)
    return found if isinstance(found, Failed) else Listed(found, reply.date)


async def export(
    asks: Asks, login: Login, kind: str, date: str, rows_max: int = EXPORTED_ROWS_MAX
) -> tuple[ErrorTable, bytes] | Failed:
    """Get a record's CSV file, read and as it came; one with more rows than that counts as no answer."""
    reply = await asks.ask(login, partial(bme_records.export_call, kind, date))
    if not isinstance(reply, Reply):
        return Failed(reply.reason)
    table = await asyncio.to_thread(bme_records.read_export, reply, rows_max)
    return table if isinstance(table, Failed) else (table, reply.body)


async def delete(asks: Asks, login: Login, record: ErrorRecord) -> Failed | None:
    """Delete a record, but only if the vendor, asked again, has a single one of that type, time and count.

    The type and time are all that a deletion can name: any other of the same may be a person's. One that is gone
    already needs no deletion. None means that it is no longer there.
    """
    listed = await search(asks, login)
    if isinstance(listed, Failed):
        return listed
    there = [one for one in listed.records if (one.kind, one.date) == (record.kind, record.date)]
    if not there:
        return None
    if there != [record]:
        return Failed(f"{len(there)} records of that type and time are there, or one with another count")
    reply = await asks.ask(login, partial(bme_records.delete_call, record.kind, record.date))
    if not isinstance(reply, Reply):
        return Failed(reply.reason)
    deleted = bme_records.read_deleted(reply)
    if isinstance(deleted, Failed):
        return deleted
    return None if deleted == (record.date,) else Failed("the vendor says that it deleted another record")
