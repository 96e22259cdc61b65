"""`tuttihub client` and `tuttihub peer` as subprocesses, and what they recorded."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from loadtest.conduct.ports import PORTS
from tests.end_to_end.hubs import tuttihub_command
from tests.end_to_end.processes import ManagedProcess, wait_until
from tests.machine import END_TO_END

RATE_HZ = 48_000
START_S = 180.0
"""Kernels may have to be compiled."""
ATTEMPTS = 6

Samples = npt.NDArray[np.float32]


def song(seconds: float, channels: int = 2, bits: int = 16, seed: int = 1) -> Samples:
    """(frames, channels) of noise that a JackTrip of this resolution hands on unchanged."""
    full = 1 << (bits - 1)
    rng = np.random.default_rng(seed)
    shape = int(seconds * RATE_HZ), channels
    integers = rng.integers(1, full // 4, shape) * rng.choice((-1, 1), shape)
    samples: Samples = (integers / full).astype(np.float32)
    return samples


@dataclass(slots=True)
class Endpoint:
    """One endpoint's process.

    Attributes:
        udp_port: its own.
    """

    process: ManagedProcess
    udp_port: int

    @classmethod
    def start(cls, directory: Path, *words: str, **options: object) -> Endpoint:
        """Start one, with options by their long names; True is a switch.

        Args:
            words: ``client HOST``, ``peer`` or ``peer HOST``.
        """
        port = PORTS.take()
        command = [*tuttihub_command(), *words, "--log-format", "json"]
        for name, value in {"bindport": port, **options}.items():
            flag = f"--{name.replace('_', '-')}"
            command += [flag] if value is True else [flag, str(value)]
        log = directory / f"endpoint-{port}.log"
        return cls(ManagedProcess(f"tuttihub {' '.join(words)}", command, log), port)

    def events(self, name: str) -> list[dict[str, Any]]:
        """Events of the log by this name so far."""
        found = []
        for line in self.process.log().rpartition("\n")[0].splitlines():  # whole ones
            said = line.rpartition("\x1b[K")[2]  # behind a line of quality that it replaced
            if said.startswith("{") and (event := json.loads(said))["event"] == name:
                found.append(event)
        return found

    def wait_for(self, event: str, count: int = 1, timeout_s: float = START_S) -> dict[str, Any]:
        """The count-th event by this name."""
        wait_until(
            lambda: len(self.events(event)) >= count or not self.process.running,
            timeout_s,
            f"{self.process.name} says {event!r}",
            poll_s=0.05,
        )
        found = self.events(event)
        assert len(found) >= count, self.process.log()
        return found[count - 1]

    def leave(self) -> int:
        """Ctrl-C; its exit code."""
        self.process.send(signal.SIGINT)
        return self.process.wait(10.0)


def delay_of(recorded: Samples, played: Samples) -> int:
    """Frames by which one channel comes later in the recording."""
    size = 1 << (len(recorded) + len(played)).bit_length()
    spectrum = np.fft.rfft(recorded, size) * np.conj(np.fft.rfft(played, size))
    return int(np.argmax(np.fft.irfft(spectrum, size)[: len(recorded)]))


def assert_came_back(record: Path, played: Samples) -> int:
    """What was recorded is what was played, later by a constant; the delay in frames."""
    recorded, rate_hz = soundfile.read(record, dtype="float32", always_2d=True)
    assert rate_hz == RATE_HZ
    assert recorded.shape[1] == played.shape[1]
    delay = delay_of(recorded[:, 0], played[:, 0])
    heard = recorded[delay : delay + len(played)]
    assert len(heard) == len(played)
    wrong = (heard != played).any(axis=1)
    assert not wrong.any(), f"{wrong.sum()} frames are wrong, {np.flatnonzero(wrong)[:3]} first"
    return delay


def until_right(take: Callable[[], None]) -> None:
    """A machine that is late for some milliseconds spoils a take: one of a few must be right."""
    for attempt in range(ATTEMPTS):
        try:
            take()
        except AssertionError as error:
            if attempt == ATTEMPTS - 1:
                raise
            END_TO_END.repeated.append(str(error))
        else:
            END_TO_END.takes += 1
            return
