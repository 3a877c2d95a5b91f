"""Checks of accounts' columns against the vendors' templates: when they are due, and what they found."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from relay.store.database import sql
from relay.store.lanes import REFUSED_S, Lanes, Lease, counted_refused_login


@dataclass(frozen=True, slots=True)
class CheckTarget:
    """A login whose accounts may have to be checked, with the fingerprint of its settings.

    `checked_lately` says that this process has checked them so lately that a check of other settings since then is no
    reason to do it again; `pauses`, that columns which do not fit are to hold up data.
    """

    login: str
    fingerprint: str
    checked_lately: bool = False
    pauses: bool = True


@dataclass(frozen=True, slots=True)
class CheckPause:
    """Why a lane pauses after a check: `unauthorized` or `misconfigured`, with what an operator has to know.

    `delay_s` is how long it rests at least, whoever has which settings.
    """

    reason: str
    detail: str
    delay_s: float


@dataclass(frozen=True, slots=True)
class ToldCheck:
    """What the last check found for an account, when, and with which settings. `result` is JSON."""

    account: str
    fingerprint: str
    checked_at: datetime
    result: Mapping[str, Any]


class Checks(Lanes):
    """Finds lanes to check, and keeps what was found. Every write names the lease."""

    async def checks_due(self, targets: Sequence[CheckTarget], stale_after_s: float, owner: UUID | None) -> set[str]:
        """Name the logins to check, of those whose lanes may be worked now or are held by `owner`.

        Due is what was never checked with these settings, what the last check has put off until now, what nobody has
        checked for `stale_after_s`, and what did not fit but no longer holds up data, because other settings work.
        """
        rows = await self.fetch(
            "checks_due",
            [target.login for target in targets],
            [target.fingerprint for target in targets],
            [target.checked_lately for target in targets],
            [target.pauses for target in targets],
            stale_after_s,
            owner,
            REFUSED_S,
        )
        return {row["login"] for row in rows}

    async def end_check(
        self, lease: Lease, fingerprint: str, next_after_s: float, results: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """Keep what a check found, by account, in place of what was found before; the next is due in `next_after_s`.

        Raises LaneLost.
        """
        texts = [json.dumps(result, ensure_ascii=False) for result in results.values()]
        async with self.holding(lease) as connection:
            await connection.execute(sql("end_check"), lease.login, fingerprint, next_after_s)
            await connection.execute(sql("keep_check"), lease.login, fingerprint, list(results), texts)

    async def pause_after_check(
        self, lease: Lease, fingerprint: str, pause: CheckPause, login_failures_per_hour_max: int
    ) -> None:
        """Pause a lane as after an upload that came to the same; a refused login is counted. Raises LaneLost."""
        async with self.holding(lease) as connection:
            await connection.execute(
                sql("settle_lane"),
                lease.login,
                pause.delay_s,
                False,
                "",
                pause.reason,
                pause.detail,
                fingerprint,
                False,
                REFUSED_S,
            )
            if pause.reason == "unauthorized":
                await counted_refused_login(connection, lease.login, login_failures_per_hour_max)

    async def tell_checks(self, accounts: Iterable[str]) -> dict[str, ToldCheck]:
        """Tell what the last check found, by account; one that was never checked is missing."""
        rows = await self.fetch("tell_checks", list(accounts))
        return {row["account"]: ToldCheck(**{**row, "result": json.loads(row["result"])}) for row in rows}
