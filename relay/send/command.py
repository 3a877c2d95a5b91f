"""The command `relay send`: its arguments, its progress, what it tells in the end."""

import argparse
import asyncio
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from relay.errors import FieldError, RelayError, SettingsError
from relay.events import TYPES
from relay.receive.auth import signing_key
from relay.send.sending import FAILED, SendOptions, Sent, Told, send
from relay.settings import Secret

PLAIN_EVERY_S = 5.0
"""How often progress is told where there is no terminal."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `relay send` understands."""
    parser.add_argument("--source", required=True, help="the source whose webhooks these are")
    parser.add_argument("--url", default="http://127.0.0.1:8080", help="where relay listens (default: %(default)s)")
    parser.add_argument(
        "--file", required=True, type=Path, help="CSV (UTF-8 or Shift_JIS, header = names in data) or NDJSON"
    )
    parser.add_argument(
        "--type", default="customer.created", choices=TYPES, help="of every line (default: %(default)s)"
    )
    proof = parser.add_mutually_exclusive_group(required=True)
    proof.add_argument("--secret-env", metavar="NAME", help="the variable that holds the source's signing secret")
    proof.add_argument("--token-env", metavar="NAME", help="the variable that holds the source's bearer token")
    parser.add_argument("--timestamp", type=_moment, help="when the file was true, ISO 8601 (default: its last change)")
    parser.add_argument("--id-prefix", default="send-", help="what webhook ids begin with; another one sends all anew")
    parser.add_argument("--report", type=Path, help="write all refused lines to this CSV file")


def run(args: argparse.Namespace) -> int:
    """Send as the arguments say, tell on the way and in the end, and return the exit code."""
    errors = Console(stderr=True, highlight=False, markup=False)
    try:
        with _progress(errors) as told:
            sent = asyncio.run(send(_options(args), told))
    except (RelayError, OSError) as error:
        errors.print(f"relay send: {error}", soft_wrap=True)
        return FAILED
    _tell(sent, args.report, Console(highlight=False, markup=False))
    return sent.exit_code


def _options(args: argparse.Namespace) -> SendOptions:
    if not re.fullmatch(r"https?://[^\s?#@]+", args.url):  # no name and password: the URL stands in what is told
        raise SettingsError([FieldError("--url", "expected http://… or https://…, without a name or password")])
    if not re.fullmatch(r"[!-~]{0,100}", args.id_prefix):
        raise SettingsError([FieldError("--id-prefix", "expected at most 100 printable ASCII characters")])
    secret = _secret("--secret-env", args.secret_env)
    if secret is not None:
        try:
            signing_key(secret.value)
        except ValueError as error:
            raise SettingsError([FieldError("--secret-env", str(error))]) from None
    return SendOptions(
        url=args.url,
        source=args.source,
        file=args.file,
        type=args.type,
        secret=secret,
        token=_secret("--token-env", args.token_env),
        id_prefix=args.id_prefix,
        timestamp=args.timestamp,
        report=args.report,
    )


def _secret(option: str, name: str | None) -> Secret | None:
    if name is None:
        return None
    value = os.environ.get(name, "").rstrip("\r\n")  # as the service reads its own
    if not value:
        told = name if re.fullmatch("[A-Z][A-Z0-9_]*", name) else "of this name"  # or somebody gave the secret itself
        raise SettingsError([FieldError(option, f"the environment has no variable {told}, or it is empty")])
    return Secret(value)


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise argparse.ArgumentTypeError("expected ISO 8601 with an offset, as in 2026-04-01T09:00:00+09:00")
    return moment


@contextmanager
def _progress(console: Console) -> Iterator[Told]:
    """Show a bar on a terminal, else a line now and then."""
    if not console.is_terminal:
        last = monotonic()

        def say(done: int, lines: int) -> None:
            nonlocal last
            if monotonic() - last >= PLAIN_EVERY_S:
                last = monotonic()
                console.print(f"{done:,} of about {lines:,} lines")

        yield say
        return
    columns = (TextColumn("sending"), BarColumn(), MofNCompleteColumn(), TextColumn("lines"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, lines: bar.update(task, completed=done, total=lines)


def _tell(sent: Sent, report: Path | None, console: Console) -> None:
    counts = f"{sent.accepted:,} accepted ({sent.events:,} events), {sent.duplicates:,} known already"
    console.print(f"{counts}, {sent.refused:,} refused", soft_wrap=True)
    for (account, name), count in sorted(sent.warnings.items()):
        where = f" for {account}" if account else ""
        console.print(f"warning: {name}{where}: changed or empty in {count:,} lines", soft_wrap=True)
    for refusal in sent.refusals:
        console.print(f"line {refusal.line}: {refusal.problem}", soft_wrap=True)
    if sent.refused > len({refusal.line for refusal in sent.refusals}):
        console.print(f"… and more: see {report}" if report else "… and more: --report FILE writes all of them")
