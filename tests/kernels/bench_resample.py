"""Between two clocks: what it costs to read a block at another rate than its own."""

from __future__ import annotations

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from tests.kernels.loops import resample_many, serve_many
from tests.kernels.orchestra import orchestra
from workers.filters import filters_into
from workers.resample import make_scratch

COUNT = 1000
RATE_HZ = 48000


@pytest.mark.parametrize("channels", [1, 2, 4])
@pytest.mark.parametrize("frames", [64, 128, 256])
def test_resample(benchmark: BenchmarkFixture, frames: int, channels: int) -> None:
    """A block of so many frames at 208 ppm; a stereo block of 128 may take 1.5 µs."""
    benchmark.extra_info["units"] = COUNT
    line = np.random.default_rng(1).uniform(-1, 1, (channels, 65536)).astype(np.float32)
    ring, position = np.zeros((channels, 4096), np.float32), np.zeros(2, np.int64)

    benchmark(
        resample_many, line, channels, position, 893353, frames, filters_into(RATE_HZ), 0,
        make_scratch(), ring, COUNT,
    )  # fmt: skip

    assert position[0] > COUNT * frames
    assert ring.all()


@pytest.mark.parametrize("rate_hz", [22050, 32000, 44100, 88200, 96000, 192000])
def test_convert(benchmark: BenchmarkFixture, rate_hz: int) -> None:
    """A stereo block of 128 frames at 48 kHz, read from a client of another rate."""
    benchmark.extra_info["units"] = COUNT
    line = np.random.default_rng(1).uniform(-1, 1, (2, 65536)).astype(np.float32)
    ring, position = np.zeros((2, 4096), np.float32), np.zeros(2, np.int64)
    filters, step = filters_into(RATE_HZ), round((rate_hz / RATE_HZ - 1) * 2**32)
    index = int(np.flatnonzero(filters.rates_hz == rate_hz)[0])

    benchmark(
        resample_many, line, 2, position, step, 128, filters, index, make_scratch(), ring, COUNT,
    )  # fmt: skip

    assert position[0] > COUNT * 128 * 0.4


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


@pytest.mark.parametrize("rate_hz", [22050, 44100, 96000, 192000])
def test_converted(benchmark: BenchmarkFixture, rate_hz: int) -> None:
    """Return streams of 100 clients at another rate, a client's period of them.

    Beside ``test_transmit``, whose clients are of the hub's rate.
    """
    clients, count = 100, 10
    benchmark.extra_info["units"] = count * clients
    with orchestra(clients) as each:
        each.arena.rx["rate_hz"] = rate_hz
        served = benchmark(serve_many, each.arena, each.lane, each.tick, count)

        assert served == count * clients
        assert each.lane.returns.output[:2, :50].all()


@pytest.mark.parametrize("frames", [64, 16])
def test_paced(benchmark: BenchmarkFixture, frames: int) -> None:
    """Return streams of 100 clients whose packets are shorter than the period, a period of them."""
    clients, count = 100, 10
    benchmark.extra_info["units"] = count * clients
    with orchestra(clients) as each:
        each.arena.header[0]["pacing"] = 1
        each.arena.rx["frames"] = frames
        served = benchmark(serve_many, each.arena, each.lane, each.tick, count)

        assert served == count * clients
        assert each.lane.schedule.state[0] == clients * (128 // frames - 1)
