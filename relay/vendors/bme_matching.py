"""Whether the CSV file of an error record is about a file as it was sent: only where every row fits beyond doubt.

The file's columns are not documented, so they are found by name: all of the file as sent have to be there, in whatever
order, and one more has the message. Each row must be the content of exactly one line, and no two rows of the same.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from relay.csvline import canonical, decode, split
from relay.settings import STATUS_HEADER
from relay.vendors.base import Claim, Counted
from relay.vendors.bme_records import ErrorTable
from relay.vendors.elements import Doubt

NO_MESSAGES: Final = (STATUS_HEADER, "エラーカウント")
"""Items of every contract. The second, how often mail to a reader has bounced, only looks like a message's name."""

_MESSAGE = re.compile("エラー|メッセージ|理由|内容|error|message|reason", re.IGNORECASE)  # a guess


@dataclass(frozen=True, slots=True)
class Fit:
    """What a table says of a file: `counted` as if the reply had come, and the lines that failed, by number."""

    counted: Counted
    lines: Mapping[int, bytes] = field(repr=False)


def fit(table: ErrorTable, count: int, header: Sequence[str], lines: Iterable[tuple[int, bytes]], rows: int) -> Fit:
    """Fit a record's table, of `count` lines, to the `lines` (CP932 without line ends, by number) of `rows` rows.

    Raises:
        Doubt: it may be about something else, or is not whole. The text holds nothing of any line.
    """
    if count < 1:
        raise Doubt("the record counts no lines")  # the vendor keeps none of an import without failures
    if len(table.rows) != count:
        raise Doubt(f"the record counts {count} lines, its file has {len(table.rows)}")
    if count > rows:
        raise Doubt(f"the record counts {count} lines, but {rows} were sent")
    messages = _messages_by_content(table, header)
    found: dict[int, bytes] = {}
    claims: list[Claim] = []
    left = set(messages)
    for number, line in lines:
        content = tuple(canonical(cell) for cell in split(line))
        if content not in messages:
            continue
        if content not in left:
            raise Doubt("a row of the record fits two lines as sent")
        left.discard(content)
        found[number] = line
        claims.append(Claim(number, decode(line), messages[content]))
    if left:
        raise Doubt(f"{len(left)} of the record's {count} rows fit no line as sent")
    return Fit(Counted(rows - count, count, tuple(claims)), found)


def _messages_by_content(table: ErrorTable, header: Sequence[str]) -> dict[tuple[str, ...], str]:
    """Give the message of each row by its content in the order of the header as sent."""
    names = [canonical(name) for name in table.header]
    wanted = [canonical(name) for name in header]
    if any(names.count(name) != 1 for name in wanted):
        raise Doubt("the record's file has not the columns as sent")
    places = [names.index(name) for name in wanted]
    told = _message_places([name if place not in places else None for place, name in enumerate(names)])
    messages: dict[tuple[str, ...], str] = {}
    for row in table.rows:
        content = tuple(canonical(row[place]) for place in places)
        if content in messages:
            raise Doubt("two rows of the record are the same")
        messages[content] = " / ".join(said for place in told if (said := row[place].strip()))
    return messages


def _message_places(left: Sequence[str | None]) -> list[int]:
    """Find the messages among the columns that were not sent: those called so, else the only one, else none."""
    places = [place for place, name in enumerate(left) if name is not None and name not in NO_MESSAGES]
    called = [place for place in places if _MESSAGE.search(left[place] or "")]
    return called or (places if len(places) == 1 else [])
