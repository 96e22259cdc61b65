"""Sockets of the virtual clients, and the message vectors that kernels send and receive with.

With ``Sources.ADDRESSES`` one socket on 0.0.0.0 carries all clients: client i is
127.1.(i // 250).(1 + i % 250), chosen for each message by an IP_PKTINFO control message
and recognised by the same. With ``Sources.PORTS`` each client has a socket.

Each client has a ``mmsghdr`` that always points to its own packets, and what leaves is a
batch of copies of such headers. A client of redundancy r keeps its last r packets in a
ring; its iovecs name them newest first::

    post.headers[i] -> iovec[i, 0..r−1]  -> packets[link.packet_at + slot × link.packet_step]
                    -> names[i]             the hub's address and the port it answered
                    -> controls[i]          IP_PKTINFO: this client's address
    post.batch      =  copies of headers[..], and of pool_headers[..]

A datagram that the emulated network delays is copied into the pool, and waits there::

    post.pool_headers[s] -> pool_iovec[s] -> pool_data[s]
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
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from loadtest.scenario.model import Format, Scenario, Sources
from shared.layout import CACHE_LINE
from shared.protocol import EXIT_PACKET, HEADER_BYTES, MAX_REDUNDANCY

BATCH = 128
"""Messages a system call takes or brings at most."""
ORDERS = 16_384
"""Orders to the generator that may wait; a power of two, more than there are clients."""
BLOCK = 250
"""Clients with the same third byte of their address."""
BASE = (127, 1)
"""First two bytes of the clients' addresses."""
POOL_BYTES, POOL_SLOTS = 256 << 20, 262_144
"""Most that delayed datagrams may take."""
POOL_LEAST = 4096
LONG_JITTER = 10.0
"""Times its scale: a jitter that few packets in a thousand exceed."""
EPOLL_WORDS, EPOLL_FD_WORD = (3, 1) if os.uname().machine == "x86_64" else (4, 2)
"""struct epoll_event in int32: packed on x86-64 only; Python puts the descriptor into its data."""
AUDIO = -1
"""Slot of a datagram in the batch that is a client's own, and not one of the pool."""
_NAME_BYTES = 32
_CONTROL_WORDS = 16
_PKTINFO_BYTES = 12
_SO_RXQ_OVFL, _SO_TIMESTAMPNS, _SO_RCVBUFFORCE, _SO_SNDBUFFORCE = 40, 35, 33, 32
_IP_PKTINFO = 8
_IP_MTU_DISCOVER, _IP_PMTUDISC_DO = 10, 2
_RECEIVE_BUFFER = 64 << 20
"""A second of 200 clients; asked for, and got by root only."""

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]


LINK = np.dtype(
    [
        ("packet_at", np.int64),  # where the client's ring of packets begins
        ("packet_step", np.int64),  # from packet to packet in it
        ("dirty", np.int64),  # bit s: packet s of the ring is not silent
        ("queued", np.int64),  # 1: a packet of it is in the batch
        ("waits", np.int64),  # 1: it is in the heap
        ("delayed", np.int64),  # datagrams of it in the pool
        ("release_ns", np.int64),  # when the last of them leaves
        ("left_port", np.int64),  # the hub's port before it joined anew; 0: none
        ("serial_up", np.int64),  # datagrams that its paths have been asked to carry
        ("serial_down", np.int64),
    ]
)
"""What sending and receiving know of a client, and judging need not."""

DESK = np.dtype(
    [
        ("count", np.int64),  # datagrams in the batch
        ("socket", np.int64),  # that it leaves by
        ("heap", np.int64),  # entries of the heap
        ("waiting", np.int64),  # entries of the pool's heap
        ("free", np.int64),  # slots of the pool that are free
        ("last_due_ns", np.int64),  # of the datagram that left last
    ]
)

OUT = np.dtype(
    [
        ("client", np.int64),
        ("packet", np.int64),  # its number; −1: no send time is to be remembered
        ("slot", np.int64),  # of the pool, or AUDIO
        ("due_ns", np.int64),
    ]
)
"""A datagram in the batch."""

HELD = np.dtype([("client", np.int64), ("packet", np.int64), ("free", np.int64)])
"""A slot of the pool: what it holds; and the stack of free slots."""

ENTRY = np.dtype([("due_ns", np.int64), ("what", np.int64)])
"""Of a heap: a client; in the pool's: a slot, or −1 − client for an exit packet."""


class Post(NamedTuple):
    """What sending needs; N clients, S sockets, B = BATCH, P slots of the pool.

    Attributes:
        desk: (1,) DESK.
        links: (N,) LINK.
        descriptors: (S,) int64.
        packets: (bytes,) uint8, see above.
        headers, exits: (N, 8) uint64: mmsghdr of a client's packets, and of its exit packet.
        iovec: (N, MAX_REDUNDANCY, 2) uint64.
        batch: (B, 8) uint64, headers that leave together; out: (B,) OUT, what they are.
        heap: (N,) ENTRY, whose next packet is due when.
        pool: (P,) HELD; pool_heap: (P + 2 N,) ENTRY, what leaves when.
        pool_data: (P, bytes) uint8; pool_headers, pool_iovec: (P, 8) and (P, 2) uint64.
        orders: (ORDERS,) int64, clients whose ``wish`` has changed.
    """

    desk: npt.NDArray[Any]
    links: npt.NDArray[Any]
    descriptors: Ints
    packets: Bytes
    headers: Words
    exits: Words
    iovec: Words
    batch: Words
    out: npt.NDArray[Any]
    heap: npt.NDArray[Any]
    pool: npt.NDArray[Any]
    pool_heap: npt.NDArray[Any]
    pool_data: Bytes
    pool_headers: Words
    pool_iovec: Words
    orders: Ints


class Inbox(NamedTuple):
    """What receiving needs.

    Attributes:
        links: (N,) LINK, the same as the post's.
        descriptors: (S,) int64.
        epoll: descriptor that tells which of many sockets hold something; −1 with one socket.
        events: (B, EPOLL_WORDS) int32, what it tells.
        socket_of: (highest descriptor + 1,) int64, index of the socket.
        by_address: first two bytes of the clients' addresses when those tell them apart,
            lowest first; −1: sockets do.
        data: (B, bytes) uint8, and words: the same as int16.
        headers, names, controls: (B, …), of the messages.
        pcm: (samples,) int16, a packet's decoded samples.
    """

    links: npt.NDArray[Any]
    descriptors: Ints
    epoll: int
    events: npt.NDArray[np.int32]
    socket_of: Ints
    by_address: int
    data: Bytes
    words: npt.NDArray[np.int16]
    headers: Words
    names: Bytes
    controls: Ints
    pcm: npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Wires:
    """Both, and what their vectors point to.

    Attributes:
        names: (N, 32) uint8, the hub's address as each client sends to it.
        kept: arrays that only messages point to.
    """

    post: Post
    inbox: Inbox
    names: Bytes
    kept: tuple[npt.NDArray[Any], ...]


def client_address(index: int, base: tuple[int, int] = BASE) -> str:
    """The address of a client (``Sources.ADDRESSES``)."""
    return f"{base[0]}.{base[1]}.{index // BLOCK}.{1 + index % BLOCK}"


def open_sockets(
    sources: Sources, clients: int, family: int, *, loopback: bool = False
) -> list[socket.socket]:
    """One socket for all clients, or one each; with time stamps, drop counts and room.

    loopback: nothing leaves this machine, where no datagram is too long for a frame. Then none need
        be given an identity in case it is cut, which is 4 % of what sending costs.

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
            if loopback and family == socket.AF_INET:
                udp.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_DO)
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
    formats = [section.format for section in scenario.sections for _ in range(section.clients)]
    names = np.zeros((len(formats), _NAME_BYTES), np.uint8)
    controls: Ints | None = None
    if scenario.sources == Sources.ADDRESSES:
        controls = np.stack([_pktinfo(client_address(i, base)) for i in range(len(formats))])
    descriptors = np.array([udp.fileno() for udp in sockets], np.int64)
    post, kept = _make_post(scenario, formats, names, controls, descriptors)
    returned = max(each.return_bytes * each.redundancy for each in formats)
    data = np.zeros((BATCH, _padded(returned) + CACHE_LINE), np.uint8)
    in_iovec = np.zeros((BATCH, 2), np.uint64)
    in_iovec[:, 0] = _addresses(data)
    in_iovec[:, 1] = data.shape[1]
    in_names = np.zeros((BATCH, _NAME_BYTES), np.uint8)
    in_controls = np.zeros((BATCH, _CONTROL_WORDS), np.int64)
    inbox = Inbox(
        links=post.links,
        descriptors=descriptors,
        epoll=epoll,
        events=np.zeros((BATCH, EPOLL_WORDS), np.int32),
        socket_of=index_by_descriptor(sockets),
        by_address=-1 if controls is None else base[0] | base[1] << 8,
        data=data,
        words=data.view(np.int16),
        headers=_headers(in_names, in_iovec, in_controls),
        names=in_names,
        controls=in_controls,
        pcm=np.zeros(max(each.frames * each.wants for each in formats), np.int16),
    )
    own = () if controls is None else (controls,)
    return Wires(post, inbox, names, (in_iovec, *own, *kept))


def _make_post(
    scenario: Scenario,
    formats: list[Format],
    names: Bytes,
    controls: Ints | None,
    descriptors: Ints,
) -> tuple[Post, tuple[npt.NDArray[Any], ...]]:
    """The outgoing side, and what only its messages point to."""
    n = len(formats)
    links = np.zeros(n, LINK)
    links["packet_step"] = [_padded(each.packet_bytes) for each in formats]
    rings = np.array([each.redundancy for each in formats], np.int64)
    ends = np.cumsum(links["packet_step"] * rings)
    links["packet_at"][1:] = ends[:-1]
    packets = np.zeros(int(ends[-1]), np.uint8)
    iovec = np.zeros((n, MAX_REDUNDANCY, 2), np.uint64)
    for i, each in enumerate(formats):
        first, step = packets.ctypes.data + int(links["packet_at"][i]), links["packet_step"][i]
        for slot in range(each.redundancy):
            iovec[i, slot] = first + slot * int(step), each.packet_bytes
    headers = _headers(names, iovec, controls)
    headers[:, 3] = rings
    exit_packet = np.frombuffer(EXIT_PACKET, np.uint8).copy()
    exit_iovec = np.zeros((n, 2), np.uint64)
    exit_iovec[:] = exit_packet.ctypes.data, exit_packet.size
    # Without anything that delays, the pool has no slots, and nobody asks for one.
    delayed = [each for each in scenario.sections if each.up.delays or each.up.duplicate]
    size = _padded(
        max((each.format.packet_bytes * each.format.redundancy for each in delayed), default=1)
    )
    slots = min(pool_slots(scenario), POOL_BYTES // size)
    pool_data = np.zeros((slots, size), np.uint8)
    pool_iovec = np.zeros((slots, 2), np.uint64)
    pool_iovec[:, 0] = _addresses(pool_data)
    pool_headers = np.zeros((slots, 8), np.uint64)
    pool_headers[:, 2] = _addresses(pool_iovec)
    pool_headers[:, 3] = 1
    pool = np.zeros(slots, HELD)
    pool["free"] = range(slots)
    desk = np.zeros(1, DESK)
    desk["free"] = slots
    post = Post(
        desk=desk,
        links=links,
        descriptors=descriptors,
        packets=packets,
        headers=headers,
        exits=_headers(names, exit_iovec, controls),
        iovec=iovec,
        batch=np.zeros((BATCH, 8), np.uint64),
        out=np.zeros(BATCH, OUT),
        heap=np.zeros(n, ENTRY),
        pool=pool,
        pool_heap=np.zeros(slots + 2 * n, ENTRY),
        pool_data=pool_data,
        pool_headers=pool_headers,
        pool_iovec=pool_iovec,
        orders=np.zeros(ORDERS, np.int64),
    )
    return post, (exit_iovec, exit_packet)


def pool_slots(scenario: Scenario) -> int:
    """Datagrams that may be under way to the hub at a time, twice over for those that are doubled
    or in bursts; 0: none waits."""
    waiting, any_waits = 0.0, False
    for section in scenario.sections:
        network = section.up
        if not (network.delays or network.duplicate):
            continue
        any_waits = True
        longest_ms = (
            network.delay_ms + network.step_ms + network.reorder_ms * (network.reorder > 0)
            + network.stall_ms * (network.stall_every_s > 0) + LONG_JITTER * network.jitter_ms
        )  # fmt: skip
        waiting += section.clients * longest_ms * 1e6 / section.format.period_ns
    return min(POOL_SLOTS, max(POOL_LEAST, int(2 * waiting))) if any_waits else 0


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
    wires.post.headers[index, 1] = wires.post.exits[index, 1] = length


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
