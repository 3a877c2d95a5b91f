"""JSON and XML read piece by piece: never more than the standard library's own readers would let through."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.vendors.elements import DEPTH_MAX, NAMES_MAX, TEXT_CHARS_MAX, Doubt, Element, elements

MANY = 1_000_000

Names = st.sampled_from(["success", "failure", "details", "detail", "a", "", "é髙"])
Scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from(["\ud800", "\ud83d\ude00", "\udc00\ud800", "\x00", '"\\/', "\u2028"]),
)
Trees = st.recursive(
    Scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(Names, inner, max_size=3)),
    max_leaves=12,
)


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object whose names differ."""
    if len(dict(pairs)) < len(pairs):
        raise ValueError("twice")
    return dict(pairs)


def refused(word: str) -> object:
    """Refuse NaN and Infinity, which are no JSON."""
    raise ValueError(word)


def flat(tree: object, name: str = "", *, listed: bool = False) -> Iterator[Element]:
    """Say what elements a tree is made of."""
    match tree:
        case dict():
            yield "start", name, None
            for key, value in tree.items():
                yield from flat(value, key)
            yield "end", name, None
        case list():
            if listed:
                raise ValueError("lists of lists")
            for value in tree:
                yield from flat(value, name, listed=True)
        case None | str() | int() | float():
            yield "leaf", name, tree


def by_the_book(text: str) -> list[Element] | None:
    """Read JSON with the standard library; None for what is wrong."""
    try:
        tree = json.loads(text, object_pairs_hook=once, parse_constant=refused)
        return list(flat(tree)) if isinstance(tree, dict | list) else None
    except (ValueError, TypeError, RecursionError):
        return None


def piece_by_piece(text: str, size: int) -> list[Element] | None:
    """Read a document that comes in pieces; None where there is doubt."""
    try:
        return list(elements(iter([text[at : at + size] for at in range(0, len(text), size)]), MANY))
    except Doubt:
        return None


@given(Trees, st.booleans(), st.sampled_from([None, 1]), st.integers(1, 9))
def test_json_is_what_the_standard_library_says(tree: object, ascii_only: bool, indent: int | None, size: int) -> None:  # noqa: FBT001 - drawn
    """Wherever the pieces end, and every character is as it was, halves of pairs among them."""
    text = json.dumps(tree, ensure_ascii=ascii_only, indent=indent)
    assert repr(piece_by_piece(text, size)) == repr(by_the_book(text))


Broken = st.tuples(
    Trees, st.integers(0, 200), st.integers(0, 3), st.text(alphabet='{}[]:,"\\0e+-.tun \x0b\x0c\x00a', max_size=3)
)


@given(Broken, st.integers(1, 9))
@example(([1.5, 1e300, -0.0], 0, 0, ""), 1)
def test_broken_json_is_doubted_whenever_the_standard_library_refuses_it(
    broken: tuple[object, int, int, str], size: int
) -> None:
    """A few characters are cut out or put in: what is read then is what the standard library reads, or nothing."""
    tree, at, gone, put = broken
    text = json.dumps(tree)
    text = text[:at] + put + text[at + gone :]
    assert repr(piece_by_piece(text, size)) == repr(by_the_book(text))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("OK", "neither JSON nor XML"),
        ("17", "neither JSON nor XML"),
        ('{"a":1', "broken off"),
        ('{"a":1,', "broken off"),
        ('{"a":', "broken off or not valid JSON"),
        ('{"a":"b', "broken off or not valid JSON"),
        ('{"a" 1}', "not valid JSON"),
        ('{"a":1}x', "something stands behind the end"),
        ('{"a":1}{"a":1}', "something stands behind the end"),
        ('{"a":1,"b":2,"a":1}', "a name stands twice, or there are too many"),
        ('{"b":{"a":1,"\\u0061":1}}', "a name stands twice, or there are too many"),
        ('{"a":NaN}', "broken off or not valid JSON"),
        ('{"a":-Infinity}', "broken off or not valid JSON"),
        ('{"a":' + "9" * 5_000 + "}", "broken off or not valid JSON"),
        ('{"a":[[1]]}', "a list of lists"),
        ('{"a":' * 100 + "1" + "}" * 100, "too deep"),
        ("[" * 100_000, "a list of lists"),
        ("<a>" * 100_000, "too deep"),
        ("<a>", "broken off or not valid XML"),
        ("<a/><b/>", "broken off or not valid XML"),
        ("<a>x<b/></a>", "text between elements"),
        ("<a><b/>x</a>", "text between elements"),
        ("<a>&b;</a>", "broken off or not valid XML"),
        ("<a>&#0;</a>", "broken off or not valid XML"),
        ("<!DOCTYPE a><a/>", "a document type or an entity"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', "a document type or an entity"),
        ('<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><a>&c;</a>', "a document type or an entity"),
        ('<!DOCTYPE a [<!ENTITY % b SYSTEM "http://example.jp/"> %b;]><a/>', "a document type or an entity"),
    ],
)
def test_what_cannot_be_read_beyond_doubt_says_why(text: str, why: str) -> None:
    """Each of these is something that another reader might have let through."""
    with pytest.raises(Doubt, match=f"^{why}$"):
        list(elements(iter([text]), MANY))


def test_limits_hold_to_the_last_one() -> None:
    """As deep, as long, with as many names as is allowed; not one more."""
    for good, bad in (
        ('{"a":' * DEPTH_MAX + "1" + "}" * DEPTH_MAX, '{"a":' * (DEPTH_MAX + 1) + "1" + "}" * (DEPTH_MAX + 1)),
        ("<a>" * DEPTH_MAX + "</a>" * DEPTH_MAX, "<a>" * (DEPTH_MAX + 1) + "</a>" * (DEPTH_MAX + 1)),
        (
            json.dumps(dict.fromkeys(map(str, range(NAMES_MAX)))),
            json.dumps(dict.fromkeys(map(str, range(NAMES_MAX + 1)))),
        ),
        (f"<a>{'x' * TEXT_CHARS_MAX}</a>", f"<a>{'x' * (TEXT_CHARS_MAX + 1)}</a>"),
    ):
        assert piece_by_piece(good, 65_536) is not None
        assert piece_by_piece(bad, 65_536) is None


def test_a_document_is_the_same_in_both_forms() -> None:
    """What is a list in JSON is an element again and again in XML; a namespace or an attribute does not matter."""
    as_json = '{"a":"1","b":{"c":[{"d":"x"},{"d":""}]}}'
    as_xml = '<r xmlns="urn:x"><a>1</a><b at="y">\n<c><d> x\n</d></c><!-- z --><c><d/></c></b></r>'
    found = list(elements(iter([as_xml]), MANY))
    assert [(kind, name if name != "r" else "", value) for kind, name, value in found] == list(
        elements(iter([as_json]), MANY)
    )


@pytest.mark.parametrize("declared", ["Shift_JIS", "Windows-31J", "EUC-JP", "UTF-16", "x-none", "ISO-2022-JP"])
def test_xml_is_decoded_already(declared: str) -> None:
    """What it declares of its encoding does not matter, not even one that the parser has never heard of."""
    text = f'<?xml version="1.0" encoding="{declared}" standalone="yes" ?><a>髙橋</a>'
    assert list(elements(iter([text]), MANY)) == [("leaf", "a", "髙橋")]


@pytest.mark.parametrize("text", ['{"a":[1,2]}', "<r><a>1</a><a>2</a></r>"])
def test_there_are_no_more_elements_than_are_asked_for(text: str) -> None:
    """A start, two leaves and an end are four: the one that is too many raises."""
    assert len(list(elements(iter([text]), 4))) == 4
    with pytest.raises(Doubt, match="more is said than can be meant"):
        list(elements(iter([text]), 3))
