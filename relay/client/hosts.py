"""The vendors' hosts as this process sees them: a breaker for each, told in metrics and logs."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

from relay.batches import Busy
from relay.client.breaker import Breaker, Leave, State, Verdict
from relay.log import logger
from relay.metrics import Metrics
from relay.settings import Login

log = logger(__name__)

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class HostState:
    """How a login's host stands in this process; nothing is sent to it for `next_try_s` seconds."""

    state: State = State.CLOSED
    next_try_s: float = 0.0


def host_of(login: Login) -> str:
    """Name a login's host: scheme, name and, where it is not the scheme's own, port of its base URL."""
    return _host(login.base_url)


def _host(url: str) -> str:
    parts = urlsplit(url)
    name = parts.hostname or ""
    name = f"[{name}]" if ":" in name else name
    port = "" if parts.port in (None, _PORTS.get(parts.scheme)) else f":{parts.port}"
    return f"{parts.scheme}://{name}{port}"


@dataclass(slots=True)
class Visit:
    """One call or upload to a host. Without a word it says nothing about the host."""

    verdict: Verdict = Verdict.NOTHING

    def answered(self, status: int, *, understood: bool = False) -> None:
        """The host has answered with this HTTP status. A 5xx that says what is wrong with the request is an answer."""
        fine = understood or status < HTTPStatus.INTERNAL_SERVER_ERROR
        self.verdict = Verdict.ANSWERED if fine else Verdict.BROKEN

    def unanswered(self, *, sent: bool) -> None:
        """The host has not answered: it was not even reached, or something had been `sent` already."""
        self.verdict = Verdict.BROKEN if sent else Verdict.UNREACHED


class Hosts:
    """The breakers of all hosts of a process."""

    def __init__(
        self, metrics: Metrics, logins: Iterable[Login] = (), *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Know these logins from the start, and others from when they first come."""
        self._metrics = metrics
        self._clock = clock
        self._breakers: dict[str, Breaker] = {}
        self._served: dict[str, set[str]] = {}
        for login in logins:
            self._breaker(login)

    def state(self, login: Login) -> HostState:
        """Say how a login's host stands."""
        breaker, now = self._breaker(login), self._clock()
        return HostState(breaker.state(now), breaker.next_try_s(now))

    def may_try(self, login: Login) -> bool:
        """Say whether there is a use in preparing something to send; see `Breaker.may_try`."""
        return self._breaker(login).may_try(login.name, self._clock())

    def give_back(self, login: Login) -> None:
        """Say that a login which may try has nothing to send; see `Breaker.give_back`."""
        self._breaker(login).give_back(login.name, self._clock())

    def certified(self, url: str, expires_at: float) -> None:
        """Tell when the certificate expires that a host has shown, in seconds of the world's clock."""
        left = self._metrics.certificate_expiry.labels(_host(url))
        left.set_function(lambda: expires_at - time.time())  # which goes on between uploads

    @contextmanager
    def visit(self, login: Login, subject: str) -> Iterator[Visit | Busy]:
        """Send something within the block and say what came of it; `Busy` where nothing may be sent.

        `subject` is what one file at fault is told apart by, within the login.
        """
        breaker = self._breaker(login)
        before = breaker.state(self._clock())
        leave = breaker.begin(login.name, f"{login.name} {subject}", self._clock())
        if leave is None:
            next_try_s = breaker.next_try_s(self._clock())
            yield Busy("nothing was sent: the vendor's host has failed several times in a row", next_try_s or None)
            return
        if before is State.HALF_OPEN:
            log.info("breaker_half_open", host=host_of(login), login=login.name)
        visit = Visit()
        try:
            yield visit
        finally:
            self._end(login, breaker, leave, visit.verdict)

    def _end(self, login: Login, breaker: Breaker, leave: Leave, verdict: Verdict) -> None:
        host, before = host_of(login), breaker.state(self._clock())
        breaker.end(leave, verdict, self._clock())
        after = breaker.state(self._clock())
        if after is State.OPEN and before is not State.OPEN:
            self._metrics.breaker_openings.labels(host).inc()
            log.warning("breaker_opened", host=host, login=login.name, next_try_s=breaker.next_try_s(self._clock()))
        elif after is State.CLOSED and before is not State.CLOSED:
            log.info("breaker_closed", host=host, login=login.name)

    def _know(self, host: str) -> Breaker:
        breaker = self._breakers[host] = Breaker()
        # which goes back with time, though nobody may ask: another replica may have all the work by then
        self._metrics.breaker_open.labels(host).set_function(lambda: breaker.sends_nothing(self._clock()))
        return breaker

    def _breaker(self, login: Login) -> Breaker:
        host = host_of(login)
        breaker, served = self._breakers.get(host) or self._know(host), self._served.setdefault(host, set())
        served.add(login.name)
        breaker.serves = len(served)
        return breaker
