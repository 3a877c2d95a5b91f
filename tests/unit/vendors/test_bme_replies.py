"""Replies of blastmail and blaynmail in all the shapes that may come, and in those that must not be believed."""

import json
import re
import zlib
from collections.abc import Iterator
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import csvline
from relay.batches import Busy, Delivered, LineRejection, Misconfigured, Outcome, Refused, Unknown
from relay.vendors import Claim, Counted
from relay.vendors.bme import Bme
from relay.vendors.bme_counting import WRAPPERS
from relay.vendors.charsets import texts
from tests.unit.vendors.made import bme_login, reply, sent
from tests.unit.vendors.test_samples import SAMPLES, UPLOADS, claimed, line

LOGIN = bme_login()


def read(body: str | bytes, status: int = 200, content_type: str = "", rows: int = 2) -> Outcome | Counted:
    """Read an answer to a file of two rows."""
    return Bme().read(reply(body, status, content_type), sent(LOGIN, rows))


def doubted(body: str | bytes, rows: int = 2) -> str:
    """Read an answer that must not be believed, and say why it is not."""
    outcome = read(body, rows=rows)
    assert isinstance(outcome, Unknown), outcome
    assert not outcome.timed_out
    return outcome.reason.partition("; ")[2]


# -- shapes ----------------------------------------------------------------------------------------------------------

ONE, OTHER = Claim(2, '"a@example.jp"', "不正"), Claim(3, '"b@example.jp"', "不正")
DETAIL = '{"lineNumber":2,"content":"\\"a@example.jp\\"","message":"不正"}'
XML_DETAIL = '<detail><lineNumber>2</lineNumber><content>"a@example.jp"</content><message>不正</message></detail>'
XML_TWO_NUMBERS = XML_DETAIL.replace("</lineNumber>", "</lineNumber><lineNumber>3</lineNumber>")


@pytest.mark.parametrize("wrapper", sorted(WRAPPERS))
def test_counts_may_be_wrapped(wrapper: str) -> None:
    """In an object, in a list of one, twice, and so in XML."""
    inner = f'{{"success":"1","failure":1,"details":{{"detail":{DETAIL}}}}}'
    as_xml = f"<success>1</success><failure>1</failure><details>{XML_DETAIL}</details>"
    for body in (
        f'{{"{wrapper}":{inner}}}',
        f'{{"{wrapper}":[{inner}]}}',
        f'{{"result":{{"{wrapper}":{inner}}}}}',
        f'[{{"{wrapper}":{inner}}}]',
        f"<r><{wrapper}>{as_xml}</{wrapper}></r>",
        f"<{wrapper}>{as_xml}</{wrapper}>",
    ):
        assert read(body) == Counted(1, 1, (ONE,)), body


@pytest.mark.parametrize(
    "details",
    ["", ',"details":null', ',"details":""', ',"details":[]', ',"details":{}']
    + [f',"details":{{"detail":{nothing}}}' for nothing in ("null", '""', "[]", "{}", "[{}]", "[null]")],
)
def test_no_details_are_none(details: str) -> None:
    """Missing, null, empty in every way: nothing was refused; and where something was, that does not add up."""
    assert read(f'{{"success":2,"failure":0{details}}}') == Counted(2, 0, ())
    counted = read(f'{{"success":1,"failure":1{details}}}')
    assert isinstance(counted, Counted)
    assert isinstance(Bme().judge(counted, sent(LOGIN), {}), Unknown)


@pytest.mark.parametrize("details", ["", "<details/>", "<details></details>", "<details>\n <detail/>\n</details>"])
def test_no_details_are_none_in_xml(details: str) -> None:
    """As in JSON."""
    assert read(f"<contact><success>2</success><failure>0</failure>{details}</contact>") == Counted(2, 0, ())


def test_an_entity_of_xml_itself_is_a_character() -> None:
    """`&amp;`, `&quot;` and numbers are how XML writes characters; CDATA as well."""
    content = '<![CDATA["a&b@example.jp"]]>'
    for written in ("&quot;a&amp;b@example.jp&#34;", content):
        detail = XML_DETAIL.replace('"a@example.jp"', written)
        counted = read(f"<c><success>1</success><failure>1</failure><details>{detail}</details></c>")
        assert counted == Counted(1, 1, (Claim(2, '"a&b@example.jp"', "不正"),))


def test_a_line_with_two_messages_is_one_line() -> None:
    """XML converters make a list of an element that comes twice."""
    detail = DETAIL.replace('"不正"', '["不正","長すぎます"]')
    wanted = Counted(1, 1, (Claim(2, '"a@example.jp"', "不正 / 長すぎます"),))
    assert read(f'{{"success":1,"failure":1,"details":{{"detail":{detail}}}}}') == wanted


def test_the_order_of_members_does_not_matter() -> None:
    """Details may come before the counts, and what is not known does not matter."""
    body = f'{{"time":1.5,"details":{{"detail":[{DETAIL}],"n":1}},"failure":1,"more":{{"x":[]}},"success":1}}'
    assert read(body) == Counted(1, 1, (ONE,))


# -- what must not be believed ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "count",
    [
        "-1",
        "1.0",
        "1e0",
        "true",
        "null",
        '""',
        '" "',
        '"1.0"',
        '"+1"',
        '"-0"',
        '"1,000"',
        '"１"',
        '"١"',
        '"0x1"',
        '"1e0"',
        *("9999999999", "9" * 30, '"9999999999"', '"1\\n"', "{}", '{"a":1}', "NaN", "[1,1]", "[[1]]"),
    ],
)
def test_a_count_is_a_whole_number(count: str) -> None:
    """As a number or in ASCII digits; full-width digits are none."""
    for body in (f'{{"success":{count},"failure":1}}', f'{{"success":1,"failure":{count}}}'):
        assert doubted(body)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ('{"success":1,"failure":1,"success":2}', "a name stands twice, or there are too many"),
        ('{"success":2,"failure":0,"result":{"success":2,"failure":0}}', "a count out of place"),
        ('{"contact":[{"success":1,"failure":0},{"success":1,"failure":0}]}', "a count out of place"),
        ('{"contact":{"success":2},"result":{"failure":0}}', "a count out of place"),
        ('{"success":2,"result":{"failure":0}}', "a count out of place"),
        ('{"success":2,"failure":0,"contact":{"details":{"detail":{}}}}', "a count out of place"),
        ('{"success":2,"failure":0,"details":{"success":1,"failure":1}}', "a count out of place"),
        ('{"success":2,"failure":0,"details":{"detail":[{"success":1}]}}', "a count out of place"),
        ('{"success":2,"failure":0,"other":{"success":1}}', "a count out of place"),
        ('{"other":{"success":2,"failure":0}}', "a count out of place"),
        ('{"success":2}', "one count is missing"),
        ('{"failure":0}', "one count is missing"),
        ('{"success":2,"failure":0,"details":"x"}', "details that name no line"),
        ('{"success":2,"failure":0,"details":0}', "details that name no line"),
        ('{"success":2,"failure":0,"error":{"message":"x"}}', "counts and a failure"),
        ('{"success":2,"failure":0,"error":"x"}', "counts and a failure"),
        ('{"success":2,"failure":0,"errors":[{"code":5}]}', "counts and a failure"),
        ('{"success":2,"failure":0,"message":"Failure_Data is incorrect"}', "counts and a failure"),
        ('{"success":2,"failure":0,"x":[[]]}', "a list of lists"),
        ('{"success":2,"failure":0}}', "something stands behind the end"),
        ('{"success":2,"failure":0}{}', "something stands behind the end"),
        ("<c><success>1</success><success>1</success><failure>0</failure></c>", "a count out of place"),
        ("<c><success>1<b/></success><failure>0</failure></c>", "text between elements"),
        ("<c><success><b>1</b></success></c>", "a count or a part of a line that is no single value"),
        ("<success>2</success>", "a count out of place"),
        ("<error><success>2</success><failure>0</failure></error>", "a count out of place"),
        ("<!DOCTYPE c><c><success>2</success><failure>0</failure></c>", "a document type or an entity"),
        (
            '<!DOCTYPE c [<!ENTITY a "2">]><c><success>&a;</success><failure>0</failure></c>',
            "a document type or an entity",
        ),
        (
            f'{{"success":0,"failure":2,"details":{{"detail":[{DETAIL},{DETAIL},{DETAIL}]}}}}',
            "more lines are named than were sent",
        ),
        (
            f'{{"success":1,"failure":1,"details":{{"lineNumber":2,"detail":{DETAIL}}}}}',
            "details that are a line and hold lines",
        ),
        (
            f"<c><success>1</success><failure>1</failure><details>{XML_TWO_NUMBERS}</details></c>",
            "a line with two numbers or contents",
        ),
        (
            '{"success":1,"failure":1,"details":{"detail":{"lineNumber":{"a":2}}}}',
            "a count or a part of a line that is no single value",
        ),
        ("", "empty"),
        ("\ufeff", "empty"),
        ("OK", "neither JSON nor XML"),
        ("\x00" * 10, "neither JSON nor XML"),
        ("<html><body>ただいまメンテナンス中です<br></body></html>", "text between elements"),
        ("<!DOCTYPE html><html><body>502</body></html>", "a document type or an entity"),
    ],
)
def test_what_may_be_meant_in_two_ways_is_unknown(body: str, why: str) -> None:
    """Had the first of two counts been taken, or the outer ones, most of these would have been `Delivered`."""
    assert doubted(body) == why


def test_nothing_was_done_is_not_delivered() -> None:
    """Both counts are zero, but rows were sent."""
    for body in ('{"success":0,"failure":0}', "<c><success>0</success><failure>0</failure></c>"):
        counted = read(body)
        assert counted == Counted(0, 0, ())
        assert isinstance(counted, Counted)
        assert isinstance(Bme().judge(counted, sent(LOGIN), {}), Unknown)


@pytest.mark.parametrize("number", ["", "0", "1", "4", "-2", "2.5", "9" * 20, "two", "２"])
@pytest.mark.parametrize("quoted", [False, True])
def test_a_line_out_of_range_is_unknown(number: str, *, quoted: bool) -> None:
    """The header, the line behind the last, and what is no number at all."""
    written = f'"{number}"' if quoted or not re.fullmatch(r"-?\d+(\.\d+)?", number, re.ASCII) else number
    outcome = read(f'{{"success":1,"failure":1,"details":{{"detail":{DETAIL.replace("2", written, 1)}}}}}')
    lines = {n: line(["a@example.jp"]) for n in range(6)}
    judged = Bme().judge(outcome, sent(LOGIN), lines) if isinstance(outcome, Counted) else outcome
    assert isinstance(judged, Unknown)


@pytest.mark.parametrize("quoted", [False, True])
@pytest.mark.parametrize("escaped", [False, True])
def test_a_line_of_any_length_is_compared(*, quoted: bool, escaped: bool) -> None:
    """A cell longer than Python's csv module takes by itself: likely to be refused, and then told of in full."""
    cells = ["a@example.jp", "表" * 200_000]
    content = csvline.decode(line(cells)) if quoted else ",".join(cells)
    detail = {"lineNumber": 2, "content": content, "message": "長すぎます"}
    body = json.dumps({"success": 1, "failure": 1, "details": {"detail": [detail]}}, ensure_ascii=escaped)
    counted = read(body)
    assert isinstance(counted, Counted)
    wanted = Delivered((LineRejection(2, "長すぎます"),), "1 of 2 lines delivered")
    assert Bme().judge(counted, sent(LOGIN), {2: line(cells)}) == wanted
    assert isinstance(Bme().judge(counted, sent(LOGIN), {2: line([cells[0], cells[1][:-1]])}), Unknown)


@pytest.mark.parametrize("half", ["\\ud800", "\\udc00", "\\ud800\\u0061"])
def test_half_a_pair_is_no_other_character(half: str) -> None:
    """Some parsers make a `?` or another character of it, which might then fit; here it fits nothing."""
    body = (
        f'{{"success":1,"failure":1,"details":{{"detail":{{"lineNumber":2,"content":"{half}","message":"{half}"}}}}}}'
    )
    counted = read(body)
    assert isinstance(counted, Counted)
    for cell in ("?", "a", "?a", ""):
        assert isinstance(Bme().judge(counted, sent(LOGIN), {2: line([cell])}), Unknown)


@pytest.mark.parametrize("name", UPLOADS)
def test_a_sample_broken_off_anywhere_is_unknown(name: str) -> None:
    """Wherever the connection or a proxy cut it: only white space at the end may be missing."""
    whole = (SAMPLES / name).read_bytes()
    for length in range(len(whole.rstrip())):
        assert isinstance(read(whole[:length]), Unknown), length


# -- encodings -------------------------------------------------------------------------------------------------------

ENCODINGS = ("utf-8", "utf-8-sig", "cp932", "utf-16", "utf-16-le", "utf-16-be")
DECLARED = ("", "UTF-8", "utf8", "Shift_JIS", "Windows-31J", "x-sjis", "EUC-JP", "UTF-16", "us-ascii", "no-such-thing")


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("declared", DECLARED)
def test_the_bytes_decide_what_the_encoding_is(encoding: str, declared: str) -> None:
    """UTF-8 declared as Shift_JIS and the reverse, a byte-order mark or none: in the header, and in the XML itself."""
    content_type = f"application/json; charset={declared}" if declared else "application/json"
    detail = DETAIL.replace("不正", "髙橋①～は不正")
    body = f'{{"success":1,"failure":1,"details":{{"detail":{detail}}}}}'
    wanted = Counted(1, 1, (Claim(2, '"a@example.jp"', "髙橋①～は不正"),))
    assert read(body.encode(encoding), content_type=content_type) == wanted
    told = f' encoding="{declared}"' if declared else ""
    detail = XML_DETAIL.replace("不正", "髙橋①～は不正")
    document = (
        f'<?xml version="1.0"{told} standalone="yes" ?>\n'
        f"<contact><success>1</success><failure>1</failure><details>{detail}</details></contact>"
    )
    assert read(document.encode(encoding), content_type=content_type) == wanted
    assert read(document.encode(encoding), content_type="text/html") == wanted


@pytest.mark.parametrize("declared", ["EUC-JP", "euc-jp", "x-euc-jp"])
def test_euc_jp_is_read_where_it_is_declared(declared: str) -> None:
    """Nothing in its bytes tells it from Shift_JIS for sure."""
    body = f'<?xml version="1.0" encoding="{declared}"?><c><success>1</success><failure>1</failure>'
    body += f"<details>{XML_DETAIL.replace('不正', '高橋は不正')}</details></c>"
    wanted = Counted(1, 1, (Claim(2, '"a@example.jp"', "高橋は不正"),))
    assert read(body.encode("euc_jp")) == wanted
    assert (
        read(body.replace(declared, "UTF-8").encode("euc_jp"), content_type=f"text/xml;charset='{declared}'") != wanted
    )
    assert read(body.replace(declared, "UTF-8").encode("euc_jp"), content_type=f"text/xml;charset={declared}") == wanted


@given(st.binary(max_size=60), st.sampled_from(["", "charset=shift_jis", "charset=euc-jp", "charset=utf-16"]))
def test_every_body_is_a_text(body: bytes, content_type: str) -> None:
    """Nothing raises, and no half of a pair gets in, which neither Postgres nor a parser takes."""
    text = "".join(texts(body, content_type))
    assert text.encode("utf-8").decode("utf-8") == text


def test_a_message_cut_within_a_character_spoils_nothing() -> None:
    """Vendors cut texts by bytes; the counts and the contents are whole all the same."""
    body = f'{{"success":1,"failure":1,"details":{{"detail":{DETAIL}}}}}'.encode()
    counted = read(body.replace("不正".encode(), "不正".encode()[:-1]))
    assert isinstance(counted, Counted)
    assert isinstance(Bme().judge(counted, sent(LOGIN), {2: line(["a@example.jp"])}), Delivered)


# -- a reply that was tampered with ----------------------------------------------------------------------------------


def truly_fits(body: bytes, lines: dict[int, bytes], rows: int) -> bool:
    """Say whether a reply confirms its rows, by other means: a tree, and no knowledge of shapes but the samples'."""
    text = body.decode("utf-8", "replace").strip()
    if text.startswith("{"):
        tree = json.loads(text)
        named = tree.get("details", {}).get("detail", []) if tree.get("details") else []
        details = [d for d in (named if isinstance(named, list) else [named]) if d]
        counts = [tree["success"], tree["failure"]]
    else:
        root = ET.fromstring(text)  # noqa: S314 - made here
        details = [{part.tag: part.text or "" for part in detail} for detail in root.iter("detail") if len(detail)]
        counts = [root.findtext("success"), root.findtext("failure")]
    success, failure = (int(count) if re.fullmatch(r"\s*[0-9]+\s*", str(count)) else -1 for count in counts)
    return (
        min(success, failure) >= 0
        and success + failure == rows
        and len(details) == failure
        and len({int(d["lineNumber"]) for d in details}) == len(details)
        and all(csvline.same_record(lines[int(d["lineNumber"])], str(d["content"])) for d in details)
    )


def mutants(whole: bytes) -> Iterator[bytes]:
    """Change a reply in every place: a byte gone, another there, a piece twice, a piece gone, two pieces swapped."""
    for at in range(len(whole)):
        yield whole[:at] + whole[at + 1 :]
        for byte in b'0129"<{[,} a\x00\xff':
            yield whole[:at] + bytes([byte]) + whole[at + 1 :]
        yield whole[:at] + b"1" + whole[at:]
        for length in (7, 40):
            yield whole[: at + length] + whole[at:]
            yield whole[:at] + whole[at + length :]
            yield whole[:at] + whole[at + length : at + 2 * length] + whole[at : at + length] + whole[at + 2 * length :]


@pytest.mark.parametrize(
    "name", ["blastmail-all.json", "blastmail-all.xml", "blaynmail-delete.json", "blaynmail-delete.xml"]
)
def test_a_changed_sample_is_delivered_only_if_it_truly_fits(name: str) -> None:
    """Thousands of changes: few of them spare counts and contents, and no other reads as `Delivered`."""
    number, cells = claimed(name)
    lines = {number: line(cells)}
    whole, delivered, tried = (SAMPLES / name).read_bytes(), 0, 0
    for body in {zlib.crc32(body): body for body in mutants(whole)}.values():
        outcome = read(body)
        judged = Bme().judge(outcome, sent(LOGIN), lines) if isinstance(outcome, Counted) else outcome
        tried += 1
        if isinstance(judged, Delivered):
            delivered += 1
            assert truly_fits(body, lines, 2), body
        else:
            assert isinstance(judged, Unknown), body
    assert 0 < delivered < tried / 2


@given(st.data())
def test_no_bytes_break_the_reader(data: st.DataObject) -> None:
    """Any bytes, and samples with any bytes in their midst: an outcome or counts, never an exception or `Delivered`."""
    body = data.draw(st.binary(max_size=80))
    if data.draw(st.booleans()):
        whole = (SAMPLES / data.draw(st.sampled_from(UPLOADS))).read_bytes()
        at = data.draw(st.integers(0, len(whole)))
        body = whole[:at] + body + whole[at + data.draw(st.integers(0, 20)) :]
    content_type = data.draw(st.sampled_from(["", "text/xml; charset=EUC-JP", "application/json; charset=\x00"]))
    for status in (200, 400):
        outcome = read(body, status, content_type)
        assert not isinstance(outcome, Delivered)
        assert status == 200 or not isinstance(outcome, Counted)


# -- failures --------------------------------------------------------------------------------------------------------

FAILURES: dict[str, type[Outcome]] = {
    "Failure_Request during processing": Busy,
    "Request during processing": Busy,
    "Failure_Data is incorrect": Refused,
    "Failure_Illegal format: json,json": Misconfigured,
    "illegal format: json,json": Unknown,
    "Failure_Parameter error": Misconfigured,
    "Failure_No permission": Misconfigured,
    "Failure_Not allowed": Misconfigured,
    "Failure_System error": Unknown,
    "Failure_Something new": Unknown,
    "Failure_": Unknown,
    "髙橋 太郎": Unknown,
}

SHAPES = {
    "json": '{{"error":{{"message":"{}"}}}}',
    "json with a status": '{{"status":"error","error":{{"code":7,"message":"{}"}}}}',
    "json, bare": '{{"message":"{}"}}',
    "json, a text": '{{"error":"{}"}}',
    "json, a list": '{{"errors":[{{"message":"{}"}}]}}',
    "json, escaped": '{{"error":{{"message":"{}"}}}}',
    "json, wrapped": '{{"result":{{"error":{{"message":"{}"}}}}}}',
    "xml": '<?xml version="1.0" encoding="UTF-8" standalone="yes" ?>\n<error>\n    <message>{}</message>\n</error>',
    "xml, bare": "<message>{}</message>",
    "xml, wrapped": '<?xml version="1.0" encoding="Shift_JIS"?><contact><error><message>{}</message></error></contact>',
}


def shaped(message: str, shape: str) -> str:
    """Put a message into a shape."""
    if shape == "json, escaped":
        message = "".join(f"\\u{ord(character):04x}" for character in message)
    return SHAPES[shape].format(message)


@pytest.mark.parametrize("message", FAILURES)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_failure_comes_to_the_same_in_every_shape(message: str, shape: str) -> None:
    """At 200 and at 400 the message decides; at 500 nothing does, because the body had been sent."""
    body = shaped(message, shape)
    for encoding in ("utf-8", "cp932"):
        for content_type in ("application/json", "text/xml"):
            found = [type(read(body.encode(encoding), status, content_type)) for status in (200, 400, 500)]
            assert found == [FAILURES[message], FAILURES[message], Unknown], (encoding, content_type)


@pytest.mark.parametrize("message", FAILURES)
def test_a_failure_on_a_page_is_found_at_400_only(message: str) -> None:
    """What is no document of the API's is searched where no line can stand in it; at 200, a bare message may."""
    page = f"<!DOCTYPE html><html><body><br>{message}</body></html>"
    assert [type(read(page, status)) for status in (200, 400, 500)] == [Unknown, FAILURES[message], Unknown]
    bare = FAILURES[message] if message.startswith("Failure_") else Unknown
    assert [type(read(message, status)) for status in (200, 400, 500)] == [bare, FAILURES[message], Unknown]


@pytest.mark.parametrize("message", FAILURES)
def test_a_failure_s_words_in_a_line_are_none(message: str) -> None:
    """A customer may be called so, and each line's message may say so: neither makes the file Busy or Refused."""
    detail = json.dumps({"lineNumber": 2, "content": message, "message": message}, ensure_ascii=False)
    counted = read(f'{{"success":1,"failure":1,"details":{{"detail":[{detail}]}}}}')
    assert counted == Counted(1, 1, (Claim(2, message, message),))
    broken = f'{{"success":1,"failure":1,"details":{{"detail":[{detail}'
    assert doubted(broken) == "broken off"


def test_a_busy_vendor_says_for_how_long() -> None:
    """`Retry-After` is handed on, here as with 429."""
    answer = reply(shaped("Failure_Request during processing", "json"), 400, retry_after_s=7.0)
    assert getattr(Bme().read(answer, sent(LOGIN)), "retry_after_s", None) == 7.0


def test_two_tokens_are_none() -> None:
    """The same one twice is one."""
    for other, wanted in (("canary-token", "canary-token"), ("canary-other", None)):
        found = Bme().read_token(reply(f'{{"accessToken":"canary-token","a":{{"access_token":"{other}"}}}}'))
        assert (found if isinstance(found, str) else None) == wanted
