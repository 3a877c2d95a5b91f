"""What becomes of each webhook of a request that carries many. Pure.

The webhooks are added one by one, appended together, and `settle` says what the log made of them. Every
webhook ends in exactly one of the results, which are also the metric's labels.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, assert_never

from relay.errors import FieldError, Invalid
from relay.events import TYPES
from relay.problem import Mistake
from relay.receive.answers import ManyTaken, RefusedWebhook, WarnedWebhook
from relay.receive.followed import Followed
from relay.receive.mapping import Mapped, Mapper, Remark
from relay.receive.parse import Refused, Webhook
from relay.store.append import Appended, Known
from relay.store.book import Became, Status

Mapping_ = Callable[[Webhook, datetime], Mapped | Followed]
"""Maps a webhook that arrived then; raises Invalid."""

KNOWN_OTHERWISE = FieldError("id", "is known with another type, timestamp or data")
NOT_STORABLE = FieldError("body", "the database refuses a value in it")
RELAY_FAILED = FieldError("id", "relay failed on it, and on it alone: the log says where")
NO_ADDRESS = "no address is known for it, and none is given"
KEPT_WAITING = "no address is known for it yet: the opt-out is kept until there is one"

RESULTS: Mapping[Status, str] = {
    "new": "accepted",
    "duplicate": "duplicate",
    "conflict": "conflict",
    "unknown": "invalid",
    "invalid": "invalid",
    "failed": "invalid",
}
"""What became of a webhook, as it is counted."""


def result(appended: Sequence[Appended]) -> Status:
    """What became of one webhook by what became of its events: `new`, `duplicate`, `conflict` or `invalid`.

    A webhook that every account ignores has no events and is new.
    """
    statuses = {one.status for one in appended}
    if "conflict" in statuses:
        return "conflict"
    if "invalid" in statuses:
        return "invalid"
    return "new" if "new" in statuses or not statuses else "duplicate"


def each(mapped: Sequence[Mapped], appended: Sequence[Appended]) -> list[Became]:
    """Say what became of webhooks by what became of their events, all of them in their order."""
    answers = iter(appended)
    return [_became(one, [next(answers) for _ in one.events]) for one in mapped]


def _became(mapped: Mapped, appended: Sequence[Appended]) -> Became:
    pairs = list(zip(mapped.events, appended, strict=True))
    return Became(
        result(appended),
        events=tuple((event.account, one.event_id) for event, one in pairs if one.status != "foreign"),
        appended=tuple((event.account, event.operation) for event, one in pairs if one.status == "new"),
    )


def refusal_of(became: Became, mapped: Mapped | Followed) -> FieldError | None:
    """Say why a webhook was not taken; None if it was."""
    match became.status:
        case "new" | "duplicate":
            return None
        case "conflict":
            return KNOWN_OTHERWISE
        case "unknown":
            return FieldError(mapped.id_field if isinstance(mapped, Followed) else "data", NO_ADDRESS)
        case "invalid":
            return NOT_STORABLE
        case "failed":
            return RELAY_FAILED
        case _:
            assert_never(became.status)


def remarks_of(became: Became, mapped: Mapped | Followed) -> Sequence[Remark]:
    """Tell the sender what it should know of a webhook that was taken."""
    if not became.unresolved or not isinstance(mapped, Followed):
        return mapped.remarks
    if len(became.unresolved) == len(mapped.parts):
        return (*mapped.remarks, Remark(mapped.id_field, KEPT_WAITING))
    return (*mapped.remarks, *(Remark(mapped.id_field, KEPT_WAITING, account) for account in became.unresolved))


def recalled(known: Sequence[Known], digest: bytes) -> str:
    """What a webhook that cannot be mapped is: `duplicate` or `conflict` if it was appended before, else `invalid`.

    A sender that repeats what was taken once is not told off because the settings have changed since.
    """
    if not known:
        return "invalid"
    return "duplicate" if all(one.digest == digest for one in known) else "conflict"


class Heard(NamedTuple):
    """What is kept of a webhook until its request is answered: not its data, of which a request may hold much."""

    message_id: str
    opt_out: bool

    @classmethod
    def of(cls, webhook: Webhook) -> "Heard":
        """Keep what is needed of a webhook."""
        return cls(webhook.message_id, TYPES[webhook.type].opt_out)


class Unmapped(NamedTuple):
    """A webhook that cannot be mapped, why, and the digest by which it is known if it was taken before."""

    webhook: Heard
    problems: Sequence[FieldError]
    digest: bytes


@dataclass(slots=True)
class Tally:
    """The webhooks of one request: those that are mapped, with their events, and those that are refused."""

    results: Counter[str] = field(default_factory=Counter)
    replaced: Counter[str] = field(default_factory=Counter)
    fields: set[str] = field(default_factory=set)
    limits: Counter[str] = field(default_factory=Counter)
    opt_outs_refused: int = 0
    unmapped: dict[int, "Unmapped"] = field(default_factory=dict)
    _mapped: list[tuple[int, "Heard", Mapped | Followed]] = field(default_factory=list)
    _became: dict[int, Became] = field(default_factory=dict)
    _refused: dict[int, tuple[str | None, Sequence[FieldError]]] = field(default_factory=dict)

    def add(self, index: int, entry: Webhook | Refused, map_: Mapping_, mapper: Mapper, received_at: datetime) -> None:
        """Map a webhook, or note why it cannot be."""
        if isinstance(entry, Refused):
            self.opt_outs_refused += entry.opt_out
            self.limits.update([entry.limit] if entry.limit else [])
            self._refuse(index, entry.message_id, "invalid", entry.problems)
            return
        try:
            mapped = map_(entry, received_at)
        except Invalid as error:
            self.unmapped[index] = Unmapped(Heard.of(entry), error.problems, mapper.digest(entry))
            return
        self._mapped.append((index, Heard.of(entry), mapped))

    def forbid(self, index: int, webhook: Webhook, problem: FieldError) -> None:
        """Note a webhook that its source may not send."""
        self.opt_outs_refused += TYPES[webhook.type].opt_out
        self._refuse(index, webhook.message_id, "forbidden", [problem])

    def recall(self, known: Mapping[str, Sequence[Known]]) -> None:
        """Settle those that cannot be mapped: who is `known` is a duplicate or a conflict, whatever is wrong now."""
        for index, (webhook, problems, digest) in self.unmapped.items():
            became = recalled(known.get(webhook.message_id, ()), digest)
            if became == "duplicate":
                self.results[became] += 1
            else:
                conflict = became == "conflict"
                self.opt_outs_refused += webhook.opt_out
                self._refuse(index, webhook.message_id, became, [KNOWN_OTHERWISE] if conflict else problems)

    @property
    def mapped(self) -> list[Mapped | Followed]:
        """The webhooks that are mapped, in their order."""
        return [mapped for _, _, mapped in self._mapped]

    def settle(self, became: Sequence[Became]) -> None:
        """Take note of what became of `mapped`, in their order."""
        for (index, webhook, mapped), one in zip(self._mapped, became, strict=True):
            self._became[index] = one
            problem = refusal_of(one, mapped)
            if problem is None:
                self.results[RESULTS[one.status]] += 1
            else:
                self.opt_outs_refused += webhook.opt_out
                self._refuse(index, webhook.message_id, RESULTS[one.status], [problem])
            if one.status == "new":
                self.replaced.update(mapped.replaced)

    def answer(self) -> ManyTaken:
        """The counts and lists as they stand in the answer."""
        return ManyTaken(
            accepted=self.results["accepted"],
            duplicates=self.results["duplicate"],
            refused=len(self._refused),
            events=sum(len(one.events) for one in self._became.values() if one.status == "new"),
            errors=[
                RefusedWebhook(
                    index=index,
                    webhook_id=message_id,
                    errors=[Mistake(field=problem.field, message=problem.message) for problem in problems],
                )
                for index, (message_id, problems) in sorted(self._refused.items())
            ],
            warnings=[
                WarnedWebhook(index=index, webhook_id=webhook.message_id, **remark.members())
                for index, webhook, mapped in self._mapped
                if index not in self._refused
                for remark in remarks_of(self._became[index], mapped)
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
