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

import numpy as np

from shared.atomics import load_acquire, store_release
from shared.kernels import kernel
from shared.layout import HISTOGRAM_EDGES_NS, EndReason, RxState
from shared.libc import (
    CLOCK_MONOTONIC,
    CLOCK_REALTIME,
    MSG_DONTWAIT,
    POLLIN,
    SECOND_NS,
    clock_ns,
    getpid,
    ppoll,
    recvmmsg,
    sleep_until,
)
from shared.messages import WorkerExit
from shared.protocol import (
    EXIT_BYTES,
    HEADER_BYTES,
    MAX_DATAGRAM_BYTES,
    MAX_REDUNDANCY,
)
from workers import gaps, guard, moves, numbering, packet, rates, room, stay, timeline
from workers.hubtime import bucket, frames_to_ns, tick_after, tick_time
from workers.inbox import BATCH, CONTROL_WORDS, NAME_BYTES, ancillary, raw_word, source_of

MAX_BATCHES = 4
"""Batches a client gets at one wake-up, so that a flood cannot keep the others waiting."""
MAX_WAIT_NS = 100_000_000
LOOKED_AT = 32
"""Slots whose state a receiver reads, at most, to learn how many share its core's time."""
FLOOD_RUN = 64
FLOOD_PAUSE_NS = 200_000
"""Rest after FLOOD_RUN datagrams in a row that were no audio: then many are read at once."""

_WAITING, _KNOCKING = int(RxState.WAITING), int(RxState.KNOCKING)
_ACTIVE, _ENDED = int(RxState.ACTIVE), int(RxState.ENDED)
_CLIENT_EXIT, _HUB_STOP = int(EndReason.CLIENT_EXIT), int(EndReason.HUB_STOP)
_WRONG_RATE, _TOO_LARGE = int(EndReason.WRONG_RATE), int(EndReason.TOO_LARGE)
_DONE, _HUB_GONE = int(WorkerExit.DONE), int(WorkerExit.HUB_GONE)


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
        if not legal or not stay.same_format(rx, fields):
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
    rx.odd_header = raw_word(data, 8) if length >= HEADER_BYTES else np.int64(0)


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
        if strange or not stay.has_moved(rx, data, length, port, fields, arrival_ns):
            rx.foreign += 1
            rx.foreign_high, rx.foreign_low, rx.foreign_port = high, low, port
            return False
        moves.follow(rx, name, port)
    if length == EXIT_BYTES:
        if known and packet.is_exit(data, 0, length):
            stay.end(arena, slot, fd, _CLIENT_EXIT, True, inbox, index, now_ns)
        else:
            _note_malformed(rx, data, length)
        return False
    if not packet.parse(data, 0, length, fields) or (known and not stay.same_format(rx, fields)):
        _note_malformed(rx, data, length)
        return False
    rx.valid_ns = now_ns
    if rx.state == _ACTIVE:
        gaps.rouse(header, rx, arena.lines[slot], arena.rings[slot], inbox.tools, now_ns)
        moves.note(rx, moves.timestamp_us(data, 0), arrival_ns)
        room.obey_queue(header, order, rx, arena.lines[slot], arena.rings[slot])
        guard.obey(order, rx)
        stay.follow_copies(rx, min(fields[packet.REDUNDANCY], MAX_REDUNDANCY))
        return _take_audio(arena, slot, data, length, inbox, index, arrival_ns, now_ns)
    if rx.state == _WAITING:
        stay.learn(rx, name, order.ipv6, port, fields)
        rx.joined_ns = now_ns
        if HEADER_BYTES + rx.frames * rx.wants * (rx.bits // 8) > MAX_DATAGRAM_BYTES:
            stay.end(arena, slot, fd, _TOO_LARGE, True, inbox, index, now_ns)
            return False
        store_release(rx, "state", _KNOCKING)
    if rx.rate_hz == 0 and not stay.know_rate(header, rx, fields, inbox.tools.filters, arrival_ns):
        if rx.rate_hz == rates.NONE:
            stay.end(arena, slot, fd, _WRONG_RATE, True, inbox, index, now_ns)
        return True
    if load_acquire(order, "admit") == session:
        rx.joined_ns = now_ns
        room.size_ring(header, order, rx)
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
            arrival_ns = ancillary(inbox.control[i], messages[i, 5], rx)
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
        gaps.prepare(
            arena.header[0], rx, arena.lines[slot], inbox.seen[index], inbox.tools, index, now_ns
        )


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
            resting = load_acquire(arena.rx[other], "resting") != 0
            waiting += load_acquire(arena.rx[other], "watermark") < play and not resting
    return 1 + waiting * step / arena.header[0].cores


@kernel
def _conceal_due(arena, slot, index, inbox, now_ns):
    """Conceal what is due and missing; returns when this client must be looked at again."""
    header, rx = arena.header[0], arena.rx[slot]
    if rx.state != _ACTIVE:
        return now_ns + MAX_WAIT_NS
    line, ring = arena.lines[slot], arena.rings[slot]
    if rx.resting != 0:
        play = tick_after(header, now_ns + header.guard_ns) * header.period_frames
        gaps.pass_time(header, rx, line, ring, inbox.tools, play)
        return now_ns + MAX_WAIT_NS
    tick = gaps.covered_tick(header, rx)
    due_ns = tick_time(header, tick) - header.guard_ns
    if due_ns <= now_ns:
        tick = tick_after(header, now_ns + header.guard_ns)  # first that is not yet due
        play = tick * header.period_frames
        time_ns = (due_ns + header.guard_ns - now_ns) / crowd(arena, slot, play)
        gaps.seal(
            header, rx, line, ring, inbox.seen[index], inbox.tools, index, play, np.int64(time_ns)
        )
        if gaps.rest(header, rx, ring):
            return now_ns + MAX_WAIT_NS
        due_ns = tick_time(header, tick) - header.guard_ns
    return due_ns


@kernel
def run_receiver(arena, slots, sessions, inbox):
    """Serve clients until the last one's session has ended, or is another receiver's.

    Args:
        arena: shared.arena.Arena.
        slots, sessions: (clients,) int64.
        inbox: Inbox, of so many clients or more; ``polls`` has their sockets, in this order,
            and behind them the hub's life pipe.

    Returns:
        A shared.messages.WorkerExit.
    """
    clients, pid = len(slots), getpid()
    polls, timespec = inbox.polls, inbox.timespec
    now_ns = clock_ns(CLOCK_MONOTONIC, timespec)
    for k in range(clients):
        stay.begin(arena, slots[k], sessions[k], k, inbox, now_ns)
    status = _DONE
    while True:
        now_ns = clock_ns(CLOCK_MONOTONIC, timespec)
        wake_ns = now_ns + MAX_WAIT_NS
        serving = 0
        for k in range(clients):
            rx = arena.rx[slots[k]]
            if stay.serves(rx, pid):
                stay.obey(arena, slots[k], polls[k, 0], k, inbox, now_ns)
            if status == _HUB_GONE and stay.serves(rx, pid):
                stay.end(arena, slots[k], polls[k, 0], _HUB_STOP, True, inbox, k, now_ns)
            if not stay.serves(rx, pid):
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
            rx = arena.rx[slots[k]]
            if polls[k, 1] >> 16 != 0 and polls[k, 0] >= 0 and stay.serves(rx, pid):
                rx.wakeups += 1
                _drain(arena, slots[k], sessions[k], polls[k, 0], k, inbox)
        if polls[clients, 1] >> 16 != 0:
            status = _HUB_GONE
