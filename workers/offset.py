"""A constant offset (DC) in what a client sends: found, and only then taken out.

It is found where a channel's mean is beyond FOUND, on the same side, in two seconds one after
the other. A tone cannot be mistaken for it: of a full-scale sine of 8 Hz or more no two such
means exist. Then a first-order high-pass at CUTOFF_HZ takes it out, faded in over RAMP_S, so
that the sound glides onto the zero line; it is faded out as slowly when the mean has been below
GONE for CALM_S. Whoever sends no offset is passed on bit by bit.

The filter is ``y = x − w·m``, m the running mean and w its weight, 0 to 1.
"""

from __future__ import annotations

import numpy as np

from shared.kernels import kernel

FOUND = 0.02
"""−34 dBFS."""
GONE = 0.01
CALM_S = 10
CUTOFF_HZ = 3.0
RAMP_S = 1.0
SETTLED = 1e-15
"""A running mean below it is 0, and never a denormal."""


@kernel
def observe(header, rx):
    """Take in a window of levels; judge when a second is full."""
    for channel in range(rx.channels):
        rx.offset_sums[channel] += rx.channel_sums[channel]
    rx.offset_frames += rx.window_frames
    if rx.offset_frames < rx.rate_hz:
        return
    rx.offset_pole = 1.0 - np.exp(-2.0 * np.pi * CUTOFF_HZ / header.rate_hz)
    rx.offset_step = 1.0 / (RAMP_S * header.rate_hz)
    treated = 0
    for channel in range(rx.channels):
        mean = rx.offset_sums[channel] / rx.offset_frames
        _judge(rx, channel, mean, rx.offset_before[channel])
        rx.offset_before[channel] = mean
        rx.offset_sums[channel] = 0.0
        treated += rx.offset_wanted[channel] > 0.0 or rx.offset_weights[channel] > 0.0
    rx.offsets = treated
    rx.offset_frames = 0


@kernel
def _judge(rx, channel, mean, before):
    """Whether a channel's offset is to be taken out from now on, or no more."""
    if abs(mean) > FOUND and abs(before) > FOUND and (mean > 0.0) == (before > 0.0):
        if rx.offset_wanted[channel] == 0.0 and rx.offset_weights[channel] == 0.0:
            rx.offset_means[channel] = mean
        rx.offset_wanted[channel] = 1.0
    if abs(mean) > GONE:
        rx.offset_calm[channel] = 0
        return
    rx.offset_calm[channel] += 1
    if rx.offset_calm[channel] >= CALM_S:
        rx.offset_wanted[channel] = 0.0


@kernel
def remove(rx, ring, first, count):
    """Take the offset out of hub samples that are about to be published.

    Args:
        ring: (MAX_CHANNELS, RING_FRAMES) float32, changed in place.
        first, count: which hub samples.
    """
    mask, pole, step = rx.ring_frames - 1, rx.offset_pole, rx.offset_step
    for channel in range(rx.channels):
        weight, wanted = rx.offset_weights[channel], rx.offset_wanted[channel]
        if weight == 0.0 and wanted == 0.0:
            continue
        mean, row = rx.offset_means[channel], ring[channel]
        for i in range(count):
            at = (first + i) & mask
            x = np.float64(row[at])
            mean += pole * (x - mean)
            if weight < wanted:
                weight = min(weight + step, wanted)
            elif weight > wanted:
                weight = max(weight - step, wanted)
            row[at] = np.float32(x - weight * mean)
        rx.offset_means[channel] = 0.0 if abs(mean) < SETTLED else mean
        rx.offset_weights[channel] = weight
