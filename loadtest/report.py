"""Figures of a run: as a dataclass, as JSON with provenance, as a table.

A run is *usable* when the generator itself kept time and lost nothing: otherwise what it
saw may be its own fault, and the reasons stand in the result.
"""

from __future__ import annotations

import json
import platform
import shlex
import sys
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from loadtest.control import HubCounters
from loadtest.session import HubCost, Outcome
from loadtest.signals import FAN_OUT, LOOPBACK, NONE
from loadtest.state import LATENCY, LATENESS, SPACING, quantile_us

SCHEMA = 1
LATE_SHARE = 0.25
"""A generator whose p99 is later than this share of a period is no exact clock."""
STALL_SHARE = 1e-3
"""More packets than this share sent later than a period: the queues were tested, not the hub."""
EDGE_NS = 22_000_000
"""A little more than the longest tick a hub may have: 1024 frames."""
RECEIVER_KINDS = ("receiver", "rx")
WORST_CLIENTS = 8
_CLIENT_COLUMNS = (
    "sent", "returned", "lost", "duplicates", "reordered", "restarts", "malformed", "foreign",
    "wrong", "silent", "leaks", "shifts", "heard", "latency_max_ns",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Spread:
    """Quantiles of a set of times."""

    count: int
    p50: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True)
class Cost:
    """The hub's cost.

    Attributes:
        cpu_us: CPU µs per client and period, the whole tree.
        cpu_us_by_kind, user_us, system_us: the same, divided.
        switches: voluntary and involuntary context switches per client and period.
        processes: in the window, by kind.
        private_kib_a_client: private memory of a receiver process on average; for hubs
            without such processes the growth of the whole tree, by client.
        private_kib: the whole tree, with all clients.
    """

    cpu_us: float
    user_us: float
    system_us: float
    cpu_us_by_kind: dict[str, float]
    voluntary: float
    involuntary: float
    processes: dict[str, int]
    private_kib_a_client: float
    private_kib: int
    private_kib_by_kind: dict[str, int]


@dataclass(slots=True)
class Result:
    """All figures of a run. Counts are of the measured window, times in µs unless named.

    Attributes:
        usable: whether the generator may be believed; `reasons`: why not.
        clean: nothing lost, duplicated, wrong, silent or missing.
        joined: clients that were let in; unheard: of those, without any audio back.
        expected: packets that the hub's clock should have sent back.
        lost: gaps in the numbering; shortfall: expected, but neither returned nor lost.
        missing: voice packets that listeners never heard rightly, of voices_expected.
        disturbed: of wrong and silent, those soon after the generator itself stalled.
        latency: packet in to the first packet out that carries it (send to arrival).
        spacing: |distance of consecutive returned packets − period|.
        answer_ms: TCP connect to the hub's answer; join_ms: to first audio back.
        lateness: of the generator's own sends.
    """

    plan: dict[str, Any]
    usable: bool
    reasons: list[str]
    clean: bool
    joined: int
    unheard: int
    problems: list[str]
    sent: int
    expected: int
    returned: int
    lost: int
    shortfall: int
    duplicates: int
    reordered: int
    restarts: int
    malformed: int
    foreign: int
    goodbyes: int
    checked: int
    wrong: int
    silent: int
    leaks: int
    shifts: int
    disturbed: int
    voices_expected: int
    voices_heard: int
    missing: int
    latency: Spread
    spacing: Spread
    answer_ms: Spread
    join_ms: Spread
    lateness: Spread
    stalls: int
    own_drops: int
    send_errors: int
    steal_s: float
    own_load: float
    realtime: bool
    hub: Cost | None
    counters: HubCounters | None
    clients: dict[str, list[int]] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)


def provenance() -> dict[str, Any]:
    """Where, when and with what a figure was made."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", *sys.orig_argv[1:]]),
        "machine": platform.machine(),
        "cpu": _cpu_name(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in ("tuttihub", "numba", "numpy")},
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.processor()


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def evaluate(outcome: Outcome) -> Result:
    """Make figures of what a run saw."""
    plan, run = outcome.plan, outcome.state.run[0]
    clients = outcome.state.clients
    joined = sorted(outcome.joins, key=lambda one: one.index)
    here = clients[[one.index for one in joined]]
    total = {name: int(here[name].sum()) for name in here.dtype.names or ()}
    expected = plan.packets * len(joined)
    shortfall = np.maximum(plan.packets - here["returned"] - here["lost"], 0)
    voices_expected = _voices_expected(int(plan.mode), here["spoken"])
    missing = np.maximum(voices_expected - here["heard"], 0)
    # the window's borders fall anywhere in a tick of the hub, which may be many packets long
    edge = 1 + EDGE_NS // int(plan.period_ns)
    short = int(np.where(shortfall > edge, shortfall, 0).sum())
    first_ns = np.array([int(clients["first_ns"][one.index]) for one in joined])
    started_ns = np.array([one.started_ns for one in joined])
    answered_ns = np.array([one.answered_ns for one in joined])
    heard = first_ns > 0
    lateness = _spread(outcome, LATENESS, int(run["late_max_ns"]) / 1000)
    result = Result(
        plan=plan.to_json(),
        usable=True,
        reasons=[],
        clean=False,
        joined=len(joined),
        unheard=int((~heard).sum()),
        problems=outcome.problems,
        sent=total["sent"],
        expected=expected,
        returned=total["returned"],
        lost=total["lost"],
        shortfall=short,
        duplicates=total["duplicates"],
        reordered=total["reordered"],
        restarts=total["restarts"],
        malformed=total["malformed"],
        foreign=total["foreign"],
        goodbyes=int((here["goodbyes"] > 0).sum()),
        checked=total["checked"],
        wrong=total["wrong"],
        silent=total["silent"],
        leaks=total["leaks"],
        shifts=total["shifts"],
        disturbed=total["disturbed"],
        voices_expected=int(voices_expected.sum()),
        voices_heard=total["heard"],
        missing=int(missing.sum()),
        latency=_spread(outcome, LATENCY, int(here["latency_max_ns"].max(initial=0)) / 1000),
        spacing=_spread(outcome, SPACING, None),
        answer_ms=_quantiles((answered_ns - started_ns) / 1e6),
        join_ms=_quantiles((first_ns - started_ns)[heard] / 1e6),
        lateness=lateness,
        stalls=int(run["stalls"]),
        own_drops=int(outcome.state.drops.sum()),
        send_errors=total["send_errors"],
        steal_s=round(outcome.steal_s, 3),
        own_load=round(outcome.own_load, 3),
        realtime=outcome.realtime,
        hub=_cost(outcome.cost, len(joined), plan.period_ns) if outcome.cost else None,
        counters=outcome.counters,
        clients={name: here[name].tolist() for name in _CLIENT_COLUMNS}
        | {
            "index": [one.index for one in joined],
            "missing": missing.tolist(),
            "latency_mean_ns": (here["latency_ns"] // np.maximum(here["heard"], 1)).tolist(),
        },
        provenance=provenance(),
    )
    result.reasons = _reasons(outcome, result)
    result.usable = not result.reasons
    faults = (
        result.lost, result.shortfall, result.duplicates, result.wrong, result.silent,
        result.missing, result.malformed, result.foreign, result.unheard, len(result.problems),
    )  # fmt: skip
    result.clean = not any(faults)
    return result


def _voices_expected(mode: int, spoken: np.ndarray[Any, np.dtype[np.int64]]) -> Any:
    """Voice packets each listener ought to have heard."""
    if mode == NONE:
        return np.zeros_like(spoken)
    if mode == LOOPBACK:
        return spoken
    return spoken.sum() - (spoken if mode == FAN_OUT else 0) + np.zeros_like(spoken)


def _reasons(outcome: Outcome, result: Result) -> list[str]:
    """What speaks against believing the run."""
    period_us = outcome.plan.period_ns / 1000
    run = outcome.state.run[0]
    reasons = []
    if result.lateness.p99 > LATE_SHARE * period_us:
        reasons.append(f"sends were late: p99 {result.lateness.p99:.0f} µs")
    if result.stalls > STALL_SHARE * max(1, result.sent):
        reasons.append(f"{result.stalls} packets left more than a period late")
    if int(run["skipped"]):
        reasons.append(f"{int(run['skipped'])} packet times were skipped, hopelessly late")
    if result.own_drops:
        reasons.append(f"{result.own_drops} packets were dropped in the generator's own socket")
    if result.send_errors:
        reasons.append(f"{result.send_errors} packets could not be sent")
    if outcome.interrupted:
        reasons.append("interrupted")
    return reasons


def _spread(outcome: Outcome, which: int, highest: float | None) -> Spread:
    histogram = outcome.state.histograms[which]
    count = int(histogram.sum())
    top = quantile_us(histogram, 1.0) if highest is None else highest
    return Spread(count, quantile_us(histogram, 0.5), quantile_us(histogram, 0.99), round(top, 1))


def _quantiles(values: np.ndarray[Any, np.dtype[np.float64]]) -> Spread:
    if values.size == 0:
        return Spread(0, 0.0, 0.0, 0.0)
    p50, p99, top = np.quantile(values, (0.5, 0.99, 1.0)).round(3).tolist()
    return Spread(int(values.size), p50, p99, top)


def _cost(cost: HubCost, clients: int, period_ns: float) -> Cost:
    units = clients * cost.window_ns / period_ns
    total = sum(use.cpu_us for use in cost.usage.values())
    memory: dict[str, int] = {}
    for pid, kib in cost.private_kib.items():
        kind = cost.kinds.get(pid, "other")
        memory[kind] = memory.get(kind, 0) + kib
    receivers = [
        kib for pid, kib in cost.private_kib.items() if _is_receiver(cost.kinds.get(pid, ""))
    ]
    whole = sum(cost.private_kib.values())
    a_client = (
        sum(receivers) / len(receivers)
        if receivers
        else (whole - cost.private_before_kib) / clients
    )
    uses = cost.usage.values()
    return Cost(
        cpu_us=round(total / units, 3),
        user_us=round(sum(use.user_us for use in uses) / units, 3),
        system_us=round(sum(use.system_us for use in uses) / units, 3),
        cpu_us_by_kind={
            kind: round(use.cpu_us / units, 3) for kind, use in sorted(cost.usage.items())
        },
        voluntary=round(sum(use.voluntary for use in uses) / units, 3),
        involuntary=round(sum(use.involuntary for use in uses) / units, 3),
        processes={kind: use.processes for kind, use in sorted(cost.usage.items())},
        private_kib_a_client=round(a_client, 1),
        private_kib=whole,
        private_kib_by_kind=memory,
    )


def _is_receiver(kind: str) -> bool:
    return any(name in kind for name in RECEIVER_KINDS)


def show(result: Result, console: Console) -> None:
    """Print a run as a table."""
    plan = result.plan
    table = Table(
        title=(
            f"{result.joined} of {plan['clients']} clients, {plan['channels']} x {plan['frames']} "
            f"frames at {plan['rate_hz']} Hz, mode {plan['mode']}, {plan['seconds']:g} s"
        ),
        show_header=False,
    )
    table.add_column(style="bold")
    table.add_column()
    for name, text in _rows(result):
        table.add_row(name, text)
    console.print(table)
    for line in _worst(result):
        console.print(line)
    for problem in result.problems[:WORST_CLIENTS]:
        console.print(f"[red]{problem}")
    if not result.usable:
        console.print(f"[red]not usable: {'; '.join(result.reasons)}")


def _rows(result: Result) -> list[tuple[str, str]]:
    rows = [
        ("packets", f"sent {result.sent}, returned {result.returned} of {result.expected}"),
        (
            "lost",
            f"{result.lost}, short {result.shortfall}, duplicates {result.duplicates}, "
            f"reordered {result.reordered}, restarts {result.restarts}, "
            f"malformed {result.malformed}, foreign {result.foreign}, unheard {result.unheard}",
        ),
        (
            "sound",
            f"checked {result.checked}, wrong {result.wrong} (own voice {result.leaks}, "
            f"moved {result.shifts}), silent {result.silent}, disturbed {result.disturbed}",
        ),
        (
            "voices",
            f"{result.voices_heard} heard of {result.voices_expected}, missing {result.missing}",
        ),
        ("in to out", _text(result.latency, "µs")),
        ("spacing off by", _text(result.spacing, "µs")),
        ("TCP answer", _text(result.answer_ms, "ms")),
        ("join", _text(result.join_ms, "ms")),
        (
            "generator",
            f"late {_text(result.lateness, 'µs')}, stalls {result.stalls}, "
            f"own drops {result.own_drops}, load {100 * result.own_load:.0f} %, "
            f"{'FIFO' if result.realtime else 'plain'}, stolen {result.steal_s:.2f} s",
        ),
    ]
    if result.hub:
        hub = result.hub
        kinds = ", ".join(f"{kind} {us:.2f}" for kind, us in hub.cpu_us_by_kind.items())
        rows += [
            (
                "hub CPU",
                f"{hub.cpu_us:.2f} µs a client-period "
                f"(user {hub.user_us:.2f}, system {hub.system_us:.2f}): {kinds}",
            ),
            (
                "hub switches",
                f"{hub.voluntary:.2f} voluntary, {hub.involuntary:.3f} involuntary a client-period",
            ),
            (
                "hub memory",
                f"{hub.private_kib_a_client:.0f} KiB a client, {hub.private_kib} KiB in all",
            ),
        ]
    if result.counters:
        counters = result.counters
        late = counters.lateness_us
        rows += [
            ("hub counted", ", ".join(f"{name} {n}" for name, n in counters.counts.items())),
            (
                "hub ticks",
                f"late p50 {late['p50']}, p99 {late['p99']}, max {late['max']} µs, "
                f"load {100 * counters.load_ratio:.1f} %",
            ),
        ]
    return rows


def _text(spread: Spread, unit: str) -> str:
    return f"p50 {spread.p50:.6g}, p99 {spread.p99:.6g}, max {spread.max:.6g} {unit}"


def _worst(result: Result) -> list[str]:
    """Lines for the clients with the most faults."""
    names = ("lost", "duplicates", "wrong", "silent", "missing", "malformed", "foreign")
    rows = list(zip(result.clients["index"], *(result.clients[n] for n in names), strict=True))
    odd = sorted((row for row in rows if any(row[1:])), key=lambda row: -sum(row[1:]))
    return [
        f"client {row[0]}: "
        + ", ".join(f"{name} {count}" for name, count in zip(names, row[1:], strict=True) if count)
        for row in odd[:WORST_CLIENTS]
    ]
