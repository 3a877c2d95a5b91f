"""The commands for operators: they tell what the status API tells, and do what it does, with relay running or not."""

import asyncio
import contextlib
import getpass
import json
import os
import pty
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from relay import cli
from relay.demo.customers import generate
from relay.demo.sim_bme import BmeContract, BmeSim
from relay.demo.traffic import Sent
from tests.acceptance.harness import World
from tests.acceptance.processes import Done, Relay, relay_command, until
from tests.acceptance.settings_file import HEADERS, PASSWORD, account, bme, haihai

NOBODY = "http://127.0.0.1:9"
"""Where nobody listens."""

WITHIN_S = 2.0
"""How soon a running relay does what a command asks for."""

PEAK_MIB_MAX = 100
"""A command runs beside relay in a pod that has 256 MiB."""

WAITS: dict[str, Any] = {"flush_after_s": 3600, "flush_opt_outs_after_s": 3600}
PEAK = """
import sys
from pathlib import Path
from relay.cli import main
try:
    main()
finally:
    status = Path("/proc/self/status").read_text()
    print(*(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")), file=sys.stderr)
"""
"""Runs a command, and then says how many KiB it held at most."""


def said(*kinds: str, start: int = 0) -> list[Sent]:
    """Make webhooks about as many generated customers."""
    customers = [customer.data() for customer in generate(start + len(kinds), seed=3)][start:]
    now = datetime.now(UTC)
    return [
        Sent(f"msg-{start + n}", f"customer.{kind}", now, data)
        for n, (kind, data) in enumerate(zip(kinds, customers, strict=True))
    ]


@asynccontextmanager
async def vendor(world: World, *, waits: bool = False) -> AsyncIterator[BmeSim]:
    """Simulate a vendor, and write settings with a login there and one at nobody's, whose files wait for long."""
    sim = BmeSim(BmeContract("user", PASSWORD, PASSWORD, columns=tuple(HEADERS)))
    async with sim.serve():
        logins = {"blast": bme(sim.base_url, "user"), "hai": haihai(NOBODY, 1, calls_per_day_limit=240)}
        news = account("blast", **WAITS) if waits else account("blast")
        world.write_settings(logins, {"news": news, "shop": account("hai", "メールアドレス", **WAITS)})
        yield sim


async def rejected(world: World, sim: BmeSim, relay: Relay) -> None:
    """Have one batch delivered of which the vendor refuses a line."""
    sim.faults.add(fault="reject_lines", every=3)
    await world.post_many(relay, "crm", said("created", "created", "created"))

    async def ended() -> bool:
        return bool(await world.value("select count(*) from batch where state = 'delivered' and rejected > 0"))

    await until("a batch has ended", ended)


async def told(world: World, *arguments: str) -> Any:  # noqa: ANN401 - JSON
    """Run a command that must succeed, and return its JSON."""
    return as_json(await world.command(*arguments, "--json"))


def as_json(done: Done) -> Any:  # noqa: ANN401 - JSON
    """Read what a command has printed that must have succeeded."""
    assert (done.code, done.err) == (0, ""), done
    return json.loads(done.out)


Here = Callable[..., Awaitable[Done]]


@pytest.fixture
def here(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    """Give what runs a command in this process, which saves half a second for each."""

    async def run(*arguments: str, env: Mapping[str, str] | None = None) -> Done:
        with monkeypatch.context() as patch:
            for name in [name for name in os.environ if name.startswith(("RELAY_", "VENDOR_", "SIGNING_"))]:
                patch.delenv(name)
            for name, value in (world.env() if env is None else env).items():
                patch.setenv(name, value)
            with pytest.raises(SystemExit) as ended:
                await asyncio.to_thread(cli.main, arguments)
        out, err = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Done(ended.value.code, out, err)

    return run


# -- looking ---------------------------------------------------------------------------------------------------------


def timeless(answer: Any) -> Any:  # noqa: ANN401 - JSON
    """Leave out of an answer what is otherwise a moment later, and what only a process that uploads knows."""
    match answer:
        case Mapping():
            moving = ("_s", "seconds", "why", "breaker", "generation", "leased", "calls_today", "left")
            return {name: timeless(value) for name, value in answer.items() if not name.endswith(moving)}
        case list():
            return [timeless(value) for value in answer]
        case _:
            return answer


async def test_commands_tell_what_the_api_tells(world: World, here: Here) -> None:
    """As JSON the very same, as tables without any customer; with relay running, and the same when it has ended."""
    async with vendor(world) as sim:
        relay = world.relay()
        await relay.start()
        await rejected(world, sim, relay)
        batches = (await world.api(relay, "GET", "/v1/batches"))["batches"]
        one = next(str(batch["id"]) for batch in batches if batch["rejected"])
        commands = {
            ("batches",): "/v1/batches?limit=30",
            ("batches", "--account", "news", "--state", "delivered", "--operation", "upsert"): (
                "/v1/batches?account=news&state=delivered&operation=upsert&limit=30"
            ),
            ("batches", "--limit", "1"): "/v1/batches?limit=1",
            ("batches", "--all"): "/v1/batches?limit=500",
            ("batch", one): f"/v1/batches/{one}",
            ("batch", one, "--rejections"): f"/v1/batches/{one}/rejections",
            ("webhook", "crm", "msg-0"): "/v1/webhooks/crm/msg-0",
        }
        wanted = {command: await world.api(relay, "GET", path) for command, path in commands.items()}
        ways = ("/v1/logins", "/v1/accounts")
        wanted["lanes",] = {name: found for way in ways for name, found in (await world.api(relay, "GET", way)).items()}
        for command, answer in wanted.items():
            assert timeless(as_json(await here(*command, "--json"))) == timeless(answer), command
        assert await relay.stop() == 0
        tables = {command: await here(*command) for command in wanted}
        assert {(done.code, done.err) for done in tables.values()} == {(0, "")}
        assert not any("@" in done.out for done in tables.values())
        for command, answer in wanted.items():
            assert timeless(as_json(await here(*command, "--json"))) == timeless(answer), command
    assert "there are more" in tables["batches", "--limit", "1"].out or len(batches) == 1
    rows = {line.split()[0]: line for line in tables["lanes",].out.splitlines()}
    assert rows["blast"].split()[1:3] == ["blastmail", "idle"]
    assert "240" in rows["hai"]
    assert all(f" {word} " in tables["batch", one].out for word in ("delivered", "columns:"))
    assert "msg-" in tables["batch", one, "--rejections"].out
    assert "shop" in tables["webhook", "crm", "msg-0"].out
    assert "waits for more" in tables["webhook", "crm", "msg-0"].out


async def test_customers_data_is_shown_only_where_it_is_asked_for(world: World, here: Here) -> None:
    """What a vendor says of a line may quote an address: it is told with `--customers`, which goes on record."""
    async with vendor(world) as sim:
        relay = world.relay()
        await relay.start()
        await rejected(world, sim, relay)
        one = str(await world.value("select batch_id from rejection"))
        await world.database.execute("update rejection set message = 'taro@example.jp is no good'")
        webhook = await world.value("select message_id from rejection join event on (id = event_id)")
        commands = (("batch", one, "--rejections"), ("webhook", "crm", webhook))
        for command in commands:
            for more in ((), ("--json",)):
                assert "@" not in (await here(*command, *more)).out
        assert await world.value("select count(*) from act") == 0
        for command in commands:
            done = await here(*command, "--customers", env=world.env(RELAY_OPERATOR="当番"))
            assert "taro@example.jp is no good" in done.out
        acts = await world.rows("select * from act order by id")
        assert [(act["act"], act["who"], act["through"], act["events"]) for act in acts] == [
            ("see_rejections", "当番", "command", 1)
        ] * 2
        assert (await world.api(relay, "GET", "/v1/acts?who=%E5%BD%93%E7%95%AA"))["acts"][0]["webhook_id"] == webhook
        assert await relay.stop() == 0


async def test_a_command_is_small_and_quick(world: World) -> None:
    """It runs in a pod beside relay: memory and time have to be there for it."""
    world.write_settings({"hai": haihai(NOBODY, 1)}, {"shop": account("hai", "メールアドレス")})
    began = asyncio.get_running_loop().time()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PEAK, "lanes"),
        env=world.env(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err
    assert b"haihai" in out
    peak_mib = int(err) // 1024
    assert peak_mib < PEAK_MIB_MAX
    world.measured(f"{peak_mib} MiB, {asyncio.get_running_loop().time() - began:.1f} s")


# -- acting ----------------------------------------------------------------------------------------------------------


async def test_a_running_relay_does_what_commands_ask_for(world: World) -> None:
    """Flush, pause, resume and retry take effect within seconds, and are on record with who gave them."""
    async with vendor(world, waits=True) as sim:
        relay = world.relay(RELAY_ROUND_S="1")
        await relay.start()

        async def delivered(rows: int) -> None:
            async def all_of_them() -> bool:
                return bool(rows == await world.value("select sum(rows) from batch where state = 'delivered'"))

            await until(f"{rows} rows are delivered", all_of_them, WITHIN_S)

        await world.post_many(relay, "crm", said("created", "created"))
        assert (await world.command("flush", "blast")).code == 0
        await delivered(2)

        done = await world.command("pause", "blast", "--reason", "引っ越し")
        assert "paused" in done.out
        assert "operator since 20" in done.out
        assert "引っ越し" in done.out
        sim.faults.add(fault="reject_lines", every=2)
        await world.post_many(relay, "crm", said("created", "created", start=2))
        assert (await told(world, "flush", "blast"))["paused"]["detail"] == "引っ越し"
        assert (await told(world, "resume", "blast"))["paused"] is None
        await delivered(4)

        batch = str(await world.value("select batch_id from rejection"))
        sim.faults.disarm()
        assert (await world.command("retry", batch)).out == "1 events appended again\n"
        await delivered(5)
        acts = await world.rows("select act, who, login, events from act order by id")
        names = ["flush", "pause", "flush", "resume", "retry"]
        assert [(act["act"], act["login"]) for act in acts] == [(name, "blast") for name in names]
        assert {act["who"] for act in acts} == {getpass.getuser()}
        assert acts[-1]["events"] == 1
        assert await relay.stop() == 0


async def test_what_cannot_be_done_is_said_in_the_apis_words(world: World, here: Here) -> None:
    """With what was asked for and what there is; the exit code is 1, for wrong arguments and settings 2."""
    async with vendor(world) as sim:
        relay = world.relay()
        await relay.start()
        await rejected(world, sim, relay)
        assert await relay.stop() == 0
        batch = str(await world.value("select batch_id from rejection"))
        assert as_json(await here("dismiss", batch, "--json")) == {"events": 1}
        dismissed = f"batch {batch} is delivered and has no dead letters that could be"
        cases: dict[tuple[str, ...], tuple[int, str]] = {
            ("flush", "blst"): (1, "There is no such login in the settings: blst; the settings have blast, hai"),
            ("pause", "blast", "--reason", "a\nb"): (1, "--reason: expected one line of at most 200 characters"),
            ("batch", "99"): (1, "There is no such batch: 99"),
            ("retry", "99"): (1, "There is no such batch: 99"),
            ("retry", batch): (1, f"{dismissed} retried"),
            ("dismiss", batch): (1, f"{dismissed} dismissed"),
            ("flush", "taro@example.jp"): (1, "There is no such login in the settings; the settings have blast, hai"),
            ("webhook", "crm", "msg-99"): (1, "There is no such webhook in the log"),
            ("webhook", "relay", "\0"): (1, "There is no such webhook in the log"),
            ("webhook", "crn", "0"): (1, "There is no such webhook in the log; the settings have the sources crm"),
            ("batches", "--account", "UPPER"): (1, "--account: expected an account's name"),
            ("batch", batch, "--customers"): (1, "--customers, --limit and --after go with --rejections"),
            ("batch", "one"): (2, "relay batch: error: argument ID: expected a batch's number"),
            ("batches", "--limit", "0"): (2, "error: argument --limit: expected a whole number from 1 to 500"),
        }
        for command, (code, text) in cases.items():
            done = await here(*command)
            assert (done.code, done.out) == (code, ""), command
            assert done.err.endswith(f"{text}\n"), (command, done.err)
        assert await world.value("select count(*) from act") == 1


async def test_a_command_needs_only_what_it_uses(world: World, here: Here) -> None:
    """Lists of batches and what is done to them need the database alone; the rest the settings, and their secret."""
    world.write_settings({"hai": haihai(NOBODY, 1)}, {"shop": account("hai", "メールアドレス")})
    bare = {name: world.env()[name] for name in ("PATH", "PYTHONPATH", "RELAY_DATABASE_URL")}
    assert (await here("batches", env=bare)).code == 0
    assert (await here("retry", "7", env=bare)).err == "There is no such batch: 7\n"
    done = await here("lanes", env=bare)
    assert (done.code, "RELAY_SECRET_KEY: is not set" in done.err) == (2, True)
    async with world.database.acquire() as connection:
        await connection.execute("insert into deployment (key_fingerprint) values ('another')")
    done = await here("lanes")
    assert (done.code, "RELAY_SECRET_KEY: another secret" in done.err) == (2, True)
    gone = {**bare, "RELAY_DATABASE_URL": "postgresql://relay@127.0.0.1:9/relay"}
    done = await here("batches", env=gone)
    assert (done.code, done.err.startswith("Postgres does not answer")) == (1, True)
    long = await here("dismiss", "7", env={**bare, "RELAY_OPERATOR": "x" * 101})
    assert (long.code, long.err) == (2, "RELAY_OPERATOR: expected one line of at most 100 characters\n")


async def test_a_login_that_no_relay_has_worked_can_be_paused(world: World, here: Here) -> None:
    """Whoever adds a login can hold it before relay first starts with it."""
    world.write_settings({"hai": haihai(NOBODY, 1)}, {"shop": account("hai", "メールアドレス")})
    assert (as_json(await here("pause", "hai", "--json")))["paused"]["reason"] == "operator"
    assert "paused" in (await here("lanes")).out


# -- asking back -----------------------------------------------------------------------------------------------------


async def at_terminal(world: World, answer: str, *arguments: str) -> Done:
    """Run a command on a terminal, and type an answer."""
    theirs, ours = pty.openpty()
    try:
        process = await asyncio.create_subprocess_exec(
            *relay_command(*arguments),
            env=world.env(),
            stdin=ours,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        os.write(theirs, answer.encode())
        out, err = await process.communicate()
    finally:
        for end in (theirs, ours):
            with contextlib.suppress(OSError):
                os.close(end)
    assert process.returncode is not None
    return Done(process.returncode, out.decode(), err.decode())


async def test_on_a_terminal_it_asks_before_dead_letters_are_touched(world: World) -> None:
    """It says what the batch is, and does nothing without a yes; `--yes` spares the question."""
    async with vendor(world) as sim:
        relay = world.relay()
        await relay.start()
        await rejected(world, sim, relay)
        assert await relay.stop() == 0
        batch = str(await world.value("select batch_id from rejection"))
        for act, answer in (("retry", "n\n"), ("dismiss", "\x04")):
            done = await at_terminal(world, answer, act, batch)
            assert (done.code, done.err) == (1, "nothing was changed\n")
            assert f"Batch {batch} (upsert of news, delivered, " in done.out
        assert await world.value("select count(*) from act") == 0
        assert (await at_terminal(world, "y\n", "retry", batch)).out.endswith("1 events appended again\n")
        conflict = await at_terminal(world, "", "dismiss", batch, "--yes")
        assert (conflict.code, conflict.out) == (1, "")
