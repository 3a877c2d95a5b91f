"""From a webhook to events: one for each of the source's accounts that does not ignore the type. Pure.

Theory of operation. Which of two words about a customer is the later is decided by `occurred_at`, so a sender's clock
must not be able to win by running ahead: an `upsert` or `allow` happened at most now. An opt-out may be dated up to a
day ahead, because believing it too long errs on the safe side. And an opt-out is never kept out by anything but its
address: where its `timestamp` is of no use it counts as happening when it arrived, with a remark in the answer.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from relay import csvline
from relay.columns import Plan, Read
from relay.errors import FieldError, Invalid
from relay.events import TYPES, Event, Keys, Operation
from relay.receive.parse import Webhook
from relay.receive.paths import blank, reader
from relay.settings import Account, Settings
from relay.vendors import vendor_of

OPT_OUT_AHEAD_MAX = timedelta(days=1)
"""An opt-out from a clock set to the wrong zone or day is believed, one from a clock set to the wrong year is not."""

OCCURRED_AT_MIN = datetime(2000, 1, 1, tzinfo=UTC)
"""Earlier moments are a program's zero value (1970-01-01, 0001-01-01) and would lose against everything known."""

SKIPPED = "there is none: nothing is sent for this customer"
"""What is told of a record without an address where the source says `without_address = "skip"`."""

_TIMESTAMP = re.compile(
    r"[0-9-]{8,10}[Tt ][0-9:.,Zz+-]{3,32}"
)  # Python alone would take any separator, and NUL at the end
_EXPECTED = "expected ISO 8601 with an offset, as in 2026-04-01T09:00:00+09:00"
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Remark:
    """A warning for the sender: the field's path, what was done there, and the account if it concerns only one."""

    field: str
    message: str
    account: str | None = None

    def members(self) -> dict[str, str]:
        """Say it as an answer does."""
        members = {"field": self.field, "message": self.message}
        return members if self.account is None else {"account": self.account, **members}


@dataclass(frozen=True, slots=True)
class Mapped:
    """What a webhook becomes: its events, remarks for the sender, and how many characters were replaced, by account."""

    events: tuple[Event, ...]
    remarks: tuple[Remark, ...]
    replaced: Mapping[str, int]


class Stamps:
    """Gives every webhook of this process a moment of its own: `received_at` decides where all else is equal."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last = datetime.min.replace(tzinfo=UTC)

    def next(self, now: datetime) -> datetime:
        """Return `now`, or the microsecond after the last stamp if that is later (the clock stood or was set back)."""
        self._last = max(now, self._last + _MICROSECOND)
        return self._last


@dataclass(frozen=True, slots=True)
class Said:
    """What a webhook's `timestamp` says: a moment, or nothing (both None), or nothing of use (`fault`)."""

    moment: datetime | None = None
    fault: str | None = None

    @classmethod
    def of(cls, timestamp: object, expected: str | None = None) -> "Said":
        """Read an ISO 8601 timestamp with an offset; None says nothing. `expected` is what to tell of anything else."""
        if timestamp is None:
            return cls()
        if not isinstance(timestamp, str) or not _TIMESTAMP.fullmatch(timestamp):
            return cls(fault=expected or _EXPECTED)
        try:
            moment = datetime.fromisoformat(timestamp)
            if moment.tzinfo is None:
                return cls(fault=f"has no offset; {_EXPECTED}")
            moment = moment.astimezone(UTC)
        except (ValueError, OverflowError):
            return cls(fault=_EXPECTED)
        return cls(moment) if moment >= OCCURRED_AT_MIN else cls(fault=f"lies before {OCCURRED_AT_MIN:%Y-%m-%d}")

    def occurred_at(self, operation: Operation, received_at: datetime) -> tuple[datetime, str | None]:
        """Say when it happened, and what the sender should know where that is not what was said."""
        if self.fault is not None:
            return received_at, f"{self.fault}; the time of arrival was taken"
        if self.moment is None:
            return received_at, None
        latest = received_at + OPT_OUT_AHEAD_MAX if operation.opt_out else received_at
        if self.moment <= latest:
            return self.moment, None
        taken = "one day after arrival" if operation.opt_out else "the time of arrival"
        return latest, f"lies in the future; {taken} was taken"


@dataclass(slots=True)
class Notes:
    """What comes up while a webhook is mapped: mistakes, remarks for the sender, replaced characters by account."""

    problems: list[FieldError] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)
    replaced: dict[str, int] = field(default_factory=dict)

    def check(self) -> None:
        """Raise Invalid with all mistakes, each once, if there are any."""
        if self.problems:
            raise Invalid(*dict.fromkeys(self.problems))


@dataclass(frozen=True, slots=True)
class Way:
    """How webhooks of one type go to one account: as what operation, rendered by which plan, under which layout.

    `address` reads the address where a webhook without one is to be skipped (else None).
    """

    account: Account
    operation: Operation
    layout: int
    plan: Plan
    address: Read | None = None

    def skips(self, webhook: Webhook) -> bool:
        """Say whether a record goes nowhere, because its customer cannot be mailed."""
        return self.address is not None and blank(self.address(webhook.data))


class Mapper:
    """Maps the webhooks of one source by its ways for each type."""

    __slots__ = ("_by_arrival", "_keys", "_source", "_ways")

    def __init__(self, source: str, ways: Mapping[str, tuple[Way, ...]], keys: Keys, *, by_arrival: bool) -> None:
        self._source = source
        self._ways = ways
        self._keys = keys
        self._by_arrival = by_arrival

    @classmethod
    def of(cls, settings: Settings, source: str, layouts: Mapping[tuple[str, Operation], int], keys: Keys) -> "Mapper":
        """Prepare all that can be: a plan for each type and account. `layouts` are the layout ids of both."""
        chosen = settings.sources[source]
        accounts = [settings.accounts[name] for name in dict.fromkeys(chosen.accounts)]
        skips = chosen.without_address == "skip"
        ways = {kind: tuple(_ways(settings, kind, accounts, layouts, skips=skips)) for kind in TYPES}
        return cls(source, ways, keys, by_arrival=chosen.order_by == "arrival")

    def digest(self, webhook: Webhook) -> bytes:
        """Digest what the sender said, whatever the settings make of it."""
        return self._keys.digest(webhook.canonical())

    def ways(self, kind: str) -> Sequence[Way]:
        """Give the ways of a type: one for each account that does not ignore it."""
        return self._ways[kind]

    def said(self, webhook: Webhook) -> Said:
        """Read what a webhook says about when it happened."""
        return Said() if self._by_arrival else Said.of(webhook.timestamp, webhook.time_at.expected)

    def events(self, webhook: Webhook, received_at: datetime) -> Mapped:
        """Map a webhook for all accounts; raises Invalid with the problems of all of them, each told once."""
        said, digest, notes = self.said(webhook), self.digest(webhook), Notes()
        mapped = [self.event(way, webhook, digest, (said, received_at), notes) for way in self._ways[webhook.type]]
        notes.check()
        events = tuple(event for event in mapped if event is not None)
        return Mapped(events, tuple(dict.fromkeys(notes.remarks)), notes.replaced)

    def event(
        self, way: Way, webhook: Webhook, digest: bytes, times: tuple[Said, datetime], notes: Notes
    ) -> Event | None:
        """Map a webhook for one account; None where there is a mistake in it, or nothing to send, as `notes` tell."""
        name, operation = way.account.name, way.operation
        occurred_at = self.occurred_at(operation, webhook, times, notes)
        if way.skips(webhook):
            notes.remarks.append(Remark(f"data.{way.account.address}", SKIPPED, name))
            return None
        try:
            rendered = way.plan.render(webhook.data, way.account.unencodable)
        except Invalid as error:
            notes.problems.extend(error.problems)
            return None
        notes.remarks += [Remark(warning.field, warning.message, name) for warning in rendered.warnings]
        notes.replaced[name] = rendered.replaced
        return Event(
            account=name,
            source=self._source,
            message_id=webhook.message_id,
            digest=digest,
            operation=operation,
            customer=self._keys.customer(rendered.address),
            layout=way.layout,
            line=csvline.record(rendered.cells),
            occurred_at=occurred_at,
            received_at=times[1],
        )

    def occurred_at(
        self, operation: Operation, webhook: Webhook, times: tuple[Said, datetime], notes: Notes
    ) -> datetime:
        """Say when it happened, by what the webhook said and when it arrived, and note what is wrong with that."""
        said, received_at = times
        if said.fault is not None and not operation.opt_out:
            notes.problems.append(FieldError(webhook.time_at.field, said.fault))
        occurred_at, remark = said.occurred_at(operation, received_at)
        notes.remarks += [Remark(webhook.time_at.field, remark)] if remark else []
        return occurred_at


def _ways(
    settings: Settings,
    kind: str,
    accounts: Iterable[Account],
    layouts: Mapping[tuple[str, Operation], int],
    *,
    skips: bool,
) -> Iterator[Way]:
    for account in accounts:
        operation = account.operation(kind)
        if operation is not None:
            login = settings.login_of(account)
            plan = Plan(vendor_of(login).columns(login, account, operation), account.address)
            address = reader(account.address) if skips and TYPES[kind] is Operation.UPSERT else None
            yield Way(account, operation, layouts[account.name, operation], plan, address)
