"""The error records of simulated blastmail and blaynmail."""

from relay.demo.sim_bme_records import (
    CREATE_ERROR,
    DELETE_ERROR,
    RECORD_ROWS_KEPT,
    RECORDS_KEPT,
    ErrorRecords,
    RecordStyle,
)
from relay.demo.sim_readers import Failure

DATE = "20261122T09:00:00"


def failures(*addresses: str) -> list[Failure]:
    """Rows that failed."""
    return [Failure(line, f'"{address}","a ""b"", c"', "no") for line, address in enumerate(addresses, 2)]


def test_two_imports_of_one_second_are_one_record() -> None:
    """Type and time are all that names a record: counts add up, the file has the rows of both, and both go together."""
    records = ErrorRecords()
    records.keep(CREATE_ERROR, DATE, ("E-Mail", "氏名"), failures("a@example.jp"))
    records.keep(CREATE_ERROR, DATE, ("E-Mail", "都道府県"), failures("b@example.jp"))
    records.keep(DELETE_ERROR, DATE, ("E-Mail", "氏名"), failures("c@example.jp"))
    assert [(one.type, one.date, one.count) for one in records.found({})] == [
        (DELETE_ERROR, DATE, 1),
        (CREATE_ERROR, DATE, 2),
    ]
    body = records.export(CREATE_ERROR, DATE, RecordStyle())
    assert body is not None
    assert body.decode("cp932").splitlines() == [
        '"E-Mail","氏名","都道府県","エラー内容"',
        '"a@example.jp","a ""b"", c","","no"',
        '"b@example.jp","","a ""b"", c","no"',
    ]
    assert records.delete(CREATE_ERROR, DATE)
    assert not records.delete(CREATE_ERROR, DATE)
    assert [one.type for one in records.found({})] == [DELETE_ERROR]


def test_records_are_found_by_type_and_time() -> None:
    """Without either all are; an import without failures leaves none."""
    records = ErrorRecords()
    records.keep(CREATE_ERROR, DATE, ("E-Mail", "氏名"), failures("a@example.jp"))
    records.keep(CREATE_ERROR, "20261122T09:00:01", ("E-Mail",), [])
    assert len(records.found({})) == 1
    assert len(records.found({CREATE_ERROR: DATE, DELETE_ERROR: None})) == 1
    assert records.found({DELETE_ERROR: DATE}) == []
    assert records.found({CREATE_ERROR: "20261122T09:00:01"}) == []
    assert records.export(CREATE_ERROR, "20261122T09:00:01", RecordStyle()) is None


def test_a_file_is_written_as_asked() -> None:
    """Columns turned round, one more, another encoding and name for the message."""
    records = ErrorRecords()
    records.keep(CREATE_ERROR, DATE, ("E-Mail", "氏名"), failures("a@example.jp"))
    style = RecordStyle(encoding="utf-8", message="理由", turned=True, more=("行",))
    body = records.export(CREATE_ERROR, DATE, style)
    assert body is not None
    assert body.decode().splitlines()[0] == '"理由","行","氏名","E-Mail"'


def test_not_everything_is_kept() -> None:
    """Of very many failures the count is right and the file is not whole; of very many records the last are there."""
    records = ErrorRecords()
    many = failures(*(f"{n}@example.jp" for n in range(RECORD_ROWS_KEPT + 1)))
    records.keep(CREATE_ERROR, DATE, ("E-Mail", "氏名"), many)
    body = records.export(CREATE_ERROR, DATE, RecordStyle())
    assert body is not None
    assert (records.found({})[0].count, body.count(b"\r\n")) == (RECORD_ROWS_KEPT + 1, RECORD_ROWS_KEPT + 1)
    for n in range(RECORDS_KEPT):
        records.keep(DELETE_ERROR, f"20261122T09:01:{n:02}", ("E-Mail", "氏名"), failures("a@example.jp"))
    assert len(records.found({})) == RECORDS_KEPT
    assert records.found({CREATE_ERROR: DATE}) == []
