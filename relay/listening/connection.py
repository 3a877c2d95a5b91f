"""One connection: aiohttp's protocol, held to the limits of its guard, and answering what is no HTTP with problems.

Theory of operation. aiohttp reads heads without a limit of time and with a limit of size for each line alone, answers
what it cannot parse in plain text, and leaves a request waiting whose body is badly chunked. So this class looks at
what comes in before aiohttp does. There are three states. A head is *awaited*: nothing or a part of it is there. A
request is *under way*: its head is whole, and what comes is its body, or another request behind it. Or it is answered
while its body still comes: that is *passed over* for a while, then the connection closes. A head ends at its first
empty line; where aiohttp should see that otherwise, the timer of the head runs on and ends the connection.

What is relied on of aiohttp, beyond documented calls, is held by tests/integration/test_listening.py: that
`server.request_handler` is asked for every request, `handle_error` for everything that cannot be parsed, and that
`_messages` holds what is parsed and not yet under way.
"""

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import HttpVersion10, HttpVersion11, StreamReader, web
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import LineTooLong

from relay.listening.farewell import FAREWELL_S, UNREAD_BYTES_MAX, Farewell
from relay.listening.guard import Guard
from relay.listening.head import Head
from relay.log import logger
from relay.problem import FAILED, problem, problem_of_http, unavailable

HEADERS_MAX = 128
"""Several times what proxies and browsers send; each costs time and memory beyond its bytes."""

READ_AHEAD_BYTES = 65_536
"""Of a body that nobody reads yet, twice as much is taken off the system's hands."""

VERSIONS = (HttpVersion10, HttpVersion11)
"""aiohttp would answer 0.9, which proxies do not know, and 2.0, which it does not speak, as well."""

SERVER = "relay"
"""What answers are told to come from: aiohttp would tell its version and Python's, which helps only attackers."""

TOO_SLOW = "The request's head did not arrive in time."
MALFORMED = "The request is no HTTP/1.1 that relay can read."

Answerer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

log = logger(__name__)


class Connection(web.RequestHandler):
    """One connection to `server`, whose requests are answered by its app."""

    __slots__ = ("_awaiting", "_content", "_guard", "_head", "_late", "_passed_over_bytes")

    def __init__(self, server: web.Server, loop: asyncio.AbstractEventLoop, guard: Guard) -> None:
        super().__init__(
            server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type] # as `web.AppRunner` documents it
            keepalive_timeout=guard.limits.idle_timeout_s,
            max_line_size=guard.limits.head_bytes_max,
            max_field_size=guard.limits.head_bytes_max,
            max_headers=HEADERS_MAX,
            lingering_time=FAREWELL_S,
            read_bufsize=READ_AHEAD_BYTES,
            auto_decompress=False,  # bodies are inflated where they are read, within their limit
        )
        self._guard = guard
        self._awaiting = True
        self._head = Head()
        self._late: asyncio.TimerHandle | None = None
        self._content: StreamReader | None = None
        self._passed_over_bytes: int | None = None

    @staticmethod
    def watching(answer: Answerer) -> Answerer:
        """Wrap what answers requests, so that each request's connection knows when it begins and ends."""

        async def watched(request: web.BaseRequest) -> web.StreamResponse:
            connection = request.protocol
            if not isinstance(connection, Connection):
                raise TypeError("served by another protocol")
            connection.begin(request.content)
            try:
                response = await answer(request) if _understood(request) else connection.malformed()
            except web.HTTPException as error:  # aiohttp's own, from before any middleware: an `Expect` it cannot meet
                response = problem_of_http(error)
            response.headers["Server"] = SERVER
            connection.end(response)
            return response

        return watched

    # -- the connection ----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, unless it is one too many: that one hears so and is closed."""
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("not a stream")
        if not self._guard.admit(self):
            self._turn_away(transport, unavailable())
            return
        self._expect_head_in_time()
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """End."""
        self._stop_timer()
        self._guard.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what comes, as far as it keeps within the limits."""
        if self._awaiting:
            if data and not self._head_keeps_within(data):
                self._guard.count("head_bytes")
                self._cut_off(problem(431, self._too_large()))
                return
        elif self._passed_over_bytes is not None and not self._keeps_passing_over(data):
            return
        super().data_received(data)
        if self._content is not None and not self._content.is_eof():
            self._end_broken_body(self._content)

    # -- requests ----------------------------------------------------------------------------------------------------

    def begin(self, content: StreamReader) -> None:
        """Note that a request is under way, with this body."""
        if self._late is not None:
            self._stop_timer()
        self._awaiting = False
        self._content = content
        if not content.is_eof():
            self._end_broken_body(content)

    def end(self, response: web.StreamResponse) -> None:
        """Note that it is answered. Where its body has not come whole, the connection closes after the answer."""
        content, self._content = self._content, None
        if content is None or (content.is_eof() and content.exception() is None):
            if not self._messages:  # else another request is there already
                self._await_head()
            return
        response.force_close()
        if content.exception() is None:
            self._passed_over_bytes = 0
        else:
            content.feed_eof()  # or aiohttp would read on, and log that it could not

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - holds what was sent
    ) -> web.StreamResponse:
        """Answer what cannot be parsed, or a failure beyond the app, with a problem. The connection closes after it."""
        self._stop_timer()
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun; another one cannot be sent")
        if status >= 500:  # noqa: PLR2004 - as HTTP has it
            log.error("request_failed", exc_info=exc)
            response = problem(500, FAILED)
        elif isinstance(exc, LineTooLong) or "Too many headers" in str(exc):
            self._guard.count("head_bytes")
            response = problem(431, self._too_large())
        else:
            log.debug("request_malformed", kind=type(exc).__name__)
            response = self.malformed()
        response.headers["Server"] = SERVER
        response.force_close()
        return response

    def malformed(self) -> web.Response:
        """Count what is no request, and answer it. The connection closes after it."""
        self._guard.count_malformed()
        response = problem(400, MALFORMED)
        response.force_close()
        return response

    def _await_head(self) -> None:
        self._awaiting = True
        self._head.begin()
        self._guard.rest(self)

    def _end_broken_body(self, content: StreamReader) -> None:
        """Let a request know that its body will not come, which aiohttp only notes for afterwards, or not at all."""
        if content.exception() is not None:
            return
        if self.transport is None:
            content.set_exception(ConnectionResetError("the sender has gone"))
        elif any(not isinstance(message, RawRequestMessage) for message, _ in self._messages):
            self._guard.count_malformed()
            content.set_exception(web.RequestPayloadError("badly chunked"))

    def _keeps_passing_over(self, data: bytes) -> bool:
        """Count what comes of a body that is no longer wanted. False, and the end, if it is too much."""
        self._passed_over_bytes = (self._passed_over_bytes or 0) + len(data)
        if self._passed_over_bytes <= UNREAD_BYTES_MAX:
            return True
        self.force_close()
        return False

    # -- heads -------------------------------------------------------------------------------------------------------

    def _head_keeps_within(self, data: bytes) -> bool:
        """Count a head's bytes up to its end. False if they are too many."""
        self._guard.wake(self)
        if self._head.take(data):
            self._awaiting = False
        else:
            self._expect_head_in_time()
        return self._head.bytes <= self._guard.limits.head_bytes_max

    def _expect_head_in_time(self) -> None:
        if self._late is None:
            self._late = self._loop.call_later(self._guard.limits.head_timeout_s, self._head_is_late)

    def _stop_timer(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _head_is_late(self) -> None:
        self._late = None
        if not self._awaiting and self._head.bytes:  # it has come whole this very moment, and its request begins
            self._head.begin()
            self._expect_head_in_time()  # unless aiohttp does not take it for whole
            return
        self._guard.count("head_time")
        if self._head.bytes:
            self._cut_off(problem(408, TOO_SLOW))
        else:
            self.force_close()

    # -- the end -----------------------------------------------------------------------------------------------------

    def _too_large(self) -> str:
        return f"The request's head has more than {self._guard.limits.head_bytes_max} bytes or {HEADERS_MAX} headers."

    def _cut_off(self, answer: web.Response) -> None:
        """End the connection with an answer, while no request is under way."""
        transport, self.transport = self.transport, None  # aiohttp lets go of it without closing it
        self.connection_lost(None)
        if transport is not None:
            self._turn_away(transport, answer)

    def _turn_away(self, transport: asyncio.Transport, answer: web.Response) -> None:
        if self._guard.turn_away(transport):
            Farewell.say(transport, answer, self._guard.turned_away)
        else:
            transport.abort()


def _understood(request: web.BaseRequest) -> bool:
    """Say whether a request that aiohttp can parse is one that means the same to every proxy before us."""
    coding = request.headers.get("Transfer-Encoding")
    return request.version in VERSIONS and (coding is None or coding.lower() == "chunked")
