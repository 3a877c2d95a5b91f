"""Appending webhooks of customers who are followed: read the book, decide, append, write it back, or nothing of it.

Theory of operation. What such a webhook comes to depends on where its customer was before, and on what was said about
those addresses, so that it cannot be one statement. It is one transaction instead, which first takes a lock for each of
its accounts, exclusively and in one order. A lock by account, not by customer: an opt-out by address concerns everybody
who has left the address, and a change of address concerns what was said about two; whom a webhook concerns is found out
only behind the lock, also for customers of whom nothing is known yet and who have no row to lock. So two replicas take
turns; a group of webhooks takes one turn. Other sources of the account go this way, too (`relay.receive.mapping`).

The lock that keeps the log's ids without gaps is taken by the append, which is the last statement before the commit.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import asyncpg

from relay.errors import Unavailable
from relay.events import ADDED_SUFFIXES, KEPT_MAX, LEAVING_SUFFIXES, Event, Operation, origin
from relay.store.append import DEADLOCK_TRIES_MAX, REFUSED, Known, arrays
from relay.store.book import Became, Book, Contact, ContactKey, Decided, KnownPart, Place, Said, Unresolved, Word, Words
from relay.store.database import Connection, Database, sql

HOPS_MAX = 5
"""So many times in a row an opt-out that came late is followed from one address to the next."""

RESIDENTS_MAX = 100
"""So many customers at one address are looked at, the latest: more share a mailbox only by mistake."""

DECIDED_AT_ONCE_MAX = 50
"""After so many webhooks (some 2 ms) other requests get their turn."""

_LEAVING = [f"%{suffix}" for suffix in LEAVING_SUFFIXES]

_Said = TypeVar("_Said", bound=Said)

Decide = Callable[[Book, _Said], Decided]
"""Decides on one webhook as the book stands, and writes into the book what it comes to."""


class _RacedError(Exception):
    """A webhook was appended meanwhile by somebody who takes no lock: what was decided is out of date."""


class Following(Database):
    """Appends webhooks of customers who are followed."""

    async def known_followed(self, source: str, message_ids: Sequence[str]) -> dict[str, list[Known]]:
        """Find webhooks of a source that were appended before, with their events; of those that wait the id is 0."""
        known: dict[str, list[Known]] = {}
        for row in await self.fetch("find_followed", [source] * len(message_ids), message_ids, ADDED_SUFFIXES):
            known.setdefault(row["webhook_id"], []).append(Known(row["account"], row["id"] or 0, row["digest"]))
        return known

    async def follow(self, webhooks: Sequence[_Said], decide: Decide[_Said]) -> list[Became]:
        """Append webhooks and say of each, in the order given, what became of it; they are committed on return.

        A webhook that Postgres refuses fails none of its neighbours. Raises Unavailable when Postgres is gone: then
        nothing is known, and trying again does no harm.
        """
        if not webhooks:
            return []
        async with self.connection() as connection:
            return await _follow_split(connection, webhooks, decide)


async def _follow_split(connection: Connection, webhooks: Sequence[_Said], decide: Decide[_Said]) -> list[Became]:
    try:
        return await _follow_group(connection, webhooks, decide)
    except REFUSED:
        if len(webhooks) == 1:
            return [Became("invalid")]
        half = len(webhooks) // 2
        first = await _follow_split(connection, webhooks[:half], decide)
        return first + await _follow_split(connection, webhooks[half:], decide)


async def _follow_group(connection: Connection, webhooks: Sequence[_Said], decide: Decide[_Said]) -> list[Became]:
    for _ in range(DEADLOCK_TRIES_MAX):
        try:
            async with connection.transaction():
                book = await _read(connection, webhooks)
                decided = await _decide(book, webhooks, decide)
                await _write(connection, book)
                book.ids |= await _append(connection, book.events)
        except (asyncpg.DeadlockDetectedError, _RacedError):
            continue
        return [_became(webhook, one, book) for webhook, one in zip(webhooks, decided, strict=True)]
    raise Unavailable("deadlock")


async def _decide(book: Book, webhooks: Sequence[_Said], decide: Decide[_Said]) -> list[Decided]:
    decided = []
    for number, webhook in enumerate(webhooks, 1):
        decided.append(decide(book, webhook))
        if number % DECIDED_AT_ONCE_MAX == 0:
            await asyncio.sleep(0)
    return decided


def _became(webhook: Said, decided: Decided, book: Book) -> Became:
    """Say what became of a webhook, its events in the order of its accounts."""
    order = {account: place for place, account in enumerate(webhook.accounts)}
    events = [
        (part.account, book.ids[webhook.source, part.message_id, part.account])
        for part in decided.parts
        if part.message_id is not None
    ]
    events.sort(key=lambda event: (order.get(event[0], len(order)), event[1]))
    unresolved = [part.account for part in decided.parts if part.message_id is None]
    return Became(decided.status, tuple(events), tuple(unresolved), decided.appended)


# -- reading ---------------------------------------------------------------------------------------------------------


async def _read(connection: Connection, webhooks: Sequence[Said]) -> Book:
    """Lock the accounts and read all that the webhooks may need."""
    accounts = sorted({account for webhook in webhooks for account in webhook.accounts})
    locked = await connection.fetch(sql("lock_accounts"), accounts)
    book = Book(now=locked[0]["now"])
    await _read_webhooks(connection, book, webhooks)
    keys = sorted({key for webhook in webhooks for key in webhook.contacts})
    if keys:
        await _read_contacts(connection, book, keys)
    await _read_former(connection, book, webhooks)
    wanted = _wanted(book, webhooks)
    if wanted:
        await _read_words(connection, book, wanted)
    return book


async def _read_webhooks(connection: Connection, book: Book, webhooks: Sequence[Said]) -> None:
    sources, message_ids = zip(*sorted({(one.source, one.message_id) for one in webhooks}), strict=True)
    for row in await connection.fetch(sql("find_followed"), sources, message_ids, ADDED_SUFFIXES):
        part = KnownPart(row["account"], row["message_id"], row["digest"])
        book.webhooks.setdefault((row["source"], row["webhook_id"]), []).append(part)
        if part.message_id is not None:
            book.ids[row["source"], part.message_id, part.account] = row["id"]


async def _read_contacts(connection: Connection, book: Book, keys: Sequence[ContactKey]) -> None:
    columns = _columns(keys)
    for row in await connection.fetch(sql("read_contacts"), *columns):
        book.know((row["account"], row["source"], row["customer_id"]), _contact(row))
    for row in await connection.fetch(sql("read_unresolved"), *columns):
        waiting = Unresolved(**{**row, "operation": Operation(row["operation"])})
        book.waiting.setdefault(waiting.contact, []).append(waiting)
    webhooks = {(one.source, origin(one.message_id)[0]) for waiting in book.waiting.values() for one in waiting}
    if webhooks:  # what else these are in the log as: no two events may have one id
        for row in await connection.fetch(sql("find_followed"), *_columns(sorted(webhooks)), ADDED_SUFFIXES):
            if row["message_id"] is not None:
                book.ids[row["source"], row["message_id"], row["account"]] = row["id"]


async def _read_former(connection: Connection, book: Book, webhooks: Sequence[Said]) -> None:
    """Read who has left the places that the webhooks are about; where they opt out, also who has left those behind."""
    places = {place for webhook in webhooks for place in webhook.places} | set(_places(book))
    if not places:
        return
    opts_out = bool(book.waiting) or any(webhook.opts_out for webhook in webhooks)
    columns = _columns(sorted(places))
    if opts_out:
        for row in await connection.fetch(sql("find_residents"), *columns, RESIDENTS_MAX):
            book.know((row["account"], row["source"], row["customer_id"]), _contact(row))
    for row in await connection.fetch(sql("reach"), *columns, 0 if opts_out else HOPS_MAX, HOPS_MAX, KEPT_MAX):
        key = (row["account"], row["source"], row["customer_id"])
        book.know(key, _contact(row))
        book.former.setdefault((row["account"], row["left_customer"]), {})[key] = row["left_at"]


def _wanted(book: Book, webhooks: Sequence[Said]) -> set[Place]:
    """Name the places about which it has to be known what was said.

    Not those where a customer simply stays, which are nearly all: there the log's own order of words is enough.
    """
    wanted = set(book.former)
    gone = {key for former in book.former.values() for key in former}
    mentioned: dict[ContactKey, set[Place]] = {key: set() for key in gone}
    moving = set(book.waiting)
    for webhook in webhooks:
        if webhook.opts_out:
            wanted.update(webhook.places)
            moving.update(webhook.contacts)
        for key in webhook.contacts:
            named = [place for place in webhook.places if place[0] == key[0]]
            mentioned.setdefault(key, set()).update(named)
            moving.update([] if named else [key])  # its address may have been taken away
    for key, places in mentioned.items():
        here = book.contacts.get(key)
        if here is not None and here.customer is not None:
            places.add((key[0], here.customer))
        if len(places) > 1 or key in moving or key in gone:
            wanted |= places
    return wanted


async def _read_words(connection: Connection, book: Book, places: Iterable[Place]) -> None:
    """Read what was said about places."""
    ordered = sorted(places)
    book.words.update((place, Words()) for place in ordered)
    for row in await connection.fetch(sql("read_words"), *_columns(ordered), _LEAVING):
        word = Word(Operation(row["operation"]), row["occurred_at"], row["received_at"])
        book.words[row["account"], row["customer"]].note(word, origin(row["message_id"])[1])


def _places(book: Book) -> Iterable[Place]:
    return [(key[0], one.customer) for key, one in book.contacts.items() if one.customer is not None]


def _contact(row: asyncpg.Record) -> Contact:
    return Contact(**{name: row[name] for name in Contact.__slots__})


# -- writing ---------------------------------------------------------------------------------------------------------


async def _write(connection: Connection, book: Book) -> None:
    """Write back what has changed, all but the events."""
    if book.changed_contacts:
        contacts = [(*key, *_fields(book.contacts[key], Contact)) for key in sorted(book.changed_contacts)]
        await connection.execute(sql("keep_contacts"), *_columns(contacts))
    if book.changed_former:
        former = [(*place, *key[1:], book.former[place][key]) for place, key in sorted(book.changed_former)]
        await connection.execute(sql("keep_former"), *_columns(former))
    if book.new_unresolved:
        waiting = [_fields(one, Unresolved) for one in book.new_unresolved.values()]
        await connection.execute(sql("keep_unresolved"), *_columns(waiting))
    if book.resolved:
        await connection.execute(sql("drop_resolved"), *_columns(book.resolved))


async def _append(connection: Connection, events: Sequence[Event]) -> dict[tuple[str, str, str], int]:
    """Append events, and give their ids. Raises _RacedError where one is in the log already."""
    if not events:
        return {}
    ordered = sorted(events, key=lambda event: event.unique_key)
    rows = await connection.fetch(sql("append_followed"), *arrays(ordered))
    if len(rows) != len(events):
        raise _RacedError
    return {(row["source"], row["message_id"], row["account"]): row["id"] for row in rows}


def _fields(one: object, kind: type[Any]) -> tuple[object, ...]:
    return tuple(getattr(one, name) for name in kind.__slots__)


def _columns(rows: Sequence[Sequence[object]]) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)]
