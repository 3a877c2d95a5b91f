"""What connections may cost: heads, bodies, and connections themselves, over real sockets, byte by byte."""

import asyncio
import itertools
import json
import logging
import resource
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from time import perf_counter
from typing import Any

import pytest
from aiohttp import ClientSession, web

from relay import listening
from relay.listening import Guard, SocketLimits, allow_files, bind, listen, starting_app
from relay.listening.files import OWN_FILES
from relay.metrics import Metrics
from relay.problem import problems
from tests.waiting import until

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\n"
CLOSED = 0
"""In place of a status: the connection was closed without an answer."""


@dataclass
class Served:
    """An app on a port: it tells each body that it reads, and what became of its metrics."""

    port: int
    guard: Guard
    metrics: Metrics
    bodies: list[bytes] = field(default_factory=list)
    ended: list[BaseException] = field(default_factory=list)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def close(self) -> None:
        """Close what was opened."""
        for writer in self.writers:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect; the test's end closes it."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers.append(writer)
        return reader, writer

    async def say(self, *parts: bytes) -> list[tuple[int, bytes]]:
        """Send parts one after the other, and read everything up to the end of the connection."""
        reader, writer = await self.open()
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.02)  # so that each comes alone
        found = await answers(reader)
        writer.close()
        return found

    def counted(self, limit: str) -> float:
        """How often a limit was met."""
        return self.metrics.registry.get_sample_value("relay_limits_met_total", {"limit": limit}) or 0

    @property
    def malformed(self) -> float:
        """How many requests were none."""
        return self.metrics.registry.get_sample_value("relay_malformed_requests_total") or 0

    @property
    def connections(self) -> float:
        """How many connections are open."""
        return self.metrics.registry.get_sample_value("relay_connections") or 0


async def answers(reader: asyncio.StreamReader) -> list[tuple[int, bytes]]:
    """Read all answers of a connection: status and body of each. Fails if it is not closed in time."""
    raw = b""
    async with asyncio.timeout(10):
        with suppress(ConnectionError):
            while piece := await reader.read(65_536):
                raw += piece
    return split(raw)


def split(raw: bytes) -> list[tuple[int, bytes]]:
    """Split what came into answers. Each error has to be a problem that names its status, and none tells versions."""
    found = []
    while raw:
        head, _, rest = raw.partition(b"\r\n\r\n")
        status = int(head.split(b" ")[1])
        if status == 100:
            raw = rest
            continue
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        body, raw = rest[:length], rest[length:]
        assert b"aiohttp" not in head
        if status >= 400:
            assert b"content-type: application/problem+json" in head.lower(), head
            assert json.loads(body)["status"] == status
        found.append((status, body))
    return found


@asynccontextmanager
async def serving(
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None,
    **limits: Any,  # noqa: ANN401
) -> AsyncIterator[Served]:
    """Serve `/`, which reads the body, within limits."""
    metrics = Metrics()
    guard = Guard(SocketLimits(**limits), metrics, told=True)
    listener = bind("127.0.0.1", 0, "RELAY_PORT")
    served = Served(listener.getsockname()[1], guard, metrics)

    async def read(request: web.Request) -> web.StreamResponse:
        try:
            served.bodies.append(await request.read())
        except (web.RequestPayloadError, OSError) as error:
            served.ended.append(error)
            raise web.HTTPBadRequest(reason="The body ended early.") from None
        return web.json_response({"read": len(served.bodies[-1])})

    async def unread(_: web.Request) -> web.StreamResponse:
        raise web.HTTPUnauthorized(reason="No.")

    app = web.Application(middlewares=[problems])
    app.router.add_route("*", "/", answer or read)
    app.router.add_post("/unread", unread)
    async with AsyncExitStack() as stack:
        await listen(stack, app, listener, guard)
        try:
            yield served
        finally:
            await served.close()
    assert served.connections == 0


# -- heads -----------------------------------------------------------------------------------------------------------


async def test_a_head_that_does_not_come_is_not_waited_for() -> None:
    """Who connects and says nothing is closed without a word, who begins a head and does not end it with a 408."""
    async with serving(head_timeout_s=0.2) as served:
        begun = perf_counter()
        silent, slow = await asyncio.gather(served.say(), served.say(b"GET / HTTP/1.1\r\nHost:"))
        assert (silent, [status for status, _ in slow]) == ([], [408])
        assert perf_counter() - begun < 2
        assert served.counted("head_time") == 1, "a pool's connection that has not been used yet is no slow sender"


async def test_a_head_that_trickles_is_cut_off() -> None:
    """One byte now and then does not put the end off; nor do empty lines, which HTTP allows before a request."""
    for drop in (b"x", b"\r\n"):
        async with serving(head_timeout_s=0.3) as served:
            reader, writer = await served.open()
            writer.write(b"\r\n\r\n" if drop == b"\r\n" else b"GET / HTTP/1.1\r\nX: ")
            begun = perf_counter()
            while not reader.at_eof() and perf_counter() - begun < 5:
                with suppress(TimeoutError, ConnectionError):
                    writer.write(drop)
                    async with asyncio.timeout(0.05):
                        await reader.read(1000)
            assert 0.2 < perf_counter() - begun < 2
            assert served.counted("head_time") == 1
            writer.close()


async def test_the_second_head_of_a_connection_has_its_own_time() -> None:
    """A connection that rests is not cut off, but one whose second head has begun and does not go on."""
    async with serving(head_timeout_s=0.2) as served:
        reader, writer = await served.open()
        writer.write(GET)
        assert split(await reader.readuntil(b"}")) == [(200, b'{"read": 0}')]
        await asyncio.sleep(0.4)  # longer than a head may take
        writer.write(GET)
        assert split(await reader.readuntil(b"}")) == [(200, b'{"read": 0}')]
        writer.write(GET[:10])
        assert [status for status, _ in await answers(reader)] == [408]
        assert served.counted("head_time") == 1
        writer.close()


async def test_a_slow_head_within_its_time_is_taken() -> None:
    """Heads may come byte by byte, and their end in two pieces; their time ends with them, not with their bodies."""
    async with serving(head_timeout_s=1.0) as served:
        head = POST + b"Connection: close\r\nContent-Length: 3\r\n\r\n"
        assert await served.say(*(head[n : n + 20] for n in range(0, len(head), 20)), b"abc") == [(200, b'{"read": 3}')]
        assert await served.say(head[:-2], head[-2:], b"abc") == [(200, b'{"read": 3}')]
        reader, writer = await served.open()
        writer.write(head + b"a")
        await asyncio.sleep(1.2)  # the head's time is over, the body's is not
        writer.write(b"bc")
        assert await answers(reader) == [(200, b'{"read": 3}')]
        writer.close()
        assert served.counted("head_time") == 0


async def test_resting_connections_are_closed_after_a_time() -> None:
    """Nobody keeps a connection for ever by asking once."""
    async with serving(idle_timeout_s=0.3) as served:
        begun = perf_counter()
        assert [status for status, _ in await served.say(GET)] == [200]
        assert perf_counter() - begun >= 0.3


def head_of(size: int, pieces: int = 1) -> bytes:
    """Write a request whose head has exactly so many bytes, in so many lines of padding."""
    bare = len(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n") + len(b"X-00: \r\n") * pieces
    padding = size - bare
    lines = [
        b"X-%02d: %s\r\n" % (n, b"a" * (padding // pieces + (padding % pieces if n == 0 else 0))) for n in range(pieces)
    ]
    head = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + b"".join(lines) + b"\r\n"
    assert len(head) == size
    return head


async def test_a_heads_size_is_limited_to_the_byte() -> None:
    """The limit is for request line and all headers together, whether they come in one piece or in many."""
    async with serving(head_bytes_max=4_000) as served:
        for lines in (1, 20):
            fits, too_large = head_of(4_000, lines), head_of(4_001, lines)
            assert [status for status, _ in await served.say(fits)] == [200]
            assert [status for status, _ in await served.say(fits[:1_500], fits[1_500:3_998], fits[3_998:])] == [200]
            assert [status for status, _ in await served.say(too_large)] == [431]
            assert [status for status, _ in await served.say(too_large[:1_500], too_large[1_500:])] == [431]
            assert [status for status, _ in await served.say(b"\r\n\r\n" + too_large)] == [431]
        endless = POST + b"X: " + b"a" * 1_000_000
        assert [status for status, _ in await served.say(endless)] == [431]
        assert served.counted("head_bytes") == 7


async def test_the_number_of_headers_is_limited() -> None:
    """Many small headers cost more than their bytes."""
    async with serving() as served:
        for number, expected in ((100, 200), (400, 431)):
            head = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + b"a:\r\n" * number + b"\r\n"
            assert [status for status, _ in await served.say(head)] == [expected]
        assert served.counted("head_bytes") == 1


async def test_large_bodies_behind_heads_are_not_taken_for_heads() -> None:
    """The head's limit does not count a body, nor a request that waits behind another one with its body."""

    async def slow(request: web.Request) -> web.StreamResponse:
        read = len(await request.read())
        await asyncio.sleep(0.05)
        return web.json_response({"read": read})

    async with serving(slow, head_bytes_max=1_024) as served:
        one = POST + b"Content-Length: 300000\r\n\r\n" + b"x" * 300_000
        last = one.replace(b"Host: x", b"Host: x\r\nConnection: close")
        both = one + last
        expected = [(200, b'{"read": 300000}')] * 2
        assert await served.say(both) == expected
        assert await served.say(*(both[n : n + 50_000] for n in range(0, len(both), 50_000))) == expected
        empty_line = one.replace(b"xxxx", b"\r\n\r\n")
        assert await served.say(empty_line + last) == expected


async def test_a_body_is_no_head_wherever_the_pieces_part() -> None:
    """A head's end may be cut anywhere, and behind it comes a body, however large it is."""
    async with serving(head_bytes_max=1_024) as served:
        sent = POST + b"Connection: close\r\nContent-Length: 5000\r\n\r\n" + b"x" * 5_000
        end = sent.index(b"\r\n\r\n")
        for cut in range(end, end + 5):
            assert await served.say(sent[:cut], sent[cut:]) == [(200, b'{"read": 5000}')]


async def test_a_body_is_no_head_while_the_answer_before_it_is_on_its_way() -> None:
    """A request that waits behind another one may get its body at any moment: also after that one is answered."""
    answer_now, end_now = asyncio.Event(), asyncio.Event()

    class Late(web.Response):
        async def write_eof(self, data: bytes = b"") -> None:
            await end_now.wait()
            await super().write_eof(data)

    async def answer(request: web.Request) -> web.StreamResponse:
        if read := len(await request.read()):
            return web.json_response({"read": read})
        await answer_now.wait()
        return Late(text="{}", content_type="application/json")

    async with serving(answer, head_bytes_max=1_024) as served:
        reader, writer = await served.open()
        writer.write(GET + POST + b"Connection: close\r\nContent-Length: 5000\r\n\r\nx")
        await asyncio.sleep(0.05)
        answer_now.set()
        await asyncio.sleep(0.05)
        writer.write(b"x" * 4_999)
        await asyncio.sleep(0.05)
        end_now.set()
        assert await answers(reader) == [(200, b"{}"), (200, b'{"read": 5000}')]


# -- requests behind a request under way -----------------------------------------------------------------------------


def large_heads(number: int) -> bytes:
    """Write so many heads of 120 headers with 800 bytes each: each line, and their number, is within the limits."""
    return (POST + b"".join(b"H%d: %s\r\n" % (n, b"a" * 800) for n in range(120)) + b"\r\n") * number


BEHIND = {
    "whole heads": [large_heads(1)] * 20,
    "a head without end": [large_heads(1)[:-2], *[b"X: " + b"a" * 900 + b"\r\n"] * 100],
    "in one piece": [GET + large_heads(2)],
    "behind bodies": [
        POST + b"Content-Length: 1\r\n\r\n",
        *[b"x" + large_heads(1)[:-2] + b"Content-Length: 1\r\n\r\n"] * 20,
    ],
    "many small headers": [(GET[:-2] + b"a:\r\n" * 100 + b"\r\n") * 8],
    "behind an upgrade": [GET[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", *[large_heads(1)] * 20],
}


@pytest.mark.parametrize("behind", BEHIND.values(), ids=BEHIND.keys())
async def test_heads_behind_a_request_under_way_are_counted_too(behind: list[bytes]) -> None:
    """Whoever sends more of them than may wait is cut off, at the cost of no more memory than that."""
    asked, answer_now = asyncio.Event(), asyncio.Event()

    async def slow(_: web.Request) -> web.StreamResponse:
        asked.set()
        await answer_now.wait()
        return web.Response(text="{}", content_type="application/json")

    async with serving(slow) as served:
        reader, writer = await served.open()
        writer.write(GET)
        await asked.wait()
        for piece in behind:
            writer.write(piece)
            await asyncio.sleep(0.005)
        await until(lambda: served.connections == 0)
        assert served.counted("head_bytes") == 1
        answer_now.set()
        assert await answers(reader) == []


async def test_many_small_requests_may_be_sent_before_the_first_is_answered() -> None:
    """All are answered in their order, however many there are in the end: those that are answered do not count."""
    async with serving() as served:
        reader, writer = await served.open()
        small = POST + b"".join(b"X-%d: %s\r\n" % (n, b"a" * 30) for n in range(10)) + b"Content-Length: 800\r\n\r\n"
        for _ in range(40):
            writer.write((small + b"x" * 800) * 20)
            await writer.drain()
            await asyncio.sleep(0)
        writer.write(GET.replace(b"Host: x", b"Host: x\r\nConnection: close"))
        assert await answers(reader) == [(200, b'{"read": 800}')] * 800 + [(200, b'{"read": 0}')]
        assert served.counted("head_bytes") == 0


# -- what is no HTTP -------------------------------------------------------------------------------------------------

MALFORMED = {
    "nonsense": b"nonsense\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200)),
    "bare LF": b"GET / HTTP/1.1\nHost: x\n\n",
    "obs-fold": b"GET / HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n",
    "NUL in a header": b"GET / HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n",
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "two lengths": POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "length and chunks": POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked, then more": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "negative length": POST + b"Content-Length: -1\r\n\r\n",
    "huge length": POST + b"Content-Length: 99999999999999999999999\r\n\r\n",
    "hex length": POST + b"Content-Length: 0x10\r\n\r\n",
    "bad chunk at once": POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc",
    "space before colon": b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
    "unknown method": b"STEAL / HTTP/1.1\r\nHost: x\r\n\r\n",
    "old websocket": b"GET / HTTP/1.1\r\nHost: x\r\nSec-WebSocket-Key1: x\r\n\r\n",
}


async def test_what_is_no_http_gets_a_problem(subtests: pytest.Subtests, caplog: pytest.LogCaptureFixture) -> None:
    """Once, and then the connection closes; it is counted, and nothing of it is in the log but that it was there."""
    caplog.set_level(logging.DEBUG)
    async with serving() as served:
        for number, (name, request) in enumerate(MALFORMED.items(), 1):
            with subtests.test(name):
                assert [status for status, _ in await served.say(request)] == [400]
                assert served.malformed == number
        assert served.bodies == []
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []
    assert "zz" not in caplog.text
    assert "STEAL" not in caplog.text


async def test_a_badly_chunked_body_ends_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever reads it learns so without waiting, the answer is one, not two, and the log need not know."""
    async with serving() as served:
        begun = perf_counter()
        for bad in (b"zz\r\n", b"3\r\nabcd\r\n", b"3;\n\r\nabc"):
            head = POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
            assert [status for status, _ in await served.say(head, bad)] == [400]
        assert perf_counter() - begun < 2
        assert (served.bodies, len(served.ended), served.malformed) == ([], 3, 3)
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []


async def test_a_good_request_before_a_bad_one_is_answered() -> None:
    """What comes behind a request in the same connection does not spoil it."""
    async with serving() as served:
        assert [status for status, _ in await served.say(GET + GET, b"zz\r\n\r\n")] == [200, 200, 400]
        assert served.malformed == 1


async def test_expectations(caplog: pytest.LogCaptureFixture) -> None:
    """`100-continue` is met, anything else refused with a problem, wherever it is sent; HTTP/1.0 has none."""
    async with serving() as served:
        for path in (b"/", b"/nothing-here"):
            head = POST.replace(b"/", path, 1) + b"Connection: close\r\nContent-Length: 3\r\nExpect: "
            for more in (b"a miracle", b"100-continu\xe9", b"\xff\xfe", b"", b"100-continue\r\nExpect: a miracle"):
                assert [status for status, _ in await served.say(head + more + b"\r\n\r\n", b"abc")] == [417]
        for met in (b"POST / HTTP/1.1\r\nExpect: 100-Continue", b"POST / HTTP/1.0\r\nExpect: a miracle"):
            head = met + b"\r\nHost: x\r\nConnection: close\r\nContent-Length: 3\r\n\r\n"
            assert await served.say(head, b"abc") == [(200, b'{"read": 3}')]
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []


async def test_upgrades_are_passed_over() -> None:
    """There is nothing to upgrade to: the request is answered as it is, and the connection closes behind it.

    What comes behind it would not be held to any limit.
    """
    async with serving(head_bytes_max=1_024) as served:
        upgrade = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        connect = b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n"
        for behind in (b"", GET, head_of(3_000), b"zz\r\n\r\n"):
            assert [status for status, _ in await served.say(GET + upgrade + behind)] == [200, 200]
            assert [status for status, _ in await served.say(upgrade, behind)] == [200]
            assert [status for status, _ in await served.say(connect + behind)] == [404]


async def test_what_fails_beyond_the_app_is_a_problem_too() -> None:
    """An exception that no middleware catches is answered like any other, and ends the connection."""

    async def fail(_: web.Request) -> web.StreamResponse:
        raise TimeoutError

    app = web.Application()
    app.router.add_get("/", fail)
    async with AsyncExitStack() as stack:
        listener = bind("127.0.0.1", 0, "RELAY_PORT")
        guard = Guard(SocketLimits(), Metrics(), told=True)
        await listen(stack, app, listener, guard)
        served = Served(listener.getsockname()[1], guard, Metrics())
        assert [status for status, _ in await served.say(GET)] == [500]
        await served.close()


# -- bodies that nobody reads ----------------------------------------------------------------------------------------


async def test_a_refused_body_is_not_read_to_its_end() -> None:
    """Who sends a large body and is refused gets the answer while sending, and then the connection closes soon."""
    async with serving() as served:
        reader, writer = await served.open()
        writer.write(b"POST /unread HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000000\r\n\r\n")
        answered = asyncio.create_task(answers(reader))
        sent = 0
        with suppress(ConnectionError):
            while sent < 1_000_000_000:
                writer.write(b"x" * 65_536)
                sent += 65_536
                await writer.drain()
        assert [status for status, _ in await answered] == [401]
        assert sent < 40_000_000, "what the system buffers on both sides, and what is passed over"
        await until(lambda: served.connections == 0)


async def test_a_refused_slow_body_is_not_waited_for() -> None:
    """After the answer the connection closes within some seconds, whatever the other side does."""
    async with serving(farewell_s=0.5) as served:
        begun = perf_counter()
        refused = await served.say(b"POST /unread HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", b"x")
        assert [status for status, _ in refused] == [401]
        assert 0.4 < perf_counter() - begun < 3


@pytest.mark.parametrize("turned_away", [False, True], ids=["refused", "turned away"])
async def test_a_sender_that_first_sends_all_gets_the_answer(*, turned_away: bool) -> None:
    """Most senders look for an answer only behind their whole body: one of 15 MB is passed over for that."""
    async with serving(connections_max=1) as served:
        if turned_away:
            _, writer = await served.open()
            writer.write(GET[:5])
            await until(lambda: served.connections == 1)

        def send() -> int:
            sender = HTTPConnection("127.0.0.1", served.port, timeout=8)
            sender.request("POST", "/unread", body=b"x" * 15_000_000)
            with closing(sender), sender.getresponse() as response:
                return response.status

        assert await asyncio.to_thread(send) == (503 if turned_away else 401)


async def test_a_refused_body_that_has_come_keeps_the_connection() -> None:
    """A refusal alone costs no connection."""
    async with serving() as served:
        refused = b"POST /unread HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
        found = await served.say(refused + refused + GET + GET.replace(b"Host: x", b"Host: x\r\nConnection: close"))
        assert [status for status, _ in found] == [401, 401, 200, 200]


async def test_a_sender_that_is_gone_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    """Who closes in the middle of a body ends it, also before anybody reads it; nothing is told as a bug of ours."""
    async with serving() as served:
        for turns, requests_before in itertools.product(range(12), range(3)):
            with socket.create_connection(("127.0.0.1", served.port)) as gone:
                gone.sendall(GET * requests_before + POST + b"Content-Length: 1000\r\n\r\nx")
                for _ in range(turns):
                    await asyncio.sleep(0)
        await until(lambda: served.connections == 0 and len(served.ended) >= 10)
        assert {isinstance(error, OSError) for error in served.ended} == {True}
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []


# -- connections -----------------------------------------------------------------------------------------------------


async def test_one_connection_too_many_is_turned_away() -> None:
    """It hears so at once, with a time to come again, and the others are none the worse for it."""
    async with serving(connections_max=3) as served:
        opened = [await served.open() for _ in range(3)]
        for _, writer in opened:
            writer.write(GET[:5])
        await until(lambda: served.connections == 3)
        async with ClientSession() as client, client.post(f"http://127.0.0.1:{served.port}/", data=b"x") as response:
            assert (response.status, response.content_type) == (503, "application/problem+json")
            assert int(response.headers["Retry-After"]) >= 1
            assert (await response.json(content_type=None))["detail"].startswith("Too many are connected.")
        assert (served.counted("connections"), served.connections) == (1, 3)
        for reader, writer in opened:
            writer.write(GET[5:].replace(b"Host: x", b"Host: x\r\nConnection: close"))
            assert [status for status, _ in await answers(reader)] == [200]
        await until(lambda: served.connections == 0)
        assert [status for status, _ in await served.say(GET, b"zz\r\n\r\n")] == [200, 400]


async def test_who_is_turned_away_and_stays_is_dropped() -> None:
    """The answer is at its end at once, and whoever then neither closes nor stops sending is cut off soon."""
    async with serving(connections_max=1, farewell_s=0.5) as served:
        await served.open()
        await until(lambda: served.connections == 1)
        reader, writer = await served.open()
        begun = perf_counter()
        assert [status for status, _ in await answers(reader)] == [503]
        assert perf_counter() - begun < 0.5
        async with asyncio.timeout(5):
            with suppress(ConnectionError):
                while True:
                    writer.write(b"x")
                    await writer.drain()
                    await asyncio.sleep(0.05)


async def test_a_flood_of_connections_is_survived() -> None:
    """Ten times as many as may be there: some are told, the rest cut off, and none is kept waiting."""
    async with serving(connections_max=30, head_timeout_s=0.5) as served:
        begun = perf_counter()
        opened = await asyncio.gather(*(served.open() for _ in range(300)))
        assert served.connections <= 30
        found = await asyncio.gather(*(answers(reader) for reader, _ in opened))
        assert perf_counter() - begun < 5
        statuses = [status for some in found for status, _ in some]
        assert set(statuses) == {503}
        assert served.counted("connections") == 270
        assert [status for status, _ in await served.say(GET, b"zz\r\n\r\n")] == [200, 400]


async def test_resting_connections_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are too many, those that have rested longest go; those with a request under way stay."""
    monkeypatch.setattr(listening.guard, "RESTED_MIN_S", 0.1)
    async with serving(connections_max=3) as served:
        opened = [await served.open() for _ in range(3)]
        for reader, writer in opened:
            writer.write(GET)
            await reader.readuntil(b"}")
        opened[0][1].write(GET[:5])
        await asyncio.sleep(0.2)  # two rest
        assert [status for status, _ in await served.say(GET, b"zz\r\n\r\n")] == [200, 400]
        assert await answers(opened[1][0]) == []
        opened[0][1].write(GET[5:])
        assert await opened[0][0].readuntil(b"}")
        assert served.counted("connections") == 1


async def test_who_does_not_fetch_the_answer_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer waits for its receiver, but not for ever, also where the connection is to close behind it."""
    monkeypatch.setattr(listening, "ANSWER_TIMEOUT_S", 1)

    async def much(_: web.Request) -> web.StreamResponse:
        return web.Response(body=b"x" * 20_000_000)

    async with serving(much) as served:
        with socket.create_connection(("127.0.0.1", served.port)) as greedy:
            greedy.sendall(GET.replace(b"Host: x", b"Host: x\r\nConnection: close"))
            await until(lambda: served.connections == 1)
            await until(lambda: served.connections == 0, timeout_s=8)


async def test_answers_one_behind_the_other_are_fetched_one_by_one_in_time() -> None:
    """Who asks for many and takes a little now and then, which the system counts as alive, holds no connection."""

    async def much(_: web.Request) -> web.StreamResponse:
        return web.Response(body=b"x" * 20_000_000)

    async with serving(much, answer_timeout_s=0.5) as served:
        with socket.create_connection(("127.0.0.1", served.port)) as greedy:
            greedy.sendall(GET * 20)
            await until(lambda: served.connections == 1)
            greedy.setblocking(False)  # noqa: FBT003 - so it is in the standard library

            def dropped() -> bool:
                with suppress(BlockingIOError, ConnectionError):
                    greedy.recv(1_000)
                return served.connections == 0

            begun = perf_counter()
            await until(dropped, timeout_s=5)
            assert perf_counter() - begun > 0.4


async def test_a_file_that_is_still_being_sent_may_be_fetched_slowly() -> None:
    """Only an answer that is made is to be fetched in time: a large file is written as fast as it is taken."""

    async def file(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = 8_000_000
        await response.prepare(request)
        await response.write(b"x" * 8_000_000)
        return response

    async with serving(file, answer_timeout_s=0.2) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=1_000)
        served.writers.append(writer)
        writer.write(GET.replace(b"Host: x", b"Host: x\r\nConnection: close"))
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.6)
        assert len(await reader.read(-1)) == 8_000_000


async def test_who_hangs_up_before_the_answer_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not seem to rest from then on: to close it would make no room."""
    monkeypatch.setattr(listening.guard, "RESTED_MIN_S", 0)
    answer_now = asyncio.Event()
    asked = 0

    async def slow(_: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        await answer_now.wait()
        return web.Response(text="{}")

    async with serving(slow, connections_max=20) as served:
        opened = [await served.open() for _ in range(10)]
        for _, writer in opened:
            writer.write(GET)
        await until(lambda: asked == 10)
        for _, writer in opened:
            writer.transport.abort()
        await until(lambda: served.connections == 0)
        answer_now.set()
        await asyncio.sleep(0.1)
        for _ in range(30):
            _, writer = await served.open()
            writer.write(GET[:5])
        await until(lambda: served.counted("connections") >= 10)
        assert served.connections == 20


async def test_a_connection_that_makes_room_is_gone_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with an answer that it has not fetched: else its socket would stay, and nobody would count it."""
    monkeypatch.setattr(listening.guard, "RESTED_MIN_S", 0.1)

    async def much(_: web.Request) -> web.StreamResponse:
        return web.Response(body=b"x" * 20_000_000)

    async with serving(much, connections_max=1) as served:
        with socket.create_connection(("127.0.0.1", served.port)) as greedy:
            greedy.sendall(GET)
            await until(lambda: served.connections == 1)
            await asyncio.sleep(0.3)
            await served.open()
            await until(lambda: served.counted("connections") == 1)
            fetched = await asyncio.to_thread(lambda: sum(map(len, iter(lambda: greedy.recv(1_000_000), b""))))
            assert fetched < 20_000_000, "the rest has gone with the connection"


def test_sockets_without_a_time_limit_of_the_system_are_listened_on_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux alone has `TCP_USER_TIMEOUT`."""
    monkeypatch.delattr(socket, "TCP_USER_TIMEOUT")
    bind("127.0.0.1", 0, "RELAY_PORT").close()


async def test_until_postgres_is_there_all_is_answered() -> None:
    """The app before the app: whatever is asked, it is to be asked again, and the limits hold already."""
    metrics = Metrics()
    async with AsyncExitStack() as stack:
        listener = bind("127.0.0.1", 0, "RELAY_PORT")
        url = await listen(stack, starting_app(), listener, Guard(SocketLimits(), metrics))
        async with ClientSession() as client, client.post(f"{url}/v1/webhooks/crm", data=b"{}") as response:
            assert (response.status, response.content_type) == (503, "application/problem+json")
            assert "Retry-After" in response.headers
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(MALFORMED["TLS"])
        assert [status for status, _ in await answers(reader)] == [400]
        writer.close()


def test_as_many_files_are_allowed_as_there_may_be_connections() -> None:
    """The system's own limit, often 1,024 open files, does not undo the setting; where it is higher it stays."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before[1] - OWN_FILES - 100, before[1]))
        allow_files(before[1] - OWN_FILES)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
        allow_files(10)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
        resource.setrlimit(resource.RLIMIT_NOFILE, (before[1] - 100, before[1]))
        allow_files(before[1])
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1]), "as many as the system gives"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
