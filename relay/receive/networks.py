"""Where a request comes from. Pure.

Behind proxies the connection's other end is a proxy, and who sent the request stands in `X-Forwarded-For`: every proxy
adds at the right whom it was asked by. Whatever stands at the left was written by whoever sent the request, and is
worth nothing. So the header is read from the right, past trusted proxies, up to the first address that is none; and
it is not looked at where the connection itself does not come from a trusted proxy.
"""

import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

from relay.settings import Network, unmapped

Address = IPv4Address | IPv6Address

_IN_BRACKETS = re.compile(r"\[(?P<address>[^\]]*)\](:[0-9]{1,5})?")
_WITH_PORT = re.compile(r"(?P<address>[^:]*):[0-9]{1,5}")


class Networks:
    """Some networks. IPv4 in IPv6 (`::ffff:10.0.0.1`) is the same as IPv4, here and in what is looked up."""

    __slots__ = ("_networks",)

    def __init__(self, networks: Iterable[Network]) -> None:
        self._networks = tuple(unmapped(network) for network in networks)

    def __contains__(self, address: Address) -> bool:
        return any(address in network for network in self._networks)

    def __bool__(self) -> bool:
        return bool(self._networks)


def sender(peer: str | None, forwarded: Sequence[str], proxies: Networks) -> Address | None:
    """Find who sent a request: `peer` is the connection's other end, `forwarded` all X-Forwarded-For in their order.

    The first address from the right that is no trusted proxy; if all are, the leftmost. None where it cannot be told,
    because what stands there is no address.
    """
    address = _address(peer or "")
    if address is None or address not in proxies:
        return address
    for entry in reversed(",".join(forwarded).split(",") if forwarded else []):
        address = _address(entry)
        if address is None or address not in proxies:
            break
    return address


def _address(text: str) -> Address | None:
    """Read an address, with or without brackets and port: `192.0.2.1:80`, `[2001:db8::1]:80`, `2001:db8::1`."""
    stripped = text.strip()
    written = _IN_BRACKETS.fullmatch(stripped) or _WITH_PORT.fullmatch(stripped)
    try:
        address = ip_address(written["address"] if written else stripped)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        # Without the zone of `fe80::1%eth0`: anything may stand there, and it means nothing elsewhere.
        return address.ipv4_mapped or IPv6Address(int(address))
    return address
