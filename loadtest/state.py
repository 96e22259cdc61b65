"""What the kernels know: one record a client, one for the run, and three histograms.

Written by the generator's thread alone, except what is marked *(main)*: the main thread
sets those before it announces the client in ``joined``, or to steer the run. All times
are CLOCK_MONOTONIC in ns; kernel time stamps of arrivals are converted when they come.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from loadtest.plan import Plan
from shared.protocol import rate_code

I64 = np.int64

STAMPS = 256
"""Send times kept a client; a latency of more packets than this is not measured."""
BUCKETS = 131_072
"""Of a histogram, 1 µs each; the last one is open."""
LATENCY, SPACING, LATENESS = 0, 1, 2
NEVER = 1 << 60
"""A packet number, or a time, that no run reaches."""

CLIENT = np.dtype(
    [
        ("socket", I64),  # index into the wires' descriptors
        ("hub_port", I64),  # (main) the UDP port it was answered
        ("active", I64),
        ("sequence", I64),  # of the next packet
        ("dirty", I64),  # 1: the packet still holds a voice
        ("first_ns", I64),  # arrival of the first returned packet; 0: none yet
        # sent
        ("sent", I64),  # in the window
        ("send_errors", I64),
        ("spoken", I64),  # packets with a voice
        # numbering of the return stream
        ("started", I64),
        ("highest", I64),  # extended beyond 16 bits
        ("recent", np.uint64),  # bit b: highest − b came
        ("arrival_ns", I64),
        # returned, in the window
        ("returned", I64),  # first copies
        ("lost", I64),
        ("duplicates", I64),
        ("reordered", I64),
        ("restarts", I64),  # numbering jumped
        ("malformed", I64),
        ("foreign", I64),
        ("goodbyes", I64),  # exit packets, at any time
        # content
        ("talker", I64),  # whose voice the stream carries now; −1: nobody's
        ("delay", I64),  # return position minus voice position, frames
        ("checked", I64),  # packets
        ("wrong", I64),  # some sample was not what it should be
        ("silent", I64),  # digital silence in place of a voice
        ("leaks", I64),  # of the wrong: sound during one's own turn in mode 2
        ("shifts", I64),  # of the wrong: the voice went on at another delay
        ("disturbed", I64),  # of wrong and silent: soon after the generator itself stalled
        ("heard", I64),  # voice packets that began in a right packet
        ("latency_ns", I64),  # their latencies, summed
        ("latency_max_ns", I64),
    ]
)

RUN = np.dtype(
    [
        ("stop", I64),  # (main) 1: return at once
        ("leave", I64),  # (main) 1: send exit packets, and no more audio
        ("joined", I64),  # (main) clients announced in ``order``
        ("first", I64),  # (main) first packet number of the window; −1: not yet known
        ("last", I64),  # (main) one past its last
        ("opened_ns", I64),  # (main) when the window begins
        ("closed_ns", I64),  # (main) and ends
        ("t0_ns", I64),  # of packet 0 of client 0
        ("period_ps", I64),  # exact: 1000 * period_ns is whole for common formats
        ("phase_ps", I64),  # between neighbours; 0 in a burst
        ("packet", I64),  # number of the packet being sent now
        ("next", I64),  # client whose turn it is to send it
        ("taken", I64),  # of ``joined``
        ("left", I64),  # exit packets were sent
        ("offset_ns", I64),  # CLOCK_REALTIME − CLOCK_MONOTONIC
        ("stall_ns", I64),  # when the generator was last late by more than a period
        ("stalls", I64),
        ("late_max_ns", I64),
        ("skipped", I64),  # packet numbers left out since it was hopelessly late
        ("drops", I64),  # newest SO_RXQ_OVFL sum of all sockets
        ("unknown", I64),  # datagrams to no client of ours
        ("sends", I64),  # system calls
        ("receives", I64),
    ]
)


class Schedule(NamedTuple):
    """A plan as kernels take it; ``first`` and ``last`` stand in the run's record."""

    clients: int
    frames: int
    channels: int
    mode: int
    talk: int
    turn: int
    step_ns: int
    packet_bytes: int
    rate_code: int


class State(NamedTuple):
    """Records and histograms.

    Attributes:
        clients: (N,) CLIENT.
        run: (1,) RUN.
        order: (N,) int64, clients in the order they joined.
        sent_ns: (N, STAMPS) int64, when voice packet k left, at k modulo STAMPS.
        histograms: (3, BUCKETS) int64.
        drops: (sockets,) int64, SO_RXQ_OVFL's counter of each.
        timespec: (2,) int64, scratch of the generator.
    """

    clients: npt.NDArray[Any]
    run: npt.NDArray[Any]
    order: npt.NDArray[np.int64]
    sent_ns: npt.NDArray[np.int64]
    histograms: npt.NDArray[np.int64]
    drops: npt.NDArray[np.int64]
    timespec: npt.NDArray[np.int64]


def make_state(plan: Plan, sockets: int) -> State:
    """Fresh records for a plan."""
    run = np.zeros(1, RUN)
    run["first"] = -1
    run["last"] = NEVER
    run["opened_ns"] = run["closed_ns"] = NEVER
    run["stall_ns"] = -NEVER
    run["period_ps"] = round(1000 * plan.period_ns)
    run["phase_ps"] = 0 if plan.burst else run["period_ps"] // plan.clients
    clients = np.zeros(plan.clients, CLIENT)
    clients["talker"] = -1
    return State(
        clients=clients,
        run=run,
        order=np.zeros(plan.clients, I64),
        sent_ns=np.zeros((plan.clients, STAMPS), I64),
        histograms=np.zeros((3, BUCKETS), I64),
        drops=np.zeros(sockets, I64),
        timespec=np.zeros(2, I64),
    )


def make_schedule(plan: Plan) -> Schedule:
    """The plan in plain integers."""
    return Schedule(
        clients=plan.clients,
        frames=plan.frames,
        channels=plan.channels,
        mode=int(plan.mode),
        talk=plan.talk_packets,
        turn=plan.turn_packets,
        step_ns=1000 * plan.step_us,
        packet_bytes=plan.packet_bytes,
        rate_code=rate_code(plan.rate_hz),
    )


def quantile_us(histogram: npt.NDArray[np.int64], share: float) -> float:
    """Smallest µs that at least this share of the entries do not exceed; 0 of nothing."""
    total = int(histogram.sum())
    if total == 0:
        return 0.0
    return float(np.searchsorted(np.cumsum(histogram), max(1, int(np.ceil(share * total)))))
