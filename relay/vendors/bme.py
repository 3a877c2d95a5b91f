"""blastmail and blaynmail: one REST API under two brands that imports at once and answers line by line.

The facts are from the API documents of both unless marked as seen in public clients. The texts of the messages
are not public, so as little as possible hangs on them. Replies are read in `bme_replies` and judged in `bme_judging`.
"""

from collections.abc import Iterator, Mapping

from relay.batches import Outcome
from relay.csvline import fold, unencodable
from relay.errors import FieldError
from relay.events import Operation
from relay.settings import STATUS_HEADER, Account, BmeLogin, Column, Login
from relay.vendors.base import Call, Counted, Form, Reply, Sent
from relay.vendors.bme_judging import judge_counts
from relay.vendors.bme_replies import read_counts, read_token
from relay.vendors.bme_templates import read_template, template_call
from relay.vendors.templates import Template, TemplateKind

STATES: Mapping[Operation, str] = {Operation.STOP: "配信停止", Operation.ALLOW: "配信中"}
"""What 状態 is set to. Never empty: an empty 状態 subscribes people again who left (seen)."""


def _own(login: Login) -> BmeLogin:
    if not isinstance(login, BmeLogin):
        raise TypeError(f"not a login at blastmail or blaynmail: {login.name}")
    return login


class Bme:
    """The API of both brands (`contact/import/…`)."""

    needs_token = True

    def check_login(self, login: Login) -> Iterator[FieldError]:
        """状態 may have another name, but one that the file can hold."""
        own = _own(login)
        if not own.status_header.strip() or unencodable(own.status_header):
            path = f"logins.{login.name}.status_header"
            yield FieldError(path, "expected a header that has a Shift_JIS (CP932) form")

    def check_account(self, login: Login, account: Account) -> Iterator[FieldError]:
        """No groups or step plans, and no column for 状態."""
        own, path = _own(login), f"accounts.{account.name}"
        for name in ("group_id", "step_plan_id"):
            if getattr(account, name) is not None:
                yield FieldError(f"{path}.{name}", f"{login.vendor} has no such thing, only 配配メール has")
        for header in account.columns:
            if fold(header).strip() in (STATUS_HEADER, fold(own.status_header).strip()):
                message = f"{header} is no column for data: an empty cell in it subscribes people again who left"
                yield FieldError(f"{path}.columns", message)

    def columns(self, login: Login, account: Account, operation: Operation) -> Mapping[str, Column]:
        """All mapped columns for upserts, the address for deletes, address and 状態 for stops and allows."""
        own = _own(login)
        if operation is Operation.UPSERT:
            return account.columns
        columns = {account.address_header: account.columns[account.address_header]}
        if operation is not Operation.DELETE:
            columns[own.status_header] = Column(type="constant", constant=STATES[operation])
        return columns

    def upload_form(self, login: Login, account: Account, operation: Operation, token: str | None) -> Form:
        """Name the endpoint by mode or operation. A stop goes to `update`: `all` would create a reader to stop."""
        own = _own(login)
        if token is None:
            raise TypeError("blastmail and blaynmail want a token")
        endpoint = {Operation.UPSERT: account.mode, Operation.DELETE: "delete"}.get(operation, "update")
        fields = (("access_token", token), ("f", "json"))
        return Form(f"contact/import/{endpoint}", fields, own.file_field, f"{endpoint}.csv", "text/plain")

    def read(self, reply: Reply, sent: Sent) -> Outcome | Counted:
        """Read counts and refused lines; see `read_counts`."""
        return read_counts(reply, sent.rows)

    def judge(self, counted: Counted, sent: Sent, lines: Mapping[int, bytes]) -> Outcome:
        """Trust the counts only where they add up and fit the lines as sent; see `judge_counts`."""
        return judge_counts(counted, sent, lines)

    def login_call(self, login: Login) -> Call:
        """`authenticate/login` with name, password and API key."""
        own = _own(login)
        fields = (
            ("username", own.username),
            ("password", own.password.value),
            ("api_key", own.api_key.value),
            ("f", "json"),
        )
        return Call("POST", "authenticate/login", fields=fields)

    def read_token(self, reply: Reply) -> str | Outcome:
        """Find the token of a login call, wherever it stands; see `bme_replies`."""
        return read_token(reply)

    def templates(self, login: Login) -> tuple[TemplateKind, ...]:
        """Both, unless the settings say that nobody is to ask."""
        return () if _own(login).template_check == "off" else ("register", "delete")

    def template_call(self, login: Login, kind: TemplateKind, token: str | None) -> Call:
        """`contact/import/usage`; see `bme_templates`."""
        _own(login)
        if token is None:
            raise TypeError("blastmail and blaynmail want a token")
        return template_call(kind, token)

    def read_template(self, reply: Reply, kind: TemplateKind) -> Template | Outcome:
        """Read the first line of a CSV file; see `bme_templates`."""
        return read_template(reply, kind)

    def probe_call(self, login: Login) -> Call | None:
        """None: a token is proof enough."""
        _own(login)
        return None

    def read_probe(self, reply: Reply) -> Outcome | None:
        """Never called: there is no such call."""
        raise NotImplementedError("a token is proof enough")
