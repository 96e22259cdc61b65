"""Sound read at positions between the samples: a fractional polyphase resampler.

Two clocks that nominally agree differ by some parts per million. Sound of the one is
read at the other's rate by a windowed sinc, whose value for a position between two
tabled phases is found on the line between them::

    frame      n−15 ...  n−1    n    n+1 ... n+16
    tap           0 ...   14   15     16 ...   31
                                 ^ n + phase: the window's middle

The cutoff is the Nyquist frequency itself: the two rates are so close that nothing
folds back but what lies within the step of it, and with that cutoff the sinc is zero at
every other sample, so that at whole frames what comes out is what went in, bit by bit.
Following J. O. Smith, "Digital Audio Resampling", 2002, and the Kaiser window of
J. F. Kaiser, "Nonrecursive digital filter design using the I0-sinh window", 1974.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from shared.kernels import filter_kernel, kernel

TAPS = 32
PHASES = 512
"""Tabled between two frames; a straight line between them is 120 dB right at 10 kHz."""
LOOKAHEAD = TAPS // 2
"""Frames after the position that must be known: the delay of the filter."""
KAISER_BETA = 11.0
"""Images 110 dB down; the passband reaches to 0.4 of the rate."""

PHASE_BITS = 32
"""Positions are whole frames and 2^-32 of a frame."""
_BITS_BETWEEN = PHASE_BITS - (PHASES - 1).bit_length()
_PHASE_MASK = (1 << PHASE_BITS) - 1
_BETWEEN_MASK = (1 << _BITS_BETWEEN) - 1
_BETWEEN = np.float32(2.0**-_BITS_BETWEEN)
_ONE = 1 << PHASE_BITS


@functools.cache
def filter_table() -> npt.NDArray[np.float32]:
    """Coefficients of every phase; made once, and shared with processes that are forked.

    Returns:
        (PHASES + 1, TAPS) float32: tap k of row p weighs input frame n − 15 + k for the
        output at n + p / PHASES. Rows sum to 1; rows 0 and PHASES are exact deltas.
    """
    phase = np.arange(PHASES + 1)[:, None] / PHASES
    distance = np.arange(TAPS)[None, :] - (LOOKAHEAD - 1) - phase
    inside = np.sqrt(np.maximum(0.0, 1.0 - (distance / LOOKAHEAD) ** 2))
    table = np.sinc(distance) * np.i0(KAISER_BETA * inside) / np.i0(KAISER_BETA)
    table /= table.sum(axis=1, keepdims=True)  # a constant stays one at every phase
    table[[0, PHASES]] = 0.0
    table[0, LOOKAHEAD - 1] = 1.0
    table[PHASES, LOOKAHEAD] = 1.0
    return table.astype(np.float32)


def make_scratch() -> npt.NDArray[np.float32]:
    """Scratch of ``resample``: two channels around the end of the line, (2, 2·TAPS) float32.

    As float64 for a line and a ring of that kind.
    """
    return np.zeros((2, 2 * TAPS), np.float32)


@filter_kernel
def _dot_pair(lower, upper, between, left, right):
    """One output of two channels, with coefficients between two phases."""
    first, second = np.float32(0.0), np.float32(0.0)
    for k in range(TAPS):
        tap = lower[k] + between * (upper[k] - lower[k])
        first += tap * left[k]
        second += tap * right[k]
    return first, second


@kernel
def _run(left, right, start, phase, advance, count, table, output, other, ring_mask, at):
    """Outputs of two channels, as many as wanted or as the windows that end in left allow.

    Args:
        left, right: (frames,) float32, contiguous in time.
        start: index of the first window's first frame.

    Returns:
        (outputs written, start, phase) after them.
    """
    last, done = len(left) - TAPS, 0
    while done < count and start <= last:
        row = phase >> _BITS_BETWEEN
        between = np.float32(phase & _BETWEEN_MASK) * _BETWEEN
        target = (at + done) & ring_mask
        output[target], other[target] = _dot_pair(
            table[row], table[row + 1], between,
            left[start : start + TAPS], right[start : start + TAPS],
        )  # fmt: skip
        phase += advance
        start += phase >> PHASE_BITS
        phase &= _PHASE_MASK
        done += 1
    return done, start, phase


@kernel
def resample(
    line, mask, channels, frame, phase, step, count, table, scratch, ring, ring_mask, at
):  # fmt: skip
    """Read a line at its own pace; the result does not depend on how the work is cut.

    Args:
        line: (>= channels, mask + 1) float32 (or float64), a ring of 2·TAPS frames or
            more: index = position & mask. Frames from frame − 15 up to the last output's
            whole frame + LOOKAHEAD must be known; no other one is heard.
        frame: position of the first output, whole frames; phase: and 2^-32 of a frame.
        step: line frames an output frame, beyond 1, in 2^-32 of a frame; |step| < 2^24.
        count: frames wanted.
        table: of ``filter_table``.
        scratch: of ``make_scratch``.
        ring: (>= channels, ring_mask + 1), of the line's kind; output i goes to
            (at + i) & ring_mask.

    Returns:
        (frame, phase) of the output after the last.
    """
    frames, advance = mask + 1, _ONE + step
    seam = frames - TAPS  # the last window that does not wrap
    end, after = frame, phase
    for c in range(0, channels, 2):
        d = min(c + 1, channels - 1)
        left, right = line[c, :frames], line[d, :frames]
        end, after, done = frame, phase, 0
        while done < count:
            first = (end - (LOOKAHEAD - 1)) & mask
            if first <= seam:
                some, then, after = _run(
                    left, right, first, after, advance, count - done,
                    table, ring[c], ring[d], ring_mask, at + done,
                )  # fmt: skip
            else:
                for k in range(2 * TAPS):
                    scratch[0, k] = left[(seam + k) & mask]
                    scratch[1, k] = right[(seam + k) & mask]
                some, then, after = _run(
                    scratch[0], scratch[1], first - seam, after, advance, count - done,
                    table, ring[c], ring[d], ring_mask, at + done,
                )  # fmt: skip
                then += seam
            end += then - first
            done += some
    return end, after
