"""Dry runs: what the next cuts would send, told beforehand, and nothing moves by looking."""

import asyncio
import json
import random
from datetime import datetime
from pathlib import Path

import asyncpg

from relay.batches import Delivered, Transient, Unauthorized
from relay.events import Operation
from relay.status import answers
from relay.status.context import Context
from relay.status.previewing import preview
from tests.integration.clock import JAPAN, Clock
from tests.integration.faults import delays_pass
from tests.integration.model import KEYS, Answering
from tests.integration.store.made import TABLES, raw_append
from tests.integration.telling import ACCOUNT, Desk, Json, desk, told_settings, with_accounts

U, D, S, A, B = Operation.UPSERT, Operation.DELETE, Operation.STOP, Operation.ALLOW, Operation.BAN
HEADER = '"メールアドレス"\r\n'.encode("cp932")


async def ask(d: Desk, account: str = ACCOUNT) -> dict[str, Json]:
    """Ask for a preview."""
    return dict(await d.told("POST", f"/v1/accounts/{account}/preview", {}, "reader"))


async def say(d: Desk, *words: tuple[Operation, str], account: str = ACCOUNT) -> None:
    """Append events that were received long ago, each later than the one before."""
    await d.w.store.append(
        [d.w.event(account, operation, f"{who}@example.jp", n) for n, (operation, who) in enumerate(words)]
    )


def the(told: dict[str, Json], operation: Operation) -> dict[str, Json]:
    """What a preview tells of an operation."""
    return dict(next(one for one in told["operations"] if one["operation"] == operation))


# -- as it is cut ----------------------------------------------------------------------------------------------------

Files = dict[str, list[tuple[int, int, tuple[str, ...]]]]
"""Rows, bytes and header of each file, by operation in the order in which they go."""


def foretold(told: dict[str, Json]) -> Files:
    """The files that a preview tells, with an open batch that goes up as it is."""
    found: Files = {}
    for one in told["operations"]:
        batch = one["open_batch"]
        as_it_is = [batch] if batch and not batch["cut_anew"] else []
        files = [(file["rows"], file["bytes"], tuple(file.get("header", ()))) for file in [*as_it_is, *one["files"]]]
        if files:
            found[one["operation"]] = files
    return found


async def came(d: Desk, account: str, up_to: int, batches_before: int) -> Files:
    """The files that went up with events up to an id: what relay appended again since then is left out."""
    rows = await d.w.connection.fetch(
        "select operation, rows, bytes, header, id from batch b where account = $1 and state = 'delivered'"
        " and ended_at is not null and exists (select from event e where e.account = b.account"
        " and e.operation = b.operation and e.id > b.cut_from and e.id <= least(b.cut_to, $2))"
        " and exists (select from upload u where u.account = b.account and u.batch_id = b.id"
        " and u.outcome = 'delivered')"
        " order by ended_at, id",
        account,
        up_to,
    )
    found: Files = {}
    for row in rows[batches_before:]:
        found.setdefault(row["operation"], []).append((row["rows"], row["bytes"], tuple(row["header"])))
    return found


def count(files: Files) -> int:
    """How many there are."""
    return sum(map(len, files.values()))


async def random_log(d: Desk, account: str, rng: random.Random) -> None:
    """Append words about few customers in any order, so that many are superseded, some long before the others."""
    words = (U, U, U, U, D, S, A, B)
    for _ in range(rng.randint(1, 3)):
        events = [
            d.w.event(account, rng.choice(words), f"c{rng.randint(1, 14)}@example.jp", rng.randint(0, 40))
            for _ in range(rng.randint(1, 40))
        ]
        await d.w.store.append(events)


async def test_what_is_told_is_what_is_cut(database: str, tmp_path: Path) -> None:
    """For any log, with open files, smaller limits and corrected headers: file by file, byte by byte, in this order."""
    logins = 8
    made = told_settings(logins, file_bytes_limit=260)
    seen = {"anew": 0, "as it is": 0, "many": 0, "superseded": 0}
    async with desk(database, tmp_path, made) as d:
        for number in range(logins):
            rng = random.Random(number)
            account, plan = f"account-{number}", d.w.plans[f"login-{number}"]
            await random_log(d, account, rng)
            if rng.random() < 0.7:
                outcomes = [
                    rng.choice((Delivered(), Delivered(), Transient("no route"))) for _ in range(rng.randint(1, 6))
                ]
                worker = d.w.worker(Answering(lambda *_, left=outcomes: left.pop(0) if left else Transient("no route")))
                for _ in range(rng.randint(1, 6)):
                    await worker.work(plan, await d.w.fence())
                await random_log(d, account, rng)
            if rng.random() < 0.5:
                await d.w.connection.execute(
                    "update cursor set rows_max = $2 where account = $1", account, rng.randint(1, 9)
                )
            if rng.random() < 0.4:
                await d.w.connection.execute(
                    "update batch set header = '{E-Mail}' where account = $1 and ended_at is null", account
                )
            await delays_pass(d.w)
            before = count(await came(d, account, 2**62, 0))
            up_to = await d.w.connection.fetchval("select max(id) from event")
            told = await ask(d, account)
            assert told["complete"]
            assert told["calls"]["needed"] == count(foretold(told))
            await d.w.flush(d.w.worker(Answering(lambda *_: Delivered())), plan)
            really = await came(d, account, up_to, before)
            assert [(o, [f[:2] for f in files]) for o, files in foretold(told).items()] == [
                (o, [f[:2] for f in files]) for o, files in really.items()
            ], number
            for operation, files in foretold(told).items():
                for file, real in zip(files, really[operation], strict=True):
                    assert file[2] in ((), real[2])
            batches = [one["open_batch"] for one in told["operations"] if one["open_batch"]]
            seen["anew"] += sum(batch["cut_anew"] for batch in batches)
            seen["as it is"] += sum(not batch["cut_anew"] for batch in batches)
            seen["many"] += any(len(files) > 2 for files in really.values())
            seen["superseded"] += told["superseded"]
    assert min(seen.values()) >= 2, seen


async def test_superseded_events_are_counted(database: str, tmp_path: Path) -> None:
    """What a cut leaves out is told with the file, and of an operation of which nothing is left."""
    async with desk(database, tmp_path, told_settings()) as d:
        await say(d, (U, "a"), (U, "a"), (U, "b"), (S, "c"), (A, "c"), (U, "d"), (D, "d"))
        told = await ask(d)
        assert [one["operation"] for one in told["operations"]] == ["stop", "delete", "upsert", "allow"]
        assert (the(told, S)["files"], the(told, S)["superseded"]) == ([], 1)
        [file] = the(told, U)["files"]
        lines = b'"a@example.jp"\r\n"b@example.jp"\r\n'
        assert (file["rows"], file["bytes"], file["superseded"]) == (2, len(HEADER + lines), 2)
        assert file["header"] == ["メールアドレス"]
        sums = (told["files"], told["rows"], told["bytes"], told["superseded"])
        assert sums == (3, 4, 3 * len(HEADER) + 2 * len(lines), 3)
        await d.flush()
        assert sum(cursor["pending"] for cursor in (await d.get("/v1/accounts"))["accounts"][0]["cursors"]) == 0
        assert await d.w.connection.fetchval("select count(*) from superseded") == told["superseded"]


# -- nothing moves ---------------------------------------------------------------------------------------------------


async def everything(d: Desk) -> dict[str, list[str]]:
    """All rows of all tables, their system columns (who wrote or locked them) included, and the sequences."""
    found = {}
    for table in TABLES:
        rows = await d.w.connection.fetch(f"select t.xmin, t.xmax, t.ctid, t::text from {table} t")  # noqa: S608
        found[table] = sorted(str(tuple(row)) for row in rows)
    for sequence in ("batch_id_seq", "event_id_seq"):
        rows = await d.w.connection.fetch(f"select last_value, is_called from {sequence}")  # noqa: S608
        found[sequence] = [str(tuple(row)) for row in rows]
    return found


async def test_nothing_moves_by_looking(database: str, tmp_path: Path) -> None:
    """Not a row is written or locked, not a number drawn, nothing spooled; however often it is asked."""
    async with desk(database, tmp_path, told_settings(rows_max=2)) as d:
        await say(d, *((U, f"c{n}") for n in range(5)), (U, "c1"), (S, "c2"))
        await d.flush(Transient("no route"))
        await say(d, (U, "c9"), (D, "c3"))
        before, spooled = await everything(d), sorted(tmp_path.iterdir())
        told = await ask(d)
        assert foretold(await ask(d)) == foretold(told)
        assert await everything(d) == before
        assert sorted(tmp_path.iterdir()) == spooled
        assert d.woken == []


async def test_a_cut_in_progress_does_not_wait_for_a_preview_nor_the_other_way_round(
    database: str, tmp_path: Path
) -> None:
    """While one holds all that a cut holds, a preview answers; and while a preview looks, an append and a cut go on."""
    async with desk(database, tmp_path, told_settings()) as d:
        await say(d, (U, "a"), (U, "a"))
        other = await asyncpg.connect(database)
        async with asyncio.timeout(10):
            transaction = other.transaction()
            await transaction.start()
            await other.execute("select from lane for update")
            await other.execute("select from cursor for update")
            await other.execute("select pg_advisory_xact_lock(7235419866102)")  # the fence, and so no append ends
            await other.execute(
                "insert into superseded select account, min(id), max(id), 1 from event group by account"
            )
            told = await ask(d)
            assert (told["rows"], told["superseded"]) == (1, 1)
            await transaction.rollback()
            async with d.w.store.snapshot() as snapshot:
                await snapshot.tell_cursors([ACCOUNT])
                await raw_append(other, d.w.event(ACCOUNT, U, "b@example.jp", 9))
                await d.flush(Delivered())
                [cursor] = [c for c in await snapshot.tell_cursors([ACCOUNT]) if c.operation is U]
                assert cursor.position == 0, "it still sees its moment"
        await other.close()
        assert [batch["rows"] for batch in await d.batches()] == [2]


async def test_looking_has_its_limits(database: str, tmp_path: Path) -> None:
    """After 20 files, or when its time is over, a preview ends and says that there is more."""
    async with desk(database, tmp_path, told_settings(rows_max=1)) as d:
        await say(d, *((U, f"c{n}") for n in range(21)))
        told = await ask(d)
        assert (told["files"], told["complete"], the(told, U)["complete"]) == (20, False, False)
        await say(d, (D, "c99"))
        complete = {one["operation"]: (len(one["files"]), one["complete"]) for one in (await ask(d))["operations"]}
        assert complete == {"delete": (1, True), "upsert": (19, False)}, "opt-outs are looked at first"
        context = Context(d.w.store, d.settings, KEYS, d.w.metrics, lambda: None)
        exact = await preview(context, ACCOUNT, files_max=22)
        assert (exact.complete, exact.files) == (True, 22)
        hurried = await preview(context, ACCOUNT, look_s=0)
        assert (hurried.complete, hurried.files) == (False, 1), "one at least, or the answer would be of no use"


# -- when and why ----------------------------------------------------------------------------------------------------


async def test_an_account_with_nothing_to_send(database: str, tmp_path: Path) -> None:
    """There is an answer, and it is empty."""
    async with desk(database, tmp_path, told_settings(calls_per_day_limit=240)) as d:
        told = await ask(d)
        told["calls"].pop("kept_for_opt_outs")
    assert told == {
        "account": ACCOUNT,
        "login": "login-0",
        "vendor": "haihai",
        "operations": [],
        "files": 0,
        "rows": 0,
        "bytes": 0,
        "superseded": 0,
        "calls": {"needed": 0, "per_day": 240, "left": 240, "takes_s": None},
        "complete": True,
    }


async def test_what_waits_for_more_is_told_with_its_time(database: str, tmp_path: Path) -> None:
    """What is not due is told all the same; what fills a file is due, and so is what an operator asked for."""
    made = with_accounts(told_settings(rows_max=3), flush_after_s=3600, flush_opt_outs_after_s=600)
    async with desk(database, tmp_path, made) as d:
        await d.append((U, "a@example.jp"), (S, "b@example.jp"), now=True)
        told = await ask(d)
        assert [one["operation"] for one in told["operations"]] == ["stop", "upsert"], "the sooner is the first"
        assert 3590 < the(told, U)["due_in_s"] <= 3600
        assert the(told, U)["why"].startswith("waits for more or until 60 min after it arrived")
        [file] = the(told, U)["files"]
        assert 3590 < file["in_s"] <= 3600
        assert told["calls"]["takes_s"] == file["in_s"]
        await d.append((U, "c@example.jp"), (U, "d@example.jp"), now=True)
        told = await ask(d)
        assert (the(told, U)["due_in_s"], the(told, U)["why"]) == (0, "is due, and is cut next")
        assert [one["operation"] for one in told["operations"]] == ["upsert", "stop"]
        await d.told("POST", "/v1/logins/login-0/flush", {}, "operator")
        told = await ask(d)
        assert [(one["operation"], one["due_in_s"]) for one in told["operations"]] == [("stop", 0), ("upsert", 0)]


async def test_an_open_batch_goes_first_unless_it_is_cut_anew(database: str, tmp_path: Path) -> None:
    """A file that waits for its next try goes up as it is; when opt-outs are due, what it holds is cut anew."""
    async with desk(database, tmp_path, told_settings()) as d:
        await say(d, (U, "a"), (U, "b"))
        await d.flush(Transient("no route"))
        await say(d, (U, "c"))
        told = the(await ask(d), U)
        [open_] = [batch for batch in await d.batches() if batch["state"] == "waiting"]
        size = len(HEADER) + 2 * len(b'"a@example.jp"\r\n')
        assert told["open_batch"] == {
            "id": open_["id"],
            "state": "waiting",
            "rows": 2,
            "bytes": size,
            "cut_anew": False,
        }
        assert [file["rows"] for file in told["files"]] == [1]
        assert 10 < told["next_try_s"] < 17
        assert told["why"].endswith("after 1 failed attempt: no route")
        assert told["open_batch_in_s"] == told["next_try_s"]
        await say(d, (D, "a"))
        whole = await ask(d)
        told = the(whole, U)
        assert told["open_batch"]["cut_anew"]
        assert [(file["rows"], file["superseded"]) for file in told["files"]] == [(2, 1)]
        assert told["open_batch_in_s"] is None
        assert whole["calls"]["needed"] == 2
        assert [one["operation"] for one in whole["operations"]] == ["delete", "upsert"]
        assert told["why"] == "waits behind opt-outs"


async def test_an_upload_under_way_needs_no_further_call(database: str, tmp_path: Path) -> None:
    """The batch is told as being uploaded; what waits behind it is cut from there on."""
    async with desk(database, tmp_path, told_settings()) as d:
        await say(d, (U, "a"))
        async with d.uploading():
            await say(d, (U, "b"))
            told = await ask(d)
        assert the(told, U)["open_batch"]["state"] == "uploading"
        assert the(told, U)["why"] == "is being uploaded now"
        assert (told["calls"]["needed"], told["rows"]) == (1, 1)


async def test_a_paused_login_tells_what_it_would_send_and_not_when(database: str, tmp_path: Path) -> None:
    """The files are there; when they go is up to an operator."""
    async with desk(database, tmp_path, told_settings()) as d:
        await say(d, (U, "a"))
        await d.flush(Unauthorized("81401: wrong"))
        told = await ask(d)
        assert told["calls"]["takes_s"] is None
        assert the(told, U)["why"] == "its login is paused: unauthorized: 81401: wrong"
        assert the(told, U)["open_batch_in_s"] is None
        assert the(told, U)["open_batch"]["state"] == "waiting"


async def test_the_vendor_s_day_is_foretold(database: str, tmp_path: Path) -> None:
    """At the present pace: of 3 files of data at noon one may go after the opt-outs, the others as calls come free."""
    connection = await asyncpg.connect(database)
    noon = datetime(2026, 4, 1, 12, 0, 1, tzinfo=JAPAN)
    await Clock.install(connection, noon)
    made = told_settings(rows_max=1, calls_per_day_limit=240, settle_wait_s=60)
    async with desk(database, tmp_path, made) as d:
        await d.w.connection_execute(
            "update lane set calls = 161, called_at = now(), calls_day = (now() at time zone 'Asia/Tokyo')::date"
        )
        await say(d, (U, "a"), (U, "b"), (U, "c"), (S, "d"))
        told = await ask(d)
        assert [one["operation"] for one in told["operations"]] == ["stop", "upsert"]
        assert [file["in_s"] for file in the(told, S)["files"]] == [0]
        assert [file["in_s"] for file in the(told, U)["files"]] == [60, 600, 1200]
        assert told["calls"] == {
            "needed": 4,
            "per_day": 240,
            "left": 79,
            "kept_for_opt_outs": 77,
            "takes_s": 1200,
        }
    await connection.close()


async def test_who_may_ask_for_what(database: str, tmp_path: Path) -> None:
    """It takes the scope `read`, an account of the settings, and an empty body."""
    async with desk(database, tmp_path, told_settings()) as d:
        path = f"/v1/accounts/{ACCOUNT}/preview"
        await d.problem(401, "POST", path, {}, None)
        await d.problem(403, "POST", path, {}, "operator")
        await d.problem(404, "POST", "/v1/accounts/none/preview", {})
        found = await d.problem(422, "POST", path, {"files": 3})
        assert [error["field"] for error in found["errors"]] == ["files"]
        answers.Preview.model_validate_json(json.dumps(await ask(d)))


async def test_an_account_that_no_relay_has_worked_yet(database: str, tmp_path: Path) -> None:
    """`relay preview` may come before `relay serve` has made lanes and cursors: then nothing waits."""
    made = told_settings(2)
    async with desk(database, tmp_path, told_settings(1)) as d:
        context = Context(d.w.store, made, KEYS, d.w.metrics, lambda: None)
        told = await preview(context, "account-1")
        assert (told.operations, told.calls.needed, told.complete) == ([], 0, True)
