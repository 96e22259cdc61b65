"""A client's clock, told from when its packets come: the line of reference for lateness.

Packet n should come at hub frame ``offset + (n − number)·span·(1 + slowness)``. The network
only ever adds to that, so packets are judged in blocks, by the mean of the earlier half. A
Kalman filter of two states, offset and slowness, follows the blocks: it begins as a straight
line through all of them and grows into a loop of second order whose bandwidth (about
0.006 Hz under 1 ms of jitter) balances the noise seen against what quartz wanders::

    blocks ──► outlier? ──no──► filter: offset, ratio, sigma ──► trial: is the drift certain?
                  │ yes
                  └──► a run of outliers for a second: the path has another delay now;
                       the offset takes the step, the ratio does not

What the filter did not foresee is its measure of noise; where neighbouring errors are alike
the noise counts for more. After Adriaensen, "Using a DLL to filter time" (2005), and
Bar-Shalom, "Estimation with applications to tracking and navigation", ch. 5 and 6.
"""

from __future__ import annotations

import numpy as np

from shared.kernels import kernel
from shared.layout import BLOCK_PACKETS

BLOCK_S = 0.1
PRIOR_RATIO = 2e-4
"""Standard deviation of clients' clocks before anything is known."""
WANDER_S = 7e-15
"""Variance that a clock's ratio gains in a second: 0.65 ppm in a minute."""
NOISE_FLOOR_S = 1e-5
"""No block is believed to be better than this."""
FIRST_NOISE_S = 1e-4
"""Nor the first one to be better than this."""
MEMORY_BLOCKS = 100.0
"""Of the measure of noise."""
CHANCE_SIGMAS = 2.0
"""So many standard errors of the correlation of neighbouring blocks' errors are chance."""
GATE_SIGMAS, GATE_S = 4.0, 5e-5
"""A block is an outlier beyond so many standard errors and that much."""
STEP_S = 1.0
"""Outliers for so long are the path's new delay."""
RUN_MEMORY = 8.0
CERTAIN_SIGMAS, CERTAIN_RATIO, CERTAIN_S = 5.0, 2e-6, 2.5e-4
LIKELY_S = 1.5e-4
"""Way that a drift must have made at the look before."""
TRIAL_S, TRIAL_LIMIT_S = 1.0, 300.0
TRIAL_GROWTH = float(np.sqrt(2.0))
"""Ages at which a trial is looked at: by two looks it has become twice as old."""
HALF_LOW, HALF_HIGH = 0.35, 0.65
"""Part of the way that a steady drift has made in half of the time."""
UNLIKE = 0.5
"""The present ratio may differ from the trial's by that part of it."""


@kernel
def begin(rx, number, arrival):
    """Begin with a client's numbering: nothing is known of its clock.

    Args:
        rx: record of the arena; its clock_* and block* fields.
        number: extended packet number.
        arrival: of that packet, hub frames, float64.
    """
    rx.clock_ratio = 0.0
    rx.clock_sigma = PRIOR_RATIO
    rx.clock_offset = arrival
    rx.clock_number = number
    rx.clock_blocks = 0
    rx.clock_certain = 0
    rx.clock_residue = 0.0
    rx.clock_alike = 0.0
    rx.clock_error = 0.0
    rx.clock_moved = 0.0
    rx.clock_steps = 0
    rx.run_blocks = 0
    rx.block_count = 0
    _begin_trial(rx, arrival)


@kernel
def _begin_trial(rx, arrival):
    """Collect evidence of a drift from here on."""
    rx.trial_began = arrival
    rx.trial_origin = rx.clock_moved
    rx.trial_age_s = TRIAL_S
    rx.trial_last = 0.0
    rx.trial_half = 0.0
    rx.trial_looks = 0
    rx.trial_likely = 0


@kernel
def reference(rx, number):
    """When a packet should come, by the line of reference: hub frames, float64.

    Args:
        number: extended packet number, past or future.
    """
    pace = rx.span / (1.0 + rx.clock_ratio)
    return rx.clock_offset + np.float64(number - rx.clock_number) * pace


@kernel
def observe(rx, number, arrival, rate_hz):
    """Note when a packet came.

    Args:
        rx: record of the arena.
        number: extended packet number; they may come in any order.
        arrival: hub frames, float64.
        rate_hz: of the hub.

    Returns:
        Its lateness in frames, float64, against the line of reference; below 0: it is early.
    """
    lateness = arrival - reference(rx, number)
    block, count = rx.block, rx.block_count
    if count == 0:
        rx.block_began = arrival
        rx.block_numbers = 0.0
    at = count
    while at > 0 and block[at - 1] > lateness:
        block[at] = block[at - 1]
        at -= 1
    block[at] = lateness
    rx.block_numbers += np.float64(number - rx.clock_number)
    rx.block_count = count + 1
    if rx.block_count == BLOCK_PACKETS or arrival - rx.block_began >= BLOCK_S * rate_hz:
        _close_block(rx, arrival, np.float64(rate_hz))
        rx.block_count = 0
    return lateness


@kernel
def _close_block(rx, arrival, rate_hz):
    """Judge a block and correct the line by it."""
    count = rx.block_count
    half = (count + 1) // 2
    error = 0.0
    for i in range(half):
        error += rx.block[i]
    error /= half
    if rx.clock_blocks == 0:
        spread = max(rx.block[half - 1] - rx.block[0], FIRST_NOISE_S * rate_hz)
        rx.clock_residue = spread * spread
        rx.clock_var_offset = rx.clock_residue
        rx.clock_covariance = 0.0
        rx.clock_var_ratio = PRIOR_RATIO * PRIOR_RATIO
        rx.clock_offset += error
        rx.clock_blocks = 1
        return
    steps = np.int64(np.rint(rx.block_numbers / count))
    if steps <= 0:  # late-comers only: they say nothing of now
        return
    frames = np.float64(steps) * rx.span
    growth = WANDER_S / rate_hz * frames
    var_offset = rx.clock_var_offset + frames * (
        2.0 * rx.clock_covariance + frames * (rx.clock_var_ratio + growth / 3.0)
    )
    covariance = rx.clock_covariance + frames * (rx.clock_var_ratio + growth / 2.0)
    var_ratio = rx.clock_var_ratio + growth
    alike = max(rx.clock_alike, 0.0)
    floor = NOISE_FLOOR_S * rate_hz
    noise = max(rx.clock_residue - alike, floor * floor)
    chance = CHANCE_SIGMAS / np.sqrt(min(np.float64(rx.clock_blocks), MEMORY_BLOCKS))
    var_offset += max(alike - chance * rx.clock_residue, 0.0)
    gate = GATE_SIGMAS * np.sqrt(var_offset + noise) + GATE_S * rate_hz
    if abs(error) > gate:
        _outlier(rx, error, arrival, rate_hz)
        return
    rx.run_blocks = 0
    rx.clock_offset = reference(rx, rx.clock_number + steps)
    rx.clock_number += steps
    expected = var_offset + noise
    gain, gain_ratio = var_offset / expected, covariance / expected
    moved = -frames * rx.clock_ratio / (1.0 + rx.clock_ratio) + gain * error
    slowness = 1.0 / (1.0 + rx.clock_ratio) - 1.0 + gain_ratio * error
    rx.clock_ratio = 1.0 / (1.0 + slowness) - 1.0
    rx.clock_offset += gain * error
    rx.clock_var_offset = (1.0 - gain) * var_offset
    rx.clock_covariance = (1.0 - gain) * covariance
    rx.clock_var_ratio = var_ratio - gain_ratio * covariance
    rx.clock_sigma = np.sqrt(rx.clock_var_ratio)
    _learn_noise(rx, error)
    rx.clock_moved -= moved
    _try(rx, arrival, rate_hz)


@kernel
def _learn_noise(rx, error):
    """Take a block's error into the measures of noise: its square, and its product with
    the one before."""
    rx.clock_blocks += 1
    share = 1.0 / min(np.float64(rx.clock_blocks + 2), MEMORY_BLOCKS)
    rx.clock_residue += share * (error * error - rx.clock_residue)
    rx.clock_alike += share * (error * rx.clock_error - rx.clock_alike)
    rx.clock_error = error


@kernel
def take_step(rx, step, variance, arrival):
    """Have the line take a step: what comes from now on is so much later, for good.

    Args:
        step: hub frames, float64; variance: of that.
        arrival: now, hub frames.
    """
    rx.clock_offset += step
    rx.clock_var_offset += variance + rx.clock_residue
    rx.clock_error = 0.0
    rx.clock_steps += 1
    rx.run_blocks = 0
    rx.block_count = 0
    _begin_trial(rx, arrival)


@kernel
def _outlier(rx, error, arrival, rate_hz):
    """Note a block far off the line; enough of them in a row are a step of the path's delay.

    A burst after a stall holds many packets, but comes within moments: the run is timed by
    the hub's clock.
    """
    if rx.run_blocks == 0:
        rx.run_began = arrival
        rx.run_mean = error
        rx.run_square = error * error
    rx.run_blocks += 1
    # the first may hold packets of both delays: the second begins the mean anew
    share = 1.0 / min(max(np.float64(rx.run_blocks - 1), 1.0), RUN_MEMORY)
    rx.run_mean += share * (error - rx.run_mean)
    rx.run_square += share * (error * error - rx.run_square)
    if arrival - rx.run_began < STEP_S * rate_hz:
        return
    variance = max(rx.run_square - rx.run_mean * rx.run_mean, 0.0)
    take_step(rx, rx.run_mean, variance, arrival)
    rx.clock_residue = max(rx.clock_residue, variance)


@kernel
def _try(rx, arrival, rate_hz):
    """See whether the drift is certain.

    Noise and changes of the path move a client too, but not for long at one pace: at two
    looks in a row, half of the way must have been made in half of the time, and the ratio
    must be that of the way.
    """
    age = arrival - rx.trial_began
    if age < rx.trial_age_s * rate_hz:
        return
    way = rx.clock_moved - rx.trial_origin
    half = rx.trial_half
    rx.trial_half = rx.trial_last
    rx.trial_last = way
    rx.trial_looks += 1
    rx.trial_age_s *= TRIAL_GROWTH
    pace = way / age
    steady = (
        rx.trial_looks > 2
        and abs(way) >= LIKELY_S * rate_hz
        and abs(rx.clock_ratio) > CERTAIN_RATIO
        and abs(rx.clock_ratio) > CERTAIN_SIGMAS * rx.clock_sigma
        and abs(rx.clock_ratio - pace) < UNLIKE * abs(pace)
        and HALF_LOW * abs(way) < half * np.sign(way)
        and half * np.sign(way) < HALF_HIGH * abs(way)
    )
    if steady and rx.trial_likely != 0 and abs(way) >= CERTAIN_S * rate_hz:
        rx.clock_certain = 1
    rx.trial_likely = 1 if steady else 0
    if rx.trial_age_s > TRIAL_LIMIT_S:
        _begin_trial(rx, arrival)
