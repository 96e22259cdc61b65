"""Processes of ours by descriptor, and the duty to bury the children of a dead child.

A pid may be another process's by the time one uses it; a pidfd never is. As *subreaper*
the supervisor becomes the parent of all workers whose own parent, the zygote, has died:
they play on, and it learns how they end.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal

from shared.ancestry import ancestry

_PR_SET_CHILD_SUBREAPER = 36
HURRY_NICE = -20


def become_subreaper() -> None:
    """Make this process the parent of orphans among its descendants.

    Raises:
        OSError: not Linux 3.4 or later.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")


def hurry() -> None:
    """Go before ordinary processes where that is permitted: newcomers wait for this one."""
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, HURRY_NICE)


def open_child(pid: int) -> int | None:
    """A pidfd of a child of this process; None when it is no child of ours."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return None
    found = ancestry(pid)
    if found is None or found.parent != os.getpid():
        os.close(pidfd)
        return None
    return pidfd


def reap(pidfd: int) -> int | None:
    """Exit code, or minus the signal, of a child that has ended; None while it runs.

    Raises:
        ChildProcessError: not a child, or reaped before.
    """
    ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    if ended is None:
        return None
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


def kill(pidfd: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal; nothing when the process is gone."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, number)
