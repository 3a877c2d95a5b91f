"""How the replies of blastmail and blaynmail are read.

The facts are from the API documents of both unless marked as seen in public clients. The texts of the messages
are not public, so as little as possible hangs on them, and what hangs on them stands in the constants below.
"""

import json
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Final
from xml.etree.ElementTree import Element, ParseError

from defusedxml.ElementTree import fromstring

from relay.batches import Busy, Misconfigured, Outcome, Refused, TooLarge, Transient, Unauthorized, Unknown
from relay.vendors.base import Claim, Counted, Reply, by_status, excerpt

TOKEN_CHARS_MAX: Final = 4096
"""A longer text is not a token but a page."""

_BUSY = "request during processing"  # seen: another import of the contract is running, perhaps a person's
_REFUSED = "data is incorrect"  # seen
_SETTINGS = re.compile(r"illegal|parameter|permission|not allowed", re.IGNORECASE)  # "illegal format" was seen

_WRAPPERS = ("contact", "import", "result")  # seen around the counts

Tree = Mapping[str, object]


def read_counts(reply: Reply) -> Outcome | Counted:
    """Read counts and refused lines, JSON first, XML as fallback, whatever the Content-Type says (seen: both come).

    A reply that is not whole makes the next file smaller: the reply grows with the refused lines. At 400 the known
    messages are told apart by `_failed`; 200 that cannot be understood is `Unknown`.
    """
    if outcome := by_status(reply):
        return outcome
    said = excerpt(reply)
    if reply.status != HTTPStatus.OK:
        return _failed(reply.text, said)
    if reply.truncated:
        return Unknown(said, timed_out=True)
    return _counted(_parse(reply.text)) or _failed(reply.text, said)


def read_token(reply: Reply) -> str | Outcome:
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
