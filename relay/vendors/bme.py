"""blastmail and blaynmail: one REST API under two brands that imports at once and answers line by line.

The facts are from the API documents of both unless marked as seen in public clients. The texts of the messages
are not public, so as little as possible hangs on them, and what hangs on them stands in the constants below.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Final
from xml.etree.ElementTree import Element, ParseError

from defusedxml.ElementTree import fromstring

from relay.batches import (
    Busy,
    Delivered,
    LineRejection,
    Misconfigured,
    Outcome,
    Refused,
    TooLarge,
    Transient,
    Unauthorized,
    Unknown,
)
from relay.csvline import fold, same_record, split
from relay.events import Operation
from relay.settings import Account, BmeLogin, Column, Login
from relay.vendors.base import Claim, Counted, Form, Reply, Sent, by_status, excerpt

STATES: Mapping[Operation, str] = {Operation.STOP: "配信停止", Operation.ALLOW: "配信中"}
"""What 状態 is set to. Never empty: an empty 状態 subscribes people again who left (seen)."""

SAME_MESSAGE_ROWS_MIN: Final = 5
"""From so many rows on, one message for every line of an upsert is taken for a fault of the settings."""

FIRST_LINE: Final = 2
"""The first line of data: the header is line 1 (the documents' samples)."""

MESSAGE_CHARS_MAX: Final = 500
"""So much of a vendor's message on one line is kept; a longer one is no message."""

TOKEN_CHARS_MAX: Final = 4096
"""A longer text is not a token but a page."""

_BUSY = "request during processing"  # seen: another import of the contract is running, perhaps a person's
_REFUSED = "data is incorrect"  # seen
_SETTINGS = re.compile(r"illegal|parameter|permission|not allowed", re.IGNORECASE)  # "illegal format" was seen
_HEADER = re.compile(r"ヘッダ|項目名|header|column", re.IGNORECASE)  # a guess: the texts are not public

_WRAPPERS = ("contact", "import", "result")  # seen around the counts

Tree = Mapping[str, object]


def _own(login: Login) -> BmeLogin:
    if not isinstance(login, BmeLogin):
        raise TypeError(f"not a login at blastmail or blaynmail: {login.name}")
    return login


class Bme:
    """The API of both brands (`contact/import/…`)."""

    needs_token = True

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
        """Read counts and refused lines, JSON first, XML as fallback, whatever the Content-Type says (seen: both come).

        A reply that is not whole makes the next file smaller: the reply grows with the refused lines. At 400 the known
        messages are told apart by `_failed`; 200 that cannot be understood is `Unknown`.
        """
        del sent  # compared in `judge`
        if outcome := by_status(reply):
            return outcome
        said = excerpt(reply)
        if reply.status != HTTPStatus.OK:
            return _failed(reply.text, said)
        if reply.truncated:
            return Unknown(said, timed_out=True)
        return _counted(_parse(reply.text)) or _failed(reply.text, said)

    def judge(self, counted: Counted, sent: Sent, lines: Mapping[int, bytes]) -> Outcome:
        """Trust the counts only where they add up and each refused line's content fits the line as sent.

        A `delete` or `stop` line refused because the address is not there has what it wanted: it counts as delivered
        where its message holds one of the login's `unknown_address_messages`.

        An unknown header fails every line (seen), and must not reject the customers wholesale. Its text is not public,
        so it is known by its effect. Every line refused by one message about headers is `Misconfigured`, whatever the
        operation; so are `SAME_MESSAGE_ROWS_MIN` rows or more of an upsert in the mode `all` that are refused by one
        message of any kind. Not so in the modes `create` and `update`, nor for any other operation: there one message
        for all lines is natural ("already there", "not there"), no setting could mend it, and a lane paused by mistake
        would hold back the opt-outs of the whole login, while rejected lines hold back nobody and can be retried.
        """
        if doubt := _doubt(counted, sent, lines):
            return Unknown(doubt)
        refused = [claim for claim in counted.claims if not _as_wanted(claim, sent)]
        if len(refused) == sent.rows and (fault := _settings_at_fault(refused, sent, lines)):
            return Misconfigured(fault)
        reason = f"{sent.rows - len(refused)} of {sent.rows} lines delivered"
        return Delivered(tuple(LineRejection(claim.line, _clean(claim.message)) for claim in refused), reason)

    def login_form(self, login: Login) -> tuple[str, tuple[tuple[str, str], ...]]:
        """`authenticate/login` with name, password and API key."""
        own = _own(login)
        fields = (
            ("username", own.username),
            ("password", own.password.value),
            ("api_key", own.api_key.value),
            ("f", "json"),
        )
        return "authenticate/login", fields

    def read_token(self, reply: Reply) -> str | Outcome:
        """Find `accessToken` (JSON) or `access_token` (XML), wherever it stands (seen)."""
        said = "login: " + excerpt(reply)
        if reply.status == HTTPStatus.OK:
            token = _find_token(_parse(reply.text))
            return Transient(said + ", no token") if token is None else token
        if _BUSY in reply.text.lower():
            return Busy(said, reply.retry_after_s)
        match by_status(reply):
            case None | Unauthorized():
                return Unauthorized(said)
            case Busy(retry_after_s=patience):
                return Busy(said, patience)
            case Misconfigured() | TooLarge():
                return Misconfigured(said)
            case _:
                return Transient(said)


# -- reading replies -------------------------------------------------------------------------------------------------


def _failed(text: str, said: str) -> Outcome:
    """Tell apart what the API says when it takes no file (`Failure_…`, seen with 400).

    Two texts are known. One that speaks of the request's form is the settings'. The rest is `Unknown`: 400 is not
    always permanent at this vendor, so it is tried again, and a text not thought of here neither holds back the login's
    opt-outs (a pause would) nor rejects a line (cutting the file in halves would).
    """
    lowered = text[:100_000].lower()
    if _BUSY in lowered:
        return Busy(said)
    if f"failure_{_REFUSED}" in lowered:
        return Refused(said)
    if (found := re.search('failure_[^"<\r\n]*', lowered)) and _SETTINGS.search(found[0]):
        return Misconfigured(said)
    return Unknown(said)


def _parse(text: str) -> Tree | None:
    """Read a JSON object or an XML document as nested mappings; None for anything else."""
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError):
        try:
            tree = _nested(fromstring(text.strip()))
        except (ParseError, ValueError, RecursionError):  # ValueError: an entity, which defusedxml refuses
            return None
    return tree if isinstance(tree, dict) else None


def _nested(element: Element) -> object:
    """Turn XML into what the JSON of the same reply looks like: a repeated element becomes a list."""
    if len(element) == 0:
        return (element.text or "").strip()
    tree: dict[str, object] = {}
    for child in element:
        name, value = child.tag.rpartition("}")[2], _nested(child)
        if name not in tree:
            tree[name] = value
        elif isinstance(already := tree[name], list):
            already.append(value)
        else:
            tree[name] = [already, value]
    return tree


def _counted(tree: Tree | None) -> Counted | None:
    """Find `success`, `failure` and the refused lines; None unless both counts are whole numbers."""
    while tree is not None and not {"success", "failure"} <= tree.keys():
        tree = next((inner for name in _WRAPPERS if isinstance(inner := tree.get(name), dict)), None)
    if tree is None:
        return None
    success, failure = _whole(tree["success"]), _whole(tree["failure"])
    if success is None or failure is None:
        return None
    details = tree.get("details")
    listed = details.get("detail") if isinstance(details, dict) and "lineNumber" not in details else details
    claimed: Sequence[object] = listed if isinstance(listed, list) else [listed]
    return Counted(success, failure, tuple(_claim(detail) for detail in claimed if detail))


def _whole(value: object) -> int | None:
    """Take a count as a number or a string of digits."""
    if isinstance(value, str) and re.fullmatch("[0-9]{1,9}", value.strip()):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _claim(detail: object) -> Claim:
    """Read one refused line; what has no readable line number gets 0, which no line has."""
    if not isinstance(detail, dict):
        return Claim(0, "", "")
    texts = [value if isinstance(value := detail.get(name), str) else "" for name in ("content", "message")]
    return Claim(_whole(detail.get("lineNumber")) or 0, texts[0], texts[1])


def _find_token(tree: object) -> str | None:
    if not isinstance(tree, dict):
        return None
    for name in ("accessToken", "access_token"):
        value = tree.get(name)
        if isinstance(value, str) and len(value) <= TOKEN_CHARS_MAX and re.fullmatch("[!-~]+", value):
            return value
    return next((found for inner in tree.values() if (found := _find_token(inner))), None)


# -- judging counts --------------------------------------------------------------------------------------------------


def _doubt(counted: Counted, sent: Sent, lines: Mapping[int, bytes]) -> str | None:
    """Say why the counts cannot be trusted, without a word of any line; None if they can."""
    claims = counted.claims
    if counted.success + counted.failure != sent.rows:
        return f"{counted.success} + {counted.failure} counted, but {sent.rows} rows were sent"
    if len(claims) != counted.failure:
        return f"{counted.failure} failures counted, but {len(claims)} lines named"
    if len({claim.line for claim in claims}) != len(claims):
        return "a line was named twice"
    for claim in claims:
        line = lines.get(claim.line)
        if line is None or not FIRST_LINE <= claim.line <= sent.rows + 1:
            return f"line {claim.line} was named, but lines 2 to {sent.rows + 1} were sent"
        if not same_record(line, claim.content):
            return f"what was repeated of line {claim.line} does not fit the line as sent"
    return None


def _as_wanted(claim: Claim, sent: Sent) -> bool:
    return sent.operation in (Operation.DELETE, Operation.STOP) and any(
        text in claim.message for text in sent.login.unknown_address_messages
    )


def _settings_at_fault(refused: Sequence[Claim], sent: Sent, lines: Mapping[int, bytes]) -> str | None:
    """Say so if one message for every line looks like an unknown header; see `Bme.judge`.

    The message is repeated only where several customers share it and it holds nothing of their lines, so that it is
    about none of them.
    """
    messages = {re.sub(r"\d+", "…", _clean(claim.message)) for claim in refused}  # a line's number may be in it
    if len(messages) != 1:
        return None
    message = messages.pop()
    many_upserts = sent.operation is Operation.UPSERT and sent.rows >= SAME_MESSAGE_ROWS_MIN
    if not _HEADER.search(message) and not (many_upserts and sent.account.mode == "all"):
        return None
    repeated = f": {message}" if sent.rows > 1 and not _quotes(refused[0].message, lines.values()) else ""
    return f"all lines were refused by one message, as for an unknown header{repeated}"


def _quotes(message: str, lines: Iterable[bytes]) -> bool:
    """Say whether a message holds a value of one of the lines, in whatever case; single characters mean nothing."""
    said = fold(message).casefold()
    cells = {cell.strip().casefold() for line in lines for cell in split(line)}
    return any(cell in said for cell in cells if len(cell) > 1)


def _clean(message: str) -> str:
    """Make a vendor's message fit to be stored: no control characters, no lone surrogates, not endless."""
    text = message[:MESSAGE_CHARS_MAX].encode("utf-8", "replace").decode("utf-8")
    return re.sub("[\x00-\x1f\x7f]+", " ", text).strip()
