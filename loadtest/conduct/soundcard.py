"""A musician's sound card: plays a signal into a JACK port, or records one, noting each cycle.

    python -m loadtest.conduct.soundcard --play SIGNAL.npy --port A:send_1 --frames N RESULT.npz
    python -m loadtest.conduct.soundcard --port B:receive_1 --frames N RESULT.npz

It says ``ready``, and begins with a line from stdin. RESULT.npz holds

- ``positions`` (cycles,) int64: the first frame that was played or recorded in each cycle,
- ``times_ns`` (cycles,) int64: when JACK called for it, CLOCK_MONOTONIC_RAW,
- ``recorded`` (frames,) float32,
- ``xruns``.

One process is a client of one JACK server only: with two, JACK mixes up their ports.
"""

from __future__ import annotations

import gc
import sys
import threading
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

PATIENCE_S = 120.0


@click.command()
@click.option("--play", "signal_path", type=click.Path(path_type=Path), default=None)
@click.option("--port", required=True)
@click.option("--frames", type=int, required=True)
@click.argument("result", type=click.Path(path_type=Path))
def main(signal_path: Path | None, port: str, frames: int, result: Path) -> None:
    """Play or record so many frames."""
    import jack

    signal = None if signal_path is None else np.load(signal_path)
    recorded = np.zeros(frames if signal is None else 0, np.float32)
    client = jack.Client("player" if signal is not None else "listener", no_start_server=True)
    ports: Any = client.inports if signal is None else client.outports
    ours = ports.register("sound")
    period: int = client.blocksize
    cycles = frames // period
    positions, times_ns = np.zeros(cycles, np.int64), np.zeros(cycles, np.int64)
    go, done = threading.Event(), threading.Event()
    at = 0
    xruns = 0

    @client.set_process_callback  # type: ignore[untyped-decorator,unused-ignore]
    def process(count: int) -> None:
        nonlocal at
        called_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
        playing = go.is_set() and at < cycles
        if signal is not None:
            ours.get_array()[:] = signal[at * count : (at + 1) * count] if playing else 0
        if not playing:
            return
        positions[at], times_ns[at] = at * count, called_ns
        if len(recorded):
            recorded[at * count : (at + 1) * count] = ours.get_array()
        at += 1
        if at == cycles:
            done.set()

    @client.set_xrun_callback  # type: ignore[untyped-decorator,unused-ignore]
    def xrun(delayed_us: float) -> None:
        nonlocal xruns
        xruns += go.is_set() and not done.is_set()

    gc.disable()
    with client:
        if signal is not None:
            client.connect(ours, port)
        else:
            client.connect(port, ours)
        print("ready", flush=True)
        sys.stdin.readline()
        go.set()
        if not done.wait(PATIENCE_S):
            raise click.ClickException("JACK stopped calling")
    np.savez(result, positions=positions, times_ns=times_ns, recorded=recorded, xruns=xruns)


if __name__ == "__main__":
    main()
