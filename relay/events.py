"""Events: one operation on one customer of one account, and which of two is the later word.

Theory of operation. The log holds every event for ever in the order of arrival (`id`), but what holds at the vendor is
decided by what *happened* later: `occurred_at`, then the opt-out (the safe side), then `received_at`, then `id`. An
event is superseded by a later one of the same account and customer as `SUPERSEDED_BY` says. An opt-out outlives
upserts unless it is a `delete`, because a vendor keeps a reader's permission apart from the reader's data.
"""

import hashlib
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

    def digest(self, canonical: bytes) -> bytes:
        """Digest a webhook's type, timestamp and data as the sender sent them: 16 bytes."""
        return self._hash(b"digest", canonical)

    def settings(self, canonical: bytes) -> str:
        """Fingerprint a login's settings, secrets included, so that a change of them is seen (32 hex digits)."""
        return self._hash(b"settings", canonical).hex()

    def _hash(self, purpose: bytes, value: bytes) -> bytes:
        return hmac.new(self.secret, purpose + b"\0" + value, hashlib.sha256).digest()[:16]
