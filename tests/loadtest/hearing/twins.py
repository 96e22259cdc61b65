"""The voices again, as plain arrays."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.int64]


def random_bits(talker: int, channel: int, numbers: Samples) -> Samples:
    """MurmurHash3's finaliser, by Python's own integers made 32 bits wide by numpy."""
    start = (talker * 0x9E3779B1 + channel * 0x85EBCA77) & 0xFFFFFFFF
    with np.errstate(over="ignore"):
        x = np.uint32(start) + (numbers & 0xFFFFFFFF).astype(np.uint32) * np.uint32(0xC2B2AE3D)
        x ^= x >> np.uint32(16)
        x *= np.uint32(0x85EBCA6B)
        x ^= x >> np.uint32(13)
        x *= np.uint32(0xC2B2AE35)
        x ^= x >> np.uint32(16)
    return x.astype(np.int64)


def solo(talker: int, channel: int, numbers: Samples, mask: int = -1) -> Samples:
    """A solo's samples."""
    values = (random_bits(talker, channel, numbers) % 8192 & mask) - 4096
    if channel == 0:
        beats, within = np.divmod(numbers, 128)
        values = np.where(within == 0, 8192 + 256 * (beats % 32), values)
    return values


def tutti(talker: int, channel: int, numbers: Samples, mask: int, level: int) -> Samples:
    """Samples of a part in a tutti."""
    drawn = (random_bits(talker, channel, numbers) // 65536) * (2 * level + 1) // 65536 - level
    values: Samples = np.sign(drawn) * (np.abs(drawn) & mask)
    return values
