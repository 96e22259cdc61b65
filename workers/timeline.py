"""The jitter buffer: a client's packets in time, or what stands in for them.

Packets are decoded onto the client's *line* (``workers.line``) in whatever order they come;
``filled`` then moves over all that is contiguous, and what is final is played out into the
input ring at once (``workers.playout``). What is missing when its tick comes is concealed
(``workers.gaps``); what comes after that is late::

        final, on its way to the mixer    |  to come
    ----[real][real][concealed][real]-----|--[     ][real]------> line
                                       filled  missing

``workers.steer`` says how long all this waits. While packets come in time and clocks agree,
nothing of it touches a sample.
"""

from __future__ import annotations

import numpy as np

from shared.atomics import store_release
from shared.kernels import kernel
from shared.layout import RING_FRAMES
from shared.protocol import HEADER_BYTES
from workers import conceal, playout, steer
from workers.conceal import FADE_FRAMES
from workers.gaps import add_tail, soften
from workers.hubtime import frames_to_ns, ns_to_frames, tick_after, tick_time
from workers.line import advance, position_of, publish_level, write
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
from workers.room import overfull

LATE_RUN = 3
LATE_DEFICIT = 8
"""Packets that a burst can be ahead of the pace of a client that stays late, at most."""


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
    store_release(rx, "resting", 0)
    steer.begin_clock(header, rx, sequence, arrival_ns)
    store_release(rx, "watermark", sample)


@kernel
def restart(header, rx, line, sequence, arrival_ns, now_ns):
    """The client counts anew from this packet on: its clock is another, too."""
    steer.begin_clock(header, rx, sequence, arrival_ns)
    _set_anew(header, rx, line, sequence, arrival_ns, now_ns)


@kernel
def publish(rx, line, ring, seen, tools):
    """Play out all that has become contiguous."""
    advance(rx, seen)
    playout.push(rx, line, ring, tools, rx.filled)


@kernel
def _take_back(rx, line, sample):
    """Let the sound go on from elsewhere at an earlier hub sample, cross-faded over all of
    FADE_FRAMES with what was queued there."""
    if rx.filled - playout.to_line(rx, sample) < FADE_FRAMES:
        add_tail(rx, line)
    playout.rewind(rx, sample)


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
    soften(rx, line)


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
        soften(rx, line)


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
        if overfull(header, rx, position, play):
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
