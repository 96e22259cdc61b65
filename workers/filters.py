"""The resampler's filters: one for clocks that drift, one for each pair of sample rates.

A filter is a Kaiser-windowed sinc, tabled at PHASES positions between two frames of the
sound that is read::

    frame      n−15 ...  n−1    n    n+1 ... n+16
    tap           0 ...   14   15     16 ...   31
                                 ^ n + phase: the window's middle

For clocks of nominally one rate the cutoff is the Nyquist frequency itself: the two rates
are so close that nothing folds back but what lies within the step of it, and with that
cutoff the sinc is zero at every other sample, so that at whole frames what comes out is
what went in, bit by bit.

Between two rates the cutoff is the Nyquist frequency of the lower, and the slope about it
is as wide as leaves what is below *pass* untouched by the filter and by what it folds::

    level  ────────────╮          pass: 20 kHz; of a rate below 44.1 kHz the same part,
                       │╲         20 / 44.1; of one above 48 kHz 20 / 48
                       │ ╲
                     pass │ lower − pass
                      lower / 2

After J. O. Smith, "Digital Audio Resampling", 2002, and J. F. Kaiser, "Nonrecursive digital
filter design using the I0-sinh window", 1974. Figures: ``docs/formats.md``.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shared.bundles import bundle
from shared.kernels import kernel

PHASES = 512
"""Tabled between two frames; a straight line between them is 120 dB right at 10 kHz."""
TAPS = 32
"""Of the filter for clocks of one rate."""
LOOKAHEAD = TAPS // 2
"""Frames after the position that it must know: its delay."""
KAISER_BETA = 11.0
"""Its images are 110 dB down; its passband reaches to 0.4 of the rate."""

IMAGES_DB = 93.0
"""By so much are down what a conversion adds below its passband's edge, and aliases there."""
TAPS_STEP = 8
"""Filters are of whole vectors."""
MAX_TAPS = 640
"""Of the longest filter; from 192 to 8 kHz the slope is wider than it should be."""
RATES_HZ = (
    8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000, 176400, 192000
)  # fmt: skip
"""Rates with filters of their own: those of sound cards."""
MIN_RATE_HZ, MAX_RATE_HZ = RATES_HZ[0], RATES_HZ[-1]


@bundle
class Filters(NamedTuple):
    """All filters that sound of a hub may need, one way; the first is for the hub's own rate.

    Attributes:
        rates_hz: (n,) int64, of the other side.
        taps: (n,) int64, a multiple of TAPS_STEP; half of them are the filter's look-ahead.
        starts: (n,) int64, where each filter's table begins in ``tables``.
        tables: (sum of (PHASES + 1)·taps,) float32, row by row; see ``filter_table``.
    """

    rates_hz: npt.NDArray[np.int64]
    taps: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    tables: npt.NDArray[np.float32]


@functools.cache
def filter_table() -> npt.NDArray[np.float32]:
    """Coefficients of every phase, for clocks of one rate.

    Returns:
        (PHASES + 1, TAPS) float32: tap k of row p weighs input frame n − 15 + k for the
        output at n + p / PHASES. Rows sum to 1; rows 0 and PHASES are exact deltas.
    """
    table = _windowed_sinc(TAPS, 1.0, KAISER_BETA)
    table[[0, PHASES]] = 0.0
    table[0, LOOKAHEAD - 1] = 1.0
    table[PHASES, LOOKAHEAD] = 1.0
    return table.astype(np.float32)


def passband_hz(lower_hz: float) -> float:
    """Up to where a conversion leaves sound as it is, by the lower of its two rates."""
    return min(lower_hz * 20 / 44.1, max(20_000.0, lower_hz * 20 / 48))


def conversion_table(from_hz: int, to_hz: int) -> npt.NDArray[np.float32]:
    """As ``filter_table``, for sound of one rate that is read at another.

    Returns:
        (PHASES + 1, taps) float32: tap k of row p weighs input frame n − taps/2 + 1 + k.
    """
    lower = min(from_hz, to_hz)
    slope = (lower - 2 * passband_hz(lower)) / from_hz
    # Kaiser's formulas for the length that an attenuation takes, and for its window
    least = (IMAGES_DB - 8.0) / (2.285 * 2.0 * math.pi * slope)
    taps = min(TAPS_STEP * math.ceil(least / TAPS_STEP), MAX_TAPS)
    reached_db = max(8.0 + 2.285 * 2.0 * math.pi * slope * taps, IMAGES_DB)
    return _windowed_sinc(taps, lower / from_hz, 0.1102 * (reached_db - 8.7)).astype(np.float32)


def _windowed_sinc(taps: int, cutoff: float, beta: float) -> npt.NDArray[np.float64]:
    """(PHASES + 1, taps); cutoff in parts of the Nyquist frequency."""
    phase = np.arange(PHASES + 1)[:, None] / PHASES
    distance = np.arange(taps)[None, :] - (taps // 2 - 1) - phase
    inside = np.sqrt(np.maximum(0.0, 1.0 - (distance / (taps // 2)) ** 2))
    table: npt.NDArray[np.float64] = np.sinc(cutoff * distance) * np.i0(beta * inside)
    table /= table.sum(axis=1, keepdims=True)  # a constant stays one at every phase
    return table


def _filters(hub_hz: int, tables: dict[int, npt.NDArray[np.float32]]) -> Filters:
    """Put tables of other rates together, after that of the hub's own."""
    tables = {hub_hz: filter_table()} | tables
    sizes = [table.size for table in tables.values()]
    return Filters(
        rates_hz=np.array(list(tables), np.int64),
        taps=np.array([table.shape[1] for table in tables.values()], np.int64),
        starts=np.cumsum([0, *sizes[:-1]], dtype=np.int64),
        tables=np.concatenate([table.ravel() for table in tables.values()]),
    )


@functools.cache
def filters_into(hub_hz: int) -> Filters:
    """Filters for what clients of all rates send; made once, shared with forked processes."""
    others = [rate for rate in RATES_HZ if rate != hub_hz]
    return _filters(hub_hz, {rate: conversion_table(rate, hub_hz) for rate in others})


@functools.cache
def filters_from(hub_hz: int) -> Filters:
    """Filters for what clients of all rates are sent; made once, as above."""
    others = [rate for rate in RATES_HZ if rate != hub_hz]
    return _filters(hub_hz, {rate: conversion_table(hub_hz, rate) for rate in others})


@kernel
def choose_filter(filters, rate_hz):
    """Index of the filter for a client's rate: 0 if it is the hub's, else the nearest other's.

    Args:
        filters: Filters.
        rate_hz: of the client, nominally or as measured, MIN_RATE_HZ..MAX_RATE_HZ.
    """
    rate = np.float64(rate_hz)
    if rate == filters.rates_hz[0]:
        return np.int64(0)
    best, least = np.int64(1), np.inf
    for i in range(1, len(filters.rates_hz)):
        apart = max(rate / filters.rates_hz[i], filters.rates_hz[i] / rate)
        if apart < least:
            best, least = np.int64(i), apart
    return best
