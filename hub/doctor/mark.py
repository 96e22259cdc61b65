"""An inaudible mark in what we play, and finding it again in what a hub returns.

The mark is pseudo-random noise of one step of 16 bit, −90 dB: known to the sample, heard by nobody.
Where a hub returns our own voice (loopback, full mix), each of its packets tells which of ours it
was made of: so what is missing in them was lost, or too late, on the way *to* the hub, and the time
between the two is the round trip. Where others play the mark is buried, and nothing is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared.protocol import HEADER_BYTES, AudioHeader

STEP = 1.0 / 32768.0
MARKED_BITS = (16, 24)
"""Resolutions fine enough for it; at others we play silence (32 bit is broken in JackTrip)."""
SEED = 4464
CHUNK = 32
"""Samples that are judged together."""
LOUD_STEPS = 6.0
"""More than that, root mean square, and somebody else is heard."""
PART = 0.5
"""Of its usual strength, with which the mark must be in a chunk that is ours."""
NOISY = 0.5
"""Power beside the mark, in its own, with which chunks are told apart by chance: one chunk in ten
thousand is judged wrongly there. Microphones that are open may be as loud as that."""
MUCH = 2.0
"""Power, in the mark's, of a chunk that is others' sound and not what a hub fills a gap with."""
ALIKE = 0.5
"""Correlation with the mark from which samples are ours. Resampled half-way between two samples
it is 0.64; of noise the highest among a thousand places is 0.3 for 128 samples."""
NEAR, FAR, LONG = 2, 24, 128
"""Packets that a hub may have skipped or doubled at once: a stall of its sound card costs many. In
packets of less than LONG samples chance would find something among so many places."""
SEARCH_S = 3.0
"""A hub that keeps sound for longer is not searched."""
SILENT_POWER, ENDED_S = 0.05, 1.0
"""Of the mark's; and for how long."""
PATIENCE, SELDOM = 60, 16
"""After so many packets in which nothing was found only one in so many is searched."""
_LOOK_SAMPLES = 1024
_LOOKS = 12
_TAPS = 32
_OFFSETS = np.arange(-4, 5) / 8.0
"""Places between two samples, to which a hub may have resampled us."""
_LONG_SEARCH = 1 << 18
"""Products from which on a search is cheaper by Fourier transform."""

Steps = npt.NDArray[np.float32]
"""Samples in steps of 16 bit."""


def mark(samples: int) -> npt.NDArray[np.int8]:
    """The mark's signs, (samples,) of −1 and 1; the same each time."""
    random = np.random.default_rng(SEED).integers(0, 2, samples, np.int8)
    return (2 * random - 1).astype(np.int8)


def encode(signs: npt.NDArray[np.int8], channels: int, bits: int) -> bytes:
    """A packet's payload, the mark on every channel; silence where it would be heard."""
    if bits not in MARKED_BITS:
        return bytes(len(signs) * channels * (bits // 8))
    words = signs.astype("<i2")
    if bits == 16:
        return words.tobytes() * channels
    # JackTrip's 24 bit: the upper two bytes, then the lowest
    packed = np.zeros((len(signs), 3), np.uint8)
    packed[:, :2] = words.view(np.uint8).reshape(-1, 2)
    return packed.tobytes() * channels


def decode(data: bytes, header: AudioHeader) -> Steps:
    """The first channel of a packet, in steps of 16 bit.

    Args:
        data: at least ``header.packet_bytes``.
    """
    width = header.bits // 8
    raw = data[HEADER_BYTES : HEADER_BYTES + header.frames * width]
    match header.bits:
        case 8:
            return np.frombuffer(raw, np.int8).astype(np.float32) * np.float32(256.0)
        case 16:
            return np.frombuffer(raw, "<i2").astype(np.float32)
        case 24:
            parts = np.frombuffer(raw, np.uint8).reshape(-1, 3)
            high = np.ascontiguousarray(parts[:, :2]).view("<i2")[:, 0]
            return high.astype(np.float32) + parts[:, 2].astype(np.float32) / np.float32(256.0)
    sound = np.frombuffer(raw, "<f4") / np.float32(STEP)
    return np.nan_to_num(sound, nan=0.0, posinf=1e9, neginf=-1e9).clip(-1e9, 1e9)


@dataclass(frozen=True, slots=True)
class Returned:
    """A packet of the hub's: its place in the hub's numbering, when it came, what is in it."""

    number: int
    at_ns: int
    sound: Steps


@dataclass(frozen=True, slots=True)
class Own:
    """Our own voice in a hub's stream.

    Attributes:
        packets: of the hub, that were searched: nobody else was heard loudly in them.
        present: share of what they should hold of ours that they do hold; None: none was found,
            or others are too loud to tell.
        trips_ns: (found,) int64, from our packet's leaving to the hub's packet's coming.
        places: (found, 2) int64: number of the hub's packet, sample of ours that it begins with.
        loud_db: of what others play, dB of full scale; None: nobody is heard.
        ended_ns: from when on there was silence in its place, to the end; None: there was not.
    """

    packets: int
    present: float | None
    trips_ns: npt.NDArray[np.int64]
    places: npt.NDArray[np.int64]
    loud_db: float | None
    ended_ns: int | None


def find_own(
    packets: Sequence[Returned],
    signs: npt.NDArray[np.int8],
    frames: int,
    rate_hz: int,
    sent_ns: npt.NDArray[np.int64],
) -> Own:
    """Look for the mark in all that came back.

    Args:
        packets: in the order of their numbers.
        signs: all that was played.
        frames: of a packet of ours.
        sent_ns: (packets of ours,) int64, when each left.
    """
    wave = signs.astype(np.float32)
    loud = [bool(_power(packet.sound) > LOUD_STEPS**2) for packet in packets]
    loud_db = _loudness_db([p.sound for p, is_loud in zip(packets, loud, strict=True) if is_loud])
    searched = missed = 0
    tracked: tuple[int, int] | None = None
    places: list[tuple[int, int]] = []
    trips: list[int] = []
    found_chunks: list[Steps] = []
    lost_chunks: list[Steps] = []
    looks = _look_times(packets)
    for index, packet in enumerate(packets):
        if loud[index] or len(packet.sound) < CHUNK:
            continue
        if tracked is None:
            if index not in looks:
                continue
            place = _acquire(packets, index, wave, frames, rate_hz, sent_ns)
            if place is None:
                continue
            tracked = packet.number, place
        length = len(packet.sound)
        expected = tracked[1] + (packet.number - tracked[0]) * length
        reach = (FAR if length >= LONG else NEAR) + min(missed, PATIENCE)
        seldom = missed > PATIENCE and index % SELDOM
        found = None if seldom else _near(packet.sound, wave, expected, reach * length)
        searched += 1
        if found is None:
            missed += 1
            lost_chunks.append(_chunks(packet.sound, wave, expected))
            continue
        missed = 0
        tracked = packet.number, found
        places.append((packet.number, found))
        found_chunks.append(_chunks(packet.sound, wave, found))
        number = found // frames
        if number < len(sent_ns):
            trips.append(packet.at_ns - int(sent_ns[number]))
    present, beside_db = _present(found_chunks, lost_chunks)
    return Own(
        searched,
        present,
        np.array(trips, np.int64),
        np.array(places, np.int64).reshape(-1, 2),
        loud_db if loud_db is not None else beside_db,
        _ended_ns(packets) if places else None,
    )


def _chunks(sound: Steps, wave: npt.NDArray[np.float32], place: int) -> Steps:
    """(chunks, 2): how strongly the mark is in each chunk of a packet, and the chunk's power."""
    whole = len(sound) // CHUNK
    sound = sound[: whole * CHUNK]
    around = np.zeros(len(sound) + _TAPS, np.float32)
    begin = place - _TAPS // 2
    known = wave[max(begin, 0) : max(begin + len(around), 0)]
    skipped = max(-begin, 0)
    around[skipped : skipped + len(known)] = known
    model = around[_TAPS // 2 : _TAPS // 2 + len(sound)]
    if float(np.dot(model, sound)) < 0.9 * float(np.linalg.norm(model) * np.linalg.norm(sound)):
        # not to the sample: a hub that follows our clock, or converts rates, reads in between
        between = np.lib.stride_tricks.sliding_window_view(around, _TAPS)[: len(sound)] @ _BANK
        model = between[:, int(np.argmax(sound @ between))]
    ours, model = sound.reshape(whole, CHUNK), model.reshape(whole, CHUNK)
    strength = np.sum(ours * model, axis=1) / np.maximum(np.sum(model * model, axis=1), 1.0)
    return np.stack([strength, np.mean(ours * ours, axis=1)], axis=1)


def _bank() -> npt.NDArray[np.float32]:
    """(taps, offsets) float32: filters that read between the samples."""
    taps = np.arange(_TAPS) - _TAPS // 2
    apart = _OFFSETS[None, :] - taps[:, None]
    window = np.cos(np.pi * apart / (_TAPS + 2)) ** 2
    return np.asarray(np.sinc(apart) * window, np.float32)


_BANK = _bank()


def _present(found: Sequence[Steps], lost: Sequence[Steps]) -> tuple[float | None, float | None]:
    """Share of the chunks that are ours; and how loud others are if that keeps us from telling.

    Args:
        found, lost: chunks of packets in which the mark was found, and was not.
    """
    if not found:
        return None, None
    usual = float(np.median(np.concatenate(found)[:, 0]))
    if usual <= 0.0:
        return None, None
    strength, power = np.concatenate([*found, *lost]).T / np.array([[usual], [usual**2]])
    ours = strength > PART
    beside = float(np.median(np.maximum(power[ours] - np.square(strength[ours]), 0.0)))
    if beside > NOISY:
        return None, round(10.0 * float(np.log10(beside * (usual * STEP) ** 2)), 1)
    judged = ours | (power <= MUCH)
    return float(np.count_nonzero(ours) / np.count_nonzero(judged)), None


def _ended_ns(packets: Sequence[Returned]) -> int | None:
    """Since when there is silence, if it is for long enough."""
    began_ns = None
    for packet in reversed(packets):
        if _power(packet.sound) > SILENT_POWER:
            break
        began_ns = packet.at_ns
    if began_ns is None or packets[-1].at_ns - began_ns < ENDED_S * 1e9:
        return None
    return began_ns


def _look_times(packets: Sequence[Returned]) -> set[int]:
    """Where to begin a search: often at first, for a mark that is there begins soon."""
    last = len(packets) - 1
    return {round(last * (k / _LOOKS) ** 2) for k in range(_LOOKS + 1)} if last >= 0 else set()


def _power(sound: Steps) -> float:
    return float(np.mean(np.square(sound, dtype=np.float64))) if len(sound) else 0.0


def _loudness_db(sounds: Sequence[Steps]) -> float | None:
    if not sounds:
        return None
    power = float(np.mean([_power(sound) for sound in sounds])) * STEP**2
    return round(10.0 * float(np.log10(power)), 1)


def _acquire(
    packets: Sequence[Returned],
    index: int,
    wave: npt.NDArray[np.float32],
    frames: int,
    rate_hz: int,
    sent_ns: npt.NDArray[np.int64],
) -> int | None:
    """Where the packet's first sample is in the mark, by searching all that it can be."""
    first = packets[index]
    sounds = [first.sound]
    for packet in packets[index + 1 :]:
        whole = sum(map(len, sounds))
        if whole >= _LOOK_SAMPLES or packet.number != first.number + len(sounds):
            break
        sounds.append(packet.sound)
    sound = np.concatenate(sounds)
    norm = float(np.sqrt(np.sum(np.square(sound, dtype=np.float64))))
    if norm < 1.0:
        return None
    last = int(np.searchsorted(sent_ns, first.at_ns)) * frames
    begin = max(last - int(SEARCH_S * rate_hz), 0)
    searched = wave[begin : last + len(sound)]
    if len(searched) < len(sound):
        return None
    likeness = _likeness(searched, sound)
    best = int(np.argmax(likeness))
    if likeness[best] < ALIKE * norm * np.sqrt(len(sound)):
        return None
    return begin + best


def _near(sound: Steps, wave: npt.NDArray[np.float32], expected: int, reach: int) -> int | None:
    """Where samples are in the mark, not far from where they should be."""
    norm = float(np.sqrt(np.sum(np.square(sound, dtype=np.float64))))
    begin, end = max(expected - reach, 0), min(expected + reach + len(sound), len(wave))
    if norm < 1.0 or end - begin < len(sound):
        return None
    here = expected - begin
    if 0 <= here <= end - begin - len(sound):
        straight = float(np.dot(wave[expected : expected + len(sound)], sound))
        if straight > 0.9 * norm * np.sqrt(len(sound)):
            return expected
    likeness = _likeness(wave[begin:end], sound)
    best = int(np.argmax(likeness))
    return begin + best if likeness[best] > ALIKE * norm * np.sqrt(len(sound)) else None


def _likeness(searched: npt.NDArray[np.float32], sound: Steps) -> npt.NDArray[np.float64]:
    """Products of samples with each part of what is searched that is as long as they are."""
    if len(searched) * len(sound) < _LONG_SEARCH:
        return np.correlate(searched, sound, "valid").astype(np.float64)
    size = 1 << int(len(searched) + len(sound)).bit_length()
    likeness = np.fft.irfft(np.fft.rfft(searched, size) * np.conj(np.fft.rfft(sound, size)), size)
    return np.asarray(likeness[: len(searched) - len(sound) + 1], np.float64)
