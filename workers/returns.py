"""Return streams at the listener's own rate, so that its buffer neither runs full nor dry.

Each listener's mix is kept on a short line of hub frames and read with the clock ratio
that its receiver has found (``workers.drift``). What is read is sent: a tick yields a
period of frames, one more, or one less::

    ----[heard][31 frames and less: the filter's window][to come]----> hub frames
               ^ position                              ^ end

The line is there from a stream's first frame on, so that nothing moves when the drift
becomes certain: until then it is read at whole frames, bit by bit, LOOKAHEAD frames late.
What the client drifted meanwhile is owed, and paid back over some ten seconds. Pitch
changes so slowly that it is not heard.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shared.atomics import load_acquire
from shared.kernels import kernel
from shared.protocol import MAX_CHANNELS
from workers.filters import LOOKAHEAD, TAPS, Filters, filters_from
from workers.resample import PHASE_BITS, make_scratch, resample

MAX_RATIO = 1e-3
"""No clock is that far off; what says so is not followed."""
SLEW_PER_S = 1e-4
"""The rate changes by 100 ppm a second: the pitch by a sixth of a cent."""
PAYBACK_S = 10.0
"""Time constant in which the frames that are owed are paid."""
MAX_PAYBACK = 2e-4
"""Beyond the drift itself."""
MAX_OWED_S = 5e-3
"""More is not owed: the client has long found another place in its buffer."""

_ONE = 1 << PHASE_BITS
_PHASE_MASK = _ONE - 1
_ENDLESS = 1 << 28
"""Frames missed in one piece beyond which nobody counts them."""


class Returns(NamedTuple):
    """A lane's memory of return streams at their listeners' rates; S = slots.

    N, the power of two that holds a period and the filter's window, is the length of the
    lines. Untouched, and therefore free, for those who are sent the hub's own rate.

    Attributes:
        sessions: (S,) int64, whose stream is on the line; 0: nobody's.
        ends: (S,) int64, hub frames since the stream began.
        frames, phases: (S,) int64, position of the next frame to leave.
        steps: (S,) int64, hub frames a frame that leaves, beyond 1, in 2^-32 of a frame.
        seams: (S,) int64, 1: frames are missing before the end of the line.
        engaged: (S,) int64, 1: the drift has been certain.
        ratios: (S,) float64, client frames a hub frame, beyond 1, when last certain.
        owed: (S,) float64, frames that the client is still to be sent more.
        lines: (S, MAX_CHANNELS, N) float64, rings: index = hub frame & (N − 1).
        output: (MAX_CHANNELS, N) float64, what leaves in this tick, from 0.
        filters: workers.filters.Filters, from the hub's rate.
        scratch: of ``workers.resample``.
    """

    sessions: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    frames: npt.NDArray[np.int64]
    phases: npt.NDArray[np.int64]
    steps: npt.NDArray[np.int64]
    seams: npt.NDArray[np.int64]
    engaged: npt.NDArray[np.int64]
    ratios: npt.NDArray[np.float64]
    owed: npt.NDArray[np.float64]
    lines: npt.NDArray[np.float64]
    output: npt.NDArray[np.float64]
    filters: Filters
    scratch: npt.NDArray[np.float64]


def make_returns(slots: int, period_frames: int, rate_hz: int) -> Returns:
    """No stream has begun."""
    length = 1 << (period_frames + 3 * TAPS - 1).bit_length()
    return Returns(
        sessions=np.zeros(slots, np.int64),
        ends=np.zeros(slots, np.int64),
        frames=np.zeros(slots, np.int64),
        phases=np.zeros(slots, np.int64),
        steps=np.zeros(slots, np.int64),
        seams=np.zeros(slots, np.int64),
        engaged=np.zeros(slots, np.int64),
        ratios=np.zeros(slots, np.float64),
        owed=np.zeros(slots, np.float64),
        lines=np.zeros((slots, MAX_CHANNELS, length), np.float64),
        output=np.zeros((MAX_CHANNELS, length), np.float64),
        filters=filters_from(rate_hz),
        scratch=make_scratch().astype(np.float64),
    )


@kernel
def _step(ratio):
    """Hub frames a client frame, beyond 1, in 2^-32 of a frame."""
    return np.int64(np.rint((1.0 / (1.0 + ratio) - 1.0) * _ONE))


@kernel
def _rate(step):
    """Client frames a hub frame, beyond 1."""
    return 1.0 / (1.0 + step / _ONE) - 1.0


@kernel
def _observe(rx, listener, returns):
    """Take over the clock ratio as long as it is certain; else the last one stays."""
    if load_acquire(rx, "clock_certain") == 1:
        ratio = rx.clock_ratio
        if abs(ratio) <= MAX_RATIO:
            returns.ratios[listener] = ratio
            return True
    return False


@kernel
def begin_return(rx, fresh, listener, returns):
    """Make sure that the line is this session's.

    Args:
        fresh: the stream begins; else another lane has begun it: that one's pace is
            taken over at once, under the fade-in.
    """
    if returns.sessions[listener] == rx.session and not fresh:
        return
    returns.sessions[listener] = rx.session
    returns.ends[listener] = 0
    returns.frames[listener] = -LOOKAHEAD
    returns.phases[listener] = 0
    returns.steps[listener] = 0
    returns.seams[listener] = 0
    returns.engaged[listener] = 0
    returns.owed[listener] = 0.0
    for channel in range(rx.wants):
        returns.lines[listener, channel, :] = 0.0
    if not fresh and _observe(rx, listener, returns):
        returns.engaged[listener] = 1
        returns.steps[listener] = _step(returns.ratios[listener])


@kernel
def _pace(header, rx, listener, returns):
    """Once a tick: follow the client's clock, and pay what it is owed."""
    certain = _observe(rx, listener, returns)
    if returns.engaged[listener] == 0:
        if not certain:
            return
        returns.engaged[listener] = 1
        most = MAX_OWED_S * header.rate_hz
        drifted = returns.ratios[listener] * returns.ends[listener]
        returns.owed[listener] = min(max(drifted, -most), most)
    period, ratio = header.period_frames, returns.ratios[listener]
    step, owed = returns.steps[listener], returns.owed[listener]
    payback = min(max(owed / (PAYBACK_S * header.rate_hz), -MAX_PAYBACK), MAX_PAYBACK)
    slew = 1 + np.int64(SLEW_PER_S * _ONE * period / header.rate_hz)
    step += min(max(_step(ratio + payback) - step, -slew), slew)
    returns.steps[listener] = step
    returns.owed[listener] = owed + period * (ratio - _rate(step))


@kernel
def _outputs_before(frame, listener, returns):
    """How many frames that are to leave lie before a hub frame."""
    ahead = ((frame - returns.frames[listener]) << PHASE_BITS) - returns.phases[listener]
    advance = _ONE + returns.steps[listener]
    return max(0, -(-ahead // advance))


@kernel
def _read(rx, listener, count, returns):
    """The next count frames into ``output``, all channels."""
    frame, phase = returns.frames[listener], returns.phases[listener]
    step, line = returns.steps[listener], returns.lines[listener]
    mask = line.shape[1] - 1
    if step == 0 and phase == 0:
        for channel in range(rx.wants):
            for i in range(count):
                returns.output[channel, i] = line[channel, (frame + i) & mask]
        returns.frames[listener] = frame + count
    else:
        returns.frames[listener], returns.phases[listener] = resample(
            line, mask, rx.wants, frame, phase, step, count,
            returns.filters, 0, returns.scratch, returns.output, mask, 0,
        )  # fmt: skip


@kernel
def read_period(header, rx, listener, mixed, returns):
    """One period of the mix goes onto the line; what is due leaves it.

    After a gap nobody knows what was before it; turned about its first frame, the new
    sound leads up to itself without a step or a bend.

    Args:
        mixed: (>= wants, period) float64.

    Returns:
        How many frames of ``output`` leave.
    """
    period, end = header.period_frames, returns.ends[listener]
    mask = returns.lines.shape[2] - 1
    for channel in range(rx.wants):
        line = returns.lines[listener, channel]
        if returns.seams[listener] != 0:
            for i in range(1, TAPS + 1):
                turned = mixed[channel, min(i, period - 1)]
                line[(end - i) & mask] = 2.0 * mixed[channel, 0] - turned
        for i in range(period):
            line[(end + i) & mask] = mixed[channel, i]
    returns.seams[listener] = 0
    end += period
    returns.ends[listener] = end
    _pace(header, rx, listener, returns)
    count = _outputs_before(end - LOOKAHEAD, listener, returns)
    _read(rx, listener, count, returns)
    return count


@kernel
def place_of(listener, returns):
    """Where a stream is after ``read_period``, in hub frames.

    Returns:
        (advance, beyond): length of a frame that leaves; distance from the end of the last
        one to the end of what could leave, 0 or less than a frame beyond it (< 0).
    """
    waits = returns.ends[listener] - LOOKAHEAD - returns.frames[listener]
    return 1.0 + returns.steps[listener] / _ONE, waits - returns.phases[listener] / _ONE


@kernel
def skip_period(listener, missed, returns):
    """So many hub frames were never mixed.

    What waits on the line is as lost as they are: the packets stop and go on as they
    would without it, and no sound ends or begins within one.

    Returns:
        How many frames are missing from what leaves.
    """
    end, missing = returns.ends[listener], missed
    if missed > _ENDLESS:
        returns.frames[listener] += missed
    else:
        missing = (missed << PHASE_BITS) // (_ONE + returns.steps[listener])
        after = returns.phases[listener] + missing * returns.steps[listener]
        returns.frames[listener] += missing + (after >> PHASE_BITS)
        returns.phases[listener] = after & _PHASE_MASK
    returns.ends[listener] = end + missed
    returns.seams[listener] = end > 0
    return missing
