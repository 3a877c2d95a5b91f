"""Recounting: whether every event of the log is in exactly one state, and every batch holds what it was filed with.

Theory of operation. A part of the log is looked at by one statement, and so as it stood at one moment, whatever is
appended, cut, un-cut, settled, taken back or pruned meanwhile: all of these change the homes of an event in one
transaction. An id below a cursor that becomes visible after the cut is just what has to be found. A batch may reach
over several parts; what it holds never changes as long as it is not replaced, so that its parts may be added up.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import asyncpg

from relay.events import Operation
from relay.store.database import Database, one


@dataclass(frozen=True, slots=True)
class Astray:
    """Events of a part that are in no state, or in more than one: how many, the first and the last."""

    events: int
    first_id: int
    last_id: int


@dataclass(frozen=True, slots=True)
class RecountedBatch:
    """A batch that reaches into a part: it was filed with `rows` lines, and holds `held` events of the part.

    `pruned` says that retention may have deleted events of it; `astray` are its refused lines that are no lines of it.
    """

    id: int
    cut_from: int
    cut_to: int
    rows: int
    held: int
    pruned: bool
    astray: int


@dataclass(frozen=True, slots=True)
class Recounted:
    """One part of an operation's events, up to the id `until`; None where nothing is behind it."""

    events: int
    until: int | None
    pending: int
    superseded: int
    in_batches: int
    lost: Astray | None
    doubled: Astray | None
    batches: tuple[RecountedBatch, ...]


class Recounting(Database):
    """Recounts the log."""

    async def list_operations(self) -> list[tuple[str, Operation]]:
        """List every account and operation that has events or a cursor, also those that the settings do not name."""
        return [(row["account"], Operation(row["operation"])) for row in await self.fetch("list_operations")]

    async def recount(self, account: str, operation: Operation, behind: int, events_max: int) -> Recounted:
        """Recount up to `events_max` events of an operation behind the id `behind`, as they stand at one moment."""
        async with self.connection() as connection:
            row = await one(connection, "recount", account, operation, behind, events_max)
        return Recounted(
            events=row["events"],
            until=row["until"],
            pending=row["pending"],
            superseded=row["superseded"],
            in_batches=row["in_batches"],
            lost=_astray(row, "lost"),
            doubled=_astray(row, "doubled"),
            batches=tuple(_batches(row)),
        )


def _astray(row: asyncpg.Record, name: str) -> Astray | None:
    return Astray(row[name], row[f"first_{name}"], row[f"last_{name}"]) if row[name] else None


def _batches(row: asyncpg.Record) -> Iterator[RecountedBatch]:
    columns = ("batch_ids", "begins", "ends", "filed", "held", "pruned", "astray")
    return (RecountedBatch(*values) for values in zip(*(row[column] for column in columns), strict=True))
