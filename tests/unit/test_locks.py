"""The lock of the image and the one of development name the same versions, and the image's nothing that it need not."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "requirements-image.lock", "tests/image/requirements.lock")


def locked(name: str) -> dict[str, str]:
    """Read a lock: what stands there of each package, its version, marker and hashes, by name."""
    entries = re.split(r"^(?=[a-z0-9])", (ROOT / name).read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return {entry.partition("==")[0]: entry.partition("==")[2] for entry in entries}


def names(requirements: list[str]) -> set[str]:
    """Return the packages' names, as locks write them."""
    return {re.split(r"[<>=;\[ ]", requirement)[0].lower().replace("_", "-") for requirement in requirements}


def test_the_image_has_what_was_tested() -> None:
    """Every package in the image has the version, the marker and the hashes that tests run with."""
    tested, image = locked("requirements.lock"), locked("requirements-image.lock")
    assert {name: entry for name, entry in image.items() if tested.get(name) != entry} == {}


def test_the_image_has_all_that_relay_needs_and_nothing_of_development() -> None:
    """Each dependency of relay is in its lock; what only the extra asks for is not."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed, development = names(project["dependencies"]), names(project["optional-dependencies"]["dev"])
    image = locked("requirements-image.lock").keys()
    assert needed <= image
    assert not (development - needed) & image
    assert len(image) < len(locked("requirements.lock")) / 2


@pytest.mark.parametrize("name", LOCKS)
def test_every_line_has_its_hashes_and_no_host(name: str) -> None:
    """What pip gets is checked, wherever it comes from, and a company's index stays its own business."""
    for package, entry in locked(name).items():
        assert "--hash=sha256:" in entry, package
    assert "://" not in (ROOT / name).read_text(encoding="utf-8")
