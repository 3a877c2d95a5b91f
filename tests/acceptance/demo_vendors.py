"""Settings for the demo's three vendors: those of the demo overlay, which `relay.demo.parts` says fit them."""

from collections.abc import Mapping

from relay.demo.names import AID, PORTS, USER
from tests.acceptance.harness import ROOT, World

CONTRACTS = {"haihai": str(AID), "blastmail": USER, "blaynmail": USER}
"""The name of each vendor's contract."""

OVERLAY = ROOT / "k8s" / "overlays" / "demo" / "relay.toml"

INSTEAD = {
    '{ file = "/run/secrets/relay/crm-webhook-secret" }': '{ env = "SIGNING_SECRET" }',
    '{ file = "/run/secrets/relay/vendor-password" }': '{ env = "DEMO_PASSWORD" }',
    "flush_after_s = 10\n": "flush_after_s = 1.5\n",
    "flush_opt_outs_after_s = 3\n": "flush_opt_outs_after_s = 1\n",
    "settle_wait_s = 2\n": "settle_wait_s = 1.1\n",
}
"""What is not the same outside of a cluster, and in a hurry."""


def settings(world: World, urls: Mapping[str, str]) -> None:
    """Write the settings; `urls` are the logins' base URLs by the vendor's name."""
    text = OVERLAY.read_text(encoding="utf-8")
    changed = {**INSTEAD, **{_base_url(name): f'base_url = "{url}"' for name, url in urls.items()}}
    for was, becomes in changed.items():
        assert was in text, f"{OVERLAY} does not say {was}"
        text = text.replace(was, becomes)
    world.config.write_text(text, encoding="utf-8")


def _base_url(vendor: str) -> str:
    path = "" if vendor == "haihai" else "/rest/1.0"
    return f'base_url = "http://vendors:{PORTS[vendor]}{path}"'
