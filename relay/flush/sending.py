"""Sending one batch: spool its file, upload it, and write down what it came to.

Every step can be the last one before a crash. What was committed tells the next replica how to go on: a batch that is
`ready` or `waiting` is sent, one that is `uploading` counts as unknown, and a file that is missing is rendered again.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from relay import csvline
from relay.batches import (
    OPEN,
    OUTCOMES,
    BatchState,
    Candidate,
    Delivered,
    Manifest,
    Outcome,
    Settlement,
    Unknown,
    settle,
)
from relay.client import Uploaded, UploadJob
from relay.errors import Conflict, ConservationBroken, LaneLost, Unavailable
from relay.events import Operation
from relay.flush.lease import Kept
from relay.flush.measuring import CONFIRMED, count_confirmed, count_settled, count_wait, staged
from relay.flush.plans import LoginPlan
from relay.flush.recovering import Later, Recovering
from relay.log import logger
from relay.metrics import Metrics
from relay.settings import Login
from relay.spool import Spool, SpoolFile, file_name
from relay.store import Settled, Store, TakenRecord, UploadRecord

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


MayTry = Callable[[Login], bool]
"""Says whether there is a use in preparing an upload of a login now: `relay.client.Client.may_try`."""


def always(_: Login) -> bool:
    """Say yes, for who uploads where nothing is ever shut."""
    return True


@dataclass(frozen=True, slots=True)
class Sender:
    """Sends batches of a lane that is held."""

    store: Store
    spool: Spool
    uploads: Uploads
    metrics: Metrics
    may_try: MayTry = always
    recovering: Recovering | None = None

    async def kept_back(self, plan: LoginPlan, kept: Kept, candidate: Candidate) -> bool:
        """Keep opt-outs back, or data, where the day's calls are kept for others; say whether a candidate's kind is.

        Asked before a file is cut: what waits is then cut when it may go, with all that came meanwhile.
        """
        if plan.pace is None:
            return False
        opt_outs = candidate.operation.opt_out
        wait_s = await self.store.keep_back(
            kept.lease, plan.accounts, plan.login.operations, plan.pace, opt_outs=opt_outs
        )
        if wait_s:
            log.info("kept_back", login=plan.login.name, opt_outs=opt_outs, next_try_s=wait_s)
        return wait_s > 0

    async def recover(self, plan: LoginPlan, kept: Kept, batch: Manifest) -> str | None:
        """Settle a batch that waits for its next try from the vendor's record, if there is one beyond doubt.

        Returns the outcome's name, "" where the batch has to wait for it, and None where it has to be sent again.
        """
        if self.recovering is None or batch.state is not BatchState.WAITING:
            return None
        found = await self.recovering.look(plan, batch, partial(self._spooled, kept, batch))
        if found is None:
            return None
        if isinstance(found, Later):
            await self.store.postpone(kept.lease, batch, found.seconds)
            return ""
        number = await self._begun(plan, kept, batch)
        if number is None:
            return "quota"
        # What the record tells of the first upload without an answer is no echo of an earlier one.
        sent_to = await self.store.find_sent_before(batch, found.record.number)
        batch = replace(batch, cursor=replace(batch.cursor, sent_to=sent_to))
        return await self.settle(plan, kept, batch, number, Uploaded(found.outcome, None, 0, ""), found.record)

    async def send(self, plan: LoginPlan, kept: Kept, batch: Manifest) -> str:
        """Spool, upload and settle a batch; return the outcome's name, or nothing where it has to wait as it is."""
        with staged(self.metrics, "spool", plan.login.vendor):
            file = await self._spooled(kept, batch)
        if not self.may_try(plan.login):
            return ""
        number = await self._begun(plan, kept, batch)
        if number is None:
            return "quota"  # counted down by another relay since; it is kept back the next time
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

    async def _begun(self, plan: LoginPlan, kept: Kept, batch: Manifest) -> int | None:
        """Begin an upload and return its number; None if the day's calls are spent."""
        number = await self.store.begin_upload(kept.lease, batch, plan.login.calls_per_day)
        if number is not None:
            count_wait(self.metrics, plan.login.vendor, batch)
        return number

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

    async def settle(
        self,
        plan: LoginPlan,
        kept: Kept,
        batch: Manifest,
        number: int,
        uploaded: Uploaded,
        taken: TakenRecord | None = None,
    ) -> str:
        """Write down what an upload came to, with the vendor's record that told it; return the outcome's name."""
        outcome = _with_echoes(plan, batch, uploaded.outcome)
        name = OUTCOMES[type(outcome)]
        settlement = settle(batch, outcome, plan.terms, random.uniform(-JITTER, JITTER))  # noqa: S311 (no secret)
        if uploaded.http_status is None:
            settlement = replace(settlement, proven=False)  # without an answer nobody let relay in
        record = UploadRecord(
            name, outcome.reason, uploaded.http_status, uploaded.bytes_sent, uploaded.excerpt, uploaded.whole
        )
        with staged(self.metrics, "settle", plan.login.vendor):
            settled = await self._written(plan, kept, batch, number, record, settlement, taken)
        count_settled(self.metrics, plan.login.vendor, batch, name, settlement.state, settled)
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
        if settlement.state in CONFIRMED:
            await count_confirmed(self.store, self.metrics, plan.login.vendor, batch)
        return name

    async def _written(
        self,
        plan: LoginPlan,
        kept: Kept,
        batch: Manifest,
        number: int,
        record: UploadRecord,
        settlement: Settlement,
        taken: TakenRecord | None,
    ) -> Settled:
        """Write a settlement down, and while the lane is ours do not let a Postgres that restarts forget it."""
        tried = False
        while True:
            try:
                return await self.store.settle(
                    kept.lease,
                    batch,
                    number,
                    record,
                    settlement,
                    plan.fingerprint,
                    login_failures_per_hour_max=plan.login.login_failures_per_hour_max,
                    taken=taken,
                )
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


def _with_echoes(plan: LoginPlan, batch: Manifest, outcome: Outcome) -> Outcome:
    """Mark what may be echoes: in the mode `create`, a line that arrived before is refused the second time."""
    account = plan.accounts.get(batch.account)  # one that the settings name no longer has none
    creates = account is not None and account.mode == "create" and batch.operation is Operation.UPSERT
    if not isinstance(outcome, Delivered) or not creates:
        return outcome
    return replace(outcome, rejections=tuple(replace(r, unconfirmed=True) for r in outcome.rejections))
