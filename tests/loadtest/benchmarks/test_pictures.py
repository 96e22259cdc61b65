"""The pictures of the receive side: they are made, by the hub's kernels, and show what they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from loadtest.benchmarks import pictures
from loadtest.benchmarks.arrivals import FRAMES, RATE_HZ

MOST_BYTES = 120 * 1024
SECONDS = 14.0


def drawn(path: Path) -> None:
    assert 5_000 < path.stat().st_size < MOST_BYTES
    with Image.open(path) as image:
        assert image.size[0] == 920


def test_gap_is_drawn(tmp_path: Path) -> None:
    pictures.draw_gap(tmp_path / "gap.png", pictures.MATERIALS[:1])
    drawn(tmp_path / "gap.png")


def test_clock_is_found_and_followed(tmp_path: Path) -> None:
    found = pictures.draw_drift(tmp_path / "drift.png", SECONDS, seed=3)
    drawn(tmp_path / "drift.png")
    assert found["ratio"][-1] == pytest.approx(pictures.SKEW, abs=10e-6)
    assert found["resampling"][-1] == pictures.FOLLOWING
    assert found["gaps"][-1] == found["skips"][-1] == 0
    sent, arrivals = pictures.drifting(SECONDS, 3)
    assert abs(pictures.delay_error(found, sent, arrivals)[-1]) < 24
    assert np.array_equal(found["reference"].shape, sent.shape)


def test_queue_grows_with_bad_weather_and_with_the_path(tmp_path: Path) -> None:
    found = pictures.draw_depth(tmp_path / "depth.png", SECONDS, seed=3)
    drawn(tmp_path / "depth.png")
    margin_ms = found["margin"] * 1e3 / RATE_HZ
    count = len(margin_ms)
    burst = slice(int(pictures.WIFI_FROM * count), int(pictures.WIFI_UNTIL * count))
    assert margin_ms[burst].max() > 2
    assert margin_ms[int(pictures.STEP_AT * count) :].max() > pictures.STEP_MS
    # what waits is known to the hub alone: the path's new length is not held against packets
    assert found["lateness"][-1] < 2 * FRAMES


@pytest.mark.parametrize("name", [pictures.GAP, pictures.DRIFT, pictures.DEPTH])
def test_pages_show_them(name: str) -> None:
    drawn(pictures.FOLDER / name)
    pages = (pictures.ROOT / "docs").glob("*.md")
    assert any(f"(pictures/{name})" in page.read_text() for page in pages)
