"""Servers under test: each starts on chosen cores, says when it is ready, and ends by its pid.

    with tuttihub(scenario.hub, cpus={0}) as server:
        ...                                  # server.port, server.pids, server.control
    with echo(clients=100, cpus={0}) as server: ...
    with jacktrip(scenario.hub, cpus={0}) as server: ...

They are for us alone, but listen on every address of this machine (so that a network namespace
reaches them), on free ports below those that outgoing connections take. A server ends with the
process that started it, however that ends, and never takes notice of a Ctrl-C at the keyboard:
the one who started it ends it, in order.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtest.conduct import procfs
from loadtest.conduct.ports import PORTS
from loadtest.scenario.model import Hub

ROOT = Path(__file__).resolve().parents[2]
HUB_READY = "hub ready"
ECHO_READY = "echo ready"
START_S = 600.0
"""A cold start compiles the kernels."""
JACK_START_S = 20.0
STOP_S = 10.0
JACK_PRIORITY = 10
"""jackd's own default."""
JACK_PORTS = 2048
"""jackd's own default; many clients of two channels need them."""
TAIL_LINES = 25
_HUB_UDP_PORTS = 1024
_PR_SET_PDEATHSIG = 1
_POLL_S = 0.05
_FOLDER = "tuttihub-load-"
_LIBC = ctypes.CDLL(None, use_errno=True)


class ServerError(RuntimeError):
    """A server did not start, or ended; the text holds the last lines it said."""


class ServerEnded(ServerError):
    """A server that was ready ended by itself, while it was used."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that listens.

    Attributes:
        name: for people.
        port: its TCP port on 127.0.0.1.
        pids: its processes; their descendants belong to it as well.
        control: endpoint of its control socket, if it has one.
        log_path: what it says.
        version: as its command says, empty if it does not.
    """

    name: str
    port: int
    pids: tuple[int, ...]
    control: str | None
    log_path: Path
    version: str = ""
    host: str = "127.0.0.1"

    def tail(self) -> str:
        """The last lines it said."""
        return _tail(self.log_path)


@contextlib.contextmanager
def tuttihub(
    hub: Hub, *, cpus: Iterable[int], log_path: Path | None = None, start_s: float = START_S
) -> Iterator[Server]:
    """`tuttihub serve`, as installed beside this interpreter.

    Args:
        hub: what it is to do.
        cpus: cores that the whole hub may run on.
        log_path: where its log is kept; else it goes with it.
        start_s: how long it may take.

    Raises:
        ServerError: it is not installed, or was not ready in time.
    """
    port, udp = PORTS.take(), PORTS.take(_HUB_UDP_PORTS)
    with _folder(log_path) as (folder, log):
        control = f"ipc://{folder / 'control'}"
        command = [
            str(Path(sys.executable).with_name("tuttihub")), "serve",
            "--bindport", str(port), "--udpbaseport", str(udp), "--control", control,
            "--metrics", "off",
            "--admit-load", "off", "--shed-load", "off",  # where service ends is to be found out
            *hub_options(hub),
        ]  # fmt: skip
        with running(command, cpus, log) as process:
            wait_ready(process, log, lambda: HUB_READY in _read(log), start_s)
            yield Server(
                "tuttihub", port, (process.pid,), control, log, _version(command[0], "--version")
            )
            _still_ready(process, log)


def hub_options(hub: Hub) -> list[str]:
    """What `tuttihub serve` is told of a scenario's hub."""
    return [
        "--hubpatch", str(int(hub.mode)), "--queue", hub.queue, "--bufsize", str(hub.period),
        "--srate", str(hub.rate_hz), *(["--upmix"] if hub.upmix else []), *hub.options,
    ]  # fmt: skip


@contextlib.contextmanager
def echo(
    clients: int,
    *,
    cpus: Iterable[int],
    realtime: bool = True,
    log_path: Path | None = None,
    start_s: float = START_S,
) -> Iterator[Server]:
    """The bare echo, with a UDP port for each of so many clients.

    Raises:
        ServerError: it was not ready in time.
    """
    port = PORTS.take()
    with _folder(log_path) as (_, log):
        command = [
            sys.executable, "-m", "loadtest.echo", "--port", str(port), "--clients", str(clients),
            "--realtime" if realtime else "--no-realtime",
        ]  # fmt: skip
        with running(command, cpus, log) as process:
            wait_ready(process, log, lambda: ECHO_READY in _read(log), start_s)
            yield Server("echo", port, (process.pid,), None, log)
            _still_ready(process, log)


@contextlib.contextmanager
def jacktrip(
    hub: Hub,
    *,
    cpus: Iterable[int],
    realtime: bool = True,
    log_path: Path | None = None,
    start_s: float = JACK_START_S,
) -> Iterator[Server]:
    """The original: `jacktrip -S` on a `jackd -d dummy` of its own.

    Of the hub's options only those are used that both have: patch mode, queue, upmix, and
    jackd's rate and period.

    Raises:
        ServerError: a program is missing, or was not ready in time.
    """
    if lacking := missing_programs():
        raise ServerError(f"jacktrip: not installed: {', '.join(lacking)}")
    cores = set(cpus)
    port = PORTS.take()
    command = [
        "jacktrip", "-S", f"-p{int(hub.mode)}", "-q", hub.queue, "-B", str(port),
        "-U", str(PORTS.take(_HUB_UDP_PORTS)), *(["-u"] if hub.upmix else []),
    ]  # fmt: skip
    with contextlib.ExitStack() as stack:
        _, log = stack.enter_context(_folder(log_path))
        jackd, environment = stack.enter_context(
            jack_server(
                hub.rate_hz, hub.period, cpus=cores, log=log, realtime=realtime, start_s=start_s
            )
        )
        process = stack.enter_context(running(command, cores, log, environment))
        # A connection to try it would be a client without a hello, kept for ever.
        wait_ready(process, log, lambda: procfs.listener_pid(port) == process.pid, start_s)
        version = _version(command[0], "--version")
        yield Server("jacktrip", port, (jackd.pid, process.pid), None, log, version)
        _still_ready(jackd, log)
        _still_ready(process, log)


@contextlib.contextmanager
def jack_server(
    rate_hz: int,
    period: int,
    *,
    cpus: Iterable[int],
    log: Path,
    ports: int = JACK_PORTS,
    realtime: bool = True,
    priority: int = JACK_PRIORITY,
    start_s: float = JACK_START_S,
) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, str]]]:
    """A private `jackd -d dummy`: its process, and the environment of its clients.

    Args:
        ports: it has room for; 2048 take 107 MB of shared memory.
        priority: in real time; its clients have 5 less.

    Raises:
        ServerError: it was not ready in time.
    """
    name = f"tutti-load-{os.getpid()}-{PORTS.take()}"
    environment = {
        "JACK_DEFAULT_SERVER": name,
        "JACK_NO_START_SERVER": "1",
        "JACK_NO_AUDIO_RESERVATION": "1",
    }
    command = [
        "jackd", "-n", name,
        *(["-P", str(priority)] if realtime and os.geteuid() == 0 else ["-r"]),
        "-p", str(ports), "-d", "dummy", "-r", str(rate_hz), "-p", str(period),
    ]  # fmt: skip
    try:
        with running(command, cpus, log, environment, ending=signal.SIGTERM) as jackd:
            _wait_for_jack(name, jackd, log, environment, start_s)
            yield jackd, environment
    finally:
        _forget_jack_server(name)


def missing_programs() -> list[str]:
    """What ``jacktrip`` needs and this machine lacks."""
    return [name for name in ("jackd", "jacktrip", "jack_wait") if shutil.which(name) is None]


@contextlib.contextmanager
def _folder(log_path: Path | None) -> Iterator[tuple[Path, Path]]:
    """A short path of our own for sockets, and a log that is empty."""
    _remove_stale_folders()
    with tempfile.TemporaryDirectory(prefix=f"{_FOLDER}{os.getpid()}-") as name:
        folder = Path(name)
        log = log_path or folder / "log"
        log.write_bytes(b"")
        yield folder, log


def _remove_stale_folders() -> None:
    """What killed processes of ours have left."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_FOLDER}*-*"):
        pid = folder.name.removeprefix(_FOLDER).partition("-")[0]
        if pid.isdigit() and not (procfs.PROC / pid).exists():
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def running(
    command: Sequence[str],
    cpus: Iterable[int],
    log: Path,
    environment: Mapping[str, str] | None = None,
    ending: signal.Signals = signal.SIGINT,
    stdin: int = subprocess.DEVNULL,
) -> Iterator[subprocess.Popen[bytes]]:
    """A process on some cores that ends with this block, and with the thread that began it."""
    cores, parent = set(cpus), os.getpid()

    def prepare() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        os.sched_setaffinity(0, cores)
        if os.getppid() != parent:  # it ended before we asked to be told
            os._exit(1)

    # Not our own affinity is the limit: who starts servers is often pinned to another core.
    if not cores or not cores <= set(range(os.cpu_count() or 1)):
        raise ServerError(f"cores {sorted(cores)}: this machine has 0..{(os.cpu_count() or 1) - 1}")
    with log.open("ab") as out:
        try:
            process = subprocess.Popen(
                command, stdin=stdin, stdout=out, stderr=out, cwd=ROOT,
                env={**os.environ, **(environment or {})}, preexec_fn=prepare,
                start_new_session=True,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError) as error:
            raise ServerError(f"{command[0]}: {error}") from error
    try:
        yield process
    finally:
        try:
            if process.poll() is None:
                process.send_signal(ending)
                process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            pass
        finally:  # also when a Ctrl-C ends the waiting
            _kill_session(process)


def _kill_session(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to what is left of a process of ours: itself, its descendants, its session."""
    # those in sessions of their own are found while it is still their ancestor
    descendants = procfs.tree(process.pid) if process.poll() is None else []
    # once it has been waited for, its number may be a stranger's
    if process.returncode is None or not (procfs.PROC / str(process.pid)).exists():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    for pid in descendants:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def wait_ready(
    process: subprocess.Popen[bytes], log: Path, ready: Callable[[], bool], within_s: float
) -> None:
    deadline = time.monotonic() + within_s
    while not ready():
        _still_there(process, log)
        if time.monotonic() > deadline:
            raise ServerError(f"{_name(process)} was not ready in {within_s:g} s:\n{_tail(log)}")
        time.sleep(_POLL_S)


def _still_there(process: subprocess.Popen[bytes], log: Path) -> None:
    if (code := process.poll()) is not None:
        raise ServerError(f"{_name(process)} ended with {code}:\n{_tail(log)}")


def _still_ready(process: subprocess.Popen[bytes], log: Path) -> None:
    try:
        _still_there(process, log)
    except ServerError as error:
        raise ServerEnded(*error.args) from None


def _name(process: subprocess.Popen[bytes]) -> str:
    assert isinstance(process.args, list)
    words = itertools.takewhile(lambda part: not part.startswith("--"), process.args[:3])
    return " ".join(Path(part).name if "/" in part else part for part in words)


def _wait_for_jack(
    name: str,
    jackd: subprocess.Popen[bytes],
    log: Path,
    environment: Mapping[str, str],
    within_s: float,
) -> None:
    command = ["jack_wait", "-s", name, "-w", "-t", str(int(within_s))]
    with running(command, os.sched_getaffinity(0), log, environment, signal.SIGKILL) as waiter:
        wait_ready(jackd, log, lambda: waiter.poll() is not None, within_s)
        if waiter.returncode != 0:
            raise ServerError(f"jackd did not answer in {within_s:g} s:\n{_tail(log)}")


def _forget_jack_server(name: str) -> None:
    """Remove what killed JACK processes leave; the name is ours alone."""
    for leftover in Path("/dev/shm").glob(f"jack*{name}*"):
        leftover.unlink(missing_ok=True)


@functools.cache
def _version(*command: str) -> str:
    """What a command says of its version: its first line that has a number."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=START_S, check=False, cwd=ROOT
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = (line.strip() for line in done.stdout.splitlines())
    return next((line for line in lines if any(sign.isdigit() for sign in line)), "")


def _read(log: Path) -> str:
    return log.read_text(errors="replace")


def _tail(log: Path) -> str:
    return "\n".join(_read(log).splitlines()[-TAIL_LINES:])
