"""No secret, address or name gets from a form or a reply into what is logged, stored or shown."""

import json

import pytest

from relay.batches import Delivered, Misconfigured
from relay.csvline import record
from relay.events import Operation
from relay.vendors import Claim, Counted, Reply, excerpt
from relay.vendors.bme_judging import SAME_MESSAGE_ROWS_MIN
from tests.conformance.candidates import CANDIDATES, secrets_of
from tests.unit.vendors.made import CANARIES, haihai_login, reply, sent

PRIVATE = ("canary-", *CANARIES, "taro", "example.jp", "髙橋", "090-1234-5678", "amada", "akahashi")

BODIES = [
    '{"accessToken":"canary-token"}',
    "<authenticate><access_token>canary-token</access_token></authenticate>",
    '{"error":{"message":"Failure_Data is incorrect taro@example.jp"}}',
    '{"error":{"message":"Failure_Invalid: taro@example.jp canary-password"}}',
    '{"error":{"message":"Failure_髙橋"}}',
    '{"error":{"message":"Failure_Invalid name taro yamada Takahashi"}}',
    "Failure_Yamada",
    "Failure_Illegal parameter canary-api-key",
    '{"success":"0","failure":"2","details":{"detail":[{"content":"\\"taro@example.jp\\",\\"髙橋\\"","message":"taro@example.jp","lineNumber":2}]}}',
    '{"success":0,"failure":1,"details":{"content":"\\"taro@example.jp\\"","message":"項目名 髙橋","lineNumber":2}}',
    "81435 bad gid taro@example.jp canary-transport",
    "<html><body>canary-extra taro@example.jp</body></html>",
    '{"success": "taro", "failure": "090-1234-5678"}',
    '{"error": "canary-token taro@example.jp", "errors": [{"row": 1, "reason": "taro@example.jp 髙橋"}]}',
    "x" * 200_000 + "canary-token taro@example.jp" + "x" * 200_000,
]


def private_in(text: str) -> list[str]:
    """Name what of the private texts stands in a text."""
    return [word for word in PRIVATE if word in text]


@pytest.mark.parametrize("vendor", CANDIDATES)
@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_nothing_private_gets_out_of_a_reply(vendor: str, body: str) -> None:
    """Not into the excerpt, nor an outcome's reason, nor a repr, at any status and in either encoding."""
    adapter, login = CANDIDATES[vendor].adapter, CANDIDATES[vendor].login()
    for status in (200, 301, 400, 401, 404, 413, 429, 500, 503):
        for encoding in ("utf-8", "cp932"):
            answer = reply(body.encode(encoding), status, "text/html; canary-token")
            claimed = adapter.read(answer, sent(login, 1))
            told = [repr(answer), excerpt(answer), repr(claimed)]
            if isinstance(claimed, Counted):
                lines = {2: '"taro@example.jp"'.encode("cp932")}
                judged = adapter.judge(claimed, sent(login, 1), lines)
                told.append(getattr(judged, "reason", ""))
            if adapter.needs_token:
                token = adapter.read_token(answer)
                told.append("" if isinstance(token, str) else repr(token))
            assert private_in("\n".join(told)) == []


@pytest.mark.parametrize("vendor", CANDIDATES)
@pytest.mark.parametrize("operation", Operation)
def test_nothing_private_shows_in_a_repr(vendor: str, operation: Operation) -> None:
    """Not of a form, a login, an account, what was sent, a reply or a claim."""
    candidate = CANDIDATES[vendor]
    login = candidate.login()
    if operation not in login.operations:
        return
    token = "canary-token" if candidate.adapter.needs_token else None
    form = candidate.adapter.upload_form(login, candidate.to(login), operation, token)
    shown = [form, login, sent(login), Claim(2, '"taro@example.jp"', "髙橋"), reply("canary-token")]
    assert private_in(repr(shown).replace(login.base_url, "")) == []


@pytest.mark.parametrize("vendor", CANDIDATES)
def test_every_secret_would_be_known(vendor: str) -> None:
    """A login's secrets are canaries, which everything here looks for, and the form or the login call has each."""
    candidate = CANDIDATES[vendor]
    login, secrets = candidate.login(), secrets_of(candidate.login())
    form = candidate.adapter.upload_form(
        login, candidate.to(login), Operation.STOP, "canary-token" if candidate.adapter.needs_token else None
    )
    fields = dict(form.fields)
    if candidate.adapter.needs_token:
        fields |= dict(candidate.adapter.login_call(login).fields)
    assert secrets
    assert all(secret.startswith("canary-") for secret in secrets.values())
    assert set(secrets.values()) <= set(fields.values())


def test_an_excerpt_holds_what_an_operator_needs() -> None:
    """Status, type, size, codes, the words of a failure, counts; and says when the reply was not whole."""
    assert excerpt(reply('{"success":"1","failure":"2"}', content_type="application/json; charset=utf-8")) == (
        "HTTP 200, application/json, 29 bytes, success 1, failure 2"
    )
    assert excerpt(reply("<success>1</success><failure>0</failure>", content_type="text/xml")) == (
        "HTTP 200, text/xml, 40 bytes, success 1, failure 0"
    )
    assert excerpt(reply('{"error":{"message":"Failure_Request during processing"}}', 400, "")) == (
        "HTTP 400, 57 bytes, Failure_Request during processing"
    )
    assert excerpt(reply("81401 unauthorized 81401 81435", 401, "text/plain")) == (
        "HTTP 401, text/plain, 30 bytes, 81401, 81435"
    )
    assert excerpt(reply("Failure_Invalid name Taro in the field mail", 400, "")) == (
        "HTTP 400, 43 bytes, Failure_Invalid name … in the field mail"
    )
    assert excerpt(Reply(502, "image/x-taro", b"", truncated=True)) == "HTTP 502, 0 bytes (not whole)"


def test_an_excerpt_of_a_long_reply_reads_head_and_foot() -> None:
    """Counts are found at either end without reading megabytes of customers' lines."""
    middle = "表" * 200_000
    text = excerpt(reply(f'{{"success":"7",{middle}"failure":"3"}}'))
    assert text.endswith("success 7, failure 3")


def test_extra_fields_are_secrets() -> None:
    """An API token that a newer contract wants in the form shows in no repr."""
    login = haihai_login(extra_fields={"api_token": "canary-extra"})
    form = CANDIDATES["haihai"].adapter.upload_form(login, CANDIDATES["haihai"].to(login), Operation.STOP, None)
    assert ("api_token", "canary-extra") in form.fields
    assert private_in(repr((login, form)).replace("hai.example.jp", "")) == []


LEAKS = [
    "header unknown; access_token=canary-token api_key=canary-api-key password=canary-password",
    "髙橋太郎様 (taro＠example．jp) は取り込めません",
    "column error near taro at example.jp",
    "項目名が不正です: taro@example.jp 髙橋 090-1234-5678",
]


@pytest.mark.parametrize("vendor", [name for name, one in CANDIDATES.items() if one.confirms is Delivered])
@pytest.mark.parametrize("operation", Operation)
@pytest.mark.parametrize("rows", [1, 2, SAME_MESSAGE_ROWS_MIN])
@pytest.mark.parametrize("message", LEAKS)
def test_nothing_private_gets_out_of_one_message_for_all_lines(
    vendor: str, operation: Operation, rows: int, message: str
) -> None:
    """Not into a reason, which is logged and shown to who may not see addresses; nor does a spelling make a difference.

    What the message says of single lines is kept with those, for who may see addresses.
    """
    candidate = CANDIDATES[vendor]
    login = candidate.login()
    if operation not in login.operations:
        return
    lines = {number: record((f"user{number}@example.com", "髙橋 太郎")) for number in range(2, rows + 2)}
    failures = [
        {"content": f"user{number}@example.com,髙橋 太郎", "message": message, "lineNumber": number} for number in lines
    ]
    body = json.dumps({"success": 0, "failure": rows, "details": {"detail": failures}}, ensure_ascii=False)
    what = sent(login, rows, operation)
    counted = candidate.adapter.read(reply(body), what)
    assert isinstance(counted, Counted)
    judged = candidate.adapter.judge(counted, what, lines)
    assert isinstance(judged, Misconfigured | Delivered)
    assert isinstance(judged, Misconfigured) or not ("column" in message or "header" in message or "項目名" in message)
    assert private_in(f"{judged.reason}\n{excerpt(reply(body))}") == []
