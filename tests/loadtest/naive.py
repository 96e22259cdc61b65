"""Slow and obviously right twins of the load generator's kernels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from loadtest.plan import Plan
from shared.layout import PatchMode

Pcm = npt.NDArray[np.int16]
HISTORY = 64
"""A packet older than this is taken for a duplicate: nobody remembers whether it came."""


def voice_sample(talker: int, channel: int, packet: int, n: int) -> int:
    """One sample of a voice packet."""
    if channel == 0 and n == 0:
        return 8192 + packet % 8192
    return (1031 * talker + 4271 * channel + 613 * packet + 37 * n) % 8192


def voice(plan: Plan, talker: int, packet: int) -> Pcm:
    """(channels, frames) of a voice packet."""
    return np.array(
        [
            [voice_sample(talker, channel, packet, n) for n in range(plan.frames)]
            for channel in range(plan.channels)
        ],
        np.int16,
    )


def speaks(plan: Plan, first: int, last: int, client: int, packet: int) -> bool:
    """Whether it is this client's turn to sound."""
    if not first <= packet < last:
        return False
    if plan.mode == PatchMode.LOOPBACK:
        return True
    turn, within = divmod(packet - first, plan.turn_packets)
    return within < plan.talk_packets and turn % plan.clients == client


def source(plan: Plan, first: int, last: int, client: int, packets: int) -> Pcm:
    """(channels, packets * frames): all that a client sends."""
    silence = np.zeros((plan.channels, plan.frames), np.int16)
    parts = [
        voice(plan, client, k) if speaks(plan, first, last, client, k) else silence
        for k in range(packets)
    ]
    return np.concatenate(parts, axis=1)


def returned(
    plan: Plan, sources: list[Pcm], listener: int, delay: Callable[[int, int], int]
) -> Pcm:
    """(channels, samples): what a right hub returns to a listener.

    delay: frames by which a source (first argument) is late at a listener (second).
    """
    total = np.zeros_like(sources[0])
    for talker, pcm in enumerate(sources):
        own = talker == listener
        match plan.mode:
            case PatchMode.LOOPBACK:
                wanted = own
            case PatchMode.FAN_OUT_NO_SELF:
                wanted = not own
            case PatchMode.FULL_MIX:
                wanted = True
            case _:
                wanted = False
        if wanted:
            late = delay(talker, listener)
            total[:, late:] += pcm[:, : pcm.shape[1] - late]
    return total


@dataclass(slots=True)
class Numbering:
    """What `account` counts, by sets of the extended numbers that came."""

    seen: set[int] = field(default_factory=set)
    highest: int | None = None
    duplicates: int = 0
    reordered: int = 0
    lost: int = 0

    def take(self, number: int) -> None:
        if self.highest is None:
            self.seen.add(number)
            self.highest = number
            return
        near = [number + 65536 * turn for turn in range(-2, 4)]
        around = self.highest & ~0xFFFF
        distances = [around + value - self.highest for value in near]
        extended = self.highest + min(distances, key=abs)
        if extended in self.seen or self.highest - extended >= HISTORY:
            self.duplicates += 1
            return
        if extended > self.highest:
            self.lost += extended - self.highest - 1
            self.highest = extended
        else:
            self.lost -= 1
            self.reordered += 1
        self.seen.add(extended)
