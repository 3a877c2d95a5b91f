"""What only metrics ask: how long confirmations took, what waits for its next try, how large the log is."""

from collections.abc import Sequence
from dataclasses import dataclass

from relay.batches import Manifest
from relay.events import Operation
from relay.store.database import Database


@dataclass(frozen=True, slots=True)
class Postponed:
    """A cursor with something to do whose next try is later; `reason` is `quota`, `record`, or empty after failure."""

    account: str
    operation: Operation
    reason: str


@dataclass(frozen=True, slots=True)
class ToldLog:
    """The log: its bytes with indexes, Postgres's estimate of its events, the age of the first one of any account."""

    bytes: int
    events: float
    oldest_s: float


class Measuring(Database):
    """Reads for the metrics."""

    async def tell_confirmed(self, batch: Manifest, bounds: Sequence[float]) -> tuple[list[int], float]:
        """Count a delivered or accepted batch's events by the seconds from receipt to confirmation, and sum these up.

        One count for each of the growing `bounds`, which lie within, and one for what is above. Left out are refused
        lines and what relay appended again. Reads all of the batch's events: some 0.4 s for 200,000.
        """
        counts, total = [0] * (len(bounds) + 1), 0.0
        for row in await self.fetch("tell_confirmed", batch.account, batch.id, [-bound for bound in reversed(bounds)]):
            counts[row["bucket"]] = row["events"]
            total += row["seconds"]
        return counts, total

    async def tell_postponed(self) -> list[Postponed]:
        """Tell which cursors have something to do but wait for their next try."""
        rows = await self.fetch("tell_postponed")
        return [Postponed(row["account"], Operation(row["operation"]), row["wait_reason"]) for row in rows]

    async def tell_log(self) -> ToldLog:
        """Tell how large the log is and how far it goes back; nothing is counted."""
        (row,) = await self.fetch("tell_log")
        return ToldLog(**row)
