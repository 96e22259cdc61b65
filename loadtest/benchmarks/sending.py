"""Ways to send, side by side: a datagram to each of many clients, and what one costs.

Each way has its turn in every round, so that what else the machine does concerns all of them, and
their ratios are worth more than their figures. After each turn every client's socket is read: what
is not there, byte for byte and once, is an error, and no bargain. Time is the clock's, most turns
being too short to be interrupted: of a thread interrupted in ``io_uring_enter`` the kernel's
account of CPU may lack most of the turn, which samples find in that very thread. The sending thread
itself carries a datagram on loopback as far as the other end's socket.
"""

from __future__ import annotations

import contextlib
import ctypes
import select
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import numpy.typing as npt

from loadtest.benchmarks.ring import Ring, RingRefused, send_entries, sendmsg_entries
from loadtest.clients.wires import client_address, raise_descriptor_limit
from shared.kernels import kernel
from shared.libc import MSG_DONTWAIT, MSG_NOSIGNAL, recvfrom, sendmmsg, sendto

BYTES = 16 + 128 * 2 * 2
"""Of a packet of 128 frames, stereo, 16 bit."""
ROUNDS = 400
ARRIVAL_S = 1.0
"""What is sent may take so long at most; nobody is timed meanwhile."""
SEGMENTS = 8
IP_MTU_DISCOVER, IP_PMTUDISC_DO = 10, 2
_SOL_UDP, _UDP_SEGMENT = 17, 103
_FLAGS = MSG_DONTWAIT | MSG_NOSIGNAL
_MSG_TRUNC = 0x20
Sockets = list[socket.socket]
Bytes = npt.NDArray[np.uint8]
Descriptors = npt.NDArray[np.int64]


class NotArrived(Exception):
    """A way to send that did not bring every client its datagrams."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a way costs.

    Attributes:
        us: µs a datagram in each round.
        refused: why it could not be tried, or nothing.
    """

    name: str
    us: Sequence[float] = ()
    refused: str = ""

    @property
    def least_us(self) -> float:
        return min(self.us)

    @property
    def median_us(self) -> float:
        return median(self.us)


@kernel
def _collect(fds, arrived, lengths):
    """Read each socket until it is empty.

    fds: (C,) int64; arrived: (C, D, BYTES) uint8; lengths: (C, D) int64, −1 where nothing was.

    Returns: datagrams beyond D that a socket had.
    """
    more = 0
    for k in range(fds.shape[0]):
        for n in range(arrived.shape[1]):
            room = arrived[k, n].ctypes.data
            flags = MSG_DONTWAIT | _MSG_TRUNC
            lengths[k, n] = recvfrom(fds[k], room, arrived.shape[2], flags, 0, 0)
        while recvfrom(fds[k], 0, 0, MSG_DONTWAIT | _MSG_TRUNC, 0, 0) >= 0:
            more += 1
    return more


@kernel
def _send_each(fds, names, packets):
    """A call a datagram: from each socket of its own, or from one.

    fds: (C,) or (1,) int64; names: (C, 16) uint8, where to, or (0, 16) for connected sockets;
    packets: (C, BYTES) uint8.

    Returns: how many were sent whole.
    """
    right = 0
    last = fds.shape[0] - 1
    for k in range(packets.shape[0]):
        told = names.shape[0] > 0
        to, length = (names[k].ctypes.data, names.shape[1]) if told else (0, 0)
        packet = packets[k]
        sent = sendto(fds[min(k, last)], packet.ctypes.data, packet.size, _FLAGS, to, length)
        right += sent == packet.size
    return right


@kernel
def _send_many(fd, messages):
    """A call for all. messages: (C, 8) uint64, struct mmsghdr."""
    return sendmmsg(fd, messages.ctypes.data, messages.shape[0], _FLAGS)


class Sinks:
    """Clients at addresses of their own, and what each is to be sent in a turn.

    Attributes:
        packets: (clients, datagrams, BYTES) uint8, no two alike.
        names: (clients, 16) uint8, their struct sockaddr_in.
        messages: (clients, 8) uint64, struct mmsghdr of each one's first datagram.
    """

    def __init__(self, stack: contextlib.ExitStack, clients: int, datagrams: int = 1) -> None:
        sockets = udp_sockets(stack, [client_address(k) for k in range(clients)])
        self.addresses = [each.getsockname() for each in sockets]
        self.names = np.array([list(_name(*each)) for each in self.addresses], np.uint8)
        self.packets = np.random.default_rng(clients).integers(
            0, 256, (clients, datagrams, BYTES), np.uint8
        )
        self.messages, self._vectors = self._made_messages()
        self._fds = descriptors(sockets)
        self._arrived = np.zeros_like(self.packets)
        self._lengths = np.zeros((clients, datagrams), np.int64)
        self._ready = select.poll()
        for each in sockets:
            self._ready.register(each, select.POLLIN)

    def _made_messages(self) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
        """And the vectors that they name, which must live as long."""
        places = np.arange(len(self.names), dtype=np.uint64)
        vectors = np.zeros((len(places), 2), np.uint64)
        vectors[:, 0] = self.packets.ctypes.data + self.packets.strides[0] * places
        vectors[:, 1] = BYTES
        messages = np.zeros((len(places), 8), np.uint64)
        messages[:, 0] = self.names.ctypes.data + self.names.strides[0] * places
        messages[:, 1] = self.names.shape[1]
        messages[:, 2] = vectors.ctypes.data + vectors.strides[0] * places
        messages[:, 3] = 1
        return messages, vectors

    def check(self) -> None:
        """Take what has arrived.

        Raises:
            NotArrived: it is not what was to be sent.
        """
        self._arrived[:] = 0
        until_s = time.monotonic() + ARRIVAL_S  # on a busy machine the kernel delivers them later
        while len(self._ready.poll(0)) < len(self._fds) and time.monotonic() < until_s:
            time.sleep(0.001)
        more = _collect(self._fds, self._arrived, self._lengths)
        if more:
            raise NotArrived(f"{more} datagrams too many")
        for client, number in np.argwhere(self._lengths != BYTES):
            length = self._lengths[client, number]
            what = f"{length} bytes of" if length >= 0 else "nothing instead of"
            raise NotArrived(f"client {client} had {what} datagram {number}, {BYTES} bytes")
        for client, number in np.argwhere((self._arrived != self.packets).any(axis=2)):
            raise NotArrived(f"client {client}: datagram {number} is not what was to be sent")


@dataclass(frozen=True, slots=True)
class Way:
    """A way to send.

    Attributes:
        send: one turn; says how many datagrams it sent.
        sinks: who is to have them.
    """

    name: str
    send: Callable[[], int]
    sinks: Sinks


def _name(address: str, port: int) -> bytes:
    return (
        socket.AF_INET.to_bytes(2, "little") + port.to_bytes(2, "big")
        + socket.inet_aton(address) + bytes(8)
    )  # fmt: skip


def descriptors(sockets: Sockets) -> Descriptors:
    return np.array([each.fileno() for each in sockets], np.int64)


def udp_sockets(stack: contextlib.ExitStack, addresses: Sequence[str]) -> Sockets:
    """A socket that does not wait at each address, on a port that is free."""
    raise_descriptor_limit(16 * len(addresses) + 256)
    sockets = []
    for address in addresses:
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.setblocking(False)
        udp.bind((address, 0))
        sockets.append(udp)
    return sockets


def own_sockets(
    stack: contextlib.ExitStack, sinks: Sinks, *, connected: bool = False, whole: bool = False
) -> Sockets:
    """A socket for each client, as a hub has.

    Args:
        connected: to its client.
        whole: Linux cuts none of its datagrams up, even where it knows the way to be too narrow.
    """
    sockets = udp_sockets(stack, ["0.0.0.0"] * len(sinks.addresses))
    for udp, address in zip(sockets, sinks.addresses):
        if connected:
            udp.connect(address)
        if whole:
            udp.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
    return sockets


def _by_calls(stack: contextlib.ExitStack, sinks: Sinks) -> list[Way]:
    """From sockets of their own, with and without what may be said once instead of every time."""
    ways = []
    for name, connected, whole in (
        ("each from a socket of its own, told where to (`sendto`)", False, False),
        ("each from a socket of its own, never cut up (`IP_PMTUDISC_DO`)", False, True),
        ("each from a connected socket (`sendto`)", True, False),
        ("each from a connected socket, never cut up (`IP_PMTUDISC_DO`)", True, True),
    ):
        fds = descriptors(own_sockets(stack, sinks, connected=connected, whole=whole))
        names = sinks.names[: 0 if connected else None]
        ways.append(Way(name, _each(fds, names, sinks), sinks))
    return ways


def _each(fds: Descriptors, names: Bytes, sinks: Sinks) -> Callable[[], int]:
    packets = sinks.packets[:, 0]
    return lambda: int(_send_each(fds, names, packets))


def _by_one_socket(stack: contextlib.ExitStack, sinks: Sinks) -> list[Way]:
    one = udp_sockets(stack, ["0.0.0.0"])
    fd = one[0].fileno()

    def many() -> int:
        return int(_send_many(fd, sinks.messages))

    return [
        Way("all from one socket (`sendto`)", _each(descriptors(one), sinks.names, sinks), sinks),
        Way("all from one socket, in one call (`sendmmsg`)", many, sinks),
    ]


_RINGS = (
    "`io_uring`, `SENDMSG`",
    "`io_uring`, `SENDMSG`, registered sockets",
    "`io_uring`, `SEND` with address, registered sockets",
)


def _by_ring(stack: contextlib.ExitStack, sinks: Sinks) -> list[Way]:
    """
    Raises:
        RingRefused: this kernel lets us have none.
    """
    fds = descriptors(own_sockets(stack, sinks))
    ring = stack.enter_context(Ring(len(fds)))
    ring.register(fds)
    packets = sinks.packets[:, 0]
    all_wanted = (
        sendmsg_entries(fds, sinks.messages, fixed=False),
        sendmsg_entries(fds, sinks.messages, fixed=True),
        send_entries(fds, packets, sinks.names, fixed=True),
    )

    def way(name: str, wanted: npt.NDArray[np.void]) -> Way:
        return Way(name, lambda: ring.send(wanted, BYTES), sinks)

    return [way(name, wanted) for name, wanted in zip(_RINGS, all_wanted)]


def _by_segments(stack: contextlib.ExitStack) -> list[Way]:
    """Several datagrams to one address: as many calls, or one that Linux divides."""
    sinks = Sinks(stack, 1, SEGMENTS)
    (one,) = udp_sockets(stack, ["0.0.0.0"])
    address = sinks.addresses[0]
    singles = [each.tobytes() for each in sinks.packets[0]]
    together = b"".join(singles)
    segment = [(_SOL_UDP, _UDP_SEGMENT, ctypes.c_uint16(BYTES))]

    def calls() -> int:
        return sum(one.sendmsg([each], [], 0, address) for each in singles) // BYTES

    def whole() -> int:
        return one.sendmsg([together], segment, 0, address) // BYTES

    return [
        Way(f"{SEGMENTS} to one address, a call each (from Python)", calls, sinks),
        Way(f"{SEGMENTS} to one address, `UDP_SEGMENT` (from Python)", whole, sinks),
    ]


def compare(ways: Sequence[Way], rounds: int) -> list[Cost]:
    """Each way's turn in every round, each time another first.

    Raises:
        NotArrived: a way did not send what it was to.
    """
    us: list[list[float]] = [[] for _ in ways]
    for round_ in range(-1, rounds):  # one more, in which they are compiled and warm up
        for place in range(len(ways)):
            place = (place + round_) % len(ways)
            way = ways[place]
            began = time.monotonic_ns()
            sent = way.send()
            used = time.monotonic_ns() - began
            try:
                if sent != (due := way.sinks.packets[..., 0].size):
                    raise NotArrived(f"{sent} of {due} datagrams were sent")
                way.sinks.check()
            except NotArrived as error:
                raise NotArrived(f"{way.name}: {error}") from error
            if round_ >= 0:
                us[place].append(used / 1000 / sent)
    return [Cost(way.name, each) for way, each in zip(ways, us)]


def sending(clients: int, rounds: int = ROUNDS) -> list[Cost]:
    """What each way to send costs; those to many clients are side by side in each round.

    Raises:
        NotArrived: a way did not send what it was to.
    """
    refused = []
    with contextlib.ExitStack() as stack:
        sinks = Sinks(stack, clients)
        ways = _by_calls(stack, sinks) + _by_one_socket(stack, sinks)
        try:
            ways += _by_ring(stack, sinks)
        except RingRefused as error:
            refused = [Cost(name, refused=str(error.strerror)) for name in _RINGS]
        costs = compare(ways, rounds)
    with contextlib.ExitStack() as stack:
        return [*costs, *refused, *compare(_by_segments(stack), rounds)]
