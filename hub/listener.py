"""The listening socket, and how many descriptors there are for those who come."""

from __future__ import annotations

import contextlib
import errno
import resource
import socket
import sys

MAX_PENDING = 1024
SPARE_DESCRIPTORS = 128
"""Kept free for everything that is no TCP connection and no client's UDP socket."""


def bind_dual_stack(port: int) -> socket.socket:
    """A non-blocking TCP socket bound to the port on every address, IPv6 and IPv4.

    Where the machine has no IPv6 it is an IPv4 socket.

    Raises:
        OSError: the port is in use or not permitted.
    """
    try:
        return _bind(socket.AF_INET6, "::", port)
    except OSError as error:
        if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            raise
    return _bind(socket.AF_INET, "0.0.0.0", port)


def _bind(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock


_TCPI_RTT_OFFSET = 68
"""Of tcpi_rtt in struct tcp_info (linux/tcp.h): eight bytes, then uint32s; microseconds."""


def round_trip_s(sock: socket.socket) -> float | None:
    """How long the way to a peer and back takes, as the kernel has seen it; None: not known."""
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCPI_RTT_OFFSET + 4)
    except OSError:
        return None
    if len(info) < _TCPI_RTT_OFFSET + 4:
        return None
    return int.from_bytes(info[_TCPI_RTT_OFFSET:], sys.byteorder) / 1e6 or None


def raise_descriptor_limit() -> int:
    """Lift the soft limit of open files to the hard one; the limit that holds now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    return soft


def pending_limit(descriptors: int, clients: int) -> int:
    """How many TCP connections may be held beside the clients' sockets and the rest."""
    return max(8, min(MAX_PENDING, descriptors - clients - SPARE_DESCRIPTORS))
