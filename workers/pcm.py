"""Sample encodings of the wire, both ways: planar PCM to float32 and back.

    bits   wire                                         value
      8    int8                                         v / 128
     16    int16 LE                                     v / 32768
     24    bytes (mid, high, low), low unsigned         (h·256 + u) / 2^23
     32    float32 LE                                   itself, if it is audio

Senders round to ±127 and ±32767 (half away from zero, in double) and clip; a 16-bit
round trip is therefore ×32767/32768. 24 bit is clipped to 1 − 2^−23, where the original
would wrap to −1. 32-bit words that are no audio become zero and are counted: NaN,
infinities, beyond ±8. What is too small to be heard and may become a denormal on its way
through gains and fades becomes zero. Packets of the original's broken 32-bit sender are
``workers.garbage``'s matter.
"""

from __future__ import annotations

import numpy as np

from shared.kernels import kernel, level_kernel

AUDIO_LIMIT = 8.0
"""A float sample beyond this (+18 dBFS) is taken for garbage."""
TINY = 1e-25
"""−500 dBFS: times the smallest gain and the smallest step of a ramp it is still no denormal."""


@kernel
def decode(data, offset, bits, frames, output):
    """Decode one channel.

    Args:
        data: (bytes,) uint8; offset: first byte of the first frame wanted.
        bits: 8, 16, 24 or 32.
        frames: how many frames.
        output: (>= frames,) float32, written from 0.

    Returns:
        Samples replaced by zero because they were no audio (32 bit only).
    """
    bad = 0
    if bits == 16:
        pcm16 = data[offset : offset + 2 * frames].view(np.int16)
        for i in range(frames):
            output[i] = np.float32(pcm16[i]) * np.float32(1 / 32768)
    elif bits == 24:
        for i in range(frames):
            j = offset + 3 * i
            high = np.int32(np.int8(data[j + 1]))
            value = (high << 16) | (np.int32(data[j]) << 8) | np.int32(data[j + 2])
            output[i] = np.float32(value) * np.float32(1 / 8388608)
    elif bits == 8:
        pcm8 = data[offset : offset + frames].view(np.int8)
        for i in range(frames):
            output[i] = np.float32(pcm8[i]) * np.float32(1 / 128)
    else:
        pcm32 = data[offset : offset + 4 * frames].view(np.float32)
        for i in range(frames):
            x = pcm32[i]
            size = abs(x)
            if not size <= np.float32(AUDIO_LIMIT):
                bad += 1
                x = np.float32(0.0)
            elif size < np.float32(TINY):
                x = np.float32(0.0)
            output[i] = x
    return bad


@kernel
def encode(samples, start, frames, bits, data, offset):
    """Encode one channel.

    Args:
        samples: (>= start + frames,) float64.
        start, frames: which of them.
        bits: 8, 16, 24 or 32.
        data: (bytes,) uint8, written from offset.

    Returns:
        Samples beyond full scale: clipped, or with 32 bit sent as they are.
    """
    clipped = 0
    if bits == 16:
        pcm16 = data[offset : offset + 2 * frames].view(np.int16)
        for i in range(frames):
            x = samples[start + i]
            clipped += abs(x) > 1.0
            v = min(max(x * 32767.0, -32767.0), 32767.0)
            pcm16[i] = np.int16(np.int32(v + np.copysign(0.5, v)))
    elif bits == 24:
        for i in range(frames):
            x = samples[start + i]
            clipped += abs(x) > 1.0
            v = min(max(x, -1.0), 1.0 - 2.0**-23)
            value = np.int32(np.floor(v * 8388608.0))
            j = offset + 3 * i
            data[j] = np.uint8((value >> 8) & 0xFF)
            data[j + 1] = np.uint8((value >> 16) & 0xFF)
            data[j + 2] = np.uint8(value & 0xFF)
    elif bits == 8:
        pcm8 = data[offset : offset + frames].view(np.int8)
        for i in range(frames):
            x = samples[start + i]
            clipped += abs(x) > 1.0
            v = min(max(x * 127.0, -127.0), 127.0)
            pcm8[i] = np.int8(np.int32(v + np.copysign(0.5, v)))
    else:
        pcm32 = data[offset : offset + 4 * frames].view(np.float32)
        for i in range(frames):
            x = samples[start + i]
            clipped += abs(x) > 1.0
            pcm32[i] = np.float32(x)
    return clipped


@level_kernel
def total(samples, start, frames):
    """Sum of a block; arguments as of ``level``."""
    found = samples.dtype.type(0.0)
    for i in range(start, start + frames):
        found += samples[i]
    return np.float64(found)


@level_kernel
def _level32(block):
    """``level`` of float32: sizes compared as integers, which vectorises as floats do not."""
    bits = block.view(np.int32)
    peak = np.int32(0)
    squares = np.float32(0.0)
    for i in range(len(block)):
        peak = max(peak, bits[i] & np.int32(0x7FFFFFFF))
        squares += block[i] * block[i]
    return np.float64(np.int32(peak).view(np.float32)), np.float64(squares)


@level_kernel
def level(samples, start, frames):
    """Peak and sum of squares of a block.

    Args:
        samples: (>= start + frames,) float32 or float64, finite.

    Returns:
        (peak, sum of squares), float64.
    """
    if samples.itemsize == 4:
        return _level32(samples[start : start + frames])
    peak, squares = 0.0, 0.0
    for i in range(start, start + frames):
        x = samples[i]
        peak = max(peak, abs(x))
        squares += x * x
    return peak, squares
