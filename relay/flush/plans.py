"""What the work on each login needs of the settings, put together once."""

from collections.abc import Mapping
from dataclasses import dataclass

from relay import vendors
from relay.batches import Candidate, Pace, Terms
from relay.events import Keys, Operation
from relay.settings import Account, Column, Login, Settings
from relay.store import Target


@dataclass(frozen=True, slots=True)
class LoginPlan:
    """One login with its accounts, what each of their operations holds in a line, and when it is due."""

    login: Login
    fingerprint: str
    accounts: Mapping[str, Account]
    targets: tuple[Target, ...]
    columns: Mapping[tuple[str, Operation], Mapping[str, Column]]

    @property
    def terms(self) -> Terms:
        """What the settings say about settling."""
        return Terms.of(self.login)

    @property
    def pace(self) -> Pace | None:
        """How its calls are spread over the vendor's day; None where the vendor counts none."""
        return vendors.pace(self.login, self.accounts.values())

    def target(self, candidate: Candidate) -> Target:
        """The target that a candidate came from."""
        key = (candidate.account, candidate.operation)
        return next(t for t in self.targets if (t.account, t.operation) == key)


def login_plans(settings: Settings, keys: Keys) -> dict[str, LoginPlan]:
    """Plan every login of the settings, by its name."""
    return {name: _plan(settings, keys, login) for name, login in settings.logins.items()}


def _plan(settings: Settings, keys: Keys, login: Login) -> LoginPlan:
    vendor = vendors.vendor_of(login)
    accounts = settings.accounts_of(login.name)
    operations = [operation for operation in Operation if operation in login.operations]
    return LoginPlan(
        login=login,
        fingerprint=settings.login_fingerprint(login.name, keys),
        accounts={account.name: account for account in accounts},
        targets=tuple(Target.of(login, account, operation) for account in accounts for operation in operations),
        columns={
            (a.name, operation): vendor.columns(login, a, operation) for a in accounts for operation in operations
        },
    )
