"""The bytes that go to each vendor for each operation: the CSV file, and the form around it."""

import pytest

from relay.client import body_bytes
from relay.client.body import frame
from relay.events import Operation
from relay.vendors import vendor_of
from tests.conformance.candidates import CANDIDATES
from tests.conformance.golden import BOUNDARY, FOLDER, csv, files_of
from tests.unit.vendors.made import account, haihai_login


@pytest.mark.parametrize("vendor", CANDIDATES)
def test_the_bytes(vendor: str) -> None:
    """Every file and form is what the golden files hold, to the byte: relay changes them only on purpose."""
    for path, bytes_now in files_of(CANDIDATES[vendor]).items():
        assert path.exists(), f"{path} is missing: python -m tests.conformance.golden"
        assert bytes_now == path.read_bytes(), path.name


@pytest.mark.parametrize("vendor", CANDIDATES)
def test_no_golden_file_is_left_over(vendor: str) -> None:
    """What stands in the folder is what is compared."""
    assert set((FOLDER / vendor).iterdir()) == files_of(CANDIDATES[vendor]).keys()


@pytest.mark.parametrize("vendor", CANDIDATES)
def test_the_size_is_known_before(vendor: str) -> None:
    """The Content-Length that is promised is the size of the golden body."""
    candidate = CANDIDATES[vendor]
    login = candidate.login()
    to = candidate.to(login)
    for operation in login.operations:
        form = candidate.adapter.upload_form(
            login, to, operation, "canary-token" * candidate.adapter.needs_token or None
        )
        golden = (FOLDER / vendor / f"{operation}.body").read_bytes().partition(b"\r\n\r\n")[2]
        assert body_bytes(form, len(csv(login, to, operation))) == len(golden)


def test_names_and_values_beyond_ascii() -> None:
    """Values go as UTF-8, names with a quote or a line break are escaped as browsers do, so none starts a part."""
    login = haihai_login(login_id="髙橋", extra_fields={'a"\r\nb': "canary-extra"})
    head, _ = frame(vendor_of(login).upload_form(login, account(login), Operation.STOP, None), BOUNDARY)
    assert 'name="loginid"\r\n\r\n髙橋\r\n'.encode() in head
    assert b'name="a%22%0D%0Ab"\r\n\r\ncanary-extra\r\n' in head
