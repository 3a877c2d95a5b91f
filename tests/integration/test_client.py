"""What the client promises, over real connections on loopback."""

import asyncio
import itertools
import json
import logging
import re
import socket
import tracemalloc
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Self

import pytest

from relay import csvline
from relay.batches import (
    Accepted,
    Busy,
    Delivered,
    LineRejection,
    Misconfigured,
    TooLarge,
    Transient,
    Unauthorized,
    Unknown,
)
from relay.client import Client, UploadJob, body_bytes
from relay.demo.sim_bme import BmeContract, BmeSim
from relay.demo.sim_haihai import HaihaiContract, HaihaiSim
from relay.errors import LaneLost
from relay.events import Operation
from relay.metrics import Metrics
from relay.settings import Login
from relay.spool import Spool, SpoolFile
from relay.vendors import vendor_of
from tests.integration.loopback import Connection, Script, serving
from tests.unit.vendors.made import CANARIES, account, bme_login, haihai_login

TOKEN = '{"accessToken":"canary-token"}'
ANSWER_WITHIN_S = 5.0
"""Longer than anything here takes, shorter than a test may hang."""


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """Give an empty spool."""
    return Spool(tmp_path)


@pytest.fixture
def metrics() -> Metrics:
    """Give metrics at zero."""
    return Metrics()


@pytest.fixture
async def client(spool: Spool, metrics: Metrics) -> AsyncIterator[Client]:
    """Give a client; it is closed in the end."""
    async with Client(metrics, spool) as client:
        yield client


async def spooled(spool: Spool, rows: int = 3, padding: int = 0) -> SpoolFile:
    """Spool a file of addresses, with so many bytes of padding in each row."""

    async def lines() -> AsyncIterator[bytes]:
        yield csvline.record(["E-Mail", "氏名"])
        for number in range(rows):
            yield csvline.record([f"taro{number}@example.jp", "表" * (padding // 2)])

    return await spool.write("batch-1.csv", lines(), rows)


LARGE = {"rows": 4_000, "padding": 2_000}
"""About 8 MB: more than the system's buffers on both sides take."""


def forever() -> float:
    """Hold the lane."""
    return 60.0


def job(
    file: SpoolFile, login: Login, operation: Operation = Operation.UPSERT, lease: Callable[[], float] = forever
) -> UploadJob:
    """Make a job for the made account of a login."""
    return UploadJob(login, account(login), operation, file, lease)


async def accept(connection: Connection) -> None:
    """Take a whole upload."""
    await connection.read()
    await connection.answer(200, "OK")


# -- what arrives ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("large", [False, True])
async def test_the_body_arrives_as_predicted(client: Client, spool: Spool, metrics: Metrics, *, large: bool) -> None:
    """Its length is known before the first byte, the file in it is the spooled one, and every byte is counted."""
    file = await spooled(spool, **LARGE if large else {})
    async with serving(accept) as server:
        login = haihai_login(base_url=server.url + "/")
        uploaded = await client.upload(job(file, login))
    (connection,) = server.heard
    form = vendor_of(login).upload_form(login, account(login), Operation.UPSERT, None)
    assert connection.path == "/?ac=ScheduleCsvImport"
    assert connection.length == len(connection.body) == body_bytes(form, file.bytes) == uploaded.bytes_sent
    assert b"Content-Type: text/csv\r\n\r\n" + file.path.read_bytes() + b"\r\n--" in bytes(connection.body)
    assert tuple(connection.fields.items()) == form.fields
    assert uploaded.outcome == Accepted("HTTP 200, 2 bytes")
    assert (uploaded.http_status, uploaded.excerpt) == (200, "HTTP 200, 2 bytes")
    sent = metrics.registry.get_sample_value("relay_upload_bytes_total", {"vendor": "haihai"})
    assert sent == len(connection.body)
    assert metrics.registry.get_sample_value("relay_stage_seconds_count", {"stage": "upload", "vendor": "haihai"}) == 1


async def test_headers_are_plain(client: Client, spool: Spool) -> None:
    """No `Expect`, no chunks, no compression asked for, a multipart form whose boundary is in no header but one."""
    file = await spooled(spool)
    async with serving(accept) as server:
        await client.upload(job(file, haihai_login(base_url=server.url)))
    headers = server.heard[0].headers
    assert set(headers) == {
        "host",
        "user-agent",
        "accept",
        "accept-encoding",
        "content-length",
        "content-type",
        "connection",
    }
    assert re.fullmatch(r"multipart/form-data; boundary=relay-[0-9a-f]{32}", headers["content-type"])
    assert headers["accept-encoding"] == "identity"
    assert headers["connection"] == "close"
    assert headers["user-agent"].startswith("relay/")


async def test_no_cookie_is_kept(client: Client, spool: Spool) -> None:
    """What one login's server sets is not sent to it again, nor to another's."""

    async def set_cookie(connection: Connection) -> None:
        await connection.read()
        await connection.answer(200, "OK", "Set-Cookie: session=1; Path=/")

    file = await spooled(spool)
    async with serving(set_cookie) as server:
        url = server.url.replace("127.0.0.1", "localhost")  # no client keeps cookies of a bare address
        for _ in range(2):
            await client.upload(job(file, haihai_login(base_url=url)))
    assert len(server.heard) == 2
    assert "cookie" not in server.heard[1].headers


async def test_the_environment_s_proxy_is_not_asked(
    client: Client, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A vendor lets in one address; a proxy from the environment would be another, and would see the password."""
    file = await spooled(spool)
    async with serving(accept) as proxy, serving(accept) as server:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("no_proxy", "")
        uploaded = await client.upload(job(file, haihai_login(base_url=server.url)))
    assert isinstance(uploaded.outcome, Accepted)
    assert (len(proxy.heard), len(server.heard)) == (0, 1)


async def test_a_redirect_is_not_followed(client: Client, spool: Spool) -> None:
    """The file, and the password with it, goes where the settings say and nowhere else."""

    async def elsewhere(connection: Connection) -> None:
        await connection.read()
        await connection.answer(307, "", f"Location: {other.url}/?ac=ScheduleCsvImport")

    file = await spooled(spool)
    async with serving(accept) as other, serving(elsewhere) as server:
        uploaded = await client.upload(job(file, haihai_login(base_url=server.url)))
    assert isinstance(uploaded.outcome, Misconfigured)
    assert uploaded.http_status == 307
    assert other.heard == []


async def test_memory_does_not_grow_with_the_file(client: Client, spool: Spool) -> None:
    """32 MB go up with less than 2 MB of memory."""

    async def drain(connection: Connection) -> None:
        left = connection.length
        while left and (chunk := await connection.reader.read(65_536)):
            left -= len(chunk)
        await connection.answer(200, "OK")

    file = await spooled(spool, rows=16_000, padding=2_000)
    assert file.bytes > 32_000_000
    async with serving(drain) as server:
        login = haihai_login(base_url=server.url)
        await client.upload(job(await spooled(Spool(spool.directory / "small")), login))  # what is loaded once
        tracemalloc.start()
        try:
            uploaded = await client.upload(job(file, login))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert isinstance(uploaded.outcome, Accepted)
    assert peak < 2_000_000


# -- failures before the first byte ----------------------------------------------------------------------------------


async def test_a_refused_connection_is_transient(client: Client, spool: Spool, metrics: Metrics) -> None:
    """Nothing can have arrived."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    uploaded = await client.upload(job(await spooled(spool), haihai_login(base_url=url)))
    assert uploaded.outcome == Transient("ClientConnectorError ECONNREFUSED")
    assert (uploaded.http_status, uploaded.bytes_sent, uploaded.excerpt) == (None, 0, "")
    assert metrics.registry.get_sample_value("relay_stage_seconds_count", {"stage": "upload", "vendor": "haihai"}) == 1


@pytest.mark.parametrize("host", ["x" * 64 + ".example.jp", "a..example.jp"])
async def test_a_name_that_cannot_be_looked_up_is_transient(client: Client, spool: Spool, host: str) -> None:
    """Like DNS that does not answer, which may be back in a minute. These names fail without a question to a server."""
    uploaded = await client.upload(job(await spooled(spool), haihai_login(base_url=f"http://{host}:8")))
    assert isinstance(uploaded.outcome, Transient)
    assert uploaded.bytes_sent == 0


async def test_a_failed_tls_handshake_is_transient(client: Client, spool: Spool) -> None:
    """No byte of a form goes to a server that cannot say who it is."""
    async with serving(accept, greeting=b"HTTP/1.1 400 Bad Request\r\n\r\n") as server:
        login = haihai_login(base_url=server.url.replace("http:", "https:"))
        uploaded = await client.upload(job(await spooled(spool), login))
    assert isinstance(uploaded.outcome, Transient)
    assert server.heard == []


async def test_a_connection_that_does_not_come_about_is_transient(client: Client, spool: Spool) -> None:
    """The login's own time-out for connecting counts."""
    file = await spooled(spool)
    with FullListener() as full:
        login = haihai_login(base_url=f"http://127.0.0.1:{full.port}", connect_timeout_s=0.2, upload_timeout_s=60)
        async with asyncio.timeout(ANSWER_WITHIN_S):
            uploaded = await client.upload(job(file, login))
    assert uploaded.outcome == Transient("ConnectionTimeoutError")


class FullListener:
    """A listener whose queue is full: the system answers no further connection."""

    def __enter__(self) -> Self:
        self._sockets = [socket.create_server(("127.0.0.1", 0), backlog=0)]
        self.port = self._sockets[0].getsockname()[1]
        for _ in range(8):
            waiting = socket.socket()
            waiting.settimeout(0)
            waiting.connect_ex(("127.0.0.1", self.port))
            self._sockets.append(waiting)
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._sockets:
            each.close()


async def test_a_file_that_is_gone_is_transient(client: Client, spool: Spool) -> None:
    """It is rendered again from the log; nothing was sent."""
    file = await spooled(spool)
    await spool.remove("batch-1.csv")
    async with serving(accept) as server:
        uploaded = await client.upload(job(file, haihai_login(base_url=server.url)))
    assert uploaded.outcome == Transient("the spooled file cannot be read: FileNotFoundError ENOENT")
    assert server.heard == []


# -- failures after the first byte -----------------------------------------------------------------------------------


async def test_a_file_cut_short_meanwhile_never_completes(client: Client, spool: Spool) -> None:
    """The vendor must not take half a file for a whole one."""
    file = await spooled(spool)
    file.path.write_bytes(file.path.read_bytes()[:-9])

    async def read(connection: Connection) -> None:
        await connection.read()

    async with serving(read) as server:
        uploaded = await client.upload(job(file, haihai_login(base_url=server.url)))
        await server.heard[0].done.wait()
    assert uploaded.outcome == Unknown("the spooled file is shorter than it was")
    assert server.heard[0].broken


async def hang(connection: Connection) -> None:
    """Read all, say nothing."""
    await connection.read()
    await connection.read(connection.length + 1)


async def read_nothing(connection: Connection) -> None:
    """Leave the client with full buffers."""
    connection.writer.transport.pause_reading()  # type: ignore[attr-defined] # a transport of a socket reads too
    await asyncio.Event().wait()


@pytest.mark.parametrize("script", [hang, read_nothing])
async def test_a_time_out_is_unknown_and_makes_files_smaller(client: Client, spool: Spool, script: Script) -> None:
    """It may have arrived. The connection is reset, so that it does not complete later."""
    file = await spooled(spool, **LARGE)
    async with serving(script) as server, asyncio.timeout(ANSWER_WITHIN_S):
        uploaded = await client.upload(job(file, haihai_login(base_url=server.url, upload_timeout_s=0.5)))
        if script is hang:
            await server.heard[0].done.wait()
            assert server.heard[0].broken
    assert uploaded.outcome == Unknown("TimeoutError", timed_out=True)
    assert uploaded.http_status is None
    assert uploaded.bytes_sent > 0
    assert uploaded.whole is (script is hang), "all of a file that was not read cannot have been sent"


async def reset_at_once(connection: Connection) -> None:
    """Break off before anything of the body is read."""
    connection.reset()


async def reset_on_the_way(connection: Connection) -> None:
    """Break off in the middle of the body."""
    await connection.read(1_000_000)
    connection.reset()


async def reset_after(connection: Connection) -> None:
    """Read all, then break off."""
    await connection.read()
    connection.reset()


async def close_after(connection: Connection) -> None:
    """Read all, then close without a word."""
    await connection.read()


async def half_a_head(connection: Connection) -> None:
    """Read all, then break off in the answer's head."""
    await connection.read()
    connection.writer.write(b"HTTP/1.1 200 OK\r\nContent-")
    await connection.writer.drain()


async def half_a_yes(connection: Connection) -> None:
    """Read all, then break off in the answer's body."""
    await connection.read()
    await connection.answer(200, "O", cut=1)


async def no_http(connection: Connection) -> None:
    """Answer in another protocol."""
    await connection.read()
    connection.writer.write(b"220 mail.example.jp ESMTP\r\n\r\n")
    await connection.writer.drain()


@pytest.mark.parametrize(
    "script", [reset_at_once, reset_on_the_way, reset_after, close_after, half_a_head, half_a_yes, no_http]
)
async def test_a_lost_answer_is_unknown_and_nothing_is_sent_twice(client: Client, spool: Spool, script: Script) -> None:
    """It may have arrived. Whether and when to send again is not the client's to say."""
    file = await spooled(spool, **LARGE)
    async with serving(script) as server, asyncio.timeout(ANSWER_WITHIN_S):
        uploaded = await client.upload(job(file, haihai_login(base_url=server.url)))
    assert isinstance(uploaded.outcome, Unknown)
    assert not uploaded.outcome.timed_out
    assert uploaded.http_status is None
    assert len(server.heard) == 1


# -- early and broken answers ----------------------------------------------------------------------------------------


def early(status: int, read: int = 0, cut: int = 0) -> Script:
    """Answer before the body has been read and close, which resets the connection under the client's hands."""

    async def script(connection: Connection) -> None:
        await connection.read(read)
        await connection.answer(status, "early", cut=cut)

    return script


@pytest.mark.parametrize("read", [0, 1_000_000])
@pytest.mark.parametrize("cut", [0, 10])
@pytest.mark.parametrize(("status", "outcome"), [(413, TooLarge), (401, Unauthorized), (404, Misconfigured)])
async def test_an_early_no_is_heard(
    client: Client, spool: Spool, status: int, outcome: type[object], read: int, cut: int
) -> None:
    """A front server refuses by the headers alone and closes; even an answer that breaks off has said no."""
    file = await spooled(spool, **LARGE)
    async with serving(early(status, read, cut)) as server, asyncio.timeout(ANSWER_WITHIN_S):
        uploaded = await client.upload(job(file, haihai_login(base_url=server.url)))
    assert isinstance(uploaded.outcome, outcome)
    assert (uploaded.http_status, uploaded.whole) == (status, False)
    assert 0 < uploaded.bytes_sent < file.bytes


async def test_an_early_yes_is_no_answer(client: Client, spool: Spool) -> None:
    """A vendor that has not seen the whole file cannot have taken it."""
    file = await spooled(spool, **LARGE)
    async with serving(early(200)) as server, asyncio.timeout(ANSWER_WITHIN_S):
        uploaded = await client.upload(job(file, haihai_login(base_url=server.url)))
    assert uploaded.outcome == Unknown("answered before the whole file was sent")
    assert uploaded.http_status == 200


async def test_a_reply_is_read_up_to_a_limit(client: Client, spool: Spool) -> None:
    """More is not read, and the next file is smaller, since a reply grows with its refused lines."""

    async def endless(connection: Connection) -> None:
        await connection.read()
        if connection.path.endswith("login"):
            await connection.answer(200, TOKEN)
            return
        connection.writer.write(b'HTTP/1.1 200 OK\r\n\r\n{"success":"0","failure":"3","details":"')
        for _ in itertools.count():
            connection.writer.write(b"x" * 1_000_000)
            await connection.writer.drain()

    async with serving(endless) as server, asyncio.timeout(30):
        uploaded = await client.upload(job(await spooled(spool), bme_login(base_url=server.url)))
    assert isinstance(uploaded.outcome, Unknown)
    assert uploaded.outcome.timed_out
    assert uploaded.excerpt == "HTTP 200, 16777216 bytes (not whole), success 0, failure 3"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("17", 17.0),
        ("0", 0.0),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 59.0),
        ("Fri, 31 Dec 1999 23:00:00 GMT", 0.0),
        ("9" * 5000, 999999999.0),
        ("soon", None),
        ("-1", None),
        ("", None),
        ("１７", None),
    ],
)
async def test_a_wish_for_patience_is_read(client: Client, spool: Spool, value: str, seconds: float | None) -> None:
    """Seconds or a date by the server's own clock; nonsense is no wish."""

    async def busy(connection: Connection) -> None:
        await connection.read()
        await connection.answer(429, "", f"Retry-After: {value}", "Date: Fri, 31 Dec 1999 23:59:00 GMT")

    async with serving(busy) as server:
        uploaded = await client.upload(job(await spooled(spool), haihai_login(base_url=server.url)))
    assert isinstance(uploaded.outcome, Busy)
    assert uploaded.outcome.retry_after_s == seconds


# -- the lane's lease ------------------------------------------------------------------------------------------------


async def test_a_lease_that_is_over_lets_nothing_out(client: Client, spool: Spool) -> None:
    """Another replica may be sending already: not one byte of the body goes."""
    file = await spooled(spool)
    async with serving(hang) as server:
        with pytest.raises(LaneLost):
            await client.upload(job(file, haihai_login(base_url=server.url), lease=lambda: 0.0))
    assert not any(connection.body for connection in server.heard)


async def test_a_lease_that_ends_on_the_way_resets_the_connection(client: Client, spool: Spool) -> None:
    """It is asked before each chunk; the file never completes."""
    chunks = itertools.count()
    file = await spooled(spool, **LARGE)

    def lease() -> float:
        return 60.0 if next(chunks) < 20 else 0.0

    async with serving(hang) as server, asyncio.timeout(ANSWER_WITHIN_S):
        with pytest.raises(LaneLost):
            await client.upload(job(file, haihai_login(base_url=server.url), lease=lease))
        await server.heard[0].done.wait()
    assert server.heard[0].broken
    assert 0 < len(server.heard[0].body) < 22 * 65_536


@pytest.mark.parametrize("script", [hang, read_nothing])
async def test_a_lease_that_ends_while_waiting_resets_the_connection(
    client: Client, spool: Spool, script: Script
) -> None:
    """For the answer, or for a vendor that reads no further: what lies in buffers must not complete the file."""
    file = await spooled(spool, **LARGE)
    clock = asyncio.get_running_loop().time
    end = clock() + 0.5
    async with serving(script) as server, asyncio.timeout(ANSWER_WITHIN_S):
        with pytest.raises(LaneLost):
            await client.upload(job(file, haihai_login(base_url=server.url), lease=lambda: end - clock()))
        if script is hang:
            await server.heard[0].done.wait()
            assert server.heard[0].broken


@pytest.mark.parametrize("end", ["lease", "time-out", "cancelled"])
async def test_what_lies_in_buffers_does_not_complete_a_file_later(client: Client, spool: Spool, end: str) -> None:
    """A vendor that reads on after relay has given up finds the connection reset, not the rest of the file."""
    read_on = asyncio.Event()

    async def late(connection: Connection) -> None:
        await read_on.wait()
        await connection.read()

    file = await spooled(spool, rows=50, padding=2_000)
    clock = asyncio.get_running_loop().time
    until = clock() + (0.3 if end == "lease" else 60)
    async with serving(late, narrow=True) as server, asyncio.timeout(ANSWER_WITHIN_S):
        login = haihai_login(base_url=server.url, upload_timeout_s=0.3 if end == "time-out" else 60)
        uploading = asyncio.ensure_future(client.upload(job(file, login, lease=lambda: until - clock())))
        if end == "cancelled":
            await asyncio.wait({uploading}, timeout=0.3)
            uploading.cancel()
        await asyncio.wait({uploading})
        read_on.set()
        await server.heard[0].done.wait()
    if not uploading.cancelled() and uploading.exception() is None:
        assert uploading.result().outcome == Unknown("TimeoutError", timed_out=True)
    assert server.heard[0].broken
    assert len(server.heard[0].body) < server.heard[0].length


async def test_a_lease_that_is_renewed_lasts(client: Client, spool: Spool) -> None:
    """Only what is left when it is looked at counts, not what was left at the start."""
    clock = asyncio.get_running_loop().time
    released = asyncio.Event()

    async def slow(connection: Connection) -> None:
        await connection.read()
        await released.wait()
        await connection.answer(200, "OK")

    looks = itertools.count()

    def lease() -> float:
        if next(looks) == 12:
            released.set()
        return 0.05

    async with serving(slow) as server, asyncio.timeout(ANSWER_WITHIN_S):
        began = clock()
        uploaded = await client.upload(job(await spooled(spool), haihai_login(base_url=server.url), lease=lease))
    assert isinstance(uploaded.outcome, Accepted)
    assert clock() - began > 0.05


async def test_an_upload_that_is_cancelled_resets_the_connection(client: Client, spool: Spool) -> None:
    """A relay that is told to stop at once leaves nothing that completes later."""
    file = await spooled(spool, **LARGE)
    async with serving(hang) as server, asyncio.timeout(ANSWER_WITHIN_S):
        uploading = asyncio.ensure_future(client.upload(job(file, haihai_login(base_url=server.url))))
        while not server.heard or len(server.heard[0].body) < 1_000_000:
            await asyncio.wait({uploading}, timeout=0.001)
        uploading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await uploading
        await server.heard[0].done.wait()
    assert server.heard[0].broken


# -- tokens ----------------------------------------------------------------------------------------------------------


def counted(rows: int, failures: list[dict[str, object]] | None = None) -> str:
    """Answer an import of bme's."""
    found = failures or []
    return json.dumps({"success": rows - len(found), "failure": len(found), "details": {"detail": found}})


class Bme:
    """bme's two calls: tokens are numbered, and only those in `good` are taken (None: all)."""

    def __init__(self) -> None:
        self.logins = 0
        self.good: set[str] | None = None
        self.reply = counted(3)
        self.early = False

    async def __call__(self, connection: Connection) -> None:
        """Answer one call."""
        if self.early and not connection.path.endswith("login"):
            await connection.read(1000)
        else:
            await connection.read()
        if connection.path.endswith("login"):
            self.logins += 1
            return await connection.answer(200, json.dumps({"accessToken": f"token-{self.logins}"}))
        if self.good is not None and connection.fields["access_token"] not in self.good:
            return await connection.answer(401, '{"error":{"message":"Failure_Token"}}')
        await connection.read()
        return await connection.answer(200, self.reply)


async def test_a_login_is_a_plain_form(client: Client, spool: Spool, metrics: Metrics) -> None:
    """Name, password and key in the body, urlencoded; then the upload carries the token as a text part."""
    async with serving(Bme()) as server:
        login = bme_login(base_url=server.url + "/rest/1.0/", password="p&ss=髙 +%")
        uploaded = await client.upload(job(await spooled(spool), login))
    call, upload = server.heard
    assert call.path == "/rest/1.0/authenticate/login"
    assert call.headers["content-type"] == "application/x-www-form-urlencoded"
    assert bytes(call.body) == (b"username=relay&password=p%26ss%3D%E9%AB%99+%2B%25&api_key=canary-api-key&f=json")
    assert upload.path == "/rest/1.0/contact/import/all"
    assert upload.fields == {"access_token": "token-1", "f": "json"}
    assert uploaded.outcome == Delivered((), "3 of 3 lines delivered")
    assert uploaded.bytes_sent == len(upload.body)
    assert metrics.registry.get_sample_value("relay_logins_total", {"vendor": "blastmail", "result": "ok"}) == 1


async def test_many_that_wait_share_one_login(client: Client, spool: Spool) -> None:
    """One login at a time, however many wait; a second call would end the first one's token at some vendors."""
    bme, file = Bme(), await spooled(spool)
    async with serving(bme) as server, asyncio.TaskGroup() as tasks:
        login = bme_login(base_url=server.url)
        uploads = [tasks.create_task(client.upload(job(file, login))) for _ in range(10)]
        done = await asyncio.gather(*uploads)
    assert {type(uploaded.outcome) for uploaded in done} == {Delivered}
    assert bme.logins == 1


@pytest.mark.parametrize("early_no", [False, True])
async def test_an_expired_token_is_renewed_once_and_the_file_sent_again(
    client: Client, spool: Spool, *, early_no: bool
) -> None:
    """Whether the vendor reads the whole file before it says so or not."""
    bme, file = Bme(), await spooled(spool, **LARGE)
    bme.reply = counted(file.rows)
    async with serving(bme) as server, asyncio.timeout(ANSWER_WITHIN_S):
        login = bme_login(base_url=server.url)
        await client.upload(job(file, login))
        bme.good, bme.early = {"token-2"}, early_no
        uploaded = await client.upload(job(file, login))
        again = await client.upload(job(file, login))
    assert isinstance(uploaded.outcome, Delivered)
    assert isinstance(again.outcome, Delivered)
    assert uploaded.bytes_sent > again.bytes_sent
    assert bme.logins == 2
    assert len(server.heard) == 6


async def test_401_after_a_fresh_login_is_unauthorized(client: Client, spool: Spool) -> None:
    """Two uploads, two logins, then an operator has to act; the token that did not work is not kept."""
    bme = Bme()
    bme.good = set()
    async with serving(bme) as server:
        login = bme_login(base_url=server.url)
        uploaded = await client.upload(job(await spooled(spool), login))
        assert (bme.logins, len(server.heard)) == (2, 4)
        bme.good = {"token-3"}
        again = await client.upload(job(await spooled(spool), login))
    assert isinstance(uploaded.outcome, Unauthorized)
    assert uploaded.http_status == 401
    assert isinstance(again.outcome, Delivered)
    assert bme.logins == 3


async def test_a_login_that_gets_no_answer_is_transient(client: Client, spool: Spool, metrics: Metrics) -> None:
    """Reset, or nobody there: no file was sent, so it is simply tried again."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    file = await spooled(spool)
    refused = await client.upload(job(file, bme_login(base_url=url)))
    async with serving(reset_after) as server:
        lost = await client.upload(job(file, bme_login(base_url=server.url)))
    assert refused.outcome == Transient("login: ClientConnectorError ECONNREFUSED")
    assert isinstance(lost.outcome, Transient)
    assert (lost.http_status, lost.bytes_sent, lost.whole) == (None, 0, False)
    assert metrics.registry.get_sample_value("relay_logins_total", {"vendor": "blastmail", "result": "failed"}) == 2


async def test_a_login_that_hangs_takes_no_longer_than_an_upload_may(client: Client, spool: Spool) -> None:
    """The login's own time-out counts where it is shorter than the client's for such calls."""
    async with serving(hang) as server, asyncio.timeout(ANSWER_WITHIN_S):
        uploaded = await client.upload(job(await spooled(spool), bme_login(base_url=server.url, upload_timeout_s=0.3)))
    assert uploaded.outcome == Transient("login: TimeoutError")


# -- judging ---------------------------------------------------------------------------------------------------------


async def test_refused_lines_are_compared_with_the_spooled_file(client: Client, spool: Spool) -> None:
    """A claim that fits its line is a rejection; one that does not makes the whole answer unknown."""
    bme, file = Bme(), await spooled(spool, rows=3)
    async with serving(bme) as server:
        login = bme_login(base_url=server.url)
        bme.reply = counted(3, [{"lineNumber": 3, "content": '"taro1@example.jp",""', "message": "不正です"}])
        fits = await client.upload(job(file, login))
        bme.reply = counted(3, [{"lineNumber": 2, "content": '"taro1@example.jp",""', "message": "不正です"}])
        does_not = await client.upload(job(file, login))
    assert fits.outcome == Delivered((LineRejection(3, "不正です"),), "2 of 3 lines delivered")
    assert fits.excerpt.endswith("success 2, failure 1")
    assert isinstance(does_not.outcome, Unknown)


async def test_a_file_gone_before_the_comparison_is_unknown(client: Client, spool: Spool) -> None:
    """What cannot be compared is not believed."""
    bme, file = Bme(), await spooled(spool)
    bme.reply = counted(3, [{"lineNumber": 3, "content": '"taro1@example.jp",""', "message": "不正です"}])

    async def remove_first(connection: Connection) -> None:
        await connection.read()
        if not connection.path.endswith("login"):
            await spool.remove("batch-1.csv")
        await bme(connection)

    async with serving(remove_first) as server:
        uploaded = await client.upload(job(file, bme_login(base_url=server.url)))
    assert isinstance(uploaded.outcome, Unknown)
    assert "ENOENT" in uploaded.outcome.reason


# -- secrets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "script", [accept, close_after, reset_on_the_way, early(401), early(413), early(200), hang, no_http, half_a_yes]
)
async def test_nothing_private_is_told(
    client: Client, spool: Spool, caplog: pytest.LogCaptureFixture, script: Script
) -> None:
    """Not in an outcome, an excerpt or a log, however an upload or a login ends, at the lowest level of logging."""
    caplog.set_level(logging.DEBUG)
    file = await spooled(spool, **LARGE)

    async def after_login(connection: Connection) -> None:
        if connection.path.endswith("login"):
            await connection.read()
            return await connection.answer(200, TOKEN)
        return await script(connection)

    told = []
    async with serving(script) as server, serving(after_login) as bme:
        for url in (server.url, bme.url):
            for login in (
                haihai_login(base_url=url, upload_timeout_s=0.5, extra_fields={"api_token": "canary-extra"}),
                bme_login(base_url=url, upload_timeout_s=0.5),
            ):
                uploaded = await client.upload(job(file, login))
                told.append(repr(uploaded))
                told.append(repr(job(file, login)))
        told.append(repr(client._tokens))  # noqa: SLF001 - a repr is what a debugger or a traceback shows
    told += [f"{record.getMessage()} {record.__dict__}" for record in caplog.records]
    everything = "\n".join(told)
    assert [word for word in (*CANARIES, "example.jp", "ac=ScheduleCsvImport") if word in everything] == []


# -- against the simulated vendors -----------------------------------------------------------------------------------


async def spooled_for(spool: Spool, login: Login, operation: Operation, *rows: list[str]) -> SpoolFile:
    """Spool a file of an operation as its vendor wants it."""
    columns = vendor_of(login).columns(login, account(login), operation)

    async def lines() -> AsyncIterator[bytes]:
        yield csvline.record(list(columns))
        for row in rows:
            yield csvline.record(row)

    return await spool.write("batch-2.csv", lines(), len(rows))


async def test_every_operation_works_at_the_simulated_haihai(client: Client, spool: Spool) -> None:
    """What the adapter sends is what a strict server takes, and it has the effect that it should."""
    contract = HaihaiContract(123, "relay", "canary-transport", columns=("メールアドレス", "氏名", "生年月日"))
    sim = HaihaiSim(contract)
    async with sim.serve() as url:
        login = haihai_login(base_url=url)
        who = [["taro@example.jp", "髙橋", "20130101"], ["foo..bar@example.com", "表㈱", ""]]
        states = []
        for operation in (Operation.UPSERT, Operation.STOP, Operation.ALLOW, Operation.BAN, Operation.DELETE):
            rows = who if operation is Operation.UPSERT else [["taro@example.jp"]]
            file = await spooled_for(spool, login, operation, *rows)
            uploaded = await client.upload(job(file, login, operation))
            assert isinstance(uploaded.outcome, Accepted)
            await sim.settled()
            readers = sim.readers(123)
            states.append({address: reader.mailable for address, reader in readers.items()})
            assert readers["foo..bar@example.com"].fields["氏名"] == "表㈱"
    taro, other = "taro@example.jp", "foo..bar@example.com"
    assert states == [
        {taro: True, other: True},
        {taro: False, other: True},
        {taro: True, other: True},
        {taro: False, other: True},
        {other: True},
    ]


@pytest.mark.parametrize("faults", [[], ["xml"], ["expired_token"]])
async def test_every_operation_works_at_the_simulated_bme(client: Client, spool: Spool, faults: list[str]) -> None:
    """With JSON and XML answers and with tokens that expire, and refused lines are told by number and message."""
    contract = BmeContract("relay", "canary-password", "canary-api-key", columns=("氏名", "生年月日"))
    sim = BmeSim(contract)
    async with sim.serve():
        login = bme_login(base_url=sim.base_url)
        states = []
        for operation in (Operation.UPSERT, Operation.STOP, Operation.ALLOW, Operation.DELETE):
            cells = {Operation.UPSERT: ["髙橋", "20130101"], Operation.STOP: ["配信停止"], Operation.ALLOW: ["配信中"]}
            rows = [[address, *cells.get(operation, [])] for address in ("taro@example.jp", "jiro@example.jp")]
            if operation is Operation.UPSERT:
                rows.append(["kein-at", "表", "20130101"])
            for fault in faults:
                sim.faults.arm({"fault": fault})
            file = await spooled_for(spool, login, operation, *rows)
            uploaded = await client.upload(job(file, login, operation))
            assert isinstance(uploaded.outcome, Delivered)
            assert [r.line for r in uploaded.outcome.rejections] == ([4] if operation is Operation.UPSERT else [])
            states.append({address: reader.mailable for address, reader in sim.readers("relay").items()})
    taro, jiro = "taro@example.jp", "jiro@example.jp"
    assert states == [{taro: True, jiro: True}, {taro: False, jiro: False}, {taro: True, jiro: True}, {}]


async def test_an_unknown_header_at_the_simulated_bme_is_the_settings_fault(client: Client, spool: Spool) -> None:
    """No customer is rejected for it."""
    sim = BmeSim(BmeContract("relay", "canary-password", "canary-api-key", columns=("氏名",)))
    async with sim.serve():
        login = bme_login(base_url=sim.base_url)
        file = await spooled_for(spool, login, Operation.UPSERT, ["taro@example.jp", "髙橋", "20130101"])
        uploaded = await client.upload(job(file, login))
    assert isinstance(uploaded.outcome, Misconfigured)
    assert sim.readers("relay") == {}
