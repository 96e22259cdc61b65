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
from loadtest.clients.state import ABSENT, BUCKETS, LATENESS, LEAVE, LOST_NS, NEVER, PLAY, STAMPS
from loadtest.clients.turns import depart, enter, lately_sang, voice
from loadtest.clients.voices import SILENCE
from loadtest.clients.wires import AUDIO, BATCH, ORDERS
from shared.atomics import load_acquire, store_release
from shared.kernels import kernel
from shared.libc import CLOCK_MONOTONIC, MSG_DONTWAIT, MSG_NOSIGNAL, clock_ns, memmove, sendmmsg
from shared.protocol import EXIT_REPEATS, HEADER_BYTES

HOPELESS_NS = 100_000_000
"""Further behind than this, packets are left out instead of sent in one flood."""
_HEADER_BYTES, _EXIT_REPEATS = HEADER_BYTES, EXIT_REPEATS
_AUDIO, _BATCH, _ORDERS = AUDIO, BATCH, ORDERS
_U = np.uint64


@kernel
def heap_push(heap, size, due_ns, what):
    """Add to a binary heap of `size` entries, smallest time first; the array has room.

    heap: (> size,) ENTRY.
    """
    at = size
    while at > 0:
        parent = (at - 1) >> 1
        if heap[parent].due_ns <= due_ns:
            break
        heap[at].due_ns = heap[parent].due_ns
        heap[at].what = heap[parent].what
        at = parent
    heap[at].due_ns = due_ns
    heap[at].what = what


@kernel
def heap_replace(heap, size, due_ns, what):
    """Put an entry in the place of the first one of a heap."""
    at = 0
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and heap[child + 1].due_ns < heap[child].due_ns:
            child += 1
        if heap[child].due_ns >= due_ns:
            break
        heap[at].due_ns = heap[child].due_ns
        heap[at].what = heap[child].what
        at = child
    heap[at].due_ns = due_ns
    heap[at].what = what


@kernel
def heap_drop(heap, size):
    """Take the first entry out of a heap, which has `size` − 1 then."""
    heap_replace(heap, size - 1, heap[size - 1].due_ns, heap[size - 1].what)


@kernel
def measured(run, at_ns):
    """Whether a time lies in the window."""
    return run.opened_ns <= at_ns < run.closed_ns


@kernel
def enqueue(post, place, index, packet, slot, due_ns):
    """Put a datagram into the batch, which has room for it.

    place: index of its socket. packet: its number, −1 where no send time is to be remembered.
    slot: of the pool, or AUDIO.
    """
    desk = post.desk[0]
    at = desk.count
    for word in range(8):
        if slot == _AUDIO:
            post.batch[at, word] = post.headers[index, word]
        else:
            post.batch[at, word] = post.pool_headers[slot, word]
    if slot == _AUDIO:
        post.links[index].queued = 1
    out = post.out[at]
    out.client = index
    out.packet = packet
    out.slot = slot
    out.due_ns = due_ns
    desk.socket = place
    desk.count = at + 1


@kernel
def transmit(fd, batch, count):
    """Send a batch, as few calls as may be; what cannot be sent is left out.

    batch: (>= count, 8) uint64, mmsghdr.

    Returns: (datagrams left out, index of the last of those).
    """
    refused, last = 0, 0
    done = 0
    while done < count:
        sent = sendmmsg(fd, batch[done:].ctypes.data, count - done, MSG_DONTWAIT | MSG_NOSIGNAL)
        if sent <= 0:
            refused += 1
            last = done
            sent = 1
        done += sent
    return refused, last


@kernel
def flush(expectation, state, post):
    """Send the batch; note when each datagram left, and how late that was."""
    run, desk = state.run[0], post.desk[0]
    count = desk.count
    fd = post.descriptors[desk.socket]
    begin_ns = clock_ns(CLOCK_MONOTONIC, state.timespec)
    refused, last = transmit(fd, post.batch, count)
    end_ns = clock_ns(CLOCK_MONOTONIC, state.timespec)
    state.clients[post.out[last].client].send_errors += refused
    for i in range(count):
        out = post.out[i]
        left_ns = begin_ns + (end_ns - begin_ns) * (i + 1) // count
        if out.packet >= 0:
            state.sent_ns[out.client, out.packet % STAMPS] = left_ns
        link = post.links[out.client]
        link.queued = 0
        if out.slot != _AUDIO:
            link.delayed -= 1
            post.pool[desk.free].free = out.slot
            desk.free += 1
        # Of a burst only the first counts: the rest leave as fast as they can.
        if not (expectation.burst and out.due_ns == desk.last_due_ns):
            client = state.clients[out.client]
            histogram = state.histograms[client.section, LATENESS]
            count_lateness(run, client.period_ps, histogram, out.due_ns, left_ns)
        desk.last_due_ns = out.due_ns
    desk.count = 0


@kernel
def count_lateness(run, period_ps, histogram, due_ns, left_ns):
    """Note how late a datagram left; more than a period is a stall of the generator.

    histogram: (BUCKETS,) int64.
    """
    late_ns = left_ns - due_ns
    counted = measured(run, due_ns)
    if late_ns * 1000 > period_ps:
        run.stall_ns = left_ns
        run.stalls += counted
    if counted:
        histogram[min(max((late_ns + 999) // 1000, 0), BUCKETS - 1)] += 1
        run.late_max_ns = max(run.late_max_ns, late_ns)


@kernel
def hold_back(post, index, copies, packet, due_ns):
    """Let a client's newest datagram wait in the pool until `due_ns`.

    copies: full packets in it.

    Returns: False when there is no room.
    """
    desk, link = post.desk[0], post.links[index]
    if desk.free == 0:
        return False
    desk.free -= 1
    slot = post.pool[desk.free].free
    room = post.pool_data[slot].ctypes.data
    length = np.int64(0)
    for copy in range(copies):
        size = np.int64(post.iovec[index, copy, 1])
        memmove(room + length, np.int64(post.iovec[index, copy, 0]), size)
        length += size
    post.pool_iovec[slot, 1] = _U(length)
    for word in range(8):
        if word not in (2, 3):  # its iovec is that of the slot
            post.pool_headers[slot, word] = post.headers[index, word]
    post.pool[slot].client = index
    post.pool[slot].packet = packet
    heap_push(post.pool_heap, desk.waiting, due_ns, slot)
    desk.waiting += 1
    link.delayed += 1
    link.release_ns = max(link.release_ns, due_ns)
    return True


@kernel
def rotate(post, index, copies, slot):
    """Point a client's iovecs at its ring, whose newest packet is in `slot`: newest first."""
    link = post.links[index]
    base = post.packets.ctypes.data + link.packet_at
    for back in range(copies):
        older = (slot - back + copies) % copies
        post.iovec[index, back, 0] = _U(base + older * link.packet_step)


@kernel
def write_packet(post, client, index, kind, stamp_us):
    """Make the client's next packet, in its place of the ring.

    kind: SILENCE, SOLO or EVERYBODY.
    """
    link = post.links[index]
    slot = client.packet % client.redundancy
    at = link.packet_at + slot * link.packet_step
    fill_header(post.packets, at, stamp_us, client.packet, client)
    bit = np.int64(1) << slot
    if kind != SILENCE or link.dirty & bit:
        sounds = write_voice(
            post.packets, at + _HEADER_BYTES, client.bits, client.sends, client.frames, index,
            client.packet * client.frames, client.voice_from, client.voice_until, kind,
            client.mask, client.tutti_level,
        )  # fmt: skip
        link.dirty = link.dirty | bit if sounds else link.dirty & ~bit
    if client.redundancy > 1:
        rotate(post, index, client.redundancy, slot)


@kernel
def next_packet(expectation, state, post, networks, index, now_ns):
    """Send the client's next packet into the emulated network; sets when the next one is due."""
    run, client, link = state.run[0], state.clients[index], post.links[index]
    if now_ns - client.due_ns > HOPELESS_NS:
        leave_out(run, client, state.sent_ns[index], now_ns)
    due_ns, packet = client.due_ns, client.packet
    kind = voice(expectation, state, index, due_ns)
    write_packet(post, client, index, kind, (due_ns + run.offset_ns) // 1000)
    copies, delay_ns, second_ns = fate(networks, UP, index, link.serial_up, due_ns, run.opened_ns)
    link.serial_up += 1
    counted = measured(run, due_ns)
    client.sent += counted
    if copies == 0:
        state.sent_ns[index, packet % STAMPS] = LOST_NS
        client.dropped_up += counted
    for copy in range(copies):
        release_ns = due_ns + (second_ns if copy else delay_ns)
        remembered = -1 if copy else packet
        if release_ns <= now_ns and not copy:
            enqueue(post, client.socket, index, remembered, _AUDIO, release_ns)
            continue
        if not copy:
            state.sent_ns[index, packet % STAMPS] = release_ns
            client.delayed_up += counted
        if not hold_back(post, index, client.redundancy, remembered, release_ns):
            run.overrun += 1
            enqueue(post, client.socket, index, remembered, _AUDIO, release_ns)
    client.doubled_up += counted * (copies == 2)
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
def leave_out(run, client, sent_ns, now_ns):
    """Skip packets whose time has long passed; their numbers are used up.

    sent_ns: (STAMPS,) int64, of this client.
    """
    packets = (now_ns - client.due_ns) * 1000 // client.period_ps
    for k in range(client.packet, client.packet + min(packets, STAMPS)):
        sent_ns[k % STAMPS] = LOST_NS
    if measured(run, client.due_ns) and client.first_ns:
        expect_return(client, packets)
    run.skipped += packets
    client.packet += packets
    client.due_ns = client.start_ns + client.packet * client.period_ps // 1000


@kernel
def send_due(expectation, state, post, networks, now_ns):
    """Send a batch of what is due, delayed datagrams first, for they were sent before.

    Returns: 1 when more may be due.
    """
    desk = post.desk[0]
    begun = 0
    while True:
        held = desk.waiting > 0 and post.pool_heap[0].due_ns <= now_ns
        fresh = not held and desk.heap > 0 and post.heap[0].due_ns <= now_ns
        what, due_ns, index = 0, 0, -1
        if held:
            what, due_ns = post.pool_heap[0].what, post.pool_heap[0].due_ns
            index = post.pool[what].client if what >= 0 else -1 - what
        elif fresh:
            index = post.heap[0].what
        if begun == _BATCH:
            index = -1
        if desk.count and (
            index < 0
            or desk.count >= _BATCH - 2
            or desk.socket != state.clients[index].socket
            or post.links[index].queued
        ):
            flush(expectation, state, post)
        if index < 0:
            return begun == _BATCH
        begun += 1
        if held:
            heap_drop(post.pool_heap, desk.waiting)
            desk.waiting -= 1
            send_held(post, state.clients[index].socket, index, what, due_ns)
            continue
        client = state.clients[index]
        if client.stage != PLAY:  # it has left
            heap_drop(post.heap, desk.heap)
            desk.heap -= 1
            post.links[index].waits = 0
            continue
        if client.due_ns <= now_ns:  # else it has joined anew meanwhile
            next_packet(expectation, state, post, networks, index, now_ns)
        heap_replace(post.heap, desk.heap, client.due_ns, index)


@kernel
def send_held(post, place, index, what, due_ns):
    """Something has waited long enough: a datagram of the pool, or an exit packet."""
    if what < 0:
        say_goodbye(post, place, index)
    else:
        enqueue(post, place, index, post.pool[what].packet, what, due_ns)


@kernel
def next_due(post):
    """When the next datagram is due; NEVER: none."""
    desk = post.desk[0]
    due_ns = np.int64(NEVER)
    if desk.heap:
        due_ns = post.heap[0].due_ns
    if desk.waiting:
        due_ns = min(due_ns, post.pool_heap[0].due_ns)
    return due_ns


@kernel
def come_in(state, post, index, now_ns):
    """A client joins, or joins anew: numbering from 0, nothing heard yet."""
    run, client = state.run[0], state.clients[index]
    desk, link = post.desk[0], post.links[index]
    since_ps = (now_ns - run.zero_ns - client.phase_ns) * 1000
    periods = -(-since_ps // client.period_ps)
    client.packet = 0
    client.start_ns = run.zero_ns + client.phase_ns + periods * client.period_ps // 1000
    client.due_ns = client.start_ns
    client.due_ps = 0
    client.arrival_ns = 0
    enter(state, index)
    for k in range(STAMPS):
        state.sent_ns[index, k] = LOST_NS
    clear_samples(post.packets, link.packet_at, client.redundancy * link.packet_step)
    link.dirty = 0
    client.stage = PLAY
    if link.waits == 0:
        heap_push(post.heap, desk.heap, client.due_ns, index)
        desk.heap += 1
        link.waits = 1


@kernel
def say_goodbye(post, place, index):
    """Send one exit packet."""
    fd = post.descriptors[place]
    sendmmsg(fd, post.exits[index:].ctypes.data, 1, MSG_DONTWAIT | MSG_NOSIGNAL)


@kernel
def go_out(state, post, index, polite, now_ns):
    """A client stops; if polite, with exit packets, behind what of its is still on the way."""
    client, desk, link = state.clients[index], post.desk[0], post.links[index]
    client.stage = ABSENT
    depart(state, index)
    if not polite:
        if lately_sang(client):
            state.run[0].cut_ns = now_ns
        return
    for _ in range(_EXIT_REPEATS):
        if link.delayed and desk.waiting < post.pool_heap.size:
            heap_push(post.pool_heap, desk.waiting, link.release_ns + 1, -1 - index)
            desk.waiting += 1
        else:
            say_goodbye(post, client.socket, index)


@kernel
def obey(state, post, now_ns):
    """Let clients in and out as the main thread wishes."""
    run = state.run[0]
    orders = load_acquire(run, "orders")
    while run.obeyed < orders:
        index = post.orders[run.obeyed % _ORDERS]
        client = state.clients[index]
        wish = load_acquire(client, "wish")
        if wish == PLAY and client.stage != PLAY:
            come_in(state, post, index, now_ns)
        elif wish != PLAY and client.stage == PLAY:
            go_out(state, post, index, wish == LEAVE, now_ns)
        store_release(run, "obeyed", run.obeyed + 1)
