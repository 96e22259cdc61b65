"""Listens to UDP datagrams on the loopback device, with the kernel's times (root, Linux).

Each datagram is seen twice: as it leaves its sender and as it reaches its receiver. Only
those of a range of ports are copied out of the kernel, whatever else passes there.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import threading
import time
from dataclasses import dataclass, replace
from types import TracebackType

_ETH_P_ALL = 3
_OUTGOING = 4
_SO_ATTACH_FILTER = 26
_SO_TIMESTAMPNS = 35
_SO_RCVBUFFORCE = 33
_BUFFER_BYTES = 32 << 20
_TIMESPEC = struct.Struct("@qq")
_UDP_BYTES = 8

# Classic BPF: opcode, jump if true, jump if false, constant.
_LDB, _LDXB_MSH, _LDH_IND, _JEQ, _JGE, _JGT, _RET = 0x30, 0xB1, 0x48, 0x15, 0x35, 0x25, 0x06


class SniffError(RuntimeError):
    """Datagrams cannot be listened to here; says what is lacking."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """One datagram, seen once.

    Attributes:
        at_ns: CLOCK_MONOTONIC_RAW, as sound cards have it.
        leaves: whether it was seen as it left its sender, not as it reached its receiver.
        source, target: UDP ports.
    """

    at_ns: int
    leaves: bool
    source: int
    target: int
    payload: bytes


class Sniffer:
    """Collects what passes from or to a range of UDP ports while the context lasts.

    Attributes:
        seen: all of it, in the kernel's order; there when the context is left.

    Raises:
        SniffError: this takes root.
    """

    def __init__(self, first_port: int, ports: int) -> None:
        self.seen: list[Sighting] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        try:
            self._socket = socket.socket(
                socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL)
            )
        except PermissionError as error:
            raise SniffError("listening to the loopback device takes root") from error
        try:
            self._attach(first_port, first_port + ports - 1)
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            self._socket.bind(("lo", _ETH_P_ALL))
            self._socket.settimeout(0.1)
        except OSError as error:
            self._socket.close()
            raise SniffError(f"listening to the loopback device: {error.strerror}") from error
        self._day_ns: list[tuple[int, int]] = []
        self._stamped: list[Sighting] = []

    def _attach(self, low: int, high: int) -> None:
        program = [
            (_LDB, 0, 0, 9),  # protocol
            (_JEQ, 0, 8, socket.IPPROTO_UDP),
            (_LDXB_MSH, 0, 0, 0),  # length of the IP header
            (_LDH_IND, 0, 0, 0),  # source port
            (_JGE, 0, 1, low),
            (_JGT, 0, 3, high),
            (_LDH_IND, 0, 0, 2),  # target port
            (_JGE, 0, 2, low),
            (_JGT, 1, 0, high),
            (_RET, 0, 0, 0xFFFF),
            (_RET, 0, 0, 0),
        ]
        code = b"".join(struct.pack("@HBBI", *each) for each in program)
        buffer = ctypes.create_string_buffer(code, len(code))
        filter_ = struct.pack("@HP", len(program), ctypes.addressof(buffer))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filter_)

    def __enter__(self) -> Sniffer:
        self._compare_clocks()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join(30.0)
        self._socket.close()
        self._compare_clocks()
        (day, raw), (later_day, later_raw) = self._day_ns
        # The day's clock, with which the kernel stamps, is slewed: over seconds it matters.
        pace = (later_raw - raw) / (later_day - day)
        self.seen = [
            replace(one, at_ns=raw + round((one.at_ns - day) * pace)) for one in self._stamped
        ]

    def _compare_clocks(self) -> None:
        """Note both clocks at one moment: of three tries the quickest."""
        tries = []
        for _ in range(3):
            before = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
            day = time.clock_gettime_ns(time.CLOCK_REALTIME)
            after = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
            tries.append((after - before, day, (before + after) // 2))
        self._day_ns.append(min(tries)[1:])

    def _listen(self) -> None:
        while not self._stop.is_set():
            try:
                packet, extra, _, address = self._socket.recvmsg(65536, 64)
            except TimeoutError:
                continue
            stamp = next(
                data for level, kind, data in extra if (level, kind) == (1, _SO_TIMESTAMPNS)
            )
            seconds, nanoseconds = _TIMESPEC.unpack(stamp)
            header = 4 * (packet[0] & 15)
            source, target = struct.unpack_from("!HH", packet, header)
            self._stamped.append(
                Sighting(
                    seconds * 1_000_000_000 + nanoseconds,
                    address[2] == _OUTGOING,
                    source,
                    target,
                    packet[header + _UDP_BYTES :],
                )
            )
