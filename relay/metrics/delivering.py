"""Metrics of delivery: cuts, batches, uploads, what vendors said, and how long it took."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from relay.batches import OUTCOMES, BatchState
from relay.events import Operation
from relay.metrics.buckets import CONFIRMED_SECONDS, STAGE_SECONDS
from relay.metrics.bulk import BulkHistogram
from relay.metrics.labels import LOGIN_RESULTS, RECOVERY_RESULTS, STAGES, TEMPLATE_RESULTS


class Delivering:
    """What goes up, and what comes of it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._of_batches(registry)
        self._of_vendors(registry)
        self._of_rounds(registry)

    def _of_batches(self, registry: CollectorRegistry) -> None:
        self.batches = Counter(
            "relay_batches_total",
            "Batches that entered a state.",
            ["vendor", "operation", "state"],
            registry=registry,
        )
        self.superseded = Counter(
            "relay_superseded_events_total",
            "Events that a later word replaced before they were sent.",
            ["vendor", "operation"],
            registry=registry,
        )
        self.confirmed_seconds = BulkHistogram(
            "relay_confirmed_seconds",
            "Seconds from the receipt of a webhook to its line's confirmation, for each event.",
            ["vendor", "operation"],
            bounds=CONFIRMED_SECONDS,
            registry=registry,
        )
        self.stage_seconds = Histogram(
            "relay_stage_seconds",
            "Seconds that a batch spends in a stage: pending, cut, spool, upload, settle; waiting between two uploads.",
            ["stage", "vendor"],
            buckets=STAGE_SECONDS,
            registry=registry,
        )

    def _of_vendors(self, registry: CollectorRegistry) -> None:
        self.uploads = Counter(
            "relay_uploads_total", "Uploads by what they came to.", ["vendor", "outcome"], registry=registry
        )
        self.upload_bytes = Counter(
            "relay_upload_bytes_total", "Bytes of upload bodies sent.", ["vendor"], registry=registry
        )
        self.rejections = Counter(
            "relay_rejections_total", "Lines that a vendor refused.", ["vendor", "operation"], registry=registry
        )
        self.reported_failures = Counter(
            "relay_reported_failures_total",
            "Lines that a report mail counts as failed, as operators recorded it.",
            ["vendor", "operation"],
            registry=registry,
        )
        self.recovered = Counter(
            "relay_recovered_uploads_total",
            "Uploads without an answer for which the vendor's error record was looked up, by what came of it.",
            ["vendor", "result"],
            registry=registry,
        )
        self.logins = Counter(
            "relay_logins_total", "Calls for a token by result.", ["vendor", "result"], registry=registry
        )
        self.template_checks = Counter(
            "relay_template_checks_total",
            "Comparisons of accounts' columns with the vendor's.",
            ["vendor", "result"],
            registry=registry,
        )
        self.breaker_open = Gauge(
            "relay_breaker_open",
            "1 while this process sends nothing to a vendor's host, or only a probe under way, because it fails.",
            ["host"],
            registry=registry,
        )
        self.breaker_openings = Counter(
            "relay_breaker_openings_total",
            "How often that began, or was prolonged by a probe.",
            ["host"],
            registry=registry,
        )
        self.certificate_expiry = Gauge(
            "relay_certificate_expiry_seconds",
            "Seconds until a vendor's TLS certificate expires, as this process last saw it; absent until it has.",
            ["host"],
            registry=registry,
        )

    def _of_rounds(self, registry: CollectorRegistry) -> None:
        self.fence_skipped = Counter(
            "relay_fence_skipped_total",
            "Rounds skipped because the fence could not be taken in time.",
            registry=registry,
        )
        self.round_errors = Counter(
            "relay_round_errors_total", "Rounds or lanes that ended in an unexpected error.", registry=registry
        )
        self.lanes_lost = Counter("relay_lanes_lost_total", "Leases lost while working.", ["vendor"], registry=registry)

    def delivering_at_zero(self, vendors: Iterable[str], hosts: Iterable[str]) -> None:
        """Make all series exist, but for what nobody knows yet."""
        for host in hosts:
            self.breaker_open.labels(host)
            self.breaker_openings.labels(host)
        for vendor in vendors:
            self._vendor_at_zero(vendor)
            for operation in Operation:
                self._operation_at_zero(vendor, operation)

    def _vendor_at_zero(self, vendor: str) -> None:
        self.upload_bytes.labels(vendor)
        self.lanes_lost.labels(vendor)
        for stage in STAGES:
            self.stage_seconds.labels(stage, vendor)
        for outcome in OUTCOMES.values():
            self.uploads.labels(vendor, outcome)
        for result in LOGIN_RESULTS:
            self.logins.labels(vendor, result)
        for result in RECOVERY_RESULTS:
            self.recovered.labels(vendor, result)
        for result in TEMPLATE_RESULTS:
            self.template_checks.labels(vendor, result)

    def _operation_at_zero(self, vendor: str, operation: Operation) -> None:
        self.superseded.labels(vendor, operation)
        self.confirmed_seconds.at_zero(vendor, operation)
        self.rejections.labels(vendor, operation)
        self.reported_failures.labels(vendor, operation)
        for state in BatchState:
            self.batches.labels(vendor, operation, state)
