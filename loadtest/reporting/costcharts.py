"""Charts of what a hub costs: by kind of process, and against the number of clients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from loadtest.reporting.charts import BLUE, GREEN, figure, looks
from loadtest.reporting.result import Cost, Result


def by_kind(hub: Cost) -> Figure:
    """CPU a client-period and private memory, each by kind of process."""
    kinds = sorted(hub.kinds.items(), key=lambda item: item[1].cpu_us)
    made = figure(1.2 + 0.38 * len(kinds))
    left, right = made.subplots(1, 2, sharey=True)
    names = [f"{name} × {kind.processes}" for name, kind in kinds]
    _bars(left, names, [kind.cpu_us for _, kind in kinds], BLUE)
    left.set_title("CPU")
    left.set_xlabel("µs for a client's period")
    _bars(right, names, [kind.private_kib / 1024 for _, kind in kinds], GREEN)
    right.set_title("Private memory")
    right.set_xlabel("MiB")
    return made


def _bars(axes: Axes, names: list[str], values: list[float], colour: str) -> None:
    bars = axes.barh(names, values, color=colour, height=0.62)
    axes.bar_label(bars, labels=[f" {value:.3g}" for value in values], fontsize=9.5)
    axes.grid(axis="y", visible=False)
    axes.set_xlim(0, max([*values, 1e-9]) * 1.18)


@dataclass(frozen=True, slots=True)
class Point:
    """What a hub cost with so many clients.

    Attributes:
        cpu_us: a client-period; cores: in all.
        private_mib: a client, NaN: not known; memory_mib: in all.
    """

    clients: int
    cpu_us: float
    cores: float
    private_mib: float
    memory_mib: float


def against_clients(results: Sequence[Result]) -> Figure:
    """CPU and memory against the number of clients, a line for each hub and scenario."""
    groups: dict[str, list[Point]] = {}
    for result in results:
        if hub := result.hub:
            name = ", ".join(filter(None, (result.scenario["name"], result.hub_name)))
            groups.setdefault(name, []).append(
                Point(
                    result.joined, hub.cpu_us, hub.cores,
                    (hub.private_kib_a_client or np.nan) / 1024,
                    (hub.private_kib + hub.shared_kib) / 1024,
                )
            )  # fmt: skip
    return cost_lines(groups)


def cost_lines(groups: Mapping[str, Sequence[Point]]) -> Figure:
    """CPU and memory against the number of clients, a line for each group."""
    made = figure(5.8)
    axes = made.subplots(2, 2, sharex=True)
    for (name, members), look in zip(groups.items(), looks(len(groups)), strict=True):
        rows = np.array([astuple(one) for one in sorted(members, key=lambda one: one.clients)])
        for place, values in zip(axes.flat, rows[:, 1:].T, strict=True):
            place.plot(rows[:, 0], values, label=name, markersize=5, **look)
    titles = (
        "CPU for a client's period, µs", "CPU in all, cores", "Private memory a client, MiB",
        "Memory in all, MiB",
    )  # fmt: skip
    for place, title in zip(axes.flat, titles, strict=True):
        place.set_title(title)
        place.set_ylim(bottom=0)
        place.set_xlim(left=0)
    for place in axes[1]:
        place.set_xlabel("clients")
    if len(groups) > 1:
        axes[0, 0].legend()
    return made
