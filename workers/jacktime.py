"""JACK's cycles as the hub's ticks: which cycle is which tick, and whose clock the mixer follows.

A cycle is told from the next by JACK's own clock, which is the same for all its clients, so that
every one of ours knows by itself which tick a cycle is of. One of them, the *beat*, runs when all
others of ours have run: it wakes the mixer, and compares::

    JACK   ──┬──────┬──────┬──────┬──     cycle k  ↔  base_tick + (frames − base_frames) / period
             ▼      ▼      ▼      ▼
    ticks  ──┬──────┬──────┬──────┬──     a cycle that began nearer to another tick than to its
             7      8      9      10      own, and the next, too: some were left out, and those to
                                          come have new numbers

While the mixer is *coupled*, it waits for the beat, most of a period at most, and lets the hub's
time (``HEADER.t0_ns``) follow that of JACK. No beat: it goes on by its own clock, in the phase that
it had, and nobody but JACK's listeners notices. Beats again, steadily: its ticks glide to JACK's
phase, half a period away at most, and JACK is its clock again.

A graph that needs most of its period would be lost again and again. Then the mixer begins its ticks
with JACK's cycles all the same, but takes the sound of the cycle before (``behind``), a period
later, until the graph has been quick for a while.

The hub's time follows the earliest of JACK's cycles, not their mean: receivers have a client's
sound ready a moment before its tick, which is then ready for all cycles.
"""

from __future__ import annotations

import numpy as np

from shared.atomics import load_acquire, store_release
from shared.kernels import kernel
from shared.layout import JACK, STRIP_DEPTH
from shared.libc import CLOCK_MONOTONIC, clock_ns, futex_wait, futex_wake
from workers.hubtime import frames_to_ns, tick_after, tick_time

STEADY_BEATS = 4
"""Of as many in a row the mixer takes JACK for its clock."""
_FUTEX_OFFSET = JACK.fields["futex"][1]  # type: ignore[index]
_WRAP = 1 << 32
MAX_PATIENCE = 1 << 14
"""Beats in a row that the mixer wants of a clock that was lost soon, again and again."""
PATIENCE_S = 10
"""Who held longer is trusted at once."""
_PULL_EARLIER, _PULL_LATER = 8, 256
"""A part of the distance from JACK's time that the hub's is moved by in a tick."""
_GLIDE = 64
"""A part of a period that ticks are moved by towards JACK's phase, each."""
_NEAR = 16
"""A part of a period: so near is in phase."""
_GRAPH_BEATS = 64
"""Over so many the time that the graph needs is averaged."""


@kernel
def cycle_tick(jack, frames, period):
    """Tick of the cycle at a time of JACK's clock; −1: not known yet."""
    at = load_acquire(jack, "base_at")
    base_tick = jack.base_ticks[at]
    if base_tick < 0:
        return np.int64(-1)
    since = (frames - jack.base_frames[at]) % _WRAP
    if since >= _WRAP // 2:
        since -= _WRAP
    return base_tick + since // period


@kernel
def rebase(jack, tick, frames):
    """From now on the cycle at a time of JACK's clock is this tick; −1: nobody knows which."""
    at = 1 - jack.base_at
    jack.base_ticks[at], jack.base_frames[at] = tick, frames % _WRAP
    store_release(jack, "base_at", at)


@kernel
def number_cycle(header, jack, frames, began_ns):
    """Tick of a cycle whose sound may be used, or −1; then the next have other numbers.

    Args:
        frames: JACK's clock at its beginning.
        began_ns: CLOCK_MONOTONIC of that.
    """
    period = header.period_frames
    period_ns = frames_to_ns(period, header.rate_hz)
    tick = cycle_tick(jack, frames, period)
    if tick >= 0:
        off = began_ns - tick_time(header, tick)
        if 4 * abs(off) <= 3 * period_ns:
            jack.strays = 0
            return tick
        jack.strays += 1
        if jack.strays == 1:
            return np.int64(-1)  # it may have been woken late, and the next be in time
        jack.strays = 0
        jack.resyncs += 1
    rebase(jack, max(tick_after(header, began_ns + period_ns // 2), 0), frames + period)
    return np.int64(-1)


@kernel
def beat(header, jack, address, frames, began_ns, took_ns):
    """A cycle's sound of JACK is all there: say so to the mixer.

    Args:
        address: of the JACK record.
        took_ns: since the cycle's begin.
    """
    jack.cycles += 1
    jack.graph_ns += (took_ns - jack.graph_ns) // _GRAPH_BEATS
    jack.slow_cycles += 4 * took_ns > 3 * frames_to_ns(header.period_frames, header.rate_hz)
    tick = number_cycle(header, jack, frames, began_ns)
    if tick >= 0:
        jack.cycle_ns[tick % STRIP_DEPTH] = began_ns
        store_release(jack, "cycle", tick)
        store_release(jack, "futex", tick)
        futex_wake(address + _FUTEX_OFFSET)


@kernel
def _await_beat(arena, tick, until_ns, timespec):
    """Wait for a tick's beat; False when it does not come."""
    jack, word = arena.jack[0], arena.jack.ctypes.data + _FUTEX_OFFSET
    while True:
        expected = load_acquire(jack, "futex")
        if load_acquire(jack, "cycle") >= tick:
            return True
        left = until_ns - clock_ns(CLOCK_MONOTONIC, timespec)
        if left <= 0:
            return False
        futex_wait(word, expected & 0xFFFFFFFF, left, timespec)


@kernel
def _newest(header, jack):
    """The newest cycle, and how much later than its tick it began, ns."""
    cycle = load_acquire(jack, "cycle")
    return cycle, jack.cycle_ns[cycle % STRIP_DEPTH] - tick_time(header, cycle)


@kernel
def _is_slow(jack, period_ns):
    """Whether the graph needs too much of a period for its sound to be used in the same tick."""
    return 8 * jack.graph_ns > 5 * period_ns


@kernel
def _miss(header, jack, period_ns):
    """A tick's beat has not come in time: JACK is lost, or its sound is used later from now on."""
    soon = (jack.ticks - jack.taken_ticks) * header.period_frames < PATIENCE_S * header.rate_hz
    if jack.behind == 0 and (soon or _is_slow(jack, period_ns)):
        jack.behind, jack.calm = 1, 0
        return
    jack.coupled = 0
    jack.lost += 1
    # one that even so is late would be taken and lost every few ticks
    jack.patience = min(2 * max(jack.patience, STEADY_BEATS), MAX_PATIENCE) if soon else 0


@kernel
def _hurry(header, jack, period_ns):
    """Use JACK's sound in the same tick again, once its graph has been quick for a while."""
    jack.calm = jack.calm + 1 if 2 * jack.graph_ns < period_ns else 0
    if jack.calm * header.period_frames > PATIENCE_S * header.rate_hz:
        jack.behind = 0


@kernel
def keep_time(arena, tick, timespec):
    """While JACK is the clock: wait for a tick's cycle, and follow its time.

    Returns:
        False when the mixer has to wait for the tick's time by its own clock.
    """
    header, jack = arena.header[0], arena.jack[0]
    if jack.coupled == 0:
        return False
    period_ns, behind = frames_to_ns(header.period_frames, header.rate_hz), jack.behind
    # what is done before a whole period is over leaves no gap in what clients are sent
    until_ns = tick_time(header, tick) + 3 * period_ns // 4
    if not _await_beat(arena, tick - behind, until_ns, timespec):
        _miss(header, jack, period_ns)
        return False
    _, off = _newest(header, jack)
    if off < 0:
        header.t0_ns += max(-(period_ns // 32), off // _PULL_EARLIER)
    else:
        header.t0_ns += min(period_ns // 1024, off // _PULL_LATER)
    jack.ticks += 1
    if behind != 0:
        _hurry(header, jack, period_ns)
    return behind == 0


@kernel
def look_for_beat(arena, tick, seen, steady):
    """While JACK is not the clock: after a tick, take it when it beats.

    Args:
        seen: newest cycle a tick ago; steady: beats in a row so far.

    Returns:
        (newest cycle, beats in a row).
    """
    header, jack = arena.header[0], arena.jack[0]
    cycle, off = _newest(header, jack)
    if cycle <= seen or cycle < tick - 1 or cycle > tick + 1:
        return cycle, 0
    if steady + 1 < max(jack.patience, STEADY_BEATS):
        return cycle, steady + 1
    period_ns = frames_to_ns(header.period_frames, header.rate_hz)
    if _NEAR * abs(off) > period_ns:  # a jump would leave receivers no time for what is due
        most = period_ns // _GLIDE
        header.t0_ns += max(-most, min(most, off))
        return cycle, steady + 1
    jack.coupled = 1
    jack.behind, jack.calm = np.int64(_is_slow(jack, period_ns) or jack.patience > 0), 0
    jack.taken += 1
    jack.taken_ticks = jack.ticks
    return cycle, 0
