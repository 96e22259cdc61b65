"""The voices: what a client's samples are when it sounds.

Every sample is a number that can be computed again from who sends it, on which channel,
and the sample's number by the sender's clock::

    solo   channel 0, every 128th sample:  8192 + 256 × (sample number / 128 modulo 32)
           all others:                     hash(talker, channel, number) in −4096..4095
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
MIDDLE = 4096
"""Taken off a hash, so that a voice has no constant offset, which a hub may take out."""
SILENCE, SOLO, EVERYBODY = 0, 1, 2

_U = np.uint32


@kernel
def root(talker, channel):
    """What a channel's hashes have in common, uint32."""
    return _U(_U(_U(talker) * _U(0x9E3779B1)) + _U(_U(channel) * _U(0x85EBCA77)))


@kernel
def scrambled(common, number):
    """32 random bits of a sample: the finaliser over a linear combination, uint32.

    Every step is cut to 32 bits, so that the compiler may do eight samples at once.
    """
    x = _U(common + _U(_U(number) * _U(0xC2B2AE3D)))
    x = _U(x ^ _U(x >> _U(16)))
    x = _U(x * _U(0x85EBCA6B))
    x = _U(x ^ _U(x >> _U(13)))
    x = _U(x * _U(0xC2B2AE35))
    return _U(x ^ _U(x >> _U(16)))


@kernel
def solo_sample(talker, channel, number, mask):
    """Value of a solo's sample in 16-bit steps, as its sender's depth (mask) lets it be."""
    if channel == 0 and number % BEAT == 0:
        return SYNC + SYNC_STEP * (number // BEAT % SYNC_CODES)
    return (np.int64(scrambled(root(talker, channel), number)) & SPAN & mask) - MIDDLE


@kernel
def tutti_sample(talker, channel, number, mask, level):
    """Value of a sample of somebody's part in a tutti; 0 at level 0.

    8-bit talkers round towards zero to what they can send, and rest if that is nothing.
    """
    if level <= 0:
        return np.int64(0)
    high = np.int64(scrambled(root(talker, channel), number)) >> 16
    drawn = (high * (2 * level + 1) >> 16) - level
    return -((-drawn) & mask) if drawn < 0 else drawn & mask


@kernel
def differs(pcm, start, stop, talker, channel, number, mask, tolerance):
    """Whether samples start..stop of a packet are not the solo's from sample `number` on.

    pcm: int16, 16-bit steps. tolerance: how far off a right sample may be, 16-bit steps.
    """
    common = root(talker, channel)
    bits, middle, allowed = np.int32(SPAN & mask), np.int32(MIDDLE), np.int32(tolerance)
    m = start
    while m < stop:
        n = number + (m - start)
        end = stop
        if channel == 0:
            if n % BEAT == 0:
                if abs(np.int64(pcm[m]) - solo_sample(talker, 0, n, mask)) > tolerance:
                    return True
                m += 1
                n += 1
            end = min(stop, m + BEAT - 1 - (n - 1) % BEAT)
        base = _U(common + _U(_U(n) * _U(0xC2B2AE3D)))
        bad = np.int32(0)
        part = pcm[m:end]  # counted from 0, so that no index could be negative
        for k in range(part.size):
            x = _U(base + _U(_U(k) * _U(0xC2B2AE3D)))
            x = _U(x ^ _U(x >> _U(16)))
            x = _U(x * _U(0x85EBCA6B))
            x = _U(x ^ _U(x >> _U(13)))
            x = _U(x * _U(0xC2B2AE35))
            x = _U(x ^ _U(x >> _U(16)))
            off = np.int32(np.int32(part[k]) + middle - np.int32(np.int32(x) & bits))
            bad |= np.int32(abs(off) > allowed)
        if bad:
            return True
        m = end
    return False


@kernel
def sounds(pcm, start, stop):
    """Whether any of samples start..stop is not zero."""
    seen = np.int16(0)
    part = pcm[start:stop]
    for m in range(part.size):
        seen |= part[m]
    return seen != 0


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
def sync_code(value):
    """The number of the beat modulo SYNC_CODES that a sync sample tells, though 8 bits blur it."""
    return (np.int64(value) - SYNC + SYNC_STEP // 2) // SYNC_STEP % SYNC_CODES
