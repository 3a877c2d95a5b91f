"""The audit record: what operators changed, and when they looked at customers' data. It is only ever added to."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from relay.metrics import ActName
from relay.store.database import Connection, Database, sql

Through = Literal["api", "command"]

_ID_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Operator:
    """Who acts: by the status API the name of a token, by a command the user who gives it."""

    name: str
    through: Through


@dataclass(frozen=True, slots=True)
class Act:
    """What is done, to whatever it is done to. Nothing in it is a customer's: of a search only how much it found."""

    name: ActName
    login: str | None = None
    account: str | None = None
    batch_id: int | None = None
    source: str | None = None
    message_id: str | None = None
    events: int | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ToldAct:
    """What the audit record says. A batch's login is told with it."""

    id: int
    at: datetime
    who: str
    through: Through
    act: ActName
    login: str | None
    account: str | None
    batch_id: int | None
    source: str | None
    message_id: str | None
    events: int | None
    detail: str


async def record(connection: Connection, operator: Operator | None, act: Act) -> None:
    """Write an act down, in the transaction of what it changes; nothing where nobody acts but relay itself."""
    if operator is not None:
        await connection.execute(
            sql("record_act"),
            operator.name,
            operator.through,
            act.name,
            act.login,
            act.account,
            act.batch_id,
            act.source,
            act.message_id,
            act.events,
            act.detail,
        )


class Acts(Database):
    """Reads and adds to the audit record."""

    async def record_act(self, operator: Operator, act: Act) -> None:
        """Write down an act that changes nothing here: a look at customers' data, or what is asked of a vendor."""
        async with self.acting(operator, act):
            pass

    @asynccontextmanager
    async def acting(self, operator: Operator | None, act: Act) -> AsyncIterator[Connection]:
        """Give a transaction for what an act changes; the act is in the record if and only if the block ends well.

        It is written first: where no record can be made, nothing is done.
        """
        async with self.transaction() as connection:
            await record(connection, operator, act)
            yield connection

    async def tell_acts(
        self,
        *,
        login: str | None = None,
        account: str | None = None,
        batch_id: int | None = None,
        who: str | None = None,
        act: ActName | None = None,
        below: int = _ID_MAX,
        limit: int,
    ) -> list[ToldAct]:
        """Tell up to `limit` acts with an id below `below`, the newest first."""
        rows = await self.fetch("tell_acts", login, account, batch_id, who, act, below, limit)
        return [ToldAct(**row) for row in rows]
