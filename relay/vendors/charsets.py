"""Which encoding a vendor's reply is in: what it says of itself is a hint, what its bytes allow decides.

The vendors document UTF-8 and write Shift_JIS all the same, or the reverse, and a page made by a proxy is in neither.
"""

import codecs
import re
from collections.abc import Iterator
from typing import Final

CHUNK_BYTES: Final = 65_536
"""Decoded at once: memory does not grow with the reply."""

_LOOKED_AT_BYTES = 1_024  # where an XML declaration stands

_JAPANESE = "cp932"  # what "Shift_JIS" is in practice: see `relay.csvline`

_CODECS = {
    **dict.fromkeys(
        ("shiftjis", "sjis", "xsjis", "windows31j", "mskanji", "cswindows31j", "cp932", "ms932"), _JAPANESE
    ),
    **dict.fromkeys(("eucjp", "xeucjp", "ujis", "cseucpkdfmtjapanese"), "euc_jp"),
    **dict.fromkeys(("eucjpms", "cp51932", "eucjpwin"), "euc_jp"),
}
"""The declared names that are believed where the bytes allow it, without `-` and `_`. UTF-8 is tried before any."""

_IN_TYPE = re.compile(r'charset\s*=\s*"?([\w.:-]+)', re.IGNORECASE)
_IN_XML = re.compile(rb"""^\s*<\?xml[^>]{0,200}?\sencoding\s*=\s*["']([\w.:-]+)""", re.IGNORECASE)


def texts(body: bytes, content_type: str) -> Iterator[str]:
    """Decode a reply piece by piece, without a byte-order mark. Never raises: what fits no encoding is replaced."""
    fitting = next((name for name in _candidates(body, content_type) if _fits(body, name)), None)
    yield from _decoded(body, fitting or "utf-8-sig", "strict" if fitting else "replace")


def _candidates(body: bytes, content_type: str) -> Iterator[str]:
    """Name the encodings to try, the likeliest first.

    UTF-8 is tried before what is declared, because text in another encoding is hardly ever valid in it by chance.
    """
    if body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        yield "utf-16"
    elif body[:1] == b"\0" or body[1:2] == b"\0":  # the first character of JSON or XML is ASCII
        yield "utf-16-be" if body[:1] == b"\0" else "utf-16-le"
    yield "utf-8-sig"
    in_type = _IN_TYPE.search(content_type)
    in_xml = _IN_XML.search(body[:_LOOKED_AT_BYTES])
    for declared in (in_type and in_type[1], in_xml and in_xml[1].decode("ascii", "replace")):
        if declared and (name := _CODECS.get(re.sub("[^a-z0-9]", "", declared.lower()))):
            yield name
    yield _JAPANESE


def _fits(body: bytes, name: str) -> bool:
    try:
        for _ in _decoded(body, name, "strict"):
            pass
    except UnicodeDecodeError:
        return False
    return True


def _decoded(body: bytes, name: str, errors: str) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder(name)(errors)
    for start in range(0, len(body), CHUNK_BYTES):
        yield decoder.decode(body[start : start + CHUNK_BYTES])
    yield decoder.decode(b"", final=True)
