"""Which addresses a name has, and why it has none."""

from __future__ import annotations

import ipaddress
import socket
import threading
from dataclasses import dataclass
from enum import StrEnum

RESOLVE_TIMEOUT_S = 15.0
"""getaddrinfo has no timeout of its own; three servers asked twice are given up by then."""


class NameFault(StrEnum):
    """Why there is no address."""

    UNKNOWN = "unknown"
    """Whoever was asked says that there is no such name, or that it has no address."""
    NO_SERVER = "no-server"
    """Nobody who knows names could be asked."""


@dataclass(frozen=True, slots=True)
class Address:
    """One address of a host: numeric text (with scope, if it has one) and family."""

    text: str
    family: socket.AddressFamily

    @property
    def is_ipv6(self) -> bool:
        return self.family == socket.AF_INET6

    @property
    def bare(self) -> str:
        """Without a scope: as others name it."""
        return self.text.partition("%")[0]


@dataclass(frozen=True, slots=True)
class Names:
    """What a name stands for.

    Attributes:
        addresses: in the order in which a client would try them; JackTrip takes the first.
        fault: why there are none.
        said: by the resolver, about the fault.
    """

    addresses: tuple[Address, ...]
    fault: NameFault | None = None
    said: str = ""


def resolve(host: str, timeout_s: float = RESOLVE_TIMEOUT_S) -> Names:
    """Ask the system's resolver for all addresses of a name, or of a numeric address."""
    found: list[Names] = []
    asking = threading.Thread(target=lambda: found.append(_ask(host)), daemon=True)
    asking.start()
    asking.join(timeout_s)
    if not found:
        return Names((), NameFault.NO_SERVER, f"no answer within {timeout_s:g} s")
    return found[0]


def _ask(host: str) -> Names:
    try:
        entries = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        unreachable = error.errno in (socket.EAI_AGAIN, socket.EAI_FAIL, socket.EAI_SYSTEM)
        fault = NameFault.NO_SERVER if unreachable else NameFault.UNKNOWN
        return Names((), fault, error.strerror or str(error))
    except (UnicodeError, ValueError) as error:  # a label of more than 63 characters, a zero byte
        return Names((), NameFault.UNKNOWN, str(error))
    addresses = (
        Address(socket.getnameinfo(sockaddr, socket.NI_NUMERICHOST)[0], family)
        for family, _, _, _, sockaddr in entries
        if family in (socket.AF_INET, socket.AF_INET6)
    )
    return Names(tuple(dict.fromkeys(addresses)))


def is_private(text: str) -> bool:
    """Whether an address is none of the public internet's, so that a router stands before it."""
    address = ipaddress.ip_address(text.partition("%")[0])
    return not address.is_global and not address.is_loopback
