"""Events: one operation on one customer of one account, and which of two is the later word.

Theory of operation. The log holds every event for ever in the order of arrival (`id`), but what holds at the vendor is
decided by what *happened* later: `occurred_at`, then the opt-out (the safe side), then `received_at`, then `id`. An
event is superseded by a later one of the same account and customer as `SUPERSEDED_BY` says. An opt-out outlives
upserts unless it is a `delete`, because a vendor keeps a reader's permission apart from the reader's data.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Operation(StrEnum):
    """What is to be done with one customer of one account."""

    UPSERT = "upsert"
    DELETE = "delete"
    STOP = "stop"
    BAN = "ban"
    ALLOW = "allow"

    @property
    def opt_out(self) -> bool:
        """Whether the customer must not be mailed afterwards."""
        return self in OPT_OUTS


OPT_OUTS = frozenset({Operation.DELETE, Operation.STOP, Operation.BAN})
PERMISSIONS = frozenset({Operation.STOP, Operation.BAN, Operation.ALLOW})

SUPERSEDED_BY: Mapping[Operation, frozenset[Operation]] = {
    Operation.UPSERT: frozenset({Operation.UPSERT, Operation.DELETE}),
    Operation.DELETE: frozenset({Operation.DELETE, Operation.UPSERT}),
    Operation.STOP: PERMISSIONS | {Operation.DELETE},
    Operation.BAN: PERMISSIONS | {Operation.DELETE},
    Operation.ALLOW: PERMISSIONS | {Operation.DELETE},
}

TYPES: Mapping[str, Operation] = {
    "customer.created": Operation.UPSERT,
    "customer.updated": Operation.UPSERT,
    "customer.deleted": Operation.DELETE,
    "customer.stopped": Operation.STOP,
    "customer.banned": Operation.BAN,
    "customer.allowed": Operation.ALLOW,
}
"""A webhook's type and the operation it asks for; an account may map it to another one or ignore it."""

RELAY_SOURCE = "relay"
"""The source of events that relay appends again; no configured source may be called so."""


class Added(StrEnum):
    """Why relay adds an event to those that a webhook asks for: its customer has another address than before.

    `moved` and `previous` take leave of an address; `kept` is a stop or ban that holds at another address, or again;
    `deleted` is a deletion of the customer at an address where nobody has asked for it.
    """

    MOVED = "moved"
    PREVIOUS = "previous"
    KEPT = "kept"
    DELETED = "deleted"


ADDED_MARK = "→"
"""Stands between a webhook's id and why an event was added. No sender's id has it: those are printable ASCII."""

KEPT_MAX = 9
"""So many addresses one opt-out reaches beside its own. More have never belonged to one mailbox but by mistake."""

ADDED_SUFFIXES = (
    *(f"{ADDED_MARK}{added}" for added in Added),
    *(f"{ADDED_MARK}{Added.KEPT}{number}" for number in range(2, KEPT_MAX + 1)),
)
"""All that may stand behind a webhook's id in the message ids of its events."""

LEAVING = (Added.MOVED, Added.PREVIOUS, Added.DELETED)
"""What ends a customer's stay at an address, but no opt-out there: nobody has asked to delete that reader."""

LEAVING_SUFFIXES = tuple(f"{ADDED_MARK}{added}" for added in LEAVING)
"""The ends of their message ids."""


def message_ids(webhook_id: str) -> list[str]:
    """Give all message ids that events of a webhook may have."""
    return [webhook_id, *(f"{webhook_id}{suffix}" for suffix in ADDED_SUFFIXES)]


def added_id(webhook_id: str, added: Added, number: int = 1) -> str:
    """Give the message id of an added event, the `number`th of its kind."""
    return f"{webhook_id}{ADDED_MARK}{added}{number if number > 1 else ''}"


def origin(message_id: str) -> tuple[str, Added | None]:
    """Tell the webhook that an event came from, and why it was added; None where the webhook itself asked for it."""
    webhook_id, mark, added = message_id.partition(ADDED_MARK)
    return webhook_id, Added(added.rstrip("0123456789")) if mark else None


class EventState(StrEnum):
    """What became of one event. Every event is in exactly one of these."""

    PENDING = "pending"
    SUPERSEDED = "superseded"
    RETRIED = "retried"
    READY = "ready"
    UPLOADING = "uploading"
    WAITING = "waiting"
    DELIVERED = "delivered"
    ACCEPTED = "accepted"
    UNCONFIRMED = "unconfirmed"
    REJECTED = "rejected"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Event:
    """One event as it is appended.

    `digest` is the keyed hash of the webhook before mapping (16 bytes), `customer` the keyed hash of the case-folded
    address (16 bytes), `layout` the id of the columns that `line` was rendered with, `line` the finished CP932 CSV
    record with its CRLF. `occurred_at` and `received_at` are aware datetimes.
    """

    account: str
    source: str
    message_id: str
    digest: bytes
    operation: Operation
    customer: bytes
    layout: int
    line: bytes
    occurred_at: datetime
    received_at: datetime

    @property
    def unique_key(self) -> tuple[str, str, str]:
        """The key that makes a repeated webhook a duplicate; appends are sorted by it so that they cannot deadlock."""
        return (self.source, self.message_id, self.account)


@dataclass(frozen=True, slots=True)
class Keys:
    """The deployment's secret, by which customers and webhooks are hashed. Its repr tells nothing."""

    secret: bytes

    def __repr__(self) -> str:
        return "Keys(<secret>)"

    def fingerprint(self) -> str:
        """What the database remembers of the secret, so that another one is refused at start (32 hex digits)."""
        return self._hash(b"fingerprint", b"").hex()

    def customer(self, address: str) -> bytes:
        """Identify a customer by address: 16 bytes, the same for every spelling in upper and lower case."""
        return self._hash(b"customer", address.casefold().encode("utf-8"))

    def contact(self, text: str) -> bytes:
        """Identify a customer by what a source calls it, whatever its address: 16 bytes."""
        return self._hash(b"contact", text.encode("utf-8"))

    def digest(self, canonical: bytes) -> bytes:
        """Digest a webhook's type, timestamp and data as the sender sent them: 16 bytes."""
        return self._hash(b"digest", canonical)

    def settings(self, canonical: bytes) -> str:
        """Fingerprint a login's settings, secrets included, so that a change of them is seen (32 hex digits)."""
        return self._hash(b"settings", canonical).hex()

    def _hash(self, purpose: bytes, value: bytes) -> bytes:
        return hmac.digest(self.secret, purpose + b"\0" + value, "sha256")[:16]
