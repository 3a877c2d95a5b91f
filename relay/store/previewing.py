"""Previewing: what the next cuts would file, found by the cut's own statement in a transaction that ends in nothing.

All is read from one snapshot. No row is locked, no number drawn, nothing recorded, so that no cut, append or lease
waits for it.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from relay import csvline
from relay.batches import Cursor
from relay.store.cuts import Cuts, HeaderOf, Limits, read_headers, take
from relay.store.database import Connection, Database
from relay.store.deployment import Deployment
from relay.store.lanes import Target
from relay.store.telling import Telling

EVERYTHING = 2**63 - 1
"""A fence that lets in all that is visible. One that is safe would have to stop appends for an instant."""


@dataclass(frozen=True, slots=True)
class ToldPlace:
    """Where an operation stands: its cursor, how long its oldest has waited, and whether what waits `fills` a file."""

    position: int
    cursor: Cursor
    age_s: float
    fills: bool


@dataclass(frozen=True, slots=True)
class ToldFile:
    """A file that would be cut: the header is counted in `bytes`, not in `rows`.

    `superseded` are the events left out between its lines. Without rows there are only those. `whole` is False where
    looking was ended early: there is more.
    """

    layout: int | None
    header: tuple[str, ...]
    cut_from: int
    cut_to: int
    rows: int
    bytes: int
    superseded: int
    whole: bool


class Snapshot(Deployment, Cuts, Telling):
    """One moment of the database: everything that is read through it is as of then."""

    def __init__(self, connection: Connection) -> None:
        self._only = connection

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Borrow the one connection of the moment."""
        yield self._only

    async def place(self, target: Target, *, look_if_full: bool = False) -> ToldPlace | None:
        """Tell where an operation stands; None if it was never prepared. What fills a file is looked at if asked."""
        limits = (target.rows_max, target.bytes_max)
        row = await self.fetchrow("preview_cursor", target.account, target.operation, *limits, look_if_full)
        if row is None:
            return None
        found = dict(row)
        position, age_s, fills = (found.pop(name) for name in ("position", "age_s", "fills"))
        return ToldPlace(position, Cursor(**found), age_s, fills)

    async def waits_behind(self, target: Target, position: int) -> bool:
        """Say whether anything waits behind a position."""
        return bool(await self.fetchval("waits_behind", target.account, target.operation, position))

    async def file(
        self, target: Target, position: int, cursor: Cursor, header_of: HeaderOf, may_go_on: Callable[[], bool]
    ) -> ToldFile:
        """Tell the file that would be cut from a position on, with the limits that a cursor remembers."""
        headers = await read_headers(self._only, target, header_of)
        limits = Limits.of(target, EVERYTHING, headers, cursor.rows_max, cursor.bytes_max)
        taken = await take(self._only, target, position, None, limits, may_go_on)
        header = headers[taken.layout] if taken.layout is not None else ()
        return ToldFile(
            layout=taken.layout,
            header=header,
            cut_from=position,
            cut_to=taken.cut_to,
            rows=taken.rows,
            bytes=taken.bytes + len(csvline.record(header)) if taken.rows else 0,
            superseded=taken.left_out,
            whole=taken.whole,
        )


class Previewing(Database):
    """Opens snapshots."""

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Snapshot]:
        """Open a snapshot; whatever is done through it is undone."""
        async with self.connection() as connection:
            transaction = connection.transaction(isolation="repeatable_read")
            await transaction.start()
            try:
                # for the cut's statement, which could write, read only is not to be had
                yield Snapshot(connection)
            finally:
                await transaction.rollback()
