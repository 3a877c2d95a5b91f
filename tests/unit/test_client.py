"""What the client does with answers, without connections: tokens and their time, logins that fail, what is counted."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
from aioresponses import CallbackResult, aioresponses
from yarl import URL

from relay import csvline
from relay.batches import (
    Accepted,
    Busy,
    Delivered,
    Misconfigured,
    Outcome,
    Transient,
    Unauthorized,
    Unknown,
)
from relay.client import Client, UploadJob
from relay.client.tokens import LOGIN_REPLY_BYTES_MAX
from relay.events import Operation
from relay.metrics import LOGIN_RESULTS, Metrics
from relay.settings import Login
from relay.spool import Spool, SpoolFile
from tests.unit.vendors.made import account, bme_login, haihai_login

BASE = "https://api.bme.jp/rest/1.0"
LOGIN, ALL = f"{BASE}/authenticate/login", f"{BASE}/contact/import/all"
DONE = {"success": 1, "failure": 0}


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Give a clock."""
    return Clock()


@pytest.fixture
def metrics() -> Metrics:
    """Give metrics at zero."""
    return Metrics()


@pytest.fixture
async def file(tmp_path: Path) -> SpoolFile:
    """Spool one row."""

    async def lines() -> AsyncIterator[bytes]:
        yield csvline.record(["E-Mail"]) + csvline.record(["taro@example.jp"])

    return await Spool(tmp_path).write("batch-1.csv", lines(), 1)


@pytest.fixture
async def client(tmp_path: Path, metrics: Metrics, clock: Clock) -> AsyncIterator[Client]:
    """Give a client whose tokens age by the clock."""
    async with Client(metrics, Spool(tmp_path), token_clock=clock) as client:
        yield client


@pytest.fixture
def vendor() -> Iterator[aioresponses]:
    """Answer in the vendors' place."""
    with aioresponses() as vendor:
        yield vendor


def job(login: Login, file: SpoolFile) -> UploadJob:
    """Make a job for the made account of a login."""
    return UploadJob(login, account(login), Operation.UPSERT, file, lambda: 60.0)


def calls(vendor: aioresponses, url: str) -> int:
    """Count the calls of a URL."""
    return len((vendor.requests or {}).get(("POST", URL(url)), []))


def logins(metrics: Metrics) -> dict[str, float]:
    """Return the counted login calls by result, those at zero left out."""
    found = {
        result: metrics.registry.get_sample_value("relay_logins_total", {"vendor": "blastmail", "result": result})
        for result in LOGIN_RESULTS
    }
    return {result: count for result, count in found.items() if count}


async def test_a_token_is_used_until_it_is_time_to_renew_it(
    client: Client, vendor: aioresponses, file: SpoolFile, clock: Clock
) -> None:
    """Ahead of the hour that it lives, counted from before the call that got it (which takes 100 s here)."""

    def slow(_: URL, **__: object) -> CallbackResult:
        clock.now += 100
        return CallbackResult(payload={"accessToken": "t"})

    vendor.post(LOGIN, callback=slow, repeat=True)
    vendor.post(ALL, payload=DONE, repeat=True)
    login = bme_login(token_renew_after_s=3000)
    for moved, wanted in ((0, 1), (2899.9, 1), (0.1, 2), (2899, 2), (1, 3)):
        clock.now += moved
        assert isinstance((await client.upload(job(login, file))).outcome, Delivered)
        assert calls(vendor, LOGIN) == wanted


async def test_a_token_got_with_other_settings_is_not_used(
    client: Client, vendor: aioresponses, file: SpoolFile
) -> None:
    """A new password is tried out with the next file, not an hour later."""
    vendor.post(LOGIN, payload={"accessToken": "t"}, repeat=True)
    vendor.post(ALL, payload=DONE, repeat=True)
    for number, password in enumerate(("canary-password", "another", "another", "canary-password"), 1):
        await client.upload(job(bme_login(password=password), file))
        assert calls(vendor, LOGIN) == (number if number < 3 else number - 1)


async def test_each_login_has_its_own_token(client: Client, vendor: aioresponses, file: SpoolFile) -> None:
    """Two contracts never share one, even with the same credentials."""
    vendor.post(LOGIN, payload={"accessToken": "t"}, repeat=True)
    vendor.post(ALL, payload=DONE, repeat=True)
    for name in ("one", "two", "one"):
        await client.upload(job(bme_login(name=name), file))
    assert calls(vendor, LOGIN) == 2
    assert calls(vendor, ALL) == 3


async def test_a_closed_client_forgets_its_tokens(client: Client, vendor: aioresponses, file: SpoolFile) -> None:
    """And may be used again."""
    vendor.post(LOGIN, payload={"accessToken": "t"}, repeat=True)
    vendor.post(ALL, payload=DONE, repeat=True)
    await client.upload(job(bme_login(), file))
    await client.close()
    await client.upload(job(bme_login(), file))
    assert calls(vendor, LOGIN) == 2


@pytest.mark.parametrize(
    ("status", "outcome", "result"),
    [
        (302, Misconfigured, "refused"),
        (400, Unauthorized, "refused"),
        (401, Unauthorized, "refused"),
        (403, Unauthorized, "refused"),
        (404, Misconfigured, "refused"),
        (413, Misconfigured, "refused"),
        (429, Busy, "failed"),
        (500, Transient, "failed"),
        (503, Transient, "failed"),
        (200, Transient, "failed"),
    ],
)
async def test_a_login_that_fails_sends_no_file(
    client: Client,
    vendor: aioresponses,
    file: SpoolFile,
    metrics: Metrics,
    status: int,
    outcome: type[Outcome],
    result: str,
) -> None:
    """Nothing is `Unknown` then; the answer's status and excerpt are told."""
    vendor.post(LOGIN, status=status, body="taro@example.jp", content_type="text/html")
    uploaded = await client.upload(job(bme_login(), file))
    assert isinstance(uploaded.outcome, outcome)
    assert uploaded.http_status == status
    assert uploaded.excerpt == f"HTTP {status}, text/html, 15 bytes"
    assert uploaded.bytes_sent == 0
    assert calls(vendor, ALL) == 0
    assert logins(metrics) == {result: 1}


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError(),
        aiohttp.ServerDisconnectedError(),
        aiohttp.ClientPayloadError("canary-password"),
        ConnectionResetError(104, "canary-password"),
        aiohttp.InvalidURL("https://canary-password"),
    ],
)
async def test_a_login_without_an_answer_is_transient(
    client: Client, vendor: aioresponses, file: SpoolFile, metrics: Metrics, error: Exception
) -> None:
    """Whatever became of the call, no file was sent; the error's own text is not repeated."""
    vendor.post(LOGIN, exception=error)
    uploaded = await client.upload(job(bme_login(), file))
    assert isinstance(uploaded.outcome, Transient)
    assert uploaded.outcome.reason.startswith(f"login: {type(error).__name__}")
    assert "canary" not in repr(uploaded)
    assert uploaded.http_status is None
    assert logins(metrics) == {"failed": 1}


async def test_a_large_reply_to_a_login_is_not_searched_for_a_token(
    client: Client, vendor: aioresponses, file: SpoolFile, metrics: Metrics
) -> None:
    """Reading megabytes would hold up everybody else; a large refusal is one all the same."""
    login, padding = bme_login(), "x" * LOGIN_REPLY_BYTES_MAX
    vendor.post(LOGIN, payload={"accessToken": "canary-token", "padding": padding})
    uploaded = await client.upload(job(login, file))
    assert isinstance(uploaded.outcome, Transient)
    assert uploaded.outcome.reason.endswith("too large for a token")
    vendor.post(LOGIN, status=401, body=padding + padding)
    uploaded = await client.upload(job(bme_login(password="another"), file))
    assert isinstance(uploaded.outcome, Unauthorized)
    assert calls(vendor, ALL) == 0
    assert logins(metrics) == {"failed": 1, "refused": 1}


async def test_a_login_that_fails_is_tried_again_a_little_later(
    client: Client, vendor: aioresponses, file: SpoolFile, metrics: Metrics, clock: Clock
) -> None:
    """A failure is remembered for a second only; what comes meanwhile is told to come again, and burns nothing."""
    vendor.post(LOGIN, status=503)
    vendor.post(LOGIN, payload={"accessToken": "t"})
    vendor.post(ALL, payload=DONE)
    first = await client.upload(job(bme_login(), file))
    at_once = await client.upload(job(bme_login(), file))
    clock.now += 1.1
    later = await client.upload(job(bme_login(), file))
    assert [type(uploaded.outcome) for uploaded in (first, at_once, later)] == [Transient, Busy, Delivered]
    assert logins(metrics) == {"failed": 1, "ok": 1}


async def test_a_login_that_fails_after_a_401_ends_the_upload(
    client: Client, vendor: aioresponses, file: SpoolFile, metrics: Metrics
) -> None:
    """The file was refused before, so nothing has arrived, and the login's failure is what counts."""
    vendor.post(LOGIN, payload={"accessToken": "t"})
    vendor.post(ALL, status=401)
    vendor.post(LOGIN, status=503)
    uploaded = await client.upload(job(bme_login(), file))
    assert isinstance(uploaded.outcome, Transient)
    assert uploaded.http_status == 503
    assert logins(metrics) == {"ok": 1, "failed": 1}


async def test_haihai_never_logs_in(client: Client, vendor: aioresponses, file: SpoolFile) -> None:
    """Every upload carries the password; a 401 is final at once."""
    url = "https://hai.example.jp/?ac=ScheduleCsvImport"
    vendor.post(url, status=200, body="OK")
    vendor.post(url, status=401, body="81401")
    login = haihai_login()
    assert isinstance((await client.upload(job(login, file))).outcome, Accepted)
    assert isinstance((await client.upload(job(login, file))).outcome, Unauthorized)
    assert calls(vendor, url) == 2


@pytest.mark.parametrize("base", [BASE, BASE + "/", BASE + "//"])
async def test_a_base_url_may_end_in_a_slash(client: Client, vendor: aioresponses, file: SpoolFile, base: str) -> None:
    """The path comes after exactly one."""
    vendor.post(LOGIN, payload={"accessToken": "t"})
    vendor.post(ALL, payload={})
    uploaded = await client.upload(job(bme_login(base_url=base), file))
    assert isinstance(uploaded.outcome, Unknown)
    assert calls(vendor, ALL) == 1


async def test_no_request_follows_redirects(client: Client, vendor: aioresponses, file: SpoolFile) -> None:
    """Neither a login nor an upload: either holds secrets."""
    vendor.post(LOGIN, payload={"accessToken": "t"})
    vendor.post(ALL, status=308, headers={"Location": "https://elsewhere.example.jp/"})
    uploaded = await client.upload(job(bme_login(), file))
    assert isinstance(uploaded.outcome, Misconfigured)
    made = [call.kwargs["allow_redirects"] for calls_of in (vendor.requests or {}).values() for call in calls_of]
    assert made == [False, False]
