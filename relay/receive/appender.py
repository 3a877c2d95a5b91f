"""Appending for many requests at once: plain events in one queue, webhooks of customers who are followed in another.

Events are one statement, however many; who is followed takes a transaction that reads before it writes. A source goes
one way or the other, so neither waits for the other.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Protocol, Self

from relay.errors import Unavailable
from relay.events import Event, Operation
from relay.metrics import Metrics
from relay.receive.followed import Followed
from relay.receive.following import decide
from relay.receive.groups import Groups
from relay.receive.outage import Outage
from relay.store.append import Appended, Known
from relay.store.book import Became
from relay.store.following import Decide

APPEND_TIMEOUT_S = 4.0
"""A webhook gets its 503 within five seconds; one of them is for reading, mapping and answering."""

GROUP_EVENTS_MAX = 5_000
"""Some 0.2 s of Postgres' time. Larger groups gain nothing and make all in them wait for the last."""

GROUP_FOLLOWED_MAX = 500
"""Parts of webhooks, one for each account. About as long: what has to be looked up first takes ten times as long, and
others take turns with it."""

WAITING_EVENTS_MAX = 20_000
"""Four groups: who comes later would wait for about a second, and hold memory meanwhile (some 1 kB each)."""


class Log(Protocol):
    """Where events are appended: `relay.store.Store`."""

    async def append(self, events: Sequence[Event]) -> list[Appended]:
        """Append events and say of each what became of it; raises Unavailable."""

    async def known(self, source: str, message_ids: Sequence[str]) -> Mapping[str, Sequence[Known]]:
        """Find webhooks that were appended before; raises Unavailable."""

    async def follow(self, webhooks: Sequence[Followed], decide: Decide[Followed]) -> list[Became]:
        """Append webhooks of customers who are followed and say of each what became of it; raises Unavailable."""

    async def known_followed(self, source: str, message_ids: Sequence[str]) -> Mapping[str, Sequence[Known]]:
        """Find such webhooks that were appended before; raises Unavailable."""


class Appender:
    """Appends for many callers at once. An async context manager: on leaving, what waits is still appended."""

    def __init__(
        self,
        log: Log,
        metrics: Metrics,
        *,
        timeout_s: float = APPEND_TIMEOUT_S,
        group_events_max: int = GROUP_EVENTS_MAX,
        waiting_events_max: int = WAITING_EVENTS_MAX,
    ) -> None:
        self._log = log
        self._metrics = metrics
        self._timeout_s = timeout_s
        self._waiting_events_max = waiting_events_max
        self._outage = Outage()
        seconds = metrics.append_seconds
        self._events: Groups[Event, Appended] = Groups(
            self._write_events, self._outage, seconds, timeout_s=timeout_s, size_max=group_events_max
        )
        followed_max = min(GROUP_FOLLOWED_MAX, group_events_max)
        self._followed: Groups[Followed, Became] = Groups(
            self._write_followed, self._outage, seconds, timeout_s=timeout_s, size_max=followed_max, size_of=_parts
        )
        metrics.append_waiting.set_function(lambda: self._events.requests + self._followed.requests)

    async def __aenter__(self) -> Self:
        self._events.start("appender")
        self._followed.start("follower")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def append(self, events: Sequence[Event]) -> list[Appended]:
        """Append the events of one request, all with the same commit; returns once they are committed.

        The answers are in the order given. A webhook that occurs twice, here or in a request of the same group, is
        appended once. Raises Unavailable when Postgres is gone, when it takes longer than `timeout_s`, when too many
        wait already, and after `close`.
        """
        if not events:
            return []
        self.check_room(len(events))
        return await self._events.write(events)

    async def follow(self, webhooks: Sequence[Followed]) -> list[Became]:
        """Append the webhooks of one request, in their order, as `append` does; many take more than one commit."""
        if not webhooks:
            return []
        self.check_room(sum(map(_parts, webhooks)))
        return await self._followed.write(webhooks)

    def check_room(self, events: int = 1) -> None:
        """Raise Unavailable where so many events more would be too many: before any work is done for them, too."""
        waiting = self._events.size + self._followed.size
        if waiting and waiting + events > self._waiting_events_max:
            self._metrics.limits_met.labels("waiting_events").inc()
            self._outage.note("too many events wait", 1)
            raise Unavailable("too many events wait to be appended")

    async def known(
        self, source: str, message_ids: Sequence[str], *, followed: bool = False
    ) -> Mapping[str, Sequence[Known]]:
        """Find webhooks of a source that were appended before, with their events. Raises Unavailable."""
        find = self._log.known_followed if followed else self._log.known
        try:
            async with asyncio.timeout(self._timeout_s):
                return await find(source, message_ids)
        except TimeoutError:
            raise Unavailable("the look-up took too long") from None

    async def close(self) -> None:
        """Take no more, append what waits, and end. Takes at most about twice `timeout_s`."""
        self._events.stop()
        self._followed.stop()
        await asyncio.gather(self._events.close(), self._followed.close())

    async def _write_events(self, events: Sequence[Event]) -> list[Appended]:
        once = _Once(events)
        self._metrics.append_size.observe(len(once.events))
        appended = await self._log.append(once.events)
        for (account, operation), count in once.new(appended).items():
            self._metrics.events.labels(self._metrics.vendor(account), operation).inc(count)
        return list(once.answers(appended))

    async def _write_followed(self, webhooks: Sequence[Followed]) -> list[Became]:
        became = await self._log.follow(webhooks, decide)
        new = Counter(event for one in became for event in one.appended)
        self._metrics.append_size.observe(new.total())
        for (account, operation), count in new.items():
            self._metrics.events.labels(self._metrics.vendor(account), operation).inc(count)
        return became


def _parts(webhook: Followed) -> int:
    """Count what a webhook is at least: one that every account ignores has to be answered, too."""
    return max(1, len(webhook.parts))


class _Once:
    """The events of a group with each webhook once, and the way back to all of them.

    A webhook that is in the group again is a duplicate of the first if it says the same, else a conflict with it.
    """

    __slots__ = ("_all", "_first", "events")

    def __init__(self, events: Sequence[Event]) -> None:
        self._all = events
        self._first: dict[tuple[str, str, str], int] = {}
        self.events: list[Event] = []
        digests: dict[tuple[str, str], bytes] = {}
        for event in events:
            known = digests.setdefault((event.source, event.message_id), event.digest)
            if known == event.digest and event.unique_key not in self._first:
                self._first[event.unique_key] = len(self.events)
                self.events.append(event)

    def new(self, appended: Sequence[Appended]) -> Counter[tuple[str, Operation]]:
        """Count what was committed now by account and operation."""
        pairs = zip(self.events, appended, strict=True)
        return Counter((event.account, event.operation) for event, one in pairs if one.status == "new")

    def answers(self, appended: Sequence[Appended]) -> Iterator[Appended]:
        """Say of each event, in the order given, what became of it."""
        told = [False] * len(appended)
        for event in self._all:
            place = self._first.get(event.unique_key)
            if place is None or self.events[place].digest != event.digest:
                yield Appended(0, "conflict")
            elif told[place] and appended[place].status == "new":
                yield Appended(appended[place].event_id, "duplicate")
            else:
                told[place] = True
                yield appended[place]
