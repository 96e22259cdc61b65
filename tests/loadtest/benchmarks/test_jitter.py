"""The comparison of jitter buffers: its rules against plain twins, its traces, its page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.benchmarks import arrivals, estimators, jitter, record
from loadtest.benchmarks.arrivals import FRAMES, RATE_HZ, Trace

MS = RATE_HZ / 1e3
UNIT = estimators.BUCKET_S * RATE_HZ


def lateness_of(seed: int, count: int) -> arrivals.Doubles:
    """Ties and negative values included; none at the edge of a bucket."""
    rng = np.random.default_rng(seed)
    return np.round(rng.pareto(1.5, count) * MS) - 9.5


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1 << 32), st.sampled_from([1 / 3, 1 / 20, 1 / 90]), st.integers(1, 300))
def test_window_like_sorting(seed: int, share: float, packets: int) -> None:
    lateness = lateness_of(seed, 400)
    wanted = np.empty(400)
    estimators.window(lateness, share, packets, RATE_HZ, np.zeros(estimators.BUCKETS), wanted)
    for k in range(1, 400):
        seen = np.sort(lateness[max(0, k - packets) : k])
        least = seen[len(seen) - 1 - int(share * len(seen) + 1e-9)]
        assert wanted[k] - UNIT <= least < wanted[k]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1 << 32), st.sampled_from([0.9, 0.99, 0.999]))
def test_histogram_like_weighing(seed: int, forget: float) -> None:
    lateness = lateness_of(seed, 400)
    wanted = np.empty(400)
    estimators.histogram(lateness, 1 / 30, forget, RATE_HZ, np.zeros(estimators.BUCKETS), wanted)
    for k in range(1, 400, 7):
        weights = forget ** np.arange(k - 1, -1, -1.0)
        beyond = weights[lateness[:k] >= wanted[k]].sum()
        more = weights[lateness[:k] >= wanted[k] - UNIT].sum()
        assert beyond <= weights.sum() / 30 * (1 + 1e-9) <= more * (1 + 2e-9)


def test_histogram_that_is_renewed_goes_on() -> None:
    """So short a memory that weights grow beyond all bounds every 200 packets."""
    lateness = lateness_of(1, 3000)
    wanted, late = np.empty(3000), np.zeros(estimators.BUCKETS)
    estimators.histogram(lateness, 1 / 30, 0.9, RATE_HZ, late, wanted)
    again = np.empty(400)
    estimators.histogram(lateness[-400:], 1 / 30, 0.9, RATE_HZ, np.zeros(estimators.BUCKETS), again)
    assert np.array_equal(wanted[-100:], again[-100:])


def test_play_counts_and_shrinks_unheard() -> None:
    delay = np.zeros(1000)
    delay[500] = 96.0
    wanted = np.where(np.arange(1000) > 500, 64.0, 8.0)
    wanted[600:] = 8.0
    result = np.zeros(2)
    estimators.play(delay, np.zeros(1000), wanted, FRAMES, 0, result)
    shrinking = 64.0 - estimators.SHRINK * FRAMES * np.arange(1, 401)
    assert result[0] == 1 / 1000
    assert result[1] * 1000 == pytest.approx(501 * 8 + 99 * 64 + shrinking.sum())


def steady() -> Trace:
    """Half a minute without jitter."""
    return Trace("none", np.zeros(int(30 * RATE_HZ / FRAMES)))


def halting() -> Trace:
    """The same, with stalls of 15 ms each second."""
    sent = np.arange(int(30 * RATE_HZ / FRAMES)) * float(FRAMES)
    end = np.floor(sent / RATE_HZ) * RATE_HZ + 15 * MS
    return Trace("halting", np.maximum(end - sent, 0.0))


@pytest.mark.parametrize("rule", ["autoqueue", "regulator"])
def test_jacktrips_rules_lose_nothing_without_jitter(rule: str) -> None:
    rows = [row for row in jitter._jacktrip(steady()) if row.rule == rule]
    assert {row.late for row in rows} == {0.0}
    assert min(row.depth_ms for row in rows) < 9


def test_jacktrips_rules_trade_depth_for_late_packets() -> None:
    rows = [row for row in jitter._jacktrip(halting()) if row.rule == "regulator"]
    fixed = [row for row in rows if row.parameter >= 0]
    assert fixed[0].late > 1e-3 > fixed[-1].late
    assert fixed[-1].depth_ms - fixed[0].depth_ms == pytest.approx(20, abs=4)


@pytest.mark.parametrize("make", arrivals.MADE)
def test_traces_are_ordered_and_the_seeds_own(
    make: Callable[[int, np.random.Generator], Trace],
) -> None:
    trace, again, other = (make(5000, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert np.array_equal(trace.delay, again.delay)
    assert not np.array_equal(trace.delay, other.delay)
    assert trace.delay.min() >= 0
    assert np.all(np.diff(trace.arrivals) >= 0)


def test_hub_meets_the_target_where_it_is_run_again() -> None:
    """Shorter than the record, by the hub's kernels as they are now."""
    traces = arrivals.everyone(90, seed=5)[1:3]
    rows = jitter.measure(traces)
    chosen = [row for row in rows if (row.rule, row.memory_s, row.parameter) == jitter.CHOSEN]
    assert [row.trace for row in chosen] == ["wifi", "wired", "all"]
    assert max(row.late for row in chosen) < 1 / 1500
    assert max(row.depth_ms for row in chosen) < 4
    jacktrips = [row for row in rows if row.rule == "autoqueue" and row.parameter == 500]
    assert max(row.depth_ms for row in chosen) < min(row.depth_ms for row in jacktrips)


def test_record_is_read_back_and_drawn(tmp_path: Path) -> None:
    rows = jitter.read(newest())
    text = jitter.to_text(rows, {}, record.made_by(jitter.MODULE))
    (tmp_path / "jitter.json").write_text(text)
    assert jitter.read(tmp_path / "jitter.json") == rows
    jitter.draw(rows, tmp_path / "jitter.png")
    assert 10_000 < (tmp_path / "jitter.png").stat().st_size < 150 * 1024


def newest() -> Path:
    """The latest record."""
    return sorted(record.RESULTS.glob(f"{jitter.KIND}-*.json"))[-1]


def test_page_holds_the_newest_record() -> None:
    page = jitter.PAGE.read_text()
    table = jitter.markdown(jitter.read(newest()), jitter.provenance_of(newest()))
    assert jitter.inserted(page, table) == page


def test_page_without_a_place_is_refused() -> None:
    with pytest.raises(ValueError, match="no place for the table"):
        jitter.inserted("# Nothing here", "| table |")
