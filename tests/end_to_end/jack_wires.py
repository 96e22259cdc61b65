"""Two JACK clients of ours in one process, one playing into the other: run by test_jack_clock.

    python -m tests.end_to_end.jack_wires SERVER PORTS CYCLES

Every frame of every port is another number, made from JACK's own clock, so that the listener
knows what is right without being told. It says `ready`, and begins at a line from stdin, or its
end; it prints a JSON object once so many cycles were heard, and another when the server is gone.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np

from shared.callbacks import address_of, array_at, process_callback
from shared.kernels import kernel
from shared.libc import CLOCK_MONOTONIC, clock_ns
from workers.jackclock import (
    CALL_WORDS,
    DATA,
    JackClient,
    JackUnavailable,
    cycle_ns,
    frame_time,
    input_port,
    output_port,
)

CYCLES, WRONG, HEARD, TOOK_NS, LONGEST_NS, EARLY = range(6)
_SCRATCH = 8
WORDS = 16
_PATIENCE_S = 20.0


@kernel
def _sample(frame: int, port: int) -> Any:
    """Another number for every frame and port; 0 is none of them."""
    return np.float32((frame * 64 + port) % 8388607 + 1)


@kernel
def _play(call: Any, frames: int) -> None:
    now = frame_time(call)
    for k in range(call[5]):
        out = array_at(output_port(call, k, frames), frames, np.float32)
        for i in range(frames):
            out[i] = _sample(now + i, k)


@kernel
def _listen(call: Any, frames: int, words: Any) -> None:
    due = cycle_ns(call)  # first: JACK counts whole frames, and in the first it is just now
    began = clock_ns(CLOCK_MONOTONIC, words[_SCRATCH:])
    words[EARLY] += began < due
    now = frame_time(call)
    for k in range(call[4]):
        heard = array_at(input_port(call, k, frames), frames, np.float32)
        for i in range(frames):
            if heard[i] != 0:
                words[HEARD] += 1
                words[WRONG] += heard[i] != _sample(now + i, k)
    words[CYCLES] += 1
    took = clock_ns(CLOCK_MONOTONIC, words[_SCRATCH:]) - began
    words[TOOK_NS] += took
    words[LONGEST_NS] = max(words[LONGEST_NS], took)


@process_callback
def play(frames: int, argument: Any) -> int:
    """Numbers into all outputs."""
    _play(array_at(address_of(argument), CALL_WORDS, np.int64), np.int64(frames))
    return 0


@process_callback
def listen(frames: int, argument: Any) -> int:
    """Compare all inputs."""
    call = array_at(address_of(argument), CALL_WORDS, np.int64)
    _listen(call, np.int64(frames), array_at(call[DATA], WORDS, np.int64))
    return 0


def main(server: str, ports: int, cycles: int) -> None:
    names = [f"port_{k + 1}" for k in range(ports)]
    words = np.zeros(WORDS, np.int64)
    print("ready", flush=True)
    sys.stdin.readline()
    with (
        JackClient("player", play, outputs=names, server=server) as player,
        JackClient(
            "listener", listen, inputs=names, server=server, data=words.ctypes.data
        ) as listener,
    ):
        listener.activate()
        player.activate()
        for name in names:
            assert listener.connect(f"{player.name}:{name}", f"{listener.name}:{name}")
        assert not listener.connect(f"{player.name}:none", f"{listener.name}:port_1")
        words[:] = 0
        deadline = time.monotonic() + _PATIENCE_S
        while words[CYCLES] < cycles and time.monotonic() < deadline:
            time.sleep(0.05)
        facts = listener.facts
        print(
            json.dumps(
                {
                    "cycles": int(words[CYCLES]),
                    "heard": int(words[HEARD]),
                    "wrong": int(words[WRONG]),
                    "early": int(words[EARLY]),
                    "mean_us": round(words[TOOK_NS] / max(words[CYCLES], 1) / 1000, 1),
                    "longest_us": round(words[LONGEST_NS] / 1000, 1),
                    "period_frames": facts.period_frames,
                    "rate_hz": facts.rate_hz,
                    "xruns": facts.xruns,
                }
            ),
            flush=True,
        )
        while facts.gone is None and time.monotonic() < deadline:
            time.sleep(0.01)
        try:
            listener.ports()
            refused = ""
        except JackUnavailable as error:
            refused = str(error)
    print(json.dumps({"gone": facts.gone, "refused": refused}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
