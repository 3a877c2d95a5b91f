"""配配メール: a file is taken at once and imported later; the answer never tells what became of it.

The facts are from its API document unless marked otherwise. Codes outrank the HTTP status, whatever it is: which
status comes with which code is documented nowhere, and a code says more.
"""

from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Final

from relay.batches import Accepted, Misconfigured, Outcome, Quota, Transient, Unauthorized, Unknown
from relay.errors import FieldError
from relay.events import Operation
from relay.settings import Account, Column, HaihaiLogin, Login
from relay.vendors.base import CODE, Call, Counted, Form, Reply, Sent, by_status, excerpt
from relay.vendors.templates import Template, TemplateKind

IMPORT_TYPES: Mapping[Operation, int] = {
    Operation.UPSERT: 0,
    Operation.DELETE: 1,
    Operation.STOP: 2,
    Operation.BAN: 3,
    Operation.ALLOW: 5,
}
"""登録, 削除, 停止, 禁止, 可能. There is no 4 (81431)."""

PROBE_IMPORT_TYPE: Final = "4"

_PATH: Final = "/?ac=ScheduleCsvImport"

_BEHIND_THE_LOGIN: Final = frozenset({"81431", "81432"})
"""The import type is not known, or the file is missing (guessed: the document leaves this number out)."""

OWN_FIELDS: Final = frozenset(
    {"aid", "loginid", "import_type", "is_overwrite", "gid", "spid", "report_option", "csvfile"}
)
"""The parts that relay fills in itself; extra fields may not be called so."""

_CODES: Mapping[str, Outcome] = {
    "81401": Unauthorized("81401: the aid, the login id or the password is wrong"),
    "81402": Unauthorized("81402: the address that relay sends from is not on the contract's list"),
    # Seen in public clients, not in the document.
    "81404": Quota("81404: the day's calls are spent"),
    "81421": Misconfigured("81421: the aid is malformed"),
    "81422": Misconfigured("81422: the login id is malformed"),
    "81423": Misconfigured("81423: no password arrived; is `password_field` the right name?"),
    "81431": Misconfigured("81431: the import type is not known"),
    "81433": Misconfigured("81433: is_overwrite is neither 0 nor 1"),
    "81435": Misconfigured("81435: there is no such group"),
}


def _own(login: Login) -> HaihaiLogin:
    if not isinstance(login, HaihaiLogin):
        raise TypeError(f"not a login at 配配メール: {login.name}")
    return login


class Haihai:
    """配配メール's CSV import (`ac=ScheduleCsvImport`)."""

    needs_token = False

    def check_login(self, login: Login) -> Iterator[FieldError]:
        """Extra fields may not take the names of relay's own parts, nor may the password."""
        own, path = _own(login), f"logins.{login.name}"
        taken = sorted({*OWN_FIELDS, own.password_field} & own.extra_fields.keys())
        if taken:
            yield FieldError(f"{path}.extra_fields", f"relay fills in {', '.join(taken)} itself")
        if own.password_field in OWN_FIELDS:
            yield FieldError(f"{path}.password_field", f"{own.password_field} is another part of the form")

    def check_account(self, login: Login, account: Account) -> Iterator[FieldError]:
        """No error records: what became of the lines is shown on the admin screen only."""
        if account.delete_error_records:
            path = f"accounts.{account.name}.delete_error_records"
            yield FieldError(path, f"{login.vendor} keeps no error records, only blastmail and blaynmail do")

    def columns(self, login: Login, account: Account, operation: Operation) -> Mapping[str, Column]:
        """All mapped columns for upserts, else the address: import types 1, 2, 3 and 5 read nothing more."""
        _own(login)
        if operation is Operation.UPSERT:
            return account.columns
        return {account.address_header: account.columns[account.address_header]}

    def upload_form(self, login: Login, account: Account, operation: Operation, token: str | None) -> Form:
        """Name the parts in the document's order, the file last (a public client's order, seen to work)."""
        own = _own(login)
        if token is not None:
            raise TypeError("配配メール knows no tokens")
        fields = {
            "aid": str(own.aid),
            "loginid": own.login_id,
            own.password_field: own.transport_password.value,
            "import_type": str(IMPORT_TYPES[operation]),
        }
        if operation is Operation.UPSERT:
            fields["is_overwrite"] = "0" if account.mode == "create" else "1"
        if account.group_id is not None:
            fields["gid"] = str(account.group_id)
        if account.step_plan_id is not None:
            fields["spid"] = str(account.step_plan_id)
        fields["report_option"] = str(own.report_option)
        fields.update({name: value.value for name, value in own.extra_fields.items()})
        return Form(_PATH, tuple(fields.items()), "csvfile", "customers.csv", "text/csv")

    def read(self, reply: Reply, sent: Sent) -> Outcome:
        """Read a code if there is one, else the status: 200 took the file, 400 found fault with the form.

        A 400 is never the lines' fault: they are not looked at before the import, which is later. The body's format is
        not documented, so a code is looked for anywhere in it. An unknown code beside a 200 says that something is
        wrong, so that is not `Accepted`.
        """
        del sent  # nothing in the answer depends on it
        codes = CODE.findall(reply.text)
        for code in codes:
            if meaning := _meaning(code):
                return meaning
        if outcome := by_status(reply):
            return outcome
        said = excerpt(reply)
        if reply.status != HTTPStatus.OK:
            return Misconfigured(said)
        if codes or reply.truncated:
            return Unknown(said)
        return Accepted(said)

    def judge(self, counted: Counted, sent: Sent, lines: Mapping[int, bytes]) -> Outcome:
        """Never called: `read` yields no counts, the vendor answers before it counts."""
        raise NotImplementedError("配配メール's answers hold no counts")

    def login_call(self, login: Login) -> Call:
        """Never called: every upload carries the password itself."""
        raise NotImplementedError("配配メール knows no tokens")

    def read_token(self, reply: Reply) -> str | Outcome:
        """Never called: every upload carries the password itself."""
        raise NotImplementedError("配配メール knows no tokens")

    def templates(self, login: Login) -> tuple[TemplateKind, ...]:
        """None: 配配メール does not tell its items, and ignores a column whose name it does not know, silently."""
        _own(login)
        return ()

    def template_call(self, login: Login, kind: TemplateKind, token: str | None) -> Call:
        """Never called: there is no such call."""
        raise NotImplementedError("配配メール has no templates")

    def read_template(self, reply: Reply, kind: TemplateKind) -> Template | Outcome:
        """Never called: there is no such call."""
        raise NotImplementedError("配配メール has no templates")

    def probe_call(self, login: Login) -> Call | None:
        """Send the form of an upload without a file, and with the import type that there is not (4).

        It cannot import anything. The document's codes tell what was looked at first: 81401, 81402 and 8142x the login,
        81431 the import type, and with it that the login was good.
        """
        own = _own(login)
        fields = {
            "aid": str(own.aid),
            "loginid": own.login_id,
            own.password_field: own.transport_password.value,
            "import_type": PROBE_IMPORT_TYPE,
            "report_option": "0",
            **{name: value.value for name, value in own.extra_fields.items()},
        }
        return Call("POST", _PATH, fields=tuple(fields.items()), multipart=True)

    def read_probe(self, reply: Reply) -> Outcome | None:
        """Read the first code. One that finds fault with another part of the form than was sent leaves it open."""
        code = next(iter(CODE.findall(reply.text)), "")
        if code in _BEHIND_THE_LOGIN:
            return None
        meaning = _meaning(code) if code and not code.startswith("8143") else None
        return meaning or Transient("login: " + excerpt(reply))


def _meaning(code: str) -> Outcome | None:
    if known := _CODES.get(code):
        return known
    if code[3] in "23":  # 8142x: who is asking, 8143x: what is asked for
        return Misconfigured(f"{code}: 配配メール does not take a part of the form as it is")
    return None
