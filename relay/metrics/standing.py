"""Metrics of how things stand in Postgres: the same in every replica, set by what looks there now and then."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Info

from relay.metrics.labels import ACTS, KINDS, OTHER, PAUSE_REASONS, WAIT_REASONS
from relay.settings import Settings


class Standing:
    """What waits, what is late, what is lost, and how lanes and log stand."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._of_accounts(registry)
        self._of_lanes(registry)
        self._of_log(registry)

    def _of_accounts(self, registry: CollectorRegistry) -> None:
        self.account_info = Info(
            "relay_account",
            "An account's login and vendor, for accounts that have series of their own.",
            ["account"],
            registry=registry,
        )
        self.pending = Gauge("relay_pending_events", "Events not yet cut.", ["account"], registry=registry)
        self.oldest_unsettled = Gauge(
            "relay_oldest_unsettled_seconds",
            "Age in seconds of the oldest event that is not yet delivered, accepted, rejected or dismissed.",
            ["account", "kind"],
            registry=registry,
        )
        self.flush_after = Gauge(
            "relay_flush_after_seconds",
            "Seconds that events may wait for more by the settings: what the oldest unsettled is to be compared with.",
            ["account", "kind"],
            registry=registry,
        )
        self.dead_letters = Gauge(
            "relay_dead_letters",
            "Events failed, rejected or unconfirmed that nobody has retried or dismissed.",
            ["account", "kind"],
            registry=registry,
        )
        self.accounts_without_settings = Gauge(
            "relay_accounts_without_settings",
            "Accounts with events waiting that the settings do not name, or whose login knows no such operation.",
            registry=registry,
        )
        self.conservation_violations = Gauge(
            "relay_conservation_violations",
            "Events in no state or in several, and batches whose count does not add up, as last recounted.",
            ["account"],
            registry=registry,
        )
        self.conservation_recounted = Counter(
            "relay_conservation_recounted_events_total", "Events recounted.", registry=registry
        )
        self.conservation_recount_age = Gauge(
            "relay_conservation_recount_age_seconds",
            "Seconds since the last complete recount began, at first since the process did; 0 where none flushes.",
            registry=registry,
        )

    def _of_lanes(self, registry: CollectorRegistry) -> None:
        self.lanes = Gauge(
            "relay_lanes",
            "Logins by what their lanes do (idle, working, waiting, paused) and why.",
            ["state", "reason"],
            registry=registry,
        )
        self.lane_paused = Gauge(
            "relay_lane_paused",
            "1 while a login's lane is paused for the reason.",
            ["login", "reason"],
            registry=registry,
        )
        self.settings_refused = Gauge(
            "relay_settings_refused",
            "1 while this process stays out of a lane because its settings failed there and others' work.",
            ["login"],
            registry=registry,
        )
        self.quota_day = Gauge(
            "relay_quota_day_calls", "Calls that the vendor allows in a day.", ["login"], registry=registry
        )
        self.quota_left = Gauge(
            "relay_quota_left_calls", "Calls left of the vendor's day.", ["login"], registry=registry
        )
        self.quota_kept = Gauge(
            "relay_quota_kept_calls",
            "Of those, the calls kept back from data for opt-outs to come.",
            ["login"],
            registry=registry,
        )

    def _of_log(self, registry: CollectorRegistry) -> None:
        self.log_bytes = Gauge("relay_log_bytes", "Bytes of the log in Postgres with its indexes.", registry=registry)
        self.log_events = Gauge("relay_log_events", "Events in the log, as Postgres estimates.", registry=registry)
        self.log_oldest = Gauge(
            "relay_log_oldest_seconds", "Age in seconds of the oldest event in the log.", registry=registry
        )
        self.retention = Gauge(
            "relay_retention_seconds", "Seconds that settled events are kept; 0 is for ever.", registry=registry
        )
        self.retention_deleted = Counter(
            "relay_retention_deleted_events_total", "Settled events deleted at their age.", registry=registry
        )
        self.retention_pass_age = Gauge(
            "relay_retention_pass_age_seconds",
            "Seconds since the last pass of retention over the whole log began, at first since the process did; "
            "0 where none flushes or all is kept.",
            registry=registry,
        )
        self.sample_age = Gauge(
            "relay_sample_age_seconds",
            "Seconds since the gauges about the database were last read from it, at first since the process began.",
            registry=registry,
        )
        self.acts = Counter("relay_acts_total", "Operators' acts through this process.", ["act"], registry=registry)

    def standing_at_zero(self, accounts: Iterable[str], settings: Settings) -> None:
        """Make all series exist. `accounts` are labels."""
        for account in accounts:
            if account != OTHER:
                known = settings.accounts[account]
                self.account_info.labels(account).info(
                    {"login": known.login, "vendor": settings.login_of(known).vendor}
                )
            self.pending.labels(account)
            self.conservation_violations.labels(account)
            for kind in KINDS:
                self.oldest_unsettled.labels(account, kind)
                self.flush_after.labels(account, kind)
                self.dead_letters.labels(account, kind)
        for login in settings.logins:
            self.settings_refused.labels(login)
            for reason in PAUSE_REASONS:
                self.lane_paused.labels(login, reason)
        for state, reasons in LANE_STATES.items():
            for reason in reasons:
                self.lanes.labels(state, reason)
        for act in ACTS:
            self.acts.labels(act)


LANE_STATES = {"idle": ("",), "working": ("",), "waiting": WAIT_REASONS, "paused": PAUSE_REASONS}
"""What a lane can do, and the reasons of it."""
