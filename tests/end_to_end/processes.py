"""Starting, watching and ending real processes, by pid and with deadlines.

Everything the end-to-end tests start is a `ManagedProcess`: it writes what it
says into a file of its own, is ended by its pid, and carries a tag in its
environment that all its descendants inherit. The tag is how a test proves that
*nothing* of a process tree is left, also after children were re-parented.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

TAG_VARIABLE = "TUTTIHUB_END_TO_END_TAG"

_POLL_S = 0.02


class NotInTime(AssertionError):
    """A condition did not come true before its deadline."""


def wait_until(
    condition: Callable[[], T], timeout_s: float, what: str, poll_s: float = _POLL_S
) -> T:
    """Return the first true value of `condition`; fail after `timeout_s`, naming `what`.

    A virtual machine may be stopped and go on a minute later; of such a gap one second
    counts, so that the processes waited for get their time as well.
    """
    left_s, last = timeout_s, time.monotonic()
    while True:
        value = condition()
        if value:
            return value
        if left_s <= 0:
            raise NotInTime(f"not within {timeout_s:g} s: {what} (last seen: {value!r})")
        time.sleep(poll_s)
        now = time.monotonic()
        left_s -= min(now - last, 1.0)
        last = now


class ManagedProcess:
    """One child process whose output goes into a file.

    Attributes:
        name: for messages.
        log_path: stdout and stderr together.
        tag: value of `TAG_VARIABLE` in the environment of the whole tree.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        log_path: Path,
        environment: Mapping[str, str] | None = None,
        stdin: int | None = None,
    ) -> None:
        self.name = name
        self.log_path = log_path
        self.tag = uuid.uuid4().hex
        self.command = [str(part) for part in command]
        with log_path.open("ab") as log:
            self.popen = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL if stdin is None else stdin,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {}), TAG_VARIABLE: self.tag},
                # A Ctrl-C at the developer's keyboard must reach pytest alone:
                # the fixtures then end the processes in their order.
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def running(self) -> bool:
        return self.popen.poll() is None

    def log(self) -> str:
        """All it said up to now."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def wait_for_log(self, text: str, timeout_s: float, since: int = 0) -> None:
        """Wait for `text` in the log (from character `since` on) of a process that lives."""

        def said() -> bool:
            if text in self.log()[since:]:
                return True
            if not self.running:
                raise AssertionError(
                    f"{self.name} ended with {self.popen.returncode} before it said {text!r}:\n"
                    f"{tail(self.log())}"
                )
            return False

        wait_until(said, timeout_s, f"{self.name} says {text!r}")

    def wait(self, timeout_s: float) -> int:
        """Its exit code, once it ended by itself."""
        wait_until(lambda: not self.running, timeout_s, f"{self.name} ends")
        code: int = self.popen.returncode
        return code

    def send(self, number: signal.Signals) -> None:
        if self.running:
            self.popen.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGTERM, timeout_s: float = 10.0) -> int:
        """Ask it to end with `number`; after `timeout_s` kill it. Its exit code.

        For cleaning up. A test that wants to *see* a clean end uses `send` and `wait`.
        """
        self.send(number)
        try:
            return self.wait(timeout_s)
        except NotInTime:
            self.popen.kill()
            return self.wait(timeout_s)

    def tree(self) -> list[int]:
        """Pids of this process and of all that carry its tag, zombies left out."""
        return tagged_processes(self.tag)


def tagged_processes(tag: str) -> list[int]:
    """Pids of the living processes whose environment at exec had this tag."""
    needle = f"{TAG_VARIABLE}={tag}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if needle in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:  # ended while we looked, or of another user
            continue
    return sorted(found)


def shared_memory_files(pids: Iterable[int]) -> set[Path]:
    """Named shared memory (/dev/shm) that these processes have mapped or open."""
    names: set[str] = set()
    for pid in pids:
        process = Path("/proc") / str(pid)
        try:
            for line in (process / "maps").read_text().splitlines():
                if "/dev/shm/" in line:
                    names.add(line.split(maxsplit=5)[5])
            names.update(os.readlink(link) for link in (process / "fd").iterdir())
        except OSError:
            continue
    return {Path(name.removesuffix(" (deleted)")) for name in names if name.startswith("/dev/shm/")}


def tail(text: str, lines: int = 60) -> str:
    """The last lines of a log, for a message."""
    return "\n".join(text.splitlines()[-lines:])
