"""Twins of ``workers.drift`` and ``workers.depth``: matrices, lists and sorting, in plain NumPy."""

from __future__ import annotations

from math import sqrt

import numpy as np
import numpy.typing as npt

from shared.layout import BLOCK_PACKETS, LATE_BUCKETS
from workers.depth import (
    KEEP_S,
    MEMORY_PACKETS,
    MEMORY_S,
    PRIOR_S,
    PRIOR_WEIGHT_S,
    STALL_S,
    TARGET,
    UNITS_PER_S,
)
from workers.drift import (
    BLOCK_S,
    CERTAIN_RATIO,
    CERTAIN_S,
    CERTAIN_SIGMAS,
    CHANCE_SIGMAS,
    FIRST_NOISE_S,
    GATE_S,
    GATE_SIGMAS,
    HALF_HIGH,
    HALF_LOW,
    LIKELY_S,
    MEMORY_BLOCKS,
    NOISE_FLOOR_S,
    PRIOR_RATIO,
    RUN_MEMORY,
    STEP_S,
    TRIAL_GROWTH,
    TRIAL_LIMIT_S,
    TRIAL_S,
    UNLIKE,
    WANDER_S,
)

Doubles = npt.NDArray[np.float64]


class ClockTwin:
    """A client's clock: state (offset in frames, slowness) and its covariance."""

    def __init__(self, frames: int, rate_hz: float, number: int, arrival: float) -> None:
        self.frames, self.rate = frames, rate_hz
        self.number = number
        self.state = np.array([arrival, 0.0])
        self.covariance = np.diag([0.0, PRIOR_RATIO**2])
        self.errors: list[float] = []
        self.residue = self.alike = 0.0
        self.block: list[tuple[float, int]] = []
        self.began = 0.0
        self.run: list[float] = []
        self.run_began = 0.0
        self.blocks = self.steps = 0
        self.certain = False
        self.moved = 0.0
        self.begin_trial(arrival)

    @property
    def ratio(self) -> float:
        """Client frames a hub frame, beyond 1."""
        return float(1 / (1 + self.state[1]) - 1)

    def begin_trial(self, arrival: float) -> None:
        """Evidence begins here."""
        self.trial_began, self.trial_origin = arrival, self.moved
        self.looks: list[float] = []
        self.likely = False

    def reference(self, number: int) -> float:
        """Expected arrival."""
        return float(self.state[0] + (number - self.number) * self.frames * (1 + self.state[1]))

    def observe(self, number: int, arrival: float) -> float:
        """Lateness of a packet."""
        lateness = arrival - self.reference(number)
        if not self.block:
            self.began = arrival
        self.block.append((lateness, number))
        if len(self.block) == BLOCK_PACKETS or arrival - self.began >= BLOCK_S * self.rate:
            self.close(arrival)
            self.block = []
        return lateness

    def close(self, arrival: float) -> None:
        """Correct by a block."""
        late = sorted(lateness for lateness, _ in self.block)
        half = late[: (len(late) + 1) // 2]
        error = float(np.mean(half))
        if self.blocks == 0:
            self.residue = max(half[-1] - half[0], FIRST_NOISE_S * self.rate) ** 2
            self.covariance[0, 0] = self.residue
            self.state[0] += error
            self.blocks = 1
            return
        steps = round(sum(number - self.number for _, number in self.block) / len(self.block))
        if steps <= 0:
            return
        frames = steps * self.frames
        move = np.array([[1.0, frames], [0.0, 1.0]])
        wander = (
            WANDER_S
            / self.rate
            * np.array([[frames**3 / 3, frames**2 / 2], [frames**2 / 2, frames]])
        )
        predicted = move @ self.covariance @ move.T + wander
        alike = max(self.alike, 0.0)
        noise = max(self.residue - alike, (NOISE_FLOOR_S * self.rate) ** 2)
        chance = CHANCE_SIGMAS / sqrt(min(self.blocks, MEMORY_BLOCKS))
        predicted[0, 0] += max(alike - chance * self.residue, 0.0)
        gate = GATE_SIGMAS * sqrt(predicted[0, 0] + noise) + GATE_S * self.rate
        if abs(error) > gate:
            self.outlier(error, arrival)
            return
        self.run = []
        before = self.state[0] + frames
        gain = predicted[:, 0] / (predicted[0, 0] + noise)
        self.state = move @ self.state + np.array([frames, 0.0]) + gain * error
        self.covariance = predicted - np.outer(gain, predicted[0])
        self.number += steps
        self.moved -= self.state[0] - before
        self.blocks += 1
        share = 1 / min(self.blocks + 2, MEMORY_BLOCKS)
        last = self.errors[-1] if self.errors else 0.0
        self.residue += share * (error**2 - self.residue)
        self.alike += share * (error * last - self.alike)
        self.errors.append(error)
        self.look(arrival)

    def outlier(self, error: float, arrival: float) -> None:
        """A block far off."""
        if not self.run:
            self.run_began = arrival
        self.run.append(error)
        if arrival - self.run_began < STEP_S * self.rate:
            return
        mean = square = 0.0
        for i, each in enumerate(self.run):
            share = 1 / min(max(i, 1), RUN_MEMORY)
            mean += share * (each - mean)
            square += share * (each**2 - square)
        variance = max(square - mean**2, 0.0)
        self.state[0] += mean
        self.covariance[0, 0] += variance + self.residue
        self.residue = max(self.residue, variance)
        self.errors.append(0.0)
        self.steps += 1
        self.run = []
        self.begin_trial(arrival)

    def look(self, arrival: float) -> None:
        """Is the drift certain?"""
        age = arrival - self.trial_began
        due_s = TRIAL_S * TRIAL_GROWTH ** len(self.looks)
        if age < due_s * self.rate:
            return
        way = self.moved - self.trial_origin
        self.looks.append(way)
        steady = False
        if len(self.looks) > 2 and way != 0.0:
            ratio, sigma, pace = self.ratio, sqrt(self.covariance[1, 1]), way / age
            steady = (
                abs(way) >= LIKELY_S * self.rate
                and abs(ratio) > max(CERTAIN_RATIO, CERTAIN_SIGMAS * sigma)
                and abs(ratio / pace - 1) < UNLIKE
                and HALF_LOW < self.looks[-3] / way < HALF_HIGH
            )
        if steady and self.likely and abs(way) >= CERTAIN_S * self.rate:
            self.certain = True
        self.likely = steady
        if TRIAL_S * TRIAL_GROWTH ** len(self.looks) > TRIAL_LIMIT_S:
            self.begin_trial(arrival)


def bucket_edges() -> Doubles:
    """Upper edges of the buckets of lateness, units: 64 of one unit, then 32 to an octave."""
    edges = [float(k + 1) for k in range(64)]
    while len(edges) < LATE_BUCKETS:
        width = edges[-1] / 32
        edges += [edges[-1] + width * (k + 1) for k in range(32)]
    return np.array(edges)


class DepthTwin:
    """How long to wait: every packet ever seen is kept, with its weight and when it came."""

    def __init__(self, frames: int, rate_hz: float) -> None:
        self.frames, self.rate = frames, rate_hz
        self.memory_s = max(MEMORY_S, MEMORY_PACKETS * frames / rate_hz)
        self.seen = [(0.0, PRIOR_WEIGHT_S * rate_hz, PRIOR_S * UNITS_PER_S - 0.5)]
        """Time, weight, lateness in units."""
        self.time = self.kept_at = 0.0
        self.kept = [1, 1]
        self.stalled = False
        self.steps = 0

    def wanted(self, target: float = TARGET) -> float:
        """The least upper edge of a bucket beyond which no more than the target lies, frames."""
        times, weights, units = np.array(self.seen).T
        weights = weights * np.exp((times - self.time) / self.memory_s)
        for edge in bucket_edges().tolist():
            if weights[units >= edge].sum() <= target * weights.sum():
                break
        return float(edge * self.rate / UNITS_PER_S)

    def observe(self, lateness: float, *, running: bool, steps: int) -> None:
        """Note a packet; whether outliers are running, and how many steps the clock has seen."""
        if steps != self.steps:
            self.steps, self.stalled = steps, False
            del self.seen[self.kept[1] :]
            self.kept[0] = self.kept[1]
            return
        if lateness > STALL_S * self.rate:
            self.stalled = True
        elif self.stalled and lateness <= self.wanted():
            self.stalled = False
        if self.stalled:
            return
        self.time += self.memory_s * np.log1p(self.frames / (self.memory_s * self.rate))
        self.seen.append((self.time, self.frames, lateness * UNITS_PER_S / self.rate))
        if not running and self.time - self.kept_at > self.memory_s * np.log1p(
            KEEP_S / self.memory_s
        ):
            self.kept = [len(self.seen), self.kept[0]]
            self.kept_at = self.time
