"""The book: all that a group of followed webhooks has to know of the log and of their customers, and what they change.

It is filled and written back by `relay.store.following`, in one transaction; who decides on the words in between asks
nothing else. A *contact* is a customer as its source knows it, under one account: `(account, source, customer_id)`. A
*place* is an address under one account: `(account, customer)`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal, Protocol

from relay.events import LEAVING, PERMISSIONS, Added, Event, Operation, origin

ContactKey = tuple[str, str, bytes]
Place = tuple[str, bytes]
EventAt = tuple[str, str, str]
"""Source, message id and account: the key of an event in the log."""


@dataclass(frozen=True, slots=True)
class Contact:
    """Where a customer is: `address` since before `occurred_at`, or without one since then (None).

    `received_at` decides where the moments are the same. `allowed_at` and `deleted_at` are the customer's last allow
    and last deletion: no earlier stop holds for it any more, wherever it was said.
    """

    address: str | None
    customer: bytes | None
    occurred_at: datetime
    received_at: datetime
    allowed_at: datetime | None = None
    deleted_at: datetime | None = None

    def __repr__(self) -> str:
        return f"Contact(<address>, occurred_at={self.occurred_at})"


@dataclass(frozen=True, slots=True)
class Word:
    """One word about a place, as far as its rank among the others goes."""

    operation: Operation
    occurred_at: datetime
    received_at: datetime

    @property
    def rank(self) -> tuple[datetime, bool, datetime]:
        """The order of the last word (`relay.events`)."""
        return (self.occurred_at, self.operation.opt_out, self.received_at)


@dataclass(slots=True)
class Words:
    """The last words about a place of each kind.

    `left` is the last of relay's own that ended somebody's stay there (`relay.events.LEAVING`), whatever its operation.
    """

    upsert: Word | None = None
    delete: Word | None = None
    opt_out: Word | None = None
    allow: Word | None = None
    left: Word | None = None

    def note(self, word: Word, added: Added | None) -> None:
        """Take note of a word if it is the last of its kind."""
        kind = _kind(word.operation, added)
        known: Word | None = getattr(self, kind)
        if known is None or word.rank >= known.rank:
            setattr(self, kind, word)


def _kind(operation: Operation, added: Added | None) -> str:
    if added in LEAVING:
        return "left"
    if operation in PERMISSIONS:
        return "allow" if operation is Operation.ALLOW else "opt_out"
    return operation.value


@dataclass(frozen=True, slots=True)
class Unresolved:
    """An opt-out that waits for its customer to have an address. One that is `quiet` is not counted.

    `source` said it; the customer may be another's (`customer_source`).
    """

    account: str
    source: str
    message_id: str
    customer_source: str
    customer_id: bytes
    digest: bytes
    operation: Operation
    occurred_at: datetime
    received_at: datetime
    quiet: bool = False

    @property
    def contact(self) -> ContactKey:
        """Whose it is."""
        return (self.account, self.customer_source, self.customer_id)


@dataclass(frozen=True, slots=True)
class KnownPart:
    """What is known of a webhook under one account: an event, or (without a message id) an unresolved opt-out."""

    account: str
    message_id: str | None
    digest: bytes


Status = Literal["new", "duplicate", "conflict", "unknown", "invalid", "failed"]


@dataclass(frozen=True, slots=True)
class Decided:
    """What a webhook comes to, as the book stands: the parts of which it is made, and what is appended with it.

    `conflict`: its id was used for something else. `unknown`: an allow of a customer of whom no address is known.
    `appended` has the accounts and operations of all new events: what waited for the address is among them.
    """

    status: Status
    parts: tuple[KnownPart, ...] = ()
    appended: tuple[tuple[str, Operation], ...] = ()


@dataclass(frozen=True, slots=True)
class Became:
    """What became of a followed webhook: as `Decided`, committed; or not.

    `invalid`: Postgres refuses it. `failed`: a bug, which is logged.
    `events` are pairs of account and id, `unresolved` the accounts where it waits for an address.
    """

    status: Status
    events: tuple[tuple[str, int], ...] = ()
    unresolved: tuple[str, ...] = ()
    appended: tuple[tuple[str, Operation], ...] = ()


class Said(Protocol):
    """A followed webhook, as far as the store has to know it."""

    @property
    def source(self) -> str:
        """Who sent it."""

    @property
    def message_id(self) -> str:
        """Its id."""

    @property
    def contacts(self) -> Sequence[ContactKey]:
        """Whom it is about, as far as it says."""

    @property
    def places(self) -> Sequence[Place]:
        """The addresses in it."""

    @property
    def left_places(self) -> Sequence[Place]:
        """Those of them that it says were left."""

    @property
    def opts_out(self) -> bool:
        """Whether it may be a stop or a ban, which is looked for at other addresses, too."""

    @property
    def accounts(self) -> Sequence[str]:
        """Where it goes."""


@dataclass(slots=True)
class Book:
    """What is known, and what has changed. `now` is Postgres's clock at the beginning of the transaction.

    `ids` are the events of the webhooks at hand that are in the log; `used` are the keys that are taken since.
    """

    now: datetime
    contacts: dict[ContactKey, Contact] = field(default_factory=dict)
    residents: dict[Place, set[ContactKey]] = field(default_factory=dict)
    former: dict[Place, dict[ContactKey, datetime]] = field(default_factory=dict)
    words: dict[Place, Words] = field(default_factory=dict)
    waiting: dict[ContactKey, list[Unresolved]] = field(default_factory=dict)
    webhooks: dict[tuple[str, str], list[KnownPart]] = field(default_factory=dict)
    ids: dict[EventAt, int] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    new_unresolved: dict[EventAt, Unresolved] = field(default_factory=dict)
    resolved: list[EventAt] = field(default_factory=list)
    used: set[EventAt] = field(default_factory=set)
    changed_contacts: set[ContactKey] = field(default_factory=set)
    changed_former: set[tuple[Place, ContactKey]] = field(default_factory=set)

    def words_at(self, place: Place) -> Words:
        """Tell the last words about a place. A place that was not read is a bug (KeyError), not one without words."""
        return self.words[place]

    def append(self, event: Event) -> None:
        """Append an event."""
        self.events.append(event)
        self.used.add(event.unique_key)
        if words := self.words.get((event.account, event.customer)):
            added = origin(event.message_id)[1]
            words.note(Word(event.operation, event.occurred_at, event.received_at), added)

    def free(self, at: EventAt) -> bool:
        """Say whether no event has this key."""
        return at not in self.ids and at not in self.used

    def know(self, key: ContactKey, contact: Contact) -> None:
        """Take note of where a contact is by what was read."""
        self.contacts[key] = contact
        if contact.customer is not None:
            self.residents.setdefault((key[0], contact.customer), set()).add(key)

    def move(self, key: ContactKey, contact: Contact) -> None:
        """Take note of where a contact is from now on."""
        was = self.contacts.get(key)
        if was is not None and was.customer is not None:
            self.residents[key[0], was.customer].discard(key)
        self.know(key, contact)
        self.changed_contacts.add(key)

    def touch(self, key: ContactKey, *, allowed_at: datetime | None = None, deleted_at: datetime | None = None) -> None:
        """Take note of a contact's allow or deletion, if it is the last."""
        contact = self.contacts[key]
        changed = replace(
            contact,
            allowed_at=latest(contact.allowed_at, allowed_at),
            deleted_at=latest(contact.deleted_at, deleted_at),
        )
        if changed != contact:
            self.move(key, changed)

    def leave(self, place: Place, key: ContactKey, left_at: datetime) -> None:
        """Take note that a contact has left a place."""
        known = self.former.setdefault(place, {})
        if key not in known or known[key] < left_at:
            known[key] = left_at
            self.changed_former.add((place, key))

    def wait(self, opt_out: Unresolved) -> None:
        """Keep an opt-out until its contact has an address."""
        self.waiting.setdefault(opt_out.contact, []).append(opt_out)
        at = (opt_out.source, opt_out.message_id, opt_out.account)
        self.new_unresolved[at] = opt_out
        self.used.add(at)

    def resolve(self, key: ContactKey) -> list[Unresolved]:
        """Give the opt-outs that wait for a contact, which then wait no more."""
        waiting = self.waiting.pop(key, [])
        for one in waiting:
            at = (one.source, one.message_id, one.account)
            if self.new_unresolved.pop(at, None) is None:
                self.resolved.append(at)
            self.used.discard(at)
        return waiting


def latest(*moments: datetime | None) -> datetime | None:
    """Give the latest moment of those that are there."""
    return max((moment for moment in moments if moment is not None), default=None)
