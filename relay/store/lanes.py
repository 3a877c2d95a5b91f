"""Lanes: who may work a login, and what there is to do.

Theory of operation. A login has one lane, leased by one replica at a time. A lease names its owner (a uuid made when
the process started) and a generation that grows with each lease; every write of the work checks both, holding the
lane's row until it commits. Nought rows mean that the lane was lost: `LaneLost`, and whatever was found out is
forgotten.

The fence makes a range of ids safe to cut: see `fence`.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from relay.batches import BatchState, Candidate
from relay.errors import LaneLost
from relay.events import Operation
from relay.store.database import Connection, Database, sql

FENCE_TIMEOUT_MS = 200
"""How long the fence may hold up appends while it waits for those under way."""


@dataclass(frozen=True, slots=True)
class Target:
    """One operation of one account, with what makes its waiting events due or fill a file."""

    login: str
    account: str
    operation: Operation
    flush_after_s: float
    rows_max: int
    bytes_max: int


@dataclass(frozen=True, slots=True)
class Lease:
    """A leased lane."""

    login: str
    owner: UUID
    generation: int


class Lanes(Database):
    """Fence, survey, leases."""

    async def fence(self) -> int | None:
        """Return an id such that every event up to it is visible or will never exist; None if appends did not pause.

        Ids are drawn before commits become visible. Every append takes a lock, shared, before its ids are drawn; taking
        it exclusively waits for those under way, and reading the sequence before letting go names the last id drawn.
        """
        async with self.connection() as connection:
            try:
                async with connection.transaction(isolation="read_committed"):
                    await connection.execute(f"set local lock_timeout = {FENCE_TIMEOUT_MS}")
                    await connection.execute(sql("lock_fence"))
                    fence: int = await connection.fetchval(sql("read_fence"))
                    return fence
            except asyncpg.LockNotAvailableError:
                return None

    async def survey(
        self, targets: Sequence[Target], fingerprints: Mapping[str, str], fence: int, owner: UUID | None = None
    ) -> list[Candidate]:
        """Tell what there is to do up to the fence in lanes that may be worked now, or that `owner` holds.

        `fingerprints` are those of the logins' settings: a lane that paused on the same ones stays out.
        """
        rows = await self.fetch(
            "survey",
            [t.login for t in targets],
            [t.account for t in targets],
            [t.operation for t in targets],
            [t.flush_after_s for t in targets],
            [t.rows_max for t in targets],
            [t.bytes_max for t in targets],
            list(fingerprints),
            list(fingerprints.values()),
            fence,
            owner,
        )
        return [
            Candidate(
                login=row["login"],
                account=row["account"],
                operation=Operation(row["operation"]),
                waits=row["waits"],
                due=row["due"],
                age_s=row["age_s"],
                batch_id=row["batch_id"],
                batch_state=BatchState(row["batch_state"]) if row["batch_state"] else None,
            )
            for row in rows
        ]

    async def lease_lane(self, login: str, owner: UUID, lease_s: float, fingerprint: str) -> Lease | None:
        """Lease a lane that is free, due and not paused; None if it is not, or another replica was first."""
        generation = await self.fetchval("lease_lane", login, owner, lease_s, fingerprint)
        return None if generation is None else Lease(login, owner, generation)

    async def renew_lane(self, lease: Lease, lease_s: float) -> None:
        """Make the lease last `lease_s` seconds from now. Raises LaneLost."""
        if not await self.fetchval("renew_lane", lease.login, lease.owner, lease.generation, lease_s):
            raise LaneLost(lease.login)

    async def release_lane(self, lease: Lease) -> None:
        """Give the lane back; no error if it is lost already."""
        await self.execute("release_lane", lease.login, lease.owner, lease.generation)

    @asynccontextmanager
    async def holding(self, lease: Lease) -> AsyncIterator[Connection]:
        """Run a transaction in which the lane stays ours until the commit. Raises LaneLost."""
        async with self.transaction() as connection:
            if not await connection.fetchval(sql("hold_lane"), lease.login, lease.owner, lease.generation):
                raise LaneLost(lease.login)
            yield connection
