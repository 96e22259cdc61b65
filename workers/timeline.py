"""A client's packets on the hub's timeline: the jitter buffer and its seams.

Packet number s begins at hub sample ``base_position + (s − base_sequence)·frames``. It
is decoded straight into the input ring there, in whatever order packets arrive; the
*watermark* then moves over all that is contiguous. What is missing when its tick comes
is concealed by ``seal``; what comes after that is late::

        final, the mixer may read     |  to come
    ----[real][real][concealed][real]-|--[     ][real]------> hub samples
                                  watermark   missing

Seams never click: a gap begins with the mirrored past, faded out, and ends with a
cross-fade into the real audio, FADE_FRAMES each. While packets come in time, nothing of
this touches a sample.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shared.atomics import load_acquire, store_release
from shared.kernels import kernel
from shared.layout import MIN_RING_FRAMES, RING_FRAMES
from shared.protocol import HEADER_BYTES
from workers.hubtime import frames_to_ns, ns_to_frames, tick_after, tick_time
from workers.numbering import (
    ACCOUNT_PACKETS,
    DUPLICATE,
    LATE,
    PLACED,
    SEEN_PACKETS,
    account,
)
from workers.pcm import decode, level

FADE_FRAMES = 128
LATE_RUN = 3
SKIP_WINDOW_NS = 2_000_000_000
LEVELS_PER_S = 10


def fade_table() -> npt.NDArray[np.float32]:
    """Raised-cosine fade-in, (FADE_FRAMES,) float32, above 0 and below 1."""
    phase = (np.arange(FADE_FRAMES) + 1) / (FADE_FRAMES + 1)
    return (0.5 - 0.5 * np.cos(np.pi * phase)).astype(np.float32)


@kernel
def _gcd(a, b):
    while b:
        a, b = b, a % b
    return a


@kernel
def _round_up(value, step):
    return -(-value // step) * step


@kernel
def size_ring(header, rx, queue_packets):
    """Choose queue depth and ring size for a client whose format is known."""
    frames, period = rx.frames, header.period_frames
    reserve = 2 * frames + 2 * period + FADE_FRAMES + 1024
    depth = min(queue_packets * frames, RING_FRAMES - reserve)
    rx.depth_frames = depth
    size = MIN_RING_FRAMES
    while size < depth + reserve:
        size *= 2
    rx.ring_frames = size


@kernel
def anchor(header, rx, sequence, arrival_ns, now_ns):
    """Fix the timeline by one packet: give it the wanted slack and the best alignment.

    The packet is placed so that every later one, arriving as punctually, is there
    ``depth − frames`` before the tick that needs it. Positions are multiples of
    gcd(packet, period), so that no packet straddles more ticks than it must.
    """
    period, rate = header.period_frames, header.rate_hz
    step = _gcd(rx.frames, period)
    here = ns_to_frames(arrival_ns + header.guard_ns - header.t0_ns, rate) + 1
    position = here + rx.depth_frames - rx.frames + period - step
    earliest = tick_after(header, now_ns + header.guard_ns) * period
    rx.base_position = _round_up(max(position, earliest, rx.watermark), step)
    rx.base_sequence = sequence
    rx.late_run = 0
    rx.odd_run = 0
    rx.slack_min = RING_FRAMES
    rx.slack_since_ns = arrival_ns
    _soften(rx)


@kernel
def _soften(rx):
    """Where the new timeline begins without a gap, fade as after one: the sound jumps there."""
    if rx.base_position == rx.watermark and (rx.gap_start < 0 or rx.fade_frames > 0):
        rx.gap_start = rx.watermark
        rx.fade_frames = 0


@kernel
def start(header, rx, ring, seen, sequence, arrival_ns, now_ns):
    """Begin a session's timeline with its first packet: silence, then a fade-in.

    Args:
        ring: (MAX_CHANNELS, RING_FRAMES) float32; its used part is zeroed.
        seen: (SEEN_PACKETS,) int64.
    """
    for channel in range(rx.channels):
        ring[channel, : rx.ring_frames] = 0.0
    seen[:] = -1
    rx.highest = sequence
    rx.accounted = sequence
    anchor(header, rx, sequence, arrival_ns, now_ns)
    rx.gap_start = rx.base_position - FADE_FRAMES
    rx.fade_frames = 0
    store_release(rx, "watermark", rx.base_position)


@kernel
def _write(rx, ring, data, offset, position, skip):
    """Decode a packet's samples from frame skip on into the ring; measure their level."""
    frames, bits, mask = rx.frames, rx.bits, rx.ring_frames - 1
    width = bits // 8
    count = frames - skip
    at = (position + skip) & mask
    first = min(count, rx.ring_frames - at)
    for channel in range(rx.channels):
        source = offset + (channel * frames + skip) * width
        row = ring[channel]
        rx.sanitised += decode(data, source, bits, first, row[at:])
        peak, squares = level(row, at, first)
        if count > first:
            rx.sanitised += decode(data, source + first * width, bits, count - first, row)
            more, rest = level(row, 0, count - first)
            peak = max(peak, more)
            squares += rest
        rx.window_peak = max(rx.window_peak, peak)
        rx.window_squares += squares
    rx.window_frames += count


@kernel
def _meter(header, rx):
    """Publish peak and RMS (over all channels) of a window that is full."""
    if rx.window_frames * LEVELS_PER_S >= header.rate_hz:
        rx.peak = rx.window_peak
        rx.rms = np.sqrt(rx.window_squares / (rx.window_frames * rx.channels))
        rx.window_peak = 0.0
        rx.window_squares = 0.0
        rx.window_frames = 0


@kernel
def _mirror(row, mask, gap_start, into_gap, fade):
    """Concealment of one frame: the past, mirrored at the gap's edge and faded out."""
    if into_gap >= FADE_FRAMES:
        return np.float32(0.0)
    return row[(gap_start - 1 - into_gap) & mask] * (np.float32(1.0) - fade[into_gap])


@kernel
def _fade_in(rx, ring, fade, position, count):
    """Cross-fade real frames after a gap; returns when the fade is over or count is."""
    mask = rx.ring_frames - 1
    done = rx.fade_frames
    count = min(count, FADE_FRAMES - done)
    for channel in range(rx.channels):
        row = ring[channel]
        for i in range(count):
            tail = _mirror(row, mask, rx.gap_start, position + i - rx.gap_start, fade)
            at = (position + i) & mask
            row[at] = row[at] * fade[done + i] + tail * (np.float32(1.0) - fade[done + i])
    rx.fade_frames = done + count
    if rx.fade_frames == FADE_FRAMES:
        rx.gap_start = -1


@kernel
def _advance(rx, ring, seen, fade, position):
    """Move over contiguous real packets from position on; the new position."""
    while True:
        offset = position - rx.base_position
        if offset < 0:
            return position
        sequence = rx.base_sequence + offset // rx.frames
        if sequence > rx.highest or seen[sequence & (SEEN_PACKETS - 1)] != sequence:
            return position
        count = rx.frames - offset % rx.frames
        if rx.gap_start >= 0:
            _fade_in(rx, ring, fade, position, count)
        position += count


@kernel
def publish(rx, ring, seen, fade):
    """Raise the watermark over all that has become contiguous."""
    position = _advance(rx, ring, seen, fade, rx.watermark)
    if position != rx.watermark:
        store_release(rx, "watermark", position)


@kernel
def _behind(header):
    """Frames before the play position that are kept: the period being read, and its past."""
    return header.period_frames + 2 * FADE_FRAMES


@kernel
def seal(header, rx, ring, seen, fade, up_to):
    """Make every frame below up_to final: real where it came, concealed where not.

    Args:
        up_to: the play position, or not much before it.
    """
    position = rx.watermark
    if up_to - position > _behind(header):
        # the receiver was away; those ticks are gone, and their place may be taken already
        rx.concealed_frames += up_to - _behind(header) - position
        position = up_to - _behind(header)
        rx.gap_start = position - FADE_FRAMES
        rx.fade_frames = 0
        rx.underruns += 1
    mask = rx.ring_frames - 1
    while True:
        position = _advance(rx, ring, seen, fade, position)
        if position >= up_to:
            break
        offset = position - rx.base_position
        count = -offset if offset < 0 else rx.frames - offset % rx.frames
        count = min(count, up_to - position)
        if rx.gap_start < 0 or rx.fade_frames > 0:
            rx.gap_start = position
            rx.fade_frames = 0
            rx.underruns += 1
        for channel in range(rx.channels):
            row = ring[channel]
            for i in range(count):
                row[(position + i) & mask] = _mirror(
                    row, mask, rx.gap_start, position + i - rx.gap_start, fade
                )
        rx.concealed_frames += count
        position += count
    store_release(rx, "watermark", position)


@kernel
def _splice(rx, ring, fade, position, amount):
    """Move a packet, the newest and already written, earlier by amount; cross-fade into it."""
    mask = rx.ring_frames - 1
    target = position - amount
    count = min(min(rx.frames, FADE_FRAMES), amount)
    for channel in range(rx.channels):
        row = ring[channel]
        for i in range(rx.frames):
            new = row[(position + i) & mask]
            at = (target + i) & mask
            if i < count:
                up = fade[i * FADE_FRAMES // count]
                new = new * up + row[at] * (np.float32(1.0) - up)
            row[at] = new
    rx.base_position -= amount
    rx.overflows += 1
    rx.overflow_frames += amount
    store_release(rx, "watermark", target + rx.frames)


@kernel
def _excess(header, rx, play, position):
    """Frames by which the queue was too long throughout a window, in whole steps.

    A queue is left alone until even its latest packet had a period and a packet more
    slack than wanted: less is the phase between packets and ticks, or jitter.
    """
    period, frames = header.period_frames, rx.frames
    excess = rx.slack_min - (rx.depth_frames - frames)
    if excess < period + frames:
        return 0
    step = _gcd(frames, period)
    amount = (excess - period // 2) // step * step
    return min(amount, (position - play - period) // step * step)


@kernel
def _reanchor(header, rx, sequence, arrival_ns, now_ns):
    """Set the timeline anew by this packet; the way there is a gap like any other."""
    rx.restarts += 1
    anchor(header, rx, sequence, arrival_ns, now_ns)
    return rx.base_position


@kernel
def _give_up_queue(header, rx, sequence, arrival_ns, now_ns, play):
    """The ring is full: go on with this packet, the newest, at the wanted depth.

    Where its place is not beyond what is queued, that sound leads up to it and fades.
    """
    queued = rx.watermark
    rx.overflows += 1
    rx.watermark = min(queued, play + header.period_frames)
    anchor(header, rx, sequence, arrival_ns, now_ns)
    store_release(rx, "watermark", min(queued, rx.base_position))
    _soften(rx)
    return rx.base_position


@kernel
def _late_to_stay(rx, arrival_ns):
    """Note one more late packet in a row; True when there are enough to act on.

    A burst after a stalled network is late as well, but comes faster than real time and
    catches up by itself; a client that stalled goes on at its own pace and never does.
    """
    if rx.late_run == 0:
        rx.late_since_ns = arrival_ns
    rx.late_run += 1
    return rx.late_run >= LATE_RUN


@kernel
def _ahead_ns(header, position, arrival_ns):
    """How long before it is due a packet came (negative: after)."""
    return tick_time(header, position // header.period_frames) - header.guard_ns - arrival_ns


@kernel
def place(header, rx, ring, seen, fade, data, offset, sequence, arrival_ns, now_ns):
    """Put one packet where it belongs; ``publish`` afterwards.

    Args:
        data, offset: datagram and where the packet's header begins.
        sequence: extended packet number from ``extend``.
        arrival_ns, now_ns: CLOCK_MONOTONIC of its arrival in the kernel, and of now.

    Returns:
        PLACED, DUPLICATE or LATE.
    """
    index = sequence & (SEEN_PACKETS - 1)
    if seen[index] == sequence:
        return DUPLICATE
    frames = rx.frames
    newest = sequence >= rx.highest
    if sequence > rx.highest:
        rx.highest = sequence
        account(rx, seen, sequence - ACCOUNT_PACKETS)
    elif sequence < rx.highest:
        rx.reordered += 1
    seen[index] = sequence
    rx.packets += 1

    position = rx.base_position + (sequence - rx.base_sequence) * frames
    ahead_ns = _ahead_ns(header, position, arrival_ns)
    play = tick_after(header, now_ns + header.guard_ns) * header.period_frames
    if position < rx.watermark or sequence < rx.base_sequence:
        rx.late += 1
        if sequence < rx.base_sequence:
            return LATE
        # a packet that came in time but found this process asleep says nothing of its client
        if ahead_ns < 0 and _late_to_stay(rx, arrival_ns) and newest:
            pace_ns = frames_to_ns((rx.late_run - 1) * frames, header.rate_hz) // 2
            if arrival_ns - rx.late_since_ns >= pace_ns:
                position = _reanchor(header, rx, sequence, arrival_ns, now_ns)
    else:
        rx.late_run = 0
        if position + frames - play > rx.ring_frames - _behind(header):
            if not newest:
                return LATE
            skipped = position
            position = _give_up_queue(header, rx, sequence, arrival_ns, now_ns, play)
            rx.overflow_frames += skipped - position
    skip = rx.watermark - position
    if skip >= frames:
        return LATE
    _write(rx, ring, data, offset + HEADER_BYTES, position, max(skip, 0))
    _meter(header, rx)

    ahead_ns = _ahead_ns(header, position, arrival_ns)
    rx.slack_min = min(rx.slack_min, ns_to_frames(ahead_ns, header.rate_hz))
    if arrival_ns - rx.slack_since_ns >= SKIP_WINDOW_NS:
        if newest and skip == 0 and rx.gap_start < 0:
            amount = _excess(header, rx, play, position)
            if amount > 0:
                _splice(rx, ring, fade, position, amount)
        rx.slack_min = RING_FRAMES
        rx.slack_since_ns = arrival_ns
    return PLACED


@kernel
def covered_tick(header, rx):
    """The first tick that the watermark does not cover."""
    return load_acquire(rx, "watermark") // header.period_frames
