"""What a receiver reads datagrams into, and what the kernel tells of each: from where, and when."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shared.bundles import bundle
from shared.kernels import kernel
from shared.libc import (
    AF_INET,
    AF_INET6,
    SCM_TIMESTAMPNS,
    SECOND_NS,
    SO_RXQ_OVFL,
    SOL_SOCKET,
)
from workers import numbering, packet
from workers.mailbox import Mailbox, make_mailbox
from workers.playout import Tools, make_tools

BATCH = 16
"""Datagrams a system call."""
DATAGRAM_ROOM = 65536
CONTROL_WORDS = 16
NAME_BYTES = 32
LIFE, MAIL, FIRST = range(3)
"""Rows of ``Inbox.polls``: the life pipe, the mail socket, the first client's."""


@bundle
class Inbox(NamedTuple):
    """Buffers of ``recvmmsg`` for one batch, and what else the loop scribbles on.

    Attributes:
        data: (BATCH, DATAGRAM_ROOM) uint8; only touched pages are backed.
        names: (BATCH, NAME_BYTES) uint8, source addresses.
        control: (BATCH, CONTROL_WORDS) int64, ancillary data.
        vectors: (BATCH, 2) int64, struct iovec.
        messages: (BATCH, 8) int64, struct mmsghdr.
        polls: (FIRST + clients, 2) int32, struct pollfd: the hub's life pipe, the mail of a
            shared receiver, then sockets; −1: none.
        timespec: (2,) int64.
        fields: (packet.FIELDS,) int64.
        seen: (clients, numbering.SEEN_PACKETS) int64.
        tools: workers.playout.Tools.
        junk: (clients,) int64, datagrams in a row that were no audio.
        repairs: (1,) int64, packets that older copies may yet bring in this look.
        behind: (clients,) int64, 1: it has sent more than its format explains.
        box: Mailbox.
    """

    data: npt.NDArray[np.uint8]
    names: npt.NDArray[np.uint8]
    control: npt.NDArray[np.int64]
    vectors: npt.NDArray[np.int64]
    messages: npt.NDArray[np.int64]
    polls: npt.NDArray[np.int32]
    timespec: npt.NDArray[np.int64]
    fields: npt.NDArray[np.int64]
    seen: npt.NDArray[np.int64]
    tools: Tools
    junk: npt.NDArray[np.int64]
    repairs: npt.NDArray[np.int64]
    behind: npt.NDArray[np.int64]
    box: Mailbox


def make_inbox(clients: int, rate_hz: int) -> Inbox:
    """Buffers for so many clients of a hub of this rate; no socket is polled yet."""
    inbox = Inbox(
        data=np.zeros((BATCH, DATAGRAM_ROOM), np.uint8),
        names=np.zeros((BATCH, NAME_BYTES), np.uint8),
        control=np.zeros((BATCH, CONTROL_WORDS), np.int64),
        vectors=np.zeros((BATCH, 2), np.int64),
        messages=np.zeros((BATCH, 8), np.int64),
        polls=np.full((FIRST + clients, 2), -1, np.int32),
        timespec=np.zeros(2, np.int64),
        fields=np.zeros(packet.FIELDS, np.int64),
        seen=np.zeros((clients, numbering.SEEN_PACKETS), np.int64),
        tools=make_tools(clients, rate_hz),
        junk=np.zeros(clients, np.int64),
        repairs=np.full(1, np.iinfo(np.int64).max),
        behind=np.zeros(clients, np.int64),
        box=make_mailbox(),
    )
    for i in range(BATCH):
        inbox.vectors[i] = inbox.data[i].ctypes.data, DATAGRAM_ROOM
        inbox.messages[i, 0] = inbox.names[i].ctypes.data
        inbox.messages[i, 2] = inbox.vectors[i].ctypes.data
        inbox.messages[i, 3] = 1
        inbox.messages[i, 4] = inbox.control[i].ctypes.data
    return inbox


@kernel
def raw_word(data, offset):
    """Eight bytes as int64, in memory order."""
    word = np.int64(0)
    for i in range(8):
        word |= np.int64(data[offset + i]) << np.int64(8 * i)
    return word


@kernel
def source_of(name):
    """Source address of a datagram.

    Args:
        name: (>= 28,) uint8, sockaddr_in or sockaddr_in6.

    Returns:
        (bytes 0..7, bytes 8..15) of the address as IPv6, as raw int64, and the port;
        port −1 for another family.
    """
    family = np.int64(name[0]) | np.int64(name[1]) << 8
    port = np.int64(name[2]) << 8 | np.int64(name[3])
    if family == AF_INET:
        low = np.int64(0xFFFF0000)
        for i in range(4):
            low |= np.int64(name[4 + i]) << np.int64(32 + 8 * i)
        return np.int64(0), low, port
    if family == AF_INET6:
        return raw_word(name, 8), raw_word(name, 16), port
    return np.int64(0), np.int64(0), np.int64(-1)


@kernel
def ancillary(control, length, rx):
    """Arrival time (CLOCK_REALTIME, ns; 0 if none) from a datagram's ancillary data."""
    arrival = np.int64(0)
    at = 0
    for _ in range(4):
        if 8 * at + 16 > length or control[at] < 16:
            break
        kind = control[at + 1]
        if kind == SOL_SOCKET | SCM_TIMESTAMPNS << 32:
            arrival = control[at + 2] * SECOND_NS + control[at + 3]
        elif kind == SOL_SOCKET | SO_RXQ_OVFL << 32:
            rx.kernel_drops = control[at + 2] & 0xFFFFFFFF
        at += (control[at] + 7) // 8
    return arrival
