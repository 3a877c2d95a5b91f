"""Text to Shift_JIS lines and back: folding, encoding, CSV records, addresses. Pure.

Theory of operation. The vendors' "SJIS" is CP932 (Windows-31J). A value goes through three steps: `fold` brings what
has a CP932 form under another code point into that form, `replace_unencodable` puts 〓 where nothing fits (or the
caller refuses what `unencodable` names), `record` writes one physical line. What `encode` takes, it takes exactly:
`decode` gives the same text back, and the bytes are those that Windows, PHP and glibc write.

Python's `cp932` differs from theirs in two ways, both repaired here. It writes 373 characters with NEC's codes (rows ED
and EE) where the others write IBM's (FA to FC), 髙 among them; and it takes private-use characters and U+0080 that mean
nothing to a reader. Ordinary text never sees a loop over its characters: one compiled search, then the codec.
"""

import csv
import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Final

_CODEC: Final = "cp932"  # named here only: `shift_jis` lacks ～ － ① ㈱ 髙, `shift_jis_2004` writes other bytes

GETA = "〓"
"""What stands for a character that has no CP932 form."""

ADDRESS_CHARS_MAX = 254
"""The longest address that fits SMTP's path of 256 octets with its angle brackets (RFC 5321, 4.5.3.1.3)."""

LOCAL_CHARS_MAX = 64
"""The longest part before the @ (RFC 5321, 4.5.3.1.1)."""

MARKED_CHARS_MAX = 31
"""A letter with more combining marks than the 30 of Unicode's stream-safe text is noise, and slow to normalise."""


# -- the repertoire --------------------------------------------------------------------------------------------------


def _double_bytes(leads: Sequence[int]) -> Iterator[tuple[str, bytes]]:
    """Yield every character with two bytes that the codec decodes, as (character, bytes)."""
    for lead in leads:
        for trail in range(0x40, 0xFD):
            code = bytes((lead, trail))
            try:
                yield code.decode(_CODEC), code
            except UnicodeDecodeError:
                continue


def _repertoire() -> frozenset[str]:
    """Collect what may be encoded: what CP932 bytes decode to, so that ¢ £ ¬ ‖ − 〜, which decode as ￠ ￡ …, are out.

    F0 to F9 are left out: they are private use (U+E000 to U+E757), as are the single bytes A0 and FD to FF (U+F8F0 …).
    """
    ascii_and_kana = bytes([*range(0x80), *range(0xA1, 0xE0)]).decode(_CODEC)
    leads = [*range(0x81, 0xA0), *range(0xE0, 0xF0), *range(0xFA, 0xFD)]
    return frozenset(ascii_and_kana).union(character for character, _ in _double_bytes(leads))


def _ibm_codes() -> dict[str, bytes]:
    """Map the 373 characters that the codec writes with NEC's codes to IBM's, which every other encoder writes."""
    return {c: code for c, code in _double_bytes(range(0xFA, 0xFD)) if c.encode(_CODEC)[0] in (0xED, 0xEE)}


def _any_of(characters: str) -> str:
    return "[" + re.escape(characters) + "]"


_ENCODABLE = _repertoire()
_IBM = _ibm_codes()
_IBM_RUN = re.compile("(" + _any_of("".join(_IBM)) + ")")
_UNENCODABLE = re.compile("[^" + re.escape("".join(sorted(_ENCODABLE))) + "]")
_NOT_PLAIN = re.compile("[^" + re.escape("".join(sorted(_ENCODABLE - _IBM.keys()))) + "]")


def encode(text: str) -> bytes:
    """Encode folded text: CP932 with IBM's codes. `decode` gives the same text back.

    Raises:
        UnicodeEncodeError: a character has no CP932 form, or only its twin of another code point has one: `fold` first.
    """
    if not _NOT_PLAIN.search(text):
        return text.encode(_CODEC)
    if found := _UNENCODABLE.search(text):
        raise UnicodeEncodeError(_CODEC, text, found.start(), found.end(), "no CP932 form")
    return b"".join(_IBM.get(part) or part.encode(_CODEC) for part in _IBM_RUN.split(text))


def decode(data: bytes) -> str:
    """Decode CP932, NEC's codes as well as IBM's.

    Raises:
        UnicodeDecodeError: the bytes are not CP932.
    """
    return data.decode(_CODEC)


# -- folding ---------------------------------------------------------------------------------------------------------

_MARKS = "\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\u3099\u309a\ufe20-\ufe2f"
_ZERO_WIDTH = (
    "\u00ad\u034f\u061c\u180e\ufeff"  # soft hyphen, grapheme joiner, Arabic letter mark, Mongolian separator, BOM
    "\u200b-\u200f\u202a-\u202e\u2060-\u206f"  # zero-width spaces and joiners, marks of direction, invisible operators
    "\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef"  # variation selectors
    "\U000e0001\U000e0020-\U000e007f"  # tags, which follow an emoji flag
)
_CONTROLS = "\x00-\x1f\x7f-\x9f"
_SPACES = "\t\n\r\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f"

_SAME_MEANING = {
    "¥": "￥",
    "‾": "￣",
    "—": "―",
    "–": "‐",
    "·": "・",
    "⋯": "…",
    "㋿": "令和",
    # The codec itself writes these as their twins; folded, so that a line decodes to what was folded.
    "¢": "￠",
    "£": "￡",
    "¬": "￢",
    "‖": "∥",
    "−": "－",
    "〜": "～",
    "\u00c5": "\u212b",  # Å: CP932 has the Ångström sign, canonically the same letter
}

_FOLDING = re.compile(f"[{_CONTROLS}{_SPACES}{_ZERO_WIDTH}{_MARKS}" + "".join(_SAME_MEANING) + "]")
_LINE_END = re.compile("\r\n")
_SPACE = re.compile(f"[{_SPACES}]")
_DROPPED = re.compile(f"[{_CONTROLS}{_ZERO_WIDTH}]")
_MARKED = re.compile(f"([^{_MARKS}])([{_MARKS}]+)")
_TWINS = str.maketrans(_SAME_MEANING)


def fold(text: str) -> str:
    """Fold what has a CP932 form of the same meaning into that form; the result is one physical line.

    CR, LF, TAB and the spaces of other scripts become a space (CR LF one), other control characters, zero-width
    characters and variation selectors go, combining marks are composed with the letter before them (か and U+3099 are
    が). Nothing else is normalised: NFC would change 塚 and 福, NFKC ① ㈱ ～. Folding twice is folding once.
    """
    if not _FOLDING.search(text):
        return text
    text = _DROPPED.sub("", _SPACE.sub(" ", _LINE_END.sub(" ", text)))
    return _MARKED.sub(_compose, text).translate(_TWINS)


def _compose(found: re.Match[str]) -> str:
    text = found[0]
    # A letter that NFC alone would change (塚) is left as it is.
    if len(text) > MARKED_CHARS_MAX or not unicodedata.is_normalized("NFC", found[1]):
        return text
    return unicodedata.normalize("NFC", text)


def unencodable(text: str) -> tuple[str, ...]:
    """Name the characters that have no CP932 form even when folded; each once, in their order."""
    if text.isascii():
        return ()
    return tuple(dict.fromkeys(_UNENCODABLE.findall(fold(text))))


def replace_unencodable(text: str) -> str:
    """Fold, and put 〓 for each character that still has no CP932 form."""
    return _UNENCODABLE.sub(GETA, fold(text))


_BROKEN = re.compile("[\x00\ud800-\udfff]")


def broken(text: str) -> bool:
    """Tell whether the text holds NUL or a lone surrogate, which JSON lets through and no database or codec takes."""
    return _BROKEN.search(text) is not None


csv.field_size_limit(16_777_216)  # the module's own limit of 131,072 is less than a webhook may hold in one value

# -- records ---------------------------------------------------------------------------------------------------------


def record(cells: Sequence[str]) -> bytes:
    """Write one CSV record: folded, every cell quoted, quotes doubled (never a backslash: 表 ends in its byte), CR LF.

    Raises:
        UnicodeEncodeError: a character has no CP932 form.
    """
    line = '","'.join([fold(cell).replace('"', '""') for cell in cells])
    return encode(f'"{line}"\r\n')


def split(data: bytes) -> tuple[str, ...]:
    """Read the cells of one record, with or without its line end.

    Raises:
        ValueError: it is not one record in CP932.
    """
    try:
        rows = list(csv.reader([decode(data).removesuffix("\r\n")], strict=True))
    except csv.Error as error:
        raise ValueError(f"not one CSV record: {error}") from None
    return tuple(rows[0]) if rows else ()


# A vendor that reads plain Shift_JIS sees a yen sign in byte 5C and an overline in 7E.
_LENIENT = str.maketrans({"￥": "\\", "￣": "~"})


def same_record(sent: bytes, content: str) -> bool:
    """Tell whether a vendor's repetition of a line fits the line as sent.

    The cells must be the same. How the vendor quotes, white space around a cell, and the code points that differ from
    one Shift_JIS decoder to the next (NEC and IBM codes, 〜 for ～, ¥ for a backslash) do not matter.
    """
    cells = [canonical(cell) for cell in split(sent)]
    line = fold(content).strip()
    try:
        repeated = [canonical(cell) for row in csv.reader([line], skipinitialspace=True) for cell in row]
    except csv.Error:
        repeated = []
    return repeated == cells or canonical(line) == ",".join(cells)  # the latter: repeated without quotes


def canonical(cell: str) -> str:
    """Bring a cell into the form in which it is compared with a vendor's repetition of it; see `same_record`."""
    return fold(cell).translate(_LENIENT).strip()


# -- addresses -------------------------------------------------------------------------------------------------------

_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_LOCAL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+")
_DOMAIN = re.compile(rf"(?:{_LABEL}\.)+(?:[A-Za-z]{{2,63}}|[Xx][Nn]--[A-Za-z0-9-]{{1,58}}[A-Za-z0-9])")


def address(text: str) -> str:
    """Give an e-mail address back without the white space around it, otherwise as received, its case too.

    Lenient before the @: Japanese carriers gave out addresses that RFC 5321 forbids (`foo..bar@docomo.ne.jp`,
    `foo.@ezweb.ne.jp`), and their owners are real.

    Raises:
        ValueError: what was expected; the text itself is not repeated.
    """
    text = text.strip()
    local, _, domain = text.partition("@")
    if not text.isascii():
        raise ValueError("an e-mail address of ASCII characters")
    if not local or not domain or "@" in domain:
        raise ValueError("an e-mail address with one @ and something on either side")
    if len(text) > ADDRESS_CHARS_MAX or len(local) > LOCAL_CHARS_MAX:
        raise ValueError(f"an e-mail address of at most {ADDRESS_CHARS_MAX} characters, {LOCAL_CHARS_MAX} before the @")
    if not _LOCAL.fullmatch(local):
        raise ValueError("an e-mail address with letters, digits and .!#$%&'*+/=?^_`{|}~- before the @")
    if not _DOMAIN.fullmatch(domain):
        raise ValueError("an e-mail address with a domain such as example.jp after the @")
    return text
