"""The samples of the API documents of blastmail and blaynmail, letter for letter, and what relay reads from each."""

import re
from pathlib import Path

import pytest

from relay import csvline
from relay.batches import Delivered, LineRejection, Outcome, Unknown
from relay.events import Operation
from relay.vendors import Claim, Counted, vendor_of
from relay.vendors.elements import elements
from tests.unit.vendors.made import account, bme_login, reply, sent

SAMPLES = Path(__file__).parent / "samples"
BRANDS = ("blastmail", "blaynmail")
MESSAGE = "[エラー内容]"


def claimed(name: str) -> tuple[int, list[str]]:
    """Say which line a sample claims, and what its cells are."""
    brand, endpoint, form = re.split("[-.]", name)
    if endpoint == "delete":
        return (2, [f"sample@{brand}.jp"]) if form == "xml" else (3, [f"sample@{brand}"])
    return 2, ["配信中", "0", f"sample@{brand}.jp"] if form == "xml" else ["エラー停止", "3", f"sample@{brand}.jp"]


UPLOADS = sorted(path.name for path in SAMPLES.iterdir() if re.fullmatch(r"[a-z]+-[a-z]+\.(xml|json)", path.name))
OTHERS = sorted(path.name for path in SAMPLES.iterdir() if re.fullmatch(r"[a-z]+-error-[a-z]+\.(xml|json)", path.name))


def read(name: str, body: bytes | None = None, rows: int = 2, content_type: str = "") -> Outcome | Counted:
    """Read a sample, or something made of it, as the answer to an upload."""
    login = bme_login(vendor=name.partition("-")[0])
    answer = reply((SAMPLES / name).read_bytes() if body is None else body, 200, content_type)
    return vendor_of(login).read(answer, sent(login, rows))


def judged(name: str, lines: dict[int, bytes], rows: int = 2) -> Outcome:
    """Say what a sample comes to, had these lines been sent."""
    login = bme_login(vendor=name.partition("-")[0])
    counted = read(name, rows=rows)
    assert isinstance(counted, Counted)
    operation = Operation.DELETE if "delete" in name else Operation.UPSERT
    return vendor_of(login).judge(counted, sent(login, rows, operation), lines)


def line(cells: list[str]) -> bytes:
    """Write a line as the spool gives it back."""
    return csvline.record(cells).removesuffix(b"\r\n")


def test_every_endpoint_of_both_documents_has_its_samples() -> None:
    """Nothing that the documents show is left out: four imports of each brand, and one that stands at `usage`."""
    endpoints = ("all", "create", "delete", "update")
    wanted = {f"{brand}-{name}.{form}" for brand in BRANDS for name in endpoints for form in ("xml", "json")}
    assert set(UPLOADS) == wanted | {"blaynmail-usage.xml", "blaynmail-usage.json"}
    records = ("error-search", "error-delete")
    assert set(OTHERS) == {f"{brand}-{name}.{form}" for brand in BRANDS for name in records for form in ("xml", "json")}


@pytest.mark.parametrize("name", UPLOADS)
@pytest.mark.parametrize("content_type", ["application/json", "text/xml; charset=Shift_JIS", ""])
def test_a_sample_is_read(name: str, content_type: str) -> None:
    """One line of two was refused, whatever the Content-Type says."""
    number, cells = claimed(name)
    content = ",".join(f'"{cell}"' for cell in cells)
    assert read(name, content_type=content_type) == Counted(1, 1, (Claim(number, content, MESSAGE),))


@pytest.mark.parametrize("name", UPLOADS)
def test_a_sample_is_believed_where_the_file_fits(name: str) -> None:
    """The line that it names is rejected with its message, the other is delivered."""
    number, cells = claimed(name)
    wanted = Delivered((LineRejection(number, MESSAGE),), "1 of 2 lines delivered")
    assert judged(name, {number: line(cells)}) == wanted


@pytest.mark.parametrize("name", UPLOADS)
def test_a_sample_is_not_believed_where_the_file_does_not_fit(name: str) -> None:
    """Another line, the same on another place, a cell more, more rows, or fewer: none of them is `Delivered`."""
    number, cells = claimed(name)
    for lines, rows in (
        ({number: line(["taro@example.jp"])}, 2),
        ({number: line([*cells, ""])}, 2),
        ({number: line([f"x{cells[0]}", *cells[1:]])}, 2),
        ({number + 1: line(cells)}, 2),
        ({number: line(cells)}, 1),
        ({number: line(cells)}, 3),
    ):
        assert isinstance(judged(name, lines, rows), Unknown), (lines, rows)


@pytest.mark.parametrize("name", OTHERS)
def test_an_answer_about_records_is_none_to_an_upload(name: str) -> None:
    """`success` holds a date there: it is no count."""
    assert isinstance(read(name), Unknown)
    kinds = [kind for kind, _, _ in elements(iter([(SAMPLES / name).read_text("utf-8")]), 100)]
    assert kinds.count("start") == kinds.count("end") > 0


@pytest.mark.parametrize("name", ["blaynmail-usage.php", "blaynmail-all.php"])
def test_the_login_is_that_of_the_sample_code(name: str) -> None:
    """The same address and parts (and `f`); what the code takes from the answer is a token to relay as well."""
    code = (SAMPLES / name).read_text("utf-8")
    login = bme_login(vendor="blaynmail")
    call = vendor_of(login).login_call(login)
    before, _, after = code.partition("$result = ")
    assert f"'{login.base_url}/{call.path}'" in before
    assert re.findall(r"addPostData\('(\w+)'", before) == [part for part, _ in call.fields if part != "f"]
    (token,) = re.findall(r"\$xml->(\w+)", after)
    answer = reply(f'<?xml version="1.0" encoding="UTF-8" ?>\n<a><{token}>canary-token</{token}></a>')
    assert vendor_of(login).read_token(answer) == "canary-token"


def test_the_form_is_that_of_the_sample_code() -> None:
    """The file's part has the sample's name and type; the token is a part of the form, not of the address."""
    code = (SAMPLES / "blaynmail-all.php").read_text("utf-8")
    login = bme_login(vendor="blaynmail")
    form = vendor_of(login).upload_form(login, account(login), Operation.UPSERT, "canary-token")
    assert f"'{login.base_url}/{form.path}'" in code
    assert f"addFile('{form.file_field}', './{form.file_name}', 'Content-Type: {form.file_type}')" in code
    assert f"addPostData('{form.fields[0][0]}', $xml->access_token)" in code
