"""The load itself: one kernel that sends every packet at its time and takes what returns.

A turn of the loop obeys orders, begins and settles the turns of speaking, sends what is due,
takes what came (recvmmsg until the sockets are empty, but only so much: a hub that sends faster
than we judge must not keep us from sending, nor from ending), and sleeps until the next datagram
is due, but at least ``step_ns``.
"""

from __future__ import annotations

import numpy as np

from loadtest.clients.judge import drop_packet, take_packet
from loadtest.clients.network import DOWN, fate
from loadtest.clients.packets import answers, copies_in, is_blank, number_of, read_samples
from loadtest.clients.sender import measured, next_due, obey, send_due
from loadtest.clients.state import PLAY
from loadtest.clients.turns import advance
from loadtest.clients.wires import BATCH, BLOCK, EPOLL_FD_WORD
from shared.atomics import load_acquire
from shared.kernels import kernel
from shared.libc import (
    CLOCK_MONOTONIC,
    CLOCK_REALTIME,
    IP_PKTINFO,
    IPPROTO_IP,
    MSG_DONTWAIT,
    SCM_TIMESTAMPNS,
    SECOND_NS,
    SO_RXQ_OVFL,
    SOL_SOCKET,
    clock_ns,
    epoll_wait,
    recvmmsg,
    sleep_until,
)
from shared.protocol import EXIT_BYTES, HEADER_BYTES

IDLE_NS = 1_000_000
"""Longest sleep, so that orders are seen."""
BUDGET = 48
"""Messages that a turn of the loop takes, about; a tenth of a millisecond's work. What waits is
stamped already, and a socket's buffer holds a second of it: sending goes first."""
EACH = 16
"""Of many sockets each gives so many at a time, so that a flood at one does not starve others."""
CLOCKS_NS = 2000
"""Between the readings of two clocks: if it is more, we were interrupted."""
_CLOCK_TRIES = 1000
_BATCH, _BLOCK, _FD_WORD = BATCH, BLOCK, EPOLL_FD_WORD
_BUDGET, _EACH, _CLOCKS_NS = BUDGET, EACH, CLOCKS_NS
_HEADER_BYTES, _EXIT_BYTES = HEADER_BYTES, EXIT_BYTES


@kernel
def receive_all(expectation, state, inbox, networks):
    """Take what waits in the sockets, up to a budget, and judge it.

    The kernel changes two lengths of each message header that it uses.

    Returns: 1: the budget was used up, and there may be more.
    """
    # One loop for one socket and for many: what is called twice is compiled twice.
    several = inbox.epoll >= 0
    most = _EACH if several else _BUDGET
    events = inbox.events.ctypes.data
    left = _BUDGET
    ready = epoll_wait(inbox.epoll, events, _BATCH, 0) if several else inbox.descriptors.size
    while ready > 0 and left > 0:
        full = 0
        for e in range(ready):
            s = inbox.socket_of[inbox.events[e, _FD_WORD]] if several else e
            fd = inbox.descriptors[s]
            got = recvmmsg(fd, inbox.headers.ctypes.data, most, MSG_DONTWAIT, 0)
            state.run[0].receives += 1
            for m in range(got):
                take(expectation, state, inbox, networks, s, m)
                inbox.headers[m, 1] = np.uint64(inbox.names.shape[1])
                inbox.headers[m, 5] = np.uint64(8 * inbox.controls.shape[1])
            left -= max(got, 1)
            full += got == most
        # epoll names the longest unserved first, and those again that are not yet empty
        if several:
            ready = epoll_wait(inbox.epoll, events, _BATCH, 0)
        elif full == 0:
            ready = 0
    return 1 if ready > 0 else 0


@kernel
def take(expectation, state, inbox, networks, s, m):
    """Sort message m of socket s: whose it is, when it came, whether it is audio."""
    run = state.run[0]
    arrival_ns, index = _control(state.drops, inbox, run, s, m)
    if not 0 <= index < expectation.clients:
        run.unknown += 1
        return
    client = state.clients[index]
    port = np.int64(inbox.names[m, 2]) << 8 | np.int64(inbox.names[m, 3])
    length = np.int64(inbox.headers[m, 7] & np.uint64(0xFFFFFFFF))
    if port != client.hub_port:
        client.foreign += port != inbox.links[index].left_port
        return
    if length == _EXIT_BYTES:
        client.goodbyes += 1
        return
    if client.stage != PLAY:  # the hub has not yet seen that it left
        return
    copies = copies_in(inbox.data[m], length, client)
    if copies == 0:
        client.malformed += 1
        return
    link = inbox.links[index]
    serial = link.serial_down
    link.serial_down += 1
    fates, _, _ = fate(networks, DOWN, index, serial, arrival_ns, run.opened_ns)
    if fates == 0:
        client.dropped_down += measured(run, arrival_ns)
        drop_packet(expectation, state, index, number_of(inbox.data[m], 0))
        return
    unpack(expectation, state, inbox, index, m, copies, arrival_ns)
    if client.first_ns == 0:
        client.first_ns = arrival_ns


@kernel
def unpack(expectation, state, inbox, index, m, copies, arrival_ns):
    """Have the packets of a datagram judged, the oldest copy first."""
    client, data = state.clients[index], inbox.data[m]
    samples = client.frames * client.wants
    size = _HEADER_BYTES + samples * client.bits // 8
    newest = number_of(data, 0)
    for back in range(copies - 1, -1, -1):
        at = back * size
        if back:
            if is_blank(data, at):
                continue
            if not answers(data, at, client) or number_of(data, at) != (newest - back) & 0xFFFF:
                client.malformed += 1
                continue
        number = (newest - back) & 0xFFFF
        start = (at + _HEADER_BYTES) // 2
        pcm = inbox.words[m, start : start + samples]
        if client.bits != 16:
            read_samples(data, at + _HEADER_BYTES, client.bits, samples, inbox.pcm)
            pcm = inbox.pcm[:samples]
        take_packet(expectation, state, index, number, pcm, arrival_ns, np.int64(back > 0))


@kernel
def _control(drops, inbox, run, s, m):
    """Read a message's control data.

    Returns: (arrival in CLOCK_MONOTONIC ns, index of the client or −1).
    """
    control = inbox.controls[m]
    end = np.int64(inbox.headers[m, 5]) // 8
    stamp = np.int64(0)
    index = np.int64(-1 if inbox.by_address >= 0 else s)
    at = 0
    while at + 2 < end and control[at] >= 16:
        level = control[at + 1] & 0xFFFFFFFF
        kind = control[at + 1] >> 32
        if level == SOL_SOCKET and kind == SCM_TIMESTAMPNS:
            stamp = control[at + 2] * SECOND_NS + control[at + 3]
        elif level == SOL_SOCKET and kind == SO_RXQ_OVFL:
            drops[s] = control[at + 2] & 0xFFFFFFFF
        elif level == IPPROTO_IP and kind == IP_PKTINFO and inbox.by_address >= 0:
            address = control[at + 3] & 0xFFFFFFFF  # its bytes a.b.c.d, a lowest
            if address & 0xFFFF == inbox.by_address:
                index = (address >> 16 & 0xFF) * _BLOCK + (address >> 24) - 1
        at += (control[at] + 7) // 8
    return stamp - run.offset_ns, index


@kernel
def offset_of(known_ns, before_ns, real_ns, after_ns):
    """CLOCK_REALTIME − CLOCK_MONOTONIC from a reading of the first between two of the second.

    What was known stays unless the reading contradicts it: however long we were interrupted
    in between, arrivals are not moved by it, but the clock's own corrections are followed.
    """
    return min(max(known_ns, real_ns - after_ns), real_ns - before_ns)


@kernel
def read_clocks(run, timespec):
    """Keep the offset of the clocks right. Returns: CLOCK_MONOTONIC now, ns."""
    before_ns = clock_ns(CLOCK_MONOTONIC, timespec)
    real_ns = clock_ns(CLOCK_REALTIME, timespec)
    after_ns = clock_ns(CLOCK_MONOTONIC, timespec)
    tries = 0
    while run.offset_ns == 0 and after_ns - before_ns > _CLOCKS_NS and tries < _CLOCK_TRIES:
        before_ns = after_ns
        real_ns = clock_ns(CLOCK_REALTIME, timespec)
        after_ns = clock_ns(CLOCK_MONOTONIC, timespec)
        tries += 1
    run.offset_ns = offset_of(run.offset_ns, before_ns, real_ns, after_ns)
    return after_ns


@kernel
def generate(expectation, state, post, inbox, networks):
    """Run the load until told to stop."""
    run = state.run[0]
    timespec = state.timespec
    while load_acquire(run, "stop") == 0:
        now_ns = read_clocks(run, timespec)
        obey(state, post, now_ns)
        advance(expectation, state, now_ns)
        more = send_due(expectation, state, post, networks, now_ns)
        more += receive_all(expectation, state, inbox, networks)
        if more == 0:
            due_ns = max(next_due(post), now_ns + expectation.step_ns)
            sleep_until(min(due_ns, now_ns + IDLE_NS), timespec)
