"""Prints from a thread of its own: who does not read what a hub prints does not hold it up.

Writing to a pipe that is full, a terminal that is paused or a disk that hangs waits, and the
supervisor must not. What does not fit into the queue is lost, counted, and told of as soon as the
rest flows again.
"""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from collections.abc import Callable
from typing import TextIO

MAX_WAITING_CHARS = 1 << 20
CLOSE_S = 0.5
"""How long an end waits for what is still to be written."""


class Outlet:
    """What is written is printed, in order, by a thread; ``close`` ends it.

    Args:
        stream: where it goes.
        lost: called on that thread with the number of lines that were lost.
        failed: called on that thread when a write has failed; what it was to write is lost.
        max_chars: room for what waits.
    """

    def __init__(
        self,
        stream: TextIO,
        lost: Callable[[int], object],
        failed: Callable[[OSError], object] = lambda error: None,
        max_chars: int = MAX_WAITING_CHARS,
    ) -> None:
        self._stream, self._lost, self._failed = stream, lost, failed
        self._max_chars = max_chars
        self._waiting: deque[str] = deque()
        self._chars = self._lost_lines = 0
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="outlet", daemon=True)
        self._thread.start()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def write(self, text: str) -> None:
        """Have a text printed; never waits."""
        with self._changed:
            if self._chars + len(text) > self._max_chars:
                self._lost_lines += text.count("\n")
                return
            self._waiting.append(text)
            self._chars += len(text)
            self._changed.notify()

    def flush(self) -> None:
        """Nothing: all is on its way."""

    def close(self, timeout_s: float = CLOSE_S) -> bool:
        """Wait until all is printed, but no longer than this; whether it is."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closing:
                    self._changed.wait()
                if not self._waiting:
                    return
                text = self._waiting.popleft()
            try:
                self._print(text)
            except (OSError, ValueError) as error:  # a full disk, nobody at the other end
                self._failed(error if isinstance(error, OSError) else OSError(str(error)))
            with self._changed:
                self._chars -= len(text)
                lost = self._lost_lines if self._chars <= self._max_chars // 2 else 0
                self._lost_lines -= lost
            if lost:
                self._lost(lost)

    def _print(self, text: str) -> None:
        try:
            fd = self._stream.fileno()
        except (OSError, ValueError):  # no file behind it
            self._stream.write(text)
            return
        # not by the stream: an interpreter that ends would wait for its lock
        left = memoryview(text.encode(self._stream.encoding or "utf-8", "backslashreplace"))
        while left:
            try:
                left = left[os.write(fd, left) :]
            except BlockingIOError:  # somebody has made the terminal non-blocking
                poll = select.poll()
                poll.register(fd, select.POLLOUT)
                poll.poll()
