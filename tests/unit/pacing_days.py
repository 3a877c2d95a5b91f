"""Days of a login on a virtual clock: which file goes up when, by the real pace and the real choice.

A file takes all that waits at one operation of one account. The vendor is never short of anything but calls.
"""

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from relay.batches import AGAIN_MAX_S, Candidate, Day, Pace, choose
from relay.batches.pacing import DAY_S
from relay.events import Operation


@dataclass(slots=True)
class Stream:
    """One operation of one account: what waits there since when, and until when it is kept back."""

    account: str
    operation: Operation
    cadence_s: float
    arrivals: list[float]
    waiting: list[float] = field(default_factory=list)
    kept_until: float = 0.0

    def take(self, now: float) -> None:
        """Let arrive what has come."""
        while self.arrivals and self.arrivals[0] <= now:
            self.waiting.append(heapq.heappop(self.arrivals))

    def due(self, now: float) -> bool:
        """Whether a file is due."""
        return bool(self.waiting) and now >= self.waiting[0] + self.cadence_s

    def next_moment(self, now: float) -> float:
        """When something changes here by itself."""
        moments = [self.arrivals[0]] if self.arrivals else []
        if self.waiting:
            moments += [self.waiting[0] + self.cadence_s, self.kept_until]
        return min((moment for moment in moments if moment > now), default=float("inf"))


@dataclass(frozen=True, slots=True)
class Gone:
    """A file that went up: when, whose, since when it had been due, and the calls left afterwards."""

    at: float
    stream: tuple[str, Operation]
    due_since: float
    left: int


@dataclass(slots=True)
class Days:
    """Some days of one login. `refused` are calls that never reached the vendor and are given back."""

    pace: Pace
    streams: Sequence[Stream]
    settle_s: float = 60.0
    began_s: float = 0.0
    fails: set[int] = field(default_factory=set)
    gone: list[Gone] = field(default_factory=list)
    short: list[float] = field(default_factory=list)

    def run(self, until_s: float) -> list[Gone]:
        """Run from midnight on; returns what went up."""
        now, day, calls = self.began_s, Day(0, DAY_S).later(self.began_s), 0
        while now < until_s:
            for stream in self.streams:
                stream.take(now)
            pick = choose([self._candidate(stream, now) for stream in self.streams if stream.due(now)]).pick
            if pick is None:
                soonest = min((stream.next_moment(now) for stream in self.streams), default=until_s)
                day, now = day.later(soonest - now), soonest
                continue
            stream = next(s for s in self.streams if (s.account, s.operation) == (pick.account, pick.operation))
            wait_s = min(self.pace.wait_s(day, opt_out=pick.operation.opt_out), AGAIN_MAX_S)
            if wait_s:
                for kept in self.streams:
                    if kept.operation.opt_out == stream.operation.opt_out:
                        kept.kept_until = max(kept.kept_until, now + wait_s)
                continue
            assert day.calls < self.pace.calls_per_day, "the day's calls are overdrawn"
            calls += 1
            if calls in self.fails:
                day = replace(day.called(), calls=day.calls)
                stream.kept_until = now + 15
                continue
            day = day.called()
            self.gone.append(
                Gone(now, (stream.account, stream.operation), stream.waiting[0] + stream.cadence_s, self.pace.left(day))
            )
            stream.waiting.clear()
            day, now = day.later(self.settle_s), now + self.settle_s
        return self.gone

    @staticmethod
    def _candidate(stream: Stream, now: float) -> Candidate:
        age_s = now - stream.waiting[0]
        return Candidate("login", stream.account, stream.operation, stream.kept_until > now, due=True, age_s=age_s)


def streams(
    accounts: Iterable[tuple[str, float, float]], arrivals: dict[tuple[str, Operation], list[float]]
) -> list[Stream]:
    """Make the streams of accounts, each told with the cadences of its opt-outs and of its data."""
    return [
        Stream(
            name, operation, opt_outs_s if operation.opt_out else data_s, sorted(arrivals.get((name, operation), []))
        )
        for name, opt_outs_s, data_s in accounts
        for operation in Operation
    ]
