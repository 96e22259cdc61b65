"""Punctuality of a thread of ours: timer slack, real-time scheduling, memory that is there."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator

PRIORITY = 30
"""SCHED_FIFO of generator and echo: above plain programs, below a hub's audio."""
_PR_SET_TIMERSLACK = 29
_MCL_CURRENT, _MCL_FUTURE = 1, 2
_LIBC = ctypes.CDLL(None, use_errno=True)


def ask_for_realtime(priority: int = PRIORITY) -> bool:
    """Make the calling thread as punctual as it may be; whether SCHED_FIFO was permitted."""
    _LIBC.prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(priority))
    except OSError:  # not permitted, or this system does not have it
        return False
    return True


@contextlib.contextmanager
def resident() -> Iterator[bool]:
    """Keep this process's memory in place, also what it takes from now on: yields whether it may.

    A page's first touch costs microseconds, and on a virtual machine whose host has to find
    it, milliseconds: a generator that meets thousands of them is late.
    """
    done = _LIBC.mlockall(_MCL_CURRENT | _MCL_FUTURE) == 0
    try:
        yield done
    finally:
        if done:
            _LIBC.munlockall()
