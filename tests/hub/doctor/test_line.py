"""The doctor's socket: complaints are told at once, and nobody waits for them."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from hub.doctor.line import Line, Problem
from hub.doctor.names import Address
from loadtest.conduct.ports import PORTS

HERE = Address("127.0.0.1", socket.AF_INET)
PACE_S = 1e-3
FAR_S = 20.0


@pytest.fixture
def line() -> Iterator[Line]:
    line = Line(HERE)
    yield line
    line.close()


def test_complaints_are_known_while_others_follow_and_somebody_listens(line: Line) -> None:
    """The listener must not keep for itself what it reads as long as more of it comes."""
    end = threading.Event()
    closed = PORTS.take()

    def play() -> None:
        while not end.wait(PACE_S):
            line.send(b"?", closed)

    threads = [
        threading.Thread(target=play),
        threading.Thread(target=lambda: line.receive(FAR_S)),
    ]
    for thread in threads:
        thread.start()
    began = time.monotonic()
    seen: list[int] = []
    while len(seen) < 50 and time.monotonic() < began + FAR_S:
        time.sleep(PACE_S)
        if len(line.complaints) > (seen[-1] if seen else 0):
            seen.append(len(line.complaints))
    end.set()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.sendto(b"heard", ("127.0.0.1", line.port))
    for thread in threads:
        thread.join(FAR_S)
    assert len(seen) == 50
    assert {each.problem for each in line.complaints} == {Problem.PORT_CLOSED}
    assert {each.source for each in line.complaints} == {"127.0.0.1"}


def test_what_came_is_read_and_an_empty_line_waits_no_longer_than_it_may(line: Line) -> None:
    assert line.receive(0.01) is None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        other.sendto(b"sound", ("127.0.0.1", line.port))
        arrival = line.receive(FAR_S)
        assert arrival is not None
        assert (arrival.data, arrival.port) == (b"sound", other.getsockname()[1])
    assert line.hear_complaints() == []
