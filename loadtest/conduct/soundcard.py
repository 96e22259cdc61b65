"""A musician's sound card: plays a signal into a JACK port, or records one, noting each cycle.

    python -m loadtest.conduct.soundcard --play SIGNAL.npy --port A:send_1 --frames N RESULT.npz
    python -m loadtest.conduct.soundcard --port B:receive_1 --frames N RESULT.npz
    python -m loadtest.conduct.soundcard --frames N RESULT.npz          only the cycles

It says ``ready``, and begins with a line from stdin. RESULT.npz holds

- ``positions`` (cycles,) int64: the first frame that was played or recorded in each cycle,
- ``times_ns`` (cycles,) int64: when the cycle began, by JACK, CLOCK_MONOTONIC_RAW,
- ``recorded`` (frames,) float32,
- ``xruns``.

One process is a client of one JACK server only: with two, JACK mixes up their ports.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
from pathlib import Path
from typing import Any

import click
import numpy as np

PATIENCE_S = 120.0


class _CycleTimes:
    """jack_get_cycle_times(), which JACK-Client leaves out."""

    def __init__(self, client: Any) -> None:
        import jack  # type: ignore[import-not-found,import-untyped,unused-ignore]

        # The address of the client, as JACK-Client keeps it.
        self._client = ctypes.c_void_p(int(jack._ffi.cast("uintptr_t", client._ptr)))
        self._call = ctypes.CDLL("libjack.so.0").jack_get_cycle_times
        self._frames = ctypes.c_uint32()
        self._now, self._next, self._period = ctypes.c_uint64(), ctypes.c_uint64(), ctypes.c_float()

    def began_ns(self) -> int:
        """When the present cycle began; to be called in the process callback."""
        self._call(
            self._client, ctypes.byref(self._frames), ctypes.byref(self._now),
            ctypes.byref(self._next), ctypes.byref(self._period),
        )  # fmt: skip
        return 1000 * self._now.value


@click.command()
@click.option("--play", "signal_path", type=click.Path(path_type=Path), default=None)
@click.option("--port", default="")
@click.option("--frames", type=int, required=True)
@click.argument("result", type=click.Path(path_type=Path))
def main(signal_path: Path | None, port: str, frames: int, result: Path) -> None:
    """Play or record so many frames."""
    import jack

    signal = None if signal_path is None else np.load(signal_path)
    recorded = np.zeros(frames if port and signal is None else 0, np.float32)
    client = jack.Client("player" if signal is not None else "listener", no_start_server=True)
    ours: Any = None
    if port:
        ports = client.outports if signal is not None else client.inports
        ours = ports.register("sound")
    period: int = client.blocksize
    cycles = frames // period
    positions, times_ns = np.zeros(cycles, np.int64), np.zeros(cycles, np.int64)
    times = _CycleTimes(client)
    go, done = threading.Event(), threading.Event()
    at = 0
    xruns = 0

    @client.set_process_callback  # type: ignore[untyped-decorator,unused-ignore]
    def process(count: int) -> None:
        nonlocal at
        playing = go.is_set() and at < cycles
        if signal is not None:
            ours.get_array()[:] = signal[at * count : (at + 1) * count] if playing else 0
        if not playing:
            return
        positions[at], times_ns[at] = at * count, times.began_ns()
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
        elif port:
            client.connect(port, ours)
        print("ready", flush=True)
        sys.stdin.readline()
        go.set()
        if not done.wait(PATIENCE_S):
            raise click.ClickException("JACK stopped calling")
    np.savez(result, positions=positions, times_ns=times_ns, recorded=recorded, xruns=xruns)


if __name__ == "__main__":
    main()
