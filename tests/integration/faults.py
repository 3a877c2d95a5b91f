"""A replica that can die at every step, and vendors that keep an upload waiting."""

import asyncio
import itertools
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from relay.batches import Delivered, Outcome
from relay.client import Uploaded, UploadJob
from relay.errors import Unavailable
from relay.events import Operation
from relay.flush import Flusher, LaneWorker, LoginPlan
from relay.metrics import Metrics
from relay.spool import Spool, SpoolFile
from relay.store import Lease, Store
from tests.integration.model import Readers, World, addresses_of

STORE_STEPS = ("survey", "cut", "manifest", "find_layout", "spooled", "begin_upload", "settle")
STEPS = [f"{when} {step}" for step in (*STORE_STEPS, "write", "upload") for when in ("before", "after")]


class Died(Exception):
    """The replica died: it does nothing any more."""


@dataclass
class Death:
    """Dies at a step, once; after that nothing is written."""

    at: str
    dead: bool = False

    def step(self, step: str) -> None:
        """Die here if this is the step."""
        if step == self.at or self.dead:
            self.dead = True
            raise Died


class MortalStore(Store):
    """A store that dies before or after one of its calls; a dead replica gives no lane back."""

    death: Death

    async def release_lane(self, lease: Lease) -> None:
        """Give the lane back while alive."""
        if not self.death.dead:
            await super().release_lane(lease)


def _mortal(step: str) -> Callable[..., Awaitable[Any]]:
    async def call(self: MortalStore, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 (the store's methods)
        self.death.step(f"before {step}")
        result = await getattr(Store, step)(self, *args, **kwargs)
        self.death.step(f"after {step}")
        return result

    return call


for _step in STORE_STEPS:
    setattr(MortalStore, _step, _mortal(_step))


class MortalSpool(Spool):
    """A spool that dies before or after it wrote a file."""

    death: Death

    async def write(self, name: str, chunks: AsyncIterable[bytes], rows: int) -> SpoolFile:
        """Write a file."""
        self.death.step("before write")
        file = await super().write(name, chunks, rows)
        self.death.step("after write")
        return file


@dataclass
class MortalVendor:
    """Imports files; its caller dies before or after the upload."""

    readers: Readers
    death: Death
    sent: list[list[str]] = field(default_factory=list)

    async def upload(self, job: UploadJob) -> Uploaded:
        """Import one file."""
        self.death.step("before upload")
        addresses = addresses_of(job.file.path)
        self.readers.apply(job.operation, addresses)
        self.sent.append(addresses)
        self.death.step("after upload")
        return Uploaded(Delivered(), 200, job.file.bytes, "")


@dataclass
class Waiting:
    """A vendor whose answers to some logins wait until they are let go; it counts who is uploading at a time."""

    held: set[str] = field(default_factory=set)
    outcome: Outcome = field(default_factory=Delivered)
    go: asyncio.Event = field(default_factory=asyncio.Event)
    under_way: list[UploadJob] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    most: int = 0

    async def upload(self, job: UploadJob) -> Uploaded:
        """Take one file, and answer when the login is not held."""
        name = job.login.name
        assert name not in [other.login.name for other in self.under_way], "two uploads on one login"
        self.under_way.append(job)
        self.most = max(self.most, len(self.under_way))
        try:
            if name in self.held:
                await self.go.wait()
            else:
                await asyncio.sleep(0)
        finally:
            self.under_way.remove(job)
        self.ended.append(name)
        return Uploaded(self.outcome, 200, job.file.bytes, "")


def replica(w: World, uploads: Any, *, store: Store | None = None, lease_s: float = 60) -> LaneWorker:  # noqa: ANN401
    """Make a replica with metrics of its own."""
    return LaneWorker(store or w.store, w.spool, uploads, Metrics(), uuid4(), lease_s)


async def work_until_death(w: World, worker: LaneWorker, plan: LoginPlan) -> None:
    """Work on a login, piece after piece, until the replica dies."""
    while True:
        await worker.work(plan, await w.fence())


async def lease_runs_out(w: World) -> None:
    """Let so much time pass that a dead replica's lease is over."""
    await w.connection_execute("update lane set leased_until = now() where lease is not null")


async def delays_pass(w: World) -> None:
    """Let every next try come due."""
    await w.connection_execute("update cursor set not_before = '-infinity'")
    await w.connection_execute("update lane set not_before = '-infinity'")


async def finish(w: World, worker: LaneWorker, plan: LoginPlan) -> None:
    """Work until nothing is left, however long that takes."""
    for _ in range(20):
        await delays_pass(w)
        if not await w.flush(worker, plan):
            return
    raise AssertionError("no end of it")


class WatchedStore(Store):
    """A store that counts rounds: those with a fence, and those for which Postgres was not there."""

    rounds = 0
    missed = 0

    async def fence(self) -> int | None:
        """Take the fence."""
        try:
            fence = await super().fence()
        except Unavailable:
            self.missed += 1
            raise
        self.rounds += 1
        return fence


# -- flushers -------------------------------------------------------------------------------------------------------


def flusher(w: World, worker: LaneWorker, *, uploads_max: int = 16, grace_s: float = 20) -> Flusher:
    """Make a flusher that goes round fast."""
    return Flusher(worker, w.plans, round_s=0.02, uploads_max=uploads_max, grace_s=grace_s)


@asynccontextmanager
async def running(*flushers: Flusher) -> AsyncIterator[None]:
    """Run flushers for the length of the block, then stop them and wait for their end."""
    async with asyncio.TaskGroup() as group:
        for one in flushers:
            group.create_task(one.run())
        yield
        for one in flushers:
            one.stop()


CUSTOMERS = itertools.count(1)


async def say_to(w: World, *logins: int, operation: Operation = Operation.UPSERT) -> None:
    """Append an event to the account of each login, each of a customer of its own."""
    await w.store.append([w.event(f"account-{n}", operation, f"c{next(CUSTOMERS)}@example.jp", 0) for n in logins])


async def batch_states(w: World) -> dict[str, set[str]]:
    """The states of the batches of each login."""
    rows = await w.connection.fetch("select login, array_agg(distinct state) as states from batch group by login")
    return {row["login"]: set(row["states"]) for row in rows}
