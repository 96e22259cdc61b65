"""How long a client's line and ring are, and what they have room for.

Line and ring are of one size, a power of two. A ring holds what waits to be played, the
margin among it, the period that the mixer reads, and the past that gaps are filled from::

    |<- past ->|<- being played ->|<- margin ->|<- packets ->|
                                  play position
"""

from __future__ import annotations

import numpy as np

from shared.atomics import store_release
from shared.kernels import kernel
from shared.layout import MIN_RING_FRAMES, RING_FRAMES
from workers import depth, playout, steer
from workers.conceal import FADE_FRAMES, HISTORY_FRAMES
from workers.filters import LOOKAHEAD


@kernel
def stretch(rx):
    """Ring frames that a hub frame takes: line and input ring are of one size, and on the line
    a client of a higher rate takes more."""
    return max(np.float64(rx.frames) / rx.span, 1.0)


@kernel
def _reserve(header, rx, packets):
    """Frames of the ring that are not the margin's: so many packets, what is being played, and
    the past."""
    packet = max(rx.frames, np.int64(np.ceil(rx.span)))
    playing = np.int64(np.ceil(2 * header.period_frames * stretch(rx)))
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
    if order.queue_packets == 0:
        margin = np.float64(header.rate_hz * steer.AUTO_LIMIT_MS // 1000)
    else:
        margin = steer.fixed_margin(header, order, rx)
    wanted = np.int64(np.ceil(margin * stretch(rx))) + _reserve(header, rx, 3)
    size = MIN_RING_FRAMES
    while size < wanted and size < RING_FRAMES:
        size *= 2
    return size


@kernel
def _room(header, rx):
    """Hub frames that the margin may take in the ring."""
    return np.int64((rx.ring_frames - _reserve(header, rx, 3)) / stretch(rx))


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
def kept(header):
    """Hub frames before the play position that are kept: the period being read, and its past."""
    return header.period_frames + 2 * FADE_FRAMES


@kernel
def overfull(header, rx, position, play):
    """Whether with a packet here the ring would not hold what is queued and is to be kept."""
    behind, span = kept(header), np.int64(np.ceil(rx.span))
    if rx.frames <= span:
        return playout.to_hub(rx, position) + span - play > rx.ring_frames - behind
    oldest = playout.to_line(rx, play - behind) - 2 * (rx.lookahead - LOOKAHEAD)
    return position + rx.frames - oldest > rx.ring_frames
