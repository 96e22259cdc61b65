"""A limiter for a return stream: soft above −1 dBFS, never at full scale, without look-ahead.

A sample of size a beyond the threshold T is to leave with the size ::

    curve(a) = T + (C − T)·u / (1 + u),   u = (a − T) / (C − T),   C just below 1

which leaves the straight line without a corner and never reaches C. The gain that does that to
the loudest channel holds for all of them. It falls at once, sample by sample, so that nothing
ever gets past; it stays for HOLD_S after the last peak that was as high, so that a steady tone
meets a constant gain and is not bent; then it rises with the time constant RELEASE_S, and ends
at exactly 1: from there on every sample passes as it is. What it does to a first wave, which
it bends while the gain falls, and to steady tones is in docs/levels.md, and tested.
"""

from __future__ import annotations

import numpy as np

from shared.kernels import kernel
from workers.pcm import level

THRESHOLD = 10.0 ** (-1.0 / 20.0)
CEILING = 1.0 - 2.0**-23
HOLD_S = 0.025
"""Half a wave of 20 Hz."""
RELEASE_S = 0.2
ALIKE = 10.0 ** (0.1 / 20.0)
"""Peaks that would ask for a gain no more than this above the present one prolong its hold."""
DONE = 1e-5
"""A reduction below it is over."""


@kernel
def curve(size):
    """The size with which a sample of a size beyond THRESHOLD leaves."""
    beyond = (size - THRESHOLD) / (CEILING - THRESHOLD)
    return THRESHOLD + (CEILING - THRESHOLD) * (beyond / (1.0 + beyond))


@kernel
def _levels(samples, channels, count):
    """Peak and sum of squares of a block, over all channels."""
    peak, squares = 0.0, 0.0
    for channel in range(channels):
        highest, sum_of_squares = level(samples[channel], 0, count)
        peak = max(peak, highest)
        squares += sum_of_squares
    return peak, squares


@kernel
def limit(samples, channels, count, rate_hz, on, tx):
    """Limit a block in place, and measure it.

    Args:
        samples: (>= channels, >= count) float64.
        on: 0: what is reduced still rises back to 1, nothing is reduced any more.
        tx: TX record; ``limiter_cut`` is 1 − gain, ``limiter_hold`` frames left of the hold.

    Returns:
        Peak and sum of squares of what it leaves, over all channels.
    """
    peak, squares = _levels(samples, channels, count)
    if tx.limiter_cut == 0.0 and (on == 0 or peak <= THRESHOLD):
        return peak, squares
    gain, hold = 1.0 - tx.limiter_cut, tx.limiter_hold
    hold_frames = np.int64(HOLD_S * rate_hz)
    release = 1.0 - np.exp(-1.0 / (RELEASE_S * rate_hz))
    for i in range(count):
        size = 0.0
        for channel in range(channels):
            size = max(size, abs(samples[channel, i]))
        wanted = 1.0
        if on != 0 and size > THRESHOLD:
            wanted = curve(size) / size
        if hold > 0:
            hold -= 1
        else:
            gain += (1.0 - gain) * release
            if 1.0 - gain < DONE:
                gain = 1.0
        gain = min(gain, wanted)
        if wanted < min(1.0, gain * ALIKE):
            hold = hold_frames
        tx.limited_frames += gain < 1.0
        for channel in range(channels):
            samples[channel, i] *= gain
    tx.limiter_cut = 1.0 - gain
    tx.limiter_hold = hold
    return _levels(samples, channels, count)
