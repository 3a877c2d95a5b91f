"""Metrics of receiving: webhooks, limits, connections, appends."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from relay.events import Operation
from relay.metrics.buckets import ANSWER_SECONDS, APPEND_SECONDS, GROUP_EVENTS
from relay.metrics.labels import LIMITS, WEBHOOK_RESULTS


class Receiving:
    """What comes in."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.webhooks = Counter(
            "relay_webhooks_total", "Webhooks by source and result.", ["source", "result"], registry=registry
        )
        self.webhook_seconds = Histogram(
            "relay_webhook_seconds",
            "Seconds from the arrival of a webhook request to its answer.",
            buckets=ANSWER_SECONDS,
            registry=registry,
        )
        self.limits_met = Counter(
            "relay_limits_met_total",
            "Requests and connections refused or ended because of a limit.",
            ["limit"],
            registry=registry,
        )
        self.malformed = Counter(
            "relay_malformed_requests_total",
            "Requests that are no HTTP, or whose bodies end in none.",
            registry=registry,
        )
        self.connections = Gauge("relay_connections", "Open connections on the port for webhooks.", registry=registry)
        self.receiving_bytes = Gauge(
            "relay_receiving_bytes", "Bytes of request bodies held at this moment.", registry=registry
        )
        self.opt_outs_unresolved = Gauge(
            "relay_opt_outs_unresolved",
            "Opt-outs that name a customer by an id for which no address is known yet, less the dismissed.",
            ["source"],
            registry=registry,
        )
        self.opt_outs_refused = Counter(
            "relay_opt_outs_refused_total",
            "Opt-outs refused (no readable address, a reused id, not allowed): their senders have to mend them.",
            ["source"],
            registry=registry,
        )
        self.events = Counter("relay_events_total", "Events appended.", ["vendor", "operation"], registry=registry)
        self.replaced_characters = Counter(
            "relay_replaced_characters_total",
            "Characters replaced by 〓 for lack of a Shift_JIS form.",
            ["vendor"],
            registry=registry,
        )
        self.append_seconds = Histogram(
            "relay_append_seconds",
            "Seconds that one append to the log takes.",
            buckets=APPEND_SECONDS,
            registry=registry,
        )
        self.append_size = Histogram(
            "relay_append_batch_size", "Events in one append.", buckets=GROUP_EVENTS, registry=registry
        )
        self.append_waiting = Gauge(
            "relay_append_waiting_requests", "Requests that wait for the next append.", registry=registry
        )

    def receiving_at_zero(self, sources: Iterable[str], vendors: Iterable[str]) -> None:
        """Make all series exist."""
        for limit in LIMITS:
            self.limits_met.labels(limit)
        for source in sources:
            self.opt_outs_unresolved.labels(source)
            self.opt_outs_refused.labels(source)
            for result in WEBHOOK_RESULTS:
                self.webhooks.labels(source, result)
        for vendor in vendors:
            self.replaced_characters.labels(vendor)
            for operation in Operation:
                self.events.labels(vendor, operation)
