"""A client's line: its packets, decoded, on its own timeline.

Packet s begins at line position ``base_position + (s − base_sequence)·frames``, whatever
order packets come in. Where concealment has written beyond what is final, as it does when
it cannot know what comes next, the real frames that do come are cross-faded with it::

    ----[real][concealed ............:.... tail ....]
               filled = blend_start --+              +-- conceal_end
                                      [real, faded in] ...
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shared.kernels import kernel
from shared.limits import Shed
from workers import garbage, guard, offset
from workers.conceal import FADE_FRAMES
from workers.numbering import SEEN_PACKETS
from workers.pcm import decode, level, total

LEVELS_PER_S = 10
FAINT = 1e-3
"""A peak below that, -60 dBFS, is no voice and no instrument."""
_METERS = int(Shed.METERS)


def fade_table() -> npt.NDArray[np.float32]:
    """Raised-cosine fade-in, (FADE_FRAMES,) float32, above 0 and below 1."""
    phase = (np.arange(FADE_FRAMES) + 1) / (FADE_FRAMES + 1)
    return (0.5 - 0.5 * np.cos(np.pi * phase)).astype(np.float32)


@kernel
def position_of(rx, sequence):
    """Line position of a packet's first frame."""
    return rx.base_position + (sequence - rx.base_sequence) * rx.frames


@kernel
def advance(rx, seen):
    """Move ``filled`` over contiguous real packets."""
    while True:
        offset = rx.filled - rx.base_position
        if offset < 0:
            return
        sequence = rx.base_sequence + offset // rx.frames
        if sequence > rx.highest or seen[sequence & (SEEN_PACKETS - 1)] != sequence:
            return
        rx.filled += rx.frames - offset % rx.frames
        rx.gap_start = -1


@kernel
def _blend(rx, row, mask, decoded, fade, first, count):
    """Cross-fade ``count`` decoded frames with the tail that lies there, from ``first`` on."""
    risen = first - rx.blend_start
    for i in range(count):
        at = (first + i) & mask
        up = fade[risen + i]
        row[at] = decoded[i] * up + row[at] * (np.float32(1.0) - up)


@kernel
def _decode(rx, channel, data, offset, count, output, muted):
    """Decode frames of one channel, or none of them."""
    if muted:
        output[:count] = 0.0
    else:
        rx.sanitised += decode(data, offset, rx.bits, count, output)
    if rx.shed & _METERS:
        return
    peak, squares = level(output, 0, count)
    _meter_block(rx, channel, peak, squares)
    rx.channel_sums[channel] += total(output, 0, count)


@kernel
def _meter_block(rx, channel, peak, squares):
    rx.window_peak = max(rx.window_peak, peak)
    if peak >= FAINT:
        rx.window_sounding |= np.int64(1) << channel
    rx.window_squares += squares
    rx.channel_peaks[channel] = max(rx.channel_peaks[channel], peak)
    rx.channel_squares[channel] += squares


@kernel
def _ease(rx, line, fade, start, count, blended, muted):
    """Let sound end where muted packets begin, and begin where they end, without a click.

    Beneath may be the tail of a gap, which goes on through both (``blended`` frames of it): there
    the step between the two is worn off.
    """
    mask = rx.ring_frames - 1
    after_muted, after_sound = start == rx.muted_end, start == rx.sound_end
    if muted == after_muted or (muted and rx.filled < start and not after_sound):
        return  # or what is before it is not known yet
    if blended > 0 and start == rx.blend_start:
        return  # the gap is before it: it was cross-faded with that
    for channel in range(rx.channels):
        row = line[channel]
        step = row[(start - 1) & mask] - row[start & mask]
        length = min(count, FADE_FRAMES)
        for i in range(length):
            at, up = (start + i) & mask, fade[i * FADE_FRAMES // length]
            if muted or blended > 0:
                row[at] += step * (np.float32(1.0) - up)
            else:
                row[at] *= up


@kernel
def write(rx, line, decoded, fade, data, offset, position, skip):
    """Decode a packet's samples from frame ``skip`` on onto the line; measure their level.

    Args:
        line: (MAX_CHANNELS, RING_FRAMES) float32.
        decoded: (FADE_FRAMES,) float32, scratch.
        fade: (FADE_FRAMES,) float32.
        data, offset: (bytes,) uint8 and where the packet's samples begin.
        position: line position of the packet's first frame.
    """
    frames, bits, mask = rx.frames, rx.bits, rx.ring_frames - 1
    width = bits // 8
    start = position + skip
    count = frames - skip
    blended = min(rx.conceal_end, rx.blend_start + FADE_FRAMES) - start
    blended = min(max(blended, 0), count)
    plain = count - blended
    at = (start + blended) & mask
    first = min(plain, rx.ring_frames - at)
    muted = False
    if bits == 32:
        muted = garbage.muted(rx, garbage.judge(data, offset, frames * rx.channels))
    for channel in range(rx.channels):
        source = offset + (channel * frames + skip) * width
        row = line[channel]
        if blended > 0:
            _decode(rx, channel, data, source, blended, decoded, muted)
            _blend(rx, row, mask, decoded, fade, start, blended)
        source += blended * width
        _decode(rx, channel, data, source, first, row[at:], muted)
        if plain > first:
            rest = source + first * width
            _decode(rx, channel, data, rest, plain - first, row, muted)
    if rx.shed & _METERS == 0:
        rx.window_frames += count
    if bits == 32:
        _ease(rx, line, fade, start, count, blended, muted)
        if muted:
            rx.muted_end = start + count
        else:
            rx.sound_end = start + count


@kernel
def _judge_window(rx):
    """Count what kind of window it was; full scale is the largest value of its bits, or nearly."""
    largest = 1.0 - 1.0 / (1 << (min(rx.bits, 16) - 1))
    rx.windows += 1
    rx.silent_windows += rx.window_peak == 0.0
    rx.faint_windows += rx.window_peak < FAINT
    rx.full_windows += rx.window_peak >= largest
    rx.sounding = rx.window_sounding
    rx.window_sounding = 0


@kernel
def publish_level(header, rx):
    """Publish peak and RMS (over all channels) of a window that is full, and judge it."""
    guard.glide(header, rx)
    if rx.window_frames * LEVELS_PER_S >= rx.rate_hz:
        _judge_window(rx)
        guard.observe(header, rx)
        offset.observe(header, rx)
        rx.peak = rx.window_peak
        rx.rms = np.sqrt(rx.window_squares / (rx.window_frames * rx.channels))
        rx.window_peak = 0.0
        rx.window_squares = 0.0
        rx.channel_peaks[:] = 0.0
        rx.channel_squares[:] = 0.0
        rx.channel_sums[:] = 0.0
        rx.window_frames = 0
