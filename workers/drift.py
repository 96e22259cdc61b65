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
the noise counts for more.

Steps too small for outliers, as of a sender that loses time now and then, are told from a drift
by the shape of the way that the client has made. A *trial* keeps it as 8 to 16 means over
ever longer slots. A drift is certain when they lie on a straight line, and the filter's ratio is
its slope; where the latest of them contradict the ratio, that is learnt anew::

    way              _|    steps                   way            /    a drift
        |       ___|                                   |       /
        | ____|                                        |    /
        |_________________ time                        |_/____________ time

Numbers that leap and packets that come at a pace of nobody's teach it what no clock does. A
ratio beyond WILD_RATIO is therefore forgotten, with all that led to it.

A receiver may be killed at any instant, and another goes on with what it knew: ``clock_torn``
says that it died while that was being changed.

After Adriaensen, "Using a DLL to filter time" (2005), and Bar-Shalom, "Estimation with
applications to tracking and navigation", ch. 5 and 6.
"""

from __future__ import annotations

import numpy as np

from shared.atomics import fence_acquire, store_release
from shared.kernels import kernel
from shared.layout import BLOCK_PACKETS, TRIAL_SLOTS

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
CERTAIN_SIGMAS, CERTAIN_RATIO, CERTAIN_S = 5.0, 2e-6, 2e-4
LIKELY_S = 1e-4
"""Way that a drift must have made for a look to count."""
CERTAIN_LOOKS = 3
"""In a row, each some 1.4 times as late as the one before."""
STRAIGHT = 0.04
"""Deviation from a straight line, root of the mean square, as a part of the way."""
SLOT_S, SLOT_LIMIT_S = 0.125, 16.0
"""That a trial's slots last at first, and at last."""
EARLY_SLOTS = 11
"""A trial is looked at when it has so many slots, and when it has TRIAL_SLOTS."""
UNLIKE = 0.5
"""The present ratio may differ from the trial's by that part of it."""
WILD_RATIO = 1e-2
"""No clock is off by more: what seems to be is numbers or times that are none of a clock."""
RECENT_SLOTS = 8
CONTRARY_ERRORS, CONTRARY_SIGMAS = 7.0, 1.0
"""Standard errors of the recent way's slope and of the ratio, beyond both of which they are not
the same."""


@kernel
def begin(rx, number, arrival):
    """Begin with a client's numbering: nothing is known of its clock.

    Args:
        rx: record of the arena; its clock_* and block* fields.
        number: extended packet number.
        arrival: of that packet, hub frames, float64.
    """
    _tear(rx)
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
    rx.clock_began = arrival
    rx.run_blocks = 0
    rx.block_count = 0
    _begin_trial(rx, arrival)
    _mend(rx)


@kernel
def _tear(rx):
    """What the clock knows is being changed: who dies now leaves it torn."""
    store_release(rx, "clock_torn", 1)
    fence_acquire()  # the compiler moves no write over it


@kernel
def _mend(rx):
    store_release(rx, "clock_torn", 0)


@kernel
def resume(rx, number, arrival):
    """Go on with what a receiver knew that died, at whatever instant.

    The packets that it had in hand are forgotten, and all if it died while changing it.

    Args:
        number, arrival: of the last packet that it took, as for ``begin``.
    """
    if rx.clock_torn != 0:
        begin(rx, number, arrival)
    rx.block_count = 0


@kernel
def _begin_trial(rx, arrival):
    """Collect evidence of a drift from here on."""
    rx.trial_began = arrival
    rx.trial_origin = rx.clock_moved
    rx.trial_slot_s = SLOT_S
    rx.trial_slots = 0
    rx.trial_looks = 0
    _begin_slot(rx)


@kernel
def _begin_slot(rx):
    rx.trial_blocks = 0
    rx.trial_time = 0.0
    rx.trial_way = 0.0


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
        _tear(rx)
        _close_block(rx, arrival, np.float64(rate_hz))
        rx.block_count = 0
        _mend(rx)
        if not abs(rx.clock_ratio) <= WILD_RATIO:
            begin(rx, number, arrival)
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
    floor = NOISE_FLOOR_S * rate_hz
    chance = CHANCE_SIGMAS / np.sqrt(min(np.float64(rx.clock_blocks), MEMORY_BLOCKS))
    alike = max(rx.clock_alike - chance * rx.clock_residue, 0.0)
    noise = max(rx.clock_residue - alike, floor * floor)
    var_offset += alike
    gate = GATE_SIGMAS * np.sqrt(var_offset + noise) + GATE_S * rate_hz
    if rx.run_blocks == 0:
        rx.run_gate = gate  # the longer a run, the less is known of where the line is: still a run
    if abs(error) > min(gate, rx.run_gate):
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
    _try(rx, rx.clock_moved - (1.0 - gain) * error, arrival, rate_hz)


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
    _tear(rx)
    _step(rx, step, variance, arrival)
    _mend(rx)


@kernel
def _step(rx, step, variance, arrival):
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
    _step(rx, rx.run_mean, variance, arrival)
    rx.clock_residue = max(rx.clock_residue, variance)


@kernel
def _try(rx, way, arrival, rate_hz):
    """Take a block into the trial, and see whether the drift is certain.

    Args:
        way: frames that the client has drifted by, as this block alone says.
    """
    age = arrival - rx.trial_began
    rx.trial_blocks += 1
    rx.trial_time += age
    rx.trial_way += way - rx.trial_origin
    slots = rx.trial_slots + 1
    if age < np.float64(slots) * rx.trial_slot_s * rate_hz:
        return
    rx.trial_times[slots - 1] = rx.trial_time / rx.trial_blocks
    rx.trial_ways[slots - 1] = rx.trial_way / rx.trial_blocks
    rx.trial_slots = slots
    _begin_slot(rx)
    if slots == EARLY_SLOTS or slots == TRIAL_SLOTS:
        _look(rx, rate_hz)
    # an old clock is not led astray by what its path does for a while
    if slots >= RECENT_SLOTS and 2.0 * age >= arrival - rx.clock_began:
        _doubt(rx)
    if slots < TRIAL_SLOTS:
        return
    if rx.trial_slot_s >= SLOT_LIMIT_S:
        _begin_trial(rx, arrival)
        return
    for i in range(TRIAL_SLOTS // 2):
        rx.trial_times[i] = 0.5 * (rx.trial_times[2 * i] + rx.trial_times[2 * i + 1])
        rx.trial_ways[i] = 0.5 * (rx.trial_ways[2 * i] + rx.trial_ways[2 * i + 1])
    rx.trial_slots = TRIAL_SLOTS // 2
    rx.trial_slot_s *= 2.0


@kernel
def _line(rx, first):
    """The straight line through a trial's slots, from that one on.

    Returns:
        (slope, mean square of what is not on it, standard error of the slope).
    """
    n = rx.trial_slots - first
    mean_time, mean_way = 0.0, 0.0
    for i in range(first, rx.trial_slots):
        mean_time += rx.trial_times[i] / n
        mean_way += rx.trial_ways[i] / n
    times, ways, product = 0.0, 0.0, 0.0
    for i in range(first, rx.trial_slots):
        time, way = rx.trial_times[i] - mean_time, rx.trial_ways[i] - mean_way
        times += time * time
        ways += way * way
        product += time * way
    times = max(times, 1.0)  # frames²: far more, unless arrival times leapt
    slope = product / times
    apart = max(ways - slope * product, 0.0) / (n - 2)
    return slope, apart, np.sqrt(apart / times)


@kernel
def _doubt(rx):
    """See whether the ratio is that of the recent way; if not, let it be learnt anew.

    Steps of a young client's time draw the ratio off by hundreds of ppm, and the filter is far too
    sure of it: that its line is ever left to one side it takes for the path's wandering.
    """
    pace, _, error = _line(rx, rx.trial_slots - RECENT_SLOTS)
    contrary = rx.clock_ratio - pace
    sure = CONTRARY_ERRORS * error + CONTRARY_SIGMAS * np.sqrt(rx.clock_var_ratio)
    if abs(contrary) > sure:
        rx.clock_var_ratio += contrary * contrary
        rx.clock_sigma = np.sqrt(rx.clock_var_ratio)
        rx.clock_alike = 0.0


@kernel
def _look(rx, rate_hz):
    """Look whether the way so far is a straight line, and the present ratio its slope.

    Noise, steps and changes of the path move a client too, but not for long at one pace.
    """
    n = rx.trial_slots
    pace, apart, _ = _line(rx, 0)
    white = 0.0
    for i in range(1, n - 1):
        bend = rx.trial_ways[i - 1] + rx.trial_ways[i + 1] - 2.0 * rx.trial_ways[i]
        bend -= pace * (rx.trial_times[i - 1] + rx.trial_times[i + 1] - 2.0 * rx.trial_times[i])
        white += bend * bend / (6.0 * (n - 2))
    deviation = np.sqrt(max(apart - white, 0.0))
    made = abs(pace) * (rx.trial_times[n - 1] - rx.trial_times[0])
    straight = made >= LIKELY_S * rate_hz and deviation <= STRAIGHT * made
    rx.trial_looks = rx.trial_looks + 1 if straight else 0
    if (
        rx.trial_looks >= CERTAIN_LOOKS
        and made >= CERTAIN_S * rate_hz
        and abs(rx.clock_ratio) > CERTAIN_RATIO
        and abs(rx.clock_ratio) > CERTAIN_SIGMAS * rx.clock_sigma
        and abs(rx.clock_ratio - pace) < UNLIKE * abs(pace)
    ):
        rx.clock_certain = 1
