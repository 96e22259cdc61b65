"""The shared UDP port of ``--single-port``: the lobby that first packets come to, and its sockets.

All sockets of the port are bound with SO_REUSEPORT, which no other user's program can join. The
kernel prefers a connected socket whose peer has sent a datagram; what is no such peer's goes to the
lobby, one socket for each family, unconnected, on every address.

Between ``bind`` and ``connect`` a client's socket would take others' datagrams out of the lobby: a
filter lets nothing in until it is connected. One that is *parked* is connected to itself, which
nothing from outside can match.

The lobby costs the supervisor's loop so much and no more: TURN datagrams, then PAUSE_S of rest.
Beyond that the kernel drops what its short queue does not hold.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import socket
import struct
from collections.abc import Callable
from ipaddress import IPv4Address, ip_address

from hub.addresses import IPAddress, sockaddr_to
from hub.ports import udp_socket

TURN = 32
PAUSE_S = 0.004
QUEUE_BYTES = 128 * 1024
HEAD_BYTES = 64
"""Of a datagram: its header, and that it is longer than a good-bye."""
_SO_REUSEPORT = 15
_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
_NOTHING = ctypes.create_string_buffer(struct.pack("=HBBI", 0x06, 0, 0, 0), 8)
"""A socket filter of one instruction: return 0, keep no byte."""
_NO_FAMILY = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}


class SinglePortError(OSError):
    """The shared port cannot be had."""


Take = Callable[[bytes, int, bytes, int], None]
"""Told of a datagram: its source's 16 bytes and port, its first HEAD_BYTES, its whole length."""


def join_port(sock: socket.socket, local: IPAddress, port: int, peer: tuple[object, ...]) -> None:
    """Bind an unbound socket to the shared port, for one peer alone.

    Raises:
        OSError: the address is no longer ours, or there is no way to the peer; then it is parked.
    """
    program = struct.pack("=H6xQ", 1, ctypes.addressof(_NOTHING))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
    sock.setsockopt(socket.SOL_SOCKET, _SO_REUSEPORT, 1)
    sock.bind(sockaddr_to(local, port))
    try:
        sock.connect(peer)
    except OSError:
        park(sock)
        raise
    finally:
        sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


def park(sock: socket.socket) -> None:
    """Let a client's socket hear nobody; it can be connected again."""
    sock.connect(sock.getsockname())


class Lobby:
    """Takes what comes to a port and to no client's socket.

    Args:
        port: of every address of this machine.
        take: told of each datagram that is read.
    """

    def __init__(self, port: int, take: Take) -> None:
        self.port = port
        self.pauses = 0
        self._take = take
        self._sockets: list[socket.socket] = []
        self._paused: dict[int, asyncio.TimerHandle] = {}
        self._buffer = bytearray(HEAD_BYTES)

    def bind(self) -> None:
        """Take the port: what another program has, of this user or any other, is not shared.

        Raises:
            SinglePortError: the port is in use or not permitted.
        """
        try:
            for host in ("0.0.0.0", "::"):
                try:
                    sock = udp_socket(ip_address(host))
                except OSError as error:
                    if error.errno in _NO_FAMILY:
                        continue
                    raise
                self._sockets.append(sock)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, QUEUE_BYTES)
                try:
                    sock.bind((host, self.port))
                except OSError as error:
                    if error.errno in _NO_FAMILY:
                        self._sockets.remove(sock)
                        sock.close()
                        continue
                    raise
                sock.setsockopt(socket.SOL_SOCKET, _SO_REUSEPORT, 1)  # from now on we share
        except OSError as error:
            self.close()
            raise SinglePortError(error.errno, error.strerror) from None

    def open(self) -> None:
        """Begin to read."""
        for sock in self._sockets:
            asyncio.get_running_loop().add_reader(sock, self._read, sock)

    def close(self) -> None:
        """Leave the port; connected sockets go on."""
        for timer in self._paused.values():
            timer.cancel()
        self._paused.clear()
        for sock in self._sockets:
            with contextlib.suppress(RuntimeError):  # no loop runs: nothing was opened
                asyncio.get_running_loop().remove_reader(sock)
            sock.close()
        self._sockets.clear()

    def _read(self, sock: socket.socket) -> None:
        for _ in range(TURN):
            try:
                length, source = sock.recvfrom_into(self._buffer, 0, socket.MSG_TRUNC)
            except BlockingIOError:
                return
            except OSError:  # ICMP's answer to nothing of ours
                continue
            self._take(_raw(source[0]), source[1], bytes(self._buffer), length)
        self.pauses += 1
        loop = asyncio.get_running_loop()
        loop.remove_reader(sock)
        self._paused[sock.fileno()] = loop.call_later(PAUSE_S, self._go_on, sock)

    def _go_on(self, sock: socket.socket) -> None:
        del self._paused[sock.fileno()]
        asyncio.get_running_loop().add_reader(sock, self._read, sock)


def _raw(host: str) -> bytes:
    """16 bytes of an address as the kernel spells it, IPv4 as mapped IPv6."""
    if ":" in host:
        return socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    return bytes(10) + b"\xff\xff" + IPv4Address(host).packed
