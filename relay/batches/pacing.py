"""Pacing: how a login's calls are spread over the vendor's day, so that opt-outs never find them spent.

Theory of operation. The vendor takes so many calls a day and counts anew at 00:00 in Japan. Opt-outs are given the
right to one call every `spacing_s` seconds until the end of the day: so many calls are *kept* for them, fewer with
every second that passes. Neither opt-outs nor data may go below what is kept, hence of the calls that are left

    left >= floor(seconds left / spacing)

holds all day, and whoever finds both sides equal waits `spacing_s` seconds at most for the right side to fall. What
opt-outs leave unused becomes free for data with every `spacing_s`; data keeps some more back, for opt-outs that come
many at once, and in the last minutes of the day takes what is left.

When less is left than is kept (the limit was lowered, somebody else uses the login, an earlier relay did not pace), the
rest is spread evenly: an opt-out goes when so much time has passed since the last call as each of those left has.

Only waiting is decided here; that a spent day is never overdrawn is Postgres's to see to, which counts.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

DAY_S = 86_400.0
"""Japan has no summer time."""

OPT_OUTS_SHARE = 0.6
"""The share of a day's calls that is kept for opt-outs where these could use more: on a shared server one in 600 s."""

BURST_SHARE = 0.05
"""The share of a whole day's calls that data leaves besides, for opt-outs of many accounts at once."""

LAST_HOUR_S = 3_600.0
"""At most so long before the day ends data may take what is left: an opt-out then waits for no longer than the end."""

AGAIN_MAX_S = 600.0
"""Nobody waits longer before the calls are counted again: some that never reached the vendor may have been given
back."""

NEW_DAY_GRACE_S = 30.0
"""Who waits for a new day begins it so much later: the vendor's clock may be behind."""

MET_SHARE = 0.5
"""Where the vendor took no more before the limit, as little as this share of the limit is believed on the days after:
its answer may have had another reason, too."""


@dataclass(frozen=True, slots=True)
class Day:
    """How a login stands in the vendor's day.

    `calls` were made, `left_s` seconds are left, the last call was `since_call_s` seconds ago. `met` is after how many
    calls the vendor took no more, where it has lately said so.
    """

    calls: int
    left_s: float
    since_call_s: float = math.inf
    met: int | None = None

    def later(self, seconds: float) -> "Day":
        """The same day so many seconds later, with no call between; a new one begins with none made."""
        if seconds < self.left_s:
            return replace(self, left_s=self.left_s - seconds, since_call_s=self.since_call_s + seconds)
        into = (seconds - self.left_s) % DAY_S
        return replace(self, calls=0, left_s=DAY_S - into, since_call_s=self.since_call_s + seconds)

    def called(self) -> "Day":
        """The same moment after one more call."""
        return replace(self, calls=self.calls + 1, since_call_s=0.0)


@dataclass(frozen=True, slots=True)
class Pace:
    """How a login's calls are spread: its calls a day, and how far apart opt-outs may go at the worst, in seconds."""

    calls_per_day: int
    spacing_s: float

    def limit(self, day: Day) -> int:
        """The calls of a day that are counted on: fewer than the settings say where the vendor took fewer of late."""
        if day.met is None:
            return self.calls_per_day
        believed = max(day.met, math.ceil(self.calls_per_day * MET_SHARE))
        return min(self.calls_per_day, believed)

    def left(self, day: Day) -> int:
        """The calls left of the day."""
        return max(0, self.limit(day) - day.calls)

    def kept(self, day: Day) -> int:
        """The calls that data may not have now: for opt-outs to come."""
        if day.left_s <= min(self.spacing_s, LAST_HOUR_S):
            return 0
        return self._kept_at_least(day) + math.ceil(self.calls_per_day * BURST_SHARE * day.left_s / DAY_S)

    def may_go(self, day: Day, *, opt_out: bool) -> bool:
        """Say whether a file may go up now."""
        left = self.left(day)
        if left < 1:
            return False
        if not opt_out:
            return left - 1 >= self.kept(day)
        return left - 1 >= self._kept_at_least(day) or day.since_call_s * left >= day.left_s

    def wait_s(self, day: Day, *, opt_out: bool) -> float:
        """Say in how many seconds a file may go up, if nothing else does until then; 0 if it may now.

        It is rounded up to whole seconds. Who would have to wait for the next day is told its beginning.
        """
        if self.may_go(day, opt_out=opt_out):
            return 0.0
        # The longer it waits, the more it may: the first whole second at which it does.
        low, high = 0, math.ceil(day.left_s)
        while high - low > 1:
            middle = (low + high) // 2
            if self.may_go(day.later(middle), opt_out=opt_out):
                high = middle
            else:
                low = middle
        return float(high) if high < day.left_s else day.left_s + NEW_DAY_GRACE_S

    def _kept_at_least(self, day: Day) -> int:
        return math.floor(day.left_s / self.spacing_s)


def pace_of(calls_per_day: int | None, opt_outs_after_s: Iterable[float]) -> Pace | None:
    """Make the pace of a login; None where the vendor counts no calls.

    `opt_outs_after_s` says for each operation of each account that opts out how often a file of it comes at most, in
    seconds: no more calls are kept than all of them together can use.
    """
    if calls_per_day is None:
        return None
    files_per_s = sum(1 / max(after_s, 1.0) for after_s in opt_outs_after_s)
    fits_s = DAY_S / (OPT_OUTS_SHARE * calls_per_day)
    return Pace(calls_per_day, max(fits_s, 1 / files_per_s) if files_per_s else fits_s)


def going_up(pace: Pace | None, day: Day, files: Sequence[tuple[bool, float]], between_s: float) -> list[float]:
    """Say in how many seconds each of some files goes up, in their order, where nothing else comes.

    Each is told by whether it opts out, and by the seconds in which it may go at the soonest. Between files the lane
    waits `between_s`. The time that uploads themselves take is left out.
    """
    told: list[float] = []
    now = 0.0
    for opt_out, soonest_s in files:
        at = max(now, soonest_s)
        day, now = day.later(at - now), at
        while pace is not None and (wait_s := pace.wait_s(day, opt_out=opt_out)):
            day, now = day.later(wait_s), now + wait_s
        told.append(now)
        day = day.called().later(between_s)
        now += between_s
    return told
