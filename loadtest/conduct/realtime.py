"""Punctuality of a thread of ours: timer slack and real-time scheduling."""

from __future__ import annotations

import ctypes
import os

PRIORITY = 30
"""SCHED_FIFO of generator and echo: above plain programs, below a hub's audio."""
_PR_SET_TIMERSLACK = 29


def ask_for_realtime() -> bool:
    """Make the calling thread as punctual as it may be; whether SCHED_FIFO was permitted."""
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(PRIORITY))
    except PermissionError:
        return False
    return True
