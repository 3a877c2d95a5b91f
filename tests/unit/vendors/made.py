"""Logins, accounts and replies made for tests, and the samples of the vendors' documents, letter for letter."""

from typing import Any

from relay.events import Operation
from relay.settings import Account, BmeLogin, HaihaiLogin, Login
from relay.vendors import Reply, Sent

CANARIES = ("canary-transport", "canary-extra", "canary-password", "canary-api-key", "canary-token")
"""Every secret that the made logins and replies hold."""

JSON_SAMPLE = (
    '{"success":"1","failure":"1","details":{"detail":[{"content":"\\"エラー停止\\",\\"3\\",\\"sample@blastmail.jp\\"",'
    '"message":"[エラー内容]","lineNumber":2}]}}'
)
"""the API documents of blastmail and blaynmail (with their own domains): the answer to `all`, `create` and `update`."""

XML_SAMPLE = """<?xml version="1.0" encoding="UTF-8" standalone="yes" ?>
<contact>
    <success>1</success>
    <failure>1</failure>
    <details>
        <detail>
            <lineNumber>2</lineNumber>
            <content>"配信中","0","sample@blastmail.jp"</content>
            <message>[エラー内容]</message>
        </detail>
    </details>
</contact>
    """

DELETE_JSON_SAMPLE = (
    '{"success":"1","failure":"1","details":{"detail":[{"content":"\\"sample@blastmail\\"","message":"[エラー内容]",'
    '"lineNumber":3}]}}'
)

DELETE_XML_SAMPLE = """<?xml version="1.0" encoding="UTF-8" standalone="yes" ?>
<contact>
    <success>1</success>
    <failure>1</failure>
    <details>
        <detail>
            <lineNumber>2</lineNumber>
            <content>"sample@blastmail.jp"</content>
            <message>[エラー内容]</message>
        </detail>
    </details>
</contact>
    """

USAGE_XML_SAMPLE = """<contact>
    <success>1</success>
    <failure>1</failure>
    <details>
        <detail>
            <lineNumber>2</lineNumber>
            <content>"配信中","0","sample@blaynmail.jp"</content>
            <message>[エラー内容]</message>
        </detail>
    </details>
</contact>
    """
"""blaynmail's API document: the same without an XML declaration."""

HAIHAI_CODES = {
    "81401": "unauthorized aid, loginid, password のいずれかが正しくありません。",
    "81402": "access denied 許可されていないIPからのアクセスです。",
    "81421": "bad aid aid が不正です。",
    "81422": "bad loginid loginid が不正です。",
    "81423": "no password パスワードが入力されていません。",
    "81431": "bad import_type import_type には、0~3または5の数値を指定してください。",
    "81433": "bad overwrite parameter is_overwrite には、0または1を指定してください。",
    "81435": "bad gid gid が数値ではない、または存在しないgid です。",
}
"""配配メール's API document: all codes with their messages."""


def haihai_login(**settings: object) -> HaihaiLogin:
    """Make a login at 配配メール."""
    given: dict[str, Any] = {
        "name": "hai",
        "vendor": "haihai",
        "base_url": "https://hai.example.jp",
        "aid": 123,
        "login_id": "relay",
        "transport_password": "canary-transport",
    }
    return HaihaiLogin.model_validate(given | settings)


def bme_login(**settings: object) -> BmeLogin:
    """Make a login at blastmail or blaynmail."""
    given: dict[str, Any] = {
        "name": "blast",
        "vendor": "blastmail",
        "username": "relay",
        "password": "canary-password",
        "api_key": "canary-api-key",
    }
    return BmeLogin.model_validate(given | settings)


def account(login: Login, **settings: object) -> Account:
    """Make an account with an address, a name and a birthday."""
    header = "メールアドレス" if isinstance(login, HaihaiLogin) else "E-Mail"
    given: dict[str, Any] = {
        "name": "news",
        "login": login.name,
        "columns": {header: "email", "氏名": "name", "生年月日": {"path": "birthday", "type": "date"}},
    }
    return Account.model_validate(given | settings)


def sent(login: Login, rows: int = 2, operation: Operation = Operation.UPSERT, **settings: object) -> Sent:
    """Make what was sent; `settings` are the account's."""
    return Sent(login, account(login, **settings), operation, rows)


def reply(
    body: str | bytes = "",
    status: int = 200,
    content_type: str = "text/html",
    *,
    truncated: bool = False,
    retry_after_s: float | None = None,
) -> Reply:
    """Make an answer."""
    return Reply(
        status, content_type, body if isinstance(body, bytes) else body.encode("utf-8"), truncated, retry_after_s
    )
