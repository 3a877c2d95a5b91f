"""Counting what was received and what ended over time, for the chart of the last hours."""

from dataclasses import dataclass, fields
from datetime import datetime

from relay.store.database import Database


@dataclass(frozen=True, slots=True)
class ToldBin:
    """What happened within a bin that begins at a moment: events received, and lines by what became of them."""

    begins_at: datetime
    received: int
    delivered: int
    accepted: int
    rejected: int


@dataclass(frozen=True, slots=True)
class ToldHistory:
    """Bins, the oldest first, the last of which has not ended at `now`; what was asked for begins at `oldest`."""

    bins: list[ToldBin]
    oldest: datetime
    now: datetime


class Counting(Database):
    """Reads for the history. They walk over the log of the time that is asked for, and no further."""

    async def tell_history(
        self,
        account: str | None,
        *,
        bin_s: int,
        span_s: int,
        step_s: int,
        known: tuple[datetime, datetime] | None = None,
    ) -> ToldHistory:
        """Tell the bins of `bin_s` seconds that make up the last `span_s`.

        They begin on a whole `step_s`, a multiple of `bin_s`. What is `known`, from one moment up to another, is left
        out where it reaches back as far.
        """
        since, until = known or (None, None)
        rows = await self.fetch("tell_history", float(bin_s), float(span_s), float(step_s), account, since, until)
        bins = [ToldBin(*(row[field.name] for field in fields(ToldBin))) for row in rows]
        return ToldHistory(bins, rows[0]["oldest"], rows[0]["now"])
