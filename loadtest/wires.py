"""Sockets of the virtual clients, and the message vectors that kernels send and receive with.

With ``Sources.ADDRESSES`` one socket on 0.0.0.0 carries all clients: client i is
127.1.(i // 250).(1 + i % 250), chosen for each message by an IP_PKTINFO control message
and recognised by the same. With ``Sources.PORTS`` each client has a socket.

Outgoing messages are prepared once; a client's ``mmsghdr`` always points to its own
packet, so that neighbours in the order of sending leave by one ``sendmmsg`` of a slice::

    headers[i] -> iovec[i]    -> packets[i]      16-byte header, planar samples
               -> name[i]        the hub's address and the port it answered
               -> control[i]     IP_PKTINFO: this client's address
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import socket
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from loadtest.plan import Plan, Sources
from shared.layout import CACHE_LINE
from shared.protocol import EXIT_PACKET, HEADER, HEADER_BYTES, AudioHeader, pack_header, rate_code

BATCH = 128
"""Messages a system call takes or brings at most."""
BLOCK = 250
"""Clients with the same third byte of their address."""
EPOLL_WORDS, EPOLL_FD_WORD = (3, 1) if os.uname().machine == "x86_64" else (4, 2)
"""struct epoll_event in int32: packed on x86-64 only; Python puts the descriptor into its data."""
_NAME_BYTES = 32
_CONTROL_WORDS = 16
_PKTINFO_BYTES = 12
_SO_RXQ_OVFL, _SO_TIMESTAMPNS, _SO_RCVBUFFORCE = 40, 35, 33
_IP_PKTINFO = 8
_RECEIVE_BUFFER = 64 << 20
"""A second of 200 clients; asked for, and got by root only."""


class Wires(NamedTuple):
    """Sockets and vectors; N clients, S sockets, B = BATCH.

    Attributes:
        descriptors: (S,) int64.
        epoll: descriptor that tells which of many sockets hold something; −1 with one socket.
        events: (B, EPOLL_WORDS) int32, what it tells.
        socket_of: (highest descriptor + 1,) int64, index of the socket.
        by_address: 1 when clients are told apart by address, 0 by socket.
        packets, words, stamps: (N, bytes) uint8 and the same memory as int16 and uint64.
        headers, iovec: (N, 8) and (N, 2) uint64, outgoing.
        names: (N, 32) uint8, the hub's address as each client sends to it.
        controls: (N, 4) int64, IP_PKTINFO.
        exits, exit_iovec: the same headers pointing to one exit packet.
        inbox, inbox_words: (B, bytes) uint8 and as int16, incoming.
        in_headers, in_iovec, in_names, in_controls: (B, …), incoming.
    """

    descriptors: npt.NDArray[np.int64]
    epoll: int
    events: npt.NDArray[np.int32]
    socket_of: npt.NDArray[np.int64]
    by_address: int
    packets: npt.NDArray[np.uint8]
    words: npt.NDArray[np.int16]
    stamps: npt.NDArray[np.uint64]
    headers: npt.NDArray[np.uint64]
    iovec: npt.NDArray[np.uint64]
    names: npt.NDArray[np.uint8]
    controls: npt.NDArray[np.int64]
    exits: npt.NDArray[np.uint64]
    exit_iovec: npt.NDArray[np.uint64]
    exit_packet: npt.NDArray[np.uint8]
    inbox: npt.NDArray[np.uint8]
    inbox_words: npt.NDArray[np.int16]
    in_headers: npt.NDArray[np.uint64]
    in_iovec: npt.NDArray[np.uint64]
    in_names: npt.NDArray[np.uint8]
    in_controls: npt.NDArray[np.int64]


def client_address(index: int) -> str:
    """The loopback address of a client (``Sources.ADDRESSES``)."""
    return f"127.1.{index // BLOCK}.{1 + index % BLOCK}"


def open_sockets(plan: Plan, family: int) -> list[socket.socket]:
    """One socket for all clients, or one each; with time stamps, drop counts and room.

    Raises:
        OSError: no descriptors or no ports left.
    """
    count = 1 if plan.sources == Sources.ADDRESSES else plan.clients
    raise_descriptor_limit(count + 256)
    sockets: list[socket.socket] = []
    try:
        for _ in range(count):
            udp = socket.socket(family, socket.SOCK_DGRAM)
            sockets.append(udp)
            udp.setblocking(False)
            _ask_for_room(udp, _RECEIVE_BUFFER if count == 1 else 1 << 20)
            udp.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            udp.setsockopt(socket.SOL_SOCKET, _SO_RXQ_OVFL, 1)
            if plan.sources == Sources.ADDRESSES:
                udp.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
            udp.bind(("0.0.0.0" if family == socket.AF_INET else "::", 0))
    except OSError:
        for udp in sockets:
            udp.close()
        raise
    return sockets


def _ask_for_room(udp: socket.socket, size: int) -> None:
    udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
    udp.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
    with contextlib.suppress(PermissionError):
        udp.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, size)


def raise_descriptor_limit(wanted: int) -> None:
    """Let this process have so many descriptors, as far as the hard limit goes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))


def watch(sockets: Sequence[socket.socket]) -> select.epoll:
    """An epoll of all sockets, for reading."""
    epoll = select.epoll()
    for udp in sockets:
        epoll.register(udp.fileno(), select.EPOLLIN)
    return epoll


def index_by_descriptor(sockets: Sequence[socket.socket]) -> npt.NDArray[np.int64]:
    """Index of each socket, by its descriptor; −1 elsewhere."""
    table = np.full(max(udp.fileno() for udp in sockets) + 1, -1, np.int64)
    for index, udp in enumerate(sockets):
        table[udp.fileno()] = index
    return table


def make_wires(plan: Plan, sockets: Sequence[socket.socket], epoll: int = -1) -> Wires:
    """Allocate and connect all vectors; the hub's address is filled in as each client joins.

    epoll: descriptor from ``watch``, when there is more than one socket.
    """
    n, size = plan.clients, -(-plan.packet_bytes // CACHE_LINE) * CACHE_LINE
    packets = np.zeros((n, size), np.uint8)
    header = pack_header(
        AudioHeader(0, 0, plan.frames, rate_code(plan.rate_hz), 16, plan.channels, plan.channels)
    )
    packets[:, :HEADER_BYTES] = np.frombuffer(header, np.uint8)
    names = np.zeros((n, _NAME_BYTES), np.uint8)
    controls = np.zeros((n, 4), np.int64)
    by_address = plan.sources == Sources.ADDRESSES
    if by_address:
        for i in range(n):
            controls[i] = _pktinfo(client_address(i))
    iovec = np.zeros((n, 2), np.uint64)
    iovec[:, 0] = _addresses(packets)
    iovec[:, 1] = plan.packet_bytes
    headers = _headers(names, iovec, controls if by_address else None)
    exit_packet = np.frombuffer(EXIT_PACKET, np.uint8).copy()
    exit_iovec = np.zeros((n, 2), np.uint64)
    exit_iovec[:, 0] = exit_packet.ctypes.data
    exit_iovec[:, 1] = exit_packet.size
    inbox = np.zeros((BATCH, size + CACHE_LINE), np.uint8)
    in_iovec = np.zeros((BATCH, 2), np.uint64)
    in_iovec[:, 0] = _addresses(inbox)
    in_iovec[:, 1] = inbox.shape[1]
    in_names = np.zeros((BATCH, _NAME_BYTES), np.uint8)
    in_controls = np.zeros((BATCH, _CONTROL_WORDS), np.int64)
    return Wires(
        descriptors=np.array([udp.fileno() for udp in sockets], np.int64),
        epoll=epoll,
        events=np.zeros((BATCH, EPOLL_WORDS), np.int32),
        socket_of=index_by_descriptor(sockets),
        by_address=int(by_address),
        packets=packets,
        words=packets.view(np.int16),
        stamps=packets.view(np.uint64),
        headers=headers,
        iovec=iovec,
        names=names,
        controls=controls,
        exits=_headers(names, exit_iovec, controls if by_address else None),
        exit_iovec=exit_iovec,
        exit_packet=exit_packet,
        inbox=inbox,
        inbox_words=inbox.view(np.int16),
        in_headers=_headers(in_names, in_iovec, in_controls),
        in_iovec=in_iovec,
        in_names=in_names,
        in_controls=in_controls,
    )


def set_hub(wires: Wires, index: int, family: int, host: str, port: int) -> None:
    """Where a client sends to from now on."""
    if family == socket.AF_INET:
        raw = struct.pack("=H", family) + struct.pack("!H", port) + socket.inet_aton(host)
        length = 16
    else:
        address = socket.inet_pton(family, host)
        raw = struct.pack("=H", family) + struct.pack("!HI", port, 0) + address
        length = 28
    wires.names[index, : len(raw)] = np.frombuffer(raw, np.uint8)
    wires.headers[index, 1] = wires.exits[index, 1] = length


def _addresses(array: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """Memory address of each row."""
    base = np.uint64(array.ctypes.data)
    return base + np.arange(array.shape[0], dtype=np.uint64) * np.uint64(array.strides[0])


def _headers(
    names: npt.NDArray[np.uint8],
    iovec: npt.NDArray[np.uint64],
    controls: npt.NDArray[np.int64] | None,
) -> npt.NDArray[np.uint64]:
    """``mmsghdr`` records as ``shared.libc`` draws them."""
    headers = np.zeros((len(names), 8), np.uint64)
    headers[:, 0] = _addresses(names)
    headers[:, 1] = names.shape[1]
    headers[:, 2] = _addresses(iovec)
    headers[:, 3] = 1
    if controls is not None:
        headers[:, 4] = _addresses(controls)
        headers[:, 5] = 8 * controls.shape[1]
    return headers


def _pktinfo(address: str) -> npt.NDArray[np.int64]:
    """A cmsghdr with struct in_pktinfo: interface 0, source address."""
    raw = struct.pack(
        "=QiiI4sI4x", 16 + _PKTINFO_BYTES, socket.IPPROTO_IP, _IP_PKTINFO, 0,
        socket.inet_aton(address), 0,
    )  # fmt: skip
    return np.frombuffer(raw, np.int64)


assert HEADER.size == HEADER_BYTES == 16, "samples start on a word of 8 bytes"
assert os.sysconf("SC_IOV_MAX") >= BATCH
