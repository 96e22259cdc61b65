"""Traces: when packets of one client come, over networks made from a seed and from real ones.

    python -m loadtest.benchmarks.arrivals --seconds 120

records a real one: a JackTrip client on a ``jackd -d dummy`` sends over loopback to a socket
that notes the kernel's time of arrival, on a machine as busy as it happens to be. It is kept
in ``loadtest/results``, as what a packet came later than its number says, in µs.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt

from loadtest.benchmarks.record import RESULTS
from loadtest.conduct import servers
from loadtest.conduct.ports import PORTS
from shared.libc import SCM_TIMESTAMPNS, SECOND_NS, SOL_SOCKET
from shared.protocol import HELLO_BYTES, pack_answer, parse_header

Doubles = npt.NDArray[np.float64]

RATE_HZ = 48000
FRAMES = 128
RECORDED = RESULTS / "arrivals-jacktrip.npz"
HELLO_S = 20.0
SETTLE_S = 2.0
"""What a client sends while JACK's graph is being made is left out."""
_MS = RATE_HZ / 1e3


@dataclass(frozen=True, slots=True)
class Trace:
    """Packets of one client, in order.

    Attributes:
        name: of the network.
        delay: (n,) float64: how much later than its number says each packet comes, frames;
            the least is about 0. Packet k is sent at k·FRAMES.
    """

    name: str
    delay: Doubles

    @property
    def arrivals(self) -> Doubles:
        """When each comes, hub frames."""
        return np.arange(len(self.delay)) * float(FRAMES) + self.delay


def _in_order(name: str, delay: Doubles) -> Trace:
    """No packet overtakes another."""
    sent = np.arange(len(delay)) * float(FRAMES)
    return Trace(name, np.maximum.accumulate(sent + delay) - sent)


def _quiet(count: int, rng: np.random.Generator) -> Doubles:
    return rng.uniform(0, 0.05 * _MS, count)


def steady(count: int, rng: np.random.Generator) -> Trace:
    """At most 50 µs of jitter."""
    return Trace("steady", _quiet(count, rng))


def wifi(count: int, rng: np.random.Generator) -> Trace:
    """Bursts of Pareto-distributed delays, 0.1 to 3 ms; a third of the time, 20 packets long."""
    step, switch = 1 / 20, np.empty(count, bool)
    draws, burst = rng.uniform(0, 1, count).tolist(), False
    for k, draw in enumerate(draws):
        burst = draw >= step if burst else draw < step / 2
        switch[k] = burst
    tail = np.minimum(0.1 * _MS * (1 + rng.pareto(1.2, count)), 3 * _MS)
    return _in_order("wifi", _quiet(count, rng) + np.where(switch, tail, 0.0))


def wired(count: int, rng: np.random.Generator) -> Trace:
    """A poor cable: 0.2 ms of delay in the mean, with a standard deviation of 0.3."""
    mean, deviation = 0.2 * _MS, 0.3 * _MS
    return _in_order("wired", rng.gamma((mean / deviation) ** 2, deviation**2 / mean, count))


def stalls(count: int, rng: np.random.Generator) -> Trace:
    """Nothing passes for 40 ms once a minute; then all of it does."""
    delay = _quiet(count, rng)
    sent = np.arange(count) * float(FRAMES)
    for start in np.arange(30.0, count * FRAMES / RATE_HZ, 60.0) + rng.uniform(-9, 9):
        held = (sent >= start * RATE_HZ) & (sent < start * RATE_HZ + 40 * _MS)
        delay[held] = start * RATE_HZ + 40 * _MS - sent[held]
    return _in_order("stalls", delay)


def step(count: int, rng: np.random.Generator) -> Trace:
    """The path takes another way, 10 ms longer, and after as long again the old one."""
    third = count // 3
    delay = rng.uniform(0, 0.3 * _MS, count)
    delay[third : 2 * third] += 10 * _MS
    return _in_order("step", delay)


def drift(count: int, rng: np.random.Generator) -> Trace:
    """0.3 ms of jitter, and a client whose clock is slow by 30 ppm."""
    return _in_order("drift", rng.uniform(0, 0.3 * _MS, count) + np.arange(count) * FRAMES * 30e-6)


MADE = (steady, wifi, wired, stalls, step, drift)


def recorded(path: Path = RECORDED) -> Trace:
    """The trace of a real client.

    Raises:
        OSError: there is none.
    """
    with np.load(path) as kept:
        return Trace("recorded", kept["late_us"].astype(np.float64) * (RATE_HZ / 1e6))


def everyone(seconds: float, seed: int) -> list[Trace]:
    """All traces that are made, and the recorded one as long as it is."""
    count = int(seconds * RATE_HZ / FRAMES)
    made = [make(count, np.random.default_rng([seed, n])) for n, make in enumerate(MADE)]
    return [*made, recorded()]


def record_client(seconds: float) -> npt.NDArray[np.int32]:
    """Lateness of a real JackTrip client's packets over loopback, µs: (n,) int32.

    Raises:
        servers.ServerError: a program is missing, or the client did not come.
    """
    port = PORTS.take(2)
    with (
        socket.create_server(("127.0.0.1", port)) as listener,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as audio,
        tempfile.NamedTemporaryFile(prefix="tuttihub-jack-") as log_file,
        servers.jack_server(
            RATE_HZ, FRAMES, cpus=os.sched_getaffinity(0), log=Path(log_file.name), ports=128
        ) as (_, environment),
    ):
        log = Path(log_file.name)
        audio.setsockopt(SOL_SOCKET, SCM_TIMESTAMPNS, 1)  # the option's number as well
        audio.bind(("127.0.0.1", port + 1))
        audio.settimeout(HELLO_S)
        listener.settimeout(HELLO_S)
        command = ["jacktrip", "-C", "127.0.0.1", "-P", str(port), "-B",
                   str(PORTS.take()), "-n", "2", "-D"]  # fmt: skip
        with servers.running(command, os.sched_getaffinity(0), log, environment):
            try:
                peer, _ = listener.accept()
                with peer:
                    peer.settimeout(HELLO_S)
                    peer.recv(HELLO_BYTES)
                    peer.sendall(pack_answer(port + 1))
                    numbers, times_ns = _listen(audio, seconds)
            except TimeoutError as error:
                raise servers.ServerError(f"jacktrip sent nothing:\n{log.read_text()}") from error
    late_ns = times_ns - numbers * FRAMES * SECOND_NS // RATE_HZ
    return ((late_ns - late_ns.min()) // 1000).astype(np.int32)


def _listen(
    audio: socket.socket, seconds: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Packet numbers, from 0 on without a wrap, and arrival times of the kernel, ns."""
    numbers: list[int] = []
    times: list[int] = []
    begin = time.monotonic() + SETTLE_S
    while time.monotonic() < begin + seconds:
        data, ancillary, _, _ = audio.recvmsg(4096, 128)
        if time.monotonic() < begin:
            continue
        number = parse_header(data).sequence
        last = numbers[-1] if numbers else number
        numbers.append(last + ((number - last) & 0xFFFF))
        for level, kind, value in ancillary:
            if level == SOL_SOCKET and kind == SCM_TIMESTAMPNS:
                whole, part = struct.unpack("qq", value)
                times.append(whole * SECOND_NS + part)
    return np.array(numbers) - numbers[0], np.array(times) - times[0]


@click.command(context_settings={"show_default": True})
@click.option("--seconds", default=120.0, help="To record.")
@click.option("--output", default=RECORDED, type=click.Path(dir_okay=False, path_type=Path))
def main(seconds: float, output: Path) -> None:
    """Record when a real JackTrip client's packets come, over loopback."""
    try:
        late_us = record_client(seconds)
    except servers.ServerError as error:
        raise click.ClickException(str(error)) from error
    np.savez_compressed(output, late_us=late_us)
    high = np.percentile(late_us, [50, 99, 99.9, 100]).tolist()
    print(f"{len(late_us)} packets, {high} µs, {output.stat().st_size} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
