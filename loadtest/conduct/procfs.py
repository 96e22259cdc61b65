"""What a process tree costs, from /proc: CPU time, context switches, private memory.

CPU time is the scheduler's own (``schedstat``, ns); ``stat`` gives only how it divides
into user and system. Processes of a tree are grouped by kind: their name without number.
"""

from __future__ import annotations

import os
import re
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
CLOCK_MONOTONIC_COARSE = 6
"""It moves with Linux's clock, so that its resolution is the clock's period."""
_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_LISTEN = "0A"
TICK_NS = round(1e9 * time.clock_getres(CLOCK_MONOTONIC_COARSE))
"""Between two looks of Linux's clock at who runs, and whether in its own code or the kernel's."""
ENDED = "ended"
"""Kind of processes that are gone."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One process at one moment; times are sums since its start.

    Attributes:
        kind: name without trailing numbers.
        run_ns: CPU time of its living threads, by thread.
        user_ns, system_ns: the same (dead threads too), by clock ticks.
        voluntary, involuntary: context switches.
        reaped_user_ns, reaped_system_ns: CPU time of its children that have ended and were
            waited for, theirs included, by clock ticks.
    """

    kind: str
    run_ns: dict[int, int]
    user_ns: int
    system_ns: int
    voluntary: int
    involuntary: int
    reaped_user_ns: int = 0
    reaped_system_ns: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A process tree at one moment (CLOCK_MONOTONIC ns)."""

    at_ns: int
    processes: dict[int, Sample]


@dataclass(slots=True)
class Usage:
    """What some processes used between two snapshots, all µs in all."""

    processes: int = 0
    cpu_us: float = 0.0
    user_us: float = 0.0
    system_us: float = 0.0
    voluntary: int = 0
    involuntary: int = 0

    def add(self, before: Sample, after: Sample) -> None:
        self.processes += 1
        run_ns = sum(ns - before.run_ns.get(tid, 0) for tid, ns in after.run_ns.items())
        self.cpu_us += run_ns / 1000
        self.user_us += (after.user_ns - before.user_ns) / 1000
        self.system_us += (after.system_ns - before.system_ns) / 1000
        # those of threads that have ended are gone
        self.voluntary += max(0, after.voluntary - before.voluntary)
        self.involuntary += max(0, after.involuntary - before.involuntary)


def tree(*roots: int) -> list[int]:
    """Pids of processes and all their living descendants."""
    children: dict[int, list[int]] = defaultdict(list)
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                parent = int(_stat_fields(int(entry.name))[1])
            except (OSError, IndexError):  # ended while we looked
                continue
            children[parent].append(int(entry.name))
    found: set[int] = set()
    pending = list(roots)
    while pending:
        pid = pending.pop()
        if pid not in found:
            found.add(pid)
            pending += children[pid]
    return sorted(found)


def snapshot(pids: Iterable[int]) -> Snapshot:
    """Sample processes; those that have ended are left out."""
    processes: dict[int, Sample] = {}
    at_ns = time.monotonic_ns()
    for pid in pids:
        try:
            processes[pid] = _sample(pid)
        except (OSError, IndexError):
            continue
    return Snapshot(at_ns, processes)


def usage(before: Snapshot, after: Snapshot, newcomers: bool = False) -> dict[str, Usage]:
    """Use between two snapshots by kind, of the processes that are in both.

    newcomers: what began in between counts too, from its start; and what ended, until its end,
        under the kind ENDED (a process's name goes with it). That is known of those whose
        parent, or a parent of that, is in both snapshots and has waited for them, in clock ticks
        and without context switches. It is left out where it is less than a tick.
    """
    kinds: dict[str, Usage] = defaultdict(Usage)
    for pid, sample in after.processes.items():
        if pid in before.processes:
            kinds[sample.kind].add(before.processes[pid], sample)
        elif newcomers:
            kinds[sample.kind].add(Sample(sample.kind, {}, 0, 0, 0, 0), sample)
    if newcomers and (ended := _ended(before, after)).cpu_us > 0:
        kinds[ENDED] = ended
    return dict(kinds)


def _ended(before: Snapshot, after: Snapshot) -> Usage:
    """What processes used between the snapshots that are not in the second any more: what has
    been added to their parents' accounts, without what they had used before."""
    user_ns = system_ns = 0
    for pid, sample in after.processes.items():
        former = before.processes.get(pid)
        user_ns += sample.reaped_user_ns - (former.reaped_user_ns if former else 0)
        system_ns += sample.reaped_system_ns - (former.reaped_system_ns if former else 0)
    gone = [sample for pid, sample in before.processes.items() if pid not in after.processes]
    user_ns -= sum(sample.user_ns + sample.reaped_user_ns for sample in gone)
    system_ns -= sum(sample.system_ns + sample.reaped_system_ns for sample in gone)
    user_us, system_us = max(0, user_ns) / 1000, max(0, system_ns) / 1000
    return Usage(len(gone), user_us + system_us, user_us, system_us)


def private_kib(pids: Iterable[int]) -> dict[int, int]:
    """Private memory of each process (USS); those that may not be read are left out."""
    return {pid: private for pid, (private, _) in memory_kib(pids).items()}


def memory_kib(pids: Iterable[int]) -> dict[int, tuple[int, int]]:
    """Private memory of each process (USS), and its share of what it shares (PSS − USS).

    Those that may not be read are left out.
    """
    sizes: dict[int, tuple[int, int]] = {}
    for pid in pids:
        try:
            lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()[1:]
        except OSError:
            continue
        parts = {name: int(value.split()[0]) for name, value in (row.split(":") for row in lines)}
        private = sum(size for name, size in parts.items() if name.startswith("Private_"))
        sizes[pid] = private, max(0, parts.get("Pss", 0) - private)
    return sizes


def kind(pid: int) -> str:
    """A process's name without trailing numbers.

    Raises:
        OSError: it has ended.
    """
    name = (PROC / str(pid) / "comm").read_text().strip()
    return re.sub(r"[\W\d_]+$", "", name) or name


def listener_pid(port: int) -> int | None:
    """The oldest process that listens on a local TCP port, as far as we may look."""
    inodes = set()
    for table in ("net/tcp", "net/tcp6"):
        try:
            lines = (PROC / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTEN and int(fields[1].rsplit(":", 1)[1], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    holders = [pid for pid in _pids() if inodes and _holds(pid, inodes)]
    return min(holders, key=_start_time, default=None)


def steal_s() -> float:
    """Seconds that the hypervisor gave our cores to somebody else, since boot."""
    fields = (PROC / "stat").read_text().split("\n", 1)[0].split()
    return int(fields[8]) * _TICK_NS / 1e9


def _pids() -> list[int]:
    return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()]


def _holds(pid: int, inodes: set[str]) -> bool:
    try:
        return any(os.readlink(link) in inodes for link in (PROC / str(pid) / "fd").iterdir())
    except OSError:
        return False


def _start_time(pid: int) -> int:
    try:
        return int(_stat_fields(pid)[19])
    except (OSError, IndexError):
        return 1 << 62


def _stat_fields(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the state (its third) on; the name may hold anything."""
    return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


def _sample(pid: int) -> Sample:
    fields = _stat_fields(pid)
    voluntary = involuntary = 0
    run_ns: dict[int, int] = {}
    for task in (PROC / str(pid) / "task").iterdir():
        run_ns[int(task.name)] = int((task / "schedstat").read_text().split()[0])
        for line in (task / "status").read_text().splitlines():
            if line.startswith("voluntary_ctxt"):
                voluntary += int(line.split()[1])
            elif line.startswith("nonvoluntary_ctxt"):
                involuntary += int(line.split()[1])
    return Sample(
        kind(pid), run_ns, int(fields[11]) * _TICK_NS, int(fields[12]) * _TICK_NS, voluntary,
        involuntary, int(fields[13]) * _TICK_NS, int(fields[14]) * _TICK_NS,
    )  # fmt: skip
