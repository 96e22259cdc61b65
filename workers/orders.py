"""What the desk orders, read by the mixer once a tick, all of it or nothing.

The supervisor writes levels between two raises of ``CONTROL.levels``: odd while it writes, even
when all of it is there. The mixer copies strips, patch and master when the number is even before
and after; else what it had holds for another tick. (A mixer that has nothing yet takes what is
there: nobody hears a change, since all sources begin with a ramp.) While the number stays, so do
strips: reading those of a thousand slots takes longer than mixing them. With the tick it publishes
which number that was, and lanes load their listeners' rows when they serve a tick of a new one.
So whatever was written between two raises is heard from one and the same frame on, in every mix
of every lane. The supervisor writes anew when mixer and lanes have told that they have read
(``levels_read``).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shared.atomics import fence_acquire, load_acquire, store_release
from shared.bundles import bundle
from shared.kernels import kernel
from workers.mix import BALANCE_LEFT, BALANCE_RIGHT, GAIN, PAN_LEFT, PAN_RIGHT, PANNED

_PATCH, _MASTER = 0, 1


@bundle
class Orders(NamedTuple):
    """The mixer's copy; S = slots.

    Attributes:
        strips: (2, S, 6) float64, what holds and what is being read: gain, whether placed, and
            the four gains of the place.
        hub: (2,) float64, patch and master that hold.
        stage: (S, 2) int64, changes and fades being read.
        turn: (1,) int64, which of the two holds; read: (1,) int64, its CONTROL.levels, −1: none.
        high: (1,) int64, slots that were read with it.
        changes: (S,) int64, of each strip so far; left: (S,) int64, ticks that its last takes yet.
    """

    strips: npt.NDArray[np.float64]
    hub: npt.NDArray[np.float64]
    stage: npt.NDArray[np.int64]
    turn: npt.NDArray[np.int64]
    read: npt.NDArray[np.int64]
    high: npt.NDArray[np.int64]
    changes: npt.NDArray[np.int64]
    left: npt.NDArray[np.int64]


def make_orders(slots: int) -> Orders:
    """Nothing was read yet."""
    return Orders(
        strips=np.zeros((2, slots, 6), np.float64),
        hub=np.zeros(2, np.float64),
        stage=np.zeros((slots, 2), np.int64),
        turn=np.zeros(1, np.int64),
        read=np.full(1, -1, np.int64),
        high=np.zeros(1, np.int64),
        changes=np.zeros(slots, np.int64),
        left=np.ones(slots, np.int64),
    )


@kernel
def _stage_strips(arena, high, orders):
    """Copy what is ordered of strips beside what holds."""
    next_turn = 1 - orders.turn[0]
    for slot in range(high):
        record, strip = arena.slots[slot], orders.strips[next_turn, slot]
        strip[GAIN], strip[PANNED] = record.gain, record.panned
        strip[PAN_LEFT], strip[PAN_RIGHT] = record.pan_left, record.pan_right
        strip[BALANCE_LEFT], strip[BALANCE_RIGHT] = record.balance_left, record.balance_right
        orders.stage[slot, 0] = record.strip_changes
        orders.stage[slot, 1] = record.strip_fade


@kernel
def _take_strips(high, orders):
    """What was copied holds from now on."""
    orders.turn[0] = 1 - orders.turn[0]
    orders.high[0] = high
    for slot in range(high):
        if orders.changes[slot] != orders.stage[slot, 0]:
            orders.changes[slot] = orders.stage[slot, 0]
            orders.left[slot] = max(orders.stage[slot, 1], 1)


@kernel
def read_orders(arena, now, orders):
    """Take over what is ordered, if it is all there, and publish it with a tick's buses.

    Args:
        now: the tick's place among STRIP_DEPTH.
    """
    control, clock = arena.control[0], arena.clock[0]
    count = load_acquire(control, "levels")
    nothing_yet = orders.read[0] < 0
    if count % 2 == 0 or nothing_yet:
        patch, master = control.patch, control.master
        high = control.slots_high
        known = count == orders.read[0] and high <= orders.high[0]
        if not known:
            _stage_strips(arena, high, orders)
        fence_acquire()
        whole = count % 2 == 0 and load_acquire(control, "levels") == count
        if whole or nothing_yet:
            if not known:
                _take_strips(high, orders)
            orders.read[0] = count if whole else -1
            orders.hub[_PATCH], orders.hub[_MASTER] = patch, master
    clock.patch[now] = np.int64(orders.hub[_PATCH])
    clock.master[now] = orders.hub[_MASTER]
    heard = max(orders.read[0], 0)
    clock.levels[now] = heard
    store_release(clock, "levels_read", heard)
