"""Sound to conceal losses in: spoken and sung by espeak-ng, the rest synthesised here.

All of it is mono at RATE_HZ, peaks at PEAK and sits on the noise of a quiet room, rounded to
16 bits as on the wire. Every kind is the same each time it is made.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import wave
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

RATE_HZ = 48000
SECONDS = 5.0
PEAK = 0.5
ROOM_DB = -72.0
"""Of the room's noise, RMS against full scale."""
ESPEAK = "espeak-ng"
ESPEAK_HINT = (
    f"{ESPEAK}: not installed; `apt-get install espeak-ng`, or leave out speech and vowels"
)
SENTENCES = (
    "The choir rehearses every week, although its members live in seven cities. "
    "Please start again at bar forty two, a little softer, and watch the tempo."
)
VOWELS = ("A:", "o:", "i:", "u:", "e@")
"""What needs espeak-ng."""

Sound = npt.NDArray[np.float64]


class MaterialError(RuntimeError):
    """A sound cannot be made here; the text says what is missing."""


def count() -> int:
    """Frames of a sound."""
    return int(SECONDS * RATE_HZ)


def at_times(sound: Sound, times: Sound, taps: int = 16) -> Sound:
    """Values between samples, by a Hann-windowed sinc of 2·taps; silence outside."""
    padded = np.pad(sound, taps)
    whole = np.floor(times).astype(np.int64)
    part = times - whole
    result = np.zeros(len(times))
    for k in range(1 - taps, taps + 1):
        index = np.clip(whole + k + taps, 0, len(padded) - 1)
        away = part - k
        result += padded[index] * np.sinc(away) * (0.5 + 0.5 * np.cos(np.pi * away / taps))
    return result


def _espeak(text: str, *options: str) -> tuple[Sound, int]:
    """What espeak-ng says, without the silence around it, and its rate.

    Raises:
        MaterialError: it is not there, or made no sound.
    """
    if not shutil.which(ESPEAK):
        raise MaterialError(ESPEAK_HINT)
    done = subprocess.run(
        [ESPEAK, *options, "--stdout", text], capture_output=True, check=False, timeout=60
    )
    if done.returncode or not done.stdout:
        raise MaterialError(f"{ESPEAK}: exit code {done.returncode}: {done.stderr.decode()[-300:]}")
    with wave.open(io.BytesIO(done.stdout)) as file:
        rate = file.getframerate()
        data = np.frombuffer(file.readframes(file.getnframes()), "<i2")  # its length is a guess
    loud = np.flatnonzero(np.abs(data) > 50)
    if not len(loud):
        raise MaterialError(f"{ESPEAK}: no sound of {text!r}")
    return data[loud[0] : loud[-1] + 1] / 32768, rate


def speech() -> Sound:
    """A man and a woman, a sentence each."""
    parts = []
    for sentence, voice in zip(SENTENCES.split(". "), ("en", "en+f3")):
        sound, rate = _espeak(sentence, "-v", voice, "-s", "165")
        parts.append(at_times(sound, np.arange(0, len(sound), rate / RATE_HZ)))
    return np.concatenate(parts)


def vowels() -> Sound:
    """Held vowels with vibrato: each is stretched along a sung pitch, so formants move with it."""
    parts, rng = [], np.random.default_rng(11)
    for n, vowel in enumerate(VOWELS):
        voice = "en" if n % 2 == 0 else "en+f3"
        sound, rate = _espeak(f"[[{vowel}:::::::]]", "-v", voice, "-s", "80", "-p", "60")
        frames = int(0.8 * len(sound) * RATE_HZ / rate)
        seconds = np.arange(frames) / RATE_HZ
        cents = 35 * np.sin(2 * np.pi * 5.5 * seconds) + rng.uniform(-150, 250)
        times = np.cumsum(2 ** (cents / 1200)) * rate / RATE_HZ
        parts.append(at_times(sound, times) * _ends(frames, 0.05))
    return np.concatenate(parts)


def _ends(frames: int, seconds: float) -> Sound:
    """Fade-in and fade-out."""
    ramp = np.minimum(np.arange(frames), np.arange(frames)[::-1]) / (seconds * RATE_HZ)
    return np.asarray(np.sin(0.5 * np.pi * np.minimum(ramp, 1.0)) ** 2)


def _noise(frames: int, seed: int) -> Sound:
    return np.random.default_rng(seed).normal(0, 0.25, frames)


def _string(pitch_hz: float, frames: int, seed: int, damping: float = 0.996) -> Sound:
    """A plucked string after Karplus and Strong, tuned by linear interpolation."""
    period = RATE_HZ / pitch_hz - 0.5
    whole, part = int(period), period % 1
    line = np.zeros(frames + whole + 2)
    line[: whole + 2] = _noise(whole + 2, seed)
    start = whole + 2
    while start < len(line):  # a period at a time: nothing refers to what is not there yet
        end = min(start + whole, len(line))
        a, b, c = (line[start - whole - j : end - whole - j] for j in range(3))
        line[start:end] = damping * (0.5 * (1 - part) * a + 0.5 * b + 0.5 * part * c)
        start = end
    return line[whole + 2 :]


def plucked() -> Sound:
    """A guitar's broken chords, each string ringing on."""
    sound = np.zeros(count())
    for n, midi in enumerate([40, 52, 56, 59, 64, 47, 54, 59, 63, 66, 45, 52, 57, 61, 64, 69]):
        at = int((0.05 + 0.3 * n) * RATE_HZ)
        if at < len(sound):
            note = _string(440 * 2 ** ((midi - 69) / 12), len(sound) - at, seed=100 + n)
            sound[at:] += note * np.minimum(1, np.arange(len(note)) / 48)
    return sound


def _bow(pitch_hz: float, frames: int, seed: int) -> Sound:
    """A bowed note: harmonics of a sawtooth through a body's resonances, vibrato, bow noise."""
    rng = np.random.default_rng(seed)
    seconds = np.arange(frames) / RATE_HZ
    wobble = 1 + 0.003 * np.sin(2 * np.pi * 5.8 * seconds + rng.uniform(0, 6))
    flutter = np.cumsum(rng.normal(0, 2e-5, frames))
    phase = 2 * np.pi * np.cumsum(pitch_hz * (wobble + flutter - flutter.mean())) / RATE_HZ
    sound = np.zeros(frames)
    for k in range(1, int(16000 / pitch_hz)):
        f = k * pitch_hz
        body = sum(1 / (1 + ((f - f0) / width) ** 2) for f0, width in
                   ((290, 80), (470, 100), (1100, 400), (2600, 900)))  # fmt: skip
        sound += (0.1 + body) / k * np.sin(k * phase + rng.uniform(0, 6))
    breath = np.convolve(rng.normal(0, 0.02, frames), np.hanning(6), "same")
    return (sound + breath) * _ends(frames, 0.06)


def bowed() -> Sound:
    """A violin's and a cello's slow notes."""
    frames = count() // 8
    pitches = [55, 60, 64, 67, 72, 76, 48, 43]
    notes = [_bow(440 * 2 ** ((m - 69) / 12), frames, 200 + m) for m in pitches]
    return np.concatenate(notes)


def percussion() -> Sound:
    """Kick, snare and hi-hat in eighths, 132 a minute."""
    sound = np.zeros(count())
    eighth = int(RATE_HZ * 30 / 132)
    seconds = np.arange(eighth * 2) / RATE_HZ
    for n in range(len(sound) // eighth):
        hiss = np.diff(_noise(len(seconds) + 1, 300 + n))
        stroke = 0.25 * hiss * np.exp(-seconds / 0.03)
        if n % 4 == 0:
            sweep = 2 * np.pi * np.cumsum(50 + 120 * np.exp(-seconds / 0.03)) / RATE_HZ
            stroke += 1.2 * np.sin(sweep) * np.exp(-seconds / 0.12)
        if n % 4 == 2:
            ring = np.sin(2 * np.pi * 190 * seconds) + 0.6 * np.sin(2 * np.pi * 331 * seconds)
            stroke += (0.5 * ring + _noise(len(seconds), 400 + n)) * np.exp(-seconds / 0.07)
        part = sound[n * eighth : n * eighth + len(seconds)]
        part += stroke[: len(part)]
    return sound


def noise() -> Sound:
    """Pink noise, as applause and breath are: 3 dB less an octave."""
    spectrum = np.fft.rfft(_noise(count(), 500))
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    spectrum[0] = 0
    return np.fft.irfft(spectrum, count())


def polyphony() -> Sound:
    """Four bowed voices in chords over a plucked bass."""
    frames = count() // 4
    chords = [(48, 64, 67, 72), (53, 60, 69, 77), (55, 62, 71, 74), (48, 60, 67, 76)]
    parts = []
    for n, chord in enumerate(chords):
        voices = sum(_bow(440 * 2 ** ((m - 69) / 12), frames, 600 + 10 * n + m) for m in chord)
        bass = _string(440 * 2 ** ((chord[0] - 12 - 69) / 12), frames, 700 + n)
        parts.append(voices + 2 * bass * np.minimum(1, np.arange(frames)[::-1] / 480))
    return np.concatenate(parts)


MAKERS: dict[str, Callable[[], Sound]] = {
    "speech": speech,
    "vowels": vowels,
    "plucked": plucked,
    "bowed": bowed,
    "percussion": percussion,
    "noise": noise,
    "polyphony": polyphony,
}
"""Every kind by name."""


def make(kind: str) -> Sound:
    """One kind of sound, (count(),) at RATE_HZ; shorter ones are repeated.

    Raises:
        KeyError: unknown; MaterialError: it cannot be made here.
    """
    sound = np.resize(MAKERS[kind](), count())
    sound = sound * (PEAK / np.abs(sound).max())
    sound = sound + np.random.default_rng(7).normal(0, 10 ** (ROOM_DB / 20), len(sound))
    return np.asarray(np.rint(sound * 32768) / 32768)
