"""What kustomize makes of k8s/ is what Kubernetes takes, in its present version and the two before."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes_validate import utils as schemas  # type: ignore[import-untyped] # it has no types

from tests.k8s.kubectl import kubectls
from tests.k8s.rendered import (
    DIRECTORIES,
    K8S,
    OFFERED,
    Object,
    everything_offered,
    name_of,
    named,
    of_kind,
    overlay,
    render,
)

VERSIONS = [f"1.{minor}" for minor in sorted({int(known.split(".")[1]) for known in schemas.all_versions()})[-3:]]
"""The newest Kubernetes whose schemas are at hand, and the two before it."""

OPERATORS = {"ServiceMonitor", "PrometheusRule"}
OTHERS = OPERATORS | {"CiliumNetworkPolicy"}
"""Kinds that Kubernetes itself does not know."""

APPLIED_BYTES_MAX = 262_144
"""`kubectl apply` keeps what it applied in an annotation, and all annotations of an object may have 256 KiB."""

DURATION = re.compile(r"(\d+(ms|[smhdwy]))+")

GENERATED = {
    "base": {"relay": ["base/relay.toml"]},
    "overlays/production": {"relay": ["overlays/production/relay.toml"]},
    "overlays/demo": {
        "relay": ["overlays/demo/relay.toml"],
        "prometheus": ["overlays/demo/prometheus/prometheus.yml"],
        "grafana": ["overlays/demo/grafana/datasources.yaml", "overlays/demo/grafana/dashboards.yaml"],
    },
    "monitoring": {
        "relay-overview": ["monitoring/dashboards/overview.json"],
        "relay-delivery": ["monitoring/dashboards/delivery.json"],
        "relay-rules": ["monitoring/rules.yaml"],
    },
}
"""Which ConfigMap of which folder holds which files."""


@pytest.mark.parametrize("directory", DIRECTORIES)
def test_every_kubectl_renders_the_same(directory: str) -> None:
    """The pinned kubectl and the one of the system, where there are both, make the same objects."""
    rendered = [render(K8S / directory, kubectl) for kubectl in kubectls()] or [overlay(directory)]
    assert all(objects == rendered[0] for objects in rendered)
    assert len({(thing.get("metadata", {}).get("namespace"), name_of(thing)) for thing in rendered[0]}) == len(
        rendered[0]
    )


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("directory", DIRECTORIES)
def test_every_object_fits_the_schema(directory: str, version: str) -> None:
    """Strictly: no unknown field, no wrong type, in the newest Kubernetes and the two before it."""
    _assert_valid(overlay(directory), version)


def _assert_valid(objects: list[Object], version: str) -> None:
    known = [thing for thing in objects if thing["kind"] not in OTHERS]
    for thing in known:
        assert schemas.validate(thing, version, strict=True) == schemas.major_minor(version)
    assert len(known) >= len(objects) - 2


def test_a_mistake_would_be_noticed() -> None:
    """The schemas are strict: a field of another name, or a number where text belongs, does not pass."""
    for mistake in ({"replica": 2}, {"replicas": "2"}):
        deployment = named(overlay("base"), "Deployment/relay")
        deployment["spec"] |= mistake
        with pytest.raises(schemas.ValidationError):
            schemas.validate(deployment, VERSIONS[-1], strict=True)


def test_three_versions_are_looked_at() -> None:
    """The current version and two earlier ones, one after the other."""
    minors = [int(version.split(".")[1]) for version in VERSIONS]
    assert minors == [minors[0], minors[0] + 1, minors[0] + 2]


def test_the_service_monitor_is_one() -> None:
    """Its fields are the operator's, the ports and labels that it names exist, and job is `relay` for every Service."""
    (monitor,) = of_kind(overlay("monitoring"), "ServiceMonitor")
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    spec = monitor["spec"]
    assert set(spec) <= {"jobLabel", "selector", "endpoints", "namespaceSelector", "targetLabels", "sampleLimit"}
    services = of_kind(overlay("overlays/production"), "Service")
    wanted = spec["selector"]["matchLabels"]
    scraped = [service for service in services if wanted.items() <= service["metadata"]["labels"].items()]
    assert {name_of(service) for service in scraped} == {"Service/relay", "Service/relay-receive"}
    assert {service["metadata"]["labels"][spec["jobLabel"]] for service in scraped} == {"relay"}
    (endpoint,) = spec["endpoints"]
    assert set(endpoint) <= {"port", "path", "interval", "scrapeTimeout", "honorLabels"}
    assert DURATION.fullmatch(endpoint["interval"])
    assert DURATION.fullmatch(endpoint["scrapeTimeout"])
    assert endpoint["path"] == "/metrics"
    for service in scraped:
        assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}


def test_the_rules_are_rules() -> None:
    """Fields and types are the operator's: what it does not know it would refuse, with all the rest."""
    (rule,) = of_kind(overlay("monitoring"), "PrometheusRule")
    assert (rule["apiVersion"], rule["metadata"]["name"]) == ("monitoring.coreos.com/v1", "relay")
    assert set(rule["spec"]) == {"groups"}
    names = [group["name"] for group in rule["spec"]["groups"]]
    assert len(set(names)) == len(names)
    for group in rule["spec"]["groups"]:
        assert set(group) <= {"name", "interval", "rules", "limit", "labels"}
        for one in group["rules"]:
            _assert_rule(one)


def _assert_rule(rule: dict[str, Any]) -> None:
    assert set(rule) <= {"alert", "record", "expr", "for", "keep_firing_for", "labels", "annotations"}
    assert ("alert" in rule) != ("record" in rule)
    assert isinstance(rule["expr"], str)
    assert all(DURATION.fullmatch(rule[field]) for field in ("for", "keep_firing_for") if field in rule)
    texts = [*rule.get("labels", {}).values(), *rule.get("annotations", {}).values()]
    assert all(isinstance(text, str) for text in texts)


@pytest.mark.parametrize("directory", DIRECTORIES)
def test_config_maps_hold_the_files(directory: str) -> None:
    """What a pod or Grafana's sidecar reads is the file, byte for byte; a changed file of settings has another name."""
    maps = of_kind(overlay(directory), "ConfigMap")
    for name, files in GENERATED[directory].items():
        (found,) = (one for one in maps if re.fullmatch(rf"{name}(-[a-z0-9]{{10}})?", one["metadata"]["name"]))
        assert found["data"] == {Path(file).name: (K8S / file).read_text(encoding="utf-8") for file in files}
        assert (found["metadata"]["name"] == name) == (directory == "monitoring")


def test_the_sidecar_finds_the_dashboards() -> None:
    """Both dashboards carry the label that the sidecar of Grafana's chart looks for, and nothing else does."""
    labelled = {
        thing["metadata"]["name"]
        for thing in overlay("monitoring")
        if thing["metadata"].get("labels", {}).get("grafana_dashboard") == "1"
    }
    assert labelled == {"relay-overview", "relay-delivery"}


@pytest.mark.parametrize("directory", DIRECTORIES)
def test_everything_can_be_applied(directory: str) -> None:
    """No object is too large for what `kubectl apply` remembers of it, with a tenth to spare."""
    for thing in overlay(directory):
        assert len(json.dumps(thing, ensure_ascii=False).encode()) < APPLIED_BYTES_MAX * 0.9, name_of(thing)


def test_what_is_offered_can_be_had(tmp_path: Path) -> None:
    """Every line of production that one may uncomment renders, and fits the schemas, all of them at once."""
    offered = [
        line
        for file in (K8S / "overlays" / "production").rglob("kustomization.yaml")
        for line in OFFERED.findall(file.read_text(encoding="utf-8"))
    ]
    wanted = {"monitoring", "ingress.example.yaml", "vendors.cilium.yaml", "path: fixed-egress.yaml"}
    assert {line.removeprefix("- ") for line in offered} == wanted
    objects = everything_offered(tmp_path / "k8s")
    kinds = {thing["kind"] for thing in objects} - {thing["kind"] for thing in overlay("overlays/production")}
    assert kinds == {"Ingress", "ServiceMonitor", "PrometheusRule", "CiliumNetworkPolicy"}
    for version in VERSIONS:
        for thing in objects:
            if thing["kind"] not in OTHERS:
                schemas.validate(thing, version, strict=True)
    (spec,) = (thing["spec"]["template"]["spec"] for thing in objects if name_of(thing) == "Deployment/relay")
    (receiving,) = (
        thing["spec"]["template"]["spec"] for thing in objects if name_of(thing) == "Deployment/relay-receive"
    )
    assert spec["nodeSelector"] == {"relay/egress": "fixed"}
    assert spec["tolerations"] == [
        {"key": "relay/egress", "operator": "Equal", "value": "fixed", "effect": "NoSchedule"}
    ]
    assert "nodeSelector" not in receiving


def test_examples_are_not_applied() -> None:
    """The Secret's example is never part of what is rendered, and only the demo brings secrets of its own."""
    example = yaml.safe_load((K8S / "base" / "secret.example.yaml").read_text(encoding="utf-8"))
    schemas.validate(example, VERSIONS[-1], strict=True)
    for directory in DIRECTORIES:
        assert bool(of_kind(overlay(directory), "Secret")) == (directory == "overlays/demo")
