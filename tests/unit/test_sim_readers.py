"""The simulated vendors' pure part: CSV, forms, reader lists, faults, and the count of overlaps."""

from collections.abc import Mapping, Sequence

import pytest

from relay.demo.sim_csv import BadFile, Sheet, check, record, rows
from relay.demo.sim_faults import Faults
from relay.demo.sim_form import BadForm, Form
from relay.demo.sim_readers import (
    ALREADY_THERE,
    BAD_ADDRESS,
    BAD_DATE,
    BAD_HEADER,
    BAD_STATE,
    EMPTY_REQUIRED,
    IN_TRASH,
    NOT_THERE,
    BmeColumns,
    BmeReaders,
    HaihaiReaders,
    Import,
    Readers,
)
from relay.demo.sim_record import Record


def csv(*lines: Sequence[str]) -> bytes:
    """Write lines as a file."""
    return "".join(record(line) + "\r\n" for line in lines).encode("cp932")


# -- CSV -------------------------------------------------------------------------------------------------------------


def test_a_good_file_is_read_as_it_was_written() -> None:
    """Quotes, commas, empty cells, second bytes that are backslashes, and NEC as well as IBM codes come out right."""
    lines = [["E-Mail", "氏名"], ["a@example.jp", '表"ソ",能'], ["b@example.jp", ""], ["c@example.jp", "髙﨑㈱～"]]
    data = csv(*lines)
    assert check(data) == Sheet(("E-Mail", "氏名"), 3)
    assert list(rows(data)) == [(number, line) for number, line in enumerate(lines, 1) if number > 1]
    ibm = data.replace("髙".encode("cp932"), b"\xfb\xfc")
    assert ibm != data
    assert list(rows(ibm)) == list(rows(data))


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"", 1),
        (b'"a","b"\r\n"c"\r\n', 2),
        (b'"a","b"\r\n"c","d","e"\r\n', 2),
        (b'"a"\r\n"b"', 2),
        (b'"a"\n"b"\r\n', 1),
        (b'"a"\r\n"b\nc"\r\n', 2),
        (b'"a"\r\n"b\r\nc"\r\n', 2),
        (b'"a"\r\n"b"c"\r\n', 2),
        (b'"a"\r\n"b"c\r\n', 2),
        (b'"a"\r\nb"c\r\n', 2),
        (b'"a"\r\n"b\\"\r\n"c\\"d"\r\n', 3),
        ('"a"\r\n"髙"\r\n'.encode(), 2),
        (b'"a"\r\n"\x80"\r\n', 2),
        (b'"a"\r\n"\xf0\x40"\r\n', 2),
        (b'"a"\r\n"\x00"\r\n', 2),
        (b'"a"\r\n"\xa0"\r\n', 2),
    ],
)
def test_a_bad_file_is_refused(data: bytes, line: int) -> None:
    """Every fault of quotes, line ends, cell counts or encoding is found, and its line named."""
    with pytest.raises(BadFile, match=f"^line {line}:"):
        check(data)


# -- forms -----------------------------------------------------------------------------------------------------------

TYPE = "multipart/form-data; boundary=b0"


def part(disposition: str, value: str) -> str:
    """Write one part of a form."""
    return f"--b0\r\nContent-Type: text/plain\r\nContent-Disposition: form-data; {disposition}\r\n\r\n{value}\r\n"


FILE = part('name="import"; filename="a.csv"', "CSV\r\n")


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_form_is_read_however_it_arrives(size: int) -> None:
    """The head is known before the file is whole, and the file is exactly what was sent, in pieces of any size."""
    body = (part('name="f"', "json") + part('name="empty"', "") + FILE + "--b0--\r\n").encode()
    form = Form(TYPE)
    for start in range(0, len(body), size):
        form.feed(body[start : start + size])
    assert form.head is not None
    assert form.head.fields == (("f", "json"), ("empty", ""))
    assert form.head.file_field == "import"
    assert form.file() == b"CSV\r\n"


@pytest.mark.parametrize(
    "body",
    [
        FILE + part('name="f"', "json") + "--b0--\r\n",
        FILE,
        FILE + "--b0--\r\nmore",
        "preamble\r\n" + FILE + "--b0--\r\n",
        part('name="f"', "json") + "--b0--\r\n",
        part('filename="a.csv"', "CSV") + "--b0--\r\n",
        "",
    ],
)
def test_a_form_out_of_order_is_refused(body: str) -> None:
    """Text after the file, a missing end, anything around the parts, or no file at all is no form."""
    form = Form(TYPE)
    with pytest.raises(BadForm):  # noqa: PT012 - either may find out
        form.feed(body.encode())
        form.file()


def test_a_form_needs_its_type() -> None:
    """Only multipart/form-data with a boundary is read."""
    for wrong in ("multipart/form-data", "text/plain", "application/x-www-form-urlencoded", ""):
        with pytest.raises(BadForm):
            Form(wrong)


# -- reader lists ----------------------------------------------------------------------------------------------------


def do(readers: Readers, operation: str, row: Mapping[str, str]) -> str | None:
    """Apply a file of one row; returns the message if it failed."""
    work = Import(readers, operation, csv(tuple(row), tuple(row.values())))
    for _ in work.steps():
        pass
    assert work.success + len(work.failures) == 1
    return work.failures[0].message if work.failures else None


def bme(*, trash_blocks: bool = False, required: frozenset[str] = frozenset()) -> BmeReaders:
    """Make an empty list of blastmail's."""
    names = BmeColumns(items=("氏名", "誕生日"), dates=frozenset({"誕生日"}), required=required)
    return BmeReaders(names, trash_blocks=trash_blocks)


def haihai() -> HaihaiReaders:
    """Make an empty list of 配配メール's."""
    return HaihaiReaders(("メールアドレス", "お名前"), "メールアドレス")


def test_bme_modes() -> None:
    """`all` registers or changes, `create` fails one who is there, `update` and `delete` one who is not."""
    readers = bme()
    assert do(readers, "update", {"E-Mail": "a@example.jp", "氏名": "山田"}) == NOT_THERE
    assert do(readers, "delete", {"E-Mail": "a@example.jp"}) == NOT_THERE
    assert do(readers, "create", {"E-Mail": "a@example.jp", "氏名": "山田"}) is None
    assert do(readers, "create", {"E-Mail": "A@example.jp", "氏名": "鈴木"}) == ALREADY_THERE
    reader = readers.find("a@example.jp")
    assert reader is not None
    assert (reader.state, readers.fields(reader)["氏名"]) == ("配信中", "山田")
    assert do(readers, "all", {"E-Mail": "a@example.jp", "氏名": "佐藤", "誕生日": "19800101"}) is None
    assert do(readers, "update", {"E-Mail": "a@example.jp", "誕生日": "19800102"}) is None
    assert readers.fields(reader) == {
        "E-Mail": "a@example.jp",
        "氏名": "佐藤",
        "誕生日": "19800102",
        "エラーカウント": "",
    }
    assert do(readers, "delete", {"E-Mail": "a@example.jp"}) is None
    assert len(readers) == 0
    assert [gone.address for gone in readers.trash()] == ["a@example.jp"]


def test_bme_empty_cells() -> None:
    """An empty cell leaves the old value, but an empty 状態 mails again one who had left: the danger is simulated."""
    readers = bme()
    do(readers, "all", {"E-Mail": "a@example.jp", "氏名": "山田"})
    assert do(readers, "update", {"E-Mail": "a@example.jp", "状態": "配信停止"}) is None
    reader = readers.find("a@example.jp")
    assert reader is not None
    assert do(readers, "all", {"E-Mail": "a@example.jp", "氏名": ""}) is None
    assert (reader.state, readers.fields(reader)["氏名"]) == ("配信停止", "山田")
    assert do(readers, "all", {"E-Mail": "a@example.jp", "状態": ""}) is None
    assert reader.state == "配信中"


def test_bme_values() -> None:
    """Wrong states, dates outside 1910 to 2037 or not in half-width digits, and bad addresses fail their row only."""
    readers = bme()
    row = {"E-Mail": "a@example.jp", "誕生日": ""}
    for wrong in ("1980-01-01", "19800230", "19091231", "20380101", "１９８００１０１", "1980101"):
        assert do(readers, "all", row | {"誕生日": wrong}) == BAD_DATE
    for right in ("19100101", "20371231", "20000229", ""):
        assert do(readers, "all", row | {"誕生日": right}) is None
    assert do(readers, "all", row | {"状態": "停止"}) == BAD_STATE
    for wrong in ("", "a", "a@b", "a@@example.jp", "あ@example.jp", "a b@example.jp"):
        assert do(readers, "all", row | {"E-Mail": wrong}) == BAD_ADDRESS
    assert do(readers, "all", row | {"E-Mail": "foo..bar.@example.jp"}) is None


def test_bme_required_items() -> None:
    """A required item may not be empty, nor missing for a new reader; a change may leave it out."""
    readers = bme(required=frozenset({"氏名"}))
    assert do(readers, "all", {"E-Mail": "a@example.jp"}) == EMPTY_REQUIRED
    assert do(readers, "all", {"E-Mail": "a@example.jp", "氏名": "山田"}) is None
    assert do(readers, "all", {"E-Mail": "a@example.jp", "氏名": ""}) == EMPTY_REQUIRED
    assert do(readers, "all", {"E-Mail": "a@example.jp", "誕生日": "19800101"}) is None


def test_bme_trash() -> None:
    """A contract whose trash blocks refuses a deleted reader until it is purged; another registers the reader anew."""
    for blocks in (True, False):
        readers = bme(trash_blocks=blocks)
        do(readers, "all", {"E-Mail": "a@example.jp", "氏名": "山田"})
        do(readers, "delete", {"E-Mail": "a@example.jp"})
        assert do(readers, "all", {"E-Mail": "A@example.jp"}) == (IN_TRASH if blocks else None)
        assert readers.purge() == (1 if blocks else 0)
        assert do(readers, "all", {"E-Mail": "a@example.jp"}) is None
        reader = readers.find("a@example.jp")
        assert reader is not None
        assert (reader.state, readers.fields(reader)["氏名"]) == ("配信中", "")


@pytest.mark.parametrize(
    ("operation", "header"),
    [
        ("all", ("E-Mail", "名前")),
        ("all", ("氏名",)),
        ("all", ("E-Mail", "氏名", "氏名")),
        ("delete", ("E-Mail", "氏名")),
    ],
)
def test_bme_header(operation: str, header: tuple[str, ...]) -> None:
    """One unknown or repeated name, or no address, fails every row and changes nothing."""
    readers = bme()
    do(readers, "all", {"E-Mail": "a@example.jp"})
    work = Import(readers, operation, csv(header, *(["a@example.jp"] * len(header) for _ in range(3))))
    for _ in work.steps():
        pass
    assert (work.success, [failure.message for failure in work.failures]) == (0, [BAD_HEADER] * 3)
    assert len(readers) == 1


def test_haihai_permission_is_kept_apart() -> None:
    """Registering one who was stopped or banned changes the data and never the state; allowing does."""
    readers = haihai()
    row = {"メールアドレス": "a@example.jp", "お名前": "山田"}
    for operation in ("stop", "ban", "allow", "delete"):
        assert do(readers, operation, row) == NOT_THERE
    assert do(readers, "register", row) is None
    reader = readers.find("a@example.jp")
    assert reader is not None
    for operation, state in (("stop", "停止"), ("ban", "禁止"), ("allow", "配信中")):
        assert do(readers, operation, {"メールアドレス": "a@example.jp"}) is None
        assert do(readers, "register", row | {"お名前": operation}) is None
        assert (reader.state, readers.fields(reader)["お名前"]) == (state, operation)
    assert do(readers, "register_new", row) == ALREADY_THERE
    assert readers.fields(reader)["お名前"] == "allow"


def test_haihai_a_deleted_reader_comes_back_mailable() -> None:
    """Deleting forgets a stop: whoever registers the reader anew makes it mailable, as at the real vendor."""
    readers = haihai()
    for operation in ("register", "ban", "delete", "register"):
        assert do(readers, operation, {"メールアドレス": "a@example.jp"}) is None
    reader = readers.find("a@example.jp")
    assert reader is not None
    assert reader.state == "配信中"


def test_haihai_ignores_unknown_columns() -> None:
    """A column with an unknown name is left out; without the address column no row is taken."""
    readers = haihai()
    assert do(readers, "register", {"名前": "山田", "メールアドレス": "a@example.jp"}) is None
    reader = readers.find("a@example.jp")
    assert reader is not None
    assert readers.fields(reader) == {"メールアドレス": "a@example.jp", "お名前": ""}
    assert do(readers, "register", {"お名前": "山田", "E-Mail": "b@example.jp"}) == BAD_HEADER
    assert len(readers) == 1


def test_an_import_reports_lines() -> None:
    """A failure names its physical line and repeats the row; a test can refuse rows; repeated addresses are counted."""
    readers = bme()
    lines = [("E-Mail", "氏名"), ("a@example.jp", '"a"'), ("bad", "b"), ("c@example.jp", "c"), ("C@example.jp", "d")]
    work = Import(readers, "all", csv(*lines), lambda line, _address: "no" if line == 4 else None)
    steps = sum(1 for _ in work.steps(rows_per_step=2))
    assert steps == 2
    assert [(f.line, f.content, f.message) for f in work.failures] == [
        (3, '"bad","b"', BAD_ADDRESS),
        (4, '"c@example.jp","c"', "no"),
    ]
    assert (work.success, work.repeated) == (2, 1)
    assert [reader.address for reader in readers.everyone()] == ["a@example.jp", "C@example.jp"]


def test_a_bad_file_changes_nothing() -> None:
    """A file whose last line is broken applies none of its rows."""
    readers = haihai()
    with pytest.raises(BadFile):
        Import(readers, "register", csv(["メールアドレス"], ["a@example.jp"]) + b'"b@example.jp')
    assert len(readers) == 0


# -- faults ----------------------------------------------------------------------------------------------------------


def test_faults_are_met_in_order_and_as_often_as_told() -> None:
    """Times, skip, contract and operation decide which call meets which fault; files only the ones they fit."""
    faults = Faults(frozenset({"status", "busy", "refuse_file", "too_large"}))
    faults.add(fault="status", status=502, contract="a", skip=1)
    faults.add(fault="busy", operation="delete", times=2)
    faults.add(fault="refuse_file", address="x@example.jp")
    faults.add(fault="too_large", n_bytes=20)
    met = [
        faults.meet("upload", *call)
        for call in (
            ("b", "all", b""),
            ("a", "all", b""),
            ("a", "all", b""),
            ("a", "delete", b""),
            ("b", "delete", b""),
            ("b", "delete", b'"x@example.jp"'),
            ("b", "delete", b'"xx@example.jp"'),
            ("b", "all", b"-" * 21),
            ("b", "all", b"-" * 20),
        )
    ]
    kinds = [fault.fault if fault else None for fault in met]
    assert kinds == [None, None, "status", "busy", "busy", "refuse_file", None, "too_large", None]
    assert faults.meet("login", "a") is None
    assert faults.disarm() == 2


def test_a_vendor_can_break_down_at_a_line() -> None:
    """With an address, what happens to a whole upload is met by files with that line only, as often as told."""
    faults = Faults(frozenset({"status", "too_large", "reset_during_body"}))
    faults.add(fault="status", times=None, address="x@example.jp")
    faults.add(fault="too_large", n_bytes=20, address="y@example.jp")
    files = (b'"x@example.jp","a"', b'"xx@example.jp","a"', b'"y@example.jp"', b'"y@example.jp","long"', b"-" * 30)
    met = [faults.meet("upload", "a", "all", file) for file in (*files, files[0])]
    assert [fault and fault.fault for fault in met] == ["status", None, None, "too_large", None, "status"]
    assert faults.meet("usage", "a") is None
    for wrong in ({"fault": "reset_during_body"}, {"fault": "status", "on": "login"}):
        with pytest.raises(ValueError, match="whole upload"):
            faults.arm({**wrong, "address": "x@example.jp"})


def test_resets_are_met_early() -> None:
    """A reset before the body of anybody is met with the headers, a contract's own as soon as it is known."""
    faults = Faults(frozenset({"reset_before_body", "reset_during_body", "status"}))
    faults.add(fault="status", times=None)
    faults.add(fault="reset_before_body")
    faults.add(fault="reset_before_body", contract="a")
    faults.add(fault="reset_during_body", n_bytes=9)
    first = faults.meet_early(None, None)
    assert first is not None
    assert first.contract is None
    assert faults.meet_early(None, None) is None
    kinds = [fault and fault.fault for fault in (faults.meet_early(name, "all") for name in "bab")]
    assert kinds == ["reset_during_body", "reset_before_body", None]


@pytest.mark.parametrize(
    "given",
    [
        {"fault": "status", "stats": 500},
        {"fault": "unheard"},
        {"fault": "busy"},
        {"fault": "reject_lines"},
        {"fault": "refuse_file"},
        {"fault": "status", "times": 0},
        {"fault": "too_large", "on": "login"},
        {},
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(given: dict[str, object]) -> None:
    """Unknown keys and kinds, kinds this vendor cannot do, and missing parameters are mistakes."""
    faults = Faults(frozenset({"status", "reject_lines", "refuse_file", "too_large"}))
    with pytest.raises(ValueError, match=r"."):
        faults.arm(given)


# -- overlaps --------------------------------------------------------------------------------------------------------


def test_overlaps_are_counted() -> None:
    """Uploads of one contract that are under way together count, whichever is identified first; others do not."""
    now = [0.0]
    record_ = Record(lambda: now[0])

    def begin(at: float) -> None:
        now[0] = at

    begin(1)
    first = record_.begin(1, lambda: False)
    record_.identify(first, "a")
    begin(2)
    late = record_.begin(1, lambda: False)
    begin(3)
    other = record_.begin(1, lambda: False)
    record_.identify(other, "b")
    record_.end(other, 200)
    begin(4)
    record_.end(first, 200)
    begin(5)
    record_.identify(late, "a")
    record_.end(late, 200)
    begin(6)
    after = record_.begin(1, lambda: False)
    record_.identify(after, "a")
    assert (record_.of("a").overlaps, record_.of("b").overlaps) == (1, 0)
    together = record_.begin(1, lambda: False)
    record_.identify(together, "a")
    assert record_.of("a").overlaps == 2


def test_an_abandoned_upload_overlaps_nothing() -> None:
    """An upload whose client has gone is no longer under way, though the vendor may still be working on it."""
    now = [0.0]
    record_ = Record(lambda: now[0])
    left = record_.begin(1, lambda: True)
    record_.identify(left, "a")
    now[0] = 1
    again = record_.begin(1, lambda: False)
    now[0] = 2
    record_.end(left, None)
    record_.identify(again, "a")
    assert record_.of("a").overlaps == 0
