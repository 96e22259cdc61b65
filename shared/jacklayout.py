"""The arena's part for a local JACK graph: what its bridge and the mixer tell each other."""

from __future__ import annotations

from enum import IntEnum

from shared.records import I64, STRIP_DEPTH, record

JACK_NAME_BYTES = 64
MAX_JACK_GROUPS = 257
"""Sections, and who is in none."""


class JackState(IntEnum):
    """How far the JACK bridge has come."""

    OFF = 0
    WAITING = 1
    """No JACK server is there."""
    MISFIT = 2
    """Its rate or its period is not the hub's."""
    RUNNING = 3
    FREEWHEEL = 4
    """Its time is not the world's: it computes as fast as it can."""
    HUNG = 5
    """It is there, but stands still."""


JACK = record(
    [  # written by the bridge's callbacks: workers.jacktime
        ("cycle", I64),  # newest tick whose sound of JACK is all there
        ("futex", I64),  # its low bits, to wake the mixer
        ("cycle_ns", I64, (STRIP_DEPTH,)),  # when a tick's cycle began
        ("base_at", I64),  # which of the two below holds
        ("base_ticks", I64, (2,)),  # tick of the cycle at base_frames of JACK's clock; −1: none yet
        ("base_frames", I64, (2,)),
        ("cycles", I64),
        ("strays", I64),  # cycles in a row that began far from their tick
        ("resyncs", I64),  # times that cycles were numbered anew, since some were left out
        ("graph_ns", I64),  # from a cycle's begin until all of its sound is there, on average
        ("slow_cycles", I64),  # of which that took more than 3/4 of a period
    ],
    [  # written by the mixer
        ("coupled", I64),  # 1: JACK is its clock
        ("taken", I64),  # times that JACK became its clock
        ("lost", I64),  # times that it went on by its own
        ("ticks", I64),  # mixed by JACK's clock
        ("taken_ticks", I64),  # of them, before it was taken for the last time
        ("patience", I64),  # beats in a row that it wants to see; it grows as JACK is lost
        ("behind", I64),  # ticks that JACK's sound is used later, since its graph is slow
        ("calm", I64),  # ticks in a row in which that would not have been needed
        ("behinds", I64, (STRIP_DEPTH,)),  # what `behind` was in a tick
    ],
    [  # written by the bridge
        ("state", I64),  # JackState
        ("pid", I64),
        ("rate_hz", I64),  # of the JACK server
        ("period_frames", I64),
        ("xruns", I64),
        ("period_changes", I64),
        ("deaths", I64),  # times that the JACK server went away
        ("turns", I64),  # of the bridge's loop, which may wait for ever for a server that hangs
    ],
    [
        ("clients", I64),  # JACK clients of ours that have ports
        ("ports", I64),
        ("left_out", I64),  # for whom JACK had no room
        ("garbled", I64),  # samples that JACK gave and that are no numbers: silence
        ("gaps", I64),  # times that a client's sound was not there in time for JACK
    ],
)
JACK_GROUP = record(
    [
        ("ticks", I64, (STRIP_DEPTH,)),  # which ticks `jack_in` has
        ("sends", I64),  # channels of it
        ("session", I64),  # who alone hears it; 0: all who are of this group
        ("garbled", I64),
        ("gaps", I64),
    ]
)


def jack_groups(slots: int) -> int:
    """How many JACK clients there may be."""
    return max(slots, MAX_JACK_GROUPS)
