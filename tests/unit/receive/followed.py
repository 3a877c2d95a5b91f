"""Customers who move, in memory: one book that is never written back, and words for what is said to it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from relay.events import PERMISSIONS, Event, Keys, Operation
from relay.receive.followed import At, Followed, Part
from relay.receive.following import decide
from relay.store.book import Book, Decided, Place, Words

KEYS = Keys(b"0123456789abcdef")
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
ACCOUNT, SOURCE = "news", "shop"


def at(address: str | None) -> At | None:
    """An address by its part before the @."""
    return None if address is None else At(f"{address}@example.jp", KEYS.customer(f"{address}@example.jp"))


@dataclass(frozen=True, slots=True)
class Says:
    """A word as a sequence of them has it: what is asked, of which customer (by id), at which address."""

    asked: Operation
    who: str | None = None
    address: str | None = None
    previous: str | None = None

    def __repr__(self) -> str:
        told = {"": self.who, "@": self.address, "from ": self.previous}
        return f"{self.asked}({', '.join(f'{mark}{value}' for mark, value in told.items() if value is not None)})"


@dataclass(slots=True)
class PlainVoice:
    """Says everything as it is asked."""

    leaving: Operation | None = Operation.DELETE

    def event(
        self, operation: Operation, address: str, message_id: str, digest: bytes, times: tuple[datetime, datetime]
    ) -> Event:
        """Make an event whose line is the address."""
        line = f"{address}\r\n".encode()
        return Event(ACCOUNT, SOURCE, message_id, digest, operation, KEYS.customer(address), 1, line, *times)


class _AllWords(dict[Place, Words]):
    """What was said about every place: nothing, as long as nothing was."""

    def get(self, place: Place, default: object = None) -> Words:  # noqa: ARG002 - none is missing
        return self.setdefault(place, Words())

    def __missing__(self, place: Place) -> Words:
        return self.setdefault(place, Words())


@dataclass(slots=True)
class Told:
    """A log with a book of its own. Of two places that were never heard of, nothing was said."""

    voice: PlainVoice = field(default_factory=PlainVoice)
    book: Book = field(default_factory=lambda: Book(now=EPOCH + timedelta(days=1000)))
    received: int = 0

    def __post_init__(self) -> None:
        self.book.words = _AllWords()

    def webhook(self, says: Says, occurred: float, message_id: str | None = None) -> Followed:
        """Make a webhook that occurred so many seconds after the epoch, and is received after all others."""
        self.received += 1
        received_at = EPOCH + timedelta(days=30, seconds=self.received)
        occurred_at = EPOCH + timedelta(seconds=occurred)
        message_id = message_id or f"m{self.received}"
        where, digest = at(says.address), repr(says).encode().ljust(16)[:16]
        record = None
        if says.asked is Operation.UPSERT and where is not None:
            times = (occurred_at, received_at)
            record = self.voice.event(Operation.UPSERT, where.address, message_id, digest, times)
        contact = None if says.who is None else (ACCOUNT, SOURCE, KEYS.contact(says.who))
        part = Part(ACCOUNT, says.asked, says.asked, occurred_at, self.voice, contact, where, at(says.previous), record)
        return Followed(SOURCE, message_id, digest, received_at, "data.id", (part,))

    def say(self, says: Says, occurred: float, message_id: str | None = None) -> Decided:
        """Say a word."""
        return decide(self.book, self.webhook(says, occurred, message_id))

    @property
    def log(self) -> list[tuple[str, str, str, float]]:
        """What is in the log: message id, operation, address, seconds after the epoch."""
        return [
            (
                event.message_id,
                event.operation.value,
                event.line.decode().partition("@")[0],
                (event.occurred_at - EPOCH).total_seconds(),
            )
            for event in self.book.events
        ]


@dataclass(frozen=True, slots=True)
class Reader:
    """How a reader ends: there or not, stopped or not."""

    there: bool = False
    stopped: bool = False

    @property
    def mailable(self) -> bool:
        """Whether mail may be sent there."""
        return self.there and not self.stopped


def readers(events: Iterable[Event]) -> Mapping[str, Reader]:
    """Say how each address ends by the log's last words, in the order of `relay.events`."""
    ordered = sorted(
        enumerate(events), key=lambda e: (e[1].occurred_at, e[1].operation.opt_out, e[1].received_at, e[0])
    )
    found: dict[str, Reader] = {}
    for _, event in ordered:
        address = event.line.decode().partition("@")[0]
        was = found.get(address, Reader())
        if event.operation is Operation.UPSERT:
            found[address] = Reader(there=True, stopped=was.stopped)
        elif event.operation is Operation.DELETE:
            found[address] = Reader()
        elif event.operation in PERMISSIONS:
            found[address] = Reader(was.there, stopped=event.operation is not Operation.ALLOW)
    return found


def mailable(told: Told) -> set[str]:
    """Name the addresses that may be mailed."""
    return {address for address, reader in readers(told.book.events).items() if reader.mailable}
