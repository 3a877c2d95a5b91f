"""What the client promises of large answers: one at a time, and nobody waits for ever."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from relay import csvline
from relay.batches import Accepted, Outcome
from relay.client import Client, Uploaded, UploadJob
from relay.client.turns import LARGE_BYTES
from relay.errors import LaneLost
from relay.events import Operation
from relay.metrics import Metrics
from relay.spool import Spool, SpoolFile
from tests.integration.loopback import Connection, serving
from tests.unit.vendors.made import account, haihai_login
from tests.waiting import until

LARGE = b"x" * (2 * LARGE_BYTES)
WITHIN_S = 10.0


@dataclass
class World:
    """A client, a file, and a vendor whose answers are as long as the upload's `loginid` says."""

    client: Client
    file: SpoolFile
    url: str = ""
    finish: asyncio.Event = field(default_factory=asyncio.Event)

    async def script(self, connection: Connection) -> None:
        """Answer in full, except for who is `slow`: the last byte of that answer waits for `finish`."""
        await connection.read()
        who = connection.fields["loginid"]
        body = b"OK" if who == "small" else LARGE
        if who != "slow":
            try:
                await connection.answer(200, body)
            except ConnectionError:  # who gave up reads no more
                connection.broken = True
            return
        await connection.answer(200, body[:-1], cut=1)
        await self.finish.wait()
        connection.writer.write(body[-1:])

    def upload(self, who: str, lease_left_s: Callable[[], float] = lambda: 60.0) -> asyncio.Task[Uploaded]:
        """Begin an upload."""
        login = haihai_login(base_url=self.url, login_id=who)
        job = UploadJob(login, account(login), Operation.DELETE, self.file, lease_left_s)
        return asyncio.create_task(self.client.upload(job))

    @property
    def lock(self) -> asyncio.Lock:
        """What a turn is."""
        lock = vars(self.client)["_large"]
        assert isinstance(lock, asyncio.Lock)
        return lock

    async def held(self) -> None:
        """Wait until somebody has the turn."""
        await until(self.lock.locked, WITHIN_S)

    async def waited_for(self) -> None:
        """Wait until somebody waits for the turn."""
        await until(lambda: bool(vars(self.lock)["_waiters"]), WITHIN_S)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Give a client with a file of one line, and the vendor."""

    async def lines() -> AsyncIterator[bytes]:
        yield csvline.record(["E-Mail"])
        yield csvline.record(["taro@example.jp"])

    spool = Spool(tmp_path)
    file = await spool.write("batch-1.csv", lines(), 1)
    async with Client(Metrics(), spool) as client:
        made = World(client, file)
        async with serving(made.script) as server:
            made.url = server.url
            yield made
            made.finish.set()


async def outcome_of(upload: asyncio.Task[Uploaded]) -> Outcome:
    """Wait for an upload's end."""
    async with asyncio.timeout(WITHIN_S):
        return (await upload).outcome


async def test_large_answers_are_read_one_at_a_time(world: World) -> None:
    """The second waits until the first has been judged; small ones go on meanwhile."""
    slow = world.upload("slow")
    await world.held()
    large = world.upload("large")
    await world.waited_for()
    assert isinstance(await outcome_of(world.upload("small")), Accepted)
    assert not slow.done()
    assert not large.done()
    world.finish.set()
    assert isinstance(await outcome_of(slow), Accepted)
    assert isinstance(await outcome_of(large), Accepted)
    assert not world.lock.locked()


async def test_a_lane_lost_while_waiting_is_given_up(world: World) -> None:
    """The lease is watched there too; whoever has the turn is not disturbed."""
    slow = world.upload("slow")
    await world.held()
    left_s = [60.0]
    large = world.upload("large", lambda: left_s[0])
    await world.waited_for()
    left_s[0] = 0.0
    with pytest.raises(LaneLost):
        await outcome_of(large)
    assert world.lock.locked()
    assert not slow.done()
    world.finish.set()
    assert isinstance(await outcome_of(slow), Accepted)
    assert not world.lock.locked()


@pytest.mark.parametrize("who", ["slow", "large"])
async def test_a_turn_is_given_back_by_who_is_cancelled(world: World, who: str) -> None:
    """Whether the one who has it is cancelled or one who waits: the next one gets it."""
    uploads = {"slow": world.upload("slow")}
    await world.held()
    uploads["large"] = world.upload("large")
    await world.waited_for()
    uploads[who].cancel()
    with pytest.raises(asyncio.CancelledError):
        await outcome_of(uploads.pop(who))
    world.finish.set()
    for upload in (*uploads.values(), world.upload("large")):
        assert isinstance(await outcome_of(upload), Accepted)
    assert not world.lock.locked()
