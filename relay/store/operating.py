"""What operators change at a lane or a batch."""

from relay.store.database import Database


class Operating(Database):
    """Writes for the status API. They need no lease: a lane at work sees them at its next step."""

    async def flush_lane(self, login: str) -> None:
        """Make everything that waits in a lane now due. A lane that waits or pauses goes on doing so."""
        await self.execute("flush_lane", login)

    async def pause_lane(self, login: str, detail: str) -> None:
        """Pause a lane until `resume_lane`; an upload under way still ends."""
        await self.execute("pause_lane", login, detail)

    async def resume_lane(self, login: str) -> None:
        """End a lane's pause and its wait, whatever they are for, so that it goes on at once.

        Only the wait for a vendor that may still be importing stays, or files could overtake each other there.
        """
        await self.execute("resume_lane", login)

    async def report_batch(self, account: str, batch_id: int, success: int, failure: int) -> bool:
        """Record what the vendor's report mail counts; False if the batch was not accepted."""
        return bool(await self.fetchval("report_batch", account, batch_id, success, failure))
