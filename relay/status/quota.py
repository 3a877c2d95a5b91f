"""How a login stands in the vendor's day, and who waits for its calls, in words. Pure."""

from relay.batches import Day, Pace
from relay.status import answers
from relay.store import ToldLane


def quota(pace: Pace | None, lane: ToldLane | None) -> answers.Quota:
    """Tell the calls of the day; `lane` is None where the login has not worked yet."""
    day = Day(0, 0.0) if lane is None else lane.day
    if pace is None:
        return answers.Quota(calls_today=day.calls, per_day=None)
    left = pace.left(day)
    kept = 0 if lane is None else min(left, pace.kept(day))
    told = [] if lane is None or pace.may_go(day, opt_out=False) else [kept_back(pace, day, opt_out=False)]
    if day.met is not None and pace.limit(day) < pace.calls_per_day:
        told.append(
            f"of late the vendor took no more after {day.met} of {pace.calls_per_day} calls: somebody else may use the"
            f" login, too, so that {pace.limit(day)} are counted on"
        )
    return answers.Quota(
        calls_today=day.calls,
        per_day=pace.calls_per_day,
        left=left,
        kept_for_opt_outs=kept,
        why="; ".join(told) or None,
    )


def kept_back(pace: Pace, day: Day, *, opt_out: bool) -> str:
    """Say why an operation gets no call of the day yet."""
    left, limit = pace.left(day), pace.limit(day)
    calls = f"the day's {limit} call{'s' if limit > 1 else ''}"
    if not left:
        return f"{calls} {'are' if limit > 1 else 'is'} spent"
    are = f"{left} of {calls} {'are' if left > 1 else 'is'} left"
    return f"kept back: {are}, spread over the rest of the day" if opt_out else f"kept back: {are}, kept for opt-outs"
