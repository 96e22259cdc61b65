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

    Args:
        mode: permissions; what an old file's group may do it may do with the new one.

    Raises:
        OSError: it cannot be written, or not be left to its owner; the old one is as it was.
    """
    path = path.resolve()
    try:
        fd, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:  # of a name that nobody has given
        raise OSError(error.errno, error.strerror, str(path)) from None
    try:
        with os.fdopen(fd, "wb") as file:
            with contextlib.suppress(FileNotFoundError):
                before = path.stat()
                os.fchown(fd, before.st_uid, before.st_gid)
                mode |= before.st_mode & 0o070
            os.fchmod(fd, mode)
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
