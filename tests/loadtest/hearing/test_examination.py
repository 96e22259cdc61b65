"""A right hub is found right, whatever the formats, and whoever comes and goes."""

from __future__ import annotations

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from loadtest.clients.roster import make_run
from loadtest.conduct.outcome import FindingKind
from loadtest.scenario.model import Format, Hub, Scenario, Section
from shared.layout import PatchMode
from tests.loadtest.hearing.rig import MODES, Player, Rig, ensemble, examined

Kind = FindingKind


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


@settings(max_examples=5, phases=[Phase.generate])
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


@settings(max_examples=2, phases=[Phase.explicit, Phase.generate])
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


@settings(max_examples=4, phases=[Phase.generate])
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
