"""The alerts and what is told of them: the PrometheusRule, promtool's cases for it, and README's runbook."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

MONITORING = Path(__file__).parents[1] / "k8s/monitoring"
RULES = MONITORING / "rules.yaml"
CASES = (MONITORING / "rules_test.yaml", MONITORING / "rules_days_test.yaml")
README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")

_SELECTOR = re.compile(r"\b((?:relay|process|kube)_\w+|up\b)(?:\{([^{}]*)\})?")


@dataclass(frozen=True, slots=True)
class Alert:
    """One alerting rule. Two stages of one alert have one name and another severity; `kept_s` is its `for`."""

    name: str
    expr: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    kept_s: int

    def __str__(self) -> str:
        return " ".join([self.name, *self.labels.values()])

    def selectors(self) -> list[tuple[str, set[str]]]:
        """Return the metrics that it looks at, each with the labels that its matchers name."""
        found = _SELECTOR.findall(self.expr)
        return [(metric, set(re.findall(r"(\w+)\s*[=!]~?\s*\"", matchers))) for metric, matchers in found]

    def grouped(self) -> set[str]:
        """Return the labels by which it groups or joins."""
        lists = re.findall(r"\b(?:by|on|group_left)\s*\(([^()]*)\)", self.expr)
        return {label for one in lists for label in re.split(r",\s*", one) if label}

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Say whether an alert with these labels may be of this rule."""
        return all(labels.get(name) == value for name, value in self.labels.items())


@dataclass(frozen=True, slots=True)
class Case:
    """One check of promtool's: which alerts of a name there are at a moment, by their labels; `metrics` were fed."""

    alert: str
    at: str
    expected: tuple[Mapping[str, str], ...]
    metrics: frozenset[str]


def spec() -> dict[str, Any]:
    """Return the rules as Prometheus reads them, without Kubernetes around."""
    found: dict[str, Any] = yaml.safe_load(RULES.read_text(encoding="utf-8"))["spec"]
    return found


def alerts() -> list[Alert]:
    """Return all alerting rules in their order."""
    rules = [rule for group in spec()["groups"] for rule in group["rules"]]
    return [
        Alert(rule["alert"], rule["expr"], rule["labels"], rule["annotations"], seconds(rule.get("for", "0s")))
        for rule in rules
    ]


@cache
def cases() -> tuple[Case, ...]:
    """Return all checks of promtool's."""
    return tuple(_cases())


def _cases() -> Iterator[Case]:
    for file in CASES:
        for group in yaml.safe_load(file.read_text(encoding="utf-8"))["tests"]:
            metrics = frozenset(one["series"].partition("{")[0] for one in group["input_series"])
            for check in group["alert_rule_test"]:
                expected = tuple(one["exp_labels"] for one in check["exp_alerts"])
                yield Case(check["alertname"], check["eval_time"], expected, metrics)


def seconds(duration: str) -> int:
    """Read a duration of Prometheus's that has one unit."""
    return int(duration[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[duration[-1]]


def section(heading: str) -> str:
    """Return what stands in README under a heading of the second level."""
    return README.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def runbook() -> dict[str, str]:
    """Return the runbook by its headings."""
    parts = re.split(r"^### (.+)$", section("Runbook"), flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))
