"""The cut: one cursor moves forward and what lies between is filed as a batch, or a batch is un-cut.

A cut is one transaction: it records the superseded, files the batch, moves the cursor, and checks that the events of
its range are all rows or superseded. Chunks keep each statement short; the fence makes them see one and the same log.
"""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Self

from relay import csvline
from relay.batches import BatchState, Cursor, Manifest
from relay.errors import ConservationBroken
from relay.events import SUPERSEDED_BY, Operation
from relay.store.database import Connection, one, sql
from relay.store.deployment import LayoutColumns
from relay.store.lanes import Lanes, Lease, Target

CHUNK_ROWS = 20_000
"""Events looked at by one statement of a cut, or of the rendering of a file."""


HeaderOf = Callable[[LayoutColumns], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Cut:
    """What a cut came to: the batch it filed, if any rows were left, and how many events it found superseded.

    `pending_s` is for how long the oldest of the batch's webhooks had waited; None where it holds none, but only what
    relay appended again.
    """

    batch_id: int | None
    superseded: int
    pending_s: float | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Limits:
    """What ends a file: the fence, rows, and bytes with the header of the layout."""

    fence: int
    rows_max: int
    bytes_max: int
    header_bytes: dict[int, int]

    @classmethod
    def of(
        cls,
        target: Target,
        fence: int,
        headers: Mapping[int, tuple[str, ...]],
        rows_max: int | None,
        bytes_max: int | None,
    ) -> Self:
        """Put the settings' limits and the cursor's own, smaller ones together."""
        return cls(
            fence=fence,
            rows_max=min(target.rows_max, rows_max or target.rows_max),
            bytes_max=min(target.bytes_max, bytes_max or target.bytes_max),
            header_bytes={layout: len(csvline.record(header)) for layout, header in headers.items()},
        )


@dataclass(slots=True)
class Taken:
    """What a cut has taken so far.

    `left_out` counts all that was superseded between its lines, `superseded` what this cut was the first to record.
    `oldest` is when the first of its lines was received, `oldest_new` the same without what relay appended again.
    `whole` is False where it was told to stop early.
    """

    cut_to: int
    rows: int = 0
    bytes: int = 0
    layout: int | None = None
    superseded: int = 0
    left_out: int = 0
    oldest: datetime | None = None
    oldest_new: datetime | None = None
    whole: bool = True


class Cuts(Lanes):
    """Cuts batches, un-cuts them, and reads their lines."""

    async def cut(self, lease: Lease, target: Target, fence: int, header_of: HeaderOf) -> Cut:
        """Cut one operation of an account up to the fence and file at most one batch. Raises LaneLost.

        `target` limits rows and bytes of the file, header included; the cursor's own, smaller limits go before.
        `header_of` names the columns for a layout's columns.
        """
        async with self.holding(lease) as connection:
            cursor = await one(connection, "begin_cut", target.account, target.operation)
            headers = await read_headers(connection, target, header_of)
            limits = Limits.of(target, fence, headers, cursor["rows_max"], cursor["bytes_max"])
            taken = await take(connection, target, cursor["position"], cursor["batch_id"], limits)
            if taken.cut_to == cursor["position"]:
                return Cut(None, 0)
            await _check(connection, target, cursor["position"], taken)
            pending_s: float | None = None
            if taken.rows and taken.layout is not None:
                pending_s = await connection.fetchval(
                    sql("file_batch"),
                    target.account,
                    cursor["batch_id"],
                    target.login,
                    target.operation,
                    taken.layout,
                    list(headers[taken.layout]),
                    cursor["position"],
                    taken.cut_to,
                    taken.rows,
                    taken.bytes + limits.header_bytes[taken.layout],
                    taken.oldest,
                    taken.oldest_new,
                )
            await connection.execute(sql("move_cursor"), target.account, target.operation, taken.cut_to)
        return Cut(cursor["batch_id"] if taken.rows else None, taken.superseded, pending_s)

    async def uncut(self, lease: Lease, account: str, batch_id: int, reason: str) -> bool:
        """Replace a batch that is ready or waiting and set its cursor back; False if it is neither. Raises LaneLost."""
        async with self.holding(lease) as connection:
            return bool(await connection.fetchval(sql("replace_batch"), account, batch_id, reason))

    async def manifest(self, account: str, batch_id: int) -> Manifest:
        """Read a batch's manifest and what its cursor remembers."""
        row = await self.fetchrow("batch_manifest", account, batch_id)
        if row is None:
            raise LookupError(f"no batch {batch_id} of {account}")
        return Manifest(
            account=row["account"],
            id=row["id"],
            login=row["login"],
            operation=Operation(row["operation"]),
            layout=row["layout"],
            header=tuple(row["header"]),
            cut_from=row["cut_from"],
            cut_to=row["cut_to"],
            rows=row["rows"],
            bytes=row["bytes"],
            sha256=row["sha256"],
            state=BatchState(row["state"]),
            uploads=row["uploads"],
            waited_s=row["waited_s"],
            cursor=Cursor(
                attempts=row["attempts"],
                unanswered=row["unanswered"],
                rounds=row["rounds"],
                sent_to=row["sent_to"],
                rows_max=row["rows_max"],
                bytes_max=row["bytes_max"],
                suspect_to=row["suspect_to"],
                refused_lines=row["refused_lines"],
                refused_from=row["refused_from"],
            ),
        )

    async def lines(self, batch: Manifest) -> AsyncIterator[bytes]:
        """Read a batch's lines in order, joined in chunks of a few MB; the header is not among them."""
        last = batch.cut_from
        while True:
            row = await self.fetchrow(
                "batch_lines",
                batch.account,
                batch.operation,
                batch.cut_from,
                batch.cut_to,
                batch.id,
                last,
                CHUNK_ROWS,
            )
            if row is None or not row["looked_at"]:
                return
            last = row["last_id"]
            if row["lines"]:
                yield row["lines"]

    async def spooled(self, lease: Lease, batch: Manifest, sha256: str) -> None:
        """Remember the hash of a batch's file. Raises LaneLost."""
        async with self.holding(lease) as connection:
            await connection.execute(sql("spool_batch"), batch.account, batch.id, sha256)


async def read_headers(connection: Connection, target: Target, header_of: HeaderOf) -> dict[int, tuple[str, ...]]:
    """Name the columns of each layout that lines of an operation have been rendered with."""
    rows = await connection.fetch(sql("find_layouts"), target.account, target.operation)
    return {row["id"]: header_of(json.loads(row["columns"])) for row in rows}


async def take(
    connection: Connection,
    target: Target,
    position: int,
    batch_id: int | None,
    limits: Limits,
    may_go_on: Callable[[], bool] = lambda: True,
) -> Taken:
    """Take events chunk by chunk until a limit, another layout or the fence is reached, or nobody may go on.

    Without a `batch_id` what is superseded is not recorded: nothing is written.
    """
    taken = Taken(cut_to=position)
    while True:
        chunk = await one(
            connection,
            "cut_chunk",
            target.account,
            target.operation,
            taken.cut_to,
            limits.fence,
            CHUNK_ROWS,
            sorted(SUPERSEDED_BY[target.operation]),
            limits.rows_max - taken.rows,
            limits.bytes_max - taken.bytes,
            taken.layout,
            batch_id,
            taken.rows == 0,
            list(limits.header_bytes),
            list(limits.header_bytes.values()),
        )
        taken.cut_to = chunk["cut_to"]
        taken.rows += chunk["rows"]
        taken.bytes += chunk["bytes"]
        taken.superseded += chunk["superseded"]
        taken.left_out += chunk["taken"] - chunk["rows"]
        taken.layout = chunk["layout"] if taken.layout is None else taken.layout
        taken.oldest = min(filter(None, (taken.oldest, chunk["oldest_received_at"])), default=None)
        taken.oldest_new = min(filter(None, (taken.oldest_new, chunk["oldest_new_at"])), default=None)
        if chunk["taken"] < chunk["looked_at"] or chunk["looked_at"] < CHUNK_ROWS:
            return taken
        if not may_go_on():
            taken.whole = False
            return taken


async def _check(connection: Connection, target: Target, position: int, taken: Taken) -> None:
    """Each event of the range is a row or superseded; anything else would lose or double one, so nothing is filed."""
    row = await one(connection, "count_range", target.account, target.operation, position, taken.cut_to)
    if row["events"] != taken.rows + row["superseded"]:
        raise ConservationBroken(
            f"{target.account} {target.operation}: {row['events']} events in ({position}, {taken.cut_to}], "
            f"but {taken.rows} rows and {row['superseded']} superseded"
        )
