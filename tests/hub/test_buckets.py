"""How often a source may do something."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.buckets import Buckets
from hub.networks import source_key

ONE = (4, 1)


def test_few_sources_are_remembered() -> None:
    buckets = Buckets(2, 0.1, 50)
    for k in range(60):
        buckets.take((4, k), 0.0)
        buckets.take((4, k), 0.0)
    assert len(buckets) == 50
    assert not buckets.empty((4, 9), 0.0)
    assert buckets.empty((4, 10), 0.0)
    assert not buckets.empty((4, 10), 10.0)


def test_whoever_stops_may_soon_try_again() -> None:
    buckets = Buckets(20, 10 / 60, 50)
    for k in range(10_000):
        buckets.take(ONE, k / 100)
    assert buckets.empty(ONE, 100.0)
    assert not buckets.empty(ONE, 106.1)


@pytest.mark.parametrize(
    ("other", "shared"), [("fe80::2", False), ("2001:db8::2", True), ("2001:db8:0:1::2", False)]
)
def test_neighbours_by_link_are_sources_of_their_own(other: str, shared: bool) -> None:
    buckets = Buckets(1, 1.0, 50)
    for first in ("fe80::1", "2001:db8::1"):
        buckets.take(source_key(ip_address(first)), 0.0)
    assert buckets.empty(source_key(ip_address(other)), 0.0) is shared


_STEP = st.tuples(st.floats(0.0, 30.0), st.integers(0, 2))


@given(st.lists(_STEP, max_size=60), st.integers(1, 5))
def test_no_source_ever_gets_more_than_its_bucket_gives(
    steps: list[tuple[float, int]], depth: int
) -> None:
    now, per_s = 0.0, depth / 60.0
    buckets = Buckets(depth, per_s, 100)
    taken: list[tuple[float, int]] = []
    for pause, source in steps:
        now += pause
        if buckets.take((4, source), now):
            taken.append((now, source))
    for source in range(3):
        times = [at for at, who in taken if who == source]
        for i, first in enumerate(times):
            for count, last in enumerate(times[i:], 1):
                assert count <= depth + per_s * (last - first) + 1e-6


def test_a_clock_that_goes_back_gives_nothing_away() -> None:
    buckets = Buckets(1, 1.0, 100)
    assert buckets.take((4, 1), 100.0)
    assert buckets.empty((4, 1), 0.0)
    assert not buckets.take((4, 1), 0.0)
