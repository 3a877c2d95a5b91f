"""Nothing in the files points at what is not there."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.k8s.rendered import K8S, Object, Pod, containers, name_of, of_kind, overlay, pods, selects

OVERLAYS = ("base", "overlays/production", "overlays/demo")


def example() -> dict[str, str]:
    """The keys of the Secret that an operator makes, with the example's values."""
    text: dict[str, str] = yaml.safe_load((K8S / "base" / "secret.example.yaml").read_text("utf-8"))["stringData"]
    return text


def held(objects: list[Object]) -> dict[tuple[str, str], set[str]]:
    """The keys of every ConfigMap and Secret that there is or that an operator makes, by kind and name."""
    found = {
        (thing["kind"], thing["metadata"]["name"]): set(thing.get("data", {})) | set(thing.get("stringData", {}))
        for thing in of_kind(objects, "ConfigMap", "Secret")
    }
    if not of_kind(objects, "Secret"):
        found["Secret", "relay"] = set(example())
    return found


def wanted(pod: Pod) -> Iterator[tuple[str, str, set[str], bool]]:
    """Yield what a pod's volumes take: kind, name, keys (none for all), and whether it may be missing."""
    for volume in pod.spec.get("volumes", []):
        for source in volume.get("projected", {}).get("sources", [volume]):
            for field, kind, name in (("configMap", "ConfigMap", "name"), ("secret", "Secret", "name")):
                taken: dict[str, Any] | None = source.get(field)
                if taken is not None:
                    keys = {key["key"] for key in taken.get("items", [])}
                    yield kind, taken.get(name) or taken["secretName"], keys, taken.get("optional", False)


@pytest.mark.parametrize("directory", OVERLAYS)
def test_what_is_mounted_is_there(directory: str) -> None:
    """Every ConfigMap, Secret and key of theirs exists, and every mount has its volume."""
    objects = overlay(directory)
    there = held(objects)
    for pod in pods(objects):
        for kind, name, keys, optional in wanted(pod):
            assert optional or (kind, name) in there, (pod.owner, name)
            assert optional or keys <= there[kind, name], (pod.owner, name)
    for place, pod, container in containers(objects):
        volumes = {volume["name"]: volume for volume in pod.spec.get("volumes", [])}
        for mount in container.get("volumeMounts", []):
            assert mount["name"] in volumes, place
            if "subPath" in mount:
                assert mount["subPath"] in there["ConfigMap", volumes[mount["name"]]["configMap"]["name"]], place


@pytest.mark.parametrize("directory", OVERLAYS)
def test_what_is_not_mounted_is_not_read(directory: str) -> None:
    """No volume without a mount, no ConfigMap without a reader, no secret in the environment."""
    objects = overlay(directory)
    for pod in pods(objects):
        mounted = {mount["name"] for one in pod.containers for mount in one.get("volumeMounts", [])}
        assert {volume["name"] for volume in pod.spec.get("volumes", [])} == mounted, pod.owner
    read = {(kind, name) for pod in pods(objects) for kind, name, _, _ in wanted(pod)}
    assert {(thing["kind"], thing["metadata"]["name"]) for thing in of_kind(objects, "ConfigMap", "Secret")} <= read
    for place, _, container in containers(objects):
        assert "envFrom" not in container, place
        assert not any("valueFrom" in variable for variable in container.get("env", [])), place


@pytest.mark.parametrize("directory", OVERLAYS)
def test_service_accounts_are_there(directory: str) -> None:
    """A pod of an account that does not exist is never made."""
    accounts = {thing["metadata"]["name"] for thing in of_kind(overlay(directory), "ServiceAccount")} | {"default"}
    assert {pod.spec.get("serviceAccountName", "default") for pod in pods(overlay(directory))} <= accounts


@pytest.mark.parametrize("directory", OVERLAYS)
def test_workloads_select_their_own_pods(directory: str) -> None:
    """Each workload takes its own pods and no others: two that share one would undo each other's work."""
    for thing in of_kind(overlay(directory), "Deployment", "StatefulSet"):
        taken = [pod.owner for pod in pods(overlay(directory)) if selects(thing["spec"]["selector"], pod.labels)]
        assert taken == [name_of(thing)]


@pytest.mark.parametrize("directory", OVERLAYS)
def test_services_lead_to_pods(directory: str) -> None:
    """Each Service has pods behind it, each of which has the ports; none leads to the migration."""
    for service in of_kind(overlay(directory), "Service"):
        behind = [
            p for p in pods(overlay(directory)) if selects({"matchLabels": service["spec"]["selector"]}, p.labels)
        ]
        assert len(behind) == 1, name_of(service)
        for port in service["spec"]["ports"]:
            assert behind[0].ports[port["targetPort"]] == port["port"], name_of(service)


@pytest.mark.parametrize("directory", OVERLAYS)
def test_drains_are_never_blocked(directory: str) -> None:
    """A budget stands over one workload of two replicas or more and lets one go; who has one replica has no budget."""
    objects = overlay(directory)
    least = {name_of(thing): thing["spec"].get("replicas") for thing in of_kind(objects, "Deployment", "StatefulSet")}
    for scaler in of_kind(objects, "HorizontalPodAutoscaler"):
        least[f"Deployment/{scaler['spec']['scaleTargetRef']['name']}"] = scaler["spec"]["minReplicas"]
    guarded = []
    for budget in of_kind(objects, "PodDisruptionBudget"):
        assert set(budget["spec"]) == {"selector", "maxUnavailable", "unhealthyPodEvictionPolicy"}
        assert budget["spec"]["maxUnavailable"] == 1
        assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
        (owner,) = (pod.owner for pod in pods(objects) if selects(budget["spec"]["selector"], pod.labels))
        guarded.append(owner)
    assert sorted(guarded) == sorted(owner for owner, replicas in least.items() if replicas >= 2)


@pytest.mark.parametrize("directory", OVERLAYS)
def test_policies_take_pods_and_ports_that_exist(directory: str) -> None:
    """A policy without pods, or with a port of no pod's, protects nothing and looks as if it did."""
    objects = overlay(directory)
    for policy in of_kind(objects, "NetworkPolicy"):
        spec = policy["spec"]
        taken = [pod for pod in pods(objects) if selects(spec["podSelector"], pod.labels)]
        assert taken, name_of(policy)
        for rule in spec.get("ingress", []):
            known = {port for pod in taken for port in pod.ports.values()}
            assert {port["port"] for port in rule["ports"]} <= known, name_of(policy)
        for rule in spec.get("egress", []):
            for peer in rule["to"]:
                if "podSelector" in peer and "namespaceSelector" not in peer:
                    there = [pod for pod in pods(objects) if selects(peer["podSelector"], pod.labels)]
                    assert there, name_of(policy)
                    known = {port for pod in there for port in pod.ports.values()}
                    assert {port["port"] for port in rule["ports"]} <= known, name_of(policy)
