"""Deleting the vendor's error records that relay has taken over, for accounts that say so.

Theory of operation. Whatever a record tells must be in relay first: it was settled from (`recovering`), or every one of
its rows is a refused line of the only delivered upload that it can be of. Which upload that is follows from its time;
that nothing is lost with it follows from its rows alone. Then exactly that type and time is deleted, and only if the
vendor, asked again, has a single record of them with the same count: any other may be a person's.

It needs no lane: no file is sent, and of two replicas that do it at once the second finds nothing left to delete.
But it logs in, so that it keeps still while the lane does (`relay.flush.beside`), and counts refusals with the lane's.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from relay.errors import Unavailable
from relay.flush.beside import Beside, left_alone
from relay.flush.plans import LoginPlan
from relay.flush.records import Asks, delete, export, search
from relay.flush.recovering import SLACK_S
from relay.log import logger
from relay.store import Store, TakenRecord, Untaken
from relay.vendors.bme_matching import fit
from relay.vendors.bme_records import ErrorRecord, Failed, Window, keeps_records, kind_of, read_date, within
from relay.vendors.elements import Doubt

log = logger(__name__)

_Found = TypeVar("_Found", TakenRecord, Untaken)

CLEAR_EVERY_S: Final = 300.0
"""How often Postgres is asked whether there is something new to delete."""

CLEAR_AGAIN_S: Final = 86_400.0
"""What could not be deleted, or matched, is tried again after this, or as soon as there is something new."""

UNTAKEN_S: Final = 7 * 86_400.0
"""Uploads that began longer ago are not looked up: their records stay at the vendor."""

UPLOADS_MAX: Final = 20
RECORDS_MAX: Final = 20
"""So many uploads are matched, and so many records deleted, in one go: each takes a call or two."""

FOUND_MAX: Final = 1_000
"""So many uploads are looked up to choose those from: more that fit no record within a week are not waited for."""


@dataclass(frozen=True, slots=True)
class Cleared:
    """What a round at a login came to: records taken over, deleted, and still there."""

    taken: int = 0
    deleted: int = 0
    failed: int = 0


@dataclass(slots=True)
class Clearing:
    """Deletes records that relay no longer needs, login by login."""

    store: Store
    asks: Asks
    plans: Mapping[str, LoginPlan]
    clock: Callable[[], float] = time.monotonic
    _tried: dict[tuple[object, ...], float] = field(default_factory=dict)

    async def run(self) -> None:
        """Go round for ever; nothing that happens here may end the service."""
        while True:
            for plan in self.plans.values():
                try:
                    await self.clear(plan)
                except Unavailable as error:
                    log.warning("records_not_cleared", login=plan.login.name, reason=str(error))
                except Exception:  # keeping house must not end the service
                    log.exception("clearing_failed", login=plan.login.name)
            await asyncio.sleep(CLEAR_EVERY_S)

    async def clear(self, plan: LoginPlan) -> Cleared:
        """Take over what can be, and delete what was; without a call where there is nothing new to do.

        None either while the login is left alone: one that was refused too often must not be tried from here.
        """
        accounts = [account.name for account in plan.accounts.values() if account.delete_error_records]
        if not accounts or not keeps_records(plan.login):
            return Cleared()
        if await left_alone(self.store, plan.login, plan.fingerprint):
            return Cleared()
        asked_at = time.monotonic()
        found = await self.store.find_untaken(plan.login.name, accounts, UNTAKEN_S, FOUND_MAX)
        told_at = time.monotonic()
        untaken = self._next(plan, found, UPLOADS_MAX)
        if not self._new(plan, [*untaken, *await self._left(plan, accounts)]):
            return Cleared()
        asks = Beside(self.asks, self.store)
        taken = await self._take(asks, plan, untaken, asked_at, told_at)
        left = await self._left(plan, accounts)
        self._remember(plan, [*untaken, *left])
        deleted = sum([await self._delete(asks, plan, one) for one in left])
        cleared = Cleared(taken, deleted, len(left) - deleted)
        log.info("records_cleared", login=plan.login.name, taken=taken, deleted=deleted, failed=cleared.failed)
        return cleared

    async def _left(self, plan: LoginPlan, accounts: Sequence[str]) -> list[TakenRecord]:
        return self._next(plan, await self.store.list_undeleted(plan.login.name, accounts), RECORDS_MAX)

    # -- whose turn it is ----------------------------------------------------------------------------------------------

    def _next(self, plan: LoginPlan, found: Sequence[_Found], at_most: int) -> list[_Found]:
        """Choose whose turn it is: what was not tried for a day first, so that nothing else keeps it out."""
        return sorted(found, key=lambda one: not self._is_new(plan, one))[:at_most]

    def _new(self, plan: LoginPlan, found: Sequence[TakenRecord | Untaken]) -> bool:
        return any(self._is_new(plan, one) for one in found)

    def _is_new(self, plan: LoginPlan, one: TakenRecord | Untaken) -> bool:
        """Say whether something was not tried for a day."""
        tried_at = self._tried.get(_key(plan, one))
        return tried_at is None or self.clock() - tried_at >= CLEAR_AGAIN_S

    def _remember(self, plan: LoginPlan, tried: Sequence[TakenRecord | Untaken]) -> None:
        """Remember what is tried now, and forget what was tried a day ago."""
        now = self.clock()
        kept = {key: at for key, at in self._tried.items() if now - at < CLEAR_AGAIN_S}
        self._tried = kept | {_key(plan, one): now for one in tried}

    # -- taking over -------------------------------------------------------------------------------------------------

    async def _take(
        self, asks: Asks, plan: LoginPlan, untaken: Sequence[Untaken], asked_at: float, told_at: float
    ) -> int:
        """Match uploads to records and note what fits; return how many.

        `asked_at` and `told_at` are when the uploads' times were asked for. A window may be wide: the rows decide.
        """
        calling_at = time.monotonic()
        listed = await search(asks, plan.login) if untaken else None
        if listed is None or isinstance(listed, Failed) or listed.now is None:
            return 0
        waited_s = time.monotonic() - asked_at
        taken = 0
        for upload in untaken:
            newest_s = upload.ended_ago_s + calling_at - told_at - SLACK_S
            window = Window(upload.started_ago_s + waited_s + SLACK_S, newest_s)
            found = within(listed.records, kind_of(upload.operation), listed.now, window)
            # one whose time cannot be read is nobody's, and its text may be one that no database takes
            placed = len(found) == 1 and found[0].at is not None
            if placed and await self._fits(asks, plan, upload, found[0]):
                await self.store.take_record(plan.login.name, _taken(upload, found[0]))
                taken += 1
        return taken

    async def _fits(self, asks: Asks, plan: LoginPlan, upload: Untaken, record: ErrorRecord) -> bool:
        """Whether a record's rows are the upload's refused lines, all of them and no others."""
        lines = await self.store.read_refused(upload.account, upload.batch_id)
        if record.count != len(lines):
            return False
        exported = await export(asks, plan.login, record.kind, record.date, record.count)
        if isinstance(exported, Failed):
            return False
        try:
            await asyncio.to_thread(fit, exported[0], record.count, upload.header, lines, len(lines))
        except Doubt:
            return False
        return True

    async def _delete(self, asks: Asks, plan: LoginPlan, taken: TakenRecord) -> bool:
        record = ErrorRecord(taken.kind, taken.date, taken.count, read_date(taken.date))
        failed = await delete(asks, plan.login, record)
        if failed is None:
            await self.store.record_deleted(plan.login.name, taken.kind, taken.date)
        else:
            log.info("record_not_deleted", login=plan.login.name, kind=taken.kind, reason=failed.reason)
        return failed is None


def _key(plan: LoginPlan, one: TakenRecord | Untaken) -> tuple[object, ...]:
    own = (one.kind, one.date) if isinstance(one, TakenRecord) else (one.account, one.batch_id, one.number)
    return (plan.login.name, type(one), *own)


def _taken(upload: Untaken, record: ErrorRecord) -> TakenRecord:
    return TakenRecord(record.kind, record.date, record.count, upload.account, upload.batch_id, upload.number)
