"""Reduced figures are coarser, never wrong."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from loadtest.clients.state import BIN_KINDS, BIN_LOST, BIN_RETURNED, BIN_WRONG, BUCKETS
from loadtest.reporting.reduce import (
    MAX_BINS,
    MAX_CELLS,
    POINTS,
    distribution_of,
    quantile_us,
    spread_of,
    spread_of_values,
    timeline_of,
)
from loadtest.reporting.result import ResultError, Timeline, pack

times = st.lists(st.integers(0, BUCKETS - 1), max_size=300)


def histogram(values: list[int]) -> npt.NDArray[np.int64]:
    return np.bincount(np.array(values, np.int64), minlength=BUCKETS).astype(np.int64)


@given(times, st.floats(0.01, 1.0))
def test_quantile_is_the_smallest_value_that_enough_do_not_exceed(
    values: list[int], share: float
) -> None:
    found = quantile_us(histogram(values), share)

    wanted = max(1, int(np.ceil(share * len(values))))
    assert found == (sorted(values)[wanted - 1] if values else 0)


@given(times)
def test_distribution_is_exact_where_it_has_points(values: list[int]) -> None:
    reduced = distribution_of(histogram(values))

    assert len(reduced.edges_us) <= POINTS + 2
    assert sorted(set(reduced.edges_us)) == reduced.edges_us
    assert reduced.count == len(values)
    for edge, upto in zip(reduced.edges_us, reduced.cumulative, strict=True):
        assert upto == sum(value <= edge for value in values)


@given(times.filter(bool))
def test_distribution_reaches_from_the_first_entry_to_the_last(values: list[int]) -> None:
    reduced = distribution_of(histogram(values))

    assert reduced.edges_us[-1] == max(values)
    assert reduced.edges_us[0] == max(0, min(values) - 1)


def test_spread_takes_the_maximum_as_measured() -> None:
    assert spread_of(histogram([5, 5, 5, BUCKETS - 1]), 250_000.25).max == 250_000.2
    assert spread_of(histogram([])).count == 0
    assert spread_of(histogram([]), 12.0).max == 0.0


def test_spread_of_values() -> None:
    one = spread_of_values(np.arange(101, dtype=np.float64))

    assert (one.count, one.p50, one.p99, one.max) == (101, 50.0, 99.0, 100.0)


@given(
    arrays(np.int32, st.tuples(st.integers(1, 5), st.integers(1, 1500), st.just(6)),
           elements=st.integers(0, 400)),
    st.floats(0.05, 200.0),
)  # fmt: skip
def test_timeline_keeps_every_count(counts: npt.NDArray[np.int32], window_s: float) -> None:
    line = timeline_of(counts, 100_000_000, window_s, [])

    assert line.bins <= MAX_BINS
    for k, kind in enumerate(BIN_KINDS):
        assert sum(line.totals[kind]) == counts[:, :, k].sum()
        assert len(line.totals[kind]) == line.bins


@given(arrays(np.int32, st.tuples(st.integers(1, 5), st.just(700)), elements=st.integers(0, 400)))
def test_matrix_saturates_and_adds_up(lost: npt.NDArray[np.int32]) -> None:
    counts = np.zeros((*lost.shape, 6), np.int32)
    counts[:, :, BIN_LOST] = lost

    line = timeline_of(counts, 100_000_000, 70.0, [])

    factor = -(-700 // MAX_BINS)
    wide = np.minimum(lost.reshape(len(lost), -1, factor).sum(axis=2), 255)
    np.testing.assert_array_equal(line.matrix("lost"), wide)
    assert line.bin_s == pytest.approx(0.1 * factor)


def test_kinds_that_never_occurred_take_no_room() -> None:
    counts = np.zeros((3, 10, 6), np.int32)
    counts[1, 4, BIN_WRONG] = 2
    counts[0, :, BIN_RETURNED] = 37

    line = timeline_of(counts, 1_000_000_000, 10.0, [(0.0, 3)])

    assert set(line.matrices) == {"wrong", "present"}
    assert not line.matrix("lost").any()
    assert line.matrix("present").tolist() == [[1] * 10, [0] * 10, [0] * 10]


def test_matrices_of_many_clients_have_fewer_bins() -> None:
    line = timeline_of(np.zeros((300, 3600, 6), np.int32), 1_000_000_000, 3600.0, [])

    assert line.clients * line.bins <= MAX_CELLS


def test_playing_is_thinned_but_keeps_its_ends() -> None:
    playing = [(n / 100, n) for n in range(5000)]

    line = timeline_of(np.zeros((1, 50, 6), np.int32), 1_000_000_000, 50.0, playing)

    assert len(line.playing) <= MAX_BINS
    assert (line.playing[0], line.playing[-1]) == ([0.0, 0.0], [49.99, 4999.0])


@pytest.mark.parametrize("text", ["no base64!", "aGVsbG8=", pack(np.zeros((2, 2)))])
def test_damaged_matrix_is_said_to_be(text: str) -> None:
    line = Timeline(clients=3, bins=4, matrices={"lost": text})

    with pytest.raises(ResultError, match=r"timeline\.matrices\.lost: damaged"):
        line.matrix("lost")
