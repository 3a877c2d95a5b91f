"""What the adapter for blastmail and blaynmail promises."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from relay import csvline
from relay.batches import (
    Busy,
    Delivered,
    LineRejection,
    Misconfigured,
    Outcome,
    Refused,
    Transient,
    Unauthorized,
    Unknown,
)
from relay.events import Operation
from relay.vendors import Claim, Counted, Sent
from relay.vendors.bme import Bme
from relay.vendors.bme_judging import SAME_MESSAGE_ROWS_MIN
from relay.vendors.claims import MESSAGE_CHARS_MAX
from tests.unit.vendors.made import (
    DELETE_JSON_SAMPLE,
    DELETE_XML_SAMPLE,
    JSON_SAMPLE,
    USAGE_XML_SAMPLE,
    XML_SAMPLE,
    account,
    bme_login,
    haihai_login,
    reply,
    sent,
)

LOGIN = bme_login()
OPERATIONS = sorted(LOGIN.operations)

# -- what is sent ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "mode", "endpoint"),
    [
        ("upsert", "all", "all"),
        ("upsert", "create", "create"),
        ("upsert", "update", "update"),
        ("delete", "create", "delete"),
        ("stop", "create", "update"),
        ("stop", "all", "update"),
        ("allow", "all", "update"),
    ],
)
def test_each_operation_has_its_endpoint(operation: str, mode: str, endpoint: str) -> None:
    """Upserts go where the mode says; a stop is an update, never `all`, which would create the reader."""
    form = Bme().upload_form(LOGIN, account(LOGIN, mode=mode), Operation(operation), "canary-token")
    assert form.path == f"contact/import/{endpoint}"
    assert form.fields == (("access_token", "canary-token"), ("f", "json"))
    assert (form.file_field, form.file_type) == ("import", "text/plain")


def test_the_file_part_s_name_is_a_setting() -> None:
    """One document says `import`, a public client sends `file`."""
    login = bme_login(file_field="file")
    assert Bme().upload_form(login, account(login), Operation.DELETE, "t").file_field == "file"


def test_status_is_constant_and_never_empty() -> None:
    """Stops and allows carry a fixed 状態, deletes and upserts none: an empty one subscribes people again who left."""
    columns = {o: Bme().columns(LOGIN, account(LOGIN), o) for o in map(Operation, OPERATIONS)}
    assert list(columns[Operation.UPSERT]) == ["E-Mail", "氏名", "生年月日"]
    assert list(columns[Operation.DELETE]) == ["E-Mail"]
    assert list(columns[Operation.STOP]) == list(columns[Operation.ALLOW]) == ["E-Mail", "状態"]
    assert columns[Operation.STOP]["状態"].constant == "配信停止"
    assert columns[Operation.ALLOW]["状態"].constant == "配信中"


def test_the_status_header_is_a_setting() -> None:
    """An account may have renamed 状態."""
    login = bme_login(status_header="配信状態")
    assert list(Bme().columns(login, account(login), Operation.STOP)) == ["E-Mail", "配信状態"]


def test_a_form_without_a_token_or_for_another_vendor_is_a_bug() -> None:
    """Neither is ever sent."""
    with pytest.raises(TypeError, match="token"):
        Bme().upload_form(LOGIN, account(LOGIN), Operation.UPSERT, None)
    other = haihai_login()
    with pytest.raises(TypeError, match="hai"):
        Bme().upload_form(other, account(other), Operation.UPSERT, "t")


# -- what an answer claims -------------------------------------------------------------------------------------------


def read(body: str | bytes, status: int = 200, content_type: str = "application/json") -> Outcome | Counted:
    """Read an answer to a file of two rows."""
    return Bme().read(reply(body, status, content_type), sent(LOGIN))


@pytest.mark.parametrize("brand", ["blastmail", "blaynmail"])
@pytest.mark.parametrize("content_type", ["application/json", "application/xml", "text/html; charset=Shift_JIS", ""])
def test_the_documents_samples_are_understood(brand: str, content_type: str) -> None:
    """Letter for letter, whatever the Content-Type says."""
    domain = f"sample@{brand}"
    wanted = {
        JSON_SAMPLE: Claim(2, f'"エラー停止","3","{domain}.jp"', "[エラー内容]"),
        XML_SAMPLE: Claim(2, f'"配信中","0","{domain}.jp"', "[エラー内容]"),
        DELETE_JSON_SAMPLE: Claim(3, f'"{domain}"', "[エラー内容]"),
        DELETE_XML_SAMPLE: Claim(2, f'"{domain}.jp"', "[エラー内容]"),
        USAGE_XML_SAMPLE: Claim(2, f'"配信中","0","{domain}.jp"', "[エラー内容]"),
    }
    for sample, claim in wanted.items():
        body = sample.replace("blaynmail", "blastmail").replace("blastmail", brand)
        assert read(body, content_type=content_type) == Counted(1, 1, (claim,))


ONE = {"lineNumber": 2, "content": '"a@example.jp"', "message": "不正"}
OTHER = {"lineNumber": "3", "content": '"b@example.jp"', "message": "不正"}
CLAIM, OTHER_CLAIM = Claim(2, '"a@example.jp"', "不正"), Claim(3, '"b@example.jp"', "不正")


@pytest.mark.parametrize(
    ("document", "counted"),
    [
        ({"success": 2, "failure": 0}, Counted(2, 0, ())),
        ({"success": "2", "failure": "0"}, Counted(2, 0, ())),
        ({"failure": "0", "success": 2, "details": ""}, Counted(2, 0, ())),
        ({"success": 2, "failure": 0, "details": None}, Counted(2, 0, ())),
        ({"success": 2, "failure": 0, "details": []}, Counted(2, 0, ())),
        ({"success": 2, "failure": 0, "details": {}}, Counted(2, 0, ())),
        ({"success": 2, "failure": 0, "details": {"detail": ""}}, Counted(2, 0, ())),
        ({"success": "1", "failure": 1, "details": {"detail": ONE}}, Counted(1, 1, (CLAIM,))),
        ({"success": 1, "failure": "1", "details": {"detail": [ONE]}}, Counted(1, 1, (CLAIM,))),
        ({"success": 1, "failure": 1, "details": ONE}, Counted(1, 1, (CLAIM,))),
        ({"success": 0, "failure": 2, "details": [ONE, OTHER]}, Counted(0, 2, (CLAIM, OTHER_CLAIM))),
        (
            {"contact": {"success": 0, "failure": 2, "details": {"detail": [ONE, OTHER]}}},
            Counted(0, 2, (CLAIM, OTHER_CLAIM)),
        ),
        ({"result": {"import": {"success": 2, "failure": 0}}}, Counted(2, 0, ())),
        ({"success": 1, "failure": 1, "details": {"detail": ["?"]}}, Counted(1, 1, (Claim(0, "", ""),))),
        (
            {"success": 1, "failure": 1, "details": {"detail": {"lineNumber": "two"}}},
            Counted(1, 1, (Claim(0, "", ""),)),
        ),
    ],
)
def test_counts_and_lines_come_in_many_shapes(document: Mapping[str, Any], counted: Counted) -> None:
    """Strings or numbers; a list, one object or nothing; wrapped or not."""
    assert read(json.dumps(document, ensure_ascii=False)) == counted
    assert read(json.dumps(document)) == counted
    assert read("\ufeff" + json.dumps(document)) == counted


def xml(inner: str, declared: str = "UTF-8") -> str:
    """Wrap counts and details as the vendor's XML."""
    return (
        f'<?xml version="1.0" encoding="{declared}"?><contact><success>0</success><failure>2</failure>{inner}</contact>'
    )


DETAIL = '<detail><lineNumber>{}</lineNumber><content>"{}@example.jp"</content><message>不正</message></detail>'


@pytest.mark.parametrize("encoding", ["utf-8", "cp932"])
def test_xml_comes_despite_json_in_any_encoding(encoding: str) -> None:
    """Two details are a list; the declared encoding may be Shift_JIS, of which XML parsers know nothing."""
    body = xml(f"<details>{DETAIL.format(2, 'a')}\n{DETAIL.format(3, 'b')}</details>", "Shift_JIS")
    assert read(body.encode(encoding)) == Counted(0, 2, (CLAIM, OTHER_CLAIM))


def test_an_xml_namespace_does_not_matter() -> None:
    """Elements are known by their names alone."""
    body = '<contact xmlns="urn:x"><success>2</success><failure>0</failure><details/></contact>'
    assert read(body) == Counted(2, 0, ())


@pytest.mark.parametrize(
    "body",
    [
        "",
        "   ",
        "null",
        "[]",
        "17",
        '"OK"',
        "{}",
        '{"success": 1}',
        '{"success": "", "failure": ""}',
        '{"success": true, "failure": false}',
        '{"success": 1.5, "failure": 0.5}',
        '{"success": -1, "failure": 3}',
        '{"success": "1e3", "failure": "0"}',
        '{"success": 20180509, "failure": ',
        JSON_SAMPLE[:-10],
        XML_SAMPLE[:150],
        "<html><head><title>メンテナンス</title></head><body>ただいま</body></html>",
        "<!DOCTYPE html><p>unclosed",
        '<!DOCTYPE a [<!ENTITY x "1">]><contact><success>&x;</success><failure>1</failure></contact>',
        "[" * 100_000,
        "<a>" * 100_000,
        '{"success": ' + "9" * 5000 + ', "failure": 0}',
        b"\xff\xfe\xfd",
        b"\x00" * 10,
    ],
)
def test_a_200_that_cannot_be_understood_is_unknown(body: str | bytes) -> None:
    """Nothing is reported as delivered that the vendor did not confirm."""
    outcome = read(body)
    assert isinstance(outcome, Unknown)
    assert not outcome.timed_out


def test_a_reply_that_is_not_whole_makes_the_next_file_smaller() -> None:
    """A reply grows with its refused lines; at the same size the next one would be cut off as well."""
    outcome = Bme().read(reply(JSON_SAMPLE, truncated=True), sent(LOGIN))
    assert isinstance(outcome, Unknown)
    assert outcome.timed_out


FAILURES = {
    "Failure_Request during processing": Busy,
    "Failure_Data is incorrect": Refused,
    "Failure_Illegal format: json,json": Misconfigured,
    "Failure_Parameter error": Misconfigured,
    "Failure_System error": Unknown,
    "Failure_": Unknown,
    "No data": Unknown,
}


@pytest.mark.parametrize("message", FAILURES)
@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize(
    "shape",
    [
        '{{"error":{{"message":"{}"}}}}',
        '{{"message":"{}"}}',
        '<?xml version="1.0" encoding="UTF-8"?>\n<error><message>{}</message></error>',
        "{}",
    ],
)
def test_a_failure_s_message_says_what_it_is(message: str, status: int, shape: str) -> None:
    """400 is not always permanent: two messages are known, one kind is the settings', the rest is tried again."""
    assert type(read(shape.format(message), status)) is FAILURES[message]


@pytest.mark.parametrize("message", FAILURES)
def test_a_server_s_error_is_unknown_whatever_it_says(message: str) -> None:
    """The body had been sent when the server failed."""
    assert isinstance(read(f'{{"error":{{"message":"{message}"}}}}', 500), Unknown)


# -- what the claims come to -----------------------------------------------------------------------------------------

LINES = {
    1: csvline.record(["E-Mail", "氏名"]),
    2: csvline.record(["taro@example.jp", "髙橋 太郎"]).removesuffix(b"\r\n"),
    3: csvline.record(["hanako@example.jp", '表の"花子"']).removesuffix(b"\r\n"),
    4: csvline.record(["jiro@example.jp", "次郎"]),
}
"""A file of two rows, and what would be the third, were there one."""

CONTENTS = {number: csvline.decode(line) for number, line in LINES.items()}


def claim(line: int, message: str = "不正なアドレスです", content: str | None = None) -> Claim:
    """Claim that a line was refused."""
    return Claim(line, CONTENTS.get(line, "") if content is None else content, message)


def judge(counted: Counted, what: Sent | None = None) -> Outcome:
    """Judge an answer to the two lines."""
    return Bme().judge(counted, what or sent(LOGIN), LINES)


def test_counts_that_add_up_are_delivered() -> None:
    """All lines, or all but the one that was refused, with the vendor's message."""
    assert judge(Counted(2, 0, ())) == Delivered((), "2 of 2 lines delivered")
    assert judge(Counted(1, 1, (claim(3),))) == Delivered(
        (LineRejection(3, "不正なアドレスです"),), "1 of 2 lines delivered"
    )
    assert judge(Counted(0, 2, (claim(3, "甲"), claim(2, "乙")))) == Delivered(
        (LineRejection(3, "甲"), LineRejection(2, "乙")), "0 of 2 lines delivered"
    )


@pytest.mark.parametrize(
    "counted",
    [
        Counted(1, 0, ()),
        Counted(3, 0, ()),
        Counted(0, 0, ()),
        Counted(1, 1, ()),
        Counted(2, 0, (claim(2),)),
        Counted(1, 1, (claim(2), claim(3))),
        Counted(0, 2, (claim(2), claim(2))),
        Counted(1, 1, (claim(1, content='"E-Mail","氏名"'),)),
        Counted(1, 1, (claim(0, content=""),)),
        Counted(1, 1, (claim(4, content='"jiro@example.jp","次郎"'),)),
        Counted(1, 1, (claim(3, content=CONTENTS[2]),)),
        Counted(1, 1, (claim(2, content=CONTENTS[3]),)),
        Counted(1, 1, (claim(2, content=""),)),
        Counted(1, 1, (claim(2, content="\ud800"),)),
        Counted(1, 1, (claim(2, content='"taro@example.jp","髙橋 太郎","0"'),)),
        Counted(0, 2, (claim(2), claim(3, content=CONTENTS[2]))),
    ],
)
def test_counts_that_do_not_add_up_are_unknown(counted: Counted) -> None:
    """Neither a wrong sum, nor a line too many, too few, twice or out of range, nor content that does not fit."""
    outcome = judge(counted)
    assert isinstance(outcome, Unknown)
    assert "example.jp" not in outcome.reason
    assert "橋" not in outcome.reason


def test_a_line_that_was_not_fetched_is_unknown() -> None:
    """A claim that cannot be compared is not believed."""
    assert isinstance(Bme().judge(Counted(1, 1, (claim(2),)), sent(LOGIN), {}), Unknown)


def test_the_documents_samples_fit_the_lines_that_they_repeat() -> None:
    """The samples come to one refused line each, had their lines been sent."""
    for sample, number, cells in (
        (JSON_SAMPLE, 2, ["エラー停止", "3", "sample@blastmail.jp"]),
        (XML_SAMPLE, 2, ["配信中", "0", "sample@blastmail.jp"]),
        (DELETE_JSON_SAMPLE, 3, ["sample@blastmail"]),
        (DELETE_XML_SAMPLE, 2, ["sample@blastmail.jp"]),
    ):
        counted = read(sample)
        assert isinstance(counted, Counted)
        lines = {number: csvline.record(cells)}
        outcome = Bme().judge(counted, sent(LOGIN), lines)
        assert outcome == Delivered((LineRejection(number, "[エラー内容]"),), "1 of 2 lines delivered")


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_opt_out_of_an_address_that_is_not_there_is_delivered(operation: str) -> None:
    """Where the login says how the vendor puts it, and for deletes and stops only; other refusals stay refusals."""
    login = bme_login(unknown_address_messages=["存在しません"])
    outcome = judge(
        Counted(0, 2, (claim(2, "このアドレスは存在しません。"), claim(3))), sent(login, operation=Operation(operation))
    )
    assert isinstance(outcome, Delivered)
    rejected = [rejection.line for rejection in outcome.rejections]
    assert rejected == ([3] if operation in ("delete", "stop") else [2, 3])


def test_without_the_setting_every_refusal_is_a_rejection() -> None:
    """The texts are not public, so none is known from the start."""
    outcome = judge(Counted(1, 1, (claim(2, "存在しません"),)), sent(LOGIN, operation=Operation.DELETE))
    assert isinstance(outcome, Delivered)
    assert len(outcome.rejections) == 1


ONE_MESSAGE = "all lines were refused by one message, as for an unknown header"


def all_refused(rows: int, message: str, operation: str = "upsert", **settings: object) -> Outcome:
    """Judge a file of which every line was refused; `#` in the message stands for the line's number."""
    lines = {n: csvline.record([f"taro{n}@example.jp"]) for n in range(2, rows + 2)}
    claims = tuple(Claim(n, f"taro{n}@example.jp", message.replace("#", str(n))) for n in lines)
    return Bme().judge(Counted(0, rows, claims), sent(LOGIN, rows, Operation(operation), **settings), lines)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("rows", [1, 2, 50])
@pytest.mark.parametrize("message", ["項目名が不正です", "#行目: ヘッダーに誤りがあります", "Unknown column"])
def test_a_message_about_headers_on_every_line_is_the_settings_fault(operation: str, rows: int, message: str) -> None:
    """No line is rejected for it, whatever the operation: the lane waits for an operator."""
    assert isinstance(all_refused(rows, message, operation), Misconfigured)


def test_one_message_for_every_upsert_is_the_settings_fault() -> None:
    """From a handful of rows on. The reason repeats nothing of the message, since nobody knows what it may hold."""
    assert isinstance(all_refused(SAME_MESSAGE_ROWS_MIN - 1, "取り込めません"), Delivered)
    outcome = all_refused(SAME_MESSAGE_ROWS_MIN, "#行目は取り込めません")
    assert isinstance(outcome, Misconfigured)
    assert outcome.reason == ONE_MESSAGE


@pytest.mark.parametrize(
    "message",
    [
        "taro#@example.jpは取り込めません",
        "TARO#@Example.jp: 項目名が不正です",
        "ｔａｒｏ taro#@example.jp",
        "header unknown; access_token=canary-token api_key=canary-api-key",
        "column error near taro at example.jp",
        "髙橋太郎様 (usera＠example．jp)",
    ],
)
def test_one_message_is_never_repeated(message: str) -> None:
    """It may hold secrets, or customers in another spelling than their lines'; logs and pages show the reason."""
    outcome = all_refused(50, message)
    assert isinstance(outcome, Misconfigured)
    assert outcome.reason == ONE_MESSAGE


def test_headers_of_the_settings_in_one_message_are_told() -> None:
    """As the settings write them, in whatever form the vendor does, and with nothing that stands beside them."""
    columns = {"E-Mail": "email", "ＴＥＬ〜": "phone", "項目1": "one", "氏名 ": "name"}
    outcome = all_refused(50, "ヘッダ「ＴＥＬ～」「項目1」「氏名」「住所」が不正です 髙橋", columns=columns)
    assert isinstance(outcome, Misconfigured)
    assert outcome.reason == f'{ONE_MESSAGE}; it holds "ＴＥＬ〜", "項目1", "氏名 "'
    state = all_refused(1, "項目名 配信状態 が不正です", "stop")
    assert (isinstance(state, Misconfigured), state.reason) == (True, f'{ONE_MESSAGE}; it holds "状態"')


@pytest.mark.parametrize("operation", [o for o in OPERATIONS if o != "upsert"])
def test_one_message_for_every_opt_out_may_be_true(operation: str) -> None:
    """All addresses of a file may be unknown; a pause would hold back the opt-outs of the whole login."""
    outcome = all_refused(50, "存在しません", operation)
    assert isinstance(outcome, Delivered)
    assert len(outcome.rejections) == 50


@pytest.mark.parametrize("mode", ["create", "update"])
def test_one_message_for_every_line_is_natural_in_other_modes(mode: str) -> None:
    """`create` refuses who is there, `update` who is not; no setting could mend it."""
    assert isinstance(all_refused(50, "登録済みです", mode=mode), Delivered)


def test_two_messages_or_one_delivered_line_are_the_lines_fault() -> None:
    """A header that is not known spares no line and has one message."""
    lines = {n: csvline.record([f"taro{n}@example.jp"]) for n in range(2, 12)}
    claims = [Claim(n, f"taro{n}@example.jp", "項目名が不正です") for n in lines]
    what = sent(LOGIN, 10)
    assert isinstance(Bme().judge(Counted(1, 9, tuple(claims[1:])), what, lines), Delivered)
    claims[3] = Claim(5, "taro5@example.jp", "不正です")
    assert isinstance(Bme().judge(Counted(0, 10, tuple(claims)), what, lines), Delivered)


def test_a_message_is_made_fit_to_be_stored() -> None:
    """No NUL, no lone surrogate, no line break, not endless: Postgres would refuse it, or a page would break."""
    outcome = judge(Counted(1, 1, (claim(2, " a\x00b\r\n\ud800" + "x" * 10_000),)))
    assert isinstance(outcome, Delivered)
    message = outcome.rejections[0].message
    assert message.startswith("a b ?x")
    assert len(message) <= MESSAGE_CHARS_MAX


# -- logging in ------------------------------------------------------------------------------------------------------


def test_a_login_sends_name_password_and_key() -> None:
    """As the documents' sample code does, asking for JSON."""
    call = Bme().login_call(LOGIN)
    assert (call.method, call.path) == ("POST", "authenticate/login")
    assert dict(call.fields) == {
        "username": "relay",
        "password": "canary-password",
        "api_key": "canary-api-key",
        "f": "json",
    }


@pytest.mark.parametrize(
    "body",
    [
        '{"accessToken":"canary-token"}',
        '{"access_token":"canary-token"}',
        '{"authenticate":{"accessToken":"canary-token"}}',
        '<?xml version="1.0" encoding="UTF-8" ?>\n<a><access_token>canary-token</access_token></a>',
        "<authenticate><accessToken>\n  canary-token\n</accessToken></authenticate>",
    ],
)
def test_a_token_is_found_wherever_it_stands(body: str) -> None:
    """XML answers `access_token`, JSON `accessToken`."""
    assert Bme().read_token(reply(body)) == "canary-token"


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{}",
        '{"accessToken":""}',
        '{"accessToken":7}',
        '{"accessToken":"a b"}',
        '{"accessToken":"a\\r\\nb"}',
        "<html/>",
        "[1]",
    ],
)
def test_a_login_without_a_token_is_tried_again(body: str) -> None:
    """Nothing was sent yet, so nothing is at stake but time. What is no token is not sent as one."""
    assert isinstance(Bme().read_token(reply(body)), Transient)


def test_a_refused_login_is_unauthorized_and_a_busy_one_is_not() -> None:
    """400 and 401 are the credentials' fault unless the vendor says that it is busy."""
    assert isinstance(Bme().read_token(reply('{"error":{"message":"Failure_Login"}}', 400)), Unauthorized)
    assert isinstance(Bme().read_token(reply("Failure_Request during processing", 400)), Busy)
