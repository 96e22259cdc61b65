"""Steering: how long a client's sound waits for its packets, and at what pace it is read.

The *margin* is how late a packet may come and still be in time: fixed (``-q N``: N − 1
packets), or what the lateness of packets asks for (``-q auto``). Three ways lead from the
delay there is to the delay wanted::

    grow     at once, in a gap that has opened anyway: the late packets are played later
    glide    one frame in GLIDE_OUTPUTS, by resampling: nobody hears it
    jump     a cross-faded skip, or a gap made to grow in, where a glide would take too long,
             or without resampling

A client whose clock certainly differs (``--drift auto``), or everybody (``on``), is
resampled for good (FOLLOWING): its clock's ratio sets the pace, and what is left of the
error of delay is worn off slowly. So is a client of another sample rate, whatever ``--drift``
says; its frames are as long as ``span / frames`` of the hub's. All delays are in hub frames.
"""

from __future__ import annotations

import numpy as np

from shared.kernels import kernel
from shared.layout import RING_FRAMES, DriftMode
from workers import depth, drift
from workers.hubtime import ns_to_frames
from workers.playout import COPYING, FOLLOWING, GLIDE_OUTPUTS, GLIDING, ONE, glide, played_at

WINDOW_NS = 2_000_000_000
"""A fixed queue that was too long throughout this is shortened."""
AUTO_WINDOW_NS = 1_000_000_000
AUTO_LIMIT_MS = 250
"""An automatic queue never waits longer."""
GLIDES_PER_S = 50
"""A change of delay of more than this fraction of a second is a jump and no glide."""
SLACK_FRAMES = 8
"""An automatic queue this much too short is left alone."""
CHASE_FRAMES, CAUGHT_FRAMES = 24.0, 6.0
"""Errors of delay that make a following client glide, and let it be again."""
WEAR_OFF_S = 40.0
"""Time constant of smaller ones."""
SETTLED_BLOCKS = 20
"""Blocks of packets after which the reference of arrivals may be steered by."""
MAX_RATIO = 1e-3

_OFF, _ON, _AUTO = int(DriftMode.OFF), int(DriftMode.ON), int(DriftMode.AUTO)


@kernel
def gcd(a, b):
    while b:
        a, b = b, a % b
    return a


@kernel
def round_up(value, step):
    return -(-value // step) * step


@kernel
def grid(header, rx):
    """What hub positions of a client's packets are multiples of: 1 if they are no whole ones."""
    return gcd(rx.frames, header.period_frames) if rx.filter == 0 else np.int64(1)


@kernel
def arrival_frames(header, arrival_ns):
    """An arrival in hub frames, with its fraction."""
    return np.float64(arrival_ns - header.t0_ns) * (np.float64(header.rate_hz) / 1e9)


@kernel
def fixed_margin(header, order, rx):
    """How late a packet may be in a queue of a fixed length: hub frames, float64.

    A packet waits for its own length as well.
    """
    if order.queue_packets < 0:
        return max(-order.queue_packets * header.rate_hz / 1000.0 - rx.span, 0.0)
    return (order.queue_packets - 1) * rx.span


@kernel
def set_margin(header, order, rx, room):
    """Take over what the slot's queue asks for.

    Args:
        room: hub frames that the margin may use.
    """
    if order.queue_packets == 0:
        headroom = ns_to_frames(order.headroom_ns, header.rate_hz)
        wanted = np.int64(np.ceil(min(rx.late_wanted, np.float64(RING_FRAMES)))) + headroom
        room = min(room, header.rate_hz * AUTO_LIMIT_MS // 1000)
    else:
        wanted = np.int64(np.ceil(fixed_margin(header, order, rx)))
    rx.queue_packets = order.queue_packets
    rx.underrun = order.underrun
    rx.margin_frames = max(min(wanted, room), 0)
    rx.depth_frames = rx.margin_frames + np.int64(np.ceil(rx.span))


@kernel
def obey_queue(header, order, rx, room):
    """Follow the slot's queue: another fixed length is a change of delay owed."""
    rx.underrun = order.underrun
    if order.queue_packets != 0 and order.queue_packets == rx.queue_packets:
        return
    before = rx.margin_frames
    set_margin(header, order, rx, room)
    if order.queue_packets != 0 and rx.resampling != FOLLOWING:  # whose error of delay tells
        rx.owed += rx.margin_frames - before


@kernel
def begin_clock(header, rx, sequence, arrival_ns):
    """The client's numbers begin, or begin anew: nothing is known of its clock."""
    drift.begin(rx, sequence, arrival_frames(header, arrival_ns))
    depth.begin(rx, header.rate_hz)


@kernel
def resume_clock(header, rx):
    """Go on with the clock that a receiver which died knew."""
    drift.resume(rx, rx.highest, arrival_frames(header, rx.arrival_ns))


@kernel
def observe(header, rx, sequence, arrival_ns):
    """Note when a packet came, in whatever order.

    Returns:
        Its lateness in hub frames, float64: 0 is as punctual as most.
    """
    arrival = arrival_frames(header, arrival_ns)
    lateness = drift.observe(rx, sequence, arrival, header.rate_hz)
    depth.observe(rx, lateness, header.rate_hz)
    return lateness


@kernel
def observe_repair(header, rx, sequence, arrival_ns):
    """Note when a packet came as a later one's copy: worth waiting for. Its lateness, as above."""
    lateness = arrival_frames(header, arrival_ns) - drift.reference(rx, sequence)
    depth.observe(rx, lateness, header.rate_hz)
    return lateness


@kernel
def _surplus(header, rx, sequence, position):
    """Hub frames of delay, float64, that a packet of a client that is FOLLOWED has too many."""
    wanted = rx.margin_frames + header.period_frames + rx.lookahead * (rx.span / rx.frames)
    guard = np.float64(header.guard_ns) * header.rate_hz / 1e9
    return played_at(rx, position) - drift.reference(rx, sequence) - guard - wanted


@kernel
def take_step(header, rx, lateness, arrival_ns):
    """The client's packets are so many frames later from now on: it stalled, or its path is longer.

    Until the clock's loop found that out by itself, a queue that waits for them would seem
    far too long.
    """
    # one packet tells it no better than packets are punctual
    variance = rx.late_wanted * rx.late_wanted
    drift.take_step(rx, lateness, variance, arrival_frames(header, arrival_ns))


@kernel
def _take_owed(rx):
    """Frames by which a fixed queue that is copied was to grow yet: here they are taken at once."""
    frames = max(rx.owed, np.int64(0))
    rx.owed -= frames
    if rx.resampling == GLIDING and rx.glide > 0:
        left = (rx.glide - 1) // GLIDE_OUTPUTS  # it ends at a whole frame
        rx.glide -= left * GLIDE_OUTPUTS
        frames += left
    return frames


@kernel
def growth(header, rx, sequence, position, slack, lateness):
    """Hub frames by which a queue should grow now that a packet came too late: an automatic one by
    what that asks for, a fixed one by what it lacks of what was ordered.

    Args:
        sequence, position: of the packet, and where it lies on the line.
        slack: hub frames before the packet was due when it came; negative.
        lateness: of the packet, in hub frames.
    """
    fixed = rx.queue_packets != 0
    if rx.resampling == FOLLOWING and rx.clock_blocks >= SETTLED_BLOCKS:
        lacking = max(np.int64(np.ceil(-_surplus(header, rx, sequence, position))), np.int64(0))
        if fixed:
            return lacking if lacking > CHASE_FRAMES else np.int64(0)
        return lacking if lacking * 1000 <= header.rate_hz * AUTO_LIMIT_MS else np.int64(0)
    if fixed:
        return _take_owed(rx)
    short = np.float64(rx.margin_frames) - (np.float64(slack) + lateness)
    if short <= 0.0 or short * 1000 > header.rate_hz * AUTO_LIMIT_MS:
        return np.int64(0)  # so much is no jitter: such a client is set anew if it stays late
    return round_up(np.int64(np.ceil(short)), grid(header, rx))


@kernel
def _follow(header, rx, sequence, position, lateness):
    """Set the pace of a client that is resampled to its own clock.

    Returns:
        Hub frames of delay too many (> 0) or too few, where they are too many for a glide; else 0.
    """
    ratio = min(max(rx.clock_ratio, -MAX_RATIO), MAX_RATIO)
    surplus = np.int64(0)
    if rx.clock_blocks >= SETTLED_BLOCKS:
        error = _surplus(header, rx, sequence, position)
        # unless it is rather the clock's line that is not where packets are
        if abs(error) * GLIDES_PER_S > header.rate_hz and 2.0 * abs(lateness) < abs(error):
            surplus = np.int64(error)
        if abs(error) > CHASE_FRAMES:
            rx.glide = 1 if error < 0.0 else -1
        elif abs(error) < CAUGHT_FRAMES:
            rx.glide = 0
        if rx.glide != 0:
            ratio += -1.0 / GLIDE_OUTPUTS if error < 0.0 else 1.0 / GLIDE_OUTPUTS
        else:
            ratio += error / (WEAR_OFF_S * header.rate_hz)
    nominal = np.float64(rx.frames) / rx.span
    rx.step = rx.nominal_step + np.int64(np.floor(ratio * nominal * ONE + 0.5))
    return surplus


@kernel
def _engage(header, rx):
    """Begin to follow the client's clock once it is certain, or at once if told to."""
    if header.drift == _ON or (header.drift == _AUTO and rx.clock_certain != 0):
        rx.resampling = FOLLOWING
        rx.glide = 0
        rx.owed = 0
        rx.engaged += 1


@kernel
def _change(header, rx, frames):
    """Change the delay by so many frames, glided if that is allowed and not for too long.

    Returns:
        Frames that must be skipped instead (> 0) or made up for in a gap (< 0).
    """
    if header.drift == _OFF or abs(frames) * GLIDES_PER_S > header.rate_hz:
        return -frames
    if frames != 0:
        glide(rx, frames)
    return np.int64(0)


@kernel
def steer(header, rx, sequence, position, slack, lateness, arrival_ns):
    """Keep the delay at what is wanted; called for each newest packet that came in time.

    Args:
        sequence, position: of the packet, and where it lies on the line.
        slack: hub frames before it was due when it came.
        lateness: its lateness, float64 hub frames.

    Returns:
        Hub frames of delay to skip at once (> 0) or to add by a gap (< 0); mostly 0.
    """
    if rx.resampling != FOLLOWING:
        _engage(header, rx)
    if rx.resampling == FOLLOWING:
        return _follow(header, rx, sequence, position, lateness)
    step = grid(header, rx)
    automatic = rx.queue_packets == 0
    if automatic:
        slack += np.int64(np.floor(lateness))
    rx.slack_min = min(rx.slack_min, slack)
    if rx.resampling != COPYING:
        rx.slack_since_ns = arrival_ns
        rx.slack_min = RING_FRAMES
        return np.int64(0)
    if rx.owed != 0:
        owed = (rx.owed // step if rx.owed > 0 else -(-rx.owed // step)) * step
        rx.owed = 0
        rx.slack_since_ns = arrival_ns
        rx.slack_min = RING_FRAMES
        return _change(header, rx, owed)
    if arrival_ns - rx.slack_since_ns < (AUTO_WINDOW_NS if automatic else WINDOW_NS):
        return np.int64(0)
    excess = rx.slack_min - rx.margin_frames
    rx.slack_min = RING_FRAMES
    rx.slack_since_ns = arrival_ns
    if automatic:
        if excess < -SLACK_FRAMES:
            return _change(header, rx, round_up(-excess, step))
        if excess >= step + 2 * SLACK_FRAMES:
            return _change(header, rx, -((excess - SLACK_FRAMES) // step * step))
        return np.int64(0)
    # less is the phase between packets and ticks, or jitter
    if excess < header.period_frames + rx.frames:
        return np.int64(0)
    return _change(header, rx, -((excess - header.period_frames // 2) // step * step))
