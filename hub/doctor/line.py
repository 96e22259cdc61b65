"""A UDP socket that knows when datagrams came, and what routers had to say about those it sent."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import math
import select
import socket
import struct
import time
from dataclasses import dataclass
from enum import IntEnum

from hub.doctor.names import Address
from shared.protocol import MAX_DATAGRAM_BYTES

BUFFER_BYTES = 1 << 20
_SO_TIMESTAMPNS, _SO_RXQ_OVFL = 35, 40
_IP_MTU_DISCOVER, _IP_RECVERR = 10, 11
_IPV6_MTU_DISCOVER, _IPV6_RECVERR = 23, 25
_EXTENDED_ERROR = struct.Struct("=IBBBBII")
"""struct sock_extended_err, linux/errqueue.h: errno, origin, type, code, pad, info, data."""
_ORIGIN_LOCAL, _ORIGIN_ICMP, _ORIGIN_ICMP6 = 1, 2, 3
_ANCILLARY_BYTES = 512
_ASK_S = 0.01
_SEND_S = 0.05
"""A datagram waits so long, at most, for room in this machine's buffer."""


class Fragments(IntEnum):
    """IP_MTU_DISCOVER: what becomes of datagrams longer than the path carries."""

    AS_USUAL = 1
    """What JackTrip's sockets do: whole as far as is known, longer ones in fragments."""
    NEVER = 2
    """The kernel refuses those longer than the path is known to carry."""


class Problem(IntEnum):
    """What an ICMP message says, by type and code."""

    PORT_CLOSED = 0
    PROHIBITED = 1
    UNREACHABLE = 2
    TOO_LONG = 3
    HOPS_OVER = 4
    OTHER = 5


@dataclass(frozen=True, slots=True)
class Complaint:
    """A router's or host's word about a datagram of ours.

    Attributes:
        source: who said it, without scope; empty: this machine itself.
        mtu: with TOO_LONG, the longest IP packet that passes.
    """

    problem: Problem
    source: str
    mtu: int = 0


@dataclass(frozen=True, slots=True)
class Arrival:
    """A datagram that came, when (CLOCK_MONOTONIC, by the kernel's stamp), and from which port."""

    at_ns: int
    port: int
    data: bytes


class Line:
    """One UDP socket of the hub's family, on the wildcard address as JackTrip's is."""

    def __init__(
        self, address: Address, port: int = 0, fragments: Fragments = Fragments.AS_USUAL
    ) -> None:
        """Bind it.

        Raises:
            OSError: the port is in use.
        """
        self.address = address
        self.complaints: list[Complaint] = []
        self.overflowed = 0
        """Datagrams that came, and for which this machine's buffer had no room."""
        self._hub = ipaddress.ip_address(address.bare)
        self._sock = socket.socket(address.family, socket.SOCK_DGRAM)
        try:
            self._prepare(fragments)
            self._sock.bind(("::" if address.is_ipv6 else "0.0.0.0", port))
        except OSError:
            self._sock.close()
            raise

    def _prepare(self, fragments: Fragments) -> None:
        v6 = self.address.is_ipv6
        level = socket.IPPROTO_IPV6 if v6 else socket.IPPROTO_IP
        # with a timeout, Python would wait for more complaints, too: as long as one comes in time
        self._sock.setblocking(False)
        self._sock.setsockopt(level, _IPV6_RECVERR if v6 else _IP_RECVERR, 1)
        self._sock.setsockopt(level, _IPV6_MTU_DISCOVER if v6 else _IP_MTU_DISCOVER, fragments)
        self._sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._sock.setsockopt(socket.SOL_SOCKET, _SO_RXQ_OVFL, 1)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        traffic_class = socket.IPV6_TCLASS if v6 else socket.IP_TOS
        with contextlib.suppress(OSError):
            self._sock.setsockopt(level, traffic_class, 0xE0)  # as JackTrip marks its audio
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, 6)

    def close(self) -> None:
        self._sock.close()

    def fileno(self) -> int:
        return self._sock.fileno()

    @property
    def port(self) -> int:
        return int(self._sock.getsockname()[1])

    def own_address(self) -> str:
        """This machine's on the way to the hub; empty: there is no way."""
        with socket.socket(self.address.family, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((self.address.text, 9))
            except OSError:
                return ""
            return str(probe.getsockname()[0]).partition("%")[0]

    def set_hops(self, hops: int) -> None:
        """Datagrams sent from now on live for so many routers; 0: as usual."""
        if self.address.is_ipv6:
            self._sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, hops or -1)
        else:
            self._sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, hops or 64)

    def send(self, data: bytes, port: int) -> bool:
        """Send a datagram to the hub; False: this machine would not, and says why in complaints."""
        for _ in range(3):
            try:
                self._sock.sendto(data, (self.address.text, port))
                return True
            except BlockingIOError:
                self._wait(select.POLLOUT, _SEND_S)
                self.hear_complaints()
            except OSError as error:
                # an ICMP message about an earlier one, or about this one's length
                self.hear_complaints()
                if error.errno == errno.EPERM:  # this machine's own firewall
                    self.complaints.append(Complaint(Problem.PROHIBITED, ""))
                if error.errno in (errno.EMSGSIZE, errno.EPERM):
                    return False
        return False

    def ask(self, port: int, timeout_s: float) -> Complaint | None:
        """What is said about a datagram without content to some port; None: nothing in time."""
        self.send(b"", port)
        deadline = time.monotonic() + timeout_s
        while not self.hear_complaints() and time.monotonic() < deadline:
            time.sleep(_ASK_S)
        return self.complaints[-1] if self.complaints else None

    def receive(self, timeout_s: float) -> Arrival | None:
        """The next datagram of the hub's address; None: none came in time."""
        deadline = time.monotonic() + timeout_s
        while (left_s := deadline - time.monotonic()) > 0:
            if not self._wait(select.POLLIN, left_s):
                return None
            try:
                data, ancillary, _, source = self._sock.recvmsg(
                    MAX_DATAGRAM_BYTES, _ANCILLARY_BYTES
                )
            except OSError:
                self.hear_complaints()
                continue
            if ipaddress.ip_address(source[0].partition("%")[0]) == self._hub:
                return Arrival(self._arrival_ns(ancillary), int(source[1]), data)
        return None

    def _wait(self, event: int, timeout_s: float) -> bool:
        """Wait until something can be read or sent, or is complained of; False: not in time."""
        poll = select.poll()
        poll.register(self._sock, event)
        return bool(poll.poll(math.ceil(1e3 * timeout_s)))

    def _arrival_ns(self, ancillary: list[tuple[int, int, bytes]]) -> int:
        now_ns, wall_ns = time.monotonic_ns(), time.time_ns()
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == _SO_RXQ_OVFL:
                (self.overflowed,) = struct.unpack_from("=I", data)
            if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS:
                seconds, ns = struct.unpack_from("=qq", data)
                # a clock that is set between the two readings must not move an arrival far
                now_ns -= min(max(wall_ns - seconds * 1_000_000_000 - ns, 0), 1_000_000_000)
        return now_ns

    def hear_complaints(self) -> list[Complaint]:
        """Take what ICMP messages have come since; they are also kept in ``complaints``."""
        found = []
        while True:
            try:
                _, ancillary, _, _ = self._sock.recvmsg(
                    0, _ANCILLARY_BYTES, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT
                )
            except OSError:
                break
            found += [
                complaint
                for level, kind, data in ancillary
                if (level, kind)
                in ((socket.IPPROTO_IP, _IP_RECVERR), (socket.IPPROTO_IPV6, _IPV6_RECVERR))
                and (complaint := parse_complaint(data)) is not None
            ]
        self.complaints += found
        return found


def parse_complaint(data: bytes) -> Complaint | None:
    """Read a ``sock_extended_err`` and the address behind it; None: it is of no known origin."""
    if len(data) < _EXTENDED_ERROR.size:
        return None
    number, origin, kind, code, _, info, _ = _EXTENDED_ERROR.unpack_from(data)
    mtu = info if number == errno.EMSGSIZE else 0
    source = _offender(data[_EXTENDED_ERROR.size :])
    if origin == _ORIGIN_LOCAL:
        problem = Problem.TOO_LONG if number == errno.EMSGSIZE else Problem.OTHER
        return Complaint(problem, "", mtu)
    if origin == _ORIGIN_ICMP:
        return Complaint(_problem(kind, code), source, mtu)
    if origin == _ORIGIN_ICMP6:
        return Complaint(_problem6(kind, code), source, mtu)
    return None


def _offender(data: bytes) -> str:
    if len(data) < 2:
        return ""
    (family,) = struct.unpack_from("=H", data)
    if family == socket.AF_INET and len(data) >= 8:
        return socket.inet_ntop(socket.AF_INET, data[4:8])
    if family == socket.AF_INET6 and len(data) >= 24:
        return socket.inet_ntop(socket.AF_INET6, data[8:24])
    return ""


def _problem(kind: int, code: int) -> Problem:
    """Of ICMP (RFC 792, RFC 1812)."""
    match kind, code:
        case 3, 3:
            return Problem.PORT_CLOSED
        case 3, 4:
            return Problem.TOO_LONG
        case 3, (9 | 10 | 13):
            return Problem.PROHIBITED
        case 3, _:
            return Problem.UNREACHABLE
        case 11, 0:
            return Problem.HOPS_OVER
    return Problem.OTHER


def _problem6(kind: int, code: int) -> Problem:
    """Of ICMPv6 (RFC 4443)."""
    match kind, code:
        case 1, 4:
            return Problem.PORT_CLOSED
        case 1, (1 | 5 | 6):
            return Problem.PROHIBITED
        case 1, _:
            return Problem.UNREACHABLE
        case 2, _:
            return Problem.TOO_LONG
        case 3, 0:
            return Problem.HOPS_OVER
    return Problem.OTHER
