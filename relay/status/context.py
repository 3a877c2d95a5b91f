"""What all of the status API works with: the store, the settings, and how to wake the flusher."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from relay import vendors
from relay.batches import Pace
from relay.client import HostState
from relay.events import Keys
from relay.metrics import Metrics
from relay.settings import Login, Settings
from relay.status.remembering import Remembered
from relay.status.why import CLOSED, Around
from relay.store import Store, ToldCursor, ToldLane

PREVIEWS_MAX = 2
"""Previews at the same time: each takes a connection for some seconds, and flushing needs the others."""


@dataclass(frozen=True, slots=True)
class Context:
    """What an answer needs.

    `wake` makes the flusher look for work at once; `host` tells how a login's host stands, None in a process that
    uploads nothing and so does not know.
    """

    store: Store
    settings: Settings
    keys: Keys
    metrics: Metrics
    wake: Callable[[], None]
    host: Callable[[Login], HostState] | None = None
    previews: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(PREVIEWS_MAX), repr=False)
    remembered: Remembered = field(default_factory=Remembered, repr=False)
    fingerprints: dict[str, str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        prints = {login: self.settings.login_fingerprint(login, self.keys) for login in self.settings.logins}
        object.__setattr__(self, "fingerprints", prints)

    async def around(self, accounts: Iterable[str]) -> dict[str, Around]:
        """Tell what stands around each of some accounts; one that is not in the settings is missing."""
        named = {name: self.settings.accounts[name] for name in set(accounts) & self.settings.accounts.keys()}
        logins = sorted({account.login for account in named.values()})
        neighbours = [account for login in logins for account in self.settings.accounts_of(login)]
        if not neighbours:
            return {}
        cursors = await self.store.tell_cursors([account.name for account in neighbours])
        lanes = await self.store.tell_lanes(logins)
        by_login = {login: self.around_login(login, cursors, lanes.get(login)) for login in logins}
        return {name: by_login[account.login] for name, account in named.items()}

    def holds(self, lane: ToldLane) -> bool:
        """Whether a lane pauses for the present settings: with others than those that failed it goes on by itself."""
        if lane.pause_reason is None:
            return False
        return lane.pause_reason == "operator" or lane.paused_fingerprint == self.fingerprints[lane.login]

    def refused_s(self, lane: ToldLane) -> float:
        """For how many seconds this replica stays out of a lane, because its settings failed there and others' work."""
        return lane.refused_s if self.fingerprints[lane.login] in lane.refused_fingerprints else 0.0

    def refused_data_s(self, lane: ToldLane) -> float:
        """For how many seconds this replica sends opt-outs only, because its data failed there and others' work."""
        return lane.refused_s if self.fingerprints[lane.login] in lane.refused_data_fingerprints else 0.0

    def pace(self, login: str) -> Pace | None:
        """How a login's calls are spread over the vendor's day; None where it counts none."""
        return vendors.pace(self.settings.logins[login], self.settings.accounts_of(login))

    def around_login(self, login: str, cursors: Iterable[ToldCursor], lane: ToldLane | None) -> Around:
        """Put together what stands around a login's accounts."""
        accounts = {account.name: account for account in self.settings.accounts_of(login)}
        operations = self.settings.logins[login].operations
        own = {(c.account, c.operation): c for c in cursors if c.account in accounts and c.operation in operations}
        return Around(
            lane=lane,
            paused=lane is not None and self.holds(lane),
            refused_s=0.0 if lane is None else self.refused_s(lane),
            refused_data_s=0.0 if lane is None else self.refused_data_s(lane),
            host=self.host(self.settings.logins[login]) if self.host else CLOSED,
            pace=self.pace(login),
            cursors=own,
            flush_after_s={
                (account, operation): vendors.flush_after_s(self.settings.logins[login], accounts[account], operation)
                for account, operation in own
            },
        )
