"""The breaker over HTTP: a vendor's host that fails is left alone, and looked after by one probe at a time."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import pytest

from relay import csvline
from relay.batches import Accepted, Busy, Transient, Unknown
from relay.client import Client, State, UploadJob, host_of
from relay.client.breaker import FAILURES_MAX, OPEN_S
from relay.demo.sim_haihai import HaihaiContract, HaihaiSim
from relay.events import Operation
from relay.flush import Flusher, LaneWorker
from relay.metrics import Metrics
from relay.settings import Login, Settings
from relay.spool import Spool, SpoolFile
from relay.vendors import Call, Reply
from tests.integration.faults import replica
from tests.integration.loopback import Connection, serving
from tests.integration.model import World, settings, world
from tests.integration.served import served
from tests.unit.vendors.made import account, bme_login, haihai_login

UPSERT, DELETE = Operation.UPSERT, Operation.DELETE


@dataclass
class Clock:
    """A clock that goes on when it is told to."""

    now: float = 1_000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@dataclass
class Bench:
    """A client with a clock of its own for hosts, and a small file."""

    client: Client
    metrics: Metrics
    clock: Clock
    file: SpoolFile

    async def upload(self, login: Login, name: str = "news", operation: Operation = UPSERT) -> object:
        """Upload the file for an account and say what it came to."""
        job = UploadJob(login, account(login, name=name), operation, self.file, lambda: 60.0)
        return (await self.client.upload(job)).outcome

    def told(self, login: Login) -> tuple[float | None, float | None]:
        """The gauge and the counter of a login's host."""
        value, labels = self.metrics.registry.get_sample_value, {"host": host_of(login)}
        return value("relay_breaker_open", labels), value("relay_breaker_openings_total", labels)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """Give a client."""
    metrics, clock, spool = Metrics(), Clock(), Spool(tmp_path)

    async def lines() -> AsyncIterator[bytes]:
        yield csvline.record(["メールアドレス"])
        yield csvline.record(["taro@example.jp"])

    async with Client(metrics, spool, host_clock=clock) as client:
        yield Bench(client, metrics, clock, await spool.write("batch-1.csv", lines(), 1))


# -- the client ------------------------------------------------------------------------------------------------------


async def test_a_host_that_refuses_is_left_alone_and_recovers(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """After so many failures nothing is sent, for any of its logins; then one probe, and all go on. The log tells."""
    caplog.set_level(logging.INFO, logger="relay")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    one, two = (haihai_login(name=f"hai-{n}", base_url=f"http://127.0.0.1:{port}", aid=n) for n in (1, 2))
    for number in range(FAILURES_MAX):
        assert isinstance(await bench.upload(one if number % 2 else two), Transient)
    assert bench.client.host(one).state is State.OPEN
    assert bench.told(one) == (1, 1)
    sim = HaihaiSim(*(HaihaiContract(n, "relay", "canary-transport") for n in (1, 2)))
    async with sim.serve(port=port), serving(_accept) as elsewhere:
        for login in (one, two):
            outcome = await bench.upload(login)
            assert isinstance(outcome, Busy)
            assert outcome.retry_after_s == OPEN_S
            assert not bench.client.may_try(login)
        other = haihai_login(name="other", base_url=elsewhere.url)
        assert isinstance(await bench.upload(other), Accepted), "another host has nothing to do with it"
        assert list(sim.record.uploads) == []
        bench.clock.now += OPEN_S
        assert bench.client.host(one).state is State.HALF_OPEN
        assert bench.told(one) == (0, 1), "the next would go through, be there one or not"
        assert isinstance(await bench.upload(one), Accepted)
        assert isinstance(await bench.upload(two), Accepted)
    assert bench.told(one) == (0, 1)
    turns = [record.getMessage() for record in caplog.records if "breaker_" in record.getMessage()]
    for line, turn in zip(turns, ("breaker_opened", "breaker_half_open", "breaker_closed"), strict=True):
        assert turn in line


async def _accept(connection: Connection) -> None:
    await connection.read()
    await connection.answer(200, "OK")


async def _unavailable(connection: Connection) -> None:
    await connection.read()
    await connection.answer(503, "<html>down</html>")


async def _hang(connection: Connection) -> None:
    await connection.read()
    await connection.read(connection.length + 1)


async def _close(connection: Connection) -> None:
    await connection.read()


@pytest.mark.parametrize("script", [_unavailable, _hang, _close], ids=["503", "hangs", "closes"])
async def test_a_host_that_answers_nobody_properly_is_left_alone(
    bench: Bench, script: Callable[[Connection], AsyncIterator[None]]
) -> None:
    """Different accounts fail in a row: it is the host. A probe that fails makes the next wait twice as long."""
    async with serving(script) as server:  # type: ignore[arg-type] # parametrize knows no types
        login = haihai_login(base_url=server.url, upload_timeout_s=0.2)
        for number in range(FAILURES_MAX):
            assert isinstance(await bench.upload(login, f"news-{number}"), Unknown)
        assert isinstance(await bench.upload(login), Busy)
        assert len(server.heard) == FAILURES_MAX
        bench.clock.now += OPEN_S
        assert isinstance(await bench.upload(login), Unknown)
        assert bench.client.host(login).next_try_s == 2 * OPEN_S
        assert bench.told(login) == (1, 2)
        assert len(server.heard) == FAILURES_MAX + 1


async def test_one_poisoned_file_closes_nobody_off(bench: Bench) -> None:
    """It is tried again and again while it is halved; the opt-outs beside it always go up."""

    async def poisoned(connection: Connection) -> None:
        await connection.read()
        await connection.answer(500 if connection.fields["import_type"] == "0" else 200, "OK")

    async with serving(poisoned) as server:
        login = haihai_login(base_url=server.url)
        for _ in range(4 * FAILURES_MAX):
            assert isinstance(await bench.upload(login), Unknown)
        assert isinstance(await bench.upload(login, operation=DELETE), Accepted)
    assert bench.told(login) == (0, None)


async def test_a_500_that_says_why_is_an_answer(bench: Bench) -> None:
    """配配メール gives its codes with any status, 500 among them: its host is well, the settings are not."""

    async def coded(connection: Connection) -> None:
        await connection.read()
        await connection.answer(500, "81435 bad gid")

    async with serving(coded) as server:
        login = haihai_login(base_url=server.url)
        for number in range(2 * FAILURES_MAX):
            assert not isinstance(await bench.upload(login, f"news-{number}"), Busy)


async def test_two_that_ask_at_once_get_one_probe(bench: Bench) -> None:
    """Uploads and calls without a file alike: the second one waits for what the first finds out."""
    go = asyncio.Event()

    async def slow(connection: Connection) -> None:
        await connection.read() if "content-length" in connection.headers else None
        await go.wait()
        await connection.answer(200, "OK")

    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    login = haihai_login(base_url=f"http://127.0.0.1:{port}")
    for _ in range(FAILURES_MAX):
        reply = await bench.client.ask(login, lambda _: Call("GET", "/"))
        assert isinstance(reply, Transient)
    assert isinstance(await bench.client.ask(login, lambda _: Call("GET", "/")), Busy)
    bench.clock.now += OPEN_S
    async with _serving_at(port, slow) as heard, asyncio.timeout(5):
        asking = [asyncio.ensure_future(bench.upload(login)) for _ in range(5)]
        asking.append(asyncio.ensure_future(bench.client.ask(login, lambda _: Call("GET", "/"))))
        done, _ = await asyncio.wait(asking, timeout=2, return_when=asyncio.FIRST_COMPLETED)
        while len(done) < len(asking) - 1:
            done, _ = await asyncio.wait(asking, timeout=0.05)
        go.set()
        outcomes = await asyncio.gather(*asking)
    assert len(heard) == 1
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Accepted", *["Busy"] * 5]


@asynccontextmanager
async def _serving_at(port: int, script: Callable[[Connection], object]) -> AsyncIterator[list[Connection]]:
    """Serve at a port that was given up before."""
    heard: list[Connection] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer, await reader.readuntil(b"\r\n\r\n"))
        heard.append(connection)
        await script(connection)  # type: ignore[misc] # a coroutine
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", port):
        yield heard


async def test_login_calls_count_and_obey(bench: Bench) -> None:
    """Where uploads carry a token, the login call is what fails, what is left out, and what probes."""
    calls = 0

    async def down(connection: Connection) -> None:
        nonlocal calls
        calls += 1
        await connection.read()
        await connection.answer(502, "")

    async with serving(down) as server:
        logins = [bme_login(name=f"blast-{n}", base_url=server.url) for n in range(FAILURES_MAX + 1)]
        for login in logins[:-1]:
            assert isinstance(await bench.upload(login), Transient)
        outcome = await bench.upload(logins[-1])
        asked = await bench.client.ask(logins[-1], lambda token: Call("GET", "usage", (("t", token or ""),)))
    assert isinstance(outcome, Busy)
    assert isinstance(asked, Busy)
    assert not isinstance(asked, Reply)
    assert calls == FAILURES_MAX


async def test_one_contract_s_failures_do_not_shut_the_host_for_others(tmp_path: Path) -> None:
    """All of its accounts get 503 from a host that is well: another contract's opt-outs go up as if nothing were."""

    async def by_contract(connection: Connection) -> None:
        await connection.read()
        await connection.answer(*((503, "<html>down</html>") if b"broken" in connection.body else (200, "OK")))

    spool = Spool(tmp_path)

    async def lines() -> AsyncIterator[bytes]:
        yield csvline.record(["メールアドレス"])

    file = await spool.write("batch-1.csv", lines(), 1)
    async with serving(by_contract) as server:
        broken, sound = (haihai_login(name=name, base_url=server.url, login_id=name) for name in ("broken", "sound"))
        async with Client(Metrics(), spool, (broken, sound)) as client:
            bench = Bench(client, Metrics(), Clock(), file)
            for number in range(2 * FAILURES_MAX):
                assert isinstance(await bench.upload(broken, f"news-{number}"), Unknown)
            assert client.host(broken).state is State.CLOSED
            assert isinstance(await bench.upload(sound, operation=DELETE), Accepted)


# -- the flusher -----------------------------------------------------------------------------------------------------


def at(made: Settings, *base_urls: str) -> Settings:
    """The model's settings, each login with its host."""
    logins = zip(made.logins.items(), base_urls, strict=True)
    changed = {name: login.model_copy(update={"base_url": url}) for (name, login), url in logins}
    return made.model_copy(update={"logins": changed})


@dataclass
class Here:
    """A flusher with a real client."""

    w: World
    client: Client
    clock: Clock
    flusher: Flusher = field(init=False)

    def __post_init__(self) -> None:
        made = replica(self.w, self.client)
        worker = LaneWorker(
            self.w.store, self.w.spool, self.client, Metrics(), made.owner, 60, may_try=self.client.may_try
        )
        self.flusher = Flusher(worker, self.w.plans, round_s=0.02, uploads_max=16, grace_s=5)

    async def round(self) -> dict[str, str]:
        """Do one round and return the outcomes by login, in the order of urgency."""
        return {login: worked.outcome for login, worked in (await self.flusher.flush_once()).worked.items()}

    async def untouched(self) -> list[tuple[object, ...]]:
        """What a login that is left alone must not change: leases, calls, cuts, attempts."""
        rows = await self.w.connection_fetch(
            "select l.login, generation, calls, account, operation, position, attempts, c.not_before, b.id, state"
            " from lane l join cursor c on account = 'account-' || right(login, 1)"
            " left join batch b using (account, operation) order by 1, 4, 5, 9"
        )
        return [tuple(row) for row in rows]


@asynccontextmanager
async def here(url: str, directory: Path, made: Settings) -> AsyncIterator[Here]:
    """Open a world with a real client."""
    clock = Clock()
    async with world(url, directory, made) as w, Client(Metrics(), w.spool, host_clock=clock) as client:
        yield Here(w, client, clock)


async def test_lanes_of_a_host_that_fails_are_not_even_leased(database: str, tmp_path: Path) -> None:
    """No attempt, no call, no cut; its opt-outs probe first, and when they are through the rest goes on."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    down = f"http://127.0.0.1:{port}"
    sim = HaihaiSim(*(HaihaiContract(1 + n, "relay", "secret") for n in range(8)))
    async with sim.serve() as up, here(database, tmp_path, at(settings(8), *[down] * 7, up)) as h:
        w = h.w

        async def say(*numbers: int, operation: Operation = UPSERT) -> None:
            await w.store.append(
                [w.event(f"account-{n}", operation, f"{operation}-{n}@example.jp", 0) for n in numbers]
            )

        await say(0, 1, 2, 3, 4)
        assert await h.round() == {f"login-{n}": "transient" for n in range(5)}
        await w.connection_execute("update cursor set not_before = '-infinity'")
        await say(5, 6, 7)
        await say(6, operation=DELETE)
        before = await h.untouched()
        for _ in range(3):
            outcomes = await h.round()
            assert set(outcomes) <= {"login-7"}, "the other host is served"
        after = await h.untouched()
        assert [row for row in after if row[0] != "login-7"] == [row for row in before if row[0] != "login-7"]
        async with sim.serve(port=port):
            h.clock.now += OPEN_S
            assert await h.round() == {"login-6": "accepted"}, "one probe, and it is the opt-out"
            (upload,) = [u for u in sim.record.uploads if u.contract == "7"]
            assert upload.operation == "delete"
            assert await h.round() == {f"login-{n}": "accepted" for n in (0, 1, 2, 3, 4, 5, 6)}
    assert {count.overlaps for count in sim.record.counts.values()} == {0}


async def test_a_lane_with_nothing_to_send_gives_the_probe_back(database: str, tmp_path: Path) -> None:
    """The one that is told to go ahead finds its lane taken: the next one need not wait half a minute for it."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        down = f"http://127.0.0.1:{closed.getsockname()[1]}"
    async with here(database, tmp_path, at(settings(2), down, down)) as h:
        w, plan = h.w, h.w.plans["login-0"]
        for _ in range(FAILURES_MAX):
            await h.client.ask(plan.login, lambda _: Call("GET", "/"))
        h.clock.now += OPEN_S
        worker = LaneWorker(
            w.store, w.spool, h.client, Metrics(), uuid4(), 60, may_try=h.client.may_try, give_back=h.client.give_back
        )
        assert h.client.may_try(plan.login)
        assert not h.client.may_try(w.plans["login-1"].login)
        assert not (await worker.work(plan, await w.fence())).progress
        assert h.client.may_try(w.plans["login-1"].login)


async def test_a_breaker_that_opens_on_the_way_burns_nothing(database: str, tmp_path: Path) -> None:
    """A lane that is at work when its host is given up keeps its file for later: no upload, no call, no attempt."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        down = f"http://127.0.0.1:{closed.getsockname()[1]}"
    async with here(database, tmp_path, at(settings(1), down)) as h:
        w, plan = h.w, h.w.plans["login-0"]
        await w.store.append([w.event("account-0", UPSERT, "taro@example.jp", 0)])
        told = iter([True])  # shut between the cut and the upload
        worker = LaneWorker(
            w.store, w.spool, h.client, Metrics(), replica(w, h.client).owner, 60, may_try=lambda _: next(told, False)
        )
        worked = await worker.work(plan, await w.fence())
        assert (worked.cut, worked.outcome) == (True, "")
        (row,) = await w.connection_fetch(
            "select calls, attempts, state from lane, cursor join batch using (account, operation)"
        )
        assert tuple(row) == (0, 0, "ready")
        assert await w.connection_fetch("select from upload") == []


async def test_an_upload_that_comes_too_late_burns_nothing_either(database: str, tmp_path: Path) -> None:
    """Even one that had begun for the database: it waits with the lane, and no attempt is counted."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        down = f"http://127.0.0.1:{closed.getsockname()[1]}"
    async with here(database, tmp_path, at(settings(1), down)) as h:
        w, plan = h.w, h.w.plans["login-0"]
        for _ in range(FAILURES_MAX):
            await h.client.ask(plan.login, lambda _: Call("GET", "/"))
        await w.connection_execute(
            "update lane set paused_at = now(), pause_reason = 'unauthorized', paused_fingerprint = 'of others'"
        )
        await w.store.append([w.event("account-0", UPSERT, "taro@example.jp", 0)])
        assert (await replica(w, h.client).work(plan, await w.fence())).outcome == "busy"
        (row,) = await w.connection_fetch(
            "select attempts, calls, state, lane.wait_reason, pause_reason,"
            " lane.not_before > now() + interval '20 s' as waits"
            " from lane, cursor join batch using (account, operation)"
        )
        assert tuple(row) == (0, 0, "waiting", "busy", "unauthorized", True), "and it proves nothing about the settings"


async def test_the_series_exist_from_the_start(database: str, tmp_path: Path) -> None:
    """Every host of the settings, at zero: an alert on what never was can be relied on."""
    async with served(database, tmp_path, {"crm": {}}) as service:
        for name in ("relay_breaker_open", "relay_breaker_openings_total"):
            assert await service.metric(name, host="http://127.0.0.1:9") == 0
        assert await service.metric("relay_settings_refused", login="hai") == 0
        assert await service.metric("relay_lane_paused", login="hai", reason="columns") == 0
