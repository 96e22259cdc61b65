"""Return streams at the listener's own rate: its sample rate, and its clock's.

Each listener's mix is kept on a short line of hub frames and read at the listener's pace.
What is read is sent: a tick yields as many frames as the listener plays in its time, one
more, or one less::

    ----[heard][frames of the filter's window][to come]----> hub frames
               ^ position        look-ahead   ^ end

A listener whose sample rate is the hub's has a line only with ``match_clients``, from its
stream's first frame on, so that nothing moves when the drift becomes certain: until then it
is read at whole frames, bit by bit, the filter's look-ahead late. What the client drifted
meanwhile is owed, and paid back over some ten seconds. Pitch changes so slowly that it is
not heard.

Between two sample rates a frame's length is a fraction of whole numbers. It is rounded up to
2^-32 of a hub frame, and what that is too much is taken back at every tick: however long a
stream lasts, it has as many frames as its rate says. Its clock is followed with
``match_clients``, and where its rate could only be measured.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shared.atomics import load_acquire
from shared.bundles import bundle
from shared.kernels import kernel, part_kernel
from shared.protocol import MAX_CHANNELS, RATE_UNDEFINED
from workers.filters import MAX_RATE_HZ, Filters, choose_filter, filters_from
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
_WINDOWS = 3
"""Room on a line beside a period: the filter's window, and some."""


@bundle
class Returns(NamedTuple):
    """A lane's memory of return streams at their listeners' rates; S = slots.

    N, the power of two that holds a period and the longest filter's window, is the room for a
    line; each uses as much as its own filter needs. What is not used is not touched, and
    therefore free.

    Attributes:
        sessions: (S,) int64, whose stream is on the line; 0: nobody's.
        rates_hz: (S,) int64, its nominal sample rate.
        chosen: (S,) int64, its filter; 0: its rate is the hub's.
        lookaheads: (S,) int64, hub frames that the filter must know beyond a position.
        masks: (S,) int64, length of the line, a power of two, − 1.
        ends: (S,) int64, hub frames since the stream began.
        frames, phases: (S,) int64, position of the next frame to leave.
        steps: (S,) int64, hub frames a frame that leaves, beyond 1, in 2^-32 of a frame.
        excesses: (S,) int64, what each frame is too long while the clocks agree, in
            2^-32 / rate of a frame; credits: (S,) int64, what of it is not yet taken back.
        seams: (S,) int64, 1: frames are missing before the end of the line.
        engaged: (S,) int64, 1: the drift has been certain.
        ratios: (S,) float64, client's seconds a second of the hub's, beyond 1, when last
            certain.
        owed: (S,) float64, frames that the client is still to be sent more.
        lines: (S, MAX_CHANNELS, N) float64, rings: index = hub frame & mask.
        output: (MAX_CHANNELS, M) float64, what leaves in this tick, from 0; M is a power of two.
        filters: workers.filters.Filters, from the hub's rate.
        scratch: of ``workers.resample``.
    """

    sessions: npt.NDArray[np.int64]
    rates_hz: npt.NDArray[np.int64]
    chosen: npt.NDArray[np.int64]
    lookaheads: npt.NDArray[np.int64]
    masks: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    frames: npt.NDArray[np.int64]
    phases: npt.NDArray[np.int64]
    steps: npt.NDArray[np.int64]
    excesses: npt.NDArray[np.int64]
    credits: npt.NDArray[np.int64]
    seams: npt.NDArray[np.int64]
    engaged: npt.NDArray[np.int64]
    ratios: npt.NDArray[np.float64]
    owed: npt.NDArray[np.float64]
    lines: npt.NDArray[np.float64]
    output: npt.NDArray[np.float64]
    filters: Filters
    scratch: npt.NDArray[np.float64]


def _power_of_two(least: int) -> int:
    return 1 << (least - 1).bit_length()


def make_returns(slots: int, period_frames: int, rate_hz: int) -> Returns:
    """No stream has begun."""
    filters = filters_from(rate_hz)
    length = _power_of_two(period_frames + _WINDOWS * int(filters.taps.max()))
    fastest = MAX_RATE_HZ / rate_hz * (1 + MAX_RATIO + MAX_PAYBACK)
    most = _power_of_two(int(period_frames * fastest) + 2)
    return Returns(
        sessions=np.zeros(slots, np.int64),
        rates_hz=np.zeros(slots, np.int64),
        chosen=np.zeros(slots, np.int64),
        lookaheads=np.zeros(slots, np.int64),
        masks=np.zeros(slots, np.int64),
        ends=np.zeros(slots, np.int64),
        frames=np.zeros(slots, np.int64),
        phases=np.zeros(slots, np.int64),
        steps=np.zeros(slots, np.int64),
        excesses=np.zeros(slots, np.int64),
        credits=np.zeros(slots, np.int64),
        seams=np.zeros(slots, np.int64),
        engaged=np.zeros(slots, np.int64),
        ratios=np.zeros(slots, np.float64),
        owed=np.zeros(slots, np.float64),
        lines=np.zeros((slots, MAX_CHANNELS, length), np.float64),
        output=np.zeros((MAX_CHANNELS, most), np.float64),
        filters=filters,
        scratch=make_scratch().astype(np.float64),
    )


@kernel
def own_rate(header, rx):
    """A client's nominal sample rate, Hz: the hub's, unless it is known to be another."""
    return rx.rate_hz if rx.rate_hz > 0 else header.rate_hz


@kernel
def _follows(header, rx):
    """Whether a client's clock is followed: a rate that was measured is only nearly its own."""
    return header.match_clients != 0 or rx.rate_code == RATE_UNDEFINED


@kernel
def _step(hub_hz, rate_hz, ratio):
    """Hub frames a client frame, beyond 1, in 2^-32 of a frame."""
    return np.int64(np.rint((hub_hz / rate_hz / (1.0 + ratio) - 1.0) * _ONE))


@kernel
def _rate(hub_hz, rate_hz, step):
    """Client's seconds a second of the hub's, beyond 1."""
    return hub_hz / rate_hz / (1.0 + step / _ONE) - 1.0


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
def begin_return(header, rx, fresh, listener, returns):
    """Make sure that the line is this session's.

    Args:
        fresh: the stream begins; else another lane has begun it: that one's pace is
            taken over at once, under the fade-in.
    """
    hub_hz, rate_hz = header.rate_hz, own_rate(header, rx)
    known = returns.sessions[listener] == rx.session and returns.rates_hz[listener] == rate_hz
    if known and not fresh:
        return
    chosen = choose_filter(returns.filters, rate_hz)
    taps = returns.filters.taps[chosen]
    room = 2
    while room < header.period_frames + _WINDOWS * taps:
        room *= 2
    advance = -((-hub_hz << PHASE_BITS) // rate_hz)
    returns.sessions[listener] = rx.session
    returns.rates_hz[listener] = rate_hz
    returns.chosen[listener] = chosen
    returns.lookaheads[listener] = taps // 2
    returns.masks[listener] = room - 1
    returns.ends[listener] = 0
    returns.frames[listener] = -(taps // 2)
    returns.phases[listener] = 0
    returns.steps[listener] = advance - _ONE
    returns.excesses[listener] = advance * rate_hz - (hub_hz << PHASE_BITS)
    returns.credits[listener] = 0
    returns.seams[listener] = 0
    returns.engaged[listener] = 0
    returns.owed[listener] = 0.0
    for channel in range(rx.wants):
        returns.lines[listener, channel, :room] = 0.0
    if _follows(header, rx) and not fresh and _observe(rx, listener, returns):
        returns.engaged[listener] = 1
        returns.steps[listener] = _step(hub_hz, rate_hz, returns.ratios[listener])


@part_kernel
def _pace(header, rx, listener, returns):
    """Once a tick: follow the client's clock, and pay what it is owed."""
    certain = _observe(rx, listener, returns)
    hub_hz, rate_hz = header.rate_hz, returns.rates_hz[listener]
    seconds = header.period_frames / hub_hz
    if returns.engaged[listener] == 0:
        if not certain:
            return
        returns.engaged[listener] = 1
        most = MAX_OWED_S * rate_hz
        drifted = returns.ratios[listener] * returns.ends[listener] / hub_hz * rate_hz
        returns.owed[listener] = min(max(drifted, -most), most)
    ratio, step, owed = returns.ratios[listener], returns.steps[listener], returns.owed[listener]
    payback = min(max(owed / (PAYBACK_S * rate_hz), -MAX_PAYBACK), MAX_PAYBACK)
    slew = 1 + np.int64(SLEW_PER_S * _ONE * seconds * hub_hz / rate_hz)
    step += min(max(_step(hub_hz, rate_hz, ratio + payback) - step, -slew), slew)
    returns.steps[listener] = step
    returns.owed[listener] = owed + seconds * rate_hz * (ratio - _rate(hub_hz, rate_hz, step))


@kernel
def _outputs_before(frame, listener, returns):
    """How many frames that are to leave lie before a hub frame."""
    ahead = ((frame - returns.frames[listener]) << PHASE_BITS) - returns.phases[listener]
    advance = _ONE + returns.steps[listener]
    return max(0, -(-ahead // advance))


@kernel
def _correct(count, listener, returns):
    """Take back what so many frames were too long, as long as the clocks agree."""
    if returns.engaged[listener] != 0:
        return
    credit = returns.credits[listener] + count * returns.excesses[listener]
    phase = returns.phases[listener] - credit // returns.rates_hz[listener]
    returns.credits[listener] = credit % returns.rates_hz[listener]
    returns.frames[listener] += phase >> PHASE_BITS
    returns.phases[listener] = phase & _PHASE_MASK


@kernel
def _enter(samples, count, line, mask, at):
    """Copy so many samples onto a line; in two runs at most, which vectorise as a ring does not."""
    first = min(count, mask + 1 - (at & mask))
    run = line[at & mask :]
    for i in range(first):
        run[i] = samples[i]
    rest = samples[first:]
    for i in range(count - first):
        line[i] = rest[i]


@kernel
def _leave(line, mask, at, count, samples):
    """The other way round."""
    first = min(count, mask + 1 - (at & mask))
    run = line[at & mask :]
    for i in range(first):
        samples[i] = run[i]
    rest = samples[first:]
    for i in range(count - first):
        rest[i] = line[i]


@part_kernel
def _read(rx, listener, count, returns):
    """The next count frames into ``output``, all channels."""
    frame, phase = returns.frames[listener], returns.phases[listener]
    step, line = returns.steps[listener], returns.lines[listener]
    mask, chosen = returns.masks[listener], returns.chosen[listener]
    if chosen == 0 and step == 0 and phase == 0:
        for channel in range(rx.wants):
            _leave(line[channel], mask, frame, count, returns.output[channel])
        returns.frames[listener] = frame + count
    else:
        returns.frames[listener], returns.phases[listener] = resample(
            line, mask, rx.wants, frame, phase, step, count, returns.filters, chosen,
            returns.scratch, returns.output, returns.output.shape[1] - 1, 0,
        )  # fmt: skip
    _correct(count, listener, returns)


@part_kernel
def read_period(header, rx, listener, mixed, returns):
    """One period of the mix goes onto the line; what is due leaves it.

    After a gap nobody knows what was before it; turned about its first frame, the new
    sound leads up to itself without a step or a bend.

    Args:
        mixed: (>= wants, period) float64.

    Returns:
        How many frames of ``output`` leave.
    """
    period, end, mask = header.period_frames, returns.ends[listener], returns.masks[listener]
    lookahead = returns.lookaheads[listener]
    for channel in range(rx.wants):
        line = returns.lines[listener, channel]
        if returns.seams[listener] != 0:
            for i in range(1, 2 * lookahead + 1):
                turned = mixed[channel, min(i, period - 1)]
                line[(end - i) & mask] = 2.0 * mixed[channel, 0] - turned
        _enter(mixed[channel], period, line, mask, end)
    returns.seams[listener] = 0
    end += period
    returns.ends[listener] = end
    if _follows(header, rx):
        _pace(header, rx, listener, returns)
    count = _outputs_before(end - lookahead, listener, returns)
    _read(rx, listener, count, returns)
    return count


@kernel
def place_of(listener, returns):
    """Where a stream is after ``read_period``, in hub frames.

    Returns:
        (advance, beyond): length of a frame that leaves; distance from the end of the last
        one to the end of what could leave, 0 or less than a frame beyond it (< 0).
    """
    waits = returns.ends[listener] - returns.lookaheads[listener] - returns.frames[listener]
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
        advance = _ONE + returns.steps[listener]
        missing = (missed << PHASE_BITS) // advance
        after = returns.phases[listener] + missing * advance
        returns.frames[listener] += after >> PHASE_BITS
        returns.phases[listener] = after & _PHASE_MASK
        _correct(missing, listener, returns)
    returns.ends[listener] = end + missed
    returns.seams[listener] = end > 0
    return missing
