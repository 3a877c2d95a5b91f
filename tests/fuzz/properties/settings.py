"""Properties of what reads the settings: every mistake is told as one, and what is accepted can be worked with."""

import os
import tempfile
from collections import defaultdict
from pathlib import Path

from relay import app
from relay.errors import FieldError, SettingsError
from relay.events import Keys, Operation
from relay.flush import login_plans
from relay.metrics import Metrics
from relay.receive.admission import Admission
from relay.receive.limits import Limits
from relay.settings import load

SECRET = "hunter2-Canary"
ENV = {"SECRET": SECRET, "KEY": "whsec_" + "YQ" * 16}

SEEDS = Path(__file__).resolve().parents[1] / "seeds"

_KEYS = Keys(b"a deployment's secret")
_METRICS = Metrics()


def settings_are_read_or_refused(text: bytes) -> None:
    """Bytes are settings with which a service can be made, or SettingsError with a path for each mistake."""
    descriptor, name = tempfile.mkstemp(suffix=".toml")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
        _read(Path(name))
    finally:
        Path(name).unlink()


def _read(path: Path) -> None:
    problems: tuple[FieldError, ...] | None = None
    try:
        settings = load(path, ENV)
        app.check(settings)
    except SettingsError as error:
        problems = error.problems
    else:
        assert SECRET not in repr(settings)
        login_plans(settings, _KEYS)
        layouts: defaultdict[tuple[str, Operation], int] = defaultdict(int)
        Admission(settings, _KEYS, layouts, _METRICS, Limits())
    if problems is not None:
        told = [str(problem) for problem in problems]
        assert told
        assert len(set(told)) == len(told), "a mistake is told twice"
        assert all(problem.field and problem.message for problem in problems)
        assert SECRET not in " ".join(told), "a secret is told"
