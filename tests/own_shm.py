"""Shared memory that a test run has to itself: JACK has room for eight servers on a machine.

A server that was killed keeps its place, and several runs side by side would wait for each
other's. Both are over with a ``/dev/shm`` of one's own, which goes with its last process.
"""

from __future__ import annotations

import ctypes
import os

_CLONE_NEWNS = 0x0002_0000
_MS_NOSUID, _MS_NODEV, _MS_REC, _MS_SLAVE = 0x2, 0x4, 0x4000, 0x8_0000


def own_shared_memory() -> bool:
    """Give this process, and all that it starts, an empty ``/dev/shm``.

    Returns:
        False where that is not allowed (it needs root): then it is everybody's.

    Raises:
        OSError: it got a mount namespace, but could not mount there.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) != 0:
        return False
    for source, target, kind, flags, options in (
        (None, b"/", None, _MS_REC | _MS_SLAVE, None),  # what is mounted here stays here
        (b"tmpfs", b"/dev/shm", b"tmpfs", _MS_NOSUID | _MS_NODEV, b"mode=1777"),
    ):
        if libc.mount(source, target, kind, ctypes.c_ulong(flags), options) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), target.decode())
    return True
