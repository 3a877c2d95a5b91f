"""The settings in the files are settings that relay starts with."""

import asyncio
import base64
import json
import os
import re
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import yaml

from relay import app
from relay.demo.names import PASSWORD, PORTS, SIGNING_SECRET
from relay.demo.parts import simulated
from relay.settings import database_url, load, process
from tests.k8s.kubectl import ROOT
from tests.k8s.rendered import K8S, Object, containers, of_kind, overlay
from tests.k8s.test_references import example

SECRETS = "/run/secrets/relay"
OVERLAYS = ("base", "overlays/production", "overlays/demo")

ADDED = {"overlays/production": {"haihai-transport-password": "change-me"}}
"""What an operator adds to the example's keys, because production's settings name one vendor more."""


def secrets(directory: str) -> dict[str, str]:
    """What the Secret `relay` holds: the demo's own, elsewhere the example's."""
    for secret in of_kind(overlay(directory), "Secret"):
        if secret["metadata"]["name"].startswith("relay"):
            return {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
    return example() | ADDED.get(directory, {})


def settings_text(directory: str) -> str:
    """The relay.toml that an overlay's pods read."""
    (text,) = (
        one["data"]["relay.toml"] for one in of_kind(overlay(directory), "ConfigMap") if "relay.toml" in one["data"]
    )
    assert isinstance(text, str)
    return text


def laid_out(directory: str, place: Path) -> Path:
    """Write an overlay's secrets and settings as a pod would see them, below a folder; return the settings' path."""
    for key, value in secrets(directory).items():
        (place / key).write_text(value, encoding="utf-8")
    (place / "relay.toml").write_text(settings_text(directory).replace(SECRETS, str(place)), encoding="utf-8")
    return place / "relay.toml"


def environment(container: Object, place: Path) -> Mapping[str, str]:
    """The environment of a container, with its secrets where `laid_out` put them."""
    return {variable["name"]: variable["value"].replace(SECRETS, str(place)) for variable in container["env"]}


@pytest.mark.parametrize("directory", OVERLAYS)
def test_settings_are_good(directory: str, tmp_path: Path) -> None:
    """Every relay.toml loads with the secrets beside it, and passes what relay checks at its start."""
    settings = load(laid_out(directory, tmp_path), {})
    app.check(settings)
    assert settings.sources
    assert {account.login for account in settings.accounts.values()} == set(settings.logins)


@pytest.mark.parametrize("directory", OVERLAYS)
def test_pods_have_an_environment_that_relay_takes(directory: str, tmp_path: Path) -> None:
    """Each serving container's variables make a process: roles, database and secret are read as they should be."""
    laid_out(directory, tmp_path)
    serving = [(place, one) for place, _, one in containers(overlay(directory)) if one["name"] == "relay"]
    for place, container in serving:
        own = process(environment(container, tmp_path))
        assert own.database_url.value == secrets(directory)["database-url"], place
        assert str(own.config) == "/etc/relay/relay.toml", place
    roles = {place.split("/")[1]: process(environment(one, tmp_path)).roles for place, one in serving}
    both = {"receive", "flush"}
    expected = {"relay": {"flush"}, "relay-receive": {"receive"}} if "production" in directory else {"relay": both}
    assert roles == expected


@pytest.mark.parametrize("directory", OVERLAYS)
def test_the_migration_finds_the_database(directory: str, tmp_path: Path) -> None:
    """The Job has the one setting that `relay migrate` needs, and mounts no other secret than that."""
    laid_out(directory, tmp_path)
    ((_, pod, container),) = (found for found in containers(overlay(directory)) if found[2]["name"] == "migrate")
    assert database_url(environment(container, tmp_path)).value == secrets(directory)["database-url"]
    (volume,) = pod.spec["volumes"]
    keys = [key["key"] for source in volume["projected"]["sources"] for key in source["secret"]["items"]]
    assert keys == ["database-url", "postgres-ca.crt"]


@pytest.mark.parametrize("directory", OVERLAYS)
def test_every_secret_is_named_and_there(directory: str) -> None:
    """Settings and pods name exactly the keys that the Secret has: none is missing, and none lies about for nothing."""
    files = set(re.findall(rf'file = "{SECRETS}/([\w.-]+)"', settings_text(directory)))
    for _, _, container in containers(overlay(directory)):
        for variable in container.get("env", []):
            files |= set(re.findall(rf"^{SECRETS}/([\w.-]+)$", variable.get("value", "")))
    url = secrets(directory)["database-url"]
    files |= set(re.findall(rf"{SECRETS}/([\w.-]+)", url))
    assert files == set(secrets(directory))


def test_no_secret_stands_in_settings() -> None:
    """Outside of the demo nothing that could be a secret is in the files: they are to be committed."""
    for directory in ("base", "overlays/production"):
        text = settings_text(directory)
        assert not re.search(r'^\s*(password|api_key|transport_password)\s*=\s*"', text, re.MULTILINE)
        assert "whsec_" not in text
    assert all("change" in value for key, value in example().items() if key != "crm-webhook-secret")
    assert b"change-me" in base64.b64decode(example()["crm-webhook-secret"].removeprefix("whsec_"))


def test_vendors_by_name_are_the_vendors() -> None:
    """The policy for Cilium names the hosts of production's settings, and no others."""
    policy = yaml.safe_load((K8S / "overlays/production/vendors.cilium.yaml").read_text("utf-8"))
    named = {name["matchName"] for rule in policy["spec"]["egress"] for name in rule.get("toFQDNs", [])}
    urls = re.findall(r'base_url = "https://([\w.-]+)', settings_text("overlays/production"))
    assert named == {*urls, "api.bme.jp"}
    assert policy["spec"]["endpointSelector"]["matchLabels"] == {
        "app.kubernetes.io/name": "relay",
        "relay/flush": "true",
    }


def test_the_demos_secrets_are_the_demos(tmp_path: Path) -> None:
    """The demo's pods agree on passwords and ports that everybody knows, and that the parts have built in."""
    found = secrets("overlays/demo")
    assert found["vendor-password"] == PASSWORD
    assert found["crm-webhook-secret"] == SIGNING_SECRET
    settings = load(laid_out("overlays/demo", tmp_path), {})
    ports = {
        name: re.fullmatch(r"http://vendors:(\d+)(/.*)?", login.base_url) for name, login in settings.logins.items()
    }
    assert {name: int(found[1]) for name, found in ports.items() if found} == PORTS
    assert set(settings.sources) == {"crm"}
    (postgres,) = (
        s for s in of_kind(overlay("overlays/demo"), "Secret") if s["metadata"]["name"].startswith("postgres")
    )
    assert base64.b64decode(postgres["data"]["password"]).decode() in found["database-url"]


async def test_the_demos_settings_fit_the_simulated_vendors(tmp_path: Path) -> None:
    """`relay check --online` finds every login and column of the demo's settings good at the vendors that it serves."""
    path = laid_out("overlays/demo", tmp_path)
    async with AsyncExitStack() as stack:
        text = path.read_text(encoding="utf-8")
        for name, (sim, _) in simulated(PASSWORD).items():
            port = (await stack.enter_async_context(sim.serve())).rpartition(":")[2]
            text = text.replace(f"vendors:{PORTS[name]}", f"127.0.0.1:{port}")
        path.write_text(text, encoding="utf-8")
        check = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "relay", "check", "--online", "--offline", "--probe", "--json"),
            env={"PATH": os.environ["PATH"], "RELAY_CONFIG": str(path)},
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await check.communicate()
    assert check.returncode == 0, err.decode()
    told = json.loads(out)
    assert told["good"]
    assert {account["account"] for account in told["accounts"]} == set(PORTS)
