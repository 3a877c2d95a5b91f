"""Group commit: who shares an append with whom, and what everybody is told when it fails.

The log here is a stand-in that can be held and can fail at will; how the real one answers is in tests/integration.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from time import perf_counter

import pytest

from relay.errors import RelayError, Unavailable
from relay.events import Event, Operation
from relay.metrics import OTHER, Metrics
from relay.receive.appender import Appender
from relay.receive.followed import Followed
from relay.store import Appended
from relay.store.append import Known
from relay.store.book import Became
from relay.store.following import Decide

NOW = datetime(2026, 4, 1, tzinfo=UTC)


class HeldLog:
    """A log in memory whose appends wait until they are let through; `fail` makes the next ones raise."""

    def __init__(self) -> None:
        self.groups: list[list[Event]] = []
        self.followed: list[list[str]] = []
        self.fail: Exception | None = None
        self.through = asyncio.Event()
        self.entered = asyncio.Semaphore(0)
        self._known: dict[tuple[str, str, str], tuple[int, bytes]] = {}

    async def append(self, events: Sequence[Event]) -> list[Appended]:
        """Append as the store does: new, duplicate or conflict."""
        self.groups.append(list(events))
        self.entered.release()
        await self.through.wait()
        if self.fail is not None:
            raise self.fail
        return [self._one(event) for event in events]

    async def known(self, source: str, message_ids: Sequence[str]) -> dict[str, list[Known]]:
        """Find what was appended."""
        found: dict[str, list[Known]] = {}
        for (own, message_id, account), (number, digest) in self._known.items():
            if own == source and message_id in message_ids:
                found.setdefault(message_id, []).append(Known(account, number, digest))
        return found

    async def follow(self, webhooks: Sequence[Followed], decide: Decide[Followed]) -> list[Became]:
        """Append as the store does, without looking at any."""
        del decide
        self.followed.append([webhook.message_id for webhook in webhooks])
        if self.fail is not None:
            raise self.fail
        return [Became("new", (("news", 1),), (), (("news", Operation.UPSERT),)) for _ in webhooks]

    async def known_followed(self, source: str, message_ids: Sequence[str]) -> dict[str, list[Known]]:
        """Find what was appended."""
        return await self.known(source, message_ids)

    def _one(self, event: Event) -> Appended:
        if event.unique_key not in self._known:
            self._known[event.unique_key] = (len(self._known) + 1, event.digest)
            return Appended(len(self._known), "new")
        number, digest = self._known[event.unique_key]
        return Appended(number, "duplicate") if digest == event.digest else Appended(0, "conflict")


def event(message_id: str, account: str = "news", digest: bytes = b"d" * 16) -> Event:
    """An event that differs from others as told."""
    return Event(account, "crm", message_id, digest, Operation.UPSERT, b"c" * 16, 1, b'"x"\r\n', NOW, NOW)


@pytest.fixture
def log() -> HeldLog:
    """A log that holds every append until told otherwise."""
    return HeldLog()


@pytest.fixture
async def appender(log: HeldLog) -> AsyncIterator[Appender]:
    """An appender with small limits."""
    async with Appender(log, Metrics(), timeout_s=1.0, group_events_max=6, waiting_events_max=8) as appender:
        yield appender
        log.through.set()


async def waiting(
    tasks: asyncio.TaskGroup, appender: Appender, *requests: list[Event]
) -> list[asyncio.Task[list[Appended]]]:
    """Start requests, and come back when each of them waits."""
    started = [tasks.create_task(appender.append(events)) for events in requests]
    await asyncio.sleep(0)
    return started


async def test_all_that_wait_share_one_append(log: HeldLog, appender: Appender) -> None:
    """A request alone is appended at once; those that come meanwhile go together, each with its own answer."""
    async with asyncio.TaskGroup() as tasks:
        first = await waiting(tasks, appender, [event("a")])
        await log.entered.acquire()
        others = await waiting(tasks, appender, [event("b")], [event("c"), event("c", "letter")], [event("d")])
        log.through.set()
    assert [[one.message_id for one in group] for group in log.groups] == [["a"], ["b", "c", "c", "d"]]
    assert [[one.event_id for one in task.result()] for task in first + others] == [[1], [2], [3, 4], [5]]
    assert {one.status for task in first + others for one in task.result()} == {"new"}


async def test_requests_are_never_divided(log: HeldLog, appender: Appender) -> None:
    """A group ends before the request that would make it too large; a larger request goes alone, but goes."""
    async with asyncio.TaskGroup() as tasks:
        await waiting(tasks, appender, [event("a")])
        await log.entered.acquire()
        large = [event(f"large-{number}") for number in range(6)]
        await waiting(tasks, appender, [event("b")], large, [event("c")])
        log.through.set()
    assert [len(group) for group in log.groups] == [1, 1, 6, 1]


async def test_too_many_waiting_are_told_at_once(log: HeldLog, appender: Appender) -> None:
    """Beyond the watermark a request is refused while it can still be tried elsewhere; those before it are served."""
    async with asyncio.TaskGroup() as tasks:
        await waiting(tasks, appender, [event("a")])
        await log.entered.acquire()
        served = await waiting(tasks, appender, [event(f"b{number}") for number in range(8)])
        with pytest.raises(Unavailable):
            await appender.append([event("late")])
        log.through.set()
    assert len(served[0].result()) == 8
    assert (await appender.append([event("later")]))[0].status == "new"


async def test_one_request_above_the_watermark_is_served(log: HeldLog, appender: Appender) -> None:
    """The watermark is about those who wait behind others; who is alone is served whatever its size."""
    log.through.set()
    assert len(await appender.append([event(f"a{number}") for number in range(20)])) == 20


async def test_no_events_need_no_append(log: HeldLog, appender: Appender) -> None:
    """A webhook that every account ignores costs nothing."""
    assert await appender.append([]) == []
    assert log.groups == []


async def test_the_same_webhook_twice_in_a_group(log: HeldLog, appender: Appender) -> None:
    """Who repeats itself within one commit gets one event and two answers; who contradicts itself is told."""
    webhook = [event("b", "news"), event("b", "letter")]
    other = [event("b", "news", b"o" * 16), event("b", "steps", b"o" * 16)]
    async with asyncio.TaskGroup() as tasks:
        await waiting(tasks, appender, [event("a")])
        await log.entered.acquire()
        first, second, third = await waiting(tasks, appender, webhook, webhook, other)
        log.through.set()
    assert first.result() == [Appended(2, "new"), Appended(3, "new")]
    assert second.result() == [Appended(2, "duplicate"), Appended(3, "duplicate")]
    assert third.result() == [Appended(0, "conflict"), Appended(0, "conflict")]
    assert len(log.groups[1]) == 2


async def test_a_repeat_shares_the_answer_of_the_log(log: HeldLog, appender: Appender) -> None:
    """A repeat of what the log already knows, or knows otherwise, is told the same as the first."""
    log.through.set()
    await appender.append([event("b")])
    known = await appender.append([event("b"), event("b")])
    assert known == [Appended(1, "duplicate")] * 2
    assert await appender.append([event("b", digest=b"o" * 16)] * 2) == [Appended(0, "conflict")] * 2


async def test_when_the_log_is_gone_all_are_told(log: HeldLog, appender: Appender) -> None:
    """When Postgres is gone the group and all behind it are told, without a try for each; the next tries anew."""
    log.fail = Unavailable("gone")
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(told(appender, event("a")))
        await log.entered.acquire()
        others = [tasks.create_task(told(appender, event(f"b{number}"))) for number in range(6)]
        await asyncio.sleep(0)
        started = perf_counter()
        log.through.set()
    assert perf_counter() - started < 0.5
    assert [first.result(), *[task.result() for task in others]] == [Unavailable] * 7
    assert len(log.groups) == 1
    log.fail = None
    assert (await appender.append([event("a")]))[0].status == "new"


async def told(appender: Appender, one: Event) -> type[Exception] | None:
    """Append, and say what was raised."""
    try:
        await appender.append([one])
    except RelayError as error:
        return type(error)
    return None


async def test_nobody_waits_longer_than_the_limit(log: HeldLog) -> None:
    """When Postgres hangs, the group and those behind it are told after the time limit, and never later."""
    async with Appender(log, Metrics(), timeout_s=0.2) as appender:
        started = perf_counter()
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(told(appender, event("a")))
            await log.entered.acquire()
            others = [tasks.create_task(told(appender, event(f"b{number}"))) for number in range(3)]
        assert perf_counter() - started < 0.4
        assert [first.result(), *[task.result() for task in others]] == [Unavailable] * 4
        log.through.set()
        assert await told(appender, event("c")) is None


async def test_everybody_counts_for_oneself(log: HeldLog) -> None:
    """Who waits behind a slow group is told at the limit of its own, though its own group has only just begun."""

    def hold_the_next() -> None:
        slow, log.through = log.through, asyncio.Event()
        slow.set()

    loop, later = asyncio.get_running_loop(), asyncio.Event()
    async with Appender(log, Metrics(), timeout_s=0.4) as appender:
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(told(appender, event("a")))
            loop.call_later(0.15, later.set)
            loop.call_later(0.35, hold_the_next)
            await later.wait()
            started = perf_counter()
            second = tasks.create_task(told(appender, event("b")))
        waited_s = perf_counter() - started
        assert [first.result(), second.result()] == [None, Unavailable]
        assert [[one.message_id for one in group] for group in log.groups] == [["a"], ["b"]]
        assert 0.39 < waited_s < 0.55, "it should be 0.4 s, and 0.6 s where only groups count"
        log.through.set()


async def test_an_append_that_hangs_is_given_up(log: HeldLog) -> None:
    """An append that never ends, on a connection that nobody answers, does not hold up those that come later."""
    async with Appender(log, Metrics(), timeout_s=0.1) as appender:
        assert await told(appender, event("a")) is Unavailable
        log.through = asyncio.Event()  # the first one still waits for the old one
        log.through.set()
        # The second may still come behind the first's group, and share its fate.
        assert None in [await told(appender, event("b")), await told(appender, event("c"))]


async def test_a_bug_fails_only_its_group(log: HeldLog, appender: Appender) -> None:
    """An unexpected error is told to those whose group it hit; those behind are appended."""
    log.fail = ZeroDivisionError("a bug")
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(told(appender, event("a")))
        await log.entered.acquire()
        second = tasks.create_task(told(appender, event("b")))
        await asyncio.sleep(0)
        log.through.set()
        log.through, held = asyncio.Event(), log.through
        assert held.is_set()
        await log.entered.acquire()
        log.fail = None
        log.through.set()
    assert first.result() is RelayError
    assert second.result() is None


async def test_who_goes_away_does_not_break_the_group(log: HeldLog, appender: Appender) -> None:
    """A cancelled request, in the group or still waiting, changes nothing for the others."""
    async with asyncio.TaskGroup() as tasks:
        await waiting(tasks, appender, [event("a")])
        await log.entered.acquire()
        gone_early, stays = await waiting(tasks, appender, [event("b")], [event("c")])
        gone_early.cancel()
        log.through.set()
        await asyncio.wait([stays])
    assert stays.result() == [Appended(2, "new")]
    assert [one.message_id for group in log.groups for one in group] == ["a", "c"]


async def test_going_away_during_the_append(log: HeldLog, appender: Appender) -> None:
    """Who goes away while the group is being appended leaves its events in it, and the others get their answers."""
    async with asyncio.TaskGroup() as tasks:
        gone, stays = await waiting(tasks, appender, [event("a")], [event("b")])
        await log.entered.acquire()
        gone.cancel()
        await asyncio.wait([gone])
        log.through.set()
    assert stays.result() == [Appended(2, "new")]


async def test_closing_appends_what_waits(log: HeldLog) -> None:
    """A stop takes no more, but what was waiting is appended and answered."""
    appender = Appender(log, Metrics())
    async with asyncio.TaskGroup() as tasks, appender:
        served = await waiting(tasks, appender, [event("a")])
        await log.entered.acquire()
        served += await waiting(tasks, appender, [event("b")], [event("c")])
        closing = tasks.create_task(appender.close())
        await asyncio.sleep(0)
        assert await told(appender, event("late")) is Unavailable
        log.through.set()
        await closing
    assert [task.result()[0].event_id for task in served] == [1, 2, 3]


async def test_only_new_events_are_counted(log: HeldLog) -> None:
    """The counter of events grows after the commit, by what the log did not know."""
    metrics = Metrics()
    log.through.set()
    async with Appender(log, metrics) as appender:
        await appender.append([event("a"), event("a", "letter"), event("a")])
        await appender.append([event("a"), event("b")])
    count = metrics.registry.get_sample_value
    assert count("relay_events_total", {"vendor": OTHER, "operation": "upsert"}) == 3
    assert count("relay_append_batch_size_count") == 2
    assert count("relay_append_batch_size_sum") == 4
    assert count("relay_append_waiting_requests") == 0


# -- customers who are followed ---------------------------------------------------------------------------------------


def followed(message_id: str) -> Followed:
    """A webhook that goes nowhere."""
    return Followed("crm", message_id, b"d" * 16, NOW, "data.id", ())


async def test_who_is_followed_does_not_wait_for_events(log: HeldLog, appender: Appender) -> None:
    """The two queues are apart: a held append of events holds no webhook of a followed customer."""
    async with asyncio.TaskGroup() as tasks:
        held = await waiting(tasks, appender, [event("a")])
        await log.entered.acquire()
        assert [one.status for one in await appender.follow([followed("f1"), followed("f2")])] == ["new", "new"]
        assert not held[0].done()
        log.through.set()
    assert log.followed == [["f1", "f2"]]
    assert await appender.follow([]) == []


async def test_both_queues_share_the_watermark_and_the_end(log: HeldLog, appender: Appender) -> None:
    """What waits is counted together, Postgres being gone is told to both, and after the end nothing is taken."""
    async with asyncio.TaskGroup() as tasks:
        await waiting(tasks, appender, [event("a")])
        await log.entered.acquire()
        await waiting(tasks, appender, [event(f"b{number}") for number in range(8)])
        with pytest.raises(Unavailable):
            await appender.follow([followed("f1")])
        log.through.set()
    log.fail = Unavailable("gone")
    with pytest.raises(Unavailable):
        await appender.follow([followed("f2")])
    log.fail = None
    await appender.close()
    with pytest.raises(Unavailable):
        await appender.follow([followed("f3")])
