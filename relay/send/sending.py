"""Sending a file: its lines in requests of some hundred, a few requests at once, and what became of all of them."""

import asyncio
import csv
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Self, TextIO

from aiohttp import ClientSession

from relay.send.customers import Line, Unsendable, read, survey
from relay.send.posting import RETRY_DELAYS_S, Answer, Poster, Refusal
from relay.settings import Secret

REQUESTS_AT_ONCE = 2
"""One is being mapped and appended while the next travels; more would only take room from live webhooks."""

LINES_PER_REQUEST = 500
"""Half of what relay takes in one request."""

REQUEST_BYTES_MAX = 4_000_000
"""Well under relay's own limit, and under what proxies usually allow to be configured."""

REFUSALS_SHOWN_MAX = 20
"""So many refused lines are shown at the end; `--report` has them all."""

OK, REFUSED, FAILED = 0, 1, 2
"""Exit codes: all taken (or known already), some lines refused, nothing could be sent or not all of it."""


@dataclass(frozen=True, slots=True)
class SendOptions:
    """What to send where. `secret` or `token` is needed; `timestamp` is the moment at which the file was true."""

    url: str
    source: str
    file: Path
    type: str = "customer.created"
    secret: Secret | None = None
    token: Secret | None = None
    id_prefix: str = "send-"
    timestamp: datetime | None = None
    report: Path | None = None
    lines_per_request: int = LINES_PER_REQUEST
    retry_delays_s: Sequence[float] = RETRY_DELAYS_S


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of a file's lines. `refusals` are the first few, `warnings` are counted by account and field."""

    accepted: int
    duplicates: int
    refused: int
    events: int
    warnings: Counter[tuple[str, str]]
    refusals: tuple[Refusal, ...]

    @property
    def exit_code(self) -> int:
        """`OK` where every line is in the log, now or since earlier; else `REFUSED`."""
        return REFUSED if self.refused else OK


Told = Callable[[int, int], None]
"""Told of progress: how many lines are done, of about how many."""


async def send(options: SendOptions, told: Told = lambda _done, _lines: None) -> Sent:
    """Send a file. Raises Unreadable where it cannot be read, Unsent where relay is not reached or lets us not in."""
    found = await asyncio.to_thread(survey, options.file, options.timestamp)
    chunks = _chunks(read(options.file, found, options.type, options.id_prefix), options.lines_per_request)
    with _Total(options.report) as total:
        async with ClientSession() as session:
            poster = Poster(session, options.url, options.source, options.secret, options.token, options.retry_delays_s)

            async def work() -> None:
                for chunk in chunks:  # shared: each chunk goes to whoever asks first
                    total.add_unsendable(chunk.unsendable)
                    if chunk.lines:
                        total.add(await poster.post(chunk.lines))
                    told(total.done, found.lines)

            try:
                async with asyncio.TaskGroup() as tasks:
                    for _ in range(REQUESTS_AT_ONCE):
                        tasks.create_task(work())
            except BaseExceptionGroup as group:
                raise group.exceptions[0] from None
        return total.sent()


@dataclass(slots=True)
class _Chunk:
    """The webhooks of one request, and the lines between them that are none."""

    lines: list[Line] = field(default_factory=list)
    unsendable: list[Unsendable] = field(default_factory=list)
    size: int = 0


def _chunks(lines: Iterator[Line | Unsendable], lines_max: int) -> Iterator[_Chunk]:
    chunk = _Chunk()
    for line in lines:
        if isinstance(line, Unsendable):
            chunk.unsendable.append(line)
        else:
            chunk.lines.append(line)
            chunk.size += len(line.body)
        if len(chunk.lines) + len(chunk.unsendable) >= lines_max or chunk.size >= REQUEST_BYTES_MAX:
            yield chunk
            chunk = _Chunk()
    if chunk.lines or chunk.unsendable:
        yield chunk


class _Total:
    """Adds up the answers and writes the refused lines to the report as they come."""

    def __init__(self, report: Path | None) -> None:
        self._report = report
        self._file: TextIO | None = None
        self._answer = Answer()
        self._shown: list[Refusal] = []

    def __enter__(self) -> Self:
        if self._report is not None:
            self._file = self._report.open("w", encoding="utf-8", newline="")
            csv.writer(self._file).writerow(("line", "webhook_id", "field", "message"))
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    @property
    def done(self) -> int:
        """How many lines have been answered."""
        return self._answer.accepted + self._answer.duplicates + self._answer.refused

    def add(self, answer: Answer) -> None:
        """Add an answer."""
        refusals, answer.refusals = answer.refusals, []
        self._answer.add(answer)
        self._shown += refusals[: REFUSALS_SHOWN_MAX - len(self._shown)]
        if self._file is not None:
            rows = ((r.line, r.webhook_id, r.problem.field, r.problem.message) for r in refusals)
            csv.writer(self._file).writerows(rows)

    def add_unsendable(self, lines: Sequence[Unsendable]) -> None:
        """Add lines that were not even sent."""
        self.add(Answer(refused=len(lines), refusals=[Refusal(line.number, "", line.problem) for line in lines]))

    def sent(self) -> Sent:
        """Sum up."""
        a = self._answer
        shown = tuple(sorted(self._shown, key=lambda refusal: refusal.line))
        return Sent(a.accepted, a.duplicates, a.refused, a.events, a.warnings, shown)
