"""The hub under test, and the original one as a yardstick for the tests themselves.

`END_TO_END_HUB=jacktrip pytest tests/end_to_end` runs every test that the original
`jacktrip -S` can pass against it: a test that fails there is wrong about JackTrip.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pytest
import zmq

from loadtest.conduct.ports import PORTS
from tests.end_to_end.peers import START_S, JackServer
from tests.end_to_end.processes import ManagedProcess, shared_memory_files, tail, wait_until

READY = "hub ready"

# A cold start compiles the kernels.
_COLD_START_S = 180.0
_UDP_PORTS = 24

TELLING = (
    "tuttihub_ticks_missed_total",
    "tuttihub_tick_overruns_total",
    "tuttihub_lane_ticks_missed_total",
    "tuttihub_starved_source_ticks_total",
    "tuttihub_client_late_packets_total",
    "tuttihub_client_underruns_total",
    "tuttihub_client_overflows_total",
    "tuttihub_client_dropped_datagrams_total",
    "jackd_xruns",
)
"""Counters of a hub that rise when it, or a packet of a client, was not let through in time."""


def rises(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Ticks the machine did not let the hub do in time, and packets that came too late for it."""
    rose = {name: after[name] - before.get(name, 0) for name in after if name.startswith(TELLING)}
    return {name: count for name, count in rose.items() if count > 0}


def troubles(before: Mapping[str, float], after: Mapping[str, float]) -> list[str]:
    """The same in words."""
    return [f"{name} +{count:g}" for name, count in rises(before, after).items()]


def against_original() -> bool:
    """Whether this run tests the tests, with `jacktrip -S` in the hub's place."""
    return os.environ.get("END_TO_END_HUB", "") == "jacktrip"


own_hub_only = pytest.mark.skipif(against_original(), reason="jacktrip -S cannot do this")


class AnyHub(Protocol):
    """What a test needs of either hub."""

    port: int
    period: int

    @property
    def process(self) -> ManagedProcess: ...
    def wait_for_clients(self, count: int, timeout_s: float = START_S) -> None: ...
    def settle(self) -> None: ...
    def counters(self) -> Mapping[str, float]: ...
    def resampled(self) -> list[str]: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...


def tuttihub_command() -> list[str]:
    """The installed command next to this interpreter."""
    command = Path(sys.executable).with_name("tuttihub")
    if not command.exists():
        raise AssertionError(f"{command} is missing: install the project (make setup)")
    return [str(command)]


def tuttihub(*args: str | Path, stdin: str = "") -> None:
    """Run a command that ends by itself."""
    done = subprocess.run(
        [*tuttihub_command(), *map(str, args)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@dataclass(slots=True)
class Hub:
    """`tuttihub serve` as a subprocess.

    Attributes:
        patch: `-p`.
        period: `-F`, frames a tick.
        options: further options.
    """

    directory: Path
    patch: int = 4
    period: int = 128
    options: Sequence[str] = ()
    port: int = field(default_factory=PORTS.take)
    udp_port: int = field(default_factory=lambda: PORTS.take(_UDP_PORTS))
    metrics_port: int = field(default_factory=PORTS.take)
    process: ManagedProcess = field(init=False)
    control: str = field(init=False)
    _stopped: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        # Short, since the path of a Unix socket has room for 107 characters only.
        self.control = f"ipc:///tmp/tuttihub-test-{os.getpid()}-{self.port}"
        self.process = ManagedProcess(
            f"tuttihub on {self.port}",
            [
                *tuttihub_command(),
                "serve",
                "--bindport", str(self.port),
                "--udpbaseport", str(self.udp_port),
                "--max-clients", str(_UDP_PORTS),
                "--hubpatch", str(self.patch),
                "--bufsize", str(self.period),
                "--metrics", f"127.0.0.1:{self.metrics_port}",
                "--control", self.control,
                "--banfile", str(self.directory / "bans.json"),
                "--scenefile", str(self.directory / "scenes.json"),
                "--log-format", "text",
                # what a test machine has to do beside is no reason to turn anybody away
                "--admit-load", "off", "--shed-load", "off",
                *self.options,
            ],
            self.directory / f"tuttihub-{self.port}.log",
        )  # fmt: skip
        try:
            self.process.wait_for_log(READY, _COLD_START_S)
        except BaseException:
            self.kill()
            raise

    def status(self) -> dict[str, Any]:
        """The state by `tuttihub status --json`."""
        done = subprocess.run(
            [*tuttihub_command(), "status", "--control", self.control, "--json"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        if done.returncode:
            raise AssertionError(f"tuttihub status: exit code {done.returncode}\n{done.stderr}")
        state: dict[str, Any] = json.loads(done.stdout)
        return state

    def clients(self) -> list[dict[str, Any]]:
        """The connected clients, by the control socket: to be looked at often."""
        line: zmq.Socket[bytes]
        with zmq.Context.instance().socket(zmq.DEALER) as line:
            line.setsockopt(zmq.LINGER, 0)
            line.setsockopt(zmq.RCVTIMEO, 30_000)
            line.connect(self.control)
            line.send_json({"v": 1, "id": 1, "op": "clients"})
            answer: dict[str, Any] = json.loads(line.recv_multipart()[-1])
        clients: list[dict[str, Any]] = answer["result"]["clients"]
        return clients

    def client(self, name: str) -> dict[str, Any]:
        """The connected client of this name."""
        found = [client for client in self.clients() if client["name"] == name]
        assert len(found) == 1, f"{len(found)} clients are called {name!r}"
        return found[0]

    def wait_for_clients(self, count: int, timeout_s: float = START_S) -> None:
        wait_until(
            lambda: [client["state"] for client in self.clients()] == ["active"] * count,
            timeout_s,
            f"hub has {count} clients, all active",
            poll_s=0.05,
        )

    def settle(self) -> None:
        """Nothing to wait for: who is listed is mixed."""

    def tell(self, *command: str) -> None:
        """A command to the running hub, as `tuttihub ctl kick NAME`."""
        done = subprocess.run(
            [*tuttihub_command(), "ctl", "--control", self.control, *command],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, f"tuttihub ctl {' '.join(command)}: {done.stdout}{done.stderr}"

    def counters(self) -> Mapping[str, float]:
        """All its metrics, by name and labels: what rose tells why a take was disturbed."""
        address = f"http://127.0.0.1:{self.metrics_port}/metrics"
        with urllib.request.urlopen(address, timeout=10) as response:
            lines = response.read().decode().splitlines()
        pairs = (line.rpartition(" ") for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}

    def resampled(self) -> list[str]:
        """Names of the clients whose clock, it says, is certainly not its own."""
        return [client["name"] for client in self.clients() if client["clock"]["resampling"]]

    def stop(self) -> None:
        """Ctrl-C: exit code 0, and nothing left: no process, no shared memory, no socket."""
        if self._stopped:
            return
        files = shared_memory_files(self.process.tree())
        self.process.send(signal.SIGINT)
        code = self.process.wait(15.0)
        self._stopped = True
        assert code == 0, f"exit code {code} after Ctrl-C:\n{tail(self.process.log())}"
        wait_until(lambda: not self.process.tree(), 2.0, "all processes of the hub gone")
        # what begins with jack is of all JACK servers, and stays
        left = [p for p in files if p.exists() and not str(p).startswith("/dev/shm/jack")]
        assert not left, f"left in shared memory: {left}"
        control = Path(self.control.removeprefix("ipc://"))
        assert not control.exists(), f"left behind: {control}"

    def kill(self) -> None:
        """For cleaning up after a failure: its whole tree, by pid."""
        self._stopped = True
        while pids := self.process.tree():
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            self.process.end(signal.SIGKILL)
        Path(self.control.removeprefix("ipc://")).unlink(missing_ok=True)


@dataclass(slots=True)
class OriginalHub:
    """`jacktrip -S` on a JACK server of its own."""

    directory: Path
    patch: int = 4
    period: int = 128
    options: Sequence[str] = ()
    port: int = field(default_factory=PORTS.take)
    udp_port: int = field(default_factory=lambda: PORTS.take(_UDP_PORTS))
    process: ManagedProcess = field(init=False)
    server: JackServer = field(init=False)

    def __post_init__(self) -> None:
        self.server = JackServer(self.directory, self.period)
        self.process = ManagedProcess(
            f"jacktrip -S on {self.port}",
            [
                "jacktrip", "-S", "-D",
                "-p", str(self.patch),
                "-B", str(self.port),
                "-U", str(self.udp_port),
                *self.options,
            ],
            self.directory / f"jacktrip-S-{self.port}.log",
            self.server.environment,
        )  # fmt: skip
        try:
            wait_until(self._listens, START_S, "jacktrip -S listens")
        except BaseException:
            self.kill()
            raise

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def wait_for_clients(self, count: int, timeout_s: float = START_S) -> None:
        """It cannot be asked; `settle` does it all."""

    def settle(self) -> None:
        # It patches some time after its first packet and says nothing of it.
        time.sleep(1.5)

    def counters(self) -> Mapping[str, float]:
        return {"jackd_xruns": self.server.disturbances()}

    def resampled(self) -> list[str]:
        """Nobody ever is."""
        return []

    def stop(self) -> None:
        self.process.end(signal.SIGINT)
        self.server.stop()

    def kill(self) -> None:
        self.stop()
