"""Mix kernels against their twins, and whole ticks of the mixer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shared.arena import Arena
from shared.layout import STRIP_DEPTH, PatchMode, RxState
from tests.workers import twins
from tests.workers.arenas import arena_of
from tests.workers.twins import Doubles, Floats
from workers import mix
from workers.mixer import Sources, make_sources, mix_tick

RING = 4096
Place = tuple[float, float] | None
places = st.one_of(st.none(), st.tuples(st.floats(0, 1), st.floats(0, 1)))
gains = st.one_of(st.sampled_from([0.0, 1.0, 0.5]), st.floats(0, 15.8))
blocks = hnp.arrays(
    np.float32, st.sampled_from([1, 16, 64, 441]), elements=st.floats(-2, 2, width=32)
)


def noise(seed: int, channels: int, frames: int, bits: int = 16) -> Floats:
    """(channels, frames) float32, whole steps of so many bits."""
    top = 1 << (bits - 1)
    values = np.random.default_rng(seed).integers(-top, top, (channels, frames))
    return (values / top).astype(np.float32)


@given(st.integers(0, 1 << 40), st.sampled_from([16, 128, 1000, 1024]), gains, gains)
def test_read_strip(position: int, frames: int, before: float, after: float) -> None:
    ring = noise(1, 1, 2 * RING)[0]
    strip = np.full(frames + 1, 99, np.float32)
    mix.read_strip(ring, RING - 1, position, frames, before, after, strip)
    line = ring[(position + np.arange(frames)) % RING]
    expected = line * twins.slope(before, after, frames).astype(np.float32)
    np.testing.assert_array_equal(strip[:frames], expected)
    assert strip[frames] == 99


def test_read_strip_at_unity_is_a_copy() -> None:
    ring, strip = noise(2, 1, RING)[0], np.zeros(128, np.float32)
    mix.read_strip(ring, RING - 1, RING - 60, 128, 1.0, 1.0, strip)
    np.testing.assert_array_equal(strip, np.roll(ring, 60)[:128])


@given(st.integers(0, 1 << 40), st.sampled_from([16, 128, 1000, 1024]), gains)
def test_carry_is_read_strip_and_add_to_bus(position: int, frames: int, gain: float) -> None:
    ring = noise(1, 1, 2 * RING)[0]
    strip, bus = np.full(frames + 1, 99, np.float32), np.linspace(-3, 3, frames + 1)
    line = ring[(position + np.arange(frames)) % RING] * np.float32(gain)
    expected = bus.copy()
    expected[:frames] += line
    mix.carry(ring, RING - 1, position, frames, gain, strip, bus)
    np.testing.assert_array_equal(strip[:frames], line)
    np.testing.assert_array_equal(bus, expected)
    assert strip[frames] == 99


@given(st.floats(-2, 2, width=32), st.sampled_from([16, 128, 1024]))
def test_fade_tail_glides_to_silence(last: float, frames: int) -> None:
    strip = np.zeros(frames, np.float32)
    mix.fade_tail(np.float32(last), frames, strip)
    steps = np.abs(np.diff(np.concatenate([[last], strip, [0]])))
    assert strip[-1] == 0
    assert np.all(steps <= abs(last) * np.pi / 2 / frames + 1e-6)
    phase = np.pi * (np.arange(frames) + 1) / frames
    np.testing.assert_allclose(strip, last * (0.5 + 0.5 * np.cos(phase)), rtol=0, atol=3e-7)


@given(blocks)
def test_add_to_bus(strip: Floats) -> None:
    bus = np.linspace(-3, 3, len(strip))
    expected = bus + strip
    mix.add_to_bus(strip, len(strip), bus)
    np.testing.assert_array_equal(bus, expected)


@given(blocks, gains, gains)
def test_scale_bus(block: Floats, before: float, after: float) -> None:
    bus, output = block.astype(np.float64) * 3, np.full(len(block), 99.0)
    mix.scale_bus(bus, len(bus), before, after, output)
    np.testing.assert_array_equal(output, bus * twins.slope(before, after, len(bus)))


@given(blocks, st.floats(-15, 15), st.floats(-15, 15))
def test_add_strip(strip: Floats, before: float, after: float) -> None:
    output = np.linspace(-1, 1, len(strip))
    expected = output + strip.astype(np.float64) * twins.slope(before, after, len(strip))
    mix.add_strip(strip, len(strip), before, after, output)
    np.testing.assert_array_equal(output, expected)


@given(st.integers(0, 16), st.integers(0, 15), st.booleans())
def test_source_channel(channels: int, channel: int, upmix: bool) -> None:
    expected = twins.source_channel(channels, channel, upmix)
    assert mix.source_channel(channels, channel, int(upmix)) == (
        -1 if expected is None else expected
    )


@pytest.mark.parametrize("mode", PatchMode)
def test_preset(mode: PatchMode) -> None:
    assert mix.preset(int(mode)) == twins.preset(mode)


# ---- whole ticks


@dataclass
class Band:
    """Sources on an arena: what they play is known for every hub sample."""

    arena: Arena
    sources: Sources
    music: dict[int, Floats]

    def play(self, slot: int, *, session: int, channels: int, ticks: int) -> None:
        """A client of so many channels is active, and its ring filled for some ticks."""
        period = int(self.arena.header[0]["period_frames"])
        rx = self.arena.rx[slot]
        self.music[slot] = noise(100 * slot + session, channels, RING)
        self.arena.rings[slot, :channels, :RING] = self.music[slot]
        rx["ring_frames"], rx["channels"], rx["session"] = RING, channels, session
        rx["watermark"], rx["state"] = ticks * period, RxState.ACTIVE

    def at(self, slot: int, tick: int) -> Floats:
        """What a source plays in a tick."""
        period = int(self.arena.header[0]["period_frames"])
        return np.take(
            self.music[slot], np.arange(tick * period, (tick + 1) * period) % RING, axis=1
        )

    def mixed(self, tick: int) -> tuple[dict[int, Floats], Doubles]:
        """Run a tick: strips of those who sound, and the buses."""
        count = mix_tick(self.arena, tick, self.sources)
        now = tick % STRIP_DEPTH
        voices = self.arena.voices[now]
        strips = {
            slot: self.arena.strips[now, slot, : voices[slot]].copy()
            for slot in np.flatnonzero(voices).tolist()
        }
        assert count == len(strips)
        return strips, self.arena.buses[now].copy()


def order_gain(arena: Arena, slot: int, gain: float) -> None:
    """Order a strip's gain."""
    arena.slots[slot]["gain"] = gain
    arena.control[0]["levels"] += 2


def put(arena: Arena, slot: int, where: Place) -> None:
    """Give a source these gains in channels 1 and 2, or its usual ones."""
    order = arena.slots[slot]
    arena.control[0]["levels"] += 2
    order["panned"] = where is not None
    left, right = where or (0.0, 0.0)
    order["pan_left"] = order["balance_left"] = left
    order["pan_right"] = order["balance_right"] = right


def band_on(arena: Arena) -> Band:
    return Band(arena, make_sources(len(arena.slots)), {})


def step_bound(samples: Floats) -> float:
    return float(np.max(np.abs(np.diff(samples))))


@pytest.mark.parametrize("bits", [16, 24])
def test_sums_are_exact_and_ones_own_voice_leaves_nothing(bits: int) -> None:
    """40 sources at unity: the bus minus a voice is the sum of the others, to the bit."""
    slots, period = 40, 64
    with arena_of(slots=slots, period=period) as arena:
        band = band_on(arena)
        for slot in range(slots):
            band.play(slot, session=1, channels=2, ticks=9)
            music = noise(slot, 2, RING, bits)
            band.music[slot] = arena.rings[slot, :2, :RING] = music
        band.mixed(0)  # everybody is ramped in
        strips, buses = band.mixed(1)
    steps = np.stack([np.round(strips[s].astype(np.float64) * (1 << 23)) for s in range(slots)])
    total = steps.astype(np.int64).sum(axis=0)
    np.testing.assert_array_equal(buses[:2] * (1 << 23), total)
    for slot in range(slots):
        np.testing.assert_array_equal(strips[slot], band.at(slot, 1))
        rest = buses[:2] - strips[slot]
        np.testing.assert_array_equal(rest * (1 << 23), total - steps[slot].astype(np.int64))
    assert np.all(buses[2:] == 0)


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.integers(1, 3), gains, places, st.sampled_from([0.0, 0.5])),
        min_size=1,
        max_size=12,
    ),
    st.sampled_from([16, 128, 441]),
    st.sampled_from(["", "upmix", "mono-centre"]),
)
def test_what_stands_still_is_its_samples_times_its_gain(
    players: list[tuple[int, float, Place, float]], period: int, policy: str
) -> None:
    """To the bit, buses in the order of slots, and wherever the ring ends."""
    with arena_of(slots=len(players), period=period, upmix=policy == "upmix") as arena:
        arena.header[0]["mono_centre"] = policy == "mono-centre"
        band = band_on(arena)
        for slot, (channels, gain, where, cut) in enumerate(players):
            band.play(slot, session=1, channels=channels, ticks=999)
            put(arena, slot, where)
            order_gain(arena, slot, gain)
            arena.rx[slot]["cut"] = cut
        first = RING // period - 2
        for tick in range(first, first + 5):
            strips, buses = band.mixed(tick)
            if tick == first:
                continue  # everybody is ramped in
            expected = np.zeros((16, period))
            for slot, (channels, gain, where, cut) in enumerate(players):
                to, samples = gain * (1.0 - cut), band.at(slot, tick)
                centre = (0.5**0.5, 0.5**0.5) if policy == "mono-centre" else None
                at = where or (centre if channels == 1 else None)
                factors = [*((1.0, 1.0) if at is None else at), *[1.0] * 14]
                if channels == 1 and at is not None:
                    samples = np.vstack([samples, samples])
                weights = np.array([[to * f] for f in factors[: len(samples)]], np.float32)
                np.testing.assert_array_equal(strips[slot], samples * weights)
                for channel in range(16):
                    heard = twins.source_channel(len(samples), channel, policy == "upmix")
                    if heard is not None:
                        expected[channel] += strips[slot][heard]
            np.testing.assert_array_equal(buses, expected)


def test_what_is_ordered_is_read_when_its_number_is_told() -> None:
    """Half of it is nobody's; and who comes into a slot beyond those that were read is heard."""
    with arena_of(slots=3, period=64) as arena:
        band, control = band_on(arena), arena.control[0]
        for slot in range(3):
            band.play(slot, session=1, channels=1, ticks=99)
        arena.slots["gain"] = 0.5, 0.25, 0.75
        control["slots_high"] = 2

        def heard(tick: int) -> dict[int, float]:
            strips, _ = band.mixed(tick)
            return {k: float(s[0, -1] / band.at(k, tick)[0, -1]) for k, s in strips.items()}

        assert heard(0) == {0: 0.5, 1: 0.25}
        arena.slots["gain"] = 1.0
        assert heard(1) == {0: 0.5, 1: 0.25}
        control["levels"] += 1
        assert heard(2) == {0: 0.5, 1: 0.25}
        control["levels"] += 1
        assert heard(3) == {0: 1.0, 1: 1.0}
        arena.slots["gain"] = 0.5
        control["slots_high"] = 3
        assert heard(4) == {0: 0.5, 1: 0.5, 2: 0.5}


def test_a_mixer_that_begins_while_levels_are_written_is_not_silent_meanwhile() -> None:
    """It takes what is there; from the first whole state on only whole ones."""
    with arena_of(slots=1, period=64) as arena:
        band, order, control = band_on(arena), arena.slots[0], arena.control[0]
        band.play(0, session=1, channels=1, ticks=9)
        heard = []
        for tick, (levels, gain) in enumerate([(1, 0.5), (1, 0.5), (2, 0.25), (3, 1.0), (3, 1.0)]):
            control["levels"], order["gain"] = levels, gain
            order["strip_changes"] += levels % 2 == 0
            strips, _ = band.mixed(tick)
            heard.append(strips[0])
            assert arena.clock[0]["levels_read"] == (0 if tick < 2 else 2)
        np.testing.assert_array_equal(heard[1], 0.5 * band.at(0, 1))
        np.testing.assert_array_equal(heard[4], 0.25 * band.at(0, 4))


@settings(max_examples=60)
@given(
    st.lists(
        st.lists(
            st.tuples(
                st.sampled_from(["plays", "plays", "starves", "ended", "gone", "another"]),
                gains,
                places,
            ),
            min_size=3,
            max_size=3,
        ),
        min_size=3,
        max_size=9,
    ),
    st.tuples(*[st.integers(1, 3)] * 3),
    st.sampled_from([16, 128, 441]),
    st.sampled_from(["", "upmix", "mono-centre"]),
)
def test_ticks_like_twin(
    plan: list[list[tuple[str, float, Place]]],
    channels: tuple[int, ...],
    period: int,
    policy: str,
) -> None:
    """Three slots in which clients come, play, starve, end and are replaced; gains and places
    move."""
    upmix = policy == "upmix"
    sessions = [1, 1, 1]
    starved = 0
    twin = twins.Mixer(period, upmix=upmix)
    with arena_of(slots=3, period=period, upmix=upmix) as arena:
        if policy == "mono-centre":
            arena.header[0]["mono_centre"] = 1
            twin.mono_place = (0.5**0.5, 0.5**0.5)
        band = band_on(arena)
        for slot in range(3):
            band.play(slot, session=1, channels=channels[slot], ticks=0)
        for tick, actions in enumerate(plan):
            sounding: dict[int, tuple[int, float, Floats]] = {}
            for slot, (action, gain, where) in enumerate(actions):
                rx = arena.rx[slot]
                put(arena, slot, where)
                twin.places.pop(slot, None)
                if where is not None:
                    twin.places[slot] = where
                if action == "another":
                    sessions[slot] += 1
                    band.play(slot, session=sessions[slot], channels=channels[slot], ticks=0)
                order_gain(arena, slot, gain)
                has = action in ("plays", "ended", "another")
                rx["watermark"] = (tick + 1) * period - (0 if has else 1)
                rx["state"] = {"ended": RxState.ENDED, "gone": RxState.IDLE}.get(
                    action, RxState.ACTIVE
                )
                starved += action == "starves"
                if has:
                    sounding[slot] = (sessions[slot], gain, band.at(slot, tick))
            strips, buses = band.mixed(tick)
            expected_strips, expected_buses = twin.tick(sounding)
            assert strips.keys() == expected_strips.keys()
            for slot, strip in strips.items():
                np.testing.assert_allclose(strip, expected_strips[slot], rtol=0, atol=2e-6)
            np.testing.assert_allclose(buses, expected_buses, rtol=0, atol=1e-5)
        assert arena.clock[0]["starved"] == starved


def test_source_that_vanishes_and_comes_back_does_not_click() -> None:
    """A constant shows every step: one of a ramp at most."""
    period = 128
    with arena_of(period=period) as arena:
        band = band_on(arena)
        band.play(0, session=1, channels=1, ticks=0)
        arena.rings[0, 0] = 1.0
        heard = []
        for tick, there in enumerate([0, 1, 1, 0, 0, 1, 1, 0, 1]):
            arena.rx[0]["watermark"] = (tick + there) * period
            heard.append(band.mixed(tick)[1][0])
    assert step_bound(np.concatenate(heard).astype(np.float32)) <= np.pi / 2 / period


def test_gain_and_mute_are_ramps_of_one_period() -> None:
    period = 64
    with arena_of(period=period) as arena:
        band = band_on(arena)
        band.play(0, session=1, channels=1, ticks=99)
        arena.rings[0, 0] = 1.0
        bus = []
        for tick, gain in enumerate([1.0, 1.0, 0.25, 0.25, 0.0, 0.0, 1.0, 1.0]):
            order_gain(arena, 0, gain)
            bus.append(band.mixed(tick)[1][0])
    rising = np.arange(1, period + 1) / period
    np.testing.assert_allclose(bus[0], rising, atol=1e-6)
    assert np.all(bus[1] == 1)
    np.testing.assert_allclose(bus[2], 1 - 0.75 * rising, atol=1e-6)
    assert np.all(bus[3] == 0.25)
    np.testing.assert_allclose(bus[4], 0.25 - 0.25 * rising, atol=1e-6)
    assert np.all(bus[5] == 0)
    np.testing.assert_allclose(bus[6], rising, atol=1e-6)
    assert np.all(bus[7] == 1)


def test_mono_sources_sound_on_the_right_with_upmix_only() -> None:
    for upmix in (False, True):
        with arena_of(slots=2, upmix=upmix) as arena:
            band = band_on(arena)
            band.play(0, session=1, channels=1, ticks=9)
            band.play(1, session=1, channels=2, ticks=9)
            band.mixed(0)
            _, buses = band.mixed(1)
            mono, stereo = band.at(0, 1), band.at(1, 1)
        np.testing.assert_array_equal(buses[0], mono[0].astype(np.float64) + stereo[0])
        expected: npt.NDArray[np.float64] = stereo[1].astype(np.float64)
        np.testing.assert_array_equal(buses[1], expected + mono[0] if upmix else expected)
        assert np.all(buses[2:] == 0)


@pytest.mark.parametrize("mono_first", [False, True])
def test_placed_voices_leave_nothing_of_themselves(mono_first: bool) -> None:
    """What is subtracted is what was added, whatever the places, in mid-ramp too."""
    rng = np.random.default_rng(7)
    with arena_of(slots=30) as arena:
        band = band_on(arena)
        for slot in range(30):
            channels = 1 + (slot % 2 == mono_first)
            band.play(slot, session=1, channels=channels, ticks=99)
            band.music[slot] = arena.rings[slot, :channels, :RING] = noise(slot, channels, RING)
        for tick in range(6):
            for slot in range(30):
                angle = rng.uniform(0, np.pi / 2)
                put(arena, slot, (float(np.cos(angle)), float(np.sin(angle))))
            strips, buses = band.mixed(tick)
            for slot in range(30):
                rest = buses[:2] - strips[slot]
                others = sum(strips[s].astype(np.longdouble) for s in range(30) if s != slot)
                assert np.abs(rest - others).max() < 2.0**-45
        lone = buses[:2] - sum(strips[slot].astype(np.float64) for slot in range(30))
        assert np.abs(lone).max() < 2.0**-44


def test_a_place_is_a_ramp_there_and_back() -> None:
    """Of a mono source: its second strip comes from nothing and goes back to nothing."""
    period = 64
    with arena_of(period=period) as arena:
        band = band_on(arena)
        band.play(0, session=1, channels=1, ticks=99)
        arena.rings[0, 0] = 1.0
        heard = []
        for tick, where in enumerate([None, None, (0.5, 0.25), (0.5, 0.25), None, None]):
            put(arena, 0, where)
            strips, buses = band.mixed(tick)
            heard.append((len(strips[0]), buses[0].copy(), buses[1].copy()))
    rising = np.arange(1, period + 1) / period
    assert [voices for voices, _, _ in heard] == [1, 1, 2, 2, 2, 1]
    np.testing.assert_allclose(heard[2][1], 1 - 0.5 * rising, atol=1e-6)
    np.testing.assert_allclose(heard[2][2], 0.25 * rising, atol=1e-6)
    np.testing.assert_allclose(heard[4][1], 0.5 + 0.5 * rising, atol=1e-6)
    np.testing.assert_allclose(heard[4][2], 0.25 - 0.25 * rising, atol=1e-6)
    assert not heard[5][2].any()


def test_what_the_guard_takes_off_is_taken_off_the_gain() -> None:
    with arena_of() as arena:
        band = band_on(arena)
        band.play(0, session=1, channels=1, ticks=99)
        order_gain(arena, 0, 2.0)
        arena.rx[0]["cut"] = 0.75
        band.mixed(0)
        np.testing.assert_array_equal(band.mixed(1)[0][0], band.at(0, 1) / 2)


def test_slots_beyond_the_highest_in_use_cost_nothing() -> None:
    with arena_of(slots=3) as arena:
        band = band_on(arena)
        band.play(2, session=1, channels=1, ticks=9)
        arena.control[0]["slots_high"] = 2
        assert band.mixed(0)[0] == {}
        arena.control[0]["slots_high"] = 3
        assert list(band.mixed(1)[0]) == [2]
