"""Login calls: however many ask, the vendor is asked once; and after a failure not at once again."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from relay import csvline
from relay.batches import Busy, Delivered, Misconfigured, Outcome, Transient, Unauthorized
from relay.client import Client, UploadJob
from relay.client.tokens import FAILED_REST_MAX_S, FAILED_REST_S, REFUSED_S
from relay.demo.sim_bme import BmeContract, BmeSim
from relay.events import Operation
from relay.metrics import Metrics
from relay.settings import BmeLogin
from relay.spool import Spool, SpoolFile
from relay.vendors import Call, Reply
from tests.integration.test_breaker import Clock
from tests.unit.vendors.made import account, bme_login

STORM = 100


class Caller:
    """A client with a clock of its own for tokens, and a small file."""

    def __init__(self, client: Client, clock: Clock, metrics: Metrics, file: SpoolFile) -> None:
        self.client, self.clock, self.metrics, self.file = client, clock, metrics, file

    async def upload(self, login: BmeLogin) -> Outcome:
        """Upload the file and say what it came to."""
        job = UploadJob(login, account(login), Operation.DELETE, self.file, lambda: 60.0)
        return (await self.client.upload(job)).outcome

    async def storm(self, login: BmeLogin) -> Sequence[Outcome]:
        """Upload as often as a storm does, all at once."""
        return await asyncio.gather(*(self.upload(login) for _ in range(STORM)))

    def logins(self, result: str) -> float | None:
        """How many login calls came to this."""
        labels = {"vendor": "blastmail", "result": result}
        return self.metrics.registry.get_sample_value("relay_logins_total", labels) or 0


@pytest.fixture
async def caller(tmp_path: Path) -> AsyncIterator[Caller]:
    """Give a client."""
    clock, metrics, spool = Clock(), Metrics(), Spool(tmp_path)

    async def lines() -> AsyncIterator[bytes]:
        yield csvline.record(["E-Mail"])
        yield csvline.record(["taro@example.jp"])

    async with Client(metrics, spool, token_clock=clock) as client:
        yield Caller(client, clock, metrics, await spool.write("batch-1.csv", lines(), 1))


@asynccontextmanager
async def vendor() -> AsyncIterator[tuple[BmeSim, BmeLogin]]:
    """Serve a simulated vendor with one contract; give a login for it."""
    sim = BmeSim(BmeContract("relay", "canary-password", "canary-api-key"))
    async with sim.serve():
        yield sim, bme_login(base_url=sim.base_url)


async def test_a_storm_of_uploads_logs_in_once(caller: Caller) -> None:
    """A hundred at once share one token; what the vendor says to each of them is another matter."""
    async with vendor() as (sim, login):
        outcomes = await caller.storm(login)
        counts = sim.record.of("relay")
    assert {type(outcome) for outcome in outcomes} <= {Delivered, Busy}
    assert (counts.logins, counts.unauthorized, counts.uploads) == (1, 0, STORM)


async def test_a_storm_of_uploads_is_refused_once(caller: Caller) -> None:
    """A hundred at once with a wrong password: one call, and all of them know; so does who asks without a file."""
    async with vendor() as (sim, login):
        wrong = login.model_copy(update={"username": "relay", "password": type(login.password)("another")})
        outcomes = await caller.storm(wrong)
        asked = await caller.client.ask(wrong, lambda token: Call("GET", "usage", (("access_token", token or ""),)))
        assert caller.client.may_try(wrong), "a refusal is told to who asks: the lane has to pause"
    counts = sim.record.of("relay")
    assert {type(outcome) for outcome in (*outcomes, asked)} == {Unauthorized}
    assert (counts.logins, counts.unauthorized, counts.uploads) == (0, 1, 0)
    assert caller.logins("refused") == 1


async def test_a_refusal_is_remembered_for_these_settings_and_a_moment(caller: Caller) -> None:
    """Corrected settings log in at once; and who mends it at the vendor and resumes is not told what was before."""
    async with vendor() as (sim, login):
        wrong = login.model_copy(update={"password": type(login.password)("another")})
        counts = sim.record.of("relay")
        assert isinstance(await caller.upload(wrong), Unauthorized)
        assert isinstance(await caller.upload(login), Delivered)
        assert isinstance(await caller.upload(wrong), Unauthorized)
        assert counts.unauthorized == 2, "the good ones took the place of what was remembered"
        caller.clock.now += REFUSED_S - 0.1
        assert isinstance(await caller.upload(wrong), Unauthorized)
        assert counts.unauthorized == 2
        caller.clock.now += 0.2
        assert isinstance(await caller.upload(wrong), Unauthorized)
        assert counts.unauthorized == 3


async def test_a_storm_at_a_vendor_that_fails_makes_one_call(caller: Caller) -> None:
    """One burns its attempt, the others come back as they were."""
    async with vendor() as (sim, login):
        sim.faults.add(fault="status", status=503, on="login", times=None)
        outcomes = await caller.storm(login)
        assert not caller.client.may_try(login), "nothing needs to be cut for it now"
    assert sorted(type(outcome).__name__ for outcome in outcomes) == [*["Busy"] * (STORM - 1), "Transient"]
    assert caller.logins("failed") == 1
    patience = {outcome.retry_after_s for outcome in outcomes if isinstance(outcome, Busy)}
    assert patience == {FAILED_REST_S}


async def test_after_each_failure_the_next_call_waits_longer(caller: Caller) -> None:
    """Twice as long, up to a limit; a login that succeeds begins anew."""
    async with vendor() as (sim, login):
        sim.faults.add(fault="status", status=408, on="login", times=None)  # a failure, and no reason for the breaker
        rest_s, waits = FAILED_REST_S, []
        for calls in range(1, 10):
            assert isinstance(await caller.upload(login), Transient)
            assert caller.logins("failed") == calls
            caller.clock.now += rest_s - 0.01
            assert isinstance(await caller.upload(login), Busy)
            caller.clock.now += 0.02
            waits.append(rest_s)
            rest_s = min(rest_s * 2, FAILED_REST_MAX_S)
        assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
        sim.faults.disarm()
        assert isinstance(await caller.upload(login), Delivered)
        sim.faults.add(fault="status", status=408, on="login")
        caller.clock.now += login.token_lasts_s
        assert isinstance(await caller.upload(login), Transient)
        outcome = await caller.upload(login)
    assert isinstance(outcome, Busy)
    assert outcome.retry_after_s == FAILED_REST_S


async def test_a_wrong_url_is_asked_once(caller: Caller) -> None:
    """A path that the vendor does not know is the settings' fault, and remembered as such."""
    async with vendor() as (sim, login):
        wrong = login.model_copy(update={"base_url": login.base_url + "/typo"})
        outcomes = await caller.storm(wrong)
    assert {type(outcome) for outcome in outcomes} == {Misconfigured}
    assert caller.logins("refused") == 1
    assert sim.record.of("relay").logins == 0


async def test_a_call_without_a_file_shares_the_token(caller: Caller) -> None:
    """A check of columns beside uploads makes no login of its own."""
    async with vendor() as (sim, login):

        def usage(token: str | None) -> Call:
            return Call("GET", "contact/import/usage", (("access_token", token or ""), ("f", "json"), ("type", "1")))

        answers = await asyncio.gather(*(caller.client.ask(login, usage) for _ in range(20)), caller.upload(login))
    assert [type(answer) for answer in answers[:20]] == [Reply] * 20
    assert sim.record.of("relay").logins == 1
