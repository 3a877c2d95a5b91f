"""Every fault of every simulator, over HTTP: what it comes to, that it is true, and that nothing private is told."""

import logging
from pathlib import Path
from typing import Any

import pytest

from relay.batches import Busy, Delivered, Outcome, TooLarge, Transient, Unknown
from relay.demo.sim_faults import Kind
from relay.demo.sim_server import COMMON_FAULTS
from relay.events import Operation
from tests.conformance.candidates import CANDIDATES, Candidate
from tests.conformance.uploading import ADDRESSES, uploading
from tests.unit.vendors.made import CANARIES

PRIVATE = ("canary-", *CANARIES, "example.jp", "example.com", "表㈱", "ScheduleCsvImport")

GIVEN: dict[Kind, dict[str, Any]] = {
    "hang": {"times": None},
    "slow": {"seconds": 0.05},
    "reset_during_body": {"n_bytes": 10},
    "reject_lines": {"addresses": ["c1@example.jp"]},
    "refuse_file": {"address": "c1@example.jp"},
    "too_large": {"n_bytes": 10},
    "retry_after": {"seconds": 17},
}
"""What a fault is told besides its kind."""

MAY_BE_TRANSIENT: frozenset[Kind] = frozenset({"reset_before_body"})
"""The vendor breaks the connection before it reads a byte: whether one was sent by then is chance."""

EVERYWHERE: dict[Kind, type[Outcome] | None] = {
    "status": Unknown,
    "slow": None,  # None: what a good upload comes to
    "hang": Unknown,
    "reset_before_body": Unknown,
    "reset_during_body": Unknown,
    "reset_after_body": Unknown,
    "lost_reply": Unknown,
    "html": Unknown,
    "reject_lines": None,
    "too_large": TooLarge,
    "retry_after": Busy,
}


def expected(candidate: Candidate, kind: Kind) -> type[Outcome]:
    """Say what a fault comes to at a vendor."""
    if kind in candidate.outcomes:
        return candidate.outcomes[kind]
    return EVERYWHERE[kind] or candidate.confirms


NEED_REFUSED_LINES: frozenset[Kind] = frozenset({"wrong_lines"})
"""These show only where lines are refused, as all stops are of readers who are not there yet."""

CASES = [
    (vendor, kind, operation)
    for vendor, candidate in CANDIDATES.items()
    for kind in sorted(candidate.sim().faults.known)
    for operation in (Operation.UPSERT, Operation.STOP)
    if kind not in NEED_REFUSED_LINES or operation is Operation.STOP
]


def test_common_faults_have_a_row() -> None:
    """A fault that all simulators know stands in the table here, or in each vendor's own."""
    own = set.intersection(*(set(candidate.outcomes) for candidate in CANDIDATES.values()))
    assert set(COMMON_FAULTS) <= EVERYWHERE.keys() | own


@pytest.mark.parametrize(("vendor", "kind", "operation"), CASES)
async def test_a_fault(
    vendor: str, kind: Kind, operation: Operation, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It comes to what the table says; what is told as confirmed is there; and a second try sets it right."""
    caplog.set_level(logging.DEBUG)
    candidate = CANDIDATES[vendor]
    timeout_s = 0.3 if kind == "hang" else 20.0
    async with uploading(candidate, tmp_path, upload_timeout_s=timeout_s) as up:
        if operation is Operation.STOP and kind not in NEED_REFUSED_LINES:
            assert isinstance((await up.load()).outcome, candidate.confirms)
        up.sim.faults.arm({"fault": kind, **GIVEN.get(kind, {})})
        uploaded = await up.load(operation)
        up.sim.faults.disarm()
        wanted = expected(candidate, kind)
        assert isinstance(uploaded.outcome, (wanted, Transient) if kind in MAY_BE_TRANSIENT else wanted)
        if isinstance(uploaded.outcome, Delivered):
            refused = [rejection.line for rejection in uploaded.outcome.rejections]
            assert refused == ([3] if kind == "reject_lines" else [])
            assert len(await up.mailable()) == len(ADDRESSES) - (operation is Operation.UPSERT) * len(refused)
        if isinstance(uploaded.outcome, Unknown):
            assert uploaded.outcome.timed_out == (kind == "hang")
        for each in dict.fromkeys((Operation.UPSERT, operation)):
            assert isinstance((await up.patiently(each)).outcome, candidate.confirms), "sending again sets it right"
        assert (await up.mailable()).keys() == ADDRESSES
    told = [repr(uploaded), uploaded.excerpt, *(f"{r.getMessage()} {r.__dict__}" for r in caplog.records)]
    assert [word for word in PRIVATE if word in "\n".join(told).replace("シミュレーター", "")] == []


@pytest.mark.parametrize("vendor", CANDIDATES)
@pytest.mark.parametrize("operation", Operation)
async def test_an_operation(vendor: str, operation: Operation, tmp_path: Path) -> None:
    """Each operation that the vendor's logins have does at the vendor what its name says."""
    candidate = CANDIDATES[vendor]
    async with uploading(candidate, tmp_path) as up:
        if operation not in up.login.operations:
            assert operation not in up.files
            return
        before = [] if operation is Operation.UPSERT else [Operation.UPSERT]
        before += [Operation.STOP] if operation is Operation.ALLOW else []
        for each in (*before, operation):
            assert isinstance((await up.load(each)).outcome, candidate.confirms)
            await up.sim.settled()  # files may overtake each other there
        mailable = await up.mailable()
    there = operation in (Operation.UPSERT, Operation.ALLOW)
    assert mailable == ({} if operation is Operation.DELETE else dict.fromkeys(ADDRESSES, there))
