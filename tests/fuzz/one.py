"""One target in a process of its own: `python -m tests.fuzz.one NAME [libFuzzer's arguments]`. Needs atheris."""

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.fuzz.targets import Target

WATCHED = ["relay", "json", "jmespath", "csv", "xml.etree", "defusedxml", "tomllib", "ipaddress", "email", "base64"]
"""What the fuzzer sees the paths of: relay, and pure Python that reads for it."""


def names() -> Sequence[str]:
    """Name all targets."""
    from tests.fuzz.targets import TARGETS  # noqa: PLC0415 - below the instrumentation

    return tuple(TARGETS)


def target(name: str) -> "Target":
    """Find a target."""
    from tests.fuzz.targets import TARGETS  # noqa: PLC0415 - below the instrumentation

    return TARGETS[name]


if __name__ == "__main__":
    atheris = import_module("atheris")  # has no types, and newer Pythons have none of it
    with atheris.instrument_imports(include=WATCHED):
        chosen = target(sys.argv.pop(1))
    atheris.Setup(sys.argv, chosen.run)
    atheris.Fuzz()
