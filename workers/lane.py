"""A transmit lane of its own: woken by the mixer, it serves its share of the listeners."""

from __future__ import annotations

from shared.atomics import load_acquire
from shared.kernels import kernel
from shared.layout import CLOCK, HISTOGRAM_EDGES_NS, STRIP_DEPTH
from shared.libc import (
    CLOCK_MONOTONIC,
    CLOCK_REALTIME,
    POLLIN,
    clock_ns,
    futex_wait,
    getpid,
    ppoll,
)
from shared.messages import WorkerExit
from workers.hubtime import bucket, tick_time
from workers.pacing import next_due, send_due
from workers.transmit import adopt, read_all_mail, serve_tick

MAX_WAIT_NS = 50_000_000
_FUTEX_OFFSET = CLOCK.fields["futex"][1]  # type: ignore[index]
_DONE, _HUB_GONE = int(WorkerExit.DONE), int(WorkerExit.HUB_GONE)


@kernel
def futex_address(clock):
    """Address of the word that lanes wait on, in the clock's record array."""
    return clock.ctypes.data + _FUTEX_OFFSET


@kernel
def hub_gone(life_fd, polls, timespec):
    """Whether the write end of the hub's life pipe is closed; does not wait."""
    polls[0, 0] = life_fd
    polls[0, 1] = POLLIN
    timespec[:] = 0
    return ppoll(polls.ctypes.data, 1, timespec.ctypes.data, 0) > 0


@kernel
def run_lane(arena, index, lanes, mail_fd, life_fd, lane):
    """Serve a share of the listeners until the hub ends.

    Args:
        arena: shared.arena.Arena.
        index, lanes: this lane's number, 1..lanes.
        mail_fd, life_fd: mail socket, life pipe.
        lane: workers.transmit.Lane.

    Returns:
        A shared.messages.WorkerExit.
    """
    header, clock, counters = arena.header[0], arena.clock[0], arena.lanes[index]
    word, timespec = futex_address(arena.clock), lane.timespec
    counters.started_ns = clock_ns(CLOCK_MONOTONIC, timespec)
    counters.pid = getpid()
    adopt(arena, index, lanes, lane)
    last = load_acquire(clock, "tick")
    while True:
        # not what it should be but what it is: a mixer may die before it has set it
        expected = load_acquire(clock, "futex")
        newest = load_acquire(clock, "tick")
        if last < 0 <= newest:
            last = newest - 1  # the hub's first tick: there was none before
        if newest == last:
            waits = next_due(lane.schedule) - clock_ns(CLOCK_MONOTONIC, timespec)
            if waits <= 0:
                send_due(arena, counters, tick_time(header, last + 1), lane)
                continue
            if waits < MAX_WAIT_NS:
                futex_wait(word, expected & 0xFFFFFFFF, waits, timespec)
                continue
            if load_acquire(arena.control[0], "stop") != 0:
                return _DONE
            futex_wait(word, expected & 0xFFFFFFFF, MAX_WAIT_NS, timespec)
            if load_acquire(clock, "tick") == last and hub_gone(life_fd, lane.polls, timespec):
                return _HUB_GONE
            continue
        began = clock_ns(CLOCK_MONOTONIC, timespec)
        wall_us = clock_ns(CLOCK_REALTIME, timespec) // 1000
        read_all_mail(arena, index, mail_fd, lane)
        counters.mail_ns += clock_ns(CLOCK_MONOTONIC, timespec) - began
        first = max(last + 1, newest - (STRIP_DEPTH - 2))
        counters.missed += first - last - 1
        for tick in range(first, newest + 1):
            if clock.mixed[tick % STRIP_DEPTH] != tick:
                counters.missed += 1  # the mixer missed it; its place holds older sound
                continue
            counters.listeners = serve_tick(arena, index, lanes, tick, wall_us, lane)
            counters.ticks += 1
            if load_acquire(clock, "tick") > tick + STRIP_DEPTH - 2:
                counters.missed += 1  # the mixer may have written over it meanwhile
        last = newest
        now = clock_ns(CLOCK_MONOTONIC, timespec)
        counters.work_ns += now - began
        counters.work[bucket(HISTOGRAM_EDGES_NS, now - began)] += 1
        counters.sent_ns += now - tick_time(header, newest)
