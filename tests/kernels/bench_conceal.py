"""Concealment: what a missing packet costs a receiver, by method and order."""

from __future__ import annotations

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from shared.limits import Underrun
from tests.kernels.loops import loop
from workers.conceal import fill, forget, make_concealment

MASK = 4095
GAP = 2048
COUNT = 20


@loop
def conceal_many(method, line, frames, future, max_order, work, count):  # type: ignore[no-untyped-def]
    """Fill the same gap anew so many times; the end of the last."""
    end = 0
    for _ in range(count):
        forget(work, 0)
        known = GAP + frames if future > 0 else -1
        end = fill(method, line, MASK, len(line), 48000, 1024, GAP, GAP, GAP + frames, known,
                   future, 128, max_order, work, 0)  # fmt: skip
    return end


def line_of(channels: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Tones in noise, other ones in each channel."""
    rng, n = np.random.default_rng(1), np.arange(MASK + 1)
    return np.array(
        [
            0.1 * rng.normal(size=len(n)) + 0.5 * np.sin(rng.uniform(0.01, 0.5) * n)
            for _ in range(channels)
        ],
        np.float32,
    )


def run(
    benchmark: BenchmarkFixture, method: int, channels: int, frames: int, future: int, order: int
) -> None:
    benchmark.extra_info |= {"units": COUNT, "unit": "gap"}
    line, work = line_of(channels), make_concealment(1)
    end = benchmark(conceal_many, method, line, frames, future, order, work, COUNT)
    assert end == GAP + frames + (0 if future else 128)
    assert work.order.any() == (method == Underrun.BURG)


@pytest.mark.parametrize("order", [32, 64, 128, 255])
@pytest.mark.parametrize("future", [0, 128, 384])
def test_burg(benchmark: BenchmarkFixture, future: int, order: int) -> None:
    """A stereo packet; future frames that follow are known."""
    run(benchmark, int(Underrun.BURG), 2, 128, future, order)


@pytest.mark.parametrize("method", ["zero", "wavetable"])
def test_no_model(benchmark: BenchmarkFixture, method: str) -> None:
    """A stereo packet, bridged."""
    run(benchmark, int(Underrun[method.upper()]), 2, 128, 128, 0)


def test_burg_at_worst(benchmark: BenchmarkFixture) -> None:
    """16 channels, the longest bridge, as much as can be known after it."""
    run(benchmark, int(Underrun.BURG), 16, 1024, 1024, 255)
