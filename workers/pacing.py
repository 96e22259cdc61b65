"""Pacing: packets that are full before their listener needs them leave one after the other.

A tick yields a period of sound at once. A listener whose packets are shorter, or no whole
number of periods, would get them in bursts, and have to keep a burst in its buffer. So a
packet leaves when its last frame's time has come, not when its tick has::

    tick T                    T + 1
      |[ packet ][ packet ][ pa|cket ][ packet ]|      rest: frames of the tick's sound that
      |          |<--- rest -->|                       come after the packet

    leaves at: its tick + hold − rest        hold: the greatest rest of the stream

The packet with the greatest rest is the one that would make its listener wait otherwise: it
leaves with its tick, and the others as much later as they would be early. So all are as far
apart as their frames are long, and none is later than the listener's buffer had to be
prepared for. A packet as long as the period, or a multiple, has no rest and always leaves
with its tick. ``hold`` is known beforehand where both rates are; should clocks drift, it
grows to what it must be.

To bound the wake-ups, a period has whole *phases* of ``QUANTUM_NS`` or more. What is to leave
in one waits in order in the lane's ``Schedule``, encoded; it is empty again when the next
tick is served.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shared.atomics import load_acquire
from shared.bundles import bundle
from shared.kernels import kernel
from shared.layout import RxState
from shared.libc import (
    CLOCK_MONOTONIC,
    MSG_DONTWAIT,
    MSG_NOSIGNAL,
    clock_ns,
    memmove,
    sendto,
    sleep_until,
)
from workers.hubtime import frames_to_ns, tick_time

QUANTUM_NS = 333_000
"""16 frames at 48 kHz: a lane is woken 3000 times a second at most."""
MAX_PHASES = 64
"""As many as the longest period has at the lowest rate, and some."""
MAX_PACKETS, MAX_BYTES = 16384, 16 << 20
"""That wait at one time; what finds no room is sent at once."""
NEVER_NS = 1 << 62
_ACTIVE = int(RxState.ACTIVE)
_ROUNDING = 1e-6

ENTRIES, BYTES, PHASE, PHASES, TICK_NS, PERIOD_NS = range(6)
"""Where ``Schedule.state`` has what."""


@bundle
class Schedule(NamedTuple):
    """Packets of one tick that leave before the next; entry 0 is none.

    Attributes:
        first, last: (MAX_PHASES,) int64, entries at the ends of each phase's queue.
        following: (MAX_PACKETS + 1,) int64, next entry of the queue.
        slots, sessions, starts, sizes: (MAX_PACKETS + 1,) int64, whose an entry is, and where
            its bytes are.
        state: (6,) int64: entries and bytes in use, first phase that may have something,
            phases a period, the tick's CLOCK_MONOTONIC and the period in ns.
        data: (MAX_BYTES,) uint8.
    """

    first: npt.NDArray[np.int64]
    last: npt.NDArray[np.int64]
    following: npt.NDArray[np.int64]
    slots: npt.NDArray[np.int64]
    sessions: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    state: npt.NDArray[np.int64]
    data: npt.NDArray[np.uint8]


def make_schedule() -> Schedule:
    """Nothing waits."""
    entries = MAX_PACKETS + 1
    return Schedule(
        first=np.zeros(MAX_PHASES, np.int64),
        last=np.zeros(MAX_PHASES, np.int64),
        following=np.zeros(entries, np.int64),
        slots=np.zeros(entries, np.int64),
        sessions=np.zeros(entries, np.int64),
        starts=np.zeros(entries, np.int64),
        sizes=np.zeros(entries, np.int64),
        state=np.array([0, 0, MAX_PHASES, 1, 0, 0], np.int64),
        data=np.zeros(MAX_BYTES, np.uint8),
    )


@kernel
def longest_rest(period, hub_hz, frames, client_hz):
    """Greatest rest of a stream's packets, in hub frames, both rates being what they are named.

    Rests are multiples of g / client_hz, and a frame leaves in the tick that it is before
    the end of.
    """
    whole = period * client_hz
    g = math.gcd(whole, frames * hub_hz)
    return max(0, (whole - hub_hz) // g * g) / client_hz


@kernel
def begin_tick(header, tick, schedule):
    """Packets of this tick may come; nothing waits any more."""
    period_ns = frames_to_ns(header.period_frames, header.rate_hz)
    schedule.state[ENTRIES] = 0
    schedule.state[BYTES] = 0
    schedule.state[PHASE] = MAX_PHASES
    schedule.state[PHASES] = min(max(period_ns // QUANTUM_NS, 1), MAX_PHASES)
    schedule.state[TICK_NS] = tick_time(header, tick)
    schedule.state[PERIOD_NS] = period_ns


@kernel
def phase_of(header, tx, rest, schedule):
    """Phase in which a packet leaves, 0: with its tick; ``hold`` grows if it must.

    Args:
        rest: hub frames of the tick's sound after the packet, and parts of them.
    """
    if rest > tx.hold:
        tx.hold = rest
    phases = schedule.state[PHASES]
    phase = np.int64((tx.hold - rest) * phases / header.period_frames + _ROUNDING)
    return min(phase, phases - 1)


@kernel
def phase_ns(phase, schedule):
    """Time from the tick to a phase."""
    return phase * schedule.state[PERIOD_NS] // schedule.state[PHASES]


@kernel
def has_room(packets, size, schedule):
    """Whether so many more packets of this size may wait."""
    entries, used = schedule.state[ENTRIES], schedule.state[BYTES]
    return entries + packets <= MAX_PACKETS and used + packets * size <= MAX_BYTES


@kernel
def put(phase, slot, session, area, size, schedule):
    """A packet waits for its phase; its bytes are copied, and there is room for it."""
    entry = schedule.state[ENTRIES] + 1
    start = schedule.state[BYTES]
    schedule.state[ENTRIES] = entry
    schedule.state[BYTES] = start + size
    memmove(schedule.data.ctypes.data + start, area.ctypes.data, size)
    schedule.slots[entry] = slot
    schedule.sessions[entry] = session
    schedule.starts[entry] = start
    schedule.sizes[entry] = size
    schedule.following[entry] = 0
    if schedule.first[phase] == 0:
        schedule.first[phase] = entry
        schedule.state[PHASE] = min(schedule.state[PHASE], phase)
    else:
        schedule.following[schedule.last[phase]] = entry
    schedule.last[phase] = entry


@kernel
def next_due(schedule):
    """CLOCK_MONOTONIC at which the next packet is to leave; NEVER_NS: none waits."""
    while schedule.state[PHASE] < MAX_PHASES:
        phase = schedule.state[PHASE]
        if schedule.first[phase] != 0:
            return schedule.state[TICK_NS] + phase_ns(phase, schedule)
        schedule.state[PHASE] = phase + 1
    return NEVER_NS


@kernel
def send(slot, rx, tx, fd, address, size):
    """Send one datagram to a client; counted.

    Args:
        slot: its SLOT.

    A connected socket is not told where to: told, the kernel would look for the way every time.
    """
    flags = MSG_DONTWAIT | MSG_NOSIGNAL
    if slot.connected != 0 and slot.connected == rx.session:
        sent = sendto(fd, address, size, flags, 0, 0)
    else:
        sent = sendto(fd, address, size, flags, rx.sockaddr.ctypes.data, rx.sockaddr_bytes)
    if sent == size:
        tx.packets += 1
        tx.bytes += sent
    else:
        tx.errors += 1


@kernel
def _send_first(arena, lane):
    """Send the packet that ``next_due`` has found, if its session still is."""
    schedule = lane.schedule
    phase = schedule.state[PHASE]
    entry = schedule.first[phase]
    schedule.first[phase] = schedule.following[entry]
    slot, session = schedule.slots[entry], schedule.sessions[entry]
    rx = arena.rx[slot]
    present = rx.session == session and load_acquire(rx, "state") == _ACTIVE
    if present and lane.fds[slot] >= 0 and lane.sessions[slot] == session:
        address = schedule.data.ctypes.data + schedule.starts[entry]
        size = schedule.sizes[entry]
        send(arena.slots[slot], rx, arena.tx[slot], lane.fds[slot], address, size)


@kernel
def send_due(arena, counters, until_ns, lane):
    """Send what is due by now; what is not sent when the time has come waits for ``send_rest``.

    Args:
        counters: of ``shared.layout.LANE``.
        until_ns: CLOCK_MONOTONIC at which there is something else to do; one packet is sent
            in any case.

    Returns:
        ns that it took.
    """
    began = clock_ns(CLOCK_MONOTONIC, lane.timespec)
    now = began
    while next_due(lane.schedule) <= now:
        _send_first(arena, lane)
        counters.paced += 1
        now = clock_ns(CLOCK_MONOTONIC, lane.timespec)
        if now >= until_ns:
            break
    counters.work_ns += now - began
    counters.paced_ns += now - began
    return now - began


@kernel
def send_until(arena, counters, until_ns, lane):
    """Send each packet in its phase, asleep between, until there is something else to do.

    Returns:
        ns that it took, awake.
    """
    took = 0
    due = next_due(lane.schedule)
    while due < until_ns:
        sleep_until(due, lane.timespec)
        took += send_due(arena, counters, until_ns, lane)
        due = next_due(lane.schedule)
        if due <= clock_ns(CLOCK_MONOTONIC, lane.timespec):
            break  # the time is over
    return took


@kernel
def send_rest(arena, lane):
    """Send all that still waits, in order: its time is over."""
    while next_due(lane.schedule) < NEVER_NS:
        _send_first(arena, lane)
