"""The SQL files: each opens with a sentence, has its place in the store, prepares, and walks no further than needed."""

import re
from collections.abc import Iterable, Mapping, Sequence
from hashlib import md5
from pathlib import Path

import asyncpg
import pytest

import relay.store
from relay.store.database import sql, sql_directory
from tests.integration.store.made import Bench

QUERIES = sorted(path.stem for path in (sql_directory() / "queries").glob("*.sql"))
CODE = "\n".join(path.read_text(encoding="utf-8") for path in Path(relay.store.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_opens_with_a_sentence(name: str) -> None:
    """What it does, before how."""
    first = sql(name).splitlines()[0]
    assert re.fullmatch(r"-- [A-Z].{15,}[.:;,]?.*", first), first
    comment = sql(name).partition("\n")[0] if first.endswith(".") else " ".join(sql(name).splitlines()[:2])
    assert "." in comment


def test_every_query_has_its_place_in_the_store() -> None:
    """A file that no method names is dead, a name without a file fails at night."""
    named = set(re.findall(r'(?:sql|fetch|fetchrow|fetchval|execute)\(\s*"([a-z_]+)"', CODE))
    named |= set(re.findall(r'one\(\s*connection,\s*"([a-z_]+)"', CODE))
    assert named == set(QUERIES)


async def test_every_query_prepares(bench: Bench) -> None:
    """On the migrated schema, with the types that Postgres finds for its parameters."""
    for name in QUERIES:
        try:
            await bench.connection.prepare(sql(name))
        except asyncpg.PostgresError as error:
            error.add_note(name)
            raise


# -- plans -----------------------------------------------------------------------------------------------------------

EVENTS, CUT_TO = 50_000, 30_000
FILL = f"""
alter table event set (autovacuum_enabled = false);
alter table superseded set (autovacuum_enabled = false);
insert into cursor (account, operation) values ('other', 'upsert');

insert into event (account, source, message_id, digest, operation, customer, layout, line, occurred_at, received_at)
select case when i % 3 = 0 then 'other' else 'account-0' end, 'crm', md5(i::text), '\\x00',
       case i % 20 when 0 then 'stop' when 1 then 'delete' when 2 then 'allow' else 'upsert' end,
       decode(md5((i % 9000)::text), 'hex'), 1, '\\x61610d0a', now() + i * interval '1 ms', now() + i * interval '1 ms'
from generate_series(1, {EVENTS}) i;

insert into superseded select account, id, id + 1, 1 from event where id % 4 = 0;
insert into known_address (account, source, customer_id, address, customer, occurred_at, received_at)
select 'account-0', 'crm', decode(md5(i::text), 'hex'), 'a', decode(md5((i % 9000)::text), 'hex'), now(), now()
from generate_series(1, {EVENTS}) i;
insert into former_address
select 'account-0', decode(md5((i % 9000)::text), 'hex'), 'crm', decode(md5(i::text), 'hex'), now()
from generate_series(1, {EVENTS}) i;
insert into unresolved
    (account, source, message_id, customer_source, customer_id, digest, operation, occurred_at, received_at)
select 'account-0', 'crm', i::text, 'crm', decode(md5(i::text), 'hex'), '\\x00', 'stop', now(), now()
from generate_series(1, {EVENTS}) i;
update cursor set position = {CUT_TO};
insert into batch
    (account, id, login, operation, layout, header, cut_from, cut_to, rows, bytes, state, oldest_received_at, ended_at)
select 'account-0', i, 'login-0', 'upsert', 1, '{{メール}}', i * 100, (i + 1) * 100, 50, 1000, 'delivered', now(), now()
from generate_series(1, 199) i;
insert into batch
    (account, id, login, operation, layout, header, cut_from, cut_to, rows, bytes, state, oldest_received_at, ended_at)
values ('account-0', 200, 'login-0', 'upsert', 1, '{{メール}}', 20000, {CUT_TO}, 4000, 100000, 'failed', now(), now());
"""  # noqa: S608 (numbers of our own)

ACCOUNT, NEW = "account-0", ["a webhook", "another webhook"]
HASHES = [f"\\\\x{md5(str(number).encode(), usedforsecurity=False).hexdigest()}" for number in (1, 2)]
TWO = [["2026-01-01T00:00:00Z"] * 2] * 2
HOT: Mapping[str, tuple[Sequence[object], Sequence[str]]] = {
    # query[: how it is used]: (arguments, the indexes that it has to use)
    "append": (
        ([ACCOUNT] * 2, ["crm"] * 2, NEW, ["\\\\x00"] * 2, ["upsert"] * 2, ["\\\\x00"] * 2, [1, 1], ["\\\\x610d0a"] * 2,
         *TWO, False),
        ("event_webhook_is_unique",),
    ),
    "append: to known webhooks": (
        ([ACCOUNT] * 2, ["crm"] * 2, NEW, ["\\\\x00"] * 2, ["upsert"] * 2, ["\\\\x00"] * 2, [1, 1], ["\\\\x610d0a"] * 2,
         *TWO, True),
        (),
    ),
    "find_known": ((["crm"] * 2, NEW), ("event_webhook_is_unique",)),
    "survey": (
        (["login-0"] * 2, [ACCOUNT] * 2, ["upsert", "stop"], [60, 10], [10**6] * 2, [10**7] * 2,
         ["login-0"], ["f"], EVENTS, None, 3600),
        ("event_waiting", "event_again_waiting"),
    ),
    "cut_chunk": (
        (ACCOUNT, "upsert", CUT_TO, EVENTS, 20_000, ["delete", "upsert"], 10**6, 10**7, None, 999, True, [1], [20]),
        ("event_waiting", "event_customer", "superseded_pkey"),
    ),
    "preview_cursor": ((ACCOUNT, "upsert", 10**6, 10**7, True), ("event_waiting",)),
    "count_range": ((ACCOUNT, "upsert", CUT_TO, EVENTS), ("event_waiting", "superseded_pkey")),
    "batch_lines": ((ACCOUNT, "upsert", 20_000, CUT_TO, 200, 20_000, 20_000), ("event_waiting", "superseded_pkey")),
    "tell_confirmed": ((ACCOUNT, 150, [-60, -1]), ("event_waiting", "superseded_pkey")),
    "reject_lines": ((ACCOUNT, 200, [2, 3], ["no", "no"], [False, True], 0), ("event_waiting", "superseded_pkey")),
    "append_again": ((ACCOUNT, 200, 1), ("event_waiting", "event_customer_permission", "superseded_pkey")),
    "retry_batch": ((ACCOUNT, 200), ("event_waiting", "superseded_pkey")),
    "find_followed": ((["crm"] * 2, NEW, ["→moved", "→kept"]), ("event_webhook_is_unique", "unresolved_webhook")),
    "read_contacts": (([ACCOUNT] * 2, ["crm"] * 2, HASHES), ("known_address_pkey",)),
    "read_unresolved": (([ACCOUNT] * 2, ["crm"] * 2, HASHES), ("unresolved_customer",)),
    "find_residents": (([ACCOUNT] * 2, HASHES, 100), ("known_address_customer",)),
    "reach": (([ACCOUNT] * 2, HASHES, 0, 5, 9), ("known_address_pkey", "former_address_left")),
    "read_former": (([ACCOUNT] * 2, HASHES, ["crm"] * 2, HASHES), ("former_address_pkey",)),
    "read_words": (([ACCOUNT] * 2, HASHES, ["%→moved", "%→previous"]), ("event_customer", "event_customer_permission")),
    "retry_unanswered": (([300, 1800, 7200], 6), ("batch_refused", "event_pkey", "event_again")),
    "find_webhook": (("crm", ["w", "w→moved"]), ("event_webhook_is_unique",)),
    "prune": (
        (ACCOUNT, "upsert", CUT_TO // 2, 1_000, -86_400, 21, ["%→moved"], 200),
        ("event_customer", "event_customer_permission", "event_again", "superseded_pkey"),
    ),
    "prune: a rare operation": (
        (ACCOUNT, "delete", 0, 1_000, -86_400, 21, ["%→moved"], 200),
        ("event_customer", "event_customer_permission", "event_again", "superseded_pkey"),
    ),
    "prune_batches": ((ACCOUNT, 10, 100, -86_400, True), ("event_waiting", "superseded_pkey")),
    "find_gone": (([ACCOUNT] * 2, [3, 4]), ("event_pkey",)),
    "recount": ((ACCOUNT, "upsert", CUT_TO // 2, 5_000), ("event_waiting", "superseded_pkey")),
    "tell_proofs": (
        ([ACCOUNT] * 2, [20_000, 20_021], 20, 20, 5),
        ("event_pkey", "event_again", "batch_of_event", "batch_opt_outs_replaced", "event_customer_permission"),
    ),
}  # fmt: skip


def literal(value: object) -> str:
    """Write an argument as a literal that takes the parameter's type."""
    if value is None:
        return "null"
    if isinstance(value, list):
        return literal("{" + ",".join(f'"{element}"' for element in value) + "}")
    return "'" + str(value).replace("'", "''") + "'"


async def plan_of(connection: asyncpg.Connection, name: str, args: Iterable[object]) -> str:
    """Explain a prepared query, so that a generic plan is generic, as it runs."""
    await connection.execute(f"prepare q as {sql(name.partition(':')[0])}")
    transaction = connection.transaction()
    await transaction.start()
    execute = f"execute q({', '.join(literal(arg) for arg in args)})"
    rows = await connection.fetch(f"explain (analyze, costs off, timing off, summary off) {execute}")
    await transaction.rollback()
    await connection.execute("deallocate q")
    return "\n".join(row[0] for row in rows)


def work_of(plan: str) -> float:
    """The most rows that a node of the plan made or looked at in vain, over all its loops."""
    work, loops = 0.0, 1.0
    for line in plan.splitlines():
        if node := re.search(r"actual rows=([0-9.]+) loops=([0-9]+)", line):
            loops = float(node[2])
            work = max(work, float(node[1]) * loops)
        elif removed := re.search(r"Rows Removed by .*: ([0-9]+)", line):
            work = max(work, float(removed[1]) * loops)
    return work


async def test_hot_queries_use_their_indexes(bench: Bench) -> None:
    """On 50,000 events, with and without statistics, with the plan for these arguments and the one for any.

    None walks over the log or over all that was superseded, nor over a range once for each of its rows.
    """
    await bench.execute(FILL)
    for analyzed in (False, True):
        if analyzed:
            await bench.execute("analyze")
        for mode in ("force_custom_plan", "force_generic_plan"):
            await bench.execute(f"set plan_cache_mode = {mode}")
            for name, (args, indexes) in HOT.items():
                plan = await plan_of(bench.connection, name, args)
                told = f"{name}, {mode}, analyzed: {analyzed}\n{plan}"
                assert "Seq Scan on event" not in plan, told
                assert "Seq Scan on superseded" not in plan, told
                for index in indexes:
                    assert re.search(rf"\b{index}\b", plan), f"{index} is not used\n{told}"
                assert work_of(plan) <= EVENTS, told
                if name == "batch_lines":
                    assert ("account = $1" in plan) == (mode == "force_generic_plan"), "the mode has to have its effect"


async def test_records_to_delete_are_found_by_their_index(bench: Bench) -> None:
    """A login that has deleted thousands does not read them again every few minutes to find the few that are left."""
    await bench.execute(
        "set session_replication_role = replica;"  # whose uploads they are makes no difference
        "insert into error_record (login, kind, date, count, account, batch_id, number, deleted_at)"
        " select 'login-0', 'x', i::text, 1, 'account-0', i, 1, case when i > 5 then now() end"
        " from generate_series(1, 5000) i;"
        "set session_replication_role = origin; analyze error_record"
    )
    plan = await plan_of(bench.connection, "list_undeleted", ("login-0", [ACCOUNT]))
    assert "error_record_to_delete" in plan, plan
    assert len(await bench.store.list_undeleted("login-0", [ACCOUNT])) == 5
    assert await bench.store.list_undeleted("login-0", ["another"]) == []


async def test_dead_letters_are_found_by_their_index(bench: Bench) -> None:
    """They are counted every few seconds: of thousands of refused lines that were acted on none is read again."""
    await bench.execute(
        "set session_replication_role = replica;"  # whose batches they are makes no difference
        "insert into rejection (account, batch_id, line, event_id, message, dismissed_at)"
        " select 'account-0', i, 2, i, 'no', case when i > 5 then now() end from generate_series(1, 5000) i;"
        "set session_replication_role = origin; analyze rejection"
    )
    plan = await plan_of(bench.connection, "tell_dead_letters", ([ACCOUNT],))
    assert "rejection_open" in plan, plan


async def test_what_was_done_to_a_batch_is_found_by_its_index(bench: Bench) -> None:
    """The audit record grows for ever, and most of it is about no batch: neither is walked through for one batch.

    Without a batch a page is read from the newest on, no further than its limit. Both also once the statement has been
    prepared for long, when Postgres may take one plan for any arguments.
    """
    await bench.execute(
        "insert into act (who, through, act, account, batch_id)"
        " select 'sato', 'api', case when i % 10 = 0 then 'retry' else 'search' end, 'account-0',"
        " case when i % 10 = 0 then i % 500 end"
        " from generate_series(1, 20000) i; analyze act"
    )
    await bench.execute(f"prepare acts as {sql('tell_acts')}")
    asked = {batch: f"execute acts(null, null, {batch}, null, null, {2**63 - 1}, 50)" for batch in ("10", "null")}
    for _ in range(10):
        for batch, index in (("10", "act_batch"), ("null", "act_pkey")):
            rows = await bench.connection.fetch(f"explain (analyze, costs off, timing off) {asked[batch]}")
            plan = "\n".join(row[0] for row in rows)
            told = f"batch {batch}\n{plan}"
            assert re.search(rf"\b{index}\b", plan), told
            assert work_of(plan) <= 50, told
    assert len(await bench.store.tell_acts(batch_id=10, limit=50)) == 40
