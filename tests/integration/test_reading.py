"""Reading bodies: compressed ones, kinds of them, slow ones, and the memory that all of them take together."""

import asyncio
import gzip
import json
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from relay.errors import Unavailable
from relay.receive.inflating import MEMBERS_MAX, STEP_BYTES, inflated
from relay.receive.limits import SMALL_BYTES, Budget, Share
from relay.receive.parse import Malformed
from relay.receive.reading import STEPS_AT_ONCE, inflate
from tests.integration.served import BEARER, Served, problem, served, webhook

WEBHOOK_BYTES_MAX = 200_000
BODY_BYTES_MAX = 1_000_000
RECEIVING_BYTES_MAX = 5_000_000

JSON = {"Content-Type": "application/json", **BEARER}


@pytest.fixture
async def service(database: str, tmp_path: Path) -> AsyncIterator[Served]:
    """The service with small limits."""
    limits = {
        "RELAY_WEBHOOK_BYTES_MAX": str(WEBHOOK_BYTES_MAX),
        "RELAY_BODY_BYTES_MAX": str(BODY_BYTES_MAX),
        "RELAY_RECEIVING_BYTES_MAX": str(RECEIVING_BYTES_MAX),
        "RELAY_BODY_TIMEOUT_S": "3",
    }
    async with served(database, tmp_path, {"crm": {}}, **limits) as service:
        yield service


def bare_deflate(body: bytes) -> bytes:
    """Compress without the zlib header, as many senders do who say `deflate`."""
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return stream.compress(body) + stream.flush()


# -- compressed bodies -----------------------------------------------------------------------------------------------

COMPRESSED: Mapping[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "GZIP": gzip.compress,
    " identity, gzip": gzip.compress,
    "deflate": zlib.compress,
    "Deflate": bare_deflate,
    "identity": bytes,
}


async def test_compressed_webhooks_are_taken(service: Served) -> None:
    """One or many, compressed as HTTP names it or as senders mean it, come into the log as if they were not."""
    expected = []
    for number, (encoding, compress) in enumerate(COMPRESSED.items()):
        one = json.dumps(webhook(f"one-{number}")).encode()
        many = [webhook(f"many-{number}-{place}", note="x" * place) for place in range(20)]
        lines = b"\n".join(json.dumps(each).encode() for each in many)
        said = {**BEARER, "Content-Encoding": encoding}
        assert (await service.post(compress(one), headers=said)).status == 202, encoding
        response = await service.post(compress(json.dumps(many[:10]).encode()), "crm/batch", said)
        assert response.status == 202
        ndjson = {**said, "Content-Type": "application/x-ndjson"}
        response = await service.post(compress(lines), "crm/batch", ndjson)
        assert (await response.json())["accepted"] == 10
        expected += [f"one-{number}", *(each["id"] for each in many)]
    assert await service.in_log() == sorted(map(str, expected))


async def test_several_gzip_members_are_one_body(service: Served) -> None:
    """Files that were compressed one by one and put together are read as a whole."""
    lines = [json.dumps(webhook(f"w{number}")).encode() + b"\n" for number in range(5)]
    said = {**BEARER, "Content-Encoding": "gzip", "Content-Type": "application/x-ndjson"}
    response = await service.post(b"".join(map(gzip.compress, lines)), "crm/batch", said)
    assert (response.status, (await response.json())["accepted"]) == (202, 5)


GOOD = gzip.compress(json.dumps(webhook("w")).encode())

UNSOUND: Mapping[str, tuple[str, bytes]] = {
    "plain": ("gzip", json.dumps(webhook("w")).encode()),
    "empty": ("gzip", b""),
    "header alone": ("gzip", GOOD[:10]),
    "cut": ("gzip", GOOD[:-9]),
    "cut checksum": ("gzip", GOOD[:-1]),
    "wrong checksum": ("gzip", GOOD[:-8] + bytes(8)),
    "flipped bits": ("gzip", GOOD[:30] + bytes([GOOD[30] ^ 0xFF]) + GOOD[31:]),
    "garbage behind": ("gzip", GOOD + b"garbage"),
    "padding behind": ("gzip", GOOD + bytes(100)),
    "another member cut": ("gzip", GOOD + GOOD[:20]),
    "zlib for gzip": ("gzip", zlib.compress(b"{}")),
    "gzip for zlib": ("deflate", GOOD),
    "garbage for zlib": ("deflate", b"\xff" * 100),
    "zlib cut": ("deflate", zlib.compress(b"{}")[:-1]),
    "bare cut": ("deflate", bare_deflate(b'{"type":1}')[:-3]),
    "garbage behind zlib": ("deflate", zlib.compress(b"{}") + b"x"),
    "zlib twice": ("deflate", zlib.compress(b"{}") * 2),
    "dictionary": ("deflate", b"\x78\xbb\x00\x00\x00\x01" + b"x" * 20),
    "empty members": ("gzip", gzip.compress(b"") * (MEMBERS_MAX + 1)),
    "nothing in it": ("gzip", gzip.compress(b"")),
    "compressed twice": ("gzip", gzip.compress(GOOD)),
}


async def test_unsound_compressed_bodies_are_malformed(service: Served, subtests: pytest.Subtests) -> None:
    """What cannot be inflated, or goes on behind its end, is told as such and leaves nothing."""
    for name, (encoding, body) in UNSOUND.items():
        with subtests.test(name):
            response = await service.post(body, headers={**BEARER, "Content-Encoding": encoding})
            assert response.status == 400
            assert [error["field"] for error in problem(response, await response.json())] == ["body"]
    assert await service.in_log() == []


async def test_other_encodings_are_unsupported(service: Served) -> None:
    """What is not understood is refused by the header, with what would be."""
    for encoding in ("br", "zstd", "compress", "gzip, gzip", "deflate, gzip", "gzip;q=1", "\xe9", "*"):
        response = await service.post(GOOD, headers={**BEARER, "Content-Encoding": encoding})
        assert response.status == 415, encoding
        [error] = problem(response, await response.json())
        assert "gzip or deflate" in error["message"]
    assert await service.in_log() == []


# -- bombs -----------------------------------------------------------------------------------------------------------


async def test_a_bomb_is_refused_at_the_limit(service: Served) -> None:
    """A hundred megabytes in a hundred kilobytes: the answer is a 413, and they are never in memory."""
    bomb = gzip.compress(bytes(100_000_000), 6)
    assert len(bomb) < WEBHOOK_BYTES_MAX
    tracemalloc.start()
    try:
        for path in ("crm", "crm/batch"):
            response = await service.post(bomb, path, {**BEARER, "Content-Encoding": "gzip"})
            assert response.status == 413
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10_000_000
    assert await service.metric("relay_limits_met_total", limit="body_bytes") == 2
    assert await service.metric("relay_receiving_bytes") == 0


async def test_the_limit_is_for_the_inflated_body_to_the_byte(service: Served) -> None:
    """What fits inflated is taken, one byte more is not, for both endpoints; as sent it has the same limit."""
    for path, bytes_max in (("crm", WEBHOOK_BYTES_MAX), ("crm/batch", BODY_BYTES_MAX)):
        for size, expected in ((bytes_max, 202), (bytes_max + 1, 413)):
            body = json.dumps(webhook(f"{path}-{size}")).encode()
            body = b"[" + body + b"]" if path == "crm/batch" else body
            body += b" " * (size - len(body))
            for compress, said in ((gzip.compress, {"Content-Encoding": "gzip"}), (bytes, {})):
                response = await service.post(compress(body), path, {**BEARER, **said})
                assert response.status == expected, (path, size)


def test_inflating_goes_in_small_steps() -> None:
    """Each piece is small, whatever the ratio, and all of them together are what was compressed."""
    for body in (bytes(5_000_000), bytes(range(256)) * 4_000, b"", b"x"):
        for encoding, compress in (("gzip", gzip.compress), ("deflate", zlib.compress), ("deflate", bare_deflate)):
            pieces = list(inflated(compress(body), encoding))
            assert max(map(len, pieces)) <= STEP_BYTES
            assert b"".join(pieces) == body


def test_every_truncation_is_found() -> None:
    """Wherever a compressed body is cut, it is never taken for a whole one."""
    body = json.dumps([webhook(f"w{number}") for number in range(30)]).encode()
    for encoding, compress in (("gzip", gzip.compress), ("deflate", zlib.compress), ("deflate", bare_deflate)):
        sent = compress(body)
        for length in range(len(sent)):
            with pytest.raises(Malformed):
                list(inflated(sent[:length], encoding))


async def test_others_get_their_turn_while_a_body_is_inflated() -> None:
    """However large a body is, the loop is never held for more than a few steps."""
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        running = group.create_task(others())
        with Share(Budget(1)) as share:
            body = await inflate(gzip.compress(bytes(10_000_000)), "gzip", 10_000_000, share)
        running.cancel()
    assert len(body) == 10_000_000
    assert turns >= 10_000_000 / STEP_BYTES / STEPS_AT_ONCE - 1


# -- kinds of body ---------------------------------------------------------------------------------------------------

KINDS: list[tuple[str, str, int]] = [
    ("crm", "application/json", 202),
    ("crm", "application/json; charset=utf-8", 202),
    ("crm", 'application/json; charset="UTF-8"', 202),
    ("crm", "application/json;charset=utf8", 202),
    ("crm", "Application/JSON", 202),
    ("crm", "application/problem+json", 202),
    ("crm", "application/json; profile=x", 202),
    ("crm", "application/json; charset=shift_jis", 415),
    ("crm", "application/json; charset=utf-16", 415),
    ("crm", "application/json; charset=iso-8859-1", 415),
    ("crm", "application/x-ndjson", 415),
    ("crm", "text/plain", 415),
    ("crm", "text/json", 415),
    ("crm", "application/jsonp", 415),
    ("crm", "application/x-www-form-urlencoded", 415),
    ("crm", "multipart/form-data; boundary=x", 415),
    ("crm", "application/octet-stream", 415),
    ("crm", "json", 415),
    ("crm", ";", 415),
    ("crm", "", 415),
    ("crm/batch", "application/json", 422),
    ("crm/batch", "application/x-ndjson", 202),
    ("crm/batch", "application/ndjson; charset=utf-8", 202),
    ("crm/batch", "application/x-ndjson; charset=cp932", 415),
    ("crm/batch", "text/csv", 415),
    ("crm/batch", "application/gzip", 415),
]


async def test_kinds_of_body(service: Served, subtests: pytest.Subtests) -> None:
    """JSON in UTF-8 is read, and NDJSON where there are many; anything else is refused with what is expected."""
    for number, (path, kind, expected) in enumerate(KINDS):
        with subtests.test(path=path, kind=kind):
            response = await service.post(webhook(f"w{number}"), path, {**BEARER, "Content-Type": kind})
            assert response.status == expected
            if expected == 415:
                [error] = problem(response, await response.json())
                assert "application/json" in error["message"] or "UTF-8" in error["message"]


async def test_without_a_content_type(service: Served) -> None:
    """It is not guessed."""
    async with service.client.post(
        f"{service.url}/v1/webhooks/crm", data=b"{}", headers=BEARER, skip_auto_headers=["Content-Type"]
    ) as response:
        assert response.status == 415
        [error] = problem(response, await response.json())
    assert "application/json" in error["message"]


# -- slow bodies and many of them ------------------------------------------------------------------------------------


class Sender:
    """Sends one body in two parts over a connection of its own."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def begin(
        cls,
        service: Served,
        body_bytes: int,
        first: bytes,
        path: str = "crm/batch",
        headers: Mapping[str, str] | None = None,
    ) -> "Sender":
        """Send the head and the first part."""
        host, port = service.url.removeprefix("http://").split(":")
        sender = cls(*await asyncio.open_connection(host, int(port)))
        said = {"Host": "x", "Content-Length": str(body_bytes), "Connection": "close", **JSON, **(headers or {})}
        head = "".join(f"{name}: {value}\r\n" for name, value in said.items() if value)
        sender.writer.write(f"POST /v1/webhooks/{path} HTTP/1.1\r\n{head}\r\n".encode() + first)
        return sender

    async def end(self, last: bytes = b"") -> tuple[int, bytes]:
        """Send the last part, if any; return the answer's status and all of it, once the connection is closed."""
        try:
            self.writer.write(last)
            async with asyncio.timeout(10):
                raw = await self.reader.read()
        finally:
            self.writer.close()
        return int(raw.split(b" ")[1]), raw


async def test_a_slow_body_is_cut_off(service: Served) -> None:
    """After its time the sender gets a 408 and the connection is closed, also where bytes still trickle."""
    sender = await Sender.begin(service, 1000, b"[")
    async with asyncio.timeout(10):
        head = asyncio.create_task(sender.reader.readuntil(b"\r\n\r\n"))
        while not head.done():
            sender.writer.write(b" ")
            await asyncio.sleep(0.05)
        assert (await head).startswith(b"HTTP/1.1 408 ")
        assert b"Connection: close" in await head
        with suppress(ConnectionError):
            while await sender.reader.read(1000):
                sender.writer.write(b" ")
    sender.writer.close()
    assert await service.metric("relay_limits_met_total", limit="body_time") == 1
    assert await service.metric("relay_receiving_bytes") == 0


async def test_who_asks_first_is_asked_for_the_body_only_if_it_is_wanted(service: Served) -> None:
    """`Expect: 100-continue` is answered when the body is to be read; who is refused before need not send it."""
    body = json.dumps(webhook("asked")).encode()
    for said, expected in (
        ({}, b"HTTP/1.1 100 Continue\r\n\r\n"),
        ({"Content-Type": "text/plain"}, b"HTTP/1.1 415 "),
        ({"Authorization": ""}, b"HTTP/1.1 401 "),
        ({"Content-Length": "1000000000"}, b"HTTP/1.1 413 "),
    ):
        sender = await Sender.begin(service, len(body), b"", "crm", {"Expect": "100-Continue", **said})
        async with asyncio.timeout(5):
            first = await sender.reader.readexactly(len(expected))
        assert first == expected
        if not said:
            assert (await sender.end(body))[0] == 202
        sender.writer.close()
    assert await service.in_log() == ["asked"]


async def test_a_body_that_breaks_off_is_forgotten(service: Served) -> None:
    """A sender that goes away in the middle leaves nothing, neither in the log nor in memory."""
    sender = await Sender.begin(service, 500_000, b"[" + b" " * 200_000)
    async with asyncio.timeout(20):
        while await service.metric("relay_receiving_bytes") < 200_000:
            pass
        sender.writer.transport.abort()
        while await service.metric("relay_receiving_bytes"):
            pass
    assert await service.in_log() == []


async def test_many_slow_senders_hold_a_bounded_memory(service: Served) -> None:
    """Thirty large bodies at once: as many are held as there is memory for, and the rest is told to come again.

    Small webhooks are taken all the while, and when the large ones go on, so are they.
    """
    body = json.dumps([webhook("large")]).encode()
    body += b" " * (BODY_BYTES_MAX - len(body))
    senders = [await Sender.begin(service, len(body), body[:900_000]) for _ in range(30)]
    held = [0.0]
    async with asyncio.timeout(20):
        while await service.metric("relay_limits_met_total", limit="receiving_bytes") < 26 or held[-1] < 3_000_000:
            held.append(await service.metric("relay_receiving_bytes"))
    assert max(held) <= RECEIVING_BYTES_MAX
    assert (await service.post(webhook("small"))).status == 202
    ended = await asyncio.gather(*(sender.end(body[900_000:]) for sender in senders))
    turned_away = [answer for status, answer in ended if status == 503]
    assert sorted({status for status, _ in ended}) == [202, 503]
    assert all(b"Retry-After: " in answer and b"application/problem+json" in answer for answer in turned_away)
    assert all(b"Too many bodies are on their way" in answer for answer in turned_away), "not the database's fault"
    assert await service.metric("relay_receiving_bytes") == 0
    assert await service.metric("relay_webhooks_total", source="crm", result="unavailable") == len(turned_away) >= 26
    assert await service.in_log() == ["large", "small"]


def test_one_body_alone_always_fits() -> None:
    """However little memory is given, one body is taken at a time: else some could never be sent."""
    budget = Budget(1_000)
    with Share(budget) as alone:
        alone.take(5_000)
        alone.take(5_000)
        with Share(budget) as other, pytest.raises(Unavailable):
            other.take(1)
    assert budget.held == 0


def test_small_bodies_have_memory_of_their_own() -> None:
    """Large bodies together leave a fifth for small ones, and small ones fill it all; leaving gives it back."""
    budget = Budget(1_000_000)
    with Share(budget) as first, Share(budget) as second, Share(budget) as third:
        first.take(500_000)
        second.take(300_000)
        with pytest.raises(Unavailable), Share(budget) as large:
            large.take(SMALL_BYTES + 1)
        third.take(SMALL_BYTES)
        with ExitStack() as stack:
            for _ in range(11):
                stack.enter_context(Share(budget)).take(SMALL_BYTES)
            with pytest.raises(Unavailable):
                stack.enter_context(Share(budget)).take(SMALL_BYTES)
        assert budget.held == 800_000 + SMALL_BYTES
    assert budget.held == 0
