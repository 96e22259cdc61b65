"""Long streams, made all at once: minutes of a client through the receiver's kernels in moments.

Numbers of a stream of ``streams.numbers`` are positions on the client's own clock: what is
heard tells for each hub sample which of the client's is played there.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from shared.protocol import pack_header
from tests.workers.arenas import GUARD_NS, T0_NS
from tests.workers.networks import BATCH_NS, START_NS
from tests.workers.streams import (
    COURSE,
    DATAGRAM,
    QUEUE,
    Format,
    Signal,
    Take,
    from_wire,
    take_table,
)

Doubles = npt.NDArray[np.float64]


def sent(fmt: Format, seconds: float, ppm: float = 0.0) -> Doubles:
    """When each packet of a client fast by so much leaves it, ns from T0_NS on."""
    count = int(seconds * fmt.client_hz / fmt.frames)
    spacing: float = fmt.frames / fmt.client_hz / (1 + ppm * 1e-6) * 1e9
    at: Doubles = START_NS + np.arange(count, dtype=np.float64) * spacing
    return at


def jitter(count: int, scale_ms: float, seed: int = 1) -> Doubles:
    """One-sided random delays, exponentially distributed, ns."""
    return np.random.default_rng(seed).exponential(scale_ms * 1e6, count)


def flow(
    fmt: Format, signal: Signal, arrivals: Doubles, queues: Mapping[float, int] | None = None
) -> Take:
    """Play a stream whose packet k comes at ``arrivals[k]``, ns; 32 bit only.

    Args:
        fmt: its channels must be 1.
        arrivals: (n,) in order of packets, not of time; NaN: lost.
        queues: what the slot asks for, by seconds from START_NS on.
    """
    assert fmt.bits == 32
    assert fmt.channels == 1
    count, frames = len(arrivals), fmt.frames
    size = 16 + 4 * frames
    payload = np.zeros((count, size), np.uint8)
    payload[:, :16] = np.frombuffer(pack_header(fmt.header), np.uint8)
    # packet numbers are the 16 bits after TimeStamp
    payload[:, 8:10] = np.arange(count).astype("<u2").view(np.uint8).reshape(-1, 2)
    index = np.arange(count * frames, dtype=np.int64)
    payload[:, 16:] = from_wire(signal(index, 0), 32).view(np.uint8).reshape(count, -1)

    came = np.flatnonzero(~np.isnan(arrivals))
    came = came[np.argsort(arrivals[came], kind="stable")]
    at = arrivals[came].astype(np.int64)
    table = np.zeros((len(came), 5), np.int64)
    table[:, 0] = DATAGRAM
    table[:, 1] = T0_NS + -(-at // BATCH_NS) * BATCH_NS
    table[:, 2] = T0_NS + at
    table[:, 3] = came * size
    table[:, 4] = size
    for second, queue in (queues or {}).items():
        moment = T0_NS + START_NS + int(second * 1e9)
        row = np.array([[QUEUE, moment, queue, 0, 0]])
        table = np.insert(table, np.searchsorted(table[:, 1], moment), row, axis=0)
    ticks = int(table[-1, 1] - T0_NS) * fmt.rate_hz // 1_000_000_000 // fmt.period + 3
    # numbers are nothing but offset
    return take_table(fmt, table, payload.reshape(-1), ticks, offsets=False)


def column(taken: Take, name: str) -> Doubles:
    """What a value was after each event."""
    return taken.course[:, COURSE.index(name)]


def slack(fmt: Format, taken: Take) -> Doubles:
    """Frames that the newest packet had to spare after each event, had it come as expected."""
    guard = GUARD_NS * fmt.rate_hz / 1e9
    return column(taken, "played") - column(taken, "expected") - guard


def delay(taken: Take, ppm: float = 0.0) -> Doubles:
    """For each hub sample, frames by which what is heard of ``numbers`` is behind its client."""
    heard = taken.heard[0].astype(np.float64) * (1 << 23) - 1
    at = np.arange(len(heard)) - START_NS * 48e-6
    behind: Doubles = at * (1 + ppm * 1e-6) - np.unwrap(heard, period=1 << 22)
    return behind
