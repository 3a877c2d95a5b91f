"""The example of an Ingress: webhooks go to who receives, all else to who flushes, and none is too large for it."""

import re
from collections.abc import Iterable
from functools import cache
from typing import Any

import pytest
import yaml

from relay import openapi, ops
from relay.openapi.document import document
from relay.settings import Process
from relay.status.service import ENDPOINTS
from tests.k8s.rendered import K8S, Object, of_kind, overlay

SENT_IN = {"receive_webhook", "receive_webhooks"}
"""The operations by which webhooks come."""

SAMPLES = {"source": ("crm", "a.b-c_d"), "webhook_id": ("msg_2b", "a/batch", "a b+c", "batch7", "relay")}
"""What may stand in a path, decoded, as nginx sees it. (For the id `batch` alone the question goes to who receives.)"""


@cache
def ingress() -> Object:
    """The example."""
    found: Object = yaml.safe_load((K8S / "overlays/production/ingress.example.yaml").read_text("utf-8"))
    return found


def paths() -> list[Any]:
    """What the example says of its one host, in its order."""
    (rule,) = ingress()["spec"]["rules"]
    found: list[Any] = rule["http"]["paths"]
    return found


def routed(path: str, rules: Iterable[Any], flags: re.RegexFlag) -> str:
    """The Service that a request goes to: the first whose expression fits, from the path's start on."""
    fitting = (one for one in rules if re.match(one["path"].replace("$", r"\Z"), path, flags))
    name = next(fitting, {"backend": {"service": {"name": "nobody"}}})["backend"]["service"]["name"]
    assert isinstance(name, str)
    return name


def filled(path: str) -> set[str]:
    """Put samples between a path's braces."""
    found = {path}
    for name in re.findall(r"{(\w+)", path):
        values = SAMPLES.get(name, ("7",))
        found = {re.sub(rf"{{{name}[^}}]*}}+", value, one) for one in found for value in values}
    return found


def sent_in() -> set[str]:
    """All paths by which webhooks come."""
    described = document()["paths"].items()
    found = {path for path, methods in described if {one.get("operationId") for one in methods.values()} & SENT_IN}
    assert len(found) == len(SENT_IN)
    return {one for path in found for one in filled(path)}


def asked() -> set[str]:
    """All other paths: status API, ops page, description of the API."""
    served = [endpoint.path for endpoint in ENDPOINTS] + [route.path for route in (*ops.routes(), *openapi.routes())]
    return {one for path in served for one in filled(path)}


def in_order(controller: str) -> tuple[list[Any], re.RegexFlag]:
    """How a controller takes the paths: one the longest first and by any case, the other as they stand."""
    if controller == "nginx.ingress.kubernetes.io/use-regex":
        return sorted(paths(), key=lambda one: -len(one["path"])), re.IGNORECASE
    return paths(), re.RegexFlag(0)


@pytest.mark.parametrize("controller", ["nginx.ingress.kubernetes.io/use-regex", "nginx.org/path-regex"])
def test_webhooks_go_to_who_receives_and_questions_to_who_flushes(controller: str) -> None:
    """With both controllers every path of relay comes to the Deployment that knows most of it."""
    assert ingress()["metadata"]["annotations"][controller] in {"true", "case_sensitive"}
    rules, flags = in_order(controller)
    assert {path: routed(path, rules, flags) for path in sent_in()} == dict.fromkeys(sent_in(), "relay-receive")
    assert {path: routed(path, rules, flags) for path in asked()} == dict.fromkeys(asked(), "relay")
    assert "/v1/webhooks/crm/msg_2b/dismiss" in asked()


def test_without_the_second_path_nothing_can_be_asked() -> None:
    """Who leaves `/` out leaves no question open, about webhooks neither."""
    rules = [one for one in paths() if one["path"] != "/"]
    assert len(rules) == 1
    assert {routed(path, rules, re.IGNORECASE) for path in asked()} == {"nobody"}
    assert {routed(path, rules, re.IGNORECASE) for path in sent_in()} == {"relay-receive"}


def test_it_leads_to_services() -> None:
    """Backends are production's Services by the name of a port; only the expression is left to the controller."""
    services = {
        service["metadata"]["name"]: {port["name"] for port in service["spec"]["ports"]}
        for service in of_kind(overlay("overlays/production"), "Service")
    }
    for path in paths():
        service = path["backend"]["service"]
        assert service["port"]["name"] == "http"
        assert "http" in services[service["name"]]
        # What is no plain path is refused as Prefix or Exact.
        assert (path["pathType"] == "Prefix") == bool(re.fullmatch(r"[\w/-]+", path["path"]))
    (rule,) = ingress()["spec"]["rules"]
    assert ingress()["spec"]["tls"][0]["hosts"] == [rule["host"]]


def test_the_ingress_lets_through_what_relay_takes() -> None:
    """The limit of nginx is a little above relay's own, so that relay itself says what is too large."""
    limits = {value for key, value in ingress()["metadata"]["annotations"].items() if key.endswith("body-size")}
    assert len(limits) == 1
    (limit,) = limits
    assert int(limit.removesuffix("m")) * 2**20 >= Process.model_fields["body_bytes_max"].default
