"""What JACK's callbacks put into ports and take from them, against NumPy, without a JACK server."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.arena import Arena
from shared.layout import MIN_RING_FRAMES, STRIP_DEPTH, RxState
from tests.workers.arenas import arena_of
from tests.workers.jack_ports import PERIOD, Ports
from workers import jackclock
from workers.jackports import serve_beat
from workers.jacktime import rebase

SESSION = 7


@pytest.fixture
def arena() -> Iterator[Arena]:
    with arena_of(slots=4, period=PERIOD) as made:
        yield made


def client(arena: Arena, slot: int, channels: int, **order: float) -> npt.NDArray[np.float32]:
    """A client whose ring is noise: (channels, MIN_RING_FRAMES)."""
    rx = arena.rx[slot]
    rx["state"], rx["session"], rx["channels"] = RxState.ACTIVE, SESSION, channels
    rx["ring_frames"], rx["watermark"] = MIN_RING_FRAMES, MIN_RING_FRAMES
    for name, value in order.items():
        arena.slots[slot][name] = value
    rng = np.random.default_rng(slot)
    sound = rng.uniform(-0.5, 0.5, (channels, MIN_RING_FRAMES)).astype(np.float32)
    arena.rings[slot, :channels, :MIN_RING_FRAMES] = sound
    return sound


def seat(ports: Ports, *slots: int) -> None:
    ports.seat([(slot, SESSION) for slot in slots])


def due(sound: npt.NDArray[np.float32], tick: int) -> npt.NDArray[np.float32]:
    return sound[:, tick * PERIOD : (tick + 1) * PERIOD]


def test_a_client_alone_passes_bit_for_bit_after_its_first_period(arena: Arena) -> None:
    sound, ports = client(arena, 1, 2, panned=1, pan_left=0.3, pan_right=0.4), Ports(arena, 2, 0)
    seat(ports, 1)
    ramp = np.arange(1, PERIOD + 1, dtype=np.float64) / PERIOD
    assert np.allclose(ports.cycle(5), due(sound, 5) * ramp, atol=1e-7)
    for tick in (6, 7, 8):
        assert np.array_equal(ports.cycle(tick), due(sound, tick))


def test_gain_moves_within_a_period_and_who_has_no_sound_glides_away(arena: Arena) -> None:
    sound, ports = client(arena, 1, 1), Ports(arena, 1, 0)
    seat(ports, 1)
    ports.cycle(5)
    arena.slots[1]["gain"] = 0.25
    ramp = 1 - 0.75 * np.arange(1, PERIOD + 1) / PERIOD
    moved = ports.cycle(6)
    assert np.allclose(moved, due(sound, 6) * ramp, atol=1e-7)
    arena.rx[1]["watermark"] = 7 * PERIOD
    fall = 0.5 + 0.5 * np.cos(np.pi * np.arange(1, PERIOD + 1) / PERIOD)
    assert np.allclose(ports.cycle(7)[0], moved[0, -1] * fall, atol=1e-6)
    assert not ports.cycle(8).any()


def test_a_section_is_summed_as_the_mix_sums_it(arena: Arena) -> None:
    """Equal channels; a mono client where its place is; one of another session is nobody."""
    stereo, mono = client(arena, 0, 2), client(arena, 1, 1)
    placed = client(arena, 2, 1, panned=1, pan_left=0.6, pan_right=0.8)
    client(arena, 3, 2)
    arena.rx[3]["session"] = SESSION + 1
    ports = Ports(arena, 2, 0, alone=False)
    seat(ports, 0, 1, 2, 3)
    ports.cycle(5)
    told = ports.cycle(6)
    left = due(stereo, 6)[0] + due(mono, 6)[0] + 0.6 * due(placed, 6)[0]
    right = due(stereo, 6)[1] + 0.8 * due(placed, 6)[0]
    assert np.allclose(told, [left, right], atol=1e-6)


def test_jacks_sound_is_the_ticks(arena: Arena) -> None:
    ports = Ports(arena, 1, 2)
    ports.inputs[:] = np.random.default_rng(1).uniform(-1, 1, ports.inputs.shape)
    ports.cycle(6)
    now = 6 % STRIP_DEPTH
    assert np.array_equal(arena.jack_in[now, 2, :2], ports.inputs)
    assert arena.jack_groups[2]["ticks"][now] == 6
    assert np.count_nonzero(arena.jack_groups[2]["ticks"] >= 0) == 1


def test_another_period_of_jacks_is_silence_and_no_tick(arena: Arena) -> None:
    client(arena, 1, 1)
    ports = Ports(arena, 1, 1)
    seat(ports, 1)
    assert not ports.cycle(6, PERIOD // 2)[:, : PERIOD // 2].any()
    assert (arena.jack_groups["ticks"] == -1).all()


@pytest.mark.parametrize("frames", [PERIOD // 2, PERIOD])
def test_sound_glides_away_with_jacks_clock_and_comes_back_in_a_ramp(
    arena: Arena, frames: int
) -> None:
    """Also where its period is another one now."""
    sound, ports = client(arena, 1, 1), Ports(arena, 1, 0)
    seat(ports, 1)
    ports.cycle(5)
    last = ports.cycle(6)[0, -1]
    if frames == PERIOD:
        rebase(arena.jack[0], -1, 0)
    fall = 0.5 + 0.5 * np.cos(np.pi * np.arange(1, frames + 1) / frames)
    assert np.allclose(ports.cycle(7, frames)[0, :frames], last * fall, atol=1e-6)
    assert not ports.cycle(8, frames)[0, :frames].any()
    rebase(arena.jack[0], 0, 0)
    ramp = np.arange(1, PERIOD + 1) / PERIOD
    assert np.allclose(ports.cycle(9)[0], due(sound, 9)[0] * ramp, atol=1e-7)


@pytest.mark.parametrize(("word", "value"), [("_RATE", 44100), ("_FREEWHEEL", 1)])
def test_another_rate_or_freewheel_is_silence_and_no_clock(
    arena: Arena, word: str, value: int
) -> None:
    client(arena, 1, 1)
    ports, jack = Ports(arena, 1, 1), arena.jack[0]
    seat(ports, 1)
    assert ports.cycle(6).any()
    arena.jack_groups["ticks"] = -1
    right, at = int(ports.call[getattr(jackclock, word)]), getattr(jackclock, word)
    ports.call[at] = value
    ports.cycle(7)  # what sounded glides to silence
    assert not ports.cycle(8).any()
    assert (arena.jack_groups["ticks"] == -1).all()
    serve_beat(ports.call, ports.desk, np.int64(PERIOD))
    assert (jack["base_ticks"][jack["base_at"]], jack["cycles"]) == (-1, 0)
    ports.call[at] = right
    serve_beat(ports.call, ports.desk, np.int64(PERIOD))
    assert jack["base_ticks"][jack["base_at"]] >= 0
    assert jack["cycles"] == 1


@given(
    places=st.sets(st.integers(0, 2 * PERIOD - 1)), kind=st.sampled_from([np.nan, np.inf, -np.inf])
)
def test_what_is_no_number_is_silence_and_counted(places: set[int], kind: float) -> None:
    with arena_of(slots=4, period=PERIOD) as arena:
        ports = Ports(arena, 1, 2)
        ports.inputs[:] = np.random.default_rng(1).uniform(-1, 1, ports.inputs.shape)
        flat = ports.inputs.reshape(-1)
        flat[list(places)] = kind
        ports.cycle(6)
        told = arena.jack_in[6 % STRIP_DEPTH, 2, :2]
        assert np.array_equal(told, np.where(np.isfinite(ports.inputs), ports.inputs, 0))
        assert arena.jack_groups[2]["garbled"] == len(places)


def test_cycles_that_have_other_numbers_are_faded_between(arena: Arena) -> None:
    """After an xrun: what sounded glides away as what is due now comes, without a jump."""
    sound, ports = client(arena, 1, 1), Ports(arena, 1, 0)
    seat(ports, 1)
    ports.cycle(5)
    last = ports.cycle(6)[0, -1]
    ramp = np.arange(1, PERIOD + 1) / PERIOD
    fall = 0.5 + 0.5 * np.cos(np.pi * ramp)
    assert np.allclose(ports.cycle(17)[0], last * fall + due(sound, 17)[0] * ramp, atol=1e-6)
    assert np.array_equal(ports.cycle(18), due(sound, 18))
    assert arena.jack_groups[2]["gaps"] == 0


def test_sound_that_is_not_there_in_time_is_counted_once(arena: Arena) -> None:
    client(arena, 1, 1)
    ports = Ports(arena, 1, 0)
    seat(ports, 1)
    ports.cycle(5)
    arena.rx[1]["watermark"] = 6 * PERIOD
    for tick in (6, 7, 8):
        ports.cycle(tick)
    assert arena.jack_groups[2]["gaps"] == 1
    arena.rx[1]["watermark"] = MIN_RING_FRAMES
    ports.cycle(9)
    arena.rx[1]["watermark"], arena.rx[1]["state"] = 10 * PERIOD, RxState.ENDED
    ports.cycle(10)  # who goes leaves no gap
    assert arena.jack_groups[2]["gaps"] == 1


def test_broadcast_is_the_same_later(arena: Arena) -> None:
    sound, delay = client(arena, 1, 1), 3 * PERIOD + 5
    ports = Ports(arena, 1, 0, delay=delay)
    seat(ports, 1)
    told = np.hstack([ports.cycle(tick)[1] for tick in range(20)])
    line = sound[0, : 20 * PERIOD]
    assert np.array_equal(told[delay + PERIOD :], line[PERIOD : 20 * PERIOD - delay])
