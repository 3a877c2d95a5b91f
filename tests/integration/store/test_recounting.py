"""Conservation, recounted: right histories have no violation at any moment, and each kind of damage is found."""

import asyncio
import os
import random
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from relay.batches import Delivered, LineRejection, Manifest, Refused, Terms, settle
from relay.demo.postgres import VERSION_MIN
from relay.events import Operation
from relay.flush.recounting import Finding, Recounter
from relay.metrics import Metrics
from tests.integration.model import settings, world
from tests.integration.store.made import ACCOUNT, Bench, raw_append, raw_connection
from tests.integration.test_random_walk import Walk
from tests.waiting import until

U, D, S, A = Operation.UPSERT, Operation.DELETE, Operation.STOP, Operation.ALLOW
TERMS = Terms(attempts_max=3, file_bytes_max=10_000_000, settle_after_s=0)
WALKS = int(os.environ.get("RECOUNT_WALKS", "24"))
PARTS = (1, 2, 3, 1000)
"""So many events at once: whatever is found must not depend on it."""


BOTH = pytest.mark.parametrize(
    "postgres_version", [None, VERSION_MIN], ids=["newest", f"postgres{VERSION_MIN}"], indirect=True
)
"""What runs on the oldest Postgres, too: the statements are the same in all tests."""


@pytest.fixture
def postgres_version(request: pytest.FixtureRequest, wanted_version: int | None) -> int | None:
    """Return the version that a test asks for by `BOTH`, else the one that everything runs on."""
    version: int | None = getattr(request, "param", None)
    if version is not None and wanted_version is not None:
        pytest.skip(f"RELAY_TEST_POSTGRES={wanted_version} asks for one version only")
    return version if version is not None else wanted_version


def recounter(bench: Bench, metrics: Metrics | None = None, *, part_events: int = 3) -> Recounter:
    """A recounter that does not rest."""
    return Recounter(bench.store, metrics or Metrics(), part_events=part_events, share_max=1, walk_every_s=0)


async def findings(bench: Bench) -> list[Finding]:
    """Walk in parts of several sizes; what is found is one and the same but for where a part ends."""
    by_size = [(await recounter(bench, part_events=size).walk()).findings for size in PARTS]
    counted = [{(f.kind, f.batch_id): 0 for f in found} for found in by_size]
    for sums, found in zip(counted, by_size, strict=True):
        for f in found:
            sums[f.kind, f.batch_id] += f.events
    assert all(sums == counted[0] for sums in counted), by_size
    return by_size[-1]


async def told(bench: Bench) -> Sequence[tuple[str, int]]:
    """What is found: kinds, and how many events or lines each."""
    return [(found.kind, found.events) for found in await findings(bench)]


async def history(bench: Bench) -> tuple[Manifest, Manifest]:
    """Two files of upserts with superseded events in and between them, an opt-out, a refused line, and what waits."""
    lease = await bench.lease()
    await bench.append(bench.event(U, "a", 5), bench.event(S, "c", 6), bench.event(U, "b", 5), bench.event(U, "c", 5))
    await bench.append(bench.event(U, "b", 1))
    first = await bench.uploading(lease, U)
    refused = settle(first, Delivered((LineRejection(3, "refused"),)), TERMS)
    await bench.settle(lease, first, refused)
    await bench.append(bench.event(U, "b", 2), bench.event(U, "d", 5), bench.event(U, "e", 5), bench.event(U, "d", 4))
    second = await bench.uploading(lease, U)
    await bench.settle(lease, second, settle(second, Delivered(), TERMS))
    await bench.append(bench.event(U, "b", 3), bench.event(U, "a", 1))
    cut = await bench.cut(lease, U)
    assert cut.batch_id is None, "nothing is left to send"
    await bench.append(bench.event(U, "f", 1), bench.event(S, "f", 1), bench.event(D, "g", 1))
    return await bench.store.manifest(ACCOUNT, first.id), await bench.store.manifest(ACCOUNT, second.id)


@BOTH
async def test_a_right_history_has_no_violation(bench: Bench) -> None:
    """Each event is counted once, in one of three places, whatever the size of the parts."""
    await history(bench)
    assert await told(bench) == []
    parts = [await bench.store.recount(ACCOUNT, operation, 0, 1000) for operation in (U, D, S, A)]
    assert [(p.events, p.pending, p.superseded, p.in_batches) for p in parts] == [
        (11, 1, 5, 5),
        (1, 1, 0, 0),
        (2, 2, 0, 0),
        (0, 0, 0, 0),
    ]
    assert await bench.store.list_operations() == sorted((ACCOUNT, operation) for operation in Operation)


@BOTH
@pytest.mark.parametrize("later", [False, True], ids=["at once", "later"])
async def test_no_moment_of_a_walk_through_faults_has_a_violation(
    database: str, tmp_path: Path, *, later: bool
) -> None:
    """While many lanes receive, cut, un-cut, crash, settle, take back and retry, every recount comes out right.

    The recounts run beside all of it, in parts that are smaller than the files, by two replicas.
    """
    chosen = settings(WALKS, settle_wait_s=60 if later else 0, rows_max=2, attempts_max=3)
    async with world(database, tmp_path, chosen) as w:
        walks = asyncio.gather(
            *(Walk(w, plan, random.Random(n), later=later).go() for n, plan in enumerate(w.plans.values()))
        )
        counted = 0

        async def recount(part_events: int) -> None:
            nonlocal counted
            mine = Recounter(w.store, w.metrics, part_events=part_events, share_max=1)
            while not walks.done():
                walk = await mine.walk()
                assert walk.findings == []
                counted += walk.events

        await asyncio.gather(walks, recount(2), recount(7))
        last = await Recounter(w.store, w.metrics, part_events=7, share_max=1).walk()
        events = await w.connection.fetchval("select count(*) from event")
    assert last.findings == []
    assert last.events == events
    assert counted > events, "the recounts ran beside the walks"


async def test_every_step_of_a_walk_comes_out_right(database: str, tmp_path: Path) -> None:
    """Recounted between any two steps, in parts of one event."""
    async with world(database, tmp_path, settings(6, rows_max=2, attempts_max=3)) as w:
        for n, plan in enumerate(w.plans.values()):
            one = Walk(w, plan, random.Random(1000 + n), later=False)
            for _ in range(12):
                step = one.rng.choices(
                    (one.receive, one.flush, one.pass_time, one.keep_house, one.retry), (5, 6, 3, 1, 1)
                )
                await step[0]()
                walk = await Recounter(w.store, w.metrics, part_events=1, share_max=1).walk()
                assert walk.findings == [], "\n".join(one.log)


async def test_what_commits_out_of_order_is_not_missed_by_a_cut(bench: Bench) -> None:
    """An append under way holds up the fence; who recounts before it commits simply does not see it yet."""
    async with raw_connection(bench.url) as connection:
        transaction = connection.transaction()
        await transaction.start()
        early = await raw_append(connection, bench.event(U, "early"))
        late = await bench.say(U, "late")
        assert early < late
        assert await told(bench) == []
        await transaction.commit()
    await bench.filed(await bench.lease(), U)
    assert await told(bench) == []


async def damage(bench: Bench, query: str, *args: object) -> None:
    """Change what nothing but a fault can change."""
    await bench.execute("set session_replication_role = replica")
    await bench.connection.execute(query, *args)
    await bench.execute("set session_replication_role = origin")


UPSERT = r"(select id from event where account = 'account-0' and operation = 'upsert' order by id offset \1 limit 1)"

DAMAGES: dict[str, tuple[str, Sequence[tuple[str, int]]]] = {
    # what was done: the query ($1 and $2 are the files, upsert<n> the id of one), and what is found
    "a superseded row is gone, in a file's range": (
        "delete from superseded where event_id = upsert<3>",
        [("miscounted", 4)],
    ),
    "a superseded row is gone, behind the files": (
        "delete from superseded where event_id = upsert<8>",
        [("lost", 1)],
    ),
    "superseded by a cut behind its file's": (
        "insert into superseded values ('account-0', upsert<0>, 0, 1000000)",
        [("doubled", 1)],
    ),
    "superseded by a cut before its file's": (
        "insert into superseded values ('account-0', upsert<0>, 0, $1)",
        [("miscounted", 2)],
    ),
    "a file has too many rows": ("update batch set rows = rows + 1 where id = $1", [("miscounted", 3)]),
    "a file has too few rows": ("update batch set rows = rows - 1 where id = $2", [("miscounted", 2)]),
    "a file is gone": ("update batch set state = 'replaced' where id = $2", [("lost", 2)]),
    "a file begins too late": (
        "update batch set cut_from = cut_from + 1 where id = $1",
        [("lost", 1), ("miscounted", 2)],
    ),
    "two files hold the same": (
        """
        insert into batch (account, id, login, operation, layout, header, cut_from, cut_to, rows, bytes, state,
                           oldest_received_at, ended_at)
        select account, 1000000, login, operation, layout, header, cut_from, cut_to, rows, bytes, state,
               oldest_received_at, ended_at
        from batch where id = $2
        """,
        [("doubled", 2), ("miscounted", 0), ("miscounted", 0)],
    ),
    "a cursor was set back to a file's last row": (
        "update cursor set position = upsert<6> where operation = 'upsert'",
        [],
    ),
    "a cursor was set back into a file": (
        "update cursor set position = upsert<5> where operation = 'upsert'",
        [("doubled", 1)],
    ),
    "a cursor was moved too far": ("update cursor set position = 1000000 where operation = 'stop'", [("lost", 2)]),
    "a refused line of another file": (
        "update rejection set event_id = upsert<6>",
        [("astray", 1)],
    ),
    "a refused line of another operation": (
        "update rejection set event_id = (select min(id) from event where operation = 'stop')",
        [("astray", 1)],
    ),
    "a refused line that was replaced": (
        "update rejection set event_id = upsert<3>",
        [("astray", 1)],
    ),
    "a refused line behind the end": ("update rejection set line = 5", [("astray", 1)]),
    "an event is gone from the log": ("delete from event where id = upsert<0>", [("miscounted", 2)]),
    "a file's events are gone from the log": (
        "delete from event where id > (select cut_from from batch where id = $2) and operation = 'upsert'",
        [("miscounted", 0)],
    ),
}


@pytest.mark.parametrize("what", DAMAGES)
async def test_damage_is_found(bench: Bench, what: str) -> None:
    """Whatever nothing but a fault can do to the data: it is found, and nothing else is."""
    first, second = await history(bench)
    query, expected = DAMAGES[what]
    args = [batch.id for number, batch in enumerate((first, second), 1) if f"${number}" in query]
    query = query if "$1" in query else query.replace("$2", "$1")
    await damage(bench, re.sub("upsert<(.)>", UPSERT, query), *args)
    assert await told(bench) == expected


async def test_an_event_below_the_cursor_in_no_batch_is_found(bench: Bench) -> None:
    """As if the fence had failed: an id that was drawn before a cut becomes visible behind it."""
    async with raw_connection(bench.url) as connection:
        await connection.execute("alter table event disable trigger event_append_lock")
        transaction = connection.transaction()
        await transaction.start()
        lost = await raw_append(connection, bench.event(U, "lost"))
        await bench.say(U, "a")
        batch = await bench.filed(await bench.lease(), U)
        assert await told(bench) == []
        await transaction.commit()
    [found] = await findings(bench)
    # in the range of the file, so that it would be in it: the file is one row too long
    assert (found.kind, found.batch_id, found.events, found.rows) == ("miscounted", batch.id, 2, 1)
    assert found.first_id <= lost <= found.last_id


async def test_an_account_that_nobody_names_is_recounted(bench: Bench) -> None:
    """Events without a cursor wait; one that is superseded by hand is superseded."""
    await bench.append(replace(bench.event(U, "a"), account="former"), replace(bench.event(S, "a"), account="former"))
    part = await bench.store.recount("former", U, 0, 10)
    assert (part.events, part.pending) == (1, 1)
    assert ("former", U) in await bench.store.list_operations()
    assert await told(bench) == []


async def test_lines_taken_back_come_out_right(bench: Bench) -> None:
    """Three single lines refused in a row are cut anew: their files are replaced, and nothing is counted twice."""
    lease = await bench.lease()
    await bench.append(*(bench.event(U, name) for name in "abcd"))
    for _ in range(3):
        batch = await bench.uploading(lease, U, rows_max=1)
        await bench.settle(lease, batch, settle(batch, Refused("refused"), TERMS), outcome="refused")
        assert await told(bench) == []
    assert (await bench.cursor(U))["position"] == 0


# -- what is told ----------------------------------------------------------------------------------------------------


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    """The value of one series."""
    return metrics.registry.get_sample_value(name, labels)


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    """The lines of the log that tell of violations."""
    records = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    return [record for record in records if record["event"] == "conservation_broken"]


def made(accounts_max: int = 10) -> Metrics:
    """Metrics as the service makes them."""
    metrics = Metrics()
    metrics.create_at_zero(settings(1), accounts_max=accounts_max)
    return metrics


async def test_a_violation_is_told_once_and_counted_until_it_is_mended(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has account, operation, ids and counts, nobody's data; a walk that does not find it any more ends it."""
    _, second = await history(bench)
    metrics = made()
    mine = recounter(bench, metrics, part_events=100)
    assert value(metrics, "relay_conservation_violations", account=ACCOUNT) == 0
    await damage(bench, "update batch set state = 'replaced' where id = $1", second.id)
    await mine.walk()
    await mine.walk()
    assert value(metrics, "relay_conservation_violations", account=ACCOUNT) == 2
    [line] = [line for line in lines(caplog) if line["kind"] == "lost"]
    ids = await bench.column("select id from event where operation = 'upsert' and id > $1 order by id", second.cut_from)
    assert {name: line[name] for name in ("account", "operation", "events", "first_id", "last_id")} == {
        "account": ACCOUNT,
        "operation": "upsert",
        "events": 2,
        "first_id": ids[1],
        "last_id": ids[2],
    }
    assert "example.jp" not in caplog.text
    await damage(bench, "update batch set state = 'delivered' where id = $1", second.id)
    await mine.walk()
    assert value(metrics, "relay_conservation_violations", account=ACCOUNT) == 0
    await damage(bench, "update batch set state = 'replaced' where id = $1", second.id)
    await mine.walk()
    assert len(lines(caplog)) == 2, "what comes back is told again"


async def test_a_violation_shows_before_its_walk_ends(bench: Bench) -> None:
    """A large log takes hours to walk over: what is found in its first part counts at once."""
    await bench.append(*(bench.event(A, name) for name in "abc"))
    await damage(bench, "update cursor set position = 1000000 where operation = 'allow'")
    metrics = made()
    resting = Recounter(bench.store, metrics, part_events=2, share_max=1e-9)
    task = asyncio.create_task(resting.walk())
    await until(lambda: value(metrics, "relay_conservation_violations", account=ACCOUNT) == 2)
    assert not task.done()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_recounting_counts_and_ages(bench: Bench) -> None:
    """How many events were recounted, and since when the last complete walk is over; before it, since the start."""
    await history(bench)
    metrics, now = made(), [100.0]
    mine = Recounter(bench.store, metrics, part_events=4, share_max=1, clock=lambda: now[0])
    now[0] = 130
    assert value(metrics, "relay_conservation_recount_age_seconds") == 30
    await mine.walk()
    now[0] = 137
    assert value(metrics, "relay_conservation_recount_age_seconds") == 7
    events = await bench.connection.fetchval("select count(*) from event")
    assert value(metrics, "relay_conservation_recounted_events_total") == events


async def test_accounts_beyond_the_limit_share_one_series(bench: Bench) -> None:
    """Their violations are summed."""
    await history(bench)
    await bench.append(replace(bench.event(U, "a"), account="former"), replace(bench.event(U, "b"), account="former"))
    await damage(bench, "insert into cursor (account, operation, position) values ('former', 'upsert', 1000000)")
    await damage(bench, "update cursor set position = 1000000 where operation = 'stop'")
    metrics = made(accounts_max=0)
    await recounter(bench, metrics).walk()
    assert value(metrics, "relay_conservation_violations", account="(other)") == 4


async def test_a_walk_rests_between_its_parts(bench: Bench) -> None:
    """Postgres spends no more than the share of its time on it, however large the log is."""
    await bench.append(*(bench.event(U, f"{n}") for n in range(40)))
    mine = Recounter(bench.store, made(), part_events=1, share_max=0.2)
    busy = [0.0]
    recount = bench.store.recount

    async def timed(account: str, operation: Operation, behind: int, events_max: int) -> object:
        began = asyncio.get_running_loop().time()
        part = await recount(account, operation, behind, events_max)
        busy[0] += asyncio.get_running_loop().time() - began
        return part

    bench.store.recount = timed  # type: ignore[method-assign, assignment] # measured, not replaced
    began = asyncio.get_running_loop().time()
    await mine.walk()
    assert busy[0] <= 0.25 * (asyncio.get_running_loop().time() - began)


async def test_without_postgres_what_was_found_stays_told(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """It is no end of the service, and no all-clear: the recounter says that it could not, and goes on."""
    metrics = made()
    await history(bench)
    await damage(bench, "update cursor set position = 1000000 where operation = 'stop'")
    mine = recounter(bench, metrics)
    await mine.walk()
    await bench.execute("alter table cursor rename to gone")
    task = asyncio.create_task(mine.run())
    await until(lambda: any("not_recounted" in str(record.msg) for record in caplog.records))
    assert not task.done()
    assert value(metrics, "relay_conservation_violations", account=ACCOUNT) == 2
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    await bench.execute("alter table gone rename to cursor")
