"""Twins of ``workers.drift`` and ``workers.depth``: matrices, lists and sorting, in plain NumPy."""

from __future__ import annotations

from math import sqrt

import numpy as np
import numpy.typing as npt

from shared.layout import BLOCK_PACKETS, LATE_BUCKETS, TRIAL_SLOTS
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
    BENT,
    BLOCK_S,
    CALM,
    CALM_BLOCKS,
    CERTAIN_ERRORS,
    CERTAIN_RATIO,
    CERTAIN_S,
    CHANCE_SIGMAS,
    COMMON,
    CONTRARY_ERRORS,
    CONTRARY_LASTS,
    CONTRARY_LASTS_HEARD,
    CONTRARY_SIGMAS,
    FIRST_LOOK,
    FIRST_NOISE_S,
    GATE_S,
    GATE_SIGMAS,
    GROUPS,
    MEMORY_BLOCKS,
    NOISE_FLOOR_S,
    PRIOR_RATIO,
    ROUGH,
    RUN_MEMORY,
    SLOT_LIMIT_S,
    SLOT_S,
    STEP_S,
    STRAIGHT,
    UNLIKE,
    WANDER_S,
    WILD_RATIO,
    YOUNG_SLOTS,
)

Doubles = npt.NDArray[np.float64]


class ClockTwin:
    """A client's clock: state (offset in frames, slowness) and its covariance."""

    def __init__(self, frames: int, rate_hz: float, number: int, arrival: float) -> None:
        self.frames, self.rate = frames, rate_hz
        self.floor = (NOISE_FLOOR_S * rate_hz) ** 2
        self.number = number
        self.state = np.array([arrival, 0.0])
        self.covariance = np.diag([0.0, PRIOR_RATIO**2])
        self.errors: list[float] = []
        self.residue = self.alike = self.rough = 0.0
        self.calm: list[float] = []
        self.block: list[tuple[float, int]] = []
        self.began = 0.0
        self.run: list[float] = []
        self.run_began = self.run_gate = 0.0
        self.blocks = self.steps = 0
        self.clock_began = arrival
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
        self.slot_s, self.blocks_tried = SLOT_S, 0
        self.straight_at: float | None = None
        self.contrary: tuple[bool, float] | None = None
        self.slots: list[Doubles] = []
        self.at_hand: list[tuple[float, float]] = []

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
            if abs(self.ratio) > WILD_RATIO:
                self.__init__(self.frames, self.rate, number, arrival)  # type: ignore[misc]
                self.steps = -1
        return lateness

    def close(self, arrival: float) -> None:
        """Correct by a block."""
        late = sorted(lateness for lateness, _ in self.block)
        half = late[: (len(late) + 1) // 2]
        error = float(np.mean(half))
        if self.blocks == 0:
            self.residue = max(half[-1] - half[0], FIRST_NOISE_S * self.rate) ** 2
            self.rough = (half[-1] - half[0]) ** 2 / len(half)
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
        chance = CHANCE_SIGMAS / sqrt(min(self.blocks, MEMORY_BLOCKS))
        alike = max(self.alike - chance * self.residue, 0.0)
        noise = max(self.residue - alike, self.floor)
        predicted[0, 0] += alike
        gate = GATE_SIGMAS * sqrt(predicted[0, 0] + noise) + GATE_S * self.rate
        if not self.run:
            self.run_gate = gate
        if abs(error) > min(gate, self.run_gate):
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
        common = COMMON * max(self.rough, self.floor)
        rough = min((error - last) ** 2 / 2, common)
        self.rough += (rough - self.rough) / min(self.blocks, MEMORY_BLOCKS)
        self.errors.append(error)
        self.calm.append(error**2)
        if max(self.calm) > CALM**2 * self.residue:
            self.calm = []
        elif len(self.calm) == CALM_BLOCKS:
            self.residue = max(self.calm)
            self.rough = min(self.rough, self.residue)
            self.alike = 0.0
            self.calm = []
        self.try_it((1 - gain[0]) * error, arrival)

    def outlier(self, error: float, arrival: float) -> None:
        """A block far off."""
        if not self.run:
            self.run_began = arrival
        self.run.append(error)
        if arrival - self.run_began < STEP_S * self.rate:
            return
        weights = np.zeros(len(self.run))
        for i in range(len(self.run)):
            share = 1 / min(max(i, 1), RUN_MEMORY)
            weights[:i] *= 1 - share
            weights[i] = share
        mean = float(weights @ self.run)
        variance = float(weights @ (np.array(self.run) - mean) ** 2)
        self.state[0] += mean
        self.covariance[0, 0] += variance + self.residue
        self.residue = max(self.residue, variance)
        self.errors.append(0.0)
        self.steps += 1
        self.run = []
        self.begin_trial(arrival)

    def try_it(self, left: float, arrival: float) -> None:
        """A block into the trial; left: of its error, after the line was corrected by it."""
        age = arrival - self.trial_began
        self.at_hand.append((age, self.moved - left - self.trial_origin))
        self.blocks_tried += 1
        if age < (len(self.slots) + 1) * self.slot_s * self.rate:
            return
        self.slots.append(np.mean(self.at_hand, axis=0))
        self.at_hand = []
        if len(self.slots) >= FIRST_LOOK:
            self.look(age)
        if len(self.slots) >= 2 * GROUPS and age >= (arrival - self.clock_began) / 2:
            self.doubt(age)
        if len(self.slots) == TRIAL_SLOTS:
            self.make_room()

    def make_room(self) -> None:
        """Half as many slots."""
        if self.slot_s < SLOT_LIMIT_S:
            self.slots = list(np.reshape(self.slots, (-1, 2, 2)).mean(axis=1))
            self.slot_s *= 2
            return
        gone = TRIAL_SLOTS // 2 * self.slot_s * self.rate
        self.slots = [slot - [gone, 0] for slot in self.slots[TRIAL_SLOTS // 2 :]]
        self.blocks_tried //= 2
        self.trial_began += gone
        if self.straight_at is not None:
            self.straight_at = max(self.straight_at - gone, 0.0)
        self.contrary = None

    def grouped(self, size: int) -> tuple[Doubles, Doubles]:
        """Times and ways of GROUPS groups of slots, the latest."""
        latest = np.reshape(self.slots[-GROUPS * size :], (GROUPS, size, 2))
        times, ways = latest.mean(axis=1).T
        return times, ways

    def doubt(self, age: float) -> None:
        """Is the ratio that of the recent way?"""
        times, ways = self.grouped(len(self.slots) // (2 * GROUPS))
        (slope, _), covariance = np.polyfit(times, ways, 1, cov=True)
        contrary = self.ratio - slope
        sure = CONTRARY_SIGMAS * sqrt(self.covariance[1, 1])
        if abs(contrary) <= CONTRARY_ERRORS * sqrt(covariance[0, 0]) + sure:
            self.contrary = None
            return
        if self.contrary is None or self.contrary[0] != (contrary > 0):
            self.contrary = (contrary > 0, age)
        lasts = CONTRARY_LASTS_HEARD if self.certain else CONTRARY_LASTS
        if age < lasts * self.contrary[1]:
            return
        self.adopt(times, ways, max(off_line(times, ways)[1], self.floor), age)

    def adopt(self, times: Doubles, ways: Doubles, square: float, age: float) -> None:
        """The line through these for the filter's, by least squares; square: a way's variance."""
        columns = np.stack([np.ones(len(times)), times - age], axis=1)
        covariance = square * np.linalg.inv(columns.T @ columns)
        way, slope = np.linalg.lstsq(columns, ways + self.trial_origin, rcond=None)[0]
        self.state = np.array([self.state[0] + self.moved - way, 1 / (1 + slope) - 1])
        self.moved = way
        self.covariance = covariance
        self.alike = 0.0
        self.errors.append(0.0)
        self.contrary = None

    def look(self, age: float) -> None:
        """Is the drift certain?"""
        times, ways = np.transpose(self.slots)
        count, size = len(times), len(times) // GROUPS
        pace, apart = off_line(times, ways)
        _, bent = off_line(*self.grouped(size))
        noise = max(self.rough, self.floor) * count / self.blocks_tried
        made = abs(pace) * np.ptp(times)
        chance = noise if count >= YOUNG_SLOTS else 0.0
        straight = (
            apart <= (STRAIGHT * made) ** 2 + (1 + ROUGH * sqrt(2 / count)) * chance
            and bent <= (STRAIGHT * made) ** 2 + BENT * chance / size
        )
        if not straight:
            self.straight_at = None
            return
        if self.straight_at is None:
            self.straight_at = age
        square = max(noise, apart, bent * size)
        error = sqrt(square / (count * np.var(times)))
        if (
            age >= 2 * self.straight_at
            and made >= CERTAIN_S * self.rate
            and abs(pace) > CERTAIN_ERRORS * error
            and abs(self.ratio) > CERTAIN_RATIO
            and abs(self.ratio / pace - 1) < UNLIKE
        ):
            if not self.certain:
                self.adopt(times, ways, square, age)
            self.certain = True


def off_line(times: Doubles, ways: Doubles) -> tuple[float, float]:
    """Slope of the straight line, and the mean square of what is not on it."""
    line = np.polynomial.Polynomial.fit(times, ways, 1)
    slope = float(line.deriv()(0.0))
    return slope, float(np.sum((ways - line(times)) ** 2) / (len(times) - 2))


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
        """Note a packet; whether outliers are running, and how many steps the clock has seen;
        below 0: it begins anew."""
        if steps < 0:
            self.__init__(self.frames, self.rate)  # type: ignore[misc]
            return
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
