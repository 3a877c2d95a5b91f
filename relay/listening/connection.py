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

from aiohttp import StreamReader, web
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import LineTooLong

from relay.listening.farewell import UNREAD_BYTES_MAX, Farewell
from relay.listening.guard import Guard
from relay.listening.head import Head
from relay.listening.parsed import expects_what_is_met, memory_bytes, understood
from relay.log import logger
from relay.problem import FAILED, problem, unavailable

HEADERS_MAX = 128
"""Several times what proxies and browsers send; each costs time and memory beyond its bytes."""

READ_AHEAD_BYTES = 65_536
"""Of a body that nobody reads yet, twice as much is taken off the system's hands."""

HEADS_BEHIND_MAX = 4
"""As much as so many of the largest heads may wait behind the request under way. Who sends the next request before the
last one is answered sends dozens of small ones; and a thousand connections that wait must not fill the memory."""

SERVER = "relay"
"""What answers are told to come from: aiohttp would tell its version and Python's, which helps only attackers."""

TOO_SLOW = "The request's head did not arrive in time."
MALFORMED = "The request is no HTTP/1.1 that relay can read."
UNEXPECTED = "The only expectation that relay meets is 100-continue."
CROWDED = "Too many are connected. Nothing of the request was read: send it again."

Answerer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

log = logger(__name__)


class Connection(web.RequestHandler):
    """One connection to `server`, whose requests are answered by its app."""

    __slots__ = (
        "_awaiting",
        "_behind_bytes",
        "_coming",
        "_content",
        "_guard",
        "_head",
        "_late",
        "_opened",
        "_passed_over_bytes",
        "_unfetched",
    )

    def __init__(self, server: web.Server, loop: asyncio.AbstractEventLoop, guard: Guard) -> None:
        super().__init__(
            server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type] # as `web.AppRunner` documents it
            keepalive_timeout=guard.limits.idle_timeout_s,
            max_line_size=guard.limits.head_bytes_max,
            max_field_size=guard.limits.head_bytes_max,
            max_headers=HEADERS_MAX,
            lingering_time=guard.limits.farewell_s,
            read_bufsize=READ_AHEAD_BYTES,
            auto_decompress=False,  # bodies are inflated where they are read, within their limit
        )
        self._guard = guard
        self._awaiting = True
        self._head = Head()
        self._late: asyncio.TimerHandle | None = None
        self._unfetched: asyncio.TimerHandle | None = None
        self._opened: asyncio.Transport | None = None
        self._content: StreamReader | None = None  # the body of the request under way
        self._coming: StreamReader | None = None  # the body of the request that came last, perhaps behind that one
        self._behind_bytes = 0
        self._passed_over_bytes: int | None = None

    @staticmethod
    def watching(answer: Answerer) -> Answerer:
        """Wrap what answers requests, so that each request's connection knows when it begins and ends."""

        async def watched(request: web.BaseRequest) -> web.StreamResponse:
            connection = request.protocol
            if not isinstance(connection, Connection):
                raise TypeError("served by another protocol")
            connection.begin(request.content)
            if not understood(request):
                response: web.StreamResponse = connection.malformed()
            elif not expects_what_is_met(request):
                response = problem(417, UNEXPECTED)
            else:
                response = await answer(request)
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
            self._turn_away(transport, unavailable(CROWDED))
            return
        self._opened = transport
        self._expect_head_in_time()
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """End."""
        self._stop_timer()
        self._fetched()
        self._guard.leave(self)
        super().connection_lost(exc)

    def drop(self) -> None:
        """End it at once, with whatever its receiver has not fetched."""
        if self._opened is not None:
            self._opened.abort()

    def pause_writing(self) -> None:
        """Note that an answer waits for its receiver. One that is still being made, a large file, may wait longer."""
        super().pause_writing()
        if self._content is None and self._unfetched is None:
            self._unfetched = self._loop.call_later(self._guard.limits.answer_timeout_s, self.drop)

    def resume_writing(self) -> None:
        """Note that it has been fetched."""
        self._fetched()
        super().resume_writing()

    def _fetched(self) -> None:
        if self._unfetched is not None:
            self._unfetched.cancel()
            self._unfetched = None

    def data_received(self, data: bytes) -> None:
        """Take what comes, as far as it keeps within the limits."""
        behind = not self._awaiting and (self._coming is None or self._coming.is_eof())
        if self._awaiting:
            if data and not self._head_keeps_within(data):
                self._guard.count("head_bytes")
                self._cut_off(problem(431, self._too_large()))
                return
        elif self._passed_over_bytes is not None and not self._keeps_passing_over(data):
            return
        waiting = len(self._messages)
        super().data_received(data)
        if len(self._messages) > waiting:
            self._coming = self._messages[-1][1]
            self._behind_bytes = 0
        elif behind:
            self._behind_bytes += len(data)
        if not self._keeps_within_behind():
            return
        if self._content is not None and not self._content.is_eof():
            self._end_broken_body(self._content)

    # -- requests ----------------------------------------------------------------------------------------------------

    def begin(self, content: StreamReader) -> None:
        """Note that a request is under way, with this body."""
        if self._late is not None:
            self._stop_timer()
        self._guard.wake(self)
        self._awaiting = False
        self._content = content
        if not content.is_eof():
            self._end_broken_body(content)

    def end(self, response: web.StreamResponse) -> None:
        """Note that it is answered. Where its body has not come whole, the connection closes after the answer."""
        content, self._content = self._content, None
        if self._upgraded and not self._messages:  # what comes behind it would go to aiohttp past `data_received`
            self._message_tail = b""
            response.force_close()
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
        self._behind_bytes = 0
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
        self.drop()
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

    def _keeps_within_behind(self) -> bool:
        """Count the heads behind the request under way, whole and not. False, and the end, if they are too much."""
        if not self._behind_bytes and len(self._messages) <= 1:
            return True
        held = self._behind_bytes + sum(memory_bytes(message) for message, _ in self._messages)
        if held <= self._guard.limits.head_bytes_max * HEADS_BEHIND_MAX:
            return True
        self._guard.count("head_bytes")
        self.drop()
        return False

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
        if not self._guard.rests(self):  # else nothing has come: one that was opened to be at hand, as proxies do
            self._guard.count("head_time")
        if self._head.bytes:
            self._cut_off(problem(408, TOO_SLOW))
        else:
            self.drop()

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
            Farewell.say(transport, answer, self._guard.limits.farewell_s, self._guard.turned_away)
        else:
            transport.abort()
