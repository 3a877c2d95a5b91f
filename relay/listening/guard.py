"""What the connections of one port may cost together, and who goes first when there are too many."""

import asyncio
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

from relay.metrics import Metrics
from relay.settings import Process

IDLE_TIMEOUT_S = 75.0
"""A connection may rest this long between two requests: longer than what proxies keep unused connections for (nginx and
AWS 60 s), so that it is they who close, and no request meets a connection that closes at that moment."""

RESTED_MIN_S = 1.0
"""A connection that has said nothing for so long may be closed for a new one; before, a request may be on its way."""

ANSWER_TIMEOUT_S = 30
"""An answer that its receiver does not fetch for so long is dropped with its connection. Ours are small: few wait."""

FAREWELL_S = 5.0
"""Who is refused before the end of the body gets this long to send the rest of it and to fetch the answer: 20 MB on a
line of 32 Mbit/s. Whoever is not done then does not listen."""

TURNED_AWAY_MAX = 100
"""So many that were turned away may at the same time hear why. The others are cut off, and learn it that way."""


@dataclass(frozen=True, slots=True)
class SocketLimits:
    """The limits of one port: open connections, and of each request's head (request line and headers) size and time.

    `idle_timeout_s` is between requests, `answer_timeout_s` for fetching an answer, and `farewell_s` for what still
    comes behind an answer that ends the connection.
    """

    connections_max: int = 1_000
    head_bytes_max: int = 16_384
    head_timeout_s: float = 10.0
    idle_timeout_s: float = IDLE_TIMEOUT_S
    answer_timeout_s: float = ANSWER_TIMEOUT_S
    farewell_s: float = FAREWELL_S

    @classmethod
    def of(cls, process: Process) -> "SocketLimits":
        """Take them from the process's settings: those of the port for webhooks."""
        return cls(process.connections_max, process.head_bytes_max, process.head_timeout_s)


OPS = SocketLimits(connections_max=50)
"""The ops port's limits: a scrape and the probes need two or three connections, a person with a browser six."""


class Closable(Protocol):
    """A connection as the guard sees it."""

    def drop(self) -> None:
        """Close at once, whatever waits to be sent: it holds no socket from then on."""


class Guard:
    """Counts the connections of one port. `told` has them as the metric `relay_connections`, too."""

    def __init__(self, limits: SocketLimits, metrics: Metrics, *, told: bool = False) -> None:
        self.limits = limits
        self._metrics = metrics
        self._open: set[Closable] = set()
        self._resting: dict[Closable, float] = {}
        self._turned_away: set[asyncio.Transport] = set()
        if told:
            metrics.connections.set_function(lambda: len(self._open))

    def admit(self, connection: Closable) -> bool:
        """Take a new connection, if need be for one that rests; False if it is one too many."""
        if len(self._open) >= self.limits.connections_max:
            self.count("connections")
            if not self._close_one():
                return False
        self._open.add(connection)
        self.rest(connection)
        return True

    def leave(self, connection: Closable) -> None:
        """Forget a connection that has ended."""
        self._open.discard(connection)
        self._resting.pop(connection, None)

    def rest(self, connection: Closable) -> None:
        """Note that nothing of a request has come yet. One that has ended meanwhile does not rest."""
        if connection in self._open:
            self._resting[connection] = monotonic()

    def rests(self, connection: Closable) -> bool:
        """Say whether nothing of a request has come yet."""
        return connection in self._resting

    def wake(self, connection: Closable) -> None:
        """Note that a request has begun to come."""
        self._resting.pop(connection, None)

    def turn_away(self, transport: asyncio.Transport) -> bool:
        """Say whether one more may hear why it is turned away; then `turned_away` must follow."""
        if len(self._turned_away) >= TURNED_AWAY_MAX:
            return False
        self._turned_away.add(transport)
        return True

    def turned_away(self, transport: asyncio.Transport) -> None:
        """Note that one has heard why."""
        self._turned_away.discard(transport)

    def close(self) -> None:
        """Wait no longer for those that are turned away."""
        for transport in self._turned_away:
            transport.abort()

    def count(self, limit: str) -> None:
        """Count a connection that met a limit."""
        self._metrics.limits_met.labels(limit).inc()

    def count_malformed(self) -> None:
        """Count a request that is none."""
        self._metrics.malformed.inc()

    def _close_one(self) -> bool:
        """Close the connection that has rested longest. False if none has rested for a while."""
        longest = next(iter(self._resting.items()), None)
        if longest is None or monotonic() - longest[1] < RESTED_MIN_S:
            return False
        self.leave(longest[0])
        longest[0].drop()
        return True
