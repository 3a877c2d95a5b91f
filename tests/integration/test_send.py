"""`relay send` against a real receiver and log: files go through, again, and through trouble."""

import argparse
import asyncio
import csv
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest
from aiohttp import web

from relay.events import Keys, Operation
from relay.metrics import Metrics
from relay.problem import problems
from relay.receive import Appender, Limits, Receiver, routes
from relay.send import SendOptions, Unsent, add_arguments, run, send
from relay.settings import Secret, Settings
from relay.store import Store

SETTINGS = {
    "sources": {"crm": {"signing_secrets": ["crm-secret"], "bearer_tokens": ["crm-token"], "accounts": ["news"]}},
    "logins": {"blast": {"vendor": "blastmail", "username": "u", "password": "p", "api_key": "k"}},
    "accounts": {
        "news": {
            "login": "blast",
            "columns": {"E-Mail": "email", "氏名": "name", "市": "address.city"},
            "operations": {"customer.banned": "stop"},
        }
    },
}


@dataclass
class Relay:
    """A receiver that `relay send` posts to. While `trouble` holds statuses, requests are answered with those."""

    url: str
    connection: asyncpg.Connection
    trouble: list[int | None]
    requests: list[int]

    async def lines(self) -> list[str]:
        """The lines in the log, by the order of what happened."""
        rows = await self.connection.fetch("select line from event order by occurred_at, id")
        return [row["line"].decode("cp932").removesuffix("\r\n") for row in rows]

    def options(self, file: Path) -> SendOptions:
        """How a file is sent here: small requests, short delays."""
        return SendOptions(
            url=self.url,
            source="crm",
            file=file,
            secret=Secret("crm-secret"),
            lines_per_request=10,
            retry_delays_s=(0.01, 0.01, 0.01),
        )


@pytest.fixture
async def relay(database: str) -> AsyncIterator[Relay]:
    """A receiver on a fresh database, behind a middleware that makes trouble."""
    settings = Settings.model_validate(SETTINGS)
    trouble: list[int | None] = []
    requests: list[int] = []

    @web.middleware
    async def troublesome(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        requests.append(request.content_length or 0)
        if not trouble:
            return await handler(request)
        status = trouble.pop(0)
        if status is None:  # a connection that breaks
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        return web.Response(status=status, text="<html>", headers={"Retry-After": "0", "Location": "/elsewhere"})

    async with Store.open(database) as store, Appender(store, Metrics()) as appender:
        layouts = {("news", op): await store.ensure_layout("news", op, [{"path": "email"}]) for op in Operation}
        receiver = Receiver(settings, Keys(b"a deployment's secret"), layouts, appender, Metrics(), Limits())
        app = web.Application(middlewares=[troublesome, problems])
        app.add_routes(routes(receiver))
        runner = web.AppRunner(app, access_log=None, auto_decompress=False)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        connection = await asyncpg.connect(database)
        yield Relay(f"http://127.0.0.1:{runner.addresses[0][1]}", connection, trouble, requests)
        await connection.close()
        await runner.cleanup()


def customers(tmp_path: Path, count: int) -> Path:
    """A CSV file of customers, in Shift_JIS."""
    path = tmp_path / "customers.csv"
    rows = [f"c{number:03}@example.jp,髙橋 {number},京都" for number in range(count)]
    path.write_text("\r\n".join(["email,name,address.city", *rows, ""]), encoding="cp932", newline="")
    return path


async def test_a_list_is_loaded(relay: Relay, tmp_path: Path) -> None:
    """Every customer of a list is in the log, in the list's order, however the requests were answered."""
    sent = await send(relay.options(customers(tmp_path, 95)))
    assert (sent.accepted, sent.duplicates, sent.refused, sent.events) == (95, 0, 0, 95)
    assert sent.exit_code == 0
    assert await relay.lines() == [f'"c{number:03}@example.jp","髙橋 {number}","京都"' for number in range(95)]
    assert len(relay.requests) == 10


async def test_a_list_sent_again_changes_nothing(relay: Relay, tmp_path: Path) -> None:
    """The same file again is all known already, whichever proof is used; a newer version of it is new."""
    path = customers(tmp_path, 25)
    await send(relay.options(path))
    again = await send(replace(relay.options(path), secret=None, token=Secret("crm-token"), lines_per_request=7))
    assert (again.accepted, again.duplicates, again.exit_code) == (0, 25, 0)
    assert len(await relay.lines()) == 25
    assert (await send(replace(relay.options(path), type="customer.deleted"))).accepted == 25


async def test_refused_lines_are_reported(relay: Relay, tmp_path: Path) -> None:
    """Lines that relay refuses, and those that are none, are told by their number in the file; the rest is taken."""
    path = tmp_path / "customers.csv"
    rows = ["a@example.jp,A,x", "nobody,B,x", "c@example.jp,C", "d@example.jp,𠮷田,x", ",E,x"]
    path.write_text("\n".join(["email,name,address.city", *rows]))
    report = tmp_path / "refused.csv"
    sent = await send(replace(relay.options(path), report=report))
    assert (sent.accepted, sent.refused, sent.exit_code) == (2, 3, 1)
    assert [(refusal.line, refusal.problem.field) for refusal in sent.refusals] == [
        (3, "data.email"),
        (4, "line"),
        (6, "data.email"),
    ]
    assert sent.warnings == {("news", "data.name"): 1}
    with report.open(encoding="utf-8", newline="") as file:
        reported = list(csv.DictReader(file))
    assert sorted(int(row["line"]) for row in reported) == [3, 4, 6]
    assert all("nobody" not in row.values() for row in reported)


async def test_when_all_lines_are_refused(relay: Relay, tmp_path: Path) -> None:
    """A request of which nothing is taken is an answer like any other."""
    path = tmp_path / "customers.csv"
    path.write_text("email\n" + "nobody\n" * 25)
    sent = await send(relay.options(path))
    assert (sent.accepted, sent.refused) == (0, 25)
    assert len(sent.refusals) == 20


async def test_trouble_passes(relay: Relay, tmp_path: Path) -> None:
    """Answers that ask for patience and broken connections are tried again, and no customer is lost or doubled."""
    relay.trouble += [503, None, 429, 502]
    sent = await send(relay.options(customers(tmp_path, 35)))
    assert sent.accepted + sent.duplicates == 35
    assert len(await relay.lines()) == 35


async def test_a_body_too_large_is_halved(relay: Relay, tmp_path: Path) -> None:
    """Where a proxy takes less than relay does, requests are made smaller; a line still too large is told."""
    relay.trouble += [413] * 3
    sent = await send(replace(relay.options(customers(tmp_path, 4)), lines_per_request=4))
    assert (sent.accepted, sent.refused) == (3, 1)
    assert [refusal.problem.message for refusal in sent.refusals] == ["is too large"]


@pytest.mark.parametrize("status", [401, 404, 301, 415])
async def test_what_cannot_pass_ends_it(relay: Relay, tmp_path: Path, status: int) -> None:
    """An answer that would be the same for ever ends the sending at once, telling the status."""
    relay.trouble += [status] * 2
    with pytest.raises(Unsent, match=str(status)):
        await send(relay.options(customers(tmp_path, 5)))
    assert len(relay.requests) == 1


async def test_a_wrong_secret(relay: Relay, tmp_path: Path) -> None:
    """A refusal by relay itself is told with its words."""
    with pytest.raises(Unsent, match="neither signature nor token"):
        await send(replace(relay.options(customers(tmp_path, 5)), secret=Secret("another")))


async def test_patience_ends(relay: Relay, tmp_path: Path) -> None:
    """When relay does not come back, sending gives up after the last delay."""
    relay.trouble += [503] * 20
    with pytest.raises(Unsent, match="503"):
        await send(relay.options(customers(tmp_path, 5)))
    assert len(relay.requests) == 4


async def test_the_later_line_is_the_later_word(relay: Relay, tmp_path: Path) -> None:
    """A customer twice in a file ends as the later line says, though requests overtake each other."""
    path = tmp_path / "customers.csv"
    path.write_text("email,name\n" + "".join(f"same@example.jp,{number}\n" for number in range(60)))
    relay.trouble += [503] * 3
    await send(relay.options(path))
    assert (await relay.lines())[-1] == '"same@example.jp","59",""'


async def test_the_file_counts_as_of_its_writing(relay: Relay, tmp_path: Path) -> None:
    """A list is as old as its file, so that it does not undo what happened since; a moment can be given instead."""
    path = customers(tmp_path, 1)
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    await send(replace(relay.options(path), timestamp=moment))
    occurred_at = await relay.connection.fetchval("select max(occurred_at) from event")
    assert occurred_at.replace(microsecond=0) in (moment, moment.replace(second=4))


# -- the command -----------------------------------------------------------------------------------------------------


def arguments(*given: str) -> argparse.Namespace:
    """Parse as the command does."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(["--source", "crm", *given])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--secret-env", "NOT_THERE"], "NOT_THERE"),
        (["--secret-env", "BAD_SECRET"], "--secret-env"),
        (["--token-env", "TOKEN", "--url", "ftp://example.jp"], "--url"),
        (["--token-env", "TOKEN", "--id-prefix", "髙"], "--id-prefix"),
        (["--token-env", "TOKEN", "--file", "/nowhere/customers.csv"], "cannot read the file"),
        (["--token-env", "TOKEN", "--report", "/nowhere/report.csv"], "report.csv"),
    ],
)
def test_mistakes_end_with_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    given: list[str],
    told: str,
) -> None:
    """What is wrong with the command itself is told on one line, without secrets, with exit code 2."""
    monkeypatch.setenv("TOKEN", "sesame")
    monkeypatch.setenv("BAD_SECRET", "whsec_%%%")
    assert run(arguments("--file", str(customers(tmp_path, 1)), *given)) == 2
    error = capsys.readouterr().err
    assert told in error
    assert "sesame" not in error
    assert "%%%" not in error


def test_an_offset_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    """A moment without an offset is a mistake of usage."""
    with pytest.raises(SystemExit) as end:
        arguments("--file", "x.csv", "--token-env", "T", "--timestamp", "2026-04-01T09:00:00")
    assert end.value.code == 2
    assert "offset" in capsys.readouterr().err


@pytest.mark.parametrize("terminal", ["", "1"])
async def test_the_command(
    relay: Relay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], terminal: str
) -> None:
    """The command sends, tells counts and refused lines, with a bar on a terminal or without, and ends with 0 or 1."""
    monkeypatch.setenv("TOKEN", "crm-token\n")  # as shells read it from a file; relay leaves the line end out, too
    monkeypatch.setenv("FORCE_COLOR", terminal)
    path = customers(tmp_path, 3)
    given = ["--url", relay.url, "--file", str(path), "--token-env", "TOKEN"]
    assert await asyncio.to_thread(run, arguments(*given)) == 0
    assert "3 accepted (3 events), 0 known already, 0 refused" in capsys.readouterr().out
    path.write_text("email,name\na@example.jp,𠮷\n" + "nobody,B\n" * 30)
    assert await asyncio.to_thread(run, arguments(*given)) == 1
    told = capsys.readouterr().out
    assert "1 accepted (1 events), 0 known already, 30 refused" in told
    assert "warning: data.name for news: changed or empty in 1 lines" in told
    assert "line 3: data.email: expected" in told
    assert "--report" in told
    assert "nobody" not in told


async def test_the_command_is_not_let_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who lets nobody in is told with what it said, and exit code 2."""
    monkeypatch.setenv("TOKEN", "crm-token")
    app = web.Application()
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    given = ["--url", url, "--file", str(customers(tmp_path, 3)), "--token-env", "TOKEN"]
    assert await asyncio.to_thread(run, arguments(*given)) == 2
    assert "answered 404" in capsys.readouterr().err
    await runner.cleanup()
