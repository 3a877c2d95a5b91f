"""Customers who move, in every order of arrival: nobody is mailed for it who opted out."""

import itertools
import random
from collections.abc import Sequence

import pytest

from relay.events import Operation
from tests.unit.receive.followed import Says, Told, mailable

U, D, S, A = Operation.UPSERT, Operation.DELETE, Operation.STOP, Operation.ALLOW

WORDS: dict[str, list[Says]] = {
    "by id and by address": [
        Says(U, "i", "a"), Says(U, "i", "b"), Says(S, "i"), Says(D, "i"), Says(S, None, "a"), Says(D, None, "a"),
        Says(S, "i", "a"),
    ],
    "three addresses": [
        Says(U, "i", "a"), Says(U, "i", "b"), Says(U, "i", "c"), Says(S, "i"), Says(S, None, "a"), Says(D, "i"),
    ],
    "addresses taken away": [
        Says(U, "i", "a"), Says(U, "i", "b"), Says(U, "i", None), Says(S, "i"), Says(D, "i"), Says(S, None, "a"),
    ],
    "previous addresses": [
        Says(U, "i", "a"), Says(U, "i", "b", "a"), Says(U, "i", "a", "b"), Says(S, "i"), Says(S, None, "a"),
        Says(D, "i"),
    ],
    "two customers": [
        Says(U, "i", "a"), Says(U, "i", "b"), Says(U, "j", "a"), Says(S, "i"), Says(S, "j"), Says(D, "i"),
        Says(U, "j", "c"), Says(S, None, "a"),
    ],
    "allows": [Says(U, "i", "a"), Says(U, "i", "b"), Says(S, "i"), Says(A, "i"), Says(S, None, "a"), Says(D, "i")],
}  # fmt: skip

SAMPLED = 400
"""So many of the sequences of four words; all of them (some 8,000 with 24 orders each) were tried by hand."""


def sequences(kind: str) -> list[tuple[Says, ...]]:
    """All sequences of up to three words, and some of four."""
    words = WORDS[kind]
    short = [sequence for length in (1, 2, 3) for sequence in itertools.product(words, repeat=length)]
    return short + random.Random(kind).sample(list(itertools.product(words, repeat=4)), SAMPLED)


def arrive(sequence: Sequence[Says], order: Sequence[int]) -> Told | None:
    """Let words arrive that occurred in the order of the sequence; None if one was refused: it may be repeated."""
    told = Told()
    for place in order:
        if told.say(sequence[place], place + 1, f"m{place}").status == "unknown":
            return None
    return told


def may_be_ended(sequence: Sequence[Says]) -> bool:
    """Whether a deletion or an allow follows a stop that it may end: then there is no single truth about the stop."""
    return any(
        early.asked is S and late.asked in (D, A) and (not early.who or not late.who or early.who == late.who)
        for early, late in itertools.combinations(sequence, 2)
    )


def somebody_else_s(sequence: Sequence[Says], addresses: set[str]) -> bool:
    """Whether at each address is a customer who never opted out, nor was it said of an address."""
    last = {word.who: word.address for word in sequence if word.asked is U}
    opted_out = {word.who for word in sequence if word.asked is S}
    there = {address for who, address in last.items() if who not in opted_out}
    return None not in opted_out and addresses <= there


@pytest.mark.parametrize("kind", WORDS)
def test_no_order_of_arrival_subscribes_whom_the_true_order_does_not(kind: str) -> None:
    """The rule: whoever may be mailed in any order may be mailed in order, or a later word may have ended the stop.

    Or there is somebody else at the address now, who did not opt out.
    """
    wrong = []
    for sequence in sequences(kind):
        in_order = arrive(sequence, range(len(sequence)))
        if in_order is None:
            continue
        for order in itertools.permutations(range(len(sequence))):
            told = arrive(sequence, order)
            more = mailable(told) - mailable(in_order) if told is not None else set()
            if more and not may_be_ended(sequence) and not somebody_else_s(sequence, more):
                wrong.append((sequence, order, more))
    assert not wrong, wrong[:3]


@pytest.mark.parametrize("kind", ["by id and by address", "three addresses", "addresses taken away"])
def test_moves_and_words_by_id_end_the_same_in_every_order(kind: str) -> None:
    """Without opt-outs by address nothing is in doubt but what a deletion ends: the same readers may be mailed."""
    words = [word for word in WORDS[kind] if word.who is not None and (word.asked is U or word.address is None)]
    for length in (1, 2, 3, 4):
        for sequence in itertools.product(words, repeat=length):
            if may_be_ended(sequence):
                continue
            in_order = arrive(sequence, range(length))
            assert in_order is not None
            for order in itertools.permutations(range(length)):
                told = arrive(sequence, order)
                assert told is not None
                assert mailable(told) == mailable(in_order), (sequence, order)


def test_a_repeat_changes_nothing_whenever_it_comes() -> None:
    """Senders send again what was taken: the log does not grow, and nothing is said otherwise afterwards."""
    rng = random.Random(7)
    words = [word for kind in WORDS.values() for word in kind if word.asked is not A]  # these may be refused at first
    for _ in range(300):
        sequence = [rng.choice(words) for _ in range(5)]
        once, twice = Told(), Told()
        for place, says in enumerate(sequence):
            once.say(says, place, f"m{place}")
            again = rng.randrange(place + 1)
            twice.say(says, place, f"m{place}")
            twice.say(sequence[again], again, f"m{again}")
        assert [event[0] for event in twice.log] == [event[0] for event in once.log]
