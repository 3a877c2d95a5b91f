"""What a simulated vendor remembers of the calls it got, so that tests can ask. Pure.

An *overlap* is an upload to a contract that began before another of the same contract had ended. Whose an upload is
shows only in its body, so the comparison is made then, with the times at which both began. An upload whose client has
gone no longer counts as under way.
"""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from relay.demo.sim_readers import Import

UPLOADS_KEPT = 1_000
FILES_KEPT = 20
FILE_KEPT_BYTES_MAX = 1_000_000
"""So many uploads and files are remembered; files larger than this are not kept."""


@dataclass(slots=True, eq=False)
class Upload:
    """One upload. `status` is None where no answer was given; `rows` is None where the file was not read so far.

    `applied` says that the import was done (at 配配メール: accepted for later). `fault` is the fault that was met.
    """

    number: int
    began: float
    gone: Callable[[], bool]
    content_length: int | None
    contract: str | None = None
    list_name: str | None = None
    operation: str | None = None
    field_names: tuple[str, ...] = ()
    file_bytes: int | None = None
    rows: int | None = None
    success: int | None = None
    failure: int | None = None
    applied: bool = False
    status: int | None = None
    fault: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it without what only this process understands."""
        left_out = {"began", "gone"}
        return {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in left_out}


@dataclass(slots=True)
class Counts:
    """Counts of one contract.

    `uploads` whose contract was known, `answered` with 200, `applied`, `overlaps`, `busy` answers, `broken` (the client
    went before the body was complete), `bad_files` (no CSV or no Shift_JIS), `repeated` (rows naming a reader twice in
    one file), `rows`, `failed_rows`, `bytes` of files, `logins` granted, `unauthorized`, `calls` against a quota,
    `templates` given.
    """

    uploads: int = 0
    answered: int = 0
    applied: int = 0
    overlaps: int = 0
    busy: int = 0
    broken: int = 0
    bad_files: int = 0
    repeated: int = 0
    rows: int = 0
    failed_rows: int = 0
    bytes: int = 0
    logins: int = 0
    unauthorized: int = 0
    calls: int = 0
    templates: int = 0

    def as_json(self) -> dict[str, int]:
        """Return the counts by name."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(slots=True)
class Record:
    """Everything remembered by one server. `clock` counts seconds from anywhere."""

    clock: Callable[[], float]
    counts: dict[str, Counts] = field(default_factory=dict)
    uploads: deque[Upload] = field(default_factory=lambda: deque(maxlen=UPLOADS_KEPT))
    files: deque[tuple[str, bytes]] = field(default_factory=lambda: deque(maxlen=FILES_KEPT))
    answers: Counter[int] = field(default_factory=Counter)
    seen: int = 0
    _under_way: dict[str, list[Upload]] = field(default_factory=dict)
    _last_end: dict[str, float] = field(default_factory=dict)

    def of(self, contract: str) -> Counts:
        """Return a contract's counts, which are made at nought."""
        return self.counts.setdefault(contract, Counts())

    def begin(self, content_length: int | None, gone: Callable[[], bool]) -> Upload:
        """Note that an upload has begun; `gone` tells at any time whether its client has left."""
        self.seen += 1
        upload = Upload(self.seen, self.clock(), gone, content_length)
        self.uploads.append(upload)
        return upload

    def identify(self, upload: Upload, contract: str) -> None:
        """Note whose upload it is, and whether it overlaps another of the same contract."""
        counts = self.of(contract)
        counts.uploads += 1
        upload.contract = contract
        under_way = self._under_way.setdefault(contract, [])
        ended_since = self._last_end.get(contract, float("-inf")) > upload.began
        if ended_since or any(not other.gone() for other in under_way):
            counts.overlaps += 1
        under_way.append(upload)

    def end(self, upload: Upload, status: int | None) -> None:
        """Note that an upload has been answered (or not: None)."""
        upload.status = status
        if status is not None:
            self.answers[status] += 1
        if upload.contract is not None:
            self.of(upload.contract).answered += status == 200  # noqa: PLR2004 - HTTP's OK
            self._under_way[upload.contract].remove(upload)
            if not upload.gone():
                self._last_end[upload.contract] = self.clock()

    def imported(self, upload: Upload, contract: str, work: Import) -> None:
        """Note what an import came to."""
        upload.rows, upload.success, upload.failure = work.sheet.rows, work.success, len(work.failures)
        counts = self.of(contract)
        counts.rows += work.sheet.rows
        counts.failed_rows += len(work.failures)
        counts.repeated += work.repeated

    def keep_file(self, contract: str, file: bytes | bytearray) -> None:
        """Keep a file's bytes for tests that compare them, if it is small."""
        if len(file) <= FILE_KEPT_BYTES_MAX:
            self.files.append((contract, bytes(file)))

    def last_file(self, contract: str | None = None, back: int = 0) -> bytes | None:
        """Return the last file, of one contract or of all, or the one `back` files before it; None if not kept."""
        found = [file for of, file in reversed(self.files) if contract in (None, of)]
        return found[back] if back < len(found) else None

    def reset(self) -> None:
        """Forget all counts; uploads that are under way go on."""
        self.counts.clear()
        self.uploads.clear()
        self.files.clear()
        self.answers.clear()
