"""One table of all HTTP statuses, and what each comes to at every vendor where nothing else is said."""

import asyncio
from pathlib import Path

import pytest

from relay.batches import Busy, Misconfigured, Outcome, TooLarge, Transient, Unauthorized, Unknown
from relay.settings import LOGIN_MODELS
from relay.vendors import VENDORS
from tests.conformance.candidates import CANDIDATES
from tests.conformance.uploading import uploading
from tests.unit.vendors.made import reply, sent

EVERYWHERE: dict[int, type[Outcome]] = {
    401: Unauthorized,
    403: Unauthorized,
    408: Unknown,
    409: Busy,
    413: TooLarge,
    423: Busy,
    425: Busy,
    429: Busy,
}
"""What is the same at all vendors; the rest is `Misconfigured` for 3xx and 4xx, `Unknown` for all else, 5xx too."""

LOGIN_CALL: dict[int, type[Outcome]] = {
    400: Unauthorized,
    401: Unauthorized,
    403: Unauthorized,
    408: Transient,
    409: Busy,
    423: Busy,
    425: Busy,
    429: Busy,
}
"""The same for a call for a token. No file has been sent with it, so nothing is ever `Unknown`, and no size matters."""

BODIES = ["", "<html><body><h1>Something</h1></body></html>", "ﾊﾟｽﾜｰﾄﾞ", "{", "[]", "null"]


def expected(vendor: str, status: int) -> type[Outcome]:
    """Say what a status without a word beside it comes to."""
    if found := {**EVERYWHERE, **CANDIDATES[vendor].statuses}.get(status):
        return found
    return Misconfigured if status // 100 in (3, 4) else Unknown


def test_every_vendor_has_to_conform() -> None:
    """Each value of `login.vendor` has an adapter and a row here."""
    assert set(VENDORS) == set(CANDIDATES) == set(LOGIN_MODELS)


@pytest.mark.parametrize("vendor", CANDIDATES)
@pytest.mark.parametrize("body", BODIES)
def test_every_status_comes_to_something(vendor: str, body: str) -> None:
    """All statuses from 100 to 599, with bodies that say nothing, come to what the table says."""
    candidate = CANDIDATES[vendor]
    asked = sent(candidate.login())
    found = {status: type(candidate.adapter.read(reply(body, status), asked)) for status in range(100, 600)}
    assert found == {status: expected(vendor, status) for status in range(100, 600)}


@pytest.mark.parametrize("vendor", CANDIDATES)
async def test_every_status_over_http(vendor: str, tmp_path: Path) -> None:
    """The same with a whole upload before each answer: a 5xx then leaves open what arrived."""
    statuses = [status for status in range(200, 600) if status not in (204, 304)]  # their answers have no body
    found = {}
    async with uploading(CANDIDATES[vendor], tmp_path) as up:
        for status in statuses:
            up.sim.faults.arm({"fault": "status", "status": status, "times": None})
            found[status] = type((await up.load()).outcome)
            up.sim.faults.disarm()
    assert found == {status: expected(vendor, status) for status in statuses}


@pytest.mark.parametrize("vendor", CANDIDATES)
def test_a_vendor_that_asks_for_patience_says_for_how_long(vendor: str) -> None:
    """The wait that a 429 asks for is handed on."""
    candidate = CANDIDATES[vendor]
    outcome = candidate.adapter.read(reply("", 429, retry_after_s=17.0), sent(candidate.login()))
    assert isinstance(outcome, Busy)
    assert outcome.retry_after_s == 17.0


@pytest.mark.parametrize("vendor", CANDIDATES)
def test_a_server_that_waited_in_vain_gets_a_smaller_file(vendor: str) -> None:
    """408 is a time-out like any other: the next file is smaller."""
    candidate = CANDIDATES[vendor]
    outcome = candidate.adapter.read(reply("", 408), sent(candidate.login()))
    assert isinstance(outcome, Unknown)
    assert outcome.timed_out


WITH_TOKENS = [name for name, candidate in CANDIDATES.items() if candidate.adapter.needs_token]


@pytest.mark.parametrize("vendor", WITH_TOKENS)
def test_every_status_of_a_login_call_comes_to_something(vendor: str) -> None:
    """The table for calls that only ask for a token."""
    found = {}
    for status in range(100, 600):
        token = CANDIDATES[vendor].adapter.read_token(reply("", status))
        assert not isinstance(token, str)
        found[status] = type(token)
    rest = {status: Misconfigured if status // 100 in (3, 4) else Transient for status in range(100, 600)}
    assert found == rest | LOGIN_CALL


@pytest.mark.parametrize("vendor", CANDIDATES)
async def test_a_hundred_that_wait_make_one_login(vendor: str, tmp_path: Path) -> None:
    """However many uploads wait for a token, the vendor sees one call for it; where it knows none, it sees none."""
    async with uploading(CANDIDATES[vendor], tmp_path) as up, asyncio.TaskGroup() as tasks:
        uploads = [tasks.create_task(up.load()) for _ in range(100)]
        await asyncio.wait(uploads)
        logins = sum(counts.logins for counts in up.sim.record.counts.values())
    assert logins == (1 if CANDIDATES[vendor].adapter.needs_token else 0)
    assert {type(done.result().outcome) for done in uploads} <= {CANDIDATES[vendor].confirms, Busy}
