"""How a customer stands at an account: the words in force decide, and nothing is confirmed that the vendor did not."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import permutations, product

import pytest

from relay.events import OPT_OUTS, PERMISSIONS, EventState, Operation
from relay.status.answers import Standing
from relay.status.standing import order, standing
from relay.store import ToldEvent
from tests.unit.status.test_why import EVENT, NOON

UPSERT, DELETE, STOP, BAN, ALLOW = Operation
DELIVERED, PENDING, SUPERSEDED = EventState.DELIVERED, EventState.PENDING, EventState.SUPERSEDED


def word(number: int, operation: Operation, state: EventState = DELIVERED, at: int | None = None) -> ToldEvent:
    """A word that occurred `at` minutes past noon, by default as many as its id; settled an hour later."""
    occurred_at = NOON + timedelta(minutes=number if at is None else at)
    settled_at = occurred_at + timedelta(hours=1) if state is DELIVERED else None
    return replace(
        EVENT,
        event_id=number,
        operation=operation,
        state=state,
        occurred_at=occurred_at,
        settled_at=settled_at,
        superseded_by=99 if state is SUPERSEDED else None,
        batch_reason="given up",
    )


def words(*operations: Operation) -> list[ToldEvent]:
    """Delivered words in their order, a minute apart."""
    return [word(number, operation) for number, operation in enumerate(operations)]


def stands(*told: ToldEvent) -> Standing:
    """How the customer stands."""
    return standing(told, None)


@pytest.mark.parametrize(
    ("said", "stood", "rests_on"),
    [
        ([UPSERT], "subscribed", [0]),
        ([UPSERT, UPSERT], "subscribed", [1]),
        ([UPSERT, ALLOW], "subscribed", [0, 1]),
        ([STOP, UPSERT], "stopped", [0]),
        ([UPSERT, BAN], "banned", [1]),
        ([BAN, STOP, UPSERT], "stopped", [1]),
        ([STOP, ALLOW, UPSERT], "subscribed", [2, 1]),
        ([UPSERT, DELETE], "deleted", [1]),
        ([STOP, DELETE], "deleted", [1]),
        ([DELETE, STOP], "deleted", [0]),
        ([DELETE, STOP, UPSERT], "stopped", [1]),
        ([STOP, DELETE, UPSERT], "subscribed", [2]),
        ([ALLOW], "allowed", [0]),
        ([STOP], "stopped", [0]),
    ],
)
def test_the_words_in_force_decide(said: Sequence[Operation], stood: str, rests_on: Sequence[int]) -> None:
    """Whatever order they were told in; the word that decides is told first, and when it happened."""
    for told in permutations(words(*said)):
        found = stands(*told)
        assert (found.standing, found.event_ids, found.why) == (stood, rests_on, None)
        assert found.occurred_at == NOON + timedelta(minutes=rests_on[0])
        assert found.confirmed_at == NOON + timedelta(hours=1, minutes=max(rests_on))


def test_who_opted_out_last_is_not_subscribed() -> None:
    """In no order of up to four words does anybody stand as to be mailed whom a later stop, ban or delete forbids.

    By a rule of its own: a stop or ban holds until an allow or a delete, a delete until an upsert.
    """
    for said in (one for length in range(1, 5) for one in product(Operation, repeat=length)):
        exists = forbidden = False
        for operation in said:
            exists = operation is not DELETE and (exists or operation is UPSERT)
            forbidden = operation in (STOP, BAN) or (forbidden and operation not in (ALLOW, DELETE))
        deleted = DELETE in said and UPSERT not in said[len(said) - said[::-1].index(DELETE) :]
        mailable = stands(*words(*said)).standing in ("subscribed", "allowed")
        assert mailable == (not forbidden and not deleted), said


def test_three_words_are_enough() -> None:
    """The last upsert or delete, the last permission word and the last delete say the same as the whole history."""
    groups = ({UPSERT, DELETE}, PERMISSIONS, {DELETE})
    for said in product(Operation, repeat=5):
        told = words(*said)
        last = [max((w for w in told if w.operation in group), key=order, default=None) for group in groups]
        assert stands(*[w for w in last if w is not None]) == stands(*told), said


def test_the_opt_out_is_the_later_on_a_tie() -> None:
    """A stop and an allow of the same moment: stopped, whichever came first."""
    assert stands(word(1, STOP, at=5), word(2, ALLOW, at=5)).standing == "stopped"
    assert stands(word(2, STOP, at=5), word(1, ALLOW, at=5)).standing == "stopped"


def test_the_last_copy_of_a_word_counts() -> None:
    """A stop that was delivered, but had to be appended again, is not confirmed until the copy is."""
    found = stands(word(1, STOP, EventState.RETRIED), word(7, STOP, PENDING, at=1), word(3, UPSERT))
    assert (found.standing, found.event_ids, found.confirmed_at) == ("stopped", [7], None)


@pytest.mark.parametrize("state", [state for state in EventState if state not in (DELIVERED, SUPERSEDED)])
@pytest.mark.parametrize("operation", sorted(OPT_OUTS | {UPSERT}))
def test_only_delivered_is_confirmed(operation: Operation, state: EventState) -> None:
    """In any other state the standing is what it is, not confirmed, and says which word and why."""
    found = stands(word(1, operation, state))
    assert found.confirmed_at is None
    assert found.why
    assert found.why.startswith(f"{operation}: ")


def test_every_word_that_it_rests_on_is_confirmed() -> None:
    """Subscribed after an allow that the vendor refused: not confirmed, though the record arrived."""
    found = stands(word(1, STOP, SUPERSEDED), word(2, ALLOW, EventState.REJECTED), word(3, UPSERT))
    assert (found.standing, found.event_ids, found.confirmed_at) == ("subscribed", [3, 2], None)
    assert found.why is not None
    assert found.why.startswith("allow: the vendor refused its line")


def test_an_upsert_under_way_may_undo_a_stop() -> None:
    """While an upsert is being uploaded nobody knows whether the vendor mails again."""
    found = stands(word(1, STOP), word(2, UPSERT, EventState.UPLOADING))
    assert (found.standing, found.confirmed_at) == ("stopped", None)
    assert found.why == "an upsert is being uploaded that may undo it; the stop is then sent again"


@pytest.mark.parametrize(
    ("state", "became"),
    [
        (SUPERSEDED, "replaced before it was sent"),
        (PENDING, "replaced before it was sent"),
        (EventState.REJECTED, "refused"),
        (EventState.UNCONFIRMED, "never confirmed"),
        (EventState.FAILED, "given up"),
    ],
)
def test_a_delete_that_was_never_sent_leaves_the_stop(state: EventState, became: str) -> None:
    """Stopped, deleted and created anew: the stop may still hold at the vendor, unless the delete was taken there."""
    unsent = stands(word(1, STOP), word(2, DELETE, state), word(3, UPSERT))
    sent = stands(word(1, STOP), word(2, DELETE), word(3, UPSERT))
    assert (unsent.standing, unsent.confirmed_at) == ("subscribed", None)
    assert unsent.why is not None
    assert unsent.why == f"an earlier stop may still hold at the vendor: the delete between was {became}"
    assert (sent.standing, sent.why) == ("subscribed", None)
