"""What was heard of a stream, judged: measures that the tests of the timeline share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tests.workers.arenas import GUARD_NS, T0_NS
from tests.workers.streams import (
    Format,
    Samples,
    Take,
    noise,
    samples_of,
)
from tests.workers.timeline_twin import COUNTERS, FADE, SECOND, tick_time, twin_take

FADE_STEP = float(np.max(np.diff(np.concatenate([[0], FADE, [1]]))))
"""The steepest step of the fade: about π/2 / 129."""


def assert_like_twin(fmt: Format, taken: Take) -> None:
    """Heard samples, ticks in time, counters and anchors are the twin's, bit for bit."""
    heard, got, count, concealed, trace = twin_take(fmt, noise, taken.events, len(taken.got))
    assert {name: taken.rx[name] for name in COUNTERS} == count
    assert list(taken.rx["concealed"]) == concealed
    np.testing.assert_array_equal(taken.trace, np.array(trace))
    np.testing.assert_array_equal(taken.got, got)
    np.testing.assert_array_equal(taken.heard, heard)
    assert taken.broken == 0


def stream(fmt: Format, packets: int) -> Samples:
    """All that a client sent, decoded: (channels, packets · frames)."""
    return np.concatenate([samples_of(fmt, noise, k * fmt.frames) for k in range(packets)], axis=1)


def slack_frames(fmt: Format, base_position: int, now_ns: int) -> float:
    """How long before its tick's deadline a packet at this position came."""
    deadline = tick_time(fmt, base_position // fmt.period) - GUARD_NS
    return (deadline - T0_NS - now_ns) * fmt.rate_hz / SECOND


def steadily_counting(taken: Take) -> npt.NDArray[np.float64]:
    """What was heard of a stream of ``numbers``: those samples that count up among their like.

    Faded samples are no whole numbers, or do not count up.
    """
    value = taken.heard[0].astype(np.float64) * (1 << 23)
    counting = (np.diff(value) == 1) & (value[1:] == np.floor(value[1:])) & (value[:-1] > 0)
    window = np.ones(4, np.int64)
    in_run = np.convolve(np.convolve(counting, window, "valid") == 4, window) > 0
    played: npt.NDArray[np.float64] = value[1:][in_run]
    return played


def loudest_step(taken: Take, channel: int) -> float:
    """The greatest step between neighbours that both were heard."""
    x = taken.heard[channel].astype(np.float64)
    period = len(x) // len(taken.got)
    heard = np.repeat(taken.got, period)
    steps = np.abs(np.diff(x))[heard[1:] & heard[:-1]]
    return float(steps.max(initial=0.0))
