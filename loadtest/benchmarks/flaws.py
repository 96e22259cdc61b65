"""What of concealed sound differs from what was sent: three figures of one gap after another.

    snr     energy of the lost sound over that of the error, dB, over the lost packets and the
            packet after them, where the way back is cross-faded; every gap counts alike
    lsd     log-spectral distance, dB: how differently the spectra over each lost packet look
    click   energy of the second difference around the seams, beyond what the sound has there
            by itself, over what it has nearby, dB; NO_CLICK: none

The second difference knows no phase and weighs what is high and sudden: a sine of 1 kHz has
35 dB less of it than a step of the same size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Sound = npt.NDArray[np.float64]
Lost = npt.NDArray[np.bool_]

SNR_LIMITS_DB = (-20.0, 60.0)
WINDOW = 512
"""Frames of a spectrum, centred on the packet."""
SPECTRUM_FLOOR = 10 ** (-90 / 20)
AROUND = 4
"""Frames on each side of a seam."""
NEARBY = 512
QUIET = 10 ** (-60 / 20)
"""RMS below which a gap is in silence, and says nothing."""
NO_CLICK = -60.0


@dataclass(frozen=True, slots=True)
class Flaws:
    """Means over all gaps; gaps in silence are not among them."""

    gaps: int
    snr_db: float
    lsd_db: float
    click_db: float


def gaps_of(lost: Lost) -> list[tuple[int, int]]:
    """First and one beyond the last packet of each gap."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], lost, [False]])))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def judge(sound: Sound, heard: Sound, lost: Lost, frames: int) -> Flaws | None:
    """Compare what was heard with what was sent; None: there was silence in every gap."""
    found = [of_gap(sound, heard, first * frames, last * frames, frames)
             for first, last in gaps_of(lost)]  # fmt: skip
    audible = [each for each in found if each is not None]
    return mean(audible) if audible else None


def mean(found: list[tuple[float, float, float]]) -> Flaws:
    """Mean of (SNR dB, distance dB, click energy ratio)."""
    snr, lsd, click = np.mean(found, axis=0)
    click_db = 10 * np.log10(max(click, 10 ** (NO_CLICK / 10)))
    return Flaws(len(found), float(snr), float(lsd), float(click_db))


def of_gap(
    sound: Sound, heard: Sound, start: int, end: int, frames: int
) -> tuple[float, float, float] | None:
    """SNR dB, distance dB, click energy ratio of the gap that begins and ends at these frames.

    None: there was silence in it.
    """
    reach = slice(start, end + frames)
    true = sound[reach]
    if np.sqrt(np.mean(true**2)) < QUIET:
        return None
    error = float(np.sum((heard[reach] - true) ** 2)) + 1e-12
    snr = float(np.clip(10 * np.log10(float(true @ true) / error), *SNR_LIMITS_DB))
    spectra = [_distance(sound, heard, at + frames // 2) for at in range(start, end, frames)]
    seams = [*range(start, end + 1, frames), end + frames]
    return snr, float(np.mean(spectra)), _click(sound, heard, start, seams)


def _distance(sound: Sound, heard: Sound, centre: int) -> float:
    """Log-spectral distance of a window, below two thirds of the band."""
    window = np.hanning(WINDOW)
    levels = []
    for each in (sound, heard):
        part = each[max(centre - WINDOW // 2, 0) :][:WINDOW]
        bins = np.abs(np.fft.rfft(part * window[: len(part)], WINDOW)) / (WINDOW / 4)
        levels.append(20 * np.log10(bins[1 : WINDOW // 3] + SPECTRUM_FLOOR))
    return float(np.sqrt(np.mean((levels[0] - levels[1]) ** 2)))


def _click(sound: Sound, heard: Sound, start: int, seams: list[int]) -> float:
    """Excess energy at the seams over that of as many frames nearby."""
    before = np.diff(sound[max(start - NEARBY, 0) : seams[-1] + NEARBY], 2)
    usual = float(np.mean(before**2)) * 2 * AROUND
    excess = 0.0
    for seam in seams:
        here = slice(max(seam - AROUND - 1, 0), seam + AROUND + 1)
        true, got = (float(np.sum(np.diff(each[here], 2) ** 2)) for each in (sound, heard))
        excess += max(0.0, got - max(true, usual))
    return excess / (usual * len(seams) + 1e-20)
