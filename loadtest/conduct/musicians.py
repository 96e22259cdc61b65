"""Musicians with real programs: a `jackd` of one's own, `jacktrip -C`, and a sound card.

    with musician(folder, "ann", period=128, queue="4", hub_port=4464) as ann:
        card = ann.plays(signal, frames)         # or ann.listens(frames)
        card.start(); ...; found = card.result()

Everything ends with its block, by its pid.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from loadtest.conduct import servers
from loadtest.conduct.servers import ServerError

CONNECTED = "Received Connection from Peer"
START_S = 20.0
_PORTS = 256
_CORES = frozenset(range(os.cpu_count() or 1))


class Card:
    """A sound card that is connected, and waits for its start.

    Raises:
        ServerError: it could not be opened or connected.
    """

    def __init__(
        self,
        stack: ExitStack,
        environment: Mapping[str, str],
        folder: Path,
        name: str,
        frames: int,
        port: str,
        signal: npt.NDArray[np.float32] | None = None,
    ) -> None:
        self._result = folder / f"{name}.npz"
        self._log = folder / f"{name}.log"
        self._log.write_bytes(b"")
        command = [
            sys.executable, "-m", "loadtest.conduct.soundcard", "--frames", str(frames),
            "--port", port,
        ]  # fmt: skip
        if signal is not None:
            path = folder / f"{name}-signal.npy"
            np.save(path, signal)
            command += ["--play", str(path)]
        self._process = stack.enter_context(
            servers.running(
                [*command, str(self._result)], _CORES, self._log, environment,
                stdin=subprocess.PIPE,
            )
        )  # fmt: skip
        servers.wait_ready(
            self._process, self._log, lambda: "ready" in self._log.read_text(), START_S
        )

    def start(self) -> None:
        """Begin to play or record, with JACK's next cycle."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"go\n")
        self._process.stdin.flush()

    def result(self, within_s: float) -> dict[str, npt.NDArray[Any]]:
        """What ``loadtest.conduct.soundcard`` says it found.

        Raises:
            ServerError: it failed, or is not ready in time.
        """
        deadline = time.monotonic() + within_s
        while self._process.poll() is None:
            if time.monotonic() > deadline:
                raise ServerError(f"a sound card was not ready in {within_s:g} s")
            time.sleep(0.05)
        if self._process.returncode:
            raise ServerError(f"a sound card failed:\n{self._log.read_text()}")
        with np.load(self._result) as archive:
            return {name: archive[name] for name in archive.files}


@dataclass(frozen=True, slots=True)
class Musician:
    """A running client.

    Attributes:
        udp_port: its own.
        log: what its `jacktrip` says.
    """

    name: str
    folder: Path
    udp_port: int
    log: Path
    environment: Mapping[str, str]
    _stack: ExitStack

    def plays(self, signal: npt.NDArray[np.float32]) -> Card:
        """A card that will play this into the client's first channel."""
        port = f"{self.name}:send_1"
        return Card(
            self._stack, self.environment, self.folder, f"{self.name}-plays", len(signal), port,
            signal,
        )  # fmt: skip

    def listens(self, frames: int) -> Card:
        """A card that will record the client's first channel."""
        port = f"{self.name}:receive_1"
        return Card(
            self._stack, self.environment, self.folder, f"{self.name}-listens", frames, port
        )


@contextlib.contextmanager
def musician(
    folder: Path,
    name: str,
    *,
    hub_port: int,
    udp_port: int,
    period: int = 128,
    rate_hz: int = 48000,
    queue: str = "4",
    options: Sequence[str] = (),
    before: Sequence[str] = (),
    jack_priority: int = servers.JACK_PRIORITY,
) -> Iterator[Musician]:
    """A client of one channel on a JACK server of its own, once it hears of the hub.

    Args:
        before: a command that starts `jacktrip`, such as ``chrt -f 4``.
        jack_priority: of JACK's threads in real time.

    Raises:
        ServerError: a program is missing, or it was not connected in time.
    """
    if lacking := servers.missing_programs():
        raise ServerError(f"not installed: {', '.join(lacking)}")
    log, jack_log = folder / f"{name}.log", folder / f"{name}-jackd.log"
    for each in (log, jack_log):
        each.write_bytes(b"")
    with ExitStack() as stack:
        _, environment = stack.enter_context(
            servers.jack_server(
                rate_hz,
                period,
                cpus=_CORES,
                log=jack_log,
                ports=_PORTS,
                priority=jack_priority,
            )
        )
        command = [
            *before, "jacktrip", "-C", "127.0.0.1", "-P", str(hub_port), "-B", str(udp_port),
            "-n", "1", "-q", queue, "-D", "-I", "1", "-J", name, "-K", name, *options,
        ]  # fmt: skip
        process = stack.enter_context(servers.running(command, _CORES, log, environment))
        servers.wait_ready(process, log, lambda: CONNECTED in log.read_text(), START_S)
        yield Musician(name, folder, udp_port, log, environment, stack)
