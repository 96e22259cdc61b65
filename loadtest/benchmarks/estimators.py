"""Rules for the depth of a jitter buffer, run over whole traces.

Two that estimate a quantile of lateness against a line of reference: over a *window*, and by
NetEq's *histogram* that forgets. Two are JackTrip's own, with the buffers they steer:
*autoqueue* (``-q autoN``, its default buffer) and *regulator* (``--bufstrategy 3``), written
from the description of their behaviour. All times are in frames of the hub's clock, packet k
is sent at k·frames, and a buffer's depth is what passes from then to its play-out.
"""

from __future__ import annotations

import numpy as np

from shared.kernels import kernel

SHRINK = 500e-6
"""Frames a frame by which a delay may shrink unheard: by resampling."""
SETTLE_S = 20.0
"""What happens before is not counted."""
EARLY, BUCKETS, BUCKET_S = 64, 8192, 62.5e-6


@kernel
def play(delay, reference, wanted, frames, settle, result):
    """Late packets and mean depth when a delay follows what is wanted.

    A delay too short grows at once, one too long shrinks by SHRINK.

    Args:
        delay, reference, wanted: (n,) float64, frames; the latter two as of before packet k.
        settle: packets not counted.
        result: (2,) float64: share of late packets, mean depth in frames.
    """
    depth = reference[0] + wanted[0]
    late, total = 0, 0.0
    for k in range(len(delay)):
        depth = max(reference[k] + wanted[k], depth - SHRINK * frames)
        if k >= settle:
            total += depth
            if delay[k] > depth:
                late += 1
    count = len(delay) - settle
    result[0] = late / count
    result[1] = total / count


@kernel
def _bucket(lateness, rate_hz):
    """Linear buckets of 62.5 µs; the first ones are for early packets."""
    return min(max(np.int64(np.floor(lateness / (BUCKET_S * rate_hz))) + EARLY, 0), BUCKETS - 1)


@kernel
def _edge(bucket, rate_hz):
    return (bucket - EARLY + 1) * BUCKET_S * rate_hz


@kernel
def window(lateness, share, packets, rate_hz, counts, wanted):
    """The quantile of the last so many packets.

    Args:
        lateness: (n,) float64, frames; share: that may be later; packets: in the window.
        counts: (BUCKETS,) float64, zeros; wanted: (n,) float64, frames.
    """
    top, beyond = EARLY, 0.0  # packets in buckets above top
    for k in range(len(lateness)):
        wanted[k] = _edge(top, rate_hz)
        bucket = _bucket(lateness[k], rate_hz)
        counts[bucket] += 1.0
        if bucket > top:
            beyond += 1.0
        if k >= packets:
            old = _bucket(lateness[k - packets], rate_hz)
            counts[old] -= 1.0
            if old > top:
                beyond -= 1.0
        allowed = share * min(k + 1, packets)
        while beyond > allowed:
            top += 1
            beyond -= counts[top]
        while top > 0 and beyond + counts[top] <= allowed:
            beyond += counts[top]
            top -= 1


@kernel
def histogram(lateness, share, forget, rate_hz, counts, wanted):
    """The quantile of a histogram all of whose buckets shrink by a factor a packet.

    As NetEq's: all that has been seen weighs 1, a new packet 1 − forget, and in the beginning
    as much as all before it together.

    Args:
        forget: factor a packet.
        others: as for ``window``.
    """
    top, weight, total, beyond = EARLY, 1.0, 0.0, 0.0
    for k in range(len(lateness)):
        wanted[k] = _edge(top, rate_hz)
        weight /= forget  # instead of all others becoming lighter
        if weight > 1e9:
            for i in range(BUCKETS):
                counts[i] /= weight
            total /= weight
            weight, beyond = 1.0, 0.0
            for i in range(top + 1, BUCKETS):
                beyond += counts[i]
        bucket = _bucket(lateness[k], rate_hz)
        counts[bucket] += weight
        total += weight
        if bucket > top:
            beyond += weight
        while beyond > share * total and top < BUCKETS - 1:
            top += 1
            beyond -= counts[top]
        while top > 0 and beyond + counts[top] <= share * total:
            beyond += counts[top]
            top -= 1


@kernel
def autoqueue(arrivals, frames, rate_hz, effort, phase, settle, result):
    """JackTrip's default buffer with ``-q auto``: a ring of bytes, here of frames.

    Args:
        arrivals: (n,) float64, frames. effort: N of autoN. phase: of the reads, frames.
        settle: packets not counted; result: (2,) float64, as for ``play``; gaps and skipped
            slots count as late packets.
    """
    slot = np.float64(frames)
    length = 3 * slot
    read, write, level = 0.0, length, 0.0
    need, rate = 2 * slot, 0.5 * slot
    base = write
    decided_at = 2.0 * rate_hz
    now = arrivals[0] + phase
    late, reads, total, inserts = 0, 0, 0.0, 0
    k, count = 0, len(arrivals)
    while k < count:
        while k < count and arrivals[k] <= now:
            held = write - read
            inserts += 1
            f = 500.0 / max(500, inserts)
            if held < -10 * length:
                read = write
            elif held + slot > length:
                read += slot
                late += 1 if k >= settle else 0
            elif held < 0 and level < max(slot + 1.9 * slot, length + 10 * slot - 2 * slot * f):
                read -= min(-held, slot)
                inserts = 0
            level = max(level, held)
            write += slot
            k += 1
        held = write - read
        if k >= settle:
            reads += 1
            total += now - (read - base)
            late += 1 if held < slot else 0
        level -= slot * min(256, frames) / (5.0 * rate_hz)
        if held + need < level:
            need += rate
        elif need > 2 * slot:
            need -= rate / effort
        rate = max(rate - slot * min(frames * 1.2e-6, 0.0005), 0.0005 * slot)
        read += slot
        if now >= decided_at:
            decided_at += 4.0 * rate_hz
            wanted = need * (1 + 1e-5 * effort)
            if now < 12.0 * rate_hz or abs(wanted - length + slot / 2) > 0.6 * slot:
                length = max(np.ceil(wanted / slot), 2.0) * slot
        now += slot
    result[0] = late / max(reads, 1)
    result[1] = total / max(reads, 1)


@kernel
def _spread(times, first, last, long_term, windows):
    """One window's standard deviation and maximum into their long-term means."""
    mean, square, highest = 0.0, 0.0, 0.0
    for i in range(first, last):
        step = times[i] - times[i - 1]
        mean += step
        square += step * step
        highest = max(highest, step)
    mean /= last - first
    deviation = np.sqrt(max(square / (last - first) - mean * mean, 0.0))
    share = 1.0 / min(windows + 1, 480)
    long_term[0] += share * (deviation - long_term[0])
    long_term[1] += share * (highest - long_term[1])


@kernel
def regulator(arrivals, frames, rate_hz, headroom_ms, phase, settle, long_term, result):
    """JackTrip's Regulator with ``-q auto``: tolerance from the spread of arrival intervals.

    The hub's own callbacks are taken to be perfectly regular.

    Args:
        arrivals: (n,) float64, frames. headroom_ms: N of autoN; below 0: plain auto, which
            grows it as glitches come. phase: of the callbacks, frames.
        long_term: (2,) float64, zeros: means of windows' deviation and maximum.
        settle, result: as for ``play``; concealed packets count as late ones.
    """
    slot, ms = np.float64(frames), rate_hz / 1e3
    per_window = np.int64(rate_hz / 8 / frames)
    tolerance = 0.5 * frames * ms
    headroom = max(headroom_ms, 0.0) * ms
    now = arrivals[0] + phase
    decided_at, windows, filled = 2.0 * rate_hz, 0, 1
    out, newest, count = -1, 0, len(arrivals)
    glitches, bad_seconds, stashed, worst = 0, 0, -1, 0.0
    late, reads, total = 0, 0, 0.0
    while newest + 1 < count:
        while newest + 1 < count and arrivals[newest + 1] <= now:
            newest += 1
            if newest - filled >= per_window:
                _spread(arrivals, filled, newest, long_term, windows)
                windows += 1
                filled = newest
        if now >= decided_at:
            decided_at += rate_hz
            allowed = np.ceil(0.006 * rate_hz / frames)
            bad_seconds = bad_seconds + 1 if glitches > allowed and now > 4.0 * rate_hz else 0
            if headroom_ms < 0 and bad_seconds >= 2:
                limit = max(3 * long_term[1], worst + 10 * ms)
                headroom = min(headroom + max(ms, worst - tolerance), limit)
                bad_seconds = 0
            glitches, worst = 0, 0.0
            push = long_term[0] + min(long_term[1], 250 * ms) + headroom
            tolerance = min(max(push, slot), 250 * ms)
        if out < 0 and now - arrivals[0] < tolerance:
            now += slot
            continue
        played = -1
        if stashed >= 0:
            played, stashed = stashed, -1
        else:
            for k in range(out + 1, newest + 1):
                worst = max(worst, now - arrivals[k])
                if now - arrivals[k] <= tolerance or k == newest:
                    played = k
                    break
            skipped = played - out - 1 if out >= 0 and played >= 0 else 0
            if skipped == 1:
                stashed, played = played, played - 1
            elif skipped > 1:
                stashed, played = played, -1
                out = stashed - 1
                late += skipped - 1 if stashed >= settle else 0
        if played >= 0:
            out = played
        else:
            glitches += 1
        if newest >= settle:
            reads += 1
            late += 1 if played < 0 else 0
            total += now - (played if played >= 0 else out + 1) * slot
        now += slot
    result[0] = late / max(reads, 1)
    result[1] = total / max(reads, 1)
