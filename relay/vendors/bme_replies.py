"""How the replies of blastmail and blaynmail are read.

The facts are from the API documents of both unless marked as seen in public clients. The texts of the messages
are not public, so as little as possible hangs on them, and what hangs on them stands in the constants below.
"""

import re
from collections.abc import Iterable
from http import HTTPStatus
from itertools import islice
from typing import Final

from relay.batches import Busy, Misconfigured, Outcome, Refused, Transient, Unauthorized, Unknown
from relay.vendors.base import Counted, Reply, by_status, by_status_without_file, excerpt
from relay.vendors.bme_counting import Counting
from relay.vendors.charsets import texts
from relay.vendors.elements import Doubt, elements

TOKEN_CHARS_MAX: Final = 4096
"""A longer text is not a token but a page."""

_BUSY = "request during processing"  # seen: another import of the contract is running, perhaps a person's
_REFUSED = "data is incorrect"  # seen
_SETTINGS = re.compile(r"illegal|parameter|permission|not allowed", re.IGNORECASE)  # "illegal format" was seen
_FAILURE = re.compile(r"\s*failure_", re.IGNORECASE)
_ELEMENTS_ROW = 10  # a refused line has five
_ELEMENTS_BESIDE = 1_000
_TOKEN = re.compile(f"[!-~]{{1,{TOKEN_CHARS_MAX}}}")


def read_counts(reply: Reply, rows: int) -> Outcome | Counted:
    """Read counts and refused lines of `rows` that were sent, be it JSON or XML, whatever the Content-Type says.

    Of a 200, only what is whole and can be meant in one way counts; a failure must be all that it says, since the words
    of a failure may stand in a customer's line as well. All else is `Unknown`. A reply that is not whole makes the next
    file smaller: the reply grows with the refused lines. A 400 holds no lines, so its message is looked for anywhere.
    """
    if outcome := by_status(reply):
        return outcome
    told = excerpt(reply)
    if reply.status != HTTPStatus.OK:
        return _failed(_said(reply, rows), reply)
    if reply.truncated:
        return Unknown(told, timed_out=True)
    counting = Counting(rows)
    try:
        _take_all(counting, reply, rows)
        return counting.counted() or _failed(counting.said, reply)
    except Doubt as doubt:
        head = _head(reply)
        return _failed([head], reply) if _FAILURE.match(head) else Unknown(f"{told}; {doubt}")


def read_token(reply: Reply) -> str | Outcome:
    """Find `accessToken` (JSON) or `access_token` (XML), wherever it stands (seen); two that differ are none."""
    told = "login: " + excerpt(reply)
    if reply.status == HTTPStatus.OK:
        found = _tokens(reply)
        return found.pop() if len(found) == 1 else Transient(told + ", no token")
    if _BUSY in _head(reply).lower():
        return Busy(told, reply.retry_after_s)
    return by_status_without_file(reply, told) or Unauthorized(told)


def _failed(said: Iterable[str], reply: Reply) -> Outcome:
    """Tell apart what the API says when it takes no file (`Failure_…`, seen with 400).

    Two texts are known. One that speaks of the request's form is the settings'. The rest is `Unknown`: 400 is not
    always permanent at this vendor, so it is tried again, and a text not thought of here neither holds back the login's
    opt-outs (a pause would) nor rejects a line (cutting the file in halves would).
    """
    told, lowered = excerpt(reply), "\n".join(said).lower()
    if _BUSY in lowered:
        return Busy(told, reply.retry_after_s)
    if f"failure_{_REFUSED}" in lowered:
        return Refused(told)
    if (found := re.search('failure_[^"<\r\n]*', lowered)) and _SETTINGS.search(found[0]):
        return Misconfigured(told)
    return Unknown(told)


def _said(reply: Reply, rows: int) -> list[str]:
    """Give the messages of a failure, or where none can be made out the beginning of the reply."""
    counting = Counting(rows)
    try:
        _take_all(counting, reply, rows)
    except Doubt:
        return [_head(reply)]
    return counting.said or [_head(reply)]


def _take_all(counting: Counting, reply: Reply, rows: int) -> None:
    for element in elements(texts(reply.body, reply.content_type), _ELEMENTS_BESIDE + _ELEMENTS_ROW * rows):
        counting.take(element)


def _head(reply: Reply) -> str:
    """Give the first hundred thousand characters or so, as far as they can be read."""
    return "".join(islice(texts(reply.body, reply.content_type), 2))


def _tokens(reply: Reply) -> set[str]:
    """Name the tokens in a reply that can be read to its end."""
    found = set()
    try:
        for kind, name, value in elements(texts(reply.body, reply.content_type), _ELEMENTS_BESIDE):
            if kind == "leaf" and name in ("accessToken", "access_token") and isinstance(value, str):
                found.add(value)
    except Doubt:
        return set()
    return {value for value in found if _TOKEN.fullmatch(value)}
