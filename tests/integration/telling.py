"""A status API on a small world, for the tests of how relay tells."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer

from relay.batches import Delivered, Outcome
from relay.client import HostState, Uploaded, UploadJob
from relay.events import Event, Operation
from relay.flush import LaneWorker, LoginPlan
from relay.problem import problems
from relay.settings import Api, ApiToken, Login, Settings
from relay.status import Status
from tests.integration.model import KEYS, Answering, World, settings, world

TOKENS = {"all": ("read", "operate", "pii"), "reader": ("read",), "operator": ("operate",), "auditor": ("pii",)}
"""The tokens by name, each with its scopes; the token itself is `<name>-token`."""

Json = Any
"""What a JSON answer may hold."""

LOGIN = "login-0"
ACCOUNT = "account-0"


def api_tokens() -> Api:
    """The settings of the tokens."""
    return Api(
        tokens={
            name: ApiToken.model_validate(
                {"name": name, "sha256": hashlib.sha256(f"{name}-token".encode()).hexdigest(), "scopes": scopes}
            )
            for name, scopes in TOKENS.items()
        }
    )


def told_settings(logins: int = 1, *, attempts_max: int = 10, rows_max: int | None = None, **login: object) -> Settings:
    """The model's settings with tokens; `login` changes the logins."""
    made = settings(logins, attempts_max=attempts_max, rows_max=rows_max)
    changed = {name: one.model_copy(update=login) for name, one in made.logins.items()}
    return made.model_copy(update={"api": api_tokens(), "logins": changed})


def with_accounts(made: Settings, **account: object) -> Settings:
    """Change all accounts of the settings."""
    changed = {name: one.model_copy(update=account) for name, one in made.accounts.items()}
    return made.model_copy(update={"accounts": changed})


def answering(*outcomes: Outcome) -> Answering:
    """A vendor that gives these answers in turn, then delivers everything."""
    left = list(outcomes)
    return Answering(lambda _job, _addresses: left.pop(0) if left else Delivered())


@dataclass
class Holding:
    """A vendor that does not answer until it is let."""

    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    answer: asyncio.Event = field(default_factory=asyncio.Event)

    async def upload(self, job: UploadJob) -> Uploaded:
        """Hold one upload."""
        self.arrived.set()
        await self.answer.wait()
        return Uploaded(Delivered(), 200, job.file.bytes, "")


@dataclass
class Desk:
    """A world, and the status API over it."""

    w: World
    settings: Settings
    client: TestClient[web.Request, web.Application]
    woken: list[None] = field(default_factory=list)

    @property
    def plan(self) -> LoginPlan:
        """The plan of the first login."""
        return self.w.plans[LOGIN]

    async def ask(self, method: str, path: str, body: object = None, by: str | None = "all") -> ClientResponse:
        """Ask for something with a token."""
        headers = {} if by is None else {"Authorization": f"Bearer {by}-token"}
        return await self.client.request(method, path, json=body, headers=headers)

    async def get(self, path: str, by: str = "all") -> Json:
        """Get an answer that must be 200."""
        return await self.told("GET", path, by=by)

    async def told(self, method: str, path: str, body: object = None, by: str = "all") -> Json:
        """Ask for an answer that must be 200."""
        response = await self.ask(method, path, body, by)
        assert response.status == 200, await response.text()
        assert response.content_type == "application/json"
        return await response.json()

    async def problem(
        self, status: int, method: str, path: str, body: object = None, by: str | None = "all"
    ) -> dict[str, Json]:
        """Ask for what must be refused with a problem of this status."""
        response = await self.ask(method, path, body, by)
        assert response.status == status, await response.text()
        assert response.content_type == "application/problem+json"
        found: dict[str, Json] = await response.json()
        assert found["status"] == status
        return found

    async def append(self, *words: tuple[Operation, str], now: bool = False) -> list[Event]:
        """Append events, each occurred a second after the one before; received `now`, or long ago."""
        events = [self.w.event(ACCOUNT, operation, address, n) for n, (operation, address) in enumerate(words)]
        if now:
            received = [datetime.now(UTC) + timedelta(microseconds=n) for n in range(len(events))]
            events = [replace(event, received_at=at) for event, at in zip(events, received, strict=True)]
        assert {done.status for done in await self.w.store.append(events)} == {"new"}
        return events

    async def flush(self, *outcomes: Outcome) -> None:
        """Work until nothing more is due; the vendor answers as told."""
        await self.w.flush(self.w.worker(answering(*outcomes)), self.plan)

    async def event(self, event: Event, by: str = "all") -> dict[str, Json]:
        """What became of an event at its account, not of what was appended again."""
        answer = await self.get(f"/v1/webhooks/{event.source}/{event.message_id}", by)
        return next(found for found in answer["events"] if found["again_of"] is None)

    async def batches(self) -> list[dict[str, Json]]:
        """All batches, the oldest first."""
        found: list[dict[str, Json]] = (await self.get("/v1/batches?limit=500"))["batches"]
        return found[::-1]

    @asynccontextmanager
    async def uploading(self) -> AsyncIterator[Holding]:
        """Hold an upload while the body runs; then it is answered."""
        holding = Holding()
        worker = LaneWorker(self.w.store, self.w.spool, holding, self.w.metrics, uuid4(), 60)
        async with asyncio.TaskGroup() as group:
            group.create_task(worker.work(self.plan, await self.w.fence()))
            await holding.arrived.wait()
            try:
                yield holding
            finally:
                holding.answer.set()


@asynccontextmanager
async def desk(
    url: str, directory: Path, made: Settings, host: Callable[[Login], HostState] = lambda _: HostState()
) -> AsyncIterator[Desk]:
    """Open a world on a database with a status API over it; `host` tells how vendors' hosts stand."""
    async with world(url, directory, made) as w:
        woken: list[None] = []
        app = web.Application(middlewares=[problems])
        app.add_routes(Status(w.store, made, KEYS, w.metrics, wake=lambda: woken.append(None), host=host).routes())
        async with TestClient(TestServer(app)) as client:
            yield Desk(w, made, client, woken)
