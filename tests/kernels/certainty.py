"""How soon a drift is certain, and how often none is taken for one.

    python -m tests.kernels.certainty CLIENTS DRIFTERS

For ``loadtest.benchmarks.certainty``: the clock's own kernel over packets made from seeds, 128
frames each. Of clients whose clock is off, half a minute; of those whose clock is the hub's, ten
minutes on each network, and twenty seconds of young ones that lose time in steps.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click
import numpy as np

from loadtest.benchmarks import arrivals as networks
from tests.workers.arrivals import MS, RATE, Trace, delayed, follow, jitter, machine_noise, sent

JITTERS = {
    "quiet": "none to speak of (0.05 ms)",
    "uniform": "evenly over 1 ms",
    "narrow": "to both sides, deviation 0.3 ms",
    "gaussian": "to both sides, deviation 1 ms",
    "exponential": "exponential, mean 1 ms",
    "pareto": "Pareto, 0.1 ms",
}
PPM = (50.0, 100.0, 300.0)
LATE_S, LONG_S, YOUNG_S = 30.0, 600.0, 20.0

Make = Callable[[np.random.Generator], Trace]


def _jittery(kind: str, seconds: float, ppm: float) -> Make:
    count = len(sent(seconds)[0])
    return lambda rng: delayed(seconds, jitter(kind, count, rng), ppm=ppm)


def _network(make: Callable[[int, np.random.Generator], networks.Trace]) -> Make:
    count = len(sent(LONG_S)[0])
    return lambda rng: delayed(LONG_S, make(count, rng).delay)


def another_path(rng: np.random.Generator) -> Trace:
    """Another delay, by up to 0.5 or 5 ms, every half minute."""
    numbers, _ = sent(LONG_S)
    delay = rng.exponential(0.1 * MS, len(numbers))
    most = rng.choice([0.5, 5.0])
    for at in rng.integers(0, len(numbers), 20).tolist():
        delay[at:] += rng.uniform(-most, most) * MS
    return delayed(LONG_S, delay)


def wandering(rng: np.random.Generator) -> Trace:
    """Delays that wander by 0.3 ms, a second or ten of them alike."""
    grid_s, memory_s = 0.02, rng.choice([1.0, 10.0])
    keep = float(np.exp(-grid_s / memory_s))
    way, at = [], 0.0
    for draw in rng.normal(0, 0.3 * MS * np.sqrt(1 - keep**2), int(LONG_S / grid_s) + 2).tolist():
        at = keep * at + draw
        way.append(at)
    numbers, _ = sent(LONG_S)
    slow = np.interp(numbers * (128 / RATE / grid_s), np.arange(len(way)), way)
    return delayed(LONG_S, slow + rng.exponential(0.1 * MS, len(numbers)), ordered=True)


def lost_while_young(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """When a young sender loses time, s, and how much, ms: some steps in three seconds, or a
    few whenever another joins."""
    if rng.uniform() < 0.5:
        count = rng.integers(3, 9)
        return rng.uniform(0, 3, count), rng.uniform(0.1, 0.5, count)
    joins = np.repeat(np.cumsum(rng.uniform(0.5, 2.5, 4)), rng.integers(1, 5, 4))
    return joins + rng.uniform(0, 0.3, len(joins)), rng.exponential(0.2, len(joins))


def losing_time(noise: Callable[[np.random.Generator, int], np.ndarray]) -> Make:
    """Young clients that lose time in steps, with such delays of packets beside."""

    def make(rng: np.random.Generator) -> Trace:
        numbers, _ = sent(YOUNG_S)
        delay = noise(rng, len(numbers))
        for at_s, lost_ms in zip(*lost_while_young(rng), strict=True):
            delay[numbers * 128 >= at_s * RATE] += lost_ms * MS
        return delayed(YOUNG_S, delay, ordered=True)

    return make


CALM: dict[str, Make] = {
    **{f"jitter: {text}": _jittery(kind, LONG_S, 0.0) for kind, text in JITTERS.items()},
    "Wi-Fi: Pareto bursts of 0.1 to 3 ms": _network(networks.wifi),
    "a poor cable: 0.2 ms, deviation 0.3": _network(networks.wired),
    "stalls of 40 ms, once a minute": _network(networks.stalls),
    "a path 10 ms longer, and shorter again": _network(networks.step),
    "another path every half minute": another_path,
    "a sender that gets no CPU now and then": lambda rng: machine_noise(LONG_S, rng),
    "delays that wander by 0.3 ms in 1 or 10 s": wandering,
    "young, loses time in steps; jitter 0.03 ms": losing_time(
        lambda rng, count: rng.exponential(0.03 * MS, count)
    ),
    "young, loses time in steps; jitter 0.1 ms": losing_time(
        lambda rng, count: rng.exponential(0.1 * MS, count)
    ),
    "young, loses time in steps; jitter 0.3 ms": losing_time(
        lambda rng, count: rng.exponential(0.3 * MS, count)
    ),
    "young, loses time in steps; evenly over 1 ms": losing_time(
        lambda rng, count: rng.uniform(0, MS, count)
    ),
}


def certain(make: Make, seed: int) -> tuple[float, float]:
    """When a client's drift is certain, s, and its ratio then, ppm; never: (inf, nan)."""
    trace = make(np.random.default_rng([seed, 9]))
    _, course = follow(trace)
    at = int(np.argmax(course.certain))
    if not course.certain[at]:
        return np.inf, np.nan
    return float(trace.seconds[at]), float(1e6 * course.ratio[at])


def drifting(kind: str, ppm: float, clients: int) -> dict[str, Any]:
    """When clients whose clock is off by so much are certain to be: the fields of
    ``loadtest.benchmarks.certainty.Row``."""
    found = np.array([certain(_jittery(kind, LATE_S, ppm), n) for n in range(clients)])
    times = found[:, 0]
    half, nine = np.quantile(times, [0.5, 0.9], method="lower").tolist()
    return {
        "network": JITTERS[kind],
        "ppm": ppm,
        "clients": clients,
        "certain": int(np.isfinite(times).sum()),
        "half_s": _seconds(half),
        "nine_s": _seconds(nine),
        "last_s": _seconds(float(times.max())),
        "off_ppm": round(float(np.nanquantile(np.abs(found[:, 1] - ppm), 0.9)), 2),
    }


def _seconds(value: float) -> float | None:
    return round(value, 2) if np.isfinite(value) else None


def calm(network: str, clients: int) -> dict[str, Any]:
    """How many clients whose clock is the hub's are said to drift; fields as above."""
    times = np.array([certain(CALM[network], n)[0] for n in range(clients)])
    said = int(np.isfinite(times).sum())
    return {"network": network, "ppm": 0.0, "clients": clients, "certain": said}


@click.command()
@click.argument("clients", type=int)
@click.argument("drifters", type=int)
def main(clients: int, drifters: int) -> None:
    """Follow so many clients without a drift, and so many with one, of each kind.

    Prints a JSON object a line, as they are found.
    """
    for kind in JITTERS:
        for ppm in PPM:
            click.echo(json.dumps(drifting(kind, ppm, drifters)))
    for network in CALM:
        click.echo(json.dumps(calm(network, clients)))


if __name__ == "__main__":
    main()
