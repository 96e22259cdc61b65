"""From tick to wire at the size of a large ensemble: the mixer's serial part, the waking of the
lanes, and ways to send a period's returns."""

from __future__ import annotations

import mmap
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import numpy.typing as npt
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from shared.layout import PatchMode
from tests.kernels.loops import mix_many, send_batches, send_each, wait_for_word, wake_word
from tests.kernels.orchestra import orchestra

CLIENTS = (50, 250, 1000)
LANES = (1, 2, 4)
TICKS = 8
BYTES = 528
"""A stereo packet of 128 frames, 16 bit."""
PACKETS = 250
PORT = 5004


@pytest.mark.parametrize("mode", [2, 4])
@pytest.mark.parametrize("clients", CLIENTS)
def test_serial(benchmark: BenchmarkFixture, clients: int, mode: int) -> None:
    """What no lane can begin before: all sources of one tick, to strips and buses."""
    benchmark.extra_info |= {"units": TICKS, "unit": "tick"}
    with orchestra(clients, mode=PatchMode(mode)) as each:
        sounding = benchmark(mix_many, each.arena, each.sources, each.tick, TICKS)

        assert sounding == TICKS * clients
        assert each.arena.buses[:, :2].any()


@contextmanager
def sleepers(count: int) -> Iterator[npt.NDArray[np.int64]]:
    """Processes asleep until the low half of a word changes, over and over."""
    words = np.frombuffer(mmap.mmap(-1, mmap.PAGESIZE), np.int64)
    wait_for_word(words, np.zeros(2, np.int64), 0)
    children = []
    for _ in range(count):
        pid = os.fork()
        if pid == 0:
            wait_for_word(words, np.zeros(2, np.int64), 1 << 40)
            os._exit(0)
        children.append(pid)
    try:
        yield words
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


@pytest.mark.parametrize("lanes", LANES)
def test_release(benchmark: BenchmarkFixture, lanes: int) -> None:
    """The mixer's call that wakes all lanes; all of them asleep."""
    benchmark.extra_info |= {"units": 1, "unit": "tick"}
    with sleepers(lanes) as words:

        def asleep() -> None:
            while any(state(pid) != "S" for pid in children(os.getpid())):
                pass

        asleep()
        benchmark.pedantic(  # type: ignore[no-untyped-call]
            wake_word, (words,), setup=asleep, rounds=300, iterations=1
        )
        assert words[0] == 300


def children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(word) for word in file.read().split()]


def state(pid: int) -> str:
    """As /proc has it: S asleep, R running."""
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]


@contextmanager
def peers(connected: bool) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8], int]]:
    """(fds, names, one): as many sockets as packets on one port or on ports of their own, the
    clients' addresses, and a socket of nobody's on the shared port."""
    with ExitStack() as stack:

        def udp() -> socket.socket:
            sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            return sock

        one = udp()
        one.bind(("127.0.0.1", 0))
        fds, names = np.zeros(PACKETS, np.int64), np.zeros((PACKETS, 16), np.uint8)
        for k in range(PACKETS):
            ear, sock = udp(), udp()
            ear.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            ear.bind((f"127.0.{1 + k // 200}.{1 + k % 200}", PORT))
            sock.bind(one.getsockname() if connected else ("127.0.0.1", 0))
            if connected:
                sock.connect(ear.getsockname())
            fds[k] = sock.fileno()
            raw = socket.AF_INET.to_bytes(2, "little") + PORT.to_bytes(2, "big")
            names[k, :8] = np.frombuffer(raw + socket.inet_aton(ear.getsockname()[0]), np.uint8)
        yield fds, names, one.fileno()


@pytest.mark.parametrize("way", ["own-ports", "one-port-told", "one-port"])
def test_send_each(benchmark: BenchmarkFixture, way: str) -> None:
    """Each from its own socket: on its own port; on one port, told where to or connected."""
    benchmark.extra_info |= {"units": PACKETS, "unit": "packet"}
    with peers(way != "own-ports") as (fds, names, _):
        data = np.zeros(BYTES, np.uint8)
        sent = benchmark(send_each, fds, names, data, way != "one-port")
        assert sent == PACKETS


@pytest.mark.parametrize("batch", [1, 8, 32, PACKETS])
def test_send_batches(benchmark: BenchmarkFixture, batch: int) -> None:
    """All from one socket, so many with one system call."""
    benchmark.extra_info |= {"units": PACKETS, "unit": "packet"}
    with peers(connected=True) as (_, names, one):
        data, vector = np.zeros(BYTES, np.uint8), np.zeros(2, np.uint64)
        vector[:] = data.ctypes.data, BYTES
        messages = np.zeros((PACKETS, 8), np.uint64)
        messages[:, 0] = names.ctypes.data + 16 * np.arange(PACKETS)
        messages[:, 1], messages[:, 2], messages[:, 3] = 16, vector.ctypes.data, 1
        sent = benchmark(send_batches, one, messages, batch)
        assert sent == PACKETS
