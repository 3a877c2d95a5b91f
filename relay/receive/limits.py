"""What one request may cost, and all together. Each limit is a setting, and each has a name for counting refusals."""

from dataclasses import dataclass
from types import TracebackType
from typing import Self

from relay.errors import Unavailable
from relay.settings import Process

SMALL_BYTES = 16_384
"""A body up to this is small: the webhook of one customer has a tenth of it."""

SMALL_SHARE = 5
"""One part in so many of the memory for bodies is kept for small ones: slow senders of large bodies cannot lock out the
webhooks of all others."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of what is received: sizes in bytes after inflation, times in seconds.

    `webhook_bytes_max` is for one webhook, `body_bytes_max` for a request with many, `receiving_bytes_max` for all
    bodies that are held at the same time.
    """

    body_timeout_s: float = 30.0
    webhook_bytes_max: int = 1_000_000
    body_bytes_max: int = 10_000_000
    receiving_bytes_max: int = 50_000_000
    webhooks_max: int = 1_000
    values_max: int = 200_000
    nesting_max: int = 64
    string_characters_max: int = 100_000

    @classmethod
    def of(cls, process: Process) -> "Limits":
        """Take them from the process's settings."""
        return cls(
            body_timeout_s=process.body_timeout_s,
            webhook_bytes_max=min(process.webhook_bytes_max, process.body_bytes_max),
            body_bytes_max=process.body_bytes_max,
            receiving_bytes_max=process.receiving_bytes_max,
            webhooks_max=process.webhooks_max,
            values_max=process.values_max,
            nesting_max=process.nesting_max,
            string_characters_max=process.string_characters_max,
        )


class TooMuchAtOnce(Unavailable):
    """All bodies together are too many bytes."""


class Budget:
    """The memory for the bodies of all requests together, in bytes. `held` is what they hold at this moment."""

    __slots__ = ("_bytes_max", "held")

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self.held = 0

    def room_for(self, own: int) -> bool:
        """Say whether all bodies fit, one of which then has `own` bytes. One that is alone always does."""
        if own == self.held:
            return True
        return self.held <= (
            self._bytes_max if own <= SMALL_BYTES else self._bytes_max - self._bytes_max // SMALL_SHARE
        )


class Share:
    """What one request holds of the budget, as long as the context lasts."""

    __slots__ = ("_budget", "_bytes")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._budget.held -= self._bytes
        self._bytes = 0

    def take(self, count: int) -> None:
        """Hold so many bytes more. Raises TooMuchAtOnce where all bodies together become too many."""
        self._bytes += count
        self._budget.held += count
        if not self._budget.room_for(self._bytes):
            raise TooMuchAtOnce("too many bodies are held")
