"""The receiver: a client's way from its UDP socket to its input ring.

``workers.rounds`` says when which client is looked after; here is what is done then. A client's
way through ``RX.state``::

    WAITING --first valid datagram of the right address--> KNOCKING
    KNOCKING --SLOT.admit == session, and its rate is known--> ACTIVE, with the next packet
    any --exit packet, silence, order, end of the hub--> ENDED

Everything a datagram can do is counted; nothing it can do takes long.
"""

from __future__ import annotations

import numpy as np

from shared.atomics import load_acquire, store_release
from shared.kernels import kernel, part_kernel
from shared.layout import HISTOGRAM_EDGES_NS, EndReason, RxState
from shared.libc import (
    CLOCK_MONOTONIC,
    CLOCK_REALTIME,
    MSG_DONTWAIT,
    SECOND_NS,
    clock_ns,
    recvmmsg,
)
from shared.protocol import (
    EXIT_BYTES,
    HEADER_BYTES,
    MAX_DATAGRAM_BYTES,
    MAX_REDUNDANCY,
)
from workers import gaps, guard, moves, numbering, packet, rates, room, stay, timeline
from workers.hubtime import bucket, frames_to_ns, tick_after, tick_time
from workers.inbox import (
    BATCH,
    CONTROL_WORDS,
    MAIL,
    NAME_BYTES,
    ancillary,
    raw_word,
    source_of,
)

MAX_WAIT_NS = 100_000_000
LOOKED_AT = 32
"""Slots whose state a receiver reads, at most, to learn how many share its core's time."""

_WAITING, _KNOCKING = int(RxState.WAITING), int(RxState.KNOCKING)
_ACTIVE, _ENDED = int(RxState.ACTIVE), int(RxState.ENDED)
_CLIENT_EXIT, _HUB_STOP = int(EndReason.CLIENT_EXIT), int(EndReason.HUB_STOP)
_WRONG_RATE, _TOO_LARGE = int(EndReason.WRONG_RATE), int(EndReason.TOO_LARGE)


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
def _repairs(rx, seen, sequence, data, offset, size, inbox):
    """Whether an older copy is a packet that is missing, and may be taken yet."""
    if sequence <= rx.base_sequence or sequence <= rx.highest - numbering.MAX_JUMP:
        return False
    if seen[sequence & (numbering.SEEN_PACKETS - 1)] == sequence or inbox.repairs[0] <= 0:
        return False
    inbox.repairs[0] -= 1
    legal = packet.parse(data, offset, size, inbox.fields)
    if not legal or not stay.same_format(rx, inbox.fields):
        return False
    return inbox.fields[packet.SEQUENCE] == sequence & 0xFFFF


@part_kernel
def _take_audio(arena, slot, data, inbox, index, arrival_ns, now_ns):
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
    for age in range(min(copies, MAX_REDUNDANCY) - 1, -1, -1):
        repair, offset = age > 0, age * size
        if repair and not _repairs(rx, seen, sequence - age, data, offset, size, inbox):
            continue
        late = rx.late
        verdict = timeline.place(
            header, rx, line, ring, seen, tools, index, data, offset, sequence - age, repair,
            arrival_ns, now_ns,
        )  # fmt: skip
        rx.repaired += repair and verdict == numbering.PLACED and rx.late == late
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
def _is_stale(header, rx, arrival_ns, now_ns):
    """Whether a packet lay in the socket too long to fix a timeline by, if newer ones are there.

    Such are those that came while a client's former receiver ended, or before this process
    first ran: when they should be played is past, and all that follow would be as much too late.
    """
    packet_ns = frames_to_ns(rx.frames, rx.rate_hz)
    tick_ns = frames_to_ns(header.period_frames, header.rate_hz)
    return now_ns - arrival_ns > max(packet_ns, tick_ns)


@kernel
def _lets_play(arena, slot, session, fd, name, port, more, inbox, index, arrival_ns, now_ns):
    """Take note of a client that does not play yet; whether it does from this packet on."""
    header, order, rx, fields = arena.header[0], arena.slots[slot], arena.rx[slot], inbox.fields
    if rx.state == _WAITING:
        stay.learn(rx, name, order.ipv6, port, fields)
        rx.joined_ns = now_ns
        if HEADER_BYTES + rx.frames * rx.wants * (rx.bits // 8) > MAX_DATAGRAM_BYTES:
            stay.end(arena, slot, fd, _TOO_LARGE, True, inbox, index, now_ns)
            return False
        store_release(rx, "state", _KNOCKING)
        if inbox.polls[MAIL, 0] >= 0 and stay.is_demanding(header, rx):
            stay.give_up(rx)
            return False
    if rx.rate_hz == 0 and not stay.know_rate(header, rx, fields, inbox.tools.filters, arrival_ns):
        if rx.rate_hz == rates.NONE:
            stay.end(arena, slot, fd, _WRONG_RATE, True, inbox, index, now_ns)
        return False
    stale = more and _is_stale(header, rx, arrival_ns, now_ns)
    if load_acquire(order, "admit") != session or stale:
        return False
    rx.joined_ns = now_ns
    room.size_ring(header, order, rx)
    timeline.start(
        header, rx, arena.lines[slot], arena.rings[slot], inbox.seen[index], inbox.tools,
        index, fields[packet.SEQUENCE], arrival_ns, now_ns,
    )  # fmt: skip
    rx.arrival_ns = 0
    return True


@part_kernel
def _take(arena, slot, session, fd, data, length, name, more, inbox, index, arrival_ns, now_ns):
    """Judge one datagram of a client's socket. True when it was audio the hub did not have.

    more: whether another lies behind it.
    """
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
    plays = rx.state == _ACTIVE
    if plays:
        gaps.rouse(header, rx, arena.lines[slot], arena.rings[slot], inbox.tools, now_ns)
        moves.note(rx, moves.timestamp_us(data, 0), arrival_ns)
        room.obey_queue(header, order, rx, arena.lines[slot], arena.rings[slot])
        guard.obey(order, rx)
        stay.follow_copies(rx, min(fields[packet.REDUNDANCY], MAX_REDUNDANCY))
    elif not _lets_play(
        arena, slot, session, fd, name, port, more, inbox, index, arrival_ns, now_ns
    ):
        return True
    news = _take_audio(arena, slot, data, inbox, index, arrival_ns, now_ns)
    if plays:
        return news
    store_release(rx, "state", _ACTIVE)
    return True


@kernel
def drain(arena, slot, session, fd, index, few, most, inbox):
    """Read what a client's socket holds.

    Who has sent more than is read, or more packets in it, is noted (``Inbox.behind``).

    Args:
        few: datagrams of a playing client that are asked for first. If they are there, and the
            last is younger than a packet is long, no other is, unless it was overtaken: to find the
            socket empty costs a quarter of what it costs to read a datagram. BATCH: all are asked
            for.
        most: that are read.
    """
    rx, messages = arena.rx[slot], inbox.messages
    left, packets = most, rx.packets
    # both clocks at one time: what passes between them would make packets seem early
    now_ns = clock_ns(CLOCK_MONOTONIC, inbox.timespec)
    wall_ns = clock_ns(CLOCK_REALTIME, inbox.timespec)
    inbox.behind[index] = 0
    inbox.repairs[0] = max(most, MAX_REDUNDANCY)  # one datagram may repair so much
    asked = min(few, BATCH) if rx.state == _ACTIVE else BATCH
    while left > 0:
        size = min(left, asked)
        audio, age_ns = False, 0
        for i in range(size):
            messages[i, 1] = NAME_BYTES
            messages[i, 5] = 8 * CONTROL_WORDS
        count = recvmmsg(fd, messages.ctypes.data, size, MSG_DONTWAIT, 0)
        for i in range(count):
            arrival_ns = ancillary(inbox.control[i], messages[i, 5], rx)
            # a clock step between the two readings must not move the timeline
            age_ns = min(max(wall_ns - arrival_ns, 0), SECOND_NS) if arrival_ns > 0 else 0
            length = messages[i, 7] & 0xFFFFFFFF
            audio = _take(
                arena, slot, session, fd, inbox.data[i], length, inbox.names[i],
                i + 1 < count or count == size, inbox, index, now_ns - age_ns, now_ns,
            )  # fmt: skip
            inbox.junk[index] = 0 if audio else inbox.junk[index] + 1
            if not stay.goes_on(rx, session):
                return
        left -= size
        young = asked < BATCH and audio and 0 < age_ns < frames_to_ns(rx.frames, rx.rate_hz)
        if count < size or (young and not gaps.sees_hole(rx)):
            break
        asked = BATCH
        inbox.behind[index] = left <= 0
    if rx.packets - packets > most:
        inbox.behind[index] = 1
    if rx.state == _ACTIVE:
        timeline.publish(rx, arena.lines[slot], arena.rings[slot], inbox.seen[index], inbox.tools)


@part_kernel
def bridge(arena, slot, index, sharing, inbox):
    """Fill a hole in a client's sound before it is due, where sound beyond it is there already.

    Args:
        sharing: clients for whom the time there is must be enough.
    """
    rx = arena.rx[slot]
    if rx.state == _ACTIVE and gaps.sees_hole(rx):
        now_ns = clock_ns(CLOCK_MONOTONIC, inbox.timespec)
        gaps.prepare(
            arena.header[0], rx, arena.lines[slot], inbox.seen[index], inbox.tools, index, now_ns,
            sharing,
        )  # fmt: skip


@part_kernel
def crowd(arena, slot, play):
    """How many clients must be concealed for the same tick on one core, this one included.

    Those of other receivers share the cores, those of the same one are on its own. Of many
    slots only some are looked at, evenly spread, each standing for its neighbours.
    """
    slots = arena.control[0].slots_high
    step = slots // LOOKED_AT + 1
    here = elsewhere = 0
    for other in range(slot % step, slots, step):
        if other != slot and load_acquire(arena.rx[other], "state") == _ACTIVE:
            resting = load_acquire(arena.rx[other], "resting") != 0
            waits = load_acquire(arena.rx[other], "watermark") < play and not resting
            shared = load_acquire(arena.rx[other], "pid") == arena.rx[slot].pid
            here += waits and shared
            elsewhere += waits and not shared
    return 1 + step * (here + elsewhere / arena.header[0].cores)


@part_kernel
def conceal_due(arena, slot, index, inbox, read_ns, now_ns):
    """Conceal what is due and missing; returns when this client must be looked at again.

    Args:
        read_ns: before its socket was last read: what is due by then and not there is missing.
        now_ns: by which it is told how long concealing may take.
    """
    header, rx = arena.header[0], arena.rx[slot]
    if rx.state != _ACTIVE:
        return read_ns + MAX_WAIT_NS
    line, ring = arena.lines[slot], arena.rings[slot]
    if rx.resting != 0:
        play = tick_after(header, read_ns + header.guard_ns) * header.period_frames
        gaps.pass_time(header, rx, line, ring, inbox.tools, play)
        return read_ns + MAX_WAIT_NS
    tick = gaps.covered_tick(header, rx)
    due_ns = tick_time(header, tick) - header.guard_ns
    if due_ns <= read_ns:
        tick = tick_after(header, read_ns + header.guard_ns)  # first that was not yet due
        play = tick * header.period_frames
        time_ns = (due_ns + header.guard_ns - now_ns) / crowd(arena, slot, play)
        gaps.seal(
            header, rx, line, ring, inbox.seen[index], inbox.tools, index, play, np.int64(time_ns)
        )
        if gaps.rest(header, rx, ring):
            return read_ns + MAX_WAIT_NS
        due_ns = tick_time(header, tick) - header.guard_ns
    return due_ns
