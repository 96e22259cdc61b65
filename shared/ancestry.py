"""Whose child a process is, as the machine tells in /proc."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Ancestry:
    """From /proc/PID/stat: who a process belongs to."""

    pid: int
    parent: int
    session: int


def ancestry(pid: int) -> Ancestry | None:
    """Parent and session id of a process; None when there is none of this pid."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # the command's name, in brackets, may hold anything, brackets too
    fields = stat.rpartition(")")[2].split()
    return Ancestry(pid, int(fields[1]), int(fields[3]))


def children_in(session: int) -> Iterator[int]:
    """Children of this process that belong to a session, zombies included."""
    ours = os.getpid()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            found = ancestry(int(entry.name))
            if found is not None and (found.parent, found.session) == (ours, session):
                yield found.pid
