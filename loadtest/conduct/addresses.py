"""Addresses that the harness gives to its own network namespaces, and how one is known inside.

10.77.0.0/16  clients      10.78.0.0/16  the line to the hub
10.79.0.0/16  clients      10.80.0.0/16  ..., if this machine has routes into the first pair
"""

from __future__ import annotations

import ipaddress
import socket

FIRST_PAIR, LAST_PAIR = 77, 115
"""Second bytes of the clients' networks, every other; the next one is their line's."""
LINE = "line"
"""The interface that leads out of a namespace of ours."""
LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
NAMESPACES = tuple(
    ipaddress.ip_network(f"10.{second}.0.0/16") for second in range(FIRST_PAIR, LAST_PAIR + 2)
)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_loopback(host: str) -> bool:
    """Whether a numeric address is this machine's alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_ours(address: Address) -> bool:
    """Whether an address is loopback's, or in a namespace of ours that we are inside of.

    Elsewhere the same address may be a stranger's.
    """
    if any(address in network for network in LOOPBACK):
        return True
    return any(address in network for network in NAMESPACES) and inside_namespace()


def inside_namespace() -> bool:
    """Whether this process runs in a network namespace of the harness."""
    return LINE in {name for _, name in socket.if_nameindex()}
