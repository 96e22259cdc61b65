"""The real peers: `jackd` with its dummy driver and unmodified `jacktrip` clients."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from loadtest.conduct.ports import PORTS
from tests.end_to_end.processes import ManagedProcess, wait_until

RATE_HZ = 48_000

# What jackd says when a cycle was late; each may have cost or repeated some frames.
_DISTURBANCE = re.compile(r"XRun|ProcessGraphAsyncMaster: Process error|ProcessWriteAsync")

# What `jacktrip -I` says once a second, of its two buffers and of packets lost; cumulative.
_STATISTICS = re.compile(
    r"send: (?P<send_underruns>\d+)/(?P<send_overflows>\d+) "
    r"recv: (?P<receive_underruns>\d+)/(?P<receive_overflows>\d+) "
    r"prot: (?P<lost>\d+)/"
)

_NO_ROOM = "Too many servers already active"

START_S = 20.0
ROOM_S = 120.0
"""How long another test run may take to end one of its servers."""


def missing_programs() -> list[str]:
    """Programs and libraries that the tests need and this machine lacks."""
    missing = [name for name in ("jackd", "jacktrip", "jack_wait") if shutil.which(name) is None]
    try:
        import jack  # type: ignore[import-not-found,import-untyped,unused-ignore]  # noqa: F401
    except (ImportError, OSError) as error:
        missing.append(f"JACK-Client ({error})")
    return missing


def _may_run_realtime() -> bool:
    return os.geteuid() == 0 or resource.getrlimit(resource.RLIMIT_RTPRIO)[0] > 0


@dataclass(slots=True)
class JackServer:
    """A private `jackd -d dummy`: a sound card without sound.

    Attributes:
        directory: where its log goes.
        period: frames a cycle.
    """

    directory: Path
    period: int = 128
    rate_hz: int = RATE_HZ
    name: str = field(init=False)
    process: ManagedProcess = field(init=False)

    def __post_init__(self) -> None:
        # The pid keeps parallel test runs apart, the port number servers of this run.
        self.name = f"tutti-{os.getpid()}-{PORTS.take()}"
        wait_until(self._started, ROOM_S, "room for one more jackd on this machine", poll_s=1.0)

    def _started(self) -> bool:
        """Start it; False if the machine has as many as there may be."""
        self.process = ManagedProcess(
            f"jackd {self.name}",
            [
                "jackd",
                "-n", self.name,
                *([] if _may_run_realtime() else ["-r"]),
                # At most 256 ports: 47 MB of /dev/shm instead of 107.
                "-p", "256",
                "-d", "dummy",
                "-r", str(self.rate_hz),
                "-p", str(self.period),
            ],
            self.directory / f"jackd-{self.period}-{self.name}.log",
            self.environment,
        )  # fmt: skip
        waiter = ManagedProcess(
            "jack_wait",
            ["jack_wait", "-s", self.name, "-w", "-t", str(int(2 * START_S))],
            self.directory / f"jack_wait-{self.name}.log",
            self.environment,
        )
        try:
            wait_until(
                lambda: not (waiter.running and self.process.running), START_S, "jackd answers"
            )
            if not self.process.running and _NO_ROOM in self.process.log():
                return False
            assert self.process.running, f"jackd ended:\n{self.process.log()}"
        except BaseException:
            self.process.end(signal.SIGTERM)
            raise
        finally:
            waiter.end(signal.SIGKILL)
        return True

    def restart(self) -> None:
        """Another one of this name, after its end."""
        self.process.end(signal.SIGTERM)
        wait_until(self._started, ROOM_S, "room for one more jackd on this machine", poll_s=1.0)

    @property
    def environment(self) -> dict[str, str]:
        """For this server and its clients."""
        return {
            "JACK_DEFAULT_SERVER": self.name,
            "JACK_NO_START_SERVER": "1",
            "JACK_NO_AUDIO_RESERVATION": "1",
        }

    def disturbances(self) -> int:
        """Late or failed cycles since its start, by its log."""
        return len(_DISTURBANCE.findall(self.process.log()))

    def stop(self) -> None:
        """End it, and leave its place, of the eight that JACK has on a machine.

        One that was killed keeps it until another of this name ends in order.
        """
        if self.process.end(signal.SIGTERM) == -signal.SIGKILL and self._started():
            self.process.end(signal.SIGTERM)
        # Killed clients leave these; the name is ours alone.
        for leftover in Path("/dev/shm").glob(f"jack*{self.name}*"):
            leftover.unlink(missing_ok=True)


@dataclass(slots=True)
class JackTripClient:
    """An unmodified `jacktrip -C`, on a JACK server.

    Attributes:
        sends, receives: channel counts.
        bits: `-b`.
        udp_port: its own UDP port (`-B`).
        remote_name: `-K`, what the hub calls it; None leaves it out.
        program: what is started with a client's options.
        heard: what it says once it hears the hub.
    """

    server: JackServer
    directory: Path
    name: str
    hub_port: int
    sends: int = 1
    receives: int = 1
    bits: int = 16
    queue: int = 4
    options: Sequence[str] = ()
    host: str = "127.0.0.1"
    remote_name: str | None = None
    udp_port: int = field(default_factory=PORTS.take)
    program: str = "jacktrip"
    heard: str = "Received Connection from Peer"
    process: ManagedProcess = field(init=False)

    def __post_init__(self) -> None:
        self._start()

    def _start(self) -> None:
        named = [] if self.remote_name is None else ["-K", self.remote_name]
        self.process = ManagedProcess(
            f"jacktrip {self.name}",
            [
                self.program,
                "-C", self.host,
                "-P", str(self.hub_port),
                "-B", str(self.udp_port),
                "--sendchannels", str(self.sends),
                "--receivechannels", str(self.receives),
                "-b", str(self.bits),
                "-q", str(self.queue),
                "-D",
                "-I", "1",
                "-J", self.name,
                *named,
                *self.options,
            ],
            self.directory / f"jacktrip-{self.name}-{self.udp_port}.log",
            self.server.environment,
        )  # fmt: skip

    def send_port(self, channel: int) -> str:
        """JACK port that feeds this channel's way to the hub (channels count from 1)."""
        return f"{self.name}:send_{channel}"

    def receive_port(self, channel: int) -> str:
        """JACK port with what the hub returns on this channel."""
        return f"{self.name}:receive_{channel}"

    def wait_connected(self, timeout_s: float = START_S) -> None:
        """Until it says that it gets packets of the hub."""
        self.process.wait_for_log(self.heard, timeout_s)

    def statistics(self) -> list[dict[str, int]]:
        """Its reports so far: how often its own threads, or packets, were not in time."""
        found = _STATISTICS.finditer(self.process.log())
        return [{key: int(value) for key, value in one.groupdict().items()} for one in found]

    @property
    def was_stopped_by_hub(self) -> bool:
        """Whether it says that the hub sent it exit packets."""
        return "Peer Stopped" in self.process.log()

    def leave(self, timeout_s: float = 10.0) -> int:
        """Ctrl-C; its exit code."""
        self.process.send(signal.SIGINT)
        return self.process.wait(timeout_s)

    def crash(self) -> None:
        """kill -9, and gone from the JACK graph."""
        self.process.popen.kill()
        self.process.wait(10.0)

    def restart(self) -> None:
        """Another one of this name, after its end, on a port and with a log of its own."""
        self.stop()
        self.udp_port = PORTS.take()
        self._start()
        self.wait_connected()

    def stop(self) -> None:
        self.process.end(signal.SIGINT, 5.0)
