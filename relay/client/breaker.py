"""The breaker of one vendor host: when it fails again and again, nothing is sent for a while. Pure: no clock, no I/O.

Theory of operation. After `FAILURES_MAX` failures in a row the breaker opens, and nothing is sent for `OPEN_S`. Then
it is half-open: one probe goes up, a call or an upload that is due anyway. An answer closes the breaker, a failure
opens it for twice as long, up to `OPEN_MAX_S`.

    closed ── failures in a row ──► open ── time ──► half-open ── an answer ──► closed
                                     ▲                  │
                                     └── the probe fails ┘

What counts. A host that cannot be reached (`UNREACHED`) fails whoever asks, so every time counts. An answer of 5xx, or
none after the first byte (`BROKEN`), may as well be the doing of one file or one contract; and such a file is halved
until the line at fault is found, which takes its tries. So of those each *subject* (an operation of an account, or one
kind of call of a login) counts once in a row: one poisoned file never opens the breaker. Where the host serves several
logins one contract's failures, however many its accounts, are no reason to keep the others waiting: they count for one
until other logins have failed as well, `FAILURES_MAX` of them or, where there are fewer, all. A host that is down opens
it, because everybody fails there. Any other answer, be it a refusal, ends the row.

Who probes. The first who asks while it is half-open; askers come in the order of their urgency, opt-outs first. Who has
failed at a probe since it opened gives way for a moment to all who have not, so that broken contracts do not keep a
whole host shut, however many there are; and so does who was told to go ahead and had nothing to send after all.

`now` is seconds of any clock that only goes on.
"""

from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto
from typing import Final

FAILURES_MAX: Final = 5
"""So many failures in a row open the breaker: more than one vendor's hiccup makes, fewer than a lane's tries."""

OPEN_S: Final = 30.0
"""The first opening: a restart or a failover at the vendor is over by then."""

OPEN_MAX_S: Final = 300.0
"""The longest opening: opt-outs wait no longer than this for a host that has recovered."""

PROMISE_S: Final = 30.0
"""How long the probe is kept for who was told to go ahead: so long may cutting and spooling a large file take."""

PROBE_S: Final = 60.0
"""A probe without an answer for so long keeps others no more: a large file may take its ten minutes."""

GIVE_WAY_S: Final = 3.0
"""How much longer who failed at a probe waits: lanes are looked at every second."""


class State(StrEnum):
    """Whether anything is sent to the host."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Verdict(Enum):
    """What a call or an upload says about its host."""

    ANSWERED = auto()
    UNREACHED = auto()
    BROKEN = auto()
    NOTHING = auto()


@dataclass(frozen=True, slots=True)
class Leave:
    """The leave to send once, in whose name and about what; a probe has a number."""

    asker: str
    subject: str
    probe: int = 0


@dataclass(slots=True)
class _Probe:
    """Who may probe, or does so (`begun`), and until when that keeps others away."""

    asker: str
    until: float
    begun: bool = False


@dataclass(slots=True)
class Breaker:
    """One host's breaker. Every `Leave` that `begin` gives has to come back through `end`.

    `serves` is how many logins the host has, as far as is known.
    """

    serves: int = 1
    _unreached: int = 0
    _broken: dict[str, set[str]] = field(default_factory=dict)
    _open_s: float = OPEN_S
    _open_until: float | None = None
    _probe: _Probe | None = None
    _probes: int = 0
    _under_way: int = 0
    _give_way: dict[str, float] = field(default_factory=dict)

    def state(self, now: float) -> State:
        """Say how it stands."""
        if self._open_until is None:
            return State.CLOSED
        return State.OPEN if now < self._open_until else State.HALF_OPEN

    def next_try_s(self, now: float) -> float:
        """Say for how many seconds nothing at all is sent."""
        return 0.0 if self._open_until is None else max(0.0, self._open_until - now)

    def sends_nothing(self, now: float) -> bool:
        """Say whether nothing is sent, or only a probe under way; half-open without one the next upload goes up."""
        state = self.state(now)
        return state is State.OPEN or (state is State.HALF_OPEN and self._under_way > 0)

    def may_try(self, asker: str, now: float) -> bool:
        """Say whether there is a use in preparing something to send; of a half-open host the first is told so alone."""
        if self._open_until is None:
            return True
        if self._probe is not None and now < self._probe.until:
            return self._probe.asker == asker and not self._probe.begun
        if now < self._give_way.get(asker, self._open_until):
            return False
        if asker in self._give_way:  # nobody else wants to: a new turn begins
            self._give_way.clear()
        self._probe = _Probe(asker, now + PROMISE_S)
        return True

    def give_back(self, asker: str, now: float) -> None:
        """Say that there is nothing to send after all, so that others need not wait for it."""
        if self._probe is not None and self._probe.asker == asker and not self._probe.begun:
            self._probe = None
            self._give_way[asker] = now + GIVE_WAY_S

    def begin(self, asker: str, subject: str, now: float) -> Leave | None:
        """Give leave to send now, once; None while nothing is to be sent."""
        if not self.may_try(asker, now):
            return None
        if self._probe is None:
            return Leave(asker, subject)
        self._probe = _Probe(asker, now + PROBE_S, begun=True)
        self._probes += 1
        self._under_way += 1
        return Leave(asker, subject, self._probes)

    def end(self, leave: Leave, verdict: Verdict, now: float) -> None:
        """Say what came of a leave. Of what began before the breaker opened only an answer counts."""
        if leave.probe:
            self._under_way -= 1
        probing = self._probe is not None and self._probe.begun and leave.probe == self._probes
        match verdict:
            case Verdict.ANSWERED:
                self._close()
            case Verdict.NOTHING if probing:
                self._probe = None
            case Verdict.UNREACHED | Verdict.BROKEN if probing:
                self._give_way[leave.asker] = now
                self._open(min(self._open_s * 2, OPEN_MAX_S), now)
            case Verdict.UNREACHED | Verdict.BROKEN if self._open_until is None:
                self._count(leave, verdict, now)
            case _:
                pass

    def _count(self, leave: Leave, verdict: Verdict, now: float) -> None:
        if verdict is Verdict.UNREACHED:
            self._unreached += 1
        else:
            self._broken.setdefault(leave.asker, set()).add(leave.subject)
        if self._row() >= FAILURES_MAX:
            self._open(OPEN_S, now)

    def _row(self) -> int:
        """Say how many failures in a row count."""
        everybody = len(self._broken) >= min(FAILURES_MAX, self.serves)
        return self._unreached + (sum(map(len, self._broken.values())) if everybody else len(self._broken))

    def _open(self, seconds: float, now: float) -> None:
        self._open_s, self._open_until, self._probe = seconds, now + seconds, None
        for asker in self._give_way:
            self._give_way[asker] = self._open_until + GIVE_WAY_S

    def _close(self) -> None:
        self._unreached, self._open_until, self._probe = 0, None, None
        self._broken.clear()
        self._give_way.clear()
