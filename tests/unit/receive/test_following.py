"""Customers who move: what each word comes to, one rule at a time."""

from dataclasses import replace
from datetime import timedelta

import pytest

from relay.events import KEPT_MAX, Operation, added_id, message_ids, origin
from relay.receive.following import decide
from relay.store.book import Book
from tests.unit.receive.followed import ACCOUNT, EPOCH, KEYS, SOURCE, PlainVoice, Says, Told, mailable, readers

U, D, S, B, A = Operation.UPSERT, Operation.DELETE, Operation.STOP, Operation.BAN, Operation.ALLOW


def told(*words: tuple[Says, float], voice: PlainVoice | None = None) -> Told:
    """Say words in the order given; the message ids are m1, m2 and so on."""
    made = Told(voice or PlainVoice())
    for says, occurred in words:
        made.say(says, occurred)
    return made


def test_message_ids_tell_where_they_come_from() -> None:
    """No sender can send the id of an added event, and each leads back to its webhook."""
    ids = message_ids("w" * 200)
    assert len(set(ids)) == len(ids) == 1 + 4 + KEPT_MAX - 1
    assert {origin(one)[0] for one in ids} == {"w" * 200}
    assert not any(one.isascii() for one in ids[1:])
    assert [origin(one)[1] for one in ids[:5]] == [None, "moved", "previous", "kept", "deleted"]
    assert added_id("w", origin(ids[3])[1] or origin(ids[1])[1], 9) in message_ids("w")  # type: ignore[arg-type]


def test_another_address_deletes_the_old_one() -> None:
    """An upsert with another address appends a delete of the old one that occurred at the same moment."""
    made = told((Says(U, "i", "a"), 1), (Says(U, "i", "b"), 2))
    assert made.log == [("m1", "upsert", "a", 1), ("m2", "upsert", "b", 2), ("m2→moved", "delete", "a", 2)]


def test_the_same_address_in_other_letters_is_no_move() -> None:
    """Upper and lower case are the same reader; the address is kept as it was written last."""
    made = told((Says(U, "i", "Taro"), 1), (Says(U, "i", "taro"), 2))
    assert [event[:2] for event in made.log] == [("m1", "upsert"), ("m2", "upsert")]


def test_a_late_repeat_of_an_older_address_brings_nobody_back() -> None:
    """It is written down and deleted as of the moment of which the present address is known; that one stays."""
    made = told((Says(U, "i", "b"), 2), (Says(U, "i", "a"), 1), (Says(D, "i"), 3))
    assert made.log[1:] == [("m2", "upsert", "a", 1), ("m2→moved", "delete", "a", 2), ("m3", "delete", "b", 3)]


def test_who_shares_an_address_stays_there() -> None:
    """It is left when the last one goes; a stop at it stays, and whoever was deleted there shares it no more."""
    shared = ((Says(U, "i", "a"), 1), (Says(U, "j", "a"), 2), (Says(U, "i", "b"), 3))
    made = told(*shared)
    assert mailable(made) == {"a", "b"}
    made.say(Says(U, "j", "c"), 4)
    assert mailable(made) == {"b", "c"}
    assert [event for event in made.log if event[1] == "delete"] == [("m4→moved", "delete", "a", 4)]
    assert mailable(told((Says(S, "i"), 0.5), *shared)) == set()
    assert mailable(told(*shared[:2], (Says(D, "j"), 2.5), (Says(U, "i", "a"), 2.7), shared[2])) == {"b"}


def test_the_last_to_go_takes_the_leave_that_was_not_taken() -> None:
    """Also where it went before the other did, and relay hears of it afterwards."""
    made = told((Says(U, "i", "a"), 1), (Says(U, "j", "a"), 2), (Says(U, "i", "a"), 3), (Says(U, "i", "b"), 4))
    made.say(Says(U, "j", "c"), 2.5)
    assert mailable(made) == {"b", "c"}
    assert made.log[-1] == ("m5→moved", "delete", "a", 4)


def test_moving_back_is_moving() -> None:
    """The delete of the first move is older than the return, and no deletion of the customer."""
    made = told((Says(U, "i", "a"), 1), (Says(U, "i", "b"), 2), (Says(U, "i", "a"), 3))
    assert mailable(made) == {"a"}
    assert made.log[3:] == [("m3", "upsert", "a", 3), ("m3→moved", "delete", "b", 3)]


def test_the_previous_address_is_deleted_once() -> None:
    """`previous_address` tells of a move that relay has not seen; who names it for ever after changes nothing."""
    made = told((Says(U, "i", "b", previous="a"), 1), (Says(U, "i", "b", previous="a"), 2), (Says(U, "j", "a"), 3))
    assert ("m1→previous", "delete", "a", 1) in made.log
    assert len([event for event in made.log if event[1] == "delete"]) == 1
    made.say(Says(U, "i", "b", previous="a"), 4)
    assert mailable(made) == {"a", "b"}, "who has the address now keeps it"


def test_old_and_previous_address_are_both_left() -> None:
    """Where they differ; where they are one, it is deleted once."""
    both = told((Says(U, "i", "a"), 1), (Says(U, "i", "c", previous="b"), 2))
    assert both.log[2:] == [("m2→moved", "delete", "a", 2), ("m2→previous", "delete", "b", 2)]
    one = told((Says(U, "i", "a"), 1), (Says(U, "i", "c", previous="a"), 2))
    assert one.log[2:] == [("m2→moved", "delete", "a", 2)]


@pytest.mark.parametrize("opt_out", [S, B])
def test_the_person_opted_out_not_the_address(opt_out: Operation) -> None:
    """A stop or ban goes with the customer, as of the moment of its original; it waits since it was added."""
    made = told((Says(U, "i", "a"), 1), (Says(opt_out, "i"), 2), (Says(U, "i", "b"), 3))
    assert made.log[-1] == ("m3→kept", opt_out.value, "b", 2)
    original, moved, kept = (made.book.events[number] for number in (1, 2, -1))
    assert (kept.occurred_at, kept.received_at) == (original.occurred_at, moved.received_at)


def test_an_allow_is_not_carried() -> None:
    """It was given for one address; but a stop that it ended is not carried either."""
    made = told((Says(U, "i", "a"), 1), (Says(S, "i"), 2), (Says(A, "i"), 3), (Says(U, "i", "b"), 4))
    assert [event for event in made.log if event[2] == "b"] == [("m4", "upsert", "b", 4)]


def test_an_allow_elsewhere_ends_the_stop_also_for_who_returns() -> None:
    """Stopped at a, allowed at b, back at a: subscribed, and wherever the customer goes next."""
    words = [
        (Says(U, "i", "a"), 1),
        (Says(S, "i"), 2),
        (Says(U, "i", "b"), 3),
        (Says(A, "i"), 4),
        (Says(U, "i", "a"), 5),
    ]
    made = told(*words, (Says(U, "i", "a"), 6))
    assert mailable(made) == {"a"}
    made.say(Says(U, "i", "c"), 7)
    assert mailable(made) == {"c"}


def test_a_leave_ends_no_stop() -> None:
    """Stopped at a, moved to b and back: the delete that relay made in between has not subscribed anybody again."""
    made = told((Says(U, "i", "a"), 1), (Says(S, "i"), 2), (Says(U, "i", "b"), 3), (Says(U, "i", "a"), 4))
    assert mailable(made) == set()
    assert made.log[-1] == ("m4→kept", "stop", "a", 3.000001)


def test_a_stop_outlives_the_deletion_of_somebody_else() -> None:
    """Two records of one person are merged: the old one's deletion does not subscribe the other again."""
    made = told(
        (Says(U, "j", "b"), 1), (Says(U, "i", "a"), 1), (Says(S, "i"), 2), (Says(D, "j"), 3), (Says(U, "i", "b"), 4)
    )
    assert mailable(made) == set()


def test_who_takes_over_a_stopped_mailbox_is_stopped() -> None:
    """Whoever left it: nobody at that mailbox has asked to be mailed again."""
    made = told((Says(U, "i", "a"), 1), (Says(S, "i"), 2), (Says(U, "i", "b"), 3), (Says(U, "j", "a"), 4))
    assert mailable(made) == set()


def test_a_late_stop_follows_those_who_left() -> None:
    """By id it is said where the customer is; by address also there, and from there on."""
    moves = [(Says(U, "i", "a"), 1), (Says(U, "i", "b"), 3), (Says(U, "i", "c"), 5)]
    assert mailable(told(*moves, (Says(S, "i"), 2))) == set()
    assert mailable(told(*moves, (Says(S, None, "a"), 2))) == set()
    assert mailable(told(*moves, (Says(S, None, "b"), 4))) == set()
    assert mailable(told(*moves, (Says(S, None, "a"), 4))) == set(), "a click in an old mail"
    somebody = (Says(U, "j", "a"), 3.5)
    assert mailable(told(*moves, somebody, (Says(S, None, "a"), 4))) == {"c"}, "it is somebody else's by then"
    assert mailable(told(*moves, (Says(U, "j", "a"), 4.5), (Says(S, None, "a"), 4))) == set(), "but was not then"
    assert mailable(told(*moves, (Says(U, "j", "a"), 4.5), (Says(S, "j"), 4))) == {"c"}, "nor is it an old mail by id"


def test_a_late_update_does_not_bring_back_who_was_deleted() -> None:
    """The deletion of the old address is said at the new one, too."""
    made = told((Says(U, "i", "a"), 1), (Says(D, "i"), 3), (Says(U, "i", "b"), 2))
    assert made.log[-1] == ("m3→deleted", "delete", "b", 3)
    assert mailable(made) == set()
    made.say(Says(U, "i", "b"), 4)
    assert mailable(made) == {"b"}


def test_an_opt_out_with_id_and_address_concerns_both() -> None:
    """On the safe side; and it does not move the customer."""
    made = told((Says(U, "i", "a"), 1), (Says(S, "i", "b"), 2), (Says(U, "i", "a"), 3))
    assert made.log[1:3] == [("m2", "stop", "b", 2), ("m2→kept", "stop", "a", 2)]
    deleted = told((Says(U, "i", "a"), 1), (Says(D, "i", "b"), 2))
    assert deleted.log[1:] == [("m2", "delete", "b", 2), ("m2→deleted", "delete", "a", 2)]


def test_an_opt_out_makes_an_id_known() -> None:
    """By what it says of the address, until a record knows better, whenever that was."""
    made = told((Says(S, "i", "a"), 5), (Says(S, "i"), 6), (Says(U, "i", "b"), 1))
    assert made.log[1:] == [
        ("m2", "stop", "a", 6),
        ("m3", "upsert", "b", 1),
        ("m3→moved", "delete", "a", 1),
        ("m3→kept", "stop", "b", 6),
    ]


def test_an_opt_out_without_an_address_waits() -> None:
    """It is kept, and becomes an event under its own id and with its own moments when there is an address."""
    made = Told()
    waits = made.say(Says(S, "i"), 1)
    assert [(part.account, part.message_id) for part in waits.parts] == [(ACCOUNT, None)]
    assert made.log == []
    assert [(one.message_id, one.quiet) for one in made.book.new_unresolved.values()] == [("m1", False)]
    made.say(Says(U, "i", "a"), 2)
    assert made.log == [("m2", "upsert", "a", 2), ("m1", "stop", "a", 1)]
    assert made.book.new_unresolved == {}


def test_an_opt_out_makes_known_what_waits() -> None:
    """Not only a record tells an address."""
    made = told((Says(D, "i"), 1), (Says(S, "i", "a"), 2))
    assert ("m1", "delete", "a", 1) in made.log


def test_an_allow_needs_an_address() -> None:
    """It says nothing that would have to be kept: the sender is told, and may send it again."""
    made = Told()
    assert made.say(Says(A, "i"), 1).status == "unknown"
    made.say(Says(U, "i", "a"), 2)
    assert made.say(Says(A, "i"), 3).status == "new"
    assert made.log[-1] == ("m3", "allow", "a", 3)


def test_an_allow_is_refused_only_where_no_account_knows_the_customer() -> None:
    """An account that was added since has not heard of the customer; that must not keep the others from it."""
    made = told((Says(U, "i", "a"), 1), (Says(S, "i"), 2))
    allow = made.webhook(Says(A, "i"), 3)
    (part,) = allow.parts
    assert part.contact is not None
    added = replace(part, account="added", contact=("added", *part.contact[1:]))
    assert decide(made.book, replace(allow, parts=(added,))).status == "unknown"
    assert decide(made.book, replace(allow, parts=(added, part))).status == "new"
    assert made.log[-1] == ("m3", "allow", "a", 3)


def test_an_address_can_be_taken_away() -> None:
    """The reader is deleted; what was opted out of waits quietly for the next address."""
    made = told((Says(U, "i", "a"), 1), (Says(S, "i"), 2), (Says(U, "i", None), 3))
    assert made.log[-1] == ("m3→moved", "delete", "a", 3)
    assert [(one.operation, one.quiet) for one in made.book.new_unresolved.values()] == [(S, True)]
    made.say(Says(U, "i", "b"), 4)
    assert mailable(made) == set()
    assert ("m3→kept", "stop", "b", 2) in made.log


def test_a_customer_without_an_address_who_is_deleted_waits_quietly() -> None:
    """Shops have customers without one; their deletions are no reason to wake anybody, but are not lost."""
    made = told((Says(U, "i", None), 1), (Says(D, "i"), 3))
    assert [one.quiet for one in made.book.new_unresolved.values()] == [True]
    made.say(Says(U, "i", "a"), 2)
    assert mailable(made) == set()


def test_a_repeat_changes_nothing_and_another_content_is_a_conflict() -> None:
    """A webhook that was said is known by its events, the added ones too, or by what waits."""
    made = told((Says(U, "i", "a"), 1), (Says(U, "i", "b"), 2))
    before = list(made.log)
    repeat = made.say(Says(U, "i", "b"), 2, "m2")
    assert (repeat.status, {part.message_id for part in repeat.parts}) == ("duplicate", {"m2", "m2→moved"})
    assert made.say(Says(S, "i"), 2, "m2").status == "conflict"
    assert made.log == before
    made.say(Says(S, "j"), 3, "w")
    assert made.say(Says(S, "j"), 3, "w").status == "duplicate"


def test_what_a_deletion_is_there_says_how_an_address_is_left() -> None:
    """An account that stops instead of deleting stops the old address; one that ignores deletions leaves it alone."""
    stopping = told((Says(U, "i", "a"), 1), (Says(U, "i", "b"), 2), voice=PlainVoice(S))
    assert stopping.log[-1] == ("m2→moved", "stop", "a", 2)
    stopping.say(Says(U, "i", "c"), 3)
    assert [event for event in stopping.log if event[2] == "c"] == [("m3", "upsert", "c", 3)], (
        "no wish of the customer's"
    )
    ignoring = told((Says(U, "i", "a"), 1), (Says(U, "i", "b"), 2), voice=PlainVoice(None))
    assert [event[1] for event in ignoring.log] == ["upsert", "upsert"]


def test_nothing_is_said_of_an_address_that_is_somebody_else_s_since() -> None:
    """A late leave would say nothing about who came afterwards."""
    made = told((Says(U, "i", "a"), 1), (Says(U, "j", "a"), 3), (Says(U, "i", "b"), 2))
    assert mailable(made) == {"a", "b"}
    assert len(made.log) == 3


def test_by_postgres_s_clock_nobody_moves_in_the_future() -> None:
    """A replica whose clock runs ahead must not make every later move a late one."""
    made = Told(book=Book(now=EPOCH + timedelta(seconds=10)))
    made.say(Says(U, "i", "a"), 500)
    made.book.now += timedelta(seconds=10)
    made.say(Says(U, "i", "b"), 15)
    assert made.log == [("m1", "upsert", "a", 10), ("m2", "upsert", "b", 15), ("m2→moved", "delete", "a", 15)]


def test_one_opt_out_reaches_only_so_many_addresses() -> None:
    """Those who left last; an address that so many have left is no mailbox of a person's."""
    made = Told()
    for number in range(KEPT_MAX + 3):
        made.say(Says(U, f"i{number}", "shared"), 1)
        made.say(Says(U, f"i{number}", f"own{number}"), 10 + number)
    made.say(Says(S, None, "shared"), 2)
    stopped = {address for address, reader in readers(made.book.events).items() if reader.there and reader.stopped}
    assert stopped == {f"own{number}" for number in range(3, KEPT_MAX + 3)}


def test_an_ignored_record_still_tells_where_its_customer_is() -> None:
    """At an account that takes opt-outs only, an opt-out by id finds its address all the same."""
    made = Told()
    record = made.webhook(Says(U, "i", "a"), 1)
    ignored = replace(record, parts=(replace(record.parts[0], operation=None, record=None),))
    assert decide(made.book, ignored).status == "new"
    made.say(Says(S, "i"), 2)
    assert made.log == [("m2", "stop", "a", 2)]
    assert made.book.contacts[ACCOUNT, SOURCE, KEYS.contact("i")].address == "a@example.jp"


def test_an_allow_by_id_also_counts_for_a_move_that_comes_late() -> None:
    """The customer gave it, wherever it was; one that was said of the old address is the mailbox's own."""
    moves = [(Says(U, "i", "a"), 1), (Says(S, "i"), 2)]
    assert mailable(told(*moves, (Says(A, "i"), 4), (Says(U, "i", "b"), 3))) == {"b"}
    assert mailable(told(*moves, (Says(A, None, "a"), 4), (Says(U, "i", "b"), 3))) == set()


def test_a_late_deletion_ends_no_stop_of_the_mailbox_that_the_customer_came_to() -> None:
    """Nobody has asked to delete that reader: a stop that was there goes on, and so does one that comes later."""
    words = [(Says(U, "i", "b"), 2), (Says(U, "i", "a"), 4), (Says(D, "i"), 3)]
    before = told((Says(S, None, "a"), 1), *words)
    assert mailable(before) == set()
    assert before.log[-2:] == [("m4→deleted", "delete", "a", 3), ("m4→kept", "stop", "a", 3.000001)]
    assert mailable(told(*words, (Says(S, None, "a"), 1))) == set()


def test_a_late_deletion_of_somebody_else_ends_no_stop_either() -> None:
    """The mailbox was deleted before the customer came, by address; what the customer said before holds."""
    assert mailable(told((Says(U, "i", "a"), 3), (Says(S, "i"), 1), (Says(D, None, "a"), 2))) == set()


def test_a_late_stop_holds_for_who_came_after_a_leave() -> None:
    """Another source has brought the address back, which one customer had left: the mailbox had opted out before."""
    words = [(Says(U, "i", "a"), 1), (Says(U, "i", "b"), 3), (Says(U, None, "a"), 4)]
    assert mailable(told(*words)) == {"a", "b"}
    assert mailable(told(*words, (Says(S, None, "a"), 2))) == set()


def test_a_late_stop_does_not_outdo_a_later_allow() -> None:
    """What the mailbox was allowed after the stop counts, whoever left it since."""
    words = [(Says(U, "i", "a"), 1), (Says(A, None, "a"), 2.5), (Says(U, "i", "b"), 3), (Says(U, "i", "a"), 4)]
    assert mailable(told(*words, (Says(S, "i"), 2))) == {"a"}


def test_an_opt_out_tells_where_its_customer_has_been() -> None:
    """What is said of that address afterwards, but before the customer's next one, holds for the customer."""
    assert mailable(told((Says(U, "i", "a"), 3), (Says(D, "i", "b"), 1), (Says(S, None, "b"), 2))) == set()


def test_a_stop_keeps_its_place_in_the_order_where_it_goes() -> None:
    """What was allowed at the new address after the stop counts as it always does, leaves or not."""
    words = [(Says(U, "j", "b"), 1), (Says(A, None, "b"), 2.5), (Says(U, "j", "c"), 2.7), (Says(U, "i", "a"), 1)]
    assert mailable(told(*words, (Says(S, "i"), 2), (Says(U, "i", "b"), 3))) == {"b", "c"}
