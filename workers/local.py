"""What a listener hears of the local JACK graph: what is patched into the ports that are its own.

The JACK bridge writes it, a tick's period before that tick is mixed; here it joins the listener's
mix, whatever the patch mode is. It fades in over the first period that there is, and glides to
silence when JACK fails, as a source does.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shared.atomics import fence_acquire
from shared.bundles import bundle
from shared.kernels import kernel
from shared.layout import STRIP_DEPTH
from shared.protocol import MAX_CHANNELS
from workers.mix import add_strip


@bundle
class Local(NamedTuple):
    """What a lane remembers of it; S = slots.

    Attributes:
        groups: (S,) int64, whose ports a listener hears in this tick; −1: none.
        behind: (S,) int64, ticks that JACK's sound is used later.
        at: (S,) int64, place of that tick's sound among STRIP_DEPTH.
        gains: (S, 2) float64, before the tick, and at its end.
        last: (S, MAX_CHANNELS) float64, last sample of each channel; 0 once that has faded.
    """

    groups: npt.NDArray[np.int64]
    behind: npt.NDArray[np.int64]
    at: npt.NDArray[np.int64]
    gains: npt.NDArray[np.float64]
    last: npt.NDArray[np.float64]


def make_local(slots: int) -> Local:
    """Nobody hears anything of it."""
    return Local(
        groups=np.full(slots, -1, np.int64),
        behind=np.zeros(slots, np.int64),
        at=np.zeros(slots, np.int64),
        gains=np.zeros((slots, 2), np.float64),
        last=np.zeros((slots, MAX_CHANNELS), np.float64),
    )


@kernel
def forget_local(listener, local):
    """A new session: nothing was heard before."""
    local.gains[listener, :] = 0.0
    local.last[listener, :] = 0.0


@kernel
def aim_local(arena, now, listener, gain, folded, local):
    """Before a listener's mix of a tick: whose ports it hears, and how loud in the end.

    Args:
        now: the tick's place among STRIP_DEPTH.
        folded: what the sum of its first two channels is to be multiplied by; 1: they stay two.
    """
    slot, behind = arena.slots[listener], arena.jack[0].behinds[now]
    group, at = slot.jack_group - 1, (now - behind) % STRIP_DEPTH
    if group >= 0:
        record = arena.jack_groups[group]
        # ports of who was in this slot before stay for a while, and are not the newcomer's
        mine = record.session == 0 or record.session == slot.session
        there = record.ticks[at] == arena.clock[0].mixed[now] - behind
        fence_acquire()
        if not mine or not there or behind != local.behind[listener]:  # a jump is faded over
            group = np.int64(-1)
        elif record.sends == 1:  # it is alone, and not to be less for a second that is silent
            gain /= folded
    local.groups[listener] = group
    local.behind[listener], local.at[listener] = behind, at
    local.gains[listener, 0] = local.gains[listener, 1]
    local.gains[listener, 1] = gain if group >= 0 else 0.0


@kernel
def add_local(arena, listener, channel, frames, local, output):
    """One channel of it, into the mix."""
    group = local.groups[listener]
    if group >= 0 and channel < arena.jack_groups[group].sends:
        heard = arena.jack_in[local.at[listener], group, channel]
        before, after = local.gains[listener, 0], local.gains[listener, 1]
        add_strip(heard, frames, before, after, output)
        local.last[listener, channel] = after * heard[frames - 1]
    elif local.last[listener, channel] != 0.0:
        last = local.last[listener, channel]
        for i in range(frames):
            output[i] += last * (0.5 + 0.5 * np.cos(np.pi * (i + 1) / frames))
        local.last[listener, channel] = 0.0
