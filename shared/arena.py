"""The arena: one memfd, mapped by every process of a hub.

It has no name in /dev/shm, so nothing is left behind whatever is killed; it lives as
long as one process maps it or holds its descriptor.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import time
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from shared import layout
from shared.limits import DriftMode, GuardMode, Underrun
from shared.protocol import rate_code

Records = npt.NDArray[Any]

_F_ADD_SEALS = 1033
_F_SEAL_SHRINK, _F_SEAL_GROW, _F_SEAL_SEAL = 2, 4, 1


class ArenaError(RuntimeError):
    """The memory is no arena, or one of another layout."""


class Arena(NamedTuple):
    """Views of the sections (see ``shared.layout``); kernels have it as a bundle."""

    header: Records
    control: Records
    clock: Records
    lanes: Records
    slots: Records
    rx: Records
    tx: Records
    pair: npt.NDArray[np.float32]
    pair_pan: npt.NDArray[np.float32]
    monitors: Records
    monitor_pair: npt.NDArray[np.float32]
    monitor_pan: npt.NDArray[np.float32]
    buses: npt.NDArray[np.float64]
    voices: npt.NDArray[np.uint8]
    strips: npt.NDArray[np.float32]
    jack: Records
    jack_groups: Records
    jack_in: npt.NDArray[np.float32]
    lines: npt.NDArray[np.float32]
    rings: npt.NDArray[np.float32]
    packets: npt.NDArray[np.uint8]


def create_arena(
    *,
    slots: int,
    rate_hz: int,
    period_frames: int,
    lanes: int = 0,
    cores: int | None = None,
    upmix: bool = False,
    guard_ns: int = 300_000,
    underrun: Underrun = Underrun.BURG,
    drift: DriftMode = DriftMode.AUTO,
    match_clients: bool = False,
    pacing: bool = False,
    level_guard: GuardMode = GuardMode.WATCH,
    limiter: bool = False,
    mono_centre: bool = False,
    downmix: float = 0.0,
    jack: bool = False,
) -> tuple[int, Arena]:
    """Make and map a new arena.

    Args:
        cores: how many the receivers share; None: all that this process may use.

    Returns:
        The memfd (inheritable only on request) and the views.

    Raises:
        OSError: no memory or no memfd.
    """
    table = layout.sections(slots, period_frames)
    size = table["end"][0]
    fd = os.memfd_create("tuttihub-arena", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, size)
        # a worker must never meet SIGBUS because somebody truncated the file
        fcntl.fcntl(fd, _F_ADD_SEALS, _F_SEAL_SHRINK | _F_SEAL_GROW | _F_SEAL_SEAL)
        arena = _views(fd, slots, period_frames)
    except OSError:
        os.close(fd)
        raise
    header = arena.header[0]
    header["layout_version"] = layout.LAYOUT_VERSION
    header["bytes"] = size
    header["slots"] = slots
    header["rate_hz"] = rate_hz
    header["period_frames"] = period_frames
    header["rate_code"] = rate_code(rate_hz)
    header["t0_ns"] = time.monotonic_ns()
    header["pid"] = os.getpid()
    header["created_ns"] = time.time_ns()
    header["lanes"] = lanes
    header["upmix"] = int(upmix)
    header["cores"] = len(os.sched_getaffinity(0)) if cores is None else cores
    header["guard_ns"] = guard_ns
    header["underrun"] = underrun
    header["drift"] = drift
    header["match_clients"] = int(match_clients)
    header["pacing"] = int(pacing)
    header["level_guard"] = level_guard
    header["mono_centre"] = int(mono_centre)
    header["downmix"] = downmix
    header["jack"] = int(jack)
    arena.control[0]["limiter"] = int(limiter)
    arena.control[0]["master"] = 1.0
    arena.slots["gain"] = 1.0
    arena.clock["tick"] = -1
    arena.clock["mixed"] = -1
    arena.jack["cycle"] = -1
    arena.jack["base_ticks"] = -1
    arena.jack_groups["ticks"] = -1
    header["magic"] = layout.MAGIC
    return fd, arena


def attach_arena(fd: int) -> Arena:
    """Map an existing arena.

    Raises:
        ArenaError: wrong magic, layout version or size.
    """
    try:
        raw = os.pread(fd, layout.HEADER.itemsize, 0)
        size = os.fstat(fd).st_size
    except OSError as error:
        raise ArenaError(f"descriptor {fd} cannot be read: {error}") from error
    if len(raw) < layout.HEADER.itemsize:
        raise ArenaError(f"{len(raw)} bytes is too short for an arena's header")
    header = np.frombuffer(raw, layout.HEADER)[0]
    if header["magic"] != layout.MAGIC:
        raise ArenaError(f"magic {int(header['magic']):#x} is not {layout.MAGIC:#x}")
    if header["layout_version"] != layout.LAYOUT_VERSION:
        raise ArenaError(
            f"layout version {header['layout_version']} is not {layout.LAYOUT_VERSION}"
        )
    if header["bytes"] != size:
        raise ArenaError(f"size {size} is not the header's {header['bytes']}")
    return _views(fd, int(header["slots"]), int(header["period_frames"]))


def _views(fd: int, slots: int, period_frames: int) -> Arena:
    table = layout.sections(slots, period_frames)
    mapped = mmap.mmap(fd, table["end"][0], mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
    return Arena(
        **{
            name: np.ndarray(shape, dtype, buffer=mapped, offset=offset)
            for name, (offset, dtype, shape) in table.items()
            if name != "end"
        }
    )
