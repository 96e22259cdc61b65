"""Known signals, what a hub makes of them, and how a recording is judged.

The rule of sample-exactness
----------------------------
A JackTrip sender and the hub's encoder share one rule, a receiver and the hub's
decoder another; they differ by a hair (x 32767 against / 32768 at 16 bit):

    sample x --sender--> integer --hub decodes--> mix --hub encodes--> integer --client--> y

=====  ===============================  =================  ====================
bits   encode                           decode             signal for the test
=====  ===============================  =================  ====================
8      clip(round(x * 127), +-127)      v / 128            x = v / 127
16     clip(round(x * 32767), +-32767)  v / 32768          x = v / 32767
24     floor(x * 2**23), clipped        v / 2**23          x = v / 2**23
32     (broken in senders)              float32 itself     (muted by the hub)
=====  ===============================  =================  ====================

"round" takes halves away from zero, in double. With the signals of the last
column the sender's integer is exactly v, so the mix is exactly known, and so is
every sample the listener gets. At 16 bit, v returns as v up to |v| = 16384 and
as v - sign(v) above: the model below knows that, the tests need no tolerance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
Exact = NDArray[np.float64]

# full scale of the encoder, of the decoder
_SCALES = {8: (127, 128), 16: (32767, 32768), 24: (1 << 23, 1 << 23)}


@dataclass(frozen=True, slots=True)
class Voice:
    """A signal of integers that survives its way to the hub unchanged.

    Attributes:
        played: (frames,) float32, what is fed into the client's `send` port.
        in_hub: (frames,) float64, what the hub's decoder must make of it.
    """

    played: Samples
    in_hub: Exact


def round_half_away(x: Exact) -> Exact:
    """Round as C's `round()`: halves away from zero."""
    return np.copysign(np.floor(np.abs(x) + 0.5), x)


def voice(integers: NDArray[np.int64], bits: int = 16) -> Voice:
    """The voice whose wire format at `bits` is exactly `integers`."""
    encoder, decoder = _SCALES[bits]
    return Voice((integers / encoder).astype(np.float32), integers / decoder)


def noise(seed: int, frames: int, level: float, bits: int = 16, lead: int = 0) -> Voice:
    """White noise, evenly spread over +-`level` of full scale, after `lead` frames of silence.

    No sample of the noise itself is zero, so that silence in a recording is never the signal's.
    """
    peak = max(1, int(level * _SCALES[bits][0]))
    rng = np.random.default_rng(seed)
    integers = rng.integers(1, peak, frames, endpoint=True) * rng.choice((-1, 1), frames)
    return voice(np.concatenate((np.zeros(lead, np.int64), integers)), bits)


def sine(frequency_hz: float, frames: int, level: float, rate_hz: int, lead: int = 0) -> Voice:
    """A 16-bit sine of amplitude `level`, from phase zero, after `lead` frames of silence."""
    phase = np.arange(frames, dtype=np.float64) * (2 * np.pi * frequency_hz / rate_hz)
    return _tone(phase, level, lead)


def sweep(
    low_hz: float, high_hz: float, frames: int, level: float, rate_hz: int, lead: int = 0
) -> Voice:
    """A 16-bit sine of amplitude `level` whose frequency rises evenly from `low_hz` to `high_hz`.

    Unlike a sine it resembles itself at one delay only.
    """
    frequency = np.linspace(low_hz, high_hz, frames)
    return _tone(2 * np.pi * np.cumsum(frequency) / rate_hz, level, lead)


def _tone(phase: Exact, level: float, lead: int) -> Voice:
    integers = np.rint(level * 32767 * np.sin(phase)).astype(np.int64)
    return voice(np.concatenate((np.zeros(lead, np.int64), integers)))


def returned(mix: Exact, bits: int) -> Exact:
    """What a client of `bits` decodes from what the hub must encode of this mix."""
    if bits == 32:
        return mix.astype(np.float32).astype(np.float64)
    encoder, decoder = _SCALES[bits]
    if bits == 24:
        return np.clip(np.floor(mix * encoder), -encoder, encoder - 1) / decoder
    return np.clip(round_half_away(mix * encoder), -encoder, encoder) / decoder


def shifted(signal: Exact, lag: int, frames: int) -> Exact:
    """`signal` delayed by `lag` frames, cut or padded with silence to `frames`."""
    out = np.zeros(frames)
    source = signal[max(0, -lag) :]
    start = max(0, lag)
    count = max(0, min(len(source), frames - start))
    out[start : start + count] = source[:count]
    return out


def find_lag(recording: Samples, reference: Exact, start: int = 0, end: int | None = None) -> int:
    """The delay of `reference` in `recording`, judged by recording[start:end] alone.

    The delay at which the normalised correlation would be 1 for a scaled copy; any number
    where the reference is not contained, so what is found must be checked.
    """
    part = recording[start:end]
    size = 1 << (len(part) + len(reference)).bit_length()
    spectrum = np.fft.rfft(part, size) * np.conj(np.fft.rfft(reference, size))
    lag = int(np.argmax(np.abs(np.fft.irfft(spectrum, size))))
    return start + (lag if lag < len(part) else lag - size)


def correlation(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Normalised inner product, -1..1; 0 if either is silent."""
    norm = float(np.linalg.norm(a.astype(np.float64)) * np.linalg.norm(b.astype(np.float64)))
    return float(np.dot(a.astype(np.float64), b.astype(np.float64))) / norm if norm else 0.0


def worst_error(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Largest absolute difference of two signals of equal length."""
    return float(np.max(np.abs(a.astype(np.float64) - b.astype(np.float64)), initial=0.0))


def snr_db(recording: NDArray[np.floating], expected: NDArray[np.floating]) -> float:
    """Power of `expected` over power of the difference, in dB; infinite if equal."""
    error = float(np.sum((recording.astype(np.float64) - expected.astype(np.float64)) ** 2))
    power = float(np.sum(expected.astype(np.float64) ** 2))
    if error == 0.0:
        return float("inf")
    return 10 * float(np.log10(power / error)) if power else float("-inf")


def stretches_of(matches: NDArray[np.bool_], at_least: int) -> list[tuple[int, int]]:
    """[start, end) of every run of at least `at_least` true values."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], matches.astype(np.int8), [0]))))
    return [
        (int(start), int(end))
        for start, end in zip(edges[::2], edges[1::2], strict=True)
        if end - start >= at_least
    ]


def longest_gap(matches: NDArray[np.bool_], proof: int = 16) -> int:
    """Longest stretch, in frames, between runs of at least `proof` matching samples.

    A few samples that match by chance (a fade crosses the signal) do not end a gap.
    """
    good = stretches_of(matches, proof)
    if not good:
        return len(matches)
    starts = np.array([start for start, _ in good] + [len(matches)])
    ends = np.array([0] + [end for _, end in good])
    return int(np.max(starts - ends))


def roughness(signal: NDArray[np.floating]) -> float:
    """Largest absolute second difference: what a click is heard by."""
    return float(np.max(np.abs(np.diff(signal.astype(np.float64), 2)), initial=0.0))


@dataclass(frozen=True, slots=True)
class Mixture:
    """What a recording turned out to be: a sum of delayed voices, or how it differs.

    Attributes:
        lags: frames from the start of each voice to its start in the recording.
        wrong: number of samples that differ from the model.
        report: one line for a message.
    """

    lags: tuple[int, ...]
    wrong: int
    report: str


def explain(
    recording: Samples,
    voices: Sequence[Exact],
    bits: int,
    start: int = 0,
    end: int | None = None,
) -> Mixture:
    """Compare a recording, sample for sample, with the sum of `voices` at delays found in it.

    Args:
        recording: (frames,) float32, as the client of `bits` received it.
        voices: each (n,) float64, as in the hub; none means silence.
        bits: the listener's bit resolution.
        start, end: the part of the recording to look at.
    """
    lags = [find_lag(recording, signal, start, end) for signal in voices]
    mix = np.zeros(len(recording))
    for signal, lag in zip(voices, lags, strict=True):
        mix += shifted(signal, lag, len(recording))
    expected = returned(mix, bits)[start:end]
    heard = recording[start:end]
    matches = heard.astype(np.float64) == expected
    wrong = int(np.count_nonzero(~matches))
    report = f"exact, delays {lags}"
    if wrong:
        report = (
            f"{wrong} of {len(heard)} samples differ, first at {start + int(np.argmin(matches))}, "
            f"worst by {worst_error(heard, expected):.3g}, "
            f"correlation {correlation(heard, expected):.5f}, "
            f"SNR {snr_db(heard, expected):.1f} dB, longest gap {longest_gap(matches)} frames, "
            f"delays {lags}"
        )
    return Mixture(tuple(lags), wrong, report)


def exact_windows(
    recording: Samples,
    voices: Sequence[Exact],
    bits: int,
    windows: Sequence[tuple[int, int]],
) -> int:
    """In how many windows the recording is exactly the sum of the voices, at delays of its own."""
    return sum(explain(recording, voices, bits, *window).wrong == 0 for window in windows)
