"""Metrics of the process: what it is, whether it is ready, its event loop, its connections and its secrets."""

import platform

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
from relay.metrics.buckets import SHORT_SECONDS
from relay.metrics.labels import CONNECTION_STATES, POOLS, ROLES


class Running:
    """How this process does."""

    def __init__(self, registry: CollectorRegistry) -> None:
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        Info("relay_build", "relay's version and Python's.", registry=registry).info(
            {"version": __version__, "python": platform.python_version()}
        )
        self._of_process(registry)
        self._of_database(registry)

    def _of_process(self, registry: CollectorRegistry) -> None:
        self.ready = Gauge("relay_ready", "1 while /readyz says that this process is ready.", registry=registry)
        self.role = Gauge("relay_role", "1 for each role that this process has.", ["role"], registry=registry)
        self.loop_lag = Histogram(
            "relay_event_loop_lag_seconds",
            "Seconds that the event loop comes late to what is due, looked at twice a second.",
            buckets=SHORT_SECONDS,
            registry=registry,
        )
        self.secret_age = Gauge(
            "relay_secret_age_seconds",
            "Seconds since the file was changed that holds a secret of the settings, by the secret's path there.",
            ["secret"],
            registry=registry,
        )

    def _of_database(self, registry: CollectorRegistry) -> None:
        self.database_up = Gauge("relay_database_up", "1 while Postgres answers.", registry=registry)
        self.database_connections = Gauge(
            "relay_database_connections",
            "Open connections to Postgres by what they are for (work, or append alone) and whether they are used.",
            ["pool", "state"],
            registry=registry,
        )
        self.database_connections_max = Gauge(
            "relay_database_connections_max", "Connections that there may be.", ["pool"], registry=registry
        )
        self.database_wait = Histogram(
            "relay_database_wait_seconds",
            "Seconds of waiting for a connection, opening it included.",
            ["pool"],
            buckets=SHORT_SECONDS,
            registry=registry,
        )
        self.database_errors = Counter(
            "relay_database_errors_total",
            "Statements and transactions that did not find Postgres, or that it could not take.",
            ["pool"],
            registry=registry,
        )

    def running_at_zero(self) -> None:
        """Make all series exist."""
        for role in ROLES:
            self.role.labels(role)
        for pool in POOLS:
            self.database_connections_max.labels(pool)
            self.database_wait.labels(pool)
            self.database_errors.labels(pool)
            for state in CONNECTION_STATES:
                self.database_connections.labels(pool, state)
