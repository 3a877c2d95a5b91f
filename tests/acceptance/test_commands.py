"""The commands around `relay serve`: what is wrong is said at once, all of it, with what to do, and an exit code."""

import socket

from relay import __version__
from relay.demo.databases import Databases
from tests.acceptance.harness import ROOT, SECRET_KEY, World
from tests.acceptance.processes import Done
from tests.acceptance.settings_file import account, bme, haihai
from tests.acceptance.test_samples import customers_csv
from tests.conftest import Servers

NOBODY = "http://127.0.0.1:9"
"""Where nobody listens."""


def settings(world: World) -> None:
    """Write settings that are right, for a vendor that need not be there."""
    world.write_settings({"blast": bme(NOBODY, "user")}, {"news": account("blast", flush_after_s=3600)})


async def test_version(world: World) -> None:
    """`relay --version` needs no settings."""
    done = await world.command("--version", env={"PYTHONPATH": str(ROOT)})
    assert done == Done(0, f"relay {__version__}\n", "")


async def test_serve_without_a_database_says_what_to_do(world: World) -> None:
    """No RELAY_DATABASE_URL: exit code 2, the variable is named, so is what it should be, and so is the demo."""
    settings(world)
    env = world.env()
    del env["RELAY_DATABASE_URL"]
    done = await world.command("serve", env=env)
    assert done.code == 2
    assert "RELAY_DATABASE_URL: is not set" in done.err
    assert "postgresql://" in done.err
    assert "relay demo" in done.err
    assert "Traceback" not in done.err


async def test_serve_without_a_secret_says_what_to_do(world: World) -> None:
    """No RELAY_SECRET_KEY and no database: both are told at once."""
    settings(world)
    env = world.env()
    del env["RELAY_DATABASE_URL"], env["RELAY_SECRET_KEY"]
    done = await world.command("serve", env=env)
    assert done.code == 2
    assert "RELAY_DATABASE_URL: is not set" in done.err
    assert "RELAY_SECRET_KEY: is not set" in done.err


async def test_another_secret_than_the_database_knows_is_refused(world: World) -> None:
    """With another RELAY_SECRET_KEY no customer would be recognised: exit code 2, and neither secret is told."""
    settings(world)
    first = await world.command("check")
    assert first.code == 0, first
    for command in ("serve", "check"):
        done = await world.command(command, env=world.env(RELAY_SECRET_KEY="another secret altogether"))
        assert done.code == 2
        assert "RELAY_SECRET_KEY" in done.err
        assert "another secret than the one this database was begun with" in done.err
        assert "another secret altogether" not in done.err + done.out
        assert SECRET_KEY not in done.err + done.out


async def test_serve_refuses_a_database_without_a_schema(world: World, server: Databases, servers: Servers) -> None:
    """An empty database: exit code 1, and the text names `relay migrate`, after which `check` finds nothing wrong."""
    settings(world)
    name = servers.name()
    await server.create_database(name)
    try:
        env = world.env(RELAY_DATABASE_URL=server.url(name))
        refused = await world.command("serve", env=env)
        assert refused.code == 1
        assert "relay migrate" in refused.err
        assert "Traceback" not in refused.err
        migrated = await world.command("migrate", env=env)
        assert migrated.code == 0
        assert "applied 1" in migrated.out
        again = await world.command("migrate", env=env)
        assert (again.code, again.out) == (0, "nothing to apply\n")
        checked = await world.command("check", env=env)
        assert (checked.code, checked.err) == (0, "")
    finally:
        await server.drop_database(name)


async def test_serve_names_a_port_that_is_taken(world: World) -> None:
    """Somebody else listens on RELAY_PORT or RELAY_OPS_PORT: exit code 2, with the variable, the port, the reason."""
    settings(world)
    for variable, other in (("RELAY_PORT", "RELAY_OPS_PORT"), ("RELAY_OPS_PORT", "RELAY_PORT")):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            done = await world.command("serve", env=world.env(**{variable: str(port), other: "0"}))
        told = f"{variable}: cannot listen on port {port} of 127.0.0.1: Address already in use\n"
        assert done == Done(2, "", told)


async def test_commands_say_that_postgres_does_not_answer(world: World) -> None:
    """`migrate` and `check` do not wait for Postgres: exit code 1, and where they looked is said by the variable."""
    settings(world)
    env = world.env(RELAY_DATABASE_URL="postgresql://relay:hidden@127.0.0.1:9/relay")
    for command in ("migrate", "check"):
        done = await world.command(command, env=env)
        assert done.code == 1
        assert done.err == "Postgres does not answer where RELAY_DATABASE_URL says that it is: ConnectionRefusedError\n"


async def test_check_tells_all_mistakes_with_their_paths(world: World) -> None:
    """Mistakes in a source, a login and an account: one run names them all, and exit code 2."""
    world.write_settings(
        {"blast": {**bme(NOBODY, "user"), "usrename": "user"}, "hai": {**haihai(NOBODY, 1), "aid": 0}},
        {
            "news": account("blst"),
            "letter": account(
                "hai", columns={"メールアドレス": "email", "生年月日": {"path": "birthday", "type": "dat"}}
            ),
        },
        {"crm": ["news", "leter"]},
    )
    done = await world.command("check", "--offline")
    assert done.code == 2
    told = dict(line.split(": ", 1) for line in done.err.splitlines())
    assert {
        "sources.crm.accounts",
        "logins.blast.usrename",
        "logins.hai.aid",
        "accounts.news.login",
        'accounts.letter.columns."生年月日".type',
    } == set(told)
    assert "did you mean `username`?" in told["logins.blast.usrename"]
    assert "did you mean `blast`?" in told["accounts.news.login"]


async def test_check_tells_what_the_vendor_cannot_do(world: World) -> None:
    """Settings that are sound in themselves but ask a vendor for what it does not have: told before relay starts."""
    world.write_settings(
        {"blast": bme(NOBODY, "user")},
        {"news": account("blast", operations={}), "state": account("blast", columns={"E-Mail": "email", "状態": "s"})},
    )
    for command in ("check", "serve"):
        done = await world.command(command)
        assert done.code == 2
        assert "accounts.news.operations: blastmail has no ban" in done.err
        assert "accounts.state.columns: 状態" in done.err


async def test_check_names_an_account_with_waiting_events_that_the_settings_forgot(world: World) -> None:
    """Events of an account that is gone from the settings would wait for ever: `check` names it, exit code 2."""
    kept = account("blast", flush_after_s=3600)
    world.write_settings({"blast": bme(NOBODY, "user")}, {"news": kept, "old-news": kept})
    relay = world.relay()
    await relay.start()
    file = customers_csv(world.directory, "utf-8")
    sent = await world.command(
        "send", "--source", "crm", "--url", relay.url, "--file", file, "--secret-env", "SIGNING_SECRET"
    )
    assert sent.code == 0, sent
    assert await relay.stop() == 0
    assert (await world.command("check")).code == 0
    world.write_settings({"blast": bme(NOBODY, "user")}, {"news": kept})
    done = await world.command("check")
    assert done.code == 2
    assert "accounts.old-news: upsert waits in the database, but the settings do not serve it" in done.err
    assert "accounts.news:" not in done.err
