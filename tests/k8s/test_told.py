"""What README tells of Kubernetes is so: who copies a command from it finds what it names."""

import re
from hashlib import sha256
from pathlib import Path

import pytest

from relay import __version__
from relay.settings import load
from tests.k8s.kubectl import ROOT
from tests.k8s.rendered import DIRECTORIES, K8S, Object, name_of, named, of_kind, overlay, pods
from tests.k8s.test_rendering import VERSIONS
from tests.k8s.test_settings import laid_out, secrets

README = (ROOT / "README.md").read_text(encoding="utf-8")
TOLD = README[README.index("\n## On Kubernetes\n") : README.index("\n## Send webhooks\n")]
COMMANDS = "\n".join(re.findall(r"```sh\n(.*?)```", TOLD, re.DOTALL)) + "\n".join(
    re.findall(r"`(kubectl [^`]*)`", TOLD)
)
PLAIN = re.sub(r"\s+", " ", COMMANDS.replace("\\\n", " "))

KINDS = {"deployment": "Deployment", "service": "Service", "job": "Job"}


def in_namespace(namespace: str) -> list[Object]:
    """What README's commands may name in a namespace."""
    return overlay({"relay": "overlays/production", "relay-demo": "overlays/demo"}[namespace])


def test_folders_that_are_applied_exist() -> None:
    """Each -k names what can be rendered, each -f a file, and every other path a place in k8s/."""
    assert {path.removeprefix("k8s/") for path in re.findall(r"-k (k8s/\S+)", PLAIN)} <= set(DIRECTORIES)
    for path in re.findall(r" -f (\S+)", PLAIN):
        assert (ROOT / path).is_file(), path
    for path in re.findall(r"`(k8s/[\w/.-]+)`", README):
        assert (ROOT / path).exists(), path
    for name in ("fixed-egress.yaml", "vendors.cilium.yaml", "ingress.example.yaml", "secret.example.yaml"):
        assert name in TOLD
        assert list(K8S.rglob(name)), name


def test_objects_that_are_named_exist() -> None:
    """Deployments, Services and Jobs of the commands are in the namespace that the command names."""
    looked_at = 0
    for namespace, rest in re.findall(r"kubectl -n (relay(?:-demo)?)((?:(?!kubectl).)*)", PLAIN):
        for kind, name in re.findall(r"\b(deployment|service|job)/([\w-]+)", rest):
            named(in_namespace(namespace), f"{KINDS[kind]}/{name}")
            looked_at += 1
    assert looked_at >= 10


def test_forwarded_ports_are_served() -> None:
    """Each port-forward leads to a port of the Service."""
    forwarded = re.findall(r"-n (\S+) port-forward service/(\S+) (\d+)", PLAIN)
    assert {(name, port) for _, name, port in forwarded} == {("grafana", "3000"), ("relay", "8080")}
    for namespace, name, port in forwarded:
        ports = named(in_namespace(namespace), f"Service/{name}")["spec"]["ports"]
        assert int(port) in {one["port"] for one in ports}


def test_three_commands_install_the_demo() -> None:
    """The first block has three lines, of clusters that the make target knows and the image that the overlay names."""
    first = re.findall(r"```sh\n(.*?)```", TOLD, re.DOTALL)[0]
    assert [line.split()[0] for line in first.splitlines()] == ["make", "kubectl", "kubectl"]
    build = (ROOT / "k8s" / "image" / "build.sh").read_text(encoding="utf-8")
    assert "kind | minikube | k3d)" in build
    assert f"relay:{__version__}" in first
    (relay,) = (thing for thing in overlay("overlays/demo") if name_of(thing) == "Deployment/relay")
    assert relay["spec"]["template"]["spec"]["containers"][0]["image"] == f"relay:{__version__}"


def test_the_command_makes_the_secret_that_production_needs() -> None:
    """Its keys are those that production's pods and settings name: no more, no fewer."""
    (command,) = re.findall(r"kubectl -n relay create secret generic relay(.*?)kubectl", PLAIN)
    keys = re.findall(r"--from-(?:literal|file)=([\w.-]+)", command)
    assert sorted(keys) == sorted(secrets("overlays/production"))


def test_labels_are_those_that_policies_go_by() -> None:
    """The labels that README gives to namespaces are those that let in."""
    told = dict.fromkeys(re.findall(r"kubectl label namespace \S+ (\S+)=true", PLAIN), "true")
    wanted: dict[str, str] = {}
    for policy in of_kind(overlay("overlays/production"), "NetworkPolicy"):
        for rule in policy["spec"].get("ingress", []):
            for peer in rule["from"]:
                wanted |= peer["namespaceSelector"]["matchLabels"]
    assert told == wanted


def test_figures_are_those_of_the_files() -> None:
    """How many pods, how many connections, which versions: README's figures are the files'."""
    (scaler,) = of_kind(overlay("overlays/production"), "HorizontalPodAutoscaler")
    assert f"{scaler['spec']['minReplicas']} to {scaler['spec']['maxReplicas']} pods by their CPU" in TOLD
    comment = (K8S / "overlays/production/receive/horizontalpodautoscaler.yaml").read_text(encoding="utf-8")
    (connections,) = re.findall(r"are (\d+),", comment)
    assert f"a rollout, {connections}" in TOLD
    assert f"Kubernetes {VERSIONS[0]}, {VERSIONS[1]} and {VERSIONS[2]}" in TOLD
    (job,) = of_kind(overlay("overlays/production"), "Job")
    assert f"job/{job['metadata']['name']}" in PLAIN


@pytest.mark.parametrize("namespace", ["relay", "relay-demo"])
def test_it_says_how_to_correct_a_job(namespace: str) -> None:
    """A Job cannot be changed: README and the place of the image's name tell the command that takes it away first."""
    (job,) = of_kind(in_namespace(namespace), "Job")
    command = f"kubectl -n {namespace} delete job/{job['metadata']['name']}"
    folder = {"relay": "production", "relay-demo": "demo"}[namespace]
    assert command in PLAIN
    assert command in (K8S / "overlays" / folder / "kustomization.yaml").read_text(encoding="utf-8")


def test_what_it_wants_to_be_adapted_is_there() -> None:
    """What platforms of another kind refuse is in every pod under these names, and the policy about names too."""
    assert "delete `runAsUser`, `runAsGroup` and `fsGroup` from Deployments and Job" in re.sub(r"\s+", " ", TOLD)
    for pod in pods(overlay("overlays/production")):
        assert {"runAsUser", "runAsGroup", "fsGroup"} <= set(pod.spec["securityContext"]), pod.owner
        assert not any(key.startswith(("run", "fs")) for one in pod.containers for key in one["securityContext"])
    policy = named(overlay("base"), "NetworkPolicy/relay-database")
    assert "`relay-database` needs more" in TOLD
    assert 53 in {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}


def test_ci_is_asked_for_in_one_way() -> None:
    """Where nothing may be skipped is said by `CI=true` and nothing else, in all folders of tests."""
    asked = [
        (path.name, rest)
        for path in (ROOT / "tests").rglob("*.py")
        for rest in re.findall(r'environ\.get\("CI"\)(.{0,10})', path.read_text(encoding="utf-8"))
    ]
    assert len(asked) >= 4
    assert all(re.match(r' [=!]= "true"', rest) for _, rest in asked), asked
    assert "CI=true" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_the_demos_token_is_the_demos(tmp_path: Path) -> None:
    """The token that README names opens the demo's status API: its hash stands in the demo's settings."""
    (told,) = re.findall(r"its token there is `([^`]+)`", TOLD)
    (token,) = load(laid_out("overlays/demo", tmp_path), {}).api.tokens.values()
    assert token.sha256 == sha256(told.encode()).hexdigest()


@pytest.mark.parametrize("words", ["No real cluster and no real Grafana", "were not fetched"])
def test_it_says_what_was_not_tried(words: str) -> None:
    """README is plain about what nobody has seen at work."""
    assert words in re.sub(r"\s+", " ", TOLD)
