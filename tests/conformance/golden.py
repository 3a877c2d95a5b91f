"""The golden files: the bytes of every operation's file, and of the form around it, as they go to each vendor.

`python -m tests.conformance.golden` writes those that are missing, to be read by a person before they are believed; it
changes none that are there. The boundary is a fixed one, and so are the customers.
"""

from pathlib import Path
from urllib.parse import urlencode

from relay import csvline
from relay.client.body import frame
from relay.columns import Plan
from relay.events import Operation
from relay.settings import Account, Login
from relay.vendors import vendor_of
from tests.conformance.candidates import CANDIDATES, Candidate

FOLDER = Path(__file__).with_name("golden")
BOUNDARY = "relay-0123456789abcdef0123456789abcdef"

CUSTOMERS = [
    {"email": "taro@example.jp", "name": "髙橋 太郎", "birthday": "2013-01-01"},
    {"email": "foo..bar@example.com", "name": '表の"花子"～㈱', "birthday": "1999-12-31"},
]
"""A 髙, which only IBM's code writes as others do; a 表, whose second byte is a backslash; quotes; ～ and ㈱."""


def csv(login: Login, to: Account, operation: Operation) -> bytes:
    """Write the file as relay does: the present headers, then a line for each customer."""
    columns = vendor_of(login).columns(login, to, operation)
    plan = Plan(columns, to.address)
    lines = [csvline.record(plan.render(data, to.unencodable).cells) for data in CUSTOMERS]
    return csvline.record(list(columns)) + b"".join(lines)


def body(login: Login, to: Account, operation: Operation) -> bytes:
    """Write the whole multipart body, its path first, on a line of its own."""
    vendor = vendor_of(login)
    form = vendor.upload_form(login, to, operation, "canary-token" if vendor.needs_token else None)
    head, tail = frame(form, BOUNDARY)
    return f"POST {form.path}\r\n\r\n".encode() + head + csv(login, to, operation) + tail


def files_of(candidate: Candidate) -> dict[Path, bytes]:
    """Make all golden files of a vendor as relay would write them now."""
    login = candidate.login()
    to, folder = candidate.to(login), FOLDER / candidate.vendor
    files = {}
    for operation in sorted(login.operations):
        files[folder / f"{operation}.csv"] = csv(login, to, Operation(operation))
        files[folder / f"{operation}.body"] = body(login, to, Operation(operation))
    for mode in sorted(login.modes - {to.mode}):
        in_mode = to.model_copy(update={"mode": mode})
        files[folder / f"upsert-{mode}.body"] = body(login, in_mode, Operation.UPSERT)
    if candidate.adapter.needs_token:
        call = candidate.adapter.login_call(login)
        files[folder / "login.form"] = f"{call.method} {call.path}\r\n\r\n{urlencode(call.fields)}".encode()
    return files


def write_missing() -> list[Path]:
    """Write the files that are not there yet; return which."""
    missing = [(path, text) for c in CANDIDATES.values() for path, text in files_of(c).items() if not path.exists()]
    for path, text in missing:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
    return [path for path, _ in missing]


if __name__ == "__main__":
    for written in write_missing():
        print(f"written, to be read before it is believed: {written}")  # noqa: T201 - a command
