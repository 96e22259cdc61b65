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
by the shape of the way that the client has made. A *trial* keeps it as the means of up to
TRIAL_SLOTS slots of time, ever longer ones, and looks at it after each. A drift is certain when the
slots have been on a straight line ever since they were half as old, that line is too steep for
the jitter seen, and the filter's ratio is its slope. As far from it as jitter takes them the slots
may be, except in the first two seconds: then they must prove to be on it. Where the latest of
them contradict the ratio, that is learnt anew::

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
COMMON = 6.0
"""No difference between neighbours counts for more than this multiple of the mean square."""
CALM_BLOCKS, CALM = 20, 0.1
"""In a row with errors below that part of what the measure of noise says: it is wrong."""
CERTAIN_ERRORS, CERTAIN_RATIO, CERTAIN_S = 5.0, 2e-6, 2e-4
"""The slope's standard errors, the ratio, and the way that a drift must have made."""
STRAIGHT = 0.03
"""Deviation from a straight line, root of the mean square, as a part of the way."""
ROUGH, BENT = 4.0, 4.0
"""Chance, beside that: of the slots' mean square in its standard errors, and the mean square of
GROUPS means of them, as multiples of what jitter makes of it."""
GROUPS = 8
FIRST_LOOK, YOUNG_SLOTS = 10, 20
"""Slots when a trial is looked at first, and up to which it is allowed no chance."""
SLOT_S, SLOT_LIMIT_S = 0.1, 3.2
"""That a trial's slots last at first, and at last."""
UNLIKE = 0.5
"""The present ratio may differ from the trial's by that part of it."""
WILD_RATIO = 1e-2
"""No clock is off by more: what seems to be is numbers or times that are none of a clock."""
CONTRARY_ERRORS, CONTRARY_SIGMAS = 7.0, 1.0
"""Standard errors of the recent way's slope and of the ratio, beyond both of which they are not
the same."""
CONTRARY_LASTS, CONTRARY_LASTS_HEARD = 1.2, 1.5
"""Growth of a trial's age through which that must hold; the latter of a drift that is certain.
Where the path's delay changes within a second or two, the way looks steep and straight as long as
that is in the middle of its recent half."""


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
    rx.clock_rough = 0.0
    rx.calm_blocks = 0
    rx.calm_square = 0.0
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
    rx.trial_all = 0
    rx.trial_straight = -1.0
    rx.trial_contrary = 0.0
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
            rx.clock_steps = -1  # what was late by that line was late by none
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
        spread = rx.block[half - 1] - rx.block[0]
        rx.clock_rough = spread * spread / half
        spread = max(spread, FIRST_NOISE_S * rate_hz)
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
    _learn_noise(rx, error, floor)
    rx.clock_moved -= moved
    _try(rx, rx.clock_moved - (1.0 - gain) * error, arrival, rate_hz)


@kernel
def _learn_noise(rx, error, floor):
    """Take a block's error into the measures of noise: its square, its product with the one
    before, and half the square of its difference from that, which no drift makes, nor steps, as
    far as they are rare."""
    rx.clock_blocks += 1
    share = 1.0 / min(np.float64(rx.clock_blocks + 2), MEMORY_BLOCKS)
    rx.clock_residue += share * (error * error - rx.clock_residue)
    rx.clock_alike += share * (error * rx.clock_error - rx.clock_alike)
    share = 1.0 / min(np.float64(rx.clock_blocks), MEMORY_BLOCKS)
    rough = 0.5 * (error - rx.clock_error) * (error - rx.clock_error)
    rough = min(rough, COMMON * max(rx.clock_rough, floor * floor))
    rx.clock_rough += share * (rough - rx.clock_rough)
    rx.clock_error = error
    rx.calm_square = max(rx.calm_square, error * error)
    if rx.calm_square > CALM * CALM * rx.clock_residue:
        rx.calm_blocks = 0
        rx.calm_square = 0.0
        return
    rx.calm_blocks += 1
    if rx.calm_blocks < CALM_BLOCKS:
        return
    # what was so rough is over, and would be remembered for minutes
    rx.clock_residue = rx.calm_square
    rx.clock_rough = min(rx.clock_rough, rx.calm_square)
    rx.clock_alike = 0.0
    rx.calm_blocks = 0
    rx.calm_square = 0.0


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
        rx.run_variance = 0.0
    rx.run_blocks += 1
    # the first may hold packets of both delays: the second begins the mean anew
    share = 1.0 / min(max(np.float64(rx.run_blocks - 1), 1.0), RUN_MEMORY)
    apart = error - rx.run_mean
    rx.run_mean += share * apart
    rx.run_variance = (1.0 - share) * (rx.run_variance + share * apart * apart)
    if arrival - rx.run_began < STEP_S * rate_hz:
        return
    _step(rx, rx.run_mean, rx.run_variance, arrival)
    rx.clock_residue = max(rx.clock_residue, rx.run_variance)


@kernel
def _try(rx, way, arrival, rate_hz):
    """Take a block into the trial, and see whether the drift is certain.

    Args:
        way: frames that the client has drifted by, as this block alone says.
    """
    age = arrival - rx.trial_began
    rx.trial_blocks += 1
    rx.trial_all += 1
    rx.trial_time += age
    rx.trial_way += way - rx.trial_origin
    slots = rx.trial_slots + 1
    if age < np.float64(slots) * rx.trial_slot_s * rate_hz:
        return
    rx.trial_times[slots - 1] = rx.trial_time / rx.trial_blocks
    rx.trial_ways[slots - 1] = rx.trial_way / rx.trial_blocks
    rx.trial_slots = slots
    _begin_slot(rx)
    if slots >= FIRST_LOOK:
        _look(rx, age, rate_hz)
    # an old clock is not led astray by what its path does for a while
    if slots >= 2 * GROUPS and 2.0 * age >= arrival - rx.clock_began:
        _doubt(rx, age, rate_hz)
    if slots == TRIAL_SLOTS:
        _make_room(rx, rate_hz)


@kernel
def _make_room(rx, rate_hz):
    """Make slots twice as long, or forget the older half of them."""
    half = TRIAL_SLOTS // 2
    rx.trial_slots = half
    if rx.trial_slot_s < SLOT_LIMIT_S:
        for i in range(half):
            rx.trial_times[i] = 0.5 * (rx.trial_times[2 * i] + rx.trial_times[2 * i + 1])
            rx.trial_ways[i] = 0.5 * (rx.trial_ways[2 * i] + rx.trial_ways[2 * i + 1])
        rx.trial_slot_s *= 2.0
        return
    forgotten = np.float64(half) * rx.trial_slot_s * rate_hz
    for i in range(half):
        rx.trial_times[i] = rx.trial_times[half + i] - forgotten
        rx.trial_ways[i] = rx.trial_ways[half + i]
    rx.trial_all //= 2
    rx.trial_began += forgotten
    if rx.trial_straight >= 0.0:
        rx.trial_straight = max(rx.trial_straight - forgotten, 0.0)
    rx.trial_contrary = 0.0


@kernel
def _mean(rx, first, count):
    """Mean time and way of neighbouring slots."""
    time, way = 0.0, 0.0
    for i in range(first, first + count):
        time += rx.trial_times[i]
        way += rx.trial_ways[i]
    return time / count, way / count


@kernel
def _line(rx, groups, size):
    """The straight line through the means of the latest groups of so many slots.

    Returns:
        (slope, mean square of what is not on it, sum of squares of the times).
    """
    first = rx.trial_slots - groups * size
    mean_time, mean_way = _mean(rx, first, groups * size)
    times, ways, product = 0.0, 0.0, 0.0
    for k in range(groups):
        time, way = _mean(rx, first + k * size, size)
        time -= mean_time
        way -= mean_way
        times += time * time
        ways += way * way
        product += time * way
    times = max(times, 1.0)  # frames²: far more, unless arrival times leapt
    slope = product / times
    return slope, max(ways - slope * product, 0.0) / (groups - 2), times


@kernel
def _adopt(rx, groups, size, square, age):
    """Take the line through the latest groups of slots for the filter's, with what it leaves open.

    Offset and ratio go together: the one without the other would draw it off again.

    Args:
        square: variance of a group's mean, frames².
        age: of the trial, at the latest block.
    """
    pace, _, times = _line(rx, groups, size)
    mean_time, mean_way = _mean(rx, rx.trial_slots - groups * size, groups * size)
    since = age - mean_time
    way = rx.trial_origin + mean_way + pace * since
    rx.clock_offset += rx.clock_moved - way
    rx.clock_moved = way
    rx.clock_ratio = pace
    rx.clock_var_ratio = square / times
    rx.clock_covariance = since * rx.clock_var_ratio
    rx.clock_var_offset = square / groups + since * rx.clock_covariance
    rx.clock_sigma = np.sqrt(rx.clock_var_ratio)
    rx.clock_alike = 0.0
    rx.clock_error = 0.0
    rx.trial_contrary = 0.0


@kernel
def _doubt(rx, age, rate_hz):
    """See whether the ratio is that of the recent way; if it is not for long, take that instead.

    Steps of a young client's time draw the ratio off by hundreds of ppm, and the filter is far too
    sure of it: that its line is ever left to one side it takes for the path's wandering.
    """
    size = rx.trial_slots // (2 * GROUPS)
    pace, apart, times = _line(rx, GROUPS, size)
    contrary = rx.clock_ratio - pace
    sure = CONTRARY_ERRORS * np.sqrt(apart / times) + CONTRARY_SIGMAS * np.sqrt(rx.clock_var_ratio)
    if abs(contrary) <= sure:
        rx.trial_contrary = 0.0
        return
    if rx.trial_contrary * contrary <= 0.0:
        rx.trial_contrary = np.copysign(age, contrary)
    lasts = CONTRARY_LASTS_HEARD if rx.clock_certain != 0 else CONTRARY_LASTS
    if age < lasts * abs(rx.trial_contrary):
        return
    floor = NOISE_FLOOR_S * rate_hz
    _adopt(rx, GROUPS, size, max(apart, floor * floor), age)


@kernel
def _look(rx, age, rate_hz):
    """Look whether the way so far is a straight line, and the present ratio its slope.

    Noise, steps and changes of the path move a client too, but not for long at one pace. What
    each slot is off the line by tells jitter; that and what GROUPS of them are off by tell bends.
    """
    slots = rx.trial_slots
    size = slots // GROUPS
    pace, apart, times = _line(rx, slots, 1)
    _, bent, _ = _line(rx, GROUPS, size)
    floor = NOISE_FLOOR_S * rate_hz
    noise = max(rx.clock_rough, floor * floor) * slots / rx.trial_all
    made = abs(pace) * (rx.trial_times[slots - 1] - rx.trial_times[0])
    allowed = STRAIGHT * made * STRAIGHT * made
    chance = noise if slots >= YOUNG_SLOTS else 0.0
    if (
        apart > allowed + (1.0 + ROUGH * np.sqrt(2.0 / slots)) * chance
        or bent > allowed + BENT * chance / size
    ):
        rx.trial_straight = -1.0
        return
    if rx.trial_straight < 0.0:
        rx.trial_straight = age
    square = max(noise, apart, bent * size)
    error = np.sqrt(square / times)
    if (
        age >= 2.0 * rx.trial_straight
        and made >= CERTAIN_S * rate_hz
        and abs(pace) > CERTAIN_ERRORS * error
        and abs(rx.clock_ratio) > CERTAIN_RATIO
        and abs(rx.clock_ratio - pace) < UNLIKE * abs(pace)
    ):
        if rx.clock_certain == 0:
            # the filter is late where its first guess of the noise was too great
            _adopt(rx, slots, 1, square, age)
        rx.clock_certain = 1
