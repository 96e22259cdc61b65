"""A client whose source port changes in mid-session: followed, if its packets are its own.

A NAT router that loses its table gives a client another port, and its datagrams come from
there. Anybody behind the same router could send such: so they must go on where the client
left off, in all that it alone knows or does. Of datagrams from its address, in its format:

- the packet number is beyond the newest, and no further than the time since allows;
- TimeStamp goes on as the client's clock did (a client whose TimeStamp is none of a clock
  cannot be followed), modulo 2^32: some systems send no more of it than that;
- MOVE_RUN such come from one port, each beyond the last;
- the client's own port has been silent for SILENT_NS, which leaves it deaf about as long.
"""

from __future__ import annotations

import numpy as np

from shared.kernels import kernel

MOVE_RUN = 8
MOVE_PAUSE_NS = 200_000_000
SILENT_NS = 100_000_000
CLOCK_NS = 1_000_000_000
"""The client's clock is compared with ours over this time, at least."""
BOUND_US = 250_000
"""TimeStamp and number may be as far from what our clock says: network and client jitter."""


@kernel
def _signed(value, bits):
    """An integer modulo 2^bits as the one nearest to 0."""
    half = np.int64(1) << (bits - 1)
    return ((value + half) & (2 * half - 1)) - half


@kernel
def timestamp_us(data, offset):
    """TimeStamp of the header at offset: microseconds of the client's wall clock, modulo 2^32."""
    stamp = np.int64(0)
    for i in range(4):
        stamp |= np.int64(data[offset + i]) << np.int64(8 * i)
    return stamp


@kernel
def _clock_error_us(rx, stamp_us, arrival_ns):
    """By how much a TimeStamp is off from where the client's clock should be by now."""
    return _signed(stamp_us - rx.stamp_us - (arrival_ns - rx.stamp_ns) // 1000, 32)


@kernel
def note(rx, stamp_us, arrival_ns):
    """Learn from a packet that came from the client's own port."""
    rx.own_ns = arrival_ns
    if rx.stamp_ns != 0 and arrival_ns - rx.stamp_ns < CLOCK_NS:
        return
    on_time = abs(_clock_error_us(rx, stamp_us, arrival_ns)) <= BOUND_US
    rx.stamp_steady = 1 if rx.stamp_ns != 0 and on_time else 0
    rx.stamp_us = stamp_us
    rx.stamp_ns = arrival_ns


@kernel
def proven(rx, port, sequence16, stamp_us, arrival_ns, packet_ns):
    """Whether a datagram of the right address and format proves that the client has moved.

    Args:
        port: where it came from, not the client's.
        sequence16, stamp_us: from its header.
        packet_ns: duration of one packet.
    """
    step = _signed(sequence16 - rx.highest, 16)
    silent_ns = arrival_ns - rx.own_ns
    if step < 1 or step * packet_ns > silent_ns + BOUND_US * 1000:
        return False
    if rx.stamp_steady == 0 or abs(_clock_error_us(rx, stamp_us, arrival_ns)) > BOUND_US:
        return False
    if port != rx.move_port or arrival_ns - rx.move_last_ns > MOVE_PAUSE_NS:
        rx.move_run = 0
    elif _signed(sequence16 - rx.move_next, 16) < 0:
        return False
    rx.move_port = port
    rx.move_run += 1
    rx.move_next = (sequence16 + 1) & 0xFFFF
    rx.move_last_ns = arrival_ns
    return rx.move_run >= MOVE_RUN and silent_ns >= SILENT_NS


@kernel
def follow(rx, name, port):
    """Take the sender of a datagram for the client from now on.

    Lanes send to ``rx.sockaddr`` meanwhile: both bytes of the port change at once.

    Args:
        name: (>= 4,) uint8, its source as sockaddr_in or sockaddr_in6.
    """
    rx.sockaddr.view(np.uint16)[1] = name.view(np.uint16)[1]
    rx.peer_port = port
    rx.move_run = 0
    rx.moves += 1
