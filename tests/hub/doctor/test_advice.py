"""What is recommended, for networks of all kinds."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.doctor.advice import LEAST_QUEUE, MOST_COPIES, MOST_QUEUE, SIZES, Measured, advise

GOOD = Measured("hub.example.org", late_s=0.0008, uses_redundancy=True, longest_payload=1472)


def measured(**changes: object) -> Measured:
    fields = {name: getattr(GOOD, name) for name in Measured.__slots__}
    return Measured(**{**fields, **changes})


def test_a_good_line_needs_next_to_nothing() -> None:
    advice = advise(GOOD)
    assert (advice.queue, advice.redundancy) == (2, 1)
    assert advice.command == "jacktrip -C hub.example.org -n 2 -q 2"


@pytest.mark.parametrize(
    ("late_s", "queue"), [(0.0, 2), (0.002, 2), (0.003, 3), (0.008, 5), (0.030, 13)]
)
def test_the_queue_waits_for_what_is_late(late_s: float, queue: int) -> None:
    # 128 frames are 2.67 ms, of which 0.2 are kept for the sound card
    advice = advise(measured(late_s=late_s, hub_frames=128))
    assert (advice.frames, advice.queue) == (128, queue)


def test_a_hubs_own_packet_size_is_kept() -> None:
    advice = advise(measured(hub_frames=256))
    assert advice.frames == 256
    assert "hub's own" in advice.frames_why


def test_losses_are_mended_by_copies_where_the_hub_makes_use_of_them() -> None:
    lossy = {"lost_share": 0.01, "runs": {1: 50}}
    assert advise(measured(**lossy)).redundancy == 2
    assert " -r 2" in advise(measured(**lossy)).command
    assert advise(measured(lost_share=0.01, runs={1: 20, 2: 15})).redundancy == 3
    assert advise(measured(lost_share=0.02, runs={1: 50, 2: 20, 3: 9})).redundancy == MOST_COPIES
    wasted = advise(measured(**lossy, uses_redundancy=False))
    assert wasted.redundancy == 1
    assert "no use of copies" in wasted.redundancy_why


def test_what_is_lost_in_long_runs_is_not_mended_by_copies() -> None:
    """Four times the bandwidth would make a crowded line worse."""
    advice = advise(measured(lost_share=0.2, runs={30: 9}))
    assert advice.redundancy == 1
    assert "up to 30 together" in advice.redundancy_why
    partly = advise(measured(lost_share=0.02, runs={1: 90, 30: 1}))
    assert partly.redundancy == 2
    assert "75 %" in partly.redundancy_why


def test_losses_there_are_not_said_to_be_single() -> None:
    advice = advise(measured(lost_share=0.01, runs={}))
    assert advice.redundancy == 2
    assert "single losses" in advice.redundancy_why


def test_the_delay_is_what_was_measured_and_ones_own_queue() -> None:
    advice = advise(measured(hub_frames=128, sound_s=0.020, late_s=0.003, round_trip_s=0.004))
    assert advice.queue == 3
    assert advice.delay_s == pytest.approx(0.020 + 4 * 128 / 48_000, abs=1e-6)


def test_a_copy_comes_later_and_is_waited_for() -> None:
    plain = advise(measured(hub_frames=128))
    copied = advise(measured(hub_frames=128, lost_share=0.01, runs={1: 50}))
    assert copied.queue == plain.queue + 1


def test_packets_stay_whole_where_they_can() -> None:
    advice = advise(measured(longest_payload=1000, lost_share=0.01, runs={1: 50}, hub_frames=128))
    assert advice.redundancy == 1
    assert "longer than the path" in advice.redundancy_why
    assert advice.whole


def test_a_slow_computer_gets_longer_packets() -> None:
    advice = advise(measured(sent_late_s=0.002))
    assert advice.frames == 256
    assert "keep up" in advice.frames_why


def test_short_packets_only_where_they_win_something() -> None:
    assert advise(measured(late_s=0.0, sent_late_s=0.0001)).frames == 64
    # on a jittering line the queue is what it is
    assert advise(measured(late_s=0.0125, sent_late_s=0.0001)).frames == 128


@given(
    st.builds(
        Measured,
        host=st.just("h"),
        channels=st.integers(1, 16),
        bits=st.sampled_from([8, 16, 24, 32]),
        late_s=st.floats(0, 1),
        sent_late_s=st.floats(0, 1),
        lost_share=st.floats(0, 1),
        runs=st.dictionaries(st.integers(1, 40), st.integers(1, 99), max_size=4),
        hub_frames=st.none() | st.sampled_from([16, 64, 480, 1024]),
        uses_redundancy=st.none() | st.booleans(),
        longest_payload=st.none() | st.integers(100, 1472),
    )
)
def test_whatever_was_measured_there_is_advice(measured: Measured) -> None:
    advice = advise(measured)
    assert LEAST_QUEUE <= advice.queue <= MOST_QUEUE
    assert 1 <= advice.redundancy <= MOST_COPIES
    assert advice.frames in SIZES or advice.frames == measured.hub_frames
    assert math.isfinite(advice.delay_s)
    assert advice.queue_why
    assert advice.redundancy_why
    assert advice.frames_why
