"""Replicas with different settings side by side, over HTTP: logins are not burnt, nothing is lost, and it heals."""

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from relay.client import Client
from relay.demo.sim_bme import BmeContract, BmeSim
from relay.demo.sim_haihai import HaihaiContract, HaihaiSim
from relay.events import Operation
from relay.flush import Flusher, LaneWorker, login_plans
from relay.metrics import Metrics
from relay.settings import Settings
from relay.spool import Spool
from relay.status import Sampler
from tests.integration.model import KEYS, World, world
from tests.integration.telling import api_tokens, desk
from tests.integration.test_breaker import Clock

UPSERT, DELETE = Operation.UPSERT, Operation.DELETE
RIGHT, WRONG = "canary-right", "canary-wrong"
LOGIN, ACCOUNT = "login-0", "account-0"
CUSTOMERS = itertools.count()

Sim = BmeSim | HaihaiSim


def made(login: dict[str, Any], *, accounts: int = 1, header: str) -> Settings:
    """Make settings of one login and its accounts, with API tokens."""
    names = [f"account-{n}" for n in range(accounts)]
    account = {"login": LOGIN, "columns": {header: "email"}, "flush_after_s": 0, "flush_opt_outs_after_s": 0}
    settings = Settings.model_validate(
        {
            "sources": {"crm": {"bearer_tokens": ["x" * 20], "accounts": names}},
            "logins": {LOGIN: login},
            "accounts": dict.fromkeys(names, account),
        }
    )
    return settings.model_copy(update={"api": api_tokens()})


def haihai(url: str, password: str, header: str = "メールアドレス") -> Settings:
    """Settings for the simulated 配配メール."""
    login = {"base_url": url, "aid": 1, "login_id": "relay", "transport_password": password, "settle_wait_s": 0}
    return made({"vendor": "haihai", "server": "dedicated", **login}, header=header)


def bme(url: str, password: str, header: str = "E-Mail", *, accounts: int = 1) -> Settings:
    """Settings for the simulated blastmail."""
    login = {"base_url": f"{url}/rest/1.0", "username": "relay", "password": password, "api_key": "canary-key"}
    return made({"vendor": "blastmail", **login}, header=header, accounts=accounts)


@dataclass
class Vendor:
    """A simulated vendor and how to make settings for it."""

    sim: Sim
    url: str
    settings: Callable[[str, str], Settings]

    @property
    def refused(self) -> int:
        """How many logins the vendor has refused."""
        return sum(counts.unauthorized for counts in self.sim.record.counts.values())

    def delivered(self, address: str) -> bool:
        """Whether a customer is on the vendor's list."""
        return any(reader.address == address for _, _, readers in self.sim.lists() for reader in readers.everyone())


@pytest.fixture(params=["haihai", "blastmail"])
async def vendor(request: pytest.FixtureRequest) -> AsyncIterator[Vendor]:
    """Serve a vendor with one contract, whose password is `RIGHT`."""
    sim: Sim
    if request.param == "haihai":
        sim = HaihaiSim(HaihaiContract(1, "relay", RIGHT, calls_per_day=None))
        async with sim.serve() as url:
            yield Vendor(sim, url, haihai)
    else:
        sim = BmeSim(BmeContract("relay", RIGHT, "canary-key"))
        async with sim.serve() as url:
            yield Vendor(sim, url, bme)


@dataclass
class Replica:
    """A process of relay with its own settings."""

    w: World
    flusher: Flusher
    settings: Settings
    metrics: Metrics
    clock: Clock

    async def round(self) -> str:
        """Do one round a minute after the last one; return what the login's upload came to."""
        self.clock.now += 61
        return "".join(worked.outcome for worked in (await self.flusher.flush_once()).worked.values())


@dataclass
class Here:
    """A database with replicas on it."""

    w: World
    stack: AsyncExitStack
    directory: Path
    said: list[str] = field(default_factory=list)

    async def start(self, settings: Settings) -> Replica:
        """Start a process."""
        metrics, clock = Metrics(), Clock()
        spool = Spool(self.directory / str(uuid4()))
        spool.directory.mkdir(parents=True)
        client = await self.stack.enter_async_context(Client(metrics, spool, token_clock=clock, host_clock=clock))
        worker = LaneWorker(self.w.store, spool, client, metrics, uuid4(), 60, may_try=client.may_try)
        flusher = Flusher(worker, login_plans(settings, KEYS), round_s=0.02, uploads_max=16, grace_s=5)
        return Replica(self.w, flusher, settings, metrics, clock)

    async def say(self, account: str = ACCOUNT, operation: Operation = UPSERT) -> str:
        """Append an event of a new customer."""
        address = f"c{next(CUSTOMERS)}@example.jp"
        event = self.w.event(account, operation, address, 0)
        await self.w.store.append([event])
        self.said.append(address)
        return event.message_id

    async def minute(self) -> None:
        """Let rests and delays pass, but no wait that is there for refused logins."""
        await self.w.connection_execute("update cursor set not_before = '-infinity'")
        await self.w.connection_execute(
            "update lane set not_before = '-infinity' where wait_reason <> 'logins_refused'"
        )

    async def hour(self) -> None:
        """Let an hour pass for the lane."""
        await self.w.connection_execute(
            "update lane set not_before = not_before - interval '1 hour 1 s',"
            " refused_at = refused_at - interval '1 hour 1 s',"
            " refused_logins = array(select moment - interval '1 hour 1 s' from unnest(refused_logins) moment)"
        )


@asynccontextmanager
async def here(url: str, directory: Path, settings: Settings) -> AsyncIterator[Here]:
    """Open a world without a replica."""
    async with world(url, directory, settings) as w, AsyncExitStack() as stack:
        yield Here(w, stack, directory)


# -- rollouts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("passwords", [(WRONG, RIGHT), (RIGHT, WRONG)], ids=["old wrong", "new wrong"])
async def test_a_rollout_burns_one_login(
    database: str, tmp_path: Path, vendor: Vendor, passwords: tuple[str, str]
) -> None:
    """However long both run: the wrong one fails once, then leaves the lane to the other, and everything goes up."""
    old, new = (vendor.settings(vendor.url, password) for password in passwords)
    async with here(database, tmp_path, old) as h:
        replicas = [await h.start(old)]
        for number in range(12):
            await h.say()
            if number == 3:
                replicas.append(await h.start(new))
            for replica in replicas if number % 2 else replicas[::-1]:
                await replica.round()
                await h.minute()
        assert vendor.refused == 1
        for replica in replicas:
            await replica.round()
        await vendor.sim.settled()
        assert [address for address in h.said if not vendor.delivered(address)] == []
        rows = await h.w.connection_fetch("select pause_reason, cardinality(refused_fingerprints) as out from lane")
        assert [tuple(row) for row in rows] == [(None, 1)]


async def test_three_settings_burn_one_login_for_each_wrong_one(database: str, tmp_path: Path, vendor: Vendor) -> None:
    """The failure of one and the success of another do not make the third one try again."""
    settings = [vendor.settings(vendor.url, password) for password in (WRONG, "canary-other", RIGHT)]
    async with here(database, tmp_path, settings[0]) as h:
        replicas = [await h.start(one) for one in settings]
        for turn in range(9):
            await h.say()
            for replica in (*replicas[turn % 3 :], *replicas[: turn % 3]):
                await replica.round()
                await h.minute()
        assert vendor.refused == 2


async def test_a_rollback_heals_by_itself(database: str, tmp_path: Path, vendor: Vendor) -> None:
    """The settings that were refused are the right ones after all: within an hour they work again, without a word."""
    wrong, right = (vendor.settings(vendor.url, password) for password in (WRONG, RIGHT))
    async with here(database, tmp_path, wrong) as h:
        old, new = await h.start(wrong), await h.start(right)
        await h.say()
        for replica in (old, new):
            await replica.round()
            await h.minute()
        await h.say()
        assert await old.round() == "", "it leaves the lane to the others, though these are gone"
        await h.hour()
        outcomes = [await (await h.start(right)).round(), await old.round()]
        assert outcomes[0] in ("delivered", "accepted")
        await h.say()
        assert await old.round() == "unauthorized", "it may try again: once"
        await h.minute()
        assert await old.round() == ""
    assert vendor.refused == 2


async def test_the_replica_that_stays_out_says_so(database: str, tmp_path: Path, vendor: Vendor) -> None:
    """In `GET /v1/logins`, in the why of a webhook and in its metrics; the other says nothing. Resume lets it in."""
    wrong, right = (vendor.settings(vendor.url, password) for password in (WRONG, RIGHT))
    async with here(database, tmp_path / "replicas", wrong) as h:
        for settings in (wrong, right):
            await h.say()
            await (await h.start(settings)).round()
            await h.minute()
        message = await h.say()
    async with desk(database, tmp_path, wrong) as d:
        [told] = (await d.get("/v1/logins"))["logins"]
        assert told["paused"] is None
        assert 3500 < told["refused_settings"]["seconds"] <= 3600
        assert told["refused_settings"]["data_only"] is False
        [event] = (await d.get(f"/v1/webhooks/crm/{message}"))["events"]
        assert event["why"].startswith("its login is left to replicas with other settings")
        fingerprints = {LOGIN: d.plan.fingerprint}
        await Sampler(d.w.store, wrong, d.w.metrics, fingerprints=fingerprints).sample_once()
        assert d.w.metrics.registry.get_sample_value("relay_settings_refused", {"login": LOGIN}) == 1
    async with desk(database, tmp_path, right) as d:
        [told] = (await d.get("/v1/logins"))["logins"]
        assert told["refused_settings"] is None
        [event] = (await d.get(f"/v1/webhooks/crm/{message}"))["events"]
        assert event["why"] == "is due, and is cut next"
        await Sampler(d.w.store, right, d.w.metrics, fingerprints={LOGIN: d.plan.fingerprint}).sample_once()
        assert d.w.metrics.registry.get_sample_value("relay_settings_refused", {"login": LOGIN}) == 0
        await d.told("POST", f"/v1/logins/{LOGIN}/resume")
    async with desk(database, tmp_path, wrong) as d:
        assert (await d.get("/v1/logins"))["logins"][0]["refused_settings"] is None


async def test_the_replica_whose_data_stays_out_says_so(database: str, tmp_path: Path, vendor: Vendor) -> None:
    """Its data is left to others, and the answer names it; its opt-outs are not, and go on."""
    settings = vendor.settings(vendor.url, RIGHT)
    async with here(database, tmp_path / "replicas", settings) as h:
        await h.start(settings)
        upsert, stop = await h.say(), await h.say(operation=Operation.STOP)
    async with desk(database, tmp_path, settings) as d:
        await d.w.connection_execute(
            "update lane set refused_fingerprints = array['data:' || $1::text], refused_at = now()", d.plan.fingerprint
        )
        [told] = (await d.get("/v1/logins"))["logins"]
        assert told["paused"] is None
        assert told["refused_settings"]["data_only"] is True
        assert 3500 < told["refused_settings"]["seconds"] <= 3600
        [event] = (await d.get(f"/v1/webhooks/crm/{upsert}"))["events"]
        assert event["why"].startswith("its login's data is left to replicas with other settings")
        [event] = (await d.get(f"/v1/webhooks/crm/{stop}"))["events"]
        assert event["why"] == "is due, and is cut next"
        told = await d.told("POST", f"/v1/accounts/{ACCOUNT}/preview", {}, "reader")
        in_s = {one["operation"]: one["files"][0]["in_s"] for one in told["operations"] if one["files"]}
        assert in_s["stop"] < 3500 < in_s["upsert"] <= 3600
        await Sampler(d.w.store, settings, d.w.metrics, fingerprints={LOGIN: d.plan.fingerprint}).sample_once()
        assert d.w.metrics.registry.get_sample_value("relay_settings_refused", {"login": LOGIN}) == 1


# -- loops that could lock a contract --------------------------------------------------------------------------------


async def test_resuming_again_and_again_locks_nothing(database: str, tmp_path: Path, vendor: Vendor) -> None:
    """After five refusals within an hour the lane waits, and the answer of resume says so."""
    wrong = vendor.settings(vendor.url, WRONG)
    async with here(database, tmp_path / "replica", wrong) as h, desk(database, tmp_path, wrong) as d:
        replica = await h.start(wrong)
        message, told = await h.say(), {}
        for _ in range(12):
            await h.minute()
            told = await d.told("POST", f"/v1/logins/{LOGIN}/resume")
            assert told["paused"] is None
            await replica.round()
        assert vendor.refused == 5
        assert told["waits"]["reason"] == "logins_refused"
        assert 3500 < told["waits"]["seconds"] <= 3600
        assert told["refused_logins"] == {"last_hour": 5, "per_hour_max": 5}
        [event] = (await d.get(f"/v1/webhooks/crm/{message}"))["events"]
        assert "the vendor has refused the login too often: nobody logs in before " in event["why"]
        assert (await d.batches())[-1]["state"] == "waiting"
        attempts = await h.w.connection_fetch("select sum(attempts) as n from cursor")
        assert attempts[0]["n"] == 0, "nothing is burnt"
        await h.hour()
        assert await (await h.start(vendor.settings(vendor.url, RIGHT))).round() in ("delivered", "accepted")
        [told] = (await d.get("/v1/logins"))["logins"]
        assert told["refused_logins"] == {"last_hour": 0, "per_hour_max": 5}


async def test_ever_other_wrong_settings_lock_nothing(database: str, tmp_path: Path, vendor: Vendor) -> None:
    """Each has a fingerprint of its own and may try, until there were five of them in the hour, in all replicas."""
    async with here(database, tmp_path, vendor.settings(vendor.url, WRONG)) as h:
        await h.say()
        for number in range(10):
            await (await h.start(vendor.settings(vendor.url, f"canary-typo-{number}"))).round()
            await h.minute()
        assert vendor.refused == 5


async def test_a_crash_loop_locks_nothing(database: str, tmp_path: Path, vendor: Vendor) -> None:
    """A process that starts again and again remembers nothing, Postgres does: it logs in once."""
    async with here(database, tmp_path, vendor.settings(vendor.url, WRONG)) as h:
        await h.say()
        for _ in range(10):
            await (await h.start(vendor.settings(vendor.url, WRONG))).round()
            await h.minute()
        assert vendor.refused == 1


async def test_many_cursors_of_a_login_that_fails_share_its_rest(database: str, tmp_path: Path) -> None:
    """Each of twenty operations would try to log in by itself; one call is made for each rest, and the others wait."""
    sim = BmeSim(BmeContract("relay", RIGHT, "canary-key"))
    async with sim.serve() as url:
        settings = bme(url, RIGHT, accounts=10)
        async with here(database, tmp_path, settings) as h:
            for account, operation in itertools.product(settings.accounts, (UPSERT, DELETE)):
                await h.say(account, operation)
            sim.faults.add(fault="status", status=408, on="login", times=None)
            replica = await h.start(settings)
            for _ in range(30):
                await replica.flusher.flush_once()  # at the same moment
            (row,) = await h.w.connection_fetch(
                "select count(*) as uploads, (select sum(attempts) from cursor) as attempts,"
                " (select count(*) from batch) as batches from upload"
            )
            assert tuple(row) == (1, 1, 1), "nothing is cut or tried meanwhile"
            failed = {"vendor": "blastmail", "result": "failed"}
            assert replica.metrics.registry.get_sample_value("relay_logins_total", failed) == 1
            sim.faults.disarm()
            for _ in range(30):
                await replica.round()
                await h.minute()
            waiting = await h.w.connection_fetch("select from batch where state <> 'delivered'")
            assert waiting == []
