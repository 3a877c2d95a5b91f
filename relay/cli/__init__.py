"""The command line. Exit codes: 0 done, 1 something is wrong, 2 the settings are."""

import argparse
import asyncio
import hashlib
import os
import secrets
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from relay import __version__, app, log, receive, send
from relay.cli import batches, checking, lanes, preview, vendor_errors, webhooks
from relay.cli.operating import add_json
from relay.demo import command as demo
from relay.errors import FieldError, RelayError, SettingsError, Unavailable
from relay.flush import login_plans
from relay.migrate import migrate
from relay.settings import Settings, database_url, load, process
from relay.store import Store

EXIT_WRONG = 1
EXIT_SETTINGS = 2


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit with its code."""
    log.configure("warning")
    log.guard()
    options = make_parser().parse_args(arguments)
    sys.exit(run(options))


def run(options: argparse.Namespace) -> int:
    """Run the parsed command; every mistake in settings is told, one a line."""
    try:
        return int(options.run(options))
    except SettingsError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return EXIT_SETTINGS
    except Unavailable as error:
        print(f"Postgres does not answer where RELAY_DATABASE_URL says that it is: {error}", file=sys.stderr)
        return EXIT_WRONG
    except RelayError as error:
        print(error, file=sys.stderr)
        return EXIT_WRONG
    except KeyboardInterrupt:
        return EXIT_WRONG


def make_parser() -> argparse.ArgumentParser:
    """Make what understands the commands; each option set has `run`."""
    parser = argparse.ArgumentParser(prog="relay", description="Customer webhooks in, vendor CSV uploads out.")
    parser.add_argument("--version", action="version", version=f"relay {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")

    def command(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        return sub

    command("serve", _serve, "Receive webhooks, upload files, answer questions; until SIGTERM.")
    command("migrate", _migrate, "Bring the database to the schema that this relay knows.")
    check = command("check", _check, "Tell every mistake in the settings, and in how they fit the database.")
    check.add_argument("--offline", action="store_true", help="do not look at the database")
    checking.add_arguments(check)
    preview.add_arguments(
        command("preview", preview.run, "Tell what the next cuts of an account would send. Nothing moves.")
    )
    send.add_arguments(command("send", send.run, "Send an existing customer list to relay, signed and in bulk."))
    vendor_errors.add_arguments(
        command("vendor-errors", vendor_errors.run, "List, export or delete the vendor's records of failed lines.")
    )
    demo.add_arguments(
        command("demo", demo.run, "Show relay at work: Postgres, three simulated vendors, and a stream of webhooks.")
    )
    _add_operating(command)
    token = command("token", _token, "Make a token for the status API: the token, and what the settings hold of it.")
    token.add_argument("new", choices=["new"], help="the only thing to do with a token")
    return parser


def _add_operating(command: Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]) -> None:
    """Add what operators look at and press where there is no browser."""
    add_json(command("lanes", lanes.lanes, "Tell how every login stands: what it waits for, and what is late."))
    lanes.add_pause(
        command("pause", lanes.pause, "Pause a login: nothing more goes up there; webhooks are still taken.")
    )
    lanes.add_login(command("resume", lanes.resume, "Let a login go on at once, whatever it paused or waited for."))
    lanes.add_login(command("flush", lanes.flush, "Make everything due that waits at a login now."))
    batches.add_batches(command("batches", batches.batches, "List batches, the newest first."))
    batches.add_batch(command("batch", batches.batch, "Tell a batch with its uploads, or its refused lines."))
    batches.add_act(command("retry", batches.retry, "Append a batch's dead letters again, as they were."))
    batches.add_act(command("dismiss", batches.dismiss, "Count a batch's dead letters no more."))
    webhooks.add_arguments(
        command("webhook", webhooks.run, "Tell what became of a webhook, and why it is not delivered.")
    )


def _serve(_: argparse.Namespace) -> int:
    own = process(os.environ)
    log.configure(own.log_level)
    settings = load(own.config, os.environ)
    asyncio.run(app.serve(own, settings))
    return 0


def _migrate(_: argparse.Namespace) -> int:
    applied = asyncio.run(migrate(database_url(os.environ).value))
    print(f"applied {', '.join(map(str, applied))}" if applied else "nothing to apply")
    return 0


def _check(options: argparse.Namespace) -> int:
    """Check all there is; settings of the process count only where they are needed.

    The vendors are looked at even where the database is at fault, but only for sound settings.
    """
    if not options.online and (options.probe or options.json):
        raise RelayError("--probe and --json go with --online")
    beside = sys.stderr if options.json else sys.stdout
    settings = load(Path(os.environ.get("RELAY_CONFIG") or "relay.toml"), os.environ)
    app.check(settings)
    for caution in receive.cautions(settings):
        print(f"warning: {caution}", file=beside)
    sizes = f"{len(settings.sources)} sources, {len(settings.logins)} logins, {len(settings.accounts)} accounts"
    print(f"settings: {sizes}", file=beside)
    wrong: RelayError | None = None
    if not options.offline:
        try:
            asyncio.run(_check_database(settings))
            print("database: schema and secret fit", file=beside)
        except RelayError as error:
            wrong = error
    code = 0
    if options.online:
        offline = options.offline or wrong is not None
        code = checking.check_online(settings, offline=offline, probe=options.probe, as_json=options.json)
    if wrong is not None:
        raise wrong
    return code


async def _check_database(settings: Settings) -> None:
    """Raise RelayError where the settings and the database do not fit."""
    own = process(os.environ)
    async with Store.open(own.database_url.value, statement_cache=own.database_statement_cache) as store:
        layouts = await app.prepare(store, login_plans(settings, own.keys), own.keys.fingerprint())
        left = await store.unserved(layouts)
    if left:
        message = "waits in the database, but the settings do not serve it"
        raise SettingsError(
            [FieldError(f"accounts.{account}", f"{operation} {message}") for account, operation in left]
        )


def _token(_: argparse.Namespace) -> int:
    token = f"relay_{secrets.token_urlsafe(32)}"
    print(f"token:  {token}")
    print(f'sha256 = "{hashlib.sha256(token.encode()).hexdigest()}"')
    return 0
