"""Tokens: one for each login, got with one login call at a time, renewed ahead of time and when it is refused."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus

from relay.batches import Misconfigured, Outcome, Transient, Unauthorized
from relay.client.body import cause
from relay.client.wire import FAILED
from relay.log import logger
from relay.metrics import Metrics
from relay.settings import Login
from relay.vendors import Call, Reply, excerpt, vendor_of

log = logger(__name__)


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


class Tokens:
    """The tokens of all logins of a process. `send` makes a call without a token."""

    def __init__(
        self,
        metrics: Metrics,
        send: Callable[[Login, Call], Awaitable[Reply]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._metrics = metrics
        self._send = send
        self._clock = clock
        self._known: dict[str, _Token] = {}
        self._logging_in: dict[str, asyncio.Lock] = {}

    async def give(self, login: Login) -> str | NoToken:
        """Give a login's token: the one at hand if it is good, else a new one; one login call at a time."""
        async with self._logging_in.setdefault(login.name, asyncio.Lock()):
            known = self._known.get(login.name)
            if known is not None and known.login == login and self._clock() < known.renew_at:
                return known.value
            renew_at = self._clock() + login.token_lasts_s
            got = await self._log_in(login)
            if isinstance(got, str):
                self._known[login.name] = _Token(login, got, renew_at)
            return got

    def drop(self, login: Login, token: str) -> None:
        """Forget a token that the vendor refused, unless there is another one by now."""
        known = self._known.get(login.name)
        if known is not None and known.value == token:
            del self._known[login.name]

    def forget(self) -> None:
        """Forget all tokens."""
        self._known.clear()

    async def _log_in(self, login: Login) -> str | NoToken:
        vendor = vendor_of(login)
        reply: Reply | None = None
        token: str | Outcome
        try:
            reply = await self._send(login, vendor.login_call(login))
            token = vendor.read_token(reply)
        except FAILED as error:
            token = Transient(f"login: {cause(error)}")  # no file has been sent, whatever became of this call
        kept = "" if reply is None else excerpt(reply)
        if isinstance(token, str):
            result = "ok"
        else:
            result = "refused" if isinstance(token, Unauthorized | Misconfigured) else "failed"
        self._metrics.logins.labels(login.vendor, result).inc()
        log.info("vendor_login", login=login.name, vendor=login.vendor, result=result, reply=kept)
        return token if isinstance(token, str) else NoToken(token, None if reply is None else reply.status, kept)
