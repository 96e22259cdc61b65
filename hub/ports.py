"""The hub's UDP ports: which one a newcomer gets, and the socket on it.

A freed port is not given again for a while: datagrams of its last user, late good-byes
among them, may still be on their way to it. Ports that were never used or have rested
come first, lowest first; when there is none, the one freed longest ago goes again. One to which
nothing ever came need not rest: so who says hello a second time and is given the same port knows
that the hub has heard nothing on it (``hub.doctor.swallowed``), as with JackTrip's own hub.
"""

from __future__ import annotations

import contextlib
import errno
import heapq
import socket
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import TypeVar

import structlog

from hub.addresses import IPAddress, sockaddr_to
from hub.flood import Limiter
from hub.owner import udp_owner

log = structlog.get_logger()

QUARANTINE_S = 30.0
BUFFER_BYTES = 512 * 1024
TRAFFIC_CLASS = 0xE0
"""DSCP 56 in the TOS byte, as JackTrip marks its audio since 2.4.0."""
SOCKET_PRIORITY = 6

_SO_TIMESTAMPNS = 35
_SO_RXQ_OVFL = 40
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33

Bound = TypeVar("Bound")


class PortPool:
    """``count`` ports from ``first`` on; pure but for the binding it is handed."""

    def __init__(
        self,
        first: int,
        count: int,
        quarantine_s: float = QUARANTINE_S,
        *,
        without: int | None = None,
    ) -> None:
        ports = range(first, min(first + count, 65536))
        self._rested = [port for port in ports if port != without]  # a heap
        self._resting: deque[tuple[float, int]] = deque()  # (freed at, port), oldest first
        self._quarantine_s = quarantine_s
        self._blame = Limiter()

    def take(self, now: float, bind: Callable[[int], Bound]) -> tuple[int, Bound] | None:
        """Bind the best port; None when no port is left.

        A port that somebody else holds is skipped, and tried again after a quarantine.

        Raises:
            OSError: binding failed for another reason than a port in use.
        """
        while self._resting and self._resting[0][0] <= now - self._quarantine_s:
            heapq.heappush(self._rested, self._resting.popleft()[1])
        for _ in range(len(self._rested)):
            port = heapq.heappop(self._rested)
            bound = self._try(port, bind, now)
            if bound is not None:
                return port, bound
        for _ in range(len(self._resting)):
            port = self._resting.popleft()[1]
            bound = self._try(port, bind, now)
            if bound is not None:
                return port, bound
        return None

    def give_back(self, port: int, now: float, used: bool = True) -> None:
        """A port's socket was closed; used: datagrams had come to it."""
        if used:
            self._resting.append((now, port))
        else:
            heapq.heappush(self._rested, port)

    def _try(self, port: int, bind: Callable[[int], Bound], now: float) -> Bound | None:
        try:
            return bind(port)
        except OSError as error:
            self._resting.append((now, port))
            if error.errno != errno.EADDRINUSE:
                raise
            if (suppressed := self._blame.limited("udp")) is not None:
                _tell_holder(port, suppressed)
            return None


def _tell_holder(port: int, suppressed: int) -> None:
    """Log who has a port, from a thread: all processes' descriptors are read to find out."""
    fields = {"suppressed": suppressed} if suppressed else {}

    def tell() -> None:
        by = udp_owner(port) or "a program that cannot be told"
        log.warning("udp port is in use", port=port, by=by, **fields)

    try:
        threading.Thread(target=tell, name="port holder").start()
    except RuntimeError:  # the system has no thread left for it
        log.warning("udp port is in use", port=port, **fields)


def bind_udp(local: IPAddress, port: int) -> socket.socket:
    """A non-blocking UDP socket for one client's audio, bound and marked.

    Raises:
        OSError: the port is in use, or the address is no longer ours.
    """
    sock = udp_socket(local)
    try:
        sock.bind(sockaddr_to(local, port))
    except OSError:
        sock.close()
        raise
    return sock


def udp_socket(local: IPAddress) -> socket.socket:
    """A non-blocking UDP socket for an address of this one's family, marked, bound to nothing.

    Raises:
        OSError: there is none.
    """
    family = socket.AF_INET if isinstance(local, IPv4Address) else socket.AF_INET6
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        set_options(sock)
    except OSError:
        sock.close()
        raise
    return sock


def set_options(sock: socket.socket) -> None:
    """Timestamps, drop counts, buffers and marking; what is not permitted is left out."""
    options = [
        (socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1),
        (socket.SOL_SOCKET, _SO_RXQ_OVFL, 1),
        # the traffic class sets a priority of its own, so it comes first
        (socket.IPPROTO_IPV6, socket.IPV6_TCLASS, TRAFFIC_CLASS)
        if sock.family == socket.AF_INET6
        else (socket.IPPROTO_IP, socket.IP_TOS, TRAFFIC_CLASS),
        (socket.SOL_SOCKET, socket.SO_PRIORITY, SOCKET_PRIORITY),
    ]
    for level, option, value in options:
        with contextlib.suppress(OSError):
            sock.setsockopt(level, option, value)
    for forced, plain in (
        (_SO_RCVBUFFORCE, socket.SO_RCVBUF),
        (_SO_SNDBUFFORCE, socket.SO_SNDBUF),
    ):
        try:
            sock.setsockopt(socket.SOL_SOCKET, forced, BUFFER_BYTES)
        except OSError:  # only for CAP_NET_ADMIN; the plain one is cut at the system's limit
            sock.setsockopt(socket.SOL_SOCKET, plain, BUFFER_BYTES)


@dataclass(frozen=True, slots=True)
class BufferSizes:
    """What the kernel really gives a socket, in bytes (without its own overhead)."""

    receive: int
    send: int

    @property
    def short(self) -> bool:
        return min(self.receive, self.send) < BUFFER_BYTES


def buffer_sizes() -> BufferSizes:
    """Ask for the buffers once on a socket of its own, to say what came of it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        set_options(sock)
        # the kernel doubles what it was asked for, and says the double
        return BufferSizes(
            sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2,
            sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // 2,
        )
