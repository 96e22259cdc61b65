"""What the numbers and arrival times of a hub's packets tell: loss, order, clock, lateness.

A packet's *lateness* is how much later it came than a straight line says, which runs through the
more punctual half of them: the hub's clock as the packets show it. A queue has to be so deep that
no more than one packet in 2000 comes too late, the rule by which the hub's own automatic queues
aim (docs/jitter.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MAY_BE_LATE = 1.0 / 2000.0
INTERRUPTION_S = 0.1
"""Nothing for so long is no loss that could be repaired, but a line that stands still."""
BLOCK_S = 0.25
LEAST_BLOCKS = 8
CREDIBLE_PPM = 20_000.0
"""No clock is further off."""
CERTAIN = 3.0
"""Standard errors."""

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Interruption:
    """A time in which nothing came: where in the take it began, and for how long."""

    at_s: float
    for_s: float


@dataclass(frozen=True, slots=True)
class Order:
    """What became of packets that were numbered one after the other.

    Attributes:
        received: different ones that came.
        lost: that did not, interruptions left out.
        runs: how many went missing together, and how often: {length: times}.
        reordered: that came after one with a higher number.
        duplicates: that came again.
        interruptions: of more than INTERRUPTION_S; what was lost then, or came after all.
    """

    received: int
    lost: int
    runs: dict[int, int]
    reordered: int
    duplicates: int
    interruptions: tuple[Interruption, ...]

    @property
    def lost_share(self) -> float:
        return self.lost / max(self.received + self.lost, 1)

    @property
    def longest_run(self) -> int:
        return max(self.runs, default=0)


@dataclass(frozen=True, slots=True)
class Lateness:
    """How late packets are, in seconds.

    Attributes:
        typical_s, rare_s: what half, and all but one in a hundred keep within.
        needed_s: what all but one in 2000 keep within.
        worst_s: of all.
    """

    typical_s: float
    rare_s: float
    needed_s: float
    worst_s: float


@dataclass(frozen=True, slots=True)
class Clock:
    """How much faster the hub's clock runs than ours.

    Attributes:
        ppm, error_ppm: parts in a million, and their standard error; None: too short a time.
    """

    ppm: float | None
    error_ppm: float | None


def unwrap(sequences: Sequence[int]) -> Numbers:
    """Numbers modulo 65536, in the order of their coming, as what they count."""
    numbers = np.empty(len(sequences), np.int64)
    highest = None
    for index, sequence in enumerate(sequences):
        if highest is None:
            highest = number = int(sequence)
        else:
            step = (int(sequence) - highest + 0x8000) % 0x10000 - 0x8000
            number = highest + step
            highest = max(highest, number)
        numbers[index] = number
    return numbers


def order(numbers: Numbers, at_ns: Numbers, period_s: float) -> Order:
    """Judge numbers in the order of their coming.

    Args:
        numbers: as from ``unwrap``.
        at_ns: when each came.
        period_s: between two packets.
    """
    if len(numbers) == 0:
        return Order(0, 0, {}, 0, 0, ())
    highest = np.maximum.accumulate(numbers)
    known, first = np.unique(numbers, return_index=True)
    is_first = np.zeros(len(numbers), np.bool_)
    is_first[first] = True
    behind = np.zeros(len(numbers), np.bool_)
    behind[1:] = numbers[1:] < highest[:-1]
    came_ns = at_ns[first]
    runs: dict[int, int] = {}
    waits_ns = np.diff(at_ns)
    still = np.flatnonzero(waits_ns >= INTERRUPTION_S * 1e9)
    standing = dict(zip(at_ns[still].tolist(), waits_ns[still].tolist(), strict=True))
    holes = np.flatnonzero(np.diff(known) > 1)
    for hole in holes.tolist():
        missing = int(known[hole + 1] - known[hole]) - 1
        began_ns, gap_ns = int(came_ns[hole]), int(came_ns[hole + 1] - came_ns[hole])
        if missing * period_s >= INTERRUPTION_S:
            if gap_ns >= INTERRUPTION_S / 2 * 1e9:  # otherwise the hub has only numbered anew
                standing.setdefault(began_ns, gap_ns)
        elif began_ns not in standing:
            runs[missing] = runs.get(missing, 0) + 1
    interruptions = [
        Interruption(round((began_ns - int(at_ns[0])) / 1e9, 3), round(gap_ns / 1e9, 3))
        for began_ns, gap_ns in sorted(standing.items())
    ]
    return Order(
        len(known),
        sum(length * times for length, times in runs.items()),
        runs,
        int(np.count_nonzero(behind & is_first)),
        int(len(numbers) - len(known)),
        tuple(interruptions),
    )


def follow(
    numbers: Numbers, at_ns: Numbers, period_s: float
) -> tuple[Clock, npt.NDArray[np.float64]]:
    """Fit the hub's clock, and judge each packet against it.

    Returns:
        The clock, and the lateness of each packet in seconds; below 0: it is early.
    """
    if len(numbers) < 4:
        return Clock(None, None), np.zeros(len(numbers))
    ideal_s = (numbers - numbers[0]) * period_s
    delay_s = (at_ns - at_ns[0]) / 1e9 - ideal_s
    slope, error = _slope(ideal_s, delay_s)
    clock = Clock(None, None)
    if slope is not None and error is not None and abs(slope) < CREDIBLE_PPM / 1e6:
        clock = Clock(round(-1e6 * slope, 2), round(1e6 * error, 2))
        if abs(slope) > CERTAIN * error:
            delay_s = delay_s - slope * ideal_s
    punctual = np.partition(delay_s, len(delay_s) // 2)[: len(delay_s) // 2 + 1]
    return clock, delay_s - float(np.mean(punctual))


def in_time(late_s: npt.NDArray[np.float64], period_s: float) -> npt.NDArray[np.float64]:
    """Lateness without the packets that a standing line has held up, until they are in time again:
    no queue waits for these."""
    kept = np.ones(len(late_s), np.bool_)
    again_s = max(period_s, 4.0 * float(np.median(np.abs(late_s)))) if len(late_s) else 0.0
    held = False
    for index, late in enumerate(late_s.tolist()):
        held = late >= INTERRUPTION_S or (held and late > again_s)
        kept[index] = not held
    return late_s[kept]


def _slope(
    ideal_s: npt.NDArray[np.float64], delay_s: npt.NDArray[np.float64]
) -> tuple[float | None, float | None]:
    """How the delay of the more punctual grows, and the standard error of that."""
    blocks = (ideal_s // BLOCK_S).astype(np.int64)
    times, delays = [], []
    for block in np.unique(blocks).tolist():
        inside = blocks == block
        early = np.sort(delay_s[inside])
        times.append(float(np.mean(ideal_s[inside])))
        delays.append(float(np.mean(early[: max(len(early) // 2, 1)])))
    if len(times) < LEAST_BLOCKS:
        return None, None
    time_s, level_s = np.array(times), np.array(delays)
    slope = _straight(time_s, level_s)[0]
    # once more without the blocks in which the path itself was longer
    for _ in range(3):
        slope, offset = _straight(time_s, level_s)
        off = np.abs(level_s - slope * time_s - offset)
        kept = off <= max(4.0 * 1.4826 * float(np.median(off)), 2e-5)
        if kept.all() or np.count_nonzero(kept) < LEAST_BLOCKS:
            break
        time_s, level_s = time_s[kept], level_s[kept]
    slope, offset = _straight(time_s, level_s)
    residue = level_s - slope * time_s - offset
    spread = float(np.sum(np.square(time_s - np.mean(time_s))))
    error = float(np.sqrt(np.sum(np.square(residue)) / (len(time_s) - 2) / spread))
    # a clock goes on all the time, and a path that has become longer did so once
    half = len(time_s) // 2
    parts = _straight(time_s[:half], level_s[:half]), _straight(time_s[half:], level_s[half:])
    unlike = max(abs(part[0] - slope) for part in parts)
    return slope, max(error, unlike / CERTAIN, 1e-7)


def _straight(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Slope and offset of the straight line through points."""
    slope, offset = np.polyfit(x, y, 1)
    return float(slope), float(offset)


def lateness(late_s: npt.NDArray[np.float64]) -> Lateness:
    """What shares of the packets keep within."""
    if len(late_s) == 0:
        return Lateness(0.0, 0.0, 0.0, 0.0)
    typical, rare, needed = np.quantile(late_s, [0.5, 0.99, 1.0 - MAY_BE_LATE], method="higher")
    worst = float(np.max(late_s))
    return Lateness(*(round(max(float(each), 0.0), 6) for each in (typical, rare, needed, worst)))
