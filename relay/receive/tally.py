"""What becomes of each webhook of a request that carries many. Pure.

The webhooks are added one by one, their events appended together, and `settle` says what the log made of them. Every
webhook ends in exactly one of the results, which are also the metric's labels.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from relay.errors import FieldError, Invalid
from relay.events import TYPES, Event
from relay.receive.answers import ManyTaken, Mistake, RefusedWebhook, WarnedWebhook
from relay.receive.mapping import Mapped, Mapper
from relay.receive.parse import Refused, Webhook
from relay.store.append import Appended, Known

KNOWN_OTHERWISE = FieldError("id", "is known with another type, timestamp or data")
NOT_STORABLE = FieldError("body", "the database refuses a value in it")


def result(appended: Sequence[Appended]) -> str:
    """What became of one webhook by what became of its events: `accepted`, `duplicate`, `conflict` or `invalid`.

    A webhook that every account ignores has no events and is accepted.
    """
    statuses = {one.status for one in appended}
    if "conflict" in statuses:
        return "conflict"
    if "invalid" in statuses:
        return "invalid"
    return "accepted" if "new" in statuses or not statuses else "duplicate"


def recalled(known: Sequence[Known], digest: bytes) -> str:
    """What a webhook that cannot be mapped is: `duplicate` or `conflict` if it was appended before, else `invalid`.

    A sender that repeats what was taken once is not told off because the settings have changed since.
    """
    if not known:
        return "invalid"
    return "duplicate" if all(one.digest == digest for one in known) else "conflict"


@dataclass(slots=True)
class Tally:
    """The webhooks of one request: those that are mapped, with their events, and those that are refused."""

    events: list[Event] = field(default_factory=list)
    results: Counter[str] = field(default_factory=Counter)
    replaced: Counter[str] = field(default_factory=Counter)
    fields: set[str] = field(default_factory=set)
    opt_outs_refused: int = 0
    unmapped: dict[int, tuple[Webhook, Sequence[FieldError]]] = field(default_factory=dict)
    _mapped: list[tuple[int, str, Mapped]] = field(default_factory=list)
    _refused: dict[int, tuple[str | None, Sequence[FieldError]]] = field(default_factory=dict)
    _events_new: int = 0

    def add(self, index: int, entry: Webhook | Refused, mapper: Mapper, received_at: datetime) -> None:
        """Map a webhook, or note why it cannot be."""
        if isinstance(entry, Refused):
            self._refuse(index, entry.message_id, "invalid", entry.problems)
            return
        try:
            mapped = mapper.events(entry, received_at)
        except Invalid as error:
            self.unmapped[index] = (entry, error.problems)
            return
        self._mapped.append((index, entry.message_id, mapped))
        self.events.extend(mapped.events)

    def recall(self, known: Mapping[str, Sequence[Known]], mapper: Mapper) -> None:
        """Settle those that cannot be mapped: who is `known` is a duplicate or a conflict, whatever is wrong now."""
        for index, (webhook, problems) in self.unmapped.items():
            became = recalled(known.get(webhook.message_id, ()), mapper.digest(webhook))
            if became == "duplicate":
                self.results[became] += 1
            else:
                conflict = became == "conflict"
                self.opt_outs_refused += TYPES[webhook.type].opt_out
                self._refuse(index, webhook.message_id, became, [KNOWN_OTHERWISE] if conflict else problems)

    def settle(self, appended: Sequence[Appended]) -> None:
        """Take note of what became of `events`, in their order."""
        answers = iter(appended)
        for index, message_id, mapped in self._mapped:
            own = [next(answers) for _ in mapped.events]
            became = result(own)
            if became in ("accepted", "duplicate"):
                self.results[became] += 1
                self._events_new += sum(one.status == "new" for one in own)
            else:
                self.opt_outs_refused += any(event.operation.opt_out for event in mapped.events)
                self._refuse(index, message_id, became, [KNOWN_OTHERWISE if became == "conflict" else NOT_STORABLE])
            if became == "accepted":
                self.replaced.update(mapped.replaced)

    def answer(self) -> ManyTaken:
        """The counts and lists as they stand in the answer."""
        return ManyTaken(
            accepted=self.results["accepted"],
            duplicates=self.results["duplicate"],
            refused=len(self._refused),
            events=self._events_new,
            errors=[
                RefusedWebhook(
                    index=index,
                    webhook_id=message_id,
                    errors=[Mistake(field=problem.field, message=problem.message) for problem in problems],
                )
                for index, (message_id, problems) in sorted(self._refused.items())
            ],
            warnings=[
                WarnedWebhook(index=index, webhook_id=message_id, **remark.members())
                for index, message_id, mapped in self._mapped
                if index not in self._refused
                for remark in mapped.remarks
            ],
        )

    @property
    def nothing_taken(self) -> bool:
        """Whether every webhook was refused."""
        return self.results["accepted"] + self.results["duplicate"] == 0

    def _refuse(self, index: int, message_id: str | None, became: str, problems: Sequence[FieldError]) -> None:
        self._refused[index] = (message_id, problems)
        self.results[became] += 1
        self.fields.update(problem.field for problem in problems)
