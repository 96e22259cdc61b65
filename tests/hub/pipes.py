"""Pipes that nobody reads."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress

F_SETPIPE_SZ = 1031
PAGE = 4096


class Pipe:
    """A pipe of one page, which nobody reads until it is asked to."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        fcntl.fcntl(self.writing, F_SETPIPE_SZ, PAGE)
        self.stream = os.fdopen(self.writing, "w", encoding="utf-8")
        self.filled = 0

    def fill(self) -> None:
        os.set_blocking(self.writing, False)
        with suppress(BlockingIOError):
            while True:
                self.filled += os.write(self.writing, b"." * 64)
        os.set_blocking(self.writing, True)

    def read(self, size: int) -> str:
        """So many bytes of what was printed."""
        found = b""
        while len(found) < self.filled + size:
            found += os.read(self.reading, PAGE)
        return found[self.filled :].decode()

    def close(self) -> None:
        os.close(self.reading)
        with suppress(OSError):
            self.stream.close()
