"""Every pod is as small, as closed and as patient as it has to be."""

import re
from itertools import product
from pathlib import Path

import pytest

from relay import __version__, app
from relay.demo.names import PORTS
from relay.listening import SHUTDOWN_TIMEOUT_S
from relay.metrics import Metrics
from relay.settings import Process
from relay.status import ops_app
from relay.store.database import CONNECT_TIMEOUT_S
from tests.k8s.rendered import RELAY, Object, containers, name_of, of_kind, overlay, pods

OVERLAYS = ("base", "overlays/production", "overlays/demo")
USER = 10001
"""The image's own user."""

VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
"""What the profile lets a pod mount."""

WITHOUT_PROBES = {"Deployment/traffic/traffic"}
"""It listens on nothing and waits for relay by itself."""


@pytest.mark.parametrize("directory", OVERLAYS)
def test_pods_are_restricted(directory: str) -> None:
    """Each pod keeps to the profile *restricted* of the Pod Security Standards, and so may run in any namespace."""
    for pod in pods(overlay(directory)):
        spec, security = pod.spec, pod.spec["securityContext"]
        assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers"} & set(spec), pod.owner
        assert security["runAsNonRoot"] is True, pod.owner
        assert security["runAsUser"] > 0, pod.owner
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, pod.owner
        assert not {"sysctls", "seLinuxOptions", "windowsOptions", "supplementalGroups"} & set(security), pod.owner
        for volume in spec.get("volumes", []):
            assert set(volume) - {"name"} <= VOLUMES, (pod.owner, volume["name"])
    for place, _, container in containers(overlay(directory)):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, place
        assert not any("hostPort" in port or "hostIP" in port for port in container.get("ports", [])), place


@pytest.mark.parametrize("directory", OVERLAYS)
def test_pods_are_told_nothing_of_the_cluster(directory: str) -> None:
    """No token of the API, no links of Services, which would set RELAY_PORT; and relay runs as its image's user."""
    for pod in pods(overlay(directory)):
        assert pod.spec["automountServiceAccountToken"] is False, pod.owner
        assert pod.spec["enableServiceLinks"] is False, pod.owner
        security = pod.spec["securityContext"]
        assert security["runAsUser"] == security["runAsGroup"] == security["fsGroup"], pod.owner
        if pod.containers[-1]["name"] in RELAY:
            assert security["runAsUser"] == USER, pod.owner
    for account in of_kind(overlay(directory), "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False


@pytest.mark.parametrize("directory", ["overlays/production", "overlays/demo"])
def test_the_namespace_demands_it(directory: str) -> None:
    """The namespaces that come with relay refuse pods that are not restricted."""
    (namespace,) = of_kind(overlay(directory), "Namespace")
    for mode in ("enforce", "audit", "warn"):
        assert namespace["metadata"]["labels"][f"pod-security.kubernetes.io/{mode}"] == "restricted"
    named = {thing["metadata"].get("namespace") for thing in overlay(directory) if thing["kind"] != "Namespace"}
    assert named == {namespace["metadata"]["name"]}


@pytest.mark.parametrize("directory", OVERLAYS)
def test_images_are_pinned(directory: str) -> None:
    """Relay's own image has relay's version as its tag; every other has a version and a digest."""
    for place, _, container in containers(overlay(directory)):
        if container["name"] in RELAY:
            assert container["image"] == f"relay:{__version__}", place
        else:
            assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+(\.\d+)?@sha256:[0-9a-f]{64}", container["image"]), place
        assert container["imagePullPolicy"] == "IfNotPresent", place


@pytest.mark.parametrize("directory", OVERLAYS)
def test_everything_is_limited(directory: str) -> None:
    """Processor, memory, and every folder in which a pod may write; nobody asks for more than what is allowed."""
    for place, _, container in containers(overlay(directory)):
        requests, limits = container["resources"]["requests"], container["resources"]["limits"]
        assert {"cpu", "memory"} <= set(requests), place
        assert set(requests) == set(limits), place
        assert all(_amount(requests[name]) <= _amount(limits[name]) for name in requests), place
    for pod in pods(overlay(directory)):
        for volume in pod.spec.get("volumes", []):
            assert "emptyDir" not in volume or volume["emptyDir"]["sizeLimit"], (pod.owner, volume["name"])


@pytest.mark.parametrize("directory", OVERLAYS)
def test_the_spool_holds_what_may_be_spooled(directory: str) -> None:
    """Who flushes has room for as many files as go up at once, each as large as any vendor takes."""
    file_bytes_max = 30_000_000
    for place, pod, container in containers(overlay(directory)):
        if container["name"] != "relay":
            continue
        sizes = {
            volume["name"]: _amount(volume["emptyDir"]["sizeLimit"])
            for volume in pod.spec["volumes"]
            if "emptyDir" in volume
        }
        roles = _env(container)["RELAY_ROLES"]
        wanted = Process.model_fields["uploads_max"].default * file_bytes_max if "flush" in roles else 0
        assert sizes["spool"] > wanted, place
        assert _amount(container["resources"]["limits"]["ephemeral-storage"]) > sum(sizes.values()), place


def test_amounts_are_read_right() -> None:
    """What the comparisons rest on: Kubernetes's own units."""
    read = {"500m": 0.5, "2": 2, "64Mi": 64 * 2**20, "4Gi": 4 * 2**30}
    assert {text: _amount(text) for text in read} == read


def _amount(text: str) -> float:
    units = {"": 1, "m": 0.001, "Mi": 2**20, "Gi": 2**30}
    found = re.fullmatch(r"(\d+)([A-Za-z]*)", text)
    assert found, text
    return float(found[1]) * units[found[2]]


@pytest.mark.parametrize("directory", OVERLAYS)
def test_places_to_write_are_writable(directory: str) -> None:
    """The root is read-only: relay's spool and /tmp are volumes, and nothing else of a serving pod may be written."""
    for place, pod, container in containers(overlay(directory)):
        if container["name"] != "relay":
            continue
        kinds = {volume["name"]: (set(volume) - {"name"}).pop() for volume in pod.spec["volumes"]}
        writable = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
        assert writable == {_env(container)["RELAY_SPOOL_DIR"], "/tmp"}, place  # noqa: S108 - a path in a pod
        assert {kinds[m["name"]] for m in container["volumeMounts"] if m["mountPath"] in writable} == {"emptyDir"}, (
            place
        )
        assert Path(_env(container)["RELAY_CONFIG"]).parent.as_posix() in {
            m["mountPath"] for m in container["volumeMounts"]
        }


def _env(container: Object) -> dict[str, str]:
    return {variable["name"]: variable.get("value", "") for variable in container.get("env", [])}


@pytest.mark.parametrize("directory", OVERLAYS)
def test_variables_exist(directory: str) -> None:
    """Each variable that begins with RELAY_ is one that relay reads; a mistyped one would be ignored in silence."""
    known = {f"RELAY_{field.upper()}" for field in Process.model_fields}
    known |= {"RELAY_DATABASE_URL_FILE", "RELAY_SECRET_KEY_FILE"}
    for place, _, container in containers(overlay(directory)):
        names = {name for name in _env(container) if name.startswith("RELAY_")}
        assert names <= known | ({"RELAY_URL"} if container["name"] == "traffic" else set()), place


@pytest.mark.parametrize("directory", OVERLAYS)
def test_probes_ask_what_relay_answers(directory: str) -> None:
    """Ports are those on which relay listens, probes go to paths of the ops port, and readiness is not liveness."""
    ops = {resource.canonical for resource in ops_app(Metrics(), lambda: None).router.resources()}
    fields = Process.model_fields
    for place, pod, container in containers(overlay(directory)):
        if container["name"] == "relay":
            assert pod.ports == {"http": fields["port"].default, "ops": fields["ops_port"].default}, place
            probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")}
            assert {probe["port"] for probe in probes.values()} == {"ops"}, place
            paths = {name: probe["path"] for name, probe in probes.items()}
            assert paths == {"startup": "/healthz", "readiness": "/readyz", "liveness": "/healthz"}, place
            assert {"/metrics", *paths.values()} <= ops
        if container["name"] == "vendors":
            assert pod.ports == PORTS


@pytest.mark.parametrize("directory", OVERLAYS)
def test_whatever_stays_is_asked(directory: str) -> None:
    """Each container that runs on says whether it is ready and whether it is alive, at a port that it names."""
    for thing, kind in product(of_kind(overlay(directory), "Deployment", "StatefulSet"), ("readiness", "liveness")):
        for container in thing["spec"]["template"]["spec"]["containers"]:
            place = f"{name_of(thing)}/{container['name']}"
            if place in WITHOUT_PROBES:
                assert "ports" not in container
                continue
            probe = container[f"{kind}Probe"]
            assert (
                probe["timeoutSeconds"] <= probe["periodSeconds"] or kind == "startup" or probe["periodSeconds"] <= 2
            ), place
            if "httpGet" in probe:
                assert probe["httpGet"]["port"] in {port["name"] for port in container["ports"]}, place


@pytest.mark.parametrize("directory", OVERLAYS)
def test_there_is_time_to_end(directory: str) -> None:
    """Kubernetes kills no relay that ends as it should: the sleep, uploads, answers and Postgres have their time."""
    serving = [(pod, one) for _, pod, one in containers(overlay(directory)) if one["name"] == "relay"]
    assert serving
    for pod, container in serving:
        sleep_s = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        needed_s = sleep_s + app.SHUTDOWN_GRACE_S + SHUTDOWN_TIMEOUT_S + 2 * CONNECT_TIMEOUT_S
        assert pod.spec["terminationGracePeriodSeconds"] > needed_s, pod.owner


@pytest.mark.parametrize("directory", OVERLAYS)
def test_replicas_stand_apart(directory: str) -> None:
    """Replicas are spread over zones and nodes, each rollout for itself, and an empty zone keeps nobody waiting."""
    for pod in pods(overlay(directory)):
        if pod.containers[-1]["name"] != "relay":
            continue
        spread = pod.spec["topologySpreadConstraints"]
        assert [one["topologyKey"] for one in spread] == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
        for one in spread:
            assert one["whenUnsatisfiable"] == "ScheduleAnyway"
            assert one["labelSelector"]["matchLabels"].items() <= pod.labels.items()
            assert one["matchLabelKeys"] == ["pod-template-hash"]
