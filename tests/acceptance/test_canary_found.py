"""The canary tests can fail: a canary is found in every way in which it could be written."""

import base64
import html
import json
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest

from tests.acceptance.canary import Canary, find

NAME = Canary("name", "金糸雀子")
PASSWORD = Canary("password", "kanari+Pw/9:5%?é")
CANARIES = (NAME, PASSWORD)

WRITTEN: dict[str, Callable[[str], bytes]] = {
    "as it is": str.encode,
    "in capitals": lambda text: text.upper().encode(),
    "in CP932": lambda text: text.encode("cp932", "replace"),
    "in UTF-16": lambda text: text.encode("utf-16"),
    "as JSON": lambda text: json.dumps(text).encode(),
    "as JSON in JSON": lambda text: json.dumps(json.dumps(text)).encode(),
    "as the repr of UTF-8": lambda text: repr(text.encode()).encode(),
    "as the repr of CP932": lambda text: repr(text.encode("cp932", "replace")).encode(),
    "as the repr of a repr": lambda text: repr(repr(text.encode())).encode(),
    "in a path": lambda text: quote(text, safe="").encode(),
    "in a form": lambda text: quote_plus(text).encode(),
    "in a path in CP932": lambda text: quote(text.encode("cp932", "replace")).encode(),
    "as JSON in a path": lambda text: quote(json.dumps(text)).encode(),
    "as decimal entities": lambda text: "".join(f"&#{ord(c)};" for c in text).encode(),
    "as hexadecimal entities": lambda text: "".join(f"&#x{ord(c):X};" for c in text).encode(),
    "escaped for HTML": lambda text: html.escape(text).encode(),
    "in hex": lambda text: text.encode().hex().encode(),
    "in hex, in capitals": lambda text: text.encode().hex().upper().encode(),
    "in base64": lambda text: base64.b64encode(text.encode()),
    "in base64 behind one byte": lambda text: base64.b64encode(b"a" + text.encode() + b"b"),
    "in base64 behind two bytes": lambda text: base64.b64encode(b"ab" + text.encode() + b"c"),
    "in base64 for URLs": lambda text: base64.urlsafe_b64encode(b"?>" + text.encode() + b">?"),
    "cut off": lambda text: (text[:10] + "...").encode(),
    "its end": lambda text: ("..." + text[-10:]).encode(),
}


@pytest.mark.parametrize("way", WRITTEN)
@pytest.mark.parametrize("canary", CANARIES, ids=lambda canary: canary.what)
def test_a_canary_is_found_however_it_is_written(canary: Canary, way: str) -> None:
    """In each encoding and behind each kind of escape, in the middle of other text, and no other is found with it."""
    told = b'{"event": "x", "told": "' + WRITTEN[way](canary.value) + b'"}\n'
    found = find(CANARIES, told)
    assert found
    assert {one.partition(":")[0] for one in found} == {canary.what}


def test_what_is_not_there_is_not_found() -> None:
    """Text of every kind, escapes that mean nothing among it, yields nothing."""
    told = b'{"a": "\\ud800\\u9ad9 \\xff%ZZ%81&#0;&nbsp;&#x110000; \\U00110000"}' + bytes(range(256)) * 4
    assert find(CANARIES, told) == []
