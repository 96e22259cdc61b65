"""The voices against their formula, and what makes them fit for the purpose."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.plan import Plan
from loadtest.signals import (
    SYNC,
    audible,
    fill_voice,
    find_sync,
    sounds,
    speaks,
    talker_of,
    voice_differs,
)
from loadtest.state import make_schedule, make_state
from shared.layout import PatchMode
from tests.loadtest import naive

TALKERS = st.integers(0, 7999)
PACKETS = st.integers(0, 1 << 24)


def test_every_sample_passes_a_16_bit_hub_exactly() -> None:
    values = np.arange(2 * SYNC)

    decoded = values.astype(np.float32) / np.float32(32768)

    assert (np.round(decoded.astype(np.float64) * 32767) == values).all()


@settings(deadline=None)  # the first call compiles
@given(TALKERS, PACKETS, st.integers(16, 256), st.integers(1, 4))
def test_a_voice_packet_is_its_formula(
    talker: int, packet: int, frames: int, channels: int
) -> None:
    plan = Plan(frames=frames, channels=channels)
    pcm = np.zeros(channels * frames, np.int16)

    fill_voice(frames, channels, talker, packet, pcm)

    assert (pcm.reshape(channels, frames) == naive.voice(plan, talker, packet)).all()
    assert np.flatnonzero(pcm >= SYNC).tolist() == [0]


@settings(deadline=None)  # the first call compiles
@given(TALKERS, PACKETS, st.data())
def test_one_changed_sample_is_seen(talker: int, packet: int, data: st.DataObject) -> None:
    frames, channels = 32, 2
    pcm = np.zeros(channels * frames, np.int16)
    fill_voice(frames, channels, talker, packet, pcm)
    assert not voice_differs(pcm, frames, channels, 0, frames, talker, packet, 0)

    where = data.draw(st.integers(0, pcm.size - 1))
    pcm[where] += data.draw(st.sampled_from([-1, 1]))

    assert voice_differs(pcm, frames, channels, 0, frames, talker, packet, 0)


@settings(deadline=None)  # the first call compiles
@given(st.integers(1, 31), TALKERS, PACKETS)
def test_a_part_is_compared_from_any_sample_on(n0: int, talker: int, packet: int) -> None:
    frames, channels = 32, 2
    pcm = np.zeros((channels, frames), np.int16)
    pcm[:, : frames - n0] = naive.voice(Plan(frames=frames), talker, packet)[:, n0:]

    assert not voice_differs(pcm.ravel(), frames, channels, 0, frames - n0, talker, packet, n0)
    assert not sounds(pcm.ravel(), frames, channels, frames - n0, frames)


def test_swapped_channels_clients_and_packets_differ() -> None:
    frames, channels = 64, 2
    pcm = np.zeros((channels, frames), np.int16)
    fill_voice(frames, channels, 5, 100, pcm.ravel())
    swapped = pcm[::-1].copy().ravel()

    assert voice_differs(swapped, frames, channels, 0, frames, 5, 100, 0)
    assert voice_differs(pcm.ravel(), frames, channels, 0, frames, 6, 100, 0)
    assert voice_differs(pcm.ravel(), frames, channels, 0, frames, 5, 101, 0)


def test_the_first_sample_is_found_at_any_offset() -> None:
    pcm = np.zeros(128, np.int16)
    assert find_sync(pcm, 128) == -1
    pcm[77] = SYNC + 5

    assert find_sync(pcm, 128) == 77


@settings(deadline=None)  # the first call compiles
@given(
    st.sampled_from([PatchMode.LOOPBACK, PatchMode.FAN_OUT_NO_SELF, PatchMode.FULL_MIX]),
    st.integers(1, 9),
    st.integers(0, 400),
)
def test_who_speaks_follows_the_plan(mode: PatchMode, clients: int, packet: int) -> None:
    plan = Plan(clients=clients, mode=mode, talk_packets=3, pause_packets=4)
    schedule, run = make_schedule(plan), make_state(plan, 1).run
    run["first"], run["last"] = 20, 320

    for client in range(clients):
        speaking = naive.speaks(plan, 20, 320, client, packet)
        assert speaks(schedule, run[0], client, packet) == speaking
        if speaking:
            assert talker_of(schedule, run[0], client, packet) == client
        own = audible(schedule, run[0], client, client, packet)
        assert own == (speaking and mode != PatchMode.FAN_OUT_NO_SELF)


def test_nobody_speaks_before_the_window_is_known() -> None:
    plan = Plan(clients=1, mode=PatchMode.LOOPBACK)
    schedule, run = make_schedule(plan), make_state(plan, 1).run

    assert not any(speaks(schedule, run[0], 0, packet) for packet in range(10))
