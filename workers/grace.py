"""Grace: the time that the mixer gives to receivers that were held up, as it was itself.

The mixer goes before receivers where they share a core, so that nothing that is sent to them delays
a tick. After a machine has stood still for a moment they are all due at once, and the mixer, going
first, would mix what nobody has read yet: silence for everybody, and again in the next tick, as
sending takes the time in which receivers ought to read::

    due           due                                due           due
     |-- halted --|mix, send|mix, send|...  and not   |-- halted --|read|mix, send|read|mix...

So a mixer that finds several of its sources without sound, which has only just run out, lets their
receivers go first. Receivers conceal what never came before it is due, so that who sends nothing is
not waited for. Nobody can make the mixer wait much: for one client of several it does not, nor so
long that the next tick is missed, nor for those who do not go on, nor for more than a sixteenth of
all time.
"""

from __future__ import annotations

import numpy as np

from shared.atomics import load_acquire
from shared.kernels import kernel
from shared.layout import RxState
from shared.libc import CLOCK_MONOTONIC, clock_ns, sleep_until
from workers.hubtime import frames_to_ns, tick_time
from workers.room import kept

LAG_TICKS = 8
"""Whose sound ended before has more to do than to catch up, or does nothing any more."""
FEW = 16
"""A share of all sources, one in so many, that is not waited for."""
SHUNNED_TICKS = LAG_TICKS
"""For so long nobody is waited for after most did not go on; they lag too far then."""
SHARE, SAVED_PERIODS = 16, 2
"""Of all time, one part in so many may be waited, and so much of it at once."""
SOURCE_NS = 4_000
"""That a receiver may take for each client, beside the guard."""
LOOKS = 8
"""In the longest wait: each takes the core from a receiver, 10 µs in a virtual machine."""
_ACTIVE = int(RxState.ACTIVE)


@kernel
def lacking(arena, tick):
    """How many sources' sound has just run out before a tick, and how many play and do not rest."""
    frames = arena.header[0].period_frames
    needed = (tick + 1) * frames
    lack = playing = 0
    for slot in range(arena.control[0].slots_high):
        rx = arena.rx[slot]
        if load_acquire(rx, "state") == _ACTIVE and load_acquire(rx, "resting") == 0:
            missing = needed - load_acquire(rx, "watermark")
            lack += missing > 0 and missing <= LAG_TICKS * frames
            playing += 1
    return lack, playing


@kernel
def waits(lack, playing):
    """Whether so many sources without sound, of so many, are enough to wait for them."""
    return lack > max(playing // FEW, min(playing - 1, 1))


@kernel
def saved(header, allowance_ns):
    """What may be waited after one more tick, ns."""
    period_ns = frames_to_ns(header.period_frames, header.rate_hz)
    return min(allowance_ns + period_ns // SHARE, SAVED_PERIODS * period_ns)


@kernel
def patience_ns(header, tick, lack, allowance_ns, now_ns):
    """How long is waited for so many at most; below 0: not at all.

    Until the next tick is due and a quarter more, so that it is late, but not missed; with long
    periods less, since receivers then soon provide for a tick for which they write over what this
    one needs.
    """
    most_ns = min(header.guard_ns + np.int64(lack) * SOURCE_NS, np.int64(allowance_ns))
    quarter_ns = frames_to_ns(header.period_frames, header.rate_hz) // 4
    kept_ticks = kept(header) // header.period_frames
    there_ns = tick_time(header, tick + kept_ticks) - header.guard_ns
    return min(most_ns, min(tick_time(header, tick + 1) + quarter_ns, there_ns) - now_ns)


@kernel
def wait_for_receivers(arena, tick, allowance_ns, timespec):
    """Sleep until sources have the sound of a tick, where it is worth it.

    Args:
        allowance_ns: that may be waited.
        timespec: (2,) int64, scratch.

    Returns:
        (ns waited, whether most of those who had no sound did not get any in all their time).
    """
    header = arena.header[0]
    lack, playing = lacking(arena, tick)
    if not waits(lack, playing):
        return np.int64(0), False
    began_ns = now_ns = clock_ns(CLOCK_MONOTONIC, timespec)
    most_ns = patience_ns(header, tick, lack, allowance_ns, began_ns)
    left = lack
    while waits(left, playing) and now_ns - began_ns < most_ns:
        sleep_until(now_ns + most_ns // LOOKS + 1, timespec)
        now_ns = clock_ns(CLOCK_MONOTONIC, timespec)
        left, playing = lacking(arena, tick)
    full_ns = header.guard_ns + np.int64(lack) * SOURCE_NS
    return now_ns - began_ns, 2 * left > lack and now_ns - began_ns >= full_ns
