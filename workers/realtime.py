"""What the audio processes ask of the kernel: scheduling class, timer slack, locked memory.

Each is asked for once and may be refused; ``refusals`` says beforehand, in words, what
this machine will refuse and what to do about it, so that the hub can say it at start.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import resource
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from shared.arena import Arena

MIXER_PRIORITY, LANE_PRIORITY, RECEIVER_PRIORITY = 20, 18, 15
"""SCHED_FIFO priorities: above desktop audio (10), below the kernel's threaded interrupts (50)."""
ZYGOTE_NICE = -20
"""Before all other ordinary processes: newcomers wait for it on a busy machine, and the ends of
processes. Not SCHED_FIFO below audio's: where audio fills a core, the kernel pauses all of that
together, and what it leaves, 50 ms of each second, is for ordinary processes alone."""

PR_SET_NAME, _PR_SET_TIMERSLACK, _PR_SET_THP_DISABLE = 15, 29, 41
MLOCK_ONFAULT, _MCL_CURRENT = 1, 1
FIFO = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
_M_MMAP_THRESHOLD = -3
_LARGE_BYTES = 32 * 1024
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A setting that the machine refuses.

    Attributes:
        what: the setting.
        error: what the kernel says.
        advice: what to do about it.
    """

    what: str
    error: str
    advice: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def set_name(name: str) -> None:
    """Name of this process in ps and /proc/PID/comm, cut to 15 bytes."""
    _libc.prctl(PR_SET_NAME, name.encode()[:15], 0, 0, 0)


def set_affinity(cpus: Sequence[int] | None) -> None:
    """Run on these processors only; None leaves it as it is.

    Raises:
        OSError: none of them exists or is allowed.
    """
    if cpus:
        os.sched_setaffinity(0, cpus)


def _fifo(priority: int) -> None:
    os.sched_setscheduler(0, FIFO, os.sched_param(priority))


def hurry_forks() -> None:
    """The zygote's own priority, which a worker keeps until it takes its own."""
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, ZYGOTE_NICE)


def sharpen_timers() -> None:
    """1 ns of timer slack: an ordinary process may otherwise be woken 50 µs late."""
    _libc.prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)


def map_large_buffers() -> None:
    """Large allocations are mappings of their own, and cost memory only where they are touched.

    Otherwise malloc takes them from its heap once one of that size was freed, and clears them:
    each worker would own, touched, whatever rooms it was given. Nor may the kernel give a room
    whose first byte is touched a page of 2 MiB, as some systems have it do.
    """
    _libc.mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
    _libc.prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0)


def become_realtime(priority: int) -> None:
    """SCHED_FIFO when permitted."""
    with contextlib.suppress(PermissionError):  # said once for the whole hub: see refusals()
        _fifo(priority)


def _lock(address: int, size: int) -> int:
    """mlock2 on fault: pages are locked as they are touched. Returns 0 or errno."""
    done = _libc.mlock2(ctypes.c_void_p(address), ctypes.c_size_t(size), MLOCK_ONFAULT)
    return 0 if done == 0 else ctypes.get_errno()


def lock_arena(arena: Arena) -> int:
    """Keep the arena's touched pages in memory. Returns 0 or errno."""
    return _lock(arena.header.ctypes.data, int(arena.header[0]["bytes"]))


def lock_everything() -> None:
    """Lock all that is mapped now: for the mixer, which does not mind its size."""
    _libc.mlockall(_MCL_CURRENT | 4)  # MCL_ONFAULT: what is never touched is never backed


def freeze_memory() -> None:
    """No garbage collection from here on: it would touch, and so copy, shared pages."""
    gc.disable()
    gc.freeze()


def refusals(arena: Arena, realtime: bool) -> list[Refusal]:
    """Try each setting in this process, undo it, and tell which were refused."""
    refused = []
    if realtime:
        try:
            _fifo(RECEIVER_PRIORITY)
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        except PermissionError as error:
            limit = resource.getrlimit(resource.RLIMIT_RTPRIO)[1]
            refused.append(
                Refusal(
                    "SCHED_FIFO",
                    f"{error.strerror} (rtprio limit {limit})",
                    f"grant CAP_SYS_NICE, or rtprio {MIXER_PRIORITY} in "
                    "/etc/security/limits.d or LimitRTPRIO= of the systemd unit; "
                    "without it a busy machine delays the mix",
                )
            )
    error_number = lock_arena(arena)
    if error_number:
        limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]
        refused.append(
            Refusal(
                "locked memory",
                f"{os.strerror(error_number)} (memlock limit {limit} bytes)",
                "grant CAP_IPC_LOCK, or memlock unlimited in /etc/security/limits.d "
                "or LimitMEMLOCK=infinity of the systemd unit",
            )
        )
    else:
        _libc.munlock(
            ctypes.c_void_p(arena.header.ctypes.data), ctypes.c_size_t(arena.header[0]["bytes"])
        )
    return refused
