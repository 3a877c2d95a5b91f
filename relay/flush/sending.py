"""Sending one batch: spool its file, upload it, and write down what it came to.

Every step can be the last one before a crash. What was committed tells the next replica how to go on: a batch that is
`ready` or `waiting` is sent, one that is `uploading` counts as unknown, and a file that is missing is rendered again.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Protocol

from relay import csvline
from relay.batches import OPEN, OUTCOMES, BatchState, Delivered, Manifest, Outcome, Settlement, Unknown, settle
from relay.client import Uploaded, UploadJob
from relay.errors import Conflict, ConservationBroken, LaneLost, Unavailable
from relay.events import Operation
from relay.flush.lease import Kept
from relay.flush.plans import LoginPlan
from relay.log import logger
from relay.metrics import Metrics
from relay.spool import Spool, SpoolFile, file_name
from relay.store import Settled, Store, UploadRecord

log = logger(__name__)

JITTER = 0.1
"""The share by which a delay is shortened or stretched, so that logins that failed together do not come back
together."""

SETTLE_AGAIN_S = 1.0
"""How long to wait before a settlement that Postgres did not take is written again."""


class Uploads(Protocol):
    """Who does the talking to a vendor: `relay.client.Client`."""

    async def upload(self, job: UploadJob) -> Uploaded:
        """Send one file and say what came of it. Raises LaneLost when the lease ran out on the way."""


@dataclass(frozen=True, slots=True)
class Sender:
    """Sends batches of a lane that is held."""

    store: Store
    spool: Spool
    uploads: Uploads
    metrics: Metrics

    async def send(self, plan: LoginPlan, kept: Kept, batch: Manifest) -> str:
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
            await self.settle(plan, kept, batch, number, Uploaded(Unknown(reason), None, 0, ""))
            raise
        return await self.settle(plan, kept, batch, number, uploaded)

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

    async def settle(self, plan: LoginPlan, kept: Kept, batch: Manifest, number: int, uploaded: Uploaded) -> str:
        """Write down what an upload came to; return the outcome's name."""
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
