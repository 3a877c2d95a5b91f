"""The flusher: rounds that find lanes with something to do and work on them side by side.

`Flusher.flush_once` does one round and says what it came to; `Flusher.run` only waits, starts rounds, and survives.
"""

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from itertools import islice

from relay.batches.headers import stored_columns
from relay.errors import Unavailable
from relay.flush.checking import CHECKS_PER_ROUND, Checker
from relay.flush.clearing import Clearing
from relay.flush.lane import LaneWorker, Worked
from relay.flush.plans import LoginPlan, login_plans
from relay.flush.pruning import Pruner
from relay.flush.recounting import Recounter
from relay.flush.recovering import Recovering
from relay.log import logger

__all__ = [
    "Checker",
    "Clearing",
    "Flushed",
    "Flusher",
    "LaneWorker",
    "LoginPlan",
    "Pruner",
    "Recounter",
    "Recovering",
    "Worked",
    "login_plans",
    "stored_columns",
]

log = logger(__name__)

FENCE_WAIT_MAX_S = 5.0
"""The longest wait after a fence that could not be taken; it doubles up to here."""

FORGIVEN_S = 5.0
"""The wait after a round that failed: Postgres is gone, or relay has a bug."""


REST_MAX_S = 60.0
"""The longest rest of a login whose work failed here: a full disk is not asked every second for room."""


@dataclass(frozen=True, slots=True)
class Rest:
    """How long a login is left alone here after a failure, and until when on the loop's clock."""

    seconds: float
    until: float


@dataclass(frozen=True, slots=True)
class Flushed:
    """What one round did, by login in the order they were served. `fenced` is False if the round was skipped."""

    fenced: bool
    worked: Mapping[str, Worked]

    @property
    def idle(self) -> bool:
        """Whether there was nothing to do."""
        return not any(worked.leased for worked in self.worked.values())


class Flusher:
    """Finds due lanes and works on them, at most `uploads_max` at a time."""

    def __init__(
        self, worker: LaneWorker, plans: Mapping[str, LoginPlan], *, round_s: float, uploads_max: int, grace_s: float
    ) -> None:
        self._worker = worker
        self._plans = plans
        self._round_s = round_s
        self._uploads_max = uploads_max
        self._grace_s = grace_s
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._resting: dict[str, Rest] = {}
        self._wake = asyncio.Event()
        self._stopping = False

    async def flush_once(self) -> Flushed:
        """Do one round and wait until all of its work has ended. Raises what the work raises."""
        fence = await self._worker.store.fence()
        if fence is None:
            self._worker.metrics.fence_skipped.inc()
            return Flushed(fenced=False, worked={})
        logins = await self._due(fence)
        work = (self._worker.work(self._plans[login], fence) for login in logins)
        ended = await asyncio.gather(*work, return_exceptions=True)
        worked: dict[str, Worked] = {}
        for login, one in zip(logins, ended, strict=True):
            if isinstance(one, BaseException):
                raise one
            worked[login] = one
        return Flushed(fenced=True, worked=worked)

    async def run(self) -> None:
        """Do rounds until `stop` is called, then let uploads under way end for `grace_s` seconds."""
        wait_s = self._round_s
        async with asyncio.TaskGroup() as group:
            while not self._stopping:
                wait_s = await self._survive(self._start_round(group, wait_s), FORGIVEN_S)
                await self._sleep(wait_s)
            if self._busy:
                _, late = await asyncio.wait(self._busy.values(), timeout=self._grace_s)
                for task in late:
                    task.cancel()

    def stop(self) -> None:
        """Start no more work."""
        self._stopping = True
        self._wake.set()

    def wake(self) -> None:
        """Start the next round now."""
        self._wake.set()

    async def _start_round(self, group: asyncio.TaskGroup, waited_s: float) -> float:
        """Start work on due lanes; return how long to wait for the next round, in seconds."""
        fence = await self._worker.store.fence()
        if fence is None:
            self._worker.metrics.fence_skipped.inc()
            return min(waited_s * 2, FENCE_WAIT_MAX_S)
        due = await self._due(fence)
        for login in due if not self._stopping else ():
            self._busy[login] = group.create_task(self._work(login, fence), name=f"lane {login}")
        return self._round_s

    async def _due(self, fence: int) -> list[str]:
        """Name the logins to work on now, the most urgent first: those there is room for, and all with opt-outs."""
        now = asyncio.get_running_loop().time()
        resting = {login for login, rest in self._resting.items() if rest.until > now}
        idle = [plan for login, plan in self._plans.items() if login not in self._busy and login not in resting]
        # Own lanes that are not busy are free: Postgres went away before they could be given back.
        choices = await self._worker.survey(idle, fence, self._worker.owner)
        urgent = sorted(choices, key=lambda login: choices[login].urgency, reverse=True)
        room = max(0, self._uploads_max - len(self._busy))
        due: list[str] = []
        for login in urgent:
            # In this order: of a host that fails the most urgent lane is let through, to see whether it answers.
            if (len(due) < room or choices[login].opt_outs) and (choices[login].take_over or self._may_try(login)):
                due.append(login)
        to_check = filter(self._may_try, sorted(await self._worker.checks_due(idle) - choices.keys()))
        return due + list(islice(to_check, min(CHECKS_PER_ROUND, max(0, room - len(due)))))

    def _may_try(self, login: str) -> bool:
        return self._worker.may_try(self._plans[login].login)

    async def _work(self, login: str, fence: int) -> None:
        async def once() -> float:
            worked = await self._worker.work(self._plans[login], fence)
            if worked.progress:
                self._wake.set()  # there may be more to do
            return 0.0

        try:
            rest_s = self._resting[login].seconds if login in self._resting else self._round_s
            failed_s = await self._survive(once(), min(rest_s * 2, REST_MAX_S), login)
            if failed_s:
                self._resting[login] = Rest(failed_s, asyncio.get_running_loop().time() + failed_s)
            else:
                self._resting.pop(login, None)
        finally:
            del self._busy[login]

    async def _survive(self, work: Awaitable[float], otherwise: float, login: str | None = None) -> float:
        """Do a piece of work; nothing that it raises may end the loop."""
        try:
            return await work
        except Unavailable as error:
            log.warning("postgres_unavailable", login=login, reason=str(error))
        except Exception:
            self._worker.metrics.round_errors.inc()
            log.exception("round_failed", login=login)
        return otherwise

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()
