"""Strict JSON and its limits: what is read, and what is refused before anybody asks what it means."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.events import TYPES
from relay.receive.limits import Limits
from relay.receive.parse import Malformed, Types, Webhook, asks_opt_out, check, may_exceed, sound_id, strict_json

LIMITS = Limits(nesting_max=6, string_characters_max=1_000)


def nested(levels: int) -> bytes:
    """Lists in lists, so many."""
    return b"[" * levels + b"]" * levels


def checked(body: bytes, limits: Limits = LIMITS) -> object:
    """Read a body as the forms do."""
    value = strict_json(body)
    if may_exceed(body, limits):
        check(value, limits)
    return value


MALFORMED = {
    "nothing": b"",
    "white space": b"   ",
    "cut off": b"{",
    "something behind": b"{}x",
    "two values": b"{}{}",
    "a byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16 with a mark": "{}".encode("utf-16"),
    "UTF-16, little endian": '{"a": 1}'.encode("utf-16-le"),
    "UTF-16, big endian": '{"a": 1}'.encode("utf-16-be"),
    "UTF-32": '{"a": 1}'.encode("utf-32"),
    "CP932": '{"a": "髙橋"}'.encode("cp932"),
    "a byte that is no UTF-8": b'{"a": "\xff"}',
    "a surrogate in UTF-8": b'{"a": "\xed\xa0\x80"}',
    "an overlong NUL": b'{"a": "\xc0\x80"}',
    "beyond Unicode": b'{"a": "\xf4\x90\x80\x80"}',
    "NUL": b"\x00",
    "a bare NUL in a string": b'{"a": "\x00"}',
    "a bare line feed in a string": b'{"a": "\n"}',
    "NaN": b'{"a": NaN}',
    "Infinity": b'{"a": Infinity}',
    "-Infinity": b'{"a": -Infinity}',
    "a float too large": b'{"a": 1e999}',
    "a float too small": b'{"a": -1e999}',
    "a whole number too long": b'{"a": ' + b"9" * 4001 + b"}",
    "a whole number far too long": b"-" + b"9" * 100_000,
    "a leading zero": b'{"a": 01}',
    "hexadecimal": b'{"a": 0x10}',
    "a point alone": b'{"a": 1.}',
    "single quotes": b"{'a': 1}",
    "a comma too many": b'{"a": 1,}',
    "a comment": b'{"a": 1} // one',
    "half an escape": b'{"a": "\\u12"}',
    "a key twice": b'{"type": "customer.created", "type": "customer.deleted"}',
    "a key twice, further in": b'{"data": {"email": "a@example.jp", "email": "b@example.jp"}}',
    "a key twice, once escaped": b'{"data": 1, "d\\u0061ta": 2}',
    "very deep": b"[" * 100_000,
    "very deep and closed": nested(100_000),
    "very deep objects": b'{"a":' * 100_000,
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_hostile_bodies_are_malformed(body: bytes) -> None:
    """What is not strict JSON is refused as a whole, and no value is repeated."""
    with pytest.raises(Malformed) as error:
        strict_json(body)
    assert "example" not in str(error.value)
    assert error.value.limit == ("nesting" if b"[" * 100 in body or b'{"a":' * 100 in body else None)


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"\r\n {} \t", {}),
        (b'{"a": "\\u0000"}', {"a": "\0"}),
        (b'{"a": "\\ud800"}', {"a": "\ud800"}),
        (b'{"\\udfff": 1}', {"\udfff": 1}),
        ('{"a": "髙\u2028𠮷"}'.encode(), {"a": "髙\u2028𠮷"}),
        (b'{"a": {"b": 1}, "b": 2}', {"a": {"b": 1}, "b": 2}),
        (b"[1e308, -0.0, 5e-324]", [1e308, -0.0, 5e-324]),
        (b"9" * 4000, int("9" * 4000)),
    ],
)
def test_what_is_strict_json(body: bytes, value: object) -> None:
    """JSON that can be understood in one way is read, NUL and half pairs included: who reads a field looks for them."""
    assert strict_json(body) == value


@given(st.binary(max_size=200))
def test_any_bytes_are_json_or_malformed(body: bytes) -> None:
    """Whatever comes, there is a value or one kind of error."""
    with contextlib.suppress(Malformed):
        value = strict_json(body)
        assert json.loads(body) == value


# -- limits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("made", [nested, lambda levels: b'{"a":' * levels + b"1" + b"}" * levels])
def test_nesting_up_to_the_limit(made: object) -> None:
    """The limit itself is still read, one level more is not."""
    assert callable(made)
    assert checked(made(6))
    with pytest.raises(Malformed) as error:
        checked(made(7))
    assert error.value.limit == "nesting"
    assert "6 levels" in str(error.value)


def test_many_brackets_are_no_nesting() -> None:
    """Only depth counts, not how many lists there are."""
    assert checked(b"[" + b"[]," * 100 + b"[]]")


@pytest.mark.parametrize(
    "made",
    [
        lambda text: {"data": {"name": text}},
        lambda text: {text: 1},
        lambda text: [[[[text]]]],
        lambda text: text,
    ],
    ids=["value", "key", "list", "alone"],
)
@pytest.mark.parametrize("character", ["a", "髙", '"', "\ud800"])
def test_long_strings(made: object, character: str) -> None:
    """A string may be as long as the limit, in characters, and not longer, wherever it stands and however written."""
    assert callable(made)
    for ascii_only in (True, False):
        written = [
            json.dumps(made(character * length), ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
            for length in (1_000, 1_001)
        ]
        if character == "\ud800" and not ascii_only:
            continue
        assert checked(written[0])
        with pytest.raises(Malformed) as error:
            checked(written[1])
        assert error.value.limit == "string_characters"


def test_most_bodies_need_no_second_look() -> None:
    """Only a body with so many brackets, or so many bytes, can hold what is too deep or too long."""
    assert not may_exceed(nested(6), LIMITS)
    assert may_exceed(nested(7), LIMITS)
    assert not may_exceed(b'"' + b"a" * 998 + b'"', LIMITS)
    assert may_exceed(b'"' + b"a" * 999 + b'"', LIMITS)


def test_the_deepest_nesting_that_can_be_set() -> None:
    """The largest limit that the settings allow is far from what the reader and the digest can bear."""
    body = b'{"data":' + nested(499) + b"}"
    value = checked(body, Limits(nesting_max=500))
    assert Webhook("w1", "customer.created", None, {"a": value}).canonical()


# -- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "sound"),
    [
        ("w", True),
        ("~" * 199 + " ", True),
        ("", False),
        ("a" * 201, False),
        ("a\n", False),
        ("a\0", False),
        ("鈴木", False),
        ("\ud800", False),
        (7, False),
        (None, False),
        (["w"], False),
    ],
)
def test_sound_ids(given: object, sound: bool) -> None:  # noqa: FBT001 - a table's column
    """An id is 1 to 200 printable ASCII characters."""
    assert sound_id(given) == (given if sound else None)


def test_a_sources_own_names_come_first() -> None:
    """What a source calls a type is looked up before relay's own names, which hold beside them."""
    types = Types({"customers/delete": "customer.deleted", "customer.created": "customer.updated"})
    assert types.find("customers/delete") == "customer.deleted"
    assert types.find("customer.created") == "customer.updated"
    assert types.find("customer.stopped") == "customer.stopped"
    unknown: object
    for unknown in ("customers/create", "", None, 7, ["customer.stopped"], {}):
        assert types.find(unknown) is None
    assert types.expected.startswith("expected one of customers/delete, customer.created, ")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("com.example.crm.customer.created", "customer.created"),
        ("customer.deleted", "customer.deleted"),
        (".customer.deleted", "customer.deleted"),
        ("com.example.gone", "customer.deleted"),
        ("com.example.customer.created.v1", None),
        ("mycustomer.created", None),
        ("com.example.Customer.Created", None),
        ("created", None),
        ("com.example.back.gone", None),
        ("", None),
        (7, None),
    ],
)
def test_the_end_of_a_name(name: object, found: str | None) -> None:
    """A name that ends in one of relay's types is that type; a source's own names are whole ones."""
    assert Types({"com.example.gone": "customer.deleted"}).find_end(name) == found


def test_which_types_are_opt_outs() -> None:
    """Deleting, stopping and banning are; what cannot be told is not counted as one."""
    assert {kind for kind in TYPES if asks_opt_out(kind)} == {"customer.deleted", "customer.stopped", "customer.banned"}
    assert not asks_opt_out(None)


# -- the digest ------------------------------------------------------------------------------------------------------


def test_the_digest_is_of_what_the_sender_said() -> None:
    """A repeat is a repeat, whatever the settings translate its type to by then."""
    data: dict[str, object] = {"email": "a@example.jp"}
    first = Webhook("w1", "customer.created", None, data, "customers/create")
    again = Webhook("w1", "customer.updated", None, data, "customers/create")
    assert first.canonical() == again.canonical()
    assert first.canonical() != Webhook("w1", "customer.created", None, data, "customers/made").canonical()
