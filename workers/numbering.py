"""A client's packet numbers: from 16 bits to a count without end, and what became of each.

``extend`` tells a packet's place in the stream, and a client's restart from strays;
``account`` counts as lost what never came.
"""

from __future__ import annotations

from shared.kernels import kernel

SEEN_PACKETS = 4096
"""Window in which a packet number is remembered."""
ACCOUNT_PACKETS = 1024
"""A packet this far behind the newest that never came is lost."""
MAX_JUMP = 1000
"""A greater step of the packet number, either way, is a restart and no loss."""
ODD_RUN = 6

PLACED, DUPLICATE, LATE, ODD = range(4)


@kernel
def account(rx, seen, up_to):
    """Count as lost all packets below up_to that never came."""
    first = rx.accounted
    if up_to - first > SEEN_PACKETS:  # cannot be: steps are bounded; never loop unbounded
        first = up_to - SEEN_PACKETS
    for sequence in range(first, up_to):
        if seen[sequence & (SEEN_PACKETS - 1)] != sequence:
            rx.lost += 1
    if up_to > rx.accounted:
        rx.accounted = up_to


@kernel
def finish(rx, seen):
    """Settle the account of lost packets at the end of a session."""
    account(rx, seen, rx.highest + 1)


@kernel
def extend(rx, seen, sequence16):
    """Extended number of a 16-bit packet number, and whether it belongs to the stream.

    A step beyond ±MAX_JUMP is odd; the ODD_RUN-th odd packet in unbroken order is taken
    for the client's restart and becomes the newest.

    Returns:
        (extended number, PLACED or ODD, restarted).
    """
    step = ((sequence16 - rx.highest + 0x8000) & 0xFFFF) - 0x8000
    if -MAX_JUMP <= step <= MAX_JUMP:
        rx.odd_run = 0
        return rx.highest + step, PLACED, False
    if rx.odd_run > 0 and sequence16 == rx.odd_next:
        rx.odd_run += 1
    else:
        rx.odd_run = 1
    rx.odd_next = (sequence16 + 1) & 0xFFFF
    if rx.odd_run < ODD_RUN:
        return rx.highest, ODD, False
    finish(rx, seen)
    sequence = rx.highest + ((sequence16 - rx.highest) & 0xFFFF)
    rx.highest = sequence
    rx.accounted = sequence
    return sequence, PLACED, True


@kernel
def resume(rx, seen):
    """Go on with the timeline of a receiver that died: what it had in hand is a gap."""
    seen[:] = -1
    rx.accounted = rx.highest + 1
