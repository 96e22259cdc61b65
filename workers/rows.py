"""Rows: what is heard of single sources other than the buses give, in a lane.

A source that a *row* tells of has four coefficients, which come on top of what is given of it
without (bus, own voice, monitor mixes: ``workers.monitors``)::

    SIDE_1   of its strip 1 in channel 1
    SIDE_2   of its strip 2 in channel 2
    REST     of every other strip in the channel of its number
    ACROSS   of its strip 1 in channel 2, if it has no second: a mono source

A place is constant power for a mono source and balance for one that has two strips
(``hub.pans``). What is heard of a source altogether goes to its goal in a straight line, over one
period or as many as its cross-fade has left, whatever is given meanwhile; each entry has its own
way to go, so that no order cuts off the fade of another. While nothing moves, four strips are
added at a time.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shared.bundles import bundle
from shared.kernels import kernel
from workers.mix import add_four, add_strip, glide

SIDE_1, SIDE_2, REST, ACROSS = range(4)
PAN_CENTRE = 2.0
"""In ``pair_pan``: so much more than pan / 100, since 0 is none."""
AS_CONNECTED = -1.0
"""There: the row tells of it, but of no place."""
_LEVEL, _PAN, _LEFT, _STRIPS, _ORDERED, _FRESH = range(4, 10)
"""In ``Rows.kept``, after the coefficients."""


@bundle
class Rows(NamedTuple):
    """R rows, each of as many of S sources as it tells of, in their order.

    Attributes:
        counts: (R,) int64, sources that a row tells of.
        sources: (R, S) int32, which; coefficients: (R, S, 4) float64, now.
        levels: (R, S) float32, the level wanted; NaN: as the preset says.
        pans: (R, S) float32, as in ``pair_pan``.
        places: (R, S, 2) float32, gains of a mono source in channels 1 and 2; −1: no place.
        ordered: (R, S) bool, or on its way back to what is given.
        fresh: (R, S) bool, has not been looked at since it came.
        lefts: (R, S) int32, ticks that its last change takes yet; 0, 1: one.
        strips: (R, S) uint8, 1 or 2: whether the source was a mono one when last heard.
        moving: (R,) bool, something of a row may not be where it goes.
        left: (R,) int64, ticks that a change of all that is given takes yet.
        changes: (R,) int64, of each row so far.
        kept: (S, 10) float64 scratch.
        batch_sources, batch_channels: (4,) int64; batch_from, batch_to: (4,) float64, scratch.
    """

    counts: npt.NDArray[np.int64]
    sources: npt.NDArray[np.int32]
    coefficients: npt.NDArray[np.float64]
    levels: npt.NDArray[np.float32]
    pans: npt.NDArray[np.float32]
    places: npt.NDArray[np.float32]
    ordered: npt.NDArray[np.bool_]
    fresh: npt.NDArray[np.bool_]
    lefts: npt.NDArray[np.int32]
    strips: npt.NDArray[np.uint8]
    moving: npt.NDArray[np.bool_]
    left: npt.NDArray[np.int64]
    changes: npt.NDArray[np.int64]
    kept: npt.NDArray[np.float64]
    batch_sources: npt.NDArray[np.int64]
    batch_channels: npt.NDArray[np.int64]
    batch_from: npt.NDArray[np.float64]
    batch_to: npt.NDArray[np.float64]


def make_rows(slots: int) -> Rows:
    """As many rows as slots; none tells of anything."""
    return Rows(
        counts=np.zeros(slots, np.int64),
        sources=np.zeros((slots, slots), np.int32),
        coefficients=np.zeros((slots, slots, 4), np.float64),
        levels=np.zeros((slots, slots), np.float32),
        pans=np.zeros((slots, slots), np.float32),
        places=np.zeros((slots, slots, 2), np.float32),
        ordered=np.zeros((slots, slots), np.bool_),
        fresh=np.zeros((slots, slots), np.bool_),
        lefts=np.zeros((slots, slots), np.int32),
        strips=np.zeros((slots, slots), np.uint8),
        moving=np.zeros(slots, np.bool_),
        left=np.ones(slots, np.int64),
        changes=np.zeros(slots, np.int64),
        kept=np.zeros((slots, 10), np.float64),
        batch_sources=np.zeros(4, np.int64),
        batch_channels=np.zeros(4, np.int64),
        batch_from=np.zeros(4, np.float64),
        batch_to=np.zeros(4, np.float64),
    )


@kernel
def _keep(row, rows):
    """Entries of a row into ``kept``, by source; unknown ones are NaN."""
    kept = rows.kept
    kept[:, 0] = np.nan
    for k in range(rows.counts[row]):
        source = rows.sources[row, k]
        for c in range(4):
            kept[source, c] = rows.coefficients[row, k, c]
        kept[source, _LEVEL], kept[source, _PAN] = rows.levels[row, k], rows.pans[row, k]
        kept[source, _LEFT], kept[source, _STRIPS] = rows.lefts[row, k], rows.strips[row, k]
        kept[source, _ORDERED], kept[source, _FRESH] = rows.ordered[row, k], rows.fresh[row, k]


@kernel
def load_row(levels, pans, row, fade, rows):
    """Take over a row; coefficients stay as they are and will glide.

    Args:
        levels: (S,) float32, linear, NaN = preset; pans: (S,) float32, as in ``pair_pan``.
        fade: ticks that it takes what has changed, and that alone, to get there.
    """
    _keep(row, rows)
    count = 0
    for source in range(len(levels)):
        level, pan, was = levels[source], pans[source], rows.kept[source]
        ordered = not np.isnan(level) or pan != 0.0
        known = not np.isnan(was[0])
        if not ordered and not known:
            continue
        same_level = level == was[_LEVEL] or (np.isnan(level) and np.isnan(was[_LEVEL]))
        same = known and ordered == (was[_ORDERED] != 0.0) and same_level and pan == was[_PAN]
        for c in range(4):
            rows.coefficients[row, count, c] = was[c] if known else 0.0
        rows.sources[row, count], rows.ordered[row, count] = source, ordered
        rows.levels[row, count], rows.pans[row, count] = level, pan
        rows.lefts[row, count] = np.int32(was[_LEFT]) if same else np.int32(fade)
        rows.fresh[row, count] = was[_FRESH] != 0.0 if known else True
        rows.strips[row, count] = np.uint8(was[_STRIPS]) if known else np.uint8(2)
        rows.places[row, count, 0] = -1.0
        if pan > 0.0:
            angle = (1.0 + min(max(pan - PAN_CENTRE, -1.0), 1.0)) * (math.pi / 4)
            rows.places[row, count, 0] = math.cos(angle)
            rows.places[row, count, 1] = math.sin(angle)
        count += 1
    rows.counts[row] = count
    rows.moving[row] = True


@kernel
def drop_row(row, fade, rows):
    """A row tells of nothing any more; what it told of glides back."""
    for k in range(rows.counts[row]):
        if rows.ordered[row, k]:
            rows.levels[row, k], rows.pans[row, k] = np.nan, 0.0
            rows.ordered[row, k] = False
            rows.lefts[row, k] = fade
    rows.moving[row] = True


@kernel
def pace_row(row, fade, rows):
    """What all rows go by has changed: all of a row takes so many ticks from now on."""
    rows.left[row] = fade
    rows.lefts[row, : rows.counts[row]] = fade
    rows.moving[row] = True


@kernel
def rise_anew(row, rows):
    """A new stream begins: what comes on top begins at nothing, as bus and own voice do."""
    rows.coefficients[row, : rows.counts[row]] = 0.0
    pace_row(row, 1, rows)


@kernel
def note_voices(voices, upmix, row, rows):
    """Follow sources that have become mono ones or are no longer; whether any has.

    Args:
        voices: (S,) uint8, strips that each source has in this tick.
    """
    changed = False
    for k in range(rows.counts[row]):
        strips = min(voices[rows.sources[row, k]], 2)
        if strips != 0 and strips != rows.strips[row, k]:
            if strips == 1:
                # the second strip has just ended: as a copy of the first, or at nothing
                if upmix != 0:
                    rows.coefficients[row, k, ACROSS] += rows.coefficients[row, k, SIDE_2]
                rows.coefficients[row, k, SIDE_2] = 0.0
            rows.strips[row, k] = strips
            changed = True
    return changed


@kernel
def passes(c, strips, upmix):
    """Whether what is given of all strips alike is heard by the way of a coefficient."""
    if c == ACROSS:
        return strips == 1 and upmix != 0
    return c != SIDE_2 or strips > 1


@kernel
def give(gain_from, gain_to, strips, upmix, given):
    """What a gain on all strips alike gives of a source, into given (4, 2) float64."""
    for c in range(4):
        heard = passes(c, strips, upmix)
        given[c, 0] = gain_from if heard else 0.0
        given[c, 1] = gain_to if heard else 0.0


@kernel
def aim_entry(row, k, sounds, upmix, patched, master, given, rows, aim):
    """Where an entry's four coefficients are at the end of this tick, into aim (4,) float64.

    Args:
        sounds: whether its source has strips in this tick.
        patched: what the patch gives of the source, master included.
        given: (4, 2) float64, what is heard of it without this row, before and after the tick.
    """
    if rows.fresh[row, k]:
        rows.fresh[row, k] = False
        if not sounds:  # who has just come is heard as it should be from its first sample on
            rows.lefts[row, k] = 1
    left = rows.lefts[row, k]
    if not rows.ordered[row, k]:
        for c in range(4):
            aim[c] = glide(rows.coefficients[row, k, c], 0.0, left)
        return
    strips, level = rows.strips[row, k], np.float64(rows.levels[row, k])
    level = patched if np.isnan(level) else level * master
    one, two = 1.0, np.float64(upmix) if strips == 1 else 1.0
    if rows.places[row, k, 0] >= 0.0:
        one, two = np.float64(rows.places[row, k, 0]), np.float64(rows.places[row, k, 1])
        if strips > 1:
            one, two = min(1.0, math.sqrt(2.0) * one), min(1.0, math.sqrt(2.0) * two)
    for c in range(4):
        goal = level
        if c == SIDE_1:
            goal = level * one
        elif c != REST:
            goal = level * two if (c == ACROSS) == (strips == 1) else 0.0
        before = rows.coefficients[row, k, c] + given[c, 0]
        aim[c] = glide(before, goal, left) - given[c, 1]


@kernel
def add_row(strips, voices, row, channel, frames, moving, rows, aims, output):
    """Add all that a row tells of to one channel of a mix.

    Args:
        strips: (S, MAX_CHANNELS, frames) float32.
        moving: whether coefficients move to ``aims``, (S, 4) float64, or stay.
        output: (frames,) float64.
    """
    kind, filled = min(channel, REST), 0
    for k in range(rows.counts[row]):
        source = rows.sources[row, k]
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
            before = rows.coefficients[row, k, which]
            after = aims[k, which] if moving else before
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
def settle_row(row, moving, rows, aims):
    """After the period every coefficient is where it aimed; those back at what is given go."""
    rows.left[row] = max(rows.left[row] - 1, 1)
    if not moving:
        return
    count, still = 0, True
    for k in range(rows.counts[row]):
        left = rows.lefts[row, k]
        if left <= 1 and not rows.ordered[row, k]:
            continue
        for c in range(4):
            rows.coefficients[row, count, c] = aims[k, c]
        for c in range(2):
            rows.places[row, count, c] = rows.places[row, k, c]
        rows.sources[row, count] = rows.sources[row, k]
        rows.ordered[row, count] = rows.ordered[row, k]
        rows.levels[row, count], rows.pans[row, count] = rows.levels[row, k], rows.pans[row, k]
        rows.fresh[row, count], rows.strips[row, count] = rows.fresh[row, k], rows.strips[row, k]
        rows.lefts[row, count] = max(left - 1, 1)
        still = still and left <= 1
        count += 1
    rows.counts[row] = count
    rows.moving[row] = not still
