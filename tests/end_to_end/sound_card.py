"""A sound card for the tests: plays into and records from the ports of one JACK server.

Run as a script, one process a server: a process that opens clients on two JACK
servers silently mixes up their ports. It imports nothing of the tests.

    python sound_card.py PLAY.npz RECORD.json RESULT.npz

PLAY.npz holds one float32 array a port, by the port's name. RECORD.json:
{"ports": [...], "frames": N}. It says `ready` when all is connected, starts on a
line from stdin, says `at FRAME` now and then, and `done` when RESULT.npz is
written: `recorded` (ports, frames) float32, `lost_frames`, `xruns`. Its exit code is
`STALLED` if JACK stops calling it.

Player and recorder are two JACK clients: a single one that feeds and records
closes a loop in the graph, and JACK then delays one of its cables by a period.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

STALLED = 3
"""Exit code when JACK no longer calls."""

_REPORT_S = 0.02
_PATIENCE = 250
"""Reports without any progress until JACK is taken to have stalled."""

# jackd turns a newcomer away when one of its clients was not let run in time to be told.
_OPEN_ATTEMPTS = 5

_SWITCH_S = 0.0005
_PRIORITY = 5
"""Of JACK's clients, too."""


def main(play_path: Path, record_path: Path, result_path: Path) -> None:
    import jack  # type: ignore[import-not-found,import-untyped,unused-ignore]  # needs libjack

    with np.load(play_path) as archive:
        signals: dict[str, NDArray[np.float32]] = {port: archive[port] for port in archive.files}
    wanted = json.loads(record_path.read_text())
    ports: list[str] = wanted["ports"]
    frames_wanted: int = wanted["frames"]
    # Written once, so that no page is first touched in the callback.
    recorded = np.full((len(ports), frames_wanted), np.nan, np.float32)

    def opened(name: str) -> Any:
        for _ in range(_OPEN_ATTEMPTS):
            try:
                return jack.Client(name, no_start_server=True)
            except jack.JackOpenError:  # on a busy machine it may be in confusion for a while
                time.sleep(0.5)
        print("JACK lets nobody in", flush=True)
        os._exit(STALLED)

    player, recorder = opened("player"), opened("recorder")
    outputs = [(player.outports.register(f"out{k}"), s) for k, s in enumerate(signals.values())]
    inputs = [recorder.inports.register(f"in{k}") for k in range(len(ports))]
    go, done = threading.Event(), threading.Event()
    position = {"play": 0, "record": 0}
    times: dict[str, list[int]] = {"play": [], "record": []}
    xruns: list[float] = []

    @player.set_process_callback  # type: ignore[untyped-decorator,unused-ignore]
    def play(frames: int) -> None:
        at = position["play"]
        for port, signal in outputs:
            out = port.get_array()
            part = signal[at : at + frames] if go.is_set() else signal[:0]
            out[: len(part)] = part
            out[len(part) :] = 0
        if go.is_set():
            times["play"].append(player.last_frame_time)
            position["play"] = at + frames

    @recorder.set_process_callback  # type: ignore[untyped-decorator,unused-ignore]
    def record(frames: int) -> None:
        at = position["record"]
        if not go.is_set() or done.is_set():
            return
        times["record"].append(recorder.last_frame_time)
        count = min(frames, frames_wanted - at)
        for row, port in enumerate(inputs):
            recorded[row, at : at + count] = port.get_array()[:count]
        position["record"] = at + count
        if at + count == frames_wanted:
            done.set()

    @recorder.set_xrun_callback  # type: ignore[untyped-decorator,unused-ignore]
    def xrun(delayed_us: float) -> None:
        if go.is_set() and not done.is_set():
            xruns.append(delayed_us)

    period = player.blocksize
    gc.disable()
    with recorder, player:
        sys.setswitchinterval(_SWITCH_S)
        for source, port in zip(ports, inputs, strict=True):
            recorder.connect(source, port)
        for (port, _), target in zip(outputs, signals, strict=True):
            player.connect(port, target)
        print("ready", flush=True)
        sys.stdin.readline()
        schedule(os.SCHED_FIFO, _PRIORITY)
        go.set()
        patience, last = _PATIENCE, -1
        while not done.wait(_REPORT_S):
            at = position["record"]
            patience = patience - 1 if at == last else _PATIENCE
            last = at
            print(f"at {at}", flush=True)
            if not patience:
                print(f"JACK stopped calling after {at} frames", flush=True)
                # Not by sys.exit: closing a client may wait for a server that hangs.
                os._exit(STALLED)
        schedule(os.SCHED_OTHER, 0)
    np.savez(
        result_path,
        recorded=recorded,
        lost_frames=sum(_lost(track, period) for track in times.values()),
        xruns=len(xruns),
    )
    print("done", flush=True)


def schedule(policy: int, priority: int) -> None:
    """How this thread gets a CPU, if it may choose.

    Were it waiting for one while it has the interpreter, JACK's threads would wait with it.
    """
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, policy, os.sched_param(priority))


def _lost(frame_times: list[int], period: int) -> int:
    """Frames of JACK's clock that passed without a callback."""
    # A clock of 32 bits, which wraps after a day.
    times = np.array(frame_times, np.uint32)
    steps = (times[1:] - times[:-1]).astype(np.int64)
    return int(np.sum(np.maximum(steps - period, 0)))


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:4]))
