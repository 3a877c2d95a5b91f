"""Replicas for the model of opt-outs: with the real client, and with a fate: one dies at a step, or freezes there."""

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from relay.client import Client, Uploaded, UploadJob
from relay.events import Operation
from relay.flush import Checker, LaneWorker, LoginPlan, Worked
from relay.flush.recovering import Recovering
from relay.metrics import Metrics
from relay.spool import Spool, SpoolFile
from relay.store import Lease, Store
from tests.integration.faults import STORE_STEPS, Died

LEASE_S = 600
"""No lease runs out by itself."""


@dataclass
class Fate:
    """What happens to a replica at a step, once: it dies, and does nothing any more, or it freezes until it is thawed.

    One whose lease ran out while it was frozen finds that out by its own clock before it sends another byte.
    """

    at: str = ""
    kind: Literal["dies", "freezes"] = "dies"
    dead: bool = False
    frozen: bool = False
    lease_over: bool = False
    thawed: asyncio.Event = field(default_factory=asyncio.Event)

    async def step(self, step: str) -> None:
        """Meet it if this is the step."""
        if self.dead:
            raise Died
        if step != self.at:
            return
        self.at = ""
        if self.kind == "dies":
            self.dead = True
            raise Died
        self.frozen = True
        await self.thawed.wait()
        self.frozen = False


class FatedStore(Store):
    """The store of one replica; a dead one gives no lane back."""

    fate: Fate

    async def release_lane(self, lease: Lease) -> None:
        """Give the lane back while alive."""
        if not self.fate.dead:
            await super().release_lane(lease)


def _fated(step: str) -> Callable[..., Awaitable[Any]]:
    async def call(self: FatedStore, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 (the store's methods)
        await self.fate.step(f"before {step}")
        result = await getattr(Store, step)(self, *args, **kwargs)
        await self.fate.step(f"after {step}")
        return result

    return call


for _step in STORE_STEPS:
    setattr(FatedStore, _step, _fated(_step))


class FatedSpool(Spool):
    """The spool of one replica."""

    fate: Fate

    async def write(self, name: str, chunks: AsyncIterable[bytes], rows: int) -> SpoolFile:
        """Write a file."""
        await self.fate.step("before write")
        file = await super().write(name, chunks, rows)
        await self.fate.step("after write")
        return file


@dataclass
class FatedClient:
    """The real client of one replica; it notes what goes up, in the order in which it begins."""

    client: Client
    fate: Fate
    begun: list[Operation]

    async def upload(self, job: UploadJob) -> Uploaded:
        """Send one file over HTTP."""
        await self.fate.step("before upload")
        if not self.fate.lease_over:
            self.begun.append(job.operation)
        fated = replace(job, lease_left_s=lambda: 0.0 if self.fate.lease_over else job.lease_left_s())
        uploaded = await self.client.upload(fated)
        await self.fate.step("after upload")
        return uploaded


@dataclass
class Replica:
    """One replica, with a disk, tokens and a lease of its own. `begun` is shared: all uploads of the world."""

    store: Store
    directory: Path
    begun: list[Operation]
    said: Callable[[str], None]
    clock: Callable[[], float]
    fate: Fate = field(default_factory=Fate)
    under_way: asyncio.Task[None] | None = None
    worked: Worked = field(default_factory=Worked)
    worker: LaneWorker = field(init=False)
    client: Client = field(init=False)

    def __post_init__(self) -> None:
        self.revive()

    def revive(self) -> None:
        """Start anew, as a process of another owner on the same disk."""
        store, spool = FatedStore(self.store._pool), FatedSpool(self.directory)  # noqa: SLF001 - one pool for all
        self.fate = store.fate = spool.fate = Fate()
        self.client = Client(Metrics(), spool, token_clock=self.clock, host_clock=self.clock)
        uploads = FatedClient(self.client, self.fate, self.begun)
        metrics = Metrics()
        recovering = Recovering(store, self.client, metrics, settled_s=0.0)
        self.worker = LaneWorker(
            store,
            spool,
            uploads,
            metrics,
            uuid4(),
            LEASE_S,
            checker=Checker(store, self.client, metrics),
            may_try=self.client.may_try,
            recovering=recovering,
        )

    async def work(self, plan: LoginPlan, fence: int, fate: tuple[str, Literal["dies", "freezes"]] | None) -> None:
        """Do one piece of work, unless it is frozen in an earlier one, up to its end or its fate."""
        if self.under_way is not None:
            return
        if fate is not None:
            self.fate.at, self.fate.kind = fate

        async def piece() -> None:
            self.worked = Worked()
            with suppress(Died):
                self.worked = await self.worker.work(plan, fence)

        self.under_way = asyncio.create_task(piece())
        while not (self.fate.frozen or self.under_way.done()):
            await asyncio.wait({self.under_way}, timeout=0.005)
        await self._ended()

    async def thaw(self) -> None:
        """Go on, and end the piece of work."""
        if self.under_way is not None:
            self.fate.thawed.set()
            await self.under_way
        await self._ended()

    def lease_ends(self) -> None:
        """Its lease has run out; it will notice where it next looks."""
        self.fate.lease_over = self.under_way is not None

    async def close(self) -> None:
        """End it, whatever it does."""
        await self.thaw()
        await self.client.close()

    async def _ended(self) -> None:
        if self.under_way is None or not self.under_way.done():
            return
        task, self.under_way = self.under_way, None
        task.result()
        self.fate.at, self.fate.lease_over = "", False
        self.fate.thawed.clear()
        if self.fate.dead:
            self.said("  … and died")
            await self.client.close()
            self.revive()


def with_due(plan: LoginPlan, due: Sequence[Operation]) -> LoginPlan:
    """The plan with only these operations due by the clock."""
    never_s = 1e9
    return replace(
        plan, targets=tuple(t if t.operation in due else replace(t, flush_after_s=never_s) for t in plan.targets)
    )


def with_login(plan: LoginPlan, **changes: object) -> LoginPlan:
    """The plan with other settings of the login, which count as the same settings."""
    return replace(plan, login=plan.login.model_copy(update=changes))


def with_header(plan: LoginPlan, headers: Mapping[str, str], fingerprint: str) -> LoginPlan:
    """The plan with columns renamed: other settings."""
    return replace(
        plan,
        fingerprint=fingerprint,
        columns={
            key: {headers.get(header, header): column for header, column in columns.items()}
            for key, columns in plan.columns.items()
        },
    )
