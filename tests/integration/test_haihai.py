"""配配メール as a whole: relay's own client, lanes and Postgres against a server that imports as the vendor."""

import json
import random
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import pytest

from relay.batches import Accepted, Misconfigured, Outcome, Quota, Unauthorized, Unknown
from relay.client import Client
from relay.demo.run import SETTLED_WITHIN_S
from relay.demo.sim_haihai import CODES, HaihaiContract, HaihaiSim
from relay.events import Operation
from relay.flush import LaneWorker, login_plans
from relay.metrics import Metrics
from relay.settings import Settings
from relay.spool import Spool
from relay.status import Sampler
from tests.integration.faults import delays_pass, flusher, running
from tests.integration.loopback import Connection, serving
from tests.integration.model import KEYS, World
from tests.integration.telling import Desk, Json, api_tokens, desk
from tests.integration.test_client import job, spooled
from tests.unit.vendors.made import HAIHAI_CODES, haihai_login
from tests.waiting import until

U, D, S, A, B = Operation.UPSERT, Operation.DELETE, Operation.STOP, Operation.ALLOW, Operation.BAN
ROOT = Path(__file__).parents[2]
PASSWORD = "canary-transport"

MEANING: Mapping[str, type[Outcome]] = {
    "81401": Unauthorized,
    "81402": Unauthorized,
    "81404": Quota,
    **dict.fromkeys([code for code in HAIHAI_CODES if code[3] in "23"], Misconfigured),
}
"""All codes of the document, and the one for a day without calls."""


# -- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "cp932"])
@pytest.mark.parametrize("status", [200, 400, 401, 500])
async def test_every_code_means_the_same_with_every_status(tmp_path: Path, status: int, encoding: str) -> None:
    """Which status comes with which code, and in what encoding, is documented nowhere: the code counts, over HTTP."""
    messages = {**HAIHAI_CODES, "81404": "too many calls 本日の呼び出し回数の上限を超えました。"}
    left = list(MEANING)

    async def answer(connection: Connection) -> None:
        await connection.read()
        code = left.pop(0)
        body = f"<html>{code} {messages[code]}</html>".encode(encoding)
        await connection.answer(status, body, f"Content-Type: text/html; charset={encoding}")

    spool, metrics = Spool(tmp_path), Metrics()
    file = await spooled(spool)
    async with serving(answer) as server, Client(metrics, spool) as client:
        login = haihai_login(base_url=server.url)
        for code, meaning in MEANING.items():
            uploaded = await client.upload(job(file, login))
            assert isinstance(uploaded.outcome, meaning), (code, uploaded)
            assert code in uploaded.outcome.reason
            assert (uploaded.http_status, code in uploaded.excerpt) == (status, True)


@pytest.mark.parametrize("encoding", ["utf-8", "cp932"])
@pytest.mark.parametrize(
    ("status", "meaning"), [(200, Accepted), (400, Misconfigured), (401, Unauthorized), (500, Unknown)]
)
async def test_without_a_code_the_status_counts(
    tmp_path: Path, status: int, meaning: type[Outcome], encoding: str
) -> None:
    """A 200 took the file and tells no more; a 500 leaves open what arrived, as the body had been sent."""

    async def answer(connection: Connection) -> None:
        await connection.read()
        await connection.answer(status, "受け付けました".encode(encoding))

    spool = Spool(tmp_path)
    file = await spooled(spool)
    async with serving(answer) as server, Client(Metrics(), spool) as client:
        uploaded = await client.upload(job(file, haihai_login(base_url=server.url)))
    assert isinstance(uploaded.outcome, meaning)


# -- a contract ------------------------------------------------------------------------------------------------------


def settings_for(url: str, accounts: Mapping[str, Mapping[str, object]] | None = None, **login: object) -> Settings:
    """Settings of one login at a simulated contract; each account has one column and sends at once."""
    given = {
        "vendor": "haihai",
        "base_url": url,
        "aid": 1,
        "login_id": "relay",
        "transport_password": PASSWORD,
        "settle_wait_s": 0,
        "calls_per_day_limit": 10_000_000,
    }
    own = {"login": "login-0", "columns": {"メールアドレス": "email"}, "flush_after_s": 0, "flush_opt_outs_after_s": 0}
    named = accounts or {"account-0": {}}
    made = Settings.model_validate(
        {
            "sources": {"crm": {"bearer_tokens": ["x" * 20], "accounts": list(named)}},
            "logins": {"login-0": {**given, **login}},
            "accounts": {name: {**own, **account} for name, account in named.items()},
        }
    )
    return made.model_copy(update={"api": api_tokens()})


@dataclass
class Contract:
    """A world over a simulated contract, and a replica that works it through the real client."""

    d: Desk
    sim: HaihaiSim
    worker: LaneWorker

    @property
    def w(self) -> World:
        """The world."""
        return self.d.w

    async def say(self, operation: Operation, *who: str, account: str = "account-0") -> None:
        """Append words about customers, each later than all before."""
        said = await self.w.connection.fetchval("select count(*) from event")
        await self.w.store.append(
            [self.w.event(account, operation, f"{name}@example.jp", said + n) for n, name in enumerate(who)]
        )

    async def flush(self) -> list[str]:
        """Work until nothing more is due; returns what the uploads came to."""
        await delays_pass(self.w)
        done = await self.w.flush(self.worker, self.w.plans["login-0"])
        return [worked.outcome for worked in done if worked.outcome]

    async def mailable(self, list_name: str = "") -> set[str]:
        """Who would be mailed, once all files have been imported."""
        await self.sim.settled()
        found = self.sim.readers(1, list_name)
        return {address.partition("@")[0] for address, reader in found.items() if reader.mailable}


CONTRACT = HaihaiContract(1, "relay", PASSWORD, columns=(), calls_per_day=None)


@asynccontextmanager
async def contract(database: str, directory: Path, sim: HaihaiSim, **settings: object) -> AsyncIterator[Contract]:
    """Open a world over a simulated contract."""
    async with sim.serve() as url:
        made = settings_for(url, **settings)  # type: ignore[arg-type]
        async with desk(database, directory, made) as d, Client(d.w.metrics, d.w.spool) as client:
            yield Contract(d, sim, LaneWorker(d.w.store, d.w.spool, client, d.w.metrics, uuid4(), 60))


WRONG: Mapping[str, tuple[Mapping[str, object], Mapping[str, object], Mapping[str, object]]] = {
    # what is wrong: in the contract, the login, the account
    "81401": ({}, {"transport_password": "another"}, {}),
    "81402": ({"allowed_ips": frozenset({"192.0.2.1"})}, {}, {}),
    "81423": ({}, {"password_field": "transport_password"}, {}),
    "81435": ({}, {}, {"group_id": 8}),
}


@pytest.mark.parametrize("code", sorted(MEANING))
async def test_every_code_from_the_vendor_s_door(database: str, tmp_path: Path, code: str) -> None:
    """What is wrong is told in the vendor's code; the lane pauses or waits, nothing is burnt, and nothing is lost."""
    changed, login, account = WRONG.get(code, ({}, {}, {}))
    sim = HaihaiSim(HaihaiContract(1, "relay", PASSWORD, columns=(), **changed), reply_encoding="cp932")  # type: ignore[arg-type]
    if code not in WRONG:
        sim.faults.add(fault="code", code=int(code))
    async with contract(database, tmp_path, sim, accounts={"account-0": account}, **login) as c:
        await c.say(S, "a")
        wanted = {Unauthorized: "unauthorized", Misconfigured: "misconfigured", Quota: "quota"}[MEANING[code]]
        assert await c.flush() == [wanted]
        row = await c.w.connection.fetchrow(
            "select paused_at is not null as paused, pause_reason, not_before > now() as waits from lane"
        )
        assert tuple(row or ()) == ((False, None, True) if wanted == "quota" else (True, wanted, True))
        [upload] = await c.w.connection.fetch("select http_status, reason, reply_excerpt from upload")
        assert upload["http_status"] == CODES[int(code)][0]
        assert code in upload["reason"]
        assert await c.w.connection.fetchval("select max(attempts) from cursor") == 0
        [event] = (await c.d.get("/v1/webhooks/crm/msg_1"))["events"]
        assert event["state"] == "waiting"
        assert (code in event["why"]) == (wanted != "quota")
        assert PASSWORD not in json.dumps([event, await c.d.get("/v1/logins"), await c.d.get("/v1/batches")])


async def test_a_group_that_is_not_there_heals_with_the_settings(database: str, tmp_path: Path) -> None:
    """81435 pauses the login; on a replica with the right gid it goes on by itself, and everything arrives."""
    sim = HaihaiSim(HaihaiContract(1, "relay", PASSWORD, columns=(), groups=frozenset({7})))
    async with contract(database, tmp_path, sim, accounts={"account-0": {"group_id": 8}}) as c:
        await c.say(U, "a", "b")
        assert await c.flush() == ["misconfigured"]
        assert await c.flush() == [], "not on these settings"
        right = settings_for(c.w.plans["login-0"].login.base_url, {"account-0": {"group_id": 7}})
        c.w.plans = login_plans(right, KEYS)
        assert await c.flush() == ["accepted"]
        assert await c.mailable("gid:7") == {"a", "b"}
        assert await c.mailable() == set()


async def test_accounts_of_one_login_have_groups_and_step_plans_of_their_own(database: str, tmp_path: Path) -> None:
    """Two groups and a step plan under one login: each operation reaches its own list and no other."""
    sim = HaihaiSim(
        HaihaiContract(1, "relay", PASSWORD, columns=(), groups=frozenset({1, 2}), step_plans=frozenset({9}))
    )
    accounts = {"one": {"group_id": 1}, "two": {"group_id": 2}, "steps": {"step_plan_id": 9}, "all": {}}
    async with contract(database, tmp_path, sim, accounts=accounts) as c:
        for account in accounts:
            await c.say(U, "a", "b", "c", "d", account=account)
        await c.flush()
        await c.say(D, "a", account="one")
        await c.say(S, "b", account="two")
        await c.say(B, "c", account="steps")
        assert set(await c.flush()) == {"accepted"}
        assert await c.mailable("gid:1") == {"b", "c", "d"}
        assert await c.mailable("gid:2") == {"a", "c", "d"}
        assert await c.mailable("spid:9") == {"a", "b", "d"}
        assert await c.mailable() == {"a", "b", "c", "d"}
        await c.say(A, "b", account="two")
        await c.flush()
        assert await c.mailable("gid:2") == {"a", "b", "c", "d"}


@pytest.mark.parametrize("report_option", [0, 1, 2])
async def test_the_report_mail_is_asked_for_as_set(tmp_path: Path, report_option: int) -> None:
    """0 none, 1 always, 2 on errors: the part says so with every operation."""

    async def accept(connection: Connection) -> None:
        await connection.read()
        await connection.answer(200, "OK")

    spool = Spool(tmp_path)
    file = await spooled(spool)
    async with serving(accept) as server, Client(Metrics(), spool) as client:
        for operation in Operation:
            await client.upload(job(file, haihai_login(base_url=server.url, report_option=report_option), operation))
    assert {connection.fields["report_option"] for connection in server.heard} == {str(report_option)}


async def test_a_column_that_the_vendor_does_not_know_is_left_out_silently(database: str, tmp_path: Path) -> None:
    """The file is accepted, only the report mail tells: relay cannot see it, and says no more than `accepted`."""
    sim = HaihaiSim(CONTRACT)
    columns = {"メールアドレス": "email", "会員種別": "plan"}
    async with contract(database, tmp_path, sim, accounts={"account-0": {"columns": columns}}) as c:
        event = c.w.event("account-0", U, "a@example.jp", 0)
        await c.w.store.append([replace(event, line=b'"a@example.jp","gold"\r\n')])
        assert await c.flush() == ["accepted"]
        assert await c.mailable() == {"a"}
        [report] = sim.reports
        assert (report.success, report.failure, report.ignored) == (1, 0, ("会員種別",))


# -- imported late, and in another order -----------------------------------------------------------------------------

DELAY_S = 0.5
"""The longest delay of an import; relay is told to wait a little longer between files."""


def overtaking_seed() -> int:
    """A seed with which the first file is imported late and the second at once."""

    def delays(seed: int) -> Iterator[float]:
        drawn = random.Random(seed)
        while True:
            yield drawn.uniform(0, DELAY_S)

    def fits(seed: int) -> bool:
        late, soon = (delay for delay, _ in zip(delays(seed), range(2), strict=False))
        return late > 0.9 * DELAY_S and soon < 0.05 * DELAY_S

    return next(seed for seed in range(100_000) if fits(seed))


@pytest.mark.parametrize(("settle_wait_s", "subscribed"), [(0.0, {"a"}), (DELAY_S + 0.1, set[str]())])
async def test_files_cannot_overtake_each_other(
    database: str, tmp_path: Path, settle_wait_s: float, subscribed: set[str]
) -> None:
    """A customer is created and deleted in two files. Without a wait the vendor imports the deletion first."""
    late = HaihaiContract(1, "relay", PASSWORD, columns=(), calls_per_day=None, import_delay_s=(0.0, DELAY_S))
    sim = HaihaiSim(late, seed=overtaking_seed())
    async with contract(database, tmp_path, sim, settle_wait_s=settle_wait_s) as c, running(flusher(c.w, c.worker)):
        await c.say(U, "a")
        await until(lambda: sim.record.of("1").applied == 1)
        await c.say(D, "a")
        await until(lambda: sim.record.of("1").applied == 2)
        assert await c.mailable() == subscribed
        order = [report.operation for report in sim.reports]
    assert order == (["delete", "register"] if subscribed else ["register", "delete"])


# -- accepted is not delivered ---------------------------------------------------------------------------------------


def words_in(told: Json) -> Iterator[str]:
    """All texts of an answer, its keys left out: a key may be a state's name with a count of nought."""
    match told:
        case dict():
            for value in told.values():
                yield from words_in(value)
        case list():
            for value in told:
                yield from words_in(value)
        case str():
            yield told


async def test_accepted_is_nowhere_told_as_delivered(database: str, tmp_path: Path) -> None:
    """No answer, no metric: neither a count nor a word says more than that the vendor took the files."""
    sim = HaihaiSim(CONTRACT)
    async with contract(database, tmp_path, sim) as c:
        await c.say(U, "a", "b")
        await c.say(S, "c")
        await c.say(D, "d")
        assert await c.flush() == ["accepted"] * 3
        await c.say(A, "c")
        await c.flush()
        batches = (await c.d.get("/v1/batches"))["batches"]
        assert {batch["state"] for batch in batches} == {"accepted"}
        paths = ["/v1/batches", "/v1/accounts", "/v1/logins", "/v1/unresolved"]
        paths += [f"/v1/batches/{batch['id']}{more}" for batch in batches for more in ("", "/rejections")]
        paths += [f"/v1/webhooks/crm/msg_{number}" for number in range(1, 6)]
        answers = {path: await c.d.get(path) for path in paths}
        for name in "abcd":
            body = {"email": f"{name}@example.jp"}
            answers[f"search {name}"] = await c.d.told("POST", "/v1/customers/search", body)
        answers["report"] = await c.d.told(
            "PUT", f"/v1/batches/{batches[0]['id']}/report", {"success": 1, "failure": 0}
        )
        answers["after the report"] = await c.d.get(f"/v1/batches/{batches[0]['id']}")
        for path, told in answers.items():
            assert [word for word in words_in(told) if re.search("deliver|confirmed", word, re.IGNORECASE)] == [], path
        events = [event for told in answers.values() for event in told.get("events", ())]
        assert len(events) >= 10
        assert {event["state"] for event in events} == {"accepted"}
        assert {event["why"] for event in events} == {
            "the vendor took the file and does not tell what became of its lines"
        }
        proofs = [event["proof"] for event in events if event["proof"]]
        assert {(proof["result"], proof["confirmed_at"]) for proof in proofs} == {("accepted", None)}
        standings = [standing for told in answers.values() for standing in told.get("standings", ())]
        assert len(standings) == 4
        assert {standing["confirmed_at"] for standing in standings} == {None}
        assert all("the vendor took the file" in standing["why"] for standing in standings)
        await Sampler(c.w.store, c.d.settings, c.w.metrics).sample_once()
        families = c.w.metrics.registry.collect()
        samples = [sample for family in families for sample in family.samples if sample.name.endswith("_total")]
        counted = {
            word: sum(sample.value for sample in samples if word in sample.labels.values())
            for word in ("delivered", "accepted")
        }
        assert counted["delivered"] == 0
        assert counted["accepted"] == 2 * len(batches), "once as a state, once as an outcome"


def test_what_people_read_calls_accepted_no_delivery() -> None:
    """README says what `accepted` is, and nothing that relay prints in a demo calls everything delivered."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "配配メール confirms nothing, so its batches end as `accepted`" in readme
    assert "accepted    (配配メール took the file and tells no more)" in readme
    told = [line for line in readme.splitlines() if "accepted" in line and "deliver" in line]
    allowed = (
        "| `delivered` / `accepted` |",
        "relay_oldest_unsettled_seconds",
        "is `Accepted`, not `Delivered`",
        "reported as delivered",
        "settled (delivered, accepted,",  # and where they are told side by side
        "lines delivered, accepted and rejected",
        "![Received, delivered, accepted and rejected",
        "only accepted is never counted as delivered",
    )
    assert [line for line in told if not any(words in line for words in allowed)] == []
    demo = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "relay" / "demo").glob("*.py"))
    printed = [line for line in demo.splitlines() if "print(" in line or "add_column" in line or "title=" in line]
    assert len(printed) > 10
    assert [line for line in printed if "deliver" in line.lower()] == []
    assert SETTLED_WITHIN_S > 0
