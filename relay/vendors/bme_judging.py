"""What the counts of blastmail and blaynmail come to: believed only where they fit what was sent."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from relay.batches import Delivered, LineRejection, Misconfigured, Outcome, Unknown
from relay.csvline import fold, same_record
from relay.events import Operation
from relay.settings import BmeLogin
from relay.vendors.base import Counted, Sent
from relay.vendors.claims import MESSAGE_CHARS_MAX, MESSAGES_MAX

SAME_MESSAGE_ROWS_MIN: Final = 5
"""From so many rows on, one message for every line of an upsert is taken for a fault of the settings."""

FIRST_LINE: Final = 2
"""The first line of data: the header is line 1 (the documents' samples)."""

_HEADER = re.compile(r"ヘッダ|項目名|header|column", re.IGNORECASE)  # a guess: the texts are not public


def judge_counts(counted: Counted, sent: Sent, lines: Mapping[int, bytes]) -> Outcome:
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
    refused = tuple(_rejections(counted, sent))
    if len(refused) == sent.rows and (fault := _settings_at_fault(refused, sent)):
        return Misconfigured(fault)
    return Delivered(refused, f"{sent.rows - len(refused)} of {sent.rows} lines delivered")


def _doubt(counted: Counted, sent: Sent, lines: Mapping[int, bytes]) -> str | None:
    """Say why the counts cannot be trusted, without a word of any line; None if they can."""
    claims = counted.claims
    if counted.success + counted.failure != sent.rows:
        return f"{counted.success} + {counted.failure} counted, but {sent.rows} rows were sent"
    if len(claims) != counted.failure:
        return f"{counted.failure} failures counted, but {len(claims)} lines named"
    named = bytearray(FIRST_LINE + sent.rows)  # a byte for each line: a set of numbers takes a hundred times as much
    for claim in claims:
        line = lines.get(claim.line)
        if line is None or not FIRST_LINE <= claim.line <= sent.rows + 1:
            return f"line {claim.line} was named, but lines 2 to {sent.rows + 1} were sent"
        if named[claim.line]:
            return "a line was named twice"
        named[claim.line] = True
        if not same_record(line, claim.content):
            return f"what was repeated of line {claim.line} does not fit the line as sent"
    return None


def _rejections(counted: Counted, sent: Sent) -> Iterator[LineRejection]:
    """Give the lines that were truly refused, equal messages being one text."""
    wanted = sent.login.unknown_address_messages if sent.operation in (Operation.DELETE, Operation.STOP) else ()
    messages: dict[str, str] = {}
    for claim in counted.claims:
        if not any(text in claim.message for text in wanted):
            message = _clean(claim.message)
            message = messages.get(message, message)
            if len(messages) < MESSAGES_MAX:
                messages[message] = message
            yield LineRejection(claim.line, message)


def _settings_at_fault(refused: Sequence[LineRejection], sent: Sent) -> str | None:
    """Say so if one message for every line looks like an unknown header; see `judge_counts`.

    Nothing of the message is repeated, since logs and pages show the reason: it may hold a secret of the login, or a
    customer in another spelling than the line's. Told are only the settings' own headers that it holds.
    """
    message = _without_numbers(refused[0])
    if any(_without_numbers(rejection) != message for rejection in refused):
        return None
    many_upserts = sent.operation is Operation.UPSERT and sent.rows >= SAME_MESSAGE_ROWS_MIN
    if not _HEADER.search(message) and not (many_upserts and sent.account.mode == "all"):
        return None
    named = ", ".join(f'"{header}"' for header in _headers_in(refused[0].message, sent))
    return "all lines were refused by one message, as for an unknown header" + (f"; it holds {named}" if named else "")


def _headers_in(message: str, sent: Sent) -> list[str]:
    """Find the settings' headers that a message holds, as they are written in the settings."""
    own = [sent.login.status_header] if isinstance(sent.login, BmeLogin) else []
    said = fold(message)
    return [header for header in [*sent.account.columns, *own] if (fold(header).strip() or header) in said]


def _without_numbers(rejection: LineRejection) -> str:
    return re.sub(r"\d+", "…", rejection.message)  # a line's number may be in it


def _clean(message: str) -> str:
    """Make a vendor's message fit to be stored: no control characters, no lone surrogates, not endless."""
    text = message[:MESSAGE_CHARS_MAX].encode("utf-8", "replace").decode("utf-8")
    return re.sub("[\x00-\x1f\x7f]+", " ", text).strip()
