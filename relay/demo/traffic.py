"""Streams of webhooks for generated customers, and what every reader list must say when all of it has been sent. Pure.

Customers are created, updated, stopped, allowed again, deleted and created anew; some webhooks are repeated, and some
arrive late, after what happened later. `Expected` plays the same webhooks in the order in which they happened.
"""

import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from relay import csvline
from relay.demo.customers import PLANS, Customer, generate

REPEATED_SHARE = 0.05
LATE_SHARE = 0.05
LATE_BY = 50
"""A late webhook arrives after so many others."""

_LIVES: tuple[tuple[float, tuple[str, ...]], ...] = (
    (0.55, ("created",)),
    (0.15, ("created", "updated")),
    (0.08, ("created", "updated", "updated")),
    (0.08, ("created", "deleted")),
    (0.05, ("created", "stopped")),
    (0.03, ("created", "stopped", "updated")),
    (0.03, ("created", "stopped", "allowed")),
    (0.02, ("created", "deleted", "created")),
    (0.01, ("created", "deleted", "created", "deleted")),
)
"""What happens to a customer, and to which share of them."""

_CHANGES: Mapping[str, tuple[tuple[str, float], ...]] = {
    "gone": (("created", 1.0),),
    "there": (("updated", 0.7), ("stopped", 0.1), ("deleted", 0.2)),
    "stopped": (("updated", 0.5), ("allowed", 0.5)),
}
"""What may happen to a customer who stands so, and how often.

Who is stopped is never deleted: created anew before the deletion is sent, such a one stays stopped, on the safe side.
"""

_BECOMES: Mapping[str, str] = {"created": "there", "allowed": "there", "stopped": "stopped", "deleted": "gone"}


@dataclass(frozen=True, slots=True)
class Sent:
    """One webhook as it is sent."""

    message_id: str
    type: str
    timestamp: datetime
    data: Mapping[str, str]

    def body(self) -> dict[str, object]:
        """Return what is posted."""
        return {"type": self.type, "timestamp": self.timestamp.isoformat(), "data": dict(self.data)}


def stream(customers: int, seed: int, begin: datetime) -> Iterator[Sent]:
    """Yield the webhooks of so many customers in the order of arrival; each happens a millisecond after the last."""
    return _arriving(_lives(customers, seed, begin), random.Random(seed))


def endless(customers: int, seed: int, run: str, now: Callable[[], datetime]) -> Iterator[Sent]:
    """Yield webhooks about these customers without end, in the order of arrival; each happens when it is made.

    A customer who is not there is created; one who is there is updated, stopped, deleted or, once stopped, allowed
    again (`_CHANGES`). `run` is in every webhook's id, so that a second run with the same seed repeats none of them.
    """
    return _arriving(_changes(customers, seed, run, now), random.Random(seed))


def _arriving(webhooks: Iterable[Sent], chance: random.Random) -> Iterator[Sent]:
    """Yield webhooks as they happened, but for those that are repeated or come late."""
    late: list[tuple[int, Sent]] = []
    for number, webhook in enumerate(webhooks):
        while late and late[0][0] <= number:
            yield late.pop(0)[1]
        if chance.random() < LATE_SHARE:
            late.append((number + LATE_BY, webhook))
            continue
        yield webhook
        if chance.random() < REPEATED_SHARE:
            yield webhook
    yield from (webhook for _, webhook in late)


def _lives(customers: int, seed: int, begin: datetime) -> Iterator[Sent]:
    chance = random.Random(seed + 1)
    waiting: list[tuple[int, Customer, tuple[str, ...], int]] = []
    source = generate(customers, seed)
    moment = begin
    created = 0
    while True:
        if len(waiting) < customers // 10 + 1:
            customer = next(source, None)
            if customer is not None:
                life = chance.choices([what for _, what in _LIVES], [share for share, _ in _LIVES])[0]
                created += 1
                waiting.append((created, customer, life, 0))
        if not waiting:
            return
        place = 0 if len(waiting) <= customers // 10 else chance.randrange(len(waiting))
        number, customer, life, step = waiting.pop(place)
        moment += timedelta(milliseconds=1)
        if life[step] == "updated":
            customer = replace(customer, plan=chance.choice(tuple(PLANS)), name=f"{customer.name}様")
        yield Sent(f"demo_{number}_{step}", f"customer.{life[step]}", moment, customer.data())
        if step + 1 < len(life):
            waiting.append((number, customer, life, step + 1))


def _changes(customers: int, seed: int, run: str, now: Callable[[], datetime]) -> Iterator[Sent]:
    chance = random.Random(seed + 2)
    everyone = list(generate(customers, seed))
    states = ["gone"] * customers
    for number in itertools.count(1):
        place = chance.randrange(customers)
        changes = _CHANGES[states[place]]
        what = chance.choices([change for change, _ in changes], [share for _, share in changes])[0]
        if what == "updated":
            everyone[place] = replace(everyone[place], plan=chance.choice(tuple(PLANS)))
        else:
            states[place] = _BECOMES[what]
        yield Sent(f"{run}_{number}", f"customer.{what}", now(), everyone[place].data())


@dataclass(slots=True)
class Expected:
    """The reader list that the webhooks ask for: by case-folded address, whether mailable, and the customer's data."""

    _happened: dict[str, Sent] = field(default_factory=dict)

    def hear(self, webhook: Sent) -> None:
        """Take note of a webhook; a repeated one changes nothing."""
        self._happened[webhook.message_id] = webhook

    def some_id(self) -> str:
        """The id of one of the webhooks."""
        return next(iter(self._happened))

    def readers(self) -> dict[str, tuple[bool, Mapping[str, str]]]:
        """Play everything in the order in which it happened."""
        readers: dict[str, tuple[bool, Mapping[str, str]]] = {}
        stopped: set[str] = set()
        for webhook in sorted(self._happened.values(), key=lambda webhook: webhook.timestamp):
            address = webhook.data["email"].casefold()
            match webhook.type:
                case "customer.created" | "customer.updated":
                    readers[address] = (True, webhook.data)
                case "customer.deleted":
                    readers.pop(address, None)
                    stopped.discard(address)
                case "customer.stopped":
                    stopped.add(address)
                case "customer.allowed":
                    stopped.discard(address)
                case _:
                    raise ValueError(webhook.type)
        return {address: (address not in stopped, data) for address, (_, data) in readers.items()}


def as_mailed(text: str) -> str:
    """What of a text can be written in Shift_JIS."""
    return csvline.replace_unencodable(csvline.fold(text))
