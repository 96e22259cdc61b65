"""CPU that the audio processes may have, have used, and were refused by kernel or host."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from hub.overload.realtime import realtime_limit

_ROOT = Path("/")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_CORE = 36
"""Of the words behind a process's name in its ``stat``: where it ran last."""


class Cores:
    """The cores of a hub's audio processes.

    Args:
        cores: how many they may run on.
        realtime: whether they run at SCHED_FIFO.

    Attributes:
        capacity: seconds a second that they may have: real-time processes are paused for a part of
            each second (``kernel.sched_rt_runtime_us``), and a cgroup may have a quota.
        limit: of real-time processes on a core; None: there is none, or they are none.
    """

    def __init__(self, cores: int, *, realtime: bool, root: Path = _ROOT) -> None:
        self._root = root
        self._groups = _groups(root)
        self.limit = realtime_limit(root) if realtime else None
        share = 1.0 if self.limit is None else self.limit.share
        quotas = [quota for group in self._groups if (quota := _quota(group)) is not None]
        self.capacity = min([cores * share, *quotas])
        self._used: dict[int, float] = {}
        self._grown: dict[int, float] = {}
        self._throttled = self._throttles()
        self._stolen_s = self._steals_s()

    def given_s(self, passed_s: float) -> float:
        """Of so many seconds, what they might have had: less what a host gave to other machines."""
        before, self._stolen_s = self._stolen_s, self._steals_s()
        stolen_s = min(max(self._stolen_s - before, 0.0), 0.9 * passed_s)
        return (passed_s - stolen_s) * self.capacity

    def used_s(self, pids: Iterable[int]) -> float:
        """Seconds that these processes have run since the last call."""
        now = {pid: run_s for pid in pids if (run_s := self._run_s(pid)) is not None}
        grown = {pid: run_s - self._used.get(pid, 0.0) for pid, run_s in now.items()}
        self._used, self._grown = now, grown
        return max(sum(grown.values()), 0.0)

    def busiest_s(self, unless: float) -> float:
        """Seconds of the last ``used_s`` on its busiest core, by where processes ran last.

        Args:
            unless: nobody is looked for where all together is less; that is it then, at most.
        """
        total_s = max(sum(self._grown.values()), 0.0)
        if total_s < unless:
            return total_s
        cores: dict[str, float] = {}
        for pid, grown_s in self._grown.items():
            fields = _read(self._root / f"proc/{pid}/stat").rpartition(")")[2].split()
            core = fields[_CORE] if len(fields) > _CORE else ""
            cores[core] = cores.get(core, 0.0) + grown_s
        return max(cores.values(), default=0.0)

    def throttled(self) -> bool:
        """Whether a cgroup's quota was used up since the last call."""
        before, self._throttled = self._throttled, self._throttles()
        return self._throttled > before

    def _run_s(self, pid: int) -> float | None:
        """CPU time of a process; None if it is gone."""
        found = _read(self._root / f"proc/{pid}/schedstat")  # to the nanosecond, where it is kept
        if found:
            return int(found.split()[0]) / 1e9
        found = _read(self._root / f"proc/{pid}/stat")
        if not found:
            return None
        fields = found.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S

    def _steals_s(self) -> float:
        """Seconds that the machine's host took from each of its cores, in the mean."""
        lines = [line.split() for line in _read(self._root / "proc/stat").splitlines()]
        cores = sum(line[0][:3] == "cpu" and line[0] != "cpu" for line in lines if line)
        if not cores or len(lines[0]) < 9:
            return 0.0
        return int(lines[0][8]) / _TICKS_PER_S / cores

    def _throttles(self) -> int:
        return sum(_counts(group / "cpu.stat").get("nr_throttled", 0) for group in self._groups)


def _groups(root: Path) -> list[Path]:
    """Our CPU cgroup and those above it, of version 2 or 1."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0":
            tops = [root / "sys/fs/cgroup"]
        elif "cpu" in controllers.split(","):
            tops = [root / "sys/fs/cgroup" / controllers, root / "sys/fs/cgroup/cpu"]
        else:
            continue
        for top in tops:
            own = top / path.lstrip("/")
            inside = [own, *own.parents]
            groups = [group for group in inside if group.is_relative_to(top)]
            if found := [group for group in groups if (group / "cpu.stat").exists()]:
                return found
    return []


def _quota(group: Path) -> float | None:
    """Seconds a second that a cgroup may have; None: as many as there are."""
    told = _read(group / "cpu.max").split()
    if not told:
        told = [_read(group / f"cpu.cfs_{what}_us").strip() for what in ("quota", "period")]
    try:
        quota, period = (int(word) for word in told)
    except ValueError:
        return None
    return quota / period if quota > 0 and period > 0 else None


def _counts(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in _read(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


def _read(path: Path) -> str:
    """A file of the kernel's; nothing where there is none."""
    try:
        return path.read_text()
    except OSError:
        return ""
