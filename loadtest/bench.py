"""The hub beside a bare echo, on the same load in the same run: what is it that mixing costs?

    python -m loadtest.bench --clients 1,10,50,100,200 --seconds 10

Hub and echo run on one core, in turn; the generator on another. All traffic stays on
127.0.0.0/8, and every process is ended by its pid, or ends with this one.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table

from loadtest import echo
from loadtest.report import provenance

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"
HUB_READY = "hub ready"
CORES = os.sched_getaffinity(0)
START_S = 600.0
"""A cold start compiles the kernels."""
STOP_S = 10.0
LOAD_S = 1800.0
UDP_PORTS = 40000
_PR_SET_PDEATHSIG = 1


class BenchError(RuntimeError):
    """A server did not start, or the generator brought no result."""


@dataclass(frozen=True, slots=True)
class Row:
    """One number of clients: the generator's result (see ``loadtest.report``) for each."""

    clients: int
    hub: dict[str, Any]
    echo: dict[str, Any]


@contextlib.contextmanager
def serving(command: list[str], cpus: set[int], ready: str, log: Path) -> Iterator[int]:
    """A server on some cores, from its line of readiness to its end; its pid.

    Raises:
        BenchError: it ended or was not ready in time; the text holds what it said.
    """
    libc = ctypes.CDLL(None)

    def prepare() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        os.sched_setaffinity(0, cpus)

    with log.open("wb") as out:
        process = subprocess.Popen(command, stderr=out, cwd=ROOT, preexec_fn=prepare)
    try:
        deadline = time.monotonic() + START_S
        while ready not in log.read_text():
            if process.poll() is not None or time.monotonic() > deadline:
                raise BenchError(f"{command[0]} is not ready:\n{log.read_text()[-2000:]}")
            time.sleep(0.05)
        yield process.pid
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    """A TCP port nobody has, below those that outgoing connections take."""
    for port in range(14000 + os.getpid() % 1000, 20000):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise BenchError("no free TCP port in 14000..20000")


def hub_command(port: int, mode: int, queue: int, extra: tuple[str, ...]) -> list[str]:
    """`tuttihub serve`, as installed beside this interpreter."""
    return [
        str(Path(sys.executable).with_name("tuttihub")), "serve",
        "--bindport", str(port), "--udpbaseport", str(UDP_PORTS),
        "--hubpatch", str(mode), "--queue", str(queue), "--metrics", "off", *extra,
    ]  # fmt: skip


def echo_command(port: int, clients: int) -> list[str]:
    return [
        sys.executable, "-m", "loadtest.echo", "--port", str(port), "--clients", str(clients),
    ]  # fmt: skip


def load(port: int, pid: int, options: Mapping[str, object], path: Path) -> dict[str, Any]:
    """Run the generator as a process of its own; its result.

    options: of ``python -m loadtest``, without dashes; True for a flag.

    Raises:
        BenchError: it could not be run at all.
    """
    command = [sys.executable, "-m", "loadtest"]
    for name, value in {"port": port, "hub-pid": pid, "json": path, **options}.items():
        command += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    path.unlink(missing_ok=True)
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=LOAD_S, check=False
    )
    if not path.exists():
        raise BenchError(f"no result of {shlex.join(command)}:\n{done.stdout}{done.stderr}")
    result: dict[str, Any] = json.loads(path.read_text())
    return result


@click.command(context_settings={"show_default": True})
@click.option("--clients", default="1,10,50,100,200", help="Numbers of clients.")
@click.option("--seconds", default=10.0, help="Measured window of each.")
@click.option("--mode", default=2, type=click.Choice([1, 2, 4]), help="The hub's patch mode.")
@click.option("--queue", default=2, help="The hub's queue, packets.")
@click.option("--burst/--spread", default=False, help="All packets of a period at once.")
@click.option("--join-rate", default=20.0, help="Handshakes a second.")
@click.option("--hub-cpu", default=min(CORES), help="Core of hub and echo.")
@click.option("--load-cpu", default=max(CORES), help="Core of the generator.")
@click.option("--attempts", default=2, help="Runs of each, until one is usable.")
@click.option("--hub-option", multiple=True, help="Further options of the hub.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path),
              help="JSON file.  [default: loadtest/results/bench-DATE.json]")  # fmt: skip
def main(
    clients: str,
    seconds: float,
    mode: int,
    queue: int,
    burst: bool,
    join_rate: float,
    hub_cpu: int,
    load_cpu: int,
    attempts: int,
    hub_option: tuple[str, ...],
    output: Path | None,
) -> None:
    """Measure what a hub costs beside a bare echo."""
    console = Console(width=None if sys.stdout.isatty() else 110)
    try:
        numbers = [int(word) for word in clients.split(",")]
    except ValueError as error:
        raise click.BadParameter(f"{clients!r} is no list such as 1,10", param_hint="--clients") \
            from error  # fmt: skip
    port = free_port()
    rows = []

    with tempfile.TemporaryDirectory() as folder:
        log, result = Path(folder) / "server.log", Path(folder) / "result.json"

        def measure(command: list[str], ready: str, number: int, expect: int) -> dict[str, Any]:
            options = {
                "clients": number, "seconds": seconds, "mode": expect, "cpu": load_cpu,
                "join-rate": join_rate, "burst" if burst else "spread": True,
            }  # fmt: skip
            found: dict[str, Any] = {}
            for _ in range(attempts):
                with serving(command, {hub_cpu}, ready, log) as pid:
                    found = load(port, pid, options, result)
                if found["usable"]:
                    break
            return found

        ours = hub_command(port, mode, queue, hub_option)
        try:
            with serving(ours, CORES, HUB_READY, log):
                pass  # the first start after a change compiles, which is not to be measured
            for number in numbers:
                floor = measure(echo_command(port, number), echo.READY, number, 1)
                hub = measure(ours, HUB_READY, number, mode)
                rows.append(Row(number, _brief(hub), _brief(floor)))
                console.print(_line(rows[-1]))
        except BenchError as error:
            raise click.ClickException(str(error)) from error
    console.print(table(rows, mode, queue))
    path = output or RESULTS / f"bench-{datetime.now(UTC):%Y%m%d-%H%M}.json"
    path.parent.mkdir(exist_ok=True)
    report = {"provenance": provenance(), "rows": [asdict(row) for row in rows]}
    path.write_text(json.dumps(report, indent=1) + "\n")
    console.print(f"written to {path}")


def _brief(result: dict[str, Any]) -> dict[str, Any]:
    """A result without its lists by client, and without what the whole file says once."""
    return {k: v for k, v in result.items() if k not in ("clients", "provenance", "schema")}


def _line(row: Row) -> str:
    problems = []
    for name, result in (("hub", row.hub), ("echo", row.echo)):
        if not result["usable"]:
            problems.append(f"{name} run not usable: {'; '.join(result['reasons'])}")
        problems += [f"{name}: {text}" for text in result["problems"][:3]]
    return f"{row.clients} clients done" + "".join(f"\n  [red]{text}" for text in problems)


def table(rows: list[Row], mode: int, queue: int) -> Table:
    """All rows, one line each."""
    view = Table(
        title=f"µs of CPU a client-period; mode {mode}, queue {queue} packets",
        box=box.SIMPLE,
        padding=(0, 0, 0, 1),
    )
    for name in (
        "clients", "hub", "echo", "ratio", "rx +\nmixer", "in→out ms\np50 / p99", "spacing\np99 µs",
        "join\np99 ms", "lost", "wrong", "ticks\nmissed", "KiB a\nclient", "usable",
    ):  # fmt: skip
        view.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        hub, floor = row.hub["hub"], row.echo["hub"]
        kinds = hub["cpu_us_by_kind"]
        counters, heard = row.hub["counters"], row.hub["latency"]
        view.add_row(
            str(row.clients),
            f"{hub['cpu_us']:.2f}",
            f"{floor['cpu_us']:.2f}",
            f"{hub['cpu_us'] / floor['cpu_us']:.2f}" if floor["cpu_us"] else "–",
            f"{_share(kinds, 'rx'):.1f} + {_share(kinds, 'mixer') + _share(kinds, 'lane'):.1f}",
            f"{heard['p50'] / 1000:.2f} / {heard['p99'] / 1000:.2f}" if heard["count"] else "–",
            f"{row.hub['spacing']['p99']:.0f}",
            f"{row.hub['join_ms']['p99']:.0f}",
            str(row.hub["lost"] + row.hub["shortfall"]),
            str(row.hub["wrong"] + row.hub["silent"]),
            str(counters["counts"]["missed"]) if counters else "–",
            f"{hub['private_kib_a_client']:.0f}",
            "yes" if row.hub["usable"] and row.echo["usable"] else "no",
        )
    return view


def _share(kinds: dict[str, float], name: str) -> float:
    return sum(us for kind, us in kinds.items() if name in kind)


if __name__ == "__main__":
    main()
