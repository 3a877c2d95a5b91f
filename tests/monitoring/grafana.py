"""Dashboards as Grafana reads them: panels, variables and queries, and what it puts in the place of variables."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import relay

DASHBOARDS = Path(relay.__file__).resolve().parent.parent / "k8s/monitoring/dashboards"
NAMES = ("overview", "delivery")

ALL = ".*"
"""What "All" stands for: the variables' `allValue`."""

_VARIABLE = re.compile(r"\$\{(\w+)(?::\w+)?\}|\$(\w+)")
_SPECIAL = re.compile(r"[$^*{}\[\]'+?.()|]")


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel."""

    panel: Mapping[str, Any]
    ref: str
    expr: str
    instant: bool
    legend: str

    def __str__(self) -> str:
        return f"{self.panel['title']} ({self.ref})"


def load(name: str) -> dict[str, Any]:
    """Read a dashboard."""
    found: dict[str, Any] = json.loads((DASHBOARDS / f"{name}.json").read_text(encoding="utf-8"))
    return found


def everything(dashboard: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield rows and panels, those inside of collapsed rows, too."""
    for one in dashboard["panels"]:
        yield one
        yield from one.get("panels", ())


def panels(dashboard: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the panels that show something."""
    return [one for one in everything(dashboard) if one["type"] != "row"]


def queries(dashboard: Mapping[str, Any]) -> list[Query]:
    """Return all queries of all panels."""
    return [
        Query(panel, target["refId"], target["expr"], target.get("instant", False), target.get("legendFormat", ""))
        for panel in panels(dashboard)
        for target in panel["targets"]
    ]


def variables(dashboard: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the variables by name."""
    return {variable["name"]: variable for variable in dashboard["templating"]["list"]}


def values_asked(variable: Mapping[str, Any]) -> tuple[str, str]:
    """Return the label that a query variable lists, and the selector of the series that it looks at."""
    found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
    assert found, variable["query"]
    return found[2], found[1]


def put_in(text: str, values: Mapping[str, str | list[str]]) -> str:
    """Put values in the place of variables, several as one regular expression. Fails on a variable without a value."""

    def value(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        assert name in values, f"{text} has a variable ${name}, which there is not"
        given = values[name]
        if isinstance(given, str):
            return given
        escaped = [_SPECIAL.sub(r"\\\\\g<0>", one.replace("\\", "\\\\\\\\")) for one in given]
        return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"

    return _VARIABLE.sub(value, text)


def slug(heading: str) -> str:
    """Return the anchor under which a heading of a Markdown file is found on the web."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(markdown: str) -> set[str]:
    """Return the anchors of all headings; of equal ones the second has -1 behind it."""
    seen: dict[str, int] = {}
    found = set()
    text = re.sub(r"^```.*?^```", "", markdown, flags=re.MULTILINE | re.DOTALL)
    for heading in re.findall(r"^#{1,6} (.+)$", text, re.MULTILINE):
        anchor = slug(heading)
        found.add(f"{anchor}-{seen[anchor]}" if anchor in seen else anchor)
        seen[anchor] = seen.get(anchor, -1) + 1
    return found
