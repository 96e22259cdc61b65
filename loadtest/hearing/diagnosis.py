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
CLICK_SAMPLES = 12
MOST_CAUSES = 6
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
    if wrong.sum() <= CLICK_SAMPLES and wrong.sum() * 4 < wrong.size:
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
    return bool(loud.size >= 4 and soft.size and loud.min() >= soft.max())


def passage_causes(passage: Passage, upmix: bool) -> list[Cause]:
    """What is wrong with a listener's passage of a tutti; empty: it cannot be told."""
    frames = passage.frames
    pcm, expected, wrong = passage.pcm, passage.expected, passage.wrong
    if clipped(pcm, expected, passage.have):
        return [Cause(Kind.CLIPPED)]
    bad = np.flatnonzero(wrong.reshape(-1, frames).any(axis=1))
    causes: list[Cause] = []
    left = np.zeros_like(wrong)
    for packet in bad:
        here = slice(packet * frames, (packet + 1) * frames)
        before = None
        if packet and passage.have[packet * frames - 1]:
            before = pcm[:, (packet - 1) * frames : packet * frames]
        cause = local_cause(pcm[:, here], expected[:, here], before, wrong[here])
        if cause is None:
            left[here] |= passage.have[here]
        else:
            causes.append(cause)
    if left.any():
        found = Mixture(passage, left, upmix).causes()
        if not found:
            return []
        causes += found
    return causes


class Mixture:
    """A difference that is to be explained by the parts of a tutti.

    Only samples of wrong packets count: in the others nothing differs.
    """

    def __init__(
        self, passage: Passage, where: npt.NDArray[np.bool_], upmix: bool, tolerance: float = 0.0
    ) -> None:
        self.passage = passage
        self.where = where
        self.upmix = upmix
        self.rest: Floats = np.where(where, passage.pcm - passage.expected, 0).astype(np.float64)
        self.count = int(where.sum()) * len(passage.pcm)

    def part(self, row: int, start: int) -> Floats:
        """(channels, span): a member's part if it began there, where it counts."""
        whole, wants = self.passage.ensemble, len(self.passage.pcm)
        own = as_heard(whole.parts[row, : int(whole.sends[row])], wants, self.upmix)
        output = np.zeros(self.rest.shape)
        low, high = max(start, 0), min(start + own.shape[1], output.shape[1])
        if low < high:
            output[:, low:high] = own[:, low - start : high - start]
        output *= self.where
        return output

    def explained(self) -> bool:
        """Whether nothing but rounding is left."""
        return bool(np.abs(self.rest).max() <= ROUNDING)

    def _significant(self, share: float) -> bool:
        return share * self.count > SURE * SURE

    def aligned(self) -> dict[int, float]:
        """Gains of members in the difference where they should sound, the largest first."""
        passage = self.passage
        rows = [row for row, start in enumerate(passage.starts) if start != UNKNOWN]
        if not rows:
            return {}
        shapes = {row: self.part(row, int(passage.starts[row])) for row in rows}
        chosen: list[int] = []
        gains: dict[int, float] = {}
        rest = self.rest.copy()
        for _ in range(MOST_CAUSES):
            if np.abs(rest).max() <= ROUNDING:
                break
            shares = {row: gain_of(rest, shape)[1] for row, shape in shapes.items()}
            best = max(shares, key=shares.__getitem__)
            if best in chosen or not self._significant(shares[best]):
                break
            chosen.append(best)
            matrix = np.stack([shapes[row].ravel() for row in chosen], axis=1)
            fit = np.linalg.lstsq(matrix, self.rest.ravel(), rcond=None)[0]
            gains = dict(zip(chosen, map(float, fit), strict=True))
            rest = self.rest - (matrix @ fit).reshape(self.rest.shape)
        self.rest = rest
        return gains

    def anywhere(self, rows: list[int]) -> tuple[int, int, float] | None:
        """The member that is most in what is left, at any place: (row, start, gain)."""
        best: tuple[float, int, int] | None = None
        for row in rows:
            own = as_heard(
                self.passage.ensemble.parts[row, : int(self.passage.ensemble.sends[row])],
                len(self.rest), self.upmix,
            )  # fmt: skip
            size = self.rest.shape[1] + own.shape[1]
            size = 1 << (size - 1).bit_length()
            spectrum = np.fft.rfft(self.rest, size) * np.conj(np.fft.rfft(own, size))
            dots = np.fft.irfft(spectrum.sum(axis=0), size)
            at = int(np.abs(dots).argmax())
            start = at if at < self.rest.shape[1] else at - size
            share = gain_of(self.rest, self.part(row, start))[1]
            if best is None or share > best[0]:
                best = share, row, start
        if best is None or not self._significant(best[0] / 1.5):
            return None
        shape = self.part(best[1], best[2])
        gain = gain_of(self.rest, shape)[0]
        self.rest = self.rest - gain * shape
        return best[1], best[2], gain

    def causes(self) -> list[Cause]:
        """What explains the difference; empty: nothing does."""
        passage, whole = self.passage, self.passage.ensemble
        swapped = self._swapped()
        gains = self.aligned()
        placed: list[tuple[int, int, float]] = []
        own = [row for row, talker in enumerate(whole.talkers) if talker == passage.listener]
        inaudible = [row for row in own if passage.starts[row] == UNKNOWN]
        gone = [row for row, gain in gains.items() if abs(gain + 1) < SAME_GAIN * 10]
        for rows in (inaudible, gone, list(range(len(whole.talkers)))):
            for _ in range(MOST_CAUSES):
                if self.explained() or not rows:
                    break
                found = self.anywhere(rows)
                if found is None:
                    break
                placed.append(found)
        if not self.explained() and not gains and not placed:
            return [swapped] if swapped else []
        if swapped and not self.explained():
            return [swapped]
        return self._named(gains, placed)

    def _swapped(self) -> Cause | None:
        """Whether one member's channels are exchanged."""
        if len(self.rest) < 2:
            return None
        whole, passage = self.passage.ensemble, self.passage
        best = (0.0, -1)
        for row, start in enumerate(passage.starts):
            if start != UNKNOWN and whole.sends[row] > 1:
                shape = self.part(row, int(start))[:2]
                gain, share = gain_of(self.rest[:2], shape[::-1] - shape)
                if abs(gain - 1) < 0.1 and share > best[0]:
                    best = share, row
        if best[1] < 0 or best[0] < 0.9:
            return None
        return Cause(Kind.SWAPPED_CHANNELS, int(whole.talkers[best[1]]))

    def _named(self, gains: dict[int, float], placed: list[tuple[int, int, float]]) -> list[Cause]:
        passage, talkers = self.passage, self.passage.ensemble.talkers
        causes = []
        gone = {row for row, gain in gains.items() if abs(gain + 1) < SAME_GAIN * 10}
        moved = set()
        for row, start, gain in placed:
            talker = int(talkers[row])
            shift = 0 if passage.starts[row] == UNKNOWN else int(start - passage.starts[row])
            if talker == passage.listener and passage.starts[row] == UNKNOWN:
                causes.append(Cause(Kind.OWN_VOICE, talker, decibels(gain)))
            elif row in gone and row not in moved:
                moved.add(row)
                causes.append(Cause(Kind.MOVED, talker, frames=shift))
            else:
                causes.append(Cause(Kind.EXTRA_SOURCE, talker, decibels(gain), shift))
        twice = [row for row, gain in gains.items() if gain > 0.5]
        lacking = sorted(gone - moved)
        for row, gain in gains.items():
            talker = int(talkers[row])
            if row in moved:
                continue
            if row in gone and len(lacking) == len(twice) == 1:
                causes.append(Cause(Kind.WRONG_SOURCE, talker, other=int(talkers[twice[0]])))
            elif row in gone:
                causes.append(Cause(Kind.MISSING_SOURCE, talker))
            elif abs(gain - 1) < SAME_GAIN * 10:
                if len(lacking) != 1 or len(twice) != 1:
                    causes.append(Cause(Kind.EXTRA_SOURCE, talker, 0.0))
            else:
                causes.append(Cause(Kind.WRONG_GAIN, talker, decibels(1 + gain)))
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


def solo_causes(solo: Solo) -> list[Cause]:
    """What is wrong with a packet of a solo; empty: it cannot be told."""
    if solo.own:
        _, gain, share = solo.place(solo.pcm, solo.voice)
        return [Cause(Kind.OWN_VOICE, solo.talker, decibels(gain))] if share > FITS - 0.1 else []
    known = solo.origin != UNKNOWN
    if known:
        expected = solo.window(solo.origin)
        wrong = (np.abs(solo.pcm - expected) > solo.tolerance).any(axis=0)
        cause = local_cause(solo.pcm, expected, None, wrong)
        if cause is not None:
            return [Cause(cause.kind, solo.talker, frames=cause.frames)]
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
        elif share > FITS:
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
