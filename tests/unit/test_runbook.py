"""Alerts, promtool's cases and the runbook say the same, and name nothing that does not exist.

That each alert fires where it should is promtool's to say: tests/monitoring/test_alerts.py.
"""

import re
import shlex

import pytest

from relay import cli
from relay.metrics import Metrics
from relay.settings import Settings
from tests.alerts import Alert, alerts, cases, runbook, section
from tests.unit.vendors.made import bme_login, haihai_login

ALERTS = alerts()
NAMES = {alert.name for alert in ALERTS}
TARGETS = {"namespace", "pod", "instance", "job"}
"""The labels that Prometheus gives to each series of relay's."""

OTHERS = {
    "up": set[str](),
    "kube_pod_container_resource_limits": {"resource", "container"},
}
"""Metrics of others with their labels: Prometheus's own, and kube-state-metrics'."""

OF_VALUE = re.compile(r"\{\{ \$value \| humanize(?:1024|Duration|Percentage)? \}\}")
YES_OR_NO = re.compile(r"== [01]$")
BULLETS = ["Means", "Look", "Press", "Data"]

each_alert = pytest.mark.parametrize("alert", ALERTS, ids=str)
each_heading = pytest.mark.parametrize("heading", sorted(runbook()))


def metric_labels() -> dict[str, set[str]]:
    """Return all series names that relay exposes, each with its own labels."""
    columns = {"E-Mail": "email"}
    settings = Settings.model_validate(
        {
            "sources": {"crm": {"bearer_tokens": ["t" * 20], "accounts": ["a"]}},
            "logins": {"hai": haihai_login(name="hai"), "blast": bme_login(name="blast")},
            "accounts": {"a": {"login": "hai", "columns": columns}, "b": {"login": "blast", "columns": columns}},
        }
    )
    metrics = Metrics()
    metrics.create_at_zero(settings, ["https://api.example.com"])
    for not_yet_known in (metrics.quota_day, metrics.quota_left, metrics.quota_kept):
        not_yet_known.labels("hai")
    metrics.certificate_expiry.labels("api.example.com")
    metrics.secret_age.labels("logins.blast.password")
    found: dict[str, set[str]] = {}
    for family in metrics.registry.collect():
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def test_alerts_look_at_metrics_that_exist() -> None:
    """A name or label that relay does not expose would make an alert that never fires."""
    known = metric_labels() | OTHERS
    for alert in ALERTS:
        assert alert.selectors(), alert
        labels: set[str] = set()
        for metric, matched in alert.selectors():
            assert metric in known, f"{alert}: there is no {metric}"
            assert matched <= known[metric] | TARGETS, f"{alert}: {metric} has no {matched - known[metric]}"
            labels |= known[metric]
        assert alert.grouped() <= labels | TARGETS, f"{alert}: nothing has {alert.grouped() - labels}"
        assert "namespace" in alert.grouped(), f"{alert}: two deployments in one Prometheus are not to be added up"


@each_alert
def test_an_alert_says_what_is_wrong_and_how_bad_it_is(alert: Alert) -> None:
    """Summary, description with the value as people read it (unless it can only be 0 or 1), severity, runbook."""
    assert alert.labels["severity"] in {"critical", "warning"}
    assert set(alert.annotations) == {"summary", "description", "runbook_url"}
    description = alert.annotations["description"]
    assert OF_VALUE.search(description) or YES_OR_NO.search(alert.expr.strip()), "it tells no value"
    assert "$value" not in OF_VALUE.sub("", description), "a bare number is not for people"
    assert description.endswith(".")
    assert not alert.annotations["summary"].endswith(".")
    named = set(re.findall(r"\$labels\.(\w+)", " ".join(alert.annotations.values())))
    assert named <= alert.grouped() | set(alert.labels), "Prometheus would leave a gap there"
    [left, *_] = re.findall(r"\bby \(([^()]*)\)", alert.expr)
    assert set(left.split(", ")) - {"namespace", "pod", "le"} <= named, "who is woken has to know where"


@each_alert
def test_an_alert_leads_to_its_heading(alert: Alert) -> None:
    """The link's anchor is what GitHub and GitLab make of the heading with the alert's name."""
    base, _, anchor = alert.annotations["runbook_url"].partition("#")
    assert base == "https://example.com/relay/README.md"
    assert anchor == alert.name.lower()
    assert alert.name in runbook()


def test_every_heading_belongs_to_an_alert() -> None:
    """The runbook has nothing stale, and stands in the order of the rules."""
    assert list(runbook()) == list(dict.fromkeys(alert.name for alert in ALERTS))


@each_heading
def test_a_heading_answers_four_questions(heading: str) -> None:
    """What it means, what to look at, what to press, and what happens to the data: in this order, and nothing else."""
    text = runbook()[heading].strip()
    assert re.findall(r"^- \*\*(\w+)\*\*: ", text, re.MULTILINE) == BULLETS
    assert re.sub(r"^(?:- \*\*|  )\S.*$", "", text, flags=re.MULTILINE).strip() == "", "something stands between"


def test_the_runbook_names_only_alerts_that_exist() -> None:
    """Where a heading says to look at another alert, that one is there."""
    told = section("Runbook") + section("Alerts")
    assert set(re.findall(r"\bRelay[A-Z]\w+", told)) == NAMES


def test_the_table_of_alerts_is_whole() -> None:
    """README lists every alert with its severities, and links to its heading."""
    rows = re.findall(r"^\| \[(\w+)\]\(#(\w+)\) \| ([\w, ]+) \| .+ \|$", section("Alerts"), re.MULTILINE)
    told = {name: set(severities.split(", ")) for name, _, severities in rows}
    assert told == {name: {a.labels["severity"] for a in ALERTS if a.name == name} for name in NAMES}
    assert len(rows) == len(NAMES)
    assert all(anchor == name.lower() for name, anchor, _ in rows)


def test_the_runbooks_commands_are_commands() -> None:
    """Whatever is to be typed at night is something that relay understands."""
    words = {"ACCOUNT": "shop", "LOGIN": "blast", "ID": "7", "SOURCE": "crm"}
    typed = set(re.findall(r"`relay ([a-z-]+(?: [^`]+)?)`", section("Runbook")))
    assert typed
    alone = {"send"}  # what it takes is told elsewhere
    parser = cli.make_parser()
    for command in typed - alone:
        parser.parse_args([words.get(word, word) for word in shlex.split(command)])


@each_alert
def test_promtool_tries_an_alert_both_ways(alert: Alert) -> None:
    """It fires in one case at least, and in one does not although its own metrics are there."""
    own = [case for case in cases() if case.alert == alert.name]
    assert any(alert.matches(labels) for case in own for labels in case.expected), "it never fires"
    looked_at = {metric for metric, _ in alert.selectors()}
    silent = [case for case in own if not any(alert.matches(labels) for labels in case.expected)]
    assert any(case.metrics & looked_at for case in silent), "it is never silent"
    if alert.kept_s:
        assert len(silent) > 1 or any(case.at != "0m" for case in silent)


def test_promtools_cases_are_of_alerts_that_exist() -> None:
    """A case of an alert that is no more would pass for ever."""
    assert {case.alert for case in cases()} == NAMES
    for case in cases():
        of_name = [alert for alert in ALERTS if alert.name == case.alert]
        assert all(any(alert.matches(labels) for alert in of_name) for labels in case.expected), case
