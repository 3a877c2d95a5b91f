"""The breaker of a vendor host as a table: what was tried when, what came of it, and how the breaker then stands."""

from collections.abc import Sequence

import pytest

from relay.client import host_of
from relay.client.breaker import (
    FAILURES_MAX,
    GIVE_WAY_S,
    OPEN_MAX_S,
    OPEN_S,
    PROBE_S,
    PROMISE_S,
    Breaker,
    Leave,
    State,
    Verdict,
)
from tests.unit.vendors.made import bme_login, haihai_login

ANSWERED, UNREACHED, BROKEN, NOTHING = Verdict.ANSWERED, Verdict.UNREACHED, Verdict.BROKEN, Verdict.NOTHING
CLOSED, OPEN, HALF_OPEN = State.CLOSED, State.OPEN, State.HALF_OPEN


def go(breaker: Breaker, verdict: Verdict, now: float = 0.0, asker: str = "a", subject: str = "") -> None:
    """Send something and say what came of it."""
    leave = breaker.begin(asker, subject or asker, now)
    assert leave is not None
    breaker.end(leave, verdict, now)


def opened(now: float = 0.0) -> Breaker:
    """A breaker that has just opened because its host cannot be reached."""
    breaker = Breaker()
    for _ in range(FAILURES_MAX):
        go(breaker, UNREACHED, now)
    assert breaker.state(now) is OPEN
    return breaker


def begun(breaker: Breaker, now: float, asker: str = "a") -> Leave:
    """Begin what must be let through."""
    leave = breaker.begin(asker, asker, now)
    assert leave is not None
    return leave


# -- what opens it ---------------------------------------------------------------------------------------------------

U, B, A, N = (UNREACHED, "x"), (BROKEN, "x"), (ANSWERED, "x"), (NOTHING, "x")
OTHERS = [(BROKEN, f"subject {n}") for n in range(FAILURES_MAX)]


@pytest.mark.parametrize(
    ("tried", "state"),
    [
        ([U] * (FAILURES_MAX - 1), CLOSED),
        ([U] * FAILURES_MAX, OPEN),
        ([U] * (FAILURES_MAX - 1) + [A] + [U] * (FAILURES_MAX - 1), CLOSED),
        ([U] * (FAILURES_MAX - 1) + [N, N, U], OPEN),
        ([B] * 100, CLOSED),
        (OTHERS[:-1], CLOSED),
        (OTHERS, OPEN),
        ([*OTHERS[:-1], OTHERS[0], OTHERS[1]], CLOSED),
        ([*OTHERS[:-1], A, *OTHERS[:-1]], CLOSED),
        ([*OTHERS[:2], U, U, U], OPEN),
        ([B, A] * 100, CLOSED),
    ],
    ids=[
        "one too few",
        "enough",
        "an answer between",
        "what says nothing is no answer",
        "one poisoned file",
        "several, one too few",
        "everybody fails",
        "the same ones again",
        "everybody, with an answer between",
        "of both kinds",
        "interleaved with successes",
    ],
)
def test_what_opens_it(tried: Sequence[tuple[Verdict, str]], state: State) -> None:
    """Failures in a row of a host that nobody reaches, or at which different subjects fail; never those of one file."""
    breaker = Breaker()
    for verdict, subject in tried:
        go(breaker, verdict, subject=subject)
    assert breaker.state(0) is state
    assert breaker.next_try_s(0) == (OPEN_S if state is OPEN else 0)


def contracts(*counts: int) -> list[tuple[str, str]]:
    """Logins each of which fails at so many subjects."""
    return [(f"login {n}", f"login {n} subject {m}") for n, count in enumerate(counts) for m in range(count)]


@pytest.mark.parametrize(
    ("serves", "tried", "state"),
    [
        (1, contracts(5), OPEN),
        (2, contracts(50), CLOSED),
        (2, contracts(4, 1), OPEN),
        (2, contracts(3, 1), CLOSED),
        (3, contracts(5, 5), CLOSED),
        (3, contracts(2, 2, 1), OPEN),
        (20, contracts(5, 5, 5, 5), CLOSED),
        (20, contracts(1, 1, 1, 1, 1), OPEN),
        (20, contracts(5, 5, 5, 5, 1), OPEN),
    ],
)
def test_one_contract_never_opens_it_for_others(serves: int, tried: Sequence[tuple[str, str]], state: State) -> None:
    """With 5xx for all of its accounts: only if all logins fail, or five of them, is it the host."""
    breaker = Breaker(serves)
    for asker, subject in [*tried, *tried]:
        if breaker.state(0) is CLOSED:
            go(breaker, BROKEN, asker=asker, subject=subject)
    assert breaker.state(0) is state


def test_who_cannot_be_reached_counts_among_many_contracts() -> None:
    """That is the host's doing, whoever notices; what one contract's accounts fail at adds one."""
    breaker = Breaker(2)
    for number in range(FAILURES_MAX):
        go(breaker, BROKEN, subject=f"a {number}")
    for _ in range(FAILURES_MAX - 2):
        go(breaker, UNREACHED)
    assert breaker.state(0) is CLOSED
    go(breaker, UNREACHED)
    assert breaker.state(0) is OPEN


# -- open and half-open ----------------------------------------------------------------------------------------------


def test_nothing_is_sent_while_it_is_open() -> None:
    """Until its time nobody is told to try; at that moment it is half-open."""
    breaker = opened(100.0)
    for now in (100.0, 100.0 + OPEN_S - 0.001):
        assert breaker.state(now) is OPEN
        assert not breaker.may_try("a", now)
        assert breaker.begin("b", "b", now) is None
        assert breaker.next_try_s(now) == 100.0 + OPEN_S - now
    assert breaker.state(100.0 + OPEN_S) is HALF_OPEN
    assert breaker.next_try_s(100.0 + OPEN_S) == 0
    assert breaker.may_try("b", 100.0 + OPEN_S)


def test_exactly_one_probe_goes_up() -> None:
    """The first who asks is told so, and may be asked again until it begins; nobody else, nor itself twice."""
    breaker = opened()
    assert breaker.may_try("opt-outs", OPEN_S)
    assert not breaker.may_try("data", OPEN_S)
    assert breaker.begin("data", "data", OPEN_S + 1) is None
    assert breaker.may_try("opt-outs", OPEN_S + 2)
    probe = begun(breaker, OPEN_S + 3, "opt-outs")
    for asker in ("opt-outs", "data"):
        assert not breaker.may_try(asker, OPEN_S + 4)
        assert breaker.begin(asker, asker, OPEN_S + 4) is None
    breaker.end(probe, ANSWERED, OPEN_S + 5)
    assert breaker.state(OPEN_S + 5) is CLOSED
    assert [breaker.may_try(asker, OPEN_S + 5) for asker in ("opt-outs", "data")] == [True, True]


@pytest.mark.parametrize("verdict", [UNREACHED, BROKEN])
def test_each_probe_that_fails_doubles_the_time(verdict: Verdict) -> None:
    """Up to the limit; an answer makes the next opening a short one again."""
    breaker, now, waits = opened(), OPEN_S, []
    for _ in range(6):
        go(breaker, verdict, now)
        waits.append(breaker.next_try_s(now))
        now += waits[-1] + GIVE_WAY_S
    assert waits == [60.0, 120.0, 240.0, OPEN_MAX_S, OPEN_MAX_S, OPEN_MAX_S]
    go(breaker, ANSWERED, now)
    for _ in range(FAILURES_MAX - 1):
        go(breaker, UNREACHED, now)
    assert breaker.state(now) is CLOSED
    go(breaker, UNREACHED, now)
    assert breaker.next_try_s(now) == OPEN_S


def test_it_sends_nothing_only_while_nobody_is_let_through() -> None:
    """Open, or a probe under way: nothing goes. Half-open the next upload would go, so that it is not told any more."""
    breaker = Breaker()
    assert not breaker.sends_nothing(0)
    breaker = opened()
    assert breaker.sends_nothing(OPEN_S - 0.1)
    assert not breaker.sends_nothing(OPEN_S), "whether or not anybody has something to send"
    probe = begun(breaker, OPEN_S)
    hangs = OPEN_S + PROBE_S
    assert breaker.sends_nothing(OPEN_S)
    assert breaker.sends_nothing(hangs + 1), "however long it takes"
    second = begun(breaker, hangs + 1, "b")
    breaker.end(probe, NOTHING, hangs + 2)
    assert breaker.sends_nothing(hangs + 2), "the other is still under way"
    breaker.end(second, NOTHING, hangs + 3)
    assert not breaker.sends_nothing(hangs + 3)
    go(breaker, BROKEN, hangs + 4)
    assert breaker.sends_nothing(hangs + 5)
    go(breaker, ANSWERED, hangs + 4 + 2 * OPEN_S, "b")
    assert not breaker.sends_nothing(hangs + 4 + 2 * OPEN_S)


def test_a_probe_that_says_nothing_leaves_it_to_the_next() -> None:
    """A file that was gone, or a lane that was lost on the way, decides nothing and keeps nobody."""
    breaker = opened()
    go(breaker, NOTHING, OPEN_S)
    assert breaker.state(OPEN_S) is HALF_OPEN
    assert breaker.may_try("b", OPEN_S)


def test_leave_that_is_not_used_goes_to_somebody_else() -> None:
    """Who was told to go ahead may find its lane taken; who waits for an answer too long keeps others no more."""
    breaker = opened()
    assert breaker.may_try("a", OPEN_S)
    assert not breaker.may_try("b", OPEN_S + PROMISE_S - 1)
    late = begun(breaker, OPEN_S + PROMISE_S, "b")
    assert not breaker.may_try("c", OPEN_S + PROMISE_S + PROBE_S - 1)
    begun(breaker, now := OPEN_S + PROMISE_S + PROBE_S, "c")
    breaker.end(late, BROKEN, now)
    assert breaker.state(now) is HALF_OPEN, "the probe under way decides"
    breaker.end(late, ANSWERED, now)
    assert breaker.state(now) is CLOSED, "but an answer is an answer"


def test_who_failed_at_the_last_probe_gives_way() -> None:
    """One broken contract, though it asks first each time, does not keep the others of its host away."""
    breaker = opened()
    go(breaker, BROKEN, OPEN_S, "broken")
    half_open = OPEN_S + breaker.next_try_s(OPEN_S)
    assert not breaker.may_try("broken", half_open)
    assert breaker.may_try("sound", half_open)
    go(breaker, BROKEN, half_open, "sound")
    half_open += breaker.next_try_s(half_open)
    assert not breaker.may_try("broken", half_open), "nor does it come back before the others"


@pytest.mark.parametrize("late", [0, 5])
def test_however_many_are_broken_the_sound_one_gets_its_turn(late: int) -> None:
    """Urgent and broken ones do not hand the probe to each other; nor when the sound one comes later."""
    breaker, now = opened(), OPEN_S
    probes: list[str] = []
    while "sound" not in probes:
        assert len(probes) < late + 4, probes
        asking = ("broken", "also broken", "broken, too", "sound")[: 4 if len(probes) >= late else 3]
        while not (asker := next((one for one in asking if breaker.may_try(one, now)), "")):
            now += 1.0  # lanes are looked at every second
        go(breaker, ANSWERED if asker == "sound" else BROKEN, now, asker)
        probes.append(asker)
        now += breaker.next_try_s(now)
    assert breaker.state(now) is CLOSED


def test_who_failed_while_nobody_was_served_has_its_turn_again() -> None:
    """All have failed; then the host is well for one of them, and it is not the one that asks first."""
    breaker, now, probes = opened(), OPEN_S, 0
    while breaker.state(now) is not CLOSED:
        assert probes < 6, "three that fail all, and three of which the last is served"
        while not (asker := next((one for one in ("broken", "too", "sound") if breaker.may_try(one, now)), "")):
            now += 1.0
        probes += 1
        go(breaker, ANSWERED if asker == "sound" and probes > 3 else BROKEN, now, asker)
        now += breaker.next_try_s(now)


def test_a_probe_that_is_given_back_goes_to_somebody_else() -> None:
    """Who has nothing to send gives way, at once and for a moment; a probe under way is not given back."""
    breaker = opened()
    assert breaker.may_try("idle", OPEN_S)
    breaker.give_back("other", OPEN_S)
    assert not breaker.may_try("other", OPEN_S), "it was not its to give"
    breaker.give_back("idle", OPEN_S + 1)
    assert not breaker.may_try("idle", OPEN_S + 1)
    assert breaker.may_try("idle", OPEN_S + 1 + GIVE_WAY_S), "nobody else wanted to"
    breaker.give_back("idle", OPEN_S + 5)
    assert breaker.may_try("other", OPEN_S + 5)
    begun(breaker, OPEN_S + 5, "other")
    breaker.give_back("other", OPEN_S + 6)
    assert not breaker.may_try("third", OPEN_S + 6)


def test_who_is_alone_waits_a_moment_only() -> None:
    """Nobody else has anything to send: the one that failed probes again."""
    breaker = opened()
    go(breaker, UNREACHED, OPEN_S)
    half_open = OPEN_S + breaker.next_try_s(OPEN_S)
    assert not breaker.may_try("a", half_open + GIVE_WAY_S - 0.001)
    assert breaker.may_try("a", half_open + GIVE_WAY_S)


def test_what_began_before_it_opened() -> None:
    """An answer closes it; another failure prolongs nothing, and counts for no later row."""
    breaker = Breaker()
    under_way = [begun(breaker, 0, f"login {n}") for n in range(FAILURES_MAX + 2)]
    for leave in under_way[:FAILURES_MAX]:
        breaker.end(leave, BROKEN, 10)
    assert breaker.next_try_s(10) == OPEN_S
    breaker.end(under_way[-1], BROKEN, 30)
    assert breaker.next_try_s(30) == 10 + OPEN_S - 30
    breaker.end(under_way[-2], ANSWERED, 31)
    assert breaker.state(31) is CLOSED


# -- hosts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base_url", "host"),
    [
        ("https://API.bme.jp/rest/1.0", "https://api.bme.jp"),
        ("https://api.bme.jp:443/", "https://api.bme.jp"),
        ("http://api.bme.jp:80", "http://api.bme.jp"),
        ("http://127.0.0.1:8080/rest/1.0", "http://127.0.0.1:8080"),
        ("http://[::1]:8080/", "http://[::1]:8080"),
    ],
)
def test_a_host_is_scheme_name_and_port(base_url: str, host: str) -> None:
    """Contracts with the same ones share a breaker, whatever their paths and however they are written."""
    assert host_of(bme_login(base_url=base_url)) == host
    assert host_of(haihai_login(base_url=base_url)) == host
