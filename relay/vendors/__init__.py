"""The vendors: what each wants and says. Pure; `relay.client` does the talking."""

from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import urlsplit

from relay import csvline
from relay.errors import FieldError
from relay.events import OPT_OUTS, TYPES, Operation
from relay.settings import STATUS_HEADER, Account, BmeLogin, HaihaiLogin, Login, Settings
from relay.vendors.base import Claim, Counted, Form, Reply, Sent, Vendor, excerpt
from relay.vendors.bme import Bme
from relay.vendors.haihai import OWN_FIELDS, Haihai

__all__ = [
    "VENDORS",
    "Claim",
    "Counted",
    "Form",
    "Reply",
    "Sent",
    "Vendor",
    "check",
    "excerpt",
    "flush_after_s",
    "vendor_of",
]

_BME: Final = Bme()

VENDORS: Mapping[str, Vendor] = {"haihai": Haihai(), "blastmail": _BME, "blaynmail": _BME}
"""The adapters by `login.vendor`."""

FLUSH_AFTER_S: Final = 60.0
"""How long data waits to share a file where the settings say nothing."""

FLUSH_AFTER_SHARED_S: Final = 900.0
"""The same on 配配メール's shared server: 240 calls a day (seen) leave one every 6 minutes, shared by all accounts."""

FLUSH_OPT_OUTS_AFTER_S: Final = 10.0
"""How long opt-outs wait to share a file where the settings say nothing."""

FLUSH_OPT_OUTS_AFTER_SHARED_S: Final = 600.0
"""The same on 配配メール's shared server: for one account with one kind of opt-out, 144 files of those and 96
of data make a day's 240 calls. Were it
shorter, a busy day's calls are spent by noon, and the opt-outs of the afternoon wait until midnight."""


def vendor_of(login: Login) -> Vendor:
    """The adapter for a login's vendor."""
    return VENDORS[login.vendor]


def flush_after_s(login: Login, account: Account, operation: Operation) -> float:
    """How long, in seconds, the oldest waiting event of an account's operation may wait before a file is cut."""
    chosen = account.flush_opt_outs_after_s if operation.opt_out else account.flush_after_s
    if chosen is not None:
        return chosen
    if isinstance(login, HaihaiLogin) and login.server == "shared":
        return FLUSH_OPT_OUTS_AFTER_SHARED_S if operation.opt_out else FLUSH_AFTER_SHARED_S
    return FLUSH_OPT_OUTS_AFTER_S if operation.opt_out else FLUSH_AFTER_S


def check(settings: Settings) -> list[FieldError]:
    """Find what each part of the settings allows but the vendors do not, all mistakes at once, with their TOML paths.

    An account whose login does not exist is passed over: that is told elsewhere.
    """
    problems = [problem for login in settings.logins.values() for problem in _check_login(login)]
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
    if isinstance(login, BmeLogin):
        if not login.status_header.strip() or csvline.unencodable(login.status_header):
            yield FieldError(f"{path}.status_header", "expected a header that has a Shift_JIS (CP932) form")
        return
    taken = sorted({*OWN_FIELDS, login.password_field} & login.extra_fields.keys())
    if taken:
        yield FieldError(f"{path}.extra_fields", f"relay fills in {', '.join(taken)} itself")
    if login.password_field in OWN_FIELDS:
        yield FieldError(f"{path}.password_field", f"{login.password_field} is another part of the form")


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
    if isinstance(login, BmeLogin):
        for name in ("group_id", "step_plan_id"):
            if getattr(account, name) is not None:
                yield FieldError(f"{path}.{name}", f"{login.vendor} has no such thing, only 配配メール has")
        for header in account.columns:
            if csvline.fold(header).strip() in (STATUS_HEADER, csvline.fold(login.status_header).strip()):
                message = f"{header} is no column for data: an empty cell in it subscribes people again who left"
                yield FieldError(f"{path}.columns", message)


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
