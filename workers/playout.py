"""From a client's line to its input ring: copied frame by frame, or resampled.

``read_frame`` and ``read_phase`` are the line position of the hub sample at the watermark.
While both clocks run at one rate, final line frames are copied as soon as they are final:
bit by bit. While resampling, ``1 + step`` line frames make a hub frame, and every output
needs ``lookahead`` line frames more than itself. The response at a whole frame of the filter
for clocks of one rate is that frame, so that resampling may begin at any time and end at any
whole frame without a seam. A client of another rate is resampled (FOLLOWING) from its first
packet to its last.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shared.atomics import store_release
from shared.bundles import bundle
from shared.kernels import kernel
from workers import offset
from workers.conceal import FADE_FRAMES, Concealment, make_concealment
from workers.filters import Filters, filters_into
from workers.line import fade_table
from workers.resample import make_scratch, resample

COPYING, GLIDING, FOLLOWING = range(3)
"""``RX.resampling``: whole frames as they are; a change of delay; the client's own clock."""
ONE = 1 << 32
"""A frame, as phases and steps count it."""
_ENDLESS = 1 << 26
"""Hub frames, some 20 minutes: what is further away is known to a frame or so only."""
GLIDE_OUTPUTS = 2048
"""Hub frames in which a glide moves by one frame: 488 ppm, under a cent."""
GLIDE_STEP = ONE // GLIDE_OUTPUTS


@bundle
class Tools(NamedTuple):
    """What a receiver needs to turn packets into sound; one for all its clients.

    Attributes:
        fade: (FADE_FRAMES,) float32, raised cosine.
        decoded: (FADE_FRAMES,) float32, scratch.
        filters: workers.filters.Filters, into the hub's rate.
        scratch: the resampler's.
        concealment: Concealment, of all clients.
    """

    fade: npt.NDArray[np.float32]
    decoded: npt.NDArray[np.float32]
    filters: Filters
    scratch: npt.NDArray[np.float32]
    concealment: Concealment


def make_tools(clients: int, rate_hz: int) -> Tools:
    """Tools for so many clients of a hub of this rate."""
    return Tools(
        fade=fade_table(),
        decoded=np.zeros(FADE_FRAMES, np.float32),
        filters=filters_into(rate_hz),
        scratch=make_scratch(),
        concealment=make_concealment(clients),
    )


@kernel
def _moved(rx, count):
    """Line position, whole frames and phase, that is played so many hub frames later."""
    if abs(count) > _ENDLESS:  # only after an outage, and then nobody counts them
        return rx.read_frame + count + (count >> 16) * (rx.step >> 16), rx.read_phase
    after = rx.read_phase + count * rx.step
    return rx.read_frame + count + (after >> 32), after & (ONE - 1)


@kernel
def to_hub(rx, position):
    """Hub sample at which a line position is played, rounded down."""
    ahead = position - rx.read_frame
    if rx.resampling == COPYING:
        return rx.watermark + ahead
    return rx.watermark + ((ahead << 32) - rx.read_phase) // (ONE + rx.step)


@kernel
def to_line(rx, sample):
    """Line position that is played at a hub sample, rounded down."""
    ahead = sample - rx.watermark
    if rx.resampling == COPYING:
        return rx.read_frame + ahead
    frame, _ = _moved(rx, ahead)
    return frame


@kernel
def played_at(rx, position):
    """Hub sample, with its fraction, at which a line position is played."""
    ahead = np.float64(position - rx.read_frame) - np.float64(rx.read_phase) / ONE
    return np.float64(rx.watermark) + ahead / (1.0 + np.float64(rx.step) / ONE)


@kernel
def needed_at(rx, position):
    """Hub sample that cannot be made before this line frame is there."""
    return to_hub(rx, position - rx.lookahead if rx.resampling != COPYING else position)


@kernel
def needed_for(rx, sample):
    """Line frames that must be final before all hub samples below ``sample`` can be made."""
    if rx.resampling == COPYING:
        return to_line(rx, sample)
    return to_line(rx, sample - 1) + rx.lookahead + 1


@kernel
def _copy(rx, line, ring, count):
    """The next ``count`` frames of the line into the ring."""
    mask = rx.ring_frames - 1
    for channel in range(rx.channels):
        source, target = line[channel], ring[channel]
        done = 0
        while done < count:
            here, there = (rx.read_frame + done) & mask, (rx.watermark + done) & mask
            run = min(count - done, rx.ring_frames - max(here, there))
            # slices of their own vectorise: their indices are known not to be negative
            read, written = source[here : here + run], target[there : there + run]
            for i in range(run):
                written[i] = read[i]
            done += run
    rx.read_frame += count


@kernel
def _possible(rx, known):
    """Hub samples that the frames of the line below ``known`` are enough for."""
    span = ((known - rx.lookahead - rx.read_frame) << 32) - rx.read_phase
    if span <= 0:
        return np.int64(0)
    return -(-span // (ONE + rx.step))


@kernel
def glide(rx, frames):
    """Begin to add (> 0) or take away so many frames of delay; only while COPYING."""
    rx.glide = frames * GLIDE_OUTPUTS
    rx.step = -GLIDE_STEP if frames > 0 else GLIDE_STEP
    rx.resampling = GLIDING


@kernel
def end_glide(rx):
    """Let a glide go on to the next whole frame of the line only."""
    if rx.resampling != GLIDING:
        return
    left = rx.read_phase // GLIDE_STEP
    if rx.step > 0 and left > 0:
        left -= GLIDE_OUTPUTS
    rx.glide = left
    if left == 0:
        rx.step = 0
        rx.resampling = COPYING


@kernel
def _glided(rx, count):
    """Account for so many outputs of a glide; at its end whole frames are copied again."""
    if rx.resampling != GLIDING:
        return
    before = abs(rx.glide)
    rx.glide += count if rx.glide < 0 else -count
    rx.glided_frames += before // GLIDE_OUTPUTS - abs(rx.glide) // GLIDE_OUTPUTS
    if rx.glide == 0:
        rx.step = 0
        rx.resampling = COPYING


@kernel
def _finish(rx, ring, count):
    """Publish so many hub samples, any offset taken out of them."""
    if rx.offsets > 0:
        offset.remove(rx, ring, rx.watermark, count)
    store_release(rx, "watermark", rx.watermark + count)


@kernel
def push(rx, line, ring, tools, known):
    """Play out all that is final, and raise the watermark.

    Args:
        line, ring: (MAX_CHANNELS, RING_FRAMES) float32.
        known: line frames below it may be looked at, if not played: ``filled`` or beyond.
        tools: Tools.
    """
    mask = rx.ring_frames - 1
    if rx.resampling != COPYING:
        count = _possible(rx, known)
        if rx.resampling == GLIDING:
            count = min(count, abs(rx.glide))
        if count > 0:
            rx.read_frame, rx.read_phase = resample(
                line, mask, rx.channels, rx.read_frame, rx.read_phase, rx.step, count,
                tools.filters, rx.filter, tools.scratch, ring, mask, rx.watermark,
            )  # fmt: skip
            _finish(rx, ring, count)
            _glided(rx, count)
    if rx.resampling == COPYING and rx.filled > rx.read_frame:
        count = rx.filled - rx.read_frame
        _copy(rx, line, ring, count)
        _finish(rx, ring, count)


@kernel
def skip(rx, sample):
    """Go on at a later hub sample: what lies between is lost."""
    rx.read_frame, rx.read_phase = _moved(rx, sample - rx.watermark)
    store_release(rx, "watermark", sample)


@kernel
def rewind(rx, sample):
    """Take back what is played from a hub sample on: the line is final up to there only.

    What the line holds beyond is the tail that the next real frames are cross-faded with.
    """
    position, phase = _moved(rx, sample - rx.watermark)
    rx.conceal_end = position + FADE_FRAMES
    rx.blend_start = position
    rx.filled = position
    rx.gap_start = -1
    rx.read_frame = position
    rx.read_phase = phase
    end_glide(rx)
    store_release(rx, "watermark", sample)
