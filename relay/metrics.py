"""Every metric that relay exposes: base units, bounded labels, all series made at zero.

Account labels stand only where an operator has to tell accounts apart; vendors and logins come from the settings.
Nothing is queried during a scrape: gauges are set by the sampler (`relay.status`), counters where things happen.
"""

import platform
from collections.abc import Iterable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
)

from relay import __version__
from relay.batches import OUTCOMES, BatchState
from relay.events import Operation

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
UNSETTLED_KINDS = ("opt_out", "data")
LOGIN_RESULTS = ("ok", "refused", "failed")
RECOVERY_RESULTS = ("settled", "none", "doubt", "failed")
TEMPLATE_RESULTS = ("good", "columns", "unauthorized", "failed", "none")
PAUSE_REASONS = ("operator", "unauthorized", "misconfigured", "columns", "data")

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_UPLOAD_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_GROUP_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


class Metrics:
    """relay's collectors in a registry of their own, so that two services in one process (tests) do not mix."""

    def __init__(self) -> None:
        self.registry = r = CollectorRegistry()
        ProcessCollector(registry=r)
        PlatformCollector(registry=r)
        GCCollector(registry=r)
        Info("relay_build", "relay's version and Python's.", registry=r).info(
            {"version": __version__, "python": platform.python_version()}
        )
        self.webhooks = Counter(
            "relay_webhooks_total", "Webhooks by source and result.", ["source", "result"], registry=r
        )
        self.limits_met = Counter(
            "relay_limits_met_total",
            "Requests and connections refused or ended because of a limit.",
            ["limit"],
            registry=r,
        )
        self.malformed = Counter(
            "relay_malformed_requests_total", "Requests that are no HTTP, or whose bodies end in none.", registry=r
        )
        self.connections = Gauge("relay_connections", "Open connections on the port for webhooks.", registry=r)
        self.receiving_bytes = Gauge(
            "relay_receiving_bytes", "Bytes of request bodies held at this moment.", registry=r
        )
        self.opt_outs_unresolved = Gauge(
            "relay_opt_outs_unresolved",
            "Opt-outs that name a customer by an id for which no address is known yet, less the dismissed.",
            ["source"],
            registry=r,
        )
        self.opt_outs_refused = Counter(
            "relay_opt_outs_refused_total",
            "Opt-outs refused (no readable address, a reused id, not allowed): their senders have to mend them.",
            ["source"],
            registry=r,
        )
        self.events = Counter("relay_events_total", "Events appended.", ["account", "operation"], registry=r)
        self.pending = Gauge("relay_pending_events", "Events not yet cut.", ["account"], registry=r)
        self.oldest_unsettled = Gauge(
            "relay_oldest_unsettled_seconds",
            "Age of the oldest event that is not yet delivered, accepted, rejected or dismissed.",
            ["account", "kind"],
            registry=r,
        )
        self.batches = Counter(
            "relay_batches_total", "Batches that entered a state.", ["vendor", "operation", "state"], registry=r
        )
        self.uploads = Counter(
            "relay_uploads_total", "Uploads by what they came to.", ["vendor", "outcome"], registry=r
        )
        self.upload_seconds = Histogram(
            "relay_upload_seconds", "Duration of an upload.", ["vendor"], buckets=_UPLOAD_SECONDS, registry=r
        )
        self.upload_bytes = Counter("relay_upload_bytes_total", "Bytes of upload bodies sent.", ["vendor"], registry=r)
        self.rejections = Counter(
            "relay_rejections_total", "Lines that a vendor refused.", ["vendor", "operation"], registry=r
        )
        self.reported_failures = Counter(
            "relay_reported_failures_total",
            "Lines that a report mail counts as failed, as operators recorded it.",
            ["account", "operation"],
            registry=r,
        )
        self.recovered = Counter(
            "relay_recovered_uploads_total",
            "Uploads without an answer for which the vendor's error record was looked up, by what came of it.",
            ["vendor", "result"],
            registry=r,
        )
        self.logins = Counter("relay_logins_total", "Calls for a token by result.", ["vendor", "result"], registry=r)
        self.template_checks = Counter(
            "relay_template_checks_total",
            "Comparisons of accounts' columns with the vendor's.",
            ["vendor", "result"],
            registry=r,
        )
        self.lane_paused = Gauge(
            "relay_lane_paused", "1 while a login's lane is paused for the reason.", ["login", "reason"], registry=r
        )
        self.settings_refused = Gauge(
            "relay_settings_refused",
            "1 while this process stays out of a lane because its settings failed there and others' work.",
            ["login"],
            registry=r,
        )
        self.breaker_open = Gauge(
            "relay_breaker_open",
            "1 while this process sends nothing to a vendor's host, but for a probe now and then, because it fails.",
            ["host"],
            registry=r,
        )
        self.breaker_openings = Counter(
            "relay_breaker_openings_total", "How often that began, or was prolonged by a probe.", ["host"], registry=r
        )
        self.append_seconds = Histogram(
            "relay_append_seconds", "Duration of one append to the log.", buckets=_SECONDS, registry=r
        )
        self.append_size = Histogram(
            "relay_append_batch_size", "Events in one append.", buckets=_GROUP_SIZES, registry=r
        )
        self.append_waiting = Gauge(
            "relay_append_waiting_requests", "Requests that wait for the next append.", registry=r
        )
        self.fence_skipped = Counter(
            "relay_fence_skipped_total", "Rounds skipped because the fence could not be taken in time.", registry=r
        )
        self.round_errors = Counter(
            "relay_round_errors_total", "Rounds or lanes that ended in an unexpected error.", registry=r
        )
        self.lanes_lost = Counter("relay_lanes_lost_total", "Leases lost while working.", ["vendor"], registry=r)
        self.replaced_characters = Counter(
            "relay_replaced_characters_total",
            "Characters replaced by 〓 for lack of a Shift_JIS form.",
            ["account"],
            registry=r,
        )
        self.superseded = Counter(
            "relay_superseded_events_total",
            "Events that a later word replaced before they were sent.",
            ["account"],
            registry=r,
        )
        self.quota_left = Gauge("relay_quota_left_calls", "Calls left of the vendor's day.", ["login"], registry=r)
        self.quota_kept = Gauge(
            "relay_quota_kept_calls",
            "Of those, the calls kept back from data for opt-outs to come.",
            ["login"],
            registry=r,
        )
        self.database_up = Gauge("relay_database_up", "1 while Postgres answers.", registry=r)

    def create_at_zero(
        self,
        sources: Iterable[str],
        accounts: Iterable[str],
        logins: Iterable[tuple[str, str]],
        hosts: Iterable[str] = (),
    ) -> None:
        """Make every combination of labels exist at zero. `logins` are pairs of a login's name and its vendor's."""
        for host in hosts:
            self.breaker_open.labels(host)
            self.breaker_openings.labels(host)
        for limit in LIMITS:
            self.limits_met.labels(limit)
        for source in sources:
            self.opt_outs_unresolved.labels(source)
            self.opt_outs_refused.labels(source)
            for result in WEBHOOK_RESULTS:
                self.webhooks.labels(source, result)
        for account in accounts:
            self.pending.labels(account)
            self.replaced_characters.labels(account)
            self.superseded.labels(account)
            for operation in Operation:
                self.events.labels(account, operation)
                self.reported_failures.labels(account, operation)
            for kind in UNSETTLED_KINDS:
                self.oldest_unsettled.labels(account, kind)
        for login, vendor in logins:
            self._vendor_at_zero(vendor)
            self.settings_refused.labels(login)
            for reason in PAUSE_REASONS:
                self.lane_paused.labels(login, reason)

    def _vendor_at_zero(self, vendor: str) -> None:
        self.upload_seconds.labels(vendor)
        self.upload_bytes.labels(vendor)
        self.lanes_lost.labels(vendor)
        for outcome in OUTCOMES.values():
            self.uploads.labels(vendor, outcome)
        for result in LOGIN_RESULTS:
            self.logins.labels(vendor, result)
        for result in RECOVERY_RESULTS:
            self.recovered.labels(vendor, result)
        for result in TEMPLATE_RESULTS:
            self.template_checks.labels(vendor, result)
        for operation in Operation:
            self.rejections.labels(vendor, operation)
            for state in BatchState:
                self.batches.labels(vendor, operation, state)
