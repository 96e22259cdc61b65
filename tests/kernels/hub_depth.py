"""The hub's own clock and depth over traces, for ``loadtest.benchmarks.jitter``.

    python -m tests.kernels.hub_depth TRACES.npz RESULTS.npz

TRACES: ``arrivals`` (T, n) float64 hub frames, NaN where a trace is shorter, of packets 0..n−1 of
``frames`` at ``rate_hz``; ``targets`` (P,), ``memories_s`` (M,). RESULTS, as of before each packet:
``reference`` (T, n), how late the line has it, and ``wanted`` (T, M, P, n), both frames, float32.
"""

from __future__ import annotations

import sys

import numpy as np

from shared.kernels import kernel
from shared.layout import RX
from workers import depth, drift


@kernel
def _follow(rx, arrivals, rate_hz, target, memory_s, reference, wanted):  # type: ignore[no-untyped-def]
    for k in range(len(arrivals)):
        reference[k] = drift.reference(rx, k) - np.float64(k * rx.frames)
        wanted[k] = rx.late_wanted
        lateness = drift.observe(rx, k, arrivals[k], rate_hz)
        depth.observe_for(rx, lateness, rate_hz, target, memory_s)


def main() -> None:
    """Read, follow, write."""
    with np.load(sys.argv[1]) as given:
        arrivals, targets, memories = given["arrivals"], given["targets"], given["memories_s"]
        frames, rate_hz = int(given["frames"]), int(given["rate_hz"])
    reference = np.full(arrivals.shape, np.nan, np.float32)
    wanted = np.full((len(arrivals), len(memories), len(targets), arrivals.shape[1]), np.nan, "f4")
    for t, trace in enumerate(arrivals):
        known = trace[~np.isnan(trace)]
        for m, memory_s in enumerate(memories.tolist()):
            for p, target in enumerate(targets.tolist()):
                rx = np.zeros(1, RX).view(np.recarray)[0]
                rx["frames"] = rx["span"] = frames
                drift.begin(rx, 0, known[0])
                depth.begin(rx, rate_hz)
                _follow(
                    rx, known, rate_hz, target, memory_s,
                    reference[t, : len(known)], wanted[t, m, p, : len(known)],
                )  # fmt: skip
    np.savez(sys.argv[2], reference=reference, wanted=wanted)


if __name__ == "__main__":
    main()
