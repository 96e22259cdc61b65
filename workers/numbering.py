"""A client's packet numbers: from 16 bits to a count without end, and what became of each.

``extend`` tells a packet's place in the stream, and a client's restart from strays;
``account`` counts as lost what never came.

A number that is not among the MAX_JUMP after the newest is *odd*: old, or far away. Odd
numbers that go on from each other, with nothing newer between, are a *run*; a long enough
run is a client that counts anew. Far away nothing else makes one. Among the old it must
last RESTART_NS at the client's own pace: a burst is faster, what was merely overtaken is
over sooner, and a network that repeats everything has done so while newer packets came::

    newest 900                    the client counts anew from 600
    ... 898 899 900 | 600 601 602 ... 637 : 38 odd numbers in 100 ms: a run
    ... 898 848 899 849 900 850 | 851 852 : newer came between: an echo, wait longer
"""

from __future__ import annotations

from shared.kernels import kernel

SEEN_PACKETS = 4096
"""Window in which a packet number is remembered."""
NEVER = -(1 << 62)
"""In the place of a number: none was seen. Those before a stream's first may be negative."""
ACCOUNT_PACKETS = 1024
"""A packet this far behind the newest that never came is lost."""
MAX_JUMP = 1000
"""A greater step of the packet number, either way, is a restart and no loss."""
ODD_RUN = 6
"""Odd packets that make a run of a restart, at least."""
ODD_GAP = 8
"""Numbers that may be missing inside a run."""
RESTART_NS = 100_000_000
"""How long a run of old numbers must last."""
ECHO_NS = 400_000_000
"""And how much longer if it is an echo: newer packets came amidst it, ECHOES times."""
ECHOES = 6
ECHO_GAP = 64
"""Numbers that may be missing inside an echo: not all need be repeated."""
PAUSE_NS = 200_000_000
"""A run has ended when nothing of it came for so long, or for PAUSE_PACKETS."""
PAUSE_PACKETS = 4

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
def _signed(difference16):
    """A difference of packet numbers as −32768..32767."""
    return ((difference16 + 0x8000) & 0xFFFF) - 0x8000


@kernel
def _run_on(rx, sequence16, arrival_ns, packet_ns):
    """Note an odd number; False when it is no later than its run."""
    echoes = 0
    running = rx.odd_run > 0 or rx.odd_echo > 0
    if running and arrival_ns - rx.odd_last_ns <= max(PAUSE_NS, PAUSE_PACKETS * packet_ns):
        ahead = _signed(sequence16 - rx.odd_next)
        if ahead < 0 and -ahead <= ((rx.odd_next - rx.odd_first) & 0xFFFF) + ODD_GAP:
            return False
        if ahead >= 0 and ahead <= ODD_GAP:
            if rx.odd_run == 0:
                rx.odd_first = sequence16
                rx.odd_since_ns = arrival_ns
            rx.odd_run += 1
            rx.odd_next = (sequence16 + 1) & 0xFFFF
            rx.odd_last_ns = arrival_ns
            return True
        if ahead > ODD_GAP and ahead <= ECHO_GAP:
            echoes = rx.odd_echo
    rx.odd_run = 1
    rx.odd_echo = echoes
    rx.odd_first = sequence16
    rx.odd_next = (sequence16 + 1) & 0xFFFF
    rx.odd_since_ns = arrival_ns
    rx.odd_last_ns = arrival_ns
    return True


@kernel
def _counts_anew(rx, far, packet_ns):
    """Whether the run at hand is a client that began to count anew."""
    if rx.odd_run < ODD_RUN:
        return False
    if far:
        return True
    lasted = rx.odd_last_ns - rx.odd_since_ns
    pace = ((rx.odd_next - 1 - rx.odd_first) & 0xFFFF) * packet_ns
    wanted = RESTART_NS + (ECHO_NS if rx.odd_echo >= ECHOES else 0)
    return lasted >= wanted and 4 * lasted >= 3 * pace and 2 * lasted <= 3 * pace


@kernel
def extend(rx, seen, sequence16, arrival_ns, packet_ns):
    """Extended number of a 16-bit packet number, and whether it belongs to the stream.

    A packet that turns out to have been of use must reset ``rx.odd_run``: then it was
    old because others were too new.

    Args:
        packet_ns: duration of one packet.

    Returns:
        (extended number, PLACED or ODD, restarted); restarted: the client counts anew,
        and this packet is the newest.
    """
    step = _signed(sequence16 - rx.highest)
    if step > 0 and step <= MAX_JUMP:
        if rx.odd_run > 0:
            rx.odd_run = 0
            rx.odd_echo += 1
        return rx.highest + step, PLACED, False
    far = step < -MAX_JUMP or step > MAX_JUMP
    if not _run_on(rx, sequence16, arrival_ns, packet_ns) or not _counts_anew(rx, far, packet_ns):
        if far:
            return rx.highest, ODD, False
        return rx.highest + step, PLACED, False
    rx.odd_run = 0
    rx.odd_echo = 0
    finish(rx, seen)
    sequence = rx.highest + 1 + ((sequence16 - rx.highest - 1) & 0xFFFF)
    rx.highest = sequence
    rx.accounted = sequence
    return sequence, PLACED, True


@kernel
def resume(rx, seen):
    """Go on with the timeline of a receiver that died: what it had in hand is a gap.

    A gap that was running is one anew, told from what was heard last: where it led to, nobody
    knows any more. One that was silent goes on.
    """
    seen[:] = NEVER
    rx.accounted = rx.highest + 1
    if rx.resting == 0:
        rx.gap_start = -1
    rx.bridge_end = -1
