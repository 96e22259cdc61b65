"""Where the milliseconds go: one sample's way, from the times at which it was seen.

A signal of which every four samples in a row occur once (noise of 16 bits) travels in
*containers*: the cycles of JACK at both ends, and the datagrams between them. Each container
is known by the place in the signal of its first sample, and by its time. The time of sample
p at a container that begins with sample f is ``time + (p − f) / rate``, so that the way is
the same for all samples, also where containers begin at different ones::

    player's cycle      datagram leaves | arrives      leaves | arrives      listener's cycle
         |--- sender ---------|--- up ----|-- buffer, tick --|--- down ---|--- client ---|
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

STAGES = ("sender", "up", "hub", "down", "client")
"""Between the six points in order."""
REACH = 9600
"""Samples before the newest one played in which a resampled block is looked for: 0.2 s."""
LIKE = 0.5
"""Correlation of a block with its place, at least."""
_ROW = 4
"""Samples in a row that are looked for."""


@dataclass(frozen=True, slots=True)
class Containers:
    """What the signal was seen in at one point of its way.

    Attributes:
        firsts: (n,) int64: places of their first samples in the signal, rising.
        times_ns: (n,) int64.
    """

    firsts: npt.NDArray[np.int64]
    times_ns: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.firsts)


def containers(firsts: npt.ArrayLike, times_ns: npt.ArrayLike) -> Containers:
    """Sorted by place; of one place the first in time; those of no place (−1) left out."""
    places, times = np.asarray(firsts, np.int64), np.asarray(times_ns, np.int64)
    known = places >= 0
    places, times = places[known], times[known]
    order = np.lexsort((times, places))
    unique, where = np.unique(places[order], return_index=True)
    return Containers(unique, times[order][where])


class Signal:
    """Noise whose samples can be found again.

    Attributes:
        integers: (n,) int16, what is on the wire.
        played: (n,) float32, what JackTrip makes that of.
    """

    def __init__(self, frames: int, seed: int) -> None:
        draws = np.random.default_rng(seed)
        # Below half of full scale 16 bits go to the hub and back unchanged.
        values = draws.integers(1, 14_000, frames) * draws.choice((-1, 1), frames)
        self.integers: npt.NDArray[np.int16] = values.astype(np.int16)
        self.played: npt.NDArray[np.float32] = (values / 32767).astype(np.float32)
        rows = _rows(self.integers)
        self._order = np.argsort(rows, kind="stable")
        self._rows = rows[self._order]

    def find(self, starts: npt.NDArray[np.int16]) -> npt.NDArray[np.int64]:
        """Places of (n, 4) int16 samples in a row; −1 of those that do not occur."""
        wanted = _rows(starts.reshape(-1))[::_ROW]
        at = np.minimum(np.searchsorted(self._rows, wanted), len(self._rows) - 1)
        return np.where(self._rows[at] == wanted, self._order[at], -1)

    def near(
        self, blocks: npt.NDArray[np.int16], about: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """Places of (n, frames) int16 blocks that were resampled, to the nearest sample.

        A block of noise resembles its own place alone, even half a sample beside it, where the
        correlation is still 2/π.

        Args:
            about: the latest place that each may have; it is looked for up to `REACH` before.

        Returns:
            (n,) places; −1 of those that resemble none.
        """
        frames = blocks.shape[1]
        places = np.full(len(blocks), -1, np.int64)
        size = 1 << (REACH + 2 * frames).bit_length()
        for number, (block, latest) in enumerate(zip(blocks.astype(np.float64), about)):
            first = max(0, int(latest) - REACH)
            part = self.integers[first : int(latest) + frames].astype(np.float64)
            energy = float(np.sqrt(block @ block))
            if len(part) < frames or not energy:
                continue
            product = np.conj(np.fft.rfft(block, size)) * np.fft.rfft(part, size)
            likeness = np.fft.irfft(product, size)[: len(part) - frames + 1]
            at = int(np.argmax(likeness))
            there = part[at : at + frames]
            if likeness[at] >= LIKE * energy * float(np.sqrt(there @ there)):
                places[number] = first + at
        return places


def _rows(samples: npt.NDArray[np.int16]) -> npt.NDArray[np.int64]:
    """Each four samples in a row as one number."""
    whole = samples.astype(np.int64) & 0xFFFF
    count = len(whole) - _ROW + 1
    rows = np.zeros(count, np.int64)
    for k in range(_ROW):
        rows |= whole[k : k + count] << (16 * k)
    return rows


def as_integers(recorded: npt.NDArray[np.float32]) -> npt.NDArray[np.int16]:
    """What a client of 16 bits got, of what it gave to JACK."""
    return np.rint(recorded.astype(np.float64) * 32768).astype(np.int16)


def ways(points: list[Containers], frames: int, rate_hz: int) -> npt.NDArray[np.float64]:
    """(k, 5) ms: of every container heard at the last point, its sample's time in each stage.

    Args:
        points: the six points in order; containers of all hold `frames` samples.
        rate_hz: of the signal.
    """
    heard = points[-1]
    places = heard.firsts
    times = np.zeros((len(points), len(places)))
    complete = np.ones(len(places), np.bool_)
    for times_here, point in zip(times, points, strict=True):
        at = np.searchsorted(point.firsts, places, "right") - 1
        within = places - point.firsts[at]
        complete &= (at >= 0) & (within < frames)
        times_here[:] = point.times_ns[at] / 1e6 + within * 1000 / rate_hz
    found: npt.NDArray[np.float64] = np.diff(times[:, complete], axis=0).T
    return found


def usual(found: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(5,) mean of the stages over the middle half of all ways, by their sum.

    Unlike medians these add up; and like them, they do not know of the worst.
    """
    totals = found.sum(axis=1)
    low, high = np.percentile(totals, (25, 75))
    middle: npt.NDArray[np.float64] = found[(totals >= low) & (totals <= high)].mean(axis=0)
    return middle
