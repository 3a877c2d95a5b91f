"""The gauges of how things stand, set from what the store tells."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping

from prometheus_client import Gauge

from relay import vendors
from relay.metrics import KINDS, LANE_STATES, PAUSE_REASONS, WAIT_REASONS, Metrics
from relay.settings import Settings
from relay.store import DeadLetters, Postponed, ToldLane, ToldLog, Unsettled

POSTPONED = {"": "retry", "record": "record", "quota": "quota"}
"""What a cursor that waits for its next try is called among the reasons of lanes; the first that a lane has is told."""


class Gauges:
    """Sets the gauges. `fingerprints` are those of the logins' settings, by login."""

    def __init__(self, settings: Settings, metrics: Metrics, fingerprints: Mapping[str, str]) -> None:
        self._settings = settings
        self._metrics = metrics
        self._fingerprints = fingerprints
        self._sources = set(settings.sources)  # and those that the settings name no longer but that left something
        self._accounts = {metrics.account(name) for name in settings.accounts}  # and "(other)", once there is any

    def set_cadences(self) -> None:
        """Set how long events may wait for more, which only the settings say."""
        longest: list[tuple[str, str, float]] = []
        for name, account in self._settings.accounts.items():
            login = self._settings.login_of(account)
            for operation in login.operations:
                seconds = vendors.flush_after_s(login, account, operation)
                longest.append((name, _kind(opt_out=operation.opt_out), seconds))
        self._set(self._metrics.flush_after, longest, max)

    def set_unsettled(self, unsettled: Iterable[Unsettled]) -> None:
        """Set what waits, and how old the oldest is that is not done with."""
        pending: Counter[str] = Counter()
        ages: list[tuple[str, str, float]] = []
        for entry in unsettled:
            pending[self._metrics.account(entry.account)] += entry.pending
            ages.append((entry.account, _kind(opt_out=entry.operation.opt_out), entry.oldest_s or 0.0))
        self._set(self._metrics.oldest_unsettled, ages, max)
        for label in self._accounts:
            self._metrics.pending.labels(label).set(pending[label])

    def set_dead_letters(self, dead: Mapping[str, DeadLetters]) -> None:
        """Set how many events nobody will send unless somebody acts."""
        opt_out, data = KINDS
        told = [(name, opt_out, float(letters.opt_outs)) for name, letters in dead.items()]
        told += [(name, data, float(letters.data)) for name, letters in dead.items()]
        self._set(self._metrics.dead_letters, told, lambda have, more: have + more)

    def set_unresolved(self, unresolved: Mapping[str, int]) -> None:
        """Set how many opt-outs wait for an address, by source."""
        self._sources.update(unresolved)
        for source in self._sources:
            self._metrics.opt_outs_unresolved.labels(source).set(unresolved.get(source, 0))

    def set_lanes(self, lanes: Mapping[str, ToldLane], postponed: Iterable[Postponed]) -> None:
        """Set what the logins do, what keeps them from it, and how many calls of the day they have."""
        waits: dict[str, set[str]] = defaultdict(set)
        for cursor in postponed:
            if account := self._settings.accounts.get(cursor.account):
                waits[account.login].add(cursor.reason)
        standing = Counter(lane_stands(lanes.get(login), waits[login]) for login in self._settings.logins)
        for state, reasons in LANE_STATES.items():
            for reason in reasons:
                self._metrics.lanes.labels(state, reason).set(standing[state, reason])
        for lane in lanes.values():
            self._set_lane(lane)

    def set_log(self, log: ToldLog) -> None:
        """Set how large the log is, and how far it goes back."""
        self._metrics.log_bytes.set(log.bytes)
        self._metrics.log_events.set(log.events)
        self._metrics.log_oldest.set(log.oldest_s)

    def _set_lane(self, lane: ToldLane) -> None:
        for reason in PAUSE_REASONS:
            self._metrics.lane_paused.labels(lane.login, reason).set(reason == lane.pause_reason)
        kept_out = lane.refused_fingerprints + lane.refused_data_fingerprints
        refused = self._fingerprints.get(lane.login) in kept_out
        self._metrics.settings_refused.labels(lane.login).set(refused)
        pace = vendors.pace(self._settings.logins[lane.login], self._settings.accounts_of(lane.login))
        if pace is not None:
            left = pace.left(lane.day)
            self._metrics.quota_day.labels(lane.login).set(pace.calls_per_day)
            self._metrics.quota_left.labels(lane.login).set(left)
            self._metrics.quota_kept.labels(lane.login).set(min(left, pace.kept(lane.day)))

    def _set(
        self, gauge: Gauge, told: Iterable[tuple[str, str, float]], together: Callable[[float, float], float]
    ) -> None:
        """Set a gauge by account and kind; what goes by one label is put together, what is not told is nought."""
        values: dict[tuple[str, str], float] = {}
        for account, kind, value in told:
            key = (self._metrics.account(account), kind)
            values[key] = together(values[key], value) if key in values else value
        self._accounts.update(label for label, _ in values)
        for label in self._accounts:
            for kind in KINDS:
                gauge.labels(label, kind).set(values.get((label, kind), 0.0))


def lane_stands(lane: ToldLane | None, postponed: Iterable[str]) -> tuple[str, str]:
    """Say what a login's lane does and why, by the labels of `relay_lanes`; None is a lane that was never made.

    `postponed` has the reasons for which files of it wait for their next try.
    """
    if lane is None:
        return "idle", ""
    if lane.pause_reason is not None:
        return "paused", lane.pause_reason
    if lane.leased:
        return "working", ""
    if lane.wait_s > 0:
        return "waiting", lane.wait_reason if lane.wait_reason in WAIT_REASONS else "retry"
    waits = set(postponed)
    return next((("waiting", reason) for cause, reason in POSTPONED.items() if cause in waits), ("idle", ""))


def _kind(*, opt_out: bool) -> str:
    return KINDS[0] if opt_out else KINDS[1]
