"""What a process tells of itself: its connections to Postgres, its loop, its readiness, its vendors' certificates."""

import asyncio
import shutil
import ssl
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from relay.batches import Accepted, Transient
from relay.client import Client, UploadJob
from relay.errors import Unavailable
from relay.events import Operation
from relay.metrics import Metrics
from relay.settings import Login
from relay.spool import Spool
from relay.status import Sampler, ops_app, watch_loop
from relay.store import Store
from tests.acceptance.processes import free_port
from tests.integration.model import settings
from tests.integration.served import served, webhook
from tests.unit.vendors.made import account, haihai_login
from tests.waiting import until


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    """The value of one series."""
    return metrics.registry.get_sample_value(name, labels)


# -- the pools -------------------------------------------------------------------------------------------------------


async def test_connections_are_counted(database: str) -> None:
    """Those that are used and those that wait to be, in their pool; there are none before the first is needed."""
    metrics = Metrics()

    def connections(state: str) -> float | None:
        return value(metrics, "relay_database_connections", pool="append", state=state)

    async with Store.open(database, connections_max=3, metrics=metrics, pool="append") as store:
        assert (connections("used"), connections("idle")) == (0, 0)
        assert value(metrics, "relay_database_connections_max", pool="append") == 3
        async with store.connection():
            async with store.connection():
                assert (connections("used"), connections("idle")) == (2, 0)
            assert (connections("used"), connections("idle")) == (1, 1)
        assert value(metrics, "relay_database_wait_seconds_count", pool="append") == 2
    assert (connections("used"), connections("idle")) == (0, 0)


async def test_waiting_for_a_connection_is_measured(database: str) -> None:
    """Who finds all of them in use waits, and that is told; it is no error."""
    metrics = Metrics()
    async with Store.open(database, connections_max=1, metrics=metrics) as store, asyncio.TaskGroup() as tasks:
        async with store.connection():
            waited_before = value(metrics, "relay_database_wait_seconds_sum", pool="work") or 0
            task = tasks.create_task(store.tell_unsettled())
            began = time.perf_counter()
            await until(lambda: time.perf_counter() - began > 0.1)
            assert not task.done()
        assert await task == []
    assert (value(metrics, "relay_database_wait_seconds_sum", pool="work") or 0) - waited_before >= 0.1
    assert value(metrics, "relay_database_errors_total", pool="work") == 0


async def test_a_postgres_that_is_gone_is_counted(database: str) -> None:
    """Every statement that found none, and every transaction that lost it; what the data is at fault for is not."""
    metrics = Metrics()
    async with Store.open(f"postgresql://127.0.0.1:{free_port()}/relay", metrics=metrics) as nobody:
        for _ in range(2):
            with pytest.raises(Unavailable):
                await nobody.tell_unsettled()
    assert value(metrics, "relay_database_errors_total", pool="work") == 2
    async with Store.open(database, metrics=metrics, pool="append") as store, Store.open(database) as other:
        with pytest.raises(Unavailable):
            await _lose(store, other)
        with pytest.raises(LookupError):
            await store.manifest("nobody", 1)
    assert value(metrics, "relay_database_errors_total", pool="append") == 1


async def _lose(store: Store, other: Store) -> None:
    """Have Postgres end the session of a transaction."""
    async with store.transaction() as connection:
        async with other.connection() as second:
            await second.execute("select pg_terminate_backend($1, 5000)", connection.get_server_pid())
        await connection.execute("select 1")


# -- the loop and the process ----------------------------------------------------------------------------------------


async def test_a_busy_loop_is_seen() -> None:
    """What blocks the loop is told by how late the next look at it comes; a loop that is free is hardly late."""
    metrics = Metrics()
    watching = asyncio.create_task(watch_loop(metrics, 0.01))
    await until(lambda: (value(metrics, "relay_event_loop_lag_seconds_count") or 0) >= 3)
    free = value(metrics, "relay_event_loop_lag_seconds_sum") or 0
    time.sleep(0.5)  # noqa: ASYNC251 - what is to be seen
    await asyncio.sleep(0)
    await until(lambda: (value(metrics, "relay_event_loop_lag_seconds_sum") or 0) >= free + 0.45)
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching
    assert free < 0.45


async def test_the_service_tells_of_itself(database: str, tmp_path: Path) -> None:
    """It is ready, has its roles and pools, measures each request, also one that it refuses, and looks at its loop."""
    async with served(database, tmp_path, {"crm": {}}) as service:
        assert await service.metric("relay_ready") == 1
        assert await service.metric("relay_role", role="receive") == 1
        assert await service.metric("relay_role", role="flush") == 1
        assert await service.metric("relay_database_connections_max", pool="work") == 20
        assert await service.metric("relay_database_connections_max", pool="append") == 4
        taken = await service.post(webhook("w1"))
        refused = await service.post(b"{")
        unknown = await service.post(webhook("w2"), "nobody")
        assert (taken.status, refused.status, unknown.status) == (202, 400, 401)
        assert await service.metric("relay_webhook_seconds_count") == 3
        assert 0 < await service.metric("relay_webhook_seconds_sum") < 5
        assert await service.metric("relay_database_wait_seconds_count", pool="append") >= 1
        async with asyncio.timeout(10):
            while not await service.metric("relay_event_loop_lag_seconds_count"):  # noqa: ASYNC110 - no Event to wait for
                await asyncio.sleep(0.05)


@pytest.mark.parametrize("roles", ["receive", "flush"])
async def test_who_is_not_ready_says_so(tmp_path: Path, roles: str) -> None:
    """Without Postgres `relay_ready` is 0, as /readyz is 503, the pool's errors say why, and ages grow from the start.

    How long events are kept is known by then, also where nothing is flushed; the age of a recount only where it is.
    """
    from relay import app  # noqa: PLC0415 - kept near: this test alone starts a service that never gets ready
    from relay.settings import process  # noqa: PLC0415

    env = {
        "RELAY_DATABASE_URL": f"postgresql://127.0.0.1:{free_port()}/relay",
        "RELAY_SECRET_KEY": "the secret of this deployment",
        "RELAY_SPOOL_DIR": str(tmp_path),
        "RELAY_HOST": "127.0.0.1",
        "RELAY_PORT": "0",
        "RELAY_OPS_HOST": "127.0.0.1",
        "RELAY_OPS_PORT": "0",
        "RELAY_ROLES": roles,
        "RELAY_RETENTION_DAYS": "30",
    }
    service = app.Service(process(env), settings(1))
    running = asyncio.create_task(service.run())
    await until(lambda: (value(service.metrics, "relay_database_errors_total", pool="work") or 0) > 0)
    assert value(service.metrics, "relay_ready") == 0
    assert value(service.metrics, "relay_retention_seconds") == 30 * 86_400
    await until(lambda: (value(service.metrics, "relay_sample_age_seconds") or 0) > 0.1)
    recounted = value(service.metrics, "relay_conservation_recount_age_seconds") or 0
    assert recounted > 0.1 if roles == "flush" else recounted == 0
    service.stop()
    await running


async def test_a_scrape_asks_nothing(database: str) -> None:
    """Postgres sees no statement of a scrape's, however much there is to tell."""
    metrics = Metrics()
    made = settings(20)
    metrics.create_at_zero(made)
    async with Store.open(database, metrics=metrics) as store:
        await Sampler(store, made, metrics).sample_once()
        waits = value(metrics, "relay_database_wait_seconds_count", pool="work")
        async with TestClient(TestServer(ops_app(metrics, lambda: None))) as client:
            first, second = [await (await client.get("/metrics")).text() for _ in range(2)]
        assert value(metrics, "relay_database_wait_seconds_count", pool="work") == waits
    assert first.count("\nrelay_") == second.count("\nrelay_") > 500


# -- certificates ----------------------------------------------------------------------------------------------------

DAYS = 30

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl, which `make test` installs")


@asynccontextmanager
async def vendor(directory: Path) -> AsyncIterator[tuple[str, ssl.SSLContext]]:
    """Serve a vendor over TLS with a certificate of thirty days; gives its URL and what trusts it."""
    key, certificate = directory / "key.pem", directory / "cert.pem"
    of_key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
    of_name = "-subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1"
    command = f"openssl req -x509 {of_key} -days {DAYS} {of_name} -keyout {key} -out {certificate}"
    subprocess.run(command.split(), check=True, capture_output=True)  # noqa: ASYNC221, S603 - a moment, and our own words
    shown = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    shown.load_cert_chain(certificate, key)

    async def take(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(text="OK")

    app = web.Application()
    app.router.add_post("/{path:.*}", take)
    server = TestServer(app, host="localhost", scheme="https")
    await server.start_server(ssl=shown)
    try:
        yield f"https://localhost:{server.port}", ssl.create_default_context(cafile=str(certificate))
    finally:
        await server.close()


async def uploaded(client: Client, spool: Spool, login: Login) -> object:
    """Send a small file; return what it came to."""

    async def lines() -> AsyncIterator[bytes]:
        yield b"\x83\x81\x81[\x83\x8b\r\n"
        yield b"taro@example.jp\r\n"

    file = await spool.write("batch-1.csv", lines(), 1)
    return (await client.upload(UploadJob(login, account(login), Operation.UPSERT, file, lambda: 60.0))).outcome


@needs_openssl
async def test_when_a_certificate_expires_is_told(tmp_path: Path) -> None:
    """From the connection that an upload makes anyway, by the host's name, and it counts down between uploads."""
    metrics, spool = Metrics(), Spool(tmp_path)
    async with vendor(tmp_path) as (url, trusted):
        login = haihai_login(base_url=url)
        async with Client(metrics, spool, [login], tls=trusted) as client:
            assert value(metrics, "relay_certificate_expiry_seconds", host=url) is None, "nobody has seen it yet"
            assert isinstance(await uploaded(client, spool, login), Accepted)
            first = value(metrics, "relay_certificate_expiry_seconds", host=url)
            assert first is not None
            assert (DAYS - 1) * 86_400 < first <= DAYS * 86_400
            await until(lambda: (value(metrics, "relay_certificate_expiry_seconds", host=url) or first) < first)


@needs_openssl
async def test_a_certificate_that_is_not_trusted_is_not_told(tmp_path: Path) -> None:
    """Nothing is sent to a host whose certificate nobody vouches for, and its word on its expiry is not believed."""
    metrics, spool = Metrics(), Spool(tmp_path)
    async with vendor(tmp_path) as (url, _):
        login = haihai_login(base_url=url)
        async with Client(metrics, spool, [login]) as client:
            assert isinstance(await uploaded(client, spool, login), Transient)
    assert value(metrics, "relay_certificate_expiry_seconds", host=url) is None
