"""What a client costs a hub, as a few numbers fitted to the probes of a search.

CPU of one period (µs), for N clients of f frames and c channels at a period of P ms::

    receive(N)  =  r0 + N (r1 + r2 f c)      receivers: wake-up and system call, samples
    mix(N)      =  m0 + N (m1 + m2 f c)      mixer and lanes: the tick itself, render and send
    other(N)    =  o0 P + N o1 P             supervisor: by the clock, not by the packet

Each line is a least-squares fit of its own, relative to what was measured (a probe with 10
clients counts as much as one with 300) and with no number below 0. Its uncertainty is that of the
coefficients, from the residuals, plus the residuals themselves: a model that does not bend where
the machine does says so by a wide range.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from loadtest.capacity.probe import Probe
from loadtest.scenario.model import Format

RECEIVE_KINDS = ("rx", "receiver")
MIX_KINDS = ("mixer", "lane")
DISTURBED = 0.01
"""A probe with more than this share of missed ticks or lost packets did not do the work whose
cost is asked for."""

Floats = npt.NDArray[np.float64]


class FitError(ValueError):
    """There is too little to fit; the text says what is missing."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What one probe says of costs.

    Attributes:
        format: of all clients.
        clients: playing.
        period_us: of the hub.
        receive_us, mix_us, other_us: CPU of one period.
        private_kib: of the whole tree.
        lanes: transmit processes.
    """

    format: Format
    clients: int
    period_us: float
    receive_us: float
    mix_us: float
    other_us: float
    private_kib: int = 0
    lanes: int = 0


def observe(format_: Format, probes: Iterable[Probe]) -> list[Observation]:
    """Those probes that say what the work costs: all came in, and (nearly) all was done."""
    seen = []
    for probe in probes:
        figures = probe.figures
        ticks = figures.counts.get("ticks", 0)
        missed = figures.counts.get("missed", 0) / ticks if ticks else 0.0
        lost = figures.lost / figures.expected if figures.expected else 1.0
        if not probe.usable or figures.joined < probe.clients or not figures.cpu_us:
            continue
        if missed > DISTURBED or lost > DISTURBED:
            continue
        total_us = {
            kind: us * (figures.playing or figures.joined) for kind, us in figures.cpu_us.items()
        }
        receive_us, mix_us = _sum(total_us, RECEIVE_KINDS), _sum(total_us, MIX_KINDS)
        seen.append(
            Observation(
                format=format_,
                clients=figures.joined,
                period_us=figures.period_us,
                receive_us=receive_us,
                mix_us=mix_us,
                other_us=sum(total_us.values()) - receive_us - mix_us,
                private_kib=figures.private_kib,
                lanes=_sum(figures.processes, ("lane",)),
            )
        )
    return seen


@dataclass(frozen=True, slots=True)
class Line:
    """One fitted term.

    Attributes:
        names, values: of the coefficients, µs each (per tick, client, sample, or ms).
        covariance: of the values.
        residual: relative standard deviation of what was measured about the line.
    """

    names: tuple[str, ...]
    values: Floats
    covariance: Floats
    residual: float

    def at(self, row: Floats) -> tuple[float, float]:
        """(µs, standard deviation in µs) for one row of the design matrix."""
        us = float(row @ self.values)
        variance = float(row @ self.covariance @ row) + (self.residual * us) ** 2
        return us, float(np.sqrt(max(0.0, variance)))

    def to_json(self) -> dict[str, Any]:
        deviations = np.sqrt(np.maximum(0, np.diag(self.covariance)))
        return {
            "coefficients_us": {
                name: [round(float(value), 5), round(float(deviation), 5)]
                for name, value, deviation in zip(self.names, self.values, deviations, strict=True)
            },
            "residual_share": round(self.residual, 4),
        }


@dataclass(frozen=True, slots=True)
class Costs:
    """CPU of one period, µs, each with its standard deviation beside it."""

    receive_us: float
    mix_us: float
    other_us: float
    mix_tick_us: float
    """Of the mix: what does not depend on the number of clients."""
    deviation_us: float
    """Of the whole."""
    mix_deviation_us: float

    @property
    def total_us(self) -> float:
        return self.receive_us + self.mix_us + self.other_us


@dataclass(frozen=True, slots=True)
class Model:
    """The fitted costs, and what they were fitted to.

    Attributes:
        receive, mix, other: the lines.
        memory_kib, memory_a_client_kib: private memory of an empty hub, and of a client.
        most_clients: the largest number among the observations.
        samples: frames × channels that were among them.
        lanes: the most transmit processes among them.
        observations: how many.
    """

    receive: Line
    mix: Line
    other: Line
    memory_kib: float
    memory_a_client_kib: float
    most_clients: int
    samples: tuple[int, ...]
    lanes: int
    observations: int

    def costs(self, format_: Format, clients: int) -> Costs:
        """Of one period with so many clients."""
        packet, clock = _packet_row(format_, clients), _clock_row(format_, clients)
        receive, receive_sd = self.receive.at(packet)
        mix, mix_sd = self.mix.at(packet)
        other, other_sd = self.other.at(clock)
        return Costs(
            receive,
            mix,
            other,
            float(self.mix.values[0]),
            float(np.sqrt(receive_sd**2 + mix_sd**2 + other_sd**2)),
            mix_sd,
        )

    def memory_mib(self, clients: int) -> float:
        """Private memory of the hub with so many clients."""
        return (self.memory_kib + clients * self.memory_a_client_kib) / 1024

    def to_json(self) -> dict[str, Any]:
        return {
            "receive": self.receive.to_json(),
            "mix": self.mix.to_json(),
            "other": self.other.to_json(),
            "memory_kib": round(self.memory_kib, 1),
            "memory_a_client_kib": round(self.memory_a_client_kib, 1),
            "most_clients": self.most_clients,
            "samples": list(self.samples),
            "lanes": self.lanes,
            "observations": self.observations,
        }


def fit(observations: Sequence[Observation]) -> Model:
    """Fit the model.

    Raises:
        FitError: fewer than two numbers of clients were observed.
    """
    if len({(one.clients, one.format) for one in observations}) < 2:
        raise FitError(
            f"{len(observations)} usable probes with costs: a fit needs at least two, of "
            "different numbers of clients"
        )
    packet = np.array([_packet_row(one.format, one.clients) for one in observations])
    clock = np.array([_clock_row(one.format, one.clients) for one in observations])
    names = ("tick", "client", "sample")
    receive = _line(names, packet, np.array([one.receive_us for one in observations]))
    mix = _line(names, packet, np.array([one.mix_us for one in observations]))
    other = _line(("ms", "client ms"), clock, np.array([one.other_us for one in observations]))
    sizes = np.array([float(one.private_kib) for one in observations])
    counts = np.array([[1.0, one.clients] for one in observations])
    memory = _line(("hub", "client"), counts, sizes).values
    return Model(
        receive=receive,
        mix=mix,
        other=other,
        memory_kib=float(memory[0]),
        memory_a_client_kib=float(memory[1]),
        most_clients=max(one.clients for one in observations),
        samples=tuple(sorted({_samples(one.format) for one in observations})),
        lanes=max(one.lanes for one in observations),
        observations=len(observations),
    )


def _line(names: tuple[str, ...], rows: Floats, measured: Floats) -> Line:
    """Least squares relative to the measured values, with no coefficient below 0.

    Columns that the rows cannot tell apart (one format only: clients and samples are
    proportional) or that would be negative are left out: their coefficients are 0.
    """
    weights = 1 / np.maximum(measured, max(1e-9, 1e-3 * float(measured.max(initial=0.0))))
    scaled, target = rows * weights[:, None], measured * weights
    kept: list[int] = []
    for column in range(rows.shape[1]):
        if np.linalg.matrix_rank(scaled[:, [*kept, column]]) > len(kept):
            kept.append(column)
    values = np.zeros(rows.shape[1])
    covariance = np.zeros((rows.shape[1], rows.shape[1]))
    while kept:
        part = scaled[:, kept]
        solution = np.linalg.lstsq(part, target, rcond=None)[0]
        if solution.min() >= 0:
            values[kept] = solution
            break
        kept.pop(int(solution.argmin()))
    free = len(measured) - len(kept)
    off = target - scaled @ values
    # As many coefficients as observations fit anything: then the spread is simply unknown, and
    # what is left between them is the best there is.
    residual = float(np.sqrt(off @ off / max(1, free)))
    if kept:
        part = scaled[:, kept]
        covariance[np.ix_(kept, kept)] = residual**2 * np.linalg.pinv(part.T @ part)
    return Line(names, values, covariance, residual)


def _packet_row(format_: Format, clients: int) -> Floats:
    return np.array([1.0, clients, clients * _samples(format_)])


def _clock_row(format_: Format, clients: int) -> Floats:
    period_ms = format_.period_ns / 1e6
    return np.array([period_ms, clients * period_ms])


def _samples(format_: Format) -> int:
    """Of a packet there and one back, on average."""
    return format_.frames * (format_.sends + format_.wants) // 2


def _sum(values: dict[str, Any], names: tuple[str, ...]) -> Any:
    return sum(value for kind, value in values.items() if any(name in kind for name in names))
