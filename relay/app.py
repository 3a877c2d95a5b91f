"""The service: what starts in which order, what listens where, and how it ends.

It listens at once and answers 503 until Postgres is there and its schema known; then it receives, flushes and tells. On
SIGTERM it is no longer ready, takes no new requests, appends what waits, and gives uploads under way some time to end.
"""

import asyncio
import contextlib
import gc
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import uuid4

from aiohttp import web

from relay import columns, openapi, ops, receive, vendors
from relay.batches import DAY_S
from relay.client import Client, HostState, host_of
from relay.errors import FieldError, SettingsError, Unavailable
from relay.events import Operation
from relay.flush import (
    Checker,
    Clearing,
    Flusher,
    LaneWorker,
    LoginPlan,
    Pruner,
    Recounter,
    Recovering,
    login_plans,
    stored_columns,
)
from relay.listening import OPS, Guard, SocketLimits, allow_files, bind, listen, not_yet, starting_app
from relay.log import logger
from relay.metrics import Metrics
from relay.migrate import check_schema
from relay.problem import problems
from relay.receive import Appender, Receiver
from relay.settings import Login, Process, Settings
from relay.spool import Spool, file_name
from relay.status import Sampler, Status, ops_app, watch_loop
from relay.store import Store

log = logger(__name__)

POSTGRES_TRIES_EVERY_S = 1.0
SHUTDOWN_GRACE_S = 20.0
"""Uploads under way get this long after SIGTERM: Kubernetes kills after 30 seconds."""

CONNECTIONS = 20
"""Connections for cutting, settling and telling: enough that no renewal of a lease waits for cuts (`CUTS_MAX`)."""

APPEND_CONNECTIONS = 4
"""Connections for appending alone, so that no cut or question keeps webhooks waiting: for events one and another that
follows a hung one, and as many for customers who are followed."""

SWEEP_EVERY_S = 300.0
"""Files of batches that another replica has ended, with customers in them, stay no longer than this; and what is to be
appended again waits no longer than this for it."""


def check(settings: Settings) -> None:
    """Raise SettingsError with every mistake that only shows where settings, vendors and columns meet."""
    problems = [*vendors.check(settings), *receive.check(settings), *columns.check(settings)]
    if problems:
        raise SettingsError(problems)


@dataclass(slots=True)
class Readiness:
    """Whether the service can be given work, and if not, why."""

    reason: str = "starting"

    def __call__(self) -> str | None:
        """Say why the service is not ready; None when it is."""
        return self.reason or None


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the service listens."""

    url: str
    ops_url: str


class Service:
    """One process of relay."""

    def __init__(self, process: Process, settings: Settings) -> None:
        self._process = process
        self._settings = settings
        self._plans = login_plans(settings, process.keys)
        self._stop = asyncio.Event()
        self.metrics = Metrics()
        self._guard = Guard(SocketLimits.of(process), self.metrics, told=True)
        self.ready = Readiness()
        self.metrics.ready.set_function(lambda: self.ready() is None)
        self.started: asyncio.Future[Addresses] = asyncio.get_running_loop().create_future()

    def stop(self) -> None:
        """Begin to end."""
        self._stop.set()

    async def run(self) -> None:
        """Serve until `stop` is called. Raises SettingsError or SchemaUnknown where the database does not fit."""
        hosts = {host_of(login) for login in self._settings.logins.values()}
        self.metrics.create_at_zero(self._settings, hosts, accounts_max=self._process.metrics_accounts_max)
        for role in self._process.roles:
            self.metrics.role.labels(role).set(1)
        self._tell_from_the_start()
        async with AsyncExitStack() as stack:
            ops_url = await listen(
                stack,
                ops_app(self.metrics, self.ready),
                bind(self._process.ops_host, self._process.ops_port, "RELAY_OPS_PORT"),
                Guard(OPS, self.metrics),
            )
            listener = bind(self._process.host, self._process.port, "RELAY_PORT")
            stack.callback(listener.close)
            waiting = await stack.enter_async_context(AsyncExitStack())
            await listen(waiting, starting_app(), listener.dup(), self._guard)
            store = await stack.enter_async_context(self._open_store("work", CONNECTIONS))
            layouts = await self._prepared(store)
            if layouts is None:
                return
            await self._serve(stack, waiting, store, layouts, listener, ops_url)

    def _tell_from_the_start(self) -> None:
        """Set what the parts set that begin only when Postgres is there: until then nothing was read or recounted."""
        began = time.monotonic()
        self.metrics.retention.set(self._process.retention_days * DAY_S)
        self.metrics.sample_age.set_function(lambda: time.monotonic() - began)
        if "flush" in self._process.roles:
            self.metrics.conservation_recount_age.set_function(lambda: time.monotonic() - began)
            if self._process.retention_days:
                self.metrics.retention_pass_age.set_function(lambda: time.monotonic() - began)

    def _open_store(self, pool: str, connections_max: int) -> AbstractAsyncContextManager[Store]:
        return Store.open(
            self._process.database_url.value,
            connections_max=connections_max,
            statement_cache=self._process.database_statement_cache,
            metrics=self.metrics,
            pool=pool,
        )

    async def _prepared(self, store: Store) -> dict[tuple[str, Operation], int] | None:
        """Wait for Postgres and prepare it; None if relay was stopped before it came."""
        while not self._stop.is_set():
            try:
                return await prepare(store, self._plans, self._process.keys.fingerprint())
            except Unavailable as error:
                log.warning("postgres_unavailable", reason=str(error))
                self.ready.reason = f"Postgres is unavailable: {error}"
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POSTGRES_TRIES_EVERY_S):
                    await self._stop.wait()
        return None

    async def _serve(
        self,
        stack: AsyncExitStack,
        waiting: AsyncExitStack,
        store: Store,
        layouts: Mapping[tuple[str, Operation], int],
        listener: socket.socket,
        ops_url: str,
    ) -> None:
        besides: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {}
        flusher: Flusher | None = None
        host: Callable[[Login], HostState] | None = None
        if "flush" in self._process.roles:
            spool = spool_at(self._process)
            client = await stack.enter_async_context(Client(self.metrics, spool, self._settings.logins.values()))
            host = client.host
            flusher = self._flusher(store, spool, client)
            besides["sweeper"] = partial(_sweep, store, spool, layouts, self.metrics)
            besides["clearing"] = Clearing(store, client, self._plans).run
            besides["recounter"] = Recounter(store, self.metrics).run
            if self._process.retention_days:
                besides["pruner"] = self._pruner(store).run
        fingerprints = {login: plan.fingerprint for login, plan in self._plans.items()}
        besides["loop watch"] = partial(watch_loop, self.metrics)
        besides["sampler"] = Sampler(store, self._settings, self.metrics, fingerprints=fingerprints).run
        async with asyncio.TaskGroup() as group:
            if flusher:
                group.create_task(flusher.run(), name="flusher")
            beside = [group.create_task(work(), name=name) for name, work in besides.items()]
            async with AsyncExitStack() as serving:
                appender = await self._appender(serving) if "receive" in self._process.roles else None
                app = self._app(store, appender, layouts, flusher, host)
                url = await listen(serving, app, listener, self._guard)
                await waiting.aclose()
                self.ready.reason = ""
                self.started.set_result(Addresses(url, ops_url))
                roles = sorted(self._process.roles)
                log.info("started", url=url, ops_url=ops_url, logins=len(self._plans), roles=roles)
                await self._stop.wait()
                self.ready.reason = "draining"
                log.info("draining")
                if flusher:
                    flusher.stop()
            for task in beside:
                task.cancel()
        log.info("ended")

    def _pruner(self, store: Store) -> Pruner:
        deletes_records = [name for name, account in self._settings.accounts.items() if account.delete_error_records]
        return Pruner(store, self.metrics, self._process.retention_days * DAY_S, deletes_records=deletes_records)

    def _flusher(self, store: Store, spool: Spool, client: Client) -> Flusher:
        worker = LaneWorker(
            store,
            spool,
            client,
            self.metrics,
            uuid4(),
            self._process.lease_s,
            checker=Checker(store, client, self.metrics),
            may_try=client.may_try,
            give_back=client.give_back,
            recovering=Recovering(store, client, self.metrics),
        )
        return Flusher(
            worker,
            self._plans,
            round_s=self._process.round_s,
            uploads_max=self._process.uploads_max,
            grace_s=SHUTDOWN_GRACE_S,
        )

    async def _appender(self, serving: AsyncExitStack) -> Appender:
        log_store = await serving.enter_async_context(self._open_store("append", APPEND_CONNECTIONS))
        appender = Appender(log_store, self.metrics, waiting_events_max=self._process.waiting_events_max)
        return await serving.enter_async_context(appender)

    def _app(
        self,
        store: Store,
        appender: Appender | None,
        layouts: Mapping[tuple[str, Operation], int],
        flusher: Flusher | None,
        host: Callable[[Login], HostState] | None,
    ) -> web.Application:
        """Put together what is served: no webhooks without an appender, no host's state where nothing is uploaded."""
        app = web.Application(client_max_size=self._process.body_bytes_max, middlewares=[problems])
        if appender:
            receiver = Receiver(
                self._settings,
                self._process.keys,
                layouts,
                appender,
                self.metrics,
                receive.Limits.of(self._process),
                trusted_proxies=self._process.trusted_proxies,
            )
            app.add_routes(receive.routes(receiver))
        else:  # reached by mistake: no sender may take a 404 for an answer
            app.router.add_post("/v1/webhooks/{source}", not_yet)
            app.router.add_post("/v1/webhooks/{source}/batch", not_yet)
        app.add_routes(openapi.routes())
        app.add_routes(ops.routes())
        wake = flusher.wake if flusher else _nobody
        status = Status(store, self._settings, self._process.keys, self.metrics, wake=wake, host=host)
        app.add_routes(status.routes())
        return app


def _nobody() -> None:
    """Wake nobody: lanes are worked on elsewhere, where what is due is found within a round."""


async def prepare(store: Store, plans: Mapping[str, LoginPlan], fingerprint: str) -> dict[tuple[str, Operation], int]:
    """Check the database and make what the settings need in it; return the layouts' ids by account and operation.

    Raises SchemaUnknown, SettingsError or Unavailable.
    """
    async with store.connection() as connection:
        await check_schema(connection)
    await store.check_database()
    await store.claim_deployment(fingerprint)
    await store.ensure_lanes(plans)
    layouts = {}
    for plan in plans.values():
        for (account, operation), of_both in plan.columns.items():
            layouts[account, operation] = await store.ensure_layout(account, operation, stored_columns(of_both))
        for account in plan.accounts:
            await store.ensure_cursors(account, [o for a, o in plan.columns if a == account])
    return layouts


async def _sweep(store: Store, spool: Spool, served: Iterable[tuple[str, Operation]], metrics: Metrics) -> None:
    """Keep house, now and then.

    Remove files whose batches have ended elsewhere, tell of what waits for settings that are no longer there, and
    append again what vendors never answered.
    """

    async def open_files() -> set[str]:
        return {file_name(number) for number in await store.open_batches()}

    async def left_behind() -> None:
        for account, operation in await store.unserved(served):
            log.error("account_without_settings", account=account, operation=operation)

    async def unanswered() -> None:
        for (account, operation), events in (await store.retry_unanswered()).items():
            metrics.events.labels(metrics.vendor(account), operation).inc(events)
            log.info("unanswered_again", account=account, operation=operation, events=events)

    while True:
        for work in (partial(spool.sweep, open_files), left_behind, unanswered):
            try:
                await work()
            except Exception:  # keeping house must not end the service
                log.exception("sweep_failed")
        await asyncio.sleep(SWEEP_EVERY_S)


def spool_at(process: Process) -> Spool:
    """Open the spool. Raises SettingsError if its folder cannot be made or written to."""
    try:
        process.spool_dir.mkdir(parents=True, exist_ok=True)
        if not os.access(process.spool_dir, os.W_OK | os.X_OK):
            raise PermissionError
    except OSError as error:
        problem = f"{process.spool_dir} must be a folder that relay can write to: {type(error).__name__}"
        raise SettingsError([FieldError("RELAY_SPOOL_DIR", problem)]) from None
    return Spool(process.spool_dir)


def spare_collector() -> None:
    """Let Python's collector pass over what stays as long as the process, and look at the rest less often.

    A request leaves few cycles behind, but makes objects enough that the collector would go over all of relay's many
    times a second. For a process that serves and nothing else.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


async def serve(process: Process, settings: Settings) -> None:
    """Run the service until SIGTERM or SIGINT."""
    check(settings)
    allow_files(process.connections_max)
    service = Service(process, settings)
    service.started.add_done_callback(lambda _: spare_collector())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, service.stop)
    await service.run()


@asynccontextmanager
async def running(process: Process, settings: Settings) -> AsyncIterator[Addresses]:
    """Run the service beside the body, and end it with the body."""
    check(settings)
    service = Service(process, settings)
    async with asyncio.TaskGroup() as group:
        run = group.create_task(service.run(), name="relay")
        waited: list[asyncio.Future[Any]] = [run, service.started]
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        if not run.done():
            try:
                yield service.started.result()
            finally:
                service.stop()
