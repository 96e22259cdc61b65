"""The jitter buffer: a client's packets in time, or what stands in for them.

Packets are decoded onto the client's *line* (``workers.line``) in whatever order they come;
``filled`` then moves over all that is contiguous, and what is final is played out into the
input ring at once (``workers.playout``). What is missing when its tick comes is concealed
by ``seal``; what comes after that is late::

        final, on its way to the mixer    |  to come
    ----[real][real][concealed][real]-----|--[     ][real]------> line
                                       filled  missing

``workers.steer`` says how long all this waits. While packets come in time and clocks agree,
nothing of it touches a sample.
"""

from __future__ import annotations

import numpy as np

from shared.atomics import load_acquire, store_release
from shared.kernels import kernel
from shared.layout import MIN_RING_FRAMES, RING_FRAMES, Underrun
from shared.protocol import HEADER_BYTES
from workers import conceal, depth, playout, steer
from workers.conceal import FADE_FRAMES, HISTORY_FRAMES
from workers.filters import LOOKAHEAD
from workers.hubtime import frames_to_ns, ns_to_frames, tick_after, tick_time
from workers.line import position_of, publish_level, write
from workers.numbering import (
    ACCOUNT_PACKETS,
    DUPLICATE,
    LATE,
    NEVER,
    PLACED,
    SEEN_PACKETS,
    account,
)
from workers.playout import COPYING, FOLLOWING

LATE_RUN = 3
SCAN_PACKETS = 64
"""As far is looked for a packet beyond a gap."""
LATE_DEFICIT = 8
"""Packets that a burst can be ahead of the pace of a client that stays late, at most."""
_BURG = int(Underrun.BURG)


@kernel
def _stretch(rx):
    """Ring frames that a hub frame takes: line and input ring are of one size, and on the line
    a client of a higher rate takes more."""
    return max(np.float64(rx.frames) / rx.span, 1.0)


@kernel
def _reserve(header, rx, packets):
    """Frames of the ring that are not the margin's: so many packets, what is being played, and
    the past."""
    packet = max(rx.frames, np.int64(np.ceil(rx.span)))
    playing = np.int64(np.ceil(2 * header.period_frames * _stretch(rx)))
    past = FADE_FRAMES + HISTORY_FRAMES + 2 * (rx.lookahead - LOOKAHEAD)
    return packets * packet + playing + past


@kernel
def fits(header, rx):
    """Whether the largest ring holds packets that last so long."""
    return _reserve(header, rx, 3) <= RING_FRAMES


@kernel
def size_ring(header, order, rx):
    """Choose ring size and margin for a client whose format is known."""
    depth.begin(rx, header.rate_hz)
    rx.ring_frames = _ring_for(header, order, rx)
    steer.set_margin(header, order, rx, _room(header, rx))


@kernel
def _ring_for(header, order, rx):
    """Size of a ring for what the slot asks for."""
    margin = (order.queue_packets - 1) * rx.span
    if order.queue_packets == 0:
        margin = np.float64(header.rate_hz * steer.AUTO_LIMIT_MS // 1000)
    wanted = np.int64(np.ceil(margin * _stretch(rx))) + _reserve(header, rx, 3)
    size = MIN_RING_FRAMES
    while size < wanted and size < RING_FRAMES:
        size *= 2
    return size


@kernel
def _room(header, rx):
    """Hub frames that the margin may take in the ring."""
    return np.int64((rx.ring_frames - _reserve(header, rx, 3)) / _stretch(rx))


@kernel
def obey_queue(header, order, rx, line, ring):
    """Follow what the slot asks for now, in longer rings if it needs them."""
    if order.queue_packets != rx.queue_packets:
        wanted = _ring_for(header, order, rx)
        while rx.ring_frames < wanted:
            # twice the same, so that each frame is where either size has it, the mixer's, too
            size = rx.ring_frames
            for channel in range(rx.channels):
                for i in range(size):
                    line[channel, size + i] = line[channel, i]
                    ring[channel, size + i] = ring[channel, i]
            store_release(rx, "ring_frames", 2 * size)
    steer.obey_queue(header, order, rx, _room(header, rx))


@kernel
def anchor(header, rx, sequence, arrival_ns, now_ns, earliest):
    """Fix the timeline by one packet: give it the wanted slack and the best alignment.

    The packet is placed so that every later one, arriving as punctually, is there
    ``margin_frames`` before the tick that needs it. Hub positions are multiples of
    gcd(packet, period), so that no packet straddles more ticks than it must.

    Args:
        earliest: hub sample before which it cannot lie.

    Returns:
        Hub sample at which its first frame is played.
    """
    period, rate = header.period_frames, header.rate_hz
    step = steer.grid(header, rx)
    here = ns_to_frames(arrival_ns + header.guard_ns - header.t0_ns, rate) + 1
    sample = here + rx.margin_frames + period - step
    if rx.filter != 0:
        sample += np.int64(np.ceil(rx.lookahead * (rx.span / rx.frames)))
    next_tick = tick_after(header, now_ns + header.guard_ns) * period
    sample = steer.round_up(max(sample, next_tick, earliest), step)
    rx.base_position = playout.to_line(rx, sample)
    rx.base_sequence = sequence
    rx.owed = 0
    rx.late_run = 0
    rx.odd_run = 0
    rx.slack_min = RING_FRAMES
    rx.slack_since_ns = arrival_ns
    return sample


@kernel
def start(header, rx, line, ring, seen, tools, k, sequence, arrival_ns, now_ns):
    """Begin a session's timeline with its first packet: silence, then a fade-in.

    Args:
        line, ring: (MAX_CHANNELS, RING_FRAMES) float32; their used parts are zeroed.
        seen: (SEEN_PACKETS,) int64.
        tools: workers.playout.Tools; k: which of its clients.
    """
    for channel in range(rx.channels):
        line[channel, : rx.ring_frames] = 0.0
        ring[channel, : rx.ring_frames] = 0.0
    seen[:] = NEVER
    conceal.forget(tools.concealment, k)
    rx.highest = sequence
    rx.accounted = sequence
    rx.resampling = COPYING if rx.filter == 0 else FOLLOWING
    rx.read_phase = 0
    rx.step = rx.nominal_step
    rx.glide = 0
    rx.read_frame = 0
    rx.watermark = 0
    sample = anchor(header, rx, sequence, arrival_ns, now_ns, 0)
    rx.base_position = sample  # the line may begin to count anywhere
    rx.filled = rx.base_position
    rx.read_frame = rx.base_position
    rx.gap_start = -1
    rx.blend_start = rx.base_position
    rx.bridge_end = -1
    rx.conceal_end = rx.base_position + FADE_FRAMES
    steer.begin_clock(header, rx, sequence, arrival_ns)
    store_release(rx, "watermark", sample)


@kernel
def restart(header, rx, line, sequence, arrival_ns, now_ns):
    """The client counts anew from this packet on: its clock is another, too."""
    steer.begin_clock(header, rx, sequence, arrival_ns)
    _set_anew(header, rx, line, sequence, arrival_ns, now_ns)


@kernel
def _advance(rx, seen):
    """Move ``filled`` over contiguous real packets."""
    while True:
        offset = rx.filled - rx.base_position
        if offset < 0:
            return
        sequence = rx.base_sequence + offset // rx.frames
        if sequence > rx.highest or seen[sequence & (SEEN_PACKETS - 1)] != sequence:
            return
        rx.filled += rx.frames - offset % rx.frames
        rx.gap_start = -1


@kernel
def publish(rx, line, ring, seen, tools):
    """Play out all that has become contiguous."""
    _advance(rx, seen)
    playout.push(rx, line, ring, tools, rx.filled)


@kernel
def _behind(header):
    """Hub frames before the play position that are kept: the period being read, and its past."""
    return header.period_frames + 2 * FADE_FRAMES


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
    rx.bridge_start = rx.filled
    rx.bridge_end = end if next_real >= 0 and end == next_real else np.int64(-1)
    return end


@kernel
def _affordable(rx, time_ns, until, next_real):
    """Order of the models for a gap that must be filled within so much time."""
    predicted = 2 * (next_real - rx.filled) if next_real >= 0 else np.int64(0)
    if predicted <= 0 or predicted > 2 * conceal.BRIDGE_FRAMES:
        predicted = until - rx.filled + FADE_FRAMES
    return conceal.affordable_order(time_ns, rx.channels, predicted)


@kernel
def prepare(header, rx, line, seen, tools, k, now_ns):
    """Bridge a hole that will be due before the next packet comes, while there is time.

    Should the missing packet still come in time, it takes its place as if nothing were there.
    """
    if rx.gap_start >= 0 or position_of(rx, rx.highest) <= rx.filled:
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
    order = _affordable(rx, time_ns + header.guard_ns, rx.filled, next_real)
    _fill(header, rx, line, tools, k, header.underrun, order, rx.filled, next_real, future)
    rx.gap_start = -1


@kernel
def _soften(rx, line):
    """Where sound goes on without a gap but from elsewhere, have a tail to fade it in over."""
    if rx.base_position == rx.filled and rx.gap_start < 0:
        _add_tail(rx, line)


@kernel
def _add_tail(rx, line):
    """Have a fade-out written beyond ``filled``, for sound from elsewhere to come in over."""
    newest_end = max(position_of(rx, rx.highest) + rx.frames, rx.filled + FADE_FRAMES)
    past = rx.ring_frames - (newest_end - rx.filled)
    end = rx.filled + FADE_FRAMES
    conceal.fade_out(line, rx.ring_frames - 1, rx.channels, rx.filled, end, past)
    rx.conceal_end = end
    rx.blend_start = rx.filled
    rx.bridge_end = -1


@kernel
def fade_away(header, rx, line, ring, seen, tools):
    """The end of a session: what came is heard, and fades out within FADE_FRAMES and a period."""
    publish(rx, line, ring, seen, tools)
    end = playout.to_hub(rx, rx.filled + FADE_FRAMES)
    up_to = steer.round_up(end, header.period_frames)
    needed = playout.needed_for(rx, up_to)
    past = rx.ring_frames - (needed - rx.filled) - FADE_FRAMES
    conceal.fade_out(line, rx.ring_frames - 1, rx.channels, rx.filled, needed, past)
    rx.underruns += rx.gap_start < 0
    rx.concealed_frames += needed - rx.filled
    rx.filled = needed
    playout.push(rx, line, ring, tools, rx.filled)


@kernel
def _take_back(rx, line, sample):
    """Let the sound go on from elsewhere at an earlier hub sample, cross-faded over all of
    FADE_FRAMES with what was queued there."""
    if rx.filled - playout.to_line(rx, sample) < FADE_FRAMES:
        _add_tail(rx, line)
    playout.rewind(rx, sample)


@kernel
def _skip_lost_time(header, rx, line, up_to):
    """The receiver was away: those ticks are gone, and their place may be taken already."""
    before = rx.read_frame
    playout.skip(rx, up_to - _behind(header))
    lost = rx.read_frame - before
    rx.concealed_frames += lost
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
def _foresee(header, rx, line, ring, seen, tools, k, up_to, time_ns):
    """Where only what the resampler looks ahead at is missing, let it look at a prediction.

    The packet that it stands for is not late by that.
    """
    _advance(rx, seen)
    needed = playout.needed_for(rx, up_to)
    if rx.gap_start >= 0 or rx.filled >= needed or rx.filled < needed - rx.lookahead:
        return
    rx.gap_start = rx.filled
    next_real, future = _beyond(rx, seen)
    order = _affordable(rx, time_ns, needed, next_real)
    end = _fill(header, rx, line, tools, k, _BURG, order, needed, next_real, future)
    rx.gap_start = -1
    if header.underrun != _BURG:
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
def seal(header, rx, line, ring, seen, tools, k, up_to, time_ns):
    """Make every hub sample below up_to final: real where it came, concealed where not.

    Args:
        up_to: the play position, or not much before it.
        time_ns: how long it may take.
    """
    if up_to - rx.watermark > _behind(header):
        _skip_lost_time(header, rx, line, up_to)
        conceal.forget(tools.concealment, k)
    if rx.resampling != COPYING:
        _foresee(header, rx, line, ring, seen, tools, k, up_to, time_ns)
        if rx.watermark >= up_to:
            return
    needed = playout.needed_for(rx, up_to)
    share_ns = time_ns // max(_gaps_due(rx, seen, needed), 1)
    while True:
        _advance(rx, seen)
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
            end = _fill(
                header, rx, line, tools, k, header.underrun, order, until, next_real, future
            )
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
        rx.filled = until
    playout.push(rx, line, ring, tools, rx.filled)


@kernel
def _jump(header, rx, line, frames, play):
    """Skip so many hub frames of what is queued, as far as it is not about to be mixed."""
    step = steer.grid(header, rx)
    room = (rx.watermark - play - header.period_frames) // step * step
    amount = min(frames // step * step, room)
    if amount > 0:
        before = rx.filled
        _take_back(rx, line, rx.watermark - amount)
        rx.overflows += 1
        rx.overflow_frames += before - rx.filled


@kernel
def _change_delay(header, rx, line, sequence, change, play):
    """Carry out what steering cannot glide: a skip (> 0), or a gap (< 0), before a packet.

    Args:
        change: hub frames.
    """
    if rx.filled != position_of(rx, sequence) or rx.gap_start >= 0:
        if rx.resampling != FOLLOWING:
            rx.owed = -change  # not while packets before it may still come
        return
    if change > 0:
        _jump(header, rx, line, change, play)
        rx.base_position = rx.filled
    else:
        rx.base_position = rx.filled + np.int64(np.ceil(-change * (rx.frames / rx.span)))
        rx.grown_frames -= change
    rx.base_sequence = sequence


@kernel
def _set_anew(header, rx, line, sequence, arrival_ns, now_ns):
    """Set the timeline anew by this packet; the way there is a gap like any other."""
    rx.restarts += 1
    playout.end_glide(rx)
    ahead = playout.to_hub(rx, rx.filled)
    anchor(header, rx, sequence, arrival_ns, now_ns, ahead)
    rx.base_position = max(rx.base_position, rx.filled)
    _soften(rx, line)


@kernel
def _give_up_queue(header, rx, line, sequence, arrival_ns, now_ns, play):
    """The ring is full: go on with this packet, the newest, at the wanted depth.

    Where its place is not beyond what is queued, that sound leads up to it and fades.
    """
    queued = rx.watermark
    rx.overflows += 1
    anchor(header, rx, sequence, arrival_ns, now_ns, min(queued, play + header.period_frames))
    sample = playout.to_hub(rx, rx.base_position)
    if sample < queued:
        _take_back(rx, line, sample)
        rx.base_position = rx.filled
    else:
        playout.end_glide(rx)
        rx.base_position = max(rx.base_position, rx.filled)
        _soften(rx, line)


@kernel
def _late_to_stay(rx, arrival_ns):
    """Note one more late packet in a row; True when there are enough to act on.

    A burst after a stalled network is late as well, but comes faster than real time and
    catches up by itself; a client that stalled goes on at its own pace and never does.
    """
    if rx.late_run == 0:
        rx.late_since_ns = arrival_ns
    rx.late_run += 1
    pace_ns = frames_to_ns((rx.late_run - 1) * rx.frames, rx.rate_hz) // 2
    # however long a burst was, what follows it is soon seen for what it is
    deficit_ns = frames_to_ns(LATE_DEFICIT * rx.frames, rx.rate_hz)
    rx.late_since_ns = min(rx.late_since_ns, arrival_ns - pace_ns + deficit_ns)
    return rx.late_run >= LATE_RUN and arrival_ns - rx.late_since_ns >= pace_ns


@kernel
def _overfull(header, rx, position, play):
    """Whether with a packet here the ring would not hold what is queued and is to be kept."""
    behind, span = _behind(header), np.int64(np.ceil(rx.span))
    if rx.frames <= span:
        return playout.to_hub(rx, position) + span - play > rx.ring_frames - behind
    oldest = playout.to_line(rx, play - behind) - 2 * (rx.lookahead - LOOKAHEAD)
    return position + rx.frames - oldest > rx.ring_frames


@kernel
def _ahead_ns(header, rx, position, arrival_ns):
    """How long before it is due a packet came (negative: after)."""
    sample = playout.to_hub(rx, position)
    return tick_time(header, sample // header.period_frames) - header.guard_ns - arrival_ns


@kernel
def _note(rx, seen, sequence):
    """Enter a packet into the books; whether it is the newest."""
    newest = sequence >= rx.highest
    if sequence > rx.highest:
        rx.highest = sequence
        account(rx, seen, sequence - ACCOUNT_PACKETS)
    elif sequence < rx.highest:
        rx.reordered += 1
    seen[sequence & (SEEN_PACKETS - 1)] = sequence
    rx.packets += 1
    return newest


@kernel
def place(
    header, rx, line, ring, seen, tools, k, data, offset, sequence, repair, arrival_ns, now_ns
):  # fmt: skip
    """Put one packet where it belongs; ``publish`` afterwards.

    Args:
        tools: workers.playout.Tools; k: which of its clients.
        data, offset: datagram and where the packet's header begins.
        sequence: extended packet number from ``numbering.extend``.
        repair: whether it came as a redundant copy.
        arrival_ns, now_ns: CLOCK_MONOTONIC of its arrival in the kernel, and of now.

    Returns:
        PLACED, DUPLICATE or LATE.
    """
    if seen[sequence & (SEEN_PACKETS - 1)] == sequence:
        return DUPLICATE
    publish(rx, line, ring, seen, tools)
    settled = sequence >= rx.base_sequence and sequence < rx.accounted
    if settled and position_of(rx, sequence) < rx.filled:
        return DUPLICATE  # of a packet that a receiver had that died
    newest = _note(rx, seen, sequence)
    lateness = 0.0
    if repair:
        lateness = steer.observe_repair(header, rx, sequence, arrival_ns)
    else:
        lateness = steer.observe(header, rx, sequence, arrival_ns)
    if sequence < rx.base_sequence:
        rx.late += 1
        return LATE

    frames = rx.frames
    position = position_of(rx, sequence)
    play = tick_after(header, now_ns + header.guard_ns) * header.period_frames
    ahead_ns = _ahead_ns(header, rx, position, arrival_ns)
    slack = ns_to_frames(ahead_ns, header.rate_hz)
    if position < rx.filled:
        rx.late += 1
        # a packet that came in time but found this process asleep says nothing of its client
        if ahead_ns < 0 and newest:
            grown = steer.growth(header, rx, sequence, position, slack, lateness)
            if grown > 0:
                rx.base_position = position + np.int64(np.ceil(grown * (frames / rx.span)))
                rx.base_sequence = sequence
                rx.grown_frames += grown
                rx.slack_min = RING_FRAMES  # what was before says nothing of the new depth
                rx.slack_since_ns = arrival_ns
            elif _late_to_stay(rx, arrival_ns):
                steer.take_step(header, rx, lateness, arrival_ns)
                _set_anew(header, rx, line, sequence, arrival_ns, now_ns)
    else:
        rx.late_run = 0
        if _overfull(header, rx, position, play):
            if not newest:
                rx.late += 1
                seen[sequence & (SEEN_PACKETS - 1)] = NEVER  # nothing is written
                return LATE
            _give_up_queue(header, rx, line, sequence, arrival_ns, now_ns, play)
            rx.overflow_frames += position - rx.base_position
        elif newest and not repair:
            change = steer.steer(header, rx, sequence, position, slack, lateness, arrival_ns)
            if change != 0:
                _change_delay(header, rx, line, sequence, change, play)
    position = position_of(rx, sequence)
    skip = max(rx.filled - position, 0)
    if skip >= frames:
        return LATE
    write(rx, line, tools.decoded, tools.fade, data, offset + HEADER_BYTES, position, skip)
    publish_level(header, rx)
    return PLACED


@kernel
def covered_tick(header, rx):
    """The first tick that the watermark does not cover."""
    return load_acquire(rx, "watermark") // header.period_frames
