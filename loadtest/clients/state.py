"""What the kernels know: one record a client, one for the run, the turns, and what was captured.

Written by the generator's thread alone, except what is marked *(main)*: the main thread
sets those before it announces the client, or to steer the run. All times are
CLOCK_MONOTONIC in ns; kernel time stamps of arrivals are converted when they come.

Sample numbers: a client's samples are counted from its first packet on (``packet`` ×
``frames`` + n), by its own clock. A position is the same for a return stream: extended
packet number × frames. The *delay* of a talker at a listener is position − sample number,
constant while nothing slips.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

I64, F64 = np.int64, np.float64

STAMPS = 1024
"""Packets whose send time is remembered, for each client; a power of two."""
TURNS = 256
"""Turns that are remembered; a power of two."""
BUCKETS = 131_072
"""Of a histogram, 1 µs each; the last one is open."""
LATENCY, SPACING, LATENESS = 0, 1, 2
NEVER = 1 << 60
"""A time, or a number, that no run reaches."""
UNKNOWN = -(1 << 31)
"""A delay that has not been seen."""
TUTTI = -2
"""Talker of a turn in which everybody sounds."""
NOBODY = -1
LOST_NS = -1
"""In ``sent_ns``: the emulated network lost this packet."""
BIN_KINDS = ("lost", "wrong", "silent", "missing", "concealed", "returned")
BIN_LOST, BIN_WRONG, BIN_SILENT, BIN_MISSING, BIN_CONCEALED, BIN_RETURNED = range(6)

ABSENT, PLAY, LEAVE, VANISH = 0, 1, 2, 3
"""What the main thread wishes of a client: to be away, to play, to say good-bye, to go without."""

CLIENT = np.dtype(
    [
        # (main) format and place; see loadtest.scenario.model
        ("section", I64),
        ("socket", I64),  # index into the wires' descriptors
        ("frames", I64),
        ("rate_code", I64),
        ("bits", I64),
        ("sends", I64),
        ("wants", I64),
        ("redundancy", I64),
        ("period_ps", I64),  # between its packets, skew included
        ("nominal_ps", I64),  # the same without skew: between the packets that return
        ("phase_ns", I64),  # of its packets in the period
        ("checkable", I64),  # 0: another rate than the hub's, only numbers are checked
        ("optional", I64),
        ("rests", I64),  # 1: it is given no voice
        ("mask", I64),  # bits of a 16-bit value that its depth can send
        ("tutti_level", I64),  # of its part in a tutti, 16-bit steps; 0: it rests
        ("tolerance", I64),  # how far its depth lets a right sample be off, 16-bit steps
        ("drifts", I64),  # 1: its sound card is not at the nominal rate, so queues must slip
        # (main) steering; `wish` is stored with release after all else
        ("hub_port", I64),  # the UDP port it was answered
        ("generation", I64),  # how many times it has joined
        ("wish", I64),  # ABSENT, PLAY, LEAVE, VANISH
        # sending
        ("stage", I64),  # PLAY while it sends, ABSENT before and after
        ("start_ns", I64),  # when packet 0 was due
        ("packet", I64),  # number of the next, since it joined
        ("due_ns", I64),  # of the next
        ("voice_turn", I64),  # the last turn it took part in; −1: none yet
        ("voice_from", I64),  # sample numbers of its voice in that turn
        ("voice_until", I64),
        ("voice_began_ns", I64),  # when its newest solo began
        ("former_ns", I64),  # when its solo before the newest one began
        ("spoilt_ns", I64),  # when last a packet of it was lost, late or early on its way
        ("sent", I64),  # datagrams in the window
        ("send_errors", I64),
        ("dropped_up", I64),  # by the emulated network
        ("delayed_up", I64),
        ("doubled_up", I64),
        # numbering of the return stream
        ("first_ns", I64),  # arrival of the first returned packet since it joined; 0: none yet
        ("started", I64),
        ("highest", I64),  # extended beyond 16 bits
        ("recent", np.uint64),  # bit b: highest − b came
        ("arrival_ns", I64),  # of the newest
        # returned, in the window
        ("due", I64),  # packets that should have come by the clock, while it was in
        ("due_ps", I64),  # time towards the next of those
        ("returned", I64),  # first copies
        ("lost", I64),  # gaps in the numbering, those dropped_down included
        ("dropped_down", I64),  # by the emulated network
        ("repaired", I64),  # gaps filled from redundant copies
        ("duplicates", I64),
        ("reordered", I64),
        ("restarts", I64),  # numbering jumped
        ("malformed", I64),
        ("foreign", I64),
        ("goodbyes", I64),  # exit packets, at any time
        ("gap_ns", I64),  # longest time between two returned packets
        # content
        ("turn", I64),  # the turn it hears now; −1: none
        ("talker", I64),  # whose voice it follows; NOBODY
        ("delay", I64),
        ("next_delay", I64),  # where the voice was in a wrong packet; UNKNOWN
        ("next_turn", I64),  # of that voice
        ("next_blame", I64),  # 1: that packet was counted as wrong
        ("faded", I64),  # position before which its stream, begun anew, may be faded in
        ("grace", I64),  # frames that may sound unplaced, since those before them were lost
        ("tutti", I64),  # turn, + 1, of the tutti whose end is known; 0: none
        ("tutti_until", I64),  # the position from which nothing of it can come any more
        ("doubt_turn", I64),  # turn, + 1, some packets of which are in doubt; 0: none
        ("doubts", I64),  # how many; −1: more than a slip explains
        ("doubts_silent", I64),  # of those, silent
        ("doubt_frames", I64),  # samples in them
        ("doubt_share", I64),  # voice samples in them
        ("doubt_ns", I64),  # when the first came
        ("doubt_delay", I64),  # where the voice should have been then
        ("doubt_row", I64),  # row, + 1, in which one is kept as evidence; 0: none
        ("slips", I64),  # of drifting talkers' queues, that were excused
        ("judged", I64),  # loopback: position up to which voice_due has been counted
        ("evidence", I64),  # packets kept as evidence
        ("evidence_turn", I64),  # turn of the last of those, + 1
        ("evidence_in_turn", I64),  # and how many in that turn
        ("checked", I64),  # packets
        ("wrong", I64),  # some sample was not what it should be
        ("silent", I64),  # digital silence in place of a voice
        ("concealed", I64),  # wrong or silent, but the network, or leaving, had spoilt it
        ("leaks", I64),  # of the wrong: sound during one's own turn in mode 2
        ("shifts", I64),  # of the wrong: the voice went on at another delay
        ("disturbed", I64),  # of wrong and silent: soon after the generator itself stalled
        ("voice_due", I64),  # voice frames it should have heard (settled turns only)
        ("voice_heard", I64),  # of those, heard rightly
        ("voice_excused", I64),  # of those, missing since the emulated network spoilt them
        ("latency_ns", I64),  # sum; of latency_count measurements
        ("latency_count", I64),
        ("latency_max_ns", I64),
    ]
)

RUN = np.dtype(
    [
        ("stop", I64),  # (main) 1: return at once
        ("zero_ns", I64),  # (main) from when the clients' phases are counted
        ("orders", I64),  # (main) how often a client's `wish` has changed, so far
        ("obeyed", I64),  # of those, how many have been seen to
        ("opened_ns", I64),  # (main) when the window begins; NEVER: not yet known
        ("closed_ns", I64),  # (main) and ends
        ("settle_ns", I64),  # (main) from a client's first audio to its first solo
        ("turn_ns", I64),  # (main) from turn to turn
        ("talk_ns", I64),  # (main) length of a solo
        ("tutti_ns", I64),  # (main) length of a tutti
        ("longest_ns", I64),  # (main) of the largest packet
        ("bin_ns", I64),  # (main) of the timeline
        ("capture_stride", I64),  # (main) a tutti is captured for one listener in so many
        ("turn", I64),  # number of the newest turn; −1: none yet
        ("settled", I64),  # all turns before this one are settled
        ("cursor", I64),  # the client whose turn it would be next
        ("evidence_of_turn", I64),  # packets kept as evidence in the newest turn
        ("tuttis", I64),  # so far
        ("offset_ns", I64),  # CLOCK_REALTIME − CLOCK_MONOTONIC
        ("stall_ns", I64),  # when the generator was last late by more than a period
        ("cut_ns", I64),  # when somebody last vanished in the middle of its voice
        ("stalls", I64),
        ("late_max_ns", I64),
        ("skipped", I64),  # packets left out since it was hopelessly late
        ("latency_max_ns", I64),  # of all clients
        ("unknown", I64),  # datagrams to no client of ours
        ("overrun", I64),  # delayed datagrams that found no room, and were sent at once
        ("receives", I64),  # system calls
        ("evidence", I64),  # records written in ``evidence``
        ("evidence_free", I64),  # the first of those, + 1, that may be written again; 0: none
        ("tutti_packets", I64),  # records written in ``tutti_log``
        ("delay_changes", I64),  # records written in ``delay_log``
    ]
)

TURN = np.dtype(
    [
        ("number", I64),
        ("talker", I64),  # NOBODY, TUTTI, or a client
        ("start_ns", I64),
        ("first", I64),  # sample number of the talker's first voiced sample; NEVER: not begun
        ("until", I64),  # one past the last
        ("tutti", I64),  # which tutti it is; −1
        ("settled", I64),  # 1: heard and missing frames have been counted
    ]
)

CAPTURE = np.dtype(
    [
        ("listener", I64),  # NOBODY: it was excused, and says nothing
        ("turn", I64),  # the newest when it came
        ("tutti", I64),  # −1: evidence of a wrong packet
        ("position", I64),  # of its sample 0 in the return stream
        ("arrival_ns", I64),
        ("talker", I64),  # whose voice was expected; NOBODY
        ("delay", I64),  # at which delay; UNKNOWN
        ("first", I64),  # sample numbers of that voice
        ("until", I64),
        ("frames", I64),
        ("channels", I64),
        ("own_first", I64),  # of the listener's own voice, which was on its way, and should not be
        ("own_until", I64),  # heard; NEVER: it was not
        ("stall_ns", I64),  # when the generator was last late by more than a period
    ]
)
"""A returned packet kept for later; its samples are the same row of an array beside it."""

DELAY = np.dtype([("turn", I64), ("listener", I64), ("talker", I64), ("delay", I64)])
"""A delay that was seen for the first time, or has changed. A client that joins anew makes two:
its delays at listener −1 (all), and of talker −1, are UNKNOWN from then on."""


class State(NamedTuple):
    """Everything; N clients, G sections, K tuttis at most, B bins.

    Attributes:
        clients: (N,) CLIENT.
        run: (1,) RUN.
        turns: (TURNS,) TURN, turn t at t modulo TURNS.
        sent_ns: (N, STAMPS) int64, when packet k left (emulated delay included), at k modulo
            STAMPS; LOST_NS: the emulated network lost it.
        histograms: (G, 3, BUCKETS) int64.
        timeline: (N, B, 6) int32, packets by BIN_KINDS in each bin since the opening
            (missing: in voice frames).
        heard: (N, TURNS) int32, voice frames of turn t heard rightly.
        excused: (N, TURNS) int32, voice frames of turn t that the emulated network spoilt.
        delays: (N, N) int32, [listener, talker], UNKNOWN; (0, 0) when N is too large.
        delay_log: (D,) DELAY; the last record is not written over.
        tutti_first: (K, N) int64, sample number at which each began the tutti; NEVER: it rested;
            negative (~ of it): the emulated network, or its leaving, may have spoilt its part.
        tutti_log: (C,) CAPTURE; tutti_pcm: (C, widest) int16, planar, 16-bit steps.
        evidence: (E,) CAPTURE; evidence_pcm: (E, widest) int16.
        drops: (sockets,) int64, SO_RXQ_OVFL's counter of each.
        timespec: (2,) int64, scratch of the generator.
    """

    clients: npt.NDArray[Any]
    run: npt.NDArray[Any]
    turns: npt.NDArray[Any]
    sent_ns: npt.NDArray[np.int64]
    histograms: npt.NDArray[np.int64]
    timeline: npt.NDArray[np.int32]
    heard: npt.NDArray[np.int32]
    excused: npt.NDArray[np.int32]
    delays: npt.NDArray[np.int32]
    delay_log: npt.NDArray[Any]
    tutti_first: npt.NDArray[np.int64]
    tutti_log: npt.NDArray[Any]
    tutti_pcm: npt.NDArray[np.int16]
    evidence: npt.NDArray[Any]
    evidence_pcm: npt.NDArray[np.int16]
    drops: npt.NDArray[np.int64]
    timespec: npt.NDArray[np.int64]


class Expectation(NamedTuple):
    """What the checker must know of the hub and the plan, in plain integers.

    Attributes:
        mode: the hub's patch mode.
        upmix: 1: a mono talker sounds on both sides of a stereo listener.
        clients: N.
        tutti_every: one turn in so many; 0: never.
        step_ns: the generator looks at its sockets at most this often.
        burst: 1: all phases are equal.
        fade_frames: of a stream that begins, which a hub may fade in.
    """

    mode: int
    upmix: int
    clients: int
    tutti_every: int
    step_ns: int
    burst: int
    fade_frames: int
