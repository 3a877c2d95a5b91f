"""One login with one account on a real store, and short words for what a lane's work does with it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import uuid4

import asyncpg

from relay.batches import BatchState, Cursor, Manifest, Settlement
from relay.events import Event, Operation
from relay.store import Cut, Lease, Settled, Store, Target, UploadRecord
from tests.integration.model import World

LOGIN = "login-0"
ACCOUNT = "account-0"
FINGERPRINT = "settings of the day"
HEADER = ("メールアドレス",)
HEADER_BYTES = len('"メールアドレス"\r\n'.encode("cp932"))
UNLIMITED = 1_000_000_000
TABLES = ("event", "cursor", "batch", "superseded", "upload", "rejection", "lane", "layout")

_INSERT = """
insert into event (account, source, message_id, digest, operation, customer, layout, line, occurred_at, received_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) returning id
"""


class Bench:
    """A store with one login, one account, and a connection of its own to look at the tables."""

    def __init__(self, w: World, url: str) -> None:
        self.w = w
        self.url = url
        self.store: Store = w.store
        self.connection: asyncpg.Connection = w.connection

    # -- events ------------------------------------------------------------------------------------------------------

    def event(self, operation: Operation, customer: str, occurred: float = 0, line: bytes | None = None) -> Event:
        """Make an event of a customer, by the part of the address before the @."""
        event = self.w.event(ACCOUNT, operation, f"{customer}@example.jp", occurred)
        return event if line is None else replace(event, line=line)

    async def append(self, *events: Event) -> list[int]:
        """Append events and return their ids."""
        appended = await self.store.append(events)
        assert {one.status for one in appended} == {"new"}
        return [one.event_id for one in appended]

    async def say(self, operation: Operation, customer: str, occurred: float = 0) -> int:
        """Append one event and return its id."""
        return (await self.append(self.event(operation, customer, occurred)))[0]

    # -- a lane's work -----------------------------------------------------------------------------------------------

    async def lease(self, lease_s: float = 60, fingerprint: str = FINGERPRINT) -> Lease:
        """Lease the lane as a replica of its own."""
        lease = await self.store.lease_lane(LOGIN, uuid4(), lease_s, fingerprint)
        assert lease is not None
        return lease

    def target(
        self,
        operation: Operation,
        *,
        flush_after_s: float = 0,
        rows_max: int = UNLIMITED,
        bytes_max: int = UNLIMITED,
    ) -> Target:
        """Make a target of the one account."""
        return Target(LOGIN, ACCOUNT, operation, flush_after_s, rows_max, bytes_max)

    async def cut(
        self,
        lease: Lease,
        operation: Operation,
        *,
        rows_max: int = UNLIMITED,
        bytes_max: int = UNLIMITED,
        fence: int | None = None,
    ) -> Cut:
        """Cut an operation, up to the fence if none is given."""
        if fence is None:
            fence = await self.w.fence()
        target = self.target(operation, rows_max=rows_max, bytes_max=bytes_max)
        return await self.store.cut(lease, target, fence, lambda _: HEADER)

    async def filed(self, lease: Lease, operation: Operation, *, rows_max: int = UNLIMITED) -> Manifest:
        """Cut a batch that is not empty and return its manifest."""
        cut = await self.cut(lease, operation, rows_max=rows_max)
        assert cut.batch_id is not None
        return await self.store.manifest(ACCOUNT, cut.batch_id)

    async def uploading(self, lease: Lease, operation: Operation, *, rows_max: int = UNLIMITED) -> Manifest:
        """Cut a batch and begin its upload."""
        batch = await self.filed(lease, operation, rows_max=rows_max)
        assert await self.store.begin_upload(lease, batch, None) == 1
        return await self.store.manifest(ACCOUNT, batch.id)

    async def settle(
        self, lease: Lease, batch: Manifest, settlement: Settlement, *, outcome: str = "delivered", number: int = 1
    ) -> Settled:
        """Settle an upload."""
        record = UploadRecord(outcome, settlement.reason, 200, batch.bytes, "HTTP 200")
        return await self.store.settle(lease, batch, number, record, settlement, FINGERPRINT)

    async def lines(self, batch: Manifest) -> bytes:
        """Read a batch's lines, joined."""
        return b"".join([chunk async for chunk in self.store.lines(batch)])

    # -- looking -----------------------------------------------------------------------------------------------------

    async def column(self, query: str, *args: object) -> list[Any]:
        """Return the first column of a query's rows."""
        return [row[0] for row in await self.connection.fetch(query, *args)]

    async def row(self, query: str, *args: object) -> dict[str, Any]:
        """Return a query's one row."""
        rows = await self.connection.fetch(query, *args)
        assert len(rows) == 1
        return dict(rows[0])

    async def cursor(self, operation: Operation) -> dict[str, Any]:
        """Return an operation's cursor."""
        return await self.row("select * from cursor where account = $1 and operation = $2", ACCOUNT, operation)

    async def lane(self) -> dict[str, Any]:
        """Return the lane."""
        return await self.row("select * from lane where login = $1", LOGIN)

    async def dump(self) -> dict[str, Sequence[str]]:
        """Return everything in the tables, to compare."""
        return {table: sorted(await self.column(f"select t::text from {table} t")) for table in TABLES}  # noqa: S608

    async def execute(self, query: str, *args: object) -> None:
        """Change what only time, an operator or a fault would change."""
        await self.connection.execute(query, *args)


@asynccontextmanager
async def raw_connection(url: str) -> AsyncIterator[asyncpg.Connection]:
    """Open a connection that is not the store's."""
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def raw_append(connection: asyncpg.Connection, event: Event) -> int:
    """Insert an event in a transaction of the caller's and return the id that was drawn."""
    e = event
    values = (e.account, e.source, e.message_id, e.digest, e.operation, e.customer, e.layout, e.line)
    drawn: int = await connection.fetchval(_INSERT, *values, e.occurred_at, e.received_at)
    return drawn


def settled(state: str, **changes: object) -> Settlement:
    """Make a settlement with an empty memory."""
    return replace(Settlement(BatchState(state), "a reason", Cursor()), **changes)  # type: ignore[arg-type]
