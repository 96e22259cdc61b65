"""Loss, order, clock and lateness of a hub's packets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.doctor.pace import CERTAIN, Interruption, follow, in_time, lateness, order, unwrap

PERIOD_S = 128 / 48_000


def at_ns(numbers: np.ndarray, ppm: float = 0.0) -> np.ndarray:
    """Punctual packets of a clock that is so much faster than ours."""
    return np.rint(numbers * PERIOD_S / (1 + ppm / 1e6) * 1e9).astype(np.int64) + 10**12


@given(
    st.integers(0, 65535),
    st.lists(st.integers(-5, 300).filter(lambda step: step != 0), max_size=200),
)
def test_numbers_are_unwrapped_whatever_the_order(first: int, steps: list[int]) -> None:
    numbers = first + np.cumsum([0, *steps])
    found = unwrap([int(number) % 65536 for number in numbers])
    # each is counted from the highest before it, so that small steps back change nothing
    np.testing.assert_array_equal(found - found[0], numbers - first)


@given(st.data())
def test_every_packet_is_accounted_for(data: st.DataObject) -> None:
    fates = data.draw(st.lists(st.sampled_from(["come", "lose", "double"]), min_size=3))
    numbers = np.array(
        [k for k, fate in enumerate(["come", *fates, "come"]) for _ in range(_copies(fate))],
        np.int64,
    )
    found = order(numbers, at_ns(numbers), PERIOD_S)

    assert found.received == len(set(numbers.tolist()))
    assert found.duplicates == fates.count("double")
    standing = sum(round(each.for_s / PERIOD_S) - 1 for each in found.interruptions)
    assert found.lost + standing == fates.count("lose")
    assert found.reordered == 0


def _copies(fate: str) -> int:
    return {"come": 1, "lose": 0, "double": 2}[fate]


def test_runs_of_lost_packets() -> None:
    numbers = np.array([n for n in range(1000) if n not in (5, 50, 51, 52, 700)], np.int64)
    found = order(numbers, at_ns(numbers), PERIOD_S)
    assert (found.lost, found.runs, found.longest_run) == (5, {1: 2, 3: 1}, 3)
    assert found.lost_share == 0.005


def test_overtaken_packets() -> None:
    numbers = np.array([0, 1, 3, 2, 4, 6, 7, 5, 8], np.int64)
    found = order(numbers, at_ns(np.arange(9)), PERIOD_S)
    assert (found.reordered, found.lost) == (2, 0)


def test_a_standing_line_is_an_interruption_and_no_loss() -> None:
    numbers = np.concatenate([np.arange(750), np.arange(900, 1200)])
    found = order(numbers, at_ns(numbers), PERIOD_S)
    assert found.lost == 0
    assert found.interruptions == (Interruption(1.997, 0.403),)


def test_numbers_that_begin_anew_are_no_interruption() -> None:
    numbers = np.concatenate([np.arange(750), np.arange(9000, 9300)])
    found = order(numbers, at_ns(np.arange(1050)), PERIOD_S)
    assert (found.received, found.lost, found.interruptions) == (1050, 0, ())


def test_nothing_came() -> None:
    nothing = np.zeros(0, np.int64)
    assert order(nothing, nothing, PERIOD_S).received == 0
    assert follow(nothing, nothing, PERIOD_S)[0].ppm is None
    assert lateness(np.zeros(0)).worst_s == 0.0


@pytest.mark.parametrize("ppm", [-180.0, -20.0, 0.0, 35.0, 300.0])
def test_the_hubs_clock_is_found_under_jitter(ppm: float) -> None:
    random = np.random.default_rng(3)
    numbers = np.arange(5600)
    came = at_ns(numbers, ppm) + np.rint(random.exponential(3e5, len(numbers))).astype(np.int64)
    clock, _ = follow(numbers, came, PERIOD_S)
    assert clock.ppm is not None
    assert clock.error_ppm is not None
    assert abs(clock.ppm - ppm) < max(4 * clock.error_ppm, 2.0)
    assert clock.error_ppm < 5.0


def test_a_path_that_grows_is_no_clock() -> None:
    numbers = np.arange(5600)
    came = at_ns(numbers)
    came[2800:2900] += 8_000_000
    clock, late_s = follow(numbers, came, PERIOD_S)
    assert clock.ppm == pytest.approx(0.0, abs=1.0)
    assert lateness(late_s).worst_s == pytest.approx(0.008, rel=0.01)


@pytest.mark.parametrize("where", [0.2, 0.5, 0.8])
def test_a_path_that_becomes_longer_for_good_is_no_clock(where: float) -> None:
    numbers = np.arange(5600)
    came = at_ns(numbers)
    came[round(where * len(came)) :] += 5_000_000
    clock, _ = follow(numbers, came, PERIOD_S)
    assert clock.ppm is not None
    assert clock.error_ppm is not None
    assert abs(clock.ppm) - CERTAIN * clock.error_ppm < 50.0


def test_a_sound_card_that_has_not_the_rate_it_says() -> None:
    numbers = np.arange(5600)
    clock, late_s = follow(numbers, at_ns(numbers, 4000.0), PERIOD_S)
    assert clock.ppm == pytest.approx(4000.0, rel=0.01)
    assert lateness(late_s).worst_s < 1e-4


def test_a_standing_line_whose_packets_come_after_all() -> None:
    """As Wi-Fi does it: an interruption, nothing lost, and no queue would wait for it."""
    numbers = np.arange(5600)
    came = at_ns(numbers)
    held = (came > came[2000]) & (came < came[2000] + 300_000_000)
    came[held] = came[2000] + 300_000_000 + np.arange(np.count_nonzero(held)) * 100_000
    found = order(numbers, came, PERIOD_S)
    (still,) = found.interruptions
    assert still.for_s == pytest.approx(0.3, abs=0.005)
    assert found.lost == 0
    _, late_s = follow(numbers, came, PERIOD_S)
    assert lateness(late_s).needed_s > 0.09
    assert lateness(in_time(late_s, PERIOD_S)).needed_s < 0.003


def test_what_all_but_one_in_2000_keep_within() -> None:
    late_s = np.zeros(20_000)
    late_s[:9] = 0.030
    late_s[9:100] = 0.004
    found = lateness(late_s)
    assert found.needed_s == 0.004
    assert found.worst_s == 0.030


def test_of_few_packets_the_worst_counts() -> None:
    late_s = np.linspace(0, 0.01, 500)
    assert lateness(late_s).needed_s == pytest.approx(0.01)
