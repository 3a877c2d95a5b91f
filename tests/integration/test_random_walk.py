"""A seeded random walk through faults: nobody ends mailable whom the true order does not leave mailable.

Each walk is a login of its own with two customers and files of one or two rows; many walks share one database.
`RELAY_WALKS` says how many (1,000 by default), `RELAY_WALKS_SEED` where the seeds begin.
"""

import asyncio
import contextlib
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import pytest

from relay.batches import (
    Accepted,
    Busy,
    Delivered,
    LineRejection,
    Misconfigured,
    Outcome,
    Refused,
    TooLarge,
    Transient,
    Unknown,
)
from relay.client import UploadJob
from relay.events import Event, Operation
from relay.flush import LoginPlan
from tests.integration.model import Answering, Readers, World, settings, truth, world

WALKS = int(os.environ.get("RELAY_WALKS", "1000"))
SEED = int(os.environ.get("RELAY_WALKS_SEED", "1"))
WALKS_PER_DATABASE = 250
SIDE_BY_SIDE = 8
STEPS = 14
ROUNDS_MAX = 400
STALE_SHARE = 0.5
FENCES = 3
"""How many of the last fences replicas may still be holding."""


FAULTS: tuple[Outcome | Literal["nothing", "crash"], ...] = (
    "nothing",
    "crash",
    Unknown("lost reply"),
    Transient("refused connection"),
    Busy("Failure_Request during processing", 20),
    Refused("Failure_Data is incorrect"),
    TooLarge("413"),
    Misconfigured("81435"),
)
FAULT_WEIGHTS = (55, 6, 16, 6, 4, 7, 3, 3)


class Crashed(Exception):
    """The replica dies in the middle of an upload."""


@dataclass(slots=True)
class Walk:
    """One walk: a login with one account, two customers, and a vendor that imports now or later."""

    w: World
    plan: LoginPlan
    rng: random.Random
    later: bool
    readers: Readers = field(init=False)
    words: dict[str, list[Event]] = field(init=False)
    queue: list[tuple[Operation, list[str]]] = field(default_factory=list)
    faulty: bool = True
    fences: list[int] = field(default_factory=list)
    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.readers = Readers(undoes=self.rng.random() < 0.7)
        name = self.plan.login.name
        self.words = {f"a.{name}@example.jp": [], f"b.{name}@example.jp": []}

    @property
    def account(self) -> str:
        """The walk's account."""
        return self.plan.targets[0].account

    # -- the vendor ----------------------------------------------------------------------------------------------

    def answer(self, job: UploadJob, addresses: list[str]) -> Outcome:
        """Import the file or not, and answer truly or not."""
        outcome = self._answer(job, addresses)
        self.log.append(f"upload {job.operation} {[a[0] for a in addresses]} -> {outcome}")
        return outcome

    def _answer(self, job: UploadJob, addresses: list[str]) -> Outcome:
        if not self.faulty:
            return self._take(job, addresses, ())
        arrived = self.rng.random() < 0.5
        match self.rng.choices(FAULTS, FAULT_WEIGHTS)[0]:
            case "nothing":
                return self._take(job, addresses, [n for n in range(len(addresses)) if self.rng.random() < 0.1])
            case "crash":
                self._import(job.operation, addresses if arrived else [])
                self.log.append(f"crash {job.operation} {[a[0] for a in addresses]} arrived {arrived}")
                raise Crashed
            case Unknown() as unknown:
                self._import(job.operation, addresses if arrived else [])
                return replace(unknown, timed_out=self.rng.random() < 0.5)
            case outcome:
                return outcome

    def _take(self, job: UploadJob, addresses: list[str], refused: Sequence[int]) -> Outcome:
        """Import all but the refused places; who imports later never tells which."""
        if self.later:
            refused = ()
        self._import(job.operation, [a for n, a in enumerate(addresses) if n not in refused])
        return Accepted() if self.later else Delivered(tuple(LineRejection(n + 2, "refused") for n in refused))

    def _import(self, operation: Operation, addresses: list[str]) -> None:
        if self.later:
            self.queue.append((operation, addresses))
        else:
            self.readers.apply(operation, addresses)

    def import_queue(self) -> None:
        """Import what was accepted, in any order."""
        self.rng.shuffle(self.queue)
        for operation, addresses in self.queue:
            self.log.append(f"import {operation} {[a[0] for a in addresses]}")
            self.readers.apply(operation, addresses)
        self.queue.clear()

    # -- steps ---------------------------------------------------------------------------------------------------

    async def receive(self) -> None:
        """Append an event that occurred at any time, often a tie, perhaps before others that came earlier."""
        address = self.rng.choice(list(self.words))
        event = self.w.event(self.account, self.rng.choice(list(Operation)), address, occurred=self.rng.randrange(8))
        self.words[address].append(event)
        self.log.append(f"event {event.operation} {address[0]} at {event.occurred_at.second}")
        await self.w.store.append([event])
        self.fences.append(await self.w.fence())

    async def flush(self) -> None:
        """Do one piece of work, with any operations due."""
        due = {o for o in Operation if self.rng.random() < 0.7}
        targets = tuple(t if t.operation in due else replace(t, flush_after_s=1e9) for t in self.plan.targets)
        with contextlib.suppress(Crashed):
            # Another replica may have received and worked between this one's fence and its lease.
            stale = self.fences and self.rng.random() < STALE_SHARE
            fence = self.rng.choice(self.fences[-FENCES:]) if stale else await self.w.fence()
            await self.w.worker(Answering(self.answer)).work(replace(self.plan, targets=targets), fence)

    async def pass_time(self) -> None:
        """Let the next tries come due, and perhaps the lane's wait end; by then the vendor has imported."""
        self.log.append("time passes")
        await self.w.connection_execute("update cursor set not_before = '-infinity' where account = $1", self.account)
        if self.rng.random() < 0.7 or not self.faulty:
            self.import_queue()
            await self.w.connection_execute(
                "update lane set not_before = '-infinity', paused_at = null, pause_reason = null, "
                "paused_fingerprint = null where login = $1",
                self.plan.login.name,
            )

    async def keep_house(self) -> None:
        """Append again what the vendor never answered, hours later."""
        later = "update batch set ended_at = ended_at - interval '2 hours' where account = $1 and state = 'failed'"
        await self.w.connection_execute(later, self.account)
        self.log.append(f"unanswered, again {sum((await self.w.store.retry_unanswered()).values())}")

    async def retry(self) -> int:
        """Retry all dead letters, as an operator would."""
        batches = await self.w.connection_fetch("select id from batch where account = $1 order by id", self.account)
        retried = [await self.w.store.retry_batch(self.account, row["id"]) for row in batches]
        self.log.append(f"retried {sum(retried)}")
        return sum(retried)

    async def go(self) -> None:
        """Walk, then let everything heal: no faults, time passes, operators retry, until there is nothing to do."""
        for _ in range(STEPS):
            step = self.rng.choices(
                (self.receive, self.flush, self.pass_time, self.keep_house, self.retry), (5, 6, 3, 1, 0.3)
            )[0]
            await step()
        self.faulty = False
        for _ in range(ROUNDS_MAX):
            await self.pass_time()
            await self.keep_house()
            worker = self.w.worker(Answering(self.answer))
            done = await self.w.flush(worker, self.plan)
            if not done and not await self.retry():
                break
        else:
            raise AssertionError("no end of it")
        self.import_queue()

    def wrong(self) -> list[str]:
        """Whom the vendor's list has wrong."""
        return [
            address[0]
            for address, said in self.words.items()
            if self.readers.mailable(address) > truth(said)[1] or (address in self.readers.readers) != truth(said)[0]
        ]


async def walk(w: World, plan: LoginPlan, seed: int) -> str:
    """Do one walk; return what went wrong, or nothing."""
    rng = random.Random(seed)
    one = Walk(w, plan, rng, later=plan.login.settle_after_s > 0)
    try:
        await one.go()
    except Exception as error:
        error.add_note(f"seed {seed}: " + "\n".join(one.log))
        raise
    wrong = one.wrong()
    return f"seed {seed}, wrong: {wrong}\n" + "\n".join(one.log) if wrong else ""


@pytest.mark.parametrize("first", range(SEED, SEED + WALKS, WALKS_PER_DATABASE))
async def test_no_walk_through_faults_ends_with_a_wrong_reader(database: str, tmp_path: Path, first: int) -> None:
    """No lost or double event, no endless repetition, and each customer's last word holds in the end."""
    rng = random.Random(first)
    count = min(WALKS_PER_DATABASE, SEED + WALKS - first)
    chosen = settings(count, settle_wait_s=rng.choice((0, 60)), rows_max=rng.choice((1, 2)), attempts_max=3)
    async with world(database, tmp_path, chosen) as w:
        turns = asyncio.Semaphore(SIDE_BY_SIDE)

        async def one(number: int, plan: LoginPlan) -> str:
            async with turns:
                return await walk(w, plan, first + number)

        found = await asyncio.gather(*(one(number, plan) for number, plan in enumerate(w.plans.values())))
        unsettled = await w.connection.fetchval(
            "select count(*) from batch where state in ('ready', 'uploading', 'waiting')"
        )
    failures = [failure for failure in found if failure]
    assert not failures, f"{len(failures)} of {count}\n" + failures[0]
    assert unsettled == 0
