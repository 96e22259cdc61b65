"""This machine, which tests share: one take at a time, and what disturbed those there were.

Several tests run side by side, since most of their time is spent waiting. Whatever is judged
by the sample or by a clock holds the machine meanwhile (``to_oneself``), so that nobody else
does; others may start or end their processes, which go behind real-time ones.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_LOCK = Path(tempfile.gettempdir()) / f"tuttihub-tests-{os.getuid()}.lock"


WAITED_S = 0.002
"""In sum over a take; that of an undisturbed mixer is below a tenth of it, hardly ever half."""
STOLEN_S = 0.02


class _Machine:
    holders = 0
    """Of this process: a test that holds it may record takes."""


@contextmanager
def to_oneself() -> Iterator[None]:
    """Until the block ends no other process of this user is in such a block."""
    if _Machine.holders:
        yield
        return
    with _LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _Machine.holders += 1
        try:
            yield
        finally:
            _Machine.holders -= 1


@dataclass(slots=True)
class Noise:
    """How noisy the machine was for one kind of takes: a pass after many repetitions is worth
    a look.

    Attributes:
        takes: how many there were.
        in_windows: channels that were judged by their undisturbed windows.
        repeated: why a take was repeated.
    """

    takes: int = 0
    in_windows: int = 0
    repeated: list[str] = field(default_factory=list)

    def add(self, other: Noise) -> None:
        self.takes += other.takes
        self.in_windows += other.in_windows
        self.repeated += other.repeated


END_TO_END, DATA_PLANE = Noise(), Noise()
NOISES = {"end to end": END_TO_END, "data plane": DATA_PLANE}


def waited_s(pid: int) -> float:
    """How long a process has been ready to run without a CPU; 0 where nobody counts it."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) * 1e-9
    except OSError:
        return 0.0


def stolen_s() -> float:
    """CPU time that a virtual machine's host gave to others."""
    total = Path("/proc/stat").read_text().split(maxsplit=9)
    return int(total[8]) / os.sysconf("SC_CLK_TCK")


class Witness:
    """Of what the machine does to some processes from now on, whatever they do themselves."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._waited = {pid: waited_s(pid) for pid in pids}
        self._stolen = stolen_s()

    def tells(self) -> list[str]:
        """What kept them from running, up to now."""
        told = []
        for pid, before in self._waited.items():
            if (waited := waited_s(pid) - before) > WAITED_S:
                told.append(f"process {pid} waited {1e3 * waited:.1f} ms for a cpu")
        if (stolen := stolen_s() - self._stolen) > STOLEN_S:
            told.append(f"the host took {1e3 * stolen:.0f} ms")
        return told
