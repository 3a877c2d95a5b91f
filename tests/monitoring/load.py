"""What is done to relay so that every metric moves: traffic, and whatever else can happen to it in a minute."""

import asyncio
import itertools
import json
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from prometheus_client.parser import text_string_to_metric_families

from relay.demo.customers import generate
from relay.demo.traffic import stream
from tests.acceptance.harness import TOKEN, World, signed
from tests.acceptance.processes import Relay, until
from tests.monitoring.prometheus import SCRAPE_S, Prometheus
from tests.monitoring.stage import CUSTOMERS_FIELD, Vendors

MOVES_WITHIN_S = 90.0
POST_EVERY_S = 0.25
POSTED_AT_ONCE = 6
WATCHED_EVERY_S = 0.3
HELD_UP_S = 10.0
FENCE = 7235419866102
"""The advisory lock that appends share (sql/migrations/0001_the_log.sql)."""

DOES_NOT_MOVE = {
    "relay_conservation_violations": "only a bug, or a change made to the tables by hand, moves it",
    "relay_round_errors_total": "only a bug moves it",
    "relay_settings_refused": "takes two replicas with different settings: tests/integration/test_rollout.py",
    "relay_lanes_lost_total": "takes a process that stood still for longer than its lease",
    "relay_database_errors_total": "takes a Postgres that goes away, and the others' data with it",
    "relay_retention_deleted_events_total": "takes events that are older than any retention there may be",
}
"""Metrics that stay at zero here, and why. Their series are there, and shown."""


@dataclass(slots=True)
class Load:
    """Two processes of relay, what is sent to them, and what their metrics have been seen to be other than zero."""

    world: World
    vendors: Vendors
    receive: Relay
    flush: Relay
    seen: set[str] = field(default_factory=set)
    moved: set[str] = field(default_factory=set)
    texts: dict[str, str] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    # -- sending -----------------------------------------------------------------------------------------------------

    async def send(self, source: str, kind: str, data: object, status: int = 202) -> None:
        """Post one webhook and expect this status."""
        message_id = f"one-{next(self._numbers)}"
        at = datetime.now(UTC).isoformat()
        body = json.dumps({"type": f"customer.{kind}", "timestamp": at, "data": data}).encode()
        answered, _, text = await self.world.post(self.receive, f"/v1/webhooks/{source}", message_id, body)
        assert answered == status, f"{source} {kind}: {answered} {text.decode()}"

    async def traffic(self) -> None:
        """Send customers to the three vendors until cancelled: mostly many in a request, now and then one alone."""
        begin = datetime.now(UTC) - timedelta(minutes=10)
        for seed in itertools.count():
            webhooks = stream(500, seed, begin)
            while group := list(itertools.islice(webhooks, POSTED_AT_ONCE)):
                named = [replace(one, message_id=f"{seed}-{one.message_id}") for one in group]
                await self.world.post_many(self.receive, "crm", named)
                await self.send("crm", "updated", group[0].data)
                await asyncio.sleep(POST_EVERY_S)  # the rate of the traffic, not a wait for something

    async def early(self) -> None:
        """Send what is to wait already when flushing begins: for an account, too, that its settings do not name."""
        for customer in customers(3):
            await self.send("former", "created", customer)
            await self.send("rest", "created", customer)

    async def special(self) -> None:
        """Send what happens rarely: what is refused, superseded, unresolved, or goes where nothing is well."""
        every = customers(10)
        for customer in every[:3]:
            await self.send("rest", "stopped", customer)
        await self.send("lost", "created", every[3])
        await self.send("crm", "created", {**every[4], "name": "𠮷田"})
        for refused in every[5:7]:
            await self.send("crm", "created", refused)
        await self.send("crm", "deleted", every[7])
        await self.send("crm", "deleted", {"name": "誰か"}, 422)
        await self.send("ids", "created", {**every[8], CUSTOMERS_FIELD: "1"})
        await self.send("ids", "deleted", {CUSTOMERS_FIELD: "2"})
        await self.send("impatient", "created", every[9])
        await self.send("impatient", "created", every[9], 429)
        nobody = {"Content-Type": "application/json"}
        async with self.world.session.post(f"{self.receive.url}/v1/webhooks/crm", data=b"{}", headers=nobody) as answer:
            assert answer.status == 401

    async def arm(self) -> None:
        """Tell the vendors what to do wrong: refuse lines, lose an answer, be busy, have no calls left."""
        refused = [customer["email"] for customer in customers(8)[5:]]
        await self._fault(self.vendors.blast.url, fault="reject_lines", contract="blast", addresses=refused)
        await self._fault(self.vendors.blast.url, fault="lost_reply", contract="lost")
        await self._fault(self.vendors.hai.url, fault="retry_after", seconds=1, contract="1", skip=1)
        await self._fault(self.vendors.hai.url, fault="code", code=81404, contract="2", times=1000)

    async def _fault(self, url: str, **given: object) -> None:
        async with self.world.session.post(f"{url}/_sim/faults", json=given) as answer:
            assert answer.status == 201, await answer.text()

    # -- what operators do -------------------------------------------------------------------------------------------

    async def operate(self) -> None:
        """Pause a login, and record a report mail as soon as there is an accepted file."""
        await self.world.api(self.flush, "POST", "/v1/logins/resting/pause")
        await self.world.api(self.flush, "POST", "/v1/logins/blast/flush")
        batch = None

        async def accepted() -> bool:
            nonlocal batch
            found = await self.world.api(self.flush, "GET", "/v1/batches?state=accepted&limit=1")
            batch = next(iter(found["batches"]), None)
            return batch is not None

        await until("配配メール has accepted a file", accepted, MOVES_WITHIN_S)
        report = {"success": 0, "failure": batch["rows"] if batch else 0}
        url = f"{self.flush.url}/v1/batches/{batch['id'] if batch else 0}/report"
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with self.world.session.put(url, json=report, headers=headers) as answer:
            assert answer.ok, await answer.text()

    # -- connections that trouble ------------------------------------------------------------------------------------

    async def trouble(self, stack: AsyncExitStack) -> None:
        """Send what is no HTTP, and leave a request open whose body does not end."""
        host, _, port = self.receive.url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
        await reader.read()
        writer.close()
        _, slow = await asyncio.open_connection(host, int(port))
        stack.callback(slow.close)
        headers = signed("slow", b"")
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        slow.write(f"POST /v1/webhooks/crm HTTP/1.1\r\nHost: relay\r\n{head}Content-Length: 1000\r\n\r\n{{".encode())

    async def hold_up_appends(self) -> None:
        """Hold log and fence, as a migration or a forgotten session does, until it shows in the metrics."""
        async with self.world.database.acquire() as connection, asyncio.TaskGroup() as group:
            held = connection.transaction()
            await held.start()
            await connection.execute("lock table event in exclusive mode")
            await connection.execute("select pg_advisory_xact_lock_shared($1)", FENCE)
            for customer in itertools.islice(generate(20, 815), 20):  # one is on its way, the others wait
                group.create_task(self.send("crm", "created", customer.data()))
            try:
                await self.until_moved({"relay_append_waiting_requests", "relay_fence_skipped_total"}, HELD_UP_S)
            finally:
                await held.rollback()

    # -- watching ----------------------------------------------------------------------------------------------------

    async def watch(self) -> None:
        """Look at the metrics of both processes until cancelled, and note which are not zero."""
        while True:
            for relay in (self.receive, self.flush):
                async with self.world.session.get(f"{relay.ops_url}/metrics") as answer:
                    text = self.texts[relay.name] = await answer.text()
                for family in text_string_to_metric_families(text):
                    name = f"{family.name}_total" if family.type == "counter" else family.name
                    self.seen.add(name)
                    if any(sample.value for sample in family.samples):
                        self.moved.add(name)
            await asyncio.sleep(WATCHED_EVERY_S)  # as a scrape does, only more often

    async def until_moved(self, names: set[str], timeout_s: float) -> None:
        """Wait until all of these have been seen not to be zero; fails with those that have not."""

        async def moved() -> bool:
            return names <= self.moved

        try:
            await until("all metrics have moved", moved, timeout_s)
        except AssertionError as error:
            raise AssertionError(f"{error}: {sorted(names - self.moved)} have not") from None

    async def run(self, stack: AsyncExitStack, prometheus: Prometheus, least_s: float) -> None:
        """Do all of it, and return when every metric of relay's has moved that can, or did not within its time.

        Not before `least_s`, either. What flushes starts when something waits for it already: some of what it looks at,
        it looks at when it starts, and then only once a minute.
        """
        begin = time.monotonic()
        await self.arm()
        await self._start(self.receive, prometheus)
        await self.early()
        await self.world.database.execute("analyze event")  # as Postgres does by itself, only sooner
        await self._start(self.flush, prometheus)
        async with asyncio.TaskGroup() as group:
            always = [group.create_task(work()) for work in (self.watch, self.traffic)]
            await self.special()
            await self.trouble(stack)
            await self.operate()
            await self.hold_up_appends()
            relays = {name for name in self.seen if name.startswith("relay_")}
            with suppress(AssertionError):  # the test that asks for it names those that have not
                await self.until_moved(relays - set(DOES_NOT_MOVE), MOVES_WITHIN_S)
            await asyncio.sleep(
                max(0.0, begin + least_s - time.monotonic())
            )  # what a graph shows; no wait for anything
            await self._scraped(prometheus, [self.receive, self.flush])
            for task in always:
                task.cancel()

    async def _scraped(self, prometheus: Prometheus, relays: list[Relay]) -> None:
        """Wait until Prometheus has looked at each of these since now, and so has seen what `watch` has."""
        since = time.time()

        async def looked() -> bool:
            seen = await asyncio.to_thread(
                prometheus.query, f"timestamp(relay_ready) > {since + SCRAPE_S}", time.time()
            )
            return {one.labels["pod"] for one in seen} >= {relay.name for relay in relays}

        await until("Prometheus has scraped what has moved last", looked)

    async def _start(self, relay: Relay, prometheus: Prometheus) -> None:
        """Start a process, and wait until Prometheus has seen its counters stand still: else it sees none begin."""
        await relay.start()
        seen = f'count_over_time(relay_ready{{pod="{relay.name}"}}[1m]) >= 2'

        async def scraped() -> bool:
            return bool(await asyncio.to_thread(prometheus.query, seen, time.time()))

        await until(f"Prometheus has scraped {relay.name} twice", scraped)


def customers(count: int) -> list[dict[str, str]]:
    """Return the data of so many customers, the same ones each time."""
    return [dict(customer.data()) for customer in generate(count, 4711)]
