"""What relay.csvline promises: bytes that every Shift_JIS reader takes for what was meant, one line a record."""

import csv
import io
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import csvline

ASTRAL_SAMPLES = "𠮷𠀋𡌛🍣👍😀\U000e0100\U000f0000\U0010ffff"
"""Kanji beyond the BMP, emoji, a variation selector, private use and the last code point there is."""

EVERY_CHARACTER = [chr(code) for code in range(0x10000)] + list(ASTRAL_SAMPLES)

PRIVATE_USE = [chr(code) for code in (*range(0xE000, 0xE758), *range(0xF8F0, 0xF8F4))]

ANY_TEXT = st.text(
    alphabet=st.one_of(
        st.characters(),
        st.characters(categories=["Cs", "Mn", "Cc", "Cf", "Zs", "Zl", "Co"]),
        st.sampled_from('かはハﾊeAu塚表髙〜¥㋿\u3099\u309a\u0301\u030a\u0323\u200d\ufe0f\r\n\t",\\'),
    )
)


def encodable(character: str) -> bool:
    """Tell whether `encode` takes the character."""
    try:
        csvline.encode(character)
    except UnicodeEncodeError:
        return False
    return True


def decoded_row(lead: int) -> dict[str, bytes]:
    """Read a row of CP932's table from the decoder: character to bytes."""
    row = {}
    for trail in range(0x40, 0xFD):
        code = bytes((lead, trail))
        character = code.decode("cp932", errors="replace")
        if "\ufffd" not in character:
            row[character] = code
    return row


# -- encoding --------------------------------------------------------------------------------------------------------


def test_what_is_encoded_decodes_to_itself() -> None:
    """Every character that `encode` takes comes back from CP932 as the same character, over the whole BMP."""
    taken = [character for character in EVERY_CHARACTER if encodable(character)]
    assert len(taken) == 7517  # 94 rows with extensions, kana and ASCII; a lost row would make the test say nothing
    assert [c for c in taken if csvline.encode(c).decode("cp932") != c] == []
    assert [c for c in taken if csvline.decode(csvline.encode(c)) != c] == []


def test_a_text_is_encoded_as_its_characters_are() -> None:
    """A text's bytes are its characters' bytes joined, wherever NEC's 373 stand among the others."""
    taken = [character for character in EVERY_CHARACTER if encodable(character)]
    shuffled = taken[::2] + taken[::-1]
    assert csvline.encode("".join(shuffled)) == b"".join(map(csvline.encode, shuffled))


def test_nec_selected_characters_get_ibm_codes() -> None:
    """The 373 characters of the NEC rows ED and EE that IBM's rows have too are written with IBM's codes."""
    nec = decoded_row(0xED) | decoded_row(0xEE)
    ibm = decoded_row(0xFA) | decoded_row(0xFB) | decoded_row(0xFC)
    expected = {character: ibm[character] for character in nec if character in ibm and character != "￢"}
    assert len(expected) == 373
    assert {character: csvline.encode(character) for character in expected} == expected
    assert csvline.encode("￢") == b"\x81\xca"  # in both rows, but JIS X 0208 has it first


@pytest.mark.parametrize(
    ("character", "code"),
    [("髙", "fbfc"), ("﨑", "fab1"), ("ⅰ", "fa40"), ("Ⅰ", "8754"), ("㈱", "878a"), ("№", "8782"), ("∵", "81e6")],
)
def test_codes_that_iconv_writes(character: str, code: str) -> None:
    """Where CP932 has two codes for a character, relay writes the one that glibc's iconv writes (tried by hand)."""
    assert csvline.encode(character).hex() == code


def test_no_byte_leaves_the_rows_that_others_read() -> None:
    """No code lies in NEC's rows ED and EE or in the private rows F0 to F9."""
    leads = {csvline.encode(c)[0] for c in EVERY_CHARACTER if encodable(c) and len(csvline.encode(c)) == 2}
    assert leads == {*range(0x81, 0x85), 0x87, *range(0x88, 0xA0), *range(0xE0, 0xEB), *range(0xFA, 0xFD)}


def test_no_trail_byte_means_something_in_csv() -> None:
    """No second byte is a quote, comma, CR or LF, so a reader that counts bytes finds the same cells."""
    trails = {csvline.encode(c)[1] for c in EVERY_CHARACTER if encodable(c) and len(csvline.encode(c)) == 2}
    assert trails.isdisjoint(b'",\r\n')
    assert ord("\\") in trails  # as 表 has it: the reason why nothing is escaped with a backslash


@pytest.mark.parametrize("character", [*"é𠮷😀¥‾—–·⋯㋿¢£¬‖−〜\ufeff\xa0\x80", "\ud800", *PRIVATE_USE[::97]])
def test_encode_refuses_what_has_no_form(character: str) -> None:
    """What CP932 has no code for is refused, and so is what Python's codec wrongly takes or would change."""
    with pytest.raises(UnicodeEncodeError) as refused:
        csvline.encode(f"表{character}髙")
    assert (refused.value.start, refused.value.end) == (1, 2)


def test_private_use_and_surrogates_are_refused_one_by_one() -> None:
    """Not one private-use character and not one lone surrogate gets through, though the codec takes the former."""
    surrogates = [chr(code) for code in range(0xD800, 0xE000)]
    assert [hex(ord(c)) for c in [*PRIVATE_USE, *surrogates, "\x80"] if encodable(c)] == []


def test_decode_takes_nec_and_ibm_codes() -> None:
    """A vendor may answer with either code: both read as the same character."""
    assert csvline.decode(b"\xee\xe0\xfb\xfc") == "髙髙"


def test_decode_refuses_other_bytes() -> None:
    """Bytes that are no CP932 are an error, not a guess."""
    with pytest.raises(UnicodeDecodeError):
        csvline.decode(b"\x8eR\x93")


# -- folding ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_text", "folded"),
    [
        ("¥", "￥"),
        ("‾", "￣"),
        ("—", "―"),
        ("–", "‐"),
        ("\xa0", " "),
        ("·", "・"),
        ("⋯", "…"),
        ("㋿元年", "令和元年"),
        ("10〜20", "10～20"),
        ("¢£¬‖−", "￠￡￢∥－"),
        ("Åsa", "\u212bsa"),
        ("A\u030asa", "\u212bsa"),
        ("が", "が"),
        ("は\u309a", "ぱ"),
        ("か\u200b\u3099", "が"),
        ("и\u0306", "й"),
        ("cafe\u0301", "café"),
        ("\ufeff山\u200b田\u200d", "山田"),
        ("辻\U000e0100 葛\ufe00", "辻 葛"),
        ("a\r\nb\rc\nd\te", "a b c d e"),
        ("a\n\rb", "a  b"),
        ("a\x00\x07\x0b\x0c\x1f\x7f\x80\x85\x9fb", "ab"),
        ("a\u2028b\u2029c\u3000d", "a b c\u3000d"),
    ],
)
def test_folding_keeps_the_meaning(given_text: str, folded: str) -> None:
    """What has a CP932 form under another code point gets it; marks are composed, controls and zero width go."""
    assert csvline.fold(given_text) == folded


@pytest.mark.parametrize("text", ["塚福①㈱～", "神\ufa19", "ﾊﾟﾊﾞｶﾞ", "ⅳ№℡㍻㌢", "Ａ１！", "表ソ能十予申", "髙﨑"])
def test_nothing_else_is_normalised(text: str) -> None:
    """Characters that NFC or NFKC would change are left as they are, and are encoded."""
    assert csvline.fold(text) == text
    assert csvline.decode(csvline.encode(text)) == text
    assert csvline.fold(f"{text}か\u3099") == f"{text}が"


def test_a_letter_that_nfc_changes_is_kept_before_a_mark() -> None:
    """A stray mark after 塚 (U+FA10) does not turn it into another kanji."""
    assert csvline.fold("\ufa10\u3099") == "\ufa10\u3099"


def test_every_encodable_character_but_controls_stays_itself() -> None:
    """Folding changes nothing of what has a CP932 form already."""
    printable = [c for c in EVERY_CHARACTER if encodable(c) and unicodedata.category(c) != "Cc"]
    assert [c for c in printable if csvline.fold(c) != c] == []


def test_endless_marks_are_left_alone() -> None:
    """A letter under thousands of marks costs no time and is composed with none of them."""
    noise = "e" + "\u0301\u0323" * 2000
    assert csvline.fold(noise) == noise


@given(ANY_TEXT)
def test_folding_twice_is_folding_once(text: str) -> None:
    """The result of folding is folded."""
    assert csvline.fold(csvline.fold(text)) == csvline.fold(text)


# -- what has no form ------------------------------------------------------------------------------------------------


def test_unencodable_names_each_character_once_in_order() -> None:
    """What is left after folding is named, in the order of the text; what folding saves is not."""
    assert csvline.unencodable("𠮷野家¥éか\u3099𠮷\ue000") == ("𠮷", "é", "\ue000")
    assert csvline.unencodable("e\u0301") == ("é",)
    assert csvline.unencodable("山田 髙〜㋿\r\n\ufeff") == ()
    assert csvline.unencodable("ascii\x00") == ()


def test_geta_stands_for_each_character() -> None:
    """〓 takes the place of every character without a form; a letter with its mark is one character."""
    assert csvline.replace_unencodable("𠮷野 e\u0301 👍🏽 〜") == "〓野 〓 〓〓 ～"


@given(ANY_TEXT)
def test_anything_replaced_is_one_line(text: str) -> None:
    """Whatever comes in, what is folded and replaced has nothing unencodable and makes one physical line."""
    replaced = csvline.replace_unencodable(text)
    assert csvline.unencodable(replaced) == ()
    line = csvline.record([replaced, replaced])
    assert line.count(b"\n") == line.count(b"\r") == 1
    assert line.endswith(b'"\r\n')
    assert csvline.split(line) == (replaced, replaced)


@given(ANY_TEXT)
def test_unencodable_and_encode_agree(text: str) -> None:
    """`unencodable` is empty exactly when the folded text can be encoded."""
    assert (csvline.unencodable(text) == ()) == all(encodable(character) for character in csvline.fold(text))


@pytest.mark.parametrize(
    ("text", "found"), [("山\x00田", True), ("\ud842", True), ("\udfb7山", True), ("𠮷\x01", False)]
)
def test_broken_text_is_found(text: str, found: bool) -> None:  # noqa: FBT001 - a parametrised expectation
    """NUL and halves of surrogate pairs are found; a whole pair is a character like any other."""
    assert csvline.broken(text) is found


# -- records ---------------------------------------------------------------------------------------------------------


def test_record_quotes_every_cell_and_doubles_quotes() -> None:
    """Golden bytes: quotes around each cell, doubled within, no backslash, CR LF at the end."""
    assert csvline.record(["表", 'a"b', "", "1,2"]) == b'"\x95\\","a""b","","1,2"\r\n'


def test_characters_ending_in_a_backslash_survive() -> None:
    """表ソ能十予申 end in byte 5C; in front of the closing quote and of a doubled one they stay what they are."""
    cells = tuple(f'{c}"{c}' for c in "表ソ能十予申") + tuple("表ソ能十予申")
    line = csvline.record(cells)
    assert line.count(b'\\"') == 3 * 6
    assert csvline.split(line) == cells
    assert tuple(next(csv.reader(io.StringIO(line.decode("cp932"), newline="")))) == cells


def test_record_is_one_line_even_unfolded() -> None:
    """A line break, a tab or a wave dash in a cell (a header, say) does no harm: `record` folds."""
    assert csvline.record(["a\r\nb\tc", "〜"]) == b'"a b c","\x81`"\r\n'


def test_record_refuses_what_was_not_replaced() -> None:
    """A character without a form is an error here; whoever renders has replaced or refused it before."""
    with pytest.raises(UnicodeEncodeError):
        csvline.record(["𠮷"])


def test_split_takes_lines_with_and_without_their_end() -> None:
    """A line reads the same with its CR LF and without."""
    assert csvline.split(b'"a","","b""c"\r\n') == csvline.split(b'"a","","b""c"') == ("a", "", 'b"c')
    assert csvline.split(b"") == ()


@pytest.mark.parametrize("line", [b'"a', b'"a"b"', b'"\x95"'])
def test_split_refuses_what_is_no_record(line: bytes) -> None:
    """A quote that is not closed or not doubled, or half a character, is a ValueError."""
    with pytest.raises(ValueError, match=r"CSV record|decode"):
        csvline.split(line)


SENT = csvline.record(["配信中", "髙～\\~", "taro@example.jp", "", 'a"b,c'])


@pytest.mark.parametrize(
    "content",
    [
        '"配信中","髙～\\~","taro@example.jp","","a""b,c"',
        '"配信中","髙～\\~","taro@example.jp","","a""b,c"\r\n',
        ' "配信中", "髙～\\~" ,"taro@example.jp ","","a""b,c" ',
        '配信中,髙～\\~,taro@example.jp,,"a""b,c"',
        '配信中,髙～\\~,taro@example.jp,,a"b,c',
        '"配信中","髙〜¥‾","taro@example.jp","","a""b,c"',
        b'"\x94z\x90M\x92\x86","\xee\xe0\x81`\\~","taro@example.jp","","a""b,c"'.decode("cp932"),
    ],
)
def test_the_same_record_is_known_again(content: str) -> None:
    """A vendor's repetition fits however it quotes, trims and decodes."""
    assert csvline.same_record(SENT, content)


@pytest.mark.parametrize(
    "content",
    [
        "",
        '"配信中","髙～\\~","jiro@example.jp","","a""b,c"',
        '"配信中","高～\\~","taro@example.jp","","a""b,c"',
        '"配信中","髙～\\~","taro@example.jp","a""b,c"',
        '"配信中","髙～\\~","taro@example.jp","","a""b,c",""',
        '"髙～\\~","配信中","taro@example.jp","","a""b,c"',
        "x" * 200_000,
    ],
)
def test_another_record_does_not_fit(content: str) -> None:
    """Another value, a missing, added or moved cell, or something else altogether is not the line as sent."""
    assert not csvline.same_record(SENT, content)


# -- addresses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "taro@example.jp",
        "Taro.Yamada+news@Mail.Example.CO.JP",
        "foo..bar@docomo.ne.jp",
        "foo.@ezweb.ne.jp",
        ".foo.-_/?=@example.jp",
        "a@b.xn--wgv71a119e",
        "0@123.example.com",
        "o'brien@example.com",
        "l" * 64 + "@example.jp",
    ],
)
def test_addresses_of_real_customers_are_taken(text: str) -> None:
    """What Japanese carriers gave out is taken, and comes back as it was but for the white space around it."""
    assert csvline.address(f" \t{text}\u3000\r\n") == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "one @"),
        ("taro", "one @"),
        ("@example.jp", "one @"),
        ("taro@", "one @"),
        ("taro@example.jp@example.com", "one @"),
        ("taro@@example.jp", "one @"),
        ("ｔａｒｏ@example.jp", "ASCII"),
        ("taro@例え.jp", "ASCII"),
        ("taro\u200b@example.jp", "ASCII"),
        ("taro\ud800@example.jp", "ASCII"),
        ("ta ro@example.jp", "before the @"),
        ("ta\tro@example.jp", "before the @"),
        ("ta\x00ro@example.jp", "before the @"),
        ('"ta,ro"@example.jp', "before the @"),
        ("taro,jiro@example.jp", "before the @"),
        ("<taro@example.jp", "before the @"),
        ("taro@example", "domain"),
        ("taro@.example.jp", "domain"),
        ("taro@example..jp", "domain"),
        ("taro@example.jp.", "domain"),
        ("taro@-example.jp", "domain"),
        ("taro@example-.jp", "domain"),
        ("taro@exa_mple.jp", "domain"),
        ("taro@exam ple.jp", "domain"),
        ("taro@example.jp>", "domain"),
        ("taro@192.0.2.1", "domain"),
        ("taro@[192.0.2.1]", "domain"),
        ("taro@" + "d" * 64 + ".jp", "domain"),
        ("taro@example.jp\nbcc", "domain"),
        ("l" * 65 + "@example.jp", "64 before"),
        ("taro@" + "example." * 31 + "jp", "254"),
    ],
)
def test_other_texts_are_no_addresses(text: str, expected: str) -> None:
    """What cannot be mailed is refused with what was expected, never with the text itself."""
    with pytest.raises(ValueError, match=expected) as refused:
        csvline.address(text)
    assert not text or text not in str(refused.value).replace("example.jp after the @", "")


def test_the_longest_address_is_taken() -> None:
    """254 characters are taken, 255 are not."""
    domain = ".".join(["d" * 60] * 3) + ".jp"
    longest = "l" * (254 - len(domain) - 1 - 5) + "@mail." + domain
    assert len(longest) == 254
    assert csvline.address(longest) == longest
    with pytest.raises(ValueError, match="254"):
        csvline.address("l" + longest)
