"""The one client that talks to all vendors: sessions, time-outs, size limits, redaction, tokens.

Theory of operation. What an upload came to hangs on one question: can the vendor have the file? Before the first byte
of the body nothing can have arrived, so every failure is `Transient`; afterwards anything but an answer is `Unknown`.
So nothing here sends a file twice on its own: each request has a connection of its own, redirects are not followed, and
aiohttp tries none but idempotent methods again. An answer counts even if it comes before the whole body was sent (413,
401) and even if the connection breaks because of it; only "yes" to half a file is no answer.

A lane's lease may run out during an upload, and then another replica may be sending to the same login. Before each
chunk, and at least every `LEASE_CHECK_S` while waiting, the lease is looked at; when it is over, the connection is
reset, so that not even bytes under way in a buffer complete the file. The same is done with whatever ends without an
answer: an upload that has been given up must not complete later.

No text made here holds a query, a form's content, a token, or of a reply anything but what `vendors.excerpt` lets
through.
"""

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from http import HTTPStatus
from types import TracebackType
from typing import Final, Self, TypeVar

import aiofiles
import aiohttp

from relay.batches import Busy, Outcome, Transient, Unknown
from relay.client.body import Body, body_bytes, cause
from relay.client.breaker import State
from relay.client.hosts import Hosts, HostState, Visit, host_of
from relay.client.tokens import NoToken, Tokens
from relay.client.turns import Turn
from relay.client.wire import FAILED, REPLY_BYTES_MAX, UNREACHED, open_session, reach, read, timeout_of, url_of
from relay.errors import LaneLost
from relay.events import Operation
from relay.metrics import Metrics
from relay.settings import Account, Login
from relay.spool import Spool, SpoolFile
from relay.vendors import Call, Counted, Form, Reply, Sent, Vendor, excerpt, vendor_of

__all__ = [
    "REPLY_BYTES_MAX",
    "Client",
    "HostState",
    "State",
    "UploadJob",
    "Uploaded",
    "body_bytes",
    "host_of",
]

_Came = TypeVar("_Came")

CALL_TIMEOUT_S: Final = 30.0
"""A call without a file does little work at the vendor; one that takes longer has failed."""


@dataclass(frozen=True, slots=True)
class UploadJob:
    """One file to upload. `lease_left_s` says how long the lane is still ours, on a clock that counts suspension."""

    login: Login
    account: Account
    operation: Operation
    file: SpoolFile
    lease_left_s: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What an upload came to; `http_status` is None without an answer, `bytes_sent` counts bodies of uploads only.

    `whole` says whether all of the file was sent, the last time if it was sent twice; None where nobody knows.
    """

    outcome: Outcome
    http_status: int | None
    bytes_sent: int
    excerpt: str
    whole: bool | None = None


class Client:
    """Talks to vendors for all lanes of a process. Use as a context manager, or `close` it."""

    def __init__(
        self,
        metrics: Metrics,
        spool: Spool,
        logins: Iterable[Login] = (),
        *,
        token_clock: Callable[[], float] = time.monotonic,
        host_clock: Callable[[], float] = time.monotonic,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`logins` are those of the settings: how many a host serves decides what a failure there means.

        `tls` says whom to trust; by default it is whom the system trusts.
        """
        self._metrics = metrics
        self._spool = spool
        self._session: aiohttp.ClientSession | None = None
        self._tls = tls
        self._large = asyncio.Lock()
        self._hosts = Hosts(metrics, logins, clock=host_clock)
        self._tokens = Tokens(metrics, self._call, clock=token_clock)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections. Tokens are forgotten."""
        self._tokens.forget()
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def upload(self, job: UploadJob) -> Uploaded:
        """Send one file and say what it came to. A token that has expired is renewed once and the file sent again.

        Raises:
            LaneLost: the lease ran out; whatever the vendor did must not be written down.
        """
        vendor = vendor_of(job.login)
        if not vendor.needs_token:
            return await self._attempt(job, vendor, None)
        sent = 0

        async def attempt(token: str) -> Uploaded:
            nonlocal sent
            uploaded = await self._attempt(job, vendor, token)
            sent += uploaded.bytes_sent
            return uploaded

        came = await self._let_in(job.login, attempt, lambda uploaded: uploaded.http_status)
        if isinstance(came, NoToken):
            return Uploaded(came.outcome, came.http_status, sent, came.excerpt, whole=False)
        return replace(came, bytes_sent=sent)

    async def reach(self, login: Login) -> str:
        """Say what keeps relay from the vendor's host, or nothing: its name is known, it answers, and its TLS is good.

        No request is made.
        """
        return await reach(login)

    async def log_in(self, login: Login) -> Outcome | None:
        """Make sure of a token, with one login call at most, or say why there is none. For vendors that know tokens."""
        token = await self._tokens.give(login)
        return token.outcome if isinstance(token, NoToken) else None

    def may_try(self, login: Login) -> bool:
        """Say whether there is a use in preparing an upload or a call now; see `Hosts.may_try` and `Tokens.rests`.

        Of a host that is to be tried again, the first login that asks is told so, and keeps that leave for a while.
        """
        return not self._tokens.rests(login) and self._hosts.may_try(login)

    def give_back(self, login: Login) -> None:
        """Say that a login which may try has nothing to send, so that another of its host may be told so."""
        self._hosts.give_back(login)

    def host(self, login: Login) -> HostState:
        """Say how a login's host stands, as this process sees it."""
        return self._hosts.state(login)

    async def ask(self, login: Login, call_with: Callable[[str | None], Call]) -> Reply | Outcome:
        """Make a call without a file; say what the lack of an answer, or of a token, means.

        `call_with` makes the call with a token (None where the vendor knows none). A token that has expired is renewed
        once. A 401 after that is given back as the reply that it is. Nothing is tried again. Busy may mean that nothing
        was asked, because the host or the login rests here after failures.
        """
        try:
            if not vendor_of(login).needs_token:
                return await self._call(login, call_with(None))
            came = await self._let_in(
                login,
                lambda token: self._call(login, call_with(token)),
                lambda answer: answer.status if isinstance(answer, Reply) else None,
            )
        except FAILED as error:
            return Transient(cause(error))
        return came.outcome if isinstance(came, NoToken) else came

    async def _let_in(
        self,
        login: Login,
        attempt: Callable[[str], Awaitable[_Came]],
        status: Callable[[_Came], int | None],
        *,
        again: bool = True,
    ) -> _Came | NoToken:
        """Attempt something with a token, and once more with a new one if the vendor does not take it (401)."""
        token = await self._tokens.give(login)
        if isinstance(token, NoToken):
            return token
        came = await attempt(token)
        if status(came) == HTTPStatus.UNAUTHORIZED:
            self._tokens.drop(login, token)
            if again:
                return await self._let_in(login, attempt, status, again=False)
        return came

    async def _call(self, login: Login, call: Call) -> Reply | Busy:
        """Make a call and read the answer; Busy where nothing may be sent to the host. Raises what `FAILED` lists."""
        with self._hosts.visit(login, call.path) as visit:
            if isinstance(visit, Busy):
                return visit
            try:
                reply = await self._request(login, call)
            except FAILED as error:
                visit.unanswered(sent=not isinstance(error, UNREACHED))
                raise
            visit.answered(reply.status)
            return reply

    async def _request(self, login: Login, call: Call) -> Reply:
        timeout = timeout_of(login, min(CALL_TIMEOUT_S, login.upload_timeout_s))
        url = url_of(login, call.path)
        data = aiohttp.FormData(call.fields, default_to_multipart=call.multipart) if call.method == "POST" else None
        async with self._open_session().request(
            call.method,
            url.extend_query(call.query) if call.query else url,
            data=data,
            timeout=timeout,
            allow_redirects=False,
        ) as response:
            return await read(response)

    # -- files -------------------------------------------------------------------------------------------------------

    async def _attempt(self, job: UploadJob, vendor: Vendor, token: str | None) -> Uploaded:
        """Send the file once, and say what it came to."""
        with self._hosts.visit(job.login, f"{job.account.name} {job.operation}") as visit:
            if isinstance(visit, Busy):
                return Uploaded(visit, None, 0, "", whole=False)
            async with Turn(self._large) as turn:
                return await self._send(job, vendor, token, turn, visit)

    async def _send(self, job: UploadJob, vendor: Vendor, token: str | None, turn: Turn, visit: Visit) -> Uploaded:
        """Send the file, and count time and bytes."""
        form = vendor.upload_form(job.login, job.account, job.operation, token)
        started = time.monotonic()
        body: Body | None = None
        try:
            async with aiofiles.open(job.file.path, "rb") as file:
                body = Body(form, file, job.file.bytes, job.lease_left_s)
                try:
                    answer = await self._exchange(job, form, body, turn)
                finally:
                    self._metrics.upload_bytes.labels(job.login.vendor).inc(body.sent)
        except OSError as error:
            reason = f"the spooled file cannot be read: {cause(error)}"
            sent = 0 if body is None else body.sent
            return Uploaded(
                Unknown(reason) if sent else Transient(reason), None, sent, "", body is not None and body.whole
            )
        finally:
            self._metrics.stage_seconds.labels("upload", job.login.vendor).observe(time.monotonic() - started)
        if not isinstance(answer, Reply):
            if not body.broken:  # which is the spooled file's fault
                visit.unanswered(sent=body.sent > 0)
            return Uploaded(answer, None, body.sent, "", body.whole)
        outcome = await self._understand(answer, job, vendor)
        visit.answered(answer.status, understood=not isinstance(outcome, Unknown))
        if body.begun and not body.whole and HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
            outcome = Unknown("answered before the whole file was sent")
        return Uploaded(outcome, answer.status, body.sent, excerpt(answer), body.whole)

    async def _exchange(self, job: UploadJob, form: Form, body: Body, turn: Turn) -> Reply | Outcome:
        """Send the body and get the answer, or say what its absence means; reset the connection if the lane is lost."""
        async with asyncio.TaskGroup() as tasks:
            watch = tasks.create_task(body.watch())
            answer: Reply | Outcome | None = None
            try:
                answer = await self._answer(job, form, body, turn)
            finally:
                watch.cancel()
                if not isinstance(answer, Reply):
                    body.reset()
        if body.lane_lost:
            raise LaneLost("the lease ran out during an upload")
        return answer

    async def _answer(self, job: UploadJob, form: Form, body: Body, turn: Turn) -> Reply | Outcome:
        timeout = timeout_of(job.login, job.login.upload_timeout_s)
        try:
            async with self._open_session().post(
                url_of(job.login, form.path), data=body, timeout=timeout, allow_redirects=False
            ) as response:
                return await read(response, lambda: turn.take(body))
        except FAILED as error:
            reason = body.broken or cause(error)
            if body.sent == 0:
                return Transient(reason)
            return Unknown(reason, timed_out=isinstance(error, TimeoutError))

    async def _understand(self, reply: Reply, job: UploadJob, vendor: Vendor) -> Outcome:
        """Read and judge in a thread: a reply of many megabytes takes seconds, and webhooks must not wait for it."""
        sent = Sent(job.login, job.account, job.operation, job.file.rows)
        claimed = await asyncio.to_thread(vendor.read, reply, sent)
        if not isinstance(claimed, Counted):
            return claimed
        try:
            lines = await self._spool.lines(job.file, await asyncio.to_thread(claimed.lines))
        except OSError as error:
            return Unknown(f"the spooled file cannot be compared with the answer: {cause(error)}")
        return await asyncio.to_thread(vendor.judge, claimed, sent, lines)

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = open_session(self._hosts.certified, self._tls)
        return self._session
