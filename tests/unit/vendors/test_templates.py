"""Templates: what is read as one and what never is, and how an account's columns are compared with it."""

from collections.abc import Mapping
from typing import Any

import pytest

from relay.batches import Busy, Misconfigured, Outcome, Quota, Transient, Unauthorized
from relay.settings import Account
from relay.vendors import vendor_of
from relay.vendors.bme_templates import HEADER_CHARS_MAX, HEADERS_MAX, TEMPLATE_BYTES_MAX, read_template
from relay.vendors.templates import (
    ALIKE_CHARS_MAX,
    ALIKE_HEADERS_MAX,
    ALIKE_NAMES_MAX,
    Fit,
    Template,
    TemplateKind,
    fit,
)
from tests.unit.vendors.made import (
    CANARIES,
    JSON_SAMPLE,
    USAGE_XML_SAMPLE,
    XML_SAMPLE,
    account,
    bme_login,
    haihai_login,
    reply,
)

HEADERS = ("状態", "エラーカウント", "E-Mail", "氏名", "生年月日")
QUOTED = ",".join(f'"{header}"' for header in HEADERS) + "\r\n"


# -- asking ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vendor", ["blastmail", "blaynmail"])
@pytest.mark.parametrize(("kind", "number"), [("register", "1"), ("delete", "2")])
def test_a_template_is_asked_for_with_get_and_no_format(vendor: str, kind: TemplateKind, number: str) -> None:
    """GET and `type`, whatever one brand's table says, and the token in the query; a GET with a format answers 500."""
    login = bme_login(vendor=vendor)
    call = vendor_of(login).template_call(login, kind, "canary-token")
    assert (call.method, call.path, call.fields) == ("GET", "contact/import/usage", ())
    assert call.query == (("access_token", "canary-token"), ("type", number))
    assert "canary-token" not in repr(call)


def test_who_tells_no_columns_is_not_asked() -> None:
    """配配メール has no such call, and `template_check = "off"` leaves it."""
    for login in (haihai_login(), bme_login(template_check="off")):
        assert vendor_of(login).templates(login) == ()
    assert vendor_of(bme_login()).templates(bme_login()) == ("register", "delete")


# -- reading ---------------------------------------------------------------------------------------------------------

GOOD: Mapping[str, tuple[bytes, str]] = {
    "Shift_JIS": (QUOTED.encode("cp932"), "Shift_JIS"),
    "UTF-8": (QUOTED.encode(), "UTF-8"),
    "UTF-8 with a mark": (QUOTED.encode("utf-8-sig"), "UTF-8"),
    "without quotes": (",".join(HEADERS).encode("cp932"), "Shift_JIS"),
    "LF": (QUOTED.replace("\r\n", "\n").encode("cp932"), "Shift_JIS"),
    "CR": (QUOTED.replace("\r\n", "\r").encode() + b'"a","b","c","d","e"\r', "UTF-8"),
    "sample rows": (
        QUOTED.encode("cp932") + '"配信中","0","sample@example.jp","表","20130101"\r\n'.encode("cp932"),
        "Shift_JIS",
    ),
    "a broken sample row": (QUOTED.encode("cp932") + b'"a"b","\r\n', "Shift_JIS"),
    "a comma at the end": (QUOTED.replace("\r\n", ',""\r\n').encode("cp932"), "Shift_JIS"),
    "empty lines before": (b"\r\n\r\n" + QUOTED.encode("cp932"), "Shift_JIS"),
}


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("content_type", ["application/octet-stream", "text/html", "application/json", ""])
def test_a_template_is_read_however_it_is_written(name: str, content_type: str) -> None:
    """Encoding, mark, quotes, line ends and samples make no difference, nor does what the header calls it."""
    body, encoding = GOOD[name]
    assert read_template(reply(body, content_type=content_type), "register") == Template(HEADERS, encoding)


def test_half_width_kana_are_not_taken_for_utf_8() -> None:
    """Some are valid UTF-8 by chance; what they would then read has no Shift_JIS form, as the vendor's names must."""
    headers = ("ﾂｯ", "ﾃｻ")
    body = ",".join(headers).encode("cp932")
    assert body.decode("utf-8")
    assert read_template(reply(body), "register") == Template(headers, "Shift_JIS")


def test_a_template_for_deleting_may_have_one_column() -> None:
    """A name in quotes is JSON, too, and a template all the same."""
    assert read_template(reply(b'"E-Mail"\r\n'), "delete") == Template(("E-Mail",), "ASCII")
    assert read_template(reply(b"E-Mail"), "delete") == Template(("E-Mail",), "ASCII")


def test_names_are_kept_to_the_letter() -> None:
    """A space at the end of a name, a comma or a quote in it belong to the name."""
    body = '"氏名 ","住所,番地","愛称 ""通称"""\r\n'.encode("cp932")
    read = read_template(reply(body), "register")
    assert read == Template(("氏名 ", "住所,番地", '愛称 "通称"'), "Shift_JIS")


BAD: Mapping[str, tuple[bytes | str, dict[str, Any]]] = {
    "a page": ("<!DOCTYPE html><html><body>ただいま,メンテナンス中です</body></html>", {}),
    "a page behind a mark and white space": ("\ufeff \n<html>a,b</html>", {}),
    "what one brand's document shows": (USAGE_XML_SAMPLE, {}),
    "XML": (XML_SAMPLE, {}),
    "JSON": (JSON_SAMPLE, {}),
    "a JSON error": ('{"error":{"message":"Failure_Request, during processing"}}', {}),
    "broken JSON": ('{"error":{"message":"Failure_', {}),
    "a JSON list": ('["状態","E-Mail"]', {}),
    "a JSON list of words": ("[null,true]", {}),
    "a control character": (b"E-Mail,a\x00b\r\n", {}),
    "a message": ("Failure_Access denied, try again", {}),
    "a word": ("error", {}),
    "an address": ('"状態","taro@example.jp"\r\n'.encode("cp932"), {}),
    "an address in full width": ('"taro＠example．jp","E-Mail"\r\n'.encode("cp932"), {}),
    "empty": (b"", {}),
    "nothing but lines": (b"\r\n\r\n", {}),
    "nothing but commas": (b",,,\r\n", {}),
    "a name missing": (b"a,,b\r\n", {}),
    "a quote that does not end": ('"状態","E-Mail'.encode("cp932"), {}),
    "two lines in a name": ('"状\n態","E-Mail"\r\n'.encode("cp932"), {}),
    "not whole": (QUOTED.encode("cp932"), {"truncated": True}),
    "no encoding": (b'"\xff\xfe\x81","E-Mail"\r\n', {}),
    "bytes": (bytes(range(256)) + b",a\r\n", {}),
    "UTF-16": (QUOTED.encode("utf-16"), {}),
    "megabytes": (QUOTED.encode("cp932") + b'"a","b"\r\n' * (TEMPLATE_BYTES_MAX // 9), {}),
    "too many names": (",".join(f"a{n}" for n in range(HEADERS_MAX + 1)), {}),
    "a sentence": ("a," + "b" * (HEADER_CHARS_MAX + 1), {}),
}


@pytest.mark.parametrize(
    ("name", "kind"),
    # a template for deleting may be one word: `fit` does not believe any
    [(name, kind) for name in BAD for kind in ("register", "delete") if (name, kind) != ("a word", "delete")],
)
def test_nothing_else_is_taken_for_a_template(name: str, kind: TemplateKind) -> None:
    """Relay would hold up data because of it. Nothing of it is repeated."""
    body, more = BAD[name]
    read = read_template(reply(body, **more), kind)
    assert isinstance(read, Transient)
    assert read.reason.startswith("template: HTTP 200")
    assert not any(word in read.reason for word in ("状態", "メンテナンス", "E-Mail", "taro"))


def test_every_status_but_200_is_none_either() -> None:
    """Even with a good template below it: 401 and 403 are refusals, 3xx and 4xx somebody has to mend, 5xx passes."""
    wanted: dict[int, type[Outcome]] = {
        **dict.fromkeys((401, 403), Unauthorized),
        **dict.fromkeys((409, 423, 425, 429), Busy),
        **dict.fromkeys((400, 408), Transient),
    }
    for status in (status for status in range(100, 600) if status != 200):
        found = read_template(reply(QUOTED.encode("cp932"), status), "register")
        otherwise = Misconfigured if status // 100 in (3, 4) else Transient
        assert type(found) is wanted.get(status, otherwise), status


# -- comparing -------------------------------------------------------------------------------------------------------


def compare(to: Account, *register: str, delete: tuple[str, ...] = ("E-Mail",), **login: object) -> Fit | None:
    """Compare an account with templates of a login at blastmail."""
    own = bme_login(**login)
    columns = {operation: vendor_of(own).columns(own, to, operation) for operation in own.operations}
    return fit(to, columns, {"register": Template(register, "UTF-8"), "delete": Template(delete, "ASCII")})


def mapped(*headers: str, **settings: object) -> Account:
    """Make an account that maps these headers beside its address."""
    columns = {"E-Mail": "email", **{header: f"f{n}" for n, header in enumerate(headers)}}
    return account(bme_login(), columns=columns, **{"operations": {"customer.banned": "stop"}, **settings})


def test_what_fits() -> None:
    """All that is mapped and needed is there; what nothing fills is told, but not what relay fills itself."""
    assert compare(mapped("氏名"), *HEADERS) == Fit(
        known=("E-Mail", "氏名"), not_mapped=("エラーカウント", "生年月日"), required=("E-Mail", "状態")
    )


def test_an_unknown_header_is_told_with_what_was_meant() -> None:
    """Spaces, width and case are what people overlook; a name that is like none is told without a guess."""
    register = ("状態", "E-Mail", "氏名", "フリガナ", "会員種別", "Birthday")
    found = compare(mapped("氏名 ", "ﾌﾘｶﾞﾅ", "会員種類", "BIRTHDAY", "血液型"), *register)
    assert found is not None
    assert found.unknown == ("氏名 ", "ﾌﾘｶﾞﾅ", "会員種類", "BIRTHDAY", "血液型")
    assert found.meant == {"氏名 ": "氏名", "ﾌﾘｶﾞﾅ": "フリガナ", "会員種類": "会員種別", "BIRTHDAY": "Birthday"}
    assert found.opt_outs_fit
    assert 'the vendor has no column "氏名 " (did you mean "氏名"?), "ﾌﾘｶﾞﾅ"' in found.told()


def test_guesses_take_no_time_that_a_vendor_may_choose() -> None:
    """Among very many or very long names, and for very many headers, only what people overlook is found."""
    few = tuple(f"項目{n:03}" for n in range(ALIKE_NAMES_MAX - 2))
    many = (*few, "甲", "乙")
    for register, guessed in ((("状態", "E-Mail", *few), True), (("状態", "E-Mail", *many), False)):
        found = compare(mapped("項目０００ ", "項目-001"), *register)
        assert found is not None
        assert found.meant.get("項目０００ ") == "項目000"
        assert ("項目-001" in found.meant) == guessed
    long = "長" * ALIKE_CHARS_MAX
    found = compare(mapped(f"{long}ー", f"{long} "), "状態", "E-Mail", long)
    assert found is not None
    assert found.meant == {f"{long} ": long}
    found = compare(mapped(*(f"項目{n:03}-" for n in range(ALIKE_HEADERS_MAX + 5))), "状態", "E-Mail", *few)
    assert found is not None
    assert len(found.meant) == ALIKE_HEADERS_MAX


def test_names_are_compared_as_they_arrive() -> None:
    """What has one Shift_JIS form is one name (〜 and ～, a letter and its combined form); what has two is not."""
    assert compare(mapped("ＴＥＬ〜", "か\u3099"), "状態", "E-Mail", "ＴＥＬ～", "が") == Fit(
        known=("E-Mail", "ＴＥＬ〜", "か\u3099"), required=("E-Mail", "状態")
    )
    found = compare(mapped("TEL"), "状態", "E-Mail", "ＴＥＬ")
    assert found is not None
    assert found.unknown == ("TEL",)


@pytest.mark.parametrize(
    ("register", "delete", "missing"),
    [
        (("状態", "メールアドレス", "氏名"), ("メールアドレス",), ("E-Mail",)),
        (("配信状態", "E-Mail", "氏名"), ("E-Mail",), ("状態",)),
        (("状態", "E-Mail", "氏名", "PCメール"), ("PCメール",), ("E-Mail",)),
    ],
)
def test_what_opt_outs_need_is_missed(
    register: tuple[str, ...], delete: tuple[str, ...], missing: tuple[str, ...]
) -> None:
    """The address column, 状態 for stops, and the address column of a file to delete: opt-outs do not fit either."""
    found = compare(mapped("氏名"), *register, delete=delete)
    assert found is not None
    assert found.missing == missing
    assert not found.opt_outs_fit
    assert not found.fits
    assert f'"{missing[0]}"' in found.told()


def test_a_renamed_state_is_what_is_needed() -> None:
    """`status_header` names it."""
    found = compare(mapped(), "配信状態", "E-Mail", status_header="配信状態")
    assert found == Fit(known=("E-Mail",), required=("E-Mail", "配信状態"))


def test_only_what_an_account_asks_for_is_needed() -> None:
    """Without stops and allows nobody needs 状態; with allows alone it is missed, but not by opt-outs."""
    ignored = dict.fromkeys(("customer.stopped", "customer.banned", "customer.allowed"), "ignore")
    assert compare(mapped(operations=ignored), "E-Mail", "氏名") == Fit(
        known=("E-Mail",), not_mapped=("氏名",), required=("E-Mail",)
    )
    found = compare(mapped(operations={**ignored, "customer.allowed": "allow"}), "E-Mail", "氏名")
    assert found is not None
    assert (found.missing, found.opt_outs_fit) == (("状態",), True)


def test_what_has_nothing_in_common_is_not_believed() -> None:
    """A text with a comma is no template, and one for deleting that shares no name with the other does not count."""
    assert compare(mapped("氏名"), "Service Unavailable", " try again later") is None
    found = compare(mapped(), *HEADERS, delete=("Service Unavailable",))
    assert found is not None
    assert found.fits


# -- 配配メール: is the login good? ----------------------------------------------------------------------------------


def test_the_probe_can_import_nothing() -> None:
    """The document's form with the import type that there is not, and no file; the secrets are in no repr."""
    login = haihai_login(password_field="transport_password", extra_fields={"token": "canary-extra"})
    call = vendor_of(login).probe_call(login)
    assert call is not None
    assert (call.method, call.path, call.multipart) == ("POST", "/?ac=ScheduleCsvImport", True)
    assert dict(call.fields) == {
        "aid": "123",
        "loginid": "relay",
        "transport_password": "canary-transport",
        "import_type": "4",
        "report_option": "0",
        "token": "canary-extra",
    }
    assert not any(canary in repr(call) for canary in CANARIES)
    assert vendor_of(bme_login()).probe_call(bme_login()) is None


PROBES: Mapping[str, type[Outcome] | None] = {
    "81401": Unauthorized,
    "81402": Unauthorized,
    "81404": Quota,
    "81421": Misconfigured,
    "81422": Misconfigured,
    "81423": Misconfigured,
    "81429": Misconfigured,
    "81431": None,
    "81432": None,
    "81433": Transient,
    "81435": Transient,
    "81499": Transient,
    "OK": Transient,
    "<html>Internal Server Error</html>": Transient,
    "": Transient,
}


@pytest.mark.parametrize("said", PROBES)
@pytest.mark.parametrize("status", [200, 400, 401, 500])
@pytest.mark.parametrize("encoding", ["utf-8", "cp932"])
def test_the_code_says_whether_the_login_is_good(said: str, status: int, encoding: str) -> None:
    """81431 and 81432 stand behind the login, 81401, 81402 and 8142x are about it; all else leaves it open."""
    adapter = vendor_of(haihai_login())
    found = adapter.read_probe(reply(f"{said} エラー".encode(encoding), status))
    assert (None if found is None else type(found)) is PROBES[said]
