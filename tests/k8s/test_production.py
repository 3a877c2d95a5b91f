"""Production: who flushes stays as many as they are, who receives grows; and all that is said twice says the same."""

import json
import re
import shutil
from pathlib import Path

import pytest

from relay import __version__
from relay.app import APPEND_CONNECTIONS, CONNECTIONS
from tests.k8s.kubectl import kubectls
from tests.k8s.rendered import K8S, Object, everything_offered, named, of_kind, overlay, pods, render


def production(name: str) -> Object:
    """One of production's objects, as Deployment/relay."""
    return named(overlay("overlays/production"), name)


def test_only_who_receives_is_scaled() -> None:
    """One autoscaler, by CPU, over `relay-receive`; who flushes are two, whatever comes."""
    (scaler,) = of_kind(overlay("overlays/production"), "HorizontalPodAutoscaler")
    spec = scaler["spec"]
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "relay-receive"}
    (metric,) = spec["metrics"]
    assert metric["resource"]["name"] == "cpu"
    assert metric["resource"]["target"]["averageUtilization"] <= 80, "above that no pod would ever be added in time"
    assert 2 <= spec["minReplicas"] < spec["maxReplicas"]
    assert spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"] >= 300
    assert production("Deployment/relay")["spec"]["replicas"] == 2
    assert "replicas" not in production("Deployment/relay-receive")["spec"], (
        "each apply would undo the autoscaler's work"
    )
    for directory in ("base", "overlays/demo"):
        assert not of_kind(overlay(directory), "HorizontalPodAutoscaler")


def test_the_autoscaler_says_how_many_connections_it_may_take() -> None:
    """The figures in its comment are those of the files and of relay."""
    (scaler,) = of_kind(overlay("overlays/production"), "HorizontalPodAutoscaler")
    most = scaler["spec"]["maxReplicas"] + 1 + production("Deployment/relay")["spec"]["replicas"] + 1
    comment = (K8S / "overlays/production/receive/horizontalpodautoscaler.yaml").read_text("utf-8")
    assert f"{CONNECTIONS + APPEND_CONNECTIONS} connections" in comment
    assert f"are {most * (CONNECTIONS + APPEND_CONNECTIONS)}," in comment


def test_both_kinds_are_one_service() -> None:
    """The two Deployments differ in name, role, replicas, and what a role needs: one source, and nothing forgotten."""
    flush, receive = (pod.spec for pod in pods(overlay("overlays/production")) if pod.containers[-1]["name"] == "relay")
    assert set(flush) == set(receive)
    one, other = flush["containers"][0], receive["containers"][0]
    assert {key for key in one if one[key] != other[key]} == {"env", "resources"}
    differing = [mine["name"] for mine, theirs in zip(one["env"], other["env"], strict=True) if mine != theirs]
    assert differing == ["RELAY_ROLES"]
    different = {key for key in flush if flush[key] != receive[key]} - {"containers"}
    assert different == {"topologySpreadConstraints", "volumes"}


def test_the_migration_is_named_after_the_version() -> None:
    """Another version of relay has another Job: the old one cannot be changed, and would not run again."""
    for directory in ("base", "overlays/production", "overlays/demo"):
        (job,) = of_kind(overlay(directory), "Job")
        assert job["metadata"]["name"] == f"relay-migrate-{__version__.replace('.', '-')}"
        assert job["spec"]["ttlSecondsAfterFinished"] > 0
        (container,) = job["spec"]["template"]["spec"]["containers"]
        assert container["args"] == ["migrate"]
        assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never"


@pytest.mark.parametrize("directory", ["base", "overlays/production", "overlays/demo"])
def test_the_migration_stays_what_it_was(directory: str, tmp_path: Path) -> None:
    """`kubectl apply` can be repeated with other settings and secrets: the Job, which is fixed, hangs on neither."""
    copy = tmp_path / "k8s"
    shutil.copytree(K8S, copy)
    settings = copy / directory / "relay.toml"
    settings.write_text(settings.read_text("utf-8") + "# changed\n", encoding="utf-8")
    kustomization = copy / directory / "kustomization.yaml"
    kustomization.write_text(kustomization.read_text("utf-8").replace("demo-password", "another"), encoding="utf-8")
    before, after = overlay(directory), render(copy / directory)
    assert named(before, "Deployment/relay") != named(after, "Deployment/relay"), "else nothing was changed"
    assert of_kind(before, "Job") == of_kind(after, "Job")


def test_alerts_lead_to_the_operators_runbook(tmp_path: Path) -> None:
    """One value leads every alert to where README is kept; for the replacement nothing else comes into the cluster."""
    everything_offered(tmp_path / "offered")
    copy = tmp_path / "k8s"
    shutil.copytree(tmp_path / "offered", copy)  # at a path that was not rendered before
    kustomization = copy / "overlays" / "production" / "monitoring" / "kustomization.yaml"
    text = kustomization.read_text(encoding="utf-8")
    assert text.count("url=https://example.com/relay/README.md") == 1
    text = text.replace("url=https://example.com/relay/README.md", "url=https://git.example.jp/ours.md")
    kustomization.write_text(text, encoding="utf-8")
    objects = render(copy / "overlays" / "production")
    assert all(render(copy / "overlays" / "production", kubectl) == objects for kubectl in kubectls())
    rules = json.dumps(named(objects, "PrometheusRule/relay"))
    assert "example.com" not in rules
    original = json.dumps(named(overlay("monitoring"), "PrometheusRule/relay"))
    anchors = [re.findall(r'"runbook_url": "[^"#]+#(\w+)"', found) for found in (rules, original)]
    assert anchors[0] == anchors[1]
    assert len(anchors[0]) == rules.count("https://git.example.jp/ours.md#") > 40
    maps = {re.sub("^relay-[a-z0-9]{10}$", "relay", one["metadata"]["name"]) for one in of_kind(objects, "ConfigMap")}
    assert maps == {"relay", "relay-overview", "relay-delivery"}


def test_rollouts_take_nobody_away_first() -> None:
    """A new pod is ready before an old one goes, and the old one is out of the Service before it stops listening."""
    for directory in ("base", "overlays/production", "overlays/demo"):
        serving = [
            thing
            for thing in of_kind(overlay(directory), "Deployment")
            if thing["metadata"]["name"].startswith("relay")
        ]
        assert serving
        for deployment in serving:
            spec = deployment["spec"]
            assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
            (container,) = spec["template"]["spec"]["containers"]
            assert container["args"] == ["serve"]
            assert container["lifecycle"]["preStop"]["sleep"]["seconds"] >= 5
