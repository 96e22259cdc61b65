"""Which resource gives out first, read off the probes just beyond the number that holds.

Each resource has one figure and one threshold, below; the failing probes nearest above the
found number are judged first, those further up (where a cause shows more plainly) after them.
A probe may show several: the first in the order of ``_RULES`` is the verdict, since what
follows is often its consequence (a full core makes socket buffers run over), and the others
are named beside it.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from loadtest.capacity.probe import FULL, Figures, Probe
from loadtest.capacity.search import Ending, Found

ONE_PROCESS = 0.85
"""The same for a process that has to be done by the end of each period."""
THROTTLE_MARGIN = 0.02
"""Real-time processes this near to the kernel's limit were stopped by it now and then."""
STOLEN = 0.01
"""Share of all cores' time that the hypervisor took: more than that is heard."""
SCARCE = 0.05
"""Share of memory or descriptors left."""
LATE_JOIN_MS = 2000.0
OTHERS = 0.05
"""Share of the hub's cores that other programs used: more than that is no quiet machine."""
IDLE = 0.5
"""A hub that fails while its cores are idle for more than this share fails for another reason
than its number of clients."""


_SYSCTL = Path("/proc/sys/kernel")


class Resource(StrEnum):
    """What can give out."""

    GENERATOR = "load generator"
    MAX_CLIENTS = "the hub's --max-clients"
    DESCRIPTORS = "file descriptors"
    MEMORY = "memory"
    REALTIME = "real-time share of the core"
    CORE = "CPU"
    MIXER = "the mixer's core"
    JOINS = "joins"
    BUFFERS = "UDP receive buffers"
    OTHERS = "other programs on the hub's cores"
    MACHINE = "the hypervisor"
    TIMING = "timing, with no resource full"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where the hub ran.

    Attributes:
        cores: that the hub could use.
        machine_cores: of the machine.
        realtime: whether its audio processes may have run under SCHED_FIFO.
        realtime_share: of each second that the kernel lets such processes have; 1: all.
        max_clients: that the hub admits.
        memory_kib: of the machine.
    """

    cores: int = 1
    machine_cores: int = 2
    realtime: bool = True
    realtime_share: float = 0.95
    max_clients: int = 1024
    memory_kib: int = 0

    @classmethod
    def here(cls, *, cores: int, max_clients: int) -> Surroundings:
        """This machine."""
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        soft = resource.getrlimit(resource.RLIMIT_RTPRIO)[0]
        return cls(
            cores=cores,
            machine_cores=os.cpu_count() or 1,
            realtime=os.geteuid() == 0 or soft != 0,
            realtime_share=realtime_share(),
            max_clients=max_clients,
            memory_kib=pages // 1024,
        )


@dataclass(frozen=True, slots=True)
class Limit:
    """What gave out first.

    Attributes:
        text: for people, with the figures that led to it.
        clients: of the probe that showed it; 0: none.
        figures: those of that probe that were judged.
        others: what else was exhausted in it, in words.
    """

    resource: Resource
    text: str
    clients: int = 0
    figures: dict[str, float] = field(default_factory=dict)
    others: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"resource": str(self.resource)}


def realtime_share(sysctl: Path = _SYSCTL) -> float:
    """What the kernel allows SCHED_FIFO processes of each second (RT throttling)."""
    return 1.0 - throttle_ns(sysctl) / _period_ns(sysctl)


def throttle_ns(sysctl: Path = _SYSCTL) -> float:
    """For how long Linux stops SCHED_FIFO processes that have used up their share; 0: never."""
    runtime_ns = _kernel_ns(sysctl / "sched_rt_runtime_us")
    return 0.0 if runtime_ns < 0 else max(0.0, _period_ns(sysctl) - runtime_ns)


def _period_ns(sysctl: Path) -> float:
    period_ns = _kernel_ns(sysctl / "sched_rt_period_us")
    return period_ns if period_ns > 0 else 1e9


def _kernel_ns(path: Path) -> float:
    """A setting in µs; −1: it is not there, or without a limit."""
    try:
        return int(path.read_text()) * 1e3
    except (OSError, ValueError):
        return -1.0


def first_to_give_out(found: Found, around: Surroundings) -> Limit:
    """The verdict on a search."""
    if found.ending is Ending.GENERATOR:
        return _generator(found)
    if found.ending is Ending.HIGHEST:
        if found.clients >= around.max_clients:
            text = f"{found.clients} clients are as many as the hub admits; it had room left."
            return Limit(Resource.MAX_CLIENTS, text, found.clients)
        return Limit(Resource.NOTHING, f"Nothing gave out up to {found.clients} clients.")
    failing = sorted(
        (probe for probe in found.probes if _failed_above(probe, found.clients)),
        key=lambda probe: probe.clients,
    )
    if not failing:
        return Limit(Resource.NOTHING, "No probe failed.")
    for probe in failing:
        reasons = [reason for rule in _RULES if (reason := rule(probe, around)) is not None]
        if reasons:
            resource_, text = reasons[0]
            where = f"With {probe.clients} clients "
            others = tuple(other for _, other in reasons[1:])
            figures = key_figures(probe.figures, around)
            return Limit(resource_, where + text + ".", probe.clients, figures, others)
    return _timing(failing[0], around)


def key_figures(figures: Figures, around: Surroundings) -> dict[str, float]:
    """The figures that the rules look at."""
    return {
        "hub_cores": round(figures.cores(), 4),
        "hub_load": round(figures.cores() / around.cores, 4),
        "mixer_period_share": round(figures.cores("mixer"), 4),
        "receivers_cores": round(figures.cores("rx", "receiver"), 4),
        "lanes_cores": round(figures.cores("lane"), 4),
        "kernel_drops": figures.counts.get("kernel_drops", 0),
        "missed_ticks": figures.counts.get("missed", 0),
        "joined": figures.joined,
        "join_p99_ms": round(figures.join_p99_ms, 1),
        "descriptors": figures.descriptors,
        "descriptor_limit": figures.descriptor_limit,
        "private_mib": round(figures.private_kib / 1024, 1),
        "available_mib": round(figures.available_kib / 1024, 1),
        "others_cores": round(figures.others_cores, 4),
        "stolen_share": round(_stolen(figures, around), 5),
        "generator_load": round(figures.own_load, 4),
        "generator_late_p99_us": round(figures.late_p99_us, 1),
    }


def _failed_above(probe: Probe, clients: int) -> bool:
    return probe.usable and not probe.passed and probe.clients > clients


def _generator(found: Found) -> Limit:
    late = [probe for probe in found.probes if not probe.usable and probe.clients == found.beyond]
    held = [probe for probe in found.probes if probe.passed and probe.clients == found.clients]
    text = f"With {found.beyond} clients the generator gave out"
    if late:
        figures = late[-1].figures
        text += (
            f" ({'; '.join(late[-1].reasons)}; it used {figures.own_load:.0%} of a core, "
            f"{figures.late_p99_us:.0f} µs late at p99)"
        )
    if held:
        text += f"; with {found.clients} the hub used {held[-1].figures.cores():.2f} cores"
    return Limit(Resource.GENERATOR, text + ".", found.beyond)


def _timing(probe: Probe, around: Surroundings) -> Limit:
    figures = probe.figures
    text = (
        f"With {probe.clients} clients the level was missed ({'; '.join(probe.failed)}) although "
        f"the hub used {figures.cores():.2f} of {around.cores} cores: work that comes in bursts "
        "was late, or something else held the core for a moment."
    )
    if figures.cores() < (1 - IDLE) * around.cores:
        text += " That says more of the machine than of the hub: repeat it on a quiet one."
    return Limit(Resource.TIMING, text, probe.clients, key_figures(figures, around))


Verdict = tuple[Resource, str] | None


def _descriptors(probe: Probe, around: Surroundings) -> Verdict:
    figures = probe.figures
    if figures.descriptor_limit and figures.descriptors >= (1 - SCARCE) * figures.descriptor_limit:
        return Resource.DESCRIPTORS, (
            f"a process of the hub had {figures.descriptors} descriptors open of "
            f"{figures.descriptor_limit} allowed"
        )
    return None


def _memory(probe: Probe, around: Surroundings) -> Verdict:
    figures = probe.figures
    if figures.available_kib and figures.available_kib < SCARCE * around.memory_kib:
        return Resource.MEMORY, (
            f"{figures.available_kib / 1024:.0f} MiB of memory were left, the hub had "
            f"{figures.private_kib / 1024:.0f}"
        )
    return None


def _max_clients(probe: Probe, around: Surroundings) -> Verdict:
    if probe.figures.joined < probe.clients and probe.clients > around.max_clients:
        return Resource.MAX_CLIENTS, f"the hub admits {around.max_clients}"
    return None


def _realtime(probe: Probe, around: Surroundings) -> Verdict:
    """The hub's audio processes together, on its cores, against the kernel's limit."""
    figures = probe.figures
    share = figures.cores("mixer", "rx", "receiver", "lane", "jackd", "jacktrip") / around.cores
    if not around.realtime or around.realtime_share >= 1:
        return None
    if share >= around.realtime_share - THROTTLE_MARGIN:
        return Resource.REALTIME, (
            f"the hub's audio used {share:.0%} of its {_cores(around)}; the kernel lets real-time "
            f"processes have {around.realtime_share:.0%} and then stops them ({_division(figures)})"
        )
    return None


def _core(probe: Probe, around: Surroundings) -> Verdict:
    load = probe.figures.cores() / around.cores
    if load >= FULL:
        return Resource.CORE, (
            f"the hub used {load:.0%} of its {_cores(around)} ({_division(probe.figures)})"
        )
    return None


def _mixer(probe: Probe, around: Surroundings) -> Verdict:
    """One process cannot use more than one core, however many there are."""
    share = probe.figures.cores("mixer")
    if around.cores > 1 and share >= ONE_PROCESS:
        return Resource.MIXER, f"the mixer worked for {share:.0%} of each period, on one core"
    return None


def _joins(probe: Probe, around: Surroundings) -> Verdict:
    figures = probe.figures
    if not figures.period_us:  # there was no window, and so no figure
        return Resource.JOINS, f"there was nothing to measure: {'; '.join(probe.failed)}"
    absent = probe.clients - figures.joined + figures.unheard
    if absent or figures.join_p99_ms > LATE_JOIN_MS:
        return Resource.JOINS, (
            f"{absent} did not come in or heard nothing, and a join took "
            f"{figures.join_p99_ms / 1000:.1f} s (p99)"
        )
    return None


def _buffers(probe: Probe, around: Surroundings) -> Verdict:
    if dropped := probe.figures.counts.get("kernel_drops", 0):
        return Resource.BUFFERS, f"{dropped} datagrams found the hub's receive buffers full"
    return None


def _others(probe: Probe, around: Surroundings) -> Verdict:
    share = probe.figures.others_cores / around.cores
    if share > OTHERS:
        return Resource.OTHERS, (
            f"other programs used {share:.0%} of the hub's {_cores(around)}, the hub itself "
            f"{probe.figures.cores() / around.cores:.0%}: repeat it on a quiet machine"
        )
    return None


def _machine(probe: Probe, around: Surroundings) -> Verdict:
    share = _stolen(probe.figures, around)
    if share > STOLEN:
        return Resource.MACHINE, f"the hypervisor took {share:.1%} of all cores' time for others"
    return None


def _stolen(figures: Figures, around: Surroundings) -> float:
    time_s = figures.window_s * around.machine_cores
    return figures.steal_s / time_s if time_s else 0.0


def _division(figures: Figures) -> str:
    """Who used the CPU, the greatest first."""
    groups = {
        "receivers": figures.cores("rx", "receiver"),
        "mixer": figures.cores("mixer"),
        "lanes": figures.cores("lane"),
        "jackd": figures.cores("jackd"),
        "jacktrip": figures.cores("jacktrip"),
    }
    groups["the rest"] = figures.cores() - sum(groups.values())
    ordered = sorted(groups.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {share:.2f} cores" for name, share in ordered if share > 0.005)


def _cores(around: Surroundings) -> str:
    return "core" if around.cores == 1 else f"{around.cores} cores"


_RULES: Sequence[Callable[[Probe, Surroundings], Verdict]] = (
    _max_clients, _descriptors, _memory, _realtime, _core, _mixer, _joins, _others, _machine,
    _buffers,
)  # fmt: skip
