"""What JACK's callbacks cost: a bridge on a real jackd, with more and more clients of a hub's.

    python -m tests.end_to_end.jack_load [PERIOD [CLIENTS ...]]

Each client is mono both ways, two ports; its sound is there, and what its ports hear goes to the
arena, as in a hub, but nobody mixes. It prints a table, a row for each number of clients, with
ports of their own and with those of the mix:

- callback: of all of the hub's in a cycle together, µs: median, 99 in 100, the longest;
- graph: from a cycle's begin until all have run, as JACK wakes one thread after the other;
- late: cycles of which that took more than 3/4 of a period, as the hub counts them.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.callbacks import Callback, address_of, array_at, process_callback
from shared.layout import MIN_RING_FRAMES, PatchMode
from shared.libc import CLOCK_MONOTONIC, clock_ns
from tests.end_to_end.jack_graphs import Graph
from tests.end_to_end.peers import RATE_HZ, JackServer
from workers.jackbridge import Bridge
from workers.jackclock import CALL_WORDS, DATA, Client, JackClient
from workers.jackports import DESK_WORDS, play_group, serve_group

CYCLES = 4_000
WARM = 200
"""Cycles that do not count, while all pages are touched."""
LIMIT_S = 60.0
COLUMNS = (
    "clients", "ports", "JACK clients", "callback, µs", "99 in 100, of a cycle", "graph, µs",
    "late", "xruns",
)  # fmt: skip
_TIMES = 11
"""Word of a call with the address of its times: cycles so far, two words of scratch, times."""
_FIRST = 3


@process_callback
def play_timed(frames: int, argument: Any) -> int:
    """As ``play_group``, and how long it took."""
    call = array_at(address_of(argument), CALL_WORDS, np.int64)
    times = array_at(call[_TIMES], _FIRST + CYCLES, np.int64)
    began = clock_ns(CLOCK_MONOTONIC, times[1:3])
    serve_group(call, array_at(call[DATA], DESK_WORDS, np.int64), np.int64(frames))
    now = times[0]
    if now < CYCLES:
        times[_FIRST + now] = clock_ns(CLOCK_MONOTONIC, times[1:3]) - began
        times[0] = now + 1
    return 0


@dataclass(slots=True)
class TimedBridge(Bridge):
    """A bridge whose groups' callbacks are timed."""

    times: list[npt.NDArray[np.int64]] = field(default_factory=list)

    def _client(
        self,
        name: str,
        callback: Callback,
        *,
        inputs: Sequence[str] = (),
        outputs: Sequence[str] = (),
        data: int = 0,
    ) -> Client:
        if callback is not play_group:
            return Bridge._client(self, name, callback, inputs=inputs, outputs=outputs, data=data)
        made = Bridge._client(self, name, play_timed, inputs=inputs, outputs=outputs, data=data)
        assert isinstance(made, JackClient)
        times = np.zeros(_FIRST + CYCLES, np.int64)
        made.call[_TIMES] = times.ctypes.data
        self.times.append(times)
        return made


def measure(server: JackServer, clients: int, *, alone: bool) -> dict[str, float]:
    """Figures of one bridge with so many clients."""
    graph = Graph(
        server.name, PatchMode.NONE, upmix=False, slots=clients, period=server.period,
        bridge=TimedBridge, alone=alone,
    )  # fmt: skip
    arena, bridge = graph.arena, graph.bridge
    assert isinstance(bridge, TimedBridge)
    rng = np.random.default_rng(1)
    arena.rx["ring_frames"], arena.rx["watermark"] = MIN_RING_FRAMES, 1 << 62
    sound = rng.uniform(-0.5, 0.5, (clients, MIN_RING_FRAMES))
    arena.rings[:clients, 0, :MIN_RING_FRAMES] = sound
    arena.slots["gain"] = 1.0
    arena.header[0]["t0_ns"] = time.monotonic_ns()
    assert bridge._open()
    graph.seat([(f"player {k}", 1, 1) for k in range(clients)], [] if alone else [0] * clients)
    graph.settle()
    jack, xruns = arena.jack[0], server.disturbances()
    for times in bridge.times:
        times[0] = 0
    slow, cycles = int(jack["slow_cycles"]), int(jack["cycles"])
    deadline = time.monotonic() + LIMIT_S
    while min(times[0] for times in bridge.times) < CYCLES and time.monotonic() < deadline:
        time.sleep(0.05)
    done = min(int(times[0]) for times in bridge.times)
    each = np.array([times[_FIRST + WARM : _FIRST + done] for times in bridge.times])
    together = each.sum(axis=0) / 1000
    figures = {
        "ports": int(jack["ports"]),
        "median_us": float(np.median(together)),
        "p99_us": float(np.quantile(together, 0.99)),
        "longest_us": float(together.max()),
        "graph_us": int(jack["graph_ns"]) / 1000,
        "late": (int(jack["slow_cycles"]) - slow) / max(int(jack["cycles"]) - cycles, 1),
        "xruns": server.disturbances() - xruns,
    }
    assert jack["clients"] == len(bridge.times) == (clients if alone else 1)
    for group in bridge.groups.values():
        group.client.close()
    assert bridge.beat is not None
    bridge.beat.close()
    return figures


def main(period: int, counts: Sequence[int]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        server = JackServer(Path(directory), period)
        os.environ.update(server.environment)
        try:
            period_us = 1e6 * period / RATE_HZ
            print(f"{period} frames, {period_us:.0f} µs a cycle; load {os.getloadavg()[0]:.1f}\n")
            print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
            for clients in counts:
                for alone in (True, False):
                    told = measure(server, clients, alone=alone)
                    cells = [
                        f"{clients}",
                        f"{told['ports']:.0f}",
                        f"{clients if alone else 1}",
                        f"{told['median_us']:.1f}, {told['p99_us']:.1f}, {told['longest_us']:.0f}",
                        f"{100 * told['p99_us'] / period_us:.1f} %",
                        f"{told['graph_us']:.0f}",
                        f"{100 * told['late']:.2f} %",
                        f"{told['xruns']:.0f}",
                    ]
                    print(f"| {' | '.join(cells)} |", flush=True)
        finally:
            server.stop()


if __name__ == "__main__":
    period_frames, *numbers = [int(word) for word in sys.argv[1:]] or [64]
    main(period_frames, numbers or [16, 32, 64])
