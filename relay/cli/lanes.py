"""`relay lanes`, `pause`, `resume` and `flush`: how logins stand, and what operators do about it."""

import argparse
from collections.abc import Awaitable, Callable, Iterable, Sequence

from pydantic import ValidationError

from relay.cli.operating import add_json, ask, missing, operator, print_told
from relay.cli.tables import print_json, print_table
from relay.errors import RelayError
from relay.status import answers
from relay.status.acting import Missing
from relay.status.asked import DETAIL_CHARACTERS_MAX, Pause
from relay.status.context import Context
from relay.status.lanes import find_accounts, find_logins, flush_login, pause_login, resume_login
from relay.status.why import spell

COLUMNS = (
    "login",
    "vendor",
    "state",
    "why",
    "calls left",
    "oldest opt-out",
    "oldest data",
    "pending",
    "dead letters",
)


def add_login(parser: argparse.ArgumentParser) -> None:
    """Add what `relay resume` and `relay flush` take."""
    parser.add_argument("login", metavar="LOGIN", help="a login of the settings")
    add_json(parser)


def add_pause(parser: argparse.ArgumentParser) -> None:
    """Add what `relay pause` takes."""
    add_login(parser)
    parser.add_argument("--reason", default="", metavar="TEXT", help="why, for other operators to read")


def lanes(options: argparse.Namespace) -> int:
    """Print how all logins stand; the exit code is 0."""
    logins, accounts = ask(_lanes)
    if options.json:
        print_json({**logins.model_dump(mode="json"), **accounts.model_dump(mode="json")})
    else:
        _print(logins.logins, accounts.accounts)
    return 0


async def _lanes(context: Context) -> tuple[answers.Logins, answers.Accounts]:
    return await find_logins(context), await find_accounts(context)


def pause(options: argparse.Namespace) -> int:
    """Pause a login; the exit code is 0."""
    try:
        asked = Pause(reason=options.reason)
    except ValidationError:
        raise RelayError(f"--reason: expected one line of at most {DETAIL_CHARACTERS_MAX} characters") from None
    return _act(options, lambda context: pause_login(context, options.login, asked, operator()))


def resume(options: argparse.Namespace) -> int:
    """Let a login go on; the exit code is 0."""
    return _act(options, lambda context: resume_login(context, options.login, operator()))


def flush(options: argparse.Namespace) -> int:
    """Make everything that waits at a login due; the exit code is 0."""
    return _act(options, lambda context: flush_login(context, options.login, operator()))


def _act(options: argparse.Namespace, act: Callable[[Context], Awaitable[answers.Login]]) -> int:
    """Do something to a login, and print how it stands then."""

    async def done(context: Context) -> tuple[answers.Login, answers.Accounts]:
        return await act(context), await find_accounts(context)

    try:
        login, accounts = ask(done)
    except Missing as error:
        raise missing(error, options.login, "the settings have") from None
    if options.json:
        print_told(login)
    else:
        _print([login], accounts.accounts)
    return 0


def _print(logins: Iterable[answers.Login], accounts: Sequence[answers.Account]) -> None:
    print_table(COLUMNS, [_row(login, [one for one in accounts if one.login == login.name]) for login in logins])


def _row(login: answers.Login, accounts: Sequence[answers.Account]) -> dict[str, object]:
    state, why = _state(login)
    return {
        "login": login.name,
        "vendor": login.vendor,
        "state": state,
        "why": why,
        "calls left": login.quota.left,
        "oldest opt-out": _oldest(one.oldest_unsettled.opt_out_s for one in accounts),
        "oldest data": _oldest(one.oldest_unsettled.data_s for one in accounts),
        "pending": sum(one.pending for one in accounts),
        "dead letters": sum(one.dead_letters for one in accounts),
    }


def _state(login: answers.Login) -> tuple[str, str | None]:
    """Say what a login does and why, the weightiest first: a pause, then an upload, then a wait."""
    paused, waits, refused = login.paused, login.waits, login.refused_settings
    if paused is not None:
        detail = f": {paused.detail}" if paused.detail else ""
        ends = "" if paused.holds else "; goes on by itself, its settings have changed"
        return "paused", f"{paused.reason} since {paused.since:%Y-%m-%d %H:%M} UTC{detail}{ends}"
    if login.uploading_batch is not None:
        return "working", f"uploads batch {login.uploading_batch}"
    if waits is not None:
        return "waiting", f"{waits.reason or 'rests'}, for {spell(waits.seconds)}"
    if refused is not None:
        what = "data" if refused.data_only else "login"
        return "waiting", f"the vendor refused these settings' {what}, which try again in {spell(refused.seconds)}"
    return ("working" if login.leased else "idle"), login.quota.why


def _oldest(ages_s: Iterable[float | None]) -> str | None:
    known = [age_s for age_s in ages_s if age_s is not None]
    return spell(max(known)) if known else None
