"""Files that get smaller, down to the one line at fault, and grow again.

Theory of operation. A file that the vendor refuses, or never answers, may fail for one line in it. So it is cut anew
with half of its rows, and the cursor remembers where the failed file ended (`suspect_to`): up to there files only get
smaller, whether they succeed or not, so that one bad line costs about log2(rows) uploads to find. The line is then
rejected, and files grow again.

When three lines in a row come out as being at fault, it is not the lines: their rejections are taken back. Where the
vendor refused them it is the settings, and the lane pauses. Where it did not answer, it is the vendor, and the
operation waits before the next round; in case that it was the lines after all, that round goes on to more of them.

A line that was rejected without a word of the vendor's is not given up: see `AGAIN_DELAYS_S`.
"""

import math
from dataclasses import replace

from relay.batches.outcomes import LineRejection, Unknown
from relay.batches.settlement import RETRY_DELAYS_S, Settlement, ended, not_understood
from relay.batches.states import BatchState, Cursor, Manifest, Terms

NARROW_AFTER = 2
"""A file of many lines that ended Unknown so often is halved: the vendor may fail at one line, every time. The first
time may have been a moment's trouble, and halving is not free. A time-out is halved at once, because it has cost
enough, and so is any file in a later round."""

SINGLE_TRIES_MAX = 3
"""A line that ended Unknown so often when it was sent alone is rejected: the others behind it have to go on. In a later
round once is enough."""

UNANSWERED = "the vendor never gave a proper answer when this line was sent alone"
"""What the message of a line begins with that was rejected without a word of the vendor's."""

AGAIN_DELAYS_S = RETRY_DELAYS_S[2:]
"""How long after its rejection such a line is appended again, the first, second, … time; the last one repeats. Its
tries took the delays before: together the line waits as any failed attempt does, but nothing waits behind it."""

UPSERTS_AGAIN_MAX = 6
"""An upsert is appended again so often, in 9 hours; then it is a dead letter. Opt-outs are never given up."""

REFUSED_LINES_MAX = 3
"""So many single lines rejected in a row, nothing ended otherwise between, mean that it is not the lines: the settings
are wrong where the vendor refused them, the vendor is unwell where it did not answer."""

LATER_LINES_MAX = 8
"""So many it takes in a later round: neighbours may be at fault for the same reason, and others wait behind them. More
would spend the day's calls where it is the vendor."""

ROWS_UNLIMITED = 1_000_000
"""A row limit that has grown to this is forgotten: no vendor's file size lets so many rows in."""


def grown(batch: Manifest, terms: Terms) -> Cursor:
    """Let the file size grow back, or go on halving while the rest of a refused file holds the line at fault."""
    cursor = batch.cursor
    rows, size = cursor.rows_max, cursor.bytes_max
    # A small file says nothing about large ones.
    if size is not None and batch.bytes * 2 > size:
        size = size + size // 4 + 1
        size = size if size < terms.file_bytes_max else None
    if cursor.suspect_to is not None and batch.cut_to < cursor.suspect_to:
        return replace(cursor, rows_max=None if rows is None else math.ceil(rows / 2), bytes_max=size)
    if rows is not None and (batch.rows * 2 > rows or batch.bytes * 2 > terms.file_bytes_max):
        rows = rows * 2 if rows * 2 < ROWS_UNLIMITED else None
    return replace(cursor, rows_max=rows, bytes_max=size, suspect_to=None)


def unanswered_file(batch: Manifest, outcome: Unknown, terms: Terms, jitter: float) -> Settlement:
    """Wait for another try, and if the file has had its tries, let that be with half of its lines.

    The batch stays as it is until then, so that what became of it can still be found out. Only whole files count as
    attempts, and upserts are not given up before they were tried in halves.
    """
    narrowing = _suspect(batch)
    attempts = batch.cursor.attempts + (0 if narrowing else 1)
    attempts_max = max(terms.attempts_max, NARROW_AFTER + 1)
    if not narrowing and attempts >= attempts_max and not batch.operation.opt_out:
        return Settlement(BatchState.FAILED, outcome.reason, ended(batch.cursor))
    unanswered = batch.cursor.unanswered + 1
    cursor = replace(batch.cursor, attempts=attempts, unanswered=unanswered)
    if narrowing or outcome.timed_out or unanswered >= NARROW_AFTER or cursor.rounds:
        cursor = halved(batch, cursor)
    return Settlement(BatchState.WAITING, outcome.reason, cursor, delay_s=RETRY_DELAYS_S[0] * (1 + jitter))


def unanswered_line(batch: Manifest, reason: str, terms: Terms, jitter: float) -> Settlement:
    """Try a single line some times, then reject it, or take back the last few such lines: it is not the lines."""
    narrowing = _suspect(batch) or batch.cursor.refused_lines > 0
    attempts = batch.cursor.attempts + (0 if narrowing else 1)
    if not narrowing and attempts >= terms.attempts_max and not batch.operation.opt_out:
        return Settlement(BatchState.FAILED, reason, ended(batch.cursor))
    tries, rounds = batch.cursor.unanswered + 1, batch.cursor.rounds
    if tries < SINGLE_TRIES_MAX and not rounds:
        cursor = replace(batch.cursor, attempts=attempts, unanswered=tries)
        delay_s = RETRY_DELAYS_S[0 if narrowing else tries - 1]
        return Settlement(BatchState.WAITING, reason, cursor, delay_s=delay_s * (1 + jitter))
    if batch.cursor.refused_lines + 1 < (LATER_LINES_MAX if rounds else REFUSED_LINES_MAX):
        # Its tries were its own: they make nobody behind it wait longer, nor be given up sooner.
        attempts = max(0, attempts - (0 if narrowing else tries))
        return _rejected(batch, f"{UNANSWERED}: {reason}", replace(batch.cursor, attempts=attempts))
    # What was learnt of sizes was learnt of a vendor that is unwell. A round counts as an attempt even where no
    # whole file did, or upserts would never end.
    attempts = max(batch.cursor.attempts, rounds + 1)
    cursor = replace(ended(batch.cursor), attempts=attempts, rounds=rounds + 1, rows_max=None, suspect_to=None)
    delay_s = RETRY_DELAYS_S[-1 if rounds else -2]
    return replace(_taken_back(batch, reason, cursor), delay_s=delay_s * (1 + jitter))


def smaller(batch: Manifest, reason: str, cursor: Cursor) -> Settlement:
    """Cut a file anew at once, with the limits of this cursor."""
    return Settlement(BatchState.REPLACED, reason, replace(cursor, unanswered=0), position=batch.cut_from)


def halved(batch: Manifest, cursor: Cursor) -> Cursor:
    """Remember that one of a file's lines may be at fault: up to its end files only get smaller."""
    return replace(cursor, unanswered=0, rows_max=batch.rows // 2, suspect_to=batch.cut_to)


def _suspect(batch: Manifest) -> bool:
    """Whether a batch is part of a file that has been halved."""
    return batch.cursor.suspect_to is not None and batch.cut_from < batch.cursor.suspect_to


def refused_line(batch: Manifest, reason: str) -> Settlement:
    """Reject the one line of a file that was refused, or take back the last few such lines: the settings are wrong."""
    if batch.cursor.refused_lines + 1 < REFUSED_LINES_MAX:
        return _rejected(batch, reason, replace(batch.cursor, attempts=0, rounds=0))
    settlement = _taken_back(batch, reason, replace(ended(batch.cursor), suspect_to=None))
    return not_understood(settlement, batch.operation)


def _rejected(batch: Manifest, reason: str, cursor: Cursor) -> Settlement:
    """Reject the one line of a file, so that what is behind it goes on."""
    past_suspect = cursor.suspect_to is not None and batch.cut_to >= cursor.suspect_to
    cursor = replace(
        cursor,
        unanswered=0,
        suspect_to=None if past_suspect else cursor.suspect_to,
        refused_lines=cursor.refused_lines + 1,
        refused_from=_refused_from(batch),
    )
    return Settlement(BatchState.FAILED, reason, cursor, rejections=(LineRejection(2, reason),), refused=True)


def _taken_back(batch: Manifest, reason: str, cursor: Cursor) -> Settlement:
    """Undo the rejections of the last few single lines, and replace this one's batch, too."""
    begin = _refused_from(batch)
    return Settlement(BatchState.REPLACED, reason, cursor, position=begin, take_back_from=begin)


def _refused_from(batch: Manifest) -> int:
    """Where the first of the single lines that were rejected in a row was cut; this one's if it is the first."""
    return batch.cut_from if batch.cursor.refused_from is None else batch.cursor.refused_from
