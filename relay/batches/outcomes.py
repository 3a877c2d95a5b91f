"""What an upload came to: a vendor's failure is data."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LineRejection:
    """One line that the vendor refused. `line` counts the header as line 1. `message` is the vendor's text.

    `unconfirmed` marks a line whose refusal may only echo an earlier upload of the same line (mode `create`).
    """

    line: int
    message: str
    unconfirmed: bool = False


@dataclass(frozen=True, slots=True)
class Delivered:
    """The vendor confirmed every line but the rejected ones."""

    rejections: tuple[LineRejection, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The vendor took the file and will not tell more."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Busy:
    """The vendor is busy with another import, or asks for patience. No attempt is burnt."""

    reason: str
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Quota:
    """The day's calls are spent: the lane waits until the vendor's next day (00:00 in Japan)."""

    reason: str


@dataclass(frozen=True, slots=True)
class Transient:
    """It failed before the first byte of the body was sent: nothing can have arrived."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """It may have arrived, wholly or in part. `timed_out` makes the next file smaller."""

    reason: str
    timed_out: bool = False


@dataclass(frozen=True, slots=True)
class Unauthorized:
    """The vendor does not let this login in: an operator has to act."""

    reason: str


@dataclass(frozen=True, slots=True)
class Misconfigured:
    """The vendor does not understand what the settings make relay send: an operator has to act."""

    reason: str


@dataclass(frozen=True, slots=True)
class TooLarge:
    """The vendor takes no file of this size."""

    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The vendor refused the whole file for its content without naming a line."""

    reason: str


Outcome = Delivered | Accepted | Busy | Quota | Transient | Unknown | Unauthorized | Misconfigured | TooLarge | Refused

OUTCOMES: Mapping[type[Outcome], str] = {
    Delivered: "delivered",
    Accepted: "accepted",
    Busy: "busy",
    Quota: "quota",
    Transient: "transient",
    Unknown: "unknown",
    Unauthorized: "unauthorized",
    Misconfigured: "misconfigured",
    TooLarge: "too_large",
    Refused: "refused",
}
"""The outcome's name in the `upload` table, in logs and as a metric's label."""
