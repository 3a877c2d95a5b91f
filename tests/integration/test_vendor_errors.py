"""`relay vendor-errors`: what the vendor keeps of failed lines, listed, exported and deleted by hand."""

import asyncio
import json
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from relay import cli
from relay.cli.tables import print_json, print_table
from relay.demo.sim_faults import Call
from relay.settings.logins import LOGIN_FAILURES_PER_HOUR_MAX
from tests.integration.recovering import CONTRACT, Stage, U, stage
from tests.integration.test_recovering import lose
from tests.waiting import until

SETTINGS = """
[sources.crm]
bearer_tokens = ["a-token-of-the-crm-of-twenty"]
accounts = ["news", "shop"]
[logins.login-0]
vendor = "blastmail"
base_url = "{url}"
username = "user"
password = "pw"
api_key = "key"
[logins.hai]
vendor = "haihai"
base_url = "https://hai.example.jp"
aid = 1
login_id = "user"
transport_password = "pw"
[accounts.news]
login = "login-0"
operations = {{ "customer.banned" = "stop" }}
columns = {{ "E-Mail" = "email" }}
[accounts.shop]
login = "hai"
columns = {{ "メールアドレス" = "email" }}
"""


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Name a settings file; no database is configured."""
    for name in [name for name in os.environ if name.startswith("RELAY_")]:
        monkeypatch.delenv(name)
    path = tmp_path / "relay.toml"
    monkeypatch.setenv("RELAY_CONFIG", str(path))
    return path


async def run(s: Stage, environment: Path, *arguments: str) -> int:
    """Run the command as the shell does; returns the exit code."""
    environment.write_text(SETTINGS.format(url=s.sim.base_url), encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        await asyncio.to_thread(cli.main, ["vendor-errors", *arguments])
    code = ended.value.code
    assert isinstance(code, int)
    return code


async def make_records(s: Stage) -> str:
    """Have one record that relay settled from, and one of a person's; returns the date of relay's."""
    s.sim.ahead_s = -100.0
    await s.person_imports("delete", ["E-Mail"], ["x@example.jp"], ["y@example.jp"])
    s.sim.ahead_s = 0.0
    lose(s, "lost reply", "b")
    await s.say(U, "a", "b")
    assert [*await s.go(), *await s.go()] == ["unknown", "delivered"]
    return str(await s.w.connection.fetchval("select date from error_record"))


async def test_records_are_listed(
    database: str,
    tmp_path: Path,
    environment: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """For people and for scripts; where a database is configured, which of them relay has taken over."""
    async with stage(database, tmp_path / "spool") as s:
        assert await run(s, environment, "news") == 0
        assert "no records" in capsys.readouterr().out
        date = await make_records(s)
        assert await run(s, environment, "news", "--json") == 0
        told = json.loads(capsys.readouterr().out)["records"]
        assert [(one["type"], one["count"], one["taken_over"]) for one in told] == [
            ("登録エラー", 1, None),
            ("削除エラー", 2, None),
        ]
        monkeypatch.setenv("RELAY_DATABASE_URL", database)
        assert await run(s, environment, "news", "--json") == 0
        told = json.loads(capsys.readouterr().out)["records"]
        assert [(one["taken_over"], one["upload"]) for one in told] == [
            (True, "account-0, batch 1, upload 1"),
            (False, None),
        ]
        assert await run(s, environment, "news") == 0
        out = capsys.readouterr().out
        assert date in out
        assert "yes" in out


async def test_a_record_is_exported(
    database: str, tmp_path: Path, environment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """To the terminal as text, or as the vendor sent it to a new file that nobody else can read; and it says so."""
    async with stage(database, tmp_path / "spool") as s:
        date = await make_records(s)
        assert await run(s, environment, "news", "--export", "create", date) == 0
        captured = capsys.readouterr()
        assert '"b@example.jp","髙橋 b"' in captured.out
        assert "1 lines with customers' data" in captured.err
        path = tmp_path / "errors.csv"
        for code in (0, 1):
            assert await run(s, environment, "news", "--export", "登録エラー", date, "--to", str(path)) == code
        assert "cannot make the file" in capsys.readouterr().err, "nothing is written over"
        assert "髙橋 b" in path.read_bytes().decode("cp932")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_record_is_deleted(
    database: str,
    tmp_path: Path,
    environment: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Only that one, and only after somebody has agreed: on a terminal, or with --yes."""
    async with stage(database, tmp_path / "spool") as s:
        date = await make_records(s)
        assert await run(s, environment, "news", "--delete", "create", date) == 1
        assert "needs --yes" in capsys.readouterr().err
        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        for answer, code in (("n", 1), ("", 1), ("y", 0)):
            monkeypatch.setattr("builtins.input", lambda _, answer=answer: answer)
            assert len(await s.listed()) == 2
            assert await run(s, environment, "news", "--delete", "create", date) == code
        assert await s.listed() == [("削除エラー", 2)]
        assert await run(s, environment, "news", "--delete", "create", date, "--yes") == 1
        assert "has 0 records" in capsys.readouterr().err


async def test_exports_and_deletions_are_on_record(
    database: str,
    tmp_path: Path,
    environment: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Where a database is configured: who, which record, and each attempt; without the entry nothing is done."""
    monkeypatch.setenv("RELAY_DATABASE_URL", database)
    monkeypatch.setenv("RELAY_OPERATOR", "sato")
    async with stage(database, tmp_path / "spool") as s:
        date = await make_records(s)
        assert await run(s, environment, "news", "--export", "create", date) == 0
        s.sim.faults.add(fault="html", on="error_delete")
        for code in (1, 0):
            assert await run(s, environment, "news", "--delete", "create", date, "--yes") == code
        acts = await s.w.connection.fetch(
            "select act, who, through, login, account, events, detail from act order by id"
        )
        assert [tuple(act) for act in acts] == [
            ("download", "sato", "command", "login-0", "news", None, "the vendor's registration record"),
            *[
                (
                    "delete_records",
                    "sato",
                    "command",
                    "login-0",
                    "news",
                    1,
                    f"the vendor's registration record of {date}",
                )
            ]
            * 2,
        ]
        capsys.readouterr()
        assert await run(s, environment, "news", "--json") == 0
        [left] = json.loads(capsys.readouterr().out)["records"]
        await s.w.connection.execute("alter table act rename to acts")
        for arguments in (["--export", "delete", left["date"]], ["--delete", "delete", left["date"], "--yes"]):
            assert await run(s, environment, "news", *arguments) == 1
        assert capsys.readouterr().out == ""
        assert await s.listed() == [("削除エラー", left["count"])]


IN_TRANSACTION = """
select count(*) from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid()
  and backend_type = 'client backend' and xact_start is not null
"""


async def test_what_the_vendor_may_have_done_is_on_record(
    database: str, tmp_path: Path, environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has exported or deleted, and the answer is of no use or lost on its way: the entry is there all the same."""
    monkeypatch.setenv("RELAY_DATABASE_URL", database)
    async with stage(database, tmp_path / "spool") as s:
        date = await make_records(s)
        s.sim.faults.add(fault="html", on="error_export", applied=True)
        s.sim.faults.add(fault="lost_reply", on="error_delete")
        for arguments in (["--export", "create", date], ["--delete", "create", date, "--yes"]):
            assert await run(s, environment, "news", *arguments) == 1
        assert await s.listed() == [("削除エラー", 2)]
        acts = await s.w.connection.fetch("select act from act order by id")
        assert [act["act"] for act in acts] == ["download", "delete_records"]


@pytest.mark.parametrize("what", ["export", "delete"])
async def test_no_transaction_waits_for_the_vendor(
    database: str, tmp_path: Path, environment: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The entry is committed when the vendor is asked, and nothing stands open in Postgres while it takes its time."""
    monkeypatch.setenv("RELAY_DATABASE_URL", database)
    async with stage(database, tmp_path / "spool") as s:
        date = await make_records(s)
        call: Call = "error_export" if what == "export" else "error_delete"
        before = s.sim.record_calls[call]
        s.sim.faults.add(fault="slow", seconds=1.5, on=call)
        sure = ["--yes"] if what == "delete" else []
        asking = asyncio.create_task(run(s, environment, "news", f"--{what}", "create", date, *sure))
        await until(lambda: s.sim.record_calls[call] > before)
        standing = await s.w.connection.fetchval(IN_TRANSACTION)
        on_record = await s.w.connection.fetchval("select count(*) from act")
        assert not asking.done(), "looked too late"
        assert (standing, on_record) == (0, 1)
        assert await asking == 0


async def test_a_database_of_an_older_relay_is_told_with_what_to_do(
    database: str,
    tmp_path: Path,
    environment: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The vendor is not asked, and nobody is sent to look for a Postgres that is there."""
    monkeypatch.setenv("RELAY_DATABASE_URL", database)
    async with stage(database, tmp_path / "spool") as s:
        await s.w.connection.execute("delete from migration where version = (select max(version) from migration)")
        for arguments in (["news"], ["news", "--export", "create", "20180509T15:01:31"]):
            assert await run(s, environment, *arguments) == 1
            told = capsys.readouterr().err
            assert "run `relay migrate`" in told
            assert "does not answer" not in told
        assert s.sim.record.of("user").logins == 0


async def test_what_cannot_be_done_is_said(
    database: str, tmp_path: Path, environment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another vendor, no such account, a type that is none, options that do not go together, a vendor that is ill."""
    async with stage(database, tmp_path / "spool") as s:
        for arguments, said in (
            (["shop"], "haihai keeps no lists"),
            (["nobody"], "they have news, shop"),
            (["news", "--export", "both", "20180509T15:01:31"], "a type is one of"),
            (["news", "--export", "create", "20180509T15:01:31"], "blastmail did not do it: HTTP 400"),
            (["news", "--to", "x.csv"], "--to belongs to --export"),
            (["news", "--yes"], "--yes to --delete"),
        ):
            assert await run(s, environment, *arguments) == 1
            assert said in capsys.readouterr().err
        s.sim.faults.add(fault="html", on="error_search")
        assert await run(s, environment, "news") == 1
        assert "blastmail did not do it: HTTP 503" in capsys.readouterr().err


async def test_a_refused_login_is_counted(
    database: str,
    tmp_path: Path,
    environment: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Where a database is configured: with the lane's own, and after too many within an hour nothing is asked."""
    async with stage(database, tmp_path / "spool", contract=replace(CONTRACT, password="changed")) as s:
        monkeypatch.setenv("RELAY_DATABASE_URL", database)
        for _ in range(LOGIN_FAILURES_PER_HOUR_MAX):
            assert await run(s, environment, "news") == 1
            assert "blastmail did not do it" in capsys.readouterr().err
        logins = s.sim.record.of("user").unauthorized
        assert logins == LOGIN_FAILURES_PER_HOUR_MAX
        for arguments in (["news"], ["news", "--export", "create", "20180509T15:01:31"]):
            assert await run(s, environment, *arguments) == 1
            assert "refused this login too often" in capsys.readouterr().err
        assert s.sim.record.of("user").unauthorized == logins


async def test_a_deletion_takes_one_login(database: str, tmp_path: Path, environment: Path) -> None:
    """The list that is asked about and the deletion come from one and the same."""
    async with stage(database, tmp_path / "spool") as s:
        date = await make_records(s)
        logins = s.sim.record.of("user").logins
        assert await run(s, environment, "news", "--delete", "create", date, "--yes") == 0
        assert s.sim.record.of("user").logins == logins + 1


async def test_a_terminal_obeys_nothing_that_the_vendor_sent(
    database: str,
    tmp_path: Path,
    environment: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """No other type or time than the documented ones is shown, no control character of a file to a terminal."""
    evil = "\x1b]0;mine\x07\x9b2J"
    listed = json.dumps([{"type": f"x{evil}", "date": f"2018{evil}", "count": 3}])
    async with stage(database, tmp_path / "spool") as s:
        for arguments in (["news"], ["news", "--json"]):
            s.sim.faults.add(fault="status", status=200, body=listed, on="error_search")
            assert await run(s, environment, *arguments) == 0
            out = capsys.readouterr().out
            assert "?" in out
            assert [bad for bad in ("\x1b", "\x07", "\x9b", "u001b", "2018", "mine") if bad in out] == []
        for terminal in (True, False):
            body = f'"E-Mail","氏名"\n"a@example.jp","{evil}"\n'
            s.sim.faults.add(fault="status", status=200, body=body, on="error_export")
            monkeypatch.setattr("sys.stdout.isatty", lambda terminal=terminal: terminal, raising=False)
            assert await run(s, environment, "news", "--export", "create", "20180509T15:01:31") == 0
            assert ("\x1b" in capsys.readouterr().out) is not terminal


def test_tables_and_json_show_what_a_terminal_would_obey(capsys: pytest.CaptureFixture[str]) -> None:
    """In cells, lists in cells, and JSON, which stays the same value."""
    evil = "\x1b[2J\x9b1m\x7f\u202e髙橋"
    print_table(["a", "b"], [{"a": evil, "b": [evil]}])
    assert capsys.readouterr().out.count("\ufffd[2J\ufffd1m\ufffd\ufffd髙橋") == 2
    print_json({"a": [evil]})
    out = capsys.readouterr().out
    assert "髙橋" in out
    assert not set("\x1b\x9b\x7f\u202e") & set(out)
    assert json.loads(out) == {"a": [evil]}
