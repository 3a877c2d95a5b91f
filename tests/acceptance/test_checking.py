"""What the vendors know of an account's columns: `relay check --online`, and what the service does with it."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from relay.demo.sim_bme import BmeContract, BmeSim, TemplateStyle
from relay.demo.sim_haihai import HaihaiContract, HaihaiSim
from relay.settings.logins import LOGIN_FAILURES_PER_HOUR_MAX
from tests.acceptance.harness import World
from tests.acceptance.processes import Done, until
from tests.acceptance.settings_file import HEADERS, PASSWORD, account, bme, haihai

NOBODY = "http://127.0.0.1:9"
"""Where nobody listens."""

OTHERS = 24
"""So many more contracts of the same kind blastmail has."""


@dataclass
class Vendors:
    """The three vendors, each with a contract that knows all columns of generated customers."""

    world: World
    blast: BmeSim
    blayn: BmeSim
    hai: HaihaiSim

    def logins(self, **more: Mapping[str, object]) -> dict[str, Any]:
        """Make the settings of their logins, and of more."""
        return {
            "blast": bme(self.blast.base_url, "user"),
            "blayn": {**bme(self.blayn.base_url, "user"), "vendor": "blaynmail"},
            "hai": haihai(self.hai.url, 1),
            **more,
        }

    def accounts(self, **more: Mapping[str, object]) -> dict[str, Any]:
        """Make the settings of one account each, and of more."""
        return {
            "news": account("blast"),
            "shop": account("blayn"),
            "letter": account("hai", "メールアドレス"),
            **more,
        }

    async def check(self, *options: str, env: Mapping[str, str] | None = None) -> Done:
        """Run `relay check --online`."""
        return await self.world.command("check", "--online", *options, env=env)

    async def told(self, *options: str) -> tuple[int, dict[str, Any]]:
        """Run it with `--json`; return the exit code and what is told of each account."""
        done = await self.check("--offline", "--json", *options)
        told = json.loads(done.out)
        assert told["good"] == (done.code == 0)
        return done.code, {one["account"]: one for one in told["accounts"]}


@asynccontextmanager
async def vendors(world: World) -> AsyncIterator[Vendors]:
    """Serve them."""
    columns = tuple(HEADERS)
    blast = BmeContract("user", PASSWORD, PASSWORD, columns=columns)
    style = TemplateStyle("utf-8-sig", quoted=False, line_end="\n", samples=2)
    blayn = BmeContract("user", PASSWORD, PASSWORD, columns=(*columns, "性別"), template=style)
    made = Vendors(
        world,
        BmeSim(blast, *(replace(blast, username=f"user-{number}") for number in range(OTHERS))),
        BmeSim(blayn, brand="blaynmail"),
        HaihaiSim(HaihaiContract(1, "user", PASSWORD, columns=("メールアドレス", *columns))),
    )
    async with AsyncExitStack() as stack:
        for sim in (made.blast, made.blayn, made.hai):
            await stack.enter_async_context(sim.serve())
        yield made


def rows_of(out: str) -> dict[str, list[str]]:
    """The table's cells by account, their line ends apart."""
    lines = out.splitlines()
    begin = next(place for place, line in enumerate(lines) if line.startswith("account"))
    cells = [[cell.strip() for cell in line.split("   ") if cell.strip()] for line in lines[begin + 2 :]]
    return {row[0]: row[1:] for row in cells if len(row) > 5}


async def test_all_is_good(world: World) -> None:
    """A table for people: every column known, however a template is written; exit code 0, and one login each."""
    async with vendors(world) as v:
        world.write_settings(v.logins(), v.accounts())
        done = await v.check()
        assert done.code == 0, done
        assert rows_of(done.out) == {
            "news": ["blast", "blastmail", "yes", "yes", "6/6", "-", "-", "エラーカウント", "Shift_JIS"],
            "shop": ["blayn", "blaynmail", "yes", "yes", "6/6", "-", "-", "エラーカウント, 性別", "UTF-8"],
            "letter": ["hai", "haihai", "yes", "-", "-", "-", "-", "-", "-"],
        }
        assert "database: schema and secret fit" in done.out
        assert "letter: the vendor tells no columns, and may ignore one that it does not know, silently" in done.out
        assert "letter: 100,000 calls a day, 0 made today; files up to 10,000,000 bytes" in done.out
        assert v.blast.record.of("user").logins == v.blayn.record.of("user").logins == 1
        assert v.hai.record.of("1").calls == 0
        assert not v.blast.record.uploads


async def test_what_is_wrong_is_told_for_each_account(world: World) -> None:
    """Unknown columns with what was meant, a column that opt-outs need, a wrong password, nobody there: exit code 1."""
    async with vendors(world) as v:
        columns: dict[str, object] = {"E-Mail": "email", "氏名 ": "name", "血液型": "blood"}
        logins = v.logins(
            wrong=bme(v.blast.base_url, "user-0", password="another one"),
            state=bme(v.blast.base_url, "user-1", status_header="配信状態"),
            gone=bme(NOBODY, "user"),
            tls=bme(v.blast.base_url.replace("http:", "https:"), "user"),
        )
        more = {name: account(name) for name in ("wrong", "state", "gone", "tls")}
        world.write_settings(logins, v.accounts(old=account("blast", columns=columns), **more))
        code, told = await v.told()
        assert code == 1
        check = {name: one["check"] for name, one in told.items()}
        results = {name: (one["result"], one["reachable"], one["login_good"]) for name, one in check.items()}
        assert results == {
            "news": ("good", True, True),
            "shop": ("good", True, True),
            "letter": ("none", True, None),
            "old": ("columns", True, True),
            "wrong": ("unauthorized", True, False),
            "state": ("columns", True, True),
            "gone": ("failed", False, None),
            "tls": ("failed", False, None),
        }
        assert (check["old"]["unknown"], check["old"]["meant"]) == (["氏名 ", "血液型"], {"氏名 ": "氏名"})
        assert check["old"]["not_mapped"] == ["エラーカウント", *HEADERS]
        assert (check["state"]["missing"], check["state"]["required"]) == (["配信状態"], ["E-Mail", "配信状態"])
        assert check["wrong"]["detail"].startswith("login: HTTP 401")
        assert check["tls"]["detail"] == "127.0.0.1 cannot be reached: SSLError"
        done = await v.check("--offline")
        assert done.code == 1
        assert 'old: the vendor has no column "氏名 " (did you mean "氏名"?), "血液型"' in done.out
        assert "gone: 127.0.0.1 cannot be reached: ConnectionRefusedError ECONNREFUSED" in done.out
        assert v.blast.record.of("user-0").unauthorized == 2, "one try in each of two runs"
        assert PASSWORD not in done.out + done.err
        assert "another one" not in done.out + done.err


async def test_a_probe_costs_a_call_and_imports_nothing(world: World) -> None:
    """配配メール tells only by a call of its day whether a login is good; without `--probe` nobody asks."""
    async with vendors(world) as v:
        world.write_settings(
            v.logins(other=haihai(v.hai.url, 1, login_id="nobody")), v.accounts(other=account("other"))
        )
        code, told = await v.told()
        assert (code, told["letter"]["check"]["login_good"], told["other"]["check"]["login_good"]) == (0, None, None)
        assert not v.hai.record.uploads
        code, told = await v.told("--probe")
        assert (code, told["letter"]["check"]["login_good"]) == (1, True)
        other = told["other"]["check"]
        assert (other["result"], other["login_good"], other["detail"][:5]) == ("unauthorized", False, "81401")
        counts = v.hai.record.of("1")
        assert (counts.calls, counts.applied, counts.unauthorized) == (1, 0, 1)
        assert v.hai.pending_imports() == 0


async def test_a_probe_that_tells_nothing_is_not_good(world: World) -> None:
    """With `--probe` an answer that leaves it open is exit code 1: who asks wants to know."""
    sim = HaihaiSim(HaihaiContract(1, "user", PASSWORD, calls_per_day=0))
    async with sim.serve():
        world.write_settings({"hai": haihai(sim.url, 1)}, {"letter": account("hai", "メールアドレス")})
        done = await world.command("check", "--online", "--offline", "--probe")
        assert done.code == 1
        assert "letter: 81404: the day's calls are spent" in done.out


async def test_nobody_is_asked_with_mistakes_in_the_settings(world: World) -> None:
    """Exit code 2, and no vendor hears of it; nor of options that do not go together."""
    async with vendors(world) as v:
        world.write_settings(v.logins(), v.accounts(old=account("blst")))
        done = await v.check("--offline")
        assert done.code == 2
        assert "accounts.old.login" in done.err
        world.write_settings(v.logins(), v.accounts())
        done = await world.command("check", "--offline", "--json", "--probe")
        assert done == Done(1, "", "--probe and --json go with --online\n")
        assert v.blast.record.of("user").logins == 0


async def test_the_vendors_are_asked_without_a_database(world: World) -> None:
    """`--offline` needs neither URL nor secret; and without it the vendors are told before what is wrong here."""
    async with vendors(world) as v:
        world.write_settings(v.logins(), v.accounts())
        bare = {name: value for name, value in world.env().items() if not name.startswith(("RELAY_D", "RELAY_S"))}
        assert (await v.check("--offline", env=bare)).code == 0
        gone = world.env(RELAY_DATABASE_URL="postgresql://relay@127.0.0.1:9/relay")
        done = await v.check("--json", env=gone)
        assert done.code == 1
        assert json.loads(done.out)["good"]
        assert "Postgres does not answer" in done.err


async def test_a_login_is_not_refused_too_often(world: World) -> None:
    """Refusals count across runs and with the service's: after the hour's most the vendor is not asked any more."""
    async with vendors(world) as v:
        wrong = bme(v.blast.base_url, "user", password="another one")
        world.write_settings({"blast": wrong}, {"news": account("blast")})
        before = LOGIN_FAILURES_PER_HOUR_MAX - 1
        query = "insert into lane (login, refused_logins) values ('blast', array_fill(now(), array[$1::int]))"
        await world.database.execute(query, before)
        assert (await v.check()).code == 1
        done = await v.check()
        assert done.code == 1
        assert "news: not asked: it refused this login too often" in done.out
        assert v.blast.record.of("user").unauthorized == 1
        assert await world.value("select cardinality(refused_logins) from lane") == LOGIN_FAILURES_PER_HOUR_MAX


@pytest.mark.parametrize("opt_out", ["customer.deleted", "customer.stopped"])
async def test_the_service_burns_no_file_for_an_unknown_column(world: World, opt_out: str) -> None:
    """It checks at start; data waits, opt-outs go up; once the column is there, `resume` lets it go on at once."""
    async with vendors(world) as v:
        more = account("blast", columns={"E-Mail": "email", "血液型": "name"})
        world.write_settings({"blast": bme(v.blast.base_url, "user")}, {"news": more})
        relay = world.relay()
        await relay.start()
        await until("the check has been done", lambda: is_checked(world, "columns"))
        for message_id, type_, who in (("m1", "customer.created", "taro"), ("m2", opt_out, "hanako")):
            body = json.dumps({"type": type_, "data": {"email": f"{who}@example.jp", "name": "A"}}).encode()
            status, _, _ = await world.post(relay, "/v1/webhooks/crm", message_id, body)
            assert status == 202
        await until("the opt-out is sent", lambda: delivered(world, 1))
        [told] = (await world.api(relay, "GET", "/v1/accounts"))["accounts"]
        assert told["pending"] == 1
        assert told["check"]["fingerprint_current"]
        assert (told["check"]["result"], told["check"]["unknown"]) == ("columns", ["血液型"])
        [login] = (await world.api(relay, "GET", "/v1/logins"))["logins"]
        assert (login["paused"]["reason"], login["paused"]["detail"]) == (
            "columns",
            'news: the vendor has no column "血液型"',
        )
        assert v.blast.record.of("user").uploads == 1
        async with world.session.post(
            f"{v.blast.url}/_sim/items", json={"contract": "user", "item": "血液型"}
        ) as answer:
            assert answer.status == 204
        await world.api(relay, "POST", "/v1/logins/blast/resume")
        await until("the data is sent", lambda: delivered(world, 2))
        assert v.blast.readers("user")["taro@example.jp"].fields["血液型"] == "A"
        assert v.blast.record.of("user").failed_rows <= 1  # hanako, who was never there
        assert v.blast.record.of("user").logins == 1


async def is_checked(world: World, result: str) -> bool:
    """Whether a check with this result was kept."""
    return bool(await world.value("select count(*) from account_check where result ->> 'result' = $1", result))


async def delivered(world: World, batches: int) -> bool:
    """Whether so many batches have been delivered."""
    return bool(await world.value("select count(*) = $1 from batch where state = 'delivered'", batches))


async def test_many_logins_are_looked_at_side_by_side(world: World) -> None:
    """Some at a time, each by itself: twenty-four that take half a second each do not take twelve."""
    async with vendors(world) as v:
        v.blast.faults.add(fault="slow", on="usage", seconds=0.25, times=None)
        logins = {f"blast{number}": bme(v.blast.base_url, f"user-{number}") for number in range(OTHERS)}
        world.write_settings(logins, {name: account(name) for name in logins})
        began = asyncio.get_running_loop().time()
        done = await v.check("--offline")
        assert done.code == 0
        assert asyncio.get_running_loop().time() - began < 10
        assert [v.blast.record.of(f"user-{number}").logins for number in range(OTHERS)] == [1] * OTHERS
