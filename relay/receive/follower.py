"""From a webhook to its parts where customers are followed: whom it is about, at which address, at each account. Pure.

Followed is what sources say that name their customers (`customer_id`, `previous_address`), and what other sources say
to the same accounts, because an opt-out by address concerns whoever has left the address.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from relay import csvline
from relay.columns import Read
from relay.errors import FieldError, Invalid
from relay.events import TYPES, Keys, Operation
from relay.receive.followed import At, Followed, Part
from relay.receive.mapping import Mapper, Notes, Remark, Said, Way
from relay.receive.parse import Webhook
from relay.receive.paths import EXPECTED_ID, blank, reader, sound_id
from relay.receive.voices import AccountVoice
from relay.settings import Account, Settings, Source
from relay.store.book import ContactKey

_BY_ADDRESS = "\0"
"""Stands before an address that identifies a customer where a source has no ids. It stands in no id."""

NOT_LOOKED_AT = "is no e-mail address, and is not looked at"


def followed_accounts(settings: Settings) -> frozenset[str]:
    """Name the accounts whose customers are followed."""
    return frozenset(account for source in settings.sources.values() if source.tracks for account in source.accounts)


class Follower:
    """Makes the parts of one source's webhooks."""

    __slots__ = ("_accounts", "_id", "_id_field", "_keys", "_mapper", "_previous", "_source", "_ways")

    def __init__(
        self, source: Source, accounts: Sequence[tuple[Account, AccountVoice]], mapper: Mapper, keys: Keys
    ) -> None:
        self._source = source
        self._accounts = [(account, voice, reader(account.address)) for account, voice in accounts]
        self._mapper = mapper
        self._keys = keys
        self._ways = {kind: {way.account.name: way for way in mapper.ways(kind)} for kind in TYPES}
        self._id = None if source.customer_id is None else reader(source.customer_id)
        self._id_field = f"data.{source.customer_id}"
        self._previous = None if source.previous_address is None else reader(source.previous_address)

    @classmethod
    def of(
        cls,
        settings: Settings,
        source: str,
        layouts: Mapping[tuple[str, Operation], int],
        keys: Keys,
        mapper: Mapper,
    ) -> "Follower | None":
        """Prepare all that can be; None for a source that has nothing to do with customers who are followed."""
        chosen = settings.sources[source]
        if followed_accounts(settings).isdisjoint(chosen.accounts):
            return None
        named = [settings.accounts[name] for name in dict.fromkeys(chosen.accounts)]
        accounts = [(account, AccountVoice(settings, source, account, layouts, keys)) for account in named]
        return cls(chosen, accounts, mapper, keys)

    def followed(self, webhook: Webhook, received_at: datetime) -> Followed:
        """Make the parts of a webhook; raises Invalid with the mistakes that show before it is known who is where."""
        reading = _Reading(webhook, self._mapper.digest(webhook), (self._mapper.said(webhook), received_at))
        if TYPES[webhook.type] is Operation.UPSERT:
            parts = self._records(reading)
        else:
            parts = [part for account in self._accounts if (part := self._word(account, reading)) is not None]
        reading.notes.check()
        return Followed(
            source=self._source.name,
            message_id=webhook.message_id,
            digest=reading.digest,
            received_at=received_at,
            id_field=self._id_field,
            parts=tuple(parts),
            remarks=tuple(dict.fromkeys(reading.notes.remarks)),
            replaced=reading.notes.replaced,
        )

    # -- records -----------------------------------------------------------------------------------------------------

    def _records(self, reading: "_Reading") -> list[Part]:
        customer_id = self._customer_id(reading.webhook)
        if self._id is not None and customer_id is None:  # or the customer's opt-out by id would find nobody
            reading.notes.problems.append(FieldError(self._id_field, EXPECTED_ID))
        previous = self._previous_address(reading)
        return [
            part
            for account in self._accounts
            if (part := self._record(account, reading, customer_id, previous)) is not None
        ]

    def _record(
        self, to: tuple[Account, AccountVoice, Read], reading: "_Reading", customer_id: str | None, previous: At | None
    ) -> Part | None:
        """Make the part of a record for one account. One that the account ignores still tells where the customer is."""
        account, voice, address = to
        way = self._ways[reading.webhook.type].get(account.name)
        operation = None if way is None else way.operation
        event = None
        if way is not None:
            event = self._mapper.event(way, reading.webhook, reading.digest, reading.times, reading.notes)
        given = address(reading.webhook.data)
        at = self._at(given)
        nowhere = at is None and not (blank(given) and self._source.without_address == "skip")
        contact = self._contact(account.name, customer_id, at, previous)
        if nowhere or (at is None and contact is None):
            return None
        occurred_at = reading.occurred_at(Operation.UPSERT) if event is None else event.occurred_at
        return Part(
            account=account.name,
            asked=Operation.UPSERT,
            operation=operation,
            occurred_at=occurred_at,
            voice=voice,
            contact=contact,
            at=at,
            previous=previous,
            record=event,
            anonymous=self._id is None,
        )

    def _previous_address(self, reading: "_Reading") -> At | None:
        given = None if self._previous is None else self._previous(reading.webhook.data)
        at = self._at(given)
        if at is None and not blank(given):
            reading.notes.remarks.append(Remark(f"data.{self._source.previous_address}", NOT_LOOKED_AT))
        return at

    # -- opt-outs and allows -----------------------------------------------------------------------------------------

    def _word(self, to: tuple[Account, AccountVoice, Read], reading: "_Reading") -> Part | None:
        """Make the part of an opt-out or allow for one account. An opt-out needs an address or an id, no more."""
        account, voice, address = to
        way = self._ways[reading.webhook.type].get(account.name)
        if way is None:
            return None
        customer_id = self._customer_id(reading.webhook)
        at = None
        try:
            at = self._at(way.plan.render(reading.webhook.data, account.unencodable).address)
        except Invalid as error:
            self._without(customer_id, address(reading.webhook.data), error, way, reading.notes)
        occurred_at = self._mapper.occurred_at(way.operation, reading.webhook, reading.times, reading.notes)
        contact = self._contact(account.name, customer_id, None, None)
        return Part(account.name, TYPES[reading.webhook.type], way.operation, occurred_at, voice, contact, at)

    def _without(self, customer_id: str | None, given: object, error: Invalid, way: Way, notes: Notes) -> None:
        """Note what an opt-out or allow without a sound address comes to."""
        if customer_id is None:
            notes.problems += error.problems
            notes.problems += [FieldError(self._id_field, EXPECTED_ID)] if self._id is not None else []
        elif not blank(given):
            if not way.operation.opt_out:
                notes.problems += error.problems
            notes.remarks += [Remark(problem.field, NOT_LOOKED_AT, way.account.name) for problem in error.problems]

    # -- who it is ---------------------------------------------------------------------------------------------------

    def _customer_id(self, webhook: Webhook) -> str | None:
        return None if self._id is None else sound_id(self._id(webhook.data))

    def _contact(self, account: str, customer_id: str | None, at: At | None, previous: At | None) -> ContactKey | None:
        """Identify the customer. Without ids, whoever comes from another address is who is at this one from now on."""
        if customer_id is not None:
            return (account, self._source.name, self._keys.contact(customer_id))
        if self._id is None and at is not None and previous is not None:
            return (account, self._source.name, self._keys.contact(_BY_ADDRESS + at.address.casefold()))
        return None

    def _at(self, given: object) -> At | None:
        """Read an address; None for what is none."""
        if not isinstance(given, str):
            return None
        try:
            address = csvline.address(given)
        except ValueError:
            return None
        return At(address, self._keys.customer(address))


@dataclass(frozen=True, slots=True)
class _Reading:
    """One webhook while it is read. `times` are what it says about when it happened, and when it arrived."""

    webhook: Webhook
    digest: bytes
    times: tuple[Said, datetime]
    notes: Notes = field(default_factory=Notes)

    def occurred_at(self, operation: Operation) -> datetime:
        """Say when it happened, without remarks."""
        said, received_at = self.times
        return said.occurred_at(operation, received_at)[0]
