"""Appending: each webhook once and whole, each answer to its question, and no neighbour's fault is mine."""

import asyncio
import random
import secrets
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from relay.errors import Unavailable
from relay.events import Event, Operation
from relay.store import Appended, Store
from tests.integration.store.made import ACCOUNT, Bench, raw_append, raw_connection

U, D, S = Operation.UPSERT, Operation.DELETE, Operation.STOP


async def test_answers_come_in_the_order_given(bench: Bench) -> None:
    """Events go in sorted by their key, but each answer stands where its event stood."""
    events = [bench.event(U, f"c{n}") for n in range(50)]
    random.Random(5).shuffle(events)
    appended = await bench.store.append(events)
    rows = await bench.connection.fetch("select id, message_id from event")
    ids = {row["message_id"]: row["id"] for row in rows}
    assert appended == [Appended(ids[event.message_id], "new") for event in events]
    assert await bench.store.append([]) == []


async def test_an_event_is_kept_as_it_was_given(bench: Bench) -> None:
    """Every field comes out again."""
    event = bench.event(D, "髙橋", occurred=77, line=b"\x82\xa0\x00\xff\r\n")
    (event_id,) = await bench.append(event)
    row = await bench.row("select * from event")
    assert row == {field: getattr(event, field) for field in Event.__slots__} | {"id": event_id, "again_of": None}


async def test_nobody_s_clock_makes_the_last_word(bench: Bench) -> None:
    """By Postgres's clock nothing has happened later than now, and no opt-out later than a day ahead."""
    ahead = timedelta(days=400).total_seconds()
    await bench.append(*(bench.event(operation, "a", occurred=ahead * 10) for operation in Operation))
    later = await bench.column(
        "select operation from event where occurred_at > now() + case operation when 'upsert' then interval '0'"
        " when 'allow' then interval '0' else interval '1 day' end"
    )
    assert later == []
    assert await bench.column("select count(*) from event where occurred_at > now() + interval '23 hours'") == [3]


async def test_an_opt_out_by_arrival_is_no_later_than_now(bench: Bench) -> None:
    """A replica whose clock runs ahead stamps arrivals in the future; a later create must not lose against them."""
    ahead = bench.event(D, "a")
    soon = datetime.now(UTC) + timedelta(hours=1)
    await bench.append(replace(ahead, occurred_at=soon, received_at=soon))
    assert await bench.column("select count(*) from event where occurred_at > now()") == [0]


async def test_a_webhook_is_a_duplicate_a_conflict_or_foreign(bench: Bench) -> None:
    """The same again is a duplicate, other content a conflict, and a known webhook gains no account."""
    known = bench.event(U, "a")
    (event_id,) = await bench.append(known)
    other = replace(known, digest=b"another digest..")
    foreign = replace(known, account="shop")
    fresh = bench.event(U, "b")
    assert await bench.store.append([fresh, known]) == [Appended(event_id + 1, "new"), Appended(event_id, "duplicate")]
    assert await bench.store.append([other]) == [Appended(0, "conflict")]
    assert await bench.store.append([replace(other, account="shop")]) == [Appended(0, "conflict")]
    assert await bench.store.append([foreign]) == [Appended(0, "foreign")]
    assert await bench.store.append([foreign, known]) == [Appended(0, "foreign"), Appended(event_id, "duplicate")]
    assert await bench.column("select count(*) from event") == [2]


async def test_the_id_of_a_webhook_belongs_to_its_source(bench: Bench) -> None:
    """Two systems may use the same ids."""
    event = bench.event(U, "a")
    await bench.append(event)
    assert [one.status for one in await bench.store.append([replace(event, source="shop")])] == ["new"]


def faults(event: Event) -> dict[str, Event]:
    """Make events that Postgres refuses, each for another reason."""
    return {
        "no CRLF at the end": replace(event, line=b"a@example.jp"),
        "nothing but CRLF": replace(event, line=b"\r\n"),
        "NUL in a text": replace(event, message_id="a\0b"),
        "a lone surrogate": replace(event, message_id="a\ud800b"),
        "an id too long for the index": replace(event, message_id=secrets.token_hex(9000)),
        "relay's own source": replace(event, source="relay"),
        "a layout out of range": replace(event, layout=2**63),
    }


async def test_one_invalid_row_never_fails_its_neighbours(bench: Bench) -> None:
    """Among good webhooks, one bad or many of all kinds: the bad are named invalid, all others are committed."""
    bad = faults(bench.event(U, "bad"))
    for name, event in bad.items():
        events = [bench.event(U, f"{name}{n}") for n in range(4)]
        appended = await bench.store.append([*events[:2], event, *events[2:]])
        assert [one.status for one in appended] == ["new", "new", "invalid", "new", "new"], name
    good = [bench.event(U, f"c{n}") for n in range(20)]
    appended = await bench.store.append([*good[:7], *bad.values(), *good[7:]])
    assert [one.status for one in appended] == ["new"] * 7 + ["invalid"] * len(bad) + ["new"] * 13
    assert await bench.column("select count(*) from event") == [4 * len(bad) + 20]


async def test_a_webhook_is_kept_wholly_or_not_at_all(bench: Bench) -> None:
    """Where the event for one of its accounts is refused, those for the others are not kept either."""
    first = bench.event(U, "a")
    twin = replace(first, account="shop", line=b"no end")
    good = bench.event(U, "b")
    appended = await bench.store.append([first, good, twin])
    assert [one.status for one in appended] == ["invalid", "new", "invalid"]
    assert await bench.column("select message_id from event") == [good.message_id]


async def test_concurrent_appends_of_overlapping_webhooks(bench: Bench) -> None:
    """Twenty replicas are given the same webhooks by a sender in a hurry: no deadlock, each is committed once."""
    rng = random.Random(7)
    webhooks = [
        [event, replace(event, account="shop")]
        for event in (bench.event(rng.choice((U, S)), f"c{n}") for n in range(60))
    ]

    async def replica() -> list[tuple[Event, Appended]]:
        mine = [event for webhook in rng.sample(webhooks, 40) for event in webhook]
        rng.shuffle(mine)
        async with Store.open(bench.url, connections_max=1) as store:
            return list(zip(mine, await store.append(mine), strict=True))

    answers = [answer for told in await asyncio.gather(*(replica() for _ in range(20))) for answer in told]
    assert {one.status for _, one in answers} == {"new", "duplicate"}
    new = [event.unique_key for event, one in answers if one.status == "new"]
    assert len(new) == len(set(new)) == 120
    rows = await bench.connection.fetch("select id, source, message_id, account from event")
    ids = {(row["source"], row["message_id"], row["account"]): row["id"] for row in rows}
    assert len(ids) == len(rows) == 120
    assert all(one.event_id == ids[event.unique_key] for event, one in answers)


async def test_a_deadlock_is_tried_again(bench: Bench) -> None:
    """Somebody who inserts in another order can deadlock with an append; the append is tried again and succeeds."""
    a, z = bench.event(U, "a"), bench.event(U, "z")
    (name,) = await bench.column("select current_database()")
    await bench.execute(f"alter database {name} set deadlock_timeout = 300")
    async with Store.open(bench.url) as store, raw_connection(bench.url) as other:
        await other.execute("set deadlock_timeout = '30s'")
        transaction = other.transaction()
        await transaction.start()
        z_id = await raw_append(other, z)
        appending = asyncio.create_task(store.append([a, z]))
        while not await bench.column("select 1 from pg_locks where not granted"):
            pass
        await raw_append(
            other, a
        )  # goes on when the append, which waits for z, has been ended as the deadlock's victim
        await transaction.commit()
        appended = await appending
    assert [one.status for one in appended] == ["duplicate", "duplicate"]
    assert appended[1].event_id == z_id
    assert await bench.column("select deadlocks > 0 from pg_stat_database where datname = current_database()") == [True]


async def test_the_log_is_immutable(bench: Bench) -> None:
    """No column of an event can ever be changed, not even to the same value; and no row by none."""
    await bench.say(U, "a")
    for change in ("operation = 'delete'", "line = line", "again_of = null", "received_at = now()"):
        with pytest.raises(asyncpg.IntegrityConstraintViolationError, match="append-only"):
            await bench.execute(f"update event set {change}")  # noqa: S608 (from the line above)


async def test_a_connection_that_breaks_is_unavailable(bench: Bench) -> None:
    """When Postgres ends the connection in the middle of an append, nothing is known; trying again tells."""
    async with raw_connection(bench.url) as slow:
        transaction = slow.transaction()
        await transaction.start()
        event = bench.event(U, "a")
        await raw_append(slow, event)
        appending = asyncio.create_task(bench.store.append([event]))
        waiting = "select pid from pg_locks where not granted"
        while not (pids := await bench.column(waiting)):
            pass
        await bench.execute("select pg_terminate_backend($1)", pids[0])
        with pytest.raises(Unavailable):
            await appending
        await transaction.commit()
    (again,) = await bench.store.append([event])
    assert again.status == "duplicate"
    assert await bench.column("select account from event") == [ACCOUNT]
