"""Tokens: one for each login, got with one login call at a time, renewed ahead of time and when it is refused.

A vendor may lock a login after too many failures, so that however many ask, one of them asks the vendor: whoever waits
for the same login call gets what it came to. After one that failed nobody logs in for a while (`Busy`, no attempt is
burnt), each time for twice as long. One that was refused is remembered for a moment, for the same settings. How often a
login may be refused within an hour, in all replicas together, is the store's to say.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

from relay.batches import Busy, Misconfigured, Outcome, Transient, Unauthorized
from relay.client.body import cause
from relay.client.wire import FAILED
from relay.log import logger
from relay.metrics import Metrics
from relay.settings import Login
from relay.vendors import Call, Reply, excerpt, vendor_of

log = logger(__name__)

FAILED_REST_S: Final = 1.0
"""How long nobody logs in after a failed call: it may have been a hiccup. The second time it is twice as long, and so
on."""

FAILED_REST_MAX_S: Final = 60.0
"""The longest such rest: a vendor that is well again is noticed within a minute."""

REFUSED_S: Final = 10.0
"""How long a refusal is remembered: as long as all who ask at the same time take to ask, and shorter than somebody
takes to mend it at the vendor and resume."""

LOGIN_REPLY_BYTES_MAX: Final = 1_048_576
"""A yes that is larger holds no token: it is some hundred bytes long, and reading megabytes holds up the loop."""


@dataclass(frozen=True, slots=True)
class NoToken:
    """Why there is no token; `http_status` is None without an answer."""

    outcome: Outcome
    http_status: HTTPStatus | int | None = None
    excerpt: str = ""


@dataclass(frozen=True, slots=True)
class _Token:
    """A token with the login settings that it was got with, and when to renew it."""

    login: Login
    value: str = field(repr=False)
    renew_at: float


@dataclass(frozen=True, slots=True)
class _Failure:
    """What the last login call with these settings came to, and until when that holds; `rest_s` grows."""

    login: Login
    came_to: NoToken
    rest_s: float
    until: float

    def told(self, now: float) -> NoToken:
        """Say it to somebody else: a refusal as it was, anything else as a wish for patience."""
        if isinstance(self.came_to.outcome, _REFUSALS):
            return self.came_to
        return NoToken(Busy("nothing was sent: the last login call failed", max(0.0, self.until - now)))


_REFUSALS = (Unauthorized, Misconfigured)


class Tokens:
    """The tokens of all logins of a process. `send` makes a call without a token, or says why it makes none."""

    def __init__(
        self,
        metrics: Metrics,
        send: Callable[[Login, Call], Awaitable[Reply | Busy]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._metrics = metrics
        self._send = send
        self._clock = clock
        self._known: dict[str, _Token] = {}
        self._failures: dict[str, _Failure] = {}
        self._logging_in: dict[str, asyncio.Lock] = {}

    async def give(self, login: Login) -> str | NoToken:
        """Give a login's token: the one at hand if it is good, else a new one; one login call at a time."""
        async with self._logging_in.setdefault(login.name, asyncio.Lock()):
            known = self._known.get(login.name)
            if known is not None and known.login == login and self._clock() < known.renew_at:
                return known.value
            if (failure := self._holding(login)) is not None:
                return failure.told(self._clock())
            renew_at = self._clock() + login.token_lasts_s
            got = await self._log_in(login)
            if isinstance(got, str):
                self._known[login.name] = _Token(login, got, renew_at)
            return got

    def rests(self, login: Login) -> bool:
        """Say whether nobody logs in at present, because the last call failed; a refusal is not meant."""
        failure = self._holding(login)
        return failure is not None and not isinstance(failure.came_to.outcome, _REFUSALS)

    def _holding(self, login: Login) -> _Failure | None:
        """Find what the last login call came to, where that still holds for these settings."""
        failure = self._failures.get(login.name)
        return failure if failure and failure.login == login and self._clock() < failure.until else None

    def drop(self, login: Login, token: str) -> None:
        """Forget a token that the vendor refused, unless there is another one by now."""
        known = self._known.get(login.name)
        if known is not None and known.value == token:
            del self._known[login.name]

    def forget(self) -> None:
        """Forget all tokens and failures."""
        self._known.clear()
        self._failures.clear()

    async def _log_in(self, login: Login) -> str | NoToken:
        vendor = vendor_of(login)
        reply: Reply | None = None
        token: str | Outcome
        try:
            answer = await self._send(login, vendor.login_call(login))
            if isinstance(answer, Busy):
                return NoToken(answer)
            reply = answer
            if answer.status == HTTPStatus.OK and len(answer.body) > LOGIN_REPLY_BYTES_MAX:
                token = Transient(f"login: {excerpt(answer)}, too large for a token")
            else:
                token = vendor.read_token(answer)
        except FAILED as error:
            token = Transient(f"login: {cause(error)}")  # no file has been sent, whatever became of this call
        kept = "" if reply is None else excerpt(reply)
        result = "ok" if isinstance(token, str) else "refused" if isinstance(token, _REFUSALS) else "failed"
        self._metrics.logins.labels(login.vendor, result).inc()
        log.info("vendor_login", login=login.name, vendor=login.vendor, result=result, reply=kept)
        if isinstance(token, str):
            self._failures.pop(login.name, None)
            return token
        return self._remember(login, NoToken(token, None if reply is None else reply.status, kept))

    def _remember(self, login: Login, came_to: NoToken) -> NoToken:
        """Remember a login call that failed or was refused."""
        before = self._failures.get(login.name)
        if isinstance(came_to.outcome, _REFUSALS):
            rest_s, lasts_s = 0.0, REFUSED_S
        else:
            rested_s = before.rest_s if before is not None and before.login == login else 0.0
            rest_s = lasts_s = min(max(rested_s * 2, FAILED_REST_S), FAILED_REST_MAX_S)
        self._failures[login.name] = _Failure(login, came_to, rest_s, self._clock() + lasts_s)
        return came_to
