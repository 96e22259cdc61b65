"""Between two clocks: what it costs to read a block at another rate than its own."""

from __future__ import annotations

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from tests.kernels.loops import resample_many
from workers.resample import filter_table, make_scratch

COUNT = 1000


@pytest.mark.parametrize("channels", [1, 2, 4])
@pytest.mark.parametrize("frames", [64, 128, 256])
def test_resample(benchmark: BenchmarkFixture, frames: int, channels: int) -> None:
    """A block of so many frames at 208 ppm; a stereo block of 128 may take 1.5 µs."""
    benchmark.extra_info["units"] = COUNT
    line = np.random.default_rng(1).uniform(-1, 1, (channels, 65536)).astype(np.float32)
    ring, position = np.zeros((channels, 4096), np.float32), np.zeros(2, np.int64)

    benchmark(
        resample_many, line, channels, position, 893353, frames, filter_table(), make_scratch(),
        ring, COUNT,
    )  # fmt: skip

    assert position[0] > COUNT * frames
    assert ring.all()
