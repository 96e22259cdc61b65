"""Mix kernels: sources to strips and buses, buses to one listener's channels.

``out = A·bus + B·own + Σ extra_s·strip_s`` is every patch mode in O(N): a listener pays
for the bus, for its own voice and for the sources whose level it changed.

    mode            A   B            extra of source s: wanted level − what the preset gives,
    1 loopback      0   1            which is A, and A + B for one's own voice
    2 fan-out       1  −1
    4 full mix      1   0
    5 none          0   0

Strips are float32, buses float64: a sum of 16- or 24-bit strips is exact, so that
subtracting one's own leaves nothing of it. Every coefficient moves in a straight line
over one period and is exact when it does not move.
"""

from __future__ import annotations

import numpy as np

from shared.kernels import kernel
from shared.layout import PatchMode

_LOOPBACK, _FAN_OUT, _FULL = (
    int(PatchMode.LOOPBACK),
    int(PatchMode.FAN_OUT_NO_SELF),
    int(PatchMode.FULL_MIX),
)

GAIN, PANNED, PAN_LEFT, PAN_RIGHT, BALANCE_LEFT, BALANCE_RIGHT = range(6)
"""Of what is ordered of a strip: ``workers.orders``."""

HALF_POWER = 0.5**0.5
"""-3 dB: of a mono source in each of two channels."""


@kernel
def preset(mode):
    """Coefficients (A of the bus, B of one's own voice) of a patch mode."""
    if mode == _LOOPBACK:
        return 0.0, 1.0
    if mode == _FAN_OUT:
        return 1.0, -1.0
    if mode == _FULL:
        return 1.0, 0.0
    return 0.0, 0.0


@kernel
def read_strip(ring, mask, position, frames, gain_from, gain_to, strip):
    """Copy a source's period out of its ring through its strip gain.

    Args:
        ring: (RING_FRAMES,) float32, one channel; mask: ring size in use − 1.
        position: hub sample of the period's first frame.
        gain_from, gain_to: the gain moves from one (just before the period) to the
            other (its last frame) in a straight line.
        strip: (frames,) float32, written.
    """
    at = position & mask
    first = min(frames, mask + 1 - at)
    for i in range(first):
        strip[i] = ring[at + i]
    for i in range(first, frames):
        strip[i] = ring[i - first]
    if gain_from == gain_to:
        if gain_to != 1.0:
            gain = np.float32(gain_to)
            for i in range(frames):
                strip[i] *= gain
    else:
        step = (gain_to - gain_from) / frames
        for i in range(frames):
            strip[i] *= np.float32(gain_from + step * (i + 1))


@kernel
def carry(ring, mask, position, frames, gain, strip, bus):
    """``read_strip`` at a gain that does not move and ``add_to_bus``, in one pass.

    Args:
        ring, mask, position: as of ``read_strip``.
        gain: float64.
        strip: (frames,) float32, written; bus: (frames,) float64, added to.
    """
    at, factor = position & mask, np.float32(gain)
    first = min(frames, mask + 1 - at)
    line = ring[at : at + first]  # whose index cannot be below 0: so the loop is vectorised
    for i in range(first):
        sample = line[i] * factor
        strip[i] = sample
        bus[i] += sample
    for i in range(first, frames):
        sample = ring[i - first] * factor
        strip[i] = sample
        bus[i] += sample


@kernel
def fade_tail(last, frames, strip):
    """A source that vanished: glide from its last sample to silence within the period.

    The cosine is a pointer's that is turned from frame to frame: where all sources vanish at once
    there is no time to ask for each.
    """
    across, along = np.cos(np.pi / frames), np.sin(np.pi / frames)
    cosine, sine = 1.0, 0.0
    for i in range(frames - 1):
        cosine, sine = cosine * across - sine * along, sine * across + cosine * along
        strip[i] = last * np.float32(0.5 + 0.5 * cosine)
    strip[frames - 1] = 0.0


@kernel
def add_to_bus(strip, frames, bus):
    """bus += strip; (frames,) float32 into (frames,) float64."""
    for i in range(frames):
        bus[i] += strip[i]


@kernel
def scale_bus(bus, frames, gain_from, gain_to, output):
    """output = gain · bus, the gain moving in a straight line; all (frames,) float64."""
    if gain_from == gain_to:
        for i in range(frames):
            output[i] = gain_to * bus[i]
    else:
        step = (gain_to - gain_from) / frames
        for i in range(frames):
            output[i] = (gain_from + step * (i + 1)) * bus[i]


@kernel
def add_strip(strip, frames, gain_from, gain_to, output):
    """output += gain · strip, the gain moving in a straight line."""
    if gain_from == gain_to:
        if gain_to != 0.0:
            for i in range(frames):
                output[i] += gain_to * strip[i]
    else:
        step = (gain_to - gain_from) / frames
        for i in range(frames):
            output[i] += (gain_from + step * (i + 1)) * strip[i]


@kernel
def add_four(strips, sources, channels, gains_from, gains_to, frames, moving, output):
    """output += gain · strip of four strips, one after the other; as ``add_strip`` each.

    The output is loaded and stored once for all four, which is what dense rows are made of.

    Args:
        strips: (S, MAX_CHANNELS, frames) float32.
        sources, channels: (4,) int64, which.
        gains_from, gains_to: (4,) float64.
        moving: whether any gain moves.
    """
    a, b = strips[sources[0], channels[0]], strips[sources[1], channels[1]]
    c, d = strips[sources[2], channels[2]], strips[sources[3], channels[3]]
    p, q, r, s = gains_from[0], gains_from[1], gains_from[2], gains_from[3]
    if moving:
        dp, dq = (gains_to[0] - p) / frames, (gains_to[1] - q) / frames
        dr, ds = (gains_to[2] - r) / frames, (gains_to[3] - s) / frames
        for i in range(frames):
            n = np.float64(i + 1)
            total = output[i] + (p + dp * n) * a[i]
            total += (q + dq * n) * b[i]
            total += (r + dr * n) * c[i]
            output[i] = total + (s + ds * n) * d[i]
    else:
        for i in range(frames):
            total = output[i] + p * a[i]
            total += q * b[i]
            total += r * c[i]
            output[i] = total + s * d[i]


@kernel
def glide(before, goal, left):
    """Where a gain is at the end of a tick that has so many ticks left to its goal."""
    if left <= 1 or before == goal:
        return goal
    return before + (goal - before) / left


@kernel
def fold(output, frames, factor):
    """A mono listener's mix of the first two channels, into the first."""
    left, right = output[0], output[1]
    for i in range(frames):
        left[i] = factor * (left[i] + right[i])


@kernel
def place(header, order, channels):
    """A source's gains in channels 1 and 2 of its strips beyond its strip gain.

    A mono source has a second strip only where it has a place of its own.

    Args:
        order: (6,) float64, of workers.orders.Orders.

    Returns:
        (gain in channel 1, gain in channel 2, whether a mono source has a place).
    """
    if channels == 1:
        if order[PANNED] != 0:
            return order[PAN_LEFT], order[PAN_RIGHT], True
        if header.mono_centre != 0:
            return HALF_POWER, HALF_POWER, True
        return 1.0, 1.0 if header.upmix != 0 else 0.0, False
    if order[PANNED] != 0:
        return order[BALANCE_LEFT], order[BALANCE_RIGHT], False
    return 1.0, 1.0, False


@kernel
def source_channel(channels, channel, upmix):
    """Which channel of a source is heard in a listener's channel; −1: none.

    Equal numbers, as JackTrip patches; with upmix a mono source also in channel 2.
    """
    if channel < channels:
        return channel
    if upmix != 0 and channels == 1 and channel == 1:
        return 0
    return -1
