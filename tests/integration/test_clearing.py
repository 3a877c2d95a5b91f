"""Error records at the vendor: deleted once relay has all that they tell, and only where the account says so."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from relay.client import Client
from relay.demo.sim_bme_replies import Brand
from relay.flush.clearing import CLEAR_AGAIN_S, RECORDS_MAX, UPLOADS_MAX, Cleared, Clearing
from tests.integration.recovering import CONTRACT, D, Stage, U, stage
from tests.integration.test_recovering import lose, refuse

DELETES = {"delete_error_records": True}


async def refused(s: Stage, *people: str) -> None:
    """Deliver a file in which these are refused."""
    refuse(s, *people)
    await s.say(U, *people, "good")
    assert await s.go() == ["delivered"]


@pytest.mark.parametrize("deletes", [True, False])
@pytest.mark.parametrize("brand", ["blastmail", "blaynmail"])
async def test_a_record_that_was_settled_from_is_deleted(
    database: str,
    tmp_path: Path,
    brand: Brand,
    deletes: bool,  # noqa: FBT001
) -> None:
    """After the settlement, where the account says so; a person's records stay, whatever the brand answers."""
    async with stage(database, tmp_path, {"delete_error_records": deletes}, brand=brand) as s:
        s.sim.ahead_s = -100.0
        await s.person_imports("all", ["E-Mail"], ["someone"])
        await s.person_imports("delete", ["E-Mail"], ["x@example.jp"])
        s.sim.ahead_s = 0.0
        lose(s, "lost reply", "b")
        await s.say(U, "a", "b")
        assert [*await s.go(), *await s.go()] == ["unknown", "delivered"]
        assert len(await s.listed()) == 3, "nothing is deleted with the settlement itself"
        cleared = await s.clearing().clear(s.plan)
        assert cleared == (Cleared(0, 1, 0) if deletes else Cleared())
        assert await s.listed() == [("登録エラー", 1)] * (not deletes) + [("削除エラー", 1), ("登録エラー", 1)]
        assert await s.w.connection.fetchval("select deleted_at is not null from error_record") == deletes


async def test_a_record_of_an_answered_upload_is_taken_over_first(database: str, tmp_path: Path) -> None:
    """Its rows are the refused lines that relay has: it is noted, with its upload, and deleted."""
    async with stage(database, tmp_path, DELETES) as s:
        await refused(s, "b", "c")
        await s.say(D, "nobody")
        assert await s.go() == ["delivered"]
        assert await s.listed() == [("削除エラー", 1), ("登録エラー", 2)]
        assert await s.clearing().clear(s.plan) == Cleared(2, 2, 0)
        assert await s.listed() == []
        rows = await s.w.connection.fetch("select kind, count, batch_id, number from error_record order by batch_id")
        assert [tuple(row) for row in rows] == [("登録エラー", 2, 1, 1), ("削除エラー", 1, 2, 1)]


async def test_a_record_with_others_in_it_stays(database: str, tmp_path: Path) -> None:
    """A person's import of the same second is in the same record: relay does not have all that it tells."""
    async with stage(database, tmp_path, DELETES) as s:
        await refused(s, "b")
        await s.person_imports("all", ["E-Mail", "氏名"], ["someone", "髙橋"])
        before = await s.listed()
        assert (await s.clearing().clear(s.plan)).deleted == (len(before) - 1), "none, but where a second has passed"
        assert ("登録エラー", 2 if len(before) == 1 else 1) in await s.listed()


async def test_a_record_that_has_changed_since_stays(database: str, tmp_path: Path) -> None:
    """Settled from, and then another import of the same second was added to it."""
    async with stage(database, tmp_path, DELETES) as s:
        lose(s, "lost reply", "b")
        await s.say(U, "a", "b")
        assert [*await s.go(), *await s.go()] == ["unknown", "delivered"]
        date = await s.w.connection.fetchval("select date from error_record")
        records = s.sim._offices["user"].records  # noqa: SLF001 (as an import of that second would)
        kept = records.found({"登録エラー": date})[0]
        kept.count += 1
        assert await s.clearing().clear(s.plan) == Cleared(0, 0, 1)
        assert await s.listed() == [("登録エラー", 2)]


@pytest.mark.parametrize(
    ("on", "fault"),
    [
        ("error_delete", {"fault": "status", "status": 400}),
        ("error_delete", {"fault": "html", "status": 200}),
        ("error_delete", {"fault": "status", "status": 200, "body": '{"failure":"x","success":""}'}),
        ("error_delete", {"fault": "status", "status": 200, "body": '{"failure":"","success":"20180509T15:01:31"}'}),
        ("error_delete", {"fault": "reset_after_body"}),
        ("error_search", {"fault": "status", "status": 500, "times": 2}),
    ],
)
async def test_what_cannot_be_deleted_is_tried_again(
    database: str, tmp_path: Path, on: str, fault: dict[str, Any]
) -> None:
    """Not at once, but with the next occasion, or the next day."""
    async with stage(database, tmp_path, DELETES) as s:
        clock = [0.0]
        lose(s, "lost reply", "b")
        await s.say(U, "a", "b")
        assert [*await s.go(), *await s.go()] == ["unknown", "delivered"]
        s.sim.faults.add(**fault, on=on)
        clearing = s.clearing(clock=lambda: clock[0])
        assert await clearing.clear(s.plan) == Cleared(0, 0, 1)
        assert await s.w.connection.fetchval("select deleted_at from error_record") is None
        s.sim.faults.disarm()
        assert await clearing.clear(s.plan) == Cleared(), "the vendor is left alone"
        clock[0] += CLEAR_AGAIN_S
        assert await clearing.clear(s.plan) == Cleared(0, 1, 0)
        assert await s.listed() == []


async def test_one_that_a_person_has_deleted_is_gone(database: str, tmp_path: Path) -> None:
    """Nothing is left to do, and nothing is asked about it any more."""
    async with stage(database, tmp_path, DELETES) as s:
        await refused(s, "b")
        clearing = s.clearing()
        date = s.sim._offices["user"].records.found({})[0].date  # noqa: SLF001 (to look)
        s.sim.faults.add(fault="status", status=500, on="error_delete")
        assert await clearing.clear(s.plan) == Cleared(1, 0, 1)
        assert s.sim._offices["user"].records.delete("登録エラー", date)  # noqa: SLF001 (as a person would)
        assert await s.clearing().clear(s.plan) == Cleared(0, 1, 0)
        calls = s.sim.record_calls.total()
        assert await s.clearing().clear(s.plan) == Cleared()
        assert s.sim.record_calls.total() == calls


async def test_where_nothing_was_refused_nobody_is_asked(database: str, tmp_path: Path) -> None:
    """No call at all, and none for what is already known not to fit, until something new comes."""
    small = replace(CONTRACT, columns=("氏名", "備考"))
    async with stage(database, tmp_path, DELETES, contract=small) as s:
        await s.say(U, "a")
        assert await s.go() == ["delivered"]
        clearing = s.clearing()
        assert await clearing.clear(s.plan) == Cleared()
        assert s.sim.record_calls.total() == 0
        await refused(s, "b")
        s.sim._offices["user"].records.found({})[0].rows.clear()  # noqa: SLF001 (a record whose file is not whole)
        assert await clearing.clear(s.plan) == Cleared()
        calls = s.sim.record_calls.total()
        assert calls == 2
        assert await clearing.clear(s.plan) == Cleared()
        assert s.sim.record_calls.total() == calls
        s.sim.ahead_s = 5.0
        await refused(s, "c")
        await clearing.clear(s.plan)
        assert s.sim.record_calls.total() > calls


async def test_a_refused_login_is_counted_and_ends_it(database: str, tmp_path: Path) -> None:
    """One login a round at most, counted with the lane's, and none any more after an hour's worth, in any replica."""
    async with stage(database, tmp_path, DELETES) as s:
        await refused(s, "b", "c")
        office = s.sim._offices["user"]  # noqa: SLF001 (as the vendor's customer would)
        office.contract = replace(office.contract, password="changed")
        most = s.plan.login.login_failures_per_hour_max
        for count in [*range(1, most + 1), most, most]:
            async with Client(s.w.metrics, s.w.spool) as anew:
                await Clearing(s.w.store, anew, s.w.plans).clear(s.plan)
            assert s.sim.record.of("user").unauthorized == count
            assert await s.w.connection.fetchval("select cardinality(refused_logins) from lane") == count


@pytest.mark.parametrize("reason", ["operator", "unauthorized", "misconfigured", "refused", "columns"])
async def test_a_login_that_is_left_alone_is_not_asked(database: str, tmp_path: Path, reason: str) -> None:
    """While the lane pauses or these settings stay out; a pause that only holds up data is none."""
    async with stage(database, tmp_path, DELETES) as s:
        await refused(s, "b")
        if reason == "refused":
            pause = "update lane set refused_fingerprints = array[$1], refused_at = now()"
        else:
            pause = f"update lane set paused_at = now(), pause_reason = '{reason}', paused_fingerprint = $1"  # noqa: S608
        await s.w.connection.execute(pause, s.plan.fingerprint)
        cleared = await s.clearing().clear(s.plan)
        assert cleared == (Cleared(1, 1, 0) if reason == "columns" else Cleared())
        assert (s.sim.record_calls.total() > 0) == (reason == "columns")


async def test_what_can_never_be_deleted_keeps_nothing_else(database: str, tmp_path: Path) -> None:
    """However many there are: what was not tried yet goes first, records and uploads."""
    async with stage(database, tmp_path, DELETES) as s:
        await refused(s, "b")
        await s.w.connection.execute(
            "insert into error_record (login, kind, date, count, account, batch_id, number)"
            " select 'login-0', '登録エラー', '20180509T15:' || lpad(i::text, 2, '0') || ':00', 1, 'account-0', 1, 1"
            " from generate_series(1, $1::int) i",
            2 * RECORDS_MAX,
        )
        clearing = s.clearing()
        s.sim.faults.add(fault="status", status=400, on="error_search", times=RECORDS_MAX)
        assert await clearing.clear(s.plan) == Cleared(0, 0, RECORDS_MAX)
        s.sim.faults.disarm()
        assert await clearing.clear(s.plan) == Cleared(0, RECORDS_MAX, 0), "the others, which are gone at the vendor"
        assert await clearing.clear(s.plan) == Cleared()


async def test_uploads_that_fit_no_record_keep_nothing_else(database: str, tmp_path: Path) -> None:
    """However many newer ones there are: what was not looked at yet goes first."""
    async with stage(database, tmp_path, DELETES) as s:
        await refused(s, "b")
        await s.w.connection.execute(
            "insert into upload (account, batch_id, number, started_at, ended_at, outcome, bytes_sent)"
            " select account, batch_id, number + i, started_at + make_interval(secs => 60 * i),"
            " ended_at + make_interval(secs => 60 * i), outcome, bytes_sent from upload, generate_series(1, $1::int) i",
            UPLOADS_MAX,
        )
        clearing = s.clearing()
        assert await clearing.clear(s.plan) == Cleared(), "none of the newest has a record"
        assert await clearing.clear(s.plan) == Cleared(1, 1, 0)
