"""`relay check --online`: look at every vendor, and tell how each account fits what is there."""

import argparse
import asyncio
import os
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from relay.cli.tables import print_json, print_table
from relay.client import Client
from relay.flush.looking import Look, look
from relay.metrics import Metrics
from relay.settings import Account, Login, Settings, process
from relay.spool import Spool
from relay.store import Store

EXIT_WRONG = 1

LOGINS_AT_ONCE = 8
"""Logins looked at side by side: many contracts are often at one host."""

COLUMNS = (
    "account",
    "login",
    "vendor",
    "reachable",
    "login good",
    "known",
    "unknown",
    "missing",
    "not mapped",
    "encoding",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `relay check` takes for this."""
    parser.add_argument(
        "--online",
        action="store_true",
        help="look at every vendor: log in, once, and compare the accounts' columns with those that it takes",
    )
    parser.add_argument(
        "--probe",
        action="store_true",
        help="with --online: ask 配配メール, too, whether logins are good; costs one of the day's calls for each",
    )
    parser.add_argument("--json", action="store_true", help="with --online: print JSON")


def check_online(settings: Settings, *, offline: bool, probe: bool, as_json: bool) -> int:
    """Look at the vendors of all logins and print what was found; return the exit code."""
    looks, calls = asyncio.run(_Looking(settings, probe=probe).everywhere(offline=offline))
    told = [
        _account(settings.logins[name], account, found, calls.get(name))
        for name, found in looks.items()
        for account in settings.accounts_of(name)
    ]
    good = all(_is_good(found, probe=probe) for found in looks.values())
    if as_json:
        print_json({"good": good, "accounts": told})
    else:
        print_table(COLUMNS, [_row(one) for one in told])
        _print_notes(told)
    return 0 if good else EXIT_WRONG


def _is_good(found: Look, *, probe: bool) -> bool:
    """Say whether nothing is wrong, as far as was asked: without a probe a login without a token may be anything."""
    return (
        found.result in ("good", "none") and found.login_good is not False and not (probe and found.login_good is None)
    )


class _Looking:
    """Looks at the vendors of all logins, each once."""

    def __init__(self, settings: Settings, *, probe: bool) -> None:
        self._settings = settings
        self._probe = probe
        self._room = asyncio.Semaphore(LOGINS_AT_ONCE)

    async def everywhere(self, *, offline: bool) -> tuple[dict[str, Look], dict[str, int]]:
        """Look at all logins, and give what was found and how many calls today has seen, in the settings' order."""
        async with AsyncExitStack() as stack:
            store = None
            if not offline:
                own = process(os.environ)
                opened = Store.open(own.database_url.value, statement_cache=own.database_statement_cache)
                store = await stack.enter_async_context(opened)
            client = await stack.enter_async_context(Client(Metrics(), Spool(Path())))  # no file goes up
            logins = self._settings.logins
            looks = await asyncio.gather(*(self._one(client, store, login) for login in logins.values()))
            lanes = await store.tell_lanes(logins) if store else {}
        return dict(zip(logins, looks, strict=True)), {name: lane.calls_today for name, lane in lanes.items()}

    async def _one(self, client: Client, store: Store | None, login: Login) -> Look:
        """Look at one login. What the vendor thinks of it counts as after an upload, where there is a database."""
        async with self._room:
            if store and (wait_s := await store.logins_again_s(login.name, login.login_failures_per_hour_max)):
                return Look("failed", f"not asked: it refused this login too often, and rests for {wait_s:.0f} s more")
            found = await look(client, login, self._settings.accounts_of(login.name), probe=self._probe)
        if store and found.result == "unauthorized":
            await store.count_refused_login(login.name, login.login_failures_per_hour_max)
        elif store and found.login_good:
            await store.forget_refused_logins(login.name)
        return found


def _account(login: Login, account: Account, found: Look, calls_today: int | None) -> dict[str, Any]:
    return {
        "account": account.name,
        "login": login.name,
        "vendor": login.vendor,
        "headers": list(account.columns),
        "file_bytes_max": login.file_bytes_max,
        "calls_per_day": login.calls_per_day,
        "calls_today": calls_today if login.calls_per_day else None,
        "check": found.of(account.name),
    }


def _row(told: Mapping[str, Any]) -> dict[str, object]:
    """Tell of one account in a line; what is wrong in quotes, since a space may be all of it."""
    check = told["check"]
    compared = check["result"] in ("good", "columns")
    return {
        **told,
        "reachable": check["reachable"],
        "login good": check["login_good"],
        "known": f"{len(check['known'])}/{len(told['headers'])}" if compared else None,
        "unknown": [f'"{header}"' for header in check["unknown"]],
        "missing": [f'"{header}"' for header in check["missing"]],
        "not mapped": check["not_mapped"],
        "encoding": check["encoding"],
    }


def _print_notes(told: Sequence[Mapping[str, Any]]) -> None:
    """Say below the table what takes a sentence."""
    for one in told:
        notes = [one["check"]["detail"]]
        if one["calls_per_day"]:
            made = "" if one["calls_today"] is None else f", {one['calls_today']:,} made today"
            notes.append(f"{one['calls_per_day']:,} calls a day{made}; files up to {one['file_bytes_max']:,} bytes")
        for note in filter(None, notes):
            print(f"{one['account']}: {note}")
