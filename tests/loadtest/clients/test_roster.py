"""Scenarios as the generator takes them: phases, levels, lengths, and what memory they take."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from loadtest.clients.roster import (
    TUTTI_BYTES,
    capture_stride,
    expectation,
    limits,
    make_clients,
    make_state,
    pause_frames,
    phases_ns,
    step_ns,
    talk_frames,
    turn_frames,
    tutti_level,
)
from loadtest.clients.state import LOST_NS, NEVER, PLAY, UNKNOWN
from loadtest.clients.turns import next_talker
from loadtest.scenario.model import Format, Hub, Network, Scenario, Section
from shared.layout import PatchMode


def alike(clients: int, **changes: Any) -> Scenario:
    return Scenario(sections=(Section(clients=clients, format=Format(**changes)),))


def test_phases_are_spread_evenly_over_the_period() -> None:
    period_ns = 128 / 48000 * 1e9

    phases = sorted(phases_ns(alike(40)))

    gaps = [b - a for a, b in pairwise(phases)] + [phases[0] + period_ns - phases[-1]]
    assert np.allclose(gaps, period_ns / 40, atol=2)


def test_every_period_has_phases_of_its_own() -> None:
    scenario = Scenario(
        sections=(
            Section(name="a", clients=4, format=Format(frames=64)),
            Section(name="b", clients=4, format=Format(frames=256)),
        )
    )
    clients = make_clients(scenario)

    assert (clients["phase_ns"] * 1000 < clients["period_ps"]).all()
    assert len(set(clients["phase_ns"].tolist())) == 8


def test_in_a_burst_all_phases_are_equal() -> None:
    scenario = Scenario(burst=True, sections=(Section(clients=5),))

    assert set(phases_ns(scenario)) == {0}
    assert expectation(scenario).burst == 1


def test_fast_sound_cards_have_shorter_periods() -> None:
    scenario = Scenario(
        sections=(Section(name="a", clients=1), Section(name="b", clients=1, skew_ppm=100))
    )
    clients = make_clients(scenario)

    assert clients["nominal_ps"].tolist() == [2_666_666_667] * 2
    assert clients["period_ps"][1] == round(2_666_666_666.67 / 1.0001)
    assert clients["drifts"].tolist() == [0, 1]


def test_who_does_not_talk_is_given_no_voice() -> None:
    """Neither a solo nor a part in a tutti."""
    scenario = Scenario(
        sections=(Section(name="a", clients=2, talks=False), Section(name="b", clients=1))
    )
    state = make_state(scenario)
    state.clients["stage"] = state.clients["wish"] = PLAY
    state.clients["first_ns"] = 1
    now_ns = 1 + 10 * int(state.run["settle_ns"][0])

    assert {int(next_talker(state, now_ns)) for _ in range(4)} == {2}
    assert state.clients["tutti_level"].tolist()[:2] == [0, 0]
    assert state.clients["tutti_level"][2] > 0
    assert state.clients["checkable"].all()


@pytest.mark.parametrize("clients", [1, 2, 300, 2048])
def test_a_tutti_is_never_beyond_what_a_hub_passes_exactly(clients: int) -> None:
    level = tutti_level(alike(clients), 16)

    assert 0 < level * clients < 16384


def test_generator_wakes_sixteen_times_in_the_shortest_period_or_as_it_is_told() -> None:
    def step_us(*frames: int, told: int = 0) -> float:
        sections = tuple(Section(f"{size}", format=Format(size)) for size in frames)
        return step_ns(Scenario(sections=sections, step_us=told)) / 1000

    assert step_us(128, 64) == pytest.approx(83.3, abs=0.1)
    assert step_us(16) == 50
    assert step_us(1024) == 250
    assert step_us(64, told=400) == 400


def test_8_bit_clients_join_a_tutti_if_their_steps_are_fine_enough() -> None:
    assert tutti_level(alike(10), 8) % 256 == 0
    assert tutti_level(alike(10), 8) > 0
    assert tutti_level(alike(300), 8) == 0


def test_clients_at_another_rate_than_the_hubs_are_counted_only() -> None:
    scenario = Scenario(
        sections=(
            Section(name="a", clients=2),
            Section(name="b", clients=1, format=Format(rate_hz=44100)),
        )
    )

    assert make_clients(scenario)["checkable"].tolist() == [1, 1, 0]
    assert tutti_level(scenario, 16) == 16383 // 2


def test_turns_are_long_enough_for_the_largest_packet_and_the_networks() -> None:
    small, large = alike(3), alike(3, frames=1024)
    slow = Scenario(sections=(Section(up=Network(delay_ms=50)),))

    assert (talk_frames(small), pause_frames(small)) == (768, 1024)
    assert (talk_frames(large), pause_frames(large)) == (1024, 4 * 1024 + 2 * 128)
    assert pause_frames(slow) == 1024 + 2400
    assert turn_frames(small) == 1024 + 1024, "a tutti is longer than a solo"


def test_lengths_of_turns_can_be_chosen() -> None:
    scenario = Scenario(talk_frames=256, pause_frames=512, tutti_frames=256)

    run = make_state(scenario).run[0]

    assert run["talk_ns"] == run["tutti_ns"] == 256 * 10**9 // 48000
    assert run["turn_ns"] == 768 * 10**9 // 48000


def test_captures_keep_to_their_budget() -> None:
    long = Scenario(seconds=3600, sections=(Section(clients=300),))

    state = make_state(long)

    assert capture_stride(long) > 1
    assert state.tutti_pcm.nbytes <= TUTTI_BYTES
    assert len(state.tutti_log) == len(state.tutti_pcm)
    assert limits(long)


def test_nothing_is_captured_in_loopback() -> None:
    state = make_state(Scenario(hub=Hub(mode=PatchMode.LOOPBACK)))

    assert len(state.tutti_log) == len(state.tutti_first) == 0


def test_crowds_have_no_pairs() -> None:
    crowd = alike(3000)

    state = make_state(crowd)

    assert state.delays.shape == (0, 0)
    assert expectation(crowd).tutti_every == 0
    assert "3000 clients" in limits(crowd)[0]
    assert state.timeline.nbytes <= 128 << 20


def test_at_first_nothing_is_known() -> None:
    state = make_state(alike(3), sockets=3)

    assert state.clients["socket"].tolist() == [0, 1, 2]
    assert (state.delays == UNKNOWN).all()
    assert (state.sent_ns == LOST_NS).all()
    assert state.run[0]["opened_ns"] == NEVER
    assert state.run[0]["turn"] == -1
    assert limits(alike(3)) == []
