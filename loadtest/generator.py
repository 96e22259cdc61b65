"""The load itself: one kernel that sends every packet at its time and takes what returns.

A turn of the loop sends what is due (neighbours in the order of time by one sendmmsg),
takes all that came (recvmmsg until the sockets are empty), and sleeps until the next
packet is due, but at least ``step_ns``. The schedule is absolute: a late packet does not
delay the next. How late each one left is counted, so that a run can say that it was the
generator, and not the hub, that came too late.
"""

from __future__ import annotations

import numpy as np

from loadtest.checker import judge, tally
from loadtest.signals import fill_voice, speaks
from loadtest.state import LATENESS, STAMPS
from loadtest.wires import BATCH, BLOCK, EPOLL_FD_WORD
from shared.atomics import load_acquire
from shared.kernels import kernel
from shared.libc import (
    CLOCK_MONOTONIC,
    CLOCK_REALTIME,
    IP_PKTINFO,
    IPPROTO_IP,
    MSG_DONTWAIT,
    MSG_NOSIGNAL,
    SCM_TIMESTAMPNS,
    SECOND_NS,
    SO_RXQ_OVFL,
    SOL_SOCKET,
    clock_ns,
    epoll_wait,
    recvmmsg,
    sendmmsg,
    sleep_until,
)
from shared.protocol import EXIT_BYTES, EXIT_REPEATS, HEADER_BYTES

IDLE_NS = 1_000_000
"""Longest sleep, so that new clients and orders are seen."""
HOPELESS_NS = 100_000_000
"""Further behind than this, packets are left out instead of sent in one flood."""
_HEADER_WORDS = HEADER_BYTES // 2
_BATCH, _BLOCK, _FD_WORD = BATCH, BLOCK, EPOLL_FD_WORD


@kernel
def due_ns(run, packet, client):
    """When this client's packet is to leave."""
    return run.t0_ns + (packet * run.period_ps + client * run.phase_ps) // 1000


@kernel
def prepare(schedule, wires, state, run, client, index, now_ns):
    """Fill in the client's next packet: header, and its voice or silence."""
    wires.stamps[index, 0] = np.uint64((now_ns + run.offset_ns) // 1000)
    wires.words[index, 4] = np.int16(client.sequence)
    client.sequence = (client.sequence + 1) & 0xFFFF
    pcm = wires.words[index, _HEADER_WORDS : schedule.packet_bytes // 2]
    if speaks(schedule, run, index, run.packet):
        fill_voice(schedule.frames, schedule.channels, index, run.packet, pcm)
        client.dirty = 1
        client.spoken += 1
    elif client.dirty:
        pcm[:] = 0
        client.dirty = 0
    if run.first <= run.packet < run.last and run.first >= 0:
        client.sent += 1


@kernel
def send_due(schedule, wires, state, timespec):
    """Send one batch of what is due: neighbours of one packet number and one socket.

    Returns: 1 when more may be due at once.
    """
    run = state.run[0]
    now = clock_ns(CLOCK_MONOTONIC, timespec)
    behind = now - due_ns(run, run.packet, run.next)
    if behind < 0:
        return 0
    if behind > HOPELESS_NS:
        numbers = behind * 1000 // run.period_ps
        run.packet += numbers
        run.skipped += numbers
    while run.next < schedule.clients and state.clients[run.next].active == 0:
        run.next += 1
    start = run.next
    stop = start
    while (
        stop < schedule.clients
        and stop - start < _BATCH
        and state.clients[stop].active
        and state.clients[stop].socket == state.clients[start].socket
        and due_ns(run, run.packet, stop) <= now
    ):
        prepare(schedule, wires, state, run, state.clients[stop], stop, now)
        stop += 1
    if stop > start:
        _transmit(wires, state, run, start, stop, now, timespec)
        run.next = stop
    if run.next == schedule.clients:
        run.next = 0
        run.packet += 1
        return 1
    return stop > start


@kernel
def _transmit(wires, state, run, start, stop, now, timespec):
    """One sendmmsg of clients start..stop; note when each left and how late that was."""
    fd = wires.descriptors[state.clients[start].socket]
    done = start
    while done < stop:
        sent = sendmmsg(
            fd, wires.headers[done:].ctypes.data, stop - done, MSG_DONTWAIT | MSG_NOSIGNAL
        )
        run.sends += 1
        if sent <= 0:
            state.clients[done].send_errors += 1
            sent = 1
        done += sent
    end = clock_ns(CLOCK_MONOTONIC, timespec)
    counted = 0 <= run.first <= run.packet < run.last
    for index in range(start, stop):
        left = now + (end - now) * (index - start + 1) // (stop - start)
        state.sent_ns[index, run.packet % STAMPS] = left
        if run.phase_ps == 0 and start > 0:
            continue  # the rest of a burst leaves as fast as it can: that is its nature
        late = now - due_ns(run, run.packet, index)
        if late * 1000 > run.period_ps:
            run.stall_ns = now
            run.stalls += counted
        if counted:
            tally(state.histograms[LATENESS], late)
            run.late_max_ns = max(run.late_max_ns, late)


@kernel
def receive_all(schedule, wires, state, timespec):
    """Take everything that waits in the sockets, and judge it."""
    run = state.run[0]
    if wires.epoll < 0:
        for s in range(wires.descriptors.size):
            _drain(schedule, wires, state, run, s)
        return
    ready = epoll_wait(wires.epoll, wires.events.ctypes.data, _BATCH, 0)
    while ready > 0:
        for e in range(ready):
            _drain(schedule, wires, state, run, wires.socket_of[wires.events[e, _FD_WORD]])
        ready = epoll_wait(wires.epoll, wires.events.ctypes.data, _BATCH, 0)


@kernel
def _drain(schedule, wires, state, run, s):
    """Take all that waits in socket s; the kernel changes two lengths of each header it uses."""
    got = _BATCH
    while got == _BATCH:
        got = recvmmsg(wires.descriptors[s], wires.in_headers.ctypes.data, _BATCH, MSG_DONTWAIT, 0)
        run.receives += 1
        for m in range(got):
            take(schedule, wires, state, run, s, m)
            wires.in_headers[m, 1] = np.uint64(wires.in_names.shape[1])
            wires.in_headers[m, 5] = np.uint64(8 * wires.in_controls.shape[1])


@kernel
def take(schedule, wires, state, run, s, m):
    """Judge message m of socket s: whose it is, when it came, whether it is audio."""
    arrival_ns, index = _control(wires, state, run, s, m)
    if not 0 <= index < schedule.clients:
        run.unknown += 1
        return
    client = state.clients[index]
    data = wires.inbox[m]
    port = np.int64(wires.in_names[m, 2]) << 8 | np.int64(wires.in_names[m, 3])
    if port != client.hub_port:
        client.foreign += 1
        return
    length = np.int64(wires.in_headers[m, 7] & np.uint64(0xFFFFFFFF))
    if length == EXIT_BYTES:
        client.goodbyes += 1
        return
    words = wires.inbox_words[m]
    sends = data[15] if data[15] else data[14]
    if (
        length != schedule.packet_bytes
        or words[5] != schedule.frames
        or data[12] != schedule.rate_code
        or data[13] != 16
        or data[14] != schedule.channels
        or sends != schedule.channels
    ):
        client.malformed += 1
        return
    if client.first_ns == 0:
        client.first_ns = arrival_ns
    judge(
        schedule,
        run,
        client,
        index,
        np.int64(words[4]) & 0xFFFF,
        words[_HEADER_WORDS : schedule.packet_bytes // 2],
        arrival_ns,
        run.period_ps // 1000,
        state.sent_ns,
        state.histograms,
    )


@kernel
def _control(wires, state, run, s, m):
    """Read a message's control data.

    Returns: (arrival in CLOCK_MONOTONIC ns, index of the client or −1).
    """
    control = wires.in_controls[m]
    end = np.int64(wires.in_headers[m, 5]) // 8
    stamp = np.int64(0)
    index = np.int64(-1 if wires.by_address else s)
    at = 0
    while at + 2 < end and control[at] >= 16:
        level = control[at + 1] & 0xFFFFFFFF
        kind = control[at + 1] >> 32
        if level == SOL_SOCKET and kind == SCM_TIMESTAMPNS:
            stamp = control[at + 2] * SECOND_NS + control[at + 3]
        elif level == SOL_SOCKET and kind == SO_RXQ_OVFL:
            state.drops[s] = control[at + 2] & 0xFFFFFFFF
        elif level == IPPROTO_IP and kind == IP_PKTINFO and wires.by_address:
            address = control[at + 3] & 0xFFFFFFFF  # its bytes a.b.c.d, a lowest
            if address & 0xFFFF == 127 | 1 << 8:
                index = (address >> 16 & 0xFF) * _BLOCK + (address >> 24) - 1
        at += (control[at] + 7) // 8
    return stamp - run.offset_ns, index


@kernel
def admit(state, wires):
    """Let announced clients begin to send."""
    run = state.run[0]
    announced = load_acquire(run, "joined")
    while run.taken < announced:
        state.clients[state.order[run.taken]].active = 1
        run.taken += 1


@kernel
def say_goodbye(schedule, wires, state):
    """Send the exit packets of all clients."""
    run = state.run[0]
    for _ in range(EXIT_REPEATS):
        for index in range(schedule.clients):
            if state.clients[index].active:
                fd = wires.descriptors[state.clients[index].socket]
                sendmmsg(fd, wires.exits[index:].ctypes.data, 1, MSG_DONTWAIT | MSG_NOSIGNAL)
    run.left = 1


@kernel
def generate(schedule, wires, state):
    """Run the load until told to stop. The schedule starts at ``t0_ns``."""
    run = state.run[0]
    timespec = state.timespec
    while load_acquire(run, "stop") == 0:
        now = clock_ns(CLOCK_MONOTONIC, timespec)
        run.offset_ns = clock_ns(CLOCK_REALTIME, timespec) - now
        admit(state, wires)
        if load_acquire(run, "leave"):
            if run.left == 0:
                say_goodbye(schedule, wires, state)
            receive_all(schedule, wires, state, timespec)
            sleep_until(now + IDLE_NS, timespec)
            continue
        more = send_due(schedule, wires, state, timespec)
        receive_all(schedule, wires, state, timespec)
        if more == 0:
            due = due_ns(run, run.packet, run.next)
            sleep_until(min(max(due, now + schedule.step_ns), now + IDLE_NS), timespec)
