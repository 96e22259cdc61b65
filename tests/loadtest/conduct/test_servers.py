"""Servers under test: the real ones, once each, and those that do not start."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from loadtest.conduct import procfs, servers
from loadtest.conduct.ports import PORTS
from loadtest.conduct.servers import Server, ServerError
from loadtest.scenario.model import Hub
from shared.layout import PatchMode
from shared.protocol import pack_hello, parse_answer

pytestmark = pytest.mark.living

ROOT = Path(__file__).resolve().parents[3]
CORE = min(os.sched_getaffinity(0))


def say_hello(server: Server) -> int:
    """The UDP port that a server gives a client."""
    with socket.create_connection((server.host, server.port), 10) as tcp:
        tcp.sendall(pack_hello(PORTS.take(), "somebody"))
        return parse_answer(tcp.recv(4))


def kill(pid: int) -> None:
    """End a child for good; who started it still finds out by itself."""
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def assert_is_on_our_core_alone(server: Server) -> None:
    for pid in procfs.tree(*server.pids):
        assert os.sched_getaffinity(pid) == {CORE}


def runs(pid: int) -> bool:
    """Whether it is there and no zombie: whose orphans are reaped when is the init's affair."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def assert_has_ended(pids: list[int]) -> None:
    deadline = time.monotonic() + 20
    while any(runs(pid) for pid in pids):
        assert time.monotonic() < deadline, pids
        time.sleep(0.02)


@pytest.mark.end_to_end
@pytest.mark.timeout(600)  # a cold start compiles the hub's kernels
def test_tuttihub_serves_on_chosen_cores_and_is_gone_afterwards(tmp_path: Path) -> None:
    hub = Hub(mode=PatchMode.FAN_OUT_NO_SELF, queue="2", options=("--max-clients", "4"))

    with servers.tuttihub(hub, cpus={CORE}, log_path=tmp_path / "log") as server:
        assert say_hello(server) > 0
        assert_is_on_our_core_alone(server)
        assert server.version.startswith("tuttihub ")
        assert server.control is not None
        assert Path(server.control.removeprefix("ipc://")).is_socket()
        pids = procfs.tree(*server.pids)

    assert_has_ended(pids)
    assert "hub ready" in (tmp_path / "log").read_text()


@pytest.mark.end_to_end
def test_echo_serves_on_chosen_cores_and_is_gone_afterwards() -> None:
    with servers.echo(2, cpus={CORE}) as server:
        assert say_hello(server) > 0
        assert_is_on_our_core_alone(server)
        pids = procfs.tree(*server.pids)

    assert_has_ended(pids)
    assert not server.log_path.exists()


@pytest.mark.end_to_end
def test_jacktrip_serves_on_chosen_cores_and_leaves_nothing() -> None:
    if lacking := servers.missing_programs():
        if os.environ.get("CI") == "true":
            pytest.fail(f"missing: {lacking}")
        pytest.skip(f"missing: {lacking}")
    with servers.jacktrip(Hub(period=256), cpus={CORE}) as server:
        assert say_hello(server) > 0
        assert_is_on_our_core_alone(server)
        assert [procfs.kind(pid) for pid in server.pids] == ["jackd", "jacktrip"]
        pids = procfs.tree(*server.pids)

    assert_has_ended(pids)
    assert not list(Path("/dev/shm").glob(f"jack*tutti-load-{os.getpid()}-{server.port}*"))


@pytest.mark.end_to_end
def test_server_ends_with_the_process_that_started_it() -> None:
    code = f"""
import os, signal
from loadtest.conduct import servers
with servers.echo(1, cpus={{{CORE}}}) as server:
    print(server.pids[0], flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=100,
        check=False,
    )  # fmt: skip

    assert done.returncode < 0, done.stderr
    assert_has_ended([int(done.stdout)])


@pytest.mark.end_to_end
def test_server_that_does_not_start_is_an_error_with_what_it_said() -> None:
    with (
        pytest.raises(ServerError, match=r"(?s)tuttihub serve ended with 2:.*--nonsense"),
        servers.tuttihub(Hub(options=("--nonsense",)), cpus={CORE}),
    ):
        pass


@pytest.mark.end_to_end
def test_server_that_is_not_ready_in_time_is_an_error_and_is_ended() -> None:
    before = set(procfs.tree(os.getpid()))
    with (
        pytest.raises(ServerError, match=r"python -m loadtest.echo was not ready in 0 s"),
        servers.echo(1, cpus={CORE}, start_s=0),
    ):
        pass
    assert set(procfs.tree(os.getpid())) <= before  # what others left may end meanwhile


@pytest.mark.end_to_end
def test_server_that_ends_meanwhile_is_an_error() -> None:
    with pytest.raises(ServerError, match="ended with"), servers.echo(1, cpus={CORE}) as server:
        kill(server.pids[0])


STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
children = [
    subprocess.Popen(["sleep", "600"], start_new_session=own)
    for own in (False, True)
]
print("ready", *(child.pid for child in children), flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("interrupted", [False, True], ids=["in time", "by a Ctrl-C"])
def test_server_that_does_not_end_is_killed_with_all_that_is_its(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupted: bool
) -> None:
    monkeypatch.setattr(servers, "STOP_S", 60 if interrupted else 0.1)
    log, pids = tmp_path / "log", list[int]()
    log.touch()
    ending = pytest.raises(KeyboardInterrupt) if interrupted else contextlib.nullcontext()
    with ending, servers.running([sys.executable, "-c", STUBBORN], {CORE}, log) as process:
        servers.wait_ready(process, log, lambda: "ready" in log.read_text(), 20)
        pids = [process.pid, *map(int, log.read_text().split()[1:])]
        if interrupted:
            threading.Timer(0.3, signal.raise_signal, (signal.SIGINT,)).start()

    assert len(pids) == 3
    assert_has_ended(pids)


def test_core_that_is_not_there_is_named() -> None:
    with (
        pytest.raises(ServerError, match=r"cores \[100000\]: this machine has 0\.\.\d+"),
        servers.echo(1, cpus={100000}),
    ):
        pass


def test_hub_options_are_those_of_the_scenario() -> None:
    hub = Hub(PatchMode.LOOPBACK, True, 64, 44100, "auto", ("--no-realtime",))

    assert servers.hub_options(hub) == [
        "--hubpatch", "1", "--queue", "auto", "--bufsize", "64", "--srate", "44100", "--upmix",
        "--no-realtime",
    ]  # fmt: skip
