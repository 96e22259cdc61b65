"""How long to wait for a client's packets: what all but one in so many keep within.

A histogram of lateness that forgets: each packet weighs as much as its own time, and what
was MEMORY_S ago weighs 1/e of that. The wanted depth is the upper edge of the first bucket
beyond which no more than TARGET of the weight lies, so that it grows with the very packets
that were too late and shrinks as they are forgotten. Instead of all old weights shrinking,
that of new packets grows; the tail's weight is kept along, so that a packet costs the same
whatever the depth. The idea is NetEq's (WebRTC, ``modules/audio_coding/neteq/histogram.cc``).

Two things are late and no jitter: what was held up longer than anybody would wait for, and
what came after the path took another delay before ``workers.drift`` knew. The first is not
counted until packets are in time again; at a step of the second kind the histogram becomes
again what it was before. Where the clock begins anew, so does the histogram. Why this rule and
these constants: ``docs/jitter.md``.
"""

from __future__ import annotations

import numpy as np

from shared.kernels import kernel
from shared.layout import LATE_BUCKETS

TARGET = 1.0 / 3000.0
"""Share of packets that may come too late, so that in the long run it is below 1 in 2000."""
MEMORY_S, MEMORY_PACKETS = 20.0, 4000
"""The longer of the two: of few packets a rare one could not be told."""
PRIOR_S = 2e-3
"""Lateness that is expected of a client of which nothing is known."""
PRIOR_WEIGHT_S = 5.0 * TARGET
"""Weight of that: it stands for the first five seconds."""
STALL_S = 0.12
"""What is later was held up by a stall, and nobody would wait for it."""
KEEP_S = 1.0
UNITS_PER_S = 16_000.0
"""Buckets below OCTAVE are as wide as a unit; beyond that each octave has OCTAVE of them."""
OCTAVE = 32
_HEAVY = 1e6


@kernel
def bucket_of(units):
    """Bucket of a lateness in units (1 / UNITS_PER_S): what is early is in the first."""
    if not units > 0.0:
        return 0
    octave = 0
    while units >= 2 * OCTAVE and OCTAVE * octave < LATE_BUCKETS:
        units *= 0.5
        octave += 1
    return min(OCTAVE * octave + np.int64(units), LATE_BUCKETS - 1)


@kernel
def edge_of(bucket):
    """Upper edge of a bucket, in units, float64."""
    octave = max(bucket // OCTAVE - 1, 0)
    return np.float64((bucket - OCTAVE * octave + 1) << octave)


@kernel
def begin(rx, rate_hz):
    """Begin with a client: a modest guess, soon overruled by what is seen.

    Args:
        rx: record of the arena; its late_* fields, and clock_steps.
        rate_hz: of the hub.
    """
    rx.late_histogram[:] = 0.0
    guess = bucket_of(PRIOR_S * UNITS_PER_S - 0.5)
    rx.late_histogram[guess] = PRIOR_WEIGHT_S * rate_hz
    rx.late_weight = 1.0
    rx.late_stalled = 0
    rx.late_steps = rx.clock_steps
    _recount(rx)
    rx.late_bucket = guess
    rx.late_beyond = 0.0
    rx.late_wanted = edge_of(guess) * (rate_hz / UNITS_PER_S)
    _keep(rx)
    _keep(rx)


@kernel
def _recount(rx):
    """Sum up the histogram anew: its total, and the part beyond the bucket wanted."""
    total, beyond = 0.0, 0.0
    for i in range(LATE_BUCKETS):
        total += rx.late_histogram[i]
        if i > rx.late_bucket:
            beyond += rx.late_histogram[i]
    rx.late_total = total
    rx.late_beyond = beyond


@kernel
def _keep(rx):
    """Keep the histogram, and the one kept before that."""
    for i in range(LATE_BUCKETS):
        rx.late_before[1, i] = rx.late_before[0, i]
        rx.late_before[0, i] = rx.late_histogram[i]
    rx.late_kept = rx.late_weight


@kernel
def _restore(rx):
    """Forget what came since the histogram was kept, the time before last."""
    for i in range(LATE_BUCKETS):
        rx.late_histogram[i] = rx.late_before[1, i]
        rx.late_before[0, i] = rx.late_before[1, i]
    _recount(rx)


@kernel
def _lighten(rx):
    """Divide all weights by that of the next packet, which becomes 1."""
    scale = 1.0 / rx.late_weight
    for i in range(LATE_BUCKETS):
        rx.late_histogram[i] *= scale
        rx.late_before[0, i] *= scale
        rx.late_before[1, i] *= scale
    rx.late_weight = 1.0
    rx.late_kept *= scale
    _recount(rx)


@kernel
def observe(rx, lateness, rate_hz):
    """Note how late a packet was; ``rx.late_wanted`` follows.

    Args:
        rx: record of the arena, after ``drift.observe`` of the same packet.
        lateness: hub frames against the line of reference, float64; below 0: early.
        rate_hz: of the hub.
    """
    memory_s = max(MEMORY_S, MEMORY_PACKETS * rx.span / rate_hz)
    observe_for(rx, lateness, rate_hz, TARGET, memory_s)


@kernel
def observe_for(rx, lateness, rate_hz, target, memory_s):
    """As ``observe``, for another share of late packets and another memory."""
    if rx.clock_steps < 0:
        rx.clock_steps = 0
        begin(rx, rate_hz)
        return
    if rx.clock_steps != rx.late_steps:
        rx.late_steps = rx.clock_steps
        rx.late_stalled = 0
        _restore(rx)
        _settle(rx, rate_hz, target)
        return  # its lateness is against the line before the step
    if lateness > STALL_S * rate_hz:
        rx.late_stalled = 1
    elif rx.late_stalled != 0 and lateness <= rx.late_wanted:
        rx.late_stalled = 0
    if rx.late_stalled != 0:
        return
    bucket = bucket_of(lateness * (UNITS_PER_S / rate_hz))
    growth = 1.0 + rx.span / (memory_s * rate_hz)
    rx.late_weight *= growth
    weight = rx.late_weight * rx.span
    rx.late_histogram[bucket] += weight
    rx.late_total += weight
    if bucket > rx.late_bucket:
        rx.late_beyond += weight
    if rx.run_blocks == 0 and rx.late_weight > rx.late_kept * (1.0 + KEEP_S / memory_s):
        _keep(rx)
    if rx.late_weight > _HEAVY:
        _lighten(rx)
    _settle(rx, rate_hz, target)


@kernel
def _settle(rx, rate_hz, target):
    """Move the bucket wanted to where it leaves no more than the target beyond."""
    allowed = target * rx.late_total
    while rx.late_beyond > allowed and rx.late_bucket < LATE_BUCKETS - 1:
        rx.late_bucket += 1
        rx.late_beyond -= rx.late_histogram[rx.late_bucket]
    while rx.late_bucket > 0 and rx.late_beyond + rx.late_histogram[rx.late_bucket] <= allowed:
        rx.late_beyond += rx.late_histogram[rx.late_bucket]
        rx.late_bucket -= 1
    rx.late_wanted = edge_of(rx.late_bucket) * (rate_hz / UNITS_PER_S)
