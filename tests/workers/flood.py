"""A flood: very many datagrams a second at one port, from a thread that hardly needs Python.

``sendmmsg`` takes a batch a call; between batches the thread sleeps, so that the rate
is what was asked for and the flood leaves the machine room to do anything else.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import threading
import time
from collections.abc import Sequence
from types import TracebackType

from tests.workers.players import schedule

_libc = ctypes.CDLL(None, use_errno=True)
_IOVEC = struct.Struct("@PN")
_MMSGHDR = struct.Struct("@PI4xPNPNi4xI4x")
BATCH = 200
_PRIORITY = 4
"""The musicians go before it; whatever else the machine does comes after."""


class Flood:
    """Sends datagrams round-robin at a rate, from ``with`` to its end.

    Attributes:
        sent: datagrams that left so far.
    """

    def __init__(
        self, sock: socket.socket, hub: tuple[str, int], datagrams: Sequence[bytes], per_s: int
    ) -> None:
        self._socket = sock
        self._socket.connect(hub)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self._pause_s = BATCH / per_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="flood")
        self.sent = 0
        chosen = [datagrams[k % len(datagrams)] for k in range(BATCH)]
        self._buffers = [ctypes.create_string_buffer(data, max(len(data), 1)) for data in chosen]
        vectors = b"".join(
            _IOVEC.pack(ctypes.addressof(buffer), len(data))
            for buffer, data in zip(self._buffers, chosen, strict=True)
        )
        self._vectors = ctypes.create_string_buffer(vectors, len(vectors))
        base = ctypes.addressof(self._vectors)
        messages = b"".join(
            _MMSGHDR.pack(0, 0, base + k * _IOVEC.size, 1, 0, 0, 0, 0) for k in range(BATCH)
        )
        self._messages = ctypes.create_string_buffer(messages, len(messages))

    def __enter__(self) -> Flood:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        schedule(os.SCHED_FIFO, _PRIORITY)
        due = time.monotonic()
        while not self._stopping.is_set():
            done = _libc.sendmmsg(self._socket.fileno(), self._messages, BATCH, 0)
            self.sent += max(done, 0)
            due = max(due + self._pause_s, time.monotonic() - 0.05)
            pause = due - time.monotonic()
            if pause > 0:
                time.sleep(pause)
