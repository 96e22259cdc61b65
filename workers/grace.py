"""Grace: the time that the mixer gives to receivers when all were held up together.

The mixer goes before receivers where they share a core, so that nothing that is sent to them delays
a tick. After a machine has stood still for a moment they are all due at once, and the mixer, going
first, would mix what nobody has read yet: silence for everybody, and again in the next tick, as
sending takes the time in which receivers ought to read::

    due           due                                due           due
     |-- halted --|mix, send|mix, send|...  and not   |-- halted --|read|mix, send|read|mix...

So a mixer that finds several of its sources without sound, which has only just run out, lets their
receivers go first. These conceal what never came before it is due: nobody is waited for because of
what a client sends, and never for one client alone, unless there is no other. Receivers that have
died or stopped are waited for once, and as long as it takes to see that they do not go on.
"""

from __future__ import annotations

import numpy as np

from shared.atomics import load_acquire
from shared.kernels import kernel
from shared.layout import RxState
from shared.libc import CLOCK_MONOTONIC, clock_ns, sleep_until
from workers.hubtime import frames_to_ns

LAG_TICKS = 8
"""Whose sound ended before has more to do than to catch up, or does nothing any more."""
FEW = 16
"""A share of all sources, one in so many, that is not waited for."""
SHUNNED_TICKS = LAG_TICKS
"""For so long nobody is waited for once it was in vain; who does not go on lags too far then."""
SOURCE_NS = 4_000
"""That a receiver may take for each client, beside the guard."""
LOOKS = 8
"""In the longest wait: each takes the core from a receiver, 10 µs in a virtual machine."""
_ACTIVE = int(RxState.ACTIVE)


@kernel
def _lacks(arena, slot, needed):
    """Whether a playing source's sound has only just run out."""
    rx = arena.rx[slot]
    if load_acquire(rx, "state") != _ACTIVE or load_acquire(rx, "resting") != 0:
        return False
    missing = needed - load_acquire(rx, "watermark")
    return missing > 0 and missing <= LAG_TICKS * arena.header[0].period_frames


@kernel
def lacking(arena, tick):
    """How many sources' sound has just run out before a tick, and how many play."""
    needed = (tick + 1) * arena.header[0].period_frames
    lack = playing = 0
    for slot in range(arena.control[0].slots_high):
        lack += _lacks(arena, slot, needed)
        playing += load_acquire(arena.rx[slot], "state") == _ACTIVE
    return lack, playing


@kernel
def waits(lack, playing):
    """Whether so many sources without sound, of so many, are enough to wait for them."""
    return lack > max(playing // FEW, min(playing - 1, 1))


@kernel
def patience_ns(header, lack):
    """How long is waited for so many, at most."""
    most_ns = header.guard_ns + np.int64(lack) * SOURCE_NS
    return min(most_ns, frames_to_ns(header.period_frames, header.rate_hz))


@kernel
def wait_for_receivers(arena, tick, lack, timespec):
    """Sleep until all sources have the sound of a tick, a period at most.

    Args:
        lack: how many have not.
        timespec: (2,) int64, scratch.

    Returns:
        (ns waited, whether it was in vain: no fewer have none now).
    """
    header = arena.header[0]
    needed = (tick + 1) * header.period_frames
    most_ns = patience_ns(header, lack)
    began_ns = now_ns = clock_ns(CLOCK_MONOTONIC, timespec)
    slot = 0
    while slot < arena.control[0].slots_high:
        if not _lacks(arena, slot, needed):
            slot += 1
        elif now_ns - began_ns >= most_ns:
            return now_ns - began_ns, lacking(arena, tick)[0] >= lack
        else:
            sleep_until(now_ns + most_ns // LOOKS, timespec)
            now_ns = clock_ns(CLOCK_MONOTONIC, timespec)
    return now_ns - began_ns, False
