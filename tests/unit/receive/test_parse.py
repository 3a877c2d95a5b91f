"""Bodies: what is read as a webhook, and what is wrong with everything else."""

import json

import pytest

from relay.errors import Invalid
from relay.receive.parse import (
    NESTING_MAX,
    WEBHOOKS_MAX,
    Malformed,
    Refused,
    TooMany,
    Webhook,
    parse,
    parse_array,
    parse_lines,
)

GOOD = {
    "id": "w1",
    "type": "customer.created",
    "timestamp": "2026-04-01T09:00:00+09:00",
    "data": {"email": "a@example.jp"},
}


def nested(levels: int) -> str:
    """A webhook whose containers are nested so deep, the outermost and `data` included."""
    return '{"type":"customer.created","data":{"x":' + "[" * (levels - 2) + "]" * (levels - 2) + "}}"


def fields(error: pytest.ExceptionInfo[Invalid]) -> list[str]:
    """The fields that a refusal names."""
    return [problem.field for problem in error.value.problems]


def test_a_webhook_is_read() -> None:
    """A body is read into id, type, timestamp and data; other members do not matter."""
    webhook = parse(json.dumps({**GOOD, "extra": [1]}).encode(), None)
    assert webhook == Webhook("w1", "customer.created", "2026-04-01T09:00:00+09:00", {"email": "a@example.jp"})


def test_the_header_names_the_webhook() -> None:
    """The id in the header is the webhook's, whatever the body says; without it the body's is."""
    assert parse(json.dumps(GOOD).encode(), "from-header").message_id == "from-header"
    assert parse(json.dumps(GOOD).encode(), None).message_id == "w1"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b"{",
        b"{}x",
        b"\xef\xbb\xbf{}",
        b'{"a": "\xff"}',
        b'{"a": "\xed\xa0\x80"}',
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"type": "customer.created", "type": "customer.deleted"}',
        b'{"data": {"email": "a@example.jp", "email": "b@example.jp"}}',
        b"{'a': 1}",
        b'{"a": 01}',
        b'{"a": "\n"}',
        b"[" * 100_000,
        nested(NESTING_MAX + 1).encode(),
        "髙橋".encode("cp932"),
    ],
)
def test_hostile_bodies_are_malformed(body: bytes) -> None:
    """What is not strict JSON, or is nested too deeply, is refused as a whole, and no value is repeated."""
    with pytest.raises(Malformed) as error:
        parse(body, "w1")
    assert "example" not in str(error.value)


def test_nesting_up_to_the_limit() -> None:
    """The limit itself is still read."""
    assert parse(nested(NESTING_MAX).encode(), "w1").type == "customer.created"


@pytest.mark.parametrize("body", ["[]", '"text"', "1", "null", "true"])
def test_not_an_object(body: str) -> None:
    """A body that is no object is told so."""
    with pytest.raises(Invalid) as error:
        parse(body.encode(), "w1")
    assert fields(error) == ["body"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"id": ""}, "id"),
        ({"id": None}, "id"),
        ({"id": 7}, "id"),
        ({"id": "a" * 201}, "id"),
        ({"id": "a\u0000"}, "id"),
        ({"id": "a\n"}, "id"),
        ({"id": "鈴木"}, "id"),
        ({"id": "\ud800"}, "id"),
        ({"type": None}, "type"),
        ({"type": "customer.exploded"}, "type"),
        ({"type": "customer.created\u0000"}, "type"),
        ({"type": ["customer.created"]}, "type"),
        ({"type": {}}, "type"),
        ({"data": None}, "data"),
        ({"data": []}, "data"),
        ({"data": "a@example.jp"}, "data"),
    ],
)
def test_a_wrong_member_is_named(change: dict[str, object], field: str) -> None:
    """Each outer member that is wrong is named, and only it."""
    with pytest.raises(Invalid) as error:
        parse(json.dumps({**GOOD, **change}).encode(), None)
    assert fields(error) == [field]


def test_a_wrong_header_is_named() -> None:
    """An unusable id in the header is told as the header's; the body's does not stand in for it."""
    with pytest.raises(Invalid) as error:
        parse(json.dumps(GOOD).encode(), "a" * 201)
    assert fields(error) == ["webhook-id"]


def test_all_mistakes_are_told_at_once() -> None:
    """A sender sees everything that is wrong in one answer."""
    with pytest.raises(Invalid) as error:
        parse(b"{}", None)
    assert fields(error) == ["id", "type", "data"]


def test_longest_id() -> None:
    """An id of 200 printable characters is taken."""
    assert parse(json.dumps(GOOD).encode(), "~" * 199 + " ").message_id == "~" * 199 + " "


def test_the_digest_is_of_the_meaning() -> None:
    """Order of keys and white space make no other webhook; any other value of type, timestamp or data does."""
    first = parse(b'{"type":"customer.created","timestamp":null,"data":{"a":1,"b":{"c":"\\u9ad9","d":2}}}', "w1")
    again = parse('{ "data": {"b":{"d":2,"c":"髙"},"a":1},\n"type":"customer.created"}'.encode(), "w1")
    assert first.canonical() == again.canonical()
    for other in (
        b'{"type":"customer.updated","data":{"a":1,"b":{"c":"\\u9ad9","d":2}}}',
        b'{"type":"customer.created","timestamp":"x","data":{"a":1,"b":{"c":"\\u9ad9","d":2}}}',
        b'{"type":"customer.created","data":{"a":"1","b":{"c":"\\u9ad9","d":2}}}',
        b'{"type":"customer.created","data":{"a":true,"b":{"c":"\\u9ad9","d":2}}}',
    ):
        assert parse(other, "w1").canonical() != first.canonical()


def test_lone_surrogates_have_a_digest() -> None:
    """Half a surrogate pair in data is no reason to fail here: an opt-out does not look at it."""
    assert b"\\ud83d" in parse(b'{"type":"customer.deleted","data":{"name":"\\ud83d"}}', "w1").canonical()


# -- many at once ----------------------------------------------------------------------------------------------------


def test_an_array_keeps_its_order() -> None:
    """Entries come in the order of the array, the wrong ones in their places with their id where that is sound."""
    entries = [GOOD, {**GOOD, "id": "w2", "type": "x"}, {**GOOD, "id": ""}, 7, {**GOOD, "id": "w5"}]
    read = list(parse_array(json.dumps(entries).encode()))
    assert [type(entry) for entry in read] == [Webhook, Refused, Refused, Refused, Webhook]
    assert [entry.message_id for entry in read] == ["w1", "w2", None, None, "w5"]


def test_each_entry_has_its_own_depth() -> None:
    """An entry that is nested too deep is refused alone."""
    body = f"[{nested(NESTING_MAX + 1)},{json.dumps(GOOD)}]"
    deep, good = parse_array(body.encode())
    assert isinstance(deep, Refused)
    assert isinstance(good, Webhook)


def test_lines_are_read_one_by_one() -> None:
    """A line that is no JSON does not touch its neighbours; blank lines and CRLF do not matter."""
    good = json.dumps(GOOD).encode()
    read = list(parse_lines(b"\r\n".join([good, b"", b"{oops", b'{"a": "\xff"}', good, b""])))
    assert [type(entry) for entry in read] == [Webhook, Refused, Refused, Webhook]


@pytest.mark.parametrize("body", ["{}", "7", json.dumps(GOOD)])
def test_an_array_is_expected(body: str) -> None:
    """A body that is JSON but no array is refused whole."""
    with pytest.raises(Invalid):
        parse_array(body.encode())


def test_broken_json_is_malformed() -> None:
    """A body that should be an array and is no JSON is refused whole, before anything is read of it."""
    with pytest.raises(Malformed):
        parse_array(json.dumps([GOOD]).encode()[:-1])


def test_nothing_is_too_few() -> None:
    """No webhook at all is a mistake of the sender."""
    with pytest.raises(Invalid):
        parse_array(b"[]")
    with pytest.raises(Invalid):
        parse_lines(b"\n \n")


def test_limit_of_webhooks() -> None:
    """One more than the limit is too many, the limit itself is not."""
    assert len(list(parse_lines(b"{}\n" * WEBHOOKS_MAX))) == WEBHOOKS_MAX
    with pytest.raises(TooMany):
        parse_lines(b"{}\n" * (WEBHOOKS_MAX + 1))
    with pytest.raises(TooMany):
        parse_array(json.dumps([{}] * (WEBHOOKS_MAX + 1)).encode())
