"""From a webhook to events: one for each of the source's accounts that does not ignore the type. Pure.

Theory of operation. Which of two words about a customer is the later is decided by `occurred_at`, so a sender's clock
must not be able to win by running ahead: an `upsert` or `allow` happened at most now. An opt-out may be dated up to a
day ahead, because believing it too long errs on the safe side. And an opt-out is never kept out by anything but its
address: where its `timestamp` is of no use it counts as happening when it arrived, with a remark in the answer.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from relay import csvline
from relay.columns import Plan
from relay.errors import FieldError, Invalid
from relay.events import TYPES, Event, Keys, Operation
from relay.receive.parse import Webhook
from relay.settings import Account, Settings
from relay.vendors import vendor_of

OPT_OUT_AHEAD_MAX = timedelta(days=1)
"""An opt-out from a clock set to the wrong zone or day is believed, one from a clock set to the wrong year is not."""

OCCURRED_AT_MIN = datetime(2000, 1, 1, tzinfo=UTC)
"""Earlier moments are a program's zero value (1970-01-01, 0001-01-01) and would lose against everything known."""

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
    def of(cls, timestamp: object) -> "Said":
        """Read an ISO 8601 timestamp with an offset; None says nothing."""
        if timestamp is None:
            return cls()
        if not isinstance(timestamp, str) or not _TIMESTAMP.fullmatch(timestamp):
            return cls(fault=_EXPECTED)
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


@dataclass(frozen=True, slots=True)
class Way:
    """How webhooks of one type go to one account: as what operation, rendered by which plan, under which layout."""

    account: Account
    operation: Operation
    layout: int
    plan: Plan


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
        ways = {kind: tuple(_ways(settings, kind, accounts, layouts)) for kind in TYPES}
        return cls(source, ways, keys, by_arrival=chosen.order_by == "arrival")

    def digest(self, webhook: Webhook) -> bytes:
        """Digest what the sender said, whatever the settings make of it."""
        return self._keys.digest(webhook.canonical())

    def events(self, webhook: Webhook, received_at: datetime) -> Mapped:
        """Map a webhook for all accounts; raises Invalid with the problems of all of them, each told once."""
        said = Said() if self._by_arrival else Said.of(webhook.timestamp)
        digest = self.digest(webhook)
        events: list[Event] = []
        problems: list[FieldError] = []
        remarks: list[Remark] = []
        replaced: dict[str, int] = {}
        for way in self._ways[webhook.type]:
            name, operation = way.account.name, way.operation
            if said.fault is not None and not operation.opt_out:
                problems.append(FieldError("timestamp", said.fault))
            try:
                rendered = way.plan.render(webhook.data, way.account.unencodable)
            except Invalid as error:
                problems.extend(error.problems)
                continue
            occurred_at, remark = said.occurred_at(operation, received_at)
            remarks += [Remark("timestamp", remark)] if remark else []
            remarks += [Remark(warning.field, warning.message, name) for warning in rendered.warnings]
            replaced[name] = rendered.replaced
            customer = self._keys.customer(rendered.address)
            line = csvline.record(rendered.cells)
            events.append(
                Event(
                    account=name,
                    source=self._source,
                    message_id=webhook.message_id,
                    digest=digest,
                    operation=operation,
                    customer=customer,
                    layout=way.layout,
                    line=line,
                    occurred_at=occurred_at,
                    received_at=received_at,
                )
            )
        if problems:
            raise Invalid(*dict.fromkeys(problems))
        return Mapped(tuple(events), tuple(dict.fromkeys(remarks)), replaced)


def _ways(
    settings: Settings, kind: str, accounts: Iterable[Account], layouts: Mapping[tuple[str, Operation], int]
) -> Iterator[Way]:
    for account in accounts:
        operation = account.operation(kind)
        if operation is not None:
            login = settings.login_of(account)
            plan = Plan(vendor_of(login).columns(login, account, operation), account.address)
            yield Way(account, operation, layouts[account.name, operation], plan)
