"""One look at a hub with so many clients: whether it held, and what it cost. Plain values."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

FULL = 0.90
"""A core that is busy for this share of the window has no time left when it is needed:
work comes in bursts, and what waits for the next period is late."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What a probe measured; what could not be measured is 0 or empty.

    Attributes:
        period_us: of the hub.
        window_s: measured.
        joined: clients that were let in; unheard: of those, without any audio back.
        playing: on average over the window; 0: as joined.
        expected, lost: return packets; lost: all that did not come, however.
        wrong: checked packets with a wrong sample, silent ones included; missing: frames of
            voices never heard.
        spacing_p99_us: deviation of the return packets' distance.
        latency_p50_us, latency_p99_us: packet in to packet out.
        join_p99_ms: TCP connect to first audio back.
        cpu_us: CPU a client-period, by kind of process.
        processes: how many of each kind.
        private_kib: private memory of the whole tree; private_kib_a_client: what one more
            client takes of it.
        counts: the hub's own counters over the window (missed ticks, kernel_drops, ...).
        load_ratio: the mixer's share of a period by its own account.
        tick_p99_us: lateness of the hub's ticks by its own account.
        descriptors: most open descriptors of any process of the hub; descriptor_limit: of
            what is allowed to that process.
        available_kib: memory that the machine has left.
        late_p99_us: of the generator's sends; own_load: its share of a core.
        steal_s: CPU time taken by the hypervisor from all cores in the window.
        others_cores: CPU of other programs on the hub's cores, from its start to its end.
        halts: times that a core of the hub's stood still for a millisecond or more, while nothing
            that goes before a watcher of the highest priority can have had it; halted_ms: in all.
        excused_ticks: ticks that it might miss for that, and was not blamed for.
    """

    period_us: float = 0.0
    window_s: float = 0.0
    joined: int = 0
    unheard: int = 0
    playing: float = 0.0
    expected: int = 0
    lost: int = 0
    wrong: int = 0
    missing: int = 0
    spacing_p99_us: float = 0.0
    latency_p50_us: float = 0.0
    latency_p99_us: float = 0.0
    join_p99_ms: float = 0.0
    cpu_us: dict[str, float] = field(default_factory=dict)
    processes: dict[str, int] = field(default_factory=dict)
    private_kib: int = 0
    private_kib_a_client: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)
    load_ratio: float = 0.0
    tick_p99_us: float = 0.0
    descriptors: int = 0
    descriptor_limit: int = 0
    available_kib: int = 0
    late_p99_us: float = 0.0
    own_load: float = 0.0
    steal_s: float = 0.0
    others_cores: float = 0.0
    halts: int = 0
    halted_ms: float = 0.0
    excused_ticks: int = 0

    def cores(self, *kinds: str) -> float:
        """CPU in cores (1.0: one core all the time), of the kinds whose name holds one of
        these; of all without any."""
        us = sum(
            us for kind, us in self.cpu_us.items()
            if not kinds or any(name in kind for name in kinds)
        )  # fmt: skip
        return us * (self.playing or self.joined) / self.period_us if self.period_us else 0.0


@dataclass(frozen=True, slots=True)
class Probe:
    """A run with so many clients.

    Attributes:
        clients: how many were to play.
        seconds: length of the window asked for.
        usable: whether the generator may be believed; reasons: why not.
        passed: whether the service level was held (of no meaning unless usable).
        failed: names and figures of the checks that were not passed, and problems.
    """

    clients: int
    seconds: float
    usable: bool
    passed: bool
    failed: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    figures: Figures = Figures()

    @property
    def hopeless(self) -> bool:
        """It failed so badly that there was no window to measure: no mishap explains that."""
        return self.usable and not self.passed and not self.figures.window_s

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Probe:
        """Read what ``to_json`` wrote; what later versions added is left out.

        Raises:
            KeyError: a field is missing.
        """
        known = {each.name for each in fields(Figures)}
        figures = {name: value for name, value in values["figures"].items() if name in known}
        return cls(
            clients=int(values["clients"]),
            seconds=float(values["seconds"]),
            usable=bool(values["usable"]),
            passed=bool(values["passed"]),
            failed=tuple(values["failed"]),
            reasons=tuple(values["reasons"]),
            figures=Figures(**figures),
        )
