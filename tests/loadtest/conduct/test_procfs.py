"""Costs of real processes, read from /proc."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from loadtest.conduct import procfs

PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"],
                         stdin=subprocess.PIPE)
print(child.pid, flush=True)
sys.stdin.read()
child.stdin.close()
child.wait()
"""


@pytest.fixture
def family() -> Iterator[tuple[int, int]]:
    """Pids of a process and its child."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdin
    assert parent.stdout
    try:
        yield parent.pid, int(parent.stdout.readline())
    finally:
        parent.stdin.close()
        parent.stdout.close()
        parent.wait(10)


def test_a_tree_is_a_process_and_its_descendants(family: tuple[int, int]) -> None:
    assert procfs.tree(family[0]) == sorted(family)
    assert procfs.tree(*family) == sorted(family)
    assert procfs.tree() == []


def test_cpu_time_is_that_of_the_scheduler() -> None:
    before = procfs.snapshot([os.getpid()])
    until = time.thread_time() + 0.2
    while time.thread_time() < until:
        pass
    used = procfs.usage(before, procfs.snapshot([os.getpid()]))

    (own,) = used.values()
    assert own.processes == 1
    assert own.cpu_us >= 199_000
    assert own.user_us + own.system_us >= 150_000


def test_a_thread_that_ended_takes_nothing_back() -> None:
    go = threading.Event()
    thread = threading.Thread(target=go.wait)
    thread.start()
    before = procfs.snapshot([os.getpid()])
    go.set()
    thread.join()

    (own,) = procfs.usage(before, procfs.snapshot([os.getpid()])).values()
    assert own.cpu_us >= 0


def test_a_process_that_ended_is_left_out() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait(30)

    assert procfs.snapshot([gone.pid]).processes == {}
    assert procfs.private_kib([gone.pid]) == {}


def test_private_memory_grows_with_what_is_written() -> None:
    before = procfs.private_kib([os.getpid()])[os.getpid()]
    block = bytearray(os.urandom(1)) * (32 << 20)
    after = procfs.private_kib([os.getpid()])[os.getpid()]

    assert after - before >= 31 << 10
    assert len(block) == 32 << 20


def test_a_listener_is_found_by_its_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert procfs.listener_pid(listener.getsockname()[1]) == os.getpid()
        port = listener.getsockname()[1]

    assert procfs.listener_pid(port) is None


def test_kinds_are_names_without_numbers(family: tuple[int, int]) -> None:
    assert procfs.kind(family[0]).startswith("python")
    assert not procfs.kind(family[0])[-1].isdigit()
