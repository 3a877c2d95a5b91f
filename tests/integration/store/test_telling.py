"""Telling on both Postgres versions: every event has one state, and no query walks over the log."""

import hashlib
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import asyncpg
import pytest

from relay.events import PERMISSIONS, EventState, Operation, message_ids
from relay.store import Store
from relay.store.database import sql
from tests.integration.model import settings, world
from tests.integration.test_random_walk import Walk

SEEDS = range(6)
STEPS = 60
IN_A_BATCH = frozenset(EventState) - {EventState.PENDING, EventState.SUPERSEDED}

FILL = """
insert into cursor (account, operation)
select a, o from unnest(array['a0', 'a1']) a, unnest(array['upsert', 'delete', 'stop', 'ban', 'allow']) o;

insert into event (account, source, message_id, digest, operation, customer, layout, line, occurred_at, received_at)
select 'a' || i % 2, 'crm', 'msg_' || i, '', case when i % 20 < 2 then 'stop' else 'upsert' end,
       decode(md5((i % 9000)::text), 'hex'), 1, '\\x61610d0a', now() + i * interval '1 ms', now() + i * interval '1 ms'
from generate_series(1, 30000) i;

insert into event (account, source, message_id, digest, operation, customer, layout, line, occurred_at, received_at,
                   again_of)
select account, 'relay', 'again:' || id || ':1.1', digest, operation, customer, layout, line, occurred_at, received_at,
       id
from event where id % 100 = 0;

insert into event (account, source, message_id, digest, operation, customer, layout, line, occurred_at, received_at)
values ('a0', 'crm', 'rare', '', 'delete', '\\x61', 1, '\\x61610d0a', now(), now());

update cursor set position = 27000 where operation in ('upsert', 'stop');

insert into batch (account, id, login, operation, layout, header, cut_from, cut_to, rows, bytes, state,
                   oldest_received_at, ended_at)
select a, nextval('batch_id_seq'), 'l', o, 1, '{}', i * 30, (i + 1) * 30, 10, 1000,
       case when i % 10 = 7 then 'failed' when i % 10 = 3 then 'replaced' else 'delivered' end, now(), now()
from generate_series(0, 899) i, unnest(array['a0', 'a1']) a, unnest(array['upsert', 'stop']) o;

insert into upload (account, batch_id, number, ended_at, outcome) select account, id, 1, now(), 'delivered' from batch;
insert into superseded select account, id, id + 1, 1 from event where id % 7 = 0 and id < 28000;
insert into rejection (account, batch_id, line, event_id, message)
select account, id, line, cut_from + line, 'no' from batch, generate_series(2, 6) line where id % 5 = 0;
"""

CUSTOMER = hashlib.md5(b"1", usedforsecurity=False).digest()
"""Four stops."""

QUERIES: Mapping[str, Sequence[object]] = {
    "find_webhook": ("crm", message_ids("msg_2000")),
    "find_customer": (CUSTOMER, 1000),
    "find_words": (CUSTOMER,),
    "tell_events": (["a0", "a1"], [2000, 2001], ["stop", "stop"], [None, None]),
    "tell_proofs": (["a0", "a1"], [2000, 2001], 20, 20, 5),
    "tell_batches": ("a0", None, None, 2**62, 100),
    "tell_uploads": ("a0", 5),
    "tell_rejections": ("a0", 5, 0, 100),
    "tell_cursors": (["a0", "a1"],),
    "tell_unsettled": (),
    "tell_dead_letters": (["a0", "a1"],),
    "tell_postponed": (),
    "tell_log": (),
}
LARGE = ("event", "batch", "superseded", "upload")
"""What grows with the log. Refused lines are few."""

ROWS_MAX = 4000
"""Some 3300 events wait."""


@pytest.mark.parametrize("analyzed", [False, True], ids=["fresh", "analyzed"])
@pytest.mark.parametrize("plan", ["force_custom_plan", "force_generic_plan"])
async def test_no_query_walks_over_the_log(database: str, analyzed: bool, plan: str) -> None:  # noqa: FBT001 (a parameter)
    """Each query begins at a key or a cursor, with and without statistics, and looks at no more than what waits."""
    connection = await asyncpg.connect(database)
    try:
        for table in LARGE:
            await connection.execute(f"alter table {table} set (autovacuum_enabled = {analyzed})")
        await connection.execute(FILL)
        if analyzed:
            await connection.execute("vacuum analyze")
        await connection.execute(f"set plan_cache_mode = {plan}")
        for name, args in QUERIES.items():
            rows = await connection.fetch(f"explain (analyze, timing off, costs off) {sql(name)}", *args)
            lines = [row[0] for row in rows]
            walked = [line for line in lines if any(f"Seq Scan on {table} " in line for table in LARGE)]
            assert not walked, (name, lines)
            assert max(_rows(line) for line in lines) <= ROWS_MAX, (name, lines)
    finally:
        await connection.close()


LONG = 5000
LONG_HISTORY = f"""
insert into cursor (account, operation) values ('a0', 'upsert'), ('a1', 'upsert');
insert into event (account, source, message_id, digest, operation, customer, layout, line, occurred_at, received_at)
select 'a' || i % 2, 'crm', 'msg_' || i, '', case when i < 6 then 'stop' when i < 10 then 'delete' else 'upsert' end,
       case when i % 4 < 2 then '\\x00'::bytea else decode(md5(i::text), 'hex') end, 1, '\\x61610d0a',
       now() + i * interval '1 ms', now()
from generate_series(1, {4 * LONG}) i;
"""  # noqa: S608 (numbers of our own)


@pytest.mark.parametrize("analyzed", [False, True], ids=["fresh", "analyzed"])
@pytest.mark.parametrize("plan", ["force_custom_plan", "force_generic_plan"])
async def test_a_long_history_is_read_from_its_end(database: str, analyzed: bool, plan: str) -> None:  # noqa: FBT001
    """Of a customer with thousands of events only so many are read as are told; how they stand takes a few.

    (Without statistics Postgres 15 sorts all of them for the latter: some milliseconds for each thousand.)
    """
    connection = await asyncpg.connect(database)
    try:
        await connection.execute(f"alter table event set (autovacuum_enabled = {analyzed})")
        await connection.execute(LONG_HISTORY)
        if analyzed:
            await connection.execute("vacuum analyze")
        await connection.execute(f"set plan_cache_mode = {plan}")
        for name, args, found, rows_max in (
            ("find_customer", (b"\0", 100), 200, 2 * 101),
            ("find_words", (b"\0",), 6, 2 * 20),
        ):
            assert len(await connection.fetch(sql(name), *args)) == found
            rows = await connection.fetch(f"explain (analyze, timing off, costs off) {sql(name)}", *args)
            lines = [row[0] for row in rows]
            if analyzed or name == "find_customer":
                assert max(_rows(line) for line in lines) <= rows_max, (name, lines)
                assert not any("Removed" in line and int(line.rpartition(" ")[2]) > rows_max for line in lines), lines
    finally:
        await connection.close()


TIES = """
insert into cursor (account, operation) values ('a0', 'upsert'), ('a0', 'stop'), ('a1', 'upsert');
insert into event (account, source, message_id, digest, operation, customer, layout, line, occurred_at, received_at)
select 'a' || i % 2, 'crm', 'msg_' || i, '', (array['upsert', 'delete', 'stop', 'ban', 'allow'])[1 + i * 7 % 13 % 5],
       decode(md5((i * 5 % 17)::text), 'hex'), 1, '\\x61610d0a', now() + i * 11 % 3 * interval '1 s',
       now() + i * 3 % 5 * interval '1 s'
from generate_series(1, 400) i
"""


async def test_the_words_that_decide_are_the_last(database: str) -> None:
    """Of each account and of each customer, by the order in which relay goes: on a tie the opt-out, and so on."""
    async with Store.open(database) as store:
        async with store.connection() as connection:
            await connection.execute(TIES)
            rows = await connection.fetch("select * from event")
        groups = [{Operation.UPSERT, Operation.DELETE}, PERMISSIONS, {Operation.DELETE}]
        for customer, account in {(row["customer"], row["account"]) for row in rows}:
            own = [row for row in rows if (row["customer"], row["account"]) == (customer, account)]
            found = {event.event_id for event in await store.find_words(customer) if event.account == account}
            said = [[row for row in own if row["operation"] in group] for group in groups]
            assert found == {max(words, key=_order)["id"] for words in said if words}
        assert len(rows) == 400


def _order(row: asyncpg.Record) -> tuple[object, ...]:
    return (row["occurred_at"], Operation(row["operation"]).opt_out, row["received_at"], row["id"])


def _rows(line: str) -> float:
    """The rows of one node of a plan, over all its loops."""
    if "(actual rows=" not in line:
        return 0
    rows, loops = line.partition("(actual rows=")[2].rstrip(")").split(" loops=")
    return float(rows) * float(loops)


@pytest.mark.parametrize("seed", SEEDS)
async def test_every_event_is_in_one_state(database: str, tmp_path: Path, seed: int) -> None:
    """On a walk through faults: all events are told, those that are pending are counted, and batches hold the others.

    The rows of a batch that is not replaced are the events that name it.
    """
    rng = random.Random(seed)
    async with world(database, tmp_path, settings(1, rows_max=rng.choice((2, 3, 50)), attempts_max=3)) as w:
        walk = Walk(w, w.plans["login-0"], rng, later=False)
        for number in range(STEPS):
            step = rng.choices((walk.receive, walk.flush, walk.pass_time, walk.retry), (5, 6, 3, 0.3))[0]
            await step()
            if number % 10 == 9:
                customers = await w.connection.fetch("select distinct customer from event")
                found = [event for row in customers for event in await w.store.find_customer(row["customer"], 10_000)]
                told = await w.store.tell_events(found)
                assert len(told) == await w.connection.fetchval("select count(*) from event")
                states = Counter(event.state for event in told)
                pending = sum(entry.pending for entry in await w.store.tell_unsettled())
                assert states[EventState.PENDING] == pending, walk.log
                assert all((event.batch_id is not None) == (event.state in IN_A_BATCH) for event in told), walk.log
                batches = await w.connection.fetch("select id, rows from batch where state <> 'replaced'")
                held = Counter(event.batch_id for event in told if event.batch_id is not None)
                assert held == {row["id"]: row["rows"] for row in batches}, walk.log
