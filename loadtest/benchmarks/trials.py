"""Ways to receive and to send that might cost less, each tried by itself.

    python -m loadtest.benchmarks.trials
    python -m loadtest.benchmarks.trials --clients 250 --seconds 3

No hub: loops of system calls, as its receivers' and mixer's are, on datagrams as long as those of
stereo packets of 128 frames, 16 bit. Receiving, a process on another core sends one to each socket
a period, spread over it; sending, all go to sockets that are emptied in between. CPU of the
measured thread alone, per datagram, by the kernel's account of it; a way that costs a quarter of
another here may save the hub nothing, as what it does with a datagram is not part of this.
"""

from __future__ import annotations

import contextlib
import ctypes
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
from loadtest.clients.wires import EPOLL_FD_WORD, EPOLL_WORDS
from loadtest.conduct.realtime import ask_for_realtime
from shared.libc import (
    CLOCK_MONOTONIC,
    MSG_DONTWAIT,
    clock_ns,
    epoll_wait,
    recvfrom,
    sendmmsg,
    sendto,
    sleep_until,
)

BYTES = 16 + 128 * 2 * 2
PERIOD_NS = round(128 / 48000 * 1e9)
SO_BUSY_POLL = 46
BUSY_US = 50
SOL_UDP, UDP_SEGMENT = 17, 103
SEGMENTS = 8
ROUNDS = 400
Sockets = list[socket.socket]
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
        fds = np.array([each.fileno() for each in sockets], np.int64)
        packet, timespec = np.zeros(2048, np.uint8), np.zeros(2, np.int64)
        return lambda until_ns: int(kernel(fds, packet, until_ns, timespec))

    return way


RECEIVING: tuple[tuple[str, int, Way], ...] = (
    ("woken by packets (`epoll_wait`)", 0, _epolled),
    (f"… with `SO_BUSY_POLL` of {BUSY_US} µs", BUSY_US, _epolled),
    ("by the clock, once a period", 0, _looped(_by_clock)),
    ("without a pause (a core of its own, spinning)", 0, _looped(_spinning)),
)


@numba.njit(nogil=True)
def _send_each(fds, names, length, packet, rounds):
    """A call a datagram; names: where to, one a row, or none for connected sockets."""
    for k in range(rounds):
        to = names[k].ctypes.data if length else 0
        sendto(fds[k % len(fds)], packet.ctypes.data, packet.size, MSG_DONTWAIT, to, length)
    return rounds


@numba.njit(nogil=True)
def _send_many(fd, messages, count):
    """A call for all."""
    return sendmmsg(fd, messages.ctypes.data, count, MSG_DONTWAIT)


def _name(address: tuple[str, int]) -> bytes:
    return (
        socket.AF_INET.to_bytes(2, "little") + address[1].to_bytes(2, "big")
        + socket.inet_aton(address[0]) + bytes(8)
    )  # fmt: skip


def _empty(sockets: Sockets) -> None:
    for each in sockets:
        with contextlib.suppress(BlockingIOError):
            while each.recv(65536):
                pass


def _timed(send: Callable[[], int], sockets: Sockets) -> float:
    """µs a datagram."""
    send()
    used = count = 0
    for _ in range(ROUNDS):
        _empty(sockets)
        began = time.thread_time_ns()
        count += send()
        used += time.thread_time_ns() - began
    return used / 1000 / max(1, count)


def sending(clients: int) -> list[tuple[str, float]]:
    """µs a datagram of each way to send."""
    packet, none = np.zeros(BYTES, np.uint8), np.zeros((1, 16), np.uint8)
    with pairs(clients) as (here, there):
        own = np.array([each.fileno() for each in there], np.int64)
        connected = _timed(lambda: int(_send_each(own, none, 0, packet, clients)), here)
    with contextlib.ExitStack() as stack:
        one, *sinks = (
            stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            for _ in range(1 + clients)
        )
        for each in (one, *sinks):
            each.bind(("127.0.0.1", 0))
            each.setblocking(False)
        addresses = b"".join(_name(each.getsockname()) for each in sinks)
        names = np.frombuffer(addresses, np.uint8).reshape(-1, 16).copy()
        shared = np.array([one.fileno()], np.int64)
        messages, vectors = np.zeros((clients, 8), np.uint64), np.zeros((clients, 2), np.uint64)
        for k in range(clients):
            vectors[k] = packet.ctypes.data, packet.size
            messages[k, :2] = names[k].ctypes.data, 16
            messages[k, 2:4] = vectors[k].ctypes.data, 1
        each_us = _timed(lambda: int(_send_each(shared, names, 16, packet, clients)), sinks)
        many_us = _timed(lambda: int(_send_many(one.fileno(), messages, clients)), sinks)
        return [
            ("each from a socket of its own (`sendto`)", connected),
            ("all from one socket (`sendto`)", each_us),
            ("all from one socket, in one call (`sendmmsg`)", many_us),
            *_segmented(one, sinks[0]),
        ]


def _segmented(one: socket.socket, sink: socket.socket) -> list[tuple[str, float]]:
    """Several datagrams to one address: as many calls, or one that Linux divides."""
    address, parts = sink.getsockname(), bytes(BYTES * SEGMENTS)
    sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    single = bytes(BYTES)
    segment = [(SOL_UDP, UDP_SEGMENT, ctypes.c_uint16(BYTES))]

    def calls() -> int:
        for _ in range(SEGMENTS):
            one.sendmsg([single], [], 0, address)
        return SEGMENTS

    def whole() -> int:
        one.sendmsg([parts], segment, 0, address)
        return SEGMENTS

    return [
        (f"{SEGMENTS} to one address, a call each (from Python)", _timed(calls, [sink])),
        (f"{SEGMENTS} to one address, `UDP_SEGMENT` (from Python)", _timed(whole, [sink])),
    ]


@click.command(context_settings={"show_default": True})
@click.option("--clients", type=click.IntRange(1, 500), default=50, help="Sockets.")
@click.option("--seconds", type=click.FloatRange(1, 60), default=3.0, help="Of each receiving way.")
@click.option("--core", type=int, default=min(os.sched_getaffinity(0)), help="What is measured.")
@click.option("--other-core", type=int, default=max(os.sched_getaffinity(0)), help="Who sends.")
def main(clients: int, seconds: float, core: int, other_core: int) -> None:
    """Try ways to receive and to send, and print a table."""
    os.sched_setaffinity(0, {core})
    body = [
        ["receive", name, f"{receiving(clients, seconds, other_core, busy_us, way):.2f}"]
        for name, busy_us, way in RECEIVING
    ]
    body += [["send", name, f"{us:.2f}"] for name, us in sending(clients)]
    click.echo(markdown(["", f"{clients} clients", "µs a datagram"], body, left=2))


if __name__ == "__main__":
    main()
