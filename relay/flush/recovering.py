"""Settling an upload without an answer from the vendor's own record of it, where that fits beyond doubt.

blastmail and blaynmail keep a record of each import in which lines failed: its type, its time, and the lines. So an
upload whose answer was lost can still be settled, if there were failures. The record is believed only where all of this
holds, and otherwise the file is sent again, which does no harm to data:

- all of the file was sent, and the vendor did not answer: what it did answer, if only with counts that do not add up
  or a 500, counts, and is not overruled by a record;
- it is the only one of its type between the upload's beginning and a minute after its end, more for large files (in
  Japan time, by the vendor's own clock as its replies tell it), up to the next upload of the login that may have left
  such a record: what a person imports hours later must not read as ours;
- no other upload of the login that may have done so ended so shortly before that the record could be that one's;
- its CSV file has as many rows as it counts, not more than were sent, and each is the content of one line of the file
  as sent, no two of the same (`relay.vendors.bme_matching`);
- it is a minute old, more for large files, and so is the end of the upload.

The last one because it is not documented whether a record is written at the end of an import or while it goes on: one
of an import under way would make lines that fail later read as delivered. An import that the vendor itself gave up
halfway would do so, too; nothing can tell that apart, and no such thing is known of these vendors.

No file waits for long: a record that is too young for twice that time, as by a vendor's clock that stands still, is out
of the time that it may be of.

What is certain is only as much as a reply would have told: lines that were not refused were imported. No record means
nothing: neither that the file arrived without failures, nor that it did not arrive.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from relay.batches import Delivered, Manifest, Misconfigured
from relay.events import Operation
from relay.flush.plans import LoginPlan
from relay.flush.records import Asks, export, search
from relay.log import logger
from relay.metrics import Metrics
from relay.settings import Login
from relay.spool import SpoolFile
from relay.store import Store, TakenRecord, Unanswered
from relay.vendors import Sent, vendor_of
from relay.vendors.bme_matching import Fit, fit
from relay.vendors.bme_records import ErrorRecord, Failed, Window, age_s, keeps_records, kind_of, within
from relay.vendors.elements import Doubt

log = logger(__name__)

Answer = TypeVar("Answer")

SETTLED_S: Final = 60.0
"""A record is believed when it and the upload's end are so old, and longer for more rows: an import of 50,000 was seen
to take over a minute. For as long after the upload's end a record may be of it."""

SETTLED_ROWS: Final = 10_000
"""For so many rows it is twice `SETTLED_S`."""

SLACK_S: Final = 2.0
"""By how much a record's time may miss the upload: both it and the vendor's clock tell whole seconds."""

OVER_S: Final = 10.0
"""A record found for an upload may be of one whose import was over so shortly before: the vendor's clocks may vary."""

GOING_ON_S: Final = 3600.0
"""The same for one without an answer, whose import may have gone on, as no other file was taken since."""

LOOK_S: Final = 30.0
"""A look's three calls may take so long together: the login's other files wait meanwhile."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a record says that an upload came to."""

    record: TakenRecord
    outcome: Delivered | Misconfigured


@dataclass(frozen=True, slots=True)
class Later:
    """A record fits, but is too young to be believed for so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class _Seen:
    """The only record that may be of an upload, and for how long nothing can have changed about it."""

    record: ErrorRecord
    quiet_s: float


@dataclass(frozen=True, slots=True)
class _Ago:
    """An upload's times, counted on from when they were asked for: not before the first mark, nor after the second.

    Its record may be made so much later than its end, which is unknown where another replica wrote it down: but no
    upload goes on for longer than its time-out.
    """

    upload: Unanswered
    asked_at: float
    told_at: float
    late_s: float
    timeout_s: float

    def window(self, calling_at: float) -> Window:
        """Say how old a record of this upload can be in an answer, and how old it has to be.

        Where in a call the vendor looked at its clock is not known, so the window is as narrow as may be: of a slow
        answer an older upload's record must not profit.
        """
        next_s = self.upload.next_ago_s
        waited_s = time.monotonic() - self.asked_at
        ended_s = self.upload.ended_ago_s
        if not self.upload.known_whole:
            ended_s = max(ended_s, self.upload.started_ago_s - self.timeout_s)
        newest_s = max(-SLACK_S, ended_s + waited_s - self.late_s - SLACK_S)
        if next_s is not None:
            newest_s = max(newest_s, next_s + waited_s + SLACK_S)
        return Window(self.upload.started_ago_s + calling_at - self.told_at + SLACK_S, newest_s)

    def ended_s(self) -> float:
        """Say how long ago it ended."""
        return self.upload.ended_ago_s + time.monotonic() - self.told_at


class _EndError(Exception):
    """Ends a look: the file has to be sent again. `result` is one of the metric's."""

    def __init__(self, result: str, reason: str) -> None:
        super().__init__(reason)
        self.result = result
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Recovering:
    """Looks for the vendor's records of uploads without an answer."""

    store: Store
    asks: Asks
    metrics: Metrics
    settled_s: float = SETTLED_S

    async def look(
        self, plan: LoginPlan, batch: Manifest, spooled: Callable[[], Awaitable[SpoolFile]]
    ) -> Recovered | Later | None:
        """Say what became of a batch's last upload if it had no answer; None where the file has to be sent again.

        `spooled` gives the file as it was sent. Whatever the vendor answers is no error.
        """
        if batch.login != plan.login.name or not _settles(plan.login, batch.operation):
            return None
        asked_at = time.monotonic()
        upload = await self.store.find_unanswered(batch, OVER_S, GOING_ON_S)
        if upload is None:
            return None
        late_s = self._needed_s(batch)
        ago = _Ago(upload, asked_at, time.monotonic(), late_s, plan.login.upload_timeout_s)
        try:
            file = await spooled()
            async with asyncio.timeout(LOOK_S):
                found: Recovered | Later | _EndError = await self._find(plan, batch, ago, file)
        except TimeoutError:
            found = _EndError("failed", "the vendor takes too long to answer")
        except _EndError as end:
            found = end
        if isinstance(found, Later):
            self._tell(plan, batch, upload, "later", f"a record fits, and is believed in {found.seconds:.0f} s")
            return found
        result = found.result if isinstance(found, _EndError) else "settled"
        self.metrics.recovered.labels(plan.login.vendor, result).inc()
        reason = found.reason if isinstance(found, _EndError) else found.outcome.reason
        self._tell(plan, batch, upload, result, reason)
        return None if isinstance(found, _EndError) else found

    async def _find(self, plan: LoginPlan, batch: Manifest, ago: _Ago, file: SpoolFile) -> Recovered | Later:
        if ago.upload.crowded:
            raise _EndError("doubt", "another upload of the login ended shortly before")
        seen = await self._search(plan, batch, ago)
        if await self.store.is_taken(plan.login.name, seen.record.kind, seen.record.date):
            raise _EndError("doubt", "the record is known to be another upload's")
        fitting = await self._fit(plan, batch, seen.record, file)
        wait_s = self._needed_s(batch) - seen.quiet_s
        if wait_s > 0:
            if batch.operation is Operation.STOP:  # which can be said again without an echo: nobody has to wait
                raise _EndError("doubt", "the record is too young")
            return Later(wait_s + 1)  # times are told in whole seconds
        # between the list and the file another may have come
        if (await self._search(plan, batch, ago)).record != seen.record:
            raise _EndError("doubt", "the record has changed")
        return _recovered(plan, batch, ago.upload, seen.record, fitting)

    def _needed_s(self, batch: Manifest) -> float:
        return self.settled_s * (1 + batch.rows / SETTLED_ROWS)

    async def _search(self, plan: LoginPlan, batch: Manifest, ago: _Ago) -> _Seen:
        calling_at = time.monotonic()
        listed = _answered(await search(self.asks, plan.login))
        if listed.now is None:
            raise _EndError("failed", "the vendor's answer has no readable date")
        found = within(listed.records, kind_of(batch.operation), listed.now, ago.window(calling_at))
        if not found:
            raise _EndError("none", "the vendor has no record of it")
        if len(found) > 1:
            raise _EndError("doubt", f"{len(found)} records may be of it")
        old_s = age_s(found[0], listed.now)
        if old_s is None:
            raise _EndError("doubt", "a record has no readable time")
        return _Seen(found[0], min(old_s, ago.ended_s()))

    async def _fit(self, plan: LoginPlan, batch: Manifest, record: ErrorRecord, file: SpoolFile) -> Fit:
        table, _ = _answered(
            await export(self.asks, plan.login, record.kind, record.date, min(record.count, batch.rows))
        )
        try:  # in a thread: both may have many megabytes
            return await asyncio.to_thread(fit, table, record.count, batch.header, _lines(file.path), batch.rows)
        except Doubt as doubt:
            raise _EndError("doubt", str(doubt)) from None
        except OSError as error:
            raise _EndError("failed", f"the spooled file cannot be read: {type(error).__name__}") from None

    def _tell(self, plan: LoginPlan, batch: Manifest, upload: Unanswered, result: str, reason: str) -> None:
        log.info(
            "record_looked_for",
            login=plan.login.name,
            account=batch.account,
            batch=batch.id,
            number=upload.number,
            result=result,
            reason=reason,
        )


def _recovered(plan: LoginPlan, batch: Manifest, upload: Unanswered, record: ErrorRecord, fitting: Fit) -> Recovered:
    """Judge as if the reply had said so."""
    sent = Sent(plan.login, plan.accounts[batch.account], batch.operation, batch.rows)
    outcome = vendor_of(plan.login).judge(fitting.counted, sent, fitting.lines)
    if not isinstance(outcome, Delivered | Misconfigured):
        raise _EndError("doubt", outcome.reason)
    reason = (
        f"settled from the vendor's record of upload {upload.number} ({record.kind} {record.date}): {outcome.reason}"
    )
    taken = TakenRecord(record.kind, record.date, record.count, batch.account, batch.id, upload.number)
    if isinstance(outcome, Misconfigured):
        return Recovered(taken, Misconfigured(reason))
    return Recovered(taken, Delivered(outcome.rejections, reason))


def _settles(login: Login, operation: Operation) -> bool:
    """Whether records can settle an operation at all.

    Where the messages for unknown addresses are set, a deletion is said again instead: that leaves no echo, while a
    record of addresses that are not there, made by a person who deletes the same customers in the same minute, would
    look like ours, and those whom only our file has would stay.
    """
    return keeps_records(login) and not (operation is Operation.DELETE and login.unknown_address_messages)


def _answered(read: Answer | Failed) -> Answer:
    if isinstance(read, Failed):
        raise _EndError("failed", read.reason)
    return read


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Read the lines below the header, without their ends. No byte of a Shift_JIS character is a line feed."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if number > 1:
                yield number, line.removesuffix(b"\r\n")
