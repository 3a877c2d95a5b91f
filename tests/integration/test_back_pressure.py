"""Nothing is accepted that cannot be kept: whatever Postgres cannot do, senders get 503, and nothing is lost by it."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from urllib.parse import urlsplit

import pytest

from relay.demo.postgres import Cluster
from relay.problem import RETRY_AFTER_S
from tests.integration import causes
from tests.integration.causes import ROLE, Cause, Place, inside, interrupted, outside, place_of
from tests.integration.pooler import pooled
from tests.integration.served import Served, served, webhook
from tests.waiting import until

ANSWER_S_MAX = 5.0
RECOVERY_S_MAX = 10.0
WAVE = 10
"""Single webhooks, and one request with as many, at the same time."""

BREAKING = {
    "AdminShutdownError",
    "CannotConnectNowError",
    "ConnectionDoesNotExistError",
    "ConnectionRefusedError",
    "ConnectionResetError",
    "CrashShutdownError",
    "InterfaceError",
    "InternalClientError",
}
"""What relay may log besides while connections break off, and while Postgres starts."""

CAUSES: dict[str, tuple[Cause, str]] = {
    "stopped at once": (interrupted(signal.SIGQUIT), "FileNotFoundError"),
    "stopped in order": (interrupted(signal.SIGINT), "FileNotFoundError"),
    "read-only database": (
        outside(
            "alter database {name} set default_transaction_read_only = on",
            "alter database {name} reset default_transaction_read_only",
        ),
        "ReadOnlySQLTransactionError",
    ),
    "read-only server": (causes.read_only_server, "ReadOnlySQLTransactionError"),
    "disk full": (causes.disk_full, "DiskFullError"),
    "quota spent": (causes.quota_spent, "InternalServerError"),
    "too many connections": (
        outside(f"alter role {ROLE} connection limit 0", f"alter role {ROLE} connection limit -1"),
        "TooManyConnectionsError",
    ),
    "out of shared memory": (causes.no_locks_left, "OutOfMemoryError"),
    "log locked": (causes.locked, "timeout"),
    "log locked, and no patience": (causes.locked_without_patience, "LockNotAvailableError"),
    "cancelled": (causes.cancelled, "QueryCanceledError"),
    "no connections allowed": (
        outside("alter database {name} allow_connections false", "alter database {name} allow_connections true"),
        "ObjectNotInPrerequisiteStateError",
    ),
    "role locked out": (
        outside(f"alter role {ROLE} nologin", f"alter role {ROLE} login"),
        "InvalidAuthorizationSpecificationError",
    ),
    "grant lost": (
        inside(f"revoke insert on event from {ROLE}", f"grant insert on event to {ROLE}"),
        "InsufficientPrivilegeError",
    ),
    "log gone for a restore": (
        inside("alter table event rename to event_before", "alter table event_before rename to event"),
        "UndefinedTableError",
    ),
}
"""What happens to Postgres, and the reason that relay logs."""


@dataclass
class Sender:
    """Sends webhooks in waves, and remembers what became of each; its 503s must be as promised."""

    relay: Served
    taken: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    answers: Counter[int] = field(default_factory=Counter)
    slowest_s: float = 0.0
    waves: int = 0

    async def wave(self) -> None:
        """Send new webhooks, one by one and in one request, all at the same time."""
        self.waves += 1
        names = [f"{self.waves}-{n}" for n in range(2 * WAVE)]
        await asyncio.gather(*[self.one(name) for name in names[:WAVE]], self.many(names[WAVE:]))

    async def one(self, name: str) -> None:
        """Send one webhook."""
        await self._send([name], webhook(name), "crm")

    async def many(self, names: list[str]) -> None:
        """Send webhooks in one request."""
        await self._send(names, [webhook(name) for name in names], "crm/batch")

    async def again(self) -> None:
        """Send again what was refused, until all is taken."""
        while self.refused:
            await asyncio.gather(*[self.one(name) for name in self.refused])

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[None]:
        """Send wave after wave beside the body."""
        stop = asyncio.Event()

        async def send() -> None:
            while not stop.is_set():
                await self.wave()

        async with asyncio.TaskGroup() as group:
            group.create_task(send())
            yield
            stop.set()

    async def _send(self, names: list[str], body: object, path: str) -> None:
        began = monotonic()
        response = await self.relay.post(body, path)
        self.slowest_s = max(self.slowest_s, monotonic() - began)
        self.answers[response.status] += 1
        if response.status == 202:
            assert (await response.json()).get("refused", 0) == 0
            self.taken.update(names)
            self.refused.difference_update(names)
            return
        assert response.status == 503, await response.text()
        assert response.content_type == "application/problem+json"
        assert int(response.headers["Retry-After"]) in RETRY_AFTER_S
        self.refused.update(names)


@pytest.fixture
async def place(database: str, cluster: Cluster) -> AsyncIterator[Place]:
    """Give a database that relay's limited role may use."""
    async with place_of(urlsplit(database).path[1:], cluster) as place:
        yield place


async def from_crm(place: Place) -> list[str]:
    """Name the webhooks in the log, each as often as it is there."""
    async with place.connected() as connection:
        return [row[0] for row in await connection.fetch("select message_id from event where source = 'crm'")]


async def goes_through(
    cause: Cause, place: Place, url: str, directory: Path, noticed: Callable[[], bool], **env: str
) -> None:
    """Send before, while and after Postgres cannot take anything, and check what is promised.

    The outage lasts until it was `noticed` and some were refused: many, unless each has to wait.
    """
    async with served(url, directory, {"crm": {}}, **env) as relay:
        sender = Sender(relay)
        async with sender.sending():
            await until(lambda: sender.answers[202] > WAVE)
            async with cause(place):
                await until(lambda: noticed() and sender.answers[503] >= (5 * WAVE if sender.slowest_s < 1 else 1))
            taken = sender.answers[202]
            await until(lambda: sender.answers[202] > taken + 2 * WAVE, timeout_s=RECOVERY_S_MAX)
        async with asyncio.timeout(RECOVERY_S_MAX):
            await sender.again()
        assert sender.answers.keys() == {202, 503}
        assert sorted(await from_crm(place)) == sorted(sender.taken)
        assert len(sender.taken) == sender.waves * 2 * WAVE
        assert sender.slowest_s < ANSWER_S_MAX


def reasons_told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the reasons of all lines that tell of an outage, and of the lines that tell of its end `over`."""
    lines = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    told = [line for line in lines if line["event"] in {"append_unavailable", "append_available"}]
    return [line.get("reason", "over") for line in told]


@pytest.mark.parametrize("what", CAUSES)
async def test_whatever_postgres_cannot_do(
    what: str, place: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Every webhook gets 202 or, soon, 503 with Retry-After; relay recovers by itself; each is in the log once.

    The log says why, and when it is over, however many were refused.
    """
    caplog.set_level("INFO")
    cause, reason = CAUSES[what]
    await goes_through(cause, place, place.url, tmp_path, lambda: reason in reasons_told(caplog))
    told = reasons_told(caplog)
    assert set(told) <= {reason, "over"} | BREAKING
    assert {told.count(each) for each in set(told) - {"over"}} == {1}
    assert told[-1] == "over"


async def test_a_failover_with_a_primary_to_be_found(
    place: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Told to talk to the primary only, relay waits for one, and finds it with new connections."""
    url = f"{place.url}&target_session_attrs=read-write"
    reason = "TargetServerAttributeNotMatched"
    await goes_through(causes.read_only_server, place, url, tmp_path, lambda: reason in reasons_told(caplog))


async def test_an_outage_behind_a_pooler(place: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Behind pgbouncer in transaction mode the same is promised; Postgres dies there and comes back."""
    async with pooled(place) as url:
        gone = interrupted(signal.SIGQUIT)
        env = {"RELAY_DATABASE_STATEMENT_CACHE": "0"}
        await goes_through(gone, place, url, tmp_path, lambda: bool(reasons_told(caplog)), **env)
