"""Error records that vendors keep: which upload one may be of, and which of them relay has taken over."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime

from relay.batches import Manifest
from relay.events import Operation
from relay.store.database import sql
from relay.store.lanes import Lanes, Lease


@dataclass(frozen=True, slots=True)
class Unanswered:
    """An upload without an answer, and what else its login uploaded around it.

    Times are seconds before `now()`. `next_ago_s` is when the next one began that may have left a record;
    `crowded` says that a record found now may be of one that went up before. `known_whole` says that all of the file is
    known to have been sent, and with it when that ended.
    """

    number: int
    started_ago_s: float
    ended_ago_s: float
    next_ago_s: float | None
    crowded: bool
    known_whole: bool


@dataclass(frozen=True, slots=True)
class Untaken:
    """A delivered upload with refused lines. Times are seconds before `now()`."""

    account: str
    batch_id: int
    number: int
    operation: Operation
    header: tuple[str, ...]
    started_ago_s: float
    ended_ago_s: float


@dataclass(frozen=True, slots=True)
class TakenRecord:
    """An error record that relay has taken over: the vendor's texts that name it, and the upload that made it."""

    kind: str
    date: str
    count: int
    account: str
    batch_id: int
    number: int
    taken_at: datetime | None = field(default=None, compare=False)
    deleted_at: datetime | None = field(default=None, compare=False)

    @property
    def named(self) -> tuple[str, str, int, str, int, int]:
        """What is kept of it, in the order of `take_record`."""
        return self.kind, self.date, self.count, self.account, self.batch_id, self.number


class Records(Lanes):
    """Reads and writes about error records."""

    async def find_unanswered(self, batch: Manifest, over_s: float, going_on_s: float) -> Unanswered | None:
        """Find a batch's last upload without an answer; None if there is none, or something may have gone up since.

        Nor if it broke off in the file, or the vendor did answer it, if only with counts that do not add up or a 500.

        Other uploads of the login make it crowded that may have left a record of its kind: their imports were over less
        than `over_s` before it began, or may not have been over, the uploads having ended less than `going_on_s` ago.
        """
        row = await self.fetchrow("find_unanswered", batch.account, batch.id, batch.login, over_s, going_on_s)
        return None if row is None else Unanswered(**row)

    async def find_sent_before(self, batch: Manifest, number: int) -> int:
        """Tell the highest event of a batch's operation that may have reached the vendor without that upload of it."""
        return int(await self.fetchval("find_sent_before", batch.account, batch.operation, batch.id, number))

    async def postpone(self, lease: Lease, batch: Manifest, seconds: float) -> None:
        """Let a batch wait for the vendor's record of it, which burns no attempt. Raises LaneLost."""
        async with self.holding(lease) as connection:
            await connection.execute(sql("postpone_cursor"), batch.account, batch.operation, seconds)

    async def take_record(self, login: str, record: TakenRecord) -> None:
        """Note that relay has taken a record over; no error if it is noted already."""
        await self.execute("take_record", login, *record.named)

    async def is_taken(self, login: str, kind: str, date: str) -> bool:
        """Whether relay has taken a record over."""
        return bool(await self.fetchval("is_taken", login, kind, date))

    async def list_records(self, login: str) -> list[TakenRecord]:
        """List the records of a login that relay has taken over, the deleted ones, too."""
        return [TakenRecord(**row) for row in await self.fetch("list_records", login)]

    async def list_undeleted(self, login: str, accounts: Collection[str]) -> list[TakenRecord]:
        """List those that are still at the vendor, as far as relay knows, of accounts at a login."""
        return [TakenRecord(**row) for row in await self.fetch("list_undeleted", login, list(accounts))]

    async def record_deleted(self, login: str, kind: str, date: str) -> None:
        """Note that a record is no longer at the vendor."""
        await self.execute("record_deleted", login, kind, date)

    async def find_untaken(
        self, login: str, accounts: Collection[str], within_s: float, uploads_max: int
    ) -> list[Untaken]:
        """Find the latest uploads that ended with refused lines, and whose records were not taken over yet."""
        rows = await self.fetch("find_untaken", login, list(accounts), within_s, uploads_max)
        return [
            Untaken(**{**row, "operation": Operation(row["operation"]), "header": tuple(row["header"])}) for row in rows
        ]

    async def read_refused(self, account: str, batch_id: int) -> list[tuple[int, bytes]]:
        """Read a batch's refused lines by number, as they were sent but for their ends."""
        rows = await self.fetch("read_refused", account, batch_id)
        return [(row["line"], row["content"].removesuffix(b"\r\n")) for row in rows]
