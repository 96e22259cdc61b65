"""Who hears whom, at what level, and how levels move: measured in what comes back.

The same with the mixer sending itself and with one and three separate transmit lanes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from shared.layout import PatchMode
from tests.workers.hearing import returned
from tests.workers.players import Player, noise
from tests.workers.rig import Rig
from tests.workers.takes import repeat_if_disturbed, take

pytestmark = pytest.mark.living

LOOPBACK, FAN_OUT = PatchMode.LOOPBACK, PatchMode.FAN_OUT_NO_SELF
FULL, NONE = PatchMode.FULL_MIX, PatchMode.NONE


@pytest.fixture(scope="module", params=[0, 1, 3], ids=lambda lanes: f"{lanes} lanes")
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    rig = Rig(lanes=request.param)
    yield rig
    rig.stop()


def band(count: int, channels: int = 2) -> list[Player]:
    return [Player(noise(128 * (50 + k), channels, seed=k, level=0.2)) for k in range(count)]


def preset(mode: PatchMode, listener: Player, players: list[Player]) -> dict[Player, float]:
    """Whom a listener hears."""
    match mode:
        case PatchMode.LOOPBACK:
            return {listener: 1.0}
        case PatchMode.FAN_OUT_NO_SELF:
            return {player: 1.0 for player in players if player is not listener}
        case PatchMode.FULL_MIX:
            return dict.fromkeys(players, 1.0)
        case _:
            return {}


@pytest.mark.parametrize("count", [2, 3, 4])
@repeat_if_disturbed
def test_fan_out_is_exactly_the_sum_of_the_others(rig: Rig, count: int) -> None:
    rig.arena.control[0]["patch"] = FAN_OUT
    players = band(count)

    with take(rig, *players) as performance:
        performance.play(0.3)

    for player in players:
        performance.assert_hears(player, preset(FAN_OUT, player, players))


@repeat_if_disturbed
def test_a_lone_client_of_a_fan_out_hears_exactly_nothing(rig: Rig) -> None:
    rig.arena.control[0]["patch"] = FAN_OUT
    player = Player(noise(128 * 50, level=1.0))

    with take(rig, player) as performance:
        performance.play(0.2)

    assert len(performance.heard[player].stream.numbers) > 50
    assert not performance.heard[player].stream.values.any()


@pytest.mark.parametrize(
    "modes",
    [(FULL, FAN_OUT, LOOPBACK, NONE, FULL), (LOOPBACK, FULL, NONE, FAN_OUT, FULL)],
    ids=lambda modes: "-".join(str(int(mode)) for mode in modes),
)
@repeat_if_disturbed
def test_modes_change_live_in_a_straight_line_of_one_period(
    rig: Rig, modes: tuple[PatchMode, ...]
) -> None:
    players = band(3)
    marks = []
    rig.arena.control[0]["patch"] = modes[0]

    with take(rig, *players) as performance:
        for mode in modes:
            rig.arena.control[0]["patch"] = mode
            marks.append(performance.play(0.1))

    for player in players:
        low = performance.span(player, *players)[0]
        for k in range(1, len(modes)):
            before, after = (preset(mode, player, players) for mode in modes[k - 1 : k + 1])
            performance.ramps(player, before, after, low, marks[k] - 256)
            low = marks[k] - 256


@repeat_if_disturbed
def test_strip_gain_and_mute_move_in_a_straight_line(rig: Rig) -> None:
    rig.arena.control[0]["patch"] = FULL
    loud, other = players = band(2)
    gains = [1.0, 0.5, 0.0, 0.0625, 2.0, 1.0]
    marks = []

    with take(rig, *players) as performance:
        for gain in gains:
            rig.set_gain(loud.slot, gain)
            marks.append(performance.play(0.1))

    for listener in players:
        low = performance.span(*players)[0]
        for k in range(1, len(gains)):
            before, after = ({loud: gain, other: 1.0} for gain in gains[k - 1 : k + 1])
            performance.ramps(listener, before, after, low, marks[k] - 256)
            low = marks[k] - 256


@repeat_if_disturbed
def test_a_gain_that_is_no_power_of_two_is_right_to_half_a_step(rig: Rig) -> None:
    rig.arena.control[0]["patch"] = FAN_OUT
    quiet, listener = players = band(2)

    with take(rig, *players) as performance:
        rig.set_gain(quiet.slot, 0.3)
        low = performance.play(0.1)
        high = performance.play(0.2)

    mix = performance.mix(listener, {quiet: 0.3}, low, high)
    error = np.abs(performance.heard[listener].part(low, high) - mix * 32767).max(axis=0)
    performance.assert_right((error <= 0.5001) | performance.excused(listener, low, high))


@repeat_if_disturbed
def test_levels_a_listener_changed_are_its_own_affair(rig: Rig) -> None:
    """Pair levels take the place of what the preset gives, in every mode, and can be given back."""
    listener, second, third = players = band(3)
    marks = []
    steps: list[tuple[PatchMode, dict[Player, float]]] = [
        (FULL, {}),
        (FULL, {second: 0.5}),
        (FULL, {second: 0.0, listener: 0.25}),
        (FAN_OUT, {second: 0.0}),
        (FAN_OUT, {third: 2.0}),
        (NONE, {third: 2.0}),
        (NONE, {listener: 0.5, second: 0.125, third: 1.0}),
        (NONE, {second: 0.125, third: 1.0}),
        (LOOPBACK, {second: 0.125, third: 1.0}),
        (LOOPBACK, {}),
        (FULL, {}),
    ]
    rig.arena.control[0]["patch"] = FULL

    with take(rig, *players) as performance:
        levels: dict[Player, float] = {}
        for mode, wanted in steps:
            rig.arena.control[0]["patch"] = mode
            if wanted != levels:
                rig.set_pair(listener.slot, {p.slot: level for p, level in wanted.items()})
                levels = wanted
            marks.append(performance.play(0.08))

    low = performance.span(*players)[0]
    for k in range(1, len(steps)):
        before, after = (
            preset(mode, listener, players) | levels for mode, levels in steps[k - 1 : k + 1]
        )
        performance.ramps(listener, before, after, low, marks[k] - 256)
        low = marks[k] - 256
    for other in (second, third):  # nobody else hears a difference
        low = performance.span(*players)[0]
        for (mode, _), mark in zip(steps, marks, strict=True):
            last = [p for p, m in enumerate(marks) if m < mark]
            if not last or steps[last[-1]][0] == mode:
                performance.assert_hears(other, preset(mode, other, players), low, mark - 256, 0)
            low = mark + 256


@repeat_if_disturbed
def test_levels_are_scaled_by_the_strip_gain(rig: Rig) -> None:
    rig.arena.control[0]["patch"] = FAN_OUT
    listener, source = players = band(2)

    with take(rig, *players) as performance:
        rig.set_gain(source.slot, 0.5)
        rig.set_pair(listener.slot, {source.slot: 0.25})
        low = performance.play(0.1)
        high = performance.play(0.1)
        rig.set_pair(listener.slot, {})

    performance.assert_hears(listener, {source: 0.125}, low, high - 256, 0)
    performance.assert_hears(source, {listener: 1.0}, low, high - 256, 0)


@repeat_if_disturbed
def test_who_comes_and_who_goes_changes_nothing_else(rig: Rig) -> None:
    """Until a newcomer is heard and after it settled, all others are exact; so when one leaves."""
    rig.arena.control[0]["patch"] = FAN_OUT
    first, second, third = band(3)

    with take(rig, first, second) as performance:
        came = performance.play(0.15)
        performance.add(third)
        performance.play(0.15)
        gone = rig.now
        third.say_goodbye()
        performance.band.remove(third)
        performance.play(0.2)

    low, high = performance.span(first, second)
    entry = performance.heard[third].position
    settled = performance.span(first, second, third)[0]
    ended = performance.heard[third].position + performance.heard[third].sent
    assert came <= entry
    for listener, partner in ((first, second), (second, first)):
        performance.assert_hears(listener, {partner: 1.0}, low, entry)
        performance.assert_hears(listener, {partner: 1.0, third: 1.0}, settled, gone)
        performance.assert_hears(listener, {partner: 1.0}, ended + 512, high)
    assert third.exits == 2


@repeat_if_disturbed
def test_a_full_mix_clips_only_at_the_encoder(rig: Rig) -> None:
    """Three voices at full scale: what one hears is clipped, what another subtracts is not."""
    rig.arena.control[0]["patch"] = FULL
    players = [Player(noise(128 * (50 + k), seed=k, level=1.0)) for k in range(3)]

    with take(rig, *players) as performance:
        rig.set_pair(players[2].slot, {players[1].slot: 0.0, players[2].slot: 0.0})
        low = performance.play(0.1)
        high = performance.play(0.1)
        rig.set_pair(players[2].slot, {})

    voices = dict.fromkeys(players, 1.0)
    mix = performance.mix(players[0], voices, low, high - 256)
    assert np.abs(mix).max() > 1.5
    performance.assert_hears(players[0], voices, low, high - 256, 0)
    performance.assert_hears(players[2], {players[0]: 1.0}, low, high - 256, 0)


PATCHES = {  # by section 7.2 of JackTrip's protocol; M 1→1, S 2→2, A 1→2, W 1→4
    (FAN_OUT, False): {"M": ["S0 A0 W0"], "S": ["M0 A0 W0", ""], "A": ["M0 S0 W0", "S1"]},
    (FAN_OUT, True): {
        "M": ["S0 A0 W0"],
        "S": ["M0 A0 W0", "M0 A0 W0"],
        "A": ["M0 S0 W0", "M0 S1 W0"],
        "W": ["M0 S0 A0", "M0 S1 A0", "", ""],
    },
    (FULL, False): {
        "M": ["M0 S0 A0 W0"],
        "S": ["M0 S0 A0 W0", "S1"],
        "A": ["M0 S0 A0 W0", "S1"],
        "W": ["M0 S0 A0 W0", "S1", "", ""],
    },
    (FULL, True): {
        "M": ["M0 S0 A0 W0"],
        "S": ["M0 S0 A0 W0", "M0 S1 A0 W0"],
        "A": ["M0 S0 A0 W0", "M0 S1 A0 W0"],
    },
    (LOOPBACK, False): {"M": ["M0"], "S": ["S0", "S1"], "A": ["A0", ""]},
    (LOOPBACK, True): {
        "M": ["M0"],
        "S": ["S0", "S1"],
        "A": ["A0", "A0"],
        "W": ["W0", "W0", "", ""],
    },
}


@pytest.mark.parametrize("upmix", [False, True], ids=["plain", "upmix"])
def test_channels_are_patched_by_number_and_mono_upmixed_on_request(upmix: bool) -> None:
    rig = Rig(upmix=upmix)

    @repeat_if_disturbed
    def patches_as_the_protocol_says(mode: PatchMode) -> None:
        rig.arena.control[0]["patch"] = mode
        cast = {
            "M": Player(noise(6400, 1, seed=1), wants=1),
            "S": Player(noise(6400, 2, seed=2), wants=2),
            "A": Player(noise(6400, 1, seed=3), wants=2),
            "W": Player(noise(6400, 1, seed=4), wants=4),
        }
        with take(rig, *cast.values()) as performance:
            performance.play(0.2)
        low, high = performance.span()
        voices = {name: performance.voice(player, low, high) for name, player in cast.items()}
        for name, channels in PATCHES[mode, upmix].items():
            heard = performance.heard[cast[name]].part(low, high)
            for channel, sources in enumerate(channels):
                total = np.zeros(high - low)
                for source in sources.split():
                    total += voices[source[0]][int(source[1])]
                right = heard[channel] == returned(total, 16)
                right |= performance.excused(cast[name], low, high)
                assert performance.holds(right), (name, channel, performance.disturbances)

    try:
        for mode in (FAN_OUT, FULL, LOOPBACK):
            patches_as_the_protocol_says(mode)
    finally:
        rig.stop()
