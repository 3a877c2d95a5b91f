"""What all of the status API works with: the store, the settings, and how to wake the flusher."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from relay import vendors
from relay.events import Keys
from relay.metrics import Metrics
from relay.settings import Settings
from relay.status.why import Around
from relay.store import Store, ToldCursor, ToldLane


@dataclass(frozen=True, slots=True)
class Context:
    """What an answer needs. `wake` makes the flusher look for work at once."""

    store: Store
    settings: Settings
    keys: Keys
    metrics: Metrics
    wake: Callable[[], None]
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
        by_login = {login: self._around(login, cursors, lanes.get(login)) for login in logins}
        return {name: by_login[account.login] for name, account in named.items()}

    def holds(self, lane: ToldLane) -> bool:
        """Whether a lane pauses for the present settings: with others than those that failed it goes on by itself."""
        if lane.pause_reason is None:
            return False
        return lane.pause_reason == "operator" or lane.paused_fingerprint == self.fingerprints[lane.login]

    def _around(self, login: str, cursors: Iterable[ToldCursor], lane: ToldLane | None) -> Around:
        accounts = {account.name: account for account in self.settings.accounts_of(login)}
        operations = self.settings.logins[login].operations
        own = {(c.account, c.operation): c for c in cursors if c.account in accounts and c.operation in operations}
        return Around(
            lane=lane,
            paused=lane is not None and self.holds(lane),
            cursors=own,
            flush_after_s={
                (account, operation): vendors.flush_after_s(self.settings.logins[login], accounts[account], operation)
                for account, operation in own
            },
        )
