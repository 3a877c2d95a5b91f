"""Deleting the vendor's error records that relay has taken over, for accounts that say so.

Theory of operation. Whatever a record tells must be in relay first: it was settled from (`recovering`), or every one of
its rows is a refused line of the only delivered upload that it can be of. Which upload that is follows from its time;
that nothing is lost with it follows from its rows alone. Then exactly that type and time is deleted, and only if the
vendor, asked again, has a single record of them with the same count: any other may be a person's.

It needs no lane: no file is sent, and of two replicas that do it at once the second finds nothing left to delete.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from relay.errors import Unavailable
from relay.flush.plans import LoginPlan
from relay.flush.records import Asks, delete, export, search
from relay.flush.recovering import SLACK_S
from relay.log import logger
from relay.store import Store, TakenRecord, Untaken
from relay.vendors.bme_matching import fit
from relay.vendors.bme_records import ErrorRecord, Failed, Window, keeps_records, kind_of, read_date, within
from relay.vendors.elements import Doubt

log = logger(__name__)

CLEAR_EVERY_S: Final = 300.0
"""How often Postgres is asked whether there is something new to delete."""

CLEAR_AGAIN_S: Final = 86_400.0
"""What could not be deleted, or matched, is tried again after this, or as soon as there is something new."""

UNTAKEN_S: Final = 7 * 86_400.0
"""Uploads that began longer ago are not looked up: their records stay at the vendor."""

UPLOADS_MAX: Final = 20
RECORDS_MAX: Final = 20
"""So many uploads are matched, and so many records deleted, in one go: each takes a call or two."""


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
        """Take over what can be, and delete what was; without a call where there is nothing new to do."""
        accounts = [account.name for account in plan.accounts.values() if account.delete_error_records]
        if not accounts or not keeps_records(plan.login):
            return Cleared()
        asked_at = time.monotonic()
        untaken = await self.store.find_untaken(plan.login.name, accounts, UNTAKEN_S, UPLOADS_MAX)
        told_at = time.monotonic()
        left = await self._left(plan, accounts)
        if not self._new(plan, [*untaken, *left]):
            return Cleared()
        taken = await self._take(plan, untaken, asked_at, told_at)
        left = await self._left(plan, accounts)
        deleted = sum([await self._delete(plan, one) for one in left])
        cleared = Cleared(taken, deleted, len(left) - deleted)
        log.info("records_cleared", login=plan.login.name, taken=taken, deleted=deleted, failed=cleared.failed)
        return cleared

    async def _left(self, plan: LoginPlan, accounts: Sequence[str]) -> list[TakenRecord]:
        taken = await self.store.list_records(plan.login.name)
        return [one for one in taken if one.deleted_at is None and one.account in accounts][:RECORDS_MAX]

    def _new(self, plan: LoginPlan, found: Sequence[TakenRecord | Untaken]) -> bool:
        """Say whether any of these was not tried for a day, and remember that all of them are tried now."""
        now = self.clock()
        tried = {key: at for key, at in self._tried.items() if now - at < CLEAR_AGAIN_S}
        keys = [(plan.login.name, one.account, one.batch_id, one.number, type(one)) for one in found]
        new = any(key not in tried for key in keys)
        self._tried = tried | dict.fromkeys(keys, now) if new else tried
        return new

    # -- taking over -------------------------------------------------------------------------------------------------

    async def _take(self, plan: LoginPlan, untaken: Sequence[Untaken], asked_at: float, told_at: float) -> int:
        """Match uploads to records and note what fits; return how many.

        `asked_at` and `told_at` are when the uploads' times were asked for. A window may be wide: the rows decide.
        """
        calling_at = time.monotonic()
        listed = await search(self.asks, plan.login) if untaken else None
        if listed is None or isinstance(listed, Failed) or listed.now is None:
            return 0
        waited_s = time.monotonic() - asked_at
        taken = 0
        for upload in untaken:
            newest_s = upload.ended_ago_s + calling_at - told_at - SLACK_S
            window = Window(upload.started_ago_s + waited_s + SLACK_S, newest_s)
            found = within(listed.records, kind_of(upload.operation), listed.now, window)
            if len(found) == 1 and await self._fits(plan, upload, found[0]):
                await self.store.take_record(plan.login.name, _taken(upload, found[0]))
                taken += 1
        return taken

    async def _fits(self, plan: LoginPlan, upload: Untaken, record: ErrorRecord) -> bool:
        """Whether a record's rows are the upload's refused lines, all of them and no others."""
        lines = await self.store.read_refused(upload.account, upload.batch_id)
        if record.count != len(lines):
            return False
        exported = await export(self.asks, plan.login, record.kind, record.date)
        if isinstance(exported, Failed):
            return False
        try:
            await asyncio.to_thread(fit, exported[0], record.count, upload.header, lines, len(lines))
        except Doubt:
            return False
        return True

    async def _delete(self, plan: LoginPlan, taken: TakenRecord) -> bool:
        record = ErrorRecord(taken.kind, taken.date, taken.count, read_date(taken.date))
        failed = await delete(self.asks, plan.login, record)
        if failed is None:
            await self.store.record_deleted(plan.login.name, taken.kind, taken.date)
        else:
            log.info("record_not_deleted", login=plan.login.name, kind=taken.kind, reason=failed.reason)
        return failed is None


def _taken(upload: Untaken, record: ErrorRecord) -> TakenRecord:
    return TakenRecord(record.kind, record.date, record.count, upload.account, upload.batch_id, upload.number)
