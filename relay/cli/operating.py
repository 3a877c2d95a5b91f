"""What the commands for operators share: who gives them, the database that they work on, and what is asked back.

They do what the status API does, by the same functions, and need no relay that runs: a running one finds what they have
changed within RELAY_ROUND_S.
"""

import argparse
import asyncio
import os
import pwd
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TypeVar

from relay.cli.tables import print_json
from relay.errors import FieldError, RelayError, SettingsError
from relay.events import Keys
from relay.metrics import Metrics
from relay.migrate import check_schema
from relay.settings import Settings, database_url, load, process
from relay.status.acting import Missing
from relay.status.answers import Answer
from relay.status.asked import ONE_LINE, WHO_CHARACTERS_MAX
from relay.status.context import Context
from relay.store import Operator, Store

OPERATOR = "RELAY_OPERATOR"
"""Names who gives a command: in a pod all are one user."""

CONNECTIONS_MAX = 2
"""A command asks one thing after another."""

_NAME = re.compile("[a-z0-9][a-z0-9_-]{0,62}")

_Told = TypeVar("_Told")

_NO_SETTINGS = Settings.model_construct(sources={}, logins={}, accounts={})
_NO_KEYS = Keys(b"")


def ask(question: Callable[[Context], Awaitable[_Told]], *, settings: bool = True) -> _Told:
    """Put a question to the database, as the status API does.

    With `settings` it needs what `relay serve` does: only by a login's settings, secrets included, it is known whether
    a pause holds. Without, the database's URL is all that it needs.
    """
    return asyncio.run(_ask(question, settings=settings))


async def _ask(question: Callable[[Context], Awaitable[_Told]], *, settings: bool) -> _Told:
    async with _opened(settings=settings) as context:
        return await question(context)


@asynccontextmanager
async def _opened(*, settings: bool) -> AsyncIterator[Context]:
    """Open the database and make sure that it is the one that is meant."""
    known, keys, url = _NO_SETTINGS, _NO_KEYS, database_url(os.environ)
    if settings:
        own = process(os.environ)
        known, keys = load(own.config, os.environ), own.keys
    async with Store.open(url.value, connections_max=CONNECTIONS_MAX, statement_cache=0) as store:
        async with store.connection() as connection:
            await check_schema(connection)
        if settings:
            await store.check_secret(keys.fingerprint())
        yield Context(store, known, keys, Metrics(), wake=lambda: None)


def operator() -> Operator:
    """Say who gives the command, for the audit record: RELAY_OPERATOR, or the user of the system."""
    name = os.environ.get(OPERATOR, "").strip()
    if len(name) > WHO_CHARACTERS_MAX or not ONE_LINE.fullmatch(name):
        raise SettingsError([FieldError(OPERATOR, f"expected one line of at most {WHO_CHARACTERS_MAX} characters")])
    return Operator(name or _user(), "command")


def _user() -> str:
    """Give the name of the process's user, or its number where the system knows no name, as in most images."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


def missing(error: Missing, given: object, known: str = "") -> RelayError:
    """Say in the status API's words that something is not there, with what was asked for and what there is.

    What cannot be a name or a number is not repeated: it may be an address. `known` says what the known ones are.
    """
    asked = f": {given}" if _NAME.fullmatch(str(given)) else ""
    there = f"; {known} {', '.join(error.known)}" if error.known else ""
    return RelayError(f"{str(error).rstrip('.')}{asked}{there}")


def moment(at: datetime | None) -> str | None:
    """Write a moment as a table has room for it."""
    return None if at is None else f"{at:%Y-%m-%d %H:%M:%S}Z"


def print_told(told: Answer) -> None:
    """Print an answer as the status API gives it."""
    print_json(told.model_dump(mode="json"))


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add what all of them take."""
    parser.add_argument("--json", action="store_true", help="print JSON, as the status API answers")


def agreed(question: str) -> bool:
    """Ask on the terminal, and say whether the answer is yes."""
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False
