"""`make verify-kubernetes`: checkov looks at all that is rendered, and promtool at what the demo's Prometheus reads.

checkov lives in an environment of its own, because it wants a hundred packages in versions of its own: checkov.lock has
them with their hashes (`python -m tests.k8s.checkov --lock` makes it anew, and needs uv). Each check that does not pass
stands below with its objects and the reason; one that stands there and passes is a mistake, too.
"""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.k8s.kubectl import ROOT
from tests.k8s.rendered import DIRECTORIES, K8S, Object, everything_offered, overlay

CHECKOV = "checkov==3.3.30"
LOCK = Path(__file__).with_suffix(".lock")
PLACE = ROOT / ".cache" / "checkov"


@dataclass(frozen=True, slots=True)
class Accepted:
    """A check that does not pass: for objects as `Deployment.namespace.name`, a regular expression, and why."""

    objects: str
    reason: str


ACCEPTED: Mapping[str, Accepted] = {
    "CKV_K8S_8": Accepted(r"Deployment\.relay-demo\.traffic", "it has no port, and ends by itself if refused"),
    "CKV_K8S_9": Accepted(r"Deployment\.relay-demo\.traffic", "nobody sends it anything to be ready for"),
    "CKV_K8S_15": Accepted(
        r"\w+\.[\w-]+\.(relay|relay-receive|relay-migrate-[\d-]+|vendors|traffic)",
        "relay's tag is its version and never moves; an image loaded onto the nodes can be pulled from nowhere",
    ),
    "CKV_K8S_21": Accepted(
        r"\w+\.default\.relay[\w-]*", "base and monitoring name no namespace: overlays do, or `kubectl apply -n`"
    ),
    "CKV_K8S_40": Accepted(
        r"(StatefulSet\.relay-demo\.postgres|Deployment\.relay-demo\.grafana)", "the users of these images, in a demo"
    ),
    "CKV_K8S_43": Accepted(
        r"\w+\.[\w-]+\.(relay|relay-receive|relay-migrate-[\d-]+|vendors|traffic)",
        "relay's image is built by who installs it, and so is its digest: production's `images` is the place for it",
    ),
}


@dataclass(frozen=True, slots=True)
class Failed:
    """A check that an object did not pass."""

    check: str
    name: str
    resource: str


def main() -> int:
    """Look at everything; 0 if all is as it should be."""
    if sys.argv[1:] == ["--lock"]:
        return _lock()
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        files = _write(place)
        passed, failed = _scan(place)
        wrong = [*_not_accepted(failed), *_accepted_in_vain(failed)]
        if passed < 10 * files:
            wrong.append(f"checkov passed {passed} checks in {files} files: it cannot have looked at them")
        wrong += _promtool(place)
    _tell(passed, failed, wrong)
    return 1 if wrong else 0


def _lock() -> int:
    options = (
        "--universal --python-version 3.11 --generate-hashes --no-annotate --no-emit-index-url --no-emit-find-links"
    )
    told = ["--custom-compile-command", "python -m tests.k8s.checkov --lock", "--quiet"]
    command = ["uv", "pip", "compile", "-", *options.split(), *told, "-o", str(LOCK)]
    return subprocess.run(command, input=CHECKOV.encode(), check=False).returncode  # noqa: S603 - nothing from outside


def _write(place: Path) -> int:
    """Write everything that can be rendered, a file for each folder; return their number."""
    rendered: dict[str, list[Object]] = {name.replace("/", "-"): overlay(name) for name in DIRECTORIES}
    rendered["production-with-everything"] = everything_offered(place / "copy")
    shutil.rmtree(place / "copy")
    for name, objects in rendered.items():
        (place / f"{name}.yaml").write_text(yaml.safe_dump_all(objects, allow_unicode=True), encoding="utf-8")
    return len(rendered)


def _scan(place: Path) -> tuple[int, list[Failed]]:
    """Run checkov; return how many checks passed, and what did not."""
    options = ["--framework", "kubernetes", "--skip-download", "--compact", "--quiet", "--output", "json"]
    command = [str(_installed()), "--directory", str(place), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)  # noqa: S603 - nothing from outside
    try:
        report = json.loads(done.stdout)
    except ValueError:
        sys.exit(f"checkov did not run: {done.stderr[-2000:]}")
    checks = report["results"]["failed_checks"]
    failed = [Failed(one["check_id"], one["check_name"], one["resource"]) for one in checks]
    return report["summary"]["passed"], sorted(set(failed), key=lambda one: (one.check, one.resource))


def _installed() -> Path:
    """Install checkov as the lock says, unless it is there; return the command."""
    place = PLACE / hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]
    command = place / "bin" / "checkov"
    if not (place / "ready").exists():
        shutil.rmtree(PLACE, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)  # noqa: S603 - nothing from outside
        pip = [
            str(place / "bin" / "python"),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-input",
        ]
        subprocess.run([*pip, "--require-hashes", "--no-deps", "--no-compile", "-r", str(LOCK)], check=True)  # noqa: S603
        (place / "ready").touch()
    return command


def _not_accepted(failed: list[Failed]) -> Iterator[str]:
    for one in failed:
        accepted = ACCEPTED.get(one.check)
        if accepted is None or not re.fullmatch(accepted.objects, one.resource):
            yield f"{one.check} {one.name}: {one.resource}"


def _accepted_in_vain(failed: list[Failed]) -> Iterator[str]:
    for check in ACCEPTED.keys() - {one.check for one in failed}:
        yield f"{check} is accepted, but everything passes it"


def _promtool(place: Path) -> Iterator[str]:
    """Let promtool read the demo's settings and the rules beside them."""
    settings = (K8S / "overlays/demo/prometheus/prometheus.yml").read_text(encoding="utf-8")
    rules = yaml.safe_load((K8S / "monitoring/rules.yaml").read_text(encoding="utf-8"))["spec"]
    (place / "relay.yaml").write_text(yaml.safe_dump(rules, allow_unicode=True), encoding="utf-8")
    (place / "prometheus.yml").write_text(settings.replace("/etc/prometheus/rules/", f"{place}/"), encoding="utf-8")
    promtool = shutil.which("promtool")
    if promtool is None:
        yield "promtool is missing: Debian's package `prometheus` has it"
        return
    command = [promtool, "check", "config", str(place / "prometheus.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)  # noqa: S603 - nothing from outside
    if done.returncode or "rules found" not in done.stdout:
        yield f"promtool: {done.stdout}{done.stderr}"


def _tell(passed: int, failed: list[Failed], wrong: list[str]) -> None:
    objects = defaultdict(set)
    for one in failed:
        objects[one.check].add(one.resource)
    print(f"checkov: {passed} checks passed; not passed, and why that is right:")  # noqa: T201 - a command
    for check, accepted in ACCEPTED.items():
        print(f"  {check} at {len(objects[check])} objects: {accepted.reason}")  # noqa: T201
    for text in wrong:
        print(f"WRONG  {text}", file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
