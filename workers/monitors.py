"""Monitor mixes: what all who go by the same sections' rules have in common, mixed once a tick.

A rule between sections is the same for every listener of the section that hears, so that all of
them share one *monitor mix*: the bus and one row (``workers.rows``) of the sources that rules tell
of. A listener hears its monitor mix in the place of the bus; on top come, as always, its own voice
as the patch gives it, and a row of its own, of those sources alone that it hears otherwise than its
monitor gives them: its own voice, if rules tell of that, and what was ordered for it alone::

    monitor m    A·bus + Σ row of m                  once a tick and lane, if anybody hears it
    listener     monitor m + B·own + Σ its own row   where no rules are: A·bus + B·own, as ever

With k monitors N listeners cost k·N + N instead of N·N. Every lane mixes those that its listeners
hear for itself, so that nobody waits for anybody and a lane that is replaced needs nothing.

A listener that is given another monitor is cross-faded: its *parts* of the old and of the new one
move in straight lines, so that what it hears of every source does, too. Its own row says what it
hears of a source altogether, and makes up for whatever its monitors give meanwhile.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shared.bundles import bundle
from shared.kernels import kernel
from shared.protocol import MAX_CHANNELS
from workers.mix import add_strip, glide, scale_bus
from workers.rows import (
    Rows,
    add_row,
    aim_entry,
    drop_row,
    give,
    load_row,
    make_rows,
    note_voices,
    pace_row,
    passes,
    rise_anew,
    settle_row,
)

PARTS = 4
"""Monitors that one listener may hear while it is cross-faded from one to the next."""
_LEVELS, _HUB = 0, 1


@bundle
class Monitors(NamedTuple):
    """Monitor mixes of a lane, M of them, and who hears them; number 0 is none.

    Attributes:
        rows: Rows, of M monitors.
        aims: (M, S, 4) float64, their coefficients at the end of the tick.
        gains: (M, 2) float64, of the bus, before and after the tick.
        mixes: (M, MAX_CHANNELS, P) float64; ready: (M,) int64, channels mixed in this tick.
        served: (M,) int64, the last tick in which it was heard; moved: (M,) bool, it moved then.
        ticks: (1,) int64, ticks that the lane has served.
        wanted: (S,) int64, the monitor that a listener is to hear; turned: (S,) int64, the one
            that its parts are going to.
        heard: (S, PARTS) int64, whose parts it hears; parts: (S, PARTS, 2) float64, how much,
            before and after the tick.
        own_aims: (S, 4) float64 scratch, as ``aims``, of the listener being served.
        read: (2,) int64, CLOCK.levels and CONTROL.hub_changes so far.
        given: (4, 2) float64 scratch.
    """

    rows: Rows
    aims: npt.NDArray[np.float64]
    gains: npt.NDArray[np.float64]
    mixes: npt.NDArray[np.float64]
    ready: npt.NDArray[np.int64]
    served: npt.NDArray[np.int64]
    moved: npt.NDArray[np.bool_]
    ticks: npt.NDArray[np.int64]
    wanted: npt.NDArray[np.int64]
    turned: npt.NDArray[np.int64]
    heard: npt.NDArray[np.int64]
    parts: npt.NDArray[np.float64]
    own_aims: npt.NDArray[np.float64]
    read: npt.NDArray[np.int64]
    given: npt.NDArray[np.float64]


def make_monitors(slots: int, period_frames: int) -> Monitors:
    """As many as there are slots; nobody hears one."""
    return Monitors(
        rows=make_rows(slots),
        aims=np.zeros((slots, slots, 4), np.float64),
        gains=np.zeros((slots, 2), np.float64),
        mixes=np.zeros((slots, MAX_CHANNELS, period_frames), np.float64),
        ready=np.zeros(slots, np.int64),
        served=np.zeros(slots, np.int64),
        moved=np.zeros(slots, np.bool_),
        ticks=np.full(1, 2, np.int64),  # none was heard in the one before
        wanted=np.zeros(slots, np.int64),
        turned=np.zeros(slots, np.int64),
        heard=np.zeros((slots, PARTS), np.int64),
        parts=np.zeros((slots, PARTS, 2), np.float64),
        own_aims=np.zeros((slots, 4), np.float64),
        read=np.zeros(2, np.int64),
        given=np.zeros((4, 2), np.float64),
    )


@kernel
def load_orders(arena, index, lanes, now, rows, monitors):
    """Load what changed with the levels that a tick was mixed by.

    Args:
        now: the tick's place among STRIP_DEPTH.
        rows: Rows of listeners.
    """
    count = arena.clock[0].levels[now]
    if count == monitors.read[_LEVELS]:
        return
    monitors.read[_LEVELS] = count
    control = arena.control[0]
    step, first = max(lanes, 1), index - 1 if lanes > 0 else 0
    if control.hub_changes != monitors.read[_HUB]:
        monitors.read[_HUB] = control.hub_changes
        fade = max(control.hub_fade, 1)
        for slot in range(first, control.slots_high, step):
            pace_row(slot, fade, rows)
        for number in range(1, control.monitors_high):
            pace_row(number, fade, monitors.rows)
    for number in range(1, control.monitors_high):
        monitor = arena.monitors[number]
        if monitor.row_changes != monitors.rows.changes[number]:
            monitors.rows.changes[number] = monitor.row_changes
            levels, pans = arena.monitor_pair[number], arena.monitor_pan[number]
            _load(levels, pans, number, monitor.overrides, monitor.row_fade, monitors.rows)
    for slot in range(first, control.slots_high, step):
        record = arena.slots[slot]
        if record.row_changes != rows.changes[slot]:
            rows.changes[slot] = record.row_changes
            if record.monitor != monitors.wanted[slot]:
                monitors.wanted[slot] = record.monitor
                rows.left[slot] = max(record.row_fade, 1)
                rows.moving[slot] = True
            levels, pans = arena.pair[slot], arena.pair_pan[slot]
            _load(levels, pans, slot, record.overrides, record.row_fade, rows)


@kernel
def _load(levels, pans, row, overrides, fade, rows):
    """Load a row that tells of anything, or no longer."""
    if overrides > 0:
        load_row(levels, pans, row, max(fade, 1), rows)
    elif rows.counts[row] > 0:
        drop_row(row, max(fade, 1), rows)


@kernel
def adopt_orders(arena, index, lanes, rows, monitors):
    """A lane's first act: what is ordered holds from its first tick on."""
    control = arena.control[0]
    monitors.read[_HUB] = control.hub_changes
    for number in range(1, control.monitors_high):
        monitor = arena.monitors[number]
        monitors.rows.changes[number] = monitor.row_changes
        levels, pans = arena.monitor_pair[number], arena.monitor_pan[number]
        _load(levels, pans, number, monitor.overrides, 1, monitors.rows)
    for slot in range(index - 1 if lanes > 0 else 0, control.slots_high, max(lanes, 1)):
        record = arena.slots[slot]
        rows.changes[slot] = record.row_changes
        monitors.wanted[slot] = record.monitor
        _load(arena.pair[slot], arena.pair_pan[slot], slot, record.overrides, 1, rows)


@kernel
def begin_anew(listener, rows, monitors):
    """A new stream begins: its mix rises from nothing."""
    rise_anew(listener, rows)
    monitors.turned[listener] = 0
    monitors.heard[listener, :] = 0


@kernel
def turn(listener, number, rows, monitors):
    """Where a listener's parts are at the end of this tick.

    Args:
        number: the monitor that it is to hear.

    Returns:
        Whether any moves.
    """
    heard, parts = monitors.heard[listener], monitors.parts[listener]
    if number != monitors.turned[listener]:
        place = -1
        for p in range(PARTS):
            if heard[p] == number or (heard[p] == 0 and place < 0):
                place = p
                if heard[p] == number:
                    break
        if number == 0:
            monitors.turned[listener] = 0
        elif place >= 0:
            monitors.turned[listener] = number
            if heard[place] != number:
                heard[place], parts[place, 0] = number, 0.0
        else:
            rows.left[listener] = 1  # there will be room when those on their way have arrived
    moves = False
    for p in range(PARTS):
        if heard[p] > 0:
            goal = 1.0 if heard[p] == monitors.turned[listener] else 0.0
            parts[p, 1] = glide(parts[p, 0], goal, rows.left[listener])
            moves = moves or parts[p, 1] != parts[p, 0]
    return moves


@kernel
def aim_monitors(header, voices, listener, bus_goal, master, monitors):
    """Where the monitors that a listener hears are at the end of this tick; whether any moves.

    Args:
        voices: (S,) uint8, strips that each source has in this tick.
        bus_goal: what the patch gives of the bus, master included.
    """
    moves = False
    for p in range(PARTS):
        number = monitors.heard[listener, p]
        if number > 0:
            if monitors.served[number] != monitors.ticks[0]:
                _aim_monitor(header, voices, number, bus_goal, master, monitors)
            moves = moves or monitors.moved[number]
    return moves


@kernel
def gain_of_parts(listener, monitors):
    """What a listener's monitors give of all sources alike: (whether it has any, from, to)."""
    any_heard, before, after = False, 0.0, 0.0
    for p in range(PARTS):
        number = monitors.heard[listener, p]
        if number > 0:
            any_heard = True
            before += monitors.parts[listener, p, 0] * monitors.gains[number, 0]
            after += monitors.parts[listener, p, 1] * monitors.gains[number, 1]
    return any_heard, before, after


@kernel
def _aim_monitor(header, voices, number, bus_goal, master, monitors):
    """The first who hears a monitor in a tick: where it is at its end."""
    rows, gains, aims = monitors.rows, monitors.gains[number], monitors.aims[number]
    unheard = monitors.served[number] != monitors.ticks[0] - 1
    if unheard:  # nobody hears yet where it comes from
        pace_row(number, 1, rows)
        gains[0] = bus_goal
    monitors.served[number] = monitors.ticks[0]
    monitors.ready[number] = 0
    gains[1] = glide(gains[0], bus_goal, rows.left[number])
    changed = note_voices(voices, header.upmix, number, rows)
    moved = rows.moving[number] or changed or gains[0] != gains[1]
    monitors.moved[number] = moved
    if not moved:
        return
    for k in range(rows.counts[number]):
        sounds = voices[rows.sources[number, k]] != 0
        give(gains[0], gains[1], rows.strips[number, k], header.upmix, monitors.given)
        aim_entry(number, k, sounds, header.upmix, bus_goal, master, monitors.given, rows, aims[k])
        if unheard:
            for c in range(4):
                rows.coefficients[number, k, c] = aims[k, c]


@kernel
def _find(rows, row, source):
    """Which entry of a row is of a source; −1: none."""
    low, high = 0, rows.counts[row]
    while low < high:
        middle = (low + high) // 2
        if rows.sources[row, middle] < source:
            low = middle + 1
        else:
            high = middle
    return low if low < rows.counts[row] and rows.sources[row, low] == source else -1


@kernel
def _give_parts(listener, source, strips, upmix, monitors):
    """Add what a listener's monitors give of a source to ``given``."""
    given, rows = monitors.given, monitors.rows
    for p in range(PARTS):
        number = monitors.heard[listener, p]
        if number == 0:
            continue
        part_from, part_to = monitors.parts[listener, p, 0], monitors.parts[listener, p, 1]
        gains, entry = monitors.gains[number], _find(rows, number, source)
        for c in range(4):
            before, after = 0.0, 0.0
            if passes(c, strips, upmix):
                before, after = gains[0], gains[1]
            if entry >= 0:
                before += rows.coefficients[number, entry, c]
                if monitors.moved[number]:
                    after += monitors.aims[number, entry, c]
                else:
                    after += rows.coefficients[number, entry, c]
            given[c, 0] += part_from * before
            given[c, 1] += part_to * after


@kernel
def aim_row(
    header, voices, listener, bus_from, bus_to, own_from, own_to, bus_goal, own_goal, master,
    moves, rows, monitors,
):  # fmt: skip
    """Where every coefficient of a listener's own row is at the end of this tick.

    Args:
        voices: (S,) uint8, strips that each source has in this tick.
        bus_from, bus_to, own_from, own_to: gains of the bus and of its own voice, before and
            after the tick.
        bus_goal, own_goal: what the patch gives of both, master included.
        moves: whether bus, own voice or monitors move.

    Returns:
        Whether anything moves, to ``own_aims``.
    """
    changed = note_voices(voices, header.upmix, listener, rows)
    if not (rows.moving[listener] or moves or changed):
        return False
    given = monitors.given
    for k in range(rows.counts[listener]):
        source, strips = rows.sources[listener, k], rows.strips[listener, k]
        gain_from, gain_to, patched = bus_from, bus_to, bus_goal
        if source == listener:
            gain_from, gain_to = bus_from + own_from, bus_to + own_to
            patched = bus_goal + own_goal
        give(gain_from, gain_to, strips, header.upmix, given)
        _give_parts(listener, source, strips, header.upmix, monitors)
        aim_entry(
            listener, k, voices[source] != 0, header.upmix, patched, master, given, rows,
            monitors.own_aims[k],
        )  # fmt: skip
    return True


@kernel
def add_monitors(arena, now, listener, channel, monitors, output):
    """Add a listener's parts of its monitors to one channel of its mix.

    Args:
        output: (P,) float64.
    """
    frames = arena.header[0].period_frames
    for p in range(PARTS):
        number = monitors.heard[listener, p]
        if number == 0:
            continue
        _mix(arena, now, number, channel, monitors)
        part = monitors.parts[listener, p]
        add_strip(monitors.mixes[number, channel], frames, part[0], part[1], output)


@kernel
def _mix(arena, now, number, channel, monitors):
    """Mix a monitor up to a channel, unless that was done for another listener."""
    frames, gains = arena.header[0].period_frames, monitors.gains[number]
    strips, voices, aims = arena.strips[now], arena.voices[now], monitors.aims[number]
    for c in range(monitors.ready[number], channel + 1):
        output = monitors.mixes[number, c]
        scale_bus(arena.buses[now, c], frames, gains[0], gains[1], output)
        moved = monitors.moved[number]
        add_row(strips, voices, number, c, frames, moved, monitors.rows, aims, output)
        monitors.ready[number] = c + 1


@kernel
def settle_parts(listener, monitors):
    """After the period a listener's parts are where they aimed; those it hears no more go."""
    for p in range(PARTS):
        monitors.parts[listener, p, 0] = monitors.parts[listener, p, 1]
        number = monitors.heard[listener, p]
        if monitors.parts[listener, p, 0] == 0.0 and number != monitors.turned[listener]:
            monitors.heard[listener, p] = 0


@kernel
def settle_monitors(high, monitors):
    """After a tick all monitors that were heard are where they aimed.

    Args:
        high: one more than the highest number in use.
    """
    for number in range(1, high):
        if monitors.served[number] == monitors.ticks[0]:
            monitors.gains[number, 0] = monitors.gains[number, 1]
            settle_row(number, monitors.moved[number], monitors.rows, monitors.aims[number])
    monitors.ticks[0] += 1
