"""A customer opts out at an awkward moment: wherever an earlier upsert is just then, nobody is mailed in the end."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Literal

import asyncpg
import pytest

from relay.events import EventState, Operation
from relay.store import Store
from tests.integration.opt_out_case import ADDRESSES, VENDORS, Case
from tests.integration.opt_out_faults import BAD_DATA
from tests.integration.opt_out_vendors import mailable

U, D, S, A = Operation.UPSERT, Operation.DELETE, Operation.STOP, Operation.ALLOW
TARO, HANAKO, _, JIRO = ADDRESSES[:4]

Open = Callable[[], Awaitable[Case]]


@pytest.fixture(params=VENDORS)
async def case(request: pytest.FixtureRequest, database: str, tmp_path: Path) -> AsyncIterator[Case]:
    """A login at each vendor, whose upserts undo stops: the worst that may be."""
    async with opened(database, tmp_path, request.param) as one:
        yield one


@asynccontextmanager
async def opened(database: str, directory: Path, vendor: str, mode: str = "all") -> AsyncIterator[Case]:
    """Open a case."""
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(Store.open(database))
        connection = await asyncpg.connect(database)
        stack.push_async_callback(connection.close)
        sim = VENDORS[vendor]()
        sim.told.undoes = True
        one = Case(store, connection, directory, 1, sim, None, mode)
        await one.open()
        stack.push_async_callback(one.close)
        yield one


async def ends(case: Case, *begun: Operation) -> None:
    """Check that, after all is calm, nobody who opted out is mailed, and what went up from the opt-out on."""
    await case.calm()
    await case.check()
    await case.verdict()
    assert not mailable(case.vendor, case.contract, TARO)
    assert mailable(case.vendor, case.contract, JIRO)
    assert tuple(case.begun[: len(begun)]) == begun, case.log


@pytest.mark.parametrize("opt_out", [D, S])
async def test_while_an_earlier_upsert_waits(case: Case, opt_out: Operation) -> None:
    """The opt-out goes up first, from behind the backlog; a deleted customer is never created at all."""
    for address in (TARO, HANAKO, JIRO):
        await case.say(address, U, 1)
    await case.say(TARO, opt_out, 2)
    await case.work(0, due=(opt_out,))
    await ends(case, opt_out, U)
    if opt_out is D:
        assert TARO not in {reader.address for reader in case.vendor.readers_of(case.contract).trash()}


@pytest.mark.parametrize("opt_out", [D, S])
@pytest.mark.parametrize("at", ["before upload", "after upload", "before settle"])
async def test_while_the_upsert_is_in_an_uploading_file(case: Case, opt_out: Operation, at: str) -> None:
    """What is under way ends; the next file is the opt-out's, which also says again what that file may have undone."""
    for address in (TARO, JIRO):
        await case.say(address, U, 1)
    await case.work(0, due=(U,), fate=(at, "freezes"))
    await case.say(TARO, opt_out, 2)
    await case.say(HANAKO, U, 3)
    await case.work(1, due=tuple(Operation))
    assert case.begun[1:] == [], "one upload at a time"
    await case.replicas[0].thaw()
    await case.lane_rests(0)
    await case.work(1, due=tuple(Operation))
    await ends(case, U, opt_out, U)


@pytest.mark.parametrize("opt_out", [D, S])
@pytest.mark.parametrize("applied", [True, False])
async def test_when_the_upsert_has_to_be_sent_again(case: Case, opt_out: Operation, applied: bool) -> None:  # noqa: FBT001
    """The file that may have arrived is taken apart for the opt-out, and never brings the customer back."""
    for address in (TARO, JIRO):
        await case.say(address, U, 1)
    case.vendor.faults.add(fault="lost_reply", applied=applied)
    await case.work(0, due=tuple(Operation))
    await case.say(TARO, opt_out, 2)
    await case.lane_rests(0)
    await case.work(0, due=tuple(Operation))
    assert case.begun == [U, opt_out], "not after the next try of the upserts, but at once"
    await ends(case, U, opt_out, U)


@pytest.mark.parametrize("opt_out", [D, S])
@pytest.mark.parametrize("when", ["before the retry", "after the retry", "before it was given up"])
async def test_when_the_upsert_became_a_dead_letter(
    database: str,
    tmp_path: Path,
    opt_out: Operation,
    when: Literal["before the retry", "after the retry", "before it was given up"],
) -> None:
    """An operator's retry appends the upsert as it was: it is the older word, whenever the opt-out came."""
    async with opened(database, tmp_path, "blastmail") as case:
        for address in (TARO, JIRO):
            await case.say(address, U, 1)
        case.vendor.faults.add(fault="reject_lines", addresses=[TARO], times=1)
        if when == "before it was given up":
            await case.say(TARO, opt_out, 2)
            await case.work(0, due=(U,))
        else:
            await case.work(0, due=tuple(Operation))
        if opt_out is S or when != "before it was given up":
            assert {e.state for _, e in (await case.told()).values() if e.operation is U} == {
                EventState.DELIVERED,
                EventState.REJECTED,
            }
            assert case.begun == [U]
        if when == "before the retry":
            await case.say(TARO, opt_out, 2)
            await case.work(0, due=tuple(Operation))
        await case.retry()
        if when == "after the retry":
            await case.say(TARO, opt_out, 2)
        await ends(case, U, opt_out)


@pytest.mark.parametrize("opt_out", [D, S])
async def test_when_the_opt_out_itself_became_a_dead_letter(case: Case, opt_out: Operation) -> None:
    """What the vendor refuses can be retried by an operator, and is then proven; who came back since stays."""
    for address, operation, at in ((TARO, U, 1), (JIRO, U, 1), (JIRO, S, 2), (JIRO, A, 3), (HANAKO, U, 1)):
        await case.say(address, operation, at)
    await case.calm()
    if case.contract == "user":
        case.vendor.faults.add(fault="reject_lines", every=1, times=1)
    else:
        case.vendor.faults.add(fault="code", code=81435)
    await case.say(TARO, opt_out, 4)
    await case.work(0, due=tuple(Operation))
    await case.say(HANAKO, opt_out, 5)
    await case.say(HANAKO, U if opt_out is D else A, 6)
    await case.check()
    await case.retry()
    await ends(case)
    assert mailable(case.vendor, case.contract, HANAKO)


@pytest.mark.parametrize("opt_out", [D, S])
async def test_three_refused_lines_are_taken_back_behind_the_opt_out(
    database: str, tmp_path: Path, opt_out: Operation
) -> None:
    """Where every line of data is refused, the lane pauses for data; an opt-out goes up all the same."""
    async with opened(database, tmp_path, "blastmail") as case:
        for address in (TARO, HANAKO, JIRO, ADDRESSES[4]):
            await case.say(address, U, 1)
        case.vendor.faults.add(fault="status", status=400, body=BAD_DATA, times=None)
        for _ in range(12):
            await case.work(0, due=tuple(Operation))
        assert await case.connection.fetchval("select pause_reason from lane") == "data"
        case.vendor.faults.disarm()
        await case.say(TARO, opt_out, 2)
        before = len(case.begun)
        await case.delays_pass()
        await case.work(0, due=tuple(Operation))
        assert case.begun[before:] == [opt_out]
        assert await case.connection.fetchval("select pause_reason from lane") == "data"
        await case.store.resume_lane(case.name)
        await ends(case)


async def test_an_echo_is_not_told_as_refused(database: str, tmp_path: Path) -> None:
    """In the mode `create` a line that had arrived is refused the second time: that is not known to be a refusal."""
    async with opened(database, tmp_path, "blastmail", "create") as case:
        await case.say(TARO, U, 1)
        case.vendor.faults.add(fault="lost_reply")
        await case.work(0, due=tuple(Operation))
        await case.delays_pass()
        await case.work(0, due=tuple(Operation))
        await case.check()
        assert [event.state for _, event in (await case.told()).values()] == [EventState.UNCONFIRMED]
