"""How often a source may send: a token bucket. Pure: the time is an argument, seconds of a clock that never goes back.

Theory of operation. The bucket holds at most `burst` tokens and gains `per_s` of them a second. A webhook costs one. A
request for many costs as many as it holds, but is taken whenever there is one token: what is missing becomes debt,
which holds up the next ones, so that even a request larger than the bucket is taken some time. In any t seconds at
most burst + per_s * t webhooks get through, and what the last request had beyond its one token.
"""

from dataclasses import dataclass, field

A_TOKEN = 0.999
"""A token is there from here on: fractions of seconds do not add up exactly, and who waited as told must get in."""


@dataclass(slots=True)
class Bucket:
    """The tokens of one source in one process; full at first."""

    per_s: float
    burst: int
    _tokens: float = field(init=False)
    _at_s: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self._tokens = float(self.burst)

    def take(self, now_s: float) -> float | None:
        """Take a token. None if there was one, else in how many seconds there will be."""
        self._tokens = min(float(self.burst), self._tokens + (now_s - self._at_s) * self.per_s)
        self._at_s = now_s
        if self._tokens < A_TOKEN:
            return (1 - self._tokens) / self.per_s
        self._tokens -= 1
        return None

    def charge(self, tokens: int) -> None:
        """Take tokens whether they are there or not: for what else is in a request for which one was taken."""
        self._tokens -= tokens
