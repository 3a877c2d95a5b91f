"""The dashboards show what they say they show: every query returns data of a relay under load."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.monitoring import grafana
from tests.monitoring.conftest import STEP_S, Scraped
from tests.monitoring.grafana import Query
from tests.monitoring.load import DOES_NOT_MOVE
from tests.monitoring.prometheus import Series, promtool

RATE_INTERVAL = "15s"
SHOWN_NOWHERE: Mapping[str, str] = {}
"""Metrics that no dashboard shows, and why."""

OTHERS_METRICS = {"up", "ALERTS"}
"""What a dashboard may name besides relay's metrics and those of processes: Prometheus's own."""

NAMED = re.compile(r"\b([a-zA-Z_:][a-zA-Z0-9_:]*)\{([^{}]*)\}")
"""A selector in PromQL: a metric's name and its matchers."""

each_dashboard = pytest.mark.parametrize("name", grafana.NAMES)


# -- what is shown ---------------------------------------------------------------------------------------------------


def listed(scraped: Scraped, dashboard: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return what the query variables list, by name, as Grafana asks for it: the first ones first."""
    found: dict[str, list[str]] = {}
    for name, variable in grafana.variables(dashboard).items():
        if variable["type"] == "query":
            label, match = grafana.values_asked(variable)
            selector = grafana.put_in(match, {known: values[:1] for known, values in found.items()})
            found[name] = scraped.prometheus.label_values(label, selector, scraped.begin, scraped.end)
    return found


def chosen(scraped: Scraped, dashboard: Mapping[str, Any]) -> Iterator[dict[str, str | list[str]]]:
    """Yield what the variables can be: "All" of everything, and everything by its name."""
    grafanas_own: dict[str, str | list[str]] = {
        "__rate_interval": RATE_INTERVAL,
        "__interval": f"{STEP_S:.0f}s",
        "__range": f"{scraped.range_s}s",
    }
    lists = listed(scraped, dashboard)
    multi = {name for name, variable in grafana.variables(dashboard).items() if variable.get("multi")}
    single = {name: values[0] for name, values in lists.items() if name not in multi}
    yield {**grafanas_own, **single, **dict.fromkeys(multi, grafana.ALL)}
    yield {**grafanas_own, **single, **{name: lists[name] for name in multi}}


def answers(scraped: Scraped, query: Query, values: Mapping[str, str | list[str]]) -> Iterator[list[Series]]:
    """Yield what a query returns, of a repeated panel for each value of its variable."""
    repeated = query.panel.get("repeat")
    ask = scraped.query if query.instant else scraped.query_range
    if repeated is None:
        yield ask(grafana.put_in(query.expr, values))
        return
    for value in listed(scraped, dashboard_of(query))[repeated]:
        yield ask(grafana.put_in(query.expr, {**values, repeated: [value]}))


def dashboard_of(query: Query) -> dict[str, Any]:
    """Return the dashboard that has a query's panel."""
    return next(found for found in map(grafana.load, grafana.NAMES) if query.panel in grafana.panels(found))


@each_dashboard
def test_every_variable_lists_something(scraped: Scraped, name: str) -> None:
    """Who opens the dashboard can choose a namespace, accounts, vendors, operations."""
    found = listed(scraped, grafana.load(name))
    assert found["namespace"] == [scraped.namespace]
    assert [name for name, values in found.items() if not values] == []


@each_dashboard
def test_every_query_returns_data(scraped: Scraped, name: str) -> None:
    """No panel is empty under load, whatever is chosen; a quantile that is NaN throughout counts as nothing."""
    dashboard = grafana.load(name)
    empty = {
        f"{query}: {grafana.put_in(query.expr, values)}"
        for values in chosen(scraped, dashboard)
        for query in grafana.queries(dashboard)
        for series in answers(scraped, query, values)
        if not any(one.has_data for one in series)
    }
    assert empty == set()


@each_dashboard
def test_every_legend_names_labels_that_there_are(scraped: Scraped, name: str) -> None:
    """A label in a legend that the series does not have would show as nothing."""
    dashboard = grafana.load(name)
    values = next(chosen(scraped, dashboard))
    wrong = [
        f"{query}: {query.legend}"
        for query in grafana.queries(dashboard)
        for series in answers(scraped, query, values)
        if not set(re.findall(r"\{\{(\w+)\}\}", query.legend)) <= {label for one in series for label in one.labels}
    ]
    assert wrong == []


@each_dashboard
def test_every_field_of_a_table_exists(scraped: Scraped, name: str) -> None:
    """What a table renames, hides, orders, sorts by and colours are fields that its queries return."""
    dashboard = grafana.load(name)
    values = next(chosen(scraped, dashboard))
    for panel in grafana.panels(dashboard):
        if panel["type"] != "table":
            continue
        given = table_fields(scraped, dashboard, panel, values)
        organize = next(t["options"] for t in panel["transformations"] if t["id"] == "organize")
        asked = {field for part in ("excludeByName", "renameByName", "indexByName") for field in organize[part]}
        assert asked <= given, panel["title"]
        kept = given - {field for field, gone in organize["excludeByName"].items() if gone}
        assert kept == set(organize["indexByName"]), f"{panel['title']}: what is shown has its place"
        shown = {organize["renameByName"].get(field, field) for field in kept}
        named = {override["matcher"]["options"] for override in panel["fieldConfig"]["overrides"]}
        named |= {by["displayName"] for by in panel["options"].get("sortBy", ())}
        assert named <= shown, panel["title"]


def table_fields(
    scraped: Scraped, dashboard: Mapping[str, Any], panel: Mapping[str, Any], values: Mapping[str, str | list[str]]
) -> set[str]:
    """Return the fields of a table's queries, merged."""
    fields = {"Time"}
    queries = [query for query in grafana.queries(dashboard) if query.panel["id"] == panel["id"]]
    for query in queries:
        fields.add("Value" if len(queries) == 1 else f"Value #{query.ref}")
        for series in answers(scraped, query, values):
            fields |= {label for one in series for label in one.labels}
    return fields


@each_dashboard
def test_every_override_means_something_that_is_shown(scraped: Scraped, name: str) -> None:
    """A colour or a unit that is given to a name belongs to a series of that name."""
    dashboard = grafana.load(name)
    values = next(chosen(scraped, dashboard))
    for panel in grafana.panels(dashboard):
        named = {override["matcher"]["options"] for override in panel["fieldConfig"]["overrides"]}
        if panel["type"] == "table" or not named:
            continue
        shown = {
            legend(query, series)
            for query in grafana.queries(dashboard)
            if query.panel["id"] == panel["id"]
            for answer in answers(scraped, query, values)
            for series in answer
        }
        assert named <= shown, panel["title"]


def legend(query: Query, series: Series) -> str:
    """Return what a series is called."""
    return re.sub(r"\{\{(\w+)\}\}", lambda label: series.labels.get(label[1], ""), query.legend)


# -- what is named ---------------------------------------------------------------------------------------------------


@each_dashboard
def test_every_metric_and_label_that_is_named_exists(scraped: Scraped, name: str) -> None:
    """A selector that names a label which its metric does not have selects nothing, or everything."""
    for query in grafana.queries(grafana.load(name)):
        for metric, matchers in NAMED.findall(query.expr):
            labels: set[str] = set()
            for series in scraped.prometheus.series(metric, scraped.begin, scraped.end):
                labels |= series.keys()
            assert labels, f"{query}: there is no {metric}"
            assert set(re.findall(r"(\w+)\s*[=!]~?", matchers)) <= labels, f"{query}: {metric}{{{matchers}}}"
        known = {label for series in selected(scraped, query) for label in series}
        for grouped in re.findall(r"\b(?:by|on|without) \(([^()]*)\)", query.expr):
            assert set(re.split(r",\s*", grouped)) <= known, f"{query}: by ({grouped})"


def selected(scraped: Scraped, query: Query) -> Iterator[dict[str, str]]:
    """Yield the labels of all series whose metrics a query names."""
    for metric, _ in NAMED.findall(query.expr):
        yield from scraped.prometheus.series(metric, scraped.begin, scraped.end)


@each_dashboard
def test_every_selector_keeps_to_the_namespace(name: str) -> None:
    """Two deployments in one Prometheus are never added up."""
    for query in grafana.queries(grafana.load(name)):
        words = set(re.findall(r"\b(?:relay|process)_\w+", query.expr))
        selectors = NAMED.findall(query.expr)
        assert words <= {metric for metric, _ in selectors}, f"{query}: a metric without a selector"
        for metric, matchers in selectors:
            assert "$namespace" in matchers, f"{query}: {metric}{{{matchers}}}"


def test_every_metric_is_shown(scraped: Scraped) -> None:
    """What relay exposes stands on a dashboard; what does not is listed here with its reason."""
    named = {
        re.sub(r"_(bucket|sum|count)$", "", metric)
        for name in grafana.NAMES
        for query in grafana.queries(grafana.load(name))
        for metric, _ in NAMED.findall(query.expr)
    }
    exposed = {name for name in families(scraped) if name.startswith("relay_")}
    assert exposed - named == set(SHOWN_NOWHERE)
    strangers = {name for name in named - exposed - OTHERS_METRICS if not name.startswith("process_")}
    assert strangers == set(), "what no process exposes"


def families(scraped: Scraped) -> set[str]:
    """Return the names of all metrics that any process exposes."""
    return {name for text in scraped.texts.values() for name in re.findall(r"^# TYPE (\w+)", text, re.MULTILINE)}


def test_every_metric_has_moved(scraped: Scraped) -> None:
    """The load that fills the panels moves every metric, but for those that are listed with a reason."""
    still = {name for name in families(scraped) if name.startswith("relay_")} - scraped.moved
    assert still == set(DOES_NOT_MOVE)


# -- what promtool says ----------------------------------------------------------------------------------------------


def test_promtool_finds_nothing_wrong_with_the_metrics(scraped: Scraped) -> None:
    """Names, types and help texts of every process are as Prometheus wants them."""
    for pod, text in scraped.texts.items():
        done = promtool("check", "metrics", stdin=text)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), pod


def test_promtool_finds_nothing_wrong_with_the_configuration(scraped: Scraped) -> None:
    """What Prometheus was started with here, the alerts' rules among it, is what promtool takes for good."""
    done = promtool("check", "config", scraped.config)
    assert done.returncode == 0, done.stderr
    assert "FAILED" not in done.stdout + done.stderr
