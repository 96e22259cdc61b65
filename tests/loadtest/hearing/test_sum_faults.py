"""A hub that is wrong only when all sound is found out by name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from loadtest.clients.state import UNKNOWN
from loadtest.conduct.outcome import FindingKind
from loadtest.hearing import examine
from loadtest.hearing.diagnosis import Mixture
from loadtest.hearing.tutti import Ensemble, Passage
from shared.layout import PatchMode
from tests.loadtest.hearing.rig import Hub1, Pcm, Rig, ensemble, examined, findings, only

Kind = FindingKind


class InTuttis(Hub1):
    """Right as long as one sounds."""

    def part(self, listener: int, talker: int, packet: int, pcm: Pcm, sounding: int) -> Pcm:
        return self.among(listener, talker, pcm) if sounding > 1 else pcm

    def among(self, listener: int, talker: int, pcm: Pcm) -> Pcm:
        return pcm


class TuttiGain(InTuttis):
    def among(self, listener: int, talker: int, pcm: Pcm) -> Pcm:
        return np.round(pcm * 0.9).astype(np.int64) if (listener, talker) == (2, 7) else pcm


class TuttiMissing(InTuttis):
    def among(self, listener: int, talker: int, pcm: Pcm) -> Pcm:
        return 0 * pcm if talker == 7 else pcm


class TuttiTwice(InTuttis):
    def among(self, listener: int, talker: int, pcm: Pcm) -> Pcm:
        return 2 * pcm if (listener, talker) == (4, 5) else pcm


class TuttiInstead(InTuttis):
    def among(self, listener: int, talker: int, pcm: Pcm) -> Pcm:
        if listener == 1 and talker in (2, 3):
            return 0 * pcm if talker == 2 else 2 * pcm
        return pcm


class TuttiLeak(Hub1):
    """The own voice is heard at −30 dB, but not during its own solo."""

    def __init__(self) -> None:
        self.many = False

    def part(self, listener: int, talker: int, packet: int, pcm: Pcm, sounding: int) -> Pcm:
        self.many = sounding > 1
        return pcm

    def extra(self, listener: int, packet: int, hear: Callable[[int, int], Pcm]) -> Pcm | int:
        if listener == 3 and self.many:
            return np.round(hear(3, 0) * 10**-1.5).astype(np.int64)
        return 0


class Summing(Hub1):
    """Knows whether several sound."""

    def __init__(self) -> None:
        self.many = False

    def part(self, listener: int, talker: int, packet: int, pcm: Pcm, sounding: int) -> Pcm:
        self.many = sounding > 1
        return pcm


class Clipping(Summing):
    def total(self, listener: int, packet: int, pcm: Pcm) -> Pcm:
        return np.clip(pcm, -4000, 4000) if listener == 1 and self.many else pcm


class Soft(Summing):
    """All too soft for listener 6, as soon as several sound."""

    def total(self, listener: int, packet: int, pcm: Pcm) -> Pcm:
        softer = listener == 6 and self.many
        return np.round(pcm * 0.5).astype(np.int64) if softer else pcm


class Wrapping(Summing):
    def total(self, listener: int, packet: int, pcm: Pcm) -> Pcm:
        return (pcm + 4096) % 8192 - 4096 if self.many else pcm


@pytest.mark.parametrize(
    ("hub", "kind", "listener", "source", "gain_db"),
    [
        (TuttiGain(), Kind.WRONG_GAIN, 2, 7, -0.915),
        (TuttiMissing(), Kind.MISSING_SOURCE, -1, 7, None),
        (TuttiTwice(), Kind.EXTRA_SOURCE, 4, 5, 0.0),
        (TuttiInstead(), Kind.WRONG_SOURCE, 1, 2, None),
        (Soft(), Kind.WRONG_GAIN, 6, -1, -6.02),
        (Clipping(), Kind.CLIPPED, 1, -1, None),
        (Wrapping(), Kind.CLIPPED, -1, -1, None),
    ],
)
def test_a_fault_of_the_sum_is_named(
    hub: Hub1, kind: FindingKind, listener: int, source: int, gain_db: float | None
) -> None:
    outcome = examined(Rig(ensemble(8), PatchMode.FULL_MIX, hub=hub, seconds=0.7))

    found = only(outcome.findings, kind)
    assert (found.listener, found.source) == (listener, source)
    assert found.gain_db == (None if gain_db is None else pytest.approx(gain_db, abs=0.1))
    assert not outcome.state.clients["wrong"].any()
    assert outcome.tuttis_right < outcome.tuttis_checked


def test_an_own_voice_in_tuttis_only_is_named() -> None:
    found = only(findings(TuttiLeak(), PatchMode.FAN_OUT_NO_SELF, 8), Kind.OWN_VOICE)

    assert (found.listener, found.source) == (3, 3)
    assert found.gain_db == pytest.approx(-30, abs=1)


def test_what_a_stall_of_the_generator_may_have_done_is_counted_as_excused() -> None:
    rig = Rig(ensemble(8), PatchMode.FULL_MIX, hub=TuttiMissing(), seconds=0.7)
    outcome = rig.run()
    log = outcome.state.tutti_log
    log["stall_ns"] = log["arrival_ns"] - 1000

    examine(outcome)

    assert outcome.findings == []
    assert outcome.tuttis_checked == outcome.tuttis_right
    assert outcome.tuttis_excused > outcome.excused_in >= 1


def test_a_voice_that_is_not_in_a_difference_is_not_named() -> None:
    """A term taken by chance, which a later one then explains."""
    random = np.random.default_rng(3)
    parts = random.integers(-5000, 5000, (3, 1, 512)).astype(np.int32)
    ones, where = np.ones(3, np.int64), np.ones(512, bool)
    whole = Ensemble(0, 0, np.arange(3), ones, ones == 0, ones == 0, parts, ones)
    pcm, expected = parts[2], parts[1] + parts[2]  # listener 0 misses 1
    passage = Passage(whole, 0, 0, 128, pcm, expected, where, where,
                      np.array([UNKNOWN, 0, 0]), 0, 0)  # fmt: skip
    mixture = Mixture(passage, where, upmix=False)
    mixture.add(0, 0)

    causes, complete = mixture.causes()

    assert complete
    assert [(cause.kind, cause.source) for cause in causes] == [(Kind.MISSING_SOURCE, 1)]
