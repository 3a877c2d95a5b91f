"""Who talks to whom: only who flushes reaches vendors, nobody reaches what is not meant for them."""

from itertools import product

import pytest

from tests.k8s.reach import Other, Policies
from tests.k8s.rendered import Pod, of_kind, overlay, pods, selects

HTTP, OPS, HTTPS, POSTGRES, DNS = 8080, 9090, 443, 5432, 53
OUTSIDE = Other("203.0.113.7")
OUTSIDE_SIX = Other("2001:db8::7")
CREDENTIALS = Other("169.254.169.254")
"""Where clouds tell a machine its credentials."""

INSIDE = [
    Other("10.0.0.1"),
    Other("172.20.0.1"),
    Other("192.168.0.1"),
    Other("100.64.0.1"),
    Other("fd00::1"),
    CREDENTIALS,
]
INGRESS = Other(namespace={"kubernetes.io/metadata.name": "ingress-nginx", "relay/sends-webhooks": "true"})
MONITORING = Other(namespace={"kubernetes.io/metadata.name": "monitoring", "relay/scrapes": "true"})
STRANGER = Other(namespace={"kubernetes.io/metadata.name": "shop"})
NAMES = Other(namespace={"kubernetes.io/metadata.name": "kube-system"}, labels={"k8s-app": "kube-dns"})


def by_owner(directory: str) -> dict[str, Pod]:
    """The pods of an overlay by the name of their workload."""
    return {pod.owner.split("/")[1]: pod for pod in pods(overlay(directory))}


def test_only_who_flushes_reaches_vendors() -> None:
    """HTTPS to the outside is for production's `relay` alone: nobody else can carry data off."""
    found, policies = by_owner("overlays/production"), Policies(overlay("overlays/production"))
    assert set(found) == {"relay", "relay-receive", "relay-migrate-0-1-0"}
    for name, pod in found.items():
        for outside in (OUTSIDE, OUTSIDE_SIX):
            assert policies.out(pod, outside, HTTPS) == (name == "relay"), name
            assert not any(policies.out(pod, outside, port) for port in (22, 25, 80, POSTGRES, HTTP)), name


def test_in_the_base_everybody_flushes() -> None:
    """The base's pods have both roles, and so reach the vendors; the migration does not."""
    found, policies = by_owner("base"), Policies(overlay("base"))
    reach = {name: policies.out(pod, OUTSIDE, HTTPS) for name, pod in found.items()}
    assert reach == {"relay": True, "relay-migrate-0-1-0": False}


@pytest.mark.parametrize("directory", ["base", "overlays/production", "overlays/demo"])
def test_https_does_not_lead_inside(directory: str) -> None:
    """No pod comes by the way to the vendors to the cluster's API, other machines, or the machine's credentials."""
    policies = Policies(overlay(directory))
    for pod, inside, port in product(pods(overlay(directory)), INSIDE, (80, HTTPS, 6443)):
        assert not policies.out(pod, inside, port), (pod.owner, inside)


@pytest.mark.parametrize("directory", ["base", "overlays/production"])
def test_everybody_reaches_postgres_and_names(directory: str) -> None:
    """Postgres may stand in the private network or in the cluster; names are asked for by UDP and TCP."""
    policies = Policies(overlay(directory))
    for pod in pods(overlay(directory)):
        for place in (Other("10.1.2.3"), Other("172.16.9.9"), Other("192.168.7.7"), Other("fd12::1"), STRANGER):
            assert policies.out(pod, place, POSTGRES), pod.owner
        for place, protocol in product((NAMES, Other("169.254.20.10")), ("UDP", "TCP")):
            assert policies.out(pod, place, DNS, protocol), pod.owner
        assert not policies.out(pod, OUTSIDE, DNS, "UDP"), pod.owner


@pytest.mark.parametrize("directory", ["base", "overlays/production"])
def test_only_the_labelled_get_in(directory: str) -> None:
    """Webhooks come from namespaces with one label, scrapes from those with another, and nothing else at all."""
    policies = Policies(overlay(directory))
    for pod in pods(overlay(directory)):
        let_in = {
            (name, port)
            for (name, other), port in product(
                {"ingress": INGRESS, "monitoring": MONITORING, "stranger": STRANGER, "outside": OUTSIDE}.items(),
                (HTTP, OPS, POSTGRES),
            )
            if policies.into(pod, other, port)
        }
        expected = {("ingress", HTTP), ("monitoring", OPS)} if pod.ports else set()
        assert let_in == expected, pod.owner


@pytest.mark.parametrize("directory", ["base", "overlays/production", "overlays/demo"])
def test_nobody_is_where_it_begins(directory: str) -> None:
    """Every pod is under a policy that lets nothing in and nothing out: whatever is allowed is said by another."""
    closed = [
        policy["spec"]
        for policy in of_kind(overlay(directory), "NetworkPolicy")
        if set(policy["spec"]) == {"podSelector", "policyTypes"}
        and set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}
    ]
    for pod in pods(overlay(directory)):
        assert any(selects(spec["podSelector"], pod.labels) for spec in closed), pod.owner


def test_the_demo_talks_to_itself_only() -> None:
    """Each pod of the demo reaches what it needs and nothing else, neither inside nor outside."""
    found, policies = by_owner("overlays/demo"), Policies(overlay("overlays/demo"))
    ports = sorted({port for pod in found.values() for port in pod.ports.values()})
    reached = {
        (one, other, port)
        for (one, sender), (other, receiver), port in product(found.items(), found.items(), ports)
        if one != other and policies.between(sender, receiver, port)
    }
    assert reached == {
        ("traffic", "relay", HTTP),
        ("prometheus", "relay", OPS),
        ("grafana", "prometheus", OPS),
        ("relay", "postgres", POSTGRES),
        ("relay-migrate-0-1-0", "postgres", POSTGRES),
        *(("relay", "vendors", port) for port in (9101, 9102, 9103)),
    }
    for name, pod in found.items():
        assert policies.out(pod, NAMES, DNS, "UDP"), name
        assert not policies.out(pod, OUTSIDE, HTTPS), name
        assert not any(policies.into(pod, other, port) for other, port in product((STRANGER, OUTSIDE), ports)), name


def test_who_flushes_is_labelled_so() -> None:
    """The labels that policies go by say what the variable says, so that a role cannot be had without its way out."""
    for directory in ("base", "overlays/production", "overlays/demo"):
        for pod in pods(overlay(directory)):
            roles = [v["value"] for one in pod.containers for v in one.get("env", []) if v["name"] == "RELAY_ROLES"]
            labelled = {name for name in ("receive", "flush") if pod.labels.get(f"relay/{name}") == "true"}
            assert labelled == set(",".join(roles).split(",")) - {""}, pod.owner
