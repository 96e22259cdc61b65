"""Sending: every packet at its time, through the emulated network, in few system calls.

::

    heap of (due, client) -- next_packet --> fate: lost
                                                  | at once --> batch -- flush --> sendmmsg
                                                  | later ----> pool ----^
                                                                heap of (release, slot)

The schedule is absolute: packet k of a client is due at ``start_ns + k × period``, and a late
packet does not delay the next. How late each one left is counted, so that a run can say
that it was the generator, and not the hub, that came too late.
"""

from __future__ import annotations

import numpy as np

from loadtest.clients.network import UP, fate
from loadtest.clients.packets import clear_samples, fill_header, write_voice
from loadtest.clients.state import (
    ABSENT,
    BUCKETS,
    LATENESS,
    LEAVE,
    LOST_NS,
    NEVER,
    PLAY,
    STAMPS,
)
from loadtest.clients.turns import enter, voice
from loadtest.clients.voices import SILENCE
from loadtest.clients.wires import (
    AUDIO,
    BATCH,
    EXIT,
    HEAP_SIZE,
    LAST_DUE,
    ORDERS,
    OUT_COUNT,
    OUT_SOCKET,
    POOL_FREE,
    POOL_SIZE,
)
from shared.atomics import load_acquire, store_release
from shared.kernels import kernel
from shared.libc import (
    CLOCK_MONOTONIC,
    MSG_DONTWAIT,
    MSG_NOSIGNAL,
    clock_ns,
    memmove,
    sendmmsg,
)
from shared.protocol import EXIT_BYTES, EXIT_REPEATS, HEADER_BYTES

HOPELESS_NS = 100_000_000
"""Further behind than this, packets are left out instead of sent in one flood."""
_HEADER_BYTES, _EXIT_BYTES, _EXIT_REPEATS = HEADER_BYTES, EXIT_BYTES, EXIT_REPEATS
_U = np.uint64


@kernel
def heap_push(keys, values, size, key, value):
    """Add to a binary heap of `size` entries, smallest key first; the arrays have room."""
    at = size
    while at > 0:
        parent = (at - 1) >> 1
        if keys[parent] <= key:
            break
        keys[at] = keys[parent]
        values[at] = values[parent]
        at = parent
    keys[at] = key
    values[at] = value


@kernel
def heap_replace(keys, values, size, key, value):
    """Put an entry in the place of the first one of a heap."""
    at = 0
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and keys[child + 1] < keys[child]:
            child += 1
        if keys[child] >= key:
            break
        keys[at] = keys[child]
        values[at] = values[child]
        at = child
    keys[at] = key
    values[at] = value


@kernel
def heap_drop(keys, values, size):
    """Take the first entry out of a heap, which has `size` − 1 then."""
    heap_replace(keys, values, size - 1, keys[size - 1], values[size - 1])


@kernel
def measured(run, at_ns):
    """Whether a time lies in the window."""
    return run.opened_ns <= at_ns < run.closed_ns


@kernel
def enqueue(expectation, state, wires, index, packet, slot, due_ns):
    """Put a datagram into the batch; the batch leaves first if it cannot hold it.

    packet: its number, −1 where no send time is to be remembered.
    slot: AUDIO, EXIT, or the pool's.
    """
    desk, place = wires.desk, state.clients[index].socket
    if desk[OUT_COUNT] and (
        desk[OUT_COUNT] == BATCH
        or desk[OUT_SOCKET] != place
        or (slot == AUDIO and wires.queued[index])
    ):
        flush(expectation, state, wires)
    at = desk[OUT_COUNT]
    for word in range(8):
        if slot == AUDIO:
            wires.batch[at, word] = wires.headers[index, word]
        elif slot == EXIT:
            wires.batch[at, word] = wires.exits[index, word]
        else:
            wires.batch[at, word] = wires.pool.headers[slot, word]
    wires.queued[index] |= slot == AUDIO
    wires.out_client[at] = index
    wires.out_packet[at] = packet
    wires.out_slot[at] = slot
    wires.out_due_ns[at] = due_ns
    desk[OUT_SOCKET] = place
    desk[OUT_COUNT] = at + 1


@kernel
def flush(expectation, state, wires):
    """Send the batch; note when each datagram left, and how late that was."""
    run, desk = state.run[0], wires.desk
    count = desk[OUT_COUNT]
    if count == 0:
        return
    fd = wires.descriptors[desk[OUT_SOCKET]]
    begin_ns = clock_ns(CLOCK_MONOTONIC, state.timespec)
    done = 0
    while done < count:
        sent = sendmmsg(
            fd, wires.batch[done:].ctypes.data, count - done, MSG_DONTWAIT | MSG_NOSIGNAL
        )
        run.sends += 1
        if sent <= 0:
            state.clients[wires.out_client[done]].send_errors += 1
            sent = 1
        done += sent
    end_ns = clock_ns(CLOCK_MONOTONIC, state.timespec)
    for i in range(count):
        index, slot = wires.out_client[i], wires.out_slot[i]
        left_ns = begin_ns + (end_ns - begin_ns) * (i + 1) // count
        if wires.out_packet[i] >= 0:
            state.sent_ns[index, wires.out_packet[i] % STAMPS] = left_ns
        wires.queued[index] = 0
        if slot >= 0:
            wires.pool.free[desk[POOL_FREE]] = slot
            desk[POOL_FREE] += 1
        if slot != EXIT:
            count_lateness(expectation, state, desk, index, wires.out_due_ns[i], left_ns)
    desk[OUT_COUNT] = 0


@kernel
def count_lateness(expectation, state, desk, index, due_ns, left_ns):
    """Enter in the histogram of the client's section how late a datagram left.

    Of a burst only the first counts: the rest leave as fast as they can, that is its nature.
    """
    if expectation.burst and due_ns == desk[LAST_DUE]:
        return
    desk[LAST_DUE] = due_ns
    run, client = state.run[0], state.clients[index]
    late_ns = left_ns - due_ns
    counted = measured(run, due_ns)
    if late_ns * 1000 > client.period_ps:
        run.stall_ns = left_ns
        run.stalls += counted
    if counted:
        bucket = min(max((late_ns + 999) // 1000, 0), BUCKETS - 1)
        state.histograms[client.section, LATENESS, bucket] += 1
        run.late_max_ns = max(run.late_max_ns, late_ns)


@kernel
def hold_back(expectation, state, wires, index, packet, exits, due_ns):
    """Let a datagram wait in the pool until `due_ns`; without room it leaves at once.

    exits: 1: the client's exit packet, 0: its newest packets.
    """
    pool, desk, client = wires.pool, wires.desk, state.clients[index]
    if desk[POOL_FREE] == 0:
        state.run[0].overrun += 1
        enqueue(expectation, state, wires, index, packet, EXIT if exits else AUDIO, due_ns)
        return
    desk[POOL_FREE] -= 1
    slot = pool.free[desk[POOL_FREE]]
    length = np.int64(0)
    room = pool.data[slot].ctypes.data
    if exits:
        length = _EXIT_BYTES
        memmove(room, wires.exit_packet.ctypes.data, _EXIT_BYTES)
    else:
        for copy in range(client.redundancy):
            size = np.int64(wires.iovec[index, copy, 1])
            memmove(room + length, np.int64(wires.iovec[index, copy, 0]), size)
            length += size
    pool.iovec[slot, 1] = _U(length)
    for word in range(8):
        if word not in (2, 3):  # its iovec is that of the slot
            pool.headers[slot, word] = wires.headers[index, word]
    pool.client[slot] = index
    pool.packet[slot] = packet
    heap_push(pool.due_ns, pool.slot, desk[POOL_SIZE], due_ns, slot)
    desk[POOL_SIZE] += 1
    wires.release_ns[index] = max(wires.release_ns[index], due_ns)


@kernel
def write_packet(expectation, state, wires, index, due_ns):
    """Make the client's next packet, in its place of the ring."""
    client = state.clients[index]
    kind = voice(expectation, state, index, due_ns)
    slot = client.packet % client.redundancy
    step = wires.packet_step[index]
    at = wires.packet_at[index] + slot * step
    fill_header(wires.packets, at, (due_ns + state.run[0].offset_ns) // 1000, client.packet, client)
    if kind != SILENCE:
        wires.dirty[index, slot] = write_voice(
            wires.packets, at + _HEADER_BYTES, client.bits, client.sends, client.frames, index,
            client.packet * client.frames, client.voice_from, client.voice_until, kind,
            client.mask, client.tutti_level,
        )  # fmt: skip
    elif wires.dirty[index, slot]:
        size = client.sends * client.frames * client.bits // 8
        clear_samples(wires.packets, at + _HEADER_BYTES, size)
        wires.dirty[index, slot] = 0
    base = wires.packets.ctypes.data + wires.packet_at[index]
    for back in range(client.redundancy):
        older = (slot - back + client.redundancy) % client.redundancy
        wires.iovec[index, back, 0] = _U(base + older * step)


@kernel
def next_packet(expectation, state, wires, networks, index, now_ns):
    """Send the client's next packet into the emulated network; sets when the next one is due."""
    run, client = state.run[0], state.clients[index]
    if now_ns - client.due_ns > HOPELESS_NS:
        leave_out(state, index, (now_ns - client.due_ns) * 1000 // client.period_ps)
    due_ns, packet = client.due_ns, client.packet
    if wires.queued[index]:
        flush(expectation, state, wires)  # before its memory is written over
    write_packet(expectation, state, wires, index, due_ns)
    serial = wires.serials[UP, index]
    wires.serials[UP, index] += 1
    copies, delay_ns, second_ns = fate(networks, UP, index, serial, due_ns, run.opened_ns)
    counted = measured(run, due_ns)
    client.sent += counted
    if copies == 0:
        state.sent_ns[index, packet % STAMPS] = LOST_NS
        client.dropped_up += counted
    elif due_ns + delay_ns <= now_ns:
        enqueue(expectation, state, wires, index, packet, AUDIO, due_ns + delay_ns)
    else:
        state.sent_ns[index, packet % STAMPS] = due_ns + delay_ns
        client.delayed_up += counted
        hold_back(expectation, state, wires, index, packet, 0, due_ns + delay_ns)
    if copies == 2:
        client.doubled_up += counted
        hold_back(expectation, state, wires, index, -1, 0, due_ns + second_ns)
    if counted and client.first_ns:
        expect_return(client, 1)
    client.packet += 1
    client.due_ns = client.start_ns + client.packet * client.period_ps // 1000


@kernel
def expect_return(client, packets):
    """Count what should come back in the time of so many packets."""
    client.due_ps += packets * client.period_ps
    whole = client.due_ps // client.nominal_ps
    client.due += whole
    client.due_ps -= whole * client.nominal_ps


@kernel
def leave_out(state, index, packets):
    """Skip packets whose time has long passed; their numbers are used up."""
    run, client = state.run[0], state.clients[index]
    for k in range(client.packet, client.packet + min(packets, STAMPS)):
        state.sent_ns[index, k % STAMPS] = LOST_NS
    if measured(run, client.due_ns) and client.first_ns:
        expect_return(client, packets)
    run.skipped += packets
    client.packet += packets
    client.due_ns = client.start_ns + client.packet * client.period_ps // 1000


@kernel
def send_due(expectation, state, wires, networks, now_ns):
    """Send a batch of what is due, delayed datagrams first, for they were sent before.

    Returns: 1 when more may be due.
    """
    desk, pool = wires.desk, wires.pool
    begun = 0
    while desk[POOL_SIZE] and pool.due_ns[0] <= now_ns and begun < BATCH:
        slot, due_ns = pool.slot[0], pool.due_ns[0]
        heap_drop(pool.due_ns, pool.slot, desk[POOL_SIZE])
        desk[POOL_SIZE] -= 1
        enqueue(expectation, state, wires, pool.client[slot], pool.packet[slot], slot, due_ns)
        begun += 1
    while desk[HEAP_SIZE] and wires.heap_due_ns[0] <= now_ns and begun < BATCH:
        index = wires.heap_client[0]
        client = state.clients[index]
        if client.stage != PLAY:
            heap_drop(wires.heap_due_ns, wires.heap_client, desk[HEAP_SIZE])
            desk[HEAP_SIZE] -= 1
            wires.waits[index] = 0
            continue
        if client.due_ns <= now_ns:  # else it has joined anew meanwhile
            next_packet(expectation, state, wires, networks, index, now_ns)
            begun += 1
        heap_replace(
            wires.heap_due_ns, wires.heap_client, desk[HEAP_SIZE], client.due_ns, index
        )  # fmt: skip
    flush(expectation, state, wires)
    return begun == BATCH


@kernel
def next_due(wires):
    """When the next datagram is due; NEVER: none."""
    desk = wires.desk
    due_ns = wires.heap_due_ns[0] if desk[HEAP_SIZE] else NEVER
    if desk[POOL_SIZE]:
        due_ns = min(due_ns, wires.pool.due_ns[0])
    return due_ns


@kernel
def come_in(state, wires, index, now_ns):
    """A client joins, or joins anew: numbering from 0, nothing heard yet."""
    run, client = state.run[0], state.clients[index]
    client.packet = 0
    since_ps = (now_ns - run.zero_ns - client.phase_ns) * 1000
    periods = -(-since_ps // client.period_ps)
    client.start_ns = run.zero_ns + client.phase_ns + periods * client.period_ps // 1000
    client.due_ns = client.start_ns
    client.due_ps = 0
    enter(state, index)
    for k in range(STAMPS):
        state.sent_ns[index, k] = LOST_NS
    size = client.redundancy * wires.packet_step[index]
    clear_samples(wires.packets, wires.packet_at[index], size)
    for slot in range(client.redundancy):
        wires.dirty[index, slot] = 0
    client.stage = PLAY
    if wires.waits[index] == 0:
        desk = wires.desk
        heap_push(
            wires.heap_due_ns, wires.heap_client, desk[HEAP_SIZE], client.due_ns, index
        )  # fmt: skip
        desk[HEAP_SIZE] += 1
        wires.waits[index] = 1


@kernel
def go_out(expectation, state, wires, index, now_ns, polite):
    """A client stops; if polite, with exit packets, behind what of its is still on the way."""
    state.clients[index].stage = ABSENT
    for _ in range(_EXIT_REPEATS * polite):
        if wires.release_ns[index] > now_ns:
            hold_back(expectation, state, wires, index, -1, 1, wires.release_ns[index] + 1)
        else:
            enqueue(expectation, state, wires, index, -1, EXIT, now_ns)


@kernel
def obey(expectation, state, wires, now_ns):
    """Let clients in and out as the main thread wishes."""
    run = state.run[0]
    orders = load_acquire(run, "orders")
    while run.obeyed < orders:
        index = wires.orders[run.obeyed % ORDERS]
        client = state.clients[index]
        wish = load_acquire(client, "wish")
        if wish == PLAY and client.stage != PLAY:
            come_in(state, wires, index, now_ns)
        elif wish != PLAY and client.stage == PLAY:
            go_out(expectation, state, wires, index, now_ns, np.int64(wish == LEAVE))
        store_release(run, "obeyed", run.obeyed + 1)
    flush(expectation, state, wires)
