"""A client's sample rate: what its packets say, or what their pace tells.

A packet of so many of the client's frames lasts for ``RX.span`` of the hub's. What counts
positions on the client's line counts its own frames (``RX.frames`` a packet); what counts
time (margins, delays, the line of reference, the input ring) counts the hub's.

JackTrip's code 7 stands for 192 kHz and for every rate that is not listed. The rate of such
a client is the slope of its packet numbers over their arrivals; it is not heard until that
is known::

    every packet ──► straight line ──► within SNAP of a known rate, to SNAP_SURE? ──► that
                       of numbers      surely not, to ODD_SURE?  ──► as it was measured
                                       else go on, LIMIT_S at most
"""

from __future__ import annotations

import numpy as np

from shared import protocol
from shared.kernels import kernel
from workers.filters import MAX_RATE_HZ, MIN_RATE_HZ, RATES_HZ, choose_filter
from workers.playout import ONE

MEASURE_S = 1.5
"""A rate is measured for so long, at least."""
LIMIT_S = 20.0
"""After so long it is what it seems to be."""
MIN_PACKETS = 8
SNAP = 1e-3
"""A rate that is so near a known one is that: the loop of the drift can follow the rest."""
SNAP_SURE, ODD_SURE = 5e-3, 5e-4
"""A stall at either end may bend the slope by so much; another rate is taken as it was measured."""
MAX_STEP = 1000
"""A greater step of the packet number, either way: it is measured anew."""
NONE = -1
"""No rate that the hub converts."""

_TOLD_HZ = np.array(protocol.RATES_HZ, np.int64)
_KNOWN_HZ = np.array(RATES_HZ, np.float64)
_UNDEFINED = protocol.RATE_UNDEFINED


@kernel
def told(header, code):
    """Sample rate in Hz of a packet's code; 0: it must be measured."""
    if code >= _UNDEFINED:
        return np.int64(0)
    if code == header.rate_code:
        return np.int64(header.rate_hz)
    return _TOLD_HZ[code]


@kernel
def adopt(header, rx, filters, rate_hz):
    """Take over a client's nominal rate; its frames a packet are known.

    Args:
        filters: workers.filters.Filters, into the hub's rate.
    """
    hub_hz = header.rate_hz
    rx.rate_hz = rate_hz
    rx.span = np.float64(rx.frames * hub_hz) / np.float64(rate_hz)
    rx.nominal_step = (rate_hz * ONE + hub_hz // 2) // hub_hz - ONE
    rx.filter = choose_filter(filters, rate_hz)
    rx.lookahead = filters.taps[rx.filter] // 2


@kernel
def forget(rx):
    """Nothing is known of a client's rate."""
    rx.rate_hz = 0
    rx.pace_packets = 0


@kernel
def _begin(rx, sequence16, arrival_ns):
    rx.pace_packets = 1
    rx.pace_began_ns = arrival_ns
    rx.pace_last = sequence16
    rx.pace_number = 0
    rx.pace_sums[:] = 0.0


@kernel
def _line(rx):
    """The straight line of packet numbers over time.

    Returns:
        (packets a second; standard deviation of arrivals about it, seconds).
    """
    count, sums = np.float64(rx.pace_packets), rx.pace_sums
    time, number = sums[0] / count, sums[1] / count
    spread = sums[2] / count - time * time
    if not spread > 0.0:
        return 0.0, np.inf
    slope = (sums[3] / count - time * number) / spread
    rest = sums[4] / count - number * number - slope * slope * spread
    if not slope > 0.0:
        return 0.0, np.inf
    return slope, np.sqrt(max(rest, 0.0)) / slope


@kernel
def _nearest(rate):
    """The known rate that is nearest, in ratio."""
    best, least = 0.0, np.inf
    for i in range(len(_KNOWN_HZ)):
        apart = abs(rate / _KNOWN_HZ[i] - 1.0)
        if apart < least:
            best, least = _KNOWN_HZ[i], apart
    return best


@kernel
def measure(rx, sequence16, arrival_ns):
    """Note when a packet came of a client whose rate is undefined.

    Args:
        rx: its frames a packet are known, and its pace_* fields used.
        sequence16: packet number.
        arrival_ns: CLOCK_MONOTONIC.

    Returns:
        Hz; 0 as long as that is not certain; NONE.
    """
    step = ((sequence16 - rx.pace_last + 0x8000) & 0xFFFF) - 0x8000
    if rx.pace_packets == 0 or abs(step) > MAX_STEP:
        _begin(rx, sequence16, arrival_ns)
        return np.int64(0)
    number = np.float64(rx.pace_number + step)
    if step > 0:
        rx.pace_number += step
        rx.pace_last = sequence16
    time = np.float64(arrival_ns - rx.pace_began_ns) / 1e9
    rx.pace_packets += 1
    rx.pace_sums[0] += time
    rx.pace_sums[1] += number
    rx.pace_sums[2] += time * time
    rx.pace_sums[3] += time * number
    rx.pace_sums[4] += number * number
    if time < MEASURE_S or rx.pace_packets < MIN_PACKETS:
        return np.int64(0)
    slope, deviation = _line(rx)
    rate, unsure = slope * rx.frames, 4.0 * deviation / time
    known = _nearest(rate)
    apart = abs(rate / known - 1.0)
    odd = apart > SNAP + unsure and unsure <= ODD_SURE
    sure = odd or (apart <= SNAP and unsure <= SNAP_SURE)
    if not sure and time < LIMIT_S:
        return np.int64(0)
    if apart <= SNAP:
        return np.int64(known)
    if rate < MIN_RATE_HZ or rate > MAX_RATE_HZ:
        return np.int64(NONE)
    return np.int64(np.rint(rate))
