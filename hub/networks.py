"""Networks and sources: who is meant by 192.0.2.0/24, and who is one and the same source.

IPv4-mapped IPv6 (``::ffff:192.0.2.1``) is IPv4 throughout, however it is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network

from hub.addresses import IPAddress

Network = IPv4Network | IPv6Network

_MAPPED = IPv6Network("::ffff:0:0/96")
SOURCE_BITS = 64
"""Of an IPv6 address: what a household or a host has for itself, and can change freely within."""


def parse_network(text: str) -> Network:
    """A network as 192.0.2.0/24, 2001:db8::/32 or a single address; bits of a host are dropped.

    Raises:
        ValueError: neither.
    """
    network = ip_network(text.strip(), strict=False)
    if isinstance(network, IPv6Network):
        if network.subnet_of(_MAPPED):
            low = int(network.network_address) & 0xFFFFFFFF
            return IPv4Network((low, network.prefixlen - 96))
        if network.network_address.scope_id:
            return IPv6Network((int(network.network_address), network.prefixlen))
    return network


def network_text(network: Network) -> str:
    """As people write it: a single address without its prefix."""
    single = network.prefixlen == network.max_prefixlen
    return str(network.network_address) if single else str(network)


def source_network(address: IPAddress) -> Network:
    """The network that counts as one source: an IPv4 address, an IPv6 /64.

    Link-local IPv6 is a source an address: all of a LAN share the one prefix.
    """
    version, number, bits = _source(address)
    return IPv4Network((number, bits)) if version == 4 else IPv6Network((number, bits))


def source_key(address: IPAddress) -> tuple[int, int]:
    """What is equal for two addresses of one source (see ``source_network``), and cheap."""
    version, number, _ = _source(address)
    return version, number


def _source(address: IPAddress) -> tuple[int, int, int]:
    if address.version == 4:
        return 4, int(address), 32
    if address.is_link_local:
        return 6, int(address), 128
    return 6, int(address) >> SOURCE_BITS << SOURCE_BITS, SOURCE_BITS


class NetworkSet:
    """Networks, and whether one of them covers an address.

    A question costs one look-up for each length of prefix in use, however many networks
    there are.
    """

    def __init__(self, networks: Iterable[Network] = ()) -> None:
        self._by_length: dict[tuple[int, int], set[int]] = {}
        for network in networks:
            self.add(network)

    def __len__(self) -> int:
        return sum(map(len, self._by_length.values()))

    def add(self, network: Network) -> None:
        key = network.version, network.max_prefixlen - network.prefixlen
        numbers = self._by_length.setdefault(key, set())
        numbers.add(int(network.network_address) >> key[1])

    def discard(self, network: Network) -> None:
        key = network.version, network.max_prefixlen - network.prefixlen
        numbers = self._by_length.get(key, set())
        numbers.discard(int(network.network_address) >> key[1])
        if not numbers:
            self._by_length.pop(key, None)

    def __contains__(self, address: IPAddress) -> bool:
        return next(self.covering(address), None) is not None

    def covering(self, address: IPAddress) -> Iterator[Network]:
        """The networks that an address is in."""
        number, version = int(address), address.version
        for (family, host_bits), numbers in self._by_length.items():
            if family == version and number >> host_bits in numbers:
                low = number >> host_bits << host_bits
                bits = address.max_prefixlen - host_bits
                yield IPv4Network((low, bits)) if version == 4 else IPv6Network((low, bits))
