"""What is heard where a client's sound is missing: silence, a repetition, or a prediction.

A gap is filled from its beginning on, as much at a time as is due, until real sound is
there again::

    history            filled, call by call          history, reversed in time
    [real......][gap_start ... [start ... until ... next_real)[real ......]
                 --> forward: continues the history, fades to silence in SILENCE_MS
                               <-- backward: continues what follows, into the past
                               \\ cross-fade from one to the other, over all that is
                                 written now: a *bridge*; real frames stay exact

When nothing follows yet, FADE_FRAMES more than due are written, for the cross-fade into
what may come. Both directions are computed alike, by ``_extend`` on rows of their own: they
never take faded sound for their history.

All of it is homogeneous: twice the sound before and after gives twice the sound between, and
channels of a pair share their model, so a stereo image stays where it is.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shared.bundles import bundle
from shared.kernels import kernel
from shared.limits import Underrun
from shared.protocol import MAX_CHANNELS
from workers.burg import MAX_ORDER, fit, predict

FADE_FRAMES = 128
HISTORY_FRAMES = 1024
"""Of sound on one side that a model is made of."""
BRIDGE_FRAMES = 1024
"""The longest cross-fade between both sides; a gap with more to fill is not bridged yet."""
HOLD_MS, SILENCE_MS = 20, 60
"""From its beginning: a gap fades after HOLD_MS, and is silent after SILENCE_MS."""
MIN_ORDER = 8
"""A model of less is none: the sound is mirrored instead."""
ORDER_CHANNELS = 1024
"""Order times channels that are worth computing when a packet is due."""
SPARE_NS = 15_000
"""What an order of zero takes; of the rest of the time half is left to the scheduler."""
OVERSHOOT = 2.0
"""No prediction is larger than the known sound's peak by more than this."""
PULSE = 2.0
"""Times their mean size, model errors are cut."""
LATELY_FRAMES = 512
"""Nor may they be twice what that makes of so many at the edge of the gap: a sound that
has ended before it does not begin again in it."""
RUNAWAY = 8.0
"""Nor, before it is cut to that, by more than this again: the recursion itself is not to be
disturbed, or it rings."""
DRIVE = 0.25
"""How much of the errors that a model makes in its own past goes on in what it predicts, at
least: all of them for sound that is nothing but error. With none noise dies away in a gap,
with all of them what is foreseen is spoilt as much again."""
INAUDIBLE = 1e-9
"""A peak below it is silence."""
TINY = 1e-25
LOUDEST = 8.0
"""A sample beyond it is no audio; ``pcm`` lets none pass."""

_MAX_RATE_HZ = 192000
_SILENT_FRAMES = _MAX_RATE_HZ * SILENCE_MS // 1000
_PAIRS = MAX_CHANNELS // 2
_NOWHERE = -(1 << 62)
_WAVETABLE, _BURG = int(Underrun.WAVETABLE), int(Underrun.BURG)


@bundle
class Concealment(NamedTuple):
    """What concealment remembers of the running gap of each client, and scratch for all.

    Attributes:
        gap: (clients,) int64, line position where the gap began; _NOWHERE: none.
        method: (clients,) int64, Underrun.
        history: (clients,) int64, frames before the gap that are known.
        done: (clients,) int64, frames of the gap that are predicted.
        loop: (clients,) int64, frames that a wavetable repeats.
        order: (clients, pairs) int64, of the model.
        model: (clients, pairs, 2, MAX_ORDER) float64.
        peak: (clients, channels) float64, of the history; after_peak: (channels,) float64.
        sound: (clients, channels, HISTORY_FRAMES + ...) float64: history, right-aligned, then
            the prediction. Only what is touched is backed.
        drive: (clients, channels, HISTORY_FRAMES) float32, the model's own errors, the newest
            first; drives: (clients, pairs) int64, how many of them.
        after: (channels, HISTORY_FRAMES + BRIDGE_FRAMES) float64, as ``sound``, backwards.
        after_model: (2, MAX_ORDER) float64.
        ahead, behind: (4, HISTORY_FRAMES) float32, the lattice: two channels, both sides.
        lengths: (4,) int64.
    """

    gap: npt.NDArray[np.int64]
    method: npt.NDArray[np.int64]
    history: npt.NDArray[np.int64]
    done: npt.NDArray[np.int64]
    loop: npt.NDArray[np.int64]
    order: npt.NDArray[np.int64]
    model: npt.NDArray[np.float64]
    peak: npt.NDArray[np.float64]
    after_peak: npt.NDArray[np.float64]
    sound: npt.NDArray[np.float64]
    drive: npt.NDArray[np.float32]
    drives: npt.NDArray[np.int64]
    after: npt.NDArray[np.float64]
    after_model: npt.NDArray[np.float64]
    ahead: npt.NDArray[np.float32]
    behind: npt.NDArray[np.float32]
    lengths: npt.NDArray[np.int64]


def make_concealment(clients: int) -> Concealment:
    """Memory for a receiver of so many clients; no gap is running."""
    return Concealment(
        gap=np.full(clients, _NOWHERE, np.int64),
        method=np.zeros(clients, np.int64),
        history=np.zeros(clients, np.int64),
        done=np.zeros(clients, np.int64),
        loop=np.zeros(clients, np.int64),
        order=np.zeros((clients, _PAIRS), np.int64),
        model=np.zeros((clients, _PAIRS, 2, MAX_ORDER)),
        peak=np.zeros((clients, MAX_CHANNELS)),
        after_peak=np.zeros(MAX_CHANNELS),
        sound=np.zeros((clients, MAX_CHANNELS, HISTORY_FRAMES + _SILENT_FRAMES)),
        drive=np.zeros((clients, MAX_CHANNELS, HISTORY_FRAMES), np.float32),
        drives=np.zeros((clients, _PAIRS), np.int64),
        after=np.zeros((MAX_CHANNELS, HISTORY_FRAMES + BRIDGE_FRAMES)),
        after_model=np.zeros((2, MAX_ORDER)),
        ahead=np.zeros((4, HISTORY_FRAMES), np.float32),
        behind=np.zeros((4, HISTORY_FRAMES), np.float32),
        lengths=np.zeros(4, np.int64),
    )


@kernel
def forget(work, k):
    """The line of client k begins anew: its next gap has nothing to do with an earlier one."""
    work.gap[k] = _NOWHERE


@kernel
def affordable_order(time_ns, channels, frames):
    """Order of a model whose sound for so many frames is made in time.

    What remains of the time is shared with whoever conceals in the same moment: the later one
    begins, the less it may take. Each order costs, for each channel, about 0.15 µs of fit and
    half a nanosecond a predicted frame.
    """
    left_ns = np.float64(time_ns) / 2 - SPARE_NS
    cost_ns = channels * (150.0 + 0.5 * np.float64(frames))
    return min(max(np.int64(left_ns / cost_ns), 0), MAX_ORDER)


@kernel
def _rise(x):
    """Smooth from 0 at x <= 0 to 1 at x >= 1."""
    x = min(max(x, 0.0), 1.0)
    return x * x * (3.0 - 2.0 * x)


@kernel
def _envelope(frame, rate_hz):
    """How loud a prediction is, so many frames from the edge of the gap."""
    hold, silence = HOLD_MS * rate_hz / 1000, SILENCE_MS * rate_hz // 1000
    return 1.0 - _rise((frame + 1 - hold) / (silence - hold))


@kernel
def _copy(line, mask, first, step, count, row):
    """Copy frames first, first + step... of a line to row, right-aligned at HISTORY_FRAMES.

    Returns:
        Their peak.
    """
    peak = 0.0
    for i in range(count):
        x = np.float64(line[(first + i * step) & mask])
        if not abs(x) <= LOUDEST:
            x = np.float64(0.0)
        peak = max(peak, abs(x))
        row[HISTORY_FRAMES - count + i] = x
    return peak


@kernel
def _load(work, lattice_row, sound, count, scale):
    """Put so many frames before HISTORY_FRAMES into the lattice."""
    work.lengths[lattice_row] = count
    ahead, behind = work.ahead[lattice_row], work.behind[lattice_row]
    for i in range(count):
        x = np.float32(sound[HISTORY_FRAMES - count + i] * scale)
        ahead[i] = x
        behind[i] = x


@kernel
def _learn(work, k, pair, channels, past, future, forward, backward):
    """Fit one model to a pair's sound on both sides of a gap.

    Args:
        past, future: frames of both sides in ``sound`` and ``after``.
        forward: order wanted of the client's model; 0: leave it alone.
        backward: order wanted of ``after_model``, which may have less context.

    Returns:
        (order, order) reached, of both.
    """
    first, last = 2 * pair, min(2 * pair + 2, channels)
    peak = 0.0
    for channel in range(first, last):
        peak = max(peak, work.peak[k, channel])
        if future > 0:
            peak = max(peak, work.after_peak[channel])
    if peak < INAUDIBLE:
        return 0, 0
    rows = 0
    for channel in range(first, last):
        # backwards in time is the same to Burg, so reversed rows need no turning
        _load(work, rows, work.sound[k, channel], past, 1.0 / peak)
        _load(work, rows + 1, work.after[channel], future, 1.0 / peak)
        rows += 2
    model, other = work.after_model, work.after_model
    if forward > 0:
        model = work.model[k, pair]
    model[:] = 0.0
    low, high = min(forward, backward), max(forward, backward)
    reached = fit(work.ahead, work.behind, work.lengths, rows, 0, low, model)
    if forward == 0:
        return 0, fit(work.ahead, work.behind, work.lengths, rows, reached, high, model)
    at_low = reached
    if forward == low:
        _keep_errors(work, k, pair, last - first, past, reached, peak)
    _copy_model(model, other)
    if forward == high:  # the greater model goes on where the smaller one was
        if reached == low:
            reached = fit(work.ahead, work.behind, work.lengths, rows, low, high, model)
        _keep_errors(work, k, pair, last - first, past, reached, peak)
        return reached, at_low
    if reached == low:
        reached = fit(work.ahead, work.behind, work.lengths, rows, low, high, other)
    return at_low, reached


@kernel
def _keep_errors(work, k, pair, channels, past, order, peak):
    """Keep what a pair's model leaves unexplained in its past, the newest first, to drive it.

    Pulses are cut: they are the sound's own clicks, and would come at the wrong time. The
    noisier the sound, the more is kept.
    """
    count = past - order
    work.drives[k, pair] = count
    for channel in range(channels):
        ahead, drive = work.ahead[2 * channel], work.drive[k, 2 * pair + channel]
        usual, lately, size = 0.0, 0.0, 0.0
        for i in range(order, past):
            usual += abs(ahead[i])
            size += abs(work.sound[k, 2 * pair + channel, HISTORY_FRAMES - past + i])
        recent = min(count, LATELY_FRAMES)
        for i in range(past - recent, past):
            lately += abs(ahead[i])
        noisy = min(usual * peak / max(size, INAUDIBLE), 1.0)
        gain = np.float32((DRIVE + (1.0 - DRIVE) * noisy) * peak)
        limit = np.float32(PULSE * min(usual / max(count, 1), 2.0 * lately / max(recent, 1)))
        for i in range(count):
            drive[i] = min(max(ahead[past - 1 - i], -limit), limit) * gain


@kernel
def _copy_model(model, other):
    for side in range(2):
        for i in range(MAX_ORDER):
            other[side, i] = model[side, i]


@kernel
def _mirror(row, history, start, end):
    """The past, mirrored at the edge of the gap and faded out."""
    for i in range(start, end):
        x = 0.0
        if history > 0 and i < FADE_FRAMES:
            back = min(i, history - 1)
            x = row[HISTORY_FRAMES - 1 - back] * (1.0 - _rise((i + 1) / (FADE_FRAMES + 1)))
        row[HISTORY_FRAMES + i] = x


@kernel
def fade_out(line, mask, channels, start, end, past):
    """Let sound end that nobody misses: the past, mirrored at ``start`` and faded, then silence.

    Args:
        line: (>= channels, mask + 1) float32, written in [start, end).
        past: frames known before ``start``.
    """
    for channel in range(channels):
        row = line[channel]
        for i in range(end - start):
            x = np.float32(0.0)
            if past > 0 and i < FADE_FRAMES:
                fall = np.float32(1.0 - _rise((i + 1) / (FADE_FRAMES + 1)))
                x = row[(start - 1 - min(i, past - 1)) & mask] * fall
            row[(start + i) & mask] = x


@kernel
def _repeat(row, history, loop, start, end):
    """The last loop frames over and over, each time cross-faded into from what precedes them."""
    fade = min(min(FADE_FRAMES, loop), history - loop)
    begin = HISTORY_FRAMES - loop
    for i in range(start, end):
        at = i % loop
        x = row[begin + at]
        if at >= loop - fade:
            up = _rise((at - (loop - fade) + 1) / (fade + 1))
            x += up * (row[begin - loop + at] - x)
        if i < fade:
            up = _rise((i + 1) / (fade + 1))
            x = row[HISTORY_FRAMES - 1 - i] + up * (x - row[HISTORY_FRAMES - 1 - i])
        row[HISTORY_FRAMES + i] = x


@kernel
def _extend(method, row, history, loop, model, order, limit, drive, gain, start, end):
    """Continue a row beyond HISTORY_FRAMES: frames start..end of what follows."""
    if method == _BURG and order > 0:
        begin = HISTORY_FRAMES + start
        predict(model, order, limit, drive, gain, row, HISTORY_FRAMES, begin, HISTORY_FRAMES + end)
    elif method == _WAVETABLE and loop > 0:
        _repeat(row, history, loop, start, end)
    else:
        _mirror(row, history, start, end)


@kernel
def _loop_frames(history, packet_frames):
    """Frames for a wavetable to repeat, so that some are left to cross-fade; 0: too few."""
    if history < 64:
        return 0
    fade = min(min(FADE_FRAMES, packet_frames), history // 3)
    return min(packet_frames, history - fade)


@kernel
def _orders(max_order, channels, past, future):
    """Orders of the models for both directions: what the sound and the time allow."""
    order = min(min(max_order, MAX_ORDER), ORDER_CHANNELS // channels)
    order = min(order, max(past, future) // 2)
    forward, backward = min(order, past), min(order, future)
    if forward < MIN_ORDER:
        forward = 0
    if backward < MIN_ORDER:
        backward = 0
    return forward, backward


@kernel
def _open(method, line, mask, channels, past, gap_start, packet_frames, work, k):
    """Take the history of a new gap."""
    past = min(max(past, 0), HISTORY_FRAMES)
    work.gap[k] = gap_start
    work.method[k] = method
    work.history[k] = past
    work.done[k] = 0
    work.loop[k] = _loop_frames(past, packet_frames)
    for channel in range(channels):
        row = work.sound[k, channel]
        work.peak[k, channel] = _copy(line[channel], mask, gap_start - past, 1, past, row)
    work.order[k, :] = 0
    work.drives[k, :] = 0


@kernel
def _predict_back(method, line, mask, channels, next_real, future, packet_frames, max_order,
                  opened, zone, work, k):  # fmt: skip
    """Continue what follows a gap into the past, zone frames, to ``after``; learn the models."""
    for channel in range(channels):
        row = work.after[channel]
        first = next_real + future - 1
        work.after_peak[channel] = _copy(line[channel], mask, first, -1, future, row)
    past = work.history[k]
    forward, backward = _orders(max_order, channels, past, future)
    if not opened:
        forward = 0
    loop = _loop_frames(future, packet_frames)
    for pair in range((channels + 1) // 2):
        order = 0
        if method == _BURG and (forward > 0 or backward > 0):
            reached, order = _learn(work, k, pair, channels, past, future, forward, backward)
            if opened:
                work.order[k, pair] = reached
        for channel in range(2 * pair, min(2 * pair + 2, channels)):
            peak, other = work.after_peak[channel], work.peak[k, channel]
            gain = 1.0
            if other > peak:
                gain *= peak / other
            drive = work.drive[k, channel, : work.drives[k, pair]]
            limit = RUNAWAY * OVERSHOOT * max(peak, other)
            _extend(method, work.after[channel], future, loop, work.after_model, order, limit,
                    drive, gain, 0, zone)  # fmt: skip


@kernel
def _learn_past(channels, max_order, work, k):
    """Models of a gap of which only the beginning is known."""
    forward, _ = _orders(max_order, channels, work.history[k], 0)
    for pair in range((channels + 1) // 2):
        if forward > 0:
            reached, _ = _learn(work, k, pair, channels, work.history[k], 0, forward, 0)
            work.order[k, pair] = reached


@kernel
def _write(work, k, channel, row, mask, gap_start, start, end, wanted, zone, rate_hz, limit):
    """Put a channel's prediction onto the line, cross-faded in its last zone frames."""
    ahead, behind = work.sound[k, channel], work.after[channel]
    for position in range(start, end):
        i, left = position - gap_start, end - 1 - position
        x = 0.0
        if i < wanted:
            x = ahead[HISTORY_FRAMES + i] * _envelope(i, rate_hz)
        if left < zone:
            other = behind[HISTORY_FRAMES + left] * _envelope(left, rate_hz)
            x += (other - x) * ((zone - left) / (zone + 1))
        x = min(max(x, -limit), limit)
        if abs(x) < TINY:
            x = 0.0
        row[position & mask] = np.float32(x)


@kernel
def fill(method, line, mask, channels, rate_hz, past, gap_start, start, until, next_real, future,
         packet_frames, max_order, work, k):  # fmt: skip
    """Conceal what is due of a gap, and what of it can be known beyond.

    Args:
        method: Underrun.
        line: (>= channels, mask + 1) float32, indexed by position & mask; written in
            [start, the end returned), read in [gap_start − past, gap_start) and
            [next_real, next_real + future).
        channels: 1..MAX_CHANNELS; rate_hz: of the line.
        past: frames known before the gap, real or once concealed.
        gap_start: position where it began; start: where an earlier call for it ended, or
            before; until: what is due ends here.
        next_real: position of the first real frame after the gap, −1: unknown.
        future: real frames from there on.
        packet_frames: what a wavetable repeats.
        max_order: of models.
        work, k: memory, and the client's index in it.

    Returns:
        The position up to which was written: next_real if the gap is bridged.
    """
    opened = work.gap[k] != gap_start or work.method[k] != method
    if opened:
        _open(method, line, mask, channels, past, gap_start, packet_frames, work, k)
    end, zone = until + FADE_FRAMES, 0
    if next_real >= 0:
        if next_real <= start:
            return next_real
        if next_real <= end or next_real - start <= BRIDGE_FRAMES:
            end = next_real
            zone = min(next_real - start, BRIDGE_FRAMES)
            future = min(max(future, 0), HISTORY_FRAMES)
            _predict_back(method, line, mask, channels, next_real, future, packet_frames,
                          max_order, opened, zone, work, k)  # fmt: skip
    if opened and zone == 0 and method == _BURG:
        _learn_past(channels, max_order, work, k)

    silence = SILENCE_MS * rate_hz // 1000
    wanted = min(min(end - gap_start, silence), _SILENT_FRAMES)
    for channel in range(channels):
        pair, peak = channel // 2, work.peak[k, channel]
        _extend(
            method, work.sound[k, channel], work.history[k], work.loop[k], work.model[k, pair],
            work.order[k, pair], RUNAWAY * OVERSHOOT * peak,
            work.drive[k, channel, : work.drives[k, pair]], 1.0, work.done[k], wanted,
        )  # fmt: skip
        if zone > 0:
            peak = max(peak, work.after_peak[channel])
        _write(work, k, channel, line[channel], mask, gap_start, start, end, wanted, zone, rate_hz,
               OVERSHOOT * peak)  # fmt: skip
    work.done[k] = max(work.done[k], wanted)
    return max(end, start)
