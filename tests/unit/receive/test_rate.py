"""The token bucket: never more than was allowed, and who waits as long as told gets in."""

import math
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.receive.rate import A_TOKEN, Bucket

RATES = st.floats(min_value=0.001, max_value=1_000_000)
BURSTS = st.integers(1, 1_000_000)
UPTIMES_S = st.floats(0, 1e8)
"""What a monotonic clock may show: it counts from the machine's start, some years at most."""

REQUESTS = st.lists(st.tuples(st.floats(0, 1_000), st.integers(1, 1_000)), min_size=1, max_size=30)
"""Requests: the seconds since the one before, and how many webhooks each holds."""


def ask(bucket: Bucket, now_s: float, webhooks: int) -> float | None:
    """Ask for a request of so many webhooks, as an admission does."""
    wait_s = bucket.take(now_s)
    if wait_s is None:
        bucket.charge(webhooks - 1)
    return wait_s


@given(per_s=RATES, burst=BURSTS, start_s=UPTIMES_S, requests=REQUESTS)
def test_never_more_than_allowed(per_s: float, burst: int, start_s: float, requests: list[tuple[float, int]]) -> None:
    """From any moment to any other at most burst + rate * seconds webhooks, and what the last request owes."""
    bucket = Bucket(per_s, burst)
    times = list(accumulate((gap for gap, _ in requests), initial=start_s))[1:]
    let_in = [(at, n) for at, (_, n) in zip(times, requests, strict=True) if ask(bucket, at, n) is None]
    for first, (begin, _) in enumerate(let_in):
        webhooks = 0
        for at, n in let_in[first:]:
            allowed = burst + per_s * (at - begin)
            assert webhooks + A_TOKEN <= allowed * (1 + 1e-9) + 1e-3
            webhooks += n


@given(per_s=RATES, burst=BURSTS, start_s=UPTIMES_S, requests=REQUESTS)
def test_who_waits_as_told_gets_in(per_s: float, burst: int, start_s: float, requests: list[tuple[float, int]]) -> None:
    """After the whole seconds that are told, there is a token; well before, there is none."""
    bucket = Bucket(per_s, burst)
    now_s = start_s
    for gap_s, webhooks in requests:
        now_s += gap_s
        wait_s = ask(bucket, now_s, webhooks)
        if wait_s is None:
            continue
        assert wait_s > 0
        if wait_s * per_s > 0.1:  # of a token
            now_s += wait_s * 0.9
            again_s = ask(bucket, now_s, webhooks)
            assert again_s is not None
            assert again_s == pytest.approx(wait_s * 0.1, rel=0.01, abs=0.002 / per_s + 1e-6)
            wait_s = again_s
        now_s += math.ceil(wait_s)
        assert ask(bucket, now_s, webhooks) is None


def test_a_full_bucket_takes_its_burst_at_once() -> None:
    """At first the whole burst gets in, then nothing until a token has been gained."""
    bucket = Bucket(per_s=2, burst=3)
    assert [bucket.take(100.0) for _ in range(4)] == [None, None, None, 0.5]
    assert bucket.take(100.25) == 0.25
    assert bucket.take(100.5) is None
    assert bucket.take(100.5) == 0.5


def test_a_request_larger_than_the_bucket_is_taken_and_paid_for() -> None:
    """One token is enough for any number of webhooks; the debt holds up what comes afterwards."""
    bucket = Bucket(per_s=10, burst=5)
    assert ask(bucket, 0, 1_000) is None
    assert bucket.take(0) == pytest.approx(99.6)  # 995 of debt and a token, 10 a second
    assert bucket.take(99.5) == pytest.approx(0.1)
    assert bucket.take(99.6) is None


def test_idleness_saves_up_no_more_than_the_burst() -> None:
    """However long a source was silent, it may send its burst at once and no more."""
    bucket = Bucket(per_s=1_000, burst=2)
    assert [bucket.take(1e7) for _ in range(3)][:2] == [None, None]
    assert [bucket.take(2e7) is None for _ in range(3)] == [True, True, False]
