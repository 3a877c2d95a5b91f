"""The vendor's calls of a day, counted here across replicas: how many are left, and who has to wait for one."""

from collections.abc import Iterable

from relay.batches import AGAIN_MAX_S, Day, Manifest, Pace, Settlement
from relay.errors import LaneLost
from relay.events import Operation
from relay.store.database import Connection, sql
from relay.store.lanes import Lanes, Lease


class Calls(Lanes):
    """Keeps operations back where the day's calls are kept for others."""

    async def keep_back(
        self, lease: Lease, accounts: Iterable[str], operations: Iterable[Operation], pace: Pace, *, opt_outs: bool
    ) -> float:
        """Keep a login's opt-outs back, or its data, where these may not have a call yet; return for how many seconds.

        0 if they may. All of its `accounts` and `operations` of that kind wait, also those with nothing to do yet: in
        the end the one goes that has waited longest. Attempts and the lane are left as they are. Raises LaneLost.
        """
        async with self.holding(lease) as connection:
            wait_s = pace.wait_s(await read_day(connection, lease.login), opt_out=opt_outs)
            if wait_s:
                wait_s = min(wait_s, AGAIN_MAX_S)
                kind = [operation for operation in operations if operation.opt_out == opt_outs]
                await connection.execute(sql("keep_back"), list(accounts), kind, wait_s)
        return wait_s


async def read_day(connection: Connection, login: str) -> Day:
    """Read how a login stands in the vendor's day. Raises LaneLost if it has no lane."""
    row = await connection.fetchrow(sql("read_day"), login)
    if row is None:
        raise LaneLost(login)
    return Day(**row)


async def correct_calls(
    connection: Connection, login: str, batch: Manifest, number: int, settlement: Settlement, *, unsent: bool
) -> None:
    """Correct the day's count by what an upload came to, in the transaction that settles it.

    A call that never reached the vendor is given back; where the vendor took no more, it is remembered after how many.
    """
    if unsent:
        await connection.execute(sql("return_call"), login, batch.account, batch.id, number)
    if settlement.lane_until_next_day:
        await connection.execute(sql("meet_quota"), login)
