"""Appending webhooks of customers who are followed: read the book, decide, append, write it back, or nothing of it.

Theory of operation. What such a webhook comes to depends on where its customer was before, and on what was said about
those addresses, so that it cannot be one statement. It is one transaction instead, which first takes a lock for each of
its accounts, exclusively and in one order. A lock by account, not by customer: an opt-out by address concerns everybody
who has left the address, and a change of address concerns what was said about two; whom a webhook concerns is found out
only behind the lock, also for customers of whom nothing is known yet and who have no row to lock. So two replicas take
turns; a group of webhooks takes one turn. Other sources of the account go this way, too (`relay.receive.follower`).

The lock that keeps the log's ids without gaps is taken by the append, which is the last statement before the commit.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import asyncpg

from relay.errors import Unavailable
from relay.events import ADDED_SUFFIXES, KEPT_MAX, LEAVING_SUFFIXES, Event, Operation, origin
from relay.log import logger
from relay.store.append import DEADLOCK_TRIES_MAX, REFUSED, Known, arrays
from relay.store.book import Became, Book, Contact, ContactKey, Decided, KnownPart, Place, Said, Unresolved, Word, Words
from relay.store.database import Connection, Database, sql

HOPS_MAX = 5
"""So many times in a row an opt-out that came late is followed from one address to the next."""

RESIDENTS_MAX = 100
"""So many customers at one address are looked at, the latest: more share a mailbox only by mistake."""

DECIDED_AT_ONCE_MAX = 50
"""After so many parts (some 2 ms) other requests get their turn."""

PARTS_AT_ONCE_MAX = 500
"""So many parts (a webhook has one for each account) are one transaction, of some 0.2 s. What is committed stays so if
the rest takes too long: the sender tries again, gets over it quickly and comes further."""

_LEAVING = [f"%{suffix}" for suffix in LEAVING_SUFFIXES]

log = logger(__name__)

_Said = TypeVar("_Said", bound=Said)

Decide = Callable[[Book, _Said], Decided]
"""Decides on one webhook as the book stands, and writes into the book what it comes to."""


class _UndecidedError(Exception):
    """A webhook could not be decided on: a bug, whose exception is the cause."""


class _RacedError(Exception):
    """A webhook was appended meanwhile by somebody who takes no lock: what was decided is out of date."""


class Following(Database):
    """Appends webhooks of customers who are followed."""

    async def known_followed(self, source: str, message_ids: Sequence[str]) -> dict[str, list[Known]]:
        """Find webhooks of a source that were appended before, with their events; of those that wait the id is 0."""
        known: dict[str, list[Known]] = {}
        for row in await self.fetch("find_followed", [source] * len(message_ids), message_ids, ADDED_SUFFIXES):
            if row["id"] is not None or row["message_id"] == row["webhook_id"]:
                known.setdefault(row["webhook_id"], []).append(Known(row["account"], row["id"] or 0, row["digest"]))
        return known

    async def follow(self, webhooks: Sequence[_Said], decide: Decide[_Said]) -> list[Became]:
        """Append webhooks and say of each, in the order given, what became of it; they are committed on return.

        Many are more than one transaction (`PARTS_AT_ONCE_MAX`): when it fails, the first of them may be committed.

        A webhook that Postgres refuses, or on which `decide` fails, fails none of its neighbours. Raises Unavailable
        when Postgres is gone: then nothing is known, and trying again does no harm.
        """
        said = [webhook for webhook in webhooks if webhook.accounts]
        if not said:  # one that every account ignores is taken
            return [Became("new") for _ in webhooks]
        async with self.connection() as connection:
            done = [one for some in _slices(said) for one in await _follow_split(connection, some, decide)]
        became = iter(done)
        return [next(became) if webhook.accounts else Became("new") for webhook in webhooks]


def _slices(webhooks: Sequence[_Said]) -> Iterable[Sequence[_Said]]:
    """Divide webhooks into what is one transaction; a webhook is never divided."""
    first = parts = 0
    for number, webhook in enumerate(webhooks):
        if number > first and parts + len(webhook.accounts) > PARTS_AT_ONCE_MAX:
            yield webhooks[first:number]
            first, parts = number, 0
        parts += len(webhook.accounts)
    yield webhooks[first:]


async def _follow_split(connection: Connection, webhooks: Sequence[_Said], decide: Decide[_Said]) -> list[Became]:
    try:
        return await _follow_group(connection, webhooks, decide)
    except (*REFUSED, _UndecidedError) as error:
        if len(webhooks) == 1:
            return [_refused(error)]
        half = len(webhooks) // 2
        first = await _follow_split(connection, webhooks[:half], decide)
        return first + await _follow_split(connection, webhooks[half:], decide)


def _refused(error: Exception) -> Became:
    if not isinstance(error, _UndecidedError):
        return Became("invalid")
    log.error("follow_failed", exc_info=error.__cause__)
    return Became("failed")


async def _follow_group(connection: Connection, webhooks: Sequence[_Said], decide: Decide[_Said]) -> list[Became]:
    for _ in range(DEADLOCK_TRIES_MAX):
        try:
            async with connection.transaction(isolation="read_committed"):
                book = await _read(connection, webhooks)
                decided = await _decide(book, webhooks, decide)
                await _write(connection, book)
                book.ids |= await _append(connection, book.events)
        except (asyncpg.DeadlockDetectedError, _RacedError):
            continue
        return [_became(webhook, one, book) for webhook, one in zip(webhooks, decided, strict=True)]
    raise Unavailable("other appends came in between")


async def _decide(book: Book, webhooks: Sequence[_Said], decide: Decide[_Said]) -> list[Decided]:
    decided, parts = [], 0
    for webhook in webhooks:
        try:
            decided.append(decide(book, webhook))
        except Exception as error:  # whatever it is, the neighbours must not pay for it
            raise _UndecidedError from error
        parts += len(webhook.accounts)
        if parts >= DECIDED_AT_ONCE_MAX:
            parts = 0
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
        for row in await connection.fetch(sql("find_residents"), *_columns(sorted(wanted)), RESIDENTS_MAX):
            key = (row["account"], row["source"], row["customer_id"])
            if key not in book.contacts:
                book.know(key, _contact(row))
        await _read_words(connection, book, wanted)
    return book


async def _read_webhooks(connection: Connection, book: Book, webhooks: Sequence[Said]) -> None:
    named = sorted({(one.source, one.message_id) for one in webhooks})
    for row in await connection.fetch(sql("find_followed"), *_columns(named), ADDED_SUFFIXES):
        waits = row["id"] is None
        if not waits or row["message_id"] == row["webhook_id"]:
            part = KnownPart(row["account"], None if waits else row["message_id"], row["digest"])
            book.webhooks.setdefault((row["source"], row["webhook_id"]), []).append(part)
        _take(book, row)


def _take(book: Book, row: asyncpg.Record) -> None:
    """Take note of a key that is in use: no two events may have one, nor may what waits to be one."""
    at = (row["source"], row["message_id"], row["account"])
    if row["id"] is None:
        book.used.add(at)
    else:
        book.ids[at] = row["id"]


async def _read_contacts(connection: Connection, book: Book, keys: Sequence[ContactKey]) -> None:
    for row in await connection.fetch(sql("read_contacts"), *_columns(keys)):
        book.know((row["account"], row["source"], row["customer_id"]), _contact(row))
    await _read_waiting(connection, book, keys)
    webhooks = {(one.source, origin(one.message_id)[0]) for waiting in book.waiting.values() for one in waiting}
    if webhooks:  # what else these are in the log as
        for row in await connection.fetch(sql("find_followed"), *_columns(sorted(webhooks)), ADDED_SUFFIXES):
            _take(book, row)


async def _read_waiting(connection: Connection, book: Book, keys: Sequence[ContactKey]) -> None:
    for row in await connection.fetch(sql("read_unresolved"), *_columns(keys)):
        waiting = Unresolved(**{**row, "operation": Operation(row["operation"])})
        book.waiting.setdefault(waiting.contact, []).append(waiting)


async def _read_former(connection: Connection, book: Book, webhooks: Sequence[Said]) -> None:
    """Read who has left the places that the webhooks are about; where they opt out, also who has left those behind."""
    places = {place for webhook in webhooks for place in webhook.places} | set(_places(book))
    if not places:
        return
    opts_out = bool(book.waiting) or any(webhook.opts_out for webhook in webhooks)
    columns = _columns(sorted(places))
    for row in await connection.fetch(sql("reach"), *columns, 0 if opts_out else HOPS_MAX, HOPS_MAX, KEPT_MAX):
        key = (row["account"], row["source"], row["customer_id"])
        book.know(key, _contact(row))
        book.former.setdefault((row["account"], row["left_customer"]), {})[key] = row["left_at"]
    await _read_left(connection, book, webhooks)
    named = {key for webhook in webhooks for key in webhook.contacts}
    gone = {key for former in book.former.values() for key in former}
    nowhere = sorted(key for key in gone - named if book.contacts[key].customer is None)
    if opts_out and nowhere:  # what waits for them need not wait twice
        await _read_waiting(connection, book, nowhere)


async def _read_left(connection: Connection, book: Book, webhooks: Sequence[Said]) -> None:
    """Read whether the customers that are named have left the places beside them: not only who left these last."""
    pairs = {
        (*place, *key[1:])
        for webhook in webhooks
        for key in webhook.contacts
        if key in book.contacts
        for place in webhook.places
        if place[0] == key[0]
    }
    if pairs:
        for row in await connection.fetch(sql("read_former"), *_columns(sorted(pairs))):
            key = (row["account"], row["source"], row["customer_id"])
            book.former.setdefault((row["account"], row["customer"]), {})[key] = row["left_at"]


def _wanted(book: Book, webhooks: Sequence[Said]) -> set[Place]:
    """Name the places about which it has to be known what was said.

    Not those where a customer simply stays, which are nearly all: there the log's own order of words is enough.
    """
    wanted = set(book.former)
    gone = {key for former in book.former.values() for key in former}
    mentioned: dict[ContactKey, set[Place]] = {key: set() for key in gone}
    moving = set(book.waiting)
    for webhook in webhooks:
        wanted.update(webhook.left_places)
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
        nowhere = here is not None and here.customer is None
        if len(places) > 1 or nowhere or key in moving or key in gone:
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
    rows = await connection.fetch(sql("append"), *arrays(ordered), True)
    if len(rows) != len(events):
        raise _RacedError
    return {(row["source"], row["message_id"], row["account"]): row["id"] for row in rows}


def _fields(one: object, kind: type[Any]) -> tuple[object, ...]:
    return tuple(getattr(one, name) for name in kind.__slots__)


def _columns(rows: Sequence[Sequence[object]]) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)]
