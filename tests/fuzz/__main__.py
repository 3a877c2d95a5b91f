"""`make fuzz`: fuzz every target for some time, two at a time, and say what was run and found.

`python -m tests.fuzz` runs all, `python -m tests.fuzz json forms` some. FUZZ_S is the time for each in seconds. What
the fuzzer keeps is in `.cache/fuzz/<target>`, an input that broke a property in `.cache/fuzz/found`; run it again with
`python -m tests.fuzz json --again FILE`. Exit code 1 if anything was found.
"""

import argparse
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
CACHE = ROOT / ".cache" / "fuzz"

AT_ONCE = 2
TIMEOUT_S = 20
"""One input may take so long; they are a few kB, and whatever takes seconds for those is quadratic or worse."""

MEMORY_MB = 2_048


@dataclass(frozen=True, slots=True)
class Ran:
    """What became of one target."""

    name: str
    executions: int
    corpus: int
    edges: int
    found: str


def main() -> int:
    """Run what the arguments say; returns the exit code."""
    if find_spec("atheris") is None:
        _say(
            "There is no atheris here, which guides by coverage (it needs Python 3.11, Linux): Hypothesis tries alone."
        )
        command = [sys.executable, "-m", "pytest", "-q", "tests/unit/test_properties.py"]
        return subprocess.run(command, cwd=ROOT, check=False).returncode  # noqa: S603 - pytest, on a file of ours
    from tests.fuzz.one import names  # noqa: PLC0415 - needs atheris

    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz what reads others' input.")
    parser.add_argument("targets", nargs="*", metavar="target", help=f"of {', '.join(names())}; all if none")
    parser.add_argument("--again", type=Path, help="try one input on one target")
    options = parser.parse_args()
    chosen = options.targets or names()
    if unknown := set(chosen) - set(names()):
        parser.error(f"there is no target {', '.join(sorted(unknown))}")
    if options.again:
        return subprocess.run(_command(chosen[0], str(options.again)), cwd=ROOT, check=False).returncode  # noqa: S603 - ourselves
    seconds = int(os.environ.get("FUZZ_S", "60"))
    _say(f"{len(chosen)} targets, {seconds} s each, {AT_ONCE} at a time")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        ended = list(pool.map(lambda name: _run(name, seconds), chosen))
    _say(f"\n{'target':<14}{'executions':>12}{'corpus':>8}{'edges':>8}  found")
    for ran in ended:
        _say(f"{ran.name:<14}{ran.executions:>12,}{ran.corpus:>8}{ran.edges:>8}  {ran.found or 'nothing'}")
    return 1 if any(ran.found for ran in ended) else 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _command(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "tests.fuzz.one", name, *arguments]


def _run(name: str, seconds: int) -> Ran:
    """Fuzz one target in a process of its own."""
    from tests.fuzz.one import target  # noqa: PLC0415 - needs atheris

    corpus, found = CACHE / name, CACHE / "found"
    for directory in (corpus, found):
        directory.mkdir(parents=True, exist_ok=True)
    chosen = target(name)
    arguments = [str(corpus)]
    if chosen.seeds:
        arguments.append(str(_seeds(name, chosen.seeds)))
    if chosen.dictionary:
        arguments.append(f"-dict={HERE / 'seeds' / chosen.dictionary}.dict")
    arguments += [
        f"-max_total_time={seconds}",
        f"-max_len={chosen.bytes_max}",
        f"-timeout={TIMEOUT_S}",
        f"-rss_limit_mb={MEMORY_MB}",
        f"-artifact_prefix={found / name}-",
        "-print_final_stats=1",
    ]
    done = subprocess.run(  # noqa: S603 - ourselves
        _command(name, *arguments), cwd=ROOT, check=False, capture_output=True, text=True, errors="replace"
    )
    log = CACHE / f"{name}.log"
    log.write_text(done.stderr + done.stdout, encoding="utf-8")
    said = done.stderr
    executions = re.search(r"stat::number_of_executed_units: *(\d+)", said)
    covered = re.findall(r"cov: (\d+)", said)
    written = re.search(r"Test unit written to (\S+)", said)
    told = "" if done.returncode == 0 else (written[1] if written else f"exit code {done.returncode}, see {log}")
    _say(f"{name}: {told or 'nothing found'}")
    kept = sum(1 for _ in corpus.iterdir())
    return Ran(name, int(executions[1]) if executions else 0, kept, int(covered[-1]) if covered else 0, told)


def _seeds(name: str, begin: str) -> Path:
    """Lay a target's seeds out as libFuzzer wants them: a directory with nothing else in it."""
    directory = CACHE / f"{name}.seeds"
    directory.mkdir(exist_ok=True)
    for seed in (HERE / "seeds").glob(f"{begin}-*"):
        (directory / seed.name).write_bytes(seed.read_bytes())
    return directory


if __name__ == "__main__":
    sys.exit(main())
