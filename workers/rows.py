"""What single listeners hear of single sources other than the patch gives, in a lane.

A source that a listener's *row* tells of has four coefficients, which come on top of bus and
own voice (``workers.mix``)::

    SIDE_1   of its strip 1 in the listener's channel 1
    SIDE_2   of its strip 2 in channel 2
    REST     of every other strip in the channel of its number
    ACROSS   of its strip 1 in channel 2, if it has no second: a mono source

A place for this listener alone is constant power for a mono source and balance for one that has
two strips (``hub.pans``). Every coefficient goes to its goal in a straight line, over one period
or as many as a cross-fade has left; while none moves, four strips are added at a time.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shared.kernels import kernel
from workers.mix import add_four, add_strip, glide

SIDE_1, SIDE_2, REST, ACROSS = range(4)
PAN_CENTRE = 2.0
"""In ``pair_pan``: so much more than pan / 100, since 0 is none."""


class Rows(NamedTuple):
    """Rows of a lane's listeners; S = slots, entries of a row in order of their source.

    Attributes:
        counts: (S,) int64, sources that a listener's row tells of.
        sources: (S, S) int32, which; coefficients: (S, S, 4) float64, now.
        levels: (S, S) float32, the level wanted; NaN: as the preset says.
        places: (S, S, 2) float32, gains of a mono source in channels 1 and 2; −1: no place.
        ordered: (S, S) bool, or on its way back to the preset.
        strips: (S, S) uint8, 1 or 2: whether the source was a mono one when last heard.
        moving: (S,) bool, something of a row may not be where it goes.
        left: (S,) int64, ticks that a change takes yet.
        changes: (S,) int64, of each row so far; read: (1,) int64, CLOCK.levels so far.
        aims: (S, 4) float64 scratch, the coefficients at the end of the tick.
        kept: (S, 5) float64 scratch.
        batch_sources, batch_channels: (4,) int64; batch_from, batch_to: (4,) float64, scratch.
    """

    counts: npt.NDArray[np.int64]
    sources: npt.NDArray[np.int32]
    coefficients: npt.NDArray[np.float64]
    levels: npt.NDArray[np.float32]
    places: npt.NDArray[np.float32]
    ordered: npt.NDArray[np.bool_]
    strips: npt.NDArray[np.uint8]
    moving: npt.NDArray[np.bool_]
    left: npt.NDArray[np.int64]
    changes: npt.NDArray[np.int64]
    read: npt.NDArray[np.int64]
    aims: npt.NDArray[np.float64]
    kept: npt.NDArray[np.float64]
    batch_sources: npt.NDArray[np.int64]
    batch_channels: npt.NDArray[np.int64]
    batch_from: npt.NDArray[np.float64]
    batch_to: npt.NDArray[np.float64]


def make_rows(slots: int) -> Rows:
    """Everybody hears what the patch gives."""
    return Rows(
        counts=np.zeros(slots, np.int64),
        sources=np.zeros((slots, slots), np.int32),
        coefficients=np.zeros((slots, slots, 4), np.float64),
        levels=np.zeros((slots, slots), np.float32),
        places=np.zeros((slots, slots, 2), np.float32),
        ordered=np.zeros((slots, slots), np.bool_),
        strips=np.zeros((slots, slots), np.uint8),
        moving=np.zeros(slots, np.bool_),
        left=np.ones(slots, np.int64),
        changes=np.zeros(slots, np.int64),
        read=np.zeros(1, np.int64),
        aims=np.zeros((slots, 4), np.float64),
        kept=np.zeros((slots, 5), np.float64),
        batch_sources=np.zeros(4, np.int64),
        batch_channels=np.zeros(4, np.int64),
        batch_from=np.zeros(4, np.float64),
        batch_to=np.zeros(4, np.float64),
    )


@kernel
def load_row(levels, pans, listener, rows):
    """Take over a listener's row; coefficients stay as they are and will glide.

    Args:
        levels: (S,) float32, linear, NaN = preset; pans: (S,) float32, 2 + pan / 100, 0 = none.
    """
    kept = rows.kept
    kept[:, 0] = np.nan
    for k in range(rows.counts[listener]):
        source = rows.sources[listener, k]
        for c in range(4):
            kept[source, c] = rows.coefficients[listener, k, c]
        kept[source, 4] = rows.strips[listener, k]
    count = 0
    for source in range(len(levels)):
        ordered = not np.isnan(levels[source]) or pans[source] != 0.0
        known = not np.isnan(kept[source, 0])
        if not ordered and not known:
            continue
        rows.sources[listener, count] = source
        rows.levels[listener, count] = levels[source]
        rows.ordered[listener, count] = ordered
        rows.places[listener, count, 0] = -1.0
        if pans[source] != 0.0:
            angle = (1.0 + min(max(pans[source] - PAN_CENTRE, -1.0), 1.0)) * (math.pi / 4)
            rows.places[listener, count, 0] = math.cos(angle)
            rows.places[listener, count, 1] = math.sin(angle)
        for c in range(4):
            rows.coefficients[listener, count, c] = kept[source, c] if known else 0.0
        rows.strips[listener, count] = np.uint8(kept[source, 4]) if known else np.uint8(2)
        count += 1
    rows.counts[listener] = count
    rows.moving[listener] = True


@kernel
def load_rows(arena, index, lanes, now, rows):
    """Load those rows of a lane's listeners that changed with what a tick was mixed by."""
    count = arena.clock[0].levels[now]
    if count == rows.read[0]:
        return
    rows.read[0] = count
    first = index - 1 if lanes > 0 else 0
    for slot in range(first, arena.control[0].slots_high, max(lanes, 1)):
        record = arena.slots[slot]
        if record.row_changes != rows.changes[slot]:
            rows.changes[slot] = record.row_changes
            rows.left[slot] = max(record.row_fade, 1)
            if record.overrides > 0 or rows.counts[slot] > 0:
                _load_slot(arena, slot, rows)


@kernel
def _load_slot(arena, slot, rows):
    """Load a row that tells of anything, or no longer."""
    if arena.slots[slot].overrides > 0:
        load_row(arena.pair[slot], arena.pair_pan[slot], slot, rows)
        return
    rows.levels[slot, : rows.counts[slot]] = np.nan
    rows.ordered[slot, : rows.counts[slot]] = False
    rows.moving[slot] = True


@kernel
def rise_anew(listener, rows):
    """A new stream begins: what comes on top begins at nothing, as bus and own voice do."""
    rows.coefficients[listener, : rows.counts[listener]] = 0.0
    rows.moving[listener] = True
    rows.left[listener] = 1


@kernel
def _goals(rows, listener, k, strips, upmix, given, master, goals):
    """Where the four coefficients of an entry go, into goals (4,) float64.

    Args:
        strips: 1 or 2, as Rows.strips.
        given: what bus and own voice give already, where they are heard.
    """
    goals[:] = 0.0
    if not rows.ordered[listener, k]:
        return
    level = np.float64(rows.levels[listener, k])
    level = given if np.isnan(level) else level * master
    one, two = 1.0, np.float64(upmix) if strips == 1 else 1.0
    if rows.places[listener, k, 0] >= 0.0:
        one = np.float64(rows.places[listener, k, 0])
        two = np.float64(rows.places[listener, k, 1])
        if strips > 1:
            one, two = min(1.0, math.sqrt(2.0) * one), min(1.0, math.sqrt(2.0) * two)
    goals[SIDE_1] = level * one - given
    goals[REST] = level - given
    if strips == 1:
        goals[ACROSS] = level * two - (given if upmix != 0 else 0.0)
    else:
        goals[SIDE_2] = level * two - given


@kernel
def aim_row(header, voices, listener, bus_goal, self_goal, master, settled, rows):
    """Where every coefficient of a row is at the end of this tick, into ``rows.aims``.

    Args:
        voices: (S,) uint8, strips that each source has in this tick.
        settled: whether bus and own voice stand still.

    Returns:
        Whether anything moves; else ``aims`` is not written.
    """
    upmix, left = header.upmix, rows.left[listener]
    moving = rows.moving[listener] or not settled
    for k in range(rows.counts[listener]):
        voice = voices[rows.sources[listener, k]]
        strips = min(voice, 2)
        if strips != 0 and strips != rows.strips[listener, k]:
            if strips == 1:
                # the second strip has just ended: as a copy of the first, or at nothing
                if upmix != 0:
                    rows.coefficients[listener, k, ACROSS] += rows.coefficients[listener, k, SIDE_2]
                rows.coefficients[listener, k, SIDE_2] = 0.0
            rows.strips[listener, k] = strips
            moving = True
    if not moving:
        return False
    for k in range(rows.counts[listener]):
        given = bus_goal
        if rows.sources[listener, k] == listener:
            given += self_goal
        strips = rows.strips[listener, k]
        _goals(rows, listener, k, strips, upmix, given, master, rows.aims[k])
        for c in range(4):
            rows.aims[k, c] = glide(rows.coefficients[listener, k, c], rows.aims[k, c], left)
    return True


@kernel
def add_row(strips, voices, listener, channel, frames, moving, rows, output):
    """Add all that a row tells of to one channel of its listener's mix.

    Args:
        strips: (S, MAX_CHANNELS, frames) float32.
        moving: what ``aim_row`` said.
        output: (frames,) float64.
    """
    kind, filled = min(channel, REST), 0
    for k in range(rows.counts[listener]):
        source = rows.sources[listener, k]
        voice = voices[source]
        for across in range(2):
            if across == 0:
                which, strip = kind, channel
            else:
                which, strip = ACROSS, 0
                if channel != 1:
                    continue
            if strip >= voice:
                continue
            before = rows.coefficients[listener, k, which]
            after = rows.aims[k, which] if moving else before
            if before == 0.0 and after == 0.0:
                continue
            rows.batch_sources[filled], rows.batch_channels[filled] = source, strip
            rows.batch_from[filled], rows.batch_to[filled] = before, after
            filled += 1
            if filled == 4:
                add_four(
                    strips, rows.batch_sources, rows.batch_channels, rows.batch_from,
                    rows.batch_to, frames, moving, output,
                )  # fmt: skip
                filled = 0
    for n in range(filled):
        strip_of = strips[rows.batch_sources[n], rows.batch_channels[n]]
        add_strip(strip_of, frames, rows.batch_from[n], rows.batch_to[n], output)


@kernel
def settle_row(listener, moving, rows):
    """After the period every coefficient is where it aimed; those back at the preset go."""
    left = rows.left[listener]
    rows.left[listener] = max(left - 1, 1)
    if not moving:
        return
    count = 0
    for k in range(rows.counts[listener]):
        if left <= 1 and not rows.ordered[listener, k]:
            continue
        for c in range(4):
            rows.coefficients[listener, count, c] = rows.aims[k, c]
        rows.sources[listener, count] = rows.sources[listener, k]
        rows.levels[listener, count] = rows.levels[listener, k]
        for c in range(2):
            rows.places[listener, count, c] = rows.places[listener, k, c]
        rows.ordered[listener, count] = rows.ordered[listener, k]
        rows.strips[listener, count] = rows.strips[listener, k]
        count += 1
    rows.counts[listener] = count
    rows.moving[listener] = left > 1
