"""JACK clients whose callbacks are kernels, on a real jackd: exact, and told when it dies."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

from tests.end_to_end.processes import ManagedProcess, wait_until
from tests.end_to_end.stage import Stage
from tests.machine import to_oneself

PORTS, FRAMES, CYCLES = 64, 64, 500


def test_ports_pass_audio_exactly_and_the_end_of_jackd_is_told(stage: Stage) -> None:
    server = stage.jack_to_lose(FRAMES)
    command = ["-m", "tests.end_to_end.jack_wires", server.name, str(PORTS), str(CYCLES)]
    wires = ManagedProcess(
        "jack wires",
        [sys.executable, *command],
        stage.directory / "wires.log",
        server.environment,
        stdin=subprocess.PIPE,
    )
    try:
        wires.wait_for_log("ready", 40.0)
        with to_oneself():
            assert wires.popen.stdin is not None
            wires.popen.stdin.close()
            wires.wait_for_log('"cycles"', 40.0)
        server.process.send(signal.SIGKILL)
        wait_until(lambda: not wires.running, 20.0, "the clients have left a dead server")
        told = [json.loads(line) for line in wires.log().splitlines() if line.startswith("{")]
    finally:
        wires.end(signal.SIGKILL)

    run, end = told
    assert (run["period_frames"], run["rate_hz"]) == (FRAMES, 48000)
    # a listener that JACK has to leave behind finds the next period in its ports
    assert run["wrong"] <= run["xruns"] * PORTS * FRAMES
    assert run["early"] == 0  # no cycle begins before its time
    assert run["heard"] >= 0.9 * PORTS * FRAMES * CYCLES
    assert end["gone"]
    assert end["refused"] == end["gone"]
