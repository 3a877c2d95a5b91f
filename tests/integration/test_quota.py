"""A login's calls of the day, on a real database at any hour: what waits for one, and what is told of it."""

from collections.abc import AsyncIterator, Iterable
from datetime import datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from relay.batches import Accepted, Outcome, Quota, Transient
from relay.client import UploadJob
from relay.events import Operation
from relay.status import Sampler
from tests.integration.clock import JAPAN, Clock
from tests.integration.model import Answering
from tests.integration.telling import ACCOUNT, LOGIN, Desk, Json, desk, told_settings, with_accounts

U, D, S, A = Operation.UPSERT, Operation.DELETE, Operation.STOP, Operation.ALLOW
NOON = datetime(2026, 4, 1, 12, tzinfo=JAPAN)


@pytest.fixture
async def clock(database: str) -> AsyncIterator[Clock]:
    """Let it be noon in Japan."""
    connection = await asyncpg.connect(database)
    yield await Clock.install(connection, NOON)
    await connection.close()


async def calls_made(d: Desk, calls: int) -> None:
    """Let the login have made so many calls by now."""
    await d.w.connection_execute(
        "update lane set calls = $1, called_at = now(), calls_day = (now() at time zone 'Asia/Tokyo')::date", calls
    )


async def say(d: Desk, *words: tuple[Operation, str]) -> list[str]:
    """Append events that are received now; returns their webhooks' ids."""
    events = [d.w.event(ACCOUNT, operation, f"{who}@example.jp", 0) for operation, who in words]
    await d.w.store.append(events)
    await d.w.connection_execute("update event set received_at = now() where received_at > now()")
    return [event.message_id for event in events]


async def told_of(d: Desk, message_id: str) -> dict[str, Json]:
    """What is told of a webhook's event."""
    [event] = (await d.get(f"/v1/webhooks/crm/{message_id}"))["events"]
    return dict(event)


async def login(d: Desk) -> dict[str, Json]:
    """What is told of the login."""
    return dict((await d.get("/v1/logins"))["logins"][0])


async def cursor(d: Desk, operation: Operation) -> dict[str, Json]:
    """What is told of a cursor."""
    cursors = (await d.get("/v1/accounts"))["accounts"][0]["cursors"]
    return dict(next(c for c in cursors if c["operation"] == operation))


@pytest.fixture
async def shared(clock: Clock, database: str, tmp_path: Path) -> AsyncIterator[Desk]:  # noqa: ARG001 - it comes first
    """Give a login with 240 calls a day, at noon."""
    async with desk(database, tmp_path, told_settings(calls_per_day_limit=240)) as d:
        await d.w.connection_execute("alter table event disable trigger event_is_immutable")
        yield d


async def test_data_waits_for_calls_that_are_kept_for_opt_outs(shared: Desk, clock: Clock) -> None:
    """77 of the 79 calls left at noon are kept: two files of data go up, then data waits, uncut, and says so."""
    await clock.advance(1)
    await calls_made(shared, 161)
    for who in ("a", "b"):
        await say(shared, (U, who))
        await shared.flush(Accepted())
    [waiting] = await say(shared, (U, "c"))
    await shared.flush(Accepted())
    told = await told_of(shared, waiting)
    words = "kept back: 77 of the day's 240 calls are left, kept for opt-outs"
    assert (told["state"], told["why"]) == ("pending", f"{words}; next try in 600 s")
    assert (await cursor(shared, U))["why"] == told["why"]
    assert (await cursor(shared, A))["why"] is None, "nothing waits there"
    assert (await login(shared))["quota"] == {
        "calls_today": 163,
        "per_day": 240,
        "left": 77,
        "kept_for_opt_outs": 77,
        "why": words,
    }
    sampler = Sampler(shared.w.store, shared.settings, shared.w.metrics)
    await sampler.sample_once()
    read = shared.w.metrics.registry.get_sample_value
    assert read("relay_quota_left_calls", {"login": LOGIN}) == 77
    assert read("relay_quota_kept_calls", {"login": LOGIN}) == 77
    [stop] = await say(shared, (S, "d"))
    await shared.flush(Accepted())
    assert (await told_of(shared, stop))["state"] == "accepted", "it is what they are kept for"
    await clock.advance(1201)
    await say(shared, (U, "e"))
    await shared.flush(Accepted())
    [batch] = [b for b in await shared.batches() if b["operation"] == "upsert" and b["rows"] > 1]
    assert (batch["state"], batch["rows"]) == ("accepted", 2), "what waited was cut with what came meanwhile"


async def test_opt_outs_wait_for_the_next_of_their_calls(shared: Desk, clock: Clock) -> None:
    """When a burst has used what was free, one file of opt-outs goes each 600 s; data waits behind them."""
    await calls_made(shared, 168)
    stop, delete, upsert = await say(shared, (S, "a"), (D, "b"), (U, "c"))
    await clock.advance(0)
    await shared.flush(Accepted())
    told = {m: (await told_of(shared, m))["why"] for m in (stop, delete, upsert)}
    words = "kept back: 72 of the day's 240 calls are left, spread over the rest of the day; next try in 1 s"
    assert told == {stop: words, delete: words, upsert: "waits behind opt-outs"}
    await clock.advance(1)
    await shared.flush(Accepted())
    states = {m: (await told_of(shared, m))["state"] for m in (stop, delete, upsert)}
    assert sorted(states.values()) == ["accepted", "pending", "pending"]
    assert states[upsert] == "pending"
    await clock.advance(599)
    await shared.flush(Accepted())
    assert "pending" in {(await told_of(shared, m))["state"] for m in (stop, delete)}
    await clock.advance(1)
    await shared.flush(Accepted())
    assert {(await told_of(shared, m))["state"] for m in (stop, delete)} == {"accepted"}


async def test_a_spent_day_waits_for_midnight_and_tells(shared: Desk, clock: Clock) -> None:
    """With no call left everything waits for 00:00 in Japan, and then goes at once, opt-outs first."""
    await clock.set(NOON.replace(hour=23, minute=55))
    await calls_made(shared, 240)
    stop, upsert = await say(shared, (S, "a"), (U, "b"))
    await shared.flush(Accepted())
    assert (await told_of(shared, stop))["why"] == "the day's 240 calls are spent; next try in 330 s"
    assert (await login(shared))["quota"]["why"] == "the day's 240 calls are spent"
    assert (await login(shared))["waits"] is None
    assert await shared.batches() == []
    await clock.advance(330)
    await shared.flush(Accepted(), Accepted())
    batches = await shared.batches()
    assert [(b["operation"], b["state"]) for b in batches] == [("stop", "accepted"), ("upsert", "accepted")]
    assert {(await told_of(shared, m))["why"] for m in (stop, upsert)} == {
        "the vendor took the file and does not tell what became of its lines"
    }
    assert (await login(shared))["quota"]["calls_today"] == 2


async def test_the_vendor_counts_more_than_relay(shared: Desk, clock: Clock) -> None:
    """81404 although calls are left: the whole lane waits until midnight, and fewer calls are counted on from then."""
    await calls_made(shared, 150)
    [stop] = await say(shared, (S, "a"))
    await shared.flush(Quota("81404: the day's calls are spent"))
    told = await told_of(shared, stop)
    assert told["why"].startswith("the vendor's quota of the day is spent until 2026-04-01 15:00 UTC")
    assert told["state"] == "waiting"
    quota = (await login(shared))["quota"]
    assert (quota["calls_today"], quota["left"], quota["per_day"]) == (151, 0, 240)
    assert quota["why"] == (
        "the day's 150 calls are spent; of late the vendor took no more after 150 of 240 calls: somebody else may use"
        " the login, too, so that 150 are counted on"
    )
    await clock.set(NOON.replace(hour=0, second=31) + timedelta(days=1))
    await shared.flush(Accepted())
    assert (await told_of(shared, stop))["state"] == "accepted"
    assert (await login(shared))["quota"]["left"] == 149
    assert (await shared.w.connection.fetchval("select max(attempts) from cursor")) == 0


async def test_calls_that_never_reached_the_vendor_spend_nothing(shared: Desk, clock: Clock) -> None:
    """A day on which the vendor cannot be reached ends with as many calls as it began."""
    await say(shared, (S, "a"))
    await shared.w.connection_execute("alter table upload alter column started_at set default virtual.now()")
    for _ in range(5):
        await shared.flush(*[Transient("refused connection")] * 9)
        await clock.advance(7200)
    assert (await login(shared))["quota"]["calls_today"] == 0
    assert await shared.w.connection.fetchval("select count(*) from upload") == 5


async def test_a_limit_that_the_settings_changed(shared: Desk, clock: Clock, database: str, tmp_path: Path) -> None:
    """Fewer calls than were made already are none; with somewhat more, opt-outs go on, spread over the rest."""
    await calls_made(shared, 100)
    [stop] = await say(shared, (S, "a"))
    async with desk(database, tmp_path, told_settings(calls_per_day_limit=90)) as lower:
        await lower.flush(Accepted())
        assert (await told_of(lower, stop))["why"] == "the day's 90 calls are spent; next try in 600 s"
    await clock.advance(600)
    async with desk(database, tmp_path, told_settings(calls_per_day_limit=102)) as other:
        await other.flush(Accepted())
        assert "2 of the day's 102 calls are left" in (await told_of(other, stop))["why"]
    await clock.set(NOON + timedelta(hours=4, seconds=1))
    async with desk(database, tmp_path, told_settings(calls_per_day_limit=102)) as other:
        await other.flush(Accepted())
        assert (await told_of(other, stop))["state"] == "accepted", "4 hours since the last call, 8 are left for two"


async def test_a_real_day(clock: Clock, database: str, tmp_path: Path) -> None:
    """From midnight to midnight on Postgres: data all the time, opt-outs in the afternoon; every call is used."""
    await clock.set(NOON.replace(hour=0))
    went: list[tuple[str, float]] = []

    def answer(job: UploadJob, _: Iterable[str]) -> Outcome:
        went.append((job.operation, seconds))
        return Accepted()

    made = with_accounts(told_settings(calls_per_day_limit=24), flush_opt_outs_after_s=0)
    async with desk(database, tmp_path, made) as d:
        worker, number = d.w.worker(Answering(answer)), 0
        for step in range(96):
            seconds = step * 900.0
            await clock.set(NOON.replace(hour=0) + timedelta(seconds=seconds))
            words = [(U, f"c{step}")] + ([(S, f"s{step}")] if step in range(48, 96, 12) else [])
            events = [d.w.event(ACCOUNT, operation, f"{who}@example.jp", 0) for operation, who in words]
            await d.w.store.append(events)
            number += len(await d.w.flush(worker, d.plan))
    stops = [at for operation, at in went if operation == S]
    assert stops == [step * 900.0 for step in range(48, 96, 12)], "each went at once"
    assert len(went) == 24
