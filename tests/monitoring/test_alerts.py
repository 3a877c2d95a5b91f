"""The alerts fire where they should: as promtool plays them, and in a real Prometheus that scrapes a real relay."""

import copy
import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest
import yaml

from relay.demo.customers import generate
from relay.demo.sim_bme import BmeContract, BmeSim
from tests.acceptance.harness import World
from tests.acceptance.processes import Relay, until
from tests.acceptance.settings_file import HEADERS, PASSWORD, account, bme
from tests.alerts import CASES, RULES, Alert, alerts, seconds, spec
from tests.monitoring.conftest import Scraped
from tests.monitoring.prometheus import NAMESPACE, SCRAPE_S, Prometheus, promtool, write_config
from tests.monitoring.prometheus import prometheus as running

EXTRACTED = "relay.rules.yaml"
"""What promtool's cases call the rules."""

ALERTS = alerts()
KEPT = [alert for alert in ALERTS if alert.kept_s]


# -- promtool --------------------------------------------------------------------------------------------------------


@pytest.fixture
def extracted(programs: None, tmp_path: Path) -> Path:  # noqa: ARG001 - without them nothing can be said
    """Write the rules without Kubernetes around them, and promtool's cases beside; return the folder."""
    (tmp_path / EXTRACTED).write_text(yaml.safe_dump(spec(), allow_unicode=True), encoding="utf-8")
    for file in CASES:
        shutil.copy(file, tmp_path)
    return tmp_path


def test_prometheus_reads_the_rules(extracted: Path) -> None:
    """Syntax, templates, and no two rules of one name with equal labels."""
    done = promtool("check", "rules", extracted / EXTRACTED)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_can_be_had_without_the_operator(programs: None, tmp_path: Path) -> None:  # noqa: ARG001
    """README's `sed` makes of the PrometheusRule what a Prometheus reads by itself."""
    made = tmp_path / EXTRACTED
    sed = shutil.which("sed") or "sed"
    with made.open("wb") as out:
        subprocess.run([sed, r"1,/^spec:$/d; s/^  //", RULES], stdout=out, check=True)  # noqa: S603 - nothing is given
    assert yaml.safe_load(made.read_text(encoding="utf-8")) == spec()


@pytest.mark.parametrize("cases", CASES, ids=lambda file: file.stem)
def test_alerts_fire_where_they_should(extracted: Path, cases: Path) -> None:
    """Every case comes out exactly: labels, texts and moments; and no alert where none is expected."""
    text = cases.read_text(encoding="utf-8")
    keep_rules(extracted, set(re.findall(r"alertname: (\w+)", text)))
    done = promtool("test", "rules", extracted / cases.name)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", KEPT, ids=str)
def test_cases_notice_when_an_alert_is_hasty(extracted: Path, alert: Alert) -> None:
    """With half of its `for` an alert fires where a case says that it is too early."""
    cases, every_s = keep_cases(extracted, alert.name)
    keep_rules(extracted, {alert.name}, hasty=(alert, alert.kept_s // 2 // every_s * every_s))
    done = promtool("test", "rules", cases)
    assert done.returncode, "no case looks at it just before its time"
    assert alert.name in done.stdout + done.stderr, "promtool failed for another reason"


def keep_rules(folder: Path, names: set[str], *, hasty: tuple[Alert, int] | None = None) -> None:
    """Leave only the rules of these alerts, so that promtool has less to do; `hasty` is one with another `for`."""
    rules = [rule for group in copy.deepcopy(spec())["groups"] for rule in group["rules"] if rule["alert"] in names]
    for rule in rules:
        if hasty and rule["alert"] == hasty[0].name and hasty[0].matches(rule["labels"]):
            rule["for"] = f"{hasty[1]}s"
    text = yaml.safe_dump({"groups": [{"name": "kept", "rules": rules}]}, allow_unicode=True)
    (folder / EXTRACTED).write_text(text, encoding="utf-8")


def keep_cases(folder: Path, name: str) -> tuple[Path, int]:
    """Leave only the cases of one alert; return their file, and how often promtool looks at them, in seconds."""
    for file in CASES:
        cases = yaml.safe_load(file.read_text(encoding="utf-8"))
        for group in cases["tests"]:
            group["alert_rule_test"] = [one for one in group["alert_rule_test"] if one["alertname"] == name]
        cases["tests"] = [group for group in cases["tests"] if group["alert_rule_test"]]
        if cases["tests"]:
            (folder / file.name).write_text(yaml.safe_dump(cases, allow_unicode=True), encoding="utf-8")
            return folder / file.name, seconds(cases["evaluation_interval"])
    raise AssertionError(f"{name} has no cases")


# -- a relay under load, where much goes wrong ------------------------------------------------------------------------

GOES_WRONG = {
    "RelayOptOutRejected",
    "RelayOptOutDead",
    "RelayOptOutUnresolved",
    "RelayOptOutRefused",
    "RelayDeadLetters",
    "RelayReportedFailures",
    "RelayLanePaused",
    "RelayDataPaused",
    "RelayLanePausedByOperator",
    "RelayAccountWithoutSettings",
    "RelayQuotaNearlySpent",
    "RelayBreakerOpen",
}
"""What is wrong at the end of the load of tests.monitoring.load, though in most cases for too short a time."""


def test_a_real_relay_in_trouble_is_seen(scraped: Scraped) -> None:
    """Each of these troubles shows in the expression of its alert, as soon as Prometheus has scraped it."""
    found = {alert.name for alert in ALERTS if scraped.query(alert.expr)}
    assert found >= GOES_WRONG, f"not seen: {GOES_WRONG - found}"


def test_every_metric_of_the_alerts_is_scraped(scraped: Scraped) -> None:
    """What alerts look at is there in a real Prometheus, by name, but for the memory limit, which Kubernetes tells."""
    looked_at = {metric for alert in ALERTS for metric, _ in alert.selectors()}
    there = {metric for metric in looked_at if scraped.prometheus.series(metric, scraped.begin, scraped.end)}
    assert looked_at - there == {"kube_pod_container_resource_limits"}


# -- a relay that is well, until something goes wrong -----------------------------------------------------------------

HASTENED_S = 4
"""What every longer `for` is cut to here: long enough that a start is no trouble."""

AS_FAST_AS_THE_MACHINE = {
    "RelayEventLoopLag",
    "RelayDatabaseSlow",
    "RelayDatabasePoolExhausted",
    "RelayMemoryNearLimit",
}
"""These keep their `for`: on a busy machine a single slow moment among few is all that they would tell."""

WELL_FOR_S = 10.0
FORGOTTEN_AFTER_S = 5.0
"""So long what was so before Prometheus first saw relay may still be told: an evaluation or two, on a busy machine."""

SEEN_WITHIN_S = 30.0

Seen = list[dict[str, Any]]


@dataclass
class Watched:
    """relay with a vendor and a Prometheus whose alerts are hastened."""

    world: World
    relay: Relay
    sim: BmeSim
    prometheus: Prometheus

    async def ask(self, path: str) -> Any:  # noqa: ANN401 - JSON
        """Ask Prometheus."""
        async with self.world.session.get(f"{self.prometheus.url}/api/v1/{path}") as answer:
            return (await answer.json())["data"]

    async def alerts(self) -> Seen:
        """Return what Prometheus tells on /api/v1/alerts, pending ones as well."""
        found: Seen = (await self.ask("alerts"))["alerts"]
        return found

    async def firing(self, name: str, **labels: str) -> Mapping[str, str]:
        """Wait until an alert fires with these labels; return its annotations."""
        found: Seen = []

        async def fires() -> bool:
            nonlocal found
            wanted = {"alertname": name, **labels}.items()
            told = await self.alerts()
            found = [one for one in told if one["state"] == "firing" and wanted <= one["labels"].items()]
            return bool(found)

        await until(f"{name} fires", fires, SEEN_WITHIN_S)
        annotations: Mapping[str, str] = found[0]["annotations"]
        return annotations

    async def send(self, source: str, kind: str, number: int, **data: object) -> int:
        """Send a webhook about a customer; returns the status."""
        [*_, customer] = generate(number + 1, 4711)
        body = {"type": f"customer.{kind}", "data": {**customer.data(), **data}}
        message_id = f"{source}-{kind}-{number}"
        path = f"/v1/webhooks/{source}"
        status, _, _ = await self.world.post(self.relay, path, message_id, json.dumps(body).encode())
        return status


def hastened(directory: Path) -> Path:
    """Write the PrometheusRule with every `for` cut to `HASTENED_S`, but for those about speed; return the file."""
    rules = copy.deepcopy(spec())
    for group in rules["groups"]:
        for rule in group["rules"]:
            if "for" in rule and rule["alert"] not in AS_FAST_AS_THE_MACHINE:
                rule["for"] = f"{min(HASTENED_S, seconds(rule['for']))}s"
    file = directory / "hastened.yaml"
    file.write_text(yaml.safe_dump({"spec": rules}, allow_unicode=True), encoding="utf-8")
    return file


@pytest.fixture
async def watched(programs: None, database: str, tmp_path: Path) -> AsyncIterator[Watched]:  # noqa: ARG001
    """Start a vendor, relay and Prometheus."""
    async with AsyncExitStack() as stack:
        names = ("news", "quiet", "rest")
        sim = BmeSim(*(BmeContract(name, PASSWORD, PASSWORD, columns=tuple(HEADERS)) for name in names))
        await stack.enter_async_context(sim.serve())
        session = await stack.enter_async_context(aiohttp.ClientSession())
        pool = await stack.enter_async_context(asyncpg.create_pool(database, min_size=0, max_size=2))
        world = World(tmp_path, database, session, pool, lambda _: None)
        stack.push_async_callback(world.end)
        world.write_settings(
            {name: bme(sim.base_url, name) for name in names},
            {name: account(name) for name in names},
            {name: [name] for name in names},
        )
        relay = world.relay("relay-0")
        await relay.start()
        config = write_config(tmp_path, {"relay-0": relay.ops_url.removeprefix("http://")}, hastened(tmp_path))
        yield Watched(world, relay, sim, stack.enter_context(running(tmp_path, config)))


async def test_alerts_of_a_real_relay(watched: Watched) -> None:
    """A relay that is well sets off no alert, nor is any pending; then each trouble sets off its own."""
    for number in range(20):
        for source in ("news", "rest", "quiet"):
            assert await watched.send(source, "created", number) == 202
    assert await watched.send("news", "deleted", 1) == 202
    assert await watched.send("quiet", "stopped", 1) == 202
    await watched.world.settled(watched.sim)
    await well(watched)
    for trouble in (pause, refuse, reject, break_data, let_wait):
        await trouble(watched)
    await all_of_it_fires(watched)
    assert await watched.relay.stop() == 0
    await watched.firing("RelayTargetDown", pod="relay-0")
    assert (await watched.firing("RelayNoReplica", severity="critical"))["description"].startswith("0 replicas")


async def well(watched: Watched) -> None:
    """Let Prometheus look for a while at a relay with nothing left to do: nothing fires nor is about to."""
    # When it was ready, not merely looked for: until then, and until the next evaluation, there rightly is no replica.
    scrapes = f"sum(sum_over_time(relay_ready[1h])) >= {(WELL_FOR_S + FORGOTTEN_AFTER_S) / SCRAPE_S}"

    async def looked() -> bool:
        return bool((await watched.ask(f"query?query={scrapes}".replace(" ", "%20")))["result"])

    await until("Prometheus has looked at it for a while", looked)
    rules = [rule for group in (await watched.ask("rules"))["groups"] for rule in group["rules"]]
    assert len(rules) == len(ALERTS)
    assert {rule["health"] for rule in rules} == {"ok"}, [rule.get("lastError") for rule in rules]
    assert await watched.alerts() == []
    since = f'max_over_time(ALERTS{{alertstate="firing"}}[{WELL_FOR_S - 1:.0f}s])'
    assert (await watched.ask(f"query?query={since}"))["result"] == []


async def pause(watched: Watched) -> None:
    """Pause a login, as operators do."""
    await watched.world.api(watched.relay, "POST", "/v1/logins/quiet/pause")


async def refuse(watched: Watched) -> None:
    """Send opt-outs that nobody can read, more than a source may have of what is refused."""
    for number in range(2, 10):
        assert await watched.send("news", "deleted", number, email="nobody") == 422


async def reject(watched: Watched) -> None:
    """Have the vendor refuse a customer's lines, of data first and then of an opt-out."""
    [*_, customer] = generate(6, 4711)
    watched.sim.faults.add(fault="reject_lines", contract="news", times=None, addresses=[customer.data()["email"]])
    for kind in ("updated", "stopped"):
        assert await watched.send("news", kind, 5) == 202
        await watched.world.settled(watched.sim)


async def break_data(watched: Watched) -> None:
    """Have the vendor not understand what it is sent."""
    watched.sim.faults.add(fault="status", status=404, contract="rest", times=None)
    assert await watched.send("rest", "updated", 7) == 202


async def let_wait(watched: Watched) -> None:
    """Put an opt-out into the log of the paused account that came two hours ago."""
    await watched.world.database.execute(LATE)


LATE = """
insert into event (account, source, message_id, digest, operation, customer, layout, line, occurred_at, received_at)
select account, source, 'late', digest, operation, customer, layout, line, occurred_at, now() - interval '2 hours'
from event where account = 'quiet' and operation = 'stop' and source = 'quiet'
"""


async def all_of_it_fires(watched: Watched) -> None:
    """Wait for the alerts of all of these troubles; opt-outs have nothing to do with what stops data."""
    told = await watched.firing("RelayLanePausedByOperator", login="quiet", severity="warning", namespace=NAMESPACE)
    assert told["runbook_url"] == "https://example.com/relay/README.md#relaylanepausedbyoperator"
    await watched.firing("RelayOptOutRefused", source="news")
    await watched.firing("RelayWebhooksRefused", source="news", result="invalid")
    told = await watched.firing("RelayOptOutRejected", vendor="blastmail", operation="stop")
    assert told["summary"] == "blastmail refused opt-outs"
    told = await watched.firing("RelayOptOutDead", account="news", severity="critical")
    assert told["description"].startswith("1 opt-outs of account news ")
    assert (await watched.firing("RelayDeadLetters", account="news"))["description"].startswith("1 changes ")
    await watched.firing("RelayDataPaused", login="rest", reason="data")
    told = await watched.firing("RelayOptOutLate", account="quiet", severity="critical")
    assert "has waited 2h 0m" in told["description"]
    await watched.firing("RelayOptOutLate", account="quiet", severity="warning")
    assert not [one for one in await watched.alerts() if one["labels"]["alertname"] == "RelayLanePaused"]
    assert await watched.send("rest", "stopped", 7) == 202
    await watched.firing("RelayLanePaused", login="rest", reason="misconfigured", severity="critical")
