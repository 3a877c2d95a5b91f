"""The states of a batch, and what is known of one when its upload begins."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

from relay.events import Operation
from relay.settings import Login


class BatchState(StrEnum):
    """The states of a batch."""

    READY = "ready"
    UPLOADING = "uploading"
    WAITING = "waiting"
    DELIVERED = "delivered"
    ACCEPTED = "accepted"
    UNCONFIRMED = "unconfirmed"
    FAILED = "failed"
    REPLACED = "replaced"


OPEN = frozenset({BatchState.READY, BatchState.UPLOADING, BatchState.WAITING})

TRANSITIONS: Mapping[BatchState, frozenset[BatchState]] = {
    BatchState.READY: frozenset({BatchState.UPLOADING, BatchState.REPLACED}),
    BatchState.UPLOADING: frozenset(
        {
            BatchState.WAITING,
            BatchState.DELIVERED,
            BatchState.ACCEPTED,
            BatchState.UNCONFIRMED,
            BatchState.FAILED,
            BatchState.REPLACED,
        }
    ),
    BatchState.WAITING: frozenset({BatchState.UPLOADING, BatchState.REPLACED}),
    BatchState.DELIVERED: frozenset(),
    BatchState.ACCEPTED: frozenset(),
    BatchState.UNCONFIRMED: frozenset(),
    BatchState.FAILED: frozenset({BatchState.REPLACED}),  # three rejected lines in a row are taken back
    BatchState.REPLACED: frozenset(),
}


@dataclass(frozen=True, slots=True)
class Cursor:
    """What an operation of an account remembers across batches.

    `attempts` counts failed uploads of whole files since the vendor's last word, `unanswered` those of the file at hand
    (be it a part of another) that ended Unknown, `rounds` how often rejections of unanswered lines were taken back
    since that word.
    """

    attempts: int = 0
    unanswered: int = 0
    rounds: int = 0
    sent_to: int = 0
    rows_max: int | None = None
    bytes_max: int | None = None
    suspect_to: int | None = None
    refused_lines: int = 0
    refused_from: int | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """A batch as it was filed, with its cursor's memory and the number of uploads so far.

    `waited_s` is for how long it has waited since the last of them ended; None where there was none.
    """

    account: str
    id: int
    login: str
    operation: Operation
    layout: int
    header: tuple[str, ...]
    cut_from: int
    cut_to: int
    rows: int
    bytes: int
    sha256: str | None
    state: BatchState
    uploads: int
    cursor: Cursor
    waited_s: float | None = field(default=None, compare=False)

    @property
    def must_shrink(self) -> bool:
        """Whether it has more rows than the operation's files may have by now."""
        return self.cursor.rows_max is not None and self.rows > self.cursor.rows_max


@dataclass(frozen=True, slots=True)
class Terms:
    """What a login's settings say about settling."""

    attempts_max: int
    file_bytes_max: int
    settle_after_s: float

    @classmethod
    def of(cls, login: Login) -> Self:
        """Take them from the settings."""
        return cls(login.attempts_max, login.file_bytes_max, login.settle_after_s)
