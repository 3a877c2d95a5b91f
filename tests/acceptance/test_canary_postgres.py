"""Postgres quotes the row that it refuses and the key that is there: relay repeats none of it, nor its password.

The fixture `watched` searches everything that a test has made relay say, and fails where it finds a canary.
"""

import itertools
from urllib.parse import urlsplit

import asyncpg

from relay.demo.postgres import Cluster
from tests.acceptance.canary_requests import CRM, borne
from tests.acceptance.processes import Relay, until
from tests.acceptance.test_canary import READ, started
from tests.acceptance.watched import EMAIL, UNMISTAKABLE, Watched, webhook
from tests.acceptance.wire import request

REFUSES = """
create or replace function refuses() returns trigger language plpgsql as $$
declare said text := (select string_agg(convert_from(line, 'SJIS'), ' ') from event) || ' {told}';
begin
    raise exception using message = 'cannot ' || said, errcode = '{code}', detail = said, hint = said,
        column = 'email', constraint = '{constraint}', table = left(said, 60);
end $$
"""
"""A fault of Postgres's, with all that it can say holding all customers and secrets there are."""

CODES = {
    "P0001": 500,  # raise_exception: a bug
    "XX000": 503,  # internal_error
    "22P02": 422,  # invalid_text_representation: the value's fault
    "23514": 422,  # check_violation
    "23505": 422,  # unique_violation
    "40P01": 503,  # deadlock_detected
    "53100": 503,  # disk_full
    "25006": 503,  # read_only_sql_transaction
    "57P01": 503,  # admin_shutdown
}
"""What webhooks are answered when an append ends in an error of this class."""


async def refuse(watched: Watched, table: str, code: str) -> None:
    """Make every insert into a table fail."""
    told = UNMISTAKABLE.replace("'", "''").replace("%", "%%").replace("\\", "")
    async with watched.database.acquire() as connection, connection.transaction():
        await connection.execute(f"drop trigger if exists refuses on {table}")
        await connection.execute(REFUSES.format(told=told, code=code, constraint="batch_is_not_empty"))
        await connection.execute(
            f"create trigger refuses before insert on {table} for each statement execute function refuses()"
        )


async def allow(watched: Watched, table: str) -> None:
    """Let inserts be as they were."""
    await watched.database.execute(f"drop trigger refuses on {table}")


async def test_rows_that_postgres_refuses(watched: Watched) -> None:
    """Whatever class the error has, neither its message nor its detail, which quote the row, get anywhere."""
    relay = await started(watched)
    assert (await watched.say("a webhook", relay.url, borne(webhook()))).status == 202
    for code, status in CODES.items():
        await refuse(watched, "event", code)
        answer = await watched.say(f"a webhook, refused with {code}", relay.url, borne(webhook()))
        many = b"[" + webhook().replace(b'{"type"', b'{"id": "entry-%s", "type"' % code.encode(), 1) + b"]"
        answers = await watched.say(f"webhooks, refused with {code}", relay.url, borne(many, f"{CRM}/batch"))
        assert (answer.status, answers.status) == (status, status), code
    await watched.database.execute("alter table event add constraint taken check (message_id <> 'too-much')")
    await allow(watched, "event")
    answer = await watched.say("a refused value", relay.url, borne(webhook(), message_id="too-much"))
    assert answer.status == 422
    await watched.look(relay)
    assert await relay.stop() == 0


async def test_tables_that_are_not_as_they_were(watched: Watched) -> None:
    """Bugs, as after a broken migration: a lane that fails, a column that is gone, a value that no model takes."""
    relay = await started(watched)
    await refuse(watched, "upload", "P0001")
    assert (await watched.say("a webhook", relay.url, borne(webhook()))).status == 202
    await relay.says("round_failed")
    await watched.database.execute(
        f"alter table batch drop constraint batch_is_not_empty, alter column rows type text using '{EMAIL}'"
    )
    await watched.database.execute("alter table event rename column line to line_")
    entry = webhook().replace(b'{"type"', b'{"id": "entry", "type"', 1)
    sent = {
        request("GET", "/v1/batches", {"Authorization": READ}): 500,
        request("GET", "/v1/batches/1", {"Authorization": READ}): 500,
        request("GET", f"/v1/webhooks/crm/{EMAIL}", {"Authorization": READ}): 404,
        borne(webhook()): 503,
        borne(b"[" + entry + b"]", f"{CRM}/batch"): 503,
    }
    for one, status in sent.items():
        assert (await watched.say("an answer without a column", relay.url, one)).status == status
    await watched.say("/metrics", relay.ops_url, request("GET", "/metrics"))
    assert relay.said("request_failed")
    assert await relay.stop() == 0


async def test_postgres_goes_and_comes_back(watched: Watched, cluster: Cluster) -> None:
    """Gone, refusing the password, not there at the start: the password is in the URL, and in nothing that is said."""
    parts = urlsplit(watched.database_url)
    over_tcp = urlsplit(cluster.url(parts.path.removeprefix("/"), tcp=True))
    watched.database_url = over_tcp._replace(
        netloc=f"{parts.netloc.rpartition('@')[0]}@{over_tcp.netloc.rpartition('@')[2]}"
    ).geturl()
    relay = await started(watched)
    assert (await watched.say("a webhook", relay.url, borne(webhook()))).status == 202
    async with cluster.interrupted():
        await ask(watched, relay, 503)
    await until("it goes on", lambda: is_taken(watched, relay))

    role = parts.username
    await watched.database.execute(f"alter role {role} password 'another'")
    await watched.database.fetch("select pg_terminate_backend(pid) from pg_stat_activity where usename = $1", role)
    await ask(watched, relay, 503)
    assert await relay.stop() == 0
    for command in (("check",), ("migrate",)):
        done = await watched.run(" ".join(command), *command)
        assert done.code == 1
    await relay.spawn()

    async def listens() -> bool:
        return await relay.ops("/readyz") is not None

    await until("it listens", listens)
    await watched.say("/readyz", relay.ops_url, request("GET", "/readyz"))
    assert await relay.stop() == 0


async def ask(watched: Watched, relay: Relay, status: int) -> None:
    """Send a webhook and ask the status API; both are answered alike."""
    sent = [borne(webhook()), request("GET", "/v1/batches", {"Authorization": READ})]
    for one, _ in itertools.product(sent, range(2)):
        assert (await watched.say("an answer without Postgres", relay.url, one)).status == status
    await watched.say("/readyz without Postgres", relay.ops_url, request("GET", "/readyz"))
    await watched.say("/metrics without Postgres", relay.ops_url, request("GET", "/metrics"))


async def is_taken(watched: Watched, relay: Relay) -> bool:
    """Say whether a webhook is taken again."""
    try:
        return (await watched.say("a webhook", relay.url, borne(webhook()))).status == 202
    except (OSError, asyncpg.PostgresError):
        return False
