"""Uploads whose answer was lost: settled from the vendor's own record where that fits beyond doubt, else sent again."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from relay.batches import Outcome
from relay.demo.sim_bme_records import RecordStyle
from relay.events import Operation
from relay.flush.clearing import Cleared, Clearing
from relay.flush.recovering import SETTLED_S
from relay.settings import Login
from relay.vendors import Call, Reply
from tests.integration.faults import Death, Died, MortalStore, delays_pass, lease_runs_out, work_until_death
from tests.integration.recovering import ACCOUNT, CONTRACT, D, S, Stage, U, stage
from tests.waiting import until

NO = "シミュレーターが拒否しました"
LOST: dict[str, dict[str, Any]] = {
    "lost reply": {"fault": "lost_reply"},
    "reset": {"fault": "reset_after_body", "applied": True},
    "5xx": {"fault": "html", "status": 503, "applied": True},
    "408": {"fault": "html", "status": 408, "applied": True},
    "garbage": {"fault": "status", "status": 200, "body": "OK", "applied": True},
}


def lose(s: Stage, how: str = "lost reply", *bad: str) -> None:
    """Let the vendor import the next file, refuse some people in it, and say nothing of use."""
    s.sim.faults.add(**LOST[how])
    if bad:
        refuse(s, *bad)


def refuse(s: Stage, *bad: str) -> None:
    """Let the vendor refuse some people from now on, whatever other faults there are."""
    readers = s.sim.readers_of("user")
    apply, wanted = readers.apply, {f"{one}@example.jp" for one in bad}

    def refusing(operation: str, row: Any) -> str | None:  # noqa: ANN401 (as it is)
        return NO if row["E-Mail"] in wanted else apply(operation, row)

    readers.apply = refusing  # type: ignore[method-assign] # the simulator itself meets one fault an upload


async def older(s: Stage, seconds: float) -> None:
    """Let all uploads be so much longer ago."""
    await s.w.connection_execute(
        "update upload set started_at = started_at - make_interval(secs => $1),"
        " ended_at = ended_at - make_interval(secs => $1)",
        seconds,
    )


# -- settled ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", LOST)
async def test_a_lost_answer_is_found_again(database: str, tmp_path: Path, how: str) -> None:
    """One upload at the vendor; the refused line with its message, the others delivered; and it says from where."""
    async with stage(database, tmp_path) as s:
        lose(s, how, "b")
        await s.say(U, "a", "b", "c")
        assert await s.go() == ["unknown"]
        assert await s.go() == ["delivered"]
        assert s.uploads == 1
        assert set(s.sim.readers("user")) == {"a@example.jp", "c@example.jp"}
        assert await s.batches() == [("delivered", 1)]
        assert await s.rejected() == [(3, NO, False)]
        rows = await s.w.connection.fetch(
            "select number, outcome, reason, bytes_sent, http_status from upload order by 1"
        )
        assert [(row["number"], row["outcome"]) for row in rows] == [(1, "unknown"), (2, "delivered")]
        assert "settled from the vendor's record of upload 1 (登録エラー 20" in rows[1]["reason"]
        assert rows[1]["reason"].endswith("2 of 3 lines delivered")
        assert (rows[1]["bytes_sent"], rows[1]["http_status"]) == (0, None)
        (taken,) = await s.w.connection.fetch("select * from error_record")
        assert (taken["kind"], taken["count"], taken["number"], taken["deleted_at"]) == ("登録エラー", 1, 1, None)
        assert s.recovered() == {"settled": 1}
        assert s.sim.record_calls == {"error_search": 2, "error_export": 1}
        assert s.w.metrics.registry.get_sample_value(
            "relay_rejections_total", {"vendor": "blastmail", "operation": "upsert"}
        )


@pytest.mark.parametrize(("operation", "kind"), [(D, "削除エラー"), (S, "登録エラー")])
async def test_opt_outs_are_found_in_their_own_lists(
    database: str, tmp_path: Path, operation: Operation, kind: str
) -> None:
    """A deletion in that of deletions, a stop, which is a change, in the other; who was not there is told as ever."""
    async with stage(database, tmp_path) as s:
        await s.say(U, "a", "b")
        await s.go()
        lose(s)
        await s.say(operation, "a", "b", "x")
        assert await s.go() == ["unknown"]
        assert await s.go() == ["delivered"]
        assert s.uploads == 2
        (line, message, _), *_ = await s.rejected()
        assert (line, message) == (4, "登録されていないメールアドレスです")
        assert await s.w.connection.fetchval("select kind from error_record") == kind


async def test_what_a_first_try_created_is_told_from_what_was_there(database: str, tmp_path: Path) -> None:
    """In the mode `create` a second try would read "already there" for all: only who was there before is refused."""
    async with stage(database, tmp_path, {"mode": "create"}) as s:
        await s.person_imports("all", ["E-Mail"], ["b@example.jp"])
        lose(s)
        await s.say(U, "a", "b", "c")
        assert await s.go() == ["unknown"]
        assert await s.go() == ["delivered"]
        assert await s.rejected() == [(3, "既に登録されているメールアドレスです", False)]
        assert s.uploads == 2, "the person's, and one"


async def test_an_echo_stays_unconfirmed(database: str, tmp_path: Path) -> None:
    """In the mode `create`, a record of the second try is of lines that the first one may have brought."""
    async with stage(database, tmp_path, {"mode": "create"}) as s:
        lose(s)
        await s.say(U, "a", "b")
        assert await s.go() == ["unknown"]
        lose(s)
        assert await s.go() == ["unknown"], "no record: nobody was refused"
        assert await s.go() == ["delivered"]
        assert s.uploads == 2
        assert [unconfirmed for *_, unconfirmed in await s.rejected()] == [True, True]


async def test_an_unknown_header_reads_as_ever(database: str, tmp_path: Path) -> None:
    """All lines refused by one message is the settings' fault: the lane pauses, and no customer is rejected."""
    async with stage(database, tmp_path, {"columns": {"E-Mail": "email", "名前": "name"}}) as s:
        lose(s)
        await s.say(U, "a", "b", "c")
        assert await s.go() == ["unknown"]
        assert await s.go() == ["misconfigured"]
        assert await s.rejected() == []
        assert s.uploads == 1
        assert await s.w.connection.fetchval("select pause_reason from lane") == "data"
        assert await s.batches() == [("waiting", 0)]


async def test_an_upload_of_a_dead_replica_is_found(database: str, tmp_path: Path) -> None:
    """The replica died before it could write down the answer; another, with a disk of its own, finds the record."""
    async with stage(database, tmp_path / "one") as s, MortalStore.open(database) as store:
        refuse(s, "b")
        await s.say(U, "a", "b")
        store.death = Death("before settle")
        with pytest.raises(Died):
            await work_until_death(s.w, s.worker(store=store), s.plan)
        await lease_runs_out(s.w)
        s.w.spool = type(s.w.spool)(tmp_path / "two")
        assert await s.go() == ["unknown"]
        assert await s.go() == ["delivered"]
        assert (s.uploads, await s.batches(), await s.rejected()) == (1, [("delivered", 1)], [(3, NO, False)])


async def test_an_import_that_goes_on_is_found_when_it_has_ended(database: str, tmp_path: Path) -> None:
    """After a time-out: no record yet, then the vendor is busy with it, then the record; nothing is cut in halves."""
    slow = replace(CONTRACT, import_s=(0.8, 0.8))
    async with stage(database, tmp_path, login={"upload_timeout_s": 0.4}, contract=slow) as s:
        refuse(s, "b")
        await s.say(U, "a", "b", "c", "d")
        assert await s.go() == ["unknown"]
        assert (await s.w.connection.fetchval("select rows_max from cursor where operation = 'upsert'")) == 2
        await until(lambda: s.sim.record.of("user").applied == 1 and not s.sim._offices["user"].importing)  # noqa: SLF001
        assert await s.go() == ["delivered"]
        assert (s.uploads, await s.batches(), await s.rejected()) == (1, [("delivered", 1)], [(3, NO, False)])


async def test_a_busy_vendor_between_is_no_word(database: str, tmp_path: Path) -> None:
    """While an import goes on the file is refused as busy, and the record found after that is still the first one's."""
    slow = replace(CONTRACT, import_s=(0.8, 0.8))
    async with stage(database, tmp_path, login={"upload_timeout_s": 0.4}, contract=slow) as s:
        refuse(s, "a")
        await s.say(U, "a")
        assert await s.go() == ["unknown"]
        assert await s.go() == ["busy"]
        await until(lambda: not s.sim._offices["user"].importing)  # noqa: SLF001
        assert await s.go() == ["delivered"]
        assert s.recovered() == {"none": 1, "settled": 1}
        assert s.sim.record.of("user").applied == 1


@pytest.mark.parametrize("ahead_s", [-40_000.0, 7_200.0])
async def test_a_vendors_clock_may_be_wrong(database: str, tmp_path: Path, ahead_s: float) -> None:
    """Its own `Date` says by how much."""
    async with stage(database, tmp_path) as s:
        s.sim.ahead_s = ahead_s
        lose(s, "lost reply", "b")
        await s.say(U, "a", "b")
        assert [*await s.go(), *await s.go()] == ["unknown", "delivered"]
        assert s.recovered() == {"settled": 1}


@pytest.mark.parametrize(
    "style",
    [
        RecordStyle(encoding="utf-8"),
        RecordStyle(encoding="utf-8-sig", message="message"),
        RecordStyle(turned=True),
        RecordStyle(more=("状態", "行番号"), message="エラー"),
    ],
)
async def test_the_file_may_look_otherwise(database: str, tmp_path: Path, style: RecordStyle) -> None:
    """In UTF-8, with the columns in another order, with more of them."""
    async with stage(database, tmp_path, contract=replace(CONTRACT, records=style)) as s:
        lose(s, "lost reply", "b", "c")
        await s.say(U, "a", "b", "c")
        assert [*await s.go(), *await s.go()] == ["unknown", "delivered"]
        assert await s.rejected() == [(3, NO, False), (4, NO, False)]
        assert s.uploads == 1


@pytest.mark.parametrize("on", ["error_search", "error_export"])
async def test_a_token_may_run_out_meanwhile(database: str, tmp_path: Path, on: str) -> None:
    """It is renewed once, as for uploads; and what comes as XML is read, too."""
    async with stage(database, tmp_path) as s:
        s.sim.faults.add(fault="expired_token", on=on)
        s.sim.faults.add(fault="xml", on="error_search", times=2)
        lose(s, "lost reply", "b")
        await s.say(U, "a", "b")
        assert [*await s.go(), *await s.go()] == ["unknown", "delivered"]
        assert s.recovered() == {"settled": 1}


# -- sent again ------------------------------------------------------------------------------------------------------


async def test_no_record_means_nothing(database: str, tmp_path: Path) -> None:
    """Nobody was refused, so there is no record: the file is sent again, which does no harm."""
    async with stage(database, tmp_path) as s:
        lose(s)
        await s.say(U, "a", "b")
        assert [*await s.go(), *await s.go()] == ["unknown", "delivered"]
        assert (s.uploads, s.recovered()) == (2, {"none": 1})
        assert await s.tried() == ["unknown", "delivered"]
        assert s.sim.record_calls == {"error_search": 1}


async def test_a_file_that_was_never_imported_is_sent_again(database: str, tmp_path: Path) -> None:
    """The vendor lost it; an older record, of a person's, is none of it."""
    async with stage(database, tmp_path) as s:
        s.sim.ahead_s = -60.0
        await s.person_imports("all", ["E-Mail"], ["a@example"])
        s.sim.ahead_s = 0.0
        s.sim.faults.add(fault="reset_after_body")
        await s.say(U, "a", "b")
        assert [*await s.go(), *await s.go()] == ["unknown", "delivered"]
        assert (s.recovered(), await s.batches()) == ({"none": 1}, [("delivered", 0)])


async def test_of_two_records_neither_is_believed(database: str, tmp_path: Path) -> None:
    """One is ours, but which?"""
    async with stage(database, tmp_path) as s:
        lose(s, "lost reply", "b")
        await s.say(U, "a", "b")
        assert await s.go() == ["unknown"]
        s.sim.ahead_s = 1.0
        await s.person_imports("all", ["E-Mail", "氏名"], ["b@example.jp", "髙橋 b"])
        assert len(await s.listed()) == 2
        assert await s.go() == ["delivered"]
        assert (s.uploads, s.recovered()) == (3, {"doubt": 1})


@pytest.mark.parametrize("ours", [True, False])
async def test_a_persons_record_is_not_believed(database: str, tmp_path: Path, ours: bool) -> None:  # noqa: FBT001
    """Made in the same second, with ours in it or without: a row that fits no line of the file gives it away."""
    async with stage(database, tmp_path) as s:
        lose(s, "lost reply", *(["b"] if ours else []))
        await s.say(U, "a", "b")
        assert await s.go() == ["unknown"]
        await s.person_imports("all", ["E-Mail", "氏名"], ["someone", "髙橋 b"])
        assert await s.go() == ["delivered"]
        assert (s.uploads, s.recovered()) == (3, {"doubt": 1})
        assert await s.w.connection.fetchval("select count(*) from error_record") == 0


async def test_a_record_of_the_same_line_just_before_is_not_believed(database: str, tmp_path: Path) -> None:
    """An operator retries a refused line at once, and that upload never arrives: the older record would fit it."""
    async with stage(database, tmp_path) as s:
        refuse(s, "b")
        await s.say(U, "a", "b")
        assert await s.go() == ["delivered"]
        await s.w.store.retry_batch(ACCOUNT, 1)
        s.sim.faults.add(fault="reset_after_body")
        s.sim.readers_of("user").__dict__.pop("apply")  # whatever was wrong is mended
        assert await s.go() == ["unknown"]
        assert await s.go() == ["delivered"]
        assert s.recovered() == {"doubt": 1}
        assert "b@example.jp" in s.sim.readers("user")


async def test_a_record_from_before_the_upload_is_not_believed(database: str, tmp_path: Path) -> None:
    """The same when the older upload ended a while ago, so that only the record's time gives it away."""
    async with stage(database, tmp_path) as s:
        s.sim.ahead_s = -30.0
        refuse(s, "b")
        await s.say(U, "a", "b")
        assert await s.go() == ["delivered"]
        await older(s, 30)
        s.sim.ahead_s = 0.0
        await s.w.store.retry_batch(ACCOUNT, 1)
        s.sim.faults.add(fault="reset_after_body")
        assert [*await s.go(), *await s.go()] == ["unknown", "delivered"]
        assert s.recovered() == {"none": 1}


async def test_another_unanswered_upload_before_makes_all_doubtful(database: str, tmp_path: Path) -> None:
    """Its import may have gone on, and its record be the one that is found: for an hour nothing is believed."""
    async with stage(database, tmp_path, {}, {}, login={"upload_timeout_s": 0.4}) as s:
        refuse(s, "b")
        for fault, account, people in (("hang", "account-0", ["b"]), ("reset_after_body", "account-1", ["b", "c"])):
            s.sim.faults.add(fault=fault)
            await s.say(U, *people, account=account)
            assert [one.outcome for one in await s.w.flush(s.worker(), s.plan)] == ["unknown"]
            await older(s, 3_000 if fault == "hang" else 0)
        await s.person_imports("all", ["E-Mail", "氏名"], ["b@example.jp", "髙橋 b"])  # as the first file would
        await s.w.connection_execute("update cursor set not_before = '-infinity' where account = 'account-1'")
        assert [one.outcome for one in await s.w.flush(s.worker(), s.plan)] == ["delivered"]
        assert s.recovered() == {"doubt": 1}
        assert "c@example.jp" in s.sim.readers("user")


async def test_a_record_of_the_other_type_matters_to_nobody(database: str, tmp_path: Path) -> None:
    """Just before a deletion data with failures went up: that leaves no record of deletions."""
    async with stage(database, tmp_path) as s:
        refuse(s, "b")
        await s.say(U, "a", "b")
        assert await s.go() == ["delivered"]
        lose(s)
        await s.say(D, "a", "x")
        assert [*await s.go(), *await s.go()] == ["unknown", "delivered"]
        assert (s.uploads, s.recovered()) == (2, {"settled": 1})


async def test_a_record_of_a_later_upload_is_not_believed(database: str, tmp_path: Path) -> None:
    """While the file waits for its next try another account's goes up, with the same customer, and leaves a record."""
    async with stage(database, tmp_path, {}, {}) as s:
        refuse(s, "b")
        s.sim.faults.add(fault="reset_after_body")
        await s.say(U, "b")
        assert await s.go() == ["unknown"]
        await s.say(U, "b", account="account-1")
        assert [one.outcome for one in await s.w.flush(s.worker(), s.plan)] == ["delivered"]
        assert s.uploads == 2
        assert await s.go() == ["delivered"]
        assert (s.uploads, s.recovered()) == (3, {"none": 1})


@pytest.mark.parametrize(("after_s", "result"), [(40, "settled"), (90, "none"), (28_000, "none")])
async def test_a_record_made_long_after_the_upload_is_not_believed(
    database: str, tmp_path: Path, after_s: float, result: str
) -> None:
    """Hours later a person imports a line of the file by hand, and it is refused: that settles nothing of ours."""
    async with stage(database, tmp_path) as s:
        s.settled_s = SETTLED_S
        s.sim.faults.add(fault="reset_after_body")
        await s.say(U, "a", "b", "c")
        assert await s.go() == ["unknown"]
        await older(s, 28_800)
        refuse(s, "b")
        s.sim.ahead_s = after_s - 28_800
        await s.person_imports("all", ["E-Mail", "氏名"], ["b@example.jp", "髙橋 b"])
        s.sim.ahead_s = 0.0
        assert await s.go() == ["delivered"]
        assert s.recovered() == {result: 1}
        assert ("c@example.jp" in s.sim.readers("user")) is (result == "none")


async def test_an_upload_that_was_taken_over_late_ended_with_its_time_out(database: str, tmp_path: Path) -> None:
    """All replicas were gone for hours: that its end was written down only now makes no later record ours."""
    async with stage(database, tmp_path) as s:
        s.settled_s = SETTLED_S
        s.sim.faults.add(fault="reset_after_body")
        await s.say(U, "a", "b", "c")
        assert await s.go() == ["unknown"]
        await s.w.connection_execute(
            "update upload set whole = null, started_at = now() - interval '2 h', ended_at = now() - interval '10 min'"
        )
        refuse(s, "b")
        s.sim.ahead_s = -590.0
        await s.person_imports("all", ["E-Mail", "氏名"], ["b@example.jp", "髙橋 b"])
        s.sim.ahead_s = 0.0
        assert await s.go() == ["delivered"]
        assert s.recovered() == {"none": 1}


async def test_a_file_that_broke_off_is_not_looked_for(database: str, tmp_path: Path) -> None:
    """Whatever record there is, it cannot be of a file that was not sent whole."""
    async with stage(database, tmp_path) as s:
        lose(s, "lost reply", "b")
        await s.say(U, "a", "b")
        assert await s.go() == ["unknown"]
        assert await s.w.connection.fetchval("select whole from upload")
        await s.w.connection_execute("update upload set whole = false")
        assert await s.go() == ["delivered"]
        assert (s.uploads, s.sim.record_calls) == (2, {})


ANSWERED: dict[str, dict[str, Any]] = {
    "other counts": {"fault": "wrong_counts", "success_by": 1, "applied": True},
    "500": {"fault": "status", "status": 500, "body": '{"error":{"message":"broken"}}', "applied": True},
}


@pytest.mark.parametrize("how", ANSWERED)
async def test_a_record_does_not_overrule_the_vendors_answer(database: str, tmp_path: Path, how: str) -> None:
    """It did answer, and what it said was not that the other lines are there."""
    async with stage(database, tmp_path) as s:
        refuse(s, "b")
        s.sim.faults.add(**ANSWERED[how])
        await s.say(U, "a", "b", "c")
        assert await s.go() == ["unknown"]
        await s.go()
        assert s.uploads >= 2
        assert (s.sim.record_calls, s.recovered()) == ({}, {})


async def test_no_earlier_upload_is_taken_for_one_that_was_answered(database: str, tmp_path: Path) -> None:
    """The first one's answer was lost, and the second one's was of no use: the first one's record is not asked for."""
    async with stage(database, tmp_path) as s:
        lose(s)
        await s.say(U, "a", "b")
        assert await s.go() == ["unknown"]
        refuse(s, "b")
        s.sim.faults.add(**ANSWERED["other counts"])
        assert await s.go() == ["unknown"]
        assert s.sim.record_calls == {"error_search": 1}
        await s.go()
        assert s.sim.record_calls == {"error_search": 1}


async def test_a_deletion_that_leaves_no_echo_is_said_again(database: str, tmp_path: Path) -> None:
    """Where the messages for unknown addresses are set, a deletion by hand in the same minute could look like ours."""
    messages = ["登録されていないメールアドレスです"]
    async with stage(database, tmp_path, login={"unknown_address_messages": messages}) as s:
        await s.say(U, "a")
        await s.go()
        s.sim.faults.add(fault="reset_after_body")
        await s.say(D, "a", "x")
        assert await s.go() == ["unknown"]
        await s.person_imports("delete", ["E-Mail"], ["x@example.jp"])
        assert await s.go() == ["delivered"]
        assert s.sim.record_calls == {}
        assert "a@example.jp" not in s.sim.readers("user")


@pytest.mark.parametrize("on", ["error_search", "error_export"])
@pytest.mark.parametrize(
    "fault",
    [
        {"fault": "status", "status": 400, "body": '{"error":{"message":"Failure_date is incorrect"}}'},
        {"fault": "status", "status": 500, "body": '{"error":{"message":"illegal format: json,json"}}'},
        {"fault": "status", "status": 200, "body": ""},
        {"fault": "status", "status": 200, "body": '{"contact":[{"count":1,"date":"2026'},
        {"fault": "html", "status": 200},
        {"fault": "html"},
        {"fault": "retry_after"},
        {"fault": "lost_reply", "times": 2},
        {"fault": "hang"},
        {"fault": "expired_token", "times": 3},
    ],
)
async def test_a_vendor_that_does_not_answer_means_sending_again(
    database: str, tmp_path: Path, on: str, fault: dict[str, Any]
) -> None:
    """Errors, pages, half an answer, none: no exception, and the file goes up."""
    async with stage(database, tmp_path, login={"upload_timeout_s": 0.5}) as s:
        s.sim.faults.add(**fault, on=on)
        lose(s, "lost reply", "b")
        await s.say(U, "a", "b")
        assert await s.go() == ["unknown"]
        assert await s.go() == ["delivered"]
        assert (s.uploads, s.recovered()) == (2, {"failed": 1})
        assert await s.w.connection.fetchval("select count(*) from error_record") == 0


@dataclass(frozen=True, slots=True)
class Twisted:
    """Asks as the client does, and changes what comes of the calls to one endpoint, from the nth on."""

    s: Stage
    path: str
    change: Callable[[Reply], Reply]
    first: int = 1
    seen: list[str] = field(default_factory=list)

    async def ask(self, login: Login, call_with: Callable[[str | None], Call]) -> Reply | Outcome:
        """Make a call."""
        call = call_with("x")
        reply = await self.s.client.ask(login, call_with)
        self.seen.append(call.path)
        twist = call.path.endswith(self.path) and self.seen.count(call.path) >= self.first
        return self.change(reply) if twist and isinstance(reply, Reply) else reply


def one_more(reply: Reply) -> Reply:
    """Count one more failed line."""
    told = json.loads(reply.body)
    told["contact"][0]["count"] += 1
    return replace(reply, body=json.dumps(told).encode())


def undated(reply: Reply) -> Reply:
    """Give the record no readable time."""
    told = json.loads(reply.body)
    told["contact"][0]["date"] = "昨日"
    return replace(reply, body=json.dumps(told).encode())


@pytest.mark.parametrize(
    ("path", "first", "change", "result"),
    [
        ("error/search", 1, lambda reply: replace(reply, date=None), "failed"),
        ("error/search", 1, undated, "doubt"),
        ("error/search", 1, one_more, "doubt"),
        ("error/search", 2, one_more, "doubt"),
        ("error/export", 1, lambda reply: replace(reply, body=reply.body[:-20]), "failed"),
        ("error/export", 1, lambda reply: replace(reply, truncated=True), "failed"),
    ],
)
async def test_what_changes_or_cannot_be_placed_is_not_believed(
    database: str, tmp_path: Path, path: str, first: int, change: Callable[[Reply], Reply], result: str
) -> None:
    """No clock to compare with, no time, a count that is not the file's, one that grows between two looks."""
    async with stage(database, tmp_path) as s:
        lose(s, "lost reply", "b")
        await s.say(U, "a", "b", "c")
        assert await s.go() == ["unknown"]
        assert await s.go(s.worker(asks=Twisted(s, path, change, first))) == ["delivered"]
        assert (s.uploads, s.recovered()) == (2, {result: 1})


async def test_a_record_whose_time_is_no_text_is_nobodys(database: str, tmp_path: Path) -> None:
    """Though the vendor gives its file, it is not taken over to be deleted: no database could note it."""
    dates: list[str] = []

    def broken(reply: Reply) -> Reply:
        told = json.loads(reply.body)
        dates.append(told["contact"][0]["date"])
        told["contact"][0]["date"] += "\0\ud800"
        return replace(reply, body=json.dumps(told).encode())

    class Lenient(Twisted):
        async def ask(self, login: Login, call_with: Callable[[str | None], Call]) -> Reply | Outcome:
            def given(token: str | None) -> Call:
                call = call_with(token)
                query = tuple((name, dates[0] if name == "date" else value) for name, value in call.query)
                return replace(call, query=query)

            return await Twisted.ask(self, login, given)

    async with stage(database, tmp_path, {"delete_error_records": True}) as s:
        refuse(s, "b")
        await s.say(U, "a", "b")
        assert await s.go() == ["delivered"]
        asks = Lenient(s, "error/search", broken)
        assert await Clearing(s.w.store, asks, s.w.plans).clear(s.plan) == Cleared()
        assert dates
        assert await s.w.connection.fetchval("select count(*) from error_record") == 0


# -- not yet ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("young", ["record", "end"])
async def test_a_young_record_has_to_wait(database: str, tmp_path: Path, young: str) -> None:
    """The import may still go on: the file is neither settled nor sent, burns no attempt, and is settled in time."""
    async with stage(database, tmp_path) as s:
        s.settled_s = SETTLED_S
        lose(s, "lost reply", "b")
        await s.say(U, "a", "b")
        assert [*await s.go(), *await s.go()] == ["unknown", ""]
        assert (s.uploads, s.recovered()) == (1, {})
        row = await s.w.connection.fetchrow(
            "select attempts, not_before - now() as wait from cursor where operation = 'upsert'"
        )
        assert row is not None
        assert row["attempts"] == 1
        assert 50 < row["wait"].total_seconds() <= SETTLED_S + 2
        assert await s.w.connection.fetchval("select wait_reason from cursor where operation = 'upsert'") == "record"
        assert await s.w.flush(s.worker(), s.plan) == [], "not before its time"
        await older(s, SETTLED_S + 1)
        if young == "end":
            await s.w.connection_execute("update upload set ended_at = now()")
            s.sim.ahead_s += SETTLED_S + 1
        assert await s.go() == [""], "both the record and the upload's end have to be old enough"
        if young == "end":
            await s.w.connection_execute("update upload set ended_at = now() - interval '61 s'")
        else:
            s.sim.ahead_s += SETTLED_S + 1
        assert await s.go() == ["delivered"]
        assert (s.uploads, s.recovered()) == (1, {"settled": 1})
        assert await s.w.connection.fetchval("select wait_reason from cursor where operation = 'upsert'") == ""


async def test_a_record_that_stays_young_is_not_waited_for_for_ever(database: str, tmp_path: Path) -> None:
    """The vendor's `Date` stands still: when a record should long be old enough, the file is sent again."""
    async with stage(database, tmp_path) as s:
        s.settled_s = SETTLED_S
        lose(s, "lost reply", "b")
        await s.say(D, "a")
        assert await s.go() == ["unknown"]
        for outcome in ("", "delivered"):
            assert await s.go() == [outcome]
            await older(s, SETTLED_S + 5)  # while the simulator's clock has not moved
        assert (s.uploads, s.recovered()) == (2, {"none": 1})


async def test_a_record_is_taken_over_with_the_settlement(database: str, tmp_path: Path) -> None:
    """A replica that dies right after it settled has noted the record, too: it settles nothing else."""
    async with stage(database, tmp_path) as s, MortalStore.open(database) as store:
        lose(s, "lost reply", "b")
        await s.say(U, "a", "b")
        assert await s.go() == ["unknown"]
        await delays_pass(s.w)
        store.death = Death("after settle")
        with pytest.raises(Died):
            await work_until_death(s.w, s.worker(store=store), s.plan)
        assert await s.batches() == [("delivered", 1)]
        assert await s.w.connection.fetchval("select count(*) from error_record") == 1


async def test_a_replica_that_dies_while_it_settles_from_a_record_loses_nothing(database: str, tmp_path: Path) -> None:
    """The upload that stands for the record has begun and never ends: it is taken over, and all comes out right."""
    async with stage(database, tmp_path) as s, MortalStore.open(database) as store:
        lose(s, "lost reply", "b")
        await s.say(U, "a", "b")
        assert await s.go() == ["unknown"]
        await delays_pass(s.w)
        store.death = Death("before settle")
        with pytest.raises(Died):
            await work_until_death(s.w, s.worker(store=store), s.plan)
        assert await s.w.connection.fetchval("select count(*) from error_record") == 0
        await lease_runs_out(s.w)
        assert [*await s.go(), *await s.go()] == ["unknown", "delivered"]
        assert (await s.batches(), await s.rejected()) == ([("delivered", 1)], [(3, NO, False)])


async def test_a_stop_waits_for_no_record(database: str, tmp_path: Path) -> None:
    """Said again it gives no echo, so it is said again at once."""
    async with stage(database, tmp_path) as s:
        s.settled_s = SETTLED_S
        await s.say(U, "a")
        await s.go()
        lose(s)
        await s.say(S, "a", "x")
        assert [*await s.go(), *await s.go()] == ["unknown", "delivered"]
        assert (s.uploads, s.recovered()) == (3, {"doubt": 1})


async def test_opt_outs_go_before_any_look(database: str, tmp_path: Path) -> None:
    """A waiting file of data is taken apart for them, without a call about it."""
    async with stage(database, tmp_path) as s:
        lose(s, "lost reply", "b")
        await s.say(U, "a", "b")
        assert await s.go() == ["unknown"]
        await s.say(S, "a")
        await delays_pass(s.w)
        worked = await s.worker().work(s.plan, await s.w.fence())
        assert (worked.uncut, worked.outcome, s.sim.record_calls) == (1, "delivered", {})


async def test_a_file_with_its_first_try_before_it_is_not_looked_for(database: str, tmp_path: Path) -> None:
    """Nor one that failed before it was sent, nor one of a login that the account has left."""
    async with stage(database, tmp_path) as s:
        s.sim.faults.add(fault="busy")
        await s.say(U, "a")
        assert [*await s.go(), *await s.go()] == ["busy", "delivered"]
        lose(s)
        await s.say(U, "b")
        assert await s.go() == ["unknown"]
        await s.w.connection_execute("update batch set login = 'former' where state = 'waiting'")
        assert await s.go() == ["delivered"]
        assert (s.sim.record_calls, s.recovered()) == ({}, {})


async def test_an_earlier_upload_that_is_known_to_be_over_is_no_doubt(database: str, tmp_path: Path) -> None:
    """It had no answer either, but the vendor, which imports one file at a time, has taken another since."""
    async with stage(database, tmp_path) as s:
        lose(s)
        await s.say(U, "a")
        assert [*await s.go(), *await s.go()] == ["unknown", "delivered"]
        await older(s, 60)
        lose(s, "lost reply", "c")
        await s.say(U, "b", "c")
        assert [*await s.go(), *await s.go()] == ["unknown", "delivered"]
        assert (s.uploads, s.recovered()) == (3, {"none": 1, "settled": 1})


async def test_a_record_is_taken_over_once(database: str, tmp_path: Path) -> None:
    """One that was settled from is not another upload's, however well it fits."""
    async with stage(database, tmp_path) as s:
        lose(s, "lost reply", "b")
        await s.say(U, "a", "b")
        assert [*await s.go(), *await s.go()] == ["unknown", "delivered"]
        await s.say(U, "b")
        s.sim.faults.add(fault="reset_after_body")
        assert [*await s.go(), *await s.go()] == ["unknown", "delivered"]
        assert s.uploads == 3
        assert s.recovered() == {"settled": 1, "doubt": 1}
