"""What a login does next."""

from collections.abc import Sequence
from dataclasses import dataclass

from relay.batches.states import BatchState
from relay.events import Operation


@dataclass(frozen=True, slots=True)
class Candidate:
    """What one operation of one account has to do: an open batch, or events that wait beyond the cursor.

    `waits` says that its next try is not due yet, `due` that waiting events may be cut, `age_s` how long they have
    waited; where a try has failed, only since the next one was due.
    """

    login: str
    account: str
    operation: Operation
    waits: bool
    due: bool
    age_s: float
    batch_id: int | None = None
    batch_state: BatchState | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """What a login does next: take over an upload that nobody settled, or un-cut batches, then send or cut one.

    `opt_outs` says that opt-outs have something to do, now or behind what is done first.
    """

    take_over: Candidate | None = None
    uncut: tuple[Candidate, ...] = ()
    pick: Candidate | None = None
    opt_outs: bool = False

    def __bool__(self) -> bool:
        return bool(self.take_over or self.uncut or self.pick)

    @property
    def urgent(self) -> bool:
        """Whether it cannot wait for a look at the vendor: opt-outs go up, or a dead replica's upload is settled."""
        return bool(self.take_over or (self.opt_outs and self.pick))

    @property
    def urgency(self) -> tuple[bool, float]:
        """The order in which lanes are served: opt-outs first, then the longest waiting (sort in reverse)."""
        first = self.take_over or self.pick or (self.uncut[0] if self.uncut else None)
        return (self.opt_outs, first.age_s) if first else (False, 0.0)


def choose(candidates: Sequence[Candidate]) -> Choice:
    """Choose what one login does next among what its accounts have to do.

    While an opt-out has anything to do, nothing else is sent or cut, and batches of upserts and allows are un-cut: what
    the opt-outs supersede is then left out of them. Whoever waits for a next try is passed over.
    """
    active = [c for c in candidates if c.batch_id is not None or c.due]
    opt_outs = [c for c in active if c.operation.opt_out]
    for candidate in active:
        if candidate.batch_state is BatchState.UPLOADING:
            return Choice(take_over=candidate, opt_outs=bool(opt_outs))
    ready = [c for c in (opt_outs or active) if not c.waits]
    return Choice(
        uncut=tuple(c for c in active if c.batch_id is not None and not c.operation.opt_out) if opt_outs else (),
        pick=max(ready, key=lambda c: c.age_s, default=None),
        opt_outs=bool(opt_outs),
    )
