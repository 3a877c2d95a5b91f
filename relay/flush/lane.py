"""One piece of work on one login: lease its lane, then cut, spool, upload and settle at most one batch.

Every step can be the last one before a crash. What was committed tells the next replica how to go on: a batch that is
`ready` or `waiting` is sent, one that is `uploading` counts as unknown, and a file that is missing is rendered again.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol
from uuid import UUID

from relay import csvline
from relay.batches import (
    OPEN,
    OUTCOMES,
    BatchState,
    Candidate,
    Choice,
    Delivered,
    Manifest,
    Outcome,
    Settlement,
    Unknown,
    choose,
    settle,
)
from relay.client import Uploaded, UploadJob
from relay.errors import Conflict, ConservationBroken, LaneLost, Unavailable
from relay.events import Operation
from relay.flush.headers import present_header
from relay.flush.lease import Kept, boot_clock_s, keeping
from relay.flush.plans import LoginPlan
from relay.log import logger
from relay.metrics import Metrics
from relay.spool import Spool, SpoolFile, file_name
from relay.store import Cut, Settled, Store, Target, UploadRecord

log = logger(__name__)

JITTER = 0.1
"""The share by which a delay is shortened or stretched, so that logins that failed together do not come back
together."""


CUTS_MAX = 6
"""Cuts at the same time: each takes a connection for a second or so, and more of them would only share the disk."""

SETTLE_AGAIN_S = 1.0
"""How long to wait before a settlement that Postgres did not take is written again."""


class Uploads(Protocol):
    """Who does the talking to a vendor: `relay.client.Client`."""

    async def upload(self, job: UploadJob) -> Uploaded:
        """Send one file and say what came of it. Raises LaneLost when the lease ran out on the way."""


@dataclass(frozen=True, slots=True)
class Worked:
    """What a piece of work on a lane came to; the outcome's name where something was uploaded."""

    leased: bool = False
    cut: bool = False
    superseded: int = 0
    uncut: int = 0
    taken_over: bool = False
    outcome: str = ""

    @property
    def progress(self) -> bool:
        """Whether anything changed, so that there may be more to do at once."""
        return bool(self.cut or self.superseded or self.uncut or self.taken_over or self.outcome)


@dataclass(frozen=True, slots=True)
class LaneWorker:
    """Works on lanes, one piece at a time."""

    store: Store
    spool: Spool
    uploads: Uploads
    metrics: Metrics
    owner: UUID
    lease_s: float
    cuts: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CUTS_MAX))

    async def survey(self, plans: Sequence[LoginPlan], fence: int, owner: UUID | None = None) -> dict[str, Choice]:
        """Say what each login would do next, leaving out those with nothing to do."""
        targets = [target for plan in plans for target in plan.targets]
        fingerprints = {plan.login.name: plan.fingerprint for plan in plans}
        candidates = await self.store.survey(targets, fingerprints, fence, owner)
        by_login: dict[str, list[Candidate]] = {}
        for candidate in candidates:
            by_login.setdefault(candidate.login, []).append(candidate)
        choices = {login: choose(found) for login, found in by_login.items()}
        return {login: choice for login, choice in choices.items() if choice}

    async def work(self, plan: LoginPlan, fence: int) -> Worked:
        """Do one piece of work on a login, if its lane is to be had. A lane lost on the way is no error."""
        leased_at = boot_clock_s()
        lease = await self.store.lease_lane(plan.login.name, self.owner, self.lease_s, plan.fingerprint)
        if lease is None:
            return Worked()
        try:
            async with keeping(self.store, lease, self.lease_s, leased_at) as kept:
                choice = (await self.survey([plan], fence, self.owner)).get(plan.login.name, Choice())
                return replace(await self._follow(plan, kept, choice, fence), leased=True)
        except LaneLost:
            self.metrics.lanes_lost.labels(plan.login.vendor).inc()
            log.warning("lane_lost", login=plan.login.name, generation=lease.generation)
            return Worked(leased=True)

    async def _follow(self, plan: LoginPlan, kept: Kept, choice: Choice, fence: int) -> Worked:
        if choice.take_over:
            return await self._take_over(plan, kept, choice.take_over)
        for candidate in choice.uncut:
            await self._uncut(plan, kept, candidate, "opt-outs go first")
        worked = Worked(uncut=len(choice.uncut))
        if choice.pick is None:
            return worked
        batch_id = choice.pick.batch_id
        if batch_id is None:
            cut = await self._cut(plan, kept, plan.target(choice.pick), fence)
            worked = replace(worked, cut=cut.batch_id is not None, superseded=cut.superseded)
            batch_id = cut.batch_id
        if batch_id is None:
            return worked
        batch = await self.store.manifest(choice.pick.account, batch_id)
        stored = await self.store.find_layout(batch.account, batch.layout)
        if batch.header != present_header(stored, plan.columns[batch.account, batch.operation]):
            await self._uncut(plan, kept, replace(choice.pick, batch_id=batch_id), "the account's headers have changed")
            return replace(worked, uncut=worked.uncut + 1)
        outcome = await self._send(plan, kept, batch)
        return replace(worked, outcome=outcome)

    async def _take_over(self, plan: LoginPlan, kept: Kept, candidate: Candidate) -> Worked:
        """Settle an upload that a dead replica left behind: it counts as unknown."""
        batch = await self.store.manifest(candidate.account, candidate.batch_id or 0)
        uploaded = Uploaded(Unknown("taken over from a replica that ended during the upload"), None, 0, "")
        await self._settle(plan, kept, batch, batch.uploads, uploaded)
        return Worked(taken_over=True, outcome="unknown")

    async def _uncut(self, plan: LoginPlan, kept: Kept, candidate: Candidate, reason: str) -> None:
        if candidate.batch_id is None:
            return
        if await self.store.uncut(kept.lease, candidate.account, candidate.batch_id, reason):
            self.metrics.batches.labels(plan.login.vendor, candidate.operation, BatchState.REPLACED).inc()
            log.info("batch_replaced", login=plan.login.name, batch=candidate.batch_id, reason=reason)
        await self.spool.remove(file_name(candidate.batch_id))

    async def _cut(self, plan: LoginPlan, kept: Kept, target: Target, fence: int) -> Cut:
        present = plan.columns[target.account, target.operation]
        async with self.cuts:
            cut = await self.store.cut(kept.lease, target, fence, lambda stored: present_header(stored, present))
        self.metrics.superseded.labels(target.account).inc(cut.superseded)
        if cut.batch_id is not None:
            self.metrics.batches.labels(plan.login.vendor, target.operation, BatchState.READY).inc()
        log.info(
            "cut",
            login=target.login,
            account=target.account,
            operation=target.operation,
            batch=cut.batch_id,
            superseded=cut.superseded,
        )
        return cut

    async def _send(self, plan: LoginPlan, kept: Kept, batch: Manifest) -> str:
        """Spool, upload and settle a batch; return the outcome's name."""
        file = await self._spooled(kept, batch)
        number = await self.store.begin_upload(kept.lease, batch, plan.login.calls_per_day)
        if number is None:
            await self.store.wait_for_quota(kept.lease)
            log.warning("quota_spent", login=plan.login.name)
            return "quota"
        self.metrics.batches.labels(plan.login.vendor, batch.operation, BatchState.UPLOADING).inc()
        job = UploadJob(plan.login, plan.accounts[batch.account], batch.operation, file, kept.left_s)
        try:
            uploaded = await self.uploads.upload(job)
        except LaneLost:
            raise
        except BaseException as error:  # stopped, or a bug: it is written down as what it was, and goes on its way
            stopped = isinstance(error, asyncio.CancelledError)
            reason = "relay was stopped during the upload" if stopped else f"relay failed: {type(error).__name__}"
            await self._settle(plan, kept, batch, number, Uploaded(Unknown(reason), None, 0, ""))
            raise
        return await self._settle(plan, kept, batch, number, uploaded)

    async def _spooled(self, kept: Kept, batch: Manifest) -> SpoolFile:
        """Find a batch's file intact on disk, or render it from the log: it must come out the same each time."""
        name = file_name(batch.id)
        if batch.sha256 is not None:
            file = await self.spool.intact(name, batch.rows, batch.bytes, batch.sha256)
            if file is not None:
                return file
        file = await self.spool.write(name, self._file(batch), batch.rows)
        if file.bytes != batch.bytes or (batch.sha256 is not None and file.sha256 != batch.sha256):
            raise ConservationBroken(
                f"batch {batch.id} came out with {file.bytes} bytes, its manifest says {batch.bytes}"
            )
        if batch.sha256 is None:
            await self.store.spooled(kept.lease, batch, file.sha256)
        return file

    async def _file(self, batch: Manifest) -> AsyncIterator[bytes]:
        yield csvline.record(batch.header)
        async for lines in self.store.lines(batch):
            yield lines

    async def _settle(self, plan: LoginPlan, kept: Kept, batch: Manifest, number: int, uploaded: Uploaded) -> str:
        outcome = _with_echoes(plan, batch, uploaded.outcome)
        name = OUTCOMES[type(outcome)]
        settlement = settle(batch, outcome, plan.terms, random.uniform(-JITTER, JITTER))  # noqa: S311 (no secret)
        record = UploadRecord(name, outcome.reason, uploaded.http_status, uploaded.bytes_sent, uploaded.excerpt)
        settled = await self._written(kept, batch, number, record, settlement, plan.fingerprint)
        self._count(plan, batch, name, settlement.state, settled)
        log.info(
            "upload_settled",
            login=batch.login,
            account=batch.account,
            operation=batch.operation,
            batch=batch.id,
            number=number,
            rows=batch.rows,
            outcome=name,
            reason=outcome.reason,
            state=settlement.state,
            rejected=settled.rejected,
            again=settled.again,
            next_try_s=settlement.delay_s,
            paused=settlement.pause,
        )
        if settlement.state not in OPEN:
            await self.spool.remove(file_name(batch.id))
        return name

    async def _written(
        self, kept: Kept, batch: Manifest, number: int, record: UploadRecord, settlement: Settlement, fingerprint: str
    ) -> Settled:
        """Write a settlement down, and while the lane is ours do not let a Postgres that restarts forget it."""
        tried = False
        while True:
            try:
                return await self.store.settle(kept.lease, batch, number, record, settlement, fingerprint)
            except Unavailable as error:
                log.warning("settlement_waits", batch=batch.id, outcome=record.outcome, reason=str(error))
                if kept.left_s() <= SETTLE_AGAIN_S:
                    raise
            except Conflict:
                if not tried:
                    raise
                return Settled(0, {})  # it was written the last time, and only the answer was lost
            except LaneLost:
                log.warning(
                    "settlement_lost", batch=batch.id, number=number, outcome=record.outcome, reason=record.reason
                )
                raise
            tried = True
            await asyncio.sleep(SETTLE_AGAIN_S)

    def _count(self, plan: LoginPlan, batch: Manifest, outcome: str, state: BatchState, settled: Settled) -> None:
        vendor = plan.login.vendor
        self.metrics.uploads.labels(vendor, outcome).inc()
        self.metrics.batches.labels(vendor, batch.operation, state).inc()
        self.metrics.rejections.labels(vendor, batch.operation).inc(settled.rejected)
        for operation, count in settled.again.items():
            self.metrics.events.labels(batch.account, operation).inc(count)


def _with_echoes(plan: LoginPlan, batch: Manifest, outcome: Outcome) -> Outcome:
    """Mark what may be echoes: in the mode `create`, a line that arrived before is refused the second time."""
    account = plan.accounts.get(batch.account)  # one that the settings name no longer has none
    creates = account is not None and account.mode == "create" and batch.operation is Operation.UPSERT
    if not isinstance(outcome, Delivered) or not creates:
        return outcome
    return replace(outcome, rejections=tuple(replace(r, unconfirmed=True) for r in outcome.rejections))
