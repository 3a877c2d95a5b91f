"""Who sent a request: the connection's other end, or whom trusted proxies name, and nobody's word besides."""

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.receive.networks import Networks, sender

PROXIES = Networks([IPv4Network("10.0.0.0/24"), IPv6Network("fd00::/8")])
NOBODY = Networks([])


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        # no proxy: nothing that is written counts
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", ["198.51.100.7"], "192.0.2.1"),
        ("192.0.2.1", ["10.0.0.1"], "192.0.2.1"),
        ("2001:db8::1", ["198.51.100.7"], "2001:db8::1"),
        # one proxy: whom it names last, whatever the sender wrote before
        ("10.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["203.0.113.9, 198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["203.0.113.9,198.51.100.7"], "198.51.100.7"),
        ("fd00::1", ["2001:db8::7"], "2001:db8::7"),
        # several: past each that is trusted
        ("10.0.0.1", ["203.0.113.9, 198.51.100.7, 10.0.0.2"], "198.51.100.7"),
        ("10.0.0.1", ["203.0.113.9, 198.51.100.7, 10.0.0.2, fd00::2, 10.0.0.3"], "198.51.100.7"),
        ("10.0.0.1", ["10.0.0.9, 198.51.100.7, 10.0.0.2"], "198.51.100.7"),
        # several headers are one list
        ("10.0.0.1", ["198.51.100.7", "10.0.0.2"], "198.51.100.7"),
        ("10.0.0.1", ["203.0.113.9", "198.51.100.7, 10.0.0.3", "10.0.0.2"], "198.51.100.7"),
        # a proxy that asks for itself, and one behind others
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["10.0.0.5, 10.0.0.2"], "10.0.0.5"),
        # with ports and brackets
        ("10.0.0.1", ["198.51.100.7:52311"], "198.51.100.7"),
        ("10.0.0.1", ["[2001:db8::7]:52311"], "2001:db8::7"),
        ("10.0.0.1", ["[2001:db8::7]"], "2001:db8::7"),
        ("10.0.0.1", ["198.51.100.7:52311, 10.0.0.2:443"], "198.51.100.7"),
        # IPv4 in IPv6
        ("::ffff:192.0.2.1", ["198.51.100.7"], "192.0.2.1"),
        ("::ffff:10.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("::ffff:10.0.0.1", ["::ffff:198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["198.51.100.7, [::ffff:10.0.0.2]:80"], "198.51.100.7"),
        # link-local, as sockets show it: whatever stands behind the sign is no part of it, and enters no log
        ("fe80::1%eth0", [], "fe80::1"),
        ("10.0.0.1", ["fe80::1%taro@example.jp"], "fe80::1"),
    ],
)
def test_who_sent_it(peer: str, forwarded: list[str], expected: str) -> None:
    """The first address from the right that is no trusted proxy, if the connection comes from one."""
    assert sender(peer, forwarded, PROXIES) == ip_address(expected)


@pytest.mark.parametrize(
    "entry",
    [
        "",
        " ",
        "unknown",
        "_hidden",
        "198.51.100.7.",
        "198.51.100",
        "198.51.100.07",
        "3325256711",
        "0xc6336407",
        "198.51.100.7:",
        "198.51.100.7:http",
        "198.51.100.7:-1",
        "198.51.100.7:123456",
        "198.51.100.7:٣",
        "198.51.100.7/32",
        "[2001:db8::7",
        "2001:db8::7]",
        "[2001:db8::7]x",
        "[2001:db8::7]80",
        "[2001:db8::7]:",
        "[]",
        "[]:80",
        "[[::1]]",
        '"198.51.100.7"',
        "for=198.51.100.7",
        "\udcff",
        "1" * 10_000,
        ":" * 10_000,
    ],
)
def test_what_is_no_address_is_nobody(entry: str) -> None:
    """What cannot be read is not passed over: what stands to the left of it is anybody's word."""
    assert sender("10.0.0.1", [entry], PROXIES) is None
    assert sender("10.0.0.1", [f"198.51.100.7, {entry}, 10.0.0.2"], PROXIES) is None
    assert sender("192.0.2.1", [entry], PROXIES) == ip_address("192.0.2.1")


@pytest.mark.parametrize("peer", [None, "", "unix"])
def test_a_connection_without_an_address_is_nobodys(peer: str | None) -> None:
    """A connection that has gone, or none over IP, comes from nowhere, whatever the header says."""
    assert sender(peer, ["198.51.100.7"], PROXIES) is None


@given(st.lists(st.text(max_size=40), max_size=5), st.ip_addresses())
def test_nothing_written_helps_who_is_no_proxy(forwarded: list[str], peer: object) -> None:
    """Without trusted proxies, the header is as if it were not there."""
    assert sender(str(peer), forwarded, NOBODY) == sender(str(peer), [], NOBODY)


@given(st.lists(st.text(max_size=40), max_size=5), st.ip_addresses(v=4).filter(lambda a: a not in PROXIES))
def test_what_a_sender_writes_changes_nothing(forwarded: list[str], address: object) -> None:
    """Behind a proxy that adds whom it was asked by, whatever the sender wrote itself makes no difference."""
    assert sender("10.0.0.1", [*forwarded, str(address)], PROXIES) == address
    assert sender("10.0.0.1", [", ".join([*forwarded, str(address)]), "10.0.0.2"], PROXIES) == address


@pytest.mark.parametrize(
    ("network", "inside", "outside"),
    [
        ("10.0.0.0/8", ["10.0.0.0", "10.255.255.255"], ["9.255.255.255", "11.0.0.0", "::a00:0"]),
        ("::ffff:10.0.0.0/104", ["10.0.0.0", "10.255.255.255"], ["11.0.0.0"]),
        ("::ffff:0:0/96", ["0.0.0.1", "255.255.255.255"], ["::1"]),
        ("2001:db8::/32", ["2001:db8::", "2001:db8:ffff::1"], ["2001:db9::", "10.0.0.1"]),
        ("fe80::/10", ["fe80::1", "fe80::1%eth0"], ["fec0::1"]),
        ("192.0.2.7/32", ["192.0.2.7"], ["192.0.2.6", "192.0.2.8"]),
        ("0.0.0.0/0", ["192.0.2.7"], ["::1", "2001:db8::1"]),
    ],
)
def test_what_lies_in_a_network(network: str, inside: list[str], outside: list[str]) -> None:
    """A network holds its addresses and no others; IPv4 written as IPv6 is IPv4."""
    networks = Networks([ip_network(network), ip_network("233.252.0.0/24")])
    assert all(ip_address(address) in networks for address in inside)
    assert not any(ip_address(address) in networks for address in outside)
    assert networks
    assert not NOBODY
