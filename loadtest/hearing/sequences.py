"""Whole voices at once: what a passage should have been, from who took part and at which delays."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from loadtest.clients.voices import solo_sample, tutti_sample
from shared.kernels import kernel

Samples = npt.NDArray[np.int32]


@kernel
def fill_solo(talker, first, mask, output):
    """Write a solo from sample number `first` on. output: (channels, frames) int32."""
    for channel in range(output.shape[0]):
        for m in range(output.shape[1]):
            output[channel, m] = solo_sample(talker, channel, first + m, mask)


@kernel
def fill_part(talker, first, frames, mask, level, output):
    """Write a part in a tutti, and silence after it. output: (channels, >= frames) int32."""
    for channel in range(output.shape[0]):
        for m in range(output.shape[1]):
            output[channel, m] = 0
        for m in range(frames):
            output[channel, m] = tutti_sample(talker, channel, first + m, mask, level)


@kernel
def add_parts(parts, starts, sends, upmix, output):
    """Add up what a listener should hear.

    parts: (talkers, channels, frames) int32. starts: (talkers,) where each begins in the output.
    sends: (talkers,) channels of each. upmix: 1: one channel sounds in the listener's first two.
    output: (channels, span) int32, added to.
    """
    span = output.shape[1]
    for talker in range(parts.shape[0]):
        low = max(starts[talker], 0)
        high = min(starts[talker] + parts.shape[2], span)
        for channel in range(output.shape[0]):
            source = channel
            if upmix and sends[talker] == 1 and channel == 1:
                source = 0
            if source >= sends[talker] or low >= high:
                continue
            row = parts[talker, source, low - starts[talker] : high - starts[talker]]
            target = output[channel, low:high]
            for m in range(row.size):
                target[m] += row[m]


def solo(talker: int, first: int, until: int, sends: int, mask: int) -> Samples:
    """(sends, until − first): a solo's samples."""
    output = np.zeros((sends, max(until - first, 0)), np.int32)
    fill_solo(talker, first, mask, output)
    return output


def as_heard(pcm: Samples, wants: int, upmix: bool) -> Samples:
    """A talker's channels as a listener of so many has them: (wants, frames)."""
    output = np.zeros((wants, pcm.shape[1]), pcm.dtype)
    if upmix and len(pcm) == 1:
        pcm = np.concatenate([pcm, pcm])
    output[: len(pcm)] = pcm[:wants]
    return output
