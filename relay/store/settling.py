"""Settling: an upload begins and ends, and what it came to is written down in one transaction with the lane's lease."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from relay.batches import (
    AGAIN_DELAYS_S,
    OUTCOMES,
    UPSERTS_AGAIN_MAX,
    Accepted,
    Busy,
    Delivered,
    LineRejection,
    Manifest,
    Refused,
    Settlement,
    Transient,
    Unauthorized,
)
from relay.errors import Conflict
from relay.events import Operation
from relay.settings import LOGIN_FAILURES_PER_HOUR_MAX
from relay.store.calls import Calls, correct_calls
from relay.store.cuts import Cuts
from relay.store.database import Connection, sql
from relay.store.lanes import REFUSED_S, Lease, counted_refused_login
from relay.store.records import TakenRecord

_LET_IN = frozenset({OUTCOMES[Delivered], OUTCOMES[Accepted], OUTCOMES[Refused]})
"""Outcomes of files that the vendor has looked at, so that it has taken the login for good. Anything else may come from
what stands before it: 413 and 429 from a proxy, for one."""

MESSAGE_CHARACTERS_MAX = 1000
"""A vendor's message about a line is kept up to this length."""


@dataclass(frozen=True, slots=True)
class UploadRecord:
    """What is remembered of one upload; `excerpt` holds no customers' data.

    `whole` says whether all of the file was sent; None where nobody knows.
    """

    outcome: str
    reason: str
    http_status: int | None = None
    bytes_sent: int = 0
    excerpt: str = ""
    whole: bool | None = None

    @property
    def unsent(self) -> bool:
        """Whether nothing of it reached the vendor, be it for lack of a connection or because relay held it back."""
        held_back = self.http_status is None and self.outcome == OUTCOMES[Busy]
        return held_back or self.outcome == OUTCOMES[Transient]


@dataclass(frozen=True, slots=True)
class Settled:
    """What a settlement wrote: lines rejected, and by operation the events appended again."""

    rejected: int
    again: Mapping[Operation, int]


class Settling(Cuts, Calls):
    """Begins uploads and settles them."""

    async def begin_upload(self, lease: Lease, batch: Manifest, calls_per_day: int | None) -> int | None:
        """Mark a batch as uploading, count the call and return the upload's number; None if the day's calls are spent.

        Committed before a byte is sent. Raises LaneLost, or Conflict if the batch is not waiting for an upload.
        """
        async with self.holding(lease) as connection:
            if not await connection.fetchval(sql("count_call"), lease.login, calls_per_day):
                return None
            number: int | None = await connection.fetchval(sql("begin_upload"), batch.account, batch.id, lease.login)
            if number is None:
                raise Conflict(f"batch {batch.id} is not waiting for an upload")
            return number

    async def settle(
        self,
        lease: Lease,
        batch: Manifest,
        number: int,
        upload: UploadRecord,
        settlement: Settlement,
        fingerprint: str,
        *,
        login_failures_per_hour_max: int = LOGIN_FAILURES_PER_HOUR_MAX,
        taken: TakenRecord | None = None,
    ) -> Settled:
        """Write down what an upload came to, all or nothing.

        `fingerprint` is remembered with a pause, so that other settings may go on. `taken` is the vendor's record that
        told it. Raises LaneLost: then nothing was written.
        """
        async with self.holding(lease) as connection:
            await connection.execute(
                sql("end_upload"),
                batch.account,
                batch.id,
                number,
                upload.http_status,
                upload.outcome,
                upload.reason,
                upload.bytes_sent,
                upload.excerpt,
                upload.whole,
            )
            if taken is not None:
                await connection.execute(sql("take_record"), lease.login, *taken.named)
            rejected = await _reject(connection, batch, settlement.rejections)
            settled = await connection.fetchval(
                sql("settle_batch"),
                batch.account,
                batch.id,
                settlement.state,
                settlement.reason,
                rejected,
                settlement.refused,
            )
            if not settled:
                raise Conflict(f"batch {batch.id} is not uploading")
            position = settlement.position
            if settlement.take_back_from is not None:
                args = (batch.account, batch.operation, settlement.take_back_from)
                position = await connection.fetchval(sql("take_back_refused"), *args)
            await _settle_cursor(connection, batch, settlement, position)
            await _settle_lane(connection, lease, upload.outcome, settlement, fingerprint, login_failures_per_hour_max)
            await correct_calls(connection, lease.login, batch, number, settlement, unsent=upload.unsent)
            again: Counter[Operation] = Counter()
            if settlement.send_again:
                rows = await connection.fetch(sql("append_again"), batch.account, batch.id, number)
                again.update(Operation(row["operation"]) for row in rows)
        return Settled(rejected, again)

    async def retry_unanswered(self) -> Mapping[tuple[str, Operation], int]:
        """Append again what was rejected only because the vendor never answered it, where its time has come.

        Opt-outs for ever, upserts some times. Returns how many events by account and operation. However many replicas
        do so at once, each line is appended once.
        """
        rows = await self.fetch("retry_unanswered", AGAIN_DELAYS_S, UPSERTS_AGAIN_MAX)
        return Counter((row["account"], Operation(row["operation"])) for row in rows)


async def _reject(connection: Connection, batch: Manifest, rejections: Sequence[LineRejection]) -> int:
    """Write down refused lines; return how many of them count as rejected (the unconfirmed do not)."""
    if not rejections:
        return 0
    rows = await connection.fetch(
        sql("reject_lines"),
        batch.account,
        batch.id,
        [r.line for r in rejections],
        [r.message.replace("\0", "")[:MESSAGE_CHARACTERS_MAX] for r in rejections],
        [r.unconfirmed for r in rejections],
        batch.cursor.sent_to,
    )
    return sum(not row["unconfirmed"] for row in rows)


async def _settle_cursor(connection: Connection, batch: Manifest, settlement: Settlement, position: int | None) -> None:
    cursor = settlement.cursor
    await connection.execute(
        sql("settle_cursor"),
        batch.account,
        batch.operation,
        cursor.attempts,
        settlement.delay_s,
        cursor.sent_to,
        cursor.rows_max,
        cursor.bytes_max,
        cursor.suspect_to,
        cursor.refused_lines,
        cursor.refused_from,
        position,
        cursor.unanswered,
        cursor.rounds,
    )


async def _settle_lane(
    connection: Connection,
    lease: Lease,
    outcome: str,
    settlement: Settlement,
    fingerprint: str,
    login_failures_per_hour_max: int,
) -> None:
    if outcome in _LET_IN:
        await connection.execute(sql("forget_refused_logins"), lease.login)
    await connection.execute(
        sql("settle_lane"),
        lease.login,
        settlement.lane_delay_s,
        settlement.lane_until_next_day,
        settlement.wait_reason,
        settlement.pause,
        settlement.reason if settlement.pause else "",
        fingerprint,
        settlement.proven,
        REFUSED_S,
    )
    if outcome == OUTCOMES[Unauthorized]:
        await counted_refused_login(connection, lease.login, login_failures_per_hour_max)
