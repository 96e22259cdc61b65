"""Tenths of a second, by their level: silent, faint, full, and which channels sounded."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workers.arenas import arena_of, sending
from workers.line import FAINT, _judge_window, _meter_block, publish_level

Window = list[list[float]]
"""By channel: peaks of its blocks."""

LARGEST = {8: 127 / 128, 16: 32767 / 32768, 24: 1 - 2.0**-15, 32: 1 - 2.0**-15}
PEAKS = [0.0, 1e-30, 0.9e-3, FAINT, 0.5, 126 / 128, 127 / 128, 32766 / 32768, 32767 / 32768, 1, 3]


@given(
    st.sampled_from(sorted(LARGEST)),
    st.lists(
        st.lists(st.lists(st.sampled_from(PEAKS), min_size=1, max_size=3), min_size=1, max_size=16),
        min_size=1,
        max_size=8,
    ),
)
def test_windows_are_counted_by_kind(bits: int, windows: list[Window]) -> None:
    counts: Counter[str] = Counter(windows=len(windows))
    with arena_of() as arena:
        rx = arena.rx[0]
        rx["bits"] = bits
        for window in windows:
            for channel, peaks in enumerate(window):
                for peak in peaks:
                    _meter_block(rx, channel, peak, peak * peak)
            _judge_window(rx)
            rx["window_peak"] = 0.0  # as publish_level does
            highest = max(max(peaks) for peaks in window)
            counts["silent_windows"] += highest == 0.0
            counts["faint_windows"] += highest < FAINT
            counts["full_windows"] += highest >= LARGEST[bits]
            sounding = sum(1 << k for k, peaks in enumerate(window) if max(peaks) >= FAINT)
            assert rx["sounding"] == sounding
        for name in ("windows", "silent_windows", "faint_windows", "full_windows"):
            assert rx[name] == counts[name]


@pytest.mark.parametrize("frames", [64, 128, 441])
def test_a_window_is_a_tenth_of_a_second(frames: int) -> None:
    with arena_of() as arena:
        rx = arena.rx[0]
        sending(arena, frames)
        rx["channels"], rx["bits"] = 1, 16
        packets = 48000 // frames
        for _ in range(packets):
            rx["window_frames"] += frames
            _meter_block(rx, 0, np.float64(0.5), np.float64(0.25 * frames))
            publish_level(arena.header[0], rx)
        assert rx["windows"] == packets // -(-4800 // frames)
        assert rx["rms"] == pytest.approx(0.5)
        assert rx["peak"] == 0.5
