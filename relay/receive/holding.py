"""What holds at an address, and keeping it so: stops and bans that outlive moves. Pure.

The log's own order decides what holds at an address, and takes every `delete` for the end of what was said before. A
leave is one that nobody has asked for (`relay.events.LEAVING`), and a deletion may be older than the customer who is at
the address now. So a stop that such a word would end is said again just behind it, in its original's name.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from relay.events import KEPT_MAX, Added, Operation, added_id, origin
from relay.receive.followed import LONG_AGO, At, Followed, Part, at_of, over, rank
from relay.receive.mapping import OPT_OUT_AHEAD_MAX
from relay.store.book import Book, Contact, ContactKey, Place, Unresolved, Word, latest

BEHIND = timedelta(microseconds=1)
"""Just behind: the log's times have microseconds."""


class Holding:
    """What holds, for one webhook at one account. `at` is when it happened, by Postgres's clock at most now."""

    __slots__ = ("at", "book", "part", "webhook")

    def __init__(self, book: Book, webhook: Followed, part: Part) -> None:
        self.book = book
        self.webhook = webhook
        self.part = part
        ahead = part.operation is not None and part.operation.opt_out and part.occurred_at != webhook.received_at
        # by Postgres's clock, as the append does it: a contact must not be somewhere in the future
        self.at = min(part.occurred_at, book.now + (OPT_OUT_AHEAD_MAX if ahead else timedelta(0)))

    @property
    def contact(self) -> Contact | None:
        """Give the customer's contact, if it is known."""
        return None if self.part.contact is None else self.book.contacts.get(self.part.contact)

    # -- what holds at an address ------------------------------------------------------------------------------------

    def standing(self, at: At, until: datetime, cleared_at: datetime | None) -> Word | None:
        """Give the stop or ban that holds for who is at an address until then.

        Where the log says that it does not, because somebody has left the address, it holds for who was not cleared
        of it since.
        """
        words = self.book.words_at((self.part.account, at.customer))
        stop = words.opt_out
        if stop is None or self._ended(stop, (self.part.account, at.customer), until):
            return None
        allow = words.allow if words.allow is not None and words.allow.rank > stop.rank else None
        if allow is not None and cleared_at is not None and cleared_at >= allow.occurred_at:
            return None  # the customer gave it, not the mailbox, if only after a move that comes late
        ended_by_leave = words.left is not None and words.left.occurred_at >= stop.occurred_at
        cleared = cleared_at is not None and cleared_at > stop.occurred_at
        return None if ended_by_leave and cleared else stop

    def allowed_at(self, at: At) -> datetime | None:
        """Tell when an allow was given at an address that is left, if it holds there."""
        words = self.book.words_at((self.part.account, at.customer))
        if words.allow is None or words.allow.occurred_at > self.at:
            return None
        return None if words.opt_out and words.opt_out.rank > words.allow.rank else words.allow.occurred_at

    def deleted_at(self, at: At) -> datetime | None:
        """Tell when who was at an address was deleted there, if nothing was said about it since."""
        words = self.book.words_at((self.part.account, at.customer))
        if words.delete is None or (words.upsert and words.upsert.rank > words.delete.rank):
            return None
        return words.delete.occurred_at

    def shared(self, place: Place, key: ContactKey) -> bool:
        """Say whether somebody else is at a place by a record, and was not deleted there since.

        A source without ids has only one customer at an address, whatever was the address of the contact before.
        """
        words = self.book.words_at(place)
        ended = latest(*(word.occurred_at for word in (words.delete, words.left) if word is not None))
        for other in self.book.residents.get(place, ()):
            contact = self.book.contacts[other]
            ends = latest(ended, contact.deleted_at, LONG_AGO)
            its_own = other == key or (self.part.anonymous and other[1] == key[1])
            if not its_own and ends is not None and contact.occurred_at > ends:
                return True
        return False

    def hold(self, key: ContactKey, contact: Contact, stops: Iterable[Word | None]) -> None:
        """Let the last of some stops hold where a contact is; without an address it waits for one."""
        stop = max((one for one in stops if one is not None), key=rank, default=None)
        if stop is None:
            return
        here = at_of(contact)
        if here is not None:
            self.keep(stop, here, contact.occurred_at, self.webhook)
        else:
            self.wait(key, stop, self.webhook)

    def revive(self, at: At | None, key: ContactKey | None) -> None:
        """Let hold what was said at an address before somebody left it; `key` is the contact that is there again."""
        if at is None or (self.part.account, at.customer) not in self.book.former:
            return
        contact = None if key is None else self.book.contacts[key]
        cleared_at = None if contact is None else latest(contact.allowed_at, contact.deleted_at)
        stop = self.standing(at, self.at, cleared_at)
        if stop is not None:
            self.keep(stop, at, self.at, self.webhook)

    def keep(self, stop: Word, at: At, until: datetime, of: Followed | Unresolved) -> None:
        """Append a stop where it has to hold for who is there at `until`, unless it does or an allow came after it.

        What ended it before then without being meant for who is there (a leave, the deletion of somebody else) is
        outdone by the smallest step.
        """
        words = self.book.words_at((self.part.account, at.customer))
        if words.allow is not None and words.allow.rank > stop.rank:
            return
        ends = [w.occurred_at for w in (words.left, words.delete) if w and stop.occurred_at <= w.occurred_at <= until]
        occurred_at = max(ends) + BEHIND if ends else stop.occurred_at
        if words.opt_out is not None and words.opt_out.occurred_at >= occurred_at:
            return
        message_id = self.free_id(of)
        if message_id is not None:
            # received now: it waits to be sent since now. On a tie it comes after what ended it, on the safe side
            self.append(stop.operation, at, message_id, (occurred_at, self.webhook.received_at), of)

    # -- late words ---------------------------------------------------------------------------------------------------

    def survive(self, deletion: Word, at: At, of: Followed | Unresolved) -> None:
        """Say a stop again that a late deletion ends at an address where somebody else came afterwards."""
        place = (self.part.account, at.customer)
        words = self.book.words_at(place)
        stop = words.opt_out
        if stop is None or words.upsert is None or not stop.rank <= deletion.rank < words.upsert.rank:
            return
        for key in sorted(self.book.residents.get(place, ())):
            contact = self.book.contacts[key]
            if key != self.part.contact and contact.occurred_at > deletion.occurred_at and not over(contact, stop):
                self.keep(stop, at, contact.occurred_at, of)

    def outlive(self, word: Word, at: At, of: Followed | Unresolved) -> None:
        """Say a stop again where a leave has ended it before somebody came back to the address."""
        words = self.book.words_at((self.part.account, at.customer))
        if words.upsert is not None and not (words.delete is not None and words.delete.rank > word.rank):
            self.keep(word, at, words.upsert.occurred_at, of)

    def spread(self, word: Word, at: At, of: Followed | Unresolved) -> None:
        """Say a stop to all who left an address after it was said there, wherever they are now.

        Said by the address alone also to those who left before, if nobody else was there by then: who stops an address
        that all have left has an old mail at hand.
        """
        old_mail = self.part.contact is None and not self.lived_in(word, (self.part.account, at.customer))
        since = LONG_AGO if old_mail else word.occurred_at
        ways, seen = [(at, since)], {at.customer}
        while ways:
            at, since = ways.pop()
            place = (self.part.account, at.customer)
            for key, left_at in sorted(self.book.former.get(place, {}).items(), key=lambda way: way[1], reverse=True):
                contact = self.book.contacts[key]
                if left_at < since or over(contact, word) or self._ended(word, place, left_at):
                    continue
                here = at_of(contact)
                if here is None:
                    self.wait(key, word, of)
                    continue
                self.keep(word, here, contact.occurred_at, of)
                if here.customer not in seen:
                    seen.add(here.customer)
                    ways.append((here, left_at))

    def lived_in(self, word: Word, place: Place) -> bool:
        """Say whether somebody was at a place when a stop was said there, as far as is known now."""
        contacts = [self.book.contacts[key] for key in self.book.residents.get(place, ())]
        return any(LONG_AGO < contact.occurred_at <= word.occurred_at for contact in contacts)

    def _ended(self, word: Word, place: Place, left_at: datetime) -> bool:
        """Say whether a stop held no more at a place when it was left."""
        words = self.book.words_at(place)
        return any(
            w is not None and w.rank > word.rank and w.occurred_at <= left_at for w in (words.allow, words.delete)
        )

    # -- writing it down ----------------------------------------------------------------------------------------------

    def wait(
        self, key: ContactKey, word: Word, of: Followed | Unresolved, *, own: bool = False, quiet: bool = True
    ) -> None:
        """Keep an opt-out for a contact without an address, once; `own`: under the webhook's id."""
        if any(
            (one.operation, one.occurred_at) == (word.operation, word.occurred_at)
            for one in self.book.waiting.get(key, ())
        ):
            return
        message_id = of.message_id if own else self.free_id(of)
        if message_id is not None:
            account, source, customer_id = key
            said = (of.digest, word.operation, word.occurred_at, word.received_at)
            self.book.wait(Unresolved(account, of.source, message_id, source, customer_id, *said, quiet=quiet))

    @property
    def times(self) -> tuple[datetime, datetime]:
        """Give when it happened and when it arrived."""
        return (self.at, self.webhook.received_at)

    def append(
        self,
        operation: Operation,
        at: At,
        message_id: str,
        times: tuple[datetime, datetime],
        of: Followed | Unresolved | None = None,
    ) -> None:
        """Append a word about an address, said by this webhook or by that `of` which it is, whoever's that was."""
        said = of or self.webhook
        event = self.part.voice.event(operation, at.address, message_id, said.digest, times)
        self.book.append(event if event.source == said.source else replace(event, source=said.source))

    def free(self, source: str, message_id: str) -> bool:
        """Say whether no event has this message id at this account."""
        return self.book.free((source, message_id, self.part.account))

    def free_id(self, of: Followed | Unresolved) -> str | None:
        """Give the next free id of an opt-out at one more address; None where there are more than can be."""
        webhook_id, _ = origin(of.message_id)
        ids = (added_id(webhook_id, Added.KEPT, number) for number in range(1, KEPT_MAX + 1))
        return next((one for one in ids if self.free(of.source, one)), None)
