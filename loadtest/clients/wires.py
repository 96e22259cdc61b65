"""Sockets of the virtual clients, and the message vectors that kernels send and receive with.

With ``Sources.ADDRESSES`` one socket on 0.0.0.0 carries all clients: client i is
127.1.(i // 250).(1 + i % 250), chosen for each message by an IP_PKTINFO control message
and recognised by the same. With ``Sources.PORTS`` each client has a socket.

Each client has a ``mmsghdr`` that always points to its own packets, and what leaves is a
batch of copies of such headers. A client of redundancy r keeps its last r packets in a
ring; its iovecs name them newest first::

    headers[i] -> iovec[i, 0..r−1]  -> packets[packet_at[i] + slot × packet_step[i]]
               -> names[i]             the hub's address and the port it answered
               -> controls[i]          IP_PKTINFO: this client's address
    batch      =  copies of headers[..], and of pool.headers[..]

A datagram that the emulated network delays is copied into the pool, and waits there::

    pool.headers[s] -> pool.iovec[s] -> pool.data[s]
                    -> names[i], controls[i]
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

from loadtest.scenario.model import Scenario, Sources
from shared.layout import CACHE_LINE
from shared.protocol import EXIT_BYTES, EXIT_PACKET, HEADER_BYTES, MAX_REDUNDANCY

BATCH = 128
"""Messages a system call takes or brings at most."""
ORDERS = 16_384
"""Orders to the generator that may wait; a power of two, more than there are clients."""
BLOCK = 250
"""Clients with the same third byte of their address."""
BASE = (127, 1)
"""First two bytes of the clients' addresses."""
POOL_BYTES, POOL_SLOTS = 64 << 20, 32_768
"""Most that delayed datagrams may take."""
EPOLL_WORDS, EPOLL_FD_WORD = (3, 1) if os.uname().machine == "x86_64" else (4, 2)
"""struct epoll_event in int32: packed on x86-64 only; Python puts the descriptor into its data."""
OUT_COUNT, OUT_SOCKET, HEAP_SIZE, POOL_SIZE, POOL_FREE, LAST_DUE = range(6)
"""Words of ``desk``."""
AUDIO, EXIT = -1, -2
"""In ``out_slot``: a client's own packet, its exit packet; else a slot of the pool."""
_NAME_BYTES = 32
_CONTROL_WORDS = 16
_PKTINFO_BYTES = 12
_SO_RXQ_OVFL, _SO_TIMESTAMPNS, _SO_RCVBUFFORCE, _SO_SNDBUFFORCE = 40, 35, 33, 32
_IP_PKTINFO = 8
_RECEIVE_BUFFER = 64 << 20
"""A second of 200 clients; asked for, and got by root only."""

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]


class Pool(NamedTuple):
    """Delayed datagrams; P slots.

    Attributes:
        data: (P, bytes) uint8.
        headers, iovec: (P, 8) and (P, 2) uint64.
        client, packet: (P,) int64, whose it is; number of the newest packet in it, −1: a
            second copy, or an exit packet.
        free: (P,) int64, slots that are free: the first ``desk[POOL_FREE]``.
        due_ns, slot: (P,) int64, heap of those that wait: the first ``desk[POOL_SIZE]``.
    """

    data: Bytes
    headers: Words
    iovec: Words
    client: Ints
    packet: Ints
    free: Ints
    due_ns: Ints
    slot: Ints


class Wires(NamedTuple):
    """Sockets and vectors; N clients, S sockets, B = BATCH.

    Attributes:
        descriptors: (S,) int64.
        epoll: descriptor that tells which of many sockets hold something; −1 with one socket.
        events: (B, EPOLL_WORDS) int32, what it tells.
        socket_of: (highest descriptor + 1,) int64, index of the socket.
        by_address: first two bytes of the clients' addresses when those tell them apart,
            lowest first; −1: sockets do.
        packets: (bytes,) uint8; packet_at, packet_step: (N,) int64, see above.
        dirty: (N, MAX_REDUNDANCY) int64, 1 where a packet of the ring is not silent.
        headers, iovec: (N, 8) and (N, MAX_REDUNDANCY, 2) uint64, outgoing.
        names: (N, 32) uint8, the hub's address as each client sends to it.
        controls: (N, 4) int64, IP_PKTINFO.
        exits: (N, 8) uint64, the same headers, of an exit packet.
        batch: (B, 8) uint64, headers that leave together; out_client, out_packet, out_slot,
            out_due_ns: (B,) int64, of each.
        queued: (N,) int64, 1: a packet of this client is in the batch.
        heap_due_ns, heap_client: (N,) int64, whose next packet is due when.
        waits: (N,) int64, 1: the client is in the heap.
        release_ns: (N,) int64, when its last delayed datagram leaves.
        left_port: (N,) int64, the hub's port before it joined anew; 0: none.
        serials: (2, N) int64, datagrams that each path (UP, DOWN) has been asked to carry.
        desk: counters of the batch, the heap and the pool.
        orders: (ORDERS,) int64, clients whose ``wish`` has changed.
        inbox: (B, bytes) uint8, incoming, and as inbox_words int16.
        in_headers, in_iovec, in_names, in_controls: (B, …), incoming.
        pcm: (samples,) int16, a packet's decoded samples.
    """

    descriptors: Ints
    epoll: int
    events: npt.NDArray[np.int32]
    socket_of: Ints
    by_address: int
    packets: Bytes
    packet_at: Ints
    packet_step: Ints
    dirty: Ints
    headers: Words
    iovec: Words
    names: Bytes
    controls: Ints
    exits: Words
    exit_iovec: Words
    exit_packet: Bytes
    batch: Words
    out_client: Ints
    out_packet: Ints
    out_slot: Ints
    out_due_ns: Ints
    queued: Ints
    heap_due_ns: Ints
    heap_client: Ints
    waits: Ints
    release_ns: Ints
    left_port: Ints
    serials: Ints
    desk: Ints
    orders: Ints
    pool: Pool
    inbox: Bytes
    inbox_words: npt.NDArray[np.int16]
    in_headers: Words
    in_iovec: Words
    in_names: Bytes
    in_controls: Ints
    pcm: npt.NDArray[np.int16]


def client_address(index: int, base: tuple[int, int] = BASE) -> str:
    """The address of a client (``Sources.ADDRESSES``)."""
    return f"{base[0]}.{base[1]}.{index // BLOCK}.{1 + index % BLOCK}"


def open_sockets(sources: Sources, clients: int, family: int) -> list[socket.socket]:
    """One socket for all clients, or one each; with time stamps, drop counts and room.

    Raises:
        OSError: no descriptors or no ports left.
    """
    count = 1 if sources == Sources.ADDRESSES else clients
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
            if sources == Sources.ADDRESSES:
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
        udp.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, size)


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


def index_by_descriptor(sockets: Sequence[socket.socket]) -> Ints:
    """Index of each socket, by its descriptor; −1 elsewhere."""
    table = np.full(max(udp.fileno() for udp in sockets) + 1, -1, np.int64)
    for index, udp in enumerate(sockets):
        table[udp.fileno()] = index
    return table


def make_wires(
    scenario: Scenario,
    sockets: Sequence[socket.socket],
    epoll: int = -1,
    base: tuple[int, int] = BASE,
) -> Wires:
    """Allocate and connect all vectors; the hub's address is filled in as each client joins.

    epoll: descriptor from ``watch``, when there is more than one socket.
    base: first two bytes of the clients' addresses.
    """
    n = scenario.clients
    formats = [section.format for section in scenario.sections for _ in range(section.clients)]
    steps = np.array([_padded(each.packet_bytes) for each in formats], np.int64)
    rings = np.array([each.redundancy for each in formats], np.int64)
    packet_at = np.concatenate(([0], np.cumsum(steps * rings)[:-1])).astype(np.int64)
    packets = np.zeros(int((steps * rings).sum()), np.uint8)
    names = np.zeros((n, _NAME_BYTES), np.uint8)
    by_address = scenario.sources == Sources.ADDRESSES
    controls = np.zeros((n, 4), np.int64)
    iovec = np.zeros((n, MAX_REDUNDANCY, 2), np.uint64)
    for i, each in enumerate(formats):
        if by_address:
            controls[i] = _pktinfo(client_address(i, base))
        for slot in range(each.redundancy):
            iovec[i, slot] = (
                packets.ctypes.data + int(packet_at[i] + slot * steps[i]),
                (each.packet_bytes),
            )
    own = controls if by_address else None
    headers = _headers(names, iovec, own)
    headers[:, 3] = rings
    exit_packet = np.frombuffer(EXIT_PACKET, np.uint8).copy()
    exit_iovec = np.zeros((n, 2), np.uint64)
    exit_iovec[:] = exit_packet.ctypes.data, exit_packet.size
    returned = max(each.return_bytes * each.redundancy for each in formats)
    inbox = np.zeros((BATCH, _padded(returned) + CACHE_LINE), np.uint8)
    in_iovec = np.zeros((BATCH, 2), np.uint64)
    in_iovec[:, 0] = _addresses(inbox)
    in_iovec[:, 1] = inbox.shape[1]
    in_names = np.zeros((BATCH, _NAME_BYTES), np.uint8)
    in_controls = np.zeros((BATCH, _CONTROL_WORDS), np.int64)
    pool = _make_pool(scenario)
    desk = np.zeros(8, np.int64)
    desk[POOL_FREE] = len(pool.free)
    return Wires(
        descriptors=np.array([udp.fileno() for udp in sockets], np.int64),
        epoll=epoll,
        events=np.zeros((BATCH, EPOLL_WORDS), np.int32),
        socket_of=index_by_descriptor(sockets),
        by_address=(base[0] | base[1] << 8) if by_address else -1,
        packets=packets,
        packet_at=packet_at,
        packet_step=steps,
        dirty=np.zeros((n, MAX_REDUNDANCY), np.int64),
        headers=headers,
        iovec=iovec,
        names=names,
        controls=controls,
        exits=_headers(names, exit_iovec, own),
        exit_iovec=exit_iovec,
        exit_packet=exit_packet,
        batch=np.zeros((BATCH, 8), np.uint64),
        out_client=np.zeros(BATCH, np.int64),
        out_packet=np.zeros(BATCH, np.int64),
        out_slot=np.zeros(BATCH, np.int64),
        out_due_ns=np.zeros(BATCH, np.int64),
        queued=np.zeros(n, np.int64),
        heap_due_ns=np.zeros(n, np.int64),
        heap_client=np.zeros(n, np.int64),
        waits=np.zeros(n, np.int64),
        release_ns=np.zeros(n, np.int64),
        left_port=np.zeros(n, np.int64),
        serials=np.zeros((2, n), np.int64),
        desk=desk,
        orders=np.zeros(ORDERS, np.int64),
        pool=pool,
        inbox=inbox,
        inbox_words=inbox.view(np.int16),
        in_headers=_headers(in_names, in_iovec, in_controls),
        in_iovec=in_iovec,
        in_names=in_names,
        in_controls=in_controls,
        pcm=np.zeros(max(each.frames * each.wants for each in formats), np.int16),
    )


def set_hub(wires: Wires, index: int, family: int, host: str, port: int) -> None:
    """Where a client sends to from now on. Only while it is away."""
    if family == socket.AF_INET:
        raw = struct.pack("=H", family) + struct.pack("!H", port) + socket.inet_aton(host)
        length = 16
    else:
        address = socket.inet_pton(family, host)
        raw = struct.pack("=H", family) + struct.pack("!HI", port, 0) + address
        length = 28
    wires.names[index, : len(raw)] = np.frombuffer(raw, np.uint8)
    wires.headers[index, 1] = wires.exits[index, 1] = length


def _make_pool(scenario: Scenario) -> Pool:
    """Room for what the networks of this scenario delay, one slot when they do not."""
    delayed = [each for each in scenario.sections if each.up.delays or each.up.duplicate]
    sizes = [each.format.packet_bytes * each.format.redundancy for each in delayed]
    size = _padded(max(sizes, default=EXIT_BYTES))
    count = min(POOL_SLOTS, POOL_BYTES // size) if delayed else 1
    data = np.zeros((count, size), np.uint8)
    iovec = np.zeros((count, 2), np.uint64)
    iovec[:, 0] = _addresses(data)
    headers = np.zeros((count, 8), np.uint64)
    headers[:, 2] = _addresses(iovec)
    headers[:, 3] = 1
    return Pool(
        data=data,
        headers=headers,
        iovec=iovec,
        client=np.zeros(count, np.int64),
        packet=np.zeros(count, np.int64),
        free=np.arange(count, dtype=np.int64),
        due_ns=np.zeros(count, np.int64),
        slot=np.zeros(count, np.int64),
    )


def _padded(size: int) -> int:
    return -(-size // CACHE_LINE) * CACHE_LINE


def _addresses(array: npt.NDArray[Any]) -> Words:
    """Memory address of each row."""
    base = np.uint64(array.ctypes.data)
    return base + np.arange(array.shape[0], dtype=np.uint64) * np.uint64(array.strides[0])


def _headers(names: Bytes, iovec: Words, controls: Ints | None) -> Words:
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


def _pktinfo(address: str) -> Ints:
    """A cmsghdr with struct in_pktinfo: interface 0, source address."""
    raw = struct.pack(
        "=QiiI4sI4x", 16 + _PKTINFO_BYTES, socket.IPPROTO_IP, _IP_PKTINFO, 0,
        socket.inet_aton(address), 0,
    )  # fmt: skip
    return np.frombuffer(raw, np.int64)


assert HEADER_BYTES % 8 == 0, "samples start on a word of 8 bytes"
assert os.sysconf("SC_IOV_MAX") >= MAX_REDUNDANCY
