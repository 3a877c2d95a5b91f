"""What network policies let through: a small reading of what Kubernetes says they mean."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Literal

from tests.k8s.rendered import Object, Pod, selects

Direction = Literal["ingress", "egress"]

_SIDE: Mapping[Direction, str] = {"ingress": "from", "egress": "to"}
_TYPE: Mapping[Direction, str] = {"ingress": "Ingress", "egress": "Egress"}


@dataclass(frozen=True, slots=True)
class Other:
    """Somebody who is none of the rendered pods: outside, by address, or in another namespace, by its labels."""

    address: str = ""
    namespace: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def ip(self) -> IPv4Address | IPv6Address | None:
        """The address, where it is somebody outside of the cluster."""
        return ip_address(self.address) if self.address else None


class Policies:
    """The network policies of one namespace."""

    def __init__(self, objects: Iterable[Object]) -> None:
        self._specs = [thing["spec"] for thing in objects if thing["kind"] == "NetworkPolicy"]

    def between(self, sender: Pod, receiver: Pod, port: int) -> bool:
        """Say whether one pod reaches a port of another of the same namespace: both sides have to allow it."""
        return self._allows("egress", sender, receiver, port) and self.into(receiver, sender, port)

    def out(self, sender: Pod, receiver: Other, port: int, protocol: str = "TCP") -> bool:
        """Say whether a pod reaches somebody else."""
        return self._allows("egress", sender, receiver, port, protocol)

    def into(self, receiver: Pod, sender: Pod | Other, port: int) -> bool:
        """Say whether somebody reaches a port of a pod; nobody does where the pod has no such port."""
        return port in receiver.ports.values() and self._allows("ingress", receiver, sender, port)

    def _allows(self, direction: Direction, pod: Pod, peer: Pod | Other, port: int, protocol: str = "TCP") -> bool:
        mine = [
            spec
            for spec in self._specs
            if selects(spec["podSelector"], pod.labels) and _TYPE[direction] in spec["policyTypes"]
        ]
        rules = [rule for spec in mine for rule in spec.get(direction, [])]
        return not mine or any(
            _has_peer(rule.get(_SIDE[direction]), peer) and _has_port(rule.get("ports"), port, protocol)
            for rule in rules
        )


def _has_port(ports: list[Object] | None, port: int, protocol: str) -> bool:
    return not ports or any(one.get("protocol", "TCP") == protocol and one["port"] == port for one in ports)


def _has_peer(peers: list[Object] | None, peer: Pod | Other) -> bool:
    return not peers or any(_is_peer(one, peer) for one in peers)


def _is_peer(wanted: Object, peer: Pod | Other) -> bool:
    assert set(wanted) <= {"ipBlock", "namespaceSelector", "podSelector"}
    if "ipBlock" in wanted:
        return isinstance(peer, Other) and peer.ip is not None and _in_block(wanted["ipBlock"], peer.ip)
    if isinstance(peer, Pod):  # of this namespace, whose own labels no policy here goes by
        if "namespaceSelector" in wanted:
            return wanted["namespaceSelector"] == {} and selects(wanted.get("podSelector", {}), peer.labels)
        return selects(wanted["podSelector"], peer.labels)
    if peer.ip is not None or "namespaceSelector" not in wanted:
        return False
    return selects(wanted["namespaceSelector"], peer.namespace) and selects(wanted.get("podSelector", {}), peer.labels)


def _in_block(block: Object, address: IPv4Address | IPv6Address) -> bool:
    return address in ip_network(block["cidr"]) and not any(
        address in ip_network(cidr) for cidr in block.get("except", [])
    )
