"""One table of all HTTP statuses, and what each comes to at every vendor where nothing else is said."""

import pytest

from relay.batches import (
    Accepted,
    Busy,
    Misconfigured,
    Outcome,
    TooLarge,
    Transient,
    Unauthorized,
    Unknown,
)
from relay.settings import Login
from relay.vendors import VENDORS, Vendor, vendor_of
from tests.unit.vendors.made import bme_login, haihai_login, reply, sent

LOGINS: dict[str, Login] = {
    "haihai": haihai_login(),
    "blastmail": bme_login(),
    "blaynmail": bme_login(vendor="blaynmail"),
}

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

HERE: dict[str, dict[int, type[Outcome]]] = {
    "haihai": {200: Accepted, 400: Misconfigured},
    "blastmail": {200: Unknown, 400: Unknown},
    "blaynmail": {200: Unknown, 400: Unknown},
}


def expected(vendor: str, status: int) -> type[Outcome]:
    """Say what a status without a word beside it comes to."""
    if found := (EVERYWHERE | HERE[vendor]).get(status):
        return found
    return Misconfigured if status // 100 in (3, 4) else Unknown


def test_every_vendor_has_an_adapter() -> None:
    """Each value of `login.vendor` has one, and the tests here know them all."""
    assert set(VENDORS) == set(LOGINS)
    assert all(vendor_of(login) is VENDORS[name] for name, login in LOGINS.items())


@pytest.mark.parametrize("vendor", LOGINS)
@pytest.mark.parametrize("body", ["", "<html><body><h1>Something</h1></body></html>", "ﾊﾟｽﾜｰﾄﾞ", "{", "[]", "null"])
def test_every_status_comes_to_something(vendor: str, body: str) -> None:
    """All statuses from 100 to 599, with bodies that say nothing, come to what the table says."""
    login = LOGINS[vendor]
    found = {status: type(VENDORS[vendor].read(reply(body, status), sent(login))) for status in range(100, 600)}
    assert found == {status: expected(vendor, status) for status in range(100, 600)}


@pytest.mark.parametrize("vendor", LOGINS)
def test_a_vendor_that_asks_for_patience_says_for_how_long(vendor: str) -> None:
    """The wait that a 429 asks for is handed on."""
    outcome = VENDORS[vendor].read(reply("", 429, retry_after_s=17.0), sent(LOGINS[vendor]))
    assert isinstance(outcome, Busy)
    assert outcome.retry_after_s == 17.0


@pytest.mark.parametrize("vendor", LOGINS)
def test_a_server_that_waited_in_vain_gets_a_smaller_file(vendor: str) -> None:
    """408 is a time-out like any other: the next file is smaller."""
    outcome = VENDORS[vendor].read(reply("", 408), sent(LOGINS[vendor]))
    assert isinstance(outcome, Unknown)
    assert outcome.timed_out


@pytest.mark.parametrize("vendor", [name for name, adapter in VENDORS.items() if adapter.needs_token])
def test_every_status_of_a_login_call_comes_to_something(vendor: str) -> None:
    """No file has been sent with a login call, so nothing is ever `Unknown`, and no size of it matters."""
    adapter: Vendor = VENDORS[vendor]
    found = {}
    for status in range(100, 600):
        token = adapter.read_token(reply("", status))
        assert not isinstance(token, str)
        found[status] = type(token)

    def wanted(status: int) -> type[Outcome]:
        named = {400: Unauthorized, 401: Unauthorized, 403: Unauthorized, 409: Busy, 423: Busy, 425: Busy, 429: Busy}
        if status == 408 or status // 100 not in (3, 4):
            return Transient
        return named.get(status, Misconfigured)

    assert found == {status: wanted(status) for status in range(100, 600)}
