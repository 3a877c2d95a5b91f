"""Group commit: all requests that wait become one write to the log.

Theory of operation. One writer takes everything that waits, writes it with one call, answers everybody and takes what
has come meanwhile. There is no lingering for more: under little load a request is written alone at once, under much
load the groups grow by themselves to what arrives during one commit. Nobody waits longer than `timeout_s`: each caller
counts for itself, and when Postgres does not answer, those who wait behind the failed group are told at once instead of
being tried one after the other. A caller that goes away changes nothing for its group. All have the same time, so who
came first is late first: one timer, for the eldest, does what a time-out for each would do, and costs none of them.

A write that is given up may have been committed all the same. That is no harm: the sender tries again and is told
that it is a duplicate.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Generic, TypeVar

from prometheus_client import Histogram

from relay.errors import RelayError, Unavailable
from relay.log import logger
from relay.receive.outage import Outage

_Thing = TypeVar("_Thing")
_Answer = TypeVar("_Answer")

log = logger(__name__)


@dataclass(slots=True, eq=False)
class _Request(Generic[_Thing, _Answer]):
    things: Sequence[_Thing]
    size: int
    until: float
    done: asyncio.Future[list[_Answer]]


class Groups(Generic[_Thing, _Answer]):
    """Writes for many callers at once. `write` answers for each thing, in the order given, or raises Unavailable.

    A group has up to `size_max`, by the sizes of its things, unless one request has more.
    """

    def __init__(
        self,
        write: Callable[[Sequence[_Thing]], Awaitable[list[_Answer]]],
        outage: Outage,
        seconds: Histogram,
        *,
        timeout_s: float,
        size_max: int,
        size_of: Callable[[_Thing], int] = lambda _: 1,
    ) -> None:
        self._write_group = write
        self._outage = outage
        self._seconds = seconds
        self._timeout_s = timeout_s
        self._size_max = size_max
        self._size_of = size_of
        self._waiting: deque[_Request[_Thing, _Answer]] = deque()
        self._waiting_size = 0
        self._unanswered: deque[_Request[_Thing, _Answer]] = deque()  # and some that have been answered meanwhile
        self._timer: asyncio.TimerHandle | None = None
        self._wake = asyncio.Event()
        self._closing = False
        self._given_up: set[asyncio.Future[list[_Answer]]] = set()
        self._writer: asyncio.Task[None] | None = None

    @property
    def requests(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    @property
    def size(self) -> int:
        """How much waits, by the sizes of the things."""
        return self._waiting_size

    def start(self, name: str) -> None:
        """Begin to write."""
        self._writer = asyncio.create_task(self._write(), name=name)

    def write(self, things: Sequence[_Thing]) -> asyncio.Future[list[_Answer]]:
        """Write the things of one request, all with the same commit; to be awaited: done once they are committed.

        Raises Unavailable when Postgres is gone, when it takes longer than `timeout_s`, and after `close`.
        """
        if self._closing or self._writer is None:
            raise Unavailable("relay is stopping")
        loop = asyncio.get_running_loop()
        size, until = sum(map(self._size_of, things)), loop.time() + self._timeout_s
        request: _Request[_Thing, _Answer] = _Request(things, size, until, loop.create_future())
        self._waiting.append(request)
        self._waiting_size += size
        self._unanswered.append(request)
        if self._timer is None:
            self._timer = loop.call_at(until, self._time_is_up, loop)
        self._wake.set()
        return request.done

    def stop(self) -> None:
        """Take no more; what waits is still written."""
        self._closing = True
        self._wake.set()

    async def close(self) -> None:
        """Take no more, write what waits, and end. Takes at most about twice `timeout_s`."""
        self.stop()
        if self._writer is not None:
            await self._writer
        if self._timer is not None:  # nobody waits any more
            self._timer.cancel()
        for task in self._given_up:
            task.cancel()
        await asyncio.gather(*self._given_up, return_exceptions=True)

    async def _write(self) -> None:
        while not self._closing:
            await self._wake.wait()
            self._wake.clear()
            while group := self._take():
                await self._settle(group)

    def _take(self) -> list[_Request[_Thing, _Answer]]:
        """Take what waits, up to the limit of a group (a request is never divided); leave out who has gone away."""
        group: list[_Request[_Thing, _Answer]] = []
        size = 0
        while self._waiting and (not group or size + self._waiting[0].size <= self._size_max):
            request = self._waiting.popleft()
            self._waiting_size -= request.size
            if not request.done.done():
                group.append(request)
                size += request.size
        return group

    async def _settle(self, group: list[_Request[_Thing, _Answer]]) -> None:
        things = [thing for request in group for thing in request.things]
        started = perf_counter()
        task = asyncio.ensure_future(self._write_group(things))
        finished, _ = await asyncio.wait({task}, timeout=self._timeout_s)
        self._seconds.observe(perf_counter() - started)
        if not finished:
            self._give_up(task)
            self._unavailable(group, "timeout")
        elif isinstance(error := task.exception(), Unavailable):
            self._unavailable(group, str(error))
        elif error is not None:
            log.error("append_failed", requests=len(group), exc_info=error)
            _fail(group, RelayError)
        else:
            self._outage.over()
            answers = iter(task.result())
            for request in group:
                answer = [next(answers) for _ in request.things]
                if not request.done.done():
                    request.done.set_result(answer)
        self._forget_answered()

    def _unavailable(self, group: list[_Request[_Thing, _Answer]], reason: str) -> None:
        """Tell the group and all who wait behind it, who would only wait in vain."""
        self._outage.note(reason, len(group) + len(self._waiting))
        _fail([*group, *self._waiting], Unavailable)
        self._waiting.clear()
        self._waiting_size = 0

    def _time_is_up(self, loop: asyncio.AbstractEventLoop) -> None:
        """Tell those who have waited too long, and wait for the eldest of the others."""
        now = loop.time()
        while self._unanswered and self._unanswered[0].until <= now:
            late = self._unanswered.popleft()
            if not late.done.done():
                late.done.set_exception(Unavailable("the append took too long"))
        self._forget_answered()
        self._timer = loop.call_at(self._unanswered[0].until, self._time_is_up, loop) if self._unanswered else None

    def _forget_answered(self) -> None:
        while self._unanswered and self._unanswered[0].done.done():
            self._unanswered.popleft()

    def _give_up(self, task: asyncio.Future[list[_Answer]]) -> None:
        """Cancel a write without waiting for it: a connection to a silent server takes its time to notice."""
        task.cancel()
        self._given_up.add(task)
        task.add_done_callback(self._gone)

    def _gone(self, task: asyncio.Future[list[_Answer]]) -> None:
        self._given_up.discard(task)
        if not task.cancelled():
            task.exception()  # looked at, so that asyncio does not complain that nobody did


def _fail(requests: Sequence[_Request[Any, Any]], kind: type[RelayError]) -> None:
    """Raise in every caller an error of its own: one shared by many would collect all their tracebacks."""
    for request in requests:
        if not request.done.done():
            request.done.set_exception(kind("the append failed"))
