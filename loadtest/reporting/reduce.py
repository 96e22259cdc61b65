"""Large arrays made small enough for a file, without a figure becoming wrong.

Histograms lose points, not truth: a reduced distribution is exact at every point it keeps.
Timelines lose resolution: neighbouring bins are added up.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from loadtest.clients.state import BIN_KINDS, BIN_RETURNED
from loadtest.reporting.result import Distribution, Spread, Timeline, pack

POINTS = 200
"""Of a distribution, at most two more; log-spaced between its first and last entry."""
MAX_BINS = 600
MIN_BINS = 60
MAX_CELLS = 120_000
"""Of a matrix clients × bins, before it is packed."""

Histogram = npt.NDArray[np.int64]


def quantile_us(histogram: Histogram, share: float) -> float:
    """Smallest bucket (µs) that at least this share of the entries do not exceed; 0 of nothing."""
    upto = np.cumsum(histogram)
    total = int(upto[-1]) if upto.size else 0
    if total == 0:
        return 0.0
    return float(np.searchsorted(upto, max(1, int(np.ceil(share * total)))))


def spread_of(histogram: Histogram, highest_us: float | None = None) -> Spread:
    """Quantiles of a histogram of µs; the maximum as measured, where that is known better."""
    count = int(histogram.sum())
    top = quantile_us(histogram, 1.0) if highest_us is None or not count else highest_us
    p50, p99, p999 = (quantile_us(histogram, share) for share in (0.5, 0.99, 0.999))
    return Spread(count=count, p50=p50, p99=p99, max=round(top, 1), p999=p999)


def spread_of_values(values: npt.NDArray[Any]) -> Spread:
    """Quantiles of values themselves, in their own unit."""
    if values.size == 0:
        return Spread()
    p50, p99, p999, top = np.quantile(values, (0.5, 0.99, 0.999, 1.0)).round(3).tolist()
    return Spread(count=int(values.size), p50=p50, p99=p99, max=top, p999=p999)


def distribution_of(histogram: Histogram, points: int = POINTS) -> Distribution:
    """The cumulative histogram at log-spaced edges, between the first and the last entry."""
    used = np.flatnonzero(histogram)
    if used.size == 0:
        return Distribution()
    upto = np.cumsum(histogram)
    first, last = int(used[0]), int(used[-1])
    inside = np.geomspace(max(1, first), max(1, last), points).round().astype(np.int64)
    kept = np.unique(np.concatenate(([max(0, first - 1)], inside, [last])))
    kept = kept[kept <= last]
    return Distribution(kept.tolist(), upto[kept].tolist())


def timeline_of(
    timeline: npt.NDArray[np.int32],
    bin_ns: int,
    window_s: float,
    playing: list[tuple[float, int]],
) -> Timeline:
    """Reduce (N, B, 6) counts.

    Args:
        timeline: as ``State`` has it.
        bin_ns: of its bins.
        window_s: what lies beyond holds nothing, and is cut off.
        playing: (second, clients in).
    """
    clients, bins = timeline.shape[:2]
    used = min(bins, max(1, int(np.ceil(window_s * 1e9 / max(1, bin_ns)))))
    wanted = int(np.clip(MAX_CELLS // max(1, clients), MIN_BINS, MAX_BINS))
    factor = -(-used // wanted)
    padded = np.zeros((clients, -(-used // factor) * factor, len(BIN_KINDS)), np.int64)
    padded[:, :used] = timeline[:, :used]
    if used < bins:  # what came a moment after the end counts there
        padded[:, used - 1] += timeline[:, used:].sum(axis=1)
    reduced = padded.reshape(clients, -1, factor, len(BIN_KINDS)).sum(axis=2)
    troubles = [kind for kind in range(len(BIN_KINDS)) if kind != BIN_RETURNED]
    return Timeline(
        bin_s=bin_ns * factor / 1e9,
        totals={kind: reduced[:, :, k].sum(axis=0).tolist() for k, kind in enumerate(BIN_KINDS)},
        clients=clients,
        bins=reduced.shape[1],
        matrices={BIN_KINDS[k]: pack(reduced[:, :, k]) for k in troubles if reduced[:, :, k].any()}
        | {"present": pack(reduced[:, :, BIN_RETURNED] > 0)},
        playing=[[round(at_s, 3), float(count)] for at_s, count in _thinned(playing)],
    )


def _thinned(playing: list[tuple[float, int]]) -> list[tuple[float, int]]:
    """At most MAX_BINS changes, first and last among them."""
    if len(playing) <= MAX_BINS:
        return playing
    kept = np.unique(np.linspace(0, len(playing) - 1, MAX_BINS).round().astype(int))
    return [playing[n] for n in kept]
