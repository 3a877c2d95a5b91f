"""A world with simulated blastmail in it, over HTTP, for tests of error records."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp

from relay import csvline
from relay.client import Client
from relay.demo.sim_bme import BASE_PATH, BmeContract, BmeSim
from relay.demo.sim_bme_replies import Brand
from relay.events import Event, Operation
from relay.flush import Clearing, LaneWorker, LoginPlan, Recovering
from relay.flush.records import Asks
from relay.settings import Account, BmeLogin, Secret, Settings, Source
from relay.store import Store
from tests.integration.faults import delays_pass
from tests.integration.model import World, world
from tests.integration.test_simulators import csv, form

U, D, S = Operation.UPSERT, Operation.DELETE, Operation.STOP
ACCOUNT, LOGIN = "account-0", "login-0"
CONTRACT = BmeContract("user", "pw", "key")
STATE = {S: "配信停止"}


def settings(url: str, login: dict[str, Any], accounts: list[dict[str, Any]]) -> Settings:
    """Settings of one login with some accounts, `account-0` and so on."""
    own = {"name": LOGIN, "vendor": "blastmail", "base_url": url, "username": "user", "password": Secret("pw")}
    made = {
        f"account-{n}": Account.model_validate(
            {
                "name": f"account-{n}",
                "login": LOGIN,
                "columns": {"E-Mail": "email", "氏名": "name"},
                "flush_after_s": 0,
                "flush_opt_outs_after_s": 0,
                "operations": {"customer.banned": "stop"},
                **given,
            }
        )
        for n, given in enumerate(accounts)
    }
    return Settings(
        sources={"crm": Source(bearer_tokens=(Secret("x" * 20),), accounts=tuple(made))},
        logins={LOGIN: BmeLogin.model_validate({**own, "api_key": Secret("key"), **login})},
        accounts=made,
    )


@dataclass(slots=True)
class Stage:
    """What a test works with."""

    w: World
    sim: BmeSim
    client: Client
    session: aiohttp.ClientSession
    settings: Settings
    settled_s: float = 0.0

    @property
    def plan(self) -> LoginPlan:
        """The only login."""
        return self.w.plans[LOGIN]

    @property
    def uploads(self) -> int:
        """How many uploads the vendor has got."""
        return self.sim.record.of("user").uploads

    def worker(self, asks: Asks | None = None, store: Store | None = None) -> LaneWorker:
        """A replica that looks for records."""
        store = store or self.w.store
        recovering = Recovering(store, asks or self.client, self.w.metrics, self.settled_s)
        return LaneWorker(store, self.w.spool, self.client, self.w.metrics, uuid4(), 60, recovering=recovering)

    def clearing(self, **given: Any) -> Clearing:  # noqa: ANN401 (its own)
        """Who deletes records."""
        return Clearing(self.w.store, self.client, self.w.plans, **given)

    async def say(self, operation: Operation, *people: str, account: str = ACCOUNT) -> None:
        """Append events of an operation, each of one customer."""
        events: list[Event] = []
        for person in people:
            address = f"{person}@example.jp"
            cells = {U: (address, f"髙橋 {person}"), D: (address,)}.get(operation, (address, STATE.get(operation, "")))
            event = self.w.event(account, operation, address, await self._said() + len(events))
            events.append(replace(event, line=csvline.record(cells)))
        await self.w.store.append(events)

    async def _said(self) -> int:
        return int(await self.w.connection.fetchval("select count(*) from event"))

    async def go(self, worker: LaneWorker | None = None) -> list[str]:
        """Let all next tries come due, and work until nothing more is to be done now; returns the outcomes."""
        await delays_pass(self.w)
        return [one.outcome for one in await self.w.flush(worker or self.worker(), self.plan)]

    async def batches(self) -> list[tuple[str, int]]:
        """States and refused lines of all batches."""
        rows = await self.w.connection.fetch("select state, rejected from batch order by id")
        return [(row["state"], row["rejected"]) for row in rows]

    async def tried(self) -> list[str]:
        """The outcomes of all uploads in order."""
        return [
            row["outcome"] for row in await self.w.connection.fetch("select outcome from upload order by started_at")
        ]

    async def rejected(self) -> list[tuple[int, str, bool]]:
        """Line, message and whether it is unconfirmed, of all rejections."""
        rows = await self.w.connection.fetch("select line, message, unconfirmed from rejection order by batch_id, line")
        return [tuple(row) for row in rows]

    def recovered(self) -> dict[str, float]:
        """What looks came to, by result."""
        results = ("settled", "none", "doubt", "failed")
        counts = {
            result: self.w.metrics.registry.get_sample_value(
                "relay_recovered_uploads_total", {"vendor": "blastmail", "result": result}
            )
            for result in results
        }
        return {result: count for result, count in counts.items() if count}

    async def person_imports(self, operation: str, header: list[str], *rows: list[str]) -> None:
        """Import a file as somebody at the admin screen would, with a login of their own."""
        given = {"username": "user", "password": "pw", "api_key": "key", "f": "json"}
        async with self.session.post(f"{self.sim.base_url}/authenticate/login", data=given) as response:
            token = (await response.json())["accessToken"]
        body, headers = form([("access_token", token), ("f", "json")], csv(header, *rows), "import")
        url = f"{self.sim.url}{BASE_PATH}/contact/import/{operation}"
        async with self.session.post(url, data=body, headers=headers) as response:
            assert response.status == 200

    async def listed(self) -> list[tuple[str, int]]:
        """The vendor's records: type and count."""
        return [(one.type, one.count) for one in self.sim._offices["user"].records.found({})]  # noqa: SLF001 (to look)


@asynccontextmanager
async def stage(
    database: str,
    directory: Path,
    *accounts: dict[str, Any],
    login: dict[str, Any] | None = None,
    contract: BmeContract = CONTRACT,
    brand: Brand = "blastmail",
) -> AsyncIterator[Stage]:
    """Serve blastmail with one contract, and open a world whose only login is there."""
    sim = BmeSim(contract, brand=brand)
    async with sim.serve(), aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        given = settings(sim.base_url, login or {}, list(accounts) or [{}])
        async with world(database, directory, given) as w, Client(w.metrics, w.spool) as client:
            yield Stage(w, sim, client, session, given)
