"""What a login does next: nothing passes an opt-out, and whoever waits holds up as few as may be."""

from hypothesis import given
from hypothesis import strategies as st

from relay.batches import BatchState, Candidate, Choice, choose
from relay.events import Operation

U, D, S, A = Operation.UPSERT, Operation.DELETE, Operation.STOP, Operation.ALLOW


def candidate(
    operation: Operation,
    *,
    account: str = "news",
    waits: bool = False,
    due: bool = False,
    age_s: float = 1.0,
    batch: BatchState | None = None,
) -> Candidate:
    """Make a candidate, with an open batch if a state is given."""
    return Candidate("login", account, operation, waits, due, age_s, None if batch is None else 7, batch)


def test_nothing_to_do() -> None:
    """No candidates, or none that is due, is no choice: the lane is left alone."""
    assert not choose([])
    assert not choose([candidate(U), candidate(D)])
    assert choose([]) == Choice()


def test_the_longest_waiting_is_picked() -> None:
    """Among equals the one that has waited longest goes, with a batch or without."""
    young, old = candidate(U, age_s=5, due=True), candidate(A, age_s=9, batch=BatchState.READY)
    assert choose([young, old]).pick == old
    assert choose([old, young]).pick == old


def test_opt_outs_go_before_older_data() -> None:
    """An opt-out of a second ago goes before an upsert of last week."""
    for opt_out in (D, S, Operation.BAN):
        fresh, old = candidate(opt_out, age_s=1, due=True), candidate(U, age_s=600_000, due=True)
        assert choose([old, fresh]).pick == fresh


def test_an_opt_out_that_is_not_due_yet_holds_nothing_up() -> None:
    """Opt-outs are gathered for some seconds, too; data that is due goes meanwhile."""
    data = candidate(U, due=True)
    assert choose([candidate(S, age_s=2), data]) == Choice(pick=data)


def test_data_is_uncut_when_opt_outs_have_something_to_do() -> None:
    """Files of upserts and allows that were not sent yet are taken apart, so that what opt-outs replace is left out."""
    upserts, allows = candidate(U, batch=BatchState.WAITING, waits=True), candidate(A, batch=BatchState.READY)
    stop = candidate(S, due=True)
    choice = choose([upserts, allows, stop])
    assert set(choice.uncut) == {upserts, allows}
    assert choice.pick == stop
    assert choice.take_over is None


def test_while_an_opt_out_waits_for_its_next_try_no_data_goes() -> None:
    """An upsert sent now could undo a stop that the vendor keeps refusing to take."""
    for stop in (candidate(S, waits=True, batch=BatchState.WAITING), candidate(S, waits=True, due=True)):
        ready = candidate(U, batch=BatchState.READY)
        assert not choose([stop, candidate(A, due=True)])
        assert choose([stop, ready]) == Choice(uncut=(ready,), opt_outs=True)


def test_an_opt_out_that_waits_is_passed_over_for_others() -> None:
    """One account's refused file does not hold up the opt-outs of another account or operation."""
    stuck = candidate(D, waits=True, age_s=99, batch=BatchState.WAITING)
    for other in (candidate(D, account="shop", due=True), candidate(S, due=True), candidate(S, batch=BatchState.READY)):
        assert choose([stuck, other]) == Choice(pick=other, opt_outs=True)


def test_data_that_waits_is_passed_over_for_others() -> None:
    """One account's refused file does not hold up another's."""
    stuck = candidate(U, waits=True, age_s=99, batch=BatchState.WAITING)
    other = candidate(U, account="shop", due=True)
    assert choose([stuck, other]) == Choice(pick=other)


def test_an_upload_that_nobody_settled_is_taken_over_first() -> None:
    """Nothing is sent or taken apart before it is known that the vendor may have got a file."""
    lost = candidate(U, batch=BatchState.UPLOADING)
    assert choose([candidate(S, due=True), lost, candidate(A, batch=BatchState.READY)]) == Choice(
        take_over=lost, opt_outs=True
    )


def test_lanes_with_opt_outs_are_served_first_then_the_longest_waiting() -> None:
    """Urgency sorts lanes: opt-outs, also behind an upload to be taken over or a file to be taken apart; then age."""
    stop = choose([candidate(S, age_s=1, due=True)])
    old, young = choose([candidate(U, age_s=900, due=True)]), choose([candidate(U, age_s=8, due=True)])
    behind = choose([candidate(U, age_s=700, batch=BatchState.UPLOADING), candidate(D, age_s=3, due=True)])
    apart = choose([candidate(U, age_s=2, batch=BatchState.READY), candidate(D, age_s=5, waits=True, due=True)])
    lanes = {"stop": stop, "old": old, "young": young, "behind": behind, "apart": apart}
    order = sorted(lanes, key=lambda name: lanes[name].urgency, reverse=True)
    assert order == ["behind", "apart", "stop", "old", "young"]
    assert Choice().urgency == (False, 0.0)


candidates = st.lists(
    st.builds(
        candidate,
        st.sampled_from(Operation),
        account=st.sampled_from(("news", "shop", "club")),
        waits=st.booleans(),
        due=st.booleans(),
        age_s=st.floats(0, 1e6),
        batch=st.sampled_from([None, None, BatchState.READY, BatchState.WAITING, BatchState.UPLOADING]),
    ),
    max_size=15,
    unique_by=lambda c: (c.account, c.operation),
)


@given(candidates)
def test_the_rules_hold_for_any_work(work: list[Candidate]) -> None:
    """Whatever there is to do: the rules of the choice, and a choice where anybody can go on."""
    choice = choose(work)
    has_work = [c for c in work if c.batch_state or c.due]
    opt_outs = [c for c in has_work if c.operation.opt_out]
    uploading = [c for c in work if c.batch_state is BatchState.UPLOADING]
    assert (choice.take_over in uploading) if uploading else choice.take_over is None
    if uploading:
        assert choice.pick is None
        assert choice.uncut == ()
        return
    may_go = [c for c in (opt_outs or has_work) if not c.waits]
    assert (choice.pick in may_go) if may_go else choice.pick is None
    assert choice.pick is None or choice.pick.age_s == max(c.age_s for c in may_go)
    files_of_data = [c for c in has_work if c.batch_state and not c.operation.opt_out]
    assert list(choice.uncut) == (files_of_data if opt_outs else [])
    assert bool(choice) == bool(may_go or choice.uncut)
