"""The vendors: what each wants and says. Pure; `relay.client` does the talking."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final
from urllib.parse import urlsplit

from relay.batches import Pace, pace_of
from relay.errors import FieldError
from relay.events import OPT_OUTS, TYPES, Operation
from relay.settings import Account, HaihaiLogin, Login, Settings
from relay.vendors.base import Call, Claim, Counted, Form, Reply, Sent, Vendor, excerpt
from relay.vendors.bme import Bme
from relay.vendors.haihai import Haihai

__all__ = [
    "VENDORS",
    "Call",
    "Claim",
    "Counted",
    "Form",
    "Reply",
    "Sent",
    "Vendor",
    "check",
    "excerpt",
    "flush_after_s",
    "pace",
    "vendor_of",
]

_BME: Final = Bme()

VENDORS: Mapping[str, Vendor] = {"haihai": Haihai(), "blastmail": _BME, "blaynmail": _BME}
"""The adapters by `login.vendor`."""


def vendor_of(login: Login) -> Vendor:
    """The adapter for a login's vendor."""
    return VENDORS[login.vendor]


def flush_after_s(login: Login, account: Account, operation: Operation) -> float:
    """How long, in seconds, the oldest waiting event of an account's operation may wait before a file is cut."""
    chosen = account.flush_opt_outs_after_s if operation.opt_out else account.flush_after_s
    if chosen is not None:
        return chosen
    return login.flush_opt_outs_after_s if operation.opt_out else login.flush_after_s


def pace(login: Login, accounts: Iterable[Account]) -> Pace | None:
    """How a login's calls are spread over the vendor's day; None where it counts none."""
    opt_outs = [operation for operation in login.operations if operation.opt_out]
    cadences_s = [flush_after_s(login, account, operation) for account in accounts for operation in opt_outs]
    return pace_of(login.calls_per_day, cadences_s)


def check(settings: Settings) -> list[FieldError]:
    """Find what each part of the settings allows but the vendors do not, all mistakes at once, with their TOML paths.

    An account whose login does not exist is passed over: that is told elsewhere.
    """
    problems = [problem for login in settings.logins.values() for problem in _check_login(login)]
    problems += _check_apart(settings.logins.values())
    for account in settings.accounts.values():
        if login := settings.logins.get(account.login):
            problems += _check_account(login, account)
    return problems


def _check_login(login: Login) -> Iterator[FieldError]:
    path = f"logins.{login.name}"
    if fault := _fault_of_url(login.base_url):
        yield FieldError(f"{path}.base_url", fault)
    if any(not text.strip() for text in login.unknown_address_messages):
        yield FieldError(f"{path}.unknown_address_messages", "an empty text would match every message")
    yield from vendor_of(login).check_login(login)


def _check_apart(logins: Iterable[Login]) -> Iterator[FieldError]:
    """Two logins have a lane each: with one contract they would import side by side and count its calls apart."""
    first: dict[tuple[object, ...], str] = {}
    for login in logins:
        other = first.setdefault(_contract(login), login.name)
        if other != login.name:
            yield FieldError(
                f"logins.{login.name}",
                f"is the same user of the same contract as logins.{other}: give accounts one login",
            )


def _contract(login: Login) -> tuple[object, ...]:
    """Say what tells contracts apart: of two with the same, one host's, both are one."""
    user = (login.aid, login.login_id) if isinstance(login, HaihaiLogin) else (login.username,)
    return (login.vendor, login.base_url.rstrip("/").casefold(), *user)


def _fault_of_url(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna")
        _ = parts.port  # raises for one out of range
    except ValueError:
        return "expected a URL with a host that can be looked up"
    if not host:
        return "expected a URL with a host"
    if parts.username is not None or parts.password is not None:
        return "a URL may hold no name or password: it shows in places where secrets do not"
    return None


def _check_account(login: Login, account: Account) -> Iterator[FieldError]:
    path = f"accounts.{account.name}"
    if account.mode not in login.modes:
        yield FieldError(f"{path}.mode", f"{login.vendor} knows the modes {', '.join(sorted(login.modes))}")
    yield from _check_operations(login, account)
    yield from vendor_of(login).check_account(login, account)


def _check_operations(login: Login, account: Account) -> Iterator[FieldError]:
    """Every type that a source may send must settle to something the vendor has, and an opt-out must stay one."""
    path = f"accounts.{account.name}.operations"
    for event_type, asked in TYPES.items():
        operation = account.operation(event_type)
        if operation is None:
            continue
        if operation not in login.operations:
            instead = " or ".join(['"stop"'] * (asked in OPT_OUTS) + ['"ignore"'])
            yield FieldError(path, f"{login.vendor} has no {operation}: map {event_type} to {instead}")
        elif asked in OPT_OUTS and operation not in OPT_OUTS:
            yield FieldError(path, f"{event_type} is an opt-out and cannot become {operation}")
        elif asked not in OPT_OUTS and operation is not asked:
            yield FieldError(path, f'{event_type} is {asked} or "ignore", and cannot become {operation}')
