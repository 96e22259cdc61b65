"""A hub that is wrong in one way, now and then or always, is found out by name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from loadtest.conduct.outcome import FindingKind
from loadtest.hearing import examine
from loadtest.scenario.model import Format
from shared.layout import PatchMode
from tests.loadtest.hearing.rig import MODES, Hub1, Pcm, Rig, ensemble, examined, findings, only

Kind = FindingKind


class Dropping(Hub1):
    """One return packet of listener 1 in a hundred is never sent."""

    def returns(self, listener: int, packet: int, number: int, pcm: Pcm) -> list[tuple[int, Pcm]]:
        return [] if listener == 1 and packet % 100 == 99 else [(number, pcm)]


class Doubling(Hub1):
    def returns(self, listener: int, packet: int, number: int, pcm: Pcm) -> list[tuple[int, Pcm]]:
        return [(number, pcm)] * (2 if listener == 1 and packet % 100 == 99 else 1)


class Repeating(Hub1):
    """A packet's samples come again in place of the next ones."""

    def __init__(self) -> None:
        self.last: Pcm | None = None
        self.repeats = 0

    def total(self, listener: int, packet: int, pcm: Pcm) -> Pcm:
        if listener != 2:
            return pcm
        last, self.last = self.last, pcm
        if last is not None and packet % 17 == 9 and last.all(axis=1).any() and pcm.any():
            self.repeats += 1
            return last
        return pcm


class Muting(Hub1):
    def total(self, listener: int, packet: int, pcm: Pcm) -> Pcm:
        return 0 * pcm if listener == 3 and packet % 40 == 39 else pcm


class Clicking(Hub1):
    def total(self, listener: int, packet: int, pcm: Pcm) -> Pcm:
        if listener == 0 and packet % 40 == 39 and pcm.any():
            pcm = pcm.copy()
            pcm[:, 60:63] += 500
        return pcm


def test_lost_packets_are_counted() -> None:
    found = only(findings(Dropping()), Kind.LOST)

    assert found.listener == 1
    assert found.count == 4


def test_packets_that_come_twice_are_counted() -> None:
    found = only(findings(Doubling()), Kind.DUPLICATE)

    assert (found.listener, found.count) == (1, 4)


@pytest.mark.parametrize("mode", MODES[:3])
def test_repeated_packets_are_named(mode: PatchMode) -> None:
    hub = Repeating()

    found = findings(hub, mode)

    assert {each.kind for each in found} <= {Kind.REPEATED, Kind.MOVED, Kind.DROPOUT}
    repeated = [each for each in found if each.kind == Kind.REPEATED]
    assert repeated
    assert all(each.listener == 2 and each.frames == 128 for each in repeated)


@pytest.mark.parametrize(
    ("hub", "kind", "listener"), [(Muting(), Kind.DROPOUT, 3), (Clicking(), Kind.CLICK, 0)]
)
def test_short_faults_are_named(hub: Hub1, kind: FindingKind, listener: int) -> None:
    found = findings(hub)

    assert {each.kind for each in found} == {kind}, [each.text for each in found]
    assert {each.listener for each in found} == {listener}


class Gain(Hub1):
    """One pair at a wrong gain, and rounded as a hub does."""

    def __init__(self, gain_db: float, listener: int = 2, talker: int = 1, most: int = 99) -> None:
        self.gain = 10 ** (gain_db / 20)
        self.pair = listener, talker
        self.least, self.most = (0, most) if most < 99 else (0, 99)

    def part(self, listener: int, talker: int, packet: int, pcm: Pcm, sounding: int) -> Pcm:
        if (listener, talker) == self.pair:
            return np.round(pcm * self.gain).astype(np.int64)
        return pcm


class Swapping(Hub1):
    def __init__(self, talker: int | None = None) -> None:
        self.talker = talker

    def part(self, listener: int, talker: int, packet: int, pcm: Pcm, sounding: int) -> Pcm:
        swaps = listener == 1 and self.talker in (None, talker)
        return pcm[::-1] if swaps else pcm


class Leaking(Hub1):
    """The own voice of listener 3 is heard at −60 dB."""

    def extra(self, listener: int, packet: int, hear: Callable[[int, int], Pcm]) -> Pcm | int:
        return np.round(hear(3, 0) * 0.001).astype(np.int64) if listener == 3 else 0


class Silencing(Hub1):
    def part(self, listener: int, talker: int, packet: int, pcm: Pcm, sounding: int) -> Pcm:
        return 0 * pcm if (listener, talker) == (0, 2) else pcm


@pytest.mark.parametrize("gain_db", [-20.0, -6.0, -1.0, -0.2, 0.3, 3.0])
def test_a_wrong_gain_of_one_pair_is_named_with_its_gain(gain_db: float) -> None:
    found = findings(Gain(gain_db))

    assert {each.kind for each in found} == {Kind.WRONG_GAIN}, [each.text for each in found]
    for each in found:
        assert (each.listener, each.source) == (2, 1)
        assert each.gain_db == pytest.approx(gain_db, abs=0.1)


@pytest.mark.parametrize("talker", [None, 2])
def test_swapped_channels_are_named(talker: int | None) -> None:
    found = findings(Swapping(talker))

    assert {each.kind for each in found} == {Kind.SWAPPED_CHANNELS}, [each.text for each in found]
    assert {each.listener for each in found} == {1}
    if talker is not None:
        assert {each.source for each in found} == {talker}


def test_an_own_voice_60_db_down_is_named_with_its_level() -> None:
    rig = Rig(ensemble(), PatchMode.FAN_OUT_NO_SELF, hub=Leaking())

    outcome = examined(rig)

    assert {each.kind for each in outcome.findings} == {Kind.OWN_VOICE}
    solo = max(outcome.findings, key=lambda each: each.count)
    assert (solo.listener, solo.source) == (3, 3)
    assert solo.gain_db == pytest.approx(-60, abs=0.5)
    assert outcome.state.clients["leaks"].tolist()[:3] == [0, 0, 0]
    assert outcome.state.clients["leaks"][3] == outcome.state.clients["wrong"][3] > 0


def test_a_source_that_one_never_hears_is_named() -> None:
    found = findings(Silencing())

    assert {each.kind for each in found} == {Kind.MISSING_SOURCE}, [each.text for each in found]
    assert {(each.listener, each.source) for each in found} == {(0, 2)}


class One(Hub1):
    """One pair is wrong in one way."""

    def __init__(self, kind: FindingKind, pair: tuple[int, int], gain_db: float) -> None:
        self.kind, self.pair, self.gain = kind, pair, 10 ** (gain_db / 20)

    def part(self, listener: int, talker: int, packet: int, pcm: Pcm, sounding: int) -> Pcm:
        if (listener, talker) != self.pair:
            return pcm
        match self.kind:
            case Kind.WRONG_GAIN:
                return np.round(pcm * self.gain).astype(np.int64)
            case Kind.SWAPPED_CHANNELS:
                return pcm[::-1]
            case Kind.MISSING_SOURCE:
                return 0 * pcm
            case _:
                return pcm

    def extra(self, listener: int, packet: int, hear: Callable[[int, int], Pcm]) -> Pcm | int:
        if self.kind == Kind.OWN_VOICE and listener == self.pair[0]:
            return np.round(hear(listener, 0) * self.gain).astype(np.int64)
        return 0


@settings(max_examples=4, phases=[Phase.generate])
@given(
    st.sampled_from([Kind.WRONG_GAIN, Kind.SWAPPED_CHANNELS, Kind.MISSING_SOURCE, Kind.OWN_VOICE]),
    st.permutations(range(4)),
    st.one_of(st.floats(-40, -0.3), st.floats(0.3, 5)),
    st.sampled_from([Format(), Format(frames=64), Format(frames=256)]),
)
def test_one_fault_wherever_it_is_is_named(
    kind: FindingKind, order: list[int], gain_db: float, form: Format
) -> None:
    listener, talker = order[:2]
    if kind == Kind.OWN_VOICE:
        talker, gain_db = listener, -abs(gain_db)
    players = ensemble()
    for player in players:
        player.format, player.queue = form, player.queue + 256
    hub = One(kind, (listener, talker), gain_db)

    outcome = examined(
        Rig(players, PatchMode.FAN_OUT_NO_SELF, hub=hub, turn_ns=45_000_000, tutti_every=5)
    )

    assert {each.kind for each in outcome.findings} == {kind}, outcome.findings
    for found in outcome.findings:
        assert (found.listener, found.source) == (listener, talker)
        if kind in (Kind.WRONG_GAIN, Kind.OWN_VOICE):
            assert found.gain_db == pytest.approx(gain_db, abs=0.1)


def test_a_wrong_gain_is_named_though_the_generator_stalls_all_the_time() -> None:
    rig = Rig(ensemble(), hub=Gain(-6.0))
    outcome = rig.run()
    for log in (outcome.state.evidence, outcome.state.tutti_log):
        log["stall_ns"] = log["arrival_ns"] - 1000

    examine(outcome)

    assert {each.kind for each in outcome.findings} == {Kind.WRONG_GAIN}
    assert {(each.listener, each.source) for each in outcome.findings} == {(2, 1)}
