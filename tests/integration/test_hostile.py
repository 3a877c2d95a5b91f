"""Hostile senders: a long table of requests against the running service, which is none the worse for any of them."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from urllib.parse import urlsplit

import pytest

from relay.metrics import LIMITS
from tests.acceptance.wire import Answer
from tests.integration.hostile import CANARY, Case, cases
from tests.integration.served import Served, served, webhook

AT_ONCE = 8
ANSWERED_WITHIN_S = 10.0


async def told(url: str, case: Case) -> Answer:
    """Send a case's parts, and read until the answer is whole or the other side closes."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    answer = Answer(b"")
    try:
        async with asyncio.timeout(ANSWERED_WITHIN_S):
            sending = asyncio.create_task(_send(writer, case))
            with suppress(ConnectionError):
                while not answer.whole and (piece := await reader.read(65_536)):
                    answer = Answer(answer.raw + piece)
            sending.cancel()
            with suppress(asyncio.CancelledError):
                await sending
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
    return answer


async def _send(writer: asyncio.StreamWriter, case: Case) -> None:
    with suppress(ConnectionError):  # it was refused before it was read
        for part in case.sent:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.05)


async def test_hostile_requests(
    database: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    record_property: Callable[[str, object], None],
    subtests: pytest.Subtests,
) -> None:
    """Each gets its 4xx as a problem, or a closed connection; none leaves an event, a 5xx or an error in the log."""
    caplog.set_level(logging.DEBUG)
    table = list(cases())
    results: dict[str, Answer] = {}
    limits = {"RELAY_HEAD_TIMEOUT_S": "3", "RELAY_BODY_TIMEOUT_S": "3"}
    async with served(database, tmp_path, {"crm": {}}, **limits) as service:
        turns = asyncio.Semaphore(AT_ONCE)

        async def one(case: Case) -> None:
            async with nullcontext() if case.slow else turns:
                results[case.name] = await told(service.url, case)

        await asyncio.gather(*(one(case) for case in table))
        begun = perf_counter()
        assert (await service.post(webhook("sound"))).status == 202
        assert perf_counter() - begun < 2
        in_log = await service.in_log()
        assert await service.metric("relay_webhooks_total", source="crm", result="error") == 0
        assert await service.metric("relay_receiving_bytes") == 0
        counted = {name: await count(service, name) for name in {case.counted for case in table} if name}
    for case in table:
        with subtests.test(case.name):
            check(results[case.name], case)
    assert in_log == ["sound"]
    assert len(table) == len(results) >= 120
    assert [record.getMessage()[:200] for record in caplog.records if record.levelno >= logging.ERROR] == []
    assert CANARY not in caplog.text
    expected = Counter(case.counted for case in table if case.counted)
    assert counted.pop("invalid") >= expected.pop("invalid"), "of a request with many, each webhook counts"
    assert counted == expected
    by_status = Counter("closed" if answer.status is None else str(answer.status) for answer in results.values())
    figures = ", ".join(f"{count} got {status}" for status, count in sorted(by_status.items()))
    record_property("measured", f"{len(table)} hostile requests: {figures}")


async def test_the_ops_port_has_the_same_guards(database: str, tmp_path: Path) -> None:
    """What is no HTTP, too large or for another port gets a problem there, too, and is counted."""
    named = {case.name: case for case in cases()}
    async with served(database, tmp_path, {"crm": {}}) as service:
        for name, status in {
            "TLS hello": 400,
            "HTTP/2 preface": 400,
            "bare LF": 400,
            "length and chunks": 400,
            "chunk longer than said, later": 404,  # nobody reads it
            "endless head": 431,
            "many headers": 431,
            "length of ten gigabytes": 404,
            "method TRACE": 404,
            "target /v1/webhooks/..": 404,
        }.items():
            case = replace(named[name], status=status)
            check(await told(service.ops_url, case), case)
        assert await count(service, "malformed") == 4
        assert await count(service, "head_bytes") == 2
        assert await service.in_log() == []


async def count(service: Served, name: str) -> float:
    """Tell how often something was counted: as malformed, at a limit, or as a result of the source."""
    if name == "malformed":
        return await service.metric("relay_malformed_requests_total")
    if name in LIMITS:
        return await service.metric("relay_limits_met_total", limit=name)
    return await service.metric("relay_webhooks_total", source="crm", result=name)


def check(answer: Answer, case: Case) -> None:
    """Check an answer: its status, and that an error is a problem that holds nothing of what was sent."""
    assert answer.status == case.status
    assert CANARY.encode() not in answer.raw
    if answer.status is not None and not case.name.startswith("method HEAD"):
        assert b"content-type: application/problem+json" in answer.raw.lower()
        assert answer.json()["status"] == answer.status
