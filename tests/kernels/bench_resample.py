"""Between two clocks: what it costs to read a block at another rate than its own."""

from __future__ import annotations

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from tests.kernels.loops import resample_many, serve_many
from tests.kernels.orchestra import orchestra
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


@pytest.mark.parametrize("pace", ["hub", "certain"])
def test_matched(benchmark: BenchmarkFixture, pace: str) -> None:
    """Return streams of 100 clients with ``match_clients``, a client's period of them.

    Before the drift is certain, and then at 208 ppm; beside ``test_transmit``.
    """
    clients, count = 100, 10
    benchmark.extra_info["units"] = count * clients
    with orchestra(clients) as each:
        each.arena.header[0]["match_clients"] = 1
        each.arena.rx["clock_ratio"] = 208e-6
        each.arena.rx["clock_certain"] = pace == "certain"

        served = benchmark(serve_many, each.arena, each.lane, each.tick, count)

        assert served == count * clients
        assert np.all(each.arena.tx["sequence"] > 0)
        assert np.all(each.lane.returns.steps != 0) == (pace == "certain")
