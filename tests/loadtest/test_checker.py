"""The judge against streams whose every sample and number is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.checker import DUPLICATE, account, check, judge
from loadtest.plan import Plan
from loadtest.state import BUCKETS, CLIENT, LATENCY, NEVER, State, make_schedule, make_state
from shared.layout import PatchMode
from tests.loadtest import naive

FIRST, LAST, PACKETS = 5, 125, 150
MODES = [PatchMode.LOOPBACK, PatchMode.FAN_OUT_NO_SELF, PatchMode.FULL_MIX, PatchMode.NONE]
LATENCY_NS = 3_000_000

Change = Callable[[int, naive.Pcm], naive.Pcm | None]


def plan_of(mode: PatchMode, clients: int = 3) -> Plan:
    return Plan(clients=clients, mode=mode, frames=32, talk_packets=3, pause_packets=6)


def listen(
    plan: Plan,
    listener: int,
    delay: Callable[[int, int], int] = lambda talker, listener: 0,
    change: Change = lambda packet, pcm: pcm,
) -> State:
    """Let the judge hear what a right hub would return, changed packet by packet."""
    schedule, state = make_schedule(plan), make_state(plan, 1)
    run, client = state.run[0], state.clients[listener]
    run["first"], run["last"] = FIRST, LAST
    run["opened_ns"], run["closed_ns"] = 0, NEVER
    sources = [naive.source(plan, FIRST, LAST, k, PACKETS) for k in range(plan.clients)]
    stream = naive.returned(plan, sources, listener, delay)
    period_ns = round(plan.period_ns)
    for packet in range(PACKETS):
        run["packet"] = packet
        state.sent_ns[:, packet % state.sent_ns.shape[1]] = packet * period_ns
        pcm = change(packet, stream[:, packet * plan.frames : (packet + 1) * plan.frames].copy())
        if pcm is not None:
            judge(
                schedule, run, client, listener, packet & 0xFFFF, pcm.ravel().astype(np.int16),
                packet * period_ns + LATENCY_NS, period_ns, state.sent_ns, state.histograms,
            )  # fmt: skip
    return state


def expected_voices(plan: Plan, listener: int) -> int:
    return sum(
        naive.speaks(plan, FIRST, LAST, talker, packet)
        for talker in range(plan.clients)
        for packet in range(PACKETS)
        if plan.mode != PatchMode.NONE
        and (plan.mode != PatchMode.LOOPBACK or talker == listener)
        and (plan.mode != PatchMode.FAN_OUT_NO_SELF or talker != listener)
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("offset", [0, 1, 31, 32, 45])
def test_a_right_stream_has_no_fault_at_any_delay(mode: PatchMode, offset: int) -> None:
    plan = plan_of(mode)

    client = listen(plan, 1, lambda talker, listener: offset + 17 * talker).clients[1]

    assert (client["wrong"], client["silent"], client["shifts"]) == (0, 0, 0)
    assert client["heard"] == expected_voices(plan, 1)
    assert client["checked"] == client["returned"] == PACKETS
    assert client["lost"] == 0


def test_latency_is_counted_a_voice_packet() -> None:
    plan = plan_of(PatchMode.LOOPBACK, clients=1)

    state = listen(plan, 0, lambda talker, listener: 2 * 32)

    ns = LATENCY_NS + 2 * round(plan.period_ns)
    assert state.clients[0]["latency_max_ns"] == ns
    assert state.histograms[LATENCY, -(-ns // 1000)] == state.histograms[LATENCY].sum()
    assert state.histograms[LATENCY].sum() == LAST - FIRST


def voiced(pcm: naive.Pcm) -> bool:
    return bool(pcm.any())


def half_gain(packet: int, pcm: naive.Pcm) -> naive.Pcm:
    return pcm // 2


def swapped(packet: int, pcm: naive.Pcm) -> naive.Pcm:
    return pcm[::-1]


def noise(packet: int, pcm: naive.Pcm) -> naive.Pcm:
    pcm[0, 3] += 1
    return pcm


@pytest.mark.parametrize("change", [half_gain, swapped, noise])
@pytest.mark.parametrize("mode", [PatchMode.LOOPBACK, PatchMode.FULL_MIX])
def test_wrong_samples_are_counted(mode: PatchMode, change: Change) -> None:
    client = listen(plan_of(mode), 1, change=change).clients[1]

    assert client["wrong"] > 0
    assert client["heard"] < expected_voices(plan_of(mode), 1)


def test_one_wrong_packet_is_one_wrong_packet() -> None:
    def change(packet: int, pcm: naive.Pcm) -> naive.Pcm:
        return pcm + 1 if packet == 50 else pcm

    client = listen(plan_of(PatchMode.LOOPBACK), 1, lambda t, j: 40, change).clients[1]

    assert (client["wrong"], client["silent"], client["shifts"]) == (1, 0, 0)


def test_silence_in_place_of_a_voice_is_told_apart() -> None:
    def change(packet: int, pcm: naive.Pcm) -> naive.Pcm:
        return 0 * pcm if packet in (50, 51) else pcm

    client = listen(plan_of(PatchMode.LOOPBACK), 1, change=change).clients[1]

    assert (client["wrong"], client["silent"]) == (0, 2)
    assert client["heard"] == expected_voices(plan_of(PatchMode.LOOPBACK), 1) - 2


def test_own_voice_at_minus_60_db_is_a_leak() -> None:
    plan = plan_of(PatchMode.FAN_OUT_NO_SELF)
    own = naive.source(plan, FIRST, LAST, 1, PACKETS)

    def change(packet: int, pcm: naive.Pcm) -> naive.Pcm:
        return pcm + own[:, packet * 32 : (packet + 1) * 32] // 1000

    client = listen(plan, 1, change=change).clients[1]

    assert client["leaks"] == client["wrong"] > 0
    assert client["heard"] == expected_voices(plan, 1)


def test_a_stream_that_goes_on_at_another_delay_is_followed() -> None:
    plan = plan_of(PatchMode.LOOPBACK, clients=1)
    own = naive.source(plan, FIRST, LAST, 0, PACKETS)

    def change(packet: int, pcm: naive.Pcm) -> naive.Pcm:
        start = packet * 32 - (7 if packet >= 60 else 0)
        return own[:, start : start + 32] if packet else pcm

    client = listen(plan, 0, change=change).clients[0]

    assert (client["wrong"], client["shifts"]) == (1, 1)
    assert client["heard"] >= LAST - FIRST - 2


def test_a_lost_packet_is_lost_and_nothing_else() -> None:
    def change(packet: int, pcm: naive.Pcm) -> naive.Pcm | None:
        return None if packet == 50 else pcm

    client = listen(plan_of(PatchMode.LOOPBACK), 1, change=change).clients[1]

    assert (client["lost"], client["wrong"], client["silent"]) == (1, 0, 0)


def test_sound_where_there_should_be_none_is_wrong() -> None:
    def change(packet: int, pcm: naive.Pcm) -> naive.Pcm:
        return pcm + 3

    client = listen(plan_of(PatchMode.NONE), 1, change=change).clients[1]

    assert client["wrong"] == PACKETS


@settings(deadline=None)  # the first call compiles
@given(
    st.integers(0, 0xFFFF),
    st.lists(st.sampled_from([1, 1, 1, 1, 2, 3, 40]), min_size=1, max_size=80),
    st.lists(st.tuples(st.integers(0, 79), st.integers(0, 50)), max_size=12),
)
def test_numbers_are_accounted_like_sets(
    start: int, steps: list[int], repeats: list[tuple[int, int]]
) -> None:
    numbers = [start]
    for step in steps:
        numbers.append(numbers[-1] + step)
    for where, back in repeats:  # something older comes again, or late
        at = where % len(numbers)
        numbers.insert(at + 1, max(start, numbers[at] - back))
    client = np.zeros(1, CLIENT)
    spacing = np.zeros(BUCKETS, np.int64)
    twin = naive.Numbering()
    twice = 0

    for number in numbers:
        twin.take(number & 0xFFFF)
        twice += account(client[0], number & 0xFFFF, 0, 0, True, spacing) == DUPLICATE

    assert client[0]["duplicates"] == twin.duplicates == twice
    assert client[0]["reordered"] == twin.reordered
    assert client[0]["lost"] == twin.lost
    assert client[0]["returned"] == len(twin.seen)


def test_a_jump_of_the_numbering_is_a_restart_and_no_loss() -> None:
    client = np.zeros(1, CLIENT)
    spacing = np.zeros(BUCKETS, np.int64)

    for number in (10, 11, 30000, 30001):
        account(client[0], number, 0, 0, True, spacing)

    assert (client[0]["restarts"], client[0]["lost"], client[0]["returned"]) == (1, 0, 4)


def test_check_is_silent_before_anything_sounds() -> None:
    plan = plan_of(PatchMode.FULL_MIX)
    schedule, state = make_schedule(plan), make_state(plan, 1)
    pcm = np.zeros(plan.channels * plan.frames, np.int16)

    check(
        schedule, state.run[0], state.clients[0], 0, 0, pcm, 0, state.sent_ns,
        state.histograms[LATENCY],
    )  # fmt: skip

    assert state.clients[0]["checked"] == 1
    assert state.clients[0]["wrong"] == 0
