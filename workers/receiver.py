"""The receiver: one process a client, from its UDP socket to its input ring.

``run_receiver`` is the whole life of it after the fork, without a line of Python: it
serves a list of clients (of one, as long as each has a process of its own). A client's
way through ``RX.state``::

    WAITING --first valid datagram of the right address--> KNOCKING
    KNOCKING --SLOT.admit == session, and its rate is known--> ACTIVE, with the next packet
    any --exit packet, silence, order, end of the hub--> ENDED

Everything a datagram can do is counted; nothing it can do takes long.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shared.atomics import load_acquire, store_release
from shared.kernels import kernel
from shared.layout import HISTOGRAM_EDGES_NS, EndReason, RxState, StopOrder
from shared.libc import (
    AF_INET,
    AF_INET6,
    CLOCK_MONOTONIC,
    CLOCK_REALTIME,
    MSG_DONTWAIT,
    MSG_NOSIGNAL,
    POLLIN,
    SCM_TIMESTAMPNS,
    SECOND_NS,
    SO_RXQ_OVFL,
    SOL_SOCKET,
    clock_ns,
    getpid,
    ppoll,
    recvmmsg,
    sendto,
    sleep_until,
)
from shared.messages import WorkerExit
from shared.protocol import (
    EXIT_BYTES,
    EXIT_PACKET,
    EXIT_REPEATS,
    HEADER_BYTES,
    MAX_DATAGRAM_BYTES,
    MAX_REDUNDANCY,
    SILENCE_TIMEOUT_S,
)
from workers import guard, moves, numbering, packet, rates, timeline
from workers.hubtime import bucket, frames_to_ns, tick_after, tick_time
from workers.playout import Tools, make_tools

BATCH = 16
"""Datagrams a system call."""
MAX_BATCHES = 4
"""Batches a client gets at one wake-up, so that a flood cannot keep the others waiting."""
DATAGRAM_ROOM = 65536
CONTROL_WORDS = 16
NAME_BYTES = 32
MAX_WAIT_NS = 100_000_000
COPIES_RUN = 16
"""Datagrams in a row with another number of copies change what the client is answered with."""
LOOKED_AT = 32
"""Slots whose state a receiver reads, at most, to learn how many share its core's time."""
FLOOD_RUN = 64
FLOOD_PAUSE_NS = 200_000
"""Rest after FLOOD_RUN datagrams in a row that were no audio: then many are read at once."""
SILENCE_NS = int(SILENCE_TIMEOUT_S * SECOND_NS)

_EXIT = np.frombuffer(EXIT_PACKET, np.uint8)
_IDLE, _WAITING, _KNOCKING = int(RxState.IDLE), int(RxState.WAITING), int(RxState.KNOCKING)
_ACTIVE, _ENDED = int(RxState.ACTIVE), int(RxState.ENDED)
_CLIENT_EXIT = int(EndReason.CLIENT_EXIT)
_SILENCE, _NO_UDP, _KICKED = int(EndReason.SILENCE), int(EndReason.NO_UDP), int(EndReason.KICKED)
_HUB_STOP, _REPLACED = int(EndReason.HUB_STOP), int(EndReason.REPLACED)
_WRONG_RATE, _TOO_LARGE = int(EndReason.WRONG_RATE), int(EndReason.TOO_LARGE)
_KICK, _SILENT = int(StopOrder.KICK), int(StopOrder.SILENT)
_DONE, _HUB_GONE = int(WorkerExit.DONE), int(WorkerExit.HUB_GONE)


class Inbox(NamedTuple):
    """Buffers of ``recvmmsg`` for one batch, and what else the loop scribbles on.

    Attributes:
        data: (BATCH, DATAGRAM_ROOM) uint8; only touched pages are backed.
        names: (BATCH, NAME_BYTES) uint8, source addresses.
        control: (BATCH, CONTROL_WORDS) int64, ancillary data.
        vectors: (BATCH, 2) int64, struct iovec.
        messages: (BATCH, 8) int64, struct mmsghdr.
        polls: (clients + 1, 2) int32, struct pollfd; the last is the hub's life pipe.
        timespec: (2,) int64.
        fields: (packet.FIELDS,) int64.
        seen: (clients, numbering.SEEN_PACKETS) int64.
        tools: workers.playout.Tools.
        junk: (clients,) int64, datagrams in a row that were no audio.
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


def make_inbox(sockets: list[int], life: int, rate_hz: int) -> Inbox:
    """Buffers for these sockets.

    Args:
        life: read end of the hub's life pipe.
        rate_hz: of the hub.
    """
    inbox = Inbox(
        data=np.zeros((BATCH, DATAGRAM_ROOM), np.uint8),
        names=np.zeros((BATCH, NAME_BYTES), np.uint8),
        control=np.zeros((BATCH, CONTROL_WORDS), np.int64),
        vectors=np.zeros((BATCH, 2), np.int64),
        messages=np.zeros((BATCH, 8), np.int64),
        polls=np.zeros((len(sockets) + 1, 2), np.int32),
        timespec=np.zeros(2, np.int64),
        fields=np.zeros(packet.FIELDS, np.int64),
        seen=np.full((len(sockets), numbering.SEEN_PACKETS), numbering.NEVER, np.int64),
        tools=make_tools(len(sockets), rate_hz),
        junk=np.zeros(len(sockets), np.int64),
    )
    for i in range(BATCH):
        inbox.vectors[i] = inbox.data[i].ctypes.data, DATAGRAM_ROOM
        inbox.messages[i, 0] = inbox.names[i].ctypes.data
        inbox.messages[i, 2] = inbox.vectors[i].ctypes.data
        inbox.messages[i, 3] = 1
        inbox.messages[i, 4] = inbox.control[i].ctypes.data
    for i, fd in enumerate([*sockets, life]):
        inbox.polls[i] = fd, POLLIN
    return inbox


@kernel
def _raw_word(data, offset):
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
        return _raw_word(name, 8), _raw_word(name, 16), port
    return np.int64(0), np.int64(0), np.int64(-1)


@kernel
def _ancillary(control, length, rx):
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


@kernel
def _say_goodbye(rx, fd):
    """Send the client its exit packets."""
    if rx.sockaddr_bytes > 0:
        for _ in range(EXIT_REPEATS):
            sendto(
                fd, _EXIT.ctypes.data, EXIT_BYTES, MSG_DONTWAIT | MSG_NOSIGNAL,
                rx.sockaddr.ctypes.data, rx.sockaddr_bytes,
            )  # fmt: skip


@kernel
def _end(arena, slot, fd, reason, goodbye, inbox, index):
    """End a session: let its sound fade out, say good-bye, leave the reason."""
    rx, header = arena.rx[slot], arena.header[0]
    if rx.state == _ACTIVE:
        timeline.fade_away(
            header, rx, arena.lines[slot], arena.rings[slot], inbox.seen[index], inbox.tools
        )
        numbering.finish(rx, inbox.seen[index])
    rx.end_reason = reason
    store_release(rx, "state", _ENDED)
    if goodbye:
        _say_goodbye(rx, fd)


@kernel
def _learn(rx, name, ipv6, port, fields):
    """Take address and format from the first valid datagram."""
    rx.peer_port = port
    rx.frames = fields[packet.FRAMES]
    rx.rate_code = fields[packet.RATE_CODE]
    rates.forget(rx)
    rx.bits = fields[packet.BITS]
    rx.channels = fields[packet.SENDS]
    rx.wants = fields[packet.WANTS]
    rx.redundancy = min(fields[packet.REDUNDANCY], MAX_REDUNDANCY)
    for i in range(len(name)):
        rx.sockaddr[i] = name[i]
    rx.sockaddr_bytes = 28 if ipv6 else 16


@kernel
def _same_format(rx, fields):
    return (
        rx.frames == fields[packet.FRAMES]
        and rx.bits == fields[packet.BITS]
        and rx.channels == fields[packet.SENDS]
        and rx.rate_code == fields[packet.RATE_CODE]
    )


@kernel
def _follow_copies(rx, copies):
    """Answer with as many copies of a packet as the client sends, should it change its mind."""
    if copies == rx.redundancy:
        rx.copies_run = 0
        return
    rx.copies_run = rx.copies_run + 1 if copies == rx.copies else 1
    rx.copies = copies
    if rx.copies_run >= COPIES_RUN:
        rx.redundancy = copies


@kernel
def _has_moved(rx, data, length, port, fields, arrival_ns):
    """Whether a datagram from another port of the client's address is proof of its own."""
    if rx.state != _ACTIVE or not packet.parse(data, 0, length, fields):
        return False
    if not _same_format(rx, fields) or rx.wants != fields[packet.WANTS]:
        return False
    packet_ns = frames_to_ns(rx.frames, rx.rate_hz)
    stamp_us = moves.timestamp_us(data, 0)
    return moves.proven(rx, port, fields[packet.SEQUENCE], stamp_us, arrival_ns, packet_ns)


@kernel
def _know_rate(header, rx, fields, filters, arrival_ns):
    """Learn a client's sample rate from its packet, or from when it came; whether it is known."""
    rate_hz = rates.told(header, rx.rate_code)
    if rate_hz == 0:
        rate_hz = rates.measure(rx, fields[packet.SEQUENCE], arrival_ns)
    if rate_hz > 0:
        rates.adopt(header, rx, filters, rate_hz)
        if timeline.fits(header, rx):
            return True
        rate_hz = rates.NONE
    rx.rate_hz = rate_hz
    return False


@kernel
def _measure_jitter(rx, sequence, arrival_ns):
    """Deviation of a packet's spacing from its sender's rate."""
    steps = sequence - rx.highest
    if steps >= 1 and steps <= numbering.MAX_JUMP and rx.arrival_ns > 0:
        nominal = frames_to_ns(steps * rx.frames, rx.rate_hz)
        deviation = abs(arrival_ns - rx.arrival_ns - nominal)
        rx.jitter[bucket(HISTOGRAM_EDGES_NS, deviation)] += 1
        rx.jitter_ns += deviation
    if steps >= 1:
        rx.arrival_ns = arrival_ns


@kernel
def _take_audio(arena, slot, data, length, inbox, index, arrival_ns, now_ns):
    """Place a valid datagram of an active client; older copies first, where they repair.

    Returns:
        Whether its newest packet was news.
    """
    header, rx = arena.header[0], arena.rx[slot]
    line, ring = arena.lines[slot], arena.rings[slot]
    fields, seen, tools = inbox.fields, inbox.seen[index], inbox.tools
    sequence, verdict, restarted = numbering.extend(
        rx, seen, fields[packet.SEQUENCE], arrival_ns, frames_to_ns(rx.frames, rx.rate_hz)
    )
    if verdict == numbering.ODD:
        rx.late += 1
        return False
    if restarted:
        rx.arrival_ns = arrival_ns
        timeline.restart(header, rx, line, sequence, arrival_ns, now_ns)
    _measure_jitter(rx, sequence, arrival_ns)
    size, copies = fields[packet.PACKET_BYTES], fields[packet.REDUNDANCY]
    for age in range(min(copies, MAX_REDUNDANCY) - 1, 0, -1):
        if sequence - age <= rx.base_sequence or sequence - age <= rx.highest - numbering.MAX_JUMP:
            continue
        if seen[(sequence - age) & (numbering.SEEN_PACKETS - 1)] == sequence - age:
            continue
        legal = packet.parse(data, age * size, size, fields)
        if not legal or not _same_format(rx, fields):
            continue
        if fields[packet.SEQUENCE] != (sequence - age) & 0xFFFF:
            continue
        late = rx.late
        verdict = timeline.place(
            header, rx, line, ring, seen, tools, index, data, age * size, sequence - age, True,
            arrival_ns, now_ns,
        )  # fmt: skip
        rx.repaired += verdict == numbering.PLACED and rx.late == late
    verdict = timeline.place(
        header, rx, line, ring, seen, tools, index, data, 0, sequence, False, arrival_ns, now_ns
    )
    if verdict == numbering.DUPLICATE:
        rx.duplicates += 1
    elif verdict == numbering.PLACED:
        rx.odd_run = 0
    return verdict != numbering.DUPLICATE


@kernel
def _note_malformed(rx, data, length):
    """Count a datagram that is no audio of the client's, and keep what shows why."""
    rx.malformed += 1
    rx.odd_bytes = length
    rx.odd_header = _raw_word(data, 8) if length >= HEADER_BYTES else np.int64(0)


@kernel
def _take(arena, slot, session, fd, data, length, name, inbox, index, arrival_ns, now_ns):
    """Judge one datagram of a client's socket. True when it was audio the hub did not have."""
    header, order, rx = arena.header[0], arena.slots[slot], arena.rx[slot]
    rx.datagrams += 1
    rx.bytes += length
    high, low, port = source_of(name)
    known, fields = rx.state != _WAITING, inbox.fields
    strange = high != order.peer_high or low != order.peer_low
    if strange or (known and port != rx.peer_port):
        if strange or not _has_moved(rx, data, length, port, fields, arrival_ns):
            rx.foreign += 1
            rx.foreign_high, rx.foreign_low, rx.foreign_port = high, low, port
            return False
        moves.follow(rx, name, port)
    if length == EXIT_BYTES:
        if known and packet.is_exit(data, 0, length):
            _end(arena, slot, fd, _CLIENT_EXIT, True, inbox, index)
        else:
            _note_malformed(rx, data, length)
        return False
    if not packet.parse(data, 0, length, fields) or (known and not _same_format(rx, fields)):
        _note_malformed(rx, data, length)
        return False
    rx.valid_ns = now_ns
    if rx.state == _ACTIVE:
        moves.note(rx, moves.timestamp_us(data, 0), arrival_ns)
        timeline.obey_queue(header, order, rx, arena.lines[slot], arena.rings[slot])
        guard.obey(order, rx)
        _follow_copies(rx, min(fields[packet.REDUNDANCY], MAX_REDUNDANCY))
        return _take_audio(arena, slot, data, length, inbox, index, arrival_ns, now_ns)
    if rx.state == _WAITING:
        _learn(rx, name, order.ipv6, port, fields)
        rx.joined_ns = now_ns
        if HEADER_BYTES + rx.frames * rx.wants * (rx.bits // 8) > MAX_DATAGRAM_BYTES:
            _end(arena, slot, fd, _TOO_LARGE, True, inbox, index)
            return False
        store_release(rx, "state", _KNOCKING)
    if rx.rate_hz == 0 and not _know_rate(header, rx, fields, inbox.tools.filters, arrival_ns):
        if rx.rate_hz == rates.NONE:
            _end(arena, slot, fd, _WRONG_RATE, True, inbox, index)
        return True
    if load_acquire(order, "admit") == session:
        rx.joined_ns = now_ns
        timeline.size_ring(header, order, rx)
        timeline.start(
            header, rx, arena.lines[slot], arena.rings[slot], inbox.seen[index], inbox.tools,
            index, fields[packet.SEQUENCE], arrival_ns, now_ns,
        )  # fmt: skip
        rx.arrival_ns = 0
        _take_audio(arena, slot, data, length, inbox, index, arrival_ns, now_ns)
        store_release(rx, "state", _ACTIVE)
    return True


@kernel
def _drain(arena, slot, session, fd, index, inbox):
    """Read what a client's socket holds, within bounds."""
    rx = arena.rx[slot]
    messages = inbox.messages
    # both clocks at one time: what passes between them would make packets seem early
    now_ns = clock_ns(CLOCK_MONOTONIC, inbox.timespec)
    wall_ns = clock_ns(CLOCK_REALTIME, inbox.timespec)
    for _ in range(MAX_BATCHES):
        for i in range(BATCH):
            messages[i, 1] = NAME_BYTES
            messages[i, 5] = 8 * CONTROL_WORDS
        count = recvmmsg(fd, messages.ctypes.data, BATCH, MSG_DONTWAIT, 0)
        for i in range(count):
            arrival_ns = _ancillary(inbox.control[i], messages[i, 5], rx)
            # a clock step between the two readings must not move the timeline
            age_ns = min(max(wall_ns - arrival_ns, 0), SECOND_NS) if arrival_ns > 0 else 0
            length = messages[i, 7] & 0xFFFFFFFF
            audio = _take(
                arena, slot, session, fd, inbox.data[i], length, inbox.names[i],
                inbox, index, now_ns - age_ns, now_ns,
            )  # fmt: skip
            inbox.junk[index] = 0 if audio else inbox.junk[index] + 1
            if rx.state == _ENDED:
                return
        if count < BATCH:
            break
    if rx.state == _ACTIVE:
        timeline.publish(rx, arena.lines[slot], arena.rings[slot], inbox.seen[index], inbox.tools)
        timeline.prepare(
            arena.header[0], rx, arena.lines[slot], inbox.seen[index], inbox.tools, index, now_ns
        )


@kernel
def _orders(arena, slot, fd, index, inbox, now_ns):
    """Obey the supervisor and the clock: stop orders, silence, admission."""
    rx, order = arena.rx[slot], arena.slots[slot]
    if load_acquire(arena.control[0], "stop") != 0:
        _end(arena, slot, fd, _HUB_STOP, True, inbox, index)
        return
    stop = load_acquire(order, "stop")
    if stop == _KICK:
        _end(arena, slot, fd, _KICKED, True, inbox, index)
    elif stop == _SILENT:
        _end(arena, slot, fd, _REPLACED, False, inbox, index)
    elif now_ns - rx.valid_ns >= SILENCE_NS:
        reason = _NO_UDP if rx.state == _WAITING else _SILENCE
        _end(arena, slot, fd, reason, rx.state != _WAITING, inbox, index)


@kernel
def crowd(arena, slot, play):
    """How many receivers must conceal for the same tick on one core, this one included.

    Of many slots only some are looked at, evenly spread, each standing for its neighbours.
    """
    slots = arena.control[0].slots_high
    step = slots // LOOKED_AT + 1
    waiting = 0
    for other in range(slot % step, slots, step):
        if other != slot and load_acquire(arena.rx[other], "state") == _ACTIVE:
            waiting += load_acquire(arena.rx[other], "watermark") < play
    return 1 + waiting * step / arena.header[0].cores


@kernel
def _conceal_due(arena, slot, index, inbox, now_ns):
    """Conceal what is due and missing; returns when this client must be looked at again."""
    header, rx = arena.header[0], arena.rx[slot]
    if rx.state != _ACTIVE:
        return now_ns + MAX_WAIT_NS
    tick = timeline.covered_tick(header, rx)
    due_ns = tick_time(header, tick) - header.guard_ns
    if due_ns <= now_ns:
        tick = tick_after(header, now_ns + header.guard_ns)  # first that is not yet due
        play = tick * header.period_frames
        time_ns = (due_ns + header.guard_ns - now_ns) / crowd(arena, slot, play)
        timeline.seal(
            header, rx, arena.lines[slot], arena.rings[slot], inbox.seen[index], inbox.tools, index,
            play, np.int64(time_ns),
        )  # fmt: skip
        due_ns = tick_time(header, tick) - header.guard_ns
    return due_ns


@kernel
def _begin(arena, slot, session, index, inbox, now_ns):
    """Report for duty: a new session waits, one whose receiver died goes on."""
    rx = arena.rx[slot]
    rx.pid = getpid()
    rx.started_ns = now_ns
    if rx.session == session and rx.state != _IDLE:
        numbering.resume(rx, inbox.seen[index])
        return
    rx.session = session
    rx.valid_ns = now_ns
    store_release(rx, "state", _WAITING)


@kernel
def run_receiver(arena, slots, sessions, inbox):
    """Serve clients until the last one's session has ended.

    Args:
        arena: shared.arena.Arena.
        slots, sessions: (clients,) int64, in the order of the inbox's sockets.
        inbox: Inbox.

    Returns:
        A shared.messages.WorkerExit.
    """
    clients = len(slots)
    polls, timespec = inbox.polls, inbox.timespec
    now_ns = clock_ns(CLOCK_MONOTONIC, timespec)
    for k in range(clients):
        _begin(arena, slots[k], sessions[k], k, inbox, now_ns)
    status = _DONE
    while True:
        now_ns = clock_ns(CLOCK_MONOTONIC, timespec)
        wake_ns = now_ns + MAX_WAIT_NS
        serving = 0
        for k in range(clients):
            rx = arena.rx[slots[k]]
            if rx.state != _ENDED:
                _orders(arena, slots[k], polls[k, 0], k, inbox, now_ns)
            if status == _HUB_GONE and rx.state != _ENDED:
                _end(arena, slots[k], polls[k, 0], _HUB_STOP, True, inbox, k)
            if rx.state == _ENDED:
                polls[k, 0] = -1  # ppoll passes it over: what still comes is nobody's
                continue
            serving += 1
            wake_ns = min(wake_ns, _conceal_due(arena, slots[k], k, inbox, now_ns))
            if inbox.junk[k] >= FLOOD_RUN:
                inbox.junk[k] = 0
                sleep_until(min(now_ns + FLOOD_PAUSE_NS, wake_ns), timespec)
        if serving == 0:
            return status
        wait_ns = max(wake_ns - clock_ns(CLOCK_MONOTONIC, timespec), 0)
        timespec[0] = wait_ns // SECOND_NS
        timespec[1] = wait_ns % SECOND_NS
        for k in range(clients + 1):
            polls[k, 1] = POLLIN
        ready = ppoll(polls.ctypes.data, clients + 1, timespec.ctypes.data, 0)
        if ready <= 0:
            continue
        for k in range(clients):
            if polls[k, 1] >> 16 != 0 and polls[k, 0] >= 0:
                arena.rx[slots[k]].wakeups += 1
                _drain(arena, slots[k], sessions[k], polls[k, 0], k, inbox)
        if polls[clients, 1] >> 16 != 0:
            status = _HUB_GONE
