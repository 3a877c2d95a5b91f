"""Group commit: all requests that wait become one append to the log.

Theory of operation. One writer takes everything that waits, appends it with one call, answers everybody and takes what
has come meanwhile. There is no lingering for more: under little load a request is appended alone at once, under much
load the groups grow by themselves to what arrives during one commit. Nobody waits longer than `timeout_s`: each caller
counts for itself, and when Postgres does not answer, those who wait behind the failed group are told at once instead of
being tried one after the other. A caller that goes away changes nothing for its group.

An append that is given up may have been committed all the same. That is no harm: the sender tries again and is told
that it is a duplicate.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from types import TracebackType
from typing import Protocol, Self

from relay.errors import RelayError, Unavailable
from relay.events import Event, Operation
from relay.log import logger
from relay.metrics import Metrics
from relay.store.append import Appended, Known

APPEND_TIMEOUT_S = 4.0
"""A webhook gets its 503 within five seconds; one of them is for reading, mapping and answering."""

GROUP_EVENTS_MAX = 5_000
"""Some 0.2 s of Postgres' time. Larger groups gain nothing and make all in them wait for the last."""

WAITING_EVENTS_MAX = 20_000
"""Four groups: who comes later would wait for about a second, and hold memory meanwhile (some 1 kB each)."""

log = logger(__name__)


class Log(Protocol):
    """Where events are appended: `relay.store.Store`."""

    async def append(self, events: Sequence[Event]) -> list[Appended]:
        """Append events and say of each what became of it; raises Unavailable."""

    async def known(self, source: str, message_ids: Sequence[str]) -> Mapping[str, Sequence[Known]]:
        """Find webhooks that were appended before; raises Unavailable."""


@dataclass(slots=True, eq=False)
class _Request:
    events: Sequence[Event]
    done: asyncio.Future[list[Appended]]


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
        self._group_events_max = group_events_max
        self._waiting_events_max = waiting_events_max
        self._waiting: deque[_Request] = deque()
        self._waiting_events = 0
        self._wake = asyncio.Event()
        self._closing = False
        self._given_up: set[asyncio.Task[list[Appended]]] = set()
        self._writer: asyncio.Task[None] | None = None
        metrics.append_waiting.set_function(lambda: len(self._waiting))

    async def __aenter__(self) -> Self:
        self._writer = asyncio.create_task(self._write(), name="appender")
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
        if self._closing or self._writer is None:
            raise Unavailable("relay is stopping")
        if self._waiting and self._waiting_events + len(events) > self._waiting_events_max:
            raise Unavailable("too many events wait to be appended")
        request = _Request(events, asyncio.get_running_loop().create_future())
        self._waiting.append(request)
        self._waiting_events += len(events)
        self._wake.set()
        try:
            async with asyncio.timeout(self._timeout_s):
                return await request.done
        except TimeoutError:
            raise Unavailable("the append took too long") from None

    async def known(self, source: str, message_ids: Sequence[str]) -> Mapping[str, Sequence[Known]]:
        """Find webhooks of a source that were appended before, with their events. Raises Unavailable."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._log.known(source, message_ids)
        except TimeoutError:
            raise Unavailable("the look-up took too long") from None

    async def close(self) -> None:
        """Take no more, append what waits, and end. Takes at most about twice `timeout_s`."""
        self._closing = True
        self._wake.set()
        if self._writer is not None:
            await self._writer
        for task in self._given_up:
            task.cancel()
        await asyncio.gather(*self._given_up, return_exceptions=True)

    async def _write(self) -> None:
        while not self._closing:
            await self._wake.wait()
            self._wake.clear()
            while group := self._take():
                await self._append(group)

    def _take(self) -> list[_Request]:
        """Take what waits, up to the limit of a group (a request is never divided); leave out who has gone away."""
        group: list[_Request] = []
        size = 0
        while self._waiting and (not group or size + len(self._waiting[0].events) <= self._group_events_max):
            request = self._waiting.popleft()
            self._waiting_events -= len(request.events)
            if not request.done.done():
                group.append(request)
                size += len(request.events)
        return group

    async def _append(self, group: list[_Request]) -> None:
        once = _Once([event for request in group for event in request.events])
        started = perf_counter()
        task = asyncio.create_task(self._log.append(once.events), name="append")
        finished, _ = await asyncio.wait({task}, timeout=self._timeout_s)
        self._metrics.append_seconds.observe(perf_counter() - started)
        self._metrics.append_size.observe(len(once.events))
        if not finished:
            self._give_up(task)
            self._unavailable(group, "timeout")
        elif isinstance(error := task.exception(), Unavailable):
            self._unavailable(group, str(error))
        elif error is not None:
            log.error("append_failed", requests=len(group), exc_info=error)
            _fail(group, RelayError)
        else:
            self._tell(group, once, task.result())

    def _tell(self, group: list[_Request], once: "_Once", appended: list[Appended]) -> None:
        for (account, operation), count in once.new(appended).items():
            self._metrics.events.labels(account, operation).inc(count)
        answers = once.answers(appended)
        for request in group:
            answer = [next(answers) for _ in request.events]
            if not request.done.done():
                request.done.set_result(answer)

    def _unavailable(self, group: list[_Request], reason: str) -> None:
        """Tell the group and all who wait behind it, who would only wait in vain."""
        log.warning("append_unavailable", requests=len(group), waiting=len(self._waiting), reason=reason)
        _fail([*group, *self._waiting], Unavailable)
        self._waiting.clear()
        self._waiting_events = 0

    def _give_up(self, task: asyncio.Task[list[Appended]]) -> None:
        """Cancel an append without waiting for it: a connection to a silent server takes its time to notice."""
        task.cancel()
        self._given_up.add(task)
        task.add_done_callback(self._gone)

    def _gone(self, task: asyncio.Task[list[Appended]]) -> None:
        self._given_up.discard(task)
        if not task.cancelled():
            task.exception()  # looked at, so that asyncio does not complain that nobody did


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


def _fail(requests: Sequence[_Request], kind: type[RelayError]) -> None:
    """Raise in every caller an error of its own: one shared by many would collect all their tracebacks."""
    for request in requests:
        if not request.done.done():
            request.done.set_exception(kind("the append failed"))
