"""What listeners hear of a JACK graph, against plain NumPy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from shared.layout import STRIP_DEPTH
from tests.workers.arenas import arena_of
from workers.local import add_local, aim_local, forget_local, make_local

PERIOD = 64
TICKS = [True, True, False, False, True, True]
"""Whether JACK's sound of a tick is there."""


def heard(gains: list[float], channels: int, wanted: int) -> npt.NDArray[np.float64]:
    """(channels, ticks · PERIOD) of a listener, JACK playing constant sound, other each channel."""
    with arena_of(slots=2, period=PERIOD) as arena:
        local = make_local(2)
        arena.slots[1]["jack_group"] = 1 + 3
        arena.jack_groups[3]["sends"] = channels
        out = np.zeros((wanted, len(TICKS) * PERIOD))
        forget_local(1, local)
        for tick, (there, gain) in enumerate(zip(TICKS, gains, strict=True)):
            now = tick % STRIP_DEPTH
            arena.clock[0]["mixed"][now] = tick
            if there:
                arena.jack_groups[3]["ticks"][now] = tick
                for channel in range(channels):
                    arena.jack_in[now, 3, channel] = 0.5 + channel
            aim_local(arena, now, 1, gain, 1.0, local)
            for channel in range(wanted):
                part = out[channel, tick * PERIOD : (tick + 1) * PERIOD]
                add_local(arena, 1, channel, PERIOD, local, part)
        return out


@pytest.mark.parametrize(("channels", "wanted"), [(1, 1), (2, 2), (1, 2), (2, 1)])
def test_it_fades_in_holds_and_glides_away(channels: int, wanted: int) -> None:
    gains = [1.0, 1.0, 1.0, 1.0, 0.5, 0.5]
    ramp = np.arange(1, PERIOD + 1) / PERIOD
    fall = 0.5 + 0.5 * np.cos(np.pi * ramp)
    once = np.concatenate(
        [ramp, np.ones(PERIOD), fall, np.zeros(PERIOD), 0.5 * ramp, np.full(PERIOD, 0.5)]
    )
    told = heard(gains, channels, wanted)
    for channel in range(wanted):
        level = 0.5 + channel if channel < channels else 0.0
        assert np.allclose(told[channel], level * once, atol=1e-12)


def test_nobody_hears_what_is_not_its_own() -> None:
    with arena_of(slots=2, period=PERIOD) as arena:
        local = make_local(2)
        arena.jack_groups["ticks"] = 0
        arena.clock[0]["mixed"] = 0
        arena.jack_groups["sends"] = 2
        arena.jack_in[:] = 1.0
        out = np.zeros(PERIOD)
        aim_local(arena, 0, 0, 1.0, 1.0, local)
        add_local(arena, 0, 0, PERIOD, local, out)
        assert not out.any()


@pytest.mark.parametrize(("session", "hears"), [(0, True), (7, True), (6, False)])
def test_ports_of_who_was_here_before_are_not_the_newcomers(session: int, hears: bool) -> None:
    """They stay for a while, with what is patched into them; a section's are all its members'."""
    with arena_of(slots=2, period=PERIOD) as arena:
        local = make_local(2)
        arena.slots[1]["jack_group"], arena.slots[1]["session"] = 1 + 3, 7
        arena.jack_groups[3]["session"], arena.jack_groups[3]["sends"] = session, 1
        arena.jack_groups[3]["ticks"] = 0
        arena.clock[0]["mixed"] = 0
        arena.jack_in[:] = 1.0
        out = np.zeros(PERIOD)
        aim_local(arena, 0, 1, 1.0, 1.0, local)
        add_local(arena, 1, 0, PERIOD, local, out)
        assert bool(out.any()) is hears


@pytest.mark.parametrize("behind", [0, 1])
def test_a_slow_graphs_sound_is_that_of_the_tick_before(behind: int) -> None:
    """When that changes, there is a dip of two periods, and no jump."""
    with arena_of(slots=1, period=PERIOD) as arena:
        local, out = make_local(1), np.zeros(10 * PERIOD)
        arena.slots[0]["jack_group"], arena.jack_groups[0]["sends"] = 1, 1
        rng = np.random.default_rng(5)
        sound = rng.uniform(-1, 1, 10 * PERIOD).astype(np.float32)
        for tick in range(10):
            now = tick % STRIP_DEPTH
            part = slice(tick * PERIOD, (tick + 1) * PERIOD)
            arena.jack_groups[0]["ticks"][now] = tick
            arena.jack_in[now, 0, 0] = sound[part]
            arena.clock[0]["mixed"][now] = tick
            arena.jack[0]["behinds"][now] = behind if tick >= 5 else 0
            aim_local(arena, now, 0, 1.0, 1.0, local)
            add_local(arena, 0, 0, PERIOD, local, out[part])
        ramp = np.arange(1, PERIOD + 1) / PERIOD
        before, after = slice(PERIOD, 5 * PERIOD), slice(7 * PERIOD, 10 * PERIOD)
        assert np.array_equal(out[before], sound[before])
        assert np.array_equal(out[after], np.roll(sound, behind * PERIOD)[after])
        if behind:
            dip = out[5 * PERIOD : 6 * PERIOD]
            assert np.allclose(dip, sound[before][-1] * (0.5 + 0.5 * np.cos(np.pi * ramp)))
            rise = out[6 * PERIOD : 7 * PERIOD]
            assert np.allclose(rise, ramp * sound[5 * PERIOD : 6 * PERIOD])


@pytest.mark.parametrize(("sends", "heard"), [(1, 1.0), (2, 0.5)])
def test_what_a_mono_listener_alone_is_sent_is_not_less_for_folding(
    sends: int, heard: float
) -> None:
    with arena_of(slots=1, period=PERIOD) as arena:
        local = make_local(1)
        arena.slots[0]["jack_group"], arena.jack_groups[0]["sends"] = 1, sends
        arena.jack_groups[0]["ticks"] = 0
        arena.jack_in[:, :, 0] = 1.0
        out = np.zeros((2, PERIOD))
        arena.clock[0]["mixed"] = 0
        for _ in range(2):
            out[:] = 0.0
            aim_local(arena, 0, 0, 1.0, 0.5, local)
            for channel in range(2):
                add_local(arena, 0, channel, PERIOD, local, out[channel])
        assert 0.5 * out.sum(axis=0)[-1] == heard
