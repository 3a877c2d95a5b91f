"""The model test of opt-outs: whatever happens in whatever order, who opted out is not mailed, and the proofs are true.

Two customers of whom anything is said, in and out of order, and some bystanders, at a simulated vendor over real HTTP;
two replicas that die or freeze at any step, with older fences and other settings; faults of the vendor; an operator who
pauses, resumes, retries and dismisses. After every step what is told is held against the vendor's own records, and in
the end the vendor's list against the last words.

`OPT_OUT_EXAMPLES` says how many examples are tried for each vendor (50), `OPT_OUT_STEPS` of how many steps at most
(20), `OPT_OUT_SEED` makes others.
"""

import asyncio
import os
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import asyncpg
import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, note, seed, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from relay.events import OPT_OUTS, Operation
from relay.store import Store
from tests.integration.faults import STEPS
from tests.integration.opt_out_case import ADDRESSES, VENDORS, Case
from tests.integration.opt_out_faults import FAULTS

EXAMPLES = int(os.environ.get("OPT_OUT_EXAMPLES", "50"))
SEED = os.environ.get("OPT_OUT_SEED")
PHASES = [Phase.generate, Phase.shrink] if os.environ.get("OPT_OUT_SHRINK", "1") == "1" else [Phase.generate]
STEPS_MAX = int(os.environ.get("OPT_OUT_STEPS", "20"))

ALL = tuple(Operation)
DUE: Sequence[tuple[Operation, ...]] = (
    ALL,
    ALL,
    tuple(OPT_OUTS),
    (Operation.UPSERT,),
    (Operation.UPSERT, Operation.ALLOW),
    (Operation.STOP,),
    (Operation.DELETE,),
)
"""What may be due at a time; most often everything."""

Words = list[tuple[str, Operation]]
PEOPLE = [(address, operation) for address in ADDRESSES[:2] for operation in Operation]
WORDS = st.lists(st.sampled_from(PEOPLE), min_size=1, max_size=4)

Fate = tuple[str, Literal["dies", "freezes"]]
FATES = st.one_of(st.none(), st.none(), st.tuples(st.sampled_from(STEPS), st.sampled_from(("dies", "freezes"))))


@dataclass
class Stage:
    """What all examples share: a loop, a database, a directory."""

    runner: asyncio.Runner
    store: Store
    connection: asyncpg.Connection
    directory: Path
    vendor: str
    cases: int = 0
    found_at: int | None = None

    failed: bool = False
    log: list[str] = field(default_factory=list)

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Do a step. If it fails, what happened so far is told with it."""
        try:
            self.runner.run(work)
        except BaseException:
            self.found_at = self.found_at or self.cases
            self.failed = True
            note("\n".join(self.log))
            raise


class OptOuts(RuleBasedStateMachine):
    """One example."""

    stage: Stage
    case: Case
    now: int = 7

    @initialize(
        rows_max=st.sampled_from((None, None, 1, 2)),
        undoes=st.booleans(),
        mode=st.sampled_from(("all", "all", "create")),
    )
    def begin(self, rows_max: int | None, undoes: bool, mode: str) -> None:  # noqa: FBT001 (drawn)
        """A login of its own."""
        stage = self.stage
        stage.cases += 1
        vendor = VENDORS[stage.vendor]()
        vendor.told.undoes = undoes
        directory = stage.directory / str(stage.cases)
        self.case = Case(stage.store, stage.connection, directory, stage.cases, vendor, rows_max, mode)
        stage.failed, stage.log = False, self.case.log
        stage.run(self.case.open())

    # -- what is said ------------------------------------------------------------------------------------------------

    @rule(address=st.sampled_from(ADDRESSES[:2]), operation=st.sampled_from(Operation), at=st.integers(0, 7))
    def say(self, address: str, operation: Operation, at: int) -> None:
        """A word about one of the two, later or earlier than others, or at the same time."""
        if operation in self.case.operations():
            self.stage.run(self.case.say(address, operation, at))

    @rule(words=WORDS)
    def say_words(self, words: Words) -> None:
        """Several words, each later than all before."""
        for address, operation in words:
            self.now += 1
            self.say(address, operation, self.now)

    @rule(address=st.sampled_from(ADDRESSES[2:]), at=st.integers(0, 7))
    def create_bystander(self, address: str, at: int) -> None:
        """Somebody else is created, or changed."""
        self.stage.run(self.case.say(address, Operation.UPSERT, at))

    @rule(back=st.integers(1, 9))
    def send_again(self, back: int) -> None:
        """A sender repeats a webhook: nothing comes of it."""
        said = [event for events in self.case.words.values() for event in events]

        async def repeat() -> None:
            assert await self.case.append(said[-back]) == "duplicate"

        if len(said) >= back:
            self.stage.run(repeat())

    # -- what relay does ---------------------------------------------------------------------------------------------

    @rule(replica=st.integers(0, 1), due=st.sampled_from(DUE), fate=FATES)
    def work(self, replica: int, due: tuple[Operation, ...], fate: Fate | None) -> None:
        """A replica does a piece of work, perhaps not to its end."""
        self.stage.run(self.case.work(replica, due=due, fate=fate))

    @rule(before=WORDS, between=WORDS, due=st.sampled_from(DUE), pieces=st.integers(0, 4), fate=FATES)
    def overtake(
        self, before: Words, between: Words, due: tuple[Operation, ...], pieces: int, fate: Fate | None
    ) -> None:
        """A replica holds a fence; more is said, and the other one works up to its own; then the first one does."""
        self.rest(1)
        self.say_words(before)
        fence: list[int] = []
        self.stage.run(_into(fence, self.case.w.fence()))
        self.say_words(between)
        for _ in range(pieces):
            self.stage.run(self.case.work(0, due=ALL))
        for order in range(2):
            self.time_passes(order)
            self.stage.run(self.case.work(1, due=due, fence=fence[0], fate=fate))

    @rule(words=WORDS, step=st.sampled_from(STEPS), pieces=st.integers(0, 3), over=st.booleans())
    def meanwhile(self, words: Words, step: str, pieces: int, over: bool) -> None:  # noqa: FBT001 (drawn)
        """A replica freezes at a step; more is said, and the other one works, perhaps because the lease ran out."""
        self.rest(1)
        self.create_bystander(ADDRESSES[2], self.now)
        self.stage.run(self.case.work(0, due=ALL, fate=(step, "freezes")))
        if over:
            self.lease_ends()
        self.say_words(words)
        for _ in range(pieces):
            self.stage.run(self.case.work(1, due=ALL))
        self.thaw(0)

    @rule(words=st.lists(st.none() | st.sampled_from(PEOPLE), min_size=1, max_size=6))
    def say_and_work(self, words: list[tuple[str, Operation] | None]) -> None:
        """A replica does some pieces of work, and something is said between them."""
        for word in words:
            self.say_words([word] if word else [])
            self.work_on(1)

    def work_on(self, pieces: int) -> None:
        """A replica does some pieces of work."""
        for _ in range(pieces):
            self.stage.run(self.case.work(0, due=ALL))

    @rule(kind=st.sampled_from(("other headers", "unreachable")), due=st.sampled_from(DUE))
    def work_otherwise(self, kind: Literal["other headers", "unreachable"], due: tuple[Operation, ...]) -> None:
        """A replica with other headers in its settings, or one that does not reach the vendor."""
        self.stage.run(self.case.work(1, due=due, settings=kind))

    @rule(hangs=st.booleans(), applied=st.booleans())
    def work_until_time_out(self, hangs: bool, applied: bool) -> None:  # noqa: FBT001 (drawn)
        """The vendor does not answer in time; it may go on importing all the same, until it has caught up."""
        fault = {"fault": "hang"} if hangs else {"fault": "slow", "seconds": 3600}
        self.case.vendor.faults.disarm()
        self.case.vendor.faults.add(**fault, applied=applied)
        self.stage.run(self.case.work(0, due=ALL, settings="impatient"))
        self.case.vendor.faults.disarm()

    # -- what else happens -------------------------------------------------------------------------------------------

    @rule(which=st.integers(0, 99))
    def go_wrong(self, which: int) -> None:
        """The vendor is about to misbehave."""
        faults = FAULTS[self.stage.vendor]
        fault = faults[which % len(faults)]
        self.case.log.append(f"fault: {fault}")
        self.case.vendor.faults.add(**fault)

    @rule(
        words=WORDS,
        pieces=st.integers(0, 2),
        which=st.integers(0, 99),
        more=st.lists(st.sampled_from(PEOPLE), max_size=2),
    )
    def go_wrong_at_once(self, words: Words, pieces: int, which: int, more: Words) -> None:
        """Something is said and goes up; the vendor misbehaves; perhaps more is said; time passes, and all goes on."""
        self.case.vendor.faults.disarm()
        self.rest(1)
        self.say_words(words)
        self.work_on(pieces)
        self.time_passes(0)
        self.go_wrong(which)
        self.work_on(1)
        self.say_words(more)
        self.rest(which % 2)
        self.work_on(3)

    @rule(rows=st.integers(0, 3))
    def break_down(self, rows: int) -> None:
        """The vendor is about to break down in the middle of an import, which 配配メール would tell nobody."""
        if self.stage.vendor == "blastmail":
            self.case.log.append(f"the next import breaks down after {rows}")
            self.case.vendor.told.breaks_at = rows

    def thaw(self, replica: int) -> None:
        """A frozen replica goes on."""
        self.stage.run(self.case.replicas[replica].thaw())

    def lease_ends(self) -> None:
        """A lease runs out."""
        self.stage.run(self.case.lease_ends())

    def time_passes(self, order: int) -> None:
        """Next tries come due, and the lane's wait ends."""
        self.stage.run(self.case.delays_pass())
        self.stage.run(self.case.lane_rests(order))

    @rule(what=st.integers(0, 6))
    def happen(self, what: int) -> None:
        """One thing or another."""
        match what:
            case 0 | 1:
                self.thaw(what)
            case 2:
                self.lease_ends()
            case 3:
                self.stage.run(self.case.delays_pass())
            case 4 | 5:
                self.stage.run(self.case.lane_rests(what))
            case _:
                self.case.vendor.faults.disarm()

    @rule(order=st.integers(0, 1))
    def rest(self, order: int) -> None:
        """The lane is free, and nothing waits for another try, nor for an operator."""
        self.time_passes(order)
        self.lease_ends()
        for replica in range(2):
            self.thaw(replica)
        self.operator("resume")

    @rule(does=st.sampled_from(("pause", "resume", "resume", "retry", "retry", "dismiss")))
    def operator(self, does: str) -> None:
        """An operator does something."""
        case, name = self.case, self.case.name
        case.log.append(does)
        match does:
            case "pause":
                self.stage.run(case.store.pause_lane(name, ""))
            case "resume":
                self.stage.run(case.store.resume_lane(name))
            case "retry":
                self.stage.run(_nothing(case.retry()))
            case _:
                self.stage.run(case.dismiss())

    # -- what must hold ----------------------------------------------------------------------------------------------

    @invariant()
    def what_is_told_is_true(self) -> None:
        """After every step."""
        self.stage.run(self.case.check())

    def teardown(self) -> None:
        """In the end, when all is calm, the last words hold."""
        if not hasattr(self, "case"):
            return
        try:
            if not self.stage.failed:
                self.stage.run(self.case.calm())
                self.stage.run(self.case.check())
                self.stage.run(self.case.verdict())
        finally:
            self.stage.run(self.case.close())


async def _into(found: list[int], work: Coroutine[Any, Any, int]) -> None:
    found.append(await work)


async def _nothing(work: Coroutine[Any, Any, object]) -> None:
    await work


@pytest.mark.parametrize("vendor", VENDORS)
def test_who_opted_out_is_not_mailed(database: str, tmp_path: Path, vendor: str) -> None:
    """Nobody is mailed who opted out, nothing is lost, nothing told that is not so, and opt-outs go first."""
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        store = runner.run(stack.enter_async_context(Store.open(database)))
        connection = runner.run(asyncpg.connect(database))
        OptOuts.stage = Stage(runner, store, connection, tmp_path, vendor)
        machine = seed(int(SEED))(OptOuts) if SEED else OptOuts
        try:
            run_state_machine_as_test(
                machine,
                settings=settings(
                    max_examples=EXAMPLES,
                    stateful_step_count=STEPS_MAX,
                    deadline=None,
                    database=None,
                    derandomize=not SEED,
                    phases=PHASES,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        except BaseException as error:
            error.add_note(f"first met by example {OptOuts.stage.found_at}")
            raise
        finally:
            runner.run(connection.close())
            runner.run(stack.aclose())
