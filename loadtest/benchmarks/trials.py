"""Ways to receive and to send that might cost less, each tried by itself.

    python -m loadtest.benchmarks.trials
    python -m loadtest.benchmarks.trials --clients 250 --seconds 3

No hub: loops of system calls, as its receivers' and mixer's are, on datagrams as long as those of
stereo packets of 128 frames, 16 bit; a way that costs a quarter of another here may save the hub
nothing, as what it does with a datagram is not part of this. Receiving, a process on another core
sends one to each socket a period, spread over it: CPU of the measured thread alone, per datagram,
by the kernel's account of it. Sending, all ways take turns (``sending``): the median of their
rounds, and the least.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import select
import socket
import time
from collections.abc import Callable, Iterator
from multiprocessing.synchronize import Event

import click
import numba
import numpy as np

from loadtest.benchmarks.render import markdown
from loadtest.benchmarks.sending import BYTES, ROUNDS, Sockets, descriptors, sending
from loadtest.clients.wires import EPOLL_FD_WORD, EPOLL_WORDS
from loadtest.conduct.realtime import ask_for_realtime
from shared.libc import (
    CLOCK_MONOTONIC,
    MSG_DONTWAIT,
    clock_ns,
    epoll_wait,
    recvfrom,
    sendto,
    sleep_until,
)

PERIOD_NS = round(128 / 48000 * 1e9)
SO_BUSY_POLL = 46
BUSY_US = 50
Receive = Callable[[int], int]
"""Receives until a time, and says how many came."""
Way = Callable[[Sockets], Receive]


@contextlib.contextmanager
def pairs(count: int) -> Iterator[tuple[Sockets, Sockets]]:
    """So many sockets, and as many that are connected to them, both ways."""
    with contextlib.ExitStack() as stack:
        ends: tuple[Sockets, Sockets] = ([], [])
        for _ in range(count):
            one, other = (
                stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                for _ in range(2)
            )
            for each in (one, other):
                each.bind(("127.0.0.1", 0))
                each.setblocking(False)
            one.connect(other.getsockname())
            other.connect(one.getsockname())
            ends[0].append(one)
            ends[1].append(other)
        yield ends


@numba.njit(nogil=True)
def _send_spread(fds, packet, until_ns, timespec):
    """A datagram to each a period, spread over it."""
    begin = clock_ns(CLOCK_MONOTONIC, timespec)
    sent = 0
    while True:
        due = begin + sent * PERIOD_NS // len(fds)
        if due >= until_ns:
            return sent
        sleep_until(due, timespec)
        sendto(fds[sent % len(fds)], packet.ctypes.data, packet.size, MSG_DONTWAIT, 0, 0)
        sent += 1


@numba.njit(nogil=True)
def _by_epoll(epoll, events, packet, until_ns, timespec):
    """Woken by packets: what is ready is read, one call each."""
    count = 0
    while clock_ns(CLOCK_MONOTONIC, timespec) < until_ns:
        ready = epoll_wait(epoll, events.ctypes.data, events.shape[0], 100)
        for e in range(ready):
            fd = events[e, EPOLL_FD_WORD]
            count += recvfrom(fd, packet.ctypes.data, packet.size, MSG_DONTWAIT, 0, 0) > 0
    return count


@numba.njit(nogil=True)
def _by_clock(fds, packet, until_ns, timespec):
    """Once a period all sockets are read."""
    count, due = 0, clock_ns(CLOCK_MONOTONIC, timespec)
    while due < until_ns:
        due += PERIOD_NS
        sleep_until(due, timespec)
        for fd in fds:
            count += recvfrom(fd, packet.ctypes.data, packet.size, MSG_DONTWAIT, 0, 0) > 0
    return count


@numba.njit(nogil=True)
def _spinning(fds, packet, until_ns, timespec):
    """Without a pause all sockets are read."""
    count = 0
    while clock_ns(CLOCK_MONOTONIC, timespec) < until_ns:
        for fd in fds:
            count += recvfrom(fd, packet.ctypes.data, packet.size, MSG_DONTWAIT, 0, 0) > 0
    return count


def _sender(fds: list[int], core: int, seconds: float, compiled: Event, begin: Event) -> None:
    os.sched_setaffinity(0, {core})
    packet, timespec = np.zeros(BYTES, np.uint8), np.zeros(2, np.int64)
    numbers = np.array(fds, np.int64)
    _send_spread(numbers, packet, 0, timespec)
    compiled.set()
    begin.wait()
    ask_for_realtime()
    _send_spread(numbers, packet, time.monotonic_ns() + int(seconds * 1e9), timespec)


def receiving(
    clients: int,
    seconds: float,
    core: int,
    busy_us: int,
    way: Way,
) -> float:
    """µs a datagram of one way to receive."""
    fork = multiprocessing.get_context("fork")
    with pairs(clients) as (here, there):
        for each in here:
            if busy_us:
                each.setsockopt(socket.SOL_SOCKET, SO_BUSY_POLL, busy_us)
        receive = way(here)
        receive(0)
        compiled, begin = fork.Event(), fork.Event()
        fds = [each.fileno() for each in there]
        sender = fork.Process(target=_sender, args=(fds, core, seconds, compiled, begin))
        sender.start()
        compiled.wait()
        begin.set()
        time.sleep(0.2)
        used = time.thread_time_ns()
        count = receive(time.monotonic_ns() + int((seconds - 0.4) * 1e9))
        used = time.thread_time_ns() - used
        sender.join()
    return used / 1000 / max(1, count)


def _epolled(sockets: Sockets) -> Receive:
    epoll = select.epoll()
    for each in sockets:
        epoll.register(each.fileno(), select.EPOLLIN)
    events = np.zeros((len(sockets), EPOLL_WORDS), np.int32)
    packet, timespec = np.zeros(2048, np.uint8), np.zeros(2, np.int64)
    return lambda until_ns: int(_by_epoll(epoll.fileno(), events, packet, until_ns, timespec))


def _looped(kernel: Callable[..., int]) -> Way:
    def way(sockets: Sockets) -> Receive:
        fds = descriptors(sockets)
        packet, timespec = np.zeros(2048, np.uint8), np.zeros(2, np.int64)
        return lambda until_ns: int(kernel(fds, packet, until_ns, timespec))

    return way


RECEIVING: tuple[tuple[str, int, Way], ...] = (
    ("woken by packets (`epoll_wait`)", 0, _epolled),
    (f"… with `SO_BUSY_POLL` of {BUSY_US} µs", BUSY_US, _epolled),
    ("by the clock, once a period", 0, _looped(_by_clock)),
    ("without a pause (a core of its own, spinning)", 0, _looped(_spinning)),
)


def _sent(clients: int, rounds: int) -> Iterator[list[str]]:
    """Rows of the table."""
    for cost in sending(clients, rounds):
        if cost.refused:
            yield ["send", f"{cost.name}: the kernel refuses it ({cost.refused})", "–", "–"]
        else:
            yield ["send", cost.name, f"{cost.median_us:.2f}", f"{cost.least_us:.2f}"]


@click.command(context_settings={"show_default": True})
@click.option("--clients", type=click.IntRange(1, 500), default=50, help="Sockets.")
@click.option("--seconds", type=click.FloatRange(1, 60), default=3.0, help="Of each receiving way.")
@click.option("--rounds", type=click.IntRange(1), default=ROUNDS, help="Of each sending way.")
@click.option("--core", type=int, default=min(os.sched_getaffinity(0)), help="What is measured.")
@click.option("--other-core", type=int, default=max(os.sched_getaffinity(0)), help="Who sends.")
def main(clients: int, seconds: float, rounds: int, core: int, other_core: int) -> None:
    """Try ways to receive and to send, and print a table."""
    os.sched_setaffinity(0, {core})
    body = [
        ["receive", name, f"{receiving(clients, seconds, other_core, busy_us, way):.2f}", "–"]
        for name, busy_us, way in RECEIVING
    ]
    body += _sent(clients, rounds)
    head = ["", f"{clients} clients", "µs a datagram", "least of the rounds"]
    click.echo(markdown(head, body, left=2))


if __name__ == "__main__":
    main()
