"""What systemd is told, on a real socket, by a real hub."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.notify import ServiceManager
from tests.end_to_end.processes import wait_until
from tests.hub.conftest import DEADLINE_S, StartHub

WATCHDOG_S = 0.6


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)
        yield listener


def told(systemd: socket.socket) -> list[str]:
    """First lines of what came since the last time."""
    found = []
    while True:
        try:
            found.append(systemd.recv(4096).decode().splitlines()[0])
        except BlockingIOError:
            return found


@pytest.mark.living
def test_a_hub_is_ready_alive_while_it_ticks_and_stops(
    systemd: socket.socket, start_hub: StartHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", systemd.getsockname())
    monkeypatch.setenv("WATCHDOG_USEC", str(int(WATCHDOG_S * 1e6)))
    hub = start_hub()
    began = told(systemd)
    assert began[0] == "READY=1"
    assert set(began[1:]) <= {"WATCHDOG=1"}
    wait_until(lambda: "WATCHDOG=1" in told(systemd), DEADLINE_S, "the watchdog is fed")

    mixer = hub.state()["hub"]["mixer"]["pid"]
    os.kill(mixer, signal.SIGSTOP)

    def quiet() -> bool:  # what it ticked before is still told
        told(systemd)
        time.sleep(1.5 * WATCHDOG_S)
        return told(systemd) == []

    wait_until(quiet, DEADLINE_S, "it is not fed when nothing ticks")
    assert hub.ask("ping")["pid"] == hub.process.pid, "its supervisor is well"
    os.kill(mixer, signal.SIGCONT)
    wait_until(lambda: "WATCHDOG=1" in told(systemd), DEADLINE_S, "the watchdog is fed again")

    hub.stop()
    *_, last = told(systemd)
    assert last == "STOPPING=1"


def test_who_is_not_started_by_systemd_tells_nobody() -> None:
    manager = ServiceManager(lambda: 1, {})
    manager.ready("serves")
    manager.feed(0.0)
    manager.stopping()
    assert manager.feed_s is None


def test_an_abstract_socket_is_found_and_ticks_feed_it() -> None:
    name = f"tuttihub-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + name)
        listener.setblocking(False)
        ticks = [0]
        environ = {"NOTIFY_SOCKET": f"@{name}", "WATCHDOG_USEC": "3000000"}
        manager = ServiceManager(lambda: ticks[0], environ)
        manager.feed(0.0)
        assert told(listener) == [], "fed before it is ready"
        manager.ready("serves")
        for now, ticks[0] in ((0.0, 5), (0.5, 6), (1.1, 7), (2.2, 7), (3.3, 7), (3.4, 8)):
            manager.feed(now)
        manager.close()
        assert told(listener) == ["READY=1", "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1"]


@pytest.mark.parametrize(
    "environ",
    [
        {"WATCHDOG_USEC": "many"},
        {"WATCHDOG_USEC": "-5"},
        {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"},
        {"NOTIFY_SOCKET": "/nowhere/at/all"},
    ],
)
def test_nonsense_from_systemd_is_no_obstacle(environ: dict[str, str]) -> None:
    manager = ServiceManager(lambda: 1, environ)
    manager.ready("serves")
    manager.feed(0.0)
    assert manager.feed_s is None
