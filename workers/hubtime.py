"""The hub's timeline: sample positions, ticks, and CLOCK_MONOTONIC.

Hub sample p is *due* at tick p // period; tick T is at ``t0 + T·period/rate``. All in
int64 without overflow for centuries.
"""

from __future__ import annotations

from shared.kernels import kernel
from shared.libc import SECOND_NS


@kernel
def frames_to_ns(frames, rate_hz):
    """Duration of so many frames in ns, rounded down."""
    return frames // rate_hz * SECOND_NS + frames % rate_hz * SECOND_NS // rate_hz


@kernel
def ns_to_frames(ns, rate_hz):
    """Whole frames within so many ns (rounded down, also below zero)."""
    return ns // SECOND_NS * rate_hz + ns % SECOND_NS * rate_hz // SECOND_NS


@kernel
def tick_time(header, tick):
    """CLOCK_MONOTONIC of a tick, ns."""
    return header.t0_ns + frames_to_ns(tick * header.period_frames, header.rate_hz)


@kernel
def tick_after(header, now_ns):
    """The first tick whose time is later than now."""
    frames = ns_to_frames(now_ns - header.t0_ns, header.rate_hz)
    tick = frames // header.period_frames + 1
    if tick_time(header, tick) <= now_ns:  # both conversions round down
        tick += 1
    return tick


@kernel
def bucket(edges_ns, value_ns):
    """Index of a value's histogram bucket: the first edge not below it."""
    for i in range(len(edges_ns)):
        if value_ns <= edges_ns[i]:
            return i
    return len(edges_ns)
