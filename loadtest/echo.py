"""The floor: a bare echo of C speed with JackTrip's handshake, to compare hubs with.

One process, one thread on the audio path, one UDP socket a client as a hub must have:
epoll_wait, then one recvfrom and one sendto for each socket that holds something, compiled
to the machine code that C would give. Nothing is parsed, mixed or timed, so that packets of
any size, depth and redundancy come back as they are, good-byes too.

    python -m loadtest.echo --port 4464 --clients 100
"""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
import threading
from types import FrameType

import click
import numpy as np
from numba import typeof

from loadtest.clients.wires import EPOLL_FD_WORD, EPOLL_WORDS, raise_descriptor_limit, watch
from loadtest.conduct.realtime import ask_for_realtime
from shared.kernels import kernel
from shared.libc import MSG_DONTWAIT, MSG_NOSIGNAL, epoll_wait, recvfrom, sendto
from shared.protocol import MAX_DATAGRAM_BYTES, NAME_GRACE_S, HelloReader, PeerError, pack_answer

READY = "echo ready"
EVENTS = 256
WAIT_MS = 200
HELLO_S = 1.0
"""Patience for a hello."""
_FD_WORD = EPOLL_FD_WORD
_NAME_BYTES = 32


@kernel
def echo(epoll, events, packet, name, name_bytes, stop):
    """Send every datagram back to where it came from, until stop[0].

    events: (E, words) int32; packet: (bytes,) uint8; name: (32,) uint8; name_bytes: (1,)
    int32; stop: (1,) int64.

    Returns: datagrams returned.
    """
    count = 0
    while stop[0] == 0:
        ready = epoll_wait(epoll, events.ctypes.data, events.shape[0], WAIT_MS)
        for e in range(ready):
            fd = events[e, _FD_WORD]
            name_bytes[0] = name.size
            got = recvfrom(
                fd, packet.ctypes.data, packet.size, MSG_DONTWAIT, name.ctypes.data,
                name_bytes.ctypes.data,
            )  # fmt: skip
            if got > 0:
                sendto(fd, packet.ctypes.data, got, MSG_NOSIGNAL, name.ctypes.data, name_bytes[0])
                count += 1
    return count


def open_ports(host: str, count: int) -> list[socket.socket]:
    """UDP sockets for all clients, any ports."""
    sockets = []
    for _ in range(count):
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind((host, 0))
        sockets.append(udp)
    return sockets


def answer_hellos(listener: socket.socket, sockets: list[socket.socket]) -> None:
    """Give every client that says hello the next port, round and round."""
    index = 0
    while True:
        try:
            tcp, _ = listener.accept()
        except OSError:  # closed: the end
            return
        with tcp, contextlib.suppress(OSError, PeerError):
            if _says_hello(tcp):
                tcp.sendall(pack_answer(sockets[index % len(sockets)].getsockname()[1]))
                index += 1


def _says_hello(tcp: socket.socket) -> bool:
    """Read a hello, with a name or without.

    Raises:
        OSError, PeerError: it was none.
    """
    reader = HelloReader()
    tcp.settimeout(HELLO_S)
    with contextlib.suppress(TimeoutError):
        while not reader.complete and (more := tcp.recv(256)):
            reader.receive(more)
            if reader.hello is not None:
                tcp.settimeout(NAME_GRACE_S)
    return reader.hello is not None


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=4464, show_default=True, help="TCP port; 0: any.")
@click.option("--clients", default=100, show_default=True, help="UDP sockets.")
@click.option("--seconds", default=3600.0, show_default=True, help="Longest life.")
@click.option("--realtime/--no-realtime", default=True, help="Ask for SCHED_FIFO.")
def main(host: str, port: int, clients: int, seconds: float, realtime: bool) -> None:
    """Echo every client's packets, at the price of the system calls."""
    raise_descriptor_limit(clients + 64)
    stop = np.zeros(1, np.int64)
    buffers = (
        np.zeros((EVENTS, EPOLL_WORDS), np.int32),
        np.zeros(MAX_DATAGRAM_BYTES, np.uint8),
        np.zeros(_NAME_BYTES, np.uint8),
        np.zeros(1, np.int32),
        stop,
    )

    def end(number: int, frame: FrameType | None) -> None:
        stop[0] = 1

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
        signal.signal(number, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server((host, port), backlog=512))
        sockets = [stack.enter_context(udp) for udp in open_ports(host, clients)]
        epoll = stack.enter_context(watch(sockets)).fileno()
        echo.compile(typeof((epoll, *buffers)).types)

        def serve() -> None:
            if realtime:
                ask_for_realtime()
            echo(epoll, *buffers)

        thread = threading.Thread(target=serve, name="echo")
        thread.start()
        threading.Thread(target=answer_hellos, args=(listener, sockets), daemon=True).start()
        print(f"{READY} on port {listener.getsockname()[1]}", file=sys.stderr, flush=True)
        thread.join()


if __name__ == "__main__":
    main()
