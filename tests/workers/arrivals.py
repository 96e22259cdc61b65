"""When a client's packets come: traces for the clock and the depth, and runs of their kernels."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from shared.kernels import kernel
from shared.layout import RX
from workers import depth, drift

Doubles = npt.NDArray[np.float64]

RATE = 48000
MS = RATE / 1e3
FIRST = 5000.0
"""Hub frame at which packet 0 leaves; odd enough."""


class Trace(NamedTuple):
    """Packets in order of arrival.

    Attributes:
        numbers: (n,) int64; arrivals: (n,) float64, hub frames; frames: a packet.
    """

    numbers: npt.NDArray[np.int64]
    arrivals: Doubles
    frames: int

    @property
    def seconds(self) -> Doubles:
        """When each came, from the first packet's leaving on."""
        return (self.arrivals - FIRST) / RATE

    def at(self, second: float) -> int:
        """Index of the first packet from then on."""
        return int(np.searchsorted(self.seconds, second))


class Course(NamedTuple):
    """What the kernels said after each packet, each (n,) float64."""

    lateness: Doubles
    ratio: Doubles
    sigma: Doubles
    certain: Doubles
    wanted: Doubles


def sent(seconds: float, frames: int = 128, ppm: float = 0.0) -> tuple[Any, Doubles]:
    """Packet numbers, and when the client sends them, by the hub's clock."""
    numbers = np.arange(int(seconds * RATE / frames))
    return numbers, FIRST + numbers * frames / (1 + ppm * 1e-6)


def delayed(
    seconds: float,
    delay: Doubles | float,
    *,
    frames: int = 128,
    ppm: float = 0.0,
    ordered: bool = False,
) -> Trace:
    """A stream whose packets take so long, frames; ordered: none overtakes another."""
    numbers, at = sent(seconds, frames, ppm)
    at = at + delay
    if ordered:
        at = np.maximum.accumulate(at)
    order = np.argsort(at, kind="stable")
    return Trace(numbers[order], at[order], frames)


def jitter(kind: str, count: int, rng: np.random.Generator) -> Doubles:
    """Delays of 1 ms of jitter, or next to none.

    Args:
        kind: "quiet", "uniform", "gaussian" (0.3 ms: "narrow"), "exponential", or "pareto"; the
            last two are one-sided with a long tail.
    """
    if kind == "quiet":
        return rng.uniform(0, 0.05 * MS, count)
    if kind == "uniform":
        return rng.uniform(0, MS, count)
    if kind == "gaussian":
        return rng.normal(0, MS, count)
    if kind == "narrow":
        return rng.normal(0, 0.3 * MS, count)
    if kind == "exponential":
        return rng.exponential(MS, count)
    return np.minimum(0.1 * MS * rng.pareto(1.5, count), 30 * MS)


def machine_noise(
    seconds: float, rng: np.random.Generator, *, frames: int = 128, ppm: float = 0.0
) -> Trace:
    """A sender on a noisy virtual machine: every other second it gets no CPU for a while,
    mostly for 1 to 5 ms, at times for 300, and then sends all that is due."""
    numbers, at = sent(seconds, frames, ppm)
    at = at + rng.exponential(0.03 * MS, len(at))
    starts = np.sort(rng.integers(0, len(at), rng.poisson(seconds / 2)))
    for start in starts.tolist():
        end = at[start] + min(MS * rng.pareto(1.0), 300 * MS)
        held = slice(start, int(np.searchsorted(at, end)))
        at[held] = np.maximum(at[held], end + 0.5 * np.arange(held.stop - held.start))
    return Trace(numbers, np.maximum.accumulate(at), frames)


@kernel
def observe_all(rx, numbers, arrivals, rate_hz, course):  # type: ignore[no-untyped-def]
    """Let clock and depth see packets; ``Course`` is what they say of each."""
    for i in range(len(numbers)):
        course[4, i] = rx.late_wanted
        course[0, i] = drift.observe(rx, numbers[i], arrivals[i], rate_hz)
        course[1, i] = rx.clock_ratio
        course[2, i] = rx.clock_sigma
        course[3, i] = rx.clock_certain
        depth.observe(rx, course[0, i], rate_hz)


def client(frames: int) -> Any:
    """A record for a client's packets of that size."""
    records = np.zeros(1, RX).view(np.recarray)
    records[0]["frames"] = records[0]["span"] = frames
    return records[0]


def follow(trace: Trace, rate_hz: int = RATE) -> tuple[Any, Course]:
    """Let clock and depth see a whole trace; what is wanted is from before each packet."""
    rx = client(trace.frames)
    drift.begin(rx, int(trace.numbers[0]), float(trace.arrivals[0]))
    depth.begin(rx, rate_hz)
    course = np.empty((5, len(trace.numbers)))
    observe_all(rx, trace.numbers.astype(np.int64), trace.arrivals, rate_hz, course)
    return rx, Course(*course)
