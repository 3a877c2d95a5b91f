"""A real Prometheus on loopback: it scrapes relay as a ServiceMonitor has it scraped, and answers PromQL.

It is Debian's, the oldest that relay's dashboards and alerts are held to.
"""

import contextlib
import json
import math
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml

from tests.acceptance.processes import free_port

SCRAPE_S = 1
STARTS_WITHIN_S = 30.0
ANSWERS_WITHIN_S = 30.0
NAMESPACE = "mailing"
"""Where Prometheus is told that relay runs."""


@dataclass(frozen=True, slots=True)
class Series:
    """One series of an answer: its labels, and its values in order of time (of an instant query one)."""

    labels: Mapping[str, str]
    values: tuple[float, ...]

    @property
    def has_data(self) -> bool:
        """Whether any value is a number: a quantile of nothing is NaN, and Grafana shows nothing."""
        return any(not math.isnan(value) for value in self.values)


class Prometheus:
    """A running Prometheus."""

    def __init__(self, url: str) -> None:
        self.url = url

    def query(self, expr: str, at: float) -> list[Series]:
        """Evaluate PromQL at an instant, in seconds since 1970."""
        found = self._get("/api/v1/query", query=expr, time=at)["result"]
        return [Series(one["metric"], (float(one["value"][1]),)) for one in found]

    def query_range(self, expr: str, begin: float, end: float, step_s: float) -> list[Series]:
        """Evaluate PromQL from time to time."""
        found = self._get("/api/v1/query_range", query=expr, start=begin, end=end, step=step_s)["result"]
        return [Series(one["metric"], tuple(float(value) for _, value in one["values"])) for one in found]

    def label_values(self, label: str, match: str, begin: float, end: float) -> list[str]:
        """Return the values that a label has on the series of a selector."""
        path = f"/api/v1/label/{label}/values"
        values: list[str] = self._get(path, start=begin, end=end, **{"match[]": match})
        return values

    def series(self, match: str, begin: float, end: float) -> list[dict[str, str]]:
        """Return the labels of all series of a selector, `__name__` among them."""
        found: list[dict[str, str]] = self._get("/api/v1/series", start=begin, end=end, **{"match[]": match})
        return found

    def up(self) -> bool:
        """Whether it answers queries."""
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=ANSWERS_WITHIN_S):  # noqa: S310 - loopback
                return True
        except OSError:
            return False

    def _get(self, path: str, **parameters: object) -> Any:  # noqa: ANN401 - JSON
        asked = f"{self.url}{path}?{urlencode(parameters)}"
        try:
            with urllib.request.urlopen(asked, timeout=ANSWERS_WITHIN_S) as answer:  # noqa: S310 - loopback
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from None


def write_config(directory: Path, targets: Mapping[str, str], rules: Path) -> Path:
    """Write a configuration that scrapes these targets (`host:port` by pod) with the labels of a ServiceMonitor.

    `rules` is a PrometheusRule, whose groups are evaluated as fast as targets are scraped. Returns the file.
    """
    groups = yaml.safe_load(rules.read_text(encoding="utf-8"))["spec"]
    (directory / "rules.yml").write_text(yaml.safe_dump(groups, allow_unicode=True), encoding="utf-8")
    scraped = [
        {"targets": [target], "labels": {"namespace": NAMESPACE, "pod": pod, "container": "relay", "endpoint": "ops"}}
        for pod, target in targets.items()
    ]
    config = {
        "global": {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": f"{SCRAPE_S}s"},
        "rule_files": [str(directory / "rules.yml")],
        "scrape_configs": [{"job_name": "relay", "static_configs": scraped}],
    }
    path = directory / "prometheus.yml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


@contextlib.contextmanager
def prometheus(directory: Path, config: Path) -> Iterator[Prometheus]:
    """Run Prometheus for the length of the block, on a free port and with its data in the directory."""
    port = free_port()
    command = [
        program("prometheus"),
        f"--config.file={config}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    log = directory / "prometheus.log"
    with log.open("wb") as said:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, cwd=directory)  # noqa: S603 - the program is found, not given
    try:
        found = Prometheus(f"http://127.0.0.1:{port}")
        _wait_for(found, process, log)
        yield found
    finally:
        process.terminate()
        process.wait(STARTS_WITHIN_S)


def _wait_for(found: Prometheus, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + STARTS_WITHIN_S
    while not found.up():
        assert process.poll() is None, f"Prometheus ended:\n{log.read_text(encoding='utf-8')}"
        assert time.monotonic() < until, f"Prometheus does not answer:\n{log.read_text(encoding='utf-8')}"
        time.sleep(0.05)


def program(name: str) -> str:
    """Return where a program of Debian's package `prometheus` is."""
    found = shutil.which(name)
    assert found, f"{name} is not installed (on Debian: apt-get install prometheus)"
    return found


def promtool(*arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run promtool until it ends."""
    command: Sequence[str] = [program("promtool"), *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=60)  # noqa: S603 - the program is found, not given
