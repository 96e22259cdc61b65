"""Hours of clients whose clocks are off: minutes of them here, and the page's table."""

from __future__ import annotations

import numpy as np
import pytest

from loadtest.benchmarks import hours, record
from loadtest.benchmarks.record import RATE_HZ, HourRow, Hours
from loadtest.benchmarks.render import insert
from shared.layout import DriftMode
from tests.kernels import hub_hours
from tests.loadtest.benchmarks.rows import PROVENANCE

SECONDS = 190.0
"""Packets' numbers begin anew after 175."""
NO_CLICK_DB = -80.0


def stay(ppm: float, queue: str, *, drift: DriftMode = DriftMode.AUTO) -> HourRow:
    sent, came, stalled = hours.way(ppm, True, SECONDS, 2)
    found, end = hub_hours.follow(
        came, sent, ppm=ppm, rate_hz=RATE_HZ, queue=0 if queue == "auto" else int(queue),
        drift=drift,
    )  # fmt: skip
    return hours.judged(ppm, queue, SECONDS, found, end, stalled)


def test_figures_are_those_of_the_hubs_process() -> None:
    assert hours.FIGURES == hub_hours.FIGURES
    assert hours.FRAMES == hub_hours.FRAMES


@pytest.mark.timeout(400)  # it may have to compile the receiver
@pytest.mark.parametrize("queue", hours.QUEUES)
@pytest.mark.parametrize("ppm", [-300.0, 300.0])
def test_a_clock_that_is_off_costs_nothing_but_what_the_network_does(
    ppm: float, queue: str
) -> None:
    row = stay(ppm, queue)
    assert row.stalls == 3
    assert row.followed_s <= 5
    assert (row.skips, row.restarts, row.starved) == (0, 0, 0)
    assert row.late > 0
    assert (row.late_calm, row.gaps_calm) == (0, 0)
    assert row.gaps <= 2 * row.stalls
    assert row.click_db < NO_CLICK_DB
    assert row.ratio_off_ppm < 1.0
    if queue == "4":
        assert row.longest_ms - row.shortest_ms < 0.5


@pytest.mark.timeout(400)
def test_a_clock_that_nobody_follows_is_noticed() -> None:
    row = stay(300.0, "4", drift=DriftMode.OFF)
    assert row.skips > 0
    assert row.click_db > NO_CLICK_DB
    assert row.longest_ms - row.shortest_ms > 2.0


def test_one_frame_too_many_is_the_click_that_the_page_says() -> None:
    turns = hub_hours.TURNS / (hub_hours.PACKETS * hub_hours.FRAMES)
    sine = hub_hours.LEVEL * np.sin(2 * np.pi * turns * np.arange(1000))
    slipped = np.delete(sine, np.arange(100, 1000, 37))
    deviation = slipped[2:] + slipped[:-2] - 2 * np.cos(2 * np.pi * turns) * slipped[1:-1]
    assert 20 * np.log10(np.abs(deviation).max()) == pytest.approx(-23, abs=1)


def test_page_shows_the_newest_results_and_nothing_else() -> None:
    """When this fails: python -m loadtest.benchmarks.hours"""
    newest = record.newest(Hours)
    assert newest is not None
    page = hours.PAGE.read_text()
    assert page == insert(page, hours.content(newest), hours.BEGIN, hours.END)


def test_table_has_the_worse_of_both_signs() -> None:
    rows = [
        HourRow(ppm, "4", stalls, 1.0, 1000, 5, 9 * stalls, 0, stalls, 0, 0, 0, 0, db, 10.1, most,
                0.2)
        for stalls in (0, 60)
        for ppm, db, most in ((-50.0, -91.0, 10.4), (50.0, -88.0, 10.8))
    ]  # fmt: skip
    text = hours.content(Hours(PROVENANCE, {}, rows))
    assert "| 1 ms of jitter | ±50 ppm | 4 | 0 | 0 | 0 | −88 dB | 10.1 to 10.8 ms |" in text
    assert "| 1 ms of jitter, 120 stalls | ±50 ppm | 4 | 1080 (0) | 120 (0) | 0 |" in text
    assert "2000 packets a line" in text
