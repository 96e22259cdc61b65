"""Addresses of peers: one form for each, however the kernel spells it.

On a dual-stack socket an IPv4 peer is ``::ffff:1.2.3.4``; it is the same peer as
``1.2.3.4`` and must compare equal to it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

IPAddress = IPv4Address | IPv6Address


@lru_cache(maxsize=1024)  # the same few come again and again, and Python is slow at it
def parse_address(host: str, scope: int = 0) -> IPAddress:
    """An address as the kernel spells it: IPv4-mapped ones as IPv4, link-local ones with scope.

    Raises:
        ValueError: no IP address.
    """
    address = ip_address(host.partition("%")[0])
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if scope:
            return IPv6Address(f"{address}%{scope}")
    return address


def parse_sockaddr(sockaddr: tuple[Any, ...]) -> tuple[IPAddress, int]:
    """Address and port of what ``getpeername`` and its kin return."""
    host, port, *rest = sockaddr
    return parse_address(host, rest[1] if rest else 0), port


def sockaddr_to(address: IPAddress, port: int) -> tuple[Any, ...]:
    """What ``bind`` and ``sendto`` want, for a socket of the address's own family."""
    if isinstance(address, IPv4Address):
        return (str(address), port)
    return (str(address).partition("%")[0], port, 0, int(address.scope_id or 0))


def address_bytes(address: IPAddress) -> bytes:
    """16 bytes in network order, IPv4 as mapped IPv6; a scope id is not part of it."""
    if isinstance(address, IPv4Address):
        return bytes(10) + b"\xff\xff" + address.packed
    return address.packed


def address_words(address: IPAddress) -> tuple[int, int]:
    """The 16 bytes as two native int64 with the same bytes in memory, as kernels compare them."""
    raw = address_bytes(address)
    return (
        int.from_bytes(raw[:8], sys.byteorder, signed=True),
        int.from_bytes(raw[8:], sys.byteorder, signed=True),
    )


def address_of_words(high: int, low: int) -> IPAddress:
    """The address of two such words."""
    raw = high.to_bytes(8, sys.byteorder, signed=True) + low.to_bytes(8, sys.byteorder, signed=True)
    address = IPv6Address(raw)
    return address.ipv4_mapped or address


@dataclass(frozen=True, slots=True)
class Peer:
    """Both ends of a client's TCP connection.

    Attributes:
        address: the client's.
        port: its TCP port.
        local: the hub's address that the client used; its audio must come from there.
        round_trip_s: what the kernel measured when the connection was made, or None.
    """

    address: IPAddress
    port: int
    local: IPAddress
    round_trip_s: float | None = None

    def __str__(self) -> str:
        if isinstance(self.address, IPv6Address):
            return f"[{self.address}]:{self.port}"
        return f"{self.address}:{self.port}"
