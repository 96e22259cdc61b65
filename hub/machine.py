"""What the hub takes of its machine, and what is left: memory of its processes, disks."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from hub.directory import ClientInfo, HubInfo
from hub.exposition import Family, Labels, family

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_STATM_BYTES = 128


def process_memory(pid: int) -> tuple[int, int]:
    """Bytes of memory that a process alone has, and that it shares; nothing if it is gone."""
    try:
        fd = os.open(f"/proc/{pid}/statm", os.O_RDONLY)
    except OSError:
        return 0, 0
    try:
        _, resident, shared, *_ = map(int, os.read(fd, _STATM_BYTES).split())
    except (OSError, ValueError):
        return 0, 0
    finally:
        os.close(fd)
    return (resident - shared) * _PAGE_BYTES, shared * _PAGE_BYTES


class Machine:
    """Reads what the kernel knows of a hub, when asked.

    Args:
        arena_fd: of the arena's memory.
        directories: where the hub keeps files.
    """

    def __init__(self, arena_fd: int, directories: Iterable[Path] = ()) -> None:
        self._arena_fd = arena_fd
        self._directories = sorted({str(path) for path in directories})

    def families(self, hub: HubInfo, clients: Sequence[ClientInfo]) -> Iterator[Family]:
        """Memory and disks, now."""
        pids: dict[str, list[int | None]] = {
            "supervisor": [hub.pid],
            "zygote": [hub.zygote_pid],
            "bridge": [hub.bridge_pid],
            "mixer": [hub.mixer_pid],
            "lanes": list(hub.lane_pids),
            "receivers": list({client.receiver_pid for client in clients}),  # some share one
        }
        labels: list[Labels] = []
        values: list[float] = []
        for process, known in pids.items():
            private = shared = 0
            for pid in known:
                more = process_memory(pid) if pid is not None else (0, 0)
                private, shared = private + more[0], shared + more[1]
            labels += [Labels(process=process, kind=kind) for kind in ("private", "shared")]
            values += [private, shared]
        text = "Memory of the hub's processes, summed; what they share is in each of them"
        yield family("process_memory_bytes", "gauge", text, labels, values)
        text = "The hub's processes; a receiver may serve many clients"
        running = [sum(pid is not None for pid in known) for known in pids.values()]
        yield family("processes", "gauge", text, [Labels(process=each) for each in pids], running)

        arena = os.fstat(self._arena_fd)
        text = "The memory that all processes share: how large it may grow, and what is in use"
        kinds = [Labels(kind="size"), Labels(kind="used")]
        sizes = [arena.st_size, arena.st_blocks * 512]
        yield family("arena_bytes", "gauge", text, kinds, sizes)

        found = [(name, space) for name in self._directories if (space := _space(name))]
        where = [Labels(directory=name) for name, _ in found]
        for name, text, column in (
            ("disk_free_bytes", "Room that is left where the hub keeps files", 0),
            ("disk_size_bytes", "All room there", 1),
        ):
            values = [free_and_all[column] for _, free_and_all in found]
            yield family(name, "gauge", text, where, values, ("directory",))


def _space(directory: str) -> tuple[int, int] | None:
    """Bytes free and in all; None where there is no such directory."""
    try:
        found = os.statvfs(directory)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
