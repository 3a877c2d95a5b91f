"""What the adapter for 配配メール promises."""

import pytest

from relay.batches import Accepted, Misconfigured, Outcome, Quota, Unauthorized, Unknown
from relay.events import Operation
from relay.vendors import Counted
from relay.vendors.haihai import Haihai
from tests.unit.vendors.made import HAIHAI_CODES, account, bme_login, haihai_login, reply, sent

LOGIN = haihai_login()


def fields(operation: Operation = Operation.UPSERT, *, login: object = LOGIN, **settings: object) -> dict[str, str]:
    """Return the text parts of a form."""
    assert isinstance(login, type(LOGIN))
    return dict(Haihai().upload_form(login, account(login, **settings), operation, None).fields)


# -- what is sent ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "number"), [("upsert", "0"), ("delete", "1"), ("stop", "2"), ("ban", "3"), ("allow", "5")]
)
def test_each_operation_has_its_import_type(operation: str, number: str) -> None:
    """0 registers, 1 deletes, 2 stops, 3 bans, 5 allows; 4 is never sent."""
    assert fields(Operation(operation))["import_type"] == number


def test_overwriting_is_said_with_upserts_only() -> None:
    """The mode `all` overwrites, `create` does not; other operations do not say."""
    assert fields(mode="all")["is_overwrite"] == "1"
    assert fields(mode="create")["is_overwrite"] == "0"
    assert [o for o in Operation if "is_overwrite" in fields(o)] == [Operation.UPSERT]


def test_group_and_step_plan_are_named_where_they_are_set() -> None:
    """Gid and spid are sent with every operation of an account that has them, and not otherwise."""
    assert not {"gid", "spid"} & fields().keys()
    for operation in Operation:
        assert fields(operation, group_id=7)["gid"] == "7"
        assert fields(operation, step_plan_id=9)["spid"] == "9"


def test_the_password_part_and_extra_parts_are_settings() -> None:
    """The document and public clients differ on the password's name, and newer contracts want parts of their own."""
    login = haihai_login(
        password_field="transport_password", extra_fields={"api_token": "canary-extra"}, report_option=2
    )
    form = Haihai().upload_form(login, account(login), Operation.STOP, None)
    assert form.fields == (
        ("aid", "123"),
        ("loginid", "relay"),
        ("transport_password", "canary-transport"),
        ("import_type", "2"),
        ("report_option", "2"),
        ("api_token", "canary-extra"),
    )
    assert (form.path, form.file_field) == ("/?ac=ScheduleCsvImport", "csvfile")


@pytest.mark.parametrize("operation", sorted(set(Operation) - {Operation.UPSERT}))
def test_only_upserts_read_more_than_the_address(operation: Operation) -> None:
    """Whatever else is wrong with a customer's data keeps no opt-out back."""
    assert list(Haihai().columns(LOGIN, account(LOGIN), operation)) == ["メールアドレス"]


def test_an_upsert_holds_all_columns_in_their_order() -> None:
    """The columns are the account's, as written."""
    assert list(Haihai().columns(LOGIN, account(LOGIN), Operation.UPSERT)) == ["メールアドレス", "氏名", "生年月日"]


def test_a_login_at_another_vendor_is_a_bug() -> None:
    """Nothing is sent with another vendor's credentials."""
    other = bme_login()
    with pytest.raises(TypeError, match="blast"):
        Haihai().upload_form(other, account(other), Operation.UPSERT, None)


# -- what an answer means --------------------------------------------------------------------------------------------


CODES: dict[str, type[Outcome]] = {
    "81401": Unauthorized,
    "81402": Unauthorized,
    "81404": Quota,
    **dict.fromkeys([c for c in HAIHAI_CODES if c[3] in "23"], Misconfigured),
    "81429": Misconfigured,
    "81434": Misconfigured,
}


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("status", [200, 400, 401, 403, 500, 503])
def test_a_code_says_more_than_the_status(code: str, status: int) -> None:
    """Which status comes with which code is documented nowhere; the code counts."""
    body = f"{code} {HAIHAI_CODES.get(code, '')}"
    outcome = Haihai().read(reply(body, status), sent(LOGIN))
    assert isinstance(outcome, CODES[code])
    assert code in outcome.reason


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp932", "euc_jp"])
@pytest.mark.parametrize(
    "shape", ["エラーコード81435。", "code={code}", '{{"error":{code}}}', "<code>{code}</code>", "{code}"]
)
def test_a_code_is_found_in_any_format_and_encoding(encoding: str, shape: str) -> None:
    """The body's format is not documented, and its encoding may be any."""
    body = shape.format(code="81435").encode(encoding)
    assert isinstance(Haihai().read(reply(body, 400), sent(LOGIN)), Misconfigured)
    assert "81435" in Haihai().read(reply(body, 400), sent(LOGIN)).reason


@pytest.mark.parametrize("text", ["1814040", "x81404y", "id-a81404", "814045", "80000081404"])
def test_a_part_of_a_number_is_no_code(text: str) -> None:
    """An identifier on a proxy's error page must not stop a lane until tomorrow."""
    assert isinstance(Haihai().read(reply(text, 502), sent(LOGIN)), Unknown)


@pytest.mark.parametrize(
    ("status", "outcome"), [(200, Unknown), (400, Misconfigured), (401, Unauthorized), (500, Unknown)]
)
def test_an_unknown_code_leaves_the_word_to_the_status(status: int, outcome: type[Outcome]) -> None:
    """A code that nobody has heard of is not success, even at 200; otherwise the status counts."""
    assert isinstance(Haihai().read(reply("81499", status), sent(LOGIN)), outcome)


@pytest.mark.parametrize("body", ["", "OK", "受け付けました", b"\x8e\xf3\x82\xaf", b"\xff\xfe\x00"])
def test_200_is_accepted_and_no_more(body: str | bytes) -> None:
    """Whatever it says besides, 200 means that the file was taken; it never counts lines."""
    outcome = Haihai().read(reply(body), sent(LOGIN))
    assert isinstance(outcome, Accepted)
    assert not isinstance(outcome, Counted)


def test_a_200_that_broke_off_is_not_accepted() -> None:
    """What is missing could hold a code."""
    assert isinstance(Haihai().read(reply("O", truncated=True), sent(LOGIN)), Unknown)
