"""What a webhook comes to where its customer is followed from one address to the next. Pure.

Theory of operation. The vendors and the log know readers by address; a source knows customers. For each customer that a
source names by an id, each account has a *contact*: the address that the customer had last, by when things happened and
not by when they arrived. A word about a customer is said about that address, and a change of address is two words: the
record at the new address, a *leave* (`delete`) at the old one. Four things have to hold in whatever order all this
arrives, the first before all others:

1. *The person opted out, not the address.* A stop or ban that holds where a customer comes from holds where it goes
   (`standing` finds it, `keep` appends it with its own time, so that a later `allow` counts as it always does). One
   that arrives when the customer has moved on is followed (`spread`): to all who left the address after it was said,
   and if nobody else is there, to those who left before, who have an old mail at hand.
2. *A leave is relay's own doing and ends no opt-out*, though the log takes it for a `delete`, which does. Whoever comes
   to an address where a stop was said before somebody left it finds it said again, just behind the leave.
3. *A late repeat of an older address brings nobody back.* It is written down and left again, as of the moment of which
   the present address is known. In turn a customer who was deleted meanwhile is deleted at the address of a change that
   came late, too. Only a deletion that was asked for counts there, never a leave: else nobody could move back.
4. *An opt-out of a customer without an address waits* for the first one, and is then said as it would have been.

An `allow` ends what was said before it, but is carried nowhere: who gave it gave it for one address. `allowed_at` and
`deleted_at` of a contact remember that earlier opt-outs hold no more for the person, whatever the address.

Where arrival out of order leaves a doubt, the customer ends unsubscribed who would be subscribed in order, never the
other way round (tests/unit/receive/test_following_orders.py tries all orders).
"""

from dataclasses import replace
from datetime import datetime
from typing import assert_never

from relay.events import Added, Operation, added_id, origin
from relay.receive.followed import LONG_AGO, At, Followed, at_of, over, rank, same, word_of
from relay.receive.holding import Holding
from relay.store.book import Book, Contact, ContactKey, Decided, KnownPart, Unresolved, Word, latest


def decide(book: Book, webhook: Followed) -> Decided:
    """Decide what a webhook comes to, and write it into the book."""
    key = (webhook.source, webhook.message_id)
    if known := book.webhooks.get(key):
        repeated = all(part.digest == webhook.digest for part in known)
        return Decided("duplicate", tuple(known)) if repeated else Decided("conflict")
    saying = [_Saying(book, webhook, part) for part in webhook.parts]
    if saying and not any(one.possible() for one in saying):
        return Decided("unknown")
    before = len(book.events)
    waits = [one.part.account for one in saying if one.say()]
    new = book.events[before:]
    parts = [
        *(KnownPart(e.account, e.message_id, e.digest) for e in new if (e.source, origin(e.message_id)[0]) == key),
        *(KnownPart(account, None, webhook.digest) for account in waits),
    ]
    book.webhooks[key] = parts
    return Decided("new", tuple(parts), tuple((event.account, event.operation) for event in new))


class _Saying(Holding):
    """Says one webhook to one account."""

    __slots__ = ()

    def possible(self) -> bool:
        """Say whether there is an address to say it about; an opt-out can wait for one, an allow cannot.

        It is enough if one account knows it: one that was added since will hear of the customer in time.
        """
        if self.part.operation is None or self.part.asked is not Operation.ALLOW or self.part.at is not None:
            return True
        return at_of(self.contact) is not None

    def say(self) -> bool:
        """Say it; True if it waits for an address instead."""
        match self.part.asked:
            case Operation.UPSERT:
                self._record()
                return False
            case Operation.ALLOW:
                self._allow()
                return False
            case Operation.DELETE | Operation.STOP | Operation.BAN:
                return self._opt_out()
            case _:
                assert_never(self.part.asked)

    # -- records -----------------------------------------------------------------------------------------------------

    def _record(self) -> None:
        """Say a customer's record, and follow the customer."""
        part, contact = self.part, self.contact
        if part.record is not None:
            self.book.append(replace(part.record, occurred_at=self.at))
        if part.contact is None:
            self.revive(part.at, None)
        elif contact is not None and (self.at, self.webhook.received_at) < (contact.occurred_at, contact.received_at):
            self._come_late(part.contact, contact)
        else:
            self._move(part.contact, contact)

    def _move(self, key: ContactKey, contact: Contact | None) -> None:
        """Go on to the address of the record, or to none."""
        part, old = self.part, at_of(contact)
        left = [] if old is None or same(old, part.at) else [(old, Added.MOVED)]
        deleted_at = contact.deleted_at if contact is not None else None
        deletions = [None if same(old, part.at) else deleted_at]
        if part.previous is not None and self._comes_from(key, part.previous) and not same(part.previous, old):
            left.append((part.previous, Added.PREVIOUS))
        deletions += [self.deleted_at(at) for at, _ in left]
        allowed_at = latest(*(self.allowed_at(at) for at, _ in left), contact.allowed_at if contact else None)
        stops = [self.standing(at, self.at, latest(allowed_at, deleted_at)) for at, _ in left]
        for at, added in left:
            self._leave(key, at, self.at, added)
        address, customer = (None, None) if part.at is None else (part.at.address, part.at.customer)
        moved = Contact(address, customer, self.at, self.webhook.received_at, allowed_at, deleted_at)
        self.book.move(key, moved)
        self.hold(key, moved, stops)
        if part.at is not None:
            self._delete_again(part.at, latest(*deletions))
            self.revive(part.at, key if same(part.at, old) or self._returns(key, part.at) else None)
            self._resolve(key, part.at)

    def _come_late(self, key: ContactKey, contact: Contact) -> None:
        """Write down an older address: the customer has left it since."""
        part, here = self.part, at_of(contact)
        left = []
        if part.at is not None and not same(part.at, here):
            left.append((part.at, contact.occurred_at, Added.MOVED))
        if part.previous is not None and self._comes_from(key, part.previous) and not same(part.previous, here):
            left.append((part.previous, self.at, Added.PREVIOUS))
        cleared_at = latest(contact.allowed_at, contact.deleted_at)
        stops = [self.standing(at, contact.occurred_at, cleared_at) for at, _, _ in left]
        for at, left_at, added in left:
            self._leave(key, at, left_at, added)
        self.hold(key, contact, stops)

    def _leave(self, key: ContactKey, at: At, left_at: datetime, added: Added) -> None:
        """Take leave of an address, unless somebody else is there or something was said about it since.

        The last to go takes the leave that was not taken before.
        """
        place = (self.part.account, at.customer)
        self.book.leave(place, key, left_at)
        if self.shared(place, key):
            return
        left_at = max(self.book.former[place].values())
        words = self.book.words_at(place)
        last = max((word for word in (words.upsert, words.delete, words.left) if word), key=rank, default=None)
        if last is not None and (last.occurred_at, last is not words.upsert) >= (left_at, True):
            return
        if self.part.voice.leaving is not None:
            message_id = added_id(self.webhook.message_id, added)
            self.append(self.part.voice.leaving, at, message_id, (left_at, self.webhook.received_at))

    def _delete_again(self, at: At, deleted_at: datetime | None) -> None:
        """Say the deletion of a customer at the address of a record from before it."""
        if deleted_at is None or deleted_at < self.at:
            return
        message_id = added_id(self.webhook.message_id, Added.DELETED)
        self.append(Operation.DELETE, at, message_id, (deleted_at, self.webhook.received_at))

    def _comes_from(self, key: ContactKey, previous: At) -> bool:
        """Say whether a previous address is news: some sources name it for ever after.

        Without ids the customer may be at it again as another contact, and leave it again; with them `_move` sees that.
        """
        if same(previous, self.part.at):
            return False
        place = (self.part.account, previous.customer)
        left_at = self.book.former.get(place, {}).get(key)
        upsert = self.book.words_at(place).upsert
        again = self.part.anonymous and upsert is not None and left_at is not None and upsert.occurred_at > left_at
        return left_at is None or again

    def _returns(self, key: ContactKey, at: At) -> bool:
        return key in self.book.former.get((self.part.account, at.customer), {})

    # -- opt-outs and allows -----------------------------------------------------------------------------------------

    def _allow(self) -> None:
        """Say an allow about the address given, else about the one known."""
        part, contact = self.part, self.contact
        at = part.at or at_of(contact)
        if part.operation is None or at is None:
            return
        self.append(part.operation, at, self.webhook.message_id, self.times)
        if part.contact is not None and part.operation is Operation.ALLOW and same(at, at_of(contact)):
            self.book.touch(part.contact, allowed_at=self.at)

    def _opt_out(self) -> bool:
        """Say an opt-out about the address given and the one known; True if it has to wait for one."""
        part = self.part
        if part.operation is None:
            return False
        if part.contact is not None and part.at is not None and part.contact not in self.book.contacts:
            unknown = Contact(part.at.address, part.at.customer, LONG_AGO, LONG_AGO)
            self.book.move(part.contact, unknown)
            self._resolve(part.contact, part.at)
        here = at_of(self.contact)
        word = Word(part.operation, *self.times)
        if part.at is not None:
            self.append(part.operation, part.at, self.webhook.message_id, self.times)
        if here is not None and not same(here, part.at):
            self._say_there(word, here, self.webhook, also=part.at is not None)
        if part.contact is not None and here is None:
            own = part.at is None
            self.wait(part.contact, word, self.webhook, own=own, quiet=not own or self.contact is not None)
        self._link(word)
        self._follow_up(word, part.at, self.webhook)
        return part.at is None and here is None

    def _link(self, word: Word) -> None:
        """Take note that a contact has been at the address that an opt-out names, and let hold what was said there."""
        part, contact = self.part, self.contact
        if part.contact is None or contact is None or part.at is None or same(part.at, at_of(contact)):
            return
        left_at = max(contact.occurred_at, self.at)
        stop = self.standing(part.at, left_at, latest(contact.allowed_at, contact.deleted_at))
        self.book.leave((part.account, part.at.customer), part.contact, left_at)
        if stop is not None and stop != word:
            self.hold(part.contact, contact, [stop])

    def _say_there(self, word: Word, here: At, of: Followed | Unresolved, *, also: bool) -> None:
        """Say an opt-out where its contact is; `also` says that it has been said elsewhere.

        A deletion from before the contact's record there changes nothing, and must end no stop of the mailbox's.
        """
        times = (word.occurred_at, word.received_at)
        if word.operation is not Operation.DELETE:
            message_id = self.free_id(of) if also or not self.free(of.source, of.message_id) else of.message_id
            self.append(word.operation, here, message_id or of.message_id, times, of)
            return
        contact, words = self.contact, self.book.words_at((self.part.account, here.customer))
        late = contact is not None and contact.occurred_at > word.occurred_at
        stop = self.standing(here, contact.occurred_at, None) if late and contact is not None else None
        message_id = (
            added_id(origin(of.message_id)[0], Added.DELETED)
            if also or late or not self.free(of.source, of.message_id)
            else of.message_id
        )
        self.append(word.operation, here, message_id, times, of)
        if stop is not None and words.upsert is not None:
            self.keep(stop, here, words.upsert.occurred_at, of)

    def _follow_up(self, word: Word, given: At | None, of: Followed | Unresolved) -> None:
        """See that an opt-out holds for the contact and for all who have left its addresses since it was said."""
        key, contact = self.part.contact, self.contact
        here = at_of(contact)
        if word.operation is Operation.DELETE:
            if key is not None and contact is not None:
                self.book.touch(key, deleted_at=word.occurred_at)
            for at in (given, here):
                if at is not None:
                    self.survive(word, at, of)
            return
        if contact is not None and here is not None and not over(contact, word):
            self.keep(word, here, contact.occurred_at, of)
        if given is not None:
            self.outlive(word, given, of)
        for at in (given, here):
            if at is not None:
                self.spread(word, at, of)

    # -- waiting for an address --------------------------------------------------------------------------------------

    def _resolve(self, key: ContactKey, at: At) -> None:
        """Say what has waited for a contact's address."""
        waiting = self.book.resolve(key)
        for one in sorted(
            waiting, key=lambda one: (one.operation is not Operation.DELETE, word_of(one).rank, one.message_id)
        ):
            self._say_there(word_of(one), at, one, also=False)
            self._follow_up(word_of(one), None, one)
