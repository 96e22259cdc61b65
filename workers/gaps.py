"""What stands in for packets that are not there: when, how far, and how it is counted.

``seal`` fills what is missing when its tick comes; a hole that is seen before is filled
before (``prepare``). Both have ``workers.conceal`` write the sound, and only choose between::

    [real][missing, a bridge][real]      the sound after the gap is there already
    [real][missing][... tail ...]        it is not: who comes is cross-faded with a tail

``bridge_start`` and ``bridge_end`` say for which gap a bridge has been written.

A gap that has become silent is not sealed tick by tick for as long as nothing comes: its
receiver *rests*, lets time pass now and then, and the mixer takes what is not there for
silence. When a network that many shared is down, they do not all wake for every tick.
"""

from __future__ import annotations

import numpy as np

from shared.atomics import load_acquire, store_release
from shared.kernels import kernel
from shared.layout import Concealed, Shed, Underrun
from workers import conceal, playout, steer
from workers.burg import MAX_ORDER
from workers.conceal import FADE_FRAMES, HISTORY_FRAMES, ORDER_CHANNELS
from workers.hubtime import frames_to_ns, tick_after, tick_time
from workers.line import advance, position_of
from workers.numbering import SEEN_PACKETS
from workers.playout import COPYING, GLIDING
from workers.room import kept, stretch

SCAN_PACKETS = 64
"""As far is looked for a packet beyond a gap."""
SMALL_ORDER = 32
"""Of models while the hub has too much to do: an eighth of the largest, which cost as much more."""
_BURG, _ORDERS = int(Underrun.BURG), int(Shed.ORDERS)
_REDUCED, _AWAY = int(Concealed.BURG_REDUCED), int(Concealed.AWAY)


@kernel
def _beyond(rx, seen):
    """The real sound after the gap that begins at ``filled``.

    Returns:
        (line position of its first frame, −1 if none is known; contiguous frames there).
    """
    offset = rx.filled - rx.base_position
    sequence = rx.base_sequence + (offset // rx.frames + 1 if offset >= 0 else 0)
    for _ in range(SCAN_PACKETS):
        if sequence > rx.highest:
            return np.int64(-1), np.int64(0)
        if seen[sequence & (SEEN_PACKETS - 1)] == sequence:
            frames = np.int64(0)
            first = position_of(rx, sequence)
            while frames < HISTORY_FRAMES and sequence <= rx.highest:
                if seen[sequence & (SEEN_PACKETS - 1)] != sequence:
                    break
                frames += rx.frames
                sequence += 1
            return first, frames
        sequence += 1
    return np.int64(-1), np.int64(0)


@kernel
def _affordable(rx, time_ns, until, next_real):
    """Order of the models for a gap that must be filled within so much time."""
    predicted = 2 * (next_real - rx.filled) if next_real >= 0 else np.int64(0)
    if predicted <= 0 or predicted > 2 * conceal.BRIDGE_FRAMES:
        predicted = until - rx.filled + FADE_FRAMES
    order = conceal.affordable_order(time_ns, rx.channels, predicted)
    return min(order, SMALL_ORDER) if rx.shed & _ORDERS else order


@kernel
def _fill(header, rx, line, tools, k, method, max_order, until, next_real, future):
    """Have the line written from ``filled`` to ``until``: up to the real sound beyond, or with a
    tail where that is not known."""
    newest_end = max(position_of(rx, rx.highest) + rx.frames, until + FADE_FRAMES)
    past = rx.ring_frames - (newest_end - rx.gap_start)
    end = conceal.fill(
        method, line, rx.ring_frames - 1, rx.channels, rx.rate_hz, max(past, 0),
        rx.gap_start, rx.filled, until, next_real, future, rx.frames, max_order,
        tools.concealment, k,
    )  # fmt: skip
    if rx.gap_start == rx.filled:  # later on it goes on as it was begun
        rx.concealed_by = method
        if method == _BURG and max_order < min(MAX_ORDER, ORDER_CHANNELS // rx.channels):
            rx.concealed_by = _REDUCED
    rx.bridge_start = rx.filled
    rx.bridge_end = end if next_real >= 0 and end == next_real else np.int64(-1)
    return end


@kernel
def _filling(header, rx):
    """What this client's gaps are filled with, an Underrun."""
    return header.underrun if rx.underrun == 0 else rx.underrun - 1


@kernel
def sees_hole(rx):
    """Whether something is missing that is not due yet, and sound beyond it is there."""
    return rx.gap_start < 0 and position_of(rx, rx.highest) > rx.filled


@kernel
def prepare(header, rx, line, seen, tools, k, now_ns, sharing):
    """Bridge a hole that will be due before the next packet comes, while there is time.

    Should the missing packet still come in time, it takes its place as if nothing were there.

    Args:
        sharing: clients for whom the time must be enough.
    """
    if not sees_hole(rx):
        return
    sample = playout.needed_at(rx, rx.filled)
    time_ns = tick_time(header, sample // header.period_frames) - header.guard_ns - now_ns
    if time_ns < 0 or time_ns > frames_to_ns(rx.frames, rx.rate_hz):
        return
    next_real, future = _beyond(rx, seen)
    if next_real < 0 or next_real - rx.filled > conceal.BRIDGE_FRAMES:
        return
    if rx.bridge_start == rx.filled and rx.bridge_end == next_real:
        return
    rx.gap_start = rx.filled
    order = _affordable(rx, (time_ns + header.guard_ns) // sharing, rx.filled, next_real)
    filling = _filling(header, rx)
    _fill(header, rx, line, tools, k, filling, order, rx.filled, next_real, future)
    rx.gap_start = -1


@kernel
def _foresee(header, rx, line, ring, seen, tools, k, up_to, time_ns):
    """Where only what the resampler looks ahead at is missing, let it look at a prediction.

    The packet that it stands for is not late by that.
    """
    advance(rx, seen)
    needed = playout.needed_for(rx, up_to)
    if rx.gap_start >= 0 or rx.filled >= needed or rx.filled < needed - rx.lookahead:
        return
    rx.gap_start = rx.filled
    next_real, future = _beyond(rx, seen)
    order = _affordable(rx, time_ns, needed, next_real)
    end = _fill(header, rx, line, tools, k, _BURG, order, needed, next_real, future)
    rx.gap_start = -1
    if _filling(header, rx) != _BURG:
        rx.bridge_end = -1  # should it never come, it is concealed as ordered
    playout.push(rx, line, ring, tools, min(end, needed))


@kernel
def _gaps_due(rx, seen, needed):
    """How many gaps there are between ``filled`` and a line position."""
    gaps, missing = 0, False
    position = rx.filled
    while position < needed:
        offset = position - rx.base_position
        came = False
        if offset >= 0:
            sequence = rx.base_sequence + offset // rx.frames
            came = sequence <= rx.highest and seen[sequence & (SEEN_PACKETS - 1)] == sequence
            position += rx.frames - offset % rx.frames
        else:
            position = rx.base_position
        gaps += not came and not missing
        missing = not came
    return gaps


@kernel
def _skip_lost_time(header, rx, line, up_to):
    """The receiver was away: those ticks are gone, and their place may be taken already."""
    before = rx.read_frame
    playout.skip(rx, up_to - kept(header))
    lost = rx.read_frame - before
    rx.concealed_frames += lost
    rx.concealed[_AWAY] += lost
    rx.concealed_by = _AWAY
    rx.underruns += 1
    rx.filled = max(rx.filled, rx.read_frame)
    rx.gap_start = max(rx.filled - rx.rate_hz, 0)  # long ago: silence
    rx.conceal_end = rx.filled
    rx.bridge_end = -1
    queued = position_of(rx, rx.highest) + rx.frames - rx.filled
    stale = min(min(lost, HISTORY_FRAMES), rx.ring_frames - max(queued, 0))
    for channel in range(rx.channels):
        for i in range(stale):
            line[channel, (rx.filled - 1 - i) & (rx.ring_frames - 1)] = 0.0


@kernel
def seal(header, rx, line, ring, seen, tools, k, up_to, time_ns):
    """Make every hub sample below up_to final: real where it came, concealed where not.

    Args:
        up_to: the play position, or not much before it.
        time_ns: how long it may take.
    """
    if up_to - rx.watermark > kept(header):
        _skip_lost_time(header, rx, line, up_to)
        conceal.forget(tools.concealment, k)
    if rx.resampling != COPYING:
        _foresee(header, rx, line, ring, seen, tools, k, up_to, time_ns)
        if rx.watermark >= up_to:
            return
    needed = playout.needed_for(rx, up_to)
    share_ns = time_ns // max(_gaps_due(rx, seen, needed), 1)
    while True:
        advance(rx, seen)
        if rx.filled >= needed:
            break
        next_real, future = _beyond(rx, seen)
        until = min(needed, next_real) if next_real >= 0 else needed
        running = rx.gap_start >= 0
        if not running:
            rx.gap_start = rx.filled
            rx.underruns += 1
        bridged = next_real >= 0 and rx.bridge_end == next_real
        bridged = bridged and (running or rx.bridge_start == rx.filled)
        if not bridged:
            order = _affordable(rx, share_ns, until, next_real)
            filling = _filling(header, rx)
            end = _fill(header, rx, line, tools, k, filling, order, until, next_real, future)
            bridged = rx.bridge_end >= 0
            if not bridged:
                rx.conceal_end = end
                rx.blend_start = until
        if bridged and rx.conceal_end <= next_real:
            # otherwise what is beyond was faded in over an earlier tail, goes on so, and is led
            # up to as it is
            rx.bridged += rx.conceal_end < next_real
            rx.conceal_end = next_real
            rx.blend_start = until
        rx.concealed_frames += until - rx.filled
        rx.concealed[rx.concealed_by] += until - rx.filled
        rx.filled = until
    playout.push(rx, line, ring, tools, rx.filled)


@kernel
def rest(header, rx, ring):
    """Let the receiver rest if its gap has been silent for whole ticks; whether it does."""
    if rx.gap_start < 0 or rx.resampling == GLIDING:
        return False
    if position_of(rx, rx.highest) + rx.frames > rx.filled:
        return False
    whole = FADE_FRAMES + np.int64(2 * header.period_frames * stretch(rx))
    if rx.filled - rx.gap_start < conceal.SILENCE_MS * rx.rate_hz // 1000 + whole:
        return False
    for channel in range(rx.channels):  # an offset that was taken out dies away more slowly
        if abs(ring[channel, (rx.watermark - 1) & (rx.ring_frames - 1)]) > conceal.INAUDIBLE:
            return False
    store_release(rx, "resting", 1)
    return True


@kernel
def pass_time(header, rx, line, ring, tools, up_to):
    """Have a silent gap go on to a hub sample, as if it had been sealed tick by tick."""
    needed = playout.needed_for(rx, up_to)
    passed = needed - rx.filled
    if passed <= 0:
        return
    last = needed + FADE_FRAMES - 1
    for channel in range(rx.channels):
        for i in range(min(passed + FADE_FRAMES, rx.ring_frames)):
            line[channel, (last - i) & (rx.ring_frames - 1)] = 0.0
    if up_to - kept(header) > rx.watermark:
        playout.skip(rx, up_to - kept(header))
    rx.concealed_frames += passed
    rx.concealed[rx.concealed_by] += passed
    rx.filled = needed
    rx.conceal_end = needed + FADE_FRAMES
    rx.blend_start = needed
    rx.bridge_end = -1
    playout.push(rx, line, ring, tools, rx.filled)


@kernel
def rouse(header, rx, line, ring, tools, now_ns):
    """Go on tick by tick; what is due at this very moment may still come."""
    if rx.resting == 0:
        return
    up_to = tick_after(header, now_ns + header.guard_ns - 1) * header.period_frames
    pass_time(header, rx, line, ring, tools, up_to)
    store_release(rx, "resting", 0)


@kernel
def covered_tick(header, rx):
    """The first tick that the watermark does not cover."""
    return load_acquire(rx, "watermark") // header.period_frames


@kernel
def add_tail(rx, line):
    """Have a fade-out written beyond ``filled``, for sound from elsewhere to come in over."""
    newest_end = max(position_of(rx, rx.highest) + rx.frames, rx.filled + FADE_FRAMES)
    past = rx.ring_frames - (newest_end - rx.filled)
    end = rx.filled + FADE_FRAMES
    conceal.fade_out(line, rx.ring_frames - 1, rx.channels, rx.filled, end, past)
    rx.conceal_end = end
    rx.blend_start = rx.filled
    rx.bridge_end = -1


@kernel
def soften(rx, line):
    """Where sound goes on without a gap but from elsewhere, have a tail to fade it in over."""
    if rx.base_position == rx.filled and rx.gap_start < 0:
        add_tail(rx, line)


@kernel
def fade_away(header, rx, line, ring, seen, tools):
    """The end of a session: what came is heard, and fades out within FADE_FRAMES and a period."""
    advance(rx, seen)
    playout.push(rx, line, ring, tools, rx.filled)
    end = playout.to_hub(rx, rx.filled + FADE_FRAMES)
    up_to = steer.round_up(end, header.period_frames)
    needed = playout.needed_for(rx, up_to)
    past = rx.ring_frames - (needed - rx.filled) - FADE_FRAMES
    conceal.fade_out(line, rx.ring_frames - 1, rx.channels, rx.filled, needed, past)
    rx.underruns += rx.gap_start < 0
    rx.concealed_frames += needed - rx.filled
    rx.concealed[_AWAY] += needed - rx.filled
    rx.filled = needed
    playout.push(rx, line, ring, tools, rx.filled)
