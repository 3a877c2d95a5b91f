"""A vendor in memory, and a small world around the store and the settling code, for the proofs of the last word.

Postgres, the store, the lanes and the spool are the real ones; only the upload itself is answered here, so that every
fault can be had at every moment.
"""

import csv
import hashlib
import io
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import asyncpg

from relay import csvline
from relay.batches import Delivered, Outcome
from relay.client import Uploaded, UploadJob
from relay.events import Event, Keys, Operation
from relay.flush import LaneWorker, LoginPlan, Worked, login_plans, stored_columns
from relay.metrics import Metrics
from relay.settings import Account, HaihaiLogin, Secret, Settings, Source
from relay.spool import Spool
from relay.store import Store

KEYS = Keys(b"0123456789abcdef")
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Reader:
    """One reader at the vendor."""

    mailable: bool = True


@dataclass(slots=True)
class Readers:
    """A reader list. `undoes` says whether an upsert makes a stopped reader mailable again: the worst that may be."""

    undoes: bool = True
    readers: dict[str, Reader] = field(default_factory=dict)

    def apply(self, operation: Operation, addresses: list[str]) -> None:
        """Import one file."""
        for address in addresses:
            match operation:
                case Operation.UPSERT:
                    reader = self.readers.setdefault(address, Reader())
                    reader.mailable = reader.mailable or self.undoes
                case Operation.DELETE:
                    self.readers.pop(address, None)
                case Operation.STOP | Operation.BAN if address in self.readers:
                    self.readers[address].mailable = False
                case Operation.ALLOW if address in self.readers:
                    self.readers[address].mailable = True
                case _:
                    pass

    def mailable(self, address: str) -> bool:
        """Whether a customer would be mailed."""
        return address in self.readers and self.readers[address].mailable


def truth(words: list[Event]) -> tuple[bool, bool]:
    """What holds after all words in their true order: whether the customer exists, and whether relay may mail them."""
    exists, stopped = False, False
    for word in sorted(
        enumerate(words), key=lambda w: (w[1].occurred_at, w[1].operation.opt_out, w[1].received_at, w[0])
    ):
        match word[1].operation:
            case Operation.UPSERT:
                exists = True
            case Operation.DELETE:
                exists, stopped = False, False
            case Operation.STOP | Operation.BAN:
                stopped = True
            case Operation.ALLOW:
                stopped = False
    return exists, exists and not stopped


def addresses_of(path: Path) -> list[str]:
    """The addresses in a spooled file, in order."""
    rows = csv.reader(io.StringIO(path.read_bytes().decode("cp932"), newline=""))
    return [row[0] for row in rows][1:]


class Answering:
    """Stands where the client stands: imports the file as told and answers as told."""

    def __init__(self, answer: Callable[[UploadJob, list[str]], Outcome]) -> None:
        self.answer = answer
        self.uploads = 0

    async def upload(self, job: UploadJob) -> Uploaded:
        """Answer one upload."""
        self.uploads += 1
        outcome = self.answer(job, addresses_of(job.file.path))
        return Uploaded(outcome, 200, job.file.bytes, "")


def settings(logins: int, *, settle_wait_s: float = 0, rows_max: int | None = None, attempts_max: int = 10) -> Settings:
    """Settings of so many logins of one account each, `login-0` with `account-0` and so on."""
    return Settings(
        sources={
            "crm": Source(bearer_tokens=(Secret("x" * 20),), accounts=tuple(f"account-{n}" for n in range(logins)))
        },
        logins={
            f"login-{n}": HaihaiLogin(
                name=f"login-{n}",
                vendor="haihai",
                base_url="http://127.0.0.1:1",
                aid=1 + n,
                login_id="relay",
                transport_password=Secret("secret"),
                settle_wait_s=settle_wait_s,
                rows_max=rows_max,
                attempts_max=attempts_max,
                calls_per_day_limit=10_000_000,
            )
            for n in range(logins)
        },
        accounts={
            f"account-{n}": Account.model_validate(
                {
                    "name": f"account-{n}",
                    "login": f"login-{n}",
                    "columns": {"メールアドレス": "email"},
                    "flush_after_s": 0,
                    "flush_opt_outs_after_s": 0,
                }
            )
            for n in range(logins)
        },
    )


class World:
    """A store on a real database with settings in place, and helpers to append and flush."""

    def __init__(self, store: Store, connection: asyncpg.Connection, spool: Spool, plans: dict[str, LoginPlan]) -> None:
        self.store = store
        self.connection = connection
        self.spool = spool
        self.plans = plans
        self.layouts: dict[tuple[str, Operation], int] = {}
        self.metrics = Metrics()
        self._number = 0

    async def prepare(self) -> None:
        """Make lanes, cursors and layouts."""
        for plan in self.plans.values():
            await self.store.ensure_lanes([plan.login.name])
            for (account, operation), columns in plan.columns.items():
                await self.store.ensure_cursors(account, [operation])
                layout = await self.store.ensure_layout(account, operation, stored_columns(columns))
                self.layouts[account, operation] = layout

    def event(self, account: str, operation: Operation, address: str, occurred: float) -> Event:
        """Make an event that occurred so many seconds after the epoch and is received after all others."""
        self._number += 1
        return Event(
            account=account,
            source="crm",
            message_id=f"msg_{self._number}",
            digest=hashlib.md5(str(self._number).encode(), usedforsecurity=False).digest(),
            operation=operation,
            customer=KEYS.customer(address),
            layout=self.layouts[account, operation],
            line=csvline.record((address,)),
            occurred_at=EPOCH + timedelta(seconds=occurred),
            received_at=EPOCH + timedelta(days=30, microseconds=self._number),
        )

    async def connection_execute(self, query: str, *args: object) -> None:
        """Change what only time or an operator would change."""
        async with self.store.connection() as connection:
            await connection.execute(query, *args)

    async def connection_fetch(self, query: str, *args: object) -> list[asyncpg.Record]:
        """Look something up."""
        async with self.store.connection() as connection:
            return await connection.fetch(query, *args)

    def worker(self, answering: Answering) -> LaneWorker:
        """Make a replica that gets its answers there."""
        return LaneWorker(self.store, self.spool, answering, self.metrics, uuid4(), 60)

    async def fence(self) -> int:
        """Take the fence, however often it takes."""
        while (fence := await self.store.fence()) is None:
            pass
        return fence

    async def flush(self, worker: LaneWorker, plan: LoginPlan, rounds_max: int = 200) -> list[Worked]:
        """Work on a login until there is nothing more to do now; a round without end is an error."""
        done: list[Worked] = []
        fence = await self.fence()
        while plan.login.name in await worker.survey([plan], fence):
            done.append(await worker.work(plan, fence))
            fence = await self.fence()
            assert len(done) < rounds_max, f"no end of it: {done[-5:]}"
        return done


@asynccontextmanager
async def world(url: str, directory: Path, settings_: Settings) -> AsyncIterator[World]:
    """Open a world on a database."""
    async with Store.open(url) as store:
        connection = await asyncpg.connect(url)
        try:
            opened = World(store, connection, Spool(directory), login_plans(settings_, KEYS))
            opened.metrics.create_at_zero(settings_)
            await opened.prepare()
            yield opened
        finally:
            await connection.close()


def delivering(readers: Readers) -> Answering:
    """A vendor that imports everything and says so."""

    def answer(job: UploadJob, addresses: list[str]) -> Outcome:
        readers.apply(job.operation, addresses)
        return Delivered()

    return Answering(answer)
