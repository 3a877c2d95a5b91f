"""The bytes that go to each vendor for each operation: the CSV file and the multipart body around it."""

import pytest

from relay import csvline
from relay.client import body_bytes
from relay.client.body import frame
from relay.columns import Plan
from relay.events import Operation
from relay.settings import Account, Login
from relay.vendors import vendor_of
from tests.unit.vendors.made import account, bme_login, haihai_login

BOUNDARY = "relay-0123456789abcdef0123456789abcdef"

CUSTOMERS = [
    {"email": "taro@example.jp", "name": "髙橋 太郎", "birthday": "2013-01-01"},
    {"email": "foo..bar@example.com", "name": '表の"花子"～㈱', "birthday": "1999-12-31"},
]
"""A 髙, which only IBM's code writes as others do; a 表, whose second byte is a backslash; quotes; ～ and ㈱."""

TARO = b"\xfb\xfc\x8b\xb4 \x91\xbe\x98Y"  # 髙橋 太郎
HANAKO = b'\x95\\\x82\xcc""\x89\xd4\x8eq""\x81`\x87\x8a'  # 表の""花子""～㈱
NAME, BIRTHDAY = b"\x8e\x81\x96\xbc", b"\x90\xb6\x94N\x8c\x8e\x93\xfa"  # 氏名, 生年月日
ADDRESS = b"\x83\x81\x81[\x83\x8b\x83A\x83h\x83\x8c\x83X"  # メールアドレス
STATUS = b"\x8f\xf3\x91\xd4"  # 状態
STOPPED, MAILED = b"\x94z\x90M\x92\xe2\x8e~", b"\x94z\x90M\x92\x86"  # 配信停止, 配信中


def csv(login: Login, to: Account, operation: Operation) -> bytes:
    """Write the file as relay does: the present headers, then a line for each customer."""
    columns = vendor_of(login).columns(login, to, operation)
    plan = Plan(columns, to.address)
    lines = [csvline.record(plan.render(data, to.unencodable).cells) for data in CUSTOMERS]
    return csvline.record(list(columns)) + b"".join(lines)


UPSERT_LINES = (
    b'"taro@example.jp","' + TARO + b'","20130101"\r\n"foo..bar@example.com","' + HANAKO + b'","19991231"\r\n'
)
ADDRESS_LINES = b'"taro@example.jp"\r\n"foo..bar@example.com"\r\n'


@pytest.mark.parametrize("operation", Operation)
def test_the_file_for_haihai(operation: Operation) -> None:
    """Upserts hold every column, all other operations the address alone."""
    login = haihai_login()
    wanted = (
        b'"' + ADDRESS + b'","' + NAME + b'","' + BIRTHDAY + b'"\r\n' + UPSERT_LINES
        if operation is Operation.UPSERT
        else b'"' + ADDRESS + b'"\r\n' + ADDRESS_LINES
    )
    assert csv(login, account(login), operation) == wanted


@pytest.mark.parametrize("vendor", ["blastmail", "blaynmail"])
def test_the_files_for_bme(vendor: str) -> None:
    """Upserts hold every column, deletes the address alone, stops and allows the address and a constant 状態."""
    login = bme_login(vendor=vendor)
    files = {operation: csv(login, account(login), Operation(operation)) for operation in login.operations}
    states = b'"E-Mail","' + STATUS + b'"\r\n"taro@example.jp","%b"\r\n"foo..bar@example.com","%b"\r\n'
    assert files == {
        Operation.UPSERT: b'"E-Mail","' + NAME + b'","' + BIRTHDAY + b'"\r\n' + UPSERT_LINES,
        Operation.DELETE: b'"E-Mail"\r\n' + ADDRESS_LINES,
        Operation.STOP: states % (STOPPED, STOPPED),
        Operation.ALLOW: states % (MAILED, MAILED),
    }


HAIHAI_BODIES = {
    Operation.UPSERT: """--{b}
Content-Disposition: form-data; name="aid"

123
--{b}
Content-Disposition: form-data; name="loginid"

relay
--{b}
Content-Disposition: form-data; name="transport_passwd"

canary-transport
--{b}
Content-Disposition: form-data; name="import_type"

0
--{b}
Content-Disposition: form-data; name="is_overwrite"

1
--{b}
Content-Disposition: form-data; name="gid"

7
--{b}
Content-Disposition: form-data; name="spid"

8
--{b}
Content-Disposition: form-data; name="report_option"

1
--{b}
Content-Disposition: form-data; name="csvfile"; filename="customers.csv"
Content-Type: text/csv

FILE
--{b}--
""",
} | {
    operation: f"""--{{b}}
Content-Disposition: form-data; name="aid"

123
--{{b}}
Content-Disposition: form-data; name="loginid"

relay
--{{b}}
Content-Disposition: form-data; name="transport_passwd"

canary-transport
--{{b}}
Content-Disposition: form-data; name="import_type"

{number}
--{{b}}
Content-Disposition: form-data; name="gid"

7
--{{b}}
Content-Disposition: form-data; name="spid"

8
--{{b}}
Content-Disposition: form-data; name="report_option"

1
--{{b}}
Content-Disposition: form-data; name="csvfile"; filename="customers.csv"
Content-Type: text/csv

FILE
--{{b}}--
"""
    for operation, number in ((Operation.DELETE, 1), (Operation.STOP, 2), (Operation.BAN, 3), (Operation.ALLOW, 5))
}

BME_BODIES = {
    operation: f"""--{{b}}
Content-Disposition: form-data; name="access_token"

canary-token
--{{b}}
Content-Disposition: form-data; name="f"

json
--{{b}}
Content-Disposition: form-data; name="import"; filename="{name}.csv"
Content-Type: text/plain

FILE
--{{b}}--
"""
    for operation, name in (
        (Operation.UPSERT, "all"),
        (Operation.DELETE, "delete"),
        (Operation.STOP, "update"),
        (Operation.ALLOW, "update"),
    )
}

BODIES: list[tuple[Login, Account, Operation, str]] = [
    *[
        (haihai_login(), account(haihai_login(), group_id=7, step_plan_id=8), operation, text)
        for operation, text in HAIHAI_BODIES.items()
    ],
    *[
        (login, account(login), operation, text)
        for login in (bme_login(), bme_login(vendor="blaynmail"))
        for operation, text in BME_BODIES.items()
    ],
]


@pytest.mark.parametrize(
    ("login", "to", "operation", "text"),
    BODIES,
    ids=[f"{login.vendor}-{operation}" for login, _, operation, _ in BODIES],
)
def test_the_body(login: Login, to: Account, operation: Operation, text: str) -> None:
    """Text parts with nothing but a name, in their order, the file last; its size is known before it is sent."""
    adapter = vendor_of(login)
    file = csv(login, to, operation)
    form = adapter.upload_form(login, to, operation, "canary-token" if adapter.needs_token else None)
    head, tail = frame(form, BOUNDARY)
    wanted = text.replace("{b}", BOUNDARY).replace("\n", "\r\n").encode("ascii").replace(b"FILE", file)
    assert head + file + tail == wanted
    assert body_bytes(form, len(file)) == len(wanted)


def test_every_operation_of_every_vendor_has_a_golden_body() -> None:
    """An operation that is added needs its bytes written down here."""
    assert {(login.vendor, operation) for login, _, operation, _ in BODIES} == {
        (login.vendor, operation)
        for login in (haihai_login(), bme_login(), bme_login(vendor="blaynmail"))
        for operation in login.operations
    }


def test_names_and_values_beyond_ascii() -> None:
    """Values go as UTF-8, names with a quote or a line break are escaped as browsers do, so none starts a part."""
    login = haihai_login(login_id="髙橋", extra_fields={'a"\r\nb': "canary-extra"})
    head, _ = frame(vendor_of(login).upload_form(login, account(login), Operation.STOP, None), BOUNDARY)
    assert 'name="loginid"\r\n\r\n髙橋\r\n'.encode() in head
    assert b'name="a%22%0D%0Ab"\r\n\r\ncanary-extra\r\n' in head
