"""Costs of real processes, read from /proc."""

from __future__ import annotations

import gc
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


WORKER = """
import os, sys, time
def work(seconds):
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass
old = os.fork()
if old == 0:
    os.read(0, 1)
    work(0.3)
    os._exit(0)
print(old, flush=True)
os.read(0, 1)
new = os.fork()
if new == 0:
    work(0.2)
    os._exit(0)
os.waitpid(old, 0)
os.waitpid(new, 0)
print("done", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def worker() -> Iterator[subprocess.Popen[str]]:
    """A parent whose child works when it is told, as does another one that begins then."""
    parent = subprocess.Popen(
        [sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdin
    assert parent.stdout
    try:
        yield parent
    finally:
        parent.stdin.close()
        parent.stdout.close()
        parent.wait(10)


def test_what_processes_used_that_ended_is_with_those_who_waited_for_them(
    worker: subprocess.Popen[str],
) -> None:
    assert worker.stdin
    assert worker.stdout
    child = int(worker.stdout.readline())
    before = procfs.snapshot(procfs.tree(worker.pid))
    assert set(before.processes) == {worker.pid, child}

    worker.stdin.write("..")
    worker.stdin.flush()
    assert worker.stdout.readline() == "done\n"
    used = procfs.usage(before, procfs.snapshot(procfs.tree(worker.pid)), newcomers=True)

    ended = used[procfs.ENDED]
    assert ended.processes == 1  # that was seen
    assert ended.cpu_us >= 450_000
    assert ended.user_us + ended.system_us == ended.cpu_us


def test_what_ended_had_used_before_is_not_counted_again() -> None:
    parent = procfs.Sample("zygote", {1: 0}, 0, 0, 0, 0, 10_000_000, 0)
    child = procfs.Sample("receiver", {2: 0}, 70_000_000, 20_000_000, 0, 0)
    before = procfs.Snapshot(0, {1: parent, 2: child})
    later = procfs.Sample("zygote", {1: 0}, 0, 0, 0, 0, 100_000_000, 30_000_000)

    used = procfs.usage(before, procfs.Snapshot(1, {1: later}), newcomers=True)

    assert used[procfs.ENDED] == procfs.Usage(1, 30_000.0, 20_000.0, 10_000.0)


def test_private_memory_grows_with_what_is_written() -> None:
    gc.collect()  # what others left to it is not to be freed meanwhile
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
