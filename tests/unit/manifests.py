"""Manifests for tests, and a log in memory that is cut and settled as the real one is, without a database."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from relay.batches import OPEN, TRANSITIONS, BatchState, Cursor, Manifest, Outcome, Settlement, Terms, settle
from relay.events import Operation

TERMS = Terms(attempts_max=10, file_bytes_max=10_000_000, settle_after_s=0)
HEADER_BYTES = 10
LINE_BYTES = 50


def manifest(
    operation: Operation = Operation.UPSERT,
    rows: int = 100,
    *,
    cut_from: int = 1000,
    cursor: Cursor | None = None,
    state: BatchState = BatchState.UPLOADING,
    batch_id: int = 7,
) -> Manifest:
    """Make the manifest of a batch of so many rows, one id after the other."""
    return Manifest(
        account="news",
        id=batch_id,
        login="login",
        operation=operation,
        layout=1,
        header=("E-Mail",),
        cut_from=cut_from,
        cut_to=cut_from + rows,
        rows=rows,
        bytes=HEADER_BYTES + rows * LINE_BYTES,
        sha256="0" * 64,
        state=state,
        uploads=1,
        cursor=cursor or Cursor(),
    )


@dataclass(slots=True)
class Filed:
    """A batch of the log in memory: ids from `cut_from` + 1 to `cut_to`."""

    cut_from: int
    cut_to: int
    state: BatchState
    refused: bool = False


@dataclass(slots=True)
class PureLog:
    """A log of events 1 to `events` of one operation, cut and settled by the rules alone."""

    events: int
    operation: Operation = Operation.UPSERT
    terms: Terms = TERMS
    cursor: Cursor = field(default_factory=Cursor)
    position: int = 0
    uploads: int = 0
    waited_s: float = 0
    filed: list[Filed] = field(default_factory=list)

    def flush(self, answer: Callable[[range], Outcome]) -> Settlement:
        """Cut the next batch, let its ids be answered, and settle it."""
        bytes_max = self.cursor.bytes_max or self.terms.file_bytes_max
        fitting = max(1, min(self.cursor.rows_max or self.events, (bytes_max - HEADER_BYTES) // LINE_BYTES))
        batch = manifest(
            self.operation, min(fitting, self.events - self.position), cut_from=self.position, cursor=self.cursor
        )
        self.uploads += 1
        settlement = settle(batch, answer(range(batch.cut_from + 1, batch.cut_to + 1)), self.terms)
        assert settlement.state in TRANSITIONS[BatchState.UPLOADING]
        self.position = batch.cut_to
        self.filed.append(Filed(batch.cut_from, batch.cut_to, settlement.state, settlement.refused))
        self._follow(settlement, batch.cut_from)
        return settlement

    def _follow(self, settlement: Settlement, cut_from: int) -> None:
        self.waited_s += settlement.delay_s or 0
        self.cursor = replace(settlement.cursor, sent_to=max(self.cursor.sent_to, settlement.cursor.sent_to))
        if settlement.take_back_from is not None:
            for batch in self.filed:
                if batch.state is BatchState.FAILED and batch.refused and batch.cut_from >= settlement.take_back_from:
                    assert BatchState.REPLACED in TRANSITIONS[batch.state]
                    batch.state = BatchState.REPLACED
        if settlement.position is not None:
            self.position = settlement.position
        elif settlement.state in OPEN:
            # The same batch goes up again, or must shrink first: for the rules it is cut anew either way.
            self.position = cut_from
            self.filed.pop()

    @property
    def closed(self) -> list[Filed]:
        """The batches that events are in for good, in the order of their ids."""
        return sorted((b for b in self.filed if b.state is not BatchState.REPLACED), key=lambda b: b.cut_from)

    def ids_in(self, *states: BatchState) -> set[int]:
        """The events that are in batches of these states."""
        return {i for b in self.filed if b.state in states for i in range(b.cut_from + 1, b.cut_to + 1)}


def assert_sizes_grow_back(log: PureLog, answer: Callable[[range], Outcome]) -> None:
    """Flush until a line was rejected; from then on each file is up to twice as large, until there is no limit."""
    while not any(b.refused for b in log.filed):
        log.flush(answer)
    grown = []
    while log.cursor.rows_max is not None:
        grown.append(log.cursor.rows_max)
        log.flush(answer)
        assert len(grown) <= 2 * math.log2(log.events)
    assert grown == sorted(grown)
    log.flush(answer)
    assert log.closed[-1].cut_to - log.closed[-1].cut_from == (TERMS.file_bytes_max - HEADER_BYTES) // LINE_BYTES
