"""Judging a returned packet: its number, its spacing, and every sample of it.

A stream's position is its packet number times its frames. While a talker is heard, the
distance between that position and the talker's own is constant (``delay``), so that each
sample has exactly one right value. States of a listener::

    nobody heard --- a sync sample found, all samples right ---> talker i at delay d
         ^                                                             |
         +---- i's turn is over ---------------------------------------+
                          (a packet that does not fit is counted; when it fits at
                           another delay, the listener follows it)
"""

from __future__ import annotations

import numpy as np

from loadtest.signals import (
    FAN_OUT,
    SPAN,
    SYNC,
    audible,
    find_sync,
    sounds,
    talker_of,
    voice_differs,
)
from loadtest.state import BUCKETS, LATENCY, SPACING, STAMPS
from shared.kernels import kernel

JUMP = 1000
"""A step of the numbering beyond this is a new start, not a loss (as JackTrip has it)."""
DUPLICATE = -1
DISTURBED_NS = 250_000_000
"""What goes wrong this soon after the generator stalled may be the generator's fault."""


@kernel
def tally(histogram, ns):
    """Count a time in a histogram of 1 µs buckets (rounded up, the last one open)."""
    bucket = (ns + 999) // 1000
    histogram[min(max(bucket, 0), BUCKETS - 1)] += 1


@kernel
def account(client, number, arrival_ns, period_ns, measured, spacing):
    """Count a packet of a return stream by its 16-bit number.

    spacing: histogram of |distance to the packet before − period|.

    A packet 64 numbers or more behind the newest counts as a duplicate: whether it came
    before is forgotten by then.

    Returns: its extended number, or DUPLICATE.
    """
    one = np.uint64(1)
    if client.started == 0:
        client.started = 1
        client.highest = number
        client.recent = one
        client.arrival_ns = arrival_ns
        client.returned += measured
        return number
    step = ((number - (client.highest & 0xFFFF) + 0x8000) & 0xFFFF) - 0x8000
    extended = client.highest + step
    if abs(step) > JUMP:
        client.restarts += measured
        client.highest = extended
        client.recent = one
        client.arrival_ns = arrival_ns
        client.returned += measured
        return extended
    if step > 0:
        client.recent = (client.recent << np.uint64(step) if step < 64 else np.uint64(0)) | one
        client.highest = extended
        if measured:
            client.returned += 1
            client.lost += step - 1
            if step == 1:
                tally(spacing, abs(arrival_ns - client.arrival_ns - period_ns))
        client.arrival_ns = arrival_ns
        return extended
    bit = one << np.uint64(-step) if step > -64 else np.uint64(0)
    if step <= -64 or client.recent & bit:
        client.duplicates += measured
        return DUPLICATE
    client.recent |= bit
    if measured:  # it had been counted as lost when its successor came
        client.reordered += 1
        client.returned += 1
        client.lost -= 1
    return extended


@kernel
def fits(schedule, run, listener, talker, origin, pcm):
    """Whether a packet is right, if its sample 0 is sample `origin` of the talker's stream."""
    frames, channels = schedule.frames, schedule.channels
    packet = origin // frames
    n0 = origin - packet * frames
    cut = frames - n0
    if audible(schedule, run, listener, talker, packet):
        if voice_differs(pcm, frames, channels, 0, cut, talker, packet, n0):
            return False
    elif sounds(pcm, frames, channels, 0, cut):
        return False
    if n0 == 0:
        return True
    if audible(schedule, run, listener, talker, packet + 1):
        return not voice_differs(pcm, frames, channels, cut, frames, talker, packet + 1, 0)
    return not sounds(pcm, frames, channels, cut, frames)


@kernel
def hear(schedule, run, client, listener, origin, arrival_ns, sent_ns, latency):
    """Count the voice packet that begins in this (right) packet, and how long it took."""
    packet = -(-origin // schedule.frames)
    if not audible(schedule, run, listener, client.talker, packet):
        return
    client.heard += 1
    if run.packet - packet >= STAMPS:
        return
    ns = arrival_ns - sent_ns[client.talker, packet % STAMPS]
    client.latency_ns += ns
    client.latency_max_ns = max(client.latency_max_ns, ns)
    tally(latency, ns)


@kernel
def locate(schedule, run, listener, position, pcm):
    """Find the voice that begins in this packet.

    Returns: (talker, delay), or (−1, 0).
    """
    m = find_sync(pcm, schedule.frames)
    if m < 0:
        return -1, 0
    packet = run.packet - ((run.packet - (pcm[m] - SYNC)) & SPAN)
    talker = talker_of(schedule, run, listener, packet)
    if not audible(schedule, run, listener, talker, packet):
        return -1, 0
    return talker, position + m - packet * schedule.frames


@kernel
def own_turn(schedule, run, listener):
    """Whether the listener's own voice may be on its way through the hub now."""
    for packet in (run.packet, run.packet - schedule.talk):
        if packet >= run.first and talker_of(schedule, run, listener, packet) == listener:
            return True
    return False


@kernel
def check(schedule, run, client, listener, position, pcm, arrival_ns, sent_ns, latency):
    """Judge the samples of a returned packet.

    position: of its sample 0 in the return stream, frames.
    pcm: (channels * frames,) int16, planar.
    latency: histogram.
    """
    client.checked += 1
    before = client.talker
    if before >= 0:
        origin = position - client.delay
        packet = origin // schedule.frames
        if audible(schedule, run, listener, before, packet) or audible(
            schedule, run, listener, before, packet + 1
        ):
            if fits(schedule, run, listener, before, origin, pcm):
                hear(schedule, run, client, listener, origin, arrival_ns, sent_ns, latency)
                return
            if not sounds(pcm, schedule.frames, schedule.channels, 0, schedule.frames):
                client.silent += 1
                client.disturbed += arrival_ns - run.stall_ns < DISTURBED_NS
                return
        else:
            before = -1
            client.talker = -1
    if before < 0 and not sounds(pcm, schedule.frames, schedule.channels, 0, schedule.frames):
        return
    talker, delay = locate(schedule, run, listener, position, pcm)
    origin = position - delay
    if talker >= 0 and fits(schedule, run, listener, talker, origin, pcm):
        client.talker = talker
        client.delay = delay
        hear(schedule, run, client, listener, origin, arrival_ns, sent_ns, latency)
        if before < 0:
            return
        client.shifts += 1
    elif schedule.mode == FAN_OUT and own_turn(schedule, run, listener):
        client.leaks += 1
    client.wrong += 1
    client.disturbed += arrival_ns - run.stall_ns < DISTURBED_NS


@kernel
def judge(schedule, run, client, listener, number, pcm, arrival_ns, period_ns, sent_ns, histograms):
    """Take one valid audio packet that came back: number, spacing, samples."""
    measured = run.opened_ns <= arrival_ns < run.closed_ns
    extended = account(client, number, arrival_ns, period_ns, measured, histograms[SPACING])
    if extended == DUPLICATE or run.first < 0 or arrival_ns < run.opened_ns:
        return
    position = extended * schedule.frames
    latency = histograms[LATENCY]
    check(schedule, run, client, listener, position, pcm, arrival_ns, sent_ns, latency)
