"""Calls to a vendor that are made beside the lane: without a lease, but not without what is known of the login."""

from collections.abc import Callable
from dataclasses import dataclass

from relay.batches import Outcome, Unauthorized
from relay.flush.records import Asks
from relay.settings import Login
from relay.store import Store
from relay.vendors import Call, Reply

_PAUSES = frozenset({"unauthorized", "misconfigured"})
"""Pauses that say that these settings do not work; others hold up files only."""


@dataclass(slots=True)
class Beside:
    """Asks in one go whatever is to be asked of a login: a login that is refused is counted, and ends it.

    After one that was refused nothing is asked any more, however often anybody tries: each would be another.
    """

    asks: Asks
    store: Store
    _refused: Unauthorized | None = None

    async def ask(self, login: Login, call_with: Callable[[str | None], Call]) -> Reply | Outcome:
        """Make a call, or say why there is no answer; see `relay.client.Client.ask`."""
        if self._refused is not None:
            return self._refused
        reply = await self.asks.ask(login, call_with)
        if isinstance(reply, Unauthorized):
            self._refused = reply
            await self.store.count_refused_login(login.name, login.login_failures_per_hour_max)
        return reply


async def left_alone(store: Store, login: Login, fingerprint: str) -> bool:
    """Say whether the vendor is not to be asked of itself: an operator, a refusal of these settings, or of too many."""
    lane = (await store.tell_lanes([login.name])).get(login.name)
    if lane is not None and (
        lane.pause_reason == "operator"
        or (lane.pause_reason in _PAUSES and lane.paused_fingerprint == fingerprint)
        or fingerprint in lane.refused_fingerprints
    ):
        return True
    return await store.logins_again_s(login.name, login.login_failures_per_hour_max) > 0
