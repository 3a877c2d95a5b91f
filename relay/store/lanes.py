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
from typing import Self
from uuid import UUID

import asyncpg

from relay import vendors
from relay.batches import ROWS_UNLIMITED, BatchState, Candidate
from relay.errors import LaneLost
from relay.events import Operation
from relay.settings import Account, Login
from relay.store.database import Connection, Database, sql

FENCE_TIMEOUT_MS = 200
"""How long the fence may hold up appends while it waits for those under way."""

REFUSED_S = 3600.0
"""How long replicas stay out of a lane when their settings failed there and others' work. It ends by itself, so that a
rollback heals; until then each of a rollout's two settings costs one login."""


@dataclass(frozen=True, slots=True)
class Target:
    """One operation of one account, with what makes its waiting events due or fill a file."""

    login: str
    account: str
    operation: Operation
    flush_after_s: float
    rows_max: int
    bytes_max: int

    @classmethod
    def of(cls, login: Login, account: Account, operation: Operation) -> Self:
        """Make the target of an operation as the settings have it."""
        return cls(
            login=login.name,
            account=account.name,
            operation=operation,
            flush_after_s=vendors.flush_after_s(login, account, operation),
            rows_max=login.rows_max or ROWS_UNLIMITED,
            bytes_max=login.file_bytes_max,
        )


@dataclass(frozen=True, slots=True)
class Lease:
    """A leased lane."""

    login: str
    owner: UUID
    generation: int


class Lanes(Database):
    """Fence, survey, leases, and what holds up lanes besides uploads."""

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

        `fingerprints` are those of the logins' settings: a lane that paused on the same ones stays out, and so does one
        that refused them within `REFUSED_S`. Of one that paused because of their columns or data, or refused their data
        so lately, opt-outs are told, and what must give way to them.
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
            REFUSED_S,
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
        """Lease a lane that is free and may be worked; None if it is not, or another replica was first.

        One that paused because of the columns or data of these settings may be leased, for its opt-outs.
        """
        generation = await self.fetchval("lease_lane", login, owner, lease_s, fingerprint, REFUSED_S)
        return None if generation is None else Lease(login, owner, generation)

    async def renew_lane(self, lease: Lease, lease_s: float) -> None:
        """Make the lease last `lease_s` seconds from now. Raises LaneLost."""
        if not await self.fetchval("renew_lane", lease.login, lease.owner, lease.generation, lease_s):
            raise LaneLost(lease.login)

    async def release_lane(self, lease: Lease) -> None:
        """Give the lane back; no error if it is lost already."""
        await self.execute("release_lane", lease.login, lease.owner, lease.generation)

    # -- refused logins ------------------------------------------------------------------------------------------------

    async def count_refused_login(self, login: str, per_hour_max: int) -> float:
        """Count a login that the vendor refused; return for how many seconds nobody may log in: 0, or up to an hour.

        From the `per_hour_max`th within an hour on the lane waits (`logins_refused`), whatever operators or other
        settings say, so that the vendor has no cause to lock the login. For calls beside uploads: `settle` counts its
        own.
        """
        async with self.transaction() as connection:
            return await counted_refused_login(connection, login, per_hour_max)

    async def forget_refused_logins(self, login: str) -> None:
        """Count anew, because the vendor has let relay in. For calls beside uploads, as above."""
        await self.execute("forget_refused_logins", login)

    async def logins_again_s(self, login: str, per_hour_max: int) -> float:
        """Tell for how many seconds nobody may log in because the vendor has refused it too often; 0 if anybody may."""
        return float(await self.fetchval("logins_again", login, per_hour_max) or 0)

    # -- columns -------------------------------------------------------------------------------------------------------

    async def pause_for_columns(self, lease: Lease, detail: str, fingerprint: str) -> bool:
        """Pause a lane for data: the vendor does not know columns of these settings, whose opt-outs go on.

        False if the lane pauses for more already. It lasts until a check has passed (`end_columns_pause`), the vendor
        has let in other settings, or an operator resumes. Raises LaneLost.
        """
        async with self.holding(lease) as connection:
            args = (lease.login, detail, fingerprint, REFUSED_S)
            return bool(await connection.fetchval(sql("pause_for_columns"), *args))

    async def end_columns_pause(self, lease: Lease) -> bool:
        """End such a pause, because a check has passed; False if the lane does not pause for that. Raises LaneLost."""
        async with self.holding(lease) as connection:
            return bool(await connection.fetchval(sql("end_columns_pause"), lease.login))

    @asynccontextmanager
    async def holding(self, lease: Lease) -> AsyncIterator[Connection]:
        """Run a transaction in which the lane stays ours until the commit. Raises LaneLost."""
        async with self.transaction() as connection:
            if not await connection.fetchval(sql("hold_lane"), lease.login, lease.owner, lease.generation):
                raise LaneLost(lease.login)
            yield connection


async def counted_refused_login(connection: Connection, login: str, per_hour_max: int) -> float:
    """Count a refused login in a transaction at hand; see `Lanes.count_refused_login`."""
    return float(await connection.fetchval(sql("count_refused_login"), login, per_hour_max) or 0)
