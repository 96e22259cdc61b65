"""How soon a drift is certain, and how often none is taken for one: the tables of docs/networks.md.

    python -m tests.kernels.certainty --clients 1000

The clock's own kernel over packets made from seeds, 128 frames each: of clients whose clock is off,
half a minute; of those whose clock is the hub's, ten minutes on each network, and twenty seconds of
young ones that lose time in steps. A quarter of an hour on one core.
"""

from __future__ import annotations

from collections.abc import Callable

import click
import numpy as np

from loadtest.benchmarks import arrivals as networks
from loadtest.benchmarks.render import markdown
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


def soon(clients: int) -> list[list[str]]:
    """Rows of the table of drifts: half of the clients, nine of ten, the last; error in ppm."""
    rows = []
    for kind, text in JITTERS.items():
        row = [text]
        for ppm in PPM:
            found = np.array([certain(_jittery(kind, LATE_S, ppm), n) for n in range(clients)])
            low, high = np.quantile(found[:, 0], [0.5, 0.9], method="lower")
            worst = found[:, 0].max()
            last = f"{worst:.1f}" if np.isfinite(worst) else f"> {LATE_S:g}"
            off = np.nanquantile(np.abs(found[:, 1] - ppm), 0.9)
            row.append(f"{low:.1f} / {high:.1f} / {last} s, {off:.0f} ppm")
        rows.append(row)
        click.echo(" | ".join(row))
    return rows


def mistaken(clients: int) -> list[list[str]]:
    """Rows of the table of clients without a drift: how many are said to have one."""
    rows = []
    for text, make in CALM.items():
        found = np.array([certain(make, n) for n in range(clients)])
        wrong = np.isfinite(found[:, 0])
        rows.append([text, f"{wrong.sum()} of {clients}"])
        click.echo(f"{text} | {wrong.sum()} of {clients} {found[wrong][:5].round(1).tolist()}")
    return rows


@click.command(context_settings={"show_default": True})
@click.option("--clients", default=1000, help="Without a drift, of each kind.")
@click.option("--drifting", default=200, help="With one, of each kind.")
def main(clients: int, drifting: int) -> None:
    """How soon a drift is certain, and how often none is taken for one."""
    head = ["jitter", *(f"{ppm:g} ppm" for ppm in PPM)]
    first = markdown(head, soon(drifting), left=4)
    click.echo(markdown(["network", "said to drift"], mistaken(clients), left=1))
    click.echo(first)


if __name__ == "__main__":
    main()
