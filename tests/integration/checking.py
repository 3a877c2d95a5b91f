"""A lane at a simulated blastmail, and processes that check its accounts' columns."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from uuid import uuid4

from aiohttp import ClientSession

from relay import csvline
from relay.client import Client
from relay.demo.sim_bme import BmeContract, BmeSim
from relay.demo.sim_record import Counts
from relay.events import Event, Operation
from relay.flush import Checker, Flusher, LaneWorker, LoginPlan, Worked, login_plans
from relay.metrics import Metrics
from relay.settings import Settings
from tests.integration.model import KEYS, World, world

CONTRACT = BmeContract("demo", "p", "k", columns=("氏名", "都道府県"))
LOGIN, ACCOUNT = "blast", "news"


def bme_settings(base_url: str, *headers: str, **login: object) -> Settings:
    """Make settings of one account that maps these headers beside its address; `login` changes its login."""
    columns = {"E-Mail": "email", **{header: f"f{number}" for number, header in enumerate(headers)}}
    given: Mapping[str, object] = {
        "sources": {"crm": {"bearer_tokens": ["x" * 20], "accounts": [ACCOUNT]}},
        "logins": {
            LOGIN: {
                "vendor": "blastmail",
                "base_url": base_url,
                "username": "demo",
                "password": "p",
                "api_key": "k",
                **login,
            }
        },
        "accounts": {
            ACCOUNT: {
                "login": LOGIN,
                "columns": columns,
                "flush_after_s": 0,
                "flush_opt_outs_after_s": 0,
                "operations": {"customer.banned": "stop"},
            }
        },
    }
    return Settings.model_validate(given)


@dataclass
class Process:
    """One replica as far as it works on lanes: its worker, checker and client, all begun together."""

    worker: LaneWorker
    checker: Checker
    plan: LoginPlan
    plans: dict[str, LoginPlan]
    metrics: Metrics

    def flusher(self) -> Flusher:
        """Make its flusher."""
        return Flusher(self.worker, self.plans, round_s=0.02, uploads_max=16, grace_s=5)

    def checked(self, result: str) -> float | None:
        """Count its checks with this result."""
        labels = {"vendor": "blastmail", "result": result}
        return self.metrics.registry.get_sample_value("relay_template_checks_total", labels)


@dataclass
class Place:
    """A database, a simulated vendor, and what is done there."""

    w: World
    sim: BmeSim
    settings: Settings
    stack: AsyncExitStack
    session: ClientSession
    said: int = field(default=0)

    @property
    def seen(self) -> Counts:
        """What the vendor has counted."""
        return self.sim.record.of("demo")

    async def start(self, settings: Settings | None = None, timeout_s: float = 5.0) -> Process:
        """Start a process with these settings."""
        metrics = Metrics()
        client = await self.stack.enter_async_context(Client(metrics, self.w.spool))
        checker = Checker(self.w.store, client, metrics, timeout_s=timeout_s)
        worker = LaneWorker(self.w.store, self.w.spool, client, metrics, uuid4(), 60, checker=checker)
        plans = login_plans(settings or self.settings, KEYS)
        return Process(worker, checker, plans[LOGIN], plans, metrics)

    async def say(self, *words: tuple[Operation, str]) -> list[Event]:
        """Append events, each later than all before, with as many cells as the account's columns."""
        events = []
        for operation, who in words:
            self.said += 1
            address = f"{who}@example.jp"
            more = {
                Operation.UPSERT: ["表"] * (len(self.settings.accounts[ACCOUNT].columns) - 1),
                Operation.DELETE: [],
                Operation.STOP: ["配信停止"],
            }[operation]
            event = self.w.event(ACCOUNT, operation, address, self.said)
            events.append(replace(event, line=csvline.record((address, *more))))
        assert {done.status for done in await self.w.store.append(events)} == {"new"}
        return events

    async def work(self, process: Process, pieces_max: int = 20) -> list[Worked]:
        """Let a process work, piece after piece, until nothing is done any more."""
        done: list[Worked] = []
        while (worked := await process.worker.work(process.plan, await self.w.fence())).progress:
            done.append(worked)
            assert len(done) < pieces_max, f"no end of it: {done}"
        return done

    async def lane(self, *columns: str) -> list[object]:
        """Look up columns of the lane."""
        [row] = await self.w.connection_fetch(f"select {', '.join(columns)} from lane")  # noqa: S608 (names of our own)
        return list(row)

    async def check(self) -> Mapping[str, object]:
        """What is told of the last check of the account."""
        return (await self.w.store.tell_checks([ACCOUNT]))[ACCOUNT].result

    async def passes(self, seconds: float) -> None:
        """Let time pass in Postgres."""
        await self.w.connection_execute(
            "update lane set not_before = not_before - make_interval(secs => $1), "
            "checked_at = checked_at - make_interval(secs => $1), "
            "check_due_at = check_due_at - make_interval(secs => $1)",
            seconds,
        )

    async def add_item(self, name: str) -> None:
        """Add an item at the vendor, as a person does."""
        async with self.session.post(f"{self.sim.url}/_sim/items", json={"contract": "demo", "item": name}) as answer:
            assert answer.status == 204

    async def states(self) -> dict[str, list[str]]:
        """The states of the batches, by operation, in their order."""
        found: dict[str, list[str]] = {}
        for row in await self.w.connection_fetch("select operation, state from batch order by id"):
            found.setdefault(row["operation"], []).append(row["state"])
        return found


@asynccontextmanager
async def place(
    database: str, directory: Path, *headers: str, contract: BmeContract = CONTRACT, **login: object
) -> AsyncIterator[Place]:
    """Serve a vendor with one contract, and open a world for an account that maps these headers."""
    sim = BmeSim(contract)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(sim.serve())
        settings = bme_settings(sim.base_url, *headers, **login)
        w = await stack.enter_async_context(world(database, directory, settings))
        session = await stack.enter_async_context(ClientSession())
        yield Place(w, sim, settings, stack, session)
