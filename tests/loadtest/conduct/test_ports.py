"""Ports that no two processes take."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from loadtest.conduct import ports
from loadtest.conduct.ports import Ports, PortsError

TAKER = """
from loadtest.conduct.ports import PORTS
print(PORTS.take(4), flush=True)
input()
"""


@pytest.fixture
def taking() -> Iterator[ExitStack]:
    """Ends the processes that hold ports."""
    with ExitStack() as stack:
        yield stack


def taker(stack: ExitStack) -> tuple[subprocess.Popen[str], int]:
    """A process that holds ports, and the first of the four it took."""
    process = subprocess.Popen(
        [sys.executable, "-c", TAKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    stack.callback(process.communicate)
    stack.callback(process.kill)
    assert process.stdout
    return process, int(process.stdout.readline())


def share(port: int) -> int:
    return (port - ports.FIRST) // ports._SHARE


def test_processes_take_from_different_shares(taking: ExitStack) -> None:
    firsts = [taker(taking)[1] for _ in range(3)] + [Ports().take()]

    assert len({share(first) for first in firsts}) == 4


def test_share_of_a_killed_process_is_free_again(taking: ExitStack) -> None:
    process, first = taker(taking)
    with pytest.raises(OSError, match="in use"):
        claim(first)

    process.kill()
    process.wait()

    claim(first).close()


def claim(port: int) -> socket.socket:
    held = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        held.bind(f"\0tuttihub-ports-{share(port)}")
    except OSError:
        held.close()
        raise
    return held


def test_fork_takes_from_a_share_of_its_own(taking: ExitStack) -> None:
    own = Ports()
    first = own.take()
    reading, writing = os.pipe()
    if (pid := os.fork()) == 0:
        os.write(writing, str(own.take()).encode())
        os._exit(0)
    os.waitpid(pid, 0)

    assert share(int(os.read(reading, 16))) != share(first)
    os.close(reading)
    os.close(writing)


def test_what_is_taken_can_be_bound_and_differs_from_call_to_call() -> None:
    own = Ports()
    first, second = own.take(8), own.take(8)

    assert not set(range(first, first + 8)) & set(range(second, second + 8))
    for port in range(first, first + 8):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.bind(("127.0.0.1", port))


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_ports_in_use_are_left_out(kind: socket.SocketKind) -> None:
    own = Ports()
    with socket.socket(socket.AF_INET, kind) as used:
        used.bind(("127.0.0.1", own.take() + 2))
        if kind == socket.SOCK_STREAM:
            used.listen()
        taken = used.getsockname()[1]

        assert own.take(4) == taken + 1


def test_a_share_is_gone_round_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_SHARE", 10)
    monkeypatch.setattr(ports, "_is_free", lambda port: True)
    own = Ports()
    first = own.take(4)

    assert [own.take(4) - first for _ in range(3)] == [4, 0, 4]


def test_more_than_a_share_is_refused() -> None:
    with pytest.raises(PortsError, match="no 2101 consecutive free ports in "):
        Ports().take(2101)


def test_no_share_left_is_said(taking: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    own = Ports()
    monkeypatch.setattr(ports, "LAST", ports.FIRST + share(own.take()) * ports._SHARE)

    def take_all() -> None:  # those that others have may become free meanwhile
        while True:
            one = Ports()
            one.take()
            taking.enter_context(one._held)

    with pytest.raises(PortsError, match=r"shares of the ports 6000\.\..* are taken"):
        take_all()
