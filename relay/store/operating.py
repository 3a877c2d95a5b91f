"""What operators change at a lane or a batch, each with its entry in the audit record."""

from relay.store.acts import Act, Acts, Operator, record
from relay.store.database import sql


class Operating(Acts):
    """Writes for the status API and the commands. They need no lease: a lane at work sees them at its next step.

    `by` is who does it. A lane that no relay has worked yet is made.
    """

    async def flush_lane(self, login: str, by: Operator | None = None) -> None:
        """Make everything that waits in a lane now due. A lane that waits or pauses goes on doing so."""
        async with self.acting(by, Act("flush", login=login)) as connection:
            await connection.execute(sql("ensure_lane"), login)
            await connection.execute(sql("flush_lane"), login)

    async def pause_lane(self, login: str, detail: str, by: Operator | None = None) -> None:
        """Pause a lane until `resume_lane`; an upload under way still ends."""
        async with self.acting(by, Act("pause", login=login, detail=detail)) as connection:
            await connection.execute(sql("ensure_lane"), login)
            await connection.execute(sql("pause_lane"), login, detail)

    async def resume_lane(self, login: str, by: Operator | None = None) -> None:
        """End a lane's pause and its wait, whatever they are for, so that it goes on at once.

        Only the wait for a vendor that may still be importing stays, or files could overtake each other there.
        """
        async with self.acting(by, Act("resume", login=login)) as connection:
            await connection.execute(sql("ensure_lane"), login)
            await connection.execute(sql("resume_lane"), login)

    async def report_batch(
        self, account: str, batch_id: int, success: int, failure: int, by: Operator | None = None
    ) -> bool:
        """Record what the vendor's report mail counts; False if the batch was not accepted."""
        async with self.transaction() as connection:
            done = bool(await connection.fetchval(sql("report_batch"), account, batch_id, success, failure))
            if done:
                told = f"success {success}, failure {failure}"
                await record(connection, by, Act("report", account=account, batch_id=batch_id, detail=told))
            return done

    async def retry_batch(self, account: str, batch_id: int, by: Operator | None = None) -> int:
        """Append a batch's dead letters again, as they were; return how many. None are left the second time."""
        async with self.transaction() as connection:
            await connection.execute(sql("hold_batch"), account, batch_id)
            events = len(await connection.fetch(sql("retry_batch"), account, batch_id))
            if events:
                await record(connection, by, Act("retry", account=account, batch_id=batch_id, events=events))
            return events

    async def dismiss_batch(self, account: str, batch_id: int, by: Operator | None = None) -> int:
        """Dismiss a batch's dead letters; return how many. None are left the second time."""
        async with self.transaction() as connection:
            await connection.execute(sql("hold_batch"), account, batch_id)
            events = int(await connection.fetchval(sql("dismiss_batch"), account, batch_id))
            if events:
                await record(connection, by, Act("dismiss", account=account, batch_id=batch_id, events=events))
            return events

    async def dismiss_unresolved(self, source: str, message_id: str, by: Operator | None = None) -> int:
        """Dismiss what of a webhook waits for an address, and say how many that were; they wait on, uncounted."""
        async with self.transaction() as connection:
            events = int(await connection.fetchval(sql("dismiss_unresolved"), source, message_id))
            if events:
                await record(connection, by, Act("dismiss", source=source, message_id=message_id, events=events))
            return events
