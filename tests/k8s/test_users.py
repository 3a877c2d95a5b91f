"""Whom each pod runs as: who has no name in its image's passwd must need none."""

import os
import pwd
import re
import subprocess
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from relay.demo.postgres import Cluster, find_binaries
from relay.demo.postgres_files import enterable
from tests.k8s.rendered import containers, overlay

OVERLAYS = ("base", "overlays/production", "overlays/demo")

KNOWN = {"relay": {10001}, "postgres": {999}, "prom/prometheus": {65534}, "grafana/grafana": {472}}
"""The user of each image that its passwd has and its folders belong to (postgres: the one on Debian, not on Alpine)."""

ASKS_POSTGRES = re.compile(r"\b(?:pg_isready|psql)\b")


def commands() -> Iterator[tuple[str, list[str]]]:
    """Yield every command of the demo that asks Postgres, probes' too, and where it is."""
    for place, _, container in containers(overlay("overlays/demo")):
        probes = [
            container[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness") if f"{kind}Probe" in container
        ]
        found = [container.get("command", []) + container.get("args", [])]
        found += [probe["exec"]["command"] for probe in probes if "exec" in probe]
        yield from ((place, command) for command in found if ASKS_POSTGRES.search(" ".join(command)))


@pytest.mark.parametrize("directory", OVERLAYS)
def test_whatever_stays_has_a_name(directory: str) -> None:
    """Postgres' initdb looks its own user up, others their home: all run as the user whom their image knows."""
    nameless = {
        re.sub(r"[\d-]+/", "/", place)
        for place, pod, container in containers(overlay(directory))
        if pod.spec["securityContext"]["runAsUser"] not in KNOWN[container["image"].partition(":")[0]]
    }
    assert nameless == ({"Job/relay-migrate/postgres"} if directory == "overlays/demo" else set())


def test_who_asks_postgres_says_who_asks() -> None:
    """Without it libpq takes the name of its user, and where there is none does not even try."""
    found = list(commands())
    assert {place.split("/")[0] for place, _ in found} == {"Job", "StatefulSet"}
    for place, command in found:
        assert re.search(r"--username relay\b", " ".join(command)), place


def nobody() -> int:
    """The number of a user whom this machine does not know, as the postgres image does not know relay's."""
    taken = {entry.pw_uid for entry in pwd.getpwall()}
    return next(user for user in count(10001) if user not in taken)


def test_they_find_postgres(cluster: Cluster) -> None:
    """The very commands, but for the host, end well at a Postgres that is up; where we are root for a nameless user."""
    binaries = find_binaries()
    user = nobody() if os.geteuid() == 0 and enterable(binaries) else None
    for place, command in commands():
        words = [word.replace("--host postgres", "--host 127.0.0.1") for word in command]
        assert "127.0.0.1" in " ".join(words), place
        done = subprocess.run(  # noqa: S603 - the files' own
            words,
            env={"PATH": f"{binaries}:/usr/bin:/bin", "PGPORT": str(cluster.port)},
            cwd=Path("/"),
            user=user,
            group=user,
            extra_groups=None if user is None else (),
            capture_output=True,
            text=True,
            timeout=8,  # the wait has no end of its own
            check=False,
        )
        assert done.returncode == 0, (place, done)
        assert "accepting connections" in done.stdout
