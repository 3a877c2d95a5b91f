"""README tells nothing that is not so: every name in it exists, and what users and operators need stands in it."""

import re
import tomllib
from pathlib import Path

from prometheus_client import generate_latest

from relay import app
from relay.batches import OUTCOMES, BatchState
from relay.cli.operating import OPERATOR
from relay.events import TYPES, EventState
from relay.metrics import Metrics
from relay.settings import LOGIN_MODELS, Account, ApiToken, Process, Source, load
from relay.status.service import ENDPOINTS
from tests.monitoring.grafana import anchors

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def metric_names() -> set[str]:
    """The metrics that relay exposes under names of its own."""
    text = generate_latest(Metrics().registry).decode()
    names = set(re.findall(r"^# HELP (relay_\w+)", text, re.MULTILINE))
    return {name for name in names if not name.endswith("_created")}


def test_every_metric_is_told_and_every_told_metric_exists() -> None:
    """A metric's name in README is copied into alerts: it has to exist, and none may be kept back."""
    told = set(re.findall(r"\brelay_[a-z_]+", README)) - {"relay_"}
    assert told == metric_names()


def test_every_variable_is_told_and_every_told_variable_exists() -> None:
    """The environment's table is whole; test runs and the demo's traffic have one more each, and so has an operator."""
    told = set(re.findall(r"\bRELAY_[A-Z_]+[A-Z]", README)) - {"RELAY_WALKS", "RELAY_URL"}
    assert told == {f"RELAY_{field.upper()}" for field in Process.model_fields} | {OPERATOR}


def test_nothing_is_left_to_be_filled_in() -> None:
    """No placeholder is published."""
    assert "@@" not in README


def test_every_setting_is_told() -> None:
    """Whatever the TOML file may say stands in README."""
    models = (Source, ApiToken, *LOGIN_MODELS.values(), Account)
    fields = {field for model in models for field in model.model_fields} - {"name"}
    assert {field for field in fields if not re.search(rf"[`\n ]{field}\b", README)} == set()


def test_the_example_settings_are_good(tmp_path: Path) -> None:
    """Who copies the example gets no mistake but the placeholders'."""
    example = next(block for block in re.findall(r"```toml\n(.*?)```", README, re.DOTALL))
    (tmp_path / "api-key").write_text("key", encoding="utf-8")
    example = example.replace("/run/secrets/blastmail-api-key", str(tmp_path / "api-key"))
    example = example.replace('"5f8f…"', f'"{"5f" * 32}"')
    (tmp_path / "relay.toml").write_text(example, encoding="utf-8")
    env = {
        "CRM_TOKEN": "t" * 20,
        "CRM_WEBHOOK_SECRET": "whsec_" + "YQ" * 16,
        "BLASTMAIL_PASSWORD": "p",
        "HAIHAI_PASSWORD": "p",
    }
    settings = load(tmp_path / "relay.toml", env)
    app.check(settings)
    assert set(settings.accounts) == set(tomllib.loads(example)["accounts"])


def test_every_endpoint_is_told() -> None:
    """What can be asked stands in the table, with its scope."""
    for endpoint in ENDPOINTS:
        last = re.sub(r":[^}]*}", "}", endpoint.path).removeprefix("/v1/")
        last = last if last.count("/") < 2 else "…/" + last.rsplit("/", 1)[1]
        assert last in README or last.removeprefix("…") in README, endpoint.path


def test_every_state_outcome_and_type_is_told() -> None:
    """The words that answers and logs use are explained."""
    for word in [*EventState, *BatchState, *OUTCOMES.values(), *TYPES]:
        assert re.search(rf"\b{re.escape(word)}\b", README), word


def test_every_place_in_the_map_exists() -> None:
    """Files and make targets that README names are there."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?:^|`)make ([a-z-]+)\b", README, re.MULTILINE):
        assert f"\n{target}:" in makefile, target
    for path in re.findall(r"`((?:relay|sql|tests)/[\w/.]+)`", README):
        assert (ROOT / path).exists(), path


def test_every_link_leads_somewhere() -> None:
    """A link within README ends at one of its headings, one to a file at a file."""
    links = re.findall(r"\]\(([^)\s]+)\)", README)
    assert {link for link in links if link.startswith("#") and link[1:] not in anchors(README)} == set()
    files = [link for link in links if not link.startswith(("#", "http"))]
    assert {file for file in files if not (ROOT / file.partition("#")[0]).exists()} == set()
