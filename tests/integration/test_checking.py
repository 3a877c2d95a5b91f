"""Columns are compared with the vendor's before a file is burnt, by one replica at a time; opt-outs do not wait."""

import asyncio
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from relay.client import Client
from relay.demo.sim_haihai import HaihaiContract, HaihaiSim
from relay.events import Operation
from relay.flush import Checker, Flusher, LaneWorker
from relay.flush.checking import CHECK_AGAIN_S, CHECK_EVERY_S, CHECK_PAUSED_S, CHECKS_FAILED_S
from relay.settings import Settings
from relay.store import Lease
from tests.integration.checking import ACCOUNT, CONTRACT, LOGIN, bme_settings, place
from tests.integration.model import settings, world
from tests.waiting import until

U, D, S = Operation.UPSERT, Operation.DELETE, Operation.STOP
GONE = (U, "gone"), (D, "gone")


# -- an unknown column -----------------------------------------------------------------------------------------------


async def test_an_unknown_header_holds_up_data_before_a_file_is_burnt(database: str, tmp_path: Path) -> None:
    """The vendor gets no file; the lane pauses for columns and tells account, header, and what was meant."""
    async with place(database, tmp_path, "氏名 ") as p:
        await p.say((U, "taro"))
        process = await p.start()
        done = await p.work(process)
        assert [worked.checked for worked in done] == ["columns"]
        assert (p.seen.uploads, p.seen.logins, p.seen.templates) == (0, 1, 2)
        assert await p.states() == {}
        reason, detail = await p.lane("pause_reason", "pause_detail")
        assert reason == "columns"
        assert detail == 'news: the vendor has no column "氏名 " (did you mean "氏名"?)'
        assert process.checked("columns") == 1
        check = await p.check()
        assert (check["result"], check["unknown"], check["known"]) == ("columns", ["氏名 "], ["E-Mail"])


async def test_opt_outs_go_on_beside_an_unknown_header(database: str, tmp_path: Path) -> None:
    """Deletions and stops go up as ever, before the check and while data is held up."""
    async with place(database, tmp_path, "会員種別") as p:
        await p.say((D, "hanako"), (U, "taro"))
        process = await p.start()
        done = await p.work(process)
        assert [(worked.outcome, worked.checked) for worked in done] == [("delivered", ""), ("", "columns")]
        await p.say((S, "jiro"))
        assert [worked.outcome for worked in await p.work(process)] == ["delivered"]
        assert set(await p.states()) == {"delete", "stop"}
        assert (await p.lane("pause_reason")) == ["columns"]
        assert p.seen.uploads == 2


async def test_a_column_that_somebody_adds_heals(database: str, tmp_path: Path) -> None:
    """While data is held up the vendor is asked every 15 minutes; data goes on by itself once the column is there."""
    async with place(database, tmp_path, "会員種別") as p:
        await p.say((U, "taro"))
        process = await p.start()
        await p.work(process)
        await p.add_item("会員種別")
        assert await p.work(process) == [], "not before its time"
        await p.passes(CHECK_PAUSED_S)
        done = await p.work(process)
        assert [(worked.checked, worked.outcome) for worked in done] == [("good", ""), ("", "delivered")]
        assert await p.lane("pause_reason", "paused_fingerprint") == [None, None]
        assert p.sim.readers("demo")["taro@example.jp"].fields["会員種別"] == "表"
        assert p.seen.logins == 1, "the token is still good"


async def test_a_corrected_header_needs_no_waiting(database: str, tmp_path: Path) -> None:
    """A process with other settings checks them at once, and sends what waits under the corrected header."""
    async with place(database, tmp_path, "氏 名") as p:
        await p.say((U, "taro"))
        await p.work(await p.start())
        done = await p.work(await p.start(bme_settings(p.sim.base_url, "氏名")))
        assert [(worked.checked, worked.outcome) for worked in done] == [("good", ""), ("", "delivered")]
        assert p.seen.failed_rows == 0


async def test_an_operators_resume_asks_at_once(database: str, tmp_path: Path) -> None:
    """Whoever has added the column need not wait; and who has not finds data held up again, no file burnt."""
    async with place(database, tmp_path, "会員種別") as p:
        await p.say((U, "taro"))
        process = await p.start()
        await p.work(process)
        await p.w.store.resume_lane(LOGIN)
        assert [worked.checked for worked in await p.work(process)] == ["columns"]
        assert (p.seen.uploads, await p.lane("pause_reason")) == (0, ["columns"])
        await p.add_item("会員種別")
        await p.w.store.resume_lane(LOGIN)
        assert [worked.outcome for worked in await p.work(process)] == ["", "delivered"]


@pytest.mark.parametrize(
    ("contract", "missing"),
    [({"status_header": "配信状態"}, ["状態"]), ({"address_header": "メールアドレス"}, ["E-Mail"])],
)
async def test_without_what_opt_outs_need_all_is_held_up(
    database: str, tmp_path: Path, contract: dict[str, Any], missing: list[str]
) -> None:
    """A vendor whose address or state has another name would refuse every opt-out: misconfigured; nothing is lost."""
    renamed = type(CONTRACT)("demo", "p", "k", columns=CONTRACT.columns, **contract)
    async with place(database, tmp_path, "氏名", contract=renamed) as p:
        process = await p.start()
        await p.work(process)
        await p.say((S, "taro"), (U, "hanako"))
        assert await p.work(process) == []
        reason, detail = await p.lane("pause_reason", "pause_detail")
        assert reason == "misconfigured"
        assert f'"{missing[0]}"' in str(detail)
        assert (await p.check())["missing"] == missing
        assert p.seen.uploads == 0


async def test_settings_may_ask_to_be_told_only(database: str, tmp_path: Path) -> None:
    """`template_check = "tell"`: where a template and what an import takes differ, data is not held up."""
    async with place(database, tmp_path, "会員種別", template_check="tell") as p:
        await p.say((U, "taro"))
        process = await p.start()
        done = await p.work(process)
        assert done[0].checked == "columns"
        assert done[1].outcome
        assert p.seen.uploads == 1
        assert (await p.check())["unknown"] == ["会員種別"]


# -- when ------------------------------------------------------------------------------------------------------------


async def test_a_lane_with_nothing_to_send_is_checked_at_start_and_daily(database: str, tmp_path: Path) -> None:
    """Nobody waits for the first webhook to learn of a wrong password or header."""
    async with place(database, tmp_path, "氏名") as p:
        process = await p.start()
        flusher = process.flusher()
        assert {login: worked.checked for login, worked in (await flusher.flush_once()).worked.items()} == {
            LOGIN: "good"
        }
        assert (await flusher.flush_once()).idle
        await p.passes(CHECK_EVERY_S - 60)
        process.checker.started -= CHECK_EVERY_S  # it has run all the time
        assert (await flusher.flush_once()).idle
        await p.passes(60)
        assert (await flusher.flush_once()).worked[LOGIN].checked == "good"
        assert process.checked("good") == 2


async def test_restarts_are_no_storm_of_logins(database: str, tmp_path: Path) -> None:
    """Ten processes that start one after another, or crash, log in once; after ten minutes once more, together."""
    async with place(database, tmp_path, "氏名") as p:
        for _ in range(10):
            await (await p.start()).flusher().flush_once()
        assert (p.seen.logins, p.seen.templates) == (1, 2)
        await p.passes(CHECK_AGAIN_S + 1)
        for _ in range(10):
            await (await p.start()).flusher().flush_once()
        assert (p.seen.logins, p.seen.templates) == (2, 4)


async def test_a_process_that_runs_does_not_check_again(database: str, tmp_path: Path) -> None:
    """Once somebody has checked since it started, a process waits for the day to be over, however many there are."""
    async with place(database, tmp_path, "氏名") as p:
        first, second = await p.start(), await p.start()
        await first.flusher().flush_once()
        for process in (first, second):
            process.checker.started -= CHECK_AGAIN_S + 100  # so long they have run
        await p.passes(CHECK_AGAIN_S + 50)
        assert (await second.flusher().flush_once()).idle
        assert (await first.flusher().flush_once()).idle


async def test_replicas_check_one_at_a_time(database: str, tmp_path: Path) -> None:
    """Five that see at once that a check is due: one does it."""
    async with place(database, tmp_path, "氏名") as p:
        p.sim.faults.add(fault="slow", on="usage", seconds=0.3)
        processes = [await p.start() for _ in range(5)]
        await asyncio.gather(*(process.flusher().flush_once() for process in processes))
        assert sum(process.checked("good") or 0 for process in processes) == 1
        assert p.seen.logins == 1


async def test_a_rollout_does_not_check_back_and_forth(database: str, tmp_path: Path) -> None:
    """Old and new settings side by side: each process checks its own once, not each time that the other has worked."""
    async with place(database, tmp_path, "氏名") as p:
        old, new = await p.start(), await p.start(bme_settings(p.sim.base_url, "都道府県"))
        for number in range(6):
            await p.say((U, f"c{number}"))
            await p.work((old, new)[number % 2])
        assert (old.checked("good"), new.checked("good")) == (1, 1)
        assert p.seen.logins == 2
        assert await p.states() == {"upsert": ["delivered"] * 6}


async def test_wrong_new_settings_send_nothing_beside_right_old_ones(database: str, tmp_path: Path) -> None:
    """What the old settings deliver ends no pause of the new ones' unknown column: not one file of theirs goes up."""
    async with place(database, tmp_path, "氏名") as p:
        old, new = await p.start(), await p.start(bme_settings(p.sim.base_url, "血液型"))
        for number in range(6):
            await p.say((U, f"c{number}"))
            done = await p.work((new, old)[number % 2])
            assert number % 2 or not any(worked.outcome for worked in done)
        assert p.seen.failed_rows == 0
        assert (new.checked("columns") or 0) <= 3
        assert p.seen.logins == 2


async def test_who_tells_no_columns_is_not_asked(database: str, tmp_path: Path) -> None:
    """配配メール has no templates, and each call there is one of the day: nothing is asked, and it is counted once."""
    sim = HaihaiSim(HaihaiContract(1, "relay", "secret"))
    async with (
        sim.serve() as url,
        world(database, tmp_path, at(settings(1), url)) as w,
        Client(w.metrics, w.spool) as c,
    ):
        worker = LaneWorker(w.store, w.spool, c, w.metrics, uuid4(), 60, checker=Checker(w.store, c, w.metrics))
        flusher = Flusher(worker, w.plans, round_s=1, uploads_max=1, grace_s=1)
        assert (await flusher.flush_once()).idle
        assert (await flusher.flush_once()).idle
        labels = {"vendor": "haihai", "result": "none"}
        assert w.metrics.registry.get_sample_value("relay_template_checks_total", labels) == 1
        assert await w.store.tell_checks(["account-0"]) == {}
    assert not sim.record.uploads


def at(made: Settings, url: str) -> Settings:
    """Point all logins of the model's settings at a vendor."""
    logins = {name: one.model_copy(update={"base_url": url}) for name, one in made.logins.items()}
    return made.model_copy(update={"logins": logins})


# -- a vendor that does not answer as it should ----------------------------------------------------------------------

TROUBLES: dict[str, dict[str, Any]] = {
    "5xx": {"fault": "status", "status": 500},
    "a page with 200": {"fault": "html", "status": 200},
    "a message with 200": {"fault": "status", "status": 200, "body": "Failure_Access, denied"},
    "JSON with 200": {"fault": "status", "status": 200, "body": '{"error":{"message":"Failure_"}}'},
    "some text with a comma": {"fault": "status", "status": 200, "body": "Service Unavailable, try again"},
    "nothing": {"fault": "status", "status": 200, "body": ""},
    "404": {"fault": "status", "status": 404},
    "403": {"fault": "status", "status": 403},
    "401": {"fault": "status", "status": 401, "times": 2},
    "busy": {"fault": "busy"},
    "429": {"fault": "retry_after"},
    "a reset": {"fault": "reset_after_body", "times": 2},  # aiohttp asks once more where nothing came back
    "no answer": {"fault": "lost_reply", "times": 2},
    "a hang": {"fault": "hang"},
}


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_a_check_that_fails_holds_nothing_up(database: str, tmp_path: Path, trouble: str) -> None:
    """Data goes on behind the one try, no pause is made, and the next try is minutes later."""
    async with place(database, tmp_path, "氏名") as p:
        p.sim.faults.add(on="usage", **TROUBLES[trouble])
        await p.say((U, "taro"))
        process = await p.start(timeout_s=0.3)
        done = await p.work(process)
        assert [(worked.checked, worked.outcome) for worked in done] == [("failed", ""), ("", "delivered")]
        assert await p.lane("pause_reason") == [None]
        check = await p.check()
        assert check["result"] == "failed"
        assert check["detail"]
        assert (check["unknown"], check["missing"]) == ([], [])
        await p.passes(CHECKS_FAILED_S[0])
        assert [worked.checked for worked in await p.work(process)] == ["good"]


async def test_a_hanging_vendor_keeps_opt_outs_waiting_for_one_time_out(database: str, tmp_path: Path) -> None:
    """Opt-outs that are due go before the check; those that come meanwhile go behind its time-out, before data."""
    async with place(database, tmp_path, "氏名") as p:
        p.sim.faults.add(fault="hang", on="usage", times=None)
        await p.say((D, "first"), (U, "taro"))
        process = await p.start(timeout_s=0.5)
        assert (await process.worker.work(process.plan, await p.w.fence())).outcome == "delivered"
        checking = asyncio.create_task(process.worker.work(process.plan, await p.w.fence()))
        await until(lambda: p.seen.logins > 0)
        await p.say((S, "second"))
        assert not checking.done()
        assert (await checking).checked == "failed"
        assert (await p.check())["detail"] == "no answer within 0.5 s"
        await p.work(process)
        assert list(await p.states()) == ["delete", "stop", "upsert"]


async def test_failures_are_tried_again_less_and_less(database: str, tmp_path: Path) -> None:
    """A contract without the right to ask is not asked every five minutes for ever."""
    async with place(database, tmp_path, "氏名") as p:
        p.sim.faults.add(fault="status", status=403, on="usage", times=None)
        process = await p.start()
        process.checker.started -= CHECK_EVERY_S  # it has run for long
        for wait_s in (*CHECKS_FAILED_S, CHECKS_FAILED_S[-1]):
            assert [worked.checked for worked in await p.work(process)] == ["failed"]
            await p.passes(wait_s - 10)
            assert await p.work(process) == []
            await p.passes(10)


@pytest.mark.parametrize(
    "fault",
    [{"fault": "status", "status": 200, "body": "Service Unavailable"}, {"fault": "html"}, TROUBLES["no answer"]],
    ids=["some text", "a page", "no answer"],
)
async def test_a_template_for_deleting_that_cannot_be_read_is_left_out(
    database: str, tmp_path: Path, fault: dict[str, Any]
) -> None:
    """It has the one column that the other has, too; what is wrong with it must not hold up deletions."""
    async with place(database, tmp_path, "氏名") as p:
        p.sim.faults.add(on="usage", skip=1, **fault)
        process = await p.start()
        assert [worked.checked for worked in await p.work(process)] == ["good"]


async def test_a_vendor_that_cannot_be_reached_is_not_asked(database: str, tmp_path: Path) -> None:
    """Nobody listens: told as not reachable, nothing is paused."""
    async with place(database, tmp_path, "氏名") as p:
        process = await p.start(bme_settings("http://127.0.0.1:9", "氏名"))
        assert [worked.checked for worked in await p.work(process)] == ["failed"]
        check = await p.check()
        assert (check["reachable"], check["login_good"]) == (False, None)
        assert check["detail"] == "127.0.0.1 cannot be reached: ConnectionRefusedError ECONNREFUSED"
        assert await p.lane("pause_reason") == [None]


# -- a refused login -------------------------------------------------------------------------------------------------


async def test_a_refused_login_pauses_as_after_an_upload(database: str, tmp_path: Path) -> None:
    """One try, counted with the others of the hour; no process with the same settings tries again."""
    async with place(database, tmp_path, "氏名", password="wrong") as p:
        await p.say((U, "taro"), (S, "hanako"))
        await p.w.connection_execute("delete from event where operation = 'stop'")
        for _ in range(5):
            process = await p.start()
            await process.flusher().flush_once()
        assert (p.seen.unauthorized, p.seen.uploads) == (1, 0)
        assert await p.lane("pause_reason", "cardinality(refused_logins)") == ["unauthorized", 1]
        check = await p.check()
        assert (check["result"], check["reachable"], check["login_good"]) == ("unauthorized", True, False)


async def test_a_login_that_is_let_in_again_is_counted_anew(database: str, tmp_path: Path) -> None:
    """What was refused before a good check does not count towards the hour's most."""
    async with place(database, tmp_path, "氏名") as p:
        await p.w.store.count_refused_login(LOGIN, 5)
        await p.work(await p.start())
        assert await p.lane("cardinality(refused_logins)") == [0]


async def test_a_login_that_cannot_be_made_out_pauses_nothing(database: str, tmp_path: Path) -> None:
    """A login call that is not answered properly is no refusal."""
    async with place(database, tmp_path, "氏名") as p:
        p.sim.faults.add(fault="html", on="login")
        process = await p.start()
        assert [worked.checked for worked in await p.work(process)] == ["failed"]
        assert await p.lane("pause_reason", "cardinality(refused_logins)") == [None, 0]


# -- what is kept ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["slow", "hang"])
async def test_what_a_lost_lane_found_is_forgotten(database: str, tmp_path: Path, fault: str) -> None:
    """Another replica took the lane over during the check: nothing is written, nothing is paused."""
    async with place(database, tmp_path, "会員種別") as p:
        p.sim.faults.add(fault=fault, on="usage", seconds=0.3)
        process = await p.start(timeout_s=0.5)
        checking = asyncio.create_task(process.worker.work(process.plan, await p.w.fence()))
        await until(lambda: p.seen.logins > 0)
        await p.w.connection_execute("update lane set generation = generation + 1")
        await checking
        assert await p.lane("pause_reason", "checked_at") == [None, None]
        assert await p.w.store.tell_checks([ACCOUNT]) == {}


async def test_a_later_check_replaces_what_was_found(database: str, tmp_path: Path) -> None:
    """Nothing of the one before is left, and it is told when and with which settings it was made."""
    async with place(database, tmp_path, "会員種別") as p:
        process = await p.start()
        await p.work(process)
        before = (await p.w.store.tell_checks([ACCOUNT]))[ACCOUNT]
        await p.add_item("会員種別")
        await p.passes(CHECK_PAUSED_S)
        await p.work(process)
        after = (await p.w.store.tell_checks([ACCOUNT, "another"]))[ACCOUNT]
        assert after.checked_at > before.checked_at
        assert after.fingerprint == before.fingerprint == process.plan.fingerprint
        assert after.result == {
            "result": "good",
            "reachable": True,
            "login_good": True,
            "known": ["E-Mail", "会員種別"],
            "unknown": [],
            "missing": [],
            "not_mapped": ["エラーカウント", "氏名", "都道府県"],
            "required": ["E-Mail", "状態"],
            "meant": {},
            "encoding": "Shift_JIS",
            "detail": "",
        }


async def test_a_lane_that_an_operator_paused_is_not_checked(database: str, tmp_path: Path) -> None:
    """Nor one that another replica works on."""
    async with place(database, tmp_path, "氏名") as p:
        process = await p.start()
        await p.w.store.pause_lane(LOGIN, "maintenance")
        assert (await process.flusher().flush_once()).worked == {}
        await p.w.store.resume_lane(LOGIN)
        lease = await p.w.store.lease_lane(LOGIN, (await p.start()).worker.owner, 60, process.plan.fingerprint)
        assert isinstance(lease, Lease)
        assert (await process.flusher().flush_once()).worked == {}
        assert p.seen.logins == 0
