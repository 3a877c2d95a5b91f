"""Looking at what the next cuts of an account would file, one operation after another, in one snapshot."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from relay import vendors
from relay.batches import Accepted, BatchState, Cursor, Manifest, Terms, settle
from relay.batches.headers import present_header
from relay.events import Operation
from relay.settings import Account, Column, Login
from relay.status.why import Around
from relay.store import LayoutColumns, Snapshot, Target, ToldCursor, ToldFile, ToldPlace


@dataclass(slots=True)
class Seen:
    """What was found of one operation; `place` is None where no relay has worked it yet."""

    account: Account
    cursor: ToldCursor
    due_in_s: float
    place: ToldPlace | None
    batch: Manifest | None = None
    cut_anew: bool = False
    files: list[ToldFile] = field(default_factory=list)
    superseded: int = 0
    complete: bool = True

    @property
    def operation(self) -> Operation:
        """Which operation."""
        return self.cursor.operation

    @property
    def something(self) -> bool:
        """Whether there is anything to tell of it."""
        return self.batch is not None or bool(self.files) or self.superseded > 0 or not self.complete

    @property
    def batch_goes_up(self) -> bool:
        """Whether an open batch is still to go up, as it is."""
        return self.batch is not None and not self.cut_anew and self.batch.state is not BatchState.UPLOADING

    @property
    def uploads(self) -> int:
        """How many uploads all of it needs."""
        return len(self.files) + self.batch_goes_up


@dataclass(slots=True)
class Look:
    """Looks at one operation after another: at so many files, so many seconds long, but for the first file longer."""

    snapshot: Snapshot
    login: Login
    around: Around
    files_left: int
    look_s: float
    first_file_s: float
    began: float = field(default_factory=time.monotonic)
    told: bool = False

    def may_go_on(self) -> bool:
        """Say whether there is time left."""
        return time.monotonic() - self.began < (self.look_s if self.told else self.first_file_s)

    async def place(self, account: Account, operation: Operation) -> Seen:
        """Look where an operation stands."""
        cursor = self.around.cursors[account.name, operation]
        due_in_s = 0.0 if cursor.batch_id is not None else self.around.due_in_s(cursor) or 0.0
        place = await self.snapshot.place(Target.of(self.login, account, operation))
        seen = Seen(account, cursor, due_in_s, place)
        if cursor.batch_id is not None:
            seen.batch = await self.snapshot.manifest(account.name, cursor.batch_id)
            seen.cut_anew = await self._cut_anew(seen.batch, self._present(seen))
        return seen

    async def files(self, seen: Seen) -> None:
        """Look at the files that would be cut, as many as may be looked at."""
        if seen.place is None:
            return
        present = self._present(seen)

        def header_of(stored: LayoutColumns) -> tuple[str, ...]:
            return present_header(stored, present)

        target = Target.of(self.login, seen.account, seen.operation)
        position, cursor = self._begin(seen, seen.place)
        while True:
            if self.files_left <= 0 or not self.may_go_on():
                seen.complete = not await self.snapshot.waits_behind(target, position)
                return
            file = await self.snapshot.file(target, position, cursor, header_of, self.may_go_on)
            seen.superseded += file.superseded
            if not file.whole:
                seen.complete = False
                return
            if not file.rows or file.layout is None:
                return
            seen.files.append(file)
            self.files_left -= 1
            self.told = True
            position, cursor = file.cut_to, self._taken(_filed(target, file, file.layout, cursor))

    def _present(self, seen: Seen) -> Mapping[str, Column]:
        return vendors.vendor_of(self.login).columns(self.login, seen.account, seen.operation)

    def _begin(self, seen: Seen, place: ToldPlace) -> tuple[int, Cursor]:
        """Say from where on files are cut, and with which memory."""
        if seen.batch is None:
            return place.position, place.cursor
        if seen.cut_anew:
            return seen.batch.cut_from, seen.batch.cursor
        return place.position, self._taken(seen.batch)

    async def _cut_anew(self, batch: Manifest, present: Mapping[str, Column]) -> bool:
        if batch.state is BatchState.UPLOADING:
            return False
        stored = await self.snapshot.find_layout(batch.account, batch.layout)
        other_header = batch.header != present_header(stored, present)
        return other_header or batch.must_shrink or self.around.behind_opt_outs(batch.operation)

    def _taken(self, batch: Manifest) -> Cursor:
        """What a cursor remembers after the vendor has taken a file: the next one may be larger again."""
        return settle(batch, Accepted(), Terms.of(self.login)).cursor


def _filed(target: Target, file: ToldFile, layout: int, cursor: Cursor) -> Manifest:
    """Make the manifest that a file would have."""
    return Manifest(
        account=target.account,
        id=0,
        login=target.login,
        operation=target.operation,
        layout=layout,
        header=file.header,
        cut_from=file.cut_from,
        cut_to=file.cut_to,
        rows=file.rows,
        bytes=file.bytes,
        sha256=None,
        state=BatchState.READY,
        uploads=0,
        cursor=cursor,
    )
