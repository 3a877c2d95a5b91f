"""Retention: what is old and settled for good is deleted from the log, and batches with it of which nothing is left.

Theory of operation. Whether an event may go is decided by one statement, and so as all stood at one moment, and it goes
in that statement. It stays as long as one of these holds:

- it is younger than is asked for, or has been settled (delivered, accepted, retried, dismissed) for less than that;
- it waits: beyond its cursor, in an open batch, or where the cursor may be set back to; or it is a dead letter, or a
  refused line, that nobody has retried or dismissed;
- it is the last of its customer's words of its kind, among those that wait no more: the last upsert or delete, the last
  permission word, the last delete, the last delete that was sent. What these supersede they go on superseding, so that
  a late repeat of an older word changes nothing, stops outlive upserts, and how a customer stands can be told. Where
  customers are followed, also the last of each kind that following asks for (`relay.store.following`), but the record
  of who has asked to be deleted since only if it is from after somebody left that address: by it
  `relay.receive.following` tells who has come back there, and takes the stops along when that one leaves again;
- it is an upsert or allow that happened when it arrived (by `order_by`, or for want of a timestamp), of a customer
  whose last word is an opt-out: a repeat would be the later word, and only this event's id tells that it is one;
- an opt-out that is still in the log was superseded by it, or ended by it as an allow: a part of that one's proof;
- it is the original of a copy for which one of these holds, or such a copy of an original that stays. Of an original
  that stays, only the last copies do, as many as are told.

What a later word of the same customer has made needless is found again at each pass, also below `pruned_to`. That only
says up to where events may be missing: batches that begin below it are not recounted, nor rendered.

A batch stays with its uploads as long as an event that it held is in the log: it proves what became of it. So it does
as long as relay is to delete the vendor's record of its refused lines, which is personal data, too. In which line
an opt-out stood is written down (`proven_line`) when the first other event of its file goes.
"""

from dataclasses import dataclass
from typing import Final

from relay.events import LEAVING_SUFFIXES, Operation
from relay.store.database import Connection, Database, one, sql
from relay.store.telling import COPIES_MAX

COPIES_KEPT: Final = COPIES_MAX + 1
"""So many of the last copies of an opt-out stay with it: those that are told as its proof, and one more, which tells
that there were more."""

OPT_OUTS_LOOKED_AT_MAX: Final = 200
"""Whether a word superseded an opt-out is looked up for so many of the customer's: where there are more, the oldest
go first, and the others at a later pass."""

BATCHES_LONGER_S: Final = 86_400.0
"""Batches stay a day longer than events: what still looks for the vendor's records of their uploads has ended."""

_LEAVING: Final = [f"%{suffix}" for suffix in LEAVING_SUFFIXES]


@dataclass(frozen=True, slots=True)
class Pruned:
    """What became of some events: how many were looked at, up to which id, how many were old, how many are gone."""

    looked_at: int
    old: int
    until: int | None
    deleted: int


@dataclass(frozen=True, slots=True)
class PrunedBatches:
    """What became of some batches: how many were looked at, up to which, and how many are gone."""

    looked_at: int
    until: int | None
    deleted: int


class Pruning(Database):
    """Deletes what retention does not keep. Of several replicas one does so at a time."""

    async def prune(
        self, account: str, operation: Operation, behind: int, *, keep_s: float, events_max: int
    ) -> Pruned | None:
        """Delete what may go of up to `events_max` events behind the id `behind`; None while another replica does."""
        async with self.transaction() as connection:
            if not await _alone(connection):
                return None
            args = (account, operation, behind, events_max, keep_s, COPIES_KEPT, _LEAVING, OPT_OUTS_LOOKED_AT_MAX)
            return Pruned(**await one(connection, "prune", *args))

    async def prune_batches(
        self, account: str, behind: int, *, keep_s: float, batches_max: int, deletes_records: bool
    ) -> PrunedBatches | None:
        """Delete batches of which nothing is left, of up to `batches_max` behind `behind`; None as for `prune`.

        `deletes_records` says that the account deletes error records at the vendor: those of which some are there stay.
        """
        async with self.transaction() as connection:
            if not await _alone(connection):
                return None
            args = (account, behind, batches_max, keep_s + BATCHES_LONGER_S, deletes_records)
            return PrunedBatches(**await one(connection, "prune_batches", *args))

    async def is_pruned(self, account: str, batch_id: int) -> bool:
        """Say whether events of a batch may be gone from the log, so that its file cannot be rendered again."""
        return bool(await self.fetchval("is_pruned", account, batch_id))


async def _alone(connection: Connection) -> bool:
    return bool(await connection.fetchval(sql("lock_pruning")))
