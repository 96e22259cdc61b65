"""A hub that is wrong in one way is found out, by name; a right one is found right."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from loadtest.clients.roster import make_run
from loadtest.conduct.outcome import Finding, FindingKind, Outcome
from loadtest.hearing import examine
from loadtest.scenario.model import Format, Hub, Scenario, Section
from shared.layout import PatchMode
from tests.loadtest.hearing.rig import Hub1, Pcm, Player, Rig

Kind = FindingKind
MODES = [PatchMode.LOOPBACK, PatchMode.FAN_OUT_NO_SELF, PatchMode.FULL_MIX, PatchMode.NONE]


def ensemble(clients: int = 4) -> list[Player]:
    """Alike but for where they are in time; numbers of one wrap around."""
    return [
        Player(start=37 * k, queue=256 + 16 * k, begin=91 * k, first_number=65_000 + 200 * k)
        for k in range(clients)
    ]


def examined(rig: Rig) -> Outcome:
    outcome = rig.run()
    examine(outcome)
    return outcome


def findings(hub: Hub1, mode: PatchMode = PatchMode.FULL_MIX, clients: int = 4) -> list[Finding]:
    return examined(Rig(ensemble(clients), mode, hub=hub)).findings


def only(found: list[Finding], kind: FindingKind) -> Finding:
    """The one finding that there is."""
    assert [each.kind for each in found] == [kind], [each.text for each in found]
    return found[0]


@pytest.mark.parametrize("mode", MODES)
def test_a_right_hub_has_no_fault(mode: PatchMode) -> None:
    outcome = examined(Rig(ensemble(), mode))

    assert outcome.findings == []
    clients = outcome.state.clients
    assert not clients["wrong"].any()
    assert (clients["voice_heard"] == clients["voice_due"]).all()
    assert clients["voice_due"].all() == (mode != PatchMode.NONE)
    assert outcome.tuttis_checked == outcome.tuttis_right
    assert (outcome.tuttis_checked > 20) == (mode in MODES[1:3])


FORMATS = st.builds(
    Format,
    frames=st.sampled_from([16, 64, 128, 256, 1024]),
    bits=st.sampled_from([8, 16, 24, 32]),
    sends=st.integers(1, 3),
    wants=st.integers(1, 3),
)
PLAYERS = st.builds(
    Player,
    format=FORMATS,
    start=st.integers(0, 1500),
    queue=st.integers(1024, 1900),  # at least a packet: the hub cannot play what has not left
    begin=st.integers(0, 1500),
    first_number=st.integers(0, 65_535),
)


@settings(max_examples=8, phases=[Phase.generate])
@given(st.lists(PLAYERS, min_size=2, max_size=4), st.sampled_from(MODES), st.booleans())
def test_a_right_hub_has_no_fault_whatever_the_formats(
    players: list[Player], mode: PatchMode, upmix: bool
) -> None:
    rig = Rig(players, mode, upmix, seconds=1.0, talk_ns=30_000_000, turn_ns=85_000_000)

    outcome = examined(rig)

    assert outcome.findings == []
    assert not outcome.state.clients["wrong"].any()
    assert (outcome.state.clients["voice_heard"] == outcome.state.clients["voice_due"]).all()
    assert outcome.tuttis_checked == outcome.tuttis_right


# -- one wrong packet now and then ---------------------------------------------------------------


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


# -- wrong all the time --------------------------------------------------------------------------


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


@settings(max_examples=6, phases=[Phase.generate])
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


# -- wrong only when all sound -------------------------------------------------------------------


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


class Clipping(Hub1):
    def total(self, listener: int, packet: int, pcm: Pcm) -> Pcm:
        loud = abs(pcm).max() > 0 and listener == 1
        return np.clip(pcm, -4000, 4000) if loud and (pcm < 0).any() else pcm


class Soft(Hub1):
    """All too soft for listener 6, as soon as several sound."""

    def __init__(self) -> None:
        self.many = False

    def part(self, listener: int, talker: int, packet: int, pcm: Pcm, sounding: int) -> Pcm:
        self.many = sounding > 1
        return pcm

    def total(self, listener: int, packet: int, pcm: Pcm) -> Pcm:
        softer = listener == 6 and self.many
        return np.round(pcm * 0.5).astype(np.int64) if softer else pcm


class Wrapping(Hub1):
    def total(self, listener: int, packet: int, pcm: Pcm) -> Pcm:
        return (pcm + 4096) % 8192 - 4096 if (pcm < 0).any() else pcm


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


# -- later than others ---------------------------------------------------------------------------


def test_a_client_whose_voice_is_later_than_others_is_named() -> None:
    players = ensemble(6)
    players[4].queue += 1280

    found = only(examined(Rig(players, turn_ns=60_000_000)).findings, Kind.DELAYED)

    assert found.source == 4
    assert found.frames == pytest.approx(1280, abs=64)


class Late(Hub1):
    """What listener 2 gets comes ten packets late."""

    def __init__(self) -> None:
        self.waiting: list[tuple[int, Pcm]] = []

    def returns(self, listener: int, packet: int, number: int, pcm: Pcm) -> list[tuple[int, Pcm]]:
        if listener != 2:
            return [(number, pcm)]
        self.waiting.append((number, pcm))
        return [self.waiting.pop(0)] if len(self.waiting) > 10 else []


def test_a_client_whose_return_is_later_than_others_is_named() -> None:
    rig = Rig(ensemble(6), turn_ns=60_000_000, hub=Late())

    found = only(examined(rig).findings, Kind.DELAYED)

    assert found.listener == 2
    assert found.frames == pytest.approx(1280, abs=128)


class Slipping(Hub1):
    """From its 200th packet on, listener 1 hears talker 0 37 samples later."""

    def part(self, listener: int, talker: int, packet: int, pcm: Pcm, sounding: int) -> Pcm:
        return 0 * pcm if self.slipped(listener, packet) and talker == 0 else pcm

    def extra(self, listener: int, packet: int, hear: Callable[[int, int], Pcm]) -> Pcm | int:
        return hear(0, -37) if self.slipped(listener, packet) else 0

    def slipped(self, listener: int, packet: int) -> bool:
        return listener == 1 and packet >= 200


@pytest.mark.parametrize("mode", [PatchMode.FULL_MIX, PatchMode.FAN_OUT_NO_SELF])
def test_a_slip_is_named_with_its_length(mode: PatchMode) -> None:
    found = findings(Slipping(), mode)

    assert {each.kind for each in found} <= {Kind.MOVED, Kind.DROPOUT}, [e.text for e in found]
    moved = [each for each in found if each.kind == Kind.MOVED]
    assert moved
    assert {(each.listener, each.source, each.frames) for each in moved} == {(1, 0, 37)}


# -- what the emulated network does is not the hub's fault ---------------------------------------


def test_what_the_network_lost_is_excused() -> None:
    lost = {(1, k) for k in range(0, 600, 7)}
    rig = Rig(ensemble(), lost_up=lost)

    outcome = examined(rig)

    assert outcome.findings == []
    clients = outcome.state.clients
    assert not clients["wrong"].any()
    assert clients["concealed"].all()
    assert (clients["voice_heard"] + clients["voice_excused"] == clients["voice_due"]).all()


@pytest.mark.parametrize("redundancy", [2, 3])
def test_redundancy_makes_good_what_the_network_took_on_the_way_back(redundancy: int) -> None:
    players = ensemble()
    for player in players:
        player.format = Format(redundancy=redundancy)
    lost = {(1, k) for k in range(60, 500, 17)}

    outcome = examined(Rig(players, lost_down=lost))

    assert outcome.findings == []
    clients = outcome.state.clients
    assert clients["lost"][1] == 0
    assert clients["repaired"][1] > 20
    assert not clients["duplicates"].any()
    assert (clients["voice_heard"] == clients["voice_due"]).all()


def test_what_the_network_took_on_the_way_back_is_excused() -> None:
    outcome = examined(Rig(ensemble(), lost_down={(1, k) for k in range(60, 500, 17)}))

    assert outcome.findings == []
    clients = outcome.state.clients
    assert clients["lost"][1] > 20
    assert clients["voice_heard"][1] + clients["voice_excused"][1] >= clients["voice_due"][1]


@pytest.mark.parametrize("skew_ppm", [20_000.0, -20_000.0])
def test_a_queue_that_must_slip_is_excused(skew_ppm: float) -> None:
    players = ensemble()
    players[2].skew_ppm = skew_ppm
    players[2].queue = 2048

    outcome = examined(Rig(players, turn_ns=80_000_000, seconds=2.0))

    assert outcome.findings == []
    clients = outcome.state.clients
    assert not clients["wrong"].any()
    assert not clients["silent"].any()
    assert clients["concealed"].any()
    assert (clients["voice_heard"] > 0).all()
    missing = clients["voice_due"] - clients["voice_heard"] - clients["voice_excused"]
    assert missing.max() <= 0


# -- turns are long enough for all that may be late ----------------------------------------------

MIXED = st.builds(
    Format,
    frames=st.sampled_from([64, 128, 256, 512]),
    bits=st.sampled_from([8, 16, 24]),
    sends=st.integers(1, 2),
    wants=st.integers(1, 2),
)


def planned(
    forms: list[Format], queue: int, mode: PatchMode, begins: list[int], lags: list[int]
) -> Rig:
    """A rig whose turns are as the roster plans them, and whose queues are as the hub's."""
    scenario = Scenario(
        hub=Hub(mode=mode, queue=str(queue)),
        tutti_every=2,
        sections=tuple(Section(name=str(k), clients=1, format=f) for k, f in enumerate(forms)),
    )
    run = make_run(scenario)[0]
    players = [
        # A packet leaves when it is full; then it waits.
        Player(form, start=begin, queue=(1 + queue) * form.frames + lag, begin=begin % 97)
        for form, begin, lag in zip(forms, begins, lags, strict=False)
    ]
    seconds = 3 * (len(forms) + 1) * int(run["turn_ns"]) / 1e9
    return Rig(
        players, mode, seconds=seconds, talk_ns=int(run["talk_ns"]), turn_ns=int(run["turn_ns"]),
        tutti_ns=int(run["tutti_ns"]), tutti_every=2,
    )  # fmt: skip


BEGINS = st.lists(st.integers(0, 2000), min_size=4, max_size=4)
LAGS = st.lists(st.integers(0, 128), min_size=4, max_size=4)


@settings(max_examples=4, phases=[Phase.explicit, Phase.generate])
@example(
    [Format(frames=64), Format(frames=256), Format(frames=256)], 16, PatchMode.FULL_MIX,
    [0, 0, 0, 0], [0, 128, 0, 0],
)  # fmt: skip
@example(
    [Format(frames=64), Format(frames=64), Format(frames=512)], 16, PatchMode.FAN_OUT_NO_SELF,
    [0, 0, 0, 0], [0, 0, 128, 0],
)  # fmt: skip
@given(
    st.lists(MIXED, min_size=2, max_size=4), st.integers(1, 16), st.sampled_from(MODES[1:3]),
    BEGINS, LAGS,
)  # fmt: skip
def test_a_voice_that_is_as_late_as_planned_is_no_fault(
    forms: list[Format], queue: int, mode: PatchMode, begins: list[int], lags: list[int]
) -> None:
    outcome = examined(planned(forms, queue, mode, begins, lags))

    assert outcome.findings == []
    clients = outcome.state.clients
    assert not clients["wrong"].any()
    assert (clients["voice_heard"] == clients["voice_due"]).all()
    assert outcome.tuttis_checked == outcome.tuttis_right


# -- who comes and goes --------------------------------------------------------------------------


@settings(max_examples=6, phases=[Phase.generate])
@given(
    st.integers(5_000, 30_000), st.integers(10, 9_000), st.booleans(), st.integers(0, 3),
    st.sampled_from(MODES[1:3]), st.sampled_from([2, 4]),
)  # fmt: skip
def test_who_comes_and_goes_is_no_fault(
    leaves: int, away: int, vanish: bool, who: int, mode: PatchMode, tutti_every: int
) -> None:
    players = ensemble()
    players[who].away = leaves, leaves + away
    players[who].vanish = vanish

    outcome = examined(Rig(players, mode, seconds=0.9, tutti_every=tutti_every))

    assert outcome.findings == []
    clients = outcome.state.clients
    assert not clients["wrong"].any()
    assert not clients["silent"].any()
    assert (clients["voice_heard"] == clients["voice_due"]).all()
    assert outcome.tuttis_checked == outcome.tuttis_right


# -- drifting and lossy talkers ------------------------------------------------------------------


class Spoiling(Hub1):
    """All of listener 1's packets of talker 2 are wrong in one way, from some packet on."""

    def __init__(self, how: str, since: int = 0) -> None:
        self.how, self.since = how, since
        self.random = np.random.default_rng(1)

    def part(self, listener: int, talker: int, packet: int, pcm: Pcm, sounding: int) -> Pcm:
        if (listener, talker) != (1, 2) or packet < self.since:
            return pcm
        match self.how:
            case "soft":
                return np.round(pcm / 2).astype(np.int64)
            case "swapped":
                return pcm[::-1]
            case "noisy":
                noise: Pcm = pcm + self.random.integers(-200, 200, pcm.shape) * (pcm != 0)
                return noise
            case "silent":
                return 0 * pcm
            case _:
                return pcm


WAYS = {
    "soft": {Kind.WRONG_GAIN},
    "swapped": {Kind.SWAPPED_CHANNELS},
    "noisy": {Kind.UNEXPLAINED, Kind.WRONG_GAIN, Kind.MOVED},  # it has no name of its own
    "silent": {Kind.DROPOUT, Kind.MISSING_SOURCE},
}


@pytest.mark.parametrize("since", [0, 150])
@pytest.mark.parametrize("how", WAYS)
def test_a_wrong_hub_is_named_though_all_drift(how: str, since: int) -> None:
    players = ensemble()
    for k, player in enumerate(players):
        player.skew_ppm = 200.0 * (-1) ** k
        player.queue = 1024
    hub = Spoiling(how, since)

    outcome = examined(Rig(players, hub=hub, seconds=1.2))

    kinds = {each.kind for each in outcome.findings}
    assert kinds & WAYS[how], [each.text for each in outcome.findings]
    assert kinds <= WAYS[how] | {Kind.UNEXPLAINED}
    assert {(each.listener, each.source) for each in outcome.findings} <= {(1, 2), (1, -1)}
    clients = outcome.state.clients
    wrong = clients["wrong"] + clients["silent"]
    assert wrong[1] > 15 or (how, since) == ("silent", 0)
    assert wrong.sum() == wrong[1]


@pytest.mark.parametrize("skew_ppm", [200.0, -4000.0])
def test_a_right_hub_has_no_fault_though_all_drift(skew_ppm: float) -> None:
    players = ensemble()
    for k, player in enumerate(players):
        player.skew_ppm = skew_ppm * (-1) ** k
        player.queue = 2048

    outcome = examined(Rig(players, turn_ns=60_000_000, seconds=2.0))

    assert outcome.findings == []
    clients = outcome.state.clients
    assert not clients["wrong"].any()
    assert not clients["silent"].any()


@pytest.mark.parametrize("how", ["soft", "swapped", "noisy", "silent"])
def test_a_wrong_hub_is_named_though_the_network_loses_some_between_solos(how: str) -> None:
    hub = Spoiling(how, since=150)
    lost = {(2, k) for k in range(5, 900, 40)}

    outcome = examined(Rig(ensemble(), hub=hub, seconds=1.2, lost_up=lost))

    kinds = {each.kind for each in outcome.findings}
    assert kinds & WAYS[how], [each.text for each in outcome.findings]
    assert {each.listener for each in outcome.findings} == {1}


def test_a_wrong_gain_is_named_though_the_generator_stalls_all_the_time() -> None:
    rig = Rig(ensemble(), hub=Gain(-6.0))
    outcome = rig.run()
    for log in (outcome.state.evidence, outcome.state.tutti_log):
        log["stall_ns"] = log["arrival_ns"] - 1000

    examine(outcome)

    assert {each.kind for each in outcome.findings} == {Kind.WRONG_GAIN}
    assert {(each.listener, each.source) for each in outcome.findings} == {(2, 1)}
