"""One client's stay at the hub, at synthetic times; for ``loadtest.benchmarks.pictures``.

    python -m tests.kernels.hub_stay GIVEN.npz FOUND.npz

The receiver's own kernels, called as its loop does: packets come, and it wakes when something
is due. GIVEN: ``arrivals`` (n,) float64, hub frames since the hub's start, of packets 0..n−1, in
order; ``frames`` of each, ``rate_hz``, ``period``, ``queue`` (packets; 0: auto). FOUND, a value a
packet, right after it: ``lateness`` of it, ``margin`` and ``reference`` (when it was expected),
``played`` (hub sample that its first frame is played at), all in frames, float64; ``ratio`` and
``sigma`` of the clock; ``resampling``, int64; ``gaps`` and ``skips`` so far, int64.
"""

from __future__ import annotations

import struct
import sys
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.kernels import kernel
from shared.layout import DriftMode, RxState, Underrun
from shared.protocol import AudioHeader, pack_header
from tests.kernels.steps import conceal, take
from tests.workers.arenas import T0_NS, arena_of
from workers import drift, gaps, playout, timeline
from workers.inbox import make_inbox
from workers.line import position_of

FIGURES = ("lateness", "margin", "reference", "played", "ratio", "sigma")
COUNTS = ("resampling", "gaps", "skips")
SESSION, PORT, BITS = 1, 4464, 8
_ACTIVE = int(RxState.ACTIVE)


@kernel
def stay(arena, inbox, name, arrivals_ns, payload, figures, counts):  # type: ignore[no-untyped-def]
    """Receive packets, one at a time.

    Args:
        name: (32,) uint8, sockaddr of the client.
        arrivals_ns: (n,) int64, CLOCK_MONOTONIC.
        payload: (n, bytes) uint8.
        figures: (6, n) float64, written; counts: (3, n) int64, written.
    """
    header, rx = arena.header[0], arena.rx[0]
    line, ring, seen, tools = arena.lines[0], arena.rings[0], inbox.seen[0], inbox.tools
    wake = arrivals_ns[0]
    for k in range(len(arrivals_ns)):
        now = arrivals_ns[k]
        while rx.state == _ACTIVE and wake < now:
            wake = conceal(arena, inbox, wake)
        data = payload[k]
        figures[2, k] = drift.reference(rx, k) if k else 0.0
        take(arena, SESSION, data, len(data), name, inbox, now, now)
        if rx.state == _ACTIVE:
            timeline.publish(rx, line, ring, seen, tools)
            gaps.prepare(header, rx, line, seen, tools, 0, now, 1)
        wake = conceal(arena, inbox, now)
        if k == 0:
            figures[2, k] = drift.reference(rx, k)
        arrival = np.float64(now - header.t0_ns) * (np.float64(header.rate_hz) / 1e9)
        figures[0, k] = arrival - figures[2, k]
        figures[1, k] = rx.margin_frames
        figures[3, k] = playout.played_at(rx, position_of(rx, k))
        figures[4, k], figures[5, k] = rx.clock_ratio, rx.clock_sigma
        counts[0, k] = rx.resampling
        counts[1, k], counts[2, k] = rx.underruns, rx.overflows + rx.restarts


def packets(count: int, frames: int) -> npt.NDArray[np.uint8]:
    """(count, bytes): silence, mono."""
    made = np.zeros((count, 16 + frames * BITS // 8), np.uint8)
    for k in range(count):
        head = pack_header(AudioHeader(0, k & 0xFFFF, frames, 3, BITS, 1, 1))
        made[k, : len(head)] = np.frombuffer(head, np.uint8)
    return made


def follow(
    arrivals: npt.NDArray[np.float64], frames: int, rate_hz: int, period: int, queue: int
) -> dict[str, npt.NDArray[Any]]:
    """See the head of this module."""
    name = np.zeros(32, np.uint8)
    name[:8] = list(struct.pack("<H", 2) + struct.pack(">H", PORT) + bytes([127, 0, 0, 1]))
    times_ns = T0_NS + np.rint(arrivals * (1e9 / rate_hz)).astype(np.int64)
    figures = np.zeros((len(FIGURES), len(arrivals)))
    counts = np.zeros((len(COUNTS), len(arrivals)), np.int64)
    inbox = make_inbox(1, rate_hz)
    with arena_of(period=period, rate_hz=rate_hz) as arena:
        order, rx = arena.slots[0], arena.rx[0]
        arena.header[0]["rate_code"] = 3
        arena.header[0]["drift"] = DriftMode.AUTO
        arena.header[0]["underrun"] = Underrun.BURG
        order["session"], order["admit"], order["queue_packets"] = SESSION, SESSION, queue
        order["peer_low"] = int.from_bytes(b"\0\0\xff\xff\x7f\0\0\1", "little")
        rx["session"], rx["state"], rx["valid_ns"] = SESSION, RxState.WAITING, T0_NS
        sent = packets(len(arrivals), frames)
        stay(arena, inbox, name, times_ns, sent, figures, counts)
        guard = int(arena.header[0]["guard_ns"])
    found: dict[str, npt.NDArray[Any]] = dict(zip(FIGURES, figures, strict=True))
    found |= dict(zip(COUNTS, counts, strict=True))
    return found | {"guard": np.array(guard * rate_hz / 1e9)}


def main() -> None:
    """Read, follow, write."""
    with np.load(sys.argv[1]) as given:
        numbers = (int(given[each]) for each in ("frames", "rate_hz", "period", "queue"))
        found = follow(given["arrivals"], *numbers)
    np.savez(sys.argv[2], allow_pickle=False, **found)


if __name__ == "__main__":
    main()
