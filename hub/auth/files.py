"""Writing a file so that a hub that watches it sees the old one or the new one, whole."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

PRIVATE = 0o600


def write_atomically(path: Path, data: bytes, mode: int) -> None:
    """Replace a file, or make it; a link stays a link, and the owner the owner.

    Raises:
        OSError: it cannot be written; the old one is as it was.
    """
    path = path.resolve()
    fd, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(fd, "wb") as file:
            os.fchmod(fd, mode)
            with contextlib.suppress(OSError):  # nothing was there, or it is not ours to give
                before = path.stat()
                os.fchown(fd, before.st_uid, before.st_gid)
            file.write(data)
            file.flush()
            os.fsync(fd)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


@contextlib.contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Between reading a file and replacing it: other commands on files of its folder wait.

    Raises:
        OSError: there is no such folder.
    """
    fd = os.open(path.resolve().parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
