"""What labels may say: every set of values is bounded, and known before anything is counted."""

from collections.abc import Iterable
from typing import Literal, get_args

from relay.settings import Settings

WEBHOOK_RESULTS = (
    "accepted",
    "duplicate",
    "invalid",
    "unauthorized",
    "forbidden",
    "conflict",
    "too_large",
    "limited",
    "unavailable",
    "error",
)
LIMITS = (
    "connections",
    "head_bytes",
    "head_time",
    "body_bytes",
    "body_time",
    "receiving_bytes",
    "webhooks",
    "values",
    "nesting",
    "string_characters",
    "waiting_events",
    "rate",
)
KINDS = ("opt_out", "data")
"""What an operator asks first of something that is late: is it an opt-out?"""

LOGIN_RESULTS = ("ok", "refused", "failed")
RECOVERY_RESULTS = ("settled", "none", "doubt", "failed")
TEMPLATE_RESULTS = ("good", "columns", "unauthorized", "failed", "none")
PAUSE_REASONS = ("operator", "unauthorized", "misconfigured", "columns", "data")
WAIT_REASONS = ("settling", "busy", "quota", "logins_refused", "record", "retry")
"""Why a lane waits: what it was told to wait for, or `record` and `retry` where a file of it waits for its next try."""

STAGES = ("pending", "cut", "spool", "upload", "settle", "waiting")
"""Where the time of a batch goes, in their order; `waiting` lies between two uploads of it."""

ActName = Literal[
    "flush",
    "pause",
    "resume",
    "retry",
    "dismiss",
    "report",
    "delete_records",
    "download",
    "search",
    "see_rejections",
]
"""What operators do. The last three are looks at customers' data."""

ACTS: tuple[ActName, ...] = get_args(ActName)
ROLES = ("receive", "flush")
POOLS = ("work", "append")
CONNECTION_STATES = ("used", "idle")

OTHER = "(other)"
"""The label of all accounts beyond the limit, and of those that the settings do not name. No account is called so."""

ACCOUNTS_MAX = 200
"""Accounts that have series of their own: each has about a dozen, and whoever has more looks at them elsewhere."""


class Labels:
    """The labels that accounts go by: their own names up to a limit, and their vendors'."""

    def __init__(self) -> None:
        self._with_series: frozenset[str] = frozenset()
        self._vendor_of: dict[str, str] = {}

    def know(self, settings: Settings, accounts_max: int) -> Iterable[str]:
        """Learn the accounts of the settings; return the labels that they have."""
        self._vendor_of = {name: settings.login_of(account).vendor for name, account in settings.accounts.items()}
        self._with_series = frozenset(list(settings.accounts)[:accounts_max])
        return dict.fromkeys(self.account(name) for name in settings.accounts)

    def account(self, name: str) -> str:
        """Return the label of an account on gauges: its name, or "(other)" where it has no series of its own.

        As many as `RELAY_METRICS_ACCOUNTS_MAX` have one, in the order of the settings. Whoever sets a gauge puts
        together what goes by one label: the sum of what is counted, the largest of ages.
        """
        return name if name in self._with_series else OTHER

    def vendor(self, account: str) -> str:
        """Return the label of an account's vendor; "(other)" where the settings do not name the account."""
        return self._vendor_of.get(account, OTHER)
