"""A receiver's loop: when it looks after which of its clients.

``run_receiver`` is a receiver's whole life after the fork, without a line of Python. One with a
process of its own is woken by each packet. A *shared* one of many clients is not: a wake-up
costs more than what is to be done, and all of it must be done by the same moment. It sleeps
until shortly before a tick is due, reads every socket, and looks again, once the tick is due,
at those whose packets are not there::

                 lead                         guard
          |<-------------->|            |<--------------->|
    ------[read all of them]------------[look again; seal]|-----
                                       due               tick

Packets carry the time at which they came, so that it does not matter when they are read. How
long before (``lead``) follows what reading has taken. While none of its clients plays, it waits
for packets as any other. New clients come to it by mail, once a tick; those who have a receiver
already stay with that until it has let go of them (``stay.lets_go``), which is noticed once a tick.

No client takes another's time: of each so many datagrams are read at once as its format explains
(``stay.is_demanding`` keeps away formats of which one takes long). Who has sent more, and who does
not play yet, is read when nothing is due; holes in what was read are bridged when all have been.
"""

from __future__ import annotations

import numpy as np

from shared.atomics import load_acquire
from shared.kernels import kernel, part_kernel
from shared.layout import EndReason, RxState
from shared.libc import (
    CLOCK_MONOTONIC,
    POLLIN,
    SECOND_NS,
    clock_ns,
    close,
    getpid,
    ppoll,
    sleep_until,
)
from shared.messages import MailOp, WorkerExit
from workers import gaps, stay
from workers.fetch import fetch_record, fetch_sound
from workers.hubtime import frames_to_ns, tick_after, tick_time
from workers.inbox import BATCH, FIRST, LIFE, MAIL
from workers.mailbox import take_mail
from workers.receiver import MAX_WAIT_NS, bridge, conceal_due, drain

MAX_DATAGRAMS = 4 * BATCH
"""Read at one wake-up by packets, so that a flood keeps nothing else waiting."""
FEW = 4
"""Datagrams that a client's jitter explains, beside those of a period."""
FLOOD_RUN = 64
FLOOD_PAUSE_NS = 200_000
"""Rest after FLOOD_RUN datagrams in a row that were no audio: then many are read at once."""
LEAD_SPARE_NS = 30_000
LEAD_DECAY = 128
"""Ticks in which a lead that is no longer needed falls to a third."""
MAX_MAIL = 16
"""Mails read in one tick; the rest waits for the next."""

_ACTIVE = int(RxState.ACTIVE)
_HUB_STOP, _SOCKET, _AWAIT = int(EndReason.HUB_STOP), int(MailOp.SOCKET), int(MailOp.AWAIT)
_FREE, _AWAITED = -1, -2
"""In a place's poll instead of its socket, which poll passes over: nobody, and this less the socket
of a client that another receiver still serves."""
AWAIT_NS = 500_000
"""Between two looks whether it does, while nobody plays here."""
_DONE, _HUB_GONE = int(WorkerExit.DONE), int(WorkerExit.HUB_GONE)


@kernel
def next_lead(lead_ns, took_ns, period_ns):
    """How long before a tick is due its packets are read: as long as the slowest of late took.

    Args:
        took_ns: from when the last reading should have begun to its end.
    """
    wanted = took_ns + took_ns // 8 + LEAD_SPARE_NS
    return min(max(wanted, lead_ns - lead_ns // LEAD_DECAY), period_ns)


@kernel
def _goes_on(control, order, rx, session, pid, now_ns):
    """Note that a client is looked after; whether it goes on here and nothing ends it."""
    if not stay.serves(rx, session, pid):
        return False
    rx.looked_ns = now_ns
    rx.shed = control.shed
    return rx.heir == 0 and stay.reason_to_end(control, order, rx, now_ns) == stay.GOES_ON


@kernel
def _look_after(arena, slot, session, status, pid, k, inbox, now_ns):
    """Obey what is ordered of a client; whether it goes on here."""
    rx, fd = arena.rx[slot], inbox.polls[FIRST + k, 0]
    if stay.serves(rx, session, pid):
        stay.obey(arena, slot, fd, k, inbox, now_ns)
    if status == _HUB_GONE and stay.serves(rx, session, pid):
        stay.end(arena, slot, fd, _HUB_STOP, True, inbox, k, now_ns)
    if rx.heir != 0 and stay.serves(rx, session, pid):
        stay.lets_go(arena.header[0], rx, pid, now_ns)
    return stay.serves(rx, session, pid)


@part_kernel
def _lacks(arena, slot, now_ns):
    """Whether a tick is due that a client's sound does not cover."""
    header, rx = arena.header[0], arena.rx[slot]
    if rx.state != _ACTIVE or rx.resting != 0:
        return False
    return tick_time(header, gaps.covered_tick(header, rx)) - header.guard_ns <= now_ns


@kernel
def usual(header, rx):
    """How many datagrams come of a client between two looks, and how many may."""
    if rx.state != _ACTIVE:
        return np.int64(BATCH), np.int64(FEW)
    beside = np.int64((header.period_frames - 1) / rx.span)
    return 1 + beside, FEW + 2 * beside


@kernel
def _read(arena, slots, sessions, first, end, pid, steady, inbox):
    """Read what clients have sent; nothing of one that is not this receiver's any more.

    Args:
        first, end: their places.
        steady: only of those who play and have not sent too much, and only what is to be expected,
            if that is there.
    """
    shared = inbox.polls[MAIL, 0] >= 0  # one of a process of its own is woken by packets alone
    for k in range(first, end):
        if k + 2 < end:
            fetch_record(arena, slots[k + 2])
        if k + 1 < end:
            fetch_sound(arena, slots[k + 1], inbox.seen[k + 1])
        fd, rx = inbox.polls[FIRST + k, 0], arena.rx[slots[k]]
        if fd < 0 or not stay.serves(rx, sessions[k], pid):
            continue
        if steady and (inbox.behind[k] != 0 or rx.state != _ACTIVE):
            continue
        rx.wakeups += shared
        few, most = usual(arena.header[0], rx)
        drain(arena, slots[k], sessions[k], fd, k, few if steady else BATCH, most, inbox)


@kernel
def _bridge(arena, slots, sessions, clients, pid, inbox):
    """Bridge the holes that are seen, each in its share of the time."""
    holes = 0
    for k in range(clients):
        rx = arena.rx[slots[k]]
        holes += gaps.sees_hole(rx) and stay.serves(rx, sessions[k], pid)
    if holes == 0:
        return
    for k in range(clients):
        rx = arena.rx[slots[k]]
        if inbox.polls[FIRST + k, 0] >= 0 and stay.serves(rx, sessions[k], pid):
            bridge(arena, slots[k], k, holes, inbox)


@kernel
def _read_mail(arena, slots, sessions, clients, inbox, now_ns):
    """Begin to serve those whose sockets have come; how many places are in use then."""
    polls, box = inbox.polls, inbox.box
    for _ in range(MAX_MAIL):
        size, fd = take_mail(polls[MAIL, 0], box)
        if size < 0:
            break
        if size == 0:
            close(polls[MAIL, 0])
            polls[MAIL, 0] = -1
            break
        if fd < 0:
            continue
        op, slot, session = box.words[0], box.words[1], box.words[2]
        k = 0
        while k < len(slots) and polls[FIRST + k, 0] != _FREE:
            k += 1
        known = op == _SOCKET or op == _AWAIT
        if not known or slot < 0 or slot >= len(arena.slots) or k == len(slots):
            close(fd)
            continue
        slots[k], sessions[k] = slot, session
        if op == _AWAIT and not stay.ask_for(arena.rx[slot], session):
            close(fd)
            continue
        if op == _AWAIT:
            polls[FIRST + k, 0] = _AWAITED - fd
        else:
            polls[FIRST + k, 0] = fd
            stay.begin(arena, slot, session, k, inbox, now_ns)
        clients = max(clients, k + 1)
    return clients


@kernel
def _take_over(arena, slots, sessions, clients, inbox, now_ns):
    """Begin to serve those whom their receivers have let go of; how many are still awaited."""
    awaited = 0
    for k in range(clients):
        fd = _AWAITED - inbox.polls[FIRST + k, 0]
        if fd < 0:
            continue
        taken = stay.takes_over(arena, slots[k], sessions[k], k, inbox, now_ns)
        awaited += taken == 0
        if taken > 0:
            inbox.polls[FIRST + k, 0] = fd
        elif taken < 0:
            inbox.polls[FIRST + k, 0] = _FREE
            close(fd)
    return awaited


@kernel
def _seal(arena, slots, sessions, clients, pid, inbox, began_ns):
    """Conceal what is due and missing, and not in the sockets, of those last who send too much.

    Args:
        began_ns: when this begins. What falls due while it goes on may have come meanwhile, and
            is for the next time: a receiver may have to let others go first at any moment.

    Returns:
        (when somebody must be looked at again, how many send too much).
    """
    polls, behind, timespec = inbox.polls, inbox.behind, inbox.timespec
    now_ns = began_ns
    wake_ns, floods = began_ns + MAX_WAIT_NS, 0
    for k in range(clients):
        fd = polls[FIRST + k, 0]
        if fd >= 0 and behind[k] == 0 and _lacks(arena, slots[k], began_ns):
            _read(arena, slots, sessions, k, k + 1, pid, False, inbox)
    for last in range(2):
        for k in range(clients):
            fd = polls[FIRST + k, 0]
            if fd < 0 or behind[k] != last:
                continue
            floods += last
            if _lacks(arena, slots[k], began_ns):
                if last == 1:
                    _read(arena, slots, sessions, k, k + 1, pid, False, inbox)
                now_ns = clock_ns(CLOCK_MONOTONIC, timespec)
            if stay.serves(arena.rx[slots[k]], sessions[k], pid):
                due_ns = conceal_due(arena, slots[k], k, inbox, began_ns, now_ns)
                wake_ns = min(wake_ns, due_ns)
        if np.sum(behind[:clients]) == 0:
            break
    return wake_ns, floods


@kernel
def _read_last(arena, slots, sessions, clients, pid, until_ns, spare_ns, inbox):
    """Read those who do not play, and on from sockets that held too much, while nothing is due.

    Args:
        until_ns: when something is.
        spare_ns: that it may take to read one of them.
    """
    more, again = True, False
    while more:
        more = False
        for k in range(clients):
            fd, plays = inbox.polls[FIRST + k, 0], arena.rx[slots[k]].state == _ACTIVE
            if fd < 0 or (inbox.behind[k] == 0 and (plays or again)):
                continue
            if until_ns - clock_ns(CLOCK_MONOTONIC, inbox.timespec) < spare_ns:
                return
            _read(arena, slots, sessions, k, k + 1, pid, False, inbox)
            more |= inbox.behind[k] != 0
        again = True


@kernel
def _wait(arena, slots, sessions, clients, pid, wake_ns, inbox):
    """Wait for packets, and read them; returns whether mail came."""
    polls, timespec = inbox.polls, inbox.timespec
    flooded = False
    for k in range(clients):
        if inbox.junk[k] >= FLOOD_RUN:
            inbox.junk[k] = 0
            flooded = True
    if flooded:
        pause_ns = clock_ns(CLOCK_MONOTONIC, timespec) + FLOOD_PAUSE_NS
        sleep_until(min(pause_ns, wake_ns), timespec)
    wait_ns = max(wake_ns - clock_ns(CLOCK_MONOTONIC, timespec), 0)
    timespec[0] = wait_ns // SECOND_NS
    timespec[1] = wait_ns % SECOND_NS
    watched = polls[MAIL:]
    for k in range(FIRST - MAIL + clients):
        watched[k, 1] = POLLIN
    if ppoll(watched.ctypes.data, FIRST - MAIL + clients, timespec.ctypes.data, 0) <= 0:
        return False
    for k in range(clients):
        fd, rx = polls[FIRST + k, 0], arena.rx[slots[k]]
        if polls[FIRST + k, 1] >> 16 != 0 and fd >= 0 and stay.serves(rx, sessions[k], pid):
            fetch_record(arena, slots[k])
            fetch_sound(arena, slots[k], inbox.seen[k])
            rx.wakeups += 1
            drain(arena, slots[k], sessions[k], fd, k, 1, MAX_DATAGRAMS, inbox)
            bridge(arena, slots[k], k, 1, inbox)
    return polls[MAIL, 1] >> 16 != 0


@kernel
def _hung_up(polls, timespec):
    """Whether the hub's life pipe is closed; does not wait."""
    polls[LIFE, 1] = POLLIN
    timespec[:] = 0
    return ppoll(polls.ctypes.data, 1, timespec.ctypes.data, 0) > 0


@kernel
def run_receiver(arena, slots, sessions, clients, inbox):
    """Serve clients until the last one's session has ended, or is another receiver's.

    A shared one goes on without any, until its mail socket is closed or the hub ends.

    Args:
        arena: shared.arena.Arena.
        slots, sessions: (places,) int64; the first ``clients`` are taken.
        inbox: Inbox, of so many places or more; ``polls`` has the sockets, in this order.

    Returns:
        A shared.messages.WorkerExit.
    """
    header, polls, timespec = arena.header[0], inbox.polls, inbox.timespec
    pid, shared = getpid(), polls[MAIL, 0] >= 0
    period_ns = frames_to_ns(header.period_frames, header.rate_hz)
    spare_ns = min(FLOOD_PAUSE_NS, period_ns // 4)
    now_ns = clock_ns(CLOCK_MONOTONIC, timespec)
    for k in range(clients):
        stay.begin(arena, slots[k], sessions[k], k, inbox, now_ns)
    status, gone, mail = _DONE, False, False
    lead_ns, last, looked_ns, awaited = period_ns, np.int64(-1), now_ns, np.int64(0)
    while True:
        now_ns = clock_ns(CLOCK_MONOTONIC, timespec)
        if now_ns - looked_ns >= MAX_WAIT_NS:
            gone, looked_ns = _hung_up(polls, timespec), now_ns
        status = _HUB_GONE if gone else _DONE
        if awaited > 0:
            awaited = _take_over(arena, slots, sessions, clients, inbox, now_ns)
        serving = playing = 0
        for k in range(clients):
            fd = polls[FIRST + k, 0]
            if fd < 0:
                continue
            order, rx = arena.slots[slots[k]], arena.rx[slots[k]]
            goes_on = _goes_on(arena.control[0], order, rx, sessions[k], pid, now_ns)
            # what needs all of the memory takes a microsecond to call, and is rarely wanted
            if (gone or not goes_on) and not _look_after(
                arena, slots[k], sessions[k], status, pid, k, inbox, now_ns
            ):
                polls[FIRST + k, 0] = _FREE  # ppoll passes it over: what still comes is nobody's
                if shared:
                    close(fd)
                continue
            serving += 1
            playing += rx.state == _ACTIVE and rx.resting == 0
        over = gone or polls[MAIL, 0] < 0 or load_acquire(arena.control[0], "stop") != 0
        if serving == 0 and over:
            return status
        if mail:
            clients = _read_mail(arena, slots, sessions, clients, inbox, now_ns)
            awaited = _take_over(arena, slots, sessions, clients, inbox, now_ns)
            mail = False

        wake_ns, floods = _seal(arena, slots, sessions, clients, pid, inbox, now_ns)
        if not shared or playing == 0:
            if awaited > 0:
                wake_ns = min(wake_ns, now_ns + AWAIT_NS)
            mail = _wait(arena, slots, sessions, clients, pid, wake_ns, inbox)
            continue
        now_ns = clock_ns(CLOCK_MONOTONIC, timespec)
        first = tick_after(header, now_ns + header.guard_ns)
        tick = first + (first == last)
        read_ns = tick_time(header, tick) - header.guard_ns - lead_ns
        wake_ns = min(wake_ns, read_ns)
        if floods > 0 or playing < serving:
            _read_last(arena, slots, sessions, clients, pid, wake_ns, spare_ns, inbox)
        if floods > 0:
            wake_ns = min(wake_ns, now_ns + FLOOD_PAUSE_NS)
        sleep_until(wake_ns, timespec)
        if clock_ns(CLOCK_MONOTONIC, timespec) < read_ns:
            continue
        _read(arena, slots, sessions, 0, clients, pid, True, inbox)
        took_ns = clock_ns(CLOCK_MONOTONIC, timespec) - read_ns
        _bridge(arena, slots, sessions, clients, pid, inbox)
        last, lead_ns, mail = tick, next_lead(lead_ns, took_ns, period_ns), polls[MAIL, 0] >= 0
