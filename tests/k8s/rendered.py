"""What kustomize makes of k8s/: plain objects, and what one needs to walk over them."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.k8s.kubectl import ROOT, kubectls

_Loader: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C is ten times faster, and not everywhere

K8S = ROOT / "k8s"
DIRECTORIES = ("base", "overlays/production", "overlays/demo", "monitoring")
"""What can be applied, from k8s/ on."""

OFFERED = re.compile(r"^  # (- (?:path: )?[\w./-]+)$", re.MULTILINE)
"""A line of a kustomization that may be uncommented."""

Object = dict[str, Any]
RELAY = ("relay", "migrate", "vendors", "traffic")
"""Containers of relay's own image."""


def render(path: Path, kubectl: Path | None = None) -> list[Object]:
    """Render a folder: a copy at each call, in kustomize's order."""
    return deepcopy(_rendered(path, kubectl or _any()))


@cache
def _rendered(path: Path, kubectl: Path) -> list[Object]:
    command = [str(kubectl), "kustomize", str(path)]
    done = subprocess.run(command, capture_output=True, timeout=60, env={"HOME": "/nonexistent"}, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr.decode()
    return [document for document in yaml.load_all(done.stdout, Loader=_Loader) if document]


def _any() -> Path:
    """The first kubectl; without one the test is skipped, but not where everything has to be tested."""
    if kubectls():
        return kubectls()[0]
    if os.environ.get("CI") == "true":
        pytest.fail("no kubectl: `python -m tests.k8s.kubectl` fetches one")
    pytest.skip("no kubectl: `python -m tests.k8s.kubectl` fetches one")


def overlay(name: str) -> list[Object]:
    """Render one of DIRECTORIES."""
    return render(K8S / name)


def everything_offered(copy: Path) -> list[Object]:
    """Render production with every line uncommented that may be, in a copy of k8s/ at a path of its own."""
    shutil.copytree(K8S, copy)
    for file in (copy / "overlays" / "production").rglob("kustomization.yaml"):
        text = OFFERED.sub(r"  \1", file.read_text(encoding="utf-8"))
        file.write_text(text, encoding="utf-8")
    return render(copy / "overlays" / "production")


def name_of(thing: Object) -> str:
    """Say which object it is, as Deployment/relay."""
    return f"{thing['kind']}/{thing['metadata']['name']}"


def named(objects: list[Object], wanted: str) -> Object:
    """Find the one object of this name, as Deployment/relay."""
    (found,) = (thing for thing in objects if name_of(thing) == wanted)
    return found


def of_kind(objects: list[Object], *kinds: str) -> list[Object]:
    """Find all objects of these kinds."""
    return [thing for thing in objects if thing["kind"] in kinds]


@dataclass(frozen=True, slots=True)
class Pod:
    """What a workload makes its pods from."""

    owner: str
    labels: Mapping[str, str]
    spec: Object

    @property
    def containers(self) -> list[Object]:
        """All containers, those that run first included."""
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    @property
    def ports(self) -> dict[str, int]:
        """Its named ports."""
        return {port["name"]: port["containerPort"] for one in self.containers for port in one.get("ports", [])}


def pods(objects: list[Object]) -> list[Pod]:
    """Find what pods there will be, one for each workload."""
    found = of_kind(objects, "Deployment", "StatefulSet", "Job")
    return [
        Pod(name_of(thing), thing["spec"]["template"]["metadata"]["labels"], thing["spec"]["template"]["spec"])
        for thing in found
    ]


def containers(objects: list[Object]) -> Iterator[tuple[str, Pod, Object]]:
    """Yield every container with its pod and where it is, as Deployment/relay/relay."""
    for pod in pods(objects):
        for container in pod.containers:
            yield f"{pod.owner}/{container['name']}", pod, container


def selects(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Say whether a label selector takes these labels. None takes nothing, an empty one everything."""
    if selector is None:
        return False
    assert set(selector) <= {"matchLabels"}, "these files know no other kind of selector"
    wanted: dict[str, str] = selector.get("matchLabels", {})
    return wanted.items() <= labels.items()
