"""The check of accounts' columns: before a file is burnt by a header that the vendor does not know.

Theory of operation. One unknown header fails every row of a file, so the vendor is asked for its columns first: before
data goes up with settings that were never checked, at the start of the service, and once a day. A check is work on a
lane: it needs the lease, so that neither many replicas nor one that crashes again and again log in each by itself, and
when it was done stands in Postgres. Opt-outs that can go up go first, and a check takes `CHECK_TIMEOUT_S` at most.

What a check may do is hold up data, whose headers it has found wrong, and say when the next one is due. A vendor that
does not answer it, or not in a way that relay understands, holds up nothing.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from relay.batches import PAUSE_S
from relay.flush.lease import Kept, boot_clock_s
from relay.flush.looking import Asks, CheckResult, Look, look
from relay.flush.plans import LoginPlan
from relay.log import logger
from relay.metrics import Metrics
from relay.store import CheckPause, CheckTarget, Store
from relay.vendors import vendor_of

log = logger(__name__)

CHECK_EVERY_S = 86_400.0
"""People rename and remove columns at the vendor, seldom."""

CHECK_AGAIN_S = 600.0
"""A service that starts checks again, since something may have changed, but not sooner after the last check, whoever
did that: a crash loop, or many replicas, must not become a storm of logins."""

CHECK_PAUSED_S = 900.0
"""While unknown columns hold up data: somebody may add them at the vendor, and need not tell relay."""

CHECKS_FAILED_S = (300.0, 900.0, 3600.0, 21_600.0)
"""After the first, second, … check in a row without an answer of use; the last one repeats."""

CHECK_TIMEOUT_S = 20.0
"""All calls of a check together. Opt-outs that come meanwhile wait for it; the answers are short."""

CHECKS_PER_ROUND = 8
"""Logins without other work that are checked in one round: a hundred contracts are often at one host."""

DETAIL_CHARACTERS_MAX = 1_000
"""So much of what does not fit is told with a pause; GET /v1/accounts tells the rest."""


@dataclass(slots=True)
class _Memory:
    """What a process remembers of its own checks of a login: until when others' settings are no reason for another."""

    lately_until: float = 0.0
    failed: int = 0


@dataclass(slots=True)
class Checker:
    """Checks the logins of one process. Times are on a clock that counts suspension."""

    store: Store
    asks: Asks
    metrics: Metrics
    started: float = field(default_factory=boot_clock_s)
    timeout_s: float = CHECK_TIMEOUT_S
    _memories: dict[str, _Memory] = field(default_factory=dict)
    _without: set[str] = field(default_factory=set)

    async def due(self, plans: Sequence[LoginPlan], owner: UUID) -> set[str]:
        """Name the logins to check now, of lanes that may be worked or are held by `owner`."""
        now, targets = boot_clock_s(), []
        for plan in plans:
            if vendor_of(plan.login).templates(plan.login):
                lately, pauses = now < self._memory(plan).lately_until, plan.login.pauses_for_columns
                targets.append(CheckTarget(plan.login.name, plan.fingerprint, lately, pauses))
            elif plan.login.name not in self._without:
                self._without.add(plan.login.name)
                self.metrics.template_checks.labels(plan.login.vendor, "none").inc()
        if not targets:
            return set()
        return await self.store.checks_due(targets, max(now - self.started, CHECK_AGAIN_S), owner)

    async def check(self, plan: LoginPlan, kept: Kept) -> CheckResult:
        """Check a login whose lane is held, and keep what was found. Raises LaneLost."""
        found = await self._look(plan)
        if found.fits:
            await self.store.forget_refused_logins(plan.login.name)
        next_after_s = await self._follow(plan, kept, found)
        results = {account: found.of(account) for account in plan.accounts}
        await self.store.end_check(kept.lease, plan.fingerprint, next_after_s, results)
        self.metrics.template_checks.labels(plan.login.vendor, found.result).inc()
        self._tell(plan, found)
        return found.result

    async def _look(self, plan: LoginPlan) -> Look:
        try:
            async with asyncio.timeout(self.timeout_s):
                found = await look(self.asks, plan.login, plan.accounts.values())
        except TimeoutError:
            found = Look("failed", f"no answer within {self.timeout_s:g} s")
        return replace(found, detail=found.detail[:DETAIL_CHARACTERS_MAX])

    async def _follow(self, plan: LoginPlan, kept: Kept, found: Look) -> float:
        """Pause the lane or end its pause; return in how many seconds the next check is due."""
        memory = self._memory(plan)
        lately_s, memory.failed = CHECK_AGAIN_S, memory.failed + 1 if found.result == "failed" else 0
        match found.result:
            case "columns" if plan.login.pauses_for_columns:
                await self._pause(plan, kept, found)
                lately_s, next_after_s = 0.0, CHECK_PAUSED_S
            case "unauthorized":
                await self._pause(plan, kept, found)
                next_after_s = CHECK_AGAIN_S
            case "failed":
                next_after_s = CHECKS_FAILED_S[min(memory.failed, len(CHECKS_FAILED_S)) - 1]
                lately_s = CHECKS_FAILED_S[0]
            case _:
                await self.store.end_columns_pause(kept.lease)
                next_after_s = CHECK_EVERY_S
        # Nobody else's check of other settings excuses this one: columns that do not fit would go up meanwhile.
        memory.lately_until = boot_clock_s() + lately_s
        return next_after_s

    async def _pause(self, plan: LoginPlan, kept: Kept, found: Look) -> None:
        if found.result == "columns" and found.opt_outs_fit:
            await self.store.pause_for_columns(kept.lease, found.detail, plan.fingerprint)
            return
        reason = "unauthorized" if found.result == "unauthorized" else "misconfigured"
        pause = CheckPause(reason, found.detail, PAUSE_S)
        await self.store.pause_after_check(kept.lease, plan.fingerprint, pause, plan.login.login_failures_per_hour_max)

    def _tell(self, plan: LoginPlan, found: Look) -> None:
        login, vendor = plan.login.name, plan.login.vendor
        log.info("columns_checked", login=login, vendor=vendor, result=found.result, detail=found.detail)
        for name, one in found.fits.items():
            if not one.fits:
                log.warning(
                    "columns_do_not_fit",
                    login=login,
                    account=name,
                    unknown=one.unknown,
                    missing=one.missing,
                    detail=one.told(),
                )

    def _memory(self, plan: LoginPlan) -> _Memory:
        return self._memories.setdefault(plan.login.name, _Memory())
