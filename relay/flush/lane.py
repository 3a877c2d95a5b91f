"""One piece of work on one login: lease its lane, then cut and send at most one batch."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from relay.batches import BatchState, Candidate, Choice, Unknown, choose
from relay.batches.headers import present_header
from relay.client import Uploaded
from relay.errors import LaneLost
from relay.flush.checking import Checker
from relay.flush.lease import Kept, boot_clock_s, keeping
from relay.flush.measuring import staged
from relay.flush.plans import LoginPlan
from relay.flush.recovering import Recovering
from relay.flush.sending import MayTry, Sender, Uploads, always
from relay.log import logger
from relay.metrics import Metrics
from relay.settings import Login
from relay.spool import Spool, file_name
from relay.store import Cut, Store, Target

log = logger(__name__)

CUTS_MAX = 6
"""Cuts at the same time: each takes a connection for a second or so, and more of them would only share the disk."""


@dataclass(frozen=True, slots=True)
class Worked:
    """What a piece of work on a lane came to: the outcome's name where something was uploaded, a check's result."""

    leased: bool = False
    cut: bool = False
    superseded: int = 0
    uncut: int = 0
    taken_over: bool = False
    checked: str = ""
    outcome: str = ""

    @property
    def progress(self) -> bool:
        """Whether anything changed, so that there may be more to do at once."""
        return bool(self.cut or self.superseded or self.uncut or self.taken_over or self.checked or self.outcome)


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
    checker: Checker | None = None
    may_try: MayTry = always
    give_back: Callable[[Login], None] = lambda _: None
    recovering: Recovering | None = None
    sender: Sender = field(init=False)

    def __post_init__(self) -> None:
        sender = Sender(self.store, self.spool, self.uploads, self.metrics, self.may_try, self.recovering)
        object.__setattr__(self, "sender", sender)

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

    async def checks_due(self, plans: Sequence[LoginPlan]) -> set[str]:
        """Name the logins whose accounts' columns are to be compared with the vendor's."""
        return await self.checker.due(plans, self.owner) if self.checker else set()

    async def work(self, plan: LoginPlan, fence: int) -> Worked:
        """Do one piece of work on a login, if its lane is to be had. A lane lost on the way is no error.

        Where nothing came of it, others of its vendor's host may have what it was told to go ahead for.
        """
        worked = Worked()
        try:
            worked = await self._work(plan, fence)
        finally:
            if not worked.progress:
                self.give_back(plan.login)
        return worked

    async def _work(self, plan: LoginPlan, fence: int) -> Worked:
        leased_at = boot_clock_s()
        lease = await self.store.lease_lane(plan.login.name, self.owner, self.lease_s, plan.fingerprint)
        if lease is None:
            return Worked()
        try:
            async with keeping(self.store, lease, self.lease_s, leased_at) as kept:
                choice = (await self.survey([plan], fence, self.owner)).get(plan.login.name, Choice())
                if self.checker and not choice.urgent and await self.checks_due([plan]):
                    return Worked(leased=True, checked=await self.checker.check(plan, kept))
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
        if choice.pick is None or not self.may_try(plan.login):
            return worked
        if await self.sender.kept_back(plan, kept, choice.pick):
            return replace(worked, outcome="quota")
        batch_id = choice.pick.batch_id
        if batch_id is None:
            cut = await self._cut(plan, kept, plan.target(choice.pick), fence)
            worked = replace(worked, cut=cut.batch_id is not None, superseded=cut.superseded)
            batch_id = cut.batch_id
        if batch_id is None:
            return worked
        return await self._send(plan, kept, replace(choice.pick, batch_id=batch_id), worked)

    async def _send(self, plan: LoginPlan, kept: Kept, pick: Candidate, worked: Worked) -> Worked:
        """Send an open batch, unless what became of its last upload can be found out, or it has to be cut anew."""
        batch = await self.store.manifest(pick.account, pick.batch_id or 0)
        recovered = await self.sender.recover(plan, kept, batch)
        if recovered is not None:
            return replace(worked, outcome=recovered)
        stored = await self.store.find_layout(batch.account, batch.layout)
        if batch.header != present_header(stored, plan.columns[batch.account, batch.operation]):
            await self._uncut(plan, kept, pick, "the account's headers have changed")
            return replace(worked, uncut=worked.uncut + 1)
        if batch.must_shrink:
            await self._uncut(plan, kept, pick, "the file must become smaller")
            return replace(worked, uncut=worked.uncut + 1)
        outcome = await self.sender.send(plan, kept, batch)
        return replace(worked, outcome=outcome)

    async def _take_over(self, plan: LoginPlan, kept: Kept, candidate: Candidate) -> Worked:
        """Settle an upload that a dead replica left behind: it counts as unknown."""
        batch = await self.store.manifest(candidate.account, candidate.batch_id or 0)
        uploaded = Uploaded(Unknown("taken over from a replica that ended during the upload"), None, 0, "")
        await self.sender.settle(plan, kept, batch, batch.uploads, uploaded)
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
            with staged(self.metrics, "cut", plan.login.vendor):
                cut = await self.store.cut(kept.lease, target, fence, lambda stored: present_header(stored, present))
        self.metrics.superseded.labels(plan.login.vendor, target.operation).inc(cut.superseded)
        if cut.batch_id is not None:
            self.metrics.batches.labels(plan.login.vendor, target.operation, BatchState.READY).inc()
        if cut.pending_s is not None:
            self.metrics.stage_seconds.labels("pending", plan.login.vendor).observe(cut.pending_s)
        log.info(
            "cut",
            login=target.login,
            account=target.account,
            operation=target.operation,
            batch=cut.batch_id,
            superseded=cut.superseded,
        )
        return cut
