"""A hub that only returns what it hears, a few packets later, and can be made to misbehave."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

from shared.protocol import EXIT_PACKET, HELLO_BYTES, pack_answer

Answers = Callable[[int, bytes], list[bytes]]
"""What is returned for a datagram: its number in the session, and itself."""


def echo(number: int, datagram: bytes) -> list[bytes]:
    return [datagram]


class EchoHub:
    """On loopback; each hello gets a UDP port of its own.

    Args:
        answers: for each session in their order, the last one for all further ones.
        delay: packets that are kept.
    """

    def __init__(self, *answers: Answers, delay: int = 4) -> None:
        self._answers = list(answers) or [echo]
        self._delay = delay
        self._sessions = 0
        self._end = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self.port: int = self._listener.getsockname()[1]
        self.good_byes = 0

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end.set()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            pass
        for thread in self._threads:
            thread.join(5.0)
        self._listener.close()

    def shut(self) -> None:
        """Nobody is let in any more."""
        self._listener.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            with peer:
                if self._end.is_set():
                    return
                if not peer.recv(HELLO_BYTES):
                    continue
                udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                udp.bind(("127.0.0.1", 0))
                udp.settimeout(0.1)
                answers = self._answers[min(self._sessions, len(self._answers) - 1)]
                self._sessions += 1
                thread = threading.Thread(target=self._serve, args=(udp, answers), daemon=True)
                self._threads.append(thread)
                thread.start()
                peer.sendall(pack_answer(udp.getsockname()[1]))

    def _serve(self, udp: socket.socket, answers: Answers) -> None:
        kept: deque[bytes] = deque()
        number = 0
        with udp:
            while not self._end.is_set():
                try:
                    datagram, source = udp.recvfrom(65536)
                except TimeoutError:
                    continue
                if datagram == EXIT_PACKET:
                    self.good_byes += 1
                    continue
                kept.append(datagram)
                if len(kept) > self._delay:
                    for out in answers(number, kept.popleft()):
                        udp.sendto(out, source)
                    number += 1
