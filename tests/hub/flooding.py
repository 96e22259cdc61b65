"""Control clients that mean no good, each a process of its own: ``flooding.py KIND ENDPOINT``.

It says "." when it has begun, and goes on until it is killed.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import zmq

SOCKETS = 16
MATRIX = 3
"""Listeners and sources of the matrices: slots 0, 1 and 2."""


def dealers(endpoint: str, count: int = SOCKETS) -> list[zmq.Socket[bytes]]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socks = [context.socket(zmq.DEALER) for _ in range(count)]
    for sock in socks:
        sock.connect(endpoint)
    return socks


def request(op: str, **fields: Any) -> bytes:
    return json.dumps({"v": 1, "op": op, **fields}).encode()


def begun() -> None:
    os.write(1, b".")


def send_for_ever(
    endpoint: str, next_message: Callable[[], list[bytes]], count: int = SOCKETS
) -> None:
    """As fast as it goes, without ever reading an answer."""
    socks = dealers(endpoint, count)
    begun()
    while True:
        for sock in socks:
            try:
                sock.send_multipart(next_message(), zmq.NOBLOCK)
            except zmq.Again:
                continue


def garbage(endpoint: str) -> None:
    rng = random.Random(1)
    texts = [b"{}", b"[" * 9999, b"\xff" * 99, request("fly"), request("gain", source=[]), b""]

    def some() -> list[bytes]:
        text = rng.choice([*texts, rng.randbytes(rng.randrange(2000))])
        return [text] * rng.choice([1, 1, 1, 2, 9])

    send_for_ever(endpoint, some)


def pings(endpoint: str) -> None:
    send_for_ever(endpoint, lambda: [request("ping")])


def matrices(endpoint: str) -> None:
    """Many that hold in one message, and large ones that are wrong at their very end."""
    slots = list(range(MATRIX))
    ones = {"op": "matrix", "listeners": slots, "sources": slots, "gains": [[1] * MATRIX] * MATRIX}
    good = request("batch", requests=[ones] * 50)
    row = [1] * 500
    wrong = request("matrix", listeners=slots, sources=slots, gains=[*[row] * 499, [*row, "x"]])
    turns = itertools.cycle([[good], [wrong]])
    send_for_ever(endpoint, lambda: next(turns), 2)


def half_open(endpoint: str) -> None:
    """Connections that stay where they are, in or before ZeroMQ's greeting."""
    path, held = endpoint.removeprefix("ipc://"), []
    greeting = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\0NULL"
    for k in range(500):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(path)
        sock.send(greeting[: 1 + k % len(greeting)])
        held.append(sock)
        if k == 9:
            begun()
    signal.pause()


def large(endpoint: str) -> None:
    """Always in the middle of sending: a pipe holds far less."""
    (sock,) = dealers(endpoint, 1)
    text = request("ping", padding="x" * (3 << 20))
    begun()
    while True:
        sock.send(text)


def deaf(endpoint: str) -> None:
    """Subscribes to all events, and never reads."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    for _ in range(SOCKETS):
        sock = context.socket(zmq.SUB)
        sock.rcvhwm = 1
        sock.subscribe(b"")
        sock.connect(f"{endpoint}-events")
        assert sock.poll(5000)
    begun()
    os.kill(os.getpid(), signal.SIGSTOP)


def eventful(endpoint: str) -> None:
    """Each of these is told to all who subscribe, and changes nothing."""
    send_for_ever(endpoint, lambda: [request("gain", source=0, gain=1)])


KINDS: dict[str, Callable[[str], None]] = {
    "garbage": garbage, "pings": pings, "matrices": matrices, "half-open": half_open,
    "large": large, "deaf": deaf, "eventful": eventful,
}  # fmt: skip


@contextmanager
def flooding(endpoint: str, *kinds: str) -> Iterator[None]:
    """They flood as soon as the block begins, and are killed with it."""
    floods = [
        subprocess.Popen([sys.executable, __file__, kind, endpoint], stdout=subprocess.PIPE)
        for kind in kinds
    ]
    try:
        for flood in floods:
            assert flood.stdout is not None
            assert flood.stdout.read(1) == b".", "it did not begin"
        yield
    finally:
        for flood in floods:
            flood.kill()
            flood.wait()
            if flood.stdout is not None:
                flood.stdout.close()


if __name__ == "__main__":
    KINDS[sys.argv[1]](sys.argv[2])
