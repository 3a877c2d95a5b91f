"""Every metric that relay exposes: base units, bounded labels, all series made at zero.

Account labels stand on gauges only, and for so many accounts as have series of their own; vendors, logins, hosts and
sources come from the settings. Nothing is queried during a scrape: gauges are set by the sampler (`relay.status`),
counters where things happen.
"""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, disable_created_metrics

from relay.metrics.bulk import BulkHistogram
from relay.metrics.delivering import Delivering
from relay.metrics.labels import (
    ACCOUNTS_MAX,
    ACTS,
    KINDS,
    LIMITS,
    LOGIN_RESULTS,
    OTHER,
    PAUSE_REASONS,
    ROLES,
    STAGES,
    WAIT_REASONS,
    WEBHOOK_RESULTS,
    ActName,
    Labels,
)
from relay.metrics.receiving import Receiving
from relay.metrics.running import Running
from relay.metrics.standing import LANE_STATES, Standing
from relay.settings import Settings

__all__ = [
    "ACCOUNTS_MAX",
    "ACTS",
    "KINDS",
    "LANE_STATES",
    "LIMITS",
    "LOGIN_RESULTS",
    "OTHER",
    "PAUSE_REASONS",
    "ROLES",
    "STAGES",
    "WAIT_REASONS",
    "WEBHOOK_RESULTS",
    "ActName",
    "BulkHistogram",
    "Metrics",
]

# else a second series stands beside each counter and histogram, which tells when the process started
disable_created_metrics()  # type: ignore[no-untyped-call] # the library gives it no types


class Metrics(Labels, Receiving, Delivering, Standing, Running):
    """relay's collectors in a registry of their own, so that two services in one process (tests) do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        Labels.__init__(self)
        Running.__init__(self, self.registry)
        Receiving.__init__(self, self.registry)
        Delivering.__init__(self, self.registry)
        Standing.__init__(self, self.registry)

    def create_at_zero(
        self, settings: Settings, hosts: Iterable[str] = (), *, accounts_max: int = ACCOUNTS_MAX
    ) -> None:
        """Make every combination of labels exist at zero. `hosts` are the vendors', by `relay.client.host_of`."""
        vendors = list(dict.fromkeys(login.vendor for login in settings.logins.values()))
        accounts = self.know(settings, accounts_max)
        self.running_at_zero()
        self.receiving_at_zero(settings.sources, vendors)
        self.delivering_at_zero(vendors, hosts)
        self.standing_at_zero(accounts, settings)
