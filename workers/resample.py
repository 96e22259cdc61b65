"""Sound read at positions between the samples: a fractional polyphase resampler.

Two clocks that nominally agree differ by some parts per million, and others do not even
nominally agree. Sound of the one is read at the other's rate by a windowed sinc
(``workers.filters``), whose value for a position between two tabled phases is found on the
line between them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shared.kernels import filter_kernel, kernel
from workers.filters import MAX_TAPS, PHASES, TAPS

PHASE_BITS = 32
"""Positions are whole frames and 2^-32 of a frame."""
_BITS_BETWEEN = PHASE_BITS - (PHASES - 1).bit_length()
_PHASE_MASK = (1 << PHASE_BITS) - 1
_BETWEEN_MASK = (1 << _BITS_BETWEEN) - 1
_BETWEEN = np.float32(2.0**-_BITS_BETWEEN)
_ONE = 1 << PHASE_BITS


def make_scratch() -> npt.NDArray[np.float32]:
    """Scratch of ``resample``: two channels around the end of the line, (2, 2·MAX_TAPS) float32.

    As float64 for a line and a ring of that kind.
    """
    return np.zeros((2, 2 * MAX_TAPS), np.float32)


@filter_kernel
def _dot_pair(lower, upper, between, left, right):
    """One output of two channels, with coefficients between two phases: TAPS of them."""
    first, second = np.float32(0.0), np.float32(0.0)
    for k in range(TAPS):
        tap = lower[k] + between * (upper[k] - lower[k])
        first += tap * left[k]
        second += tap * right[k]
    return first, second


@filter_kernel
def _long_dot_pair(lower, upper, between, left, right):
    """As ``_dot_pair``, of any length."""
    first, second = np.float32(0.0), np.float32(0.0)
    for k in range(len(lower)):
        tap = lower[k] + between * (upper[k] - lower[k])
        first += tap * left[k]
        second += tap * right[k]
    return first, second


@kernel
def _run(
    left, right, start, phase, advance, count, tables, zero, taps, output, other, ring_mask, at
):  # fmt: skip
    """Outputs of two channels, as many as wanted or as the windows that end in left allow.

    Args:
        left, right: (frames,), contiguous in time.
        start: index of the first window's first frame.
        tables, zero, taps: the filter: where its table begins, and how long it is.

    Returns:
        (outputs written, start, phase) after them.
    """
    last, done = len(left) - taps, 0
    while done < count and start <= last:
        row = zero + (phase >> _BITS_BETWEEN) * taps
        between = np.float32(phase & _BETWEEN_MASK) * _BETWEEN
        target = (at + done) & ring_mask
        lower, upper = tables[row : row + taps], tables[row + taps : row + 2 * taps]
        if taps == TAPS:
            output[target], other[target] = _dot_pair(
                lower, upper, between, left[start : start + TAPS], right[start : start + TAPS]
            )
        else:
            output[target], other[target] = _long_dot_pair(
                lower, upper, between, left[start : start + taps], right[start : start + taps]
            )
        phase += advance
        start += phase >> PHASE_BITS
        phase &= _PHASE_MASK
        done += 1
    return done, start, phase


@kernel
def resample(
    line, mask, channels, frame, phase, step, count, filters, index, scratch, ring, ring_mask, at
):  # fmt: skip
    """Read a line at its own pace; the result does not depend on how the work is cut.

    Args:
        line: (>= channels, mask + 1) float32 (or float64), a ring of 2·taps frames or
            more: index = position & mask. Frames from frame − taps/2 + 1 up to the last
            output's whole frame + taps/2 must be known; no other one is heard.
        frame: position of the first output, whole frames; phase: and 2^-32 of a frame.
        step: line frames an output frame, beyond 1, in 2^-32 of a frame; above −2^32 (none)
            and below 2^37.
        count: frames wanted.
        filters: workers.filters.Filters; index: which of them. Its ``taps`` are meant above.
        scratch: of ``make_scratch``.
        ring: (>= channels, ring_mask + 1), of the line's kind; output i goes to
            (at + i) & ring_mask.

    Returns:
        (frame, phase) of the output after the last.
    """
    frames, advance = mask + 1, _ONE + step
    tables, zero, taps = filters.tables, filters.starts[index], filters.taps[index]
    seam = frames - taps  # the last window that does not wrap
    end, after = frame, phase
    for c in range(0, channels, 2):
        d = min(c + 1, channels - 1)
        left, right = line[c, :frames], line[d, :frames]
        end, after, done = frame, phase, 0
        while done < count:
            first = (end - (taps // 2 - 1)) & mask
            if first <= seam:
                some, then, after = _run(
                    left, right, first, after, advance, count - done,
                    tables, zero, taps, ring[c], ring[d], ring_mask, at + done,
                )  # fmt: skip
            else:
                for k in range(2 * taps):
                    scratch[0, k] = left[(seam + k) & mask]
                    scratch[1, k] = right[(seam + k) & mask]
                some, then, after = _run(
                    scratch[0, : 2 * taps], scratch[1, : 2 * taps], first - seam, after, advance,
                    count - done, tables, zero, taps, ring[c], ring[d], ring_mask, at + done,
                )  # fmt: skip
                then += seam
            end += then - first
            done += some
    return end, after
