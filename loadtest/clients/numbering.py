"""The numbers of a return stream: what is lost, came twice, or late; and its spacing."""

from __future__ import annotations

import numpy as np

from loadtest.clients.excuses import mark
from loadtest.clients.state import BIN_LOST, BIN_RETURNED, BUCKETS, SPACING
from shared.kernels import kernel

JUMP = 1000
"""A step of the numbering beyond this is a new start, not a loss (as JackTrip has it)."""
DUPLICATE = -(1 << 60)


@kernel
def tally(histogram, ns):
    """Count a time in a histogram of 1 µs buckets (rounded up, the last one open)."""
    bucket = (ns + 999) // 1000
    histogram[min(max(bucket, 0), BUCKETS - 1)] += 1


@kernel
def account(state, index, number, arrival_ns, copy):
    """Count a packet of a return stream by its 16-bit number.

    copy: 1: an older packet that came again in a newer datagram.

    A packet 64 numbers or more behind the newest counts as a duplicate: whether it came
    before is forgotten by then.

    Returns: its extended number, or DUPLICATE; and whether the numbering began anew.
    """
    client, run = state.clients[index], state.run[0]
    measured = run.opened_ns <= arrival_ns < run.closed_ns
    one = np.uint64(1)
    if client.started == 0 and copy:
        return DUPLICATE, False
    step = 0
    if client.started:
        step = ((number - (client.highest & 0xFFFF) + 0x8000) & 0xFFFF) - 0x8000
    extended = client.highest + step if client.started else number
    anew = client.started == 0 or abs(step) > JUMP
    if anew:
        client.restarts += measured and client.started
        client.started = 1
        client.highest = extended
        client.recent = one
    elif step > 0:
        client.recent = (client.recent << np.uint64(step) if step < 64 else np.uint64(0)) | one
        client.highest = extended
        if measured:
            distance = arrival_ns - client.arrival_ns
            client.lost += step - 1
            client.repaired += copy
            if step > 1:
                mark(state, index, BIN_LOST, arrival_ns, step - 1)
            if client.arrival_ns >= run.opened_ns:
                client.gap_ns = max(client.gap_ns, distance)
            if step == 1 and copy == 0 and distance > 0:
                tally(
                    state.histograms[client.section, SPACING],
                    abs(distance - client.nominal_ps // 1000),
                )
    else:
        bit = one << np.uint64(-step) if step > -64 else np.uint64(0)
        if step <= -64 or client.recent & bit:
            client.duplicates += measured and copy == 0
            return DUPLICATE, False
        client.recent |= bit
        if measured:  # it had been counted as lost when its successor came
            client.returned += 1
            client.lost -= 1
            mark(state, index, BIN_LOST, arrival_ns, -1)
            if copy:
                client.repaired += 1
            else:
                client.reordered += 1
            mark(state, index, BIN_RETURNED, arrival_ns, 1)
        return extended, False
    client.arrival_ns = arrival_ns
    if measured:
        client.returned += 1
        mark(state, index, BIN_RETURNED, arrival_ns, 1)
    return extended, anew
