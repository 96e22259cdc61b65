"""Making one probe: a fresh server, so many clients, a window, and the server's end.

The server runs on its cores and the generator, in this process, on another. Each probe has a
server of its own, so that none inherits what the last one left (receivers, caches, leaks).
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from loadtest.capacity.limits import throttle_ns
from loadtest.capacity.probe import FULL, Figures, Probe
from loadtest.conduct import procfs, servers
from loadtest.conduct.halts import watching_cores
from loadtest.conduct.servers import Server, ServerEnded
from loadtest.scenario.model import Format, Hub, Scenario, Section, Service
from shared.layout import PatchMode

if TYPE_CHECKING:
    from loadtest.reporting.result import Result, ServiceCheck

JOIN_RATE = 50.0
SAMPLE_S = 5.0
"""Descriptors and memory are looked at this often; often enough for what only grows."""
_HOLDERS = ("tuttihub", "mixer", "zygote", "lane", "jackd", "jacktrip")
"""Processes that hold something for every client."""
SPARE_S = 20.0
"""A run may take so much longer than planned."""
_AFTER_THE_WINDOW = ("draining", "leaving")
SHOWN_PROBLEMS = 3
THROTTLE_MARGIN = 0.5
"""Halts of so much of the time for which Linux stops real-time processes may be that."""
NO_HALTS: npt.NDArray[np.int64] = np.zeros(0, np.int64)
_PROCESSOR = 36
"""Of the fields of /proc/PID/stat behind the name: the core it ran on last."""


class Target(StrEnum):
    """What is measured."""

    TUTTIHUB = "tuttihub"
    JACKTRIP = "jacktrip"


@dataclass(frozen=True, slots=True)
class Case:
    """What a search is made of; two searches of equal cases may share their probes.

    Attributes:
        frames: samples per channel in a packet, and the hub's period.
        channels: both ways.
        queue: the hub's ``-q``.
        hub_options: more of a tuttihub's.
        hub_cpus: cores of the server.
        service: level to hold.
    """

    target: Target = Target.TUTTIHUB
    frames: int = 128
    channels: int = 2
    mode: PatchMode = PatchMode.FAN_OUT_NO_SELF
    rate_hz: int = 48000
    bits: int = 16
    queue: str = "4"
    hub_options: tuple[str, ...] = ()
    hub_cpus: tuple[int, ...] = (0,)
    burst: bool = False
    realtime: bool = True
    seed: int = 1
    service: Service = field(default_factory=Service)

    @property
    def format(self) -> Format:
        return Format(self.frames, self.rate_hz, self.bits, self.channels, self.channels)

    @property
    def format_label(self) -> str:
        channels = {1: "mono", 2: "stereo"}.get(self.channels, f"{self.channels} channels")
        return f"{self.frames} frames, {channels}"

    @property
    def label(self) -> str:
        return f"{self.target}, {self.format_label}"

    @property
    def is_mesh(self) -> bool:
        """Whether each hears the others, so that JACK connects all with all."""
        return self.mode in (PatchMode.FAN_OUT_NO_SELF, PatchMode.FULL_MIX)

    @property
    def hub(self) -> Hub:
        return Hub(
            self.mode, period=self.frames, rate_hz=self.rate_hz, queue=self.queue,
            options=self.hub_options,
        )  # fmt: skip

    def scenario(self, clients: int, seconds: float) -> Scenario:
        """The run of one probe."""
        return Scenario(
            name="capacity",
            title=f"{self.label}, {clients} clients",
            seconds=seconds,
            join_rate=self.join_rate(clients),
            seed=self.seed,
            burst=self.burst,
            hub=self.hub,
            sections=(Section(clients=clients, format=self.format),),
            service=self.service,
        )

    def join_rate(self, clients: int) -> float:
        """Handshakes a second that the server can be asked for.

        JACK takes twice as long for each further client of a graph in which all are connected
        (half a second for the 22nd, 16 s for the 27th, of one channel; each further channel
        adds half as much), and the original hub answers nobody meanwhile. So the joins get
        that time, spread evenly, but no more than four minutes in all.
        """
        if self.target is Target.TUTTIHUB:
            return JOIN_RATE
        patching_s = 0.0
        if self.is_mesh:
            patching_s = 2.0 ** (min(clients, 40) - 22) * (1 + self.channels) / 2
        return clients / (clients / 4 + min(240.0, 3 * patching_s))

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {
            "target": str(self.target),
            "mode": int(self.mode),
            "hub_options": list(self.hub_options),
            "hub_cpus": list(self.hub_cpus),
        }


@dataclass(slots=True)
class Resources:
    """What was seen of the machine in a run.

    Attributes:
        descriptors, descriptor_limit: of the process that had most of what it may have.
        available_kib: the least memory that was left.
        others_cores: CPU that neither server nor generator used on the server's cores, of
            programs that were there at the end.
    """

    descriptors: int = 0
    descriptor_limit: int = 0
    available_kib: int = 0
    others_cores: float = 0.0

    def look(self, pids: tuple[int, ...]) -> None:
        """Look once at a server's processes; those that have ended are left out."""
        for pid in procfs.tree(*pids):
            with contextlib.suppress(OSError, ValueError):
                if pid not in pids and not any(one in procfs.kind(pid) for one in _HOLDERS):
                    continue
                used = len(list((procfs.PROC / str(pid) / "fd").iterdir()))
                limit = _descriptor_limit(procfs.PROC / str(pid) / "limits")
                if used * max(1, self.descriptor_limit) >= self.descriptors * limit:
                    self.descriptors, self.descriptor_limit = used, limit
        available = available_kib()
        if available and (not self.available_kib or available < self.available_kib):
            self.available_kib = available


def available_kib() -> int:
    """Memory that the machine could still give; 0: unknown."""
    with contextlib.suppress(OSError):
        for line in (procfs.PROC / "meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1])
    return 0


def _descriptor_limit(path: Path) -> int:
    for line in path.read_text().splitlines():
        if line.startswith("Max open files"):
            return int(line.split()[3])
    raise ValueError(f"{path}: no line of open files")


def threads() -> dict[tuple[int, int], tuple[int, int]]:
    """(pid, tid) -> (CPU time since its start in ns, core it ran on last), of all that we see."""
    found = {}
    for process in procfs.PROC.glob("[0-9]*"):
        tasks: list[Path] = []
        with contextlib.suppress(OSError):  # it has ended since
            tasks.extend((process / "task").iterdir())
        for task in tasks:
            with contextlib.suppress(OSError, IndexError):
                run_ns = int((task / "schedstat").read_text().split()[0])
                core = int((task / "stat").read_text().rpartition(")")[2].split()[_PROCESSOR])
                found[int(process.name), int(task.name)] = run_ns, core
    return found


def others_ns(
    before: dict[tuple[int, int], tuple[int, int]],
    after: dict[tuple[int, int], tuple[int, int]],
    ours: set[int],
    cores: set[int],
) -> int:
    """CPU time that all processes but ours used on some cores between two looks at them."""
    return sum(
        run_ns - before.get(key, (0, 0))[0]
        for key, (run_ns, core) in after.items()
        if key[0] not in ours and core in cores
    )


@contextlib.contextmanager
def watching(pids: tuple[int, ...], cores: Iterable[int]) -> Iterator[Resources]:
    """Look at a server's resources now and then, and at who else used its cores, until the
    end of the block."""
    seen, ended = Resources(), threading.Event()
    before, began_ns = threads(), time.monotonic_ns()

    def work() -> None:
        while not ended.wait(SAMPLE_S):
            seen.look(pids)

    thread = threading.Thread(target=work, name="resources", daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()
        seen.look(pids)
        ours = {os.getpid(), *procfs.tree(*pids)}
        used_ns = others_ns(before, threads(), ours, set(cores))
        seen.others_cores = round(used_ns / (time.monotonic_ns() - began_ns), 4)


class Patience:
    """A run's progress, watched: if it takes too long to bring all in and play, the main thread
    is interrupted as by Ctrl-C. Compiling before it and examining after it take their time.

    Attributes:
        seconds: how long it may take.
        exhausted: whether it was interrupted by us.
    """

    def __init__(self, seconds: float, told: Callable[[str], None] = lambda text: None) -> None:
        """told: each part of the run, as it begins."""
        self.seconds = seconds
        self._told = told
        self.exhausted = False
        self._timer = threading.Timer(seconds, self._interrupt)
        self._timer.daemon = True

    def __enter__(self) -> Patience:
        return self

    def __exit__(self, *error: object) -> None:
        self._timer.cancel()

    def watch(self, state: object) -> None:
        """The generator runs: from now on it counts."""
        self._timer.start()

    def phase(self, text: str, seconds: float = 0.0) -> None:
        """A part of the run has begun."""
        self._told(text)
        if text in _AFTER_THE_WINDOW:
            self._timer.cancel()

    def note(self, text: str) -> None:
        """Something happened."""

    def _interrupt(self) -> None:
        self.exhausted = True
        # to that thread itself: another's signal would not end what it waits for
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGINT)


class Bench:
    """Measures one case; an instance is the search's ``measure``.

    Attributes:
        version: of the server, once it has run.
        told: each part of a probe, as it begins.
    """

    def __init__(self, case: Case) -> None:
        self.case = case
        self.version = ""
        self.told: Callable[[str], None] = lambda text: None

    def __call__(self, clients: int, seconds: float) -> Probe:
        """One probe. A server that ends under its load has not held it.

        Raises:
            ServerError: the server did not start.
            KeyboardInterrupt: the run was cut short.
        """
        probe = Probe(clients, seconds, True, False)
        scenario = self.case.scenario(clients, seconds)
        patience = Patience(self.patience_s(scenario), lambda text: self.told(text))
        self.told("starting the server")
        try:
            with self.server() as server:
                self.version = server.version
                probe = self._probe(server, scenario, patience)
        except ServerEnded as error:
            text = f"the server ended under its load: {error}"
            return replace(probe, usable=True, passed=False, failed=(text, *probe.failed))
        except KeyboardInterrupt:
            if not patience.exhausted:
                raise
        if patience.exhausted:
            text = (
                f"not done within {patience.seconds:.0f} s: the server was too busy to let all in"
            )
            return Probe(clients, seconds, True, False, failed=(text,))
        return probe

    def _probe(self, server: Server, scenario: Scenario, patience: Patience) -> Probe:
        from loadtest.conduct.session import NobodyLetIn, Session, SessionError
        from loadtest.reporting.evaluate import evaluate
        from loadtest.reporting.lacks import window_ns

        cores = self.case.hub_cpus
        clients, seconds = scenario.clients, scenario.seconds
        with watching(server.pids, cores) as resources, watching_cores(cores) as halts:
            session = Session(
                scenario,
                host=server.host,
                port=server.port,
                hub_pids=server.pids,
                control=server.control,
                realtime=self.case.realtime,
                progress=patience,
            )
            try:
                with patience:
                    outcome = session.run()
            except NobodyLetIn as error:  # though the server listens: an answer too
                return Probe(clients, seconds, True, False, failed=(f"no run: {error}",))
            except SessionError as error:
                return Probe(clients, seconds, False, False, reasons=(f"no run: {error}",))
        if outcome.interrupted:
            raise KeyboardInterrupt
        halted_ns = halts.between(*window_ns(outcome))
        return probe_of(evaluate(outcome), seconds, resources, halted_ns, len(cores))

    def floor_us(self, clients: int, seconds: float) -> float:
        """What a bare echo of the same packets costs a client-period; 0: it could not be told."""
        from loadtest.floor import echo_floor

        cost = echo_floor(
            self.case.scenario(clients, seconds), cpus=self.case.hub_cpus,
            realtime=self.case.realtime,
        )  # fmt: skip
        return cost.cpu_us if cost else 0.0

    def patience_s(self, scenario: Scenario) -> float:
        """How long a run may take: a server that is full lets nobody in for minutes."""
        joining_s = scenario.clients / scenario.join_rate
        return SPARE_S + scenario.seconds + scenario.settle_s + 2 * joining_s

    def server(self) -> contextlib.AbstractContextManager[Server]:
        """The server under test."""
        case = self.case
        if case.target is Target.JACKTRIP:
            return servers.jacktrip(case.hub, cpus=case.hub_cpus, realtime=case.realtime)
        return servers.tuttihub(case.hub, cpus=case.hub_cpus)


def probe_of(
    result: Result,
    seconds: float,
    resources: Resources,
    halted_ns: npt.NDArray[np.int64] = NO_HALTS,
    cores: int = 1,
) -> Probe:
    """What a search needs of a run's result.

    What a hub misses while the machine stands still is not its doing: so many ticks, and return
    packets of as many ticks, are taken off before they are judged. What may be Linux itself that
    stops a hub which uses up its real-time share is the hub's doing.

    Args:
        halted_ns: lengths of the moments in which a core of the server stood still.
        cores: of the server.
    """
    figures = _figures(result, resources, halted_ns)
    limit_ns = THROTTLE_MARGIN * throttle_ns() or np.inf
    short = halted_ns[halted_ns < limit_ns]
    excused = halted_ticks(short, figures.period_us) if figures.cores() < FULL * cores else 0
    checks = [_less(check, result, excused) for check in result.service]
    failed = [
        " ".join(f"{check.name} {check.measured:.6g} {check.unit}".split())
        + f" (at most {check.allowed:g})"
        if check.measured is not None
        else f"{check.name} not measured"
        for check in checks
        if not check.passed
    ]
    return Probe(
        clients=result.clients,
        seconds=seconds,
        usable=result.usable,
        passed=not failed,
        failed=(*failed, *result.problems[:SHOWN_PROBLEMS]),
        reasons=tuple(result.reasons),
        figures=replace(figures, excused_ticks=excused),
    )


def halted_ticks(halted_ns: npt.NDArray[np.int64], period_us: float) -> int:
    """Ticks that a server may miss for standing still so often, and so long each time: those
    within, and the one it was in the middle of."""
    if not period_us:
        return 0
    return int((np.ceil(halted_ns / (period_us * 1000)) + 1).sum())


def _less(check: ServiceCheck, result: Result, ticks: int) -> ServiceCheck:
    """A check without what the machine's halts explain."""
    if check.measured is None or not ticks:
        return check
    match check.name:
        case "missed ticks":
            rest = max(0.0, check.measured - ticks)
        case "return loss":
            rest = max(0.0, check.measured - ticks * result.clients / max(1, result.expected))
        case _:
            return check
    return replace(check, measured=rest, passed=rest <= check.allowed)


def _figures(result: Result, resources: Resources, halted_ns: npt.NDArray[np.int64]) -> Figures:
    counters, cost = result.counters, result.hub
    period_us = 1e6 * result.scenario["hub"]["period"] / result.scenario["hub"]["rate_hz"]
    return Figures(
        period_us=period_us,
        window_s=result.window_s,
        joined=result.joined,
        unheard=result.unheard,
        playing=cost.cores * period_us / cost.cpu_us if cost and cost.cpu_us else 0.0,
        expected=result.expected,
        lost=result.lost + result.shortfall,
        wrong=result.wrong + result.silent,
        missing=result.missing,
        spacing_p99_us=result.spacing.p99,
        latency_p50_us=result.latency.p50,
        latency_p99_us=result.latency.p99,
        join_p99_ms=result.join_ms.p99,
        cpu_us=dict(cost.cpu_us_by_kind) if cost else {},
        processes=dict(cost.processes) if cost else {},
        private_kib=cost.private_kib if cost else 0,
        private_kib_a_client=(cost.private_kib_a_client or 0.0) if cost else 0.0,
        counts=dict(counters.counts) if counters else {},
        load_ratio=counters.load_ratio if counters else 0.0,
        tick_p99_us=(counters.lateness_us.get("p99") or 0.0) if counters else 0.0,
        descriptors=resources.descriptors,
        descriptor_limit=resources.descriptor_limit,
        available_kib=resources.available_kib,
        late_p99_us=result.lateness.p99,
        own_load=result.own_load,
        steal_s=result.steal_s,
        others_cores=resources.others_cores,
        halts=len(halted_ns),
        halted_ms=round(float(halted_ns.sum()) / 1e6, 3),
    )
