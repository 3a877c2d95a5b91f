"""Opt-outs that wait for an address of their customer: telling of them, and counting."""

import asyncpg

from relay.events import Operation
from relay.store.database import Database
from relay.store.told import ToldUnresolved

COUNTED_MAX = 100_000
"""So many are counted at most, in some 50 ms: whoever has more has a source that is set up wrongly."""


class Waiting(Database):
    """Reads for the status API and the metrics."""

    async def find_unresolved(self, source: str, message_id: str) -> list[ToldUnresolved]:
        """Find what of a webhook waits, by account."""
        return [_told(row) for row in await self.fetch("find_unresolved", source, message_id)]

    async def list_unresolved(self, source: str | None, *, behind: int, limit: int) -> list[ToldUnresolved]:
        """List up to `limit` of those that are not dismissed, behind the id `behind`, the oldest first."""
        return [_told(row) for row in await self.fetch("list_unresolved", source, behind, limit)]

    async def count_unresolved(self) -> dict[str, int]:
        """Count by source the webhooks that wait, less the dismissed."""
        return {row["source"]: row["webhooks"] for row in await self.fetch("count_unresolved", COUNTED_MAX)}


def _told(row: asyncpg.Record) -> ToldUnresolved:
    return ToldUnresolved(**{**row, "operation": Operation(row["operation"])})
