"""Return streams: what a listener is sent, to a real socket, against the twin."""

from __future__ import annotations

import math
import socket

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.layout import PatchMode, RxState
from shared.protocol import BIT_RESOLUTIONS, parse_datagram
from tests.workers import twins
from tests.workers.desk import SESSION, decoded, desk_of, noise
from workers.transmit import adopt, make_lane, serve_listener, serve_tick

MODES = [PatchMode.LOOPBACK, PatchMode.FAN_OUT_NO_SELF, PatchMode.FULL_MIX, PatchMode.NONE]


# ---- against the twin, byte for byte


@settings(max_examples=80)
@given(
    frames=st.sampled_from([16, 64, 128, 240, 441, 512]),
    period=st.sampled_from([16, 64, 128, 441, 512]),
    bits=st.sampled_from(BIT_RESOLUTIONS),
    wants=st.sampled_from([1, 2, 3, 16]),
    sends=st.sampled_from([1, 2, 5]),
    rate_code=st.integers(0, 7),
    redundancy=st.integers(1, 3),
    upmix=st.booleans(),
    seed=st.integers(0, 1 << 32),
)
def test_datagrams_like_twin(
    frames: int,
    period: int,
    bits: int,
    wants: int,
    sends: int,
    rate_code: int,
    redundancy: int,
    upmix: bool,
    seed: int,
) -> None:
    """Ticks with changes of mode and levels, voices that come and go, ticks that are missed."""
    rng = np.random.default_rng(seed)
    with desk_of(period=period, upmix=upmix) as desk:
        twin = desk.listener(
            0,
            frames=frames,
            bits=bits,
            wants=wants,
            sends=sends,
            rate_code=rate_code,
            redundancy=redundancy,
        )
        channels = {0: sends, 1: 1, 2: 2}
        datagrams = 0
        for step in range(8):
            desk.mode(MODES[int(rng.integers(4))])
            if rng.random() < 0.4:
                sources = [s for s in range(3) if rng.random() < 0.5]
                levels = {s: float(np.float32(rng.choice([0, 0.5, 1, 1.7]))) for s in sources}
                desk.levels(0, levels)
                twin.set_levels(levels)
            if rng.random() < 0.2:
                desk.tick += int(rng.integers(1, 9))
            if step == 5 and redundancy > 1:
                desk.arena.rx[0]["redundancy"] = redundancy = redundancy - 1
            sounding = [slot for slot in range(3) if rng.random() < 0.8]
            strips = {slot: noise(rng, channels[slot], period) for slot in sounding}
            buses = desk.publish(strips)
            mode = PatchMode(int(desk.arena.control[0]["patch"]))
            mixed = twin.mix(mode, strips, buses)
            expected = twin.tick(desk.tick, mixed, desk.wall_us, redundancy)
            assert desk.serve(0) == expected
            datagrams += len(expected)
        tx = desk.arena.tx[0]
        assert (tx["packets"], tx["errors"]) == (datagrams, 0)
        assert tx["sequence"] == twin.sequence


# ---- single facts


def test_stream_begins_at_zero_and_fades_in() -> None:
    with desk_of() as desk:
        desk.listener(0, bits=32)
        desk.mode(PatchMode.FULL_MIX)
        heard = []
        for sequence in range(3):
            desk.publish({1: np.ones((2, 128), np.float32)})
            (datagram,) = desk.serve(0)
            header, _ = parse_datagram(datagram)
            assert header.sequence == sequence
            assert header.timestamp_us == desk.wall_us
            heard.append(decoded(datagram)[0])
    np.testing.assert_allclose(heard[0], np.arange(1, 129) / 128, atol=1e-6)
    assert np.all(heard[1] == 1)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("upmix", [False, True])
def test_who_hears_whom(mode: PatchMode, upmix: bool) -> None:
    """A mono, a stereo and a 1→2 client, as observed at the original hub."""
    sends, wants = {0: 1, 1: 2, 2: 1}, {0: 1, 1: 2, 2: 2}
    rng = np.random.default_rng(5)
    with desk_of(upmix=upmix) as desk:
        for slot in range(3):
            desk.listener(slot, bits=32, sends=sends[slot], wants=wants[slot])
        desk.mode(mode)
        heard = {}
        for _ in range(2):
            strips = {slot: noise(rng, sends[slot], 128) for slot in range(3)}
            desk.publish(strips)
            heard = {slot: decoded(desk.serve(slot)[-1]) for slot in range(3)}
    for listener in range(3):
        for channel in range(wants[listener]):
            expected = np.zeros(128)
            for source in range(3):
                own = source == listener
                wanted = {
                    PatchMode.LOOPBACK: own,
                    PatchMode.FAN_OUT_NO_SELF: not own,
                    PatchMode.FULL_MIX: True,
                    PatchMode.NONE: False,
                }[mode]
                patched = channel < sends[source] or (upmix and sends[source] == 1 and channel == 1)
                if wanted and patched:
                    expected += strips[source][0 if sends[source] == 1 else channel]
            np.testing.assert_array_equal(heard[listener][channel], expected.astype(np.float32))


@settings(max_examples=40)
@given(
    st.sampled_from(MODES),
    st.lists(st.one_of(st.none(), st.sampled_from([0.0, 0.5, 1.0, 1.7])), min_size=3, max_size=3),
    st.booleans(),
    st.sampled_from([0.5, 0.5**0.5]),
    st.integers(0, 1 << 32),
)
def test_mono_listeners_hear_both_sides_with_downmix(
    mode: PatchMode, levels: list[float | None], upmix: bool, downmix: float, seed: int
) -> None:
    """Left plus right, lowered: of the bus, of one's own voice and of changed levels alike."""
    rng = np.random.default_rng(seed)
    wanted = {slot: level for slot, level in enumerate(levels) if level is not None}
    with desk_of(period=32, upmix=upmix) as desk:
        desk.arena.header[0]["downmix"] = downmix
        mono = desk.listener(0, frames=32, bits=32, sends=2, wants=1)
        stereo = desk.listener(1, frames=32, bits=32, sends=1, wants=2)
        mono.downmix = downmix
        for twin in (mono, stereo):
            desk.levels(twin.slot, wanted)
            twin.set_levels(wanted)
        desk.mode(mode)
        for _ in range(3):
            strips = {slot: noise(rng, sends, 32) for slot, sends in enumerate([2, 1, 4])}
            buses = desk.publish(strips)
            for twin in (mono, stereo):
                expected = twin.mix(mode, strips, buses)
                heard = decoded(desk.serve(twin.slot)[-1])
                np.testing.assert_allclose(heard, expected, rtol=0, atol=1e-6)


def test_a_lone_mono_listener_of_a_fan_out_hears_nothing_with_downmix() -> None:
    """Its own two channels leave no residue: 24 bit would show the least."""
    rng = np.random.default_rng(3)
    with desk_of() as desk:
        desk.arena.header[0]["downmix"] = 0.5**0.5
        desk.listener(0, bits=24, sends=2, wants=1)
        desk.mode(PatchMode.FAN_OUT_NO_SELF)
        for _ in range(3):
            desk.publish({0: noise(rng, 2, 128)})
            heard = decoded(desk.serve(0)[-1])
        assert not heard.any()


def test_limiter_works_on_what_is_sent() -> None:
    """Three voices near full scale: without it they clip, with it they do not; it is counted."""
    loud = np.full((2, 128), 0.9, np.float32)
    with desk_of() as desk:
        desk.listener(0, bits=32)
        desk.mode(PatchMode.FULL_MIX)
        heard = []
        for on in (0, 0, 1, 1):
            desk.arena.control[0]["limiter"] = on
            desk.publish({1: loud, 2: loud})
            heard.append(decoded(desk.serve(0)[-1]))
        tx = desk.arena.tx[0]
        assert (tx["clipped"], tx["limited_frames"]) == (2 * 128 + 2 * 57, 2 * 128)
    assert np.all(heard[1] == np.float32(1.8))
    assert 0.95 < heard[3].max() < 1.0


def test_own_voice_leaves_nothing_in_fan_out() -> None:
    with desk_of(slots=20) as desk:
        desk.listener(0, bits=32)
        desk.mode(PatchMode.FAN_OUT_NO_SELF)
        rng = np.random.default_rng(1)
        for _ in range(2):
            others = {slot: noise(rng, 2, 128) for slot in range(1, 20)}
            desk.publish({0: noise(rng, 2, 128), **others})
            (datagram,) = desk.serve(0)
    total = sum(strip.astype(np.float64) for strip in others.values())
    np.testing.assert_array_equal(decoded(datagram), np.asarray(total).astype(np.float32))


@settings(max_examples=60)
@given(
    st.sampled_from(MODES),
    st.lists(
        st.lists(st.one_of(st.none(), st.floats(0, 15.75, width=32)), min_size=4, max_size=4),
        min_size=4,
        max_size=4,
    ),
    st.booleans(),
    st.integers(0, 1 << 32),
)
def test_gain_matrix(
    mode: PatchMode, matrix: list[list[float | None]], upmix: bool, seed: int
) -> None:
    """Whatever is set: a listener gets each source at its level, else as the preset says."""
    rng = np.random.default_rng(seed)
    channels = [1, 2, 2, 1]
    with desk_of(slots=4, period=32, upmix=upmix) as desk:
        for listener in range(4):
            desk.listener(listener, frames=32, bits=32, wants=2)
            desk.levels(listener, {s: g for s, g in enumerate(matrix[listener]) if g is not None})
        desk.mode(mode)
        heard = {}
        for _ in range(2):  # one period of ramps, then all has arrived
            strips = {slot: noise(rng, channels[slot], 32) for slot in range(4)}
            desk.publish(strips)
            heard = {slot: decoded(desk.serve(slot)[-1]) for slot in range(4)}
    others, own = twins.preset(mode)
    for listener in range(4):
        expected = np.zeros((2, 32))
        for source in range(4):
            wanted = matrix[listener][source]
            level = others + (own if source == listener else 0.0) if wanted is None else wanted
            for channel in range(2):
                from_channel = twins.source_channel(channels[source], channel, upmix)
                if from_channel is not None:
                    expected[channel] += level * strips[source][from_channel]
        np.testing.assert_allclose(heard[listener], expected, atol=1e-5)


def test_level_that_is_taken_back_is_forgotten() -> None:
    with desk_of() as desk:
        desk.listener(0)
        desk.mode(PatchMode.FULL_MIX)
        desk.publish({})
        desk.serve(0)
        desk.levels(0, {1: 0.5, 2: 2.0})
        desk.publish({})
        desk.serve(0)
        assert desk.lane.rows.counts[0] == 2
        desk.levels(0, {2: 2.0})
        assert desk.lane.rows.counts[0] == 2  # the first is on its way back
        desk.publish({})
        desk.serve(0)
        assert desk.lane.rows.counts[0] == 1
        assert desk.lane.rows.sources[0, 0] == 2
        assert desk.lane.rows.coefficients[0, 0, 0] == 1.0


def test_level_that_changes_twice_within_a_tick_goes_on_from_where_it_is() -> None:
    with desk_of() as desk:
        desk.listener(0, bits=32)
        desk.mode(PatchMode.FULL_MIX)
        heard = []
        for levels in ({1: 0.0}, {1: 0.0}, {1: 1.0}):
            desk.levels(0, {1: 9.0})
            desk.levels(0, levels)
            desk.publish({1: np.ones((1, 128), np.float32)})
            heard.append(decoded(desk.serve(0)[0])[0])
    assert np.all(heard[1] == 0)
    np.testing.assert_allclose(heard[2], np.arange(1, 129) / 128, atol=1e-6)


def test_another_lane_takes_over_without_a_burst() -> None:
    """What is muted stays muted while all else fades in."""
    with desk_of() as desk:
        desk.listener(0, bits=32)
        desk.mode(PatchMode.FULL_MIX)
        desk.levels(0, {1: 0.0})
        for _ in range(3):
            desk.publish({1: np.ones((1, 128), np.float32)})
            desk.serve(0)
        desk.lane = make_lane(3, 128, 48000)
        adopt(desk.arena, 0, 0, desk.lane)
        desk.publish({1: np.ones((1, 128), np.float32), 2: np.full((2, 128), 0.5, np.float32)})
        (datagram,) = desk.serve(0)
    np.testing.assert_allclose(decoded(datagram)[0], 0.5 * np.arange(1, 129) / 128, atol=1e-6)


def test_client_that_comes_back_hears_no_burst_of_whom_it_muted() -> None:
    """A reconnect keeps its levels: they must rise from silence with the new stream."""
    with desk_of() as desk:
        desk.listener(0, bits=32)
        desk.mode(PatchMode.FULL_MIX)
        desk.levels(0, {1: 0.0})
        for _ in range(3):
            desk.publish({1: np.ones((1, 128), np.float32)})
            desk.serve(0)
        desk.listener(0, bits=32, session=SESSION + 1)
        desk.publish({1: np.ones((1, 128), np.float32)})
        (datagram,) = desk.serve(0)
        assert parse_datagram(datagram)[0].sequence == 0
    assert np.all(np.abs(decoded(datagram)[0]) < 1e-6)


def test_levels_of_what_is_sent() -> None:
    period = 480
    with desk_of(period=period) as desk:
        desk.listener(0, frames=period)
        desk.mode(PatchMode.FULL_MIX)
        rng, sent = np.random.default_rng(3), []
        for _ in range(20):
            strip = noise(rng, 2, period)
            sent.append(strip.astype(np.float64))
            desk.publish({1: strip})
            desk.serve(0)
        window = np.concatenate(sent[10:], axis=1)
        tx = desk.arena.tx[0]
        assert tx["peak"] == pytest.approx(np.abs(window).max())
        assert tx["rms"] == pytest.approx(math.sqrt(np.mean(window**2)), rel=1e-6)


def test_clipping_is_the_encoders_and_counted() -> None:
    with desk_of() as desk:
        desk.listener(0)
        desk.mode(PatchMode.FULL_MIX)
        loud = np.full((2, 128), 0.75, np.float32)
        for _ in range(2):
            desk.publish({1: loud, 2: -loud})
            desk.serve(0)
        assert desk.arena.tx[0]["clipped"] == 0  # what cancels out is not clipped
        desk.publish({1: loud, 2: loud})
        samples = np.frombuffer(desk.serve(0)[0][16:], "<i2")
        assert np.all(samples == 32767)
        assert desk.arena.tx[0]["clipped"] == 256


@pytest.mark.parametrize("lanes", [0, 1, 2, 3])
def test_lanes_share_the_listeners(lanes: int) -> None:
    """Every active listener is served once, by the lane its slot belongs to."""
    with desk_of(slots=7) as desk:
        for slot in range(7):
            desk.listener(slot)
        desk.arena.rx[3]["state"] = RxState.KNOCKING
        desk.lane.sessions[4] += 1  # a socket of another session
        desk.lane.fds[5] = -1
        served = []
        desk.publish({})
        for index in range(1, lanes + 1) if lanes else [0]:
            before = desk.arena.tx["packets"].copy()
            count = serve_tick(desk.arena, index, lanes, desk.tick, desk.wall_us, desk.lane)
            mine = np.flatnonzero(desk.arena.tx["packets"] - before).tolist()
            assert len(mine) == count
            assert all(lanes == 0 or slot % lanes == index - 1 for slot in mine)
            served += mine
    assert sorted(served) == [0, 1, 2, 6]


def test_source_is_the_clients_own_port() -> None:
    """The client sees the datagrams come from the socket it was told to use."""
    with desk_of() as desk:
        desk.listener(0)
        desk.publish({})
        serve_listener(desk.arena, 0, desk.tick, desk.hub.fileno(), desk.wall_us, desk.lane)
        assert desk.ear.recvfrom(4096)[1] == desk.hub.getsockname()


def test_a_connected_socket_needs_no_address_and_another_ones_trouble_is_not_its_own() -> None:
    """Of two clients on one port one is gone: what comes back for it costs the other nothing."""
    ticks = 20
    with (
        desk_of(slots=2) as desk,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as first,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as second,
    ):
        gone.bind(("127.0.0.1", 0))
        nowhere = gone.getsockname()
        gone.close()
        for sock in (first, second):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        first.bind(("127.0.0.1", 0))
        second.bind(first.getsockname())
        first.connect(nowhere)
        second.connect(desk.ear.getsockname())
        for slot, sock in enumerate((first, second)):
            desk.listener(slot)
            desk.arena.slots[slot]["connected"] = SESSION
            desk.arena.rx[slot]["sockaddr"] = 0  # nobody needs it
            desk.lane.fds[slot] = sock.fileno()
        for _ in range(ticks):
            desk.publish({})
            serve_tick(desk.arena, 0, 0, desk.tick, desk.wall_us, desk.lane)
        sources = []
        for _ in range(ticks):
            sources.append(desk.ear.recvfrom(4096)[1])
        assert desk.arena.tx[0]["errors"] > 0
        assert (desk.arena.tx[1]["errors"], desk.arena.tx[1]["packets"]) == (0, ticks)
        assert set(sources) == {second.getsockname()}


def test_a_full_buffer_is_its_own_clients_alone() -> None:
    """A socket that takes nothing more is an error of one listener; the next is served at once."""
    with (
        desk_of(slots=2) as desk,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as full,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf,
    ):
        deaf.bind("")  # the kernel chooses a name that is in no file system
        full.connect(deaf.getsockname())
        for slot in range(2):
            desk.listener(slot)
        desk.arena.slots[0]["connected"] = SESSION
        desk.lane.fds[0] = full.fileno()
        heard = []
        for _ in range(200):
            desk.publish({})
            serve_tick(desk.arena, 0, 0, desk.tick, desk.wall_us, desk.lane)
            heard += desk.heard()
        tx = desk.arena.tx
        assert tx[0]["packets"] > 0
        assert tx[0]["errors"] == 200 - tx[0]["packets"] > 0
        assert (tx[1]["packets"], tx[1]["errors"], len(heard)) == (200, 0, 200)


def test_another_sessions_connection_is_none() -> None:
    with desk_of() as desk:
        desk.listener(0)
        desk.arena.slots[0]["connected"] = SESSION + 1
        desk.publish({})
        assert len(desk.serve(0)) == 1


@pytest.mark.parametrize("mode", MODES)
def test_who_is_held_is_sent_silence_and_fades_in_when_admitted(mode: PatchMode) -> None:
    with desk_of() as desk:
        desk.listener(0, bits=32)
        desk.mode(mode)
        strips = {0: np.full((2, 128), 0.25, np.float32), 1: np.ones((2, 128), np.float32)}
        given = {PatchMode.LOOPBACK: 0.25, PatchMode.FULL_MIX: 1.25, PatchMode.FAN_OUT_NO_SELF: 1.0}
        heard = []
        for held in (1, 1, 0, 0, 1, 1):
            desk.arena.slots[0]["held"] = held
            desk.publish(strips)
            heard.append(decoded(desk.serve(0)[-1])[0])
    none, ramp, whole = np.zeros(128), np.arange(1, 129) / 128, np.ones(128)
    shares = np.stack([none, none, ramp, whole, 1 - ramp, none])
    np.testing.assert_allclose(np.stack(heard), given.get(mode, 0.0) * shares, atol=1e-6)
