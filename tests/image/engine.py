"""buildah and podman with a storage of their own in .cache, and a base image that Debian's packages make.

The base bears the name of the one in the Dockerfile, so that nothing asks a registry for it. It and its archive stay
for the next run; containers, volumes and what was built go with the test run.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
BASE = "docker.io/library/python:3.12-slim"
"""What the Dockerfile is built on where nobody says otherwise."""

SUITE = "bookworm"
"""Debian 12: its Python is 3.11, the oldest that relay runs on, and lies in /usr/bin, where the official one is not."""

COMMANDS = ("debootstrap", "buildah", "podman", "runc", "catatonit")
PATIENCE_S = 240.0

STORAGE = """\
[storage]
driver = "{driver}"
graphroot = "{directory}/storage"
runroot = "{directory}/run"
"""

CONTAINERS = """\
[containers]
netns = "host"
# What a machine that is a container itself may hand on.
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""

PIP_OPTIONS = {"index-url", "extra-index-url", "find-links", "trusted-host", "proxy"}
"""What of this machine's pip makes the build find the same packages."""


def missing() -> str:
    """Say what these tests lack on this machine; "" if nothing."""
    if os.geteuid() != 0:
        return "containers are built and run as root here"
    lacking = [command for command in COMMANDS if shutil.which(command) is None]
    return (
        f"not installed: {', '.join(lacking)} (make verify-image installs them on Debian, as root)" if lacking else ""
    )


def run(
    *command: str | Path, env: Mapping[str, str] | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run a command in the checkout until it ends. Fails with what it said unless `check` is False."""
    done = subprocess.run(  # noqa: S603 - the tests' own commands
        list(command), env=env, cwd=ROOT, check=False, capture_output=True, text=True, timeout=PATIENCE_S
    )
    if check and done.returncode:
        raise AssertionError(f"{command} ended with {done.returncode}:\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
    return done


@dataclass(frozen=True, slots=True)
class Engine:
    """podman and buildah on a storage of their own."""

    directory: Path

    @property
    def env(self) -> dict[str, str]:
        """The environment for everything that touches the storage."""
        left_out = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "CONTAINERS_STORAGE_CONF", "CONTAINERS_CONF"}
        env = {name: value for name, value in os.environ.items() if name not in left_out}
        return {
            **env,
            "CONTAINERS_STORAGE_CONF": str(self.directory / "storage.conf"),
            "CONTAINERS_CONF": str(self.directory / "containers.conf"),
        }

    def prepare(self) -> None:
        """Write the configuration, and end what an earlier run left behind when it was killed."""
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "containers.conf").write_text(CONTAINERS, encoding="utf-8")
        for driver in ("overlay", "vfs"):  # an overlay cannot lie on another one
            storage = STORAGE.format(driver=driver, directory=self.directory)
            (self.directory / "storage.conf").write_text(storage, encoding="utf-8")
            if self.call("podman", "info", check=False).returncode == 0:
                break
        self.clean()

    def clean(self) -> None:
        """End every pod and container, and remove volumes and all images but the base."""
        self.call("podman", "pod", "rm", "--all", "--force", "--time", "0", check=False)
        self.call("podman", "rm", "--all", "--force", "--time", "0", check=False)
        self.call("podman", "volume", "rm", "--all", "--force", check=False)
        self.call("podman", "secret", "rm", "--all", check=False)
        listed = self.call("podman", "images", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}", check=False).stdout
        images = {line.split()[-1] for line in listed.splitlines()} - {
            line.split()[-1] for line in listed.splitlines() if line.startswith(f"{BASE} ")
        }
        if images:
            self.call("podman", "rmi", "--force", *images, check=False)

    def leave(self) -> None:
        """Clean up, and take away the mount under which the storage lies, so that `make clean` can remove it."""
        self.clean()
        self.call("umount", self.directory / "storage" / "overlay", check=False)

    def call(self, *command: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command on this storage, as `run` does."""
        return run(*command, env=self.env, check=check)

    def podman(self, *arguments: str | Path) -> str:
        """Run podman; returns what it said."""
        return self.call("podman", *arguments).stdout.strip()

    # -- the base ----------------------------------------------------------------------------------------------------

    def make_base(self) -> None:
        """Make the base image from Debian's packages, unless it is there."""
        if self.call("podman", "image", "exists", BASE, check=False).returncode == 0:
            return
        context = self.directory / "base"
        context.mkdir(exist_ok=True)
        archive = context / f"{SUITE}.tar"
        if not archive.exists():
            self._debootstrap(archive)
        (context / "Dockerfile").write_text(f"FROM scratch\nADD {archive.name} /\n", encoding="utf-8")
        self.call("buildah", "bud", "--isolation", "chroot", "--format", "docker", "--tag", BASE, context)

    def _debootstrap(self, archive: Path) -> None:
        tree = self.directory / "tree"
        shutil.rmtree(tree, ignore_errors=True)
        packages = "--include=ca-certificates,python3,python3-venv"
        self.call("debootstrap", "--variant=minbase", packages, SUITE, tree, *_mirror())
        unfinished = archive.with_suffix(".part")
        empty = [f"--exclude=./{left_out}/*" for left_out in ("proc", "sys", "dev", "var/cache/apt/archives")]
        self.call("tar", "-C", tree, "-cf", unfinished, *empty, ".")
        unfinished.rename(archive)
        shutil.rmtree(tree)

    # -- relay's image -----------------------------------------------------------------------------------------------

    def make_image(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Build relay's image as everybody does, but on the base that is there, and with this machine's way to PyPI."""
        pip_conf = self.directory / "pip.conf"
        pip_conf.write_text(_pip_conf(), encoding="utf-8")
        certificates = Path(os.environ.get("SSL_CERT_FILE") or "/etc/ssl/certs/ca-certificates.crt")
        return self.call(
            *("make", "image", "BUILDER=buildah", "BUILD_ARGS=--isolation chroot --pull-never"),
            *(f"PIP_CONF={pip_conf}", *([f"CA={certificates}"] if certificates.exists() else ())),
            *arguments,
            check=check,
        )


def _mirror() -> Sequence[str]:
    """Return the mirror of Debian that this machine uses; debootstrap knows another one where it uses none."""
    sources = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    for path in sources:
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        found = re.search(r"^(?:URIs:|deb(?: \[[^\]]*\])?) *(https?://\S+/debian)/?(?:\s|$)", text, re.MULTILINE)
        if found:
            return (found[1],)
    return ()


def _pip_conf() -> str:
    """Write this machine's settings of pip for the build, but for places that are on this machine only."""
    said = run(sys.executable, "-m", "pip", "config", "list")
    options: Mapping[str, str] = {
        name.rpartition(".")[2]: ast.literal_eval(value)
        for name, _, value in (line.partition("=") for line in said.stdout.splitlines())
    }
    lines = ["[global]", "timeout = 60"]
    for name in PIP_OPTIONS & options.keys():
        remote = [word for word in options[name].split() if "://" not in word or word.startswith("http")]
        places = [word for word in remote if name in {"trusted-host", "proxy"} or "://" in word]
        if places:
            lines.append(f"{name} = {' '.join(places)}")
    return "\n".join(lines) + "\n"
