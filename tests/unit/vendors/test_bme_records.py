"""blastmail's and blaynmail's records of failed lines: what is asked, what is read, and what is believed."""

import json
import tracemalloc
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from relay import csvline
from relay.events import Operation
from relay.settings import Secret, Settings, Source
from relay.vendors import check
from relay.vendors.bme_matching import fit
from relay.vendors.bme_records import (
    CREATE_ERROR,
    DELETE_ERROR,
    JAPAN,
    ErrorRecord,
    ErrorTable,
    Failed,
    Window,
    age_s,
    delete_call,
    export_call,
    kind_of,
    read_date,
    read_deleted,
    read_export,
    read_search,
    search_call,
    within,
)
from relay.vendors.elements import Doubt
from tests.unit.vendors.made import CANARIES, account, bme_login, haihai_login, reply

SAMPLES = Path(__file__).parent / "samples"
BRANDS = ("blastmail", "blaynmail")

AT = datetime(2012, 3, 12, 22, 28, 54, tzinfo=JAPAN)
SAMPLE = ErrorRecord(CREATE_ERROR, "20120312T22:28:54", 1, AT)
ONE = {"count": 1, "date": "20120312T22:28:54", "type": CREATE_ERROR}
OTHER = {"count": "7", "date": "20120312T22:28:55", "type": DELETE_ERROR}


def sample(name: str) -> bytes:
    """The sample of a document."""
    return (SAMPLES / name).read_bytes()


# -- calls -----------------------------------------------------------------------------------------------------------


def test_what_is_asked() -> None:
    """GET for lists and files with the token in the query, POST for deletions with it in the form; never `format`."""
    search, export = search_call("canary-token"), export_call(CREATE_ERROR, "20120312T22:28:54", "canary-token")
    assert (search.method, search.path) == ("GET", "contact/import/error/search")
    assert search.query == (("access_token", "canary-token"), ("f", "json"))
    assert (export.method, export.path) == ("GET", "contact/import/error/export")
    assert dict(export.query) == {"access_token": "canary-token", "type": "登録エラー", "date": "20120312T22:28:54"}
    deletions = []
    for kind, parameter in ((CREATE_ERROR, "createErrors"), (DELETE_ERROR, "deleteErrors")):
        delete = delete_call(kind, "20180509T15:01:31", "canary-token")
        assert (delete.method, delete.path, delete.query) == ("POST", "contact/import/error/delete", ())
        fields = {"access_token": "canary-token", "f": "json", parameter: "20180509T15:01:31"}
        assert dict(delete.fields) == fields, "exactly that type and time, and nothing of the other type"
        deletions.append(delete)
    for call in (search, export, *deletions):
        assert "format" not in dict((*call.query, *call.fields))
        assert not any(canary in repr(call) for canary in CANARIES)


def test_failed_lines_are_looked_for_where_they_are_kept() -> None:
    """Only a `delete` file's are in the list for deletions: a stop goes to `update`."""
    kinds = {operation: kind_of(operation) for operation in Operation}
    assert kinds == dict.fromkeys(Operation, CREATE_ERROR) | {Operation.DELETE: DELETE_ERROR}


# -- lists -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("brand", BRANDS)
@pytest.mark.parametrize("form", ["json", "xml"])
def test_the_documents_lists_are_read(brand: str, form: str) -> None:
    """Letter for letter, whatever the Content-Type says."""
    assert read_search(reply(sample(f"{brand}-error-search.{form}"))) == (SAMPLE,)


def xml(*found: dict[str, Any], around: str = "contacts") -> str:
    """Write records as XML."""
    inner = "".join("<contact>" + "".join(f"<{k}>{v}</{k}>" for k, v in one.items()) + "</contact>" for one in found)
    return f'<?xml version="1.0" encoding="UTF-8" standalone="yes" ?>\n<{around}>{inner}</{around}>'


@pytest.mark.parametrize(
    ("body", "counts"),
    [
        (json.dumps({"contact": [ONE, OTHER]}), [1, 7]),
        (json.dumps({"contact": OTHER}), [7]),
        (json.dumps({"contacts": {"contact": [OTHER]}}), [7]),
        (json.dumps([ONE, OTHER]), [1, 7]),
        (json.dumps({"contact": [{"id": 5, **ONE, "file": "a.csv"}]}), [1]),
        (xml(ONE, OTHER), [1, 7]),
        (xml(OTHER), [7]),
        (xml(), []),
        ("<contacts/>", []),
        ("<contacts><contact/></contacts>", []),
        ('{"contact":[]}', []),
        ('{"contact":{}}', []),
        ('{"contact":""}', []),
        ('{"contact":null}', []),
        ("{}", []),
        ("[]", []),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp932"])
def test_lists_come_in_all_shapes(body: str, counts: list[int], encoding: str) -> None:
    """Numbers or strings, a list, one object or nothing, JSON or XML, in the wrong encoding: read all the same."""
    found = read_search(reply(body.encode(encoding)))
    assert not isinstance(found, Failed)
    assert [one.count for one in found] == counts


@pytest.mark.parametrize(
    "body",
    [
        "",
        " ",
        "null",
        "3",
        "<html><body>ただいまメンテナンス中です</body></html>",
        "<html></html>",
        json.dumps({"contact": [ONE]})[:-3],
        xml(ONE)[:-5],
        json.dumps({"error": {"message": "Failure_Data is incorrect"}}),
        json.dumps({"contact": [ONE], "error": {"message": "canary@example.jp"}}),
        "<error><message>Failure_Data is incorrect</message></error>",
        json.dumps({"contact": [{"count": 1, "type": CREATE_ERROR}]}),
        json.dumps({"contact": [ONE | {"count": -1}]}),
        json.dumps({"contact": [ONE | {"count": "1.5"}]}),
        json.dumps({"contact": [ONE | {"count": None}]}),
        json.dumps({"contact": [ONE, OTHER | {"date": 20120312}]}),
        json.dumps({"contact": [ONE, "canary@example.jp"]}),
        '{"contact":[{"count":1,"count":2,"date":"20120312T22:28:54","type":"x"}]}',
        "<contacts><contact><count>1</count><count>2</count><date>d</date><type>t</type></contact></contacts>",
        '<!DOCTYPE x [<!ENTITY a "b">]><contacts/>',
        "[" * 50_000,
    ],
)
def test_a_list_that_is_not_wholly_understood_is_none(body: str) -> None:
    """A record left out could be the one that makes another doubtful; and no word of it is told."""
    found = read_search(reply(body))
    assert isinstance(found, Failed)
    assert "canary" not in found.reason


@pytest.mark.parametrize("read", [read_search, read_export, read_deleted])
@pytest.mark.parametrize("status", [201, 204, 301, 400, 401, 403, 404, 413, 429, 500, 502, 503])
def test_no_other_status_is_an_answer(read: Any, status: int) -> None:  # noqa: ANN401 (three signatures)
    """However good the body looks, also the known `illegal format: json,json` with 500, and what was cut off."""
    body = json.dumps({"contact": [ONE]}) if read is not read_export else "a,b\r\n1,2\r\n"
    assert not isinstance(read(reply(body)), Failed)
    assert isinstance(read(reply(body, status)), Failed)
    assert isinstance(read(reply(body, truncated=True)), Failed)
    assert isinstance(read(reply('{"error":{"message":"illegal format: json,json"}}', 500)), Failed)


def test_times_are_japans() -> None:
    """As the documents write them, or with the marks of ISO 8601; anything else is no time, but a record."""
    assert read_date("20120312T22:28:54") == datetime(2012, 3, 12, 13, 28, 54, tzinfo=UTC)
    assert read_date("2012-03-12T22:28:54") == AT
    for text in ("", "20120312", "20121312T22:28:54", "20120312T25:28:54", "20120312T22:28:54Z", "昨日"):
        assert read_date(text) is None
        found = read_search(reply(json.dumps({"contact": [ONE | {"date": text}]})))
        assert not isinstance(found, Failed)
        assert (found[0].date, found[0].at) == (text, None)


def test_a_window_is_of_one_type_and_by_the_vendors_clock() -> None:
    """Both ends count, the other type does not, and what has no readable time may be in it."""
    now = datetime(2012, 3, 12, 13, 30, 0, tzinfo=UTC)
    assert age_s(SAMPLE, now) == 66
    listed = [SAMPLE, ErrorRecord(DELETE_ERROR, SAMPLE.date, 1, AT), ErrorRecord(CREATE_ERROR, "?", 1, None)]
    for window, count in ((Window(66, 66), 2), (Window(65.9, 0), 1), (Window(100, 66.1), 1), (Window(100, -2), 2)):
        found = within(listed, CREATE_ERROR, now, window)
        assert len(found) == count, window
        assert listed[2] in found


# -- deletions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "dates"),
    [
        ("blastmail-error-delete.json", ("20180509T15:01:31",)),
        ("blastmail-error-delete.xml", ("20120312T22:28:54",)),
        ("blaynmail-error-delete.json", ("20120312T22:28:54",)),
        ("blaynmail-error-delete.xml", ("20120312T22:28:54",)),
    ],
)
def test_the_documents_deletions_are_read(name: str, dates: tuple[str, ...]) -> None:
    """One brand answers `success` with an empty `failure`, the other `contact` with a date."""
    assert read_deleted(reply(sample(name))) == dates


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{}",
        "<html><body>x</body></html>",
        '{"failure":"20180509T15:01:31","success":""}',
        '{"failure":"20180509T15:01:31","success":"20180509T15:01:31"}',
        '{"failure":["a"],"success":"20180509T15:01:31"}',
        '{"failure":{"date":"20180509T15:01:31"},"success":"20180509T15:01:31"}',
        '{"contact":[]}',
        '{"contact":[{"date":"20180509T15:01:31"}],"message":"canary@example.jp"}',
        '{"error":{"message":"Failure_No such error"}}',
        "<contact><success>20120312T22:28:54</success><failure>20120312T22:28:54</failure></contact>",
        "<contact><success /><failure /></contact>",
        '{"failure": "","success": "20180509T15:01:31"',
    ],
)
def test_a_deletion_that_is_not_confirmed_is_none(body: str) -> None:
    """Anything in a failure, an error, nothing at all, half an answer."""
    found = read_deleted(reply(body))
    assert isinstance(found, Failed)
    assert "canary" not in found.reason


# -- files -----------------------------------------------------------------------------------------------------------

HEADER = ("E-Mail", "氏名", "生年月日")
PEOPLE = (("a@example.jp", "髙橋 ～①", "20000101"), ("b@example.jp", 'ソ"表', ""), ("c@example.jp", "￥", "19991231"))
LINES = [(number, csvline.record(cells).removesuffix(b"\r\n")) for number, cells in enumerate(PEOPLE, 2)]


def table(*rows: Sequence[str], header: Sequence[str] = (*HEADER, "エラー内容")) -> str:
    """Write a CSV file."""
    return "".join(",".join('"' + c.replace('"', '""') + '"' for c in row) + "\r\n" for row in (header, *rows))


def fitted(text: str, count: int, encoding: str = "cp932", rows: int = 3) -> list[tuple[int, str]]:
    """Fit a file to the lines; returns line numbers and messages."""
    read = read_export(reply(text.encode(encoding), content_type="application/octet-stream"))
    assert isinstance(read, ErrorTable)
    found = fit(read, count, HEADER, LINES, rows)
    assert (found.counted.success, found.counted.failure) == (rows - count, count)
    assert set(found.lines) == {claim.line for claim in found.counted.claims}
    return [(claim.line, claim.message) for claim in found.counted.claims]


@pytest.mark.parametrize("encoding", ["cp932", "utf-8", "utf-8-sig"])
def test_a_file_is_read_in_either_encoding(encoding: str) -> None:
    """Shift_JIS as the vendors write, or UTF-8: characters that differ from decoder to decoder are the same."""
    rows = [(*PEOPLE[2], "悪い"), (*PEOPLE[0], "日付")]
    assert fitted(table(*rows), 2, encoding) == [(2, "日付"), (4, "悪い")]


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        (("エラー内容", "生年月日", "氏名", "E-Mail"), ("no", "", 'ソ"表', "b@example.jp"), "no"),
        ((*HEADER, "備考"), (*PEOPLE[1], "no"), "no"),
        (("状態", "エラーカウント", *HEADER, "メッセージ"), ("配信中", "3", *PEOPLE[1], "no"), "no"),
        (("状態", "エラーカウント", *HEADER), ("配信中", "3", *PEOPLE[1]), ""),
        (("行", "x", *HEADER), ("3", "y", *PEOPLE[1]), ""),
        (HEADER, PEOPLE[1], ""),
        ((" E-Mail ", "氏名", "生年月日", "error message"), (*PEOPLE[1], " no "), "no"),
    ],
)
def test_columns_are_found_by_name(header: Sequence[str], row: Sequence[str], message: str) -> None:
    """In another order, more of them, and a message in a column whose name is not documented."""
    assert fitted(table(row, header=header), 1) == [(3, message)]


@pytest.mark.parametrize(
    ("text", "count", "why"),
    [
        (table((*PEOPLE[0], "no")), 2, "its file has 1"),
        (table((*PEOPLE[0], "no"), (*PEOPLE[1], "no")), 1, "its file has 2"),
        (table(), 1, "its file has 0"),
        (table((*PEOPLE[0], "no"), (*PEOPLE[0], "no")), 2, "the same"),
        (table(("d@example.jp", "髙橋", "20000101", "no")), 1, "fit no line"),
        (table((PEOPLE[0][0], "高橋 ～①", PEOPLE[0][2], "no")), 1, "fit no line"),
        (table((*PEOPLE[0][:2], "", "no")), 1, "fit no line"),
        (table((*PEOPLE[0][:2], "no"), header=("E-Mail", "氏名", "エラー内容")), 1, "columns"),
        (table((*PEOPLE[0], "no", "x"), header=(*HEADER, "エラー内容", "氏名")), 1, "columns"),
        (table((*PEOPLE[1], "no"), header=(*PEOPLE[0], "no")), 1, "columns"),
    ],
)
def test_a_row_that_fits_no_line_is_doubt(text: str, count: int, why: str) -> None:
    """All rows, all columns, as many as counted, each for a line of its own: or the record is about something else."""
    with pytest.raises(Doubt, match=why) as doubt:
        fitted(text, count)
    assert not any(cell in str(doubt.value) for cell in ("example.jp", "髙橋", "高橋"))


def test_lines_that_are_the_same_are_doubt() -> None:
    """Then it cannot be said which one it was; and a file of more rows than were sent is about another file."""
    found = read_export(reply(table((*PEOPLE[0], "no"))))
    assert isinstance(found, ErrorTable)
    with pytest.raises(Doubt, match="two lines"):
        fit(found, 1, HEADER, [*LINES, (5, LINES[0][1])], 4)
    with pytest.raises(Doubt, match="but 0 were sent"):
        fit(found, 1, HEADER, LINES, 0)


def test_a_record_of_no_lines_is_doubt() -> None:
    """It would read as if every line had arrived; the vendor keeps none of an import without failures."""
    found = read_export(reply(table()))
    assert isinstance(found, ErrorTable)
    assert found.rows == ()
    with pytest.raises(Doubt, match="counts no lines"):
        fit(found, 0, HEADER, LINES, 3)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a\n" * 2_000_000, "more than 10 rows"),
        (",".join("a" * 1_001) + "\r\n", "no table"),
        ("," * 2_000_000, "too long"),
        ('"\n",' * 400_000, "too long"),
    ],
    ids=["rows", "columns", "one row", "one row of many lines"],
)
def test_a_huge_file_is_not_read_into_memory(text: str, reason: str) -> None:
    """More rows than the record counts, more cells than a row can have: it ends there."""
    body = reply(text)
    tracemalloc.start()
    try:
        found = read_export(body, 10)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(found, Failed)
    assert reason in found.reason
    assert peak < 60_000_000


def test_as_many_rows_as_were_counted_are_read() -> None:
    """And not one more."""
    text = "a,b\r\n1,2\r\n3,4\r\n"
    assert isinstance(read_export(reply(text), 2), ErrorTable)
    assert isinstance(read_export(reply(text), 1), Failed)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\r\n",
        "<!DOCTYPE html><html></html>",
        '<?xml version="1.0"?><error/>',
        '{"error":{"message":"x"}}',
        "Failure_No such error",
        'a,b\r\n"1,2\r\n',
        "a,b\r\n1,2,3\r\n",
        "a,b\r\n1\r\n",
    ],
)
def test_what_is_no_table_is_no_file(text: str) -> None:
    """A page, an error with 200, a file that breaks off."""
    assert isinstance(read_export(reply(text)), Failed)


def test_a_table_keeps_customers_to_itself() -> None:
    """Neither what was read nor what it fits shows a line in its repr, which may get into a log."""
    found = read_export(reply(table((*PEOPLE[0], "no"))))
    assert isinstance(found, ErrorTable)
    fitting = fit(found, 1, HEADER, LINES, 3)
    assert "example" not in repr(found) + repr(fitting)


# -- settings --------------------------------------------------------------------------------------------------------


def test_only_vendors_with_records_can_be_told_to_delete_them() -> None:
    """The setting is off by default, and a mistake at 配配メール."""

    def settings(login: Any, **given: object) -> Settings:  # noqa: ANN401 (of either vendor)
        own = account(login, **given)
        source = Source(bearer_tokens=(Secret("x" * 20),), accounts=(own.name,))
        return Settings(sources={"crm": source}, logins={login.name: login}, accounts={own.name: own})

    assert account(bme_login()).delete_error_records is False

    def at_fault(login: Any) -> set[str]:  # noqa: ANN401 (of either vendor)
        return {problem.field for problem in check(settings(login, delete_error_records=True))}

    assert "accounts.news.delete_error_records" not in at_fault(bme_login())
    assert "accounts.news.delete_error_records" in at_fault(haihai_login())
