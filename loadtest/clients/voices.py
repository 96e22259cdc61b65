"""The voices: what a client's samples are when it sounds.

Every sample is a number that can be computed again from who sends it, on which channel,
and the sample's number by the sender's clock::

    solo   channel 0, every 128th sample:  8192 + 256 × (sample number / 128 modulo 32)
           all others:                     hash(talker, channel, number) in 0..8191
    tutti                                  hash(talker, channel, number) in −L..L

A solo stays below 16384, and so does a tutti, since L is 16383 divided by those who sound:
both pass a 16-bit hub exactly (it decodes to v/32768, sums, and encodes round(x × 32767),
which is v again as long as |v| < 16384). The first kind of sample, the *sync*, is louder than
all others: it is found at any offset, and tells the sample number modulo 4096. Clients of 8
bits send the upper 8 bits only (``mask``); a sync passes these too.

The hash is the finaliser of MurmurHash3 (32 bit) over a linear combination.
"""

from __future__ import annotations

import numpy as np

from shared.kernels import kernel

SYNC = 8192
"""A sync sample is at least this; no other sample of a solo is."""
BEAT = 128
"""Samples from sync to sync."""
SYNC_STEP, SYNC_CODES = 256, 32
SPAN = 8191
SILENCE, SOLO, EVERYBODY = 0, 1, 2

_U = np.uint32


@kernel
def scramble(talker, channel, number):
    """32 random bits, as int64, of a sample."""
    x = _U(talker) * _U(0x9E3779B1) + _U(channel) * _U(0x85EBCA77) + _U(number) * _U(0xC2B2AE3D)
    x ^= x >> _U(16)
    x *= _U(0x85EBCA6B)
    x ^= x >> _U(13)
    x *= _U(0xC2B2AE35)
    x ^= x >> _U(16)
    return np.int64(x)


@kernel
def solo_sample(talker, channel, number, mask):
    """Value of a solo's sample in 16-bit steps, as its sender's depth (mask) lets it be."""
    if channel == 0 and number % BEAT == 0:
        return SYNC + SYNC_STEP * (number // BEAT % SYNC_CODES)
    return (scramble(talker, channel, number) & SPAN) & mask


@kernel
def tutti_sample(talker, channel, number, mask, level):
    """Value of a sample of somebody's part in a tutti; 0 at level 0.

    8-bit talkers give −level, 0 or level, if their steps are that fine, and rest otherwise.
    """
    if level <= 0:
        return np.int64(0)
    drawn = scramble(talker, channel, number) % (2 * level + 1) - level
    return -((-drawn) & mask) if drawn < 0 else drawn & mask


@kernel
def sync_at(pcm, frames, start):
    """Index of the first sync sample of channel 0 from start on; −1: none.

    pcm: (>= frames,) int16, planar, 16-bit steps.
    """
    for m in range(start, frames):
        if pcm[m] >= SYNC:
            return m
    return -1


@kernel
def sync_code(value, tolerance):
    """The number of the beat modulo SYNC_CODES that a sync sample tells."""
    return (np.int64(value) - SYNC + SYNC_STEP // 2) // SYNC_STEP % SYNC_CODES
