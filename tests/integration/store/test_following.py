"""Following customers on a real log: what is decided in memory is what Postgres holds, however it comes there."""

import asyncio
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from relay.errors import Unavailable
from relay.events import KEPT_MAX, Operation
from relay.receive.followed import Followed
from relay.receive.following import decide
from relay.store import Store
from relay.store.book import Became, Book, Decided
from relay.store.database import sql
from relay.store.following import PARTS_AT_ONCE_MAX
from tests.integration.store.made import Bench, raw_append, raw_connection
from tests.unit.receive.followed import ACCOUNT, KEYS, SOURCE, Says, Told
from tests.unit.receive.test_following_orders import WORDS
from tests.waiting import until

U, D, S, A = Operation.UPSERT, Operation.DELETE, Operation.STOP, Operation.ALLOW
HARD = [
    Says(U, "i", "a", "a"), Says(U, "j", None, "a"), Says(U, "k", None, "b"), Says(U, "i", None),
    Says(U, "j", "b", "c"), Says(S, "j", "a"), Says(U, None, "b"), Says(U, "k", "c", "c"), Says(S, None, "b"),
]  # fmt: skip
"""Records whose previous address is the present one, or that have no other, and late ones of who has none by now."""

ALL = [says for kind in WORDS.values() for says in kind] + HARD

Kept = tuple[Any, ...]


class Log:
    """A real store beside the model's book."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.store: Store = bench.store
        self.told = Told()

    async def follow(self, *webhooks: Followed) -> list[Became]:
        """Append webhooks in one group."""
        return await self.store.follow(webhooks, decide)

    async def events(self) -> list[Kept]:
        """What the log holds, in its order."""
        rows = await self.bench.connection.fetch("select * from event order by message_id, account")
        return [(r["message_id"], r["operation"], r["line"], r["occurred_at"], r["received_at"]) for r in rows]

    def expected(self) -> list[Kept]:
        """What the model's book holds."""
        events = sorted(self.told.book.events, key=lambda event: event.message_id.encode())
        return [(e.message_id, e.operation.value, e.line, e.occurred_at, e.received_at) for e in events]

    async def contacts(self) -> dict[bytes, tuple[str | None, datetime]]:
        """Where customers are."""
        rows = await self.bench.connection.fetch("select * from known_address")
        return {row["customer_id"]: (row["address"], row["occurred_at"]) for row in rows}

    async def waiting(self) -> list[tuple[str, str, bool]]:
        """What waits for an address, and whether quietly."""
        rows = await self.bench.connection.fetch("select * from unresolved order by message_id")
        return [(row["message_id"], row["operation"], row["dismissed_at"] is not None) for row in rows]


@pytest.fixture
def log(bench: Bench) -> Log:
    """A store on a fresh database."""
    return Log(bench)


def sample(seed: int, length: int) -> list[Followed]:
    """Random words of two customers at three addresses, in a random order of arrival."""
    rng, told = random.Random(seed), Told()
    occurred = rng.sample(range(1, 1000), length)
    return [told.webhook(rng.choice(ALL), at, f"m{number}") for number, at in enumerate(occurred)]


@pytest.mark.parametrize("says", [Says(U, "i", "a", "a"), Says(U, "i", None, "a")])
async def test_a_previous_address_alone_is_looked_up(log: Log, says: Says) -> None:
    """Also where it is the present one, or the record has no other, of a customer who was never heard of."""
    assert [one.status for one in await log.follow(log.told.webhook(says, 1))] == ["new"]


async def test_a_late_record_of_who_has_no_address_any_more_is_looked_up(log: Log) -> None:
    """It is written down and left again."""
    for says, occurred in ((Says(U, "i", "a"), 1), (Says(U, "i", None), 5), (Says(U, "i", "c"), 3)):
        assert [one.status for one in await log.follow(log.told.webhook(says, occurred))] == ["new"]
    assert [event[:2] for event in await log.events()][-1] == ("m3→moved", "delete")


async def test_what_every_account_ignores_is_taken(log: Log) -> None:
    """Alone and among others; nothing is kept of it."""
    other = log.told.webhook(Says(U, "i", "a"), 1)
    ignored = replace(log.told.webhook(Says(S, "i"), 2), parts=())
    assert await log.follow(ignored) == [Became("new")]
    assert [(one.status, len(one.events)) for one in await log.follow(ignored, other, ignored)] == [
        ("new", 0), ("new", 1), ("new", 0)
    ]  # fmt: skip


async def test_the_server_s_isolation_does_not_matter(log: Log) -> None:
    """At `repeatable read` who waited for the lock would decide by what held before it, and the move pass the stop."""
    database = await log.bench.connection.fetchval("select current_database()")
    await log.bench.execute(f"alter database {database} set default_transaction_isolation = 'repeatable read'")
    async with Store.open(log.bench.url) as store, raw_connection(log.bench.url) as other:
        await store.follow([log.told.webhook(Says(U, "i", "a"), 1)], decide)
        transaction = other.transaction()
        await transaction.start()
        await other.fetchrow(SQL_LOCK, [ACCOUNT])
        both = []
        for says, occurred in ((Says(S, None, "a"), 2), (Says(U, "i", "b"), 3)):
            both.append(asyncio.create_task(store.follow([log.told.webhook(says, occurred)], decide)))
            await until_locked(log.bench.connection, len(both))
        await transaction.rollback()
        await asyncio.gather(*both)
        async with store.transaction() as connection:
            assert await connection.fetchval("show transaction_isolation") == "read committed"
    assert [event[0] for event in await log.events() if event[1] == "stop"] == ["m2", "m3→kept"]


@pytest.mark.parametrize("group", [1, 4, 40])
async def test_what_is_read_is_all_that_is_needed(log: Log, group: int) -> None:
    """Random words, one by one and in groups: the log, the contacts and what waits are those of a book that knows all.

    Each of the runs is another account, so that they do not know each other.
    """
    for seed in range(12):
        account = f"account-{seed}"
        webhooks = [moved_to(one, account) for one in sample(seed, 40)]
        book = Told().book
        for webhook in webhooks:
            decide(book, webhook)
        for first in range(0, len(webhooks), group):
            await log.follow(*webhooks[first : first + group])
        rows = await log.bench.connection.fetch("select * from event where account = $1", account)
        held = {(r["message_id"], r["operation"], r["line"], r["occurred_at"], r["received_at"]) for r in rows}
        assert held == {(e.message_id, e.operation, e.line, e.occurred_at, e.received_at) for e in book.events}, seed
        rows = await log.bench.connection.fetch("select * from known_address where account = $1", account)
        found = {row["customer_id"]: {name: row[name] for name in row.keys() if name not in KEY} for row in rows}  # noqa: SIM118
        fields = next(iter(found.values())).keys()
        assert found == {key[2]: {n: getattr(c, n) for n in fields} for key, c in book.contacts.items()}
        rows = await log.bench.connection.fetch("select * from unresolved where account = $1", account)
        assert {row["message_id"] for row in rows} == {key[1] for key in book.new_unresolved}


KEY = ("account", "source", "customer_id")


def moved_to(webhook: Followed, account: str) -> Followed:
    """The same webhook for another account."""
    (part,) = webhook.parts
    contact = part.contact and (account, SOURCE, part.contact[2])
    record = part.record and replace(part.record, account=account, source=f"{SOURCE}")
    voice = AccountVoice(account)
    message_id = f"{account}-{webhook.message_id}"
    if record is not None:
        record = replace(record, message_id=message_id)
    changed = replace(part, account=account, contact=contact, record=record, voice=voice)
    return replace(webhook, message_id=message_id, parts=(changed,))


class AccountVoice:
    """The plain voice of one account."""

    leaving: Operation | None = Operation.DELETE

    def __init__(self, account: str) -> None:
        self.account = account
        self.plain = Told().voice

    def event(self, *args: Any) -> Any:  # noqa: ANN401 - as the plain voice
        """Make an event."""
        return replace(self.plain.event(*args), account=self.account)


async def test_a_webhook_is_answered_with_its_events(log: Log) -> None:
    """New, then a duplicate with the same events, the added ones too; with other content a conflict."""
    first, second = log.told.webhook(Says(U, "i", "a"), 1, "m1"), log.told.webhook(Says(U, "i", "b"), 2, "m2")
    (one,) = await log.follow(first)
    (two,) = await log.follow(second)
    assert (one.status, two.status) == ("new", "new")
    rows = await log.bench.connection.fetch("select id from event order by message_id")
    assert two.events == tuple((ACCOUNT, row["id"]) for row in rows[1:])
    assert two.appended == ((ACCOUNT, U), (ACCOUNT, D))
    before = await log.bench.dump()
    assert await log.follow(second) == [Became("duplicate", two.events)]
    assert await log.follow(replace(second, digest=b"another digest..")) == [Became("conflict")]
    assert await log.follow(log.told.webhook(Says(A, "unknown"), 3)) == [Became("unknown")]
    assert await log.bench.dump() == before
    known = await log.store.known_followed(SOURCE, ["m2", "m9"])
    assert {message_id: len(parts) for message_id, parts in known.items()} == {"m2": 2}


async def test_an_opt_out_waits_and_is_resolved_in_one_transaction(log: Log) -> None:
    """It is told as waiting and known by its id; the row goes with the commit that makes it an event."""
    stop = log.told.webhook(Says(S, "i"), 1, "w1")
    assert await log.follow(stop) == [Became("new", (), (ACCOUNT,))]
    assert await log.follow(stop) == [Became("duplicate", (), (ACCOUNT,))]
    assert await log.follow(replace(stop, digest=b"another digest..")) == [Became("conflict")]
    assert await log.waiting() == [("w1", "stop", False)]
    (became,) = await log.follow(log.told.webhook(Says(U, "i", "a"), 2, "w2"))
    assert became.appended == ((ACCOUNT, U), (ACCOUNT, S))
    assert [event for _, event in became.events] != []
    assert await log.waiting() == []
    (repeat,) = await log.follow(stop)
    assert (repeat.status, len(repeat.events), repeat.unresolved) == ("duplicate", 1, ())


async def test_what_waits_for_one_customer_takes_no_id_from_another(log: Log) -> None:
    """A stop by address waits for each of those who left it and are nowhere, also where the webhook waits already."""
    for number, who in enumerate(["i", "j", "k"]):
        await log.follow(log.told.webhook(Says(U, who, "a"), number))
        await log.follow(log.told.webhook(Says(U, who, None), 10 + number))
    await log.follow(log.told.webhook(Says(S, "k", "a"), 5, "w"))
    assert [one[0] for one in await log.waiting()] == ["w→kept", "w→kept2", "w→kept3"]
    await log.follow(log.told.webhook(Says(U, "new", None, "a"), 20, "v"))
    for address, occurred in (("x", 18), ("y", 25)):
        await log.follow(log.told.webhook(Says(U, "l", address), occurred))
    await log.follow(log.told.webhook(Says(U, "i", "x"), 30, "x"))
    assert not {event[0] for event in await log.events()} & {one[0] for one in await log.waiting()}
    for number, who in enumerate(["j", "k", "new"]):
        await log.follow(log.told.webhook(Says(U, who, f"own{number}"), 40 + number))
    stopped = {event[2] for event in await log.events() if event[1] == "stop"}
    assert stopped == {f"{name}@example.jp\r\n".encode() for name in ("a", "x", "y", "own0", "own1", "own2")}
    assert await log.waiting() == []


async def test_a_previous_address_is_no_news_however_many_have_left_it(log: Log) -> None:
    """Who names it for ever after deletes nobody who lives there now."""
    for number in range(KEPT_MAX + 3):
        await log.follow(log.told.webhook(Says(U, f"i{number}", f"own{number}", "a"), 10 + number))
    await log.follow(log.told.webhook(Says(U, None, "a"), 50))
    for number in range(KEPT_MAX + 3):
        await log.follow(log.told.webhook(Says(U, f"i{number}", f"own{number}", "a"), 60 + number))
    left = [event[3] for event in await log.events() if event[1:3] == ("delete", b"a@example.jp\r\n")]
    assert max(left) < EPOCH_1 + timedelta(seconds=50)


async def test_a_large_request_is_more_than_one_commit(log: Log) -> None:
    """So that it comes further each time that it is tried, if all of it takes too long; none is divided."""
    many = [log.told.webhook(Says(U, f"i{n}", f"a{n}"), n, f"m{n}") for n in range(PARTS_AT_ONCE_MAX * 2 + 1)]
    became = await log.follow(*many, many[3])
    assert [one.status for one in became] == ["new"] * len(many) + ["duplicate"]
    assert await log.bench.column("select count(distinct xmin::text) from event") == [3]

    await log.bench.execute(
        "create function full_disk() returns trigger language plpgsql as $f$ begin"
        "    raise exception 'no space left' using errcode = 'disk_full';"
        "end $f$"
    )
    await log.bench.execute(
        "create trigger full_disk before insert on event for each row when (new.message_id = 'n600')"
        "    execute function full_disk()"
    )
    more = [log.told.webhook(Says(U, f"i{n}", f"b{n}"), 5000 + n, f"n{n}") for n in range(PARTS_AT_ONCE_MAX * 2)]
    with pytest.raises(Unavailable):
        await log.follow(*more)
    await log.bench.execute("drop trigger full_disk on event")
    again = [one.status for one in await log.follow(*more)]
    assert again == ["duplicate"] * PARTS_AT_ONCE_MAX + ["new"] * PARTS_AT_ONCE_MAX


async def test_who_is_at_an_address_is_found_by_the_address(log: Log) -> None:
    """A late deletion by address names no customer; the stop of who has come there since is kept."""
    for says, occurred in ((Says(U, "i", "a"), 3), (Says(S, "i"), 1), (Says(D, None, "a"), 2)):
        await log.follow(log.told.webhook(says, occurred))
    assert [event[:2] for event in await log.events()][-1] == ("m3→kept", "stop")


async def test_a_late_stop_is_followed_from_address_to_address(log: Log) -> None:
    """Who left the address for one that somebody else has left since: nothing of that is in the same group."""
    moves = [("i", "a", 1), ("i", "b", 3), ("j", "b", 4), ("j", "c", 5)]
    for who, address, occurred in moves:
        await log.follow(log.told.webhook(Says(U, who, address), occurred))
    await log.follow(log.told.webhook(Says(S, None, "a"), 2, "late"))
    said = [(event[0], event[2]) for event in await log.events() if event[1] == "stop"]
    assert said == [
        ("late", b"a@example.jp\r\n"),
        ("late→kept", b"b@example.jp\r\n"),
        ("late→kept2", b"c@example.jp\r\n"),
    ]


async def test_nobody_s_clock_moves_a_customer_into_the_future(log: Log) -> None:
    """The moments of contacts are capped by Postgres's clock, as those of events are."""
    await log.follow(log.told.webhook(Says(U, "i", "a"), timedelta(days=4000).total_seconds()))
    assert await log.bench.column("select count(*) from known_address where occurred_at > now()") == [0]
    assert await log.bench.column("select count(*) from event where occurred_at > now()") == [0]


async def test_a_refused_webhook_fails_none_of_its_group(log: Log) -> None:
    """The group is split until the one at fault stands alone; the others are taken as if it had not been."""
    webhooks = [log.told.webhook(Says(U, f"i{n}", "a" if n else "b"), n + 1, f"m{n}") for n in range(7)]
    bad = webhooks[3]
    (part,) = bad.parts
    assert part.record is not None
    webhooks[3] = replace(bad, parts=(replace(part, record=replace(part.record, line=b"no line end")),))
    became = await log.follow(*webhooks)
    assert [one.status for one in became] == ["new"] * 3 + ["invalid"] + ["new"] * 3
    assert len(await log.contacts()) == 6


async def test_a_failure_fails_none_of_its_group(log: Log) -> None:
    """Whatever goes wrong in deciding on one webhook, the others are taken, and nothing is kept of that one."""

    def failing(book: Book, webhook: Followed) -> Decided:
        decided = decide(book, webhook)
        if webhook.message_id in ("m2", "m5"):
            raise KeyError(webhook.message_id)
        return decided

    webhooks = [log.told.webhook(Says(U, f"i{n}", f"a{n}"), n + 1, f"m{n}") for n in range(7)]
    became = await log.store.follow(webhooks, failing)
    assert [one.status for one in became] == ["new", "new", "failed", "new", "new", "failed", "new"]
    assert [event[0] for event in await log.events()] == ["m0", "m1", "m3", "m4", "m6"]


async def test_a_webhook_that_somebody_appended_meanwhile_is_decided_again(log: Log) -> None:
    """Relay before this version takes no lock: what it commits in between is found, not overwritten or lost."""
    webhook = log.told.webhook(Says(U, "i", "a"), 1, "m1")
    raced: list[int] = []
    async with raw_connection(log.bench.url) as other:

        def racing(book: Book, one: Followed) -> Decided:
            decided = decide(book, one)
            assert one.parts[0].record is not None
            raced.append(1)
            return decided

        record = webhook.parts[0].record
        assert record is not None
        transaction = other.transaction()
        await transaction.start()
        event_id = await raw_append(other, record)
        task = asyncio.create_task(log.store.follow([webhook], racing))
        await until(lambda: raced != [])
        await transaction.commit()
        assert await task == [Became("duplicate", ((ACCOUNT, event_id),))]
    assert len(raced) == 2


async def test_two_replicas_take_turns_with_a_customer(log: Log) -> None:
    """Moves and opt-outs of one customer from two stores at once end as if they had come one after the other."""
    async with Store.open(log.bench.url) as other:
        for number in range(10):
            who = f"i{number}"
            webhooks = [
                log.told.webhook(Says(U, who, f"a{number}"), 1),
                log.told.webhook(Says(S, who), 2),
                log.told.webhook(Says(U, who, f"b{number}"), 3),
                log.told.webhook(Says(D, None, f"a{number}"), 4),
            ]
            stores = [log.store, other, log.store, other]
            became = await asyncio.gather(
                *(store.follow([webhook], decide) for store, webhook in zip(stores, webhooks, strict=True))
            )
            assert [one.status for (one,) in became] == ["new"] * 4
    rows = await log.bench.connection.fetch(
        "select line, operation from event where operation in ('upsert', 'stop') and line like 'b%'::bytea"
    )
    said = {(row["line"].decode().strip(), row["operation"]) for row in rows}
    assert said == {(f"b{n}@example.jp", operation) for n in range(10) for operation in ("upsert", "stop")}
    assert await log.waiting() == []


async def test_a_replica_that_hangs_holds_nobody_for_long(log: Log) -> None:
    """Whoever holds the lock of an account and does nothing is ended by Postgres; a caller that gives up frees it."""
    webhook = log.told.webhook(Says(U, "i", "a"), 1)
    async with raw_connection(log.bench.url) as other:
        transaction = other.transaction()
        await transaction.start()
        row = await other.fetchrow(SQL_LOCK, [ACCOUNT])
        assert row is not None
        assert await other.fetchval("show idle_in_transaction_session_timeout") == "10s"
        waiting = asyncio.create_task(log.follow(webhook))
        await until_locked(log.bench.connection)
        waiting.cancel()
        with pytest.raises((asyncio.CancelledError, Unavailable)):
            await waiting
        await transaction.rollback()
    assert [one.status for one in await log.follow(webhook)] == ["new"]


async def until_locked(connection: asyncpg.Connection, count: int = 1) -> None:
    """Wait until so many wait for an advisory lock."""
    query = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
    async with asyncio.timeout(5):
        while await connection.fetchval(query) < count:
            await connection.execute("select pg_sleep(0.01)")


async def test_a_kill_in_between_leaves_all_or_nothing(log: Log) -> None:
    """Whatever statement the connection ends at, a move is in the log whole, or not at all and may be sent again."""
    await log.follow(log.told.webhook(Says(U, "i", "a"), 1, "m1"), log.told.webhook(Says(S, "i"), 2, "m2"))
    move = log.told.webhook(Says(U, "i", "b"), 3, "m3")
    await log.bench.execute(KILL)
    before = await log.bench.dump()
    for table in ("known_address", "former_address", "event"):
        await log.bench.execute(f"create trigger killed after insert or update on {table} execute function killed()")
        with pytest.raises(Unavailable):
            await log.follow(move)
        await log.bench.execute(f"drop trigger killed on {table}")
        assert await log.bench.dump() == before
        assert await log.contacts() == {KEYS.contact("i"): ("a@example.jp", EPOCH_1)}
    assert [one.status for one in await log.follow(move)] == ["new"]
    assert [event[0] for event in await log.events()] == ["m1", "m2", "m3", "m3→kept", "m3→moved"]


EPOCH_1 = datetime(2026, 1, 1, 0, 0, 1, tzinfo=UTC)
KILL = """
create function killed() returns trigger language plpgsql as $$
begin perform pg_terminate_backend(pg_backend_pid()); return null; end $$
"""
SQL_LOCK = sql("lock_accounts")


async def test_what_waits_is_told_counted_and_dismissed(log: Log) -> None:
    """By webhook and as a list, by source; dismissed it counts no more, and is resolved all the same."""
    for number, says in enumerate([Says(D, "i"), Says(S, "j"), Says(D, "k")]):
        await log.follow(log.told.webhook(says, number, f"w{number}"))
    listed = await log.store.list_unresolved(None, behind=0, limit=2)
    assert [one.message_id for one in listed] == ["w0", "w1"]
    assert [one.message_id for one in await log.store.list_unresolved(SOURCE, behind=listed[-1].id, limit=9)] == ["w2"]
    assert await log.store.list_unresolved("another", behind=0, limit=9) == []
    assert await log.store.count_unresolved() == {SOURCE: 3}
    assert await log.store.dismiss_unresolved(SOURCE, "w1") == 1
    assert await log.store.dismiss_unresolved(SOURCE, "w1") == 0
    assert await log.store.count_unresolved() == {SOURCE: 2}
    (found,) = await log.store.find_unresolved(SOURCE, "w1")
    assert (found.operation, found.dismissed_at is not None) == (S, True)
    await log.follow(log.told.webhook(Says(U, "j", "a"), 9, "w9"))
    assert await log.store.find_unresolved(SOURCE, "w1") == []
    assert ("w1", "stop") in [event[:2] for event in await log.events()]


async def test_what_waits_for_an_account_that_is_gone_is_told(log: Log) -> None:
    """`relay check` and the sweeper name it, as they do events that nobody sends."""
    await log.follow(log.told.webhook(Says(D, "i"), 1, "w1"))
    assert await log.store.unserved([]) == [(ACCOUNT, D)]
    assert await log.store.unserved([(ACCOUNT, D)]) == []
    await log.store.dismiss_unresolved(SOURCE, "w1")
    assert await log.store.unserved([]) == []


async def test_ids_at_the_limit_fit(log: Log) -> None:
    """A webhook's id of 200 characters has room for what is added."""
    await log.follow(log.told.webhook(Says(U, "i", "a"), 1))
    (became,) = await log.follow(log.told.webhook(Says(U, "i", "b"), 2, "~" * 200))
    assert len(became.events) == 2
