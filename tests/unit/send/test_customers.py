"""Files of customers: how they are read, and that ids and timestamps follow from the file alone."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from relay.send.customers import Line, Unreadable, Unsendable, read, survey

MOMENT = datetime(2026, 4, 1, tzinfo=UTC)


def read_all(path: Path, kind: str = "customer.created", moment: datetime | None = MOMENT) -> list[Line | Unsendable]:
    """Read a file as `relay send` does."""
    return list(read(path, survey(path, moment), kind, "send-"))


def data_of(lines: list[Line | Unsendable]) -> list[object]:
    """The data of each webhook."""
    return [json.loads(line.body)["data"] for line in lines if isinstance(line, Line)]


def write(tmp_path: Path, content: str | bytes, name: str = "customers.csv") -> Path:
    """Write a file."""
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp932"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv_in_any_encoding(tmp_path: Path, encoding: str, end: str) -> None:
    """UTF-8, with or without its mark, and Shift_JIS read the same, hard characters included."""
    text = end.join(["email,name", "a@example.jp,髙橋 ㈱～ｱｲ", 'b@example.jp,"表, ""ソ"""', ""])
    assert data_of(read_all(write(tmp_path, text.encode(encoding)))) == [
        {"email": "a@example.jp", "name": "髙橋 ㈱～ｱｲ"},
        {"email": "b@example.jp", "name": '表, "ソ"'},
    ]


def test_dotted_names_are_groups(tmp_path: Path) -> None:
    """A header's dots make nested objects."""
    path = write(tmp_path, "email,address.city,address.zip,a.b.c\nx@example.jp,京都,600,1\n")
    assert data_of(read_all(path)) == [
        {"email": "x@example.jp", "address": {"city": "京都", "zip": "600"}, "a": {"b": {"c": "1"}}}
    ]


def test_lines_are_numbered_as_in_the_file(tmp_path: Path) -> None:
    """A webhook's number is the line on which it begins, also after values of several lines and blank lines."""
    path = write(tmp_path, 'email,memo\na@example.jp,"one\ntwo"\n\nb@example.jp,x\nc@example.jp\nd@example.jp,y')
    lines = read_all(path)
    assert [line.number for line in lines] == [2, 5, 6, 7]
    assert isinstance(lines[2], Unsendable)
    assert lines[2].problem.message == "has 1 cells, the header has 2"


def test_broken_quotes_are_told_by_line(tmp_path: Path) -> None:
    """A line with quotes that fit nothing is left out by itself."""
    lines = read_all(write(tmp_path, 'email,name\n"a"b@example.jp,x\nc@example.jp,y\n'))
    assert [(line.number, type(line)) for line in lines] == [(2, Unsendable), (3, Line)]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xef\xbb\xbf\r\n",
        "email,,name\n",
        "email,a..b\n",
        "email,name,email\n",
        "email,address,address.city\n",
        'email,"name\n',
        "email\n髙\n".encode("utf-16"),
        b"email\n\x81\n\xff",
    ],
)
def test_files_that_cannot_be_sent(tmp_path: Path, content: str | bytes) -> None:
    """A file in no known encoding or with a header that makes no sense is refused before anything is sent."""
    with pytest.raises(Unreadable):
        read_all(write(tmp_path, content))


def test_a_missing_file(tmp_path: Path) -> None:
    """A file that is not there is told as such."""
    with pytest.raises(Unreadable, match="No such file"):
        survey(tmp_path / "nothing.csv")


def test_ndjson_of_data_and_webhooks(tmp_path: Path) -> None:
    """Each line is a customer's data, or a whole webhook that keeps its own type, timestamp and id."""
    own = {
        "id": "own",
        "type": "customer.deleted",
        "timestamp": "2020-01-01T00:00:00Z",
        "data": {"email": "b@example.jp"},
    }
    content = [json.dumps({"email": "a@example.jp", "type": "vip"}), "", json.dumps(own), "[]", "{", '{"a":1,"a":2}']
    lines = read_all(write(tmp_path, "\n".join(content)))
    assert [(line.number, type(line)) for line in lines] == [
        (1, Line),
        (3, Line),
        (4, Unsendable),
        (5, Unsendable),
        (6, Unsendable),
    ]
    first, second = lines[:2]
    assert isinstance(first, Line)
    assert isinstance(second, Line)
    assert json.loads(first.body)["data"] == {"email": "a@example.jp", "type": "vip"}
    assert json.loads(first.body)["type"] == "customer.created"
    assert json.loads(second.body) == own
    assert second.webhook_id == "own"


def test_the_same_file_makes_the_same_webhooks(tmp_path: Path) -> None:
    """A file sent again, from wherever, makes the very same webhooks; no two lines share an id."""
    content = "email\n" + "".join(f"a{number}@example.jp\n" for number in range(100))
    first = read_all(write(tmp_path, content))
    assert first == read_all(write(tmp_path, content, "again.csv"))
    assert len({line.webhook_id for line in first if isinstance(line, Line)}) == 100


def test_anything_else_makes_other_webhooks(tmp_path: Path) -> None:
    """Other bytes, another type or another moment are something new, never taken for a repeat."""
    path = write(tmp_path, "email\na@example.jp\n")
    other = write(tmp_path, "email\na@example.jp\nb@example.jp\n", "other.csv")
    made = [
        read_all(path),
        read_all(other),
        read_all(path, "customer.deleted"),
        read_all(path, moment=MOMENT + timedelta(seconds=1)),
    ]
    assert len({lines[0].webhook_id for lines in made if isinstance(lines[0], Line)}) == len(made)


def test_later_lines_are_later_words(tmp_path: Path) -> None:
    """Every line is later than those before it, and none is later than the file's moment."""
    content = "email\n" + "".join(f"a{number % 3}@example.jp\n" for number in range(50))
    for ending in ("", "\n"):
        lines = read_all(write(tmp_path, content.removesuffix("\n") + ending))
        moments = [
            datetime.fromisoformat(json.loads(line.body)["timestamp"]) for line in lines if isinstance(line, Line)
        ]
        assert moments == sorted(set(moments))
        assert MOMENT - timedelta(seconds=1) < moments[0]
        assert moments[-1] <= MOMENT


def test_the_moment_is_when_the_file_was_written(tmp_path: Path) -> None:
    """Without a moment given, the time of the file's last change stands for it."""
    path = write(tmp_path, "email\na@example.jp\n")
    os.utime(path, (0, MOMENT.timestamp() + 0.25))
    assert survey(path).moment == MOMENT + timedelta(seconds=0.25)
