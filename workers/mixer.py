"""The mixer: the hub's clock and its buses.

With a JACK bridge its clock is JACK's, while there is one (``workers.jacktime``). Once a period it
reads every source's due samples, applies strip gains, sums the buses, publishes the tick, and (with
no separate lanes) sends every listener its mix. It never waits for a client: a source without
samples in time glides to silence and is counted, if it was not silent in a long gap already; a tick
that came too late is skipped and counted, never caught up. Only for receivers that the machine has
held up, as it may have the mixer, it waits for a moment (``workers.grace``).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shared.atomics import load_acquire, store_release
from shared.bundles import bundle
from shared.kernels import kernel
from shared.layout import CACHE_LINE, HISTOGRAM_EDGES_NS, STRIP_DEPTH, RxState
from shared.libc import (
    CLOCK_MONOTONIC,
    CLOCK_REALTIME,
    clock_ns,
    futex_wake,
    getpid,
    sleep_until,
)
from shared.messages import WorkerExit
from shared.prefetch import prefetch_read, prefetch_write
from shared.protocol import MAX_CHANNELS
from workers.endpoint import exchange
from workers.grace import SHUNNED_TICKS, saved, wait_for_receivers
from workers.hubtime import bucket, frames_to_ns, tick_after, tick_time
from workers.jacktime import keep_time, look_for_beat
from workers.lane import futex_address, hub_gone
from workers.mix import GAIN, add_to_bus, carry, fade_tail, glide, place, read_strip
from workers.orders import Orders, make_orders, read_orders
from workers.pacing import send_until
from workers.transmit import adopt, read_all_mail, serve_tick

LIFE_CHECKS_PER_S = 10
AHEAD = 4
"""Sources whose samples are fetched while one is mixed."""
FETCHED_CHANNELS, FETCHED_BYTES = 2, 512
"""Of each: the better part of a core's nearest cache is for those at hand."""
_ACTIVE, _ENDED = int(RxState.ACTIVE), int(RxState.ENDED)
_DONE, _HUB_GONE = int(WorkerExit.DONE), int(WorkerExit.HUB_GONE)


@bundle
class Sources(NamedTuple):
    """What the mixer remembers of each source; S = slots.

    Attributes:
        live: (S,) int64, strips it had in the last tick; 0: none.
        sessions: (S,) int64.
        placed: (S,) bool, mono, and placed between left and right in the last tick.
        gains: (S, 3) float64, at the end of the last tick, of channels 1, 2 and all others.
        last: (S, MAX_CHANNELS) float32, last sample of each channel.
        orders: Orders, where the gains are going.
    """

    live: npt.NDArray[np.int64]
    sessions: npt.NDArray[np.int64]
    placed: npt.NDArray[np.bool_]
    gains: npt.NDArray[np.float64]
    last: npt.NDArray[np.float32]
    orders: Orders


def make_sources(slots: int) -> Sources:
    """No source is live."""
    return Sources(
        live=np.zeros(slots, np.int64),
        sessions=np.zeros(slots, np.int64),
        placed=np.zeros(slots, np.bool_),
        gains=np.zeros((slots, 3), np.float64),
        last=np.zeros((slots, MAX_CHANNELS), np.float32),
        orders=make_orders(slots),
    )


@kernel
def _goal(gain, left, right, side):
    """Where a strip's gain goes, in channel 1 or 2 (side 0, 1) or another."""
    if side == 0:
        return gain * left
    return gain * right if side == 1 else gain


@kernel
def _are_there(gains, gain, left, right):
    """Whether a source's gains are all where they go."""
    return gains[0] == gain * left and gains[1] == gain * right and gains[2] == gain


@kernel
def _move_gains(sources, slot, gain, left, right):
    """One tick further to where a source's gains go."""
    left_ticks = sources.orders.left[slot]
    for side in range(3):
        before = sources.gains[slot, side]
        sources.gains[slot, side] = glide(before, _goal(gain, left, right, side), left_ticks)
    sources.orders.left[slot] = max(left_ticks - 1, 1)


@kernel
def _pass_unheard(arena, slot, sources):
    """A tick of a source that rests: what is ordered meanwhile takes its time all the same."""
    orders, rx = sources.orders, arena.rx[slot]
    order = orders.strips[orders.turn[0], slot]
    left, right, _ = place(arena.header[0], order, rx.channels)
    _move_gains(sources, slot, order[GAIN] * (1.0 - rx.cut), left, right)


@kernel
def _fetch(arena, now, slot, tick):
    """Have a source's samples of a tick, and its strips, come nearer while others are mixed.

    Nothing else would: each lies on memory pages of its own.
    """
    rx = arena.rx[slot]
    if rx.state != _ACTIVE:
        return
    frames, rings, strips = arena.header[0].period_frames, arena.rings, arena.strips
    at = (tick * frames) & (rx.ring_frames - 1)
    ring = np.int64(rings.ctypes.data) + slot * rings.strides[0] + at * 4
    strip = np.int64(strips.ctypes.data) + now * strips.strides[0] + slot * strips.strides[1]
    size = min(frames * 4, FETCHED_BYTES)
    for channel in range(min(rx.channels, FETCHED_CHANNELS)):
        for line in range(0, size, CACHE_LINE):
            prefetch_read(ring + channel * rings.strides[1] + line)
            prefetch_write(strip + channel * strips.strides[2] + line)


@kernel
def _read_source(arena, slot, tick, sources, buses):
    """Fill a source's strips for a tick from its ring, and add them to the buses."""
    header, rx, orders = arena.header[0], arena.rx[slot], sources.orders
    frames, now, own = header.period_frames, tick % STRIP_DEPTH, rx.channels
    order = orders.strips[orders.turn[0], slot]
    if sources.live[slot] == 0 or sources.sessions[slot] != rx.session:
        sources.gains[slot, :] = 0.0  # whoever comes, or comes back, is ramped in
        sources.placed[slot] = False
        orders.left[slot] = 1
    gain, left_ticks, gains = order[GAIN] * (1.0 - rx.cut), orders.left[slot], sources.gains[slot]
    left, right, placed = place(header, order, own)
    placed = placed or (sources.placed[slot] and left_ticks > 1)
    channels = own
    if placed or sources.placed[slot]:
        channels = 2  # in the tick after the last one, to glide back
    position, mask = tick * frames, rx.ring_frames - 1
    there = _are_there(gains, gain, left, right)
    for channel in range(channels):
        side, strip = min(channel, 2), arena.strips[now, slot, channel]
        ring, bus = arena.rings[slot, min(channel, own - 1)], buses[channel]
        if there:
            carry(ring, mask, position, frames, gains[side], strip, bus)
        else:
            to = glide(gains[side], _goal(gain, left, right, side), left_ticks)
            read_strip(ring, mask, position, frames, gains[side], to, strip)
            add_to_bus(strip, frames, bus)
        sources.last[slot, channel] = strip[frames - 1]
    if there:
        orders.left[slot] = max(left_ticks - 1, 1)
    else:
        _move_gains(sources, slot, gain, left, right)
    sources.placed[slot] = placed
    sources.sessions[slot] = rx.session
    sources.live[slot] = channels if placed else own
    return channels


@kernel
def _end_source(arena, slot, now, sources, buses):
    """A source that is missing: glide to silence."""
    frames, channels = arena.header[0].period_frames, sources.live[slot]
    for channel in range(channels):
        strip = arena.strips[now, slot, channel]
        fade_tail(sources.last[slot, channel], frames, strip)
        add_to_bus(strip, frames, buses[channel])
    sources.live[slot] = 0
    return channels


@kernel
def mix_tick(arena, tick, sources):
    """Read all sources of a tick into strips and buses; returns how many sounded.

    Args:
        arena: shared.arena.Arena.
        sources: Sources.
    """
    header, clock = arena.header[0], arena.clock[0]
    frames, now = header.period_frames, tick % STRIP_DEPTH
    needed = (tick + 1) * frames
    buses = arena.buses[now]
    buses[:, :] = 0.0
    read_orders(arena, now, sources.orders)
    sounding, high = 0, arena.control[0].slots_high
    for slot in range(high):
        if slot + AHEAD < high:
            _fetch(arena, now, slot + AHEAD, tick)
        rx = arena.rx[slot]
        state = load_acquire(rx, "state")
        has = state == _ACTIVE or state == _ENDED
        # asked before the watermark, which is raised before a rest ends
        resting = state == _ACTIVE and load_acquire(rx, "resting") != 0
        if has:
            has = load_acquire(rx, "watermark") >= needed
        if not has and (resting or sources.live[slot] == 0):
            arena.voices[now, slot] = 0
            clock.starved += state == _ACTIVE and not resting
            if sources.live[slot] != 0:
                _pass_unheard(arena, slot, sources)
            continue
        clock.starved += not has and state == _ACTIVE
        sounding += 1
        if has:
            channels = _read_source(arena, slot, tick, sources, buses)
        else:
            channels = _end_source(arena, slot, now, sources, buses)
        arena.voices[now, slot] = channels
        if channels == 1 and header.upmix != 0:
            add_to_bus(arena.strips[now, slot, 0], frames, buses[1])
    clock.mixed[now] = tick
    return sounding


@kernel
def run_mixer(arena, mail_fd, life_fd, sources, lane):
    """Tick until the hub ends.

    Args:
        arena: shared.arena.Arena.
        mail_fd: mail socket (only read when the mixer is its own lane).
        life_fd: life pipe.
        sources: Sources.
        lane: workers.transmit.Lane, of one slot's size or more when lanes are separate.

    Returns:
        A shared.messages.WorkerExit.
    """
    header, clock, lanes = arena.header[0], arena.clock[0], arena.header[0].lanes
    timespec, word = lane.timespec, futex_address(arena.clock)
    period_ns = frames_to_ns(header.period_frames, header.rate_hz)
    life_ticks = max(1, header.rate_hz // (LIFE_CHECKS_PER_S * header.period_frames))
    clock.started_ns = clock_ns(CLOCK_MONOTONIC, timespec)
    clock.pid = getpid()
    if lanes == 0:
        adopt(arena, 0, 0, lane)
    tick = tick_after(header, clock_ns(CLOCK_MONOTONIC, timespec))
    if clock.tick >= 0 and tick > clock.tick + 1:
        clock.missed += tick - clock.tick - 1  # while no mixer lived
    arena.jack[0].coupled, seen, steady = 0, np.int64(-1), 0
    patient, allowance_ns = tick, np.int64(0)
    while True:
        if lanes == 0:
            clock.work_ns += send_until(arena, arena.lanes[0], tick_time(header, tick), lane)
        if not keep_time(arena, tick, timespec):
            sleep_until(tick_time(header, tick), timespec)
        began = clock_ns(CLOCK_MONOTONIC, timespec)
        if load_acquire(arena.control[0], "stop") != 0:
            return _DONE
        late = began - tick_time(header, tick)
        if late >= period_ns:
            present = tick_after(header, began) - 1
            clock.missed += present - tick
            tick = present
            late = began - tick_time(header, tick)
        clock.lateness_ns += late
        clock.lateness_max_ns = max(clock.lateness_max_ns, late)
        clock.lateness[bucket(HISTOGRAM_EDGES_NS, late)] += 1
        allowance_ns = saved(header, allowance_ns)
        if tick >= patient:
            waited_ns, in_vain = wait_for_receivers(arena, tick, allowance_ns, timespec)
            patient = tick + SHUNNED_TICKS if in_vain else tick
            allowance_ns -= waited_ns
            clock.waited += waited_ns > 0
            clock.waited_ns += waited_ns
            began += waited_ns

        arena.jack[0].behinds[tick % STRIP_DEPTH] = arena.jack[0].behind
        clock.sources = mix_tick(arena, tick, sources)
        if header.endpoint != 0:
            exchange(arena, tick, lane)
        store_release(clock, "tick", tick)
        mixed = clock_ns(CLOCK_MONOTONIC, timespec)
        clock.mix_ns += mixed - began
        if lanes > 0:
            store_release(clock, "futex", tick)
            futex_wake(word)
        else:
            read_all_mail(arena, 0, mail_fd, lane)
            wall_us = clock_ns(CLOCK_REALTIME, timespec) // 1000
            counters = arena.lanes[0]
            counters.mail_ns += clock_ns(CLOCK_MONOTONIC, timespec) - mixed
            counters.listeners = serve_tick(arena, 0, 0, tick, wall_us, lane)
            counters.ticks += 1
            sent = clock_ns(CLOCK_MONOTONIC, timespec)
            counters.work_ns += sent - mixed
            counters.work[bucket(HISTOGRAM_EDGES_NS, sent - mixed)] += 1
            counters.sent_ns += sent - tick_time(header, tick)
        clock.ticks += 1
        work = clock_ns(CLOCK_MONOTONIC, timespec) - began
        clock.work_ns += work
        clock.work[bucket(HISTOGRAM_EDGES_NS, work)] += 1
        clock.overruns += work > period_ns
        if header.jack != 0 and arena.jack[0].coupled == 0:
            seen, steady = look_for_beat(arena, tick, seen, steady)
        if tick % life_ticks == 0 and hub_gone(life_fd, lane.polls, timespec):
            return _HUB_GONE
        tick += 1
