"""Looking at a vendor without sending a file: can it be reached, is the login good, does it know the columns?"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

from relay.batches import Misconfigured, Outcome, Unauthorized
from relay.settings import Account, Login
from relay.vendors import Call, Reply, vendor_of
from relay.vendors.templates import Fit, Template, TemplateKind, fit

CheckResult = Literal["good", "columns", "unauthorized", "failed", "none"]
"""`columns`: some that are mapped or needed are not there. `failed`: no answer of use. `none`: nothing to compare."""


class Asks(Protocol):
    """Who does the talking to a vendor: `relay.client.Client`."""

    async def reach(self, login: Login) -> str:
        """Say what keeps relay from the vendor's host, or nothing."""

    async def log_in(self, login: Login) -> Outcome | None:
        """Make sure of a token, or say why there is none."""

    async def ask(self, login: Login, call_with: Callable[[str | None], Call]) -> Reply | Outcome:
        """Make a call without a file, or say what the lack of an answer means."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at a login's vendor found. `reachable` and `login_good` are None where that was not found out.

    `fits` has the accounts where the vendor told what columns it takes, in the encoding `encoding`. `detail` says in
    words what is wrong or not known; it holds settings and words of an API, nobody's data.
    """

    result: CheckResult
    detail: str = ""
    reachable: bool | None = None
    login_good: bool | None = None
    encoding: str | None = None
    fits: Mapping[str, Fit] = field(default_factory=dict)

    @property
    def opt_outs_fit(self) -> bool:
        """Whether the vendor has all that the accounts' opt-outs need."""
        return all(one.opt_outs_fit for one in self.fits.values())

    def of(self, account: str) -> dict[str, Any]:
        """Tell of one account, as JSON."""
        own = self.fits.get(account)
        told = own or Fit()
        return {
            "result": self.result if own is None else ("good" if own.fits else "columns"),
            "reachable": self.reachable,
            "login_good": self.login_good,
            "known": list(told.known),
            "unknown": list(told.unknown),
            "missing": list(told.missing),
            "not_mapped": list(told.not_mapped),
            "required": list(told.required),
            "meant": dict(told.meant),
            "encoding": self.encoding,
            "detail": self.detail if own is None else own.told(),
        }


UNVERIFIED = (
    "the vendor tells no columns, and may ignore one that it does not know, silently; relay cannot verify the names"
)
NOT_CHECKED = 'the settings say `template_check = "off"`'


async def look(asks: Asks, login: Login, accounts: Iterable[Account], *, probe: bool = False) -> Look:
    """Look at a login's vendor: at most one login, repeated never, then one call for each template.

    With `probe`, a vendor without tokens is asked by a call that counts as one of its day whether the login is good.
    """
    if trouble := await asks.reach(login):
        return Look("failed", f"{urlsplit(login.base_url).hostname} cannot be reached: {trouble}", reachable=False)
    vendor = vendor_of(login)
    if not vendor.needs_token and not vendor.templates(login):
        return await _probed(asks, login) if probe else Look("none", UNVERIFIED, reachable=True)
    if vendor.needs_token and (outcome := await asks.log_in(login)):
        return _not_in(outcome)
    return await _templates_compared(asks, login, accounts)


async def _templates_compared(asks: Asks, login: Login, accounts: Iterable[Account]) -> Look:
    templates: dict[TemplateKind, Template] = {}
    for kind in vendor_of(login).templates(login):
        answer = await _asked(asks, login, kind)
        if isinstance(answer, Look):
            return answer
        if isinstance(answer, Template):
            templates[kind] = answer
        elif kind == "register":
            return Look("failed", answer.reason, reachable=True, login_good=True)
    if not templates:
        return Look("none", NOT_CHECKED, reachable=True, login_good=True)
    # a vendor's names may be many and long, and a loop that compares them renews no lease
    return await asyncio.to_thread(_compared, login, accounts, templates)


async def _asked(asks: Asks, login: Login, kind: TemplateKind) -> Template | Outcome | Look:
    """Ask for a template. A Look is that relay was not let in: a token that ran out was not renewed."""
    vendor = vendor_of(login)
    answer = await asks.ask(login, lambda token: vendor.template_call(login, kind, token))
    if isinstance(answer, Unauthorized):
        return _not_in(answer)
    if not isinstance(answer, Reply):
        return answer
    return await asyncio.to_thread(vendor.read_template, answer, kind)


async def _probed(asks: Asks, login: Login) -> Look:
    vendor = vendor_of(login)
    call = vendor.probe_call(login)
    if call is None:
        return Look("none", UNVERIFIED, reachable=True)
    answer = await asks.ask(login, lambda _: call)
    outcome = vendor.read_probe(answer) if isinstance(answer, Reply) else answer
    if outcome is None:
        return Look("none", UNVERIFIED, reachable=True, login_good=True)
    return _not_in(outcome)


def _not_in(outcome: Outcome) -> Look:
    """Say what it means that the vendor did not let relay in."""
    if isinstance(outcome, Unauthorized):
        return Look("unauthorized", outcome.reason, reachable=True, login_good=False)
    login_good = False if isinstance(outcome, Misconfigured) else None
    return Look("failed", outcome.reason, reachable=True, login_good=login_good)


def _compared(login: Login, accounts: Iterable[Account], templates: Mapping[TemplateKind, Template]) -> Look:
    vendor = vendor_of(login)
    fits: dict[str, Fit] = {}
    for account in accounts:
        columns = {operation: vendor.columns(login, account, operation) for operation in login.operations}
        found = fit(account, columns, templates)
        if found is None:
            detail = f"the vendor's answer has none of the columns of {account.name}: not believed"
            return Look("failed", detail, reachable=True, login_good=True)
        fits[account.name] = found
    encoding = next((t.encoding for t in templates.values() if t.encoding != "ASCII"), "ASCII")
    detail = "; ".join(f"{name}: {one.told()}" for name, one in fits.items() if not one.fits)
    return Look("columns" if detail else "good", detail, reachable=True, login_good=True, encoding=encoding, fits=fits)
