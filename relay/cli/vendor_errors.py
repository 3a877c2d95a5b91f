"""`relay vendor-errors ACCOUNT`: list, export and delete by hand what blastmail and blaynmail keep of failed lines."""

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from relay.cli.operating import agreed, operator
from relay.cli.tables import print_json, print_table, visible
from relay.client import Client
from relay.errors import RelayError
from relay.flush import records
from relay.flush.beside import Beside
from relay.flush.records import Asks
from relay.metrics import Metrics
from relay.migrate import check_schema
from relay.settings import Login, Settings, database_url, load
from relay.spool import Spool
from relay.store import Act, Store, TakenRecord
from relay.vendors.bme_records import DELETE_ERROR, KINDS, ErrorRecord, Failed, keeps_records

COLUMNS = ("type", "date", "count", "taken over", "upload")

_WORDS = {kind: "deletion" if kind == DELETE_ERROR else "registration" for kind in KINDS.values()}

Answer = TypeVar("Answer")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("account", metavar="ACCOUNT", help="an account of the settings; its whole login is looked at")
    parser.add_argument("--json", action="store_true", help="print JSON")
    one = parser.add_mutually_exclusive_group()
    told = "create (登録エラー) or delete (削除エラー), and the time as listed"
    one.add_argument("--export", nargs=2, metavar=("TYPE", "DATE"), help=f"write a record's CSV file: {told}")
    one.add_argument("--delete", nargs=2, metavar=("TYPE", "DATE"), help=f"delete a record at the vendor: {told}")
    parser.add_argument("--to", type=Path, metavar="FILE", help="with --export: a new file, readable by you only")
    parser.add_argument("--yes", action="store_true", help="with --delete: do not ask")


def run(options: argparse.Namespace) -> int:
    """Do what is asked for; the exit code is 0."""
    if (options.to and not options.export) or (options.yes and not options.delete):
        raise RelayError("--to belongs to --export, --yes to --delete")
    settings = load(Path(os.environ.get("RELAY_CONFIG") or "relay.toml"), os.environ)
    login = _login(settings, options.account)
    if options.export:
        asyncio.run(_export(login, options.account, *_named(options.export), to=options.to))
    elif options.delete:
        asyncio.run(_delete(login, options.account, *_named(options.delete), sure=options.yes))
    else:
        _print(*asyncio.run(_list(login)), as_json=options.json)
    return 0


def _login(settings: Settings, name: str) -> Login:
    account = settings.accounts.get(name)
    if account is None:
        raise RelayError(f"the settings have no such account; they have {', '.join(sorted(settings.accounts))}")
    login = settings.login_of(account)
    if not keeps_records(login):
        raise RelayError(
            f"{login.vendor} keeps no lists of failed lines that relay could ask for: "
            "its admin screen, or its report mail, tells what became of a file"
        )
    return login


def _named(given: list[str]) -> tuple[str, str]:
    kind, date = given
    kind = KINDS.get(kind, kind)
    if kind not in KINDS.values():
        raise RelayError(f"a type is one of {', '.join((*KINDS, *KINDS.values()))}")
    return kind, date


@dataclass(frozen=True, slots=True)
class _Asking:
    """What a command asks with: one client, hence one login, and the database where one is configured."""

    login: Login
    asks: Asks
    store: Store | None

    async def record(self, act: Act) -> None:
        """Put what is about to be asked for into the audit record, where there is a database; raises if it cannot be.

        It is on record before the vendor is asked, for that may act and its answer be lost: an attempt on record is
        right, a deed that is missing is not.
        """
        if self.store is not None:
            await self.store.record_act(operator(), act)

    async def of(self, answer: Awaitable[Answer | Failed]) -> Answer:
        """Wait for an answer; raises RelayError where there is none of use."""
        answered = await answer
        if isinstance(answered, Failed):
            raise RelayError(f"{self.login.vendor} did not do it: {answered.reason}")
        return answered


@asynccontextmanager
async def _asking(login: Login) -> AsyncIterator[_Asking]:
    """Talk to the vendor; raises RelayError if it has refused the login too often, as far as a database tells."""
    async with AsyncExitStack() as stack:
        store = None
        if os.environ.get("RELAY_DATABASE_URL") or os.environ.get("RELAY_DATABASE_URL_FILE"):
            store = await stack.enter_async_context(Store.open(database_url(os.environ).value, statement_cache=0))
            async with store.connection() as connection:
                await check_schema(connection)
            if wait_s := await store.logins_again_s(login.name, login.login_failures_per_hour_max):
                raise RelayError(
                    f"not asked: {login.vendor} refused this login too often, and it rests for {wait_s:.0f} s more"
                )
        client = await stack.enter_async_context(Client(Metrics(), Spool(Path(os.devnull))))  # no file is uploaded
        yield _Asking(login, Beside(client, store) if store else client, store)


# -- listing ---------------------------------------------------------------------------------------------------------


async def _list(login: Login) -> tuple[tuple[ErrorRecord, ...], dict[tuple[str, str], TakenRecord] | None]:
    """List the vendor's records, and where a database is configured what relay has taken over of them."""
    async with _asking(login) as asking:
        listed = await asking.of(records.search(asking.asks, login))
        taken = await asking.store.list_records(login.name) if asking.store else None
    return listed.records, None if taken is None else {(one.kind, one.date): one for one in taken}


def _print(found: tuple[ErrorRecord, ...], taken: dict[tuple[str, str], TakenRecord] | None, *, as_json: bool) -> None:
    told = [_told(record, taken) for record in found]
    if as_json:
        print_json({"records": told})
    elif told:
        print_table(COLUMNS, [{**one, "taken over": one["taken_over"]} for one in told])
    else:
        print("the vendor has no records of failed lines")


def _told(record: ErrorRecord, taken: dict[tuple[str, str], TakenRecord] | None) -> dict[str, Any]:
    """Tell of a record; whether it was taken over is null without a database.

    A type or time that is not documented may be any text: it is not shown.
    """
    own = (taken or {}).get((record.kind, record.date))
    own = own if own is not None and own.count == record.count else None
    return {
        "type": record.kind if record.kind in KINDS.values() else "?",
        "date": "?" if record.at is None else record.date,
        "count": record.count,
        "taken_over": None if taken is None else own is not None,
        "upload": f"{own.account}, batch {own.batch_id}, upload {own.number}" if own else None,
    }


# -- exporting -------------------------------------------------------------------------------------------------------


async def _export(login: Login, account: str, kind: str, date: str, *, to: Path | None) -> None:
    act = Act("download", login=login.name, account=account, detail=f"the vendor's {_WORDS[kind]} record")
    async with _asking(login) as asking:
        await asking.record(act)
        table, body = await asking.of(records.export(asking.asks, login, kind, date))
    if to is None:
        shown = visible if sys.stdout.isatty() else str  # a terminal obeys what is in it, a pipe takes it as it is
        for row in (table.header, *table.rows):
            sys.stdout.write(",".join(f'"{_quoted(shown(cell))}"' for cell in row) + "\n")
        told = "standard output"
    else:
        _write_new(to, body)
        told = str(to)
    print(f"{len(table.rows)} lines with customers' data to {told}", file=sys.stderr)


def _quoted(cell: str) -> str:
    return cell.replace('"', '""')


def _write_new(path: Path, body: bytes) -> None:
    """Write the file as the vendor sent it, for nobody else to read. Raises RelayError if something is there."""
    try:
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise RelayError(f"cannot make the file {path}: {type(error).__name__}") from None
    with os.fdopen(opened, "wb") as file:
        file.write(body)


# -- deleting --------------------------------------------------------------------------------------------------------


async def _delete(login: Login, account: str, kind: str, date: str, *, sure: bool) -> None:
    """Delete one record, after asking."""
    async with _asking(login) as asking:
        listed = await asking.of(records.search(asking.asks, login))
        there = [one for one in listed.records if (one.kind, one.date) == (kind, date)]
        if len(there) != 1:
            raise RelayError(f"the vendor has {len(there)} records of that type and time")
        told = f"the {_WORDS[kind]} record of {date}, {there[0].count} lines"
        if not sure and not _agreed(f"Delete {told} at {login.vendor}?"):
            raise RelayError("nothing was deleted")
        detail = f"the vendor's {_WORDS[kind]} record of {date if there[0].at else '?'}"  # undocumented: any text
        act = Act("delete_records", login=login.name, account=account, events=there[0].count, detail=detail)
        await asking.record(act)
        await asking.of(records.delete(asking.asks, login, there[0]))
    print(f"deleted {told}")


def _agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise RelayError("without a terminal to ask on, --delete needs --yes")
    return agreed(question)
