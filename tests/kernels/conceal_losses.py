"""The hub's concealment of given losses, offline; for ``loadtest.benchmarks.concealment``.

    python -m tests.kernels.conceal_losses

Reads a job after the other from standard input and answers each on standard output. A job is
three arrays: method and how many later packets are there when one is due (2,) int64; the
sound (frames,) float32; which packets were lost (packets,) bool. The answer is what is heard,
(frames,) float32.
"""

from __future__ import annotations

import sys
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from loadtest.benchmarks.concealment import receive, send
from workers.conceal import FADE_FRAMES, Concealment, fill, forget, make_concealment

RATE_HZ = 48000
MAX_ORDER = 255
PAST_FRAMES = 2048
"""As much of the past as a line keeps at least."""

Sound = npt.NDArray[np.float32]
Lost = npt.NDArray[np.bool_]


def play(method: int, ahead: int, sound: Sound, lost: Lost, work: Concealment) -> Sound:
    """Packet by packet, as each is due: real if it came, else concealed.

    Args:
        method: Underrun.
        ahead: how many later packets are there when one is due, if they came at all.
        sound: whole packets of at least FADE_FRAMES.
    """
    frames = len(sound) // len(lost)
    mask = (1 << len(sound).bit_length()) - 1
    line = np.zeros((1, mask + 1), np.float32)
    fade = 0.5 - 0.5 * np.cos(np.pi * np.arange(1, FADE_FRAMES + 1) / (FADE_FRAMES + 1))
    forget(work, 0)
    gap, filled, tail = -1, 0, np.zeros(0, np.float32)
    for packet in range(len(lost)):
        start, end = packet * frames, (packet + 1) * frames
        if filled >= end:
            continue  # bridged
        if not lost[packet]:
            line[0, start:end] = sound[start:end]
            up = fade[: len(tail)]
            line[0, start : start + len(tail)] *= up
            line[0, start : start + len(tail)] += tail * (1 - up)
            gap, filled, tail = -1, end, tail[:0]
            continue
        gap = start if gap < 0 else gap
        known = [k for k in range(packet + 1, min(packet + 1 + ahead, len(lost))) if not lost[k]]
        next_real, future = -1, 0
        if known:
            run = [k for n, k in enumerate(known) if k == known[0] + n]
            next_real, future = known[0] * frames, len(run) * frames
            line[0, next_real : next_real + future] = sound[next_real : next_real + future]
        to = fill(method, line, mask, 1, RATE_HZ, min(gap, PAST_FRAMES), gap, start, end,
                  next_real, future, frames, MAX_ORDER, work, 0)  # fmt: skip
        bridged = to == next_real
        filled = to if bridged else end
        tail = line[0, filled:to].copy()
        gap = -1 if bridged else gap
    return line[0, : len(sound)].copy()


def serve(source: BinaryIO, sink: BinaryIO) -> None:
    """Answer jobs until there are no more."""
    work = make_concealment(1)
    while (job := receive(source)) is not None:
        sound, lost = receive(source), receive(source)
        assert sound is not None
        assert lost is not None
        send(sink, play(int(job[0]), int(job[1]), sound, lost, work))


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
