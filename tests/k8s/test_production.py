"""Production: who flushes stays as many as they are, who receives grows; and all that is said twice says the same."""

import yaml

from relay import __version__
from relay.app import APPEND_CONNECTIONS, CONNECTIONS
from relay.settings import Process
from tests.k8s.rendered import K8S, Object, named, of_kind, overlay, pods


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


def test_the_ingress_lets_through_what_relay_takes() -> None:
    """The limit of nginx is a little above relay's own, so that relay itself says what is too large."""
    ingress = yaml.safe_load((K8S / "overlays/production/ingress.example.yaml").read_text("utf-8"))
    limits = {value for key, value in ingress["metadata"]["annotations"].items() if key.endswith("body-size")}
    assert len(limits) == 1
    (limit,) = limits
    assert int(limit.removesuffix("m")) * 2**20 >= Process.model_fields["body_bytes_max"].default
