"""Refused lines are kept small and come back as they were."""

import tracemalloc

import pytest

from relay.vendors import Claim
from relay.vendors.claims import MESSAGE_CHARS_MAX, MESSAGES_MAX, Claims

SOME = (
    Claim(2, '"taro@example.jp","髙橋 太郎"', "不正"),
    Claim(0, "", ""),
    Claim(10**9 - 1, "\ud800", "\udc00 不正"),
    Claim(3, "a\x00b", "不正"),
)
"""Halves of pairs and NUL among them: JSON lets both through."""


def kept(claims: tuple[Claim, ...]) -> Claims:
    """Keep them."""
    made = Claims()
    for claim in claims:
        made.add(claim)
    return made


def test_claims_come_back_as_they_were() -> None:
    """One by one, by index from either end, as a slice, and equal to what they were made of."""
    claims = kept(SOME)
    assert tuple(claims) == SOME
    assert claims == SOME
    assert hash(claims) == hash(SOME)
    assert claims != SOME[:3]
    assert claims != (*SOME[:3], SOME[0])
    assert [claims[at] for at in range(-4, 4)] == [*SOME, *SOME]
    assert claims[1:3] == SOME[1:3]
    assert SOME[2] in claims
    with pytest.raises(IndexError):
        claims[4]


def test_a_repr_tells_nothing_of_them() -> None:
    """They are customers' lines."""
    assert repr(kept(SOME)) == "<4 claims>"


def test_a_long_message_is_cut() -> None:
    """The content never is: it has to be compared."""
    (claim,) = kept((Claim(2, "表" * 100_000, "不" * 100_000),))
    assert claim == Claim(2, "表" * 100_000, "不" * MESSAGE_CHARS_MAX)


@pytest.mark.parametrize(("different", "bytes_max"), [(1, 600_000), (MESSAGES_MAX, 3_000_000)])
def test_equal_messages_are_kept_once(different: int, bytes_max: int) -> None:
    """Ten thousand messages of 1,200 bytes: one text, or a thousand, beside 40 bytes for each claim."""
    tracemalloc.start()
    try:
        claims = kept(tuple(Claim(n + 2, "", f"{n % different:04}" + "不" * 400) for n in range(10_000)))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert claims[-1].message.endswith("不")
    assert held < bytes_max


def test_messages_that_differ_are_not_all_looked_for() -> None:
    """Beyond a thousand they are kept as they come: what is looked up would take more than the reply itself."""
    claims = kept(tuple(Claim(n + 2, "", f"{n}行目") for n in range(2 * MESSAGES_MAX)))
    assert len(vars(claims)["_messages"]) == MESSAGES_MAX
    assert [claim.message for claim in claims] == [f"{n}行目" for n in range(2 * MESSAGES_MAX)]
