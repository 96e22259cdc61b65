"""Networks as they are written, and which source an address belongs to."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.addresses import IPAddress, parse_address
from hub.networks import (
    Network,
    NetworkSet,
    network_text,
    parse_network,
    source_key,
    source_network,
)


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("192.0.2.0/24", "192.0.2.0/24"),
        ("192.0.2.7/24", "192.0.2.0/24"),
        (" 192.0.2.7 ", "192.0.2.7/32"),
        ("2001:db8::7/32", "2001:db8::/32"),
        ("::ffff:192.0.2.7", "192.0.2.7/32"),
        ("::ffff:192.0.2.7/120", "192.0.2.0/24"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::/0", "::/0"),
        ("192.0.2.0/255.255.255.0", "192.0.2.0/24"),
    ],
)
def test_networks_as_people_write_them(text: str, network: str) -> None:
    assert parse_network(text) == ip_network(network)


@pytest.mark.parametrize("text", ["", "Anna", "3", "192.0.2", "192.0.2.0/33", "::/129"])
def test_what_is_no_network(text: str) -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        parse_network(text)


def test_an_address_is_shown_without_its_prefix() -> None:
    assert network_text(parse_network("192.0.2.7")) == "192.0.2.7"
    assert network_text(parse_network("192.0.2.7/31")) == "192.0.2.6/31"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::2:3:4:5", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1", "fe80::2", False),
    ],
)
def test_who_is_one_source(one: str, other: str, same: bool) -> None:
    a, b = parse_address(one), parse_address(other)
    assert (source_key(a) == source_key(b)) is same
    assert (source_network(a) == source_network(b)) is same


_V4 = st.integers(0, 2**32 - 1).map(IPv4Address)
_V6 = st.integers(0, 2**128 - 1).map(IPv6Address)
# few bits, so that networks and addresses meet
_NEAR = st.one_of(
    st.integers(0, 255).map(IPv4Address),
    st.integers(0, 255).map(lambda low: IPv6Address(0x20010DB8 << 96 | low)),
)
_ADDRESS = st.one_of(_V4, _V6, _NEAR)


@st.composite
def _networks(draw: st.DrawFn) -> Network:
    address = draw(_ADDRESS)
    bits = draw(st.integers(0, address.max_prefixlen))
    return ip_network(f"{address}/{bits}", strict=False)


@given(st.lists(_networks(), max_size=12), st.lists(_networks(), max_size=4), _ADDRESS)
def test_a_set_covers_what_its_networks_do(
    added: list[Network], discarded: list[Network], address: IPAddress
) -> None:
    networks = NetworkSet(added)
    for network in discarded:
        networks.discard(network)
    left = set(added) - set(discarded)
    covering = {n for n in left if n.version == address.version and address in n}
    assert set(networks.covering(address)) == covering
    assert (address in networks) is bool(covering)
    assert len(networks) == len(left)


@given(_ADDRESS)
def test_an_address_is_in_the_network_of_its_source(address: IPAddress) -> None:
    network = source_network(address)
    assert address in network
    assert source_key(network.network_address) == source_key(address)
