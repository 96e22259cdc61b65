"""Printing to who does not read: nobody waits, what is lost is counted and told."""

from __future__ import annotations

import errno
import io
import os
import threading
from collections.abc import Iterator

import pytest

from hub.outlet import Outlet
from tests.end_to_end.processes import wait_until
from tests.hub.pipes import Pipe


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


def test_what_is_written_is_printed_in_order(pipe: Pipe) -> None:
    outlet = Outlet(pipe.stream, lambda lines: None)
    for number in range(100):
        outlet.write(f"{number}\n")
    assert outlet.close(5.0)
    lines = [f"{number}\n" for number in range(100)]
    assert pipe.read(sum(map(len, lines))) == "".join(lines)


@pytest.mark.parametrize("blocking", [True, False])
def test_nobody_waits_for_who_does_not_read_and_losses_are_told(pipe: Pipe, blocking: bool) -> None:
    lost: list[int] = []
    told = threading.Event()

    def tell(lines: int) -> None:
        lost.append(lines)
        told.set()

    outlet = Outlet(pipe.stream, tell, max_chars=100)
    pipe.fill()
    os.set_blocking(pipe.writing, blocking)
    for number in range(1000):
        outlet.write(f"{number:09}\n")
    assert not told.is_set()
    assert not outlet.close(0.1)
    assert pipe.read(100) == "".join(f"{number:09}\n" for number in range(10))
    assert told.wait(5.0)
    assert lost == [990]


def test_who_has_gone_is_told_of_and_holds_up_nobody(pipe: Pipe) -> None:
    failed: list[int | None] = []
    outlet = Outlet(pipe.stream, lambda lines: None, lambda error: failed.append(error.errno))
    os.close(pipe.reading)
    outlet.write("one\n")
    wait_until(lambda: failed, 5.0, "the failure is told")
    assert failed == [errno.EPIPE]
    assert outlet.close(5.0)
    pipe.reading = os.open(os.devnull, os.O_RDONLY)


def test_a_stream_without_a_file_is_written_to() -> None:
    stream = io.StringIO()
    outlet = Outlet(stream, lambda lines: None)
    outlet.write("one\n")
    assert outlet.close(5.0)
    assert stream.getvalue() == "one\n"
