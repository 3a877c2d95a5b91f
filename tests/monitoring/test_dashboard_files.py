"""The dashboards' files: importable as they are, readable by everybody, and every link leads somewhere."""

import json
import re
import shutil
import subprocess
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.acceptance.harness import ROOT
from tests.alerts import alerts
from tests.k8s.rendered import name_of, of_kind, render
from tests.monitoring import grafana
from tests.monitoring.conftest import RULES, RUNBOOK_URL

COLUMNS = 24
SCHEMA_VERSIONS = range(39, 42)
"""What Grafana 10.4 to 12 reads as its own; later ones bring it up to date when they load it."""

UIDS = {"overview": "relay-overview", "delivery": "relay-delivery"}
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONFIG_MAP_BYTES_MAX = 262_144
"""What `kubectl apply` keeps of an object in an annotation: a ConfigMap with a dashboard must be smaller."""

OPS_URL = "https://relay.example.com"
"""Where README's example has the ops page."""

each_dashboard = pytest.mark.parametrize("name", grafana.NAMES)


def found_in(value: object, key: str) -> list[Any]:
    """Return what stands under a key anywhere in a piece of JSON."""
    if isinstance(value, dict):
        return [inner for k, v in value.items() for inner in ([v] if k == key else []) + found_in(v, key)]
    return [inner for one in value for inner in found_in(one, key)] if isinstance(value, list) else []


@each_dashboard
def test_it_is_imported_as_it_is(name: str) -> None:
    """Nothing asks for a data source by its own id, and nothing in it belongs to the Grafana in which it was drawn."""
    dashboard = grafana.load(name)
    assert (dashboard["uid"], dashboard["timezone"], dashboard["refresh"]) == (UIDS[name], "browser", "30s")
    assert dashboard["schemaVersion"] in SCHEMA_VERSIONS
    assert "relay" in dashboard["tags"]
    assert not {"id", "__inputs", "__requires", "gnetId", "iteration"} & dashboard.keys()
    asked = found_in(dashboard, "datasource")
    assert asked
    assert all(one == {"type": "prometheus", "uid": "${datasource}"} for one in asked)
    assert grafana.variables(dashboard)["datasource"]["query"] == "prometheus"


@each_dashboard
def test_it_fits_into_a_config_map(name: str) -> None:
    """The sidecar takes it from a ConfigMap, which kustomize makes of the file as a JSON string."""
    text = json.dumps((grafana.DASHBOARDS / f"{name}.json").read_text(encoding="utf-8"))
    assert len(text) < CONFIG_MAP_BYTES_MAX - 2_000


@each_dashboard
def test_panels_stand_side_by_side(name: str) -> None:
    """Each has an id of its own and a place within the 24 columns that no other has."""
    placed = list(grafana.everything(grafana.load(name)))
    assert [number for number, times in Counter(one["id"] for one in placed).items() if times > 1] == []
    for one in placed:
        place = one["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= COLUMNS, one["title"]
        assert place["y"] >= 0, one["title"]
        assert place["h"] > 0, one["title"]
    overlapping = [(one["title"], other["title"]) for one, other in combinations(placed, 2) if overlap(one, other)]
    assert overlapping == []


def overlap(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two panels share a place."""
    a, b = one["gridPos"], other["gridPos"]
    beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
    return not beside and a["y"] < b["y"] + b["h"] and b["y"] < a["y"] + a["h"]


@each_dashboard
def test_every_panel_explains_itself(name: str) -> None:
    """Each says what it means and what to do, has a unit, says what it is where there is nothing, and names its lines.

    Titles of panels are unique within their kind, so that a runbook can name one.
    """
    found = grafana.panels(grafana.load(name))
    titles = Counter((panel["type"], panel["title"]) for panel in found)
    assert [title for title, times in titles.items() if times > 1] == []
    for panel in found:
        defaults = panel["fieldConfig"]["defaults"]
        title = panel["title"]
        assert len(panel["description"]) > 80, title
        assert defaults["noValue"], title
        assert panel["type"] in {"table", "heatmap"} or defaults["unit"], title
        if panel["type"] == "timeseries":
            assert panel["options"]["legend"]["showLegend"], title
            assert all(target["legendFormat"] for target in panel["targets"]), title
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs), title


@each_dashboard
def test_no_colour_stands_alone(name: str) -> None:
    """What is green or red also says so in words: a text for the number, or what the number counts."""
    for panel in grafana.panels(grafana.load(name)):
        if panel["type"] != "stat":
            continue
        defaults = panel["fieldConfig"]["defaults"]
        coloured = len(defaults["thresholds"]["steps"]) > 1
        in_words = defaults.get("mappings") or defaults["unit"].startswith("suffix:")
        assert in_words or not coloured, panel["title"]
    for mappings in found_in(grafana.load(name), "mappings"):
        for mapping in mappings:
            results = mapping["options"].values() if mapping["type"] == "value" else [mapping["options"]["result"]]
            assert all(result["text"] for result in results)


@each_dashboard
def test_nothing_reads_nan(name: str) -> None:
    """A share or a quantile of nothing is told in words."""
    for panel in grafana.panels(grafana.load(name)):
        asked = " ".join(target["expr"] for target in panel["targets"])
        if panel["type"] == "stat" and re.search(r"histogram_quantile| / ", asked):
            special = [m["options"] for m in panel["fieldConfig"]["defaults"]["mappings"] if m["type"] == "special"]
            assert [options["match"] for options in special] == ["nan"], panel["title"]


@each_dashboard
def test_an_empty_cell_is_no_empty_table(name: str) -> None:
    """What a table says where it is empty would stand in each empty cell as well, were it not said otherwise there."""
    for panel in grafana.panels(grafana.load(name)):
        if panel["type"] != "table" or len(panel["targets"]) == 1:
            continue
        organize = next(t["options"] for t in panel["transformations"] if t["id"] == "organize")
        shown = set(organize["indexByName"]) - set(organize["excludeByName"])
        overrides = {o["matcher"]["options"]: o["properties"] for o in panel["fieldConfig"]["overrides"]}
        for field in shown:
            heading = organize["renameByName"][field]
            if field.startswith("Value"):
                assert {"id": "noValue", "value": "-"} in overrides[heading], f"{panel['title']}: {heading}"


@each_dashboard
def test_every_link_leads_somewhere(name: str) -> None:
    """Headings that links name stand in README, the other dashboard is there, and so are the variables."""
    dashboard = grafana.load(name)
    known = {"${ops_url}", *(f"/d/{uid}" for uid in UIDS.values())}
    wrong = []
    urls = set(found_in(dashboard, "url"))
    assert known - {f"/d/{UIDS[name]}"} <= urls
    for url in urls:
        address, _, anchor = url.partition("#")
        if not (url in known or (address == "${runbook_url}" and anchor in grafana.anchors(README))):
            wrong.append(url)
    assert wrong == []
    assert {match for url in urls for match in re.findall(r"\$\{(\w+)\}", url)} <= grafana.variables(dashboard).keys()


PLACEHOLDERS = re.compile(r"https://example\.com/relay/README\.md|http://localhost:8080")


def test_readme_s_sed_puts_your_own_addresses_everywhere(tmp_path: Path) -> None:
    """One command in a copy sets runbook and ops page in alerts, their cases, both dashboards and the overlay."""
    copy = shutil.copytree(ROOT / "k8s", tmp_path / "k8s")
    [command] = re.findall(r"^(sed -i 's#https:.*?)^```", README, re.MULTILINE | re.DOTALL)
    subprocess.run(["/bin/sh", "-c", command], cwd=tmp_path, check=True)  # noqa: S603 - it is README's
    left = [file for file in copy.rglob("*.*") if PLACEHOLDERS.search(file.read_text(encoding="utf-8"))]
    assert left == []
    for name in grafana.NAMES:
        made = json.loads((copy / f"monitoring/dashboards/{name}.json").read_text(encoding="utf-8"))
        for variable, url in (("runbook_url", "https://git.example.com/relay/README.md"), ("ops_url", OPS_URL)):
            told = grafana.variables(made)[variable]
            assert told["query"] == told["current"]["value"] == told["options"][0]["value"] == url


def test_the_overlay_says_once_where_the_runbook_is(tmp_path: Path) -> None:
    """The overlay's `url` comes into every alert, before its heading, and no object is made of it."""
    copy = shutil.copytree(ROOT / "k8s", tmp_path / "k8s") / "overlays/production/monitoring"
    file = copy / "kustomization.yaml"
    said, times = re.subn(r"(- url=)https://example\.com/", r"\1https://git.example.com/", file.read_text("utf-8"))
    assert times == 1
    file.write_text(said, encoding="utf-8")
    objects = render(copy)
    [rules] = of_kind(objects, "PrometheusRule")
    urls = {rule["annotations"]["runbook_url"] for group in rules["spec"]["groups"] for rule in group["rules"]}
    assert urls == {f"https://git.example.com/relay/README.md#{alert.name.lower()}" for alert in alerts()}
    assert not [name_of(one) for one in objects if "runbook" in name_of(one)]


def test_panels_and_alerts_lead_to_the_same_runbook() -> None:
    """What `runbook_url` is by default is where the alerts point, and each alert that a panel names is one."""
    rules = yaml.safe_load(RULES.read_text(encoding="utf-8"))["spec"]["groups"]
    alerts = [rule for group in rules for rule in group["rules"] if "alert" in rule]
    assert {rule["annotations"]["runbook_url"].partition("#")[0] for rule in alerts} == {RUNBOOK_URL}
    for name in grafana.NAMES:
        dashboard = grafana.load(name)
        assert grafana.variables(dashboard)["runbook_url"]["query"] == RUNBOOK_URL
        named = {title for title in found_in(dashboard, "title") if title.startswith("What to do: ")}
        assert {title.removeprefix("What to do: ") for title in named} <= {rule["alert"] for rule in alerts}
