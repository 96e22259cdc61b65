"""Who sends full-scale noise or a stuck tone for seconds, and what is done about it (--guard).

Judged is what a client sends, tenth of a second by tenth of a second, by its loudest channel,
an offset left out::

    loud     RMS of LOUD or more: full-scale noise has −4.8 dBFS
    tone     RMS of STUCK or more, a peak at most CREST above it (a sine has 3.0 dB, a square
             or a clipped tone less), and the same RMS as when it began, within STEADY

Either, in RUN windows in a row, is noticed (RX.guard); CALM windows in a row in which the client
behaves, and it is over. By the guard's mode its sound is then left alone, lowered by 20 dB, or
muted: RX.cut is what the mixer takes off its gain, and glides over GLIDE_S. docs/levels.md tells
which music is mistaken for it.
"""

from __future__ import annotations

import numpy as np

from shared.kernels import kernel
from shared.limits import GuardMode, Noticed

LOUD = 10.0 ** (-6.0 / 20.0)
STUCK = 10.0 ** (-12.0 / 20.0)
CREST = 10.0 ** (4.0 / 20.0)
STEADY = 10.0 ** (0.5 / 20.0)
RUN = 30
CALM = 20
BEHAVED = 10.0 ** (-9.0 / 20.0)
"""Who was noticed is still loud above this RMS."""
GLIDE_S = 0.25
LOWERED = 0.9
"""Taken off the gain: −20 dB is left."""
QUIET, NOISE, TONE = int(Noticed.QUIET), int(Noticed.NOISE), int(Noticed.TONE)
_OFF, _LIMIT, _MUTE = int(GuardMode.OFF), int(GuardMode.LIMIT), int(GuardMode.MUTE)


@kernel
def obey(order, rx):
    """Let a client be that the supervisor has released, for the rest of its session."""
    if order.guard_released == rx.session:
        rx.guard = QUIET
        rx.guard_run = 0  # begun anew with every packet, it never gets far


@kernel
def _loudest(rx):
    """RMS and peak of the window's loudest channel, their offset left out."""
    rms, peak = 0.0, 0.0
    for channel in range(rx.channels):
        mean = rx.channel_sums[channel] / rx.window_frames
        power = max(rx.channel_squares[channel] / rx.window_frames - mean * mean, 0.0)
        if power > rms * rms:
            rms = np.sqrt(power)
            peak = rx.channel_peaks[channel] - abs(mean)
    return rms, peak


@kernel
def observe(header, rx):
    """Judge a window of levels."""
    if header.level_guard == _OFF:
        return
    rms, peak = _loudest(rx)
    loud, flat = rms >= LOUD, rms >= STUCK and peak <= CREST * rms
    if rx.guard != QUIET:
        rx.guard_calm = 0 if flat or rms >= BEHAVED else rx.guard_calm + 1
        if rx.guard_calm >= CALM:
            rx.guard = QUIET
            rx.guard_run = 0
        return
    steady = flat and rms <= rx.guard_rms * STEADY and rms * STEADY >= rx.guard_rms
    if rx.guard_run > 0 and (loud or steady):
        rx.guard_run += 1
    else:
        rx.guard_run = 1 if loud or flat else 0
    if rx.guard_run == 1:
        rx.guard_rms = rms
    if rx.guard_run >= RUN:
        rx.guard = TONE if flat else NOISE
        rx.guard_calm = 0
        rx.guarded += 1


@kernel
def glide(header, rx):
    """Move what is taken off the client's gain by a packet's time."""
    wanted = 0.0
    if rx.guard != QUIET:
        if header.level_guard == _LIMIT:
            wanted = LOWERED
        elif header.level_guard == _MUTE:
            wanted = 1.0
    step = rx.span / (GLIDE_S * header.rate_hz)
    if rx.cut < wanted:
        rx.cut = min(rx.cut + step, wanted)
    elif rx.cut > wanted:
        rx.cut = max(rx.cut - step, wanted)
