"""Webhooks of customers who are followed, as they are before it is known who is where. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from relay.events import Event, Operation
from relay.receive.mapping import OCCURRED_AT_MIN, Remark
from relay.store.book import Contact, ContactKey, Place, Unresolved, Word, latest

LONG_AGO = OCCURRED_AT_MIN
"""When a customer was at an address of which only an opt-out tells: any record knows better, for none is older."""


class Voice(Protocol):
    """How words about addresses are said to one account."""

    leaving: Operation | None
    """What a customer's deletion is there, None if nothing."""

    def event(
        self, operation: Operation, address: str, message_id: str, digest: bytes, times: tuple[datetime, datetime]
    ) -> Event:
        """Make the event of an opt-out or allow. `times` are when it occurred and when it was received."""


@dataclass(frozen=True, slots=True)
class At:
    """An address and the customer that it is in the log."""

    address: str
    customer: bytes

    def __repr__(self) -> str:
        return "At(<address>)"


@dataclass(frozen=True, slots=True)
class Part:
    """A webhook as it goes to one account.

    `asked` is what its type asks for, `operation` what this is there (None: nothing), `contact` the customer, `at` its
    address, `previous` the one before; `record` the finished event of an upsert. `anonymous`: the source has no ids;
    the contact is whoever came to this address from the one before.
    """

    account: str
    asked: Operation
    operation: Operation | None
    occurred_at: datetime
    voice: Voice
    contact: ContactKey | None = None
    at: At | None = None
    previous: At | None = None
    record: Event | None = None
    anonymous: bool = False


@dataclass(frozen=True, slots=True)
class Followed:
    """A webhook with its parts, and what the sender is to be told. `id_field` is where it names the customer."""

    source: str
    message_id: str
    digest: bytes
    received_at: datetime
    id_field: str
    parts: tuple[Part, ...]
    remarks: tuple[Remark, ...] = ()
    replaced: Mapping[str, int] = field(default_factory=dict)

    @property
    def accounts(self) -> list[str]:
        """Where it goes."""
        return [part.account for part in self.parts]

    @property
    def contacts(self) -> list[ContactKey]:
        """Whom it is about, as far as it says."""
        return [part.contact for part in self.parts if part.contact is not None]

    @property
    def places(self) -> list[Place]:
        """The addresses in it."""
        return [(part.account, at.customer) for part in self.parts for at in (part.at, part.previous) if at is not None]

    @property
    def left_places(self) -> list[Place]:
        """Those of them where its customer was before."""
        return [(part.account, part.previous.customer) for part in self.parts if part.previous is not None]

    @property
    def opts_out(self) -> bool:
        """Whether it is an opt-out."""
        return any(part.operation is not None and part.operation.opt_out for part in self.parts)


def at_of(contact: Contact | None) -> At | None:
    """Give the address where a contact is, if it has one."""
    if contact is None or contact.address is None or contact.customer is None:
        return None
    return At(contact.address, contact.customer)


def same(at: At | None, other: At | None) -> bool:
    """Say whether two addresses are there and the same customer's in the log."""
    return at is not None and other is not None and at.customer == other.customer


def over(contact: Contact, word: Word) -> bool:
    """Say whether a stop holds no more for a contact: it was allowed, or deleted, afterwards."""
    cleared_at = latest(contact.allowed_at, contact.deleted_at)
    return cleared_at is not None and cleared_at > word.occurred_at


def word_of(one: Unresolved) -> Word:
    """Give the word that waits."""
    return Word(one.operation, one.occurred_at, one.received_at)


def rank(word: Word) -> tuple[datetime, bool, datetime]:
    """Order words."""
    return word.rank
