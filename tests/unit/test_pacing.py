"""Pacing: opt-outs never find the day's calls spent, and data gets what they leave."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay import vendors
from relay.batches import Day, Pace, going_up, pace_of
from relay.batches.pacing import AGAIN_MAX_S, DAY_S, LAST_HOUR_S, NEW_DAY_GRACE_S
from relay.events import Operation
from tests.unit.pacing_days import Days, Gone, streams
from tests.unit.vendors.made import account, bme_login, haihai_login

SHARED = Pace(240, 600.0)
"""A shared server with one account and the defaults."""

D, S, U = Operation.DELETE, Operation.STOP, Operation.UPSERT

days = st.builds(
    Day,
    st.integers(0, 300),
    st.floats(1, DAY_S),
    st.floats(0, 3 * DAY_S),
    st.one_of(st.none(), st.integers(0, 300)),
)
paces = st.builds(
    lambda calls, after_s: pace_of(calls, after_s) or SHARED,
    st.integers(1, 400),
    st.lists(st.floats(0, 7200), max_size=15),
)


def test_a_login_s_pace_follows_from_its_contract_and_its_accounts() -> None:
    """The defaults of a shared server keep 144 of 240 calls for opt-outs; fewer where these come more rarely."""
    login = haihai_login()
    assert vendors.pace(login, [account(login)]) == Pace(240, 600.0)
    rare = account(login, flush_opt_outs_after_s=7200)
    assert vendors.pace(login, [rare]) == Pace(240, 2400.0), "three operations, one file each two hours"
    assert vendors.pace(login, [rare, rare]) == Pace(240, 1200.0)
    assert vendors.pace(login, [account(login, flush_opt_outs_after_s=0)] * 5) == Pace(240, 600.0)
    dedicated = vendors.pace(haihai_login(server="dedicated"), [account(login)])
    assert dedicated is not None
    assert dedicated.calls_per_day == 86_400
    assert dedicated.spacing_s == pytest.approx(10 / 3)
    assert vendors.pace(haihai_login(calls_per_day_limit=1), [account(login)]) == Pace(1, DAY_S / 0.6)
    assert vendors.pace(haihai_login(), []) == Pace(240, 600.0), "no account yet"
    assert vendors.pace(bme_login(), [account(bme_login())]) is None, "a vendor that counts nothing"


def test_in_the_morning_data_has_what_opt_outs_do_not_need() -> None:
    """Of 240 calls 144 are kept for a file of opt-outs each 600 s, and 12 for many at once."""
    midnight = Day(0, DAY_S)
    assert (SHARED.left(midnight), SHARED.kept(midnight)) == (240, 156)
    assert SHARED.may_go(replace(midnight, calls=83), opt_out=False)
    assert not SHARED.may_go(replace(midnight, calls=84), opt_out=False)
    assert SHARED.may_go(replace(midnight, calls=95), opt_out=True)
    assert not SHARED.may_go(replace(midnight, calls=96, since_call_s=0), opt_out=True)
    noon = Day(84, DAY_S / 2)
    assert SHARED.kept(noon) == 78, "what opt-outs did not use by noon is free"
    assert SHARED.wait_s(noon, opt_out=False) == 0


def test_a_file_that_has_to_wait_is_told_for_how_long() -> None:
    """To the second; who waits for the next day waits a little longer, because the vendor's clock may be behind."""
    full = Day(96, DAY_S - 240, since_call_s=0)
    assert SHARED.kept(full) == 143 + 12
    assert SHARED.wait_s(replace(full, calls=97), opt_out=True) == 361, "until 142 times 600 s are left"
    assert SHARED.wait_s(Day(240, 500.0), opt_out=True) == 500 + NEW_DAY_GRACE_S
    assert SHARED.wait_s(Day(240, 500.0), opt_out=False) == 500 + NEW_DAY_GRACE_S


def test_the_last_minutes_leave_nothing_over() -> None:
    """Data takes the last call when an opt-out would only have to wait for midnight anyway."""
    assert not SHARED.may_go(Day(239, 601.0), opt_out=False)
    assert SHARED.may_go(Day(239, 600.0), opt_out=False)
    rare = Pace(240, 7200.0)
    assert not rare.may_go(Day(239, LAST_HOUR_S + 1), opt_out=False)
    assert rare.may_go(Day(239, LAST_HOUR_S), opt_out=False)


def test_one_call_a_day() -> None:
    """It is the opt-outs' until the last hour of the day, then anybody's."""
    single = Pace(1, DAY_S / 0.6)
    assert single.may_go(Day(0, DAY_S), opt_out=True)
    assert not single.may_go(Day(0, DAY_S), opt_out=False)
    assert single.wait_s(Day(0, DAY_S), opt_out=False) == DAY_S - LAST_HOUR_S
    assert single.wait_s(Day(1, 1000.0), opt_out=True) == 1000 + NEW_DAY_GRACE_S


def test_where_less_is_left_than_is_kept_the_rest_is_spread() -> None:
    """A limit that was lowered, or a morning without pacing: opt-outs go on at once, further apart than else."""
    short = Day(200, DAY_S / 2, since_call_s=5000)
    assert SHARED.left(short) == 40
    assert SHARED.kept(short) == 78
    assert SHARED.may_go(short, opt_out=True), "40 calls for 12 hours are one each 1080 s"
    assert not SHARED.may_go(replace(short, since_call_s=1079), opt_out=True)
    assert SHARED.may_go(replace(short, since_call_s=1080), opt_out=True)
    assert not SHARED.may_go(short, opt_out=False)
    assert Pace(100, 600.0).left(short) == 0, "a limit below what was called already"


def test_what_the_vendor_refused_of_late_is_not_counted_on() -> None:
    """Somebody else uses the login as well: so many calls fewer on the days after, but never less than half."""
    assert SHARED.left(Day(100, DAY_S / 2, met=180)) == 80
    assert SHARED.left(Day(100, DAY_S / 2, met=3)) == 20, "its answer may have meant something else"
    assert SHARED.left(Day(100, DAY_S / 2, met=500)) == 140
    assert Pace(1, DAY_S).left(Day(0, DAY_S, met=0)) == 1


@given(paces, days, st.booleans())
def test_a_wait_is_as_long_as_it_has_to_be(pace: Pace, day: Day, opt_out: bool) -> None:  # noqa: FBT001
    """After it the file may go, or the next day has begun; a second before it may not; it is never over a day."""
    wait_s = pace.wait_s(day, opt_out=opt_out)
    assert (wait_s == 0) == pace.may_go(day, opt_out=opt_out)
    assert wait_s <= day.left_s + NEW_DAY_GRACE_S
    if wait_s > day.left_s:
        assert not pace.may_go(day.later(day.left_s * 0.999), opt_out=opt_out) or day.left_s < 1000
    elif wait_s:
        assert pace.may_go(day.later(wait_s), opt_out=opt_out)
        assert wait_s <= 1 or not pace.may_go(day.later(wait_s - 1), opt_out=opt_out)


@given(paces, days)
def test_opt_outs_may_go_whenever_data_may(pace: Pace, day: Day) -> None:
    """Nothing is kept back from opt-outs that data could have."""
    if pace.may_go(day, opt_out=False):
        assert pace.may_go(day, opt_out=True)
    assert pace.wait_s(day, opt_out=True) <= pace.wait_s(day, opt_out=False)


# -- simulated days --------------------------------------------------------------------------------------------------

ACCOUNTS = ("news", "shop", "club", "blog", "fans")


@st.composite
def weeks(draw: st.DrawFn) -> Days:
    """Days of 1 to 5 accounts of a login with any limit: data and opt-outs steadily, in bursts, at odd moments."""
    names = ACCOUNTS[: draw(st.integers(1, 5))]
    told = [
        (name, draw(st.sampled_from([0.0, 10.0, 600.0, 3600.0])), draw(st.sampled_from([0.0, 60.0, 900.0])))
        for name in names
    ]
    arrivals: dict[tuple[str, Operation], list[float]] = {}
    for name in names:
        for operation in Operation:
            every_s = draw(st.sampled_from([0, 0, 0, 300, 1000, 7000]))
            steady = [n * float(every_s) + 1 for n in range(int(2 * DAY_S / every_s))] if every_s else []
            bursts = draw(st.lists(st.floats(0, 2 * DAY_S), max_size=4))
            arrivals[name, operation] = [*steady, *bursts]
    calls = draw(st.sampled_from([1, 2, 3, 10, 48, 240, 1000]))
    pace = pace_of(calls, [opt_outs_s for _, opt_outs_s, _ in told for _ in range(3)])
    assert pace is not None
    began_s = draw(st.sampled_from([0.0, 0.0, 3 * 3600.0, DAY_S - 100]))
    fails = draw(st.one_of(st.just(set[int]()), st.sets(st.integers(1, 300), max_size=20)))
    return Days(pace, streams(told, arrivals), draw(st.sampled_from([0.0, 60.0])), began_s, fails)


@settings(max_examples=40, deadline=None)
@given(weeks())
def test_no_opt_out_ever_finds_the_day_s_calls_spent(week: Days) -> None:
    """Whenever opt-outs are due, one of them goes up within one spacing, until late into the second day.

    So with n operations that have opt-outs due, each waits n spacings at most for the day's calls, besides its cadence.
    """
    gone = week.run(2 * DAY_S - 2 * week.pace.spacing_s)
    slack_s = week.settle_s + 20 + NEW_DAY_GRACE_S  # another file's settling, a failed attempt, the vendor's clock
    opt_outs = [file for file in gone if file.stream[1].opt_out]
    bound_s = week.pace.spacing_s + slack_s
    for file in opt_outs:
        before = [other.at for other in opt_outs if other.at < file.at]
        since = max([file.due_since, week.began_s, *before[-1:]])
        assert file.at - since <= bound_s
        if week.fails:
            continue  # who has to try again is overtaken meanwhile
        overtaken = {other.stream for other in opt_outs if file.due_since < other.at < file.at}
        assert file.at - max(file.due_since, week.began_s) <= (len(overtaken) + 1) * bound_s


def backlog(days_count: int) -> list[float]:
    """More data than can go up, at any moment."""
    return [minute * 60.0 for minute in range(days_count * 1440)]


def on_day(gone: list[Gone], number: int) -> list[Gone]:
    """What went up on a day."""
    return [file for file in gone if int(file.at // DAY_S) == number]


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([1, 2, 3, 10, 100, 240, 1000]),
    st.integers(1, 5),
    st.lists(st.floats(0, 2 * DAY_S), max_size=60),
    st.booleans(),
)
def test_data_gets_all_that_opt_outs_leave(calls: int, accounts: int, opt_outs: list[float], crowded: bool) -> None:  # noqa: FBT001
    """With a backlog of data, one call at most is left over at the end of a day, whatever opts out."""
    names = ACCOUNTS[:accounts]
    arrivals: dict[tuple[str, Operation], list[float]] = {(names[0], U): backlog(2)}
    for number, moment in enumerate(opt_outs):
        arrivals.setdefault((names[number % accounts], (D, S)[number % 2]), []).append(moment)
    pace = pace_of(calls, [10.0 if crowded else 600.0] * 3 * accounts)
    assert pace is not None
    gone = Days(pace, streams([(name, 10.0, 0.0) for name in names], arrivals)).run(2 * DAY_S)
    for number in (0, 1):
        last = on_day(gone, number)[-1]
        assert last.left <= 1
        data = [file for file in on_day(gone, number) if file.stream[1] is U]
        opted = {file.stream for file in on_day(gone, number) if file.stream[1].opt_out}
        assert data or opted


def test_a_backlog_goes_as_fast_as_is_safe() -> None:
    """A million rows of 84 files go up in the first hours; the rest follows as opt-outs leave their calls."""
    gone = Days(SHARED, streams([("news", 600.0, 0.0)], {("news", U): backlog(1)})).run(DAY_S)
    assert len(gone) == 240
    assert gone[83].at <= 83 * 60, "nothing but the vendor's import holds it up"
    assert [file for file in gone if file.at < 4 * 3600][-1].left >= 120, "20 hours of opt-outs"


def test_opt_outs_all_day_go_as_if_there_was_no_data() -> None:
    """A backlog of data from midnight on, and opt-outs each 10 minutes until midnight: none waits for a call."""
    arrivals = {("news", U): backlog(1), ("news", S): [n * 600.0 + 1 for n in range(143)]}
    gone = Days(SHARED, streams([("news", 10.0, 0.0)], arrivals)).run(DAY_S)
    opt_outs = [file for file in gone if file.stream[1] is S]
    assert len(opt_outs) >= 140
    assert max(file.at - file.due_since for file in opt_outs) <= 60
    assert len(gone) - len(opt_outs) >= 96


def test_many_accounts_at_once_find_calls_in_the_afternoon() -> None:
    """After a morning in which data took all it may have, a burst of twelve files still goes up at half the day."""
    arrivals: dict[tuple[str, Operation], list[float]] = {("news", U): backlog(1)}
    arrivals |= {(name, operation): [DAY_S / 2] for name in ACCOUNTS[:3] for operation in (D, S)}
    gone = Days(SHARED, streams([(name, 10.0, 0.0) for name in ACCOUNTS], arrivals)).run(DAY_S)
    late = [file.at - file.due_since for file in gone if file.stream[1].opt_out]
    assert len(late) == 6
    assert max(late) <= 6 * 60 + 20, "one after another, with the vendor's import between"


def test_going_up_tells_when_each_file_goes() -> None:
    """Not before its time, not before the lane may, and over midnight where the day is too short."""
    midnight = Day(0, DAY_S)
    files = [(True, 0.0), (False, 30.0), (False, 900.0)]
    assert going_up(SHARED, midnight, files, 60) == [0, 60, 900]
    assert going_up(None, midnight, files, 0) == [0, 30, 900]
    evening = Day(239, 1000.0, since_call_s=0)
    told = going_up(SHARED, evening, [(True, 0.0)] * 2, 60)
    assert told == [401, 1000 + NEW_DAY_GRACE_S], "the last call is kept until 600 s are left"
    single = Pace(1, DAY_S / 0.6)
    told = going_up(single, midnight, [(False, 0.0)] * 3, 60)
    assert [at // DAY_S for at in told] == [0, 1, 2], "one a day"
    assert all(math.isfinite(at) for at in told)


def test_nobody_waits_long_to_have_the_calls_counted_again() -> None:
    """Calls are given back when they never reached the vendor: within ten minutes somebody looks."""
    assert AGAIN_MAX_S <= 600
