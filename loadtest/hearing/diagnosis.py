"""From wrong samples to the name of what is wrong with them. Pure functions of arrays.

Whatever a hub does to a mix, the difference to the right one is made of the same sequences:
what is missing is there negatively, what is too much positively, what is late twice. A sequence
is as good as noise to all others, so that its share in a difference is its *projection*:

    gain = <difference, sequence> / <sequence, sequence>        ± 1 / sqrt(samples)

and what is left after taking it away tells whether that was all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from loadtest.clients.state import UNKNOWN
from loadtest.conduct.outcome import FindingKind
from loadtest.hearing.sequences import Samples, as_heard
from loadtest.hearing.tutti import Passage

Kind = FindingKind
Floats = npt.NDArray[np.float64]

SURE = 7.0
"""Standard deviations of chance beyond which a projection is none."""
ROUNDING = 1.0
"""What is left of a difference when its cause is taken away, in 16-bit steps."""
UNHEARD = 0.25
"""A term that changes no sample by so many 16-bit steps is not in a difference."""
CLICK_SAMPLES = 12
MOST_CAUSES = 6
MIXED = 0.9995
"""Share that a right mix explains, if it is only too loud or too soft."""
SAME_GAIN = 0.004
"""A projection this near to a whole number is one: 0.03 dB."""


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing that is wrong with a passage or packet.

    Attributes:
        source: client index; −1: none or several.
        gain_db: of the source as it was heard (0: as loud as it should be), where that matters.
        frames: of a shift; positive: later.
        other: another source that has to do with it.
        channel: where, if not everywhere; −1.
    """

    kind: FindingKind
    source: int = -1
    gain_db: float | None = None
    frames: int = 0
    other: int = -1
    channel: int = -1


def decibels(gain: float) -> float:
    """20 log10 of a gain's size, rounded; −inf for none."""
    return round(20 * math.log10(abs(gain)), 2) if abs(gain) > 1e-9 else -math.inf


def gain_of(pcm: Floats, wanted: Floats) -> tuple[float, float]:
    """The gain at which a sequence is in some samples, and its share of their energy (0..1)."""
    energy, own = float((pcm * pcm).sum()), float((wanted * wanted).sum())
    if energy == 0 or own == 0:
        return 0.0, 0.0
    dot = float((pcm * wanted).sum())
    return dot / own, dot * dot / own / energy


def local_cause(
    pcm: Samples, expected: Samples, before: Samples | None, wrong: npt.NDArray[np.bool_]
) -> Cause | None:
    """What is wrong with one packet, if it can be told without knowing any source.

    pcm, expected: (channels, frames). before: the packet before, as it came.
    wrong: (frames,) which samples differ.
    """
    if not pcm[:, wrong].any():
        return Cause(Kind.DROPOUT)
    if before is not None and before.shape == pcm.shape and (pcm == before).all():
        return Cause(Kind.REPEATED, frames=pcm.shape[1])
    if len(pcm) > 1 and (pcm[[1, 0]] == expected[:2]).all() and (pcm[2:] == expected[2:]).all():
        return Cause(Kind.SWAPPED_CHANNELS)
    voiced = expected.any(axis=0)
    among_right = 3 * wrong.sum() <= (voiced & ~wrong).sum() or not voiced.any()
    if wrong.sum() <= CLICK_SAMPLES and among_right:
        return Cause(Kind.CLICK)
    return None


def clipped(pcm: Samples, expected: Samples, have: npt.NDArray[np.bool_]) -> bool:
    """Whether exactly the loudest samples are wrong: limited, or wrapped around."""
    right, bad = [], []
    for heard, wanted in zip(pcm, expected, strict=True):
        off = (heard != wanted) & have
        right.append(np.abs(wanted[have & ~off]))
        bad.append(np.abs(wanted[off]))
    loud = np.concatenate(bad)
    soft = np.concatenate(right)
    if loud.size < 4 or not soft.size:
        return False
    return bool(loud.min() >= soft.max() >= loud.max() // 4)


def passage_causes(passage: Passage, upmix: bool) -> list[Cause]:
    """What is wrong with a listener's passage of a tutti; empty: it cannot be told."""
    frames = passage.frames
    pcm, expected, wrong, have = passage.pcm, passage.expected, passage.wrong, passage.have
    bad = np.flatnonzero(wrong.reshape(-1, frames).any(axis=1))
    in_bad = np.repeat(wrong.reshape(-1, frames).any(axis=1), frames) & have
    if not pcm[:, in_bad].any():
        return [Cause(Kind.DROPOUT)]
    if len(pcm) > 1 and (pcm[[1, 0]] == expected[:2])[:, have].all():
        return [Cause(Kind.SWAPPED_CHANNELS)]
    if clipped(pcm, expected, have):
        return [Cause(Kind.CLIPPED)]
    mixed, wanted = (each[:, have].astype(np.float64) for each in (pcm, expected))
    gain, share = gain_of(mixed, wanted)
    as_one = [Cause(Kind.WRONG_GAIN, gain_db=decibels(gain))]
    if abs(gain - 1) > SAME_GAIN and np.abs(mixed - gain * wanted).max() <= ROUNDING:
        return as_one
    sounding = (expected.any(axis=0) & have).reshape(-1, frames).any(axis=1).sum()
    if 2 * len(bad) > sounding:
        causes, complete = Mixture(passage, in_bad, upmix).causes()
        if complete:
            return causes
    if share > MIXED and abs(gain - 1) > SAME_GAIN:
        return as_one
    causes = []
    left = np.zeros_like(wrong)
    for packet in bad:
        here = slice(packet * frames, (packet + 1) * frames)
        before = None
        if packet and have[packet * frames - 1]:
            before = pcm[:, (packet - 1) * frames : packet * frames]
        cause = local_cause(pcm[:, here], expected[:, here], before, wrong[here])
        if cause is None:
            left[here] = have[here]
        else:
            causes.append(cause)
    if left.any():
        found, complete = Mixture(passage, left, upmix).causes()
        causes += found if found and complete else [Cause(Kind.UNEXPLAINED)]
    return causes


class Mixture:
    """A difference that is to be explained by the parts of a tutti: a few terms, and no more.

    Only samples of wrong packets count: in the others nothing differs.
    """

    def __init__(self, passage: Passage, where: npt.NDArray[np.bool_], upmix: bool) -> None:
        self.passage = passage
        self.where = where
        self.upmix = upmix
        self.difference: Floats = np.where(where, passage.pcm - passage.expected, 0.0)
        self.rest = self.difference
        self.count = int(where.sum()) * len(passage.pcm)
        self.terms: list[tuple[int, int]] = []
        self.gains: list[float] = []

    def heard(self, row: int) -> Samples:
        """A member's part with this listener's channels."""
        whole = self.passage.ensemble
        own = whole.parts[row, : int(whole.sends[row])]
        return as_heard(own, len(self.passage.pcm), self.upmix)

    def part(self, row: int, start: int) -> Floats:
        """(channels, span): a member's part if it began there, where it counts."""
        own = self.heard(row)
        output: Floats = np.zeros(self.difference.shape)
        low, high = max(start, 0), min(start + own.shape[1], output.shape[1])
        if low < high:
            output[:, low:high] = own[:, low - start : high - start]
        output *= self.where
        return output

    def explained(self) -> bool:
        """Whether nothing but rounding is left."""
        return bool(np.abs(self.rest).max() <= ROUNDING)

    def uncertainty(self, row: int, start: int) -> float:
        """How far a term's gain may be from the true one: by rounding only, if that is all."""
        if not self.explained():
            return 5 * SAME_GAIN
        energy = float((self.part(row, start) ** 2).sum())
        return min(max(3 * ROUNDING / math.sqrt(max(energy, 1.0)), 1e-4), 5 * SAME_GAIN)

    def add(self, row: int, start: int) -> None:
        """Take one more term, and fit all of them together."""
        self.terms.append((row, start))
        matrix = np.stack([self.part(*term).ravel() for term in self.terms], axis=1)
        fit = np.linalg.lstsq(matrix, self.difference.ravel(), rcond=None)[0]
        self.gains = [float(gain) for gain in fit]
        self.rest = self.difference - (matrix @ fit).reshape(self.difference.shape)

    def add_aligned(self) -> None:
        """Take terms where their members should sound, the largest first."""
        rows = [row for row, start in enumerate(self.passage.starts) if start != UNKNOWN]
        shapes = {row: self.part(row, int(self.passage.starts[row])) for row in rows}
        while rows and not self.explained() and len(self.terms) < MOST_CAUSES:
            shares = {row: gain_of(self.rest, shape)[1] for row, shape in shapes.items()}
            best = max(shares, key=shares.__getitem__)
            term = best, int(self.passage.starts[best])
            if term in self.terms or shares[best] * self.count < SURE * SURE:
                return
            self.add(*term)

    def add_anywhere(self, rows: list[int]) -> None:
        """Take terms at other places, of these members."""
        while rows and not self.explained() and len(self.terms) < 2 * MOST_CAUSES:
            best = (0.0, -1, 0)
            for row in rows:
                own = self.heard(row)
                size = 1 << (self.rest.shape[1] + own.shape[1] - 1).bit_length()
                spectrum = np.fft.rfft(self.rest, size) * np.conj(np.fft.rfft(own, size))
                dots = np.fft.irfft(spectrum.sum(axis=0), size)
                at = int(np.abs(dots).argmax())
                start = at if at < self.rest.shape[1] else at - size
                best = max(best, (gain_of(self.rest, self.part(row, start))[1], row, start))
            if best[0] * self.count < SURE * SURE or best[1:] in self.terms:
                return
            self.add(best[1], best[2])

    def causes(self) -> tuple[list[Cause], bool]:
        """What is in the difference, and whether that explains all of it."""
        passage, whole = self.passage, self.passage.ensemble
        swapped = self._swapped()
        if swapped is not None:
            return [swapped], True
        self.add_aligned()
        own = [
            row
            for row, talker in enumerate(whole.talkers)
            if talker == passage.listener and passage.starts[row] == UNKNOWN
        ]
        self.add_anywhere(own)
        lacking = [
            term[0]
            for term, gain in zip(self.terms, self.gains, strict=True)
            if abs(gain + 1) < 0.2
        ]
        self.add_anywhere(lacking)
        self.add_anywhere(list(range(len(whole.talkers))))
        return self._named(), self.explained()

    def _swapped(self) -> Cause | None:
        """Whether one member's channels are exchanged, and nothing else is wrong."""
        if len(self.rest) < 2:
            return None
        whole, passage = self.passage.ensemble, self.passage
        for row, start in enumerate(passage.starts):
            if start != UNKNOWN and whole.sends[row] > 1:
                shape = self.part(row, int(start))
                crossed = shape.copy()
                crossed[:2] = shape[1::-1]
                if np.abs(self.difference - (crossed - shape)).max() <= ROUNDING:
                    return Cause(Kind.SWAPPED_CHANNELS, int(whole.talkers[row]))
        return None

    def _named(self) -> list[Cause]:
        passage, talkers = self.passage, self.passage.ensemble.talkers
        causes: list[Cause] = []
        missing: list[int] = []
        for (row, start), gain in zip(self.terms, self.gains, strict=True):
            if abs(gain) * float(np.abs(self.part(row, start)).max()) < UNHEARD:
                continue  # taken by chance, before a later term explained it
            talker, right = int(talkers[row]), int(passage.starts[row])
            near = self.uncertainty(row, start)
            if right == UNKNOWN:
                causes.append(Cause(Kind.OWN_VOICE, talker, decibels(gain)))
            elif start != right:
                causes.append(Cause(Kind.EXTRA_SOURCE, talker, decibels(gain), start - right))
            elif abs(gain + 1) < near:
                missing.append(talker)
            elif abs(gain - 1) < near:
                causes.append(Cause(Kind.EXTRA_SOURCE, talker, 0.0))
            else:
                causes.append(Cause(Kind.WRONG_GAIN, talker, decibels(1 + gain)))
        for talker in missing:
            extra = [each for each in causes if each.kind == Kind.EXTRA_SOURCE]
            own = [each for each in extra if each.source == talker]
            if own:
                causes.remove(own[0])
                causes.append(Cause(Kind.MOVED, talker, frames=own[0].frames))
            elif len(missing) == len(extra) == 1:
                causes.remove(extra[0])
                causes.append(Cause(Kind.WRONG_SOURCE, talker, other=extra[0].source))
            else:
                causes.append(Cause(Kind.MISSING_SOURCE, talker))
        return causes


@dataclass(slots=True)
class Solo:
    """A wrong packet of a solo, and what it should have held.

    Attributes:
        talker: whose solo it is.
        pcm: (channels, frames) as it came.
        voice: (channels, length) of the talker as this listener has it, from its first sample on.
        origin: where in the voice the packet should begin; UNKNOWN.
        own: the voice is the listener's own, and should not be heard.
        tolerance: how far off a right sample may be.
    """

    talker: int
    pcm: Samples
    voice: Samples
    origin: int
    own: bool = False
    tolerance: int = 0

    def window(self, origin: int, voice: Samples | None = None) -> Samples:
        """(channels, frames): the voice if the packet began there in it."""
        voice = self.voice if voice is None else voice
        frames = self.pcm.shape[1]
        output = np.zeros_like(self.pcm)
        low, high = max(origin, 0), min(origin + frames, voice.shape[1])
        if low < high:
            output[:, low - origin : high - origin] = voice[:, low:high]
        return output

    def place(self, pcm: Samples, voice: Samples) -> tuple[int, float, float]:
        """Where in a voice some samples fit best: (origin, gain, share of their energy)."""
        frames = pcm.shape[1]
        length = voice.shape[1]
        if length == 0 or not pcm.any():
            return 0, 0.0, 0.0
        size = 1 << (length + 2 * frames).bit_length()
        spectrum = np.fft.rfft(voice, size) * np.conj(np.fft.rfft(pcm, size))
        dots = np.fft.irfft(spectrum.sum(axis=0), size)
        squares = np.concatenate([[0.0], np.cumsum((voice.astype(np.float64) ** 2).sum(axis=0))])
        origins = np.arange(-frames + 1, length)
        high = squares[np.minimum(origins + frames, length)]
        power = np.maximum(high - squares[np.maximum(origins, 0)], 1.0)
        shares = dots[origins % size] ** 2 / power
        best = int(shares.argmax())
        energy = float((pcm.astype(np.float64) ** 2).sum())
        gain = float(dots[origins[best] % size] / power[best])
        return int(origins[best]), gain, float(shares[best] / energy)


FITS = 0.93
"""Share of a packet's energy that a voice at its right place explains; elsewhere, 3/4 at most."""

STILL = 0.99
"""Share that a voice explains where it should be, if only its gain is wrong."""


def certain(solo: Solo, cause: Cause) -> bool:
    """Whether a packet is what the cause makes of it, to the sample, and lateness cannot be it."""
    match cause.kind:
        case Kind.WRONG_GAIN | Kind.OWN_VOICE:
            origin, gain, _ = solo.place(solo.pcm, solo.voice)
            wanted = gain * solo.window(origin)
        case Kind.SWAPPED_CHANNELS:
            crossed = np.concatenate([solo.voice[[1, 0]], solo.voice[2:]])
            wanted = solo.window(solo.place(solo.pcm, crossed)[0], crossed).astype(np.float64)
        case _:
            return False
    return bool(np.abs(solo.pcm - wanted).max() <= ROUNDING + solo.tolerance)


def solo_causes(solo: Solo) -> list[Cause]:
    """What is wrong with a packet of a solo; empty: it cannot be told."""
    if solo.own:
        _, gain, share = solo.place(solo.pcm, solo.voice)
        return [Cause(Kind.OWN_VOICE, solo.talker, decibels(gain))] if share > FITS - 0.1 else []
    known = solo.origin != UNKNOWN
    at = solo.origin
    if not known:
        at, _, share = solo.place(solo.pcm, solo.voice)
        if share < FITS:
            at = UNKNOWN
    if at != UNKNOWN:
        expected = solo.window(at)
        wrong = (np.abs(solo.pcm - expected) > solo.tolerance).any(axis=0)
        cause = local_cause(solo.pcm, expected, None, wrong)
        if cause is not None:
            return [Cause(cause.kind, solo.talker, frames=cause.frames)]
        gain, share = gain_of(solo.pcm.astype(np.float64), expected.astype(np.float64))
        if share > STILL and abs(gain - 1) > SAME_GAIN:
            return [Cause(Kind.WRONG_GAIN, solo.talker, decibels(gain))]
    if len(solo.pcm) > 1:
        crossed = np.concatenate([solo.voice[[1, 0]], solo.voice[2:]])
        _, _, share = solo.place(solo.pcm, crossed)
        if share > FITS and share > solo.place(solo.pcm, solo.voice)[2]:
            return [Cause(Kind.SWAPPED_CHANNELS, solo.talker)]
    origin, gain, share = solo.place(solo.pcm, solo.voice)
    if share > FITS:
        shift = solo.origin - origin if known else 0
        if abs(gain - 1) > SAME_GAIN:
            return [Cause(Kind.WRONG_GAIN, solo.talker, decibels(gain), shift)]
        if shift:
            return [Cause(Kind.MOVED, solo.talker, frames=shift)]
    by_channel = _channels(solo, origin if not known else solo.origin)
    if by_channel:
        return by_channel
    return _spliced(solo) if known else []


def _channels(solo: Solo, origin: int) -> list[Cause]:
    """Channels that are each right but for their gain."""
    expected = solo.window(origin).astype(np.float64)
    causes = []
    for channel, (heard, wanted) in enumerate(zip(solo.pcm.astype(float), expected, strict=True)):
        if np.abs(heard - wanted).max() <= solo.tolerance:
            continue
        gain, share = gain_of(heard, wanted)
        if not heard.any():
            causes.append(Cause(Kind.MISSING_SOURCE, solo.talker, channel=channel))
        elif share > FITS and abs(gain - 1) > SAME_GAIN:
            causes.append(Cause(Kind.WRONG_GAIN, solo.talker, decibels(gain), channel=channel))
        else:
            return []
    return causes


def _spliced(solo: Solo) -> list[Cause]:
    """A packet that is right to some sample, and from there on right at another delay."""
    expected = solo.window(solo.origin)
    wrong = np.flatnonzero((np.abs(solo.pcm - expected) > solo.tolerance).any(axis=0))
    if not wrong.size:
        return []
    begin, end = int(wrong[0]), int(wrong[-1]) + 1
    piece = solo.pcm[:, begin:end]
    if not piece.any():
        return [Cause(Kind.DROPOUT, solo.talker)]
    origin, gain, share = solo.place(piece, solo.voice)
    if share > FITS and abs(gain - 1) <= 10 * SAME_GAIN:
        return [Cause(Kind.MOVED, solo.talker, frames=solo.origin + begin - origin)]
    return []
