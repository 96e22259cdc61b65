"""Who has a port: for the message that it is in use.

Linux tells which socket listens (/proc/net) and, to its owner and to root, which process
holds that socket (/proc/PID/fd).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_TCP_LISTEN = "0A"


def tcp_owner(port: int) -> str | None:
    """'jacktrip (pid 1234)' of a program that listens on this TCP port, if it can be told."""
    return _holder(set(_inodes("tcp", port, _TCP_LISTEN)))


def udp_owner(port: int) -> str | None:
    """The same for a bound UDP port."""
    return _holder(set(_inodes("udp", port, None)))


def _inodes(protocol: str, port: int, state: str | None) -> Iterator[str]:
    for table in (protocol, f"{protocol}6"):
        try:
            lines = Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            columns = line.split()
            local, found, inode = columns[1], columns[3], columns[9]
            if int(local.rpartition(":")[2], 16) == port and state in (None, found):
                yield inode


def _holder(inodes: set[str]) -> str | None:
    wanted = {f"socket:[{inode}]" for inode in inodes}
    if not wanted:
        return None
    for process in Path("/proc").iterdir():
        if process.name.isdecimal() and any(link in wanted for link in _links(process / "fd")):
            try:
                name = (process / "comm").read_text().strip()
            except OSError:
                continue
            return f"{name} (pid {process.name})"
    return None


def _links(directory: Path) -> Iterator[str]:
    try:
        entries = list(directory.iterdir())
    except OSError:  # another user's, or gone
        return
    for entry in entries:
        try:
            yield os.readlink(entry)
        except OSError:
            continue
