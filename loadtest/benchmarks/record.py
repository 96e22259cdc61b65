"""Recorded benchmarks: what is kept of a run, in ``loadtest/results/KIND-DATE.json``.

Five kinds of file, each with the provenance of its figures::

    {"schema": 1, "kind": "whole",   "provenance": {...}, "settings": {...}, "rows": [WholeRow]}
    {"schema": 1, "kind": "kernels", "provenance": {...}, "settings": {...}, "rows": [KernelRow]}
    {"schema": 1, "kind": "latency", "provenance": {...}, "settings": {...}, "rows": [LatencyRow]}
    {"schema": 1, "kind": "clocks",  "provenance": {...}, "settings": {...}, "rows": [ClockRow]}
    {"schema": 1, "kind": "hours",   "provenance": {...}, "settings": {...}, "rows": [HourRow]}

A row is one line, so that two files can be compared by eye and by ``diff``.
"""

from __future__ import annotations

import json
import shlex
import statistics
import sys
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from loadtest.reporting import provenance
from loadtest.reporting.plain import ShapeError, from_plain, to_plain
from loadtest.reporting.result import Result, Spread

SCHEMA = 1
RESULTS = Path(__file__).resolve().parents[1] / "results"
WHOLE, KERNELS, LATENCY, CLOCKS, HOURS = "whole", "kernels", "latency", "clocks", "hours"
RATE_HZ = 48000
"""Of all that is measured with real clients."""


class RecordError(ValueError):
    """A file is no recorded benchmark; the text names it and says why."""


@dataclass(frozen=True, slots=True)
class KernelRow:
    """One kernel with one choice of parameters.

    Attributes:
        name: of the benchmark; parameters: of this choice.
        unit: what a time is of: "client-period", or what it says.
        median_us, low_us, high_us: median and quartiles of a unit's time.
        rounds: measurements; units: in each.
    """

    name: str
    parameters: dict[str, Any]
    unit: str
    median_us: float
    low_us: float
    high_us: float
    rounds: int
    units: int


@dataclass(frozen=True, slots=True)
class WholeRow:
    """A whole server under the load of so many clients.

    Attributes:
        table: "scale" (fan-out beside the echo) or "original" (full mix beside JackTrip).
        server: "tuttihub", "echo" or "jacktrip"; version: as it says.
        mode, queue: of the hub; the echo is what it is.
        attempts: runs until this one, the last.
        usable, reasons: whether the generator may be believed, and why not.
        failed: why there are no figures at all; empty elsewhere.
        joined, expected, returned, lost, shortfall, wrong, silent, missing, checked: of
            ``loadtest.reporting.result.Result``; as are the times, µs unless named ms.
        cpu_us, user_us, system_us, cpu_us_by_kind: CPU of the process tree a client-period.
        voluntary, involuntary: context switches a client-period.
        private_kib_a_client: see ``Cost``, 0: it could not be told; private_kib, shared_kib: of
            the tree; private_kib_a_receiver: of a receiver process, 0: there is none.
        ticks, ticks_missed, tick_late_us: by the hub's own count; None for other servers.
        made: when and from which commit, if it was measured later than its file (``merged``).
        late: of the generator's own sends; own_load: its share of a core.
        steal_s: CPU seconds that the hypervisor took from all cores in the window.
    """

    table: str
    server: str
    clients: int
    mode: int
    queue: str
    attempts: int
    version: str = ""
    failed: str = ""
    usable: bool = False
    reasons: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    joined: int = 0
    expected: int = 0
    returned: int = 0
    lost: int = 0
    shortfall: int = 0
    wrong: int = 0
    silent: int = 0
    missing: int = 0
    checked: int = 0
    cpu_us: float = 0.0
    user_us: float = 0.0
    system_us: float = 0.0
    cpu_us_by_kind: dict[str, float] = field(default_factory=dict)
    voluntary: float = 0.0
    involuntary: float = 0.0
    private_kib_a_client: float = 0.0
    private_kib: int = 0
    shared_kib: int = 0
    private_kib_a_receiver: float = 0.0
    ticks: int | None = None
    ticks_missed: int | None = None
    tick_late_us: dict[str, float | None] = field(default_factory=dict)
    latency: Spread = field(default_factory=Spread)
    spacing: Spread = field(default_factory=Spread)
    answer_ms: Spread = field(default_factory=Spread)
    join_ms: Spread = field(default_factory=Spread)
    late: Spread = field(default_factory=Spread)
    own_load: float = 0.0
    steal_s: float = 0.0
    made: str = ""

    @property
    def measured(self) -> bool:
        """Whether there are figures that may be believed."""
        return self.usable and not self.failed


@dataclass(frozen=True, slots=True)
class Whole:
    """A file of whole servers."""

    provenance: dict[str, Any]
    settings: dict[str, Any]
    rows: list[WholeRow]
    schema: int = SCHEMA
    kind: str = WHOLE


@dataclass(frozen=True, slots=True)
class Kernels:
    """A file of kernels."""

    provenance: dict[str, Any]
    settings: dict[str, Any]
    rows: list[KernelRow]
    schema: int = SCHEMA
    kind: str = KERNELS


@dataclass(frozen=True, slots=True)
class LatencyTake:
    """One take between two musicians.

    Attributes:
        stages_ms: of the usual sample, by name: sender (JACK calls the player until the datagram
            leaves), up (the wire), buffer (datagram in until the tick that mixes it), tick (until
            the datagram is out; 0: part of the buffer, as the hub does not tell), down, client
            (until JACK calls the listener).
        port_ms: their sum, from JACK's port to JACK's port.
        hub_p50_ms, hub_p99_ms: datagram in to datagram out, of all samples.
        port_p99_ms: of all samples.
        heard: share of the listener's cycles that were found in the noise.
        xruns: of both musicians' JACK.
    """

    stages_ms: dict[str, float]
    port_ms: float
    port_p99_ms: float
    hub_p50_ms: float
    hub_p99_ms: float
    heard: float
    xruns: int


@dataclass(frozen=True, slots=True)
class LatencyRow:
    """The latency of a hub with one size of packets and of queues.

    Attributes:
        hub, version: which.
        frames, queue: of everybody.
        takes: all that succeeded.
        failed: what was said of those that did not.
    """

    hub: str
    version: str
    frames: int
    queue: str
    takes: list[LatencyTake]
    failed: list[str] = field(default_factory=list)

    @property
    def period_ms(self) -> float:
        return 1000.0 * self.frames / RATE_HZ

    def median(self, name: str) -> float:
        """Of a figure of all takes."""
        return statistics.median(getattr(take, name) for take in self.takes)

    def stages_ms(self) -> dict[str, float]:
        """Mean over the takes, so that they add up."""
        names = self.takes[0].stages_ms
        return {
            name: statistics.fmean(take.stages_ms[name] for take in self.takes) for name in names
        }


@dataclass(frozen=True, slots=True)
class Latency:
    """A file of latencies."""

    provenance: dict[str, Any]
    settings: dict[str, Any]
    rows: list[LatencyRow]
    schema: int = SCHEMA
    kind: str = LATENCY


@dataclass(frozen=True, slots=True)
class ClockRow:
    """What became of the return stream at a real client whose clock is off.

    Attributes:
        match: whether the hub sends at the client's own rate (`--match-clients`).
        rate_hz: of the client's JACK; the hub's is 48000.
        seconds: counted.
        underruns, overflows: slots of the client's buffer that were empty, or dropped.
        lost: packets that it missed.
        drift_ppm: by the hub; None: it could not tell.
        xruns: of the client's JACK, each of which costs a slot as well.
    """

    match: bool
    rate_hz: int
    seconds: float
    underruns: int
    overflows: int
    lost: int
    drift_ppm: float | None
    xruns: int


@dataclass(frozen=True, slots=True)
class Clocks:
    """A file of clocks."""

    provenance: dict[str, Any]
    settings: dict[str, Any]
    rows: list[ClockRow]
    schema: int = SCHEMA
    kind: str = CLOCKS


@dataclass(frozen=True, slots=True)
class HourRow:
    """Hours of a client whose clock is off, simulated with the hub's own kernels.

    Attributes:
        ppm: that the client is fast by; queue: of the hub.
        stalls: of its network; 0: none, but jitter.
        hours: its stay; packets: of it.
        followed_s: when it began to be resampled to its own clock.
        late, gaps: packets that came too late, and gaps; late_calm, gaps_calm: those of them that
            no stall explains.
        skips: of sound that had queued up; restarts: of the timeline; starved: ticks without
            sound, silence or anything made up.
        click_db: greatest deviation of a sample from the client's sine, but for stalls.
        shortest_ms, longest_ms: how long a packet waited from leaving the client to its play-out,
            once the clock was known, but for stalls.
        ratio_off_ppm: by which the clock was mistaken, at most, then.
    """

    ppm: float
    queue: str
    stalls: int
    hours: float
    packets: int
    followed_s: int
    late: int
    late_calm: int
    gaps: int
    gaps_calm: int
    skips: int
    restarts: int
    starved: int
    click_db: float
    shortest_ms: float
    longest_ms: float
    ratio_off_ppm: float


@dataclass(frozen=True, slots=True)
class Hours:
    """A file of hours."""

    provenance: dict[str, Any]
    settings: dict[str, Any]
    rows: list[HourRow]
    schema: int = SCHEMA
    kind: str = HOURS


Record = TypeVar("Record", Whole, Kernels, Latency, Clocks, Hours)
AnyRecord = Whole | Kernels | Latency | Clocks | Hours
_KINDS: dict[type[Any], str] = {
    Whole: WHOLE, Kernels: KERNELS, Latency: LATENCY, Clocks: CLOCKS, Hours: HOURS,
}  # fmt: skip


def made_by(module: str, *, seed: int = 0, realtime: bool = False) -> dict[str, Any]:
    """Provenance of what ``python -m module`` makes."""
    made = provenance.provenance(seed=seed, realtime=realtime, hub={})
    return made | {"command": shlex.join(["python", "-m", module, *sys.argv[1:]])}


def figures(result: Result) -> dict[str, Any]:
    """What a ``WholeRow`` keeps of a run, by name."""
    kept: dict[str, Any] = {
        name: getattr(result, name)
        for name in (
            "usable", "reasons", "joined", "expected", "returned", "lost", "shortfall", "wrong",
            "silent", "missing", "checked", "latency", "spacing", "answer_ms", "join_ms",
            "own_load", "steal_s",
        )
    }  # fmt: skip
    kept["problems"] = result.problems[:5]
    kept["late"] = result.lateness
    if result.hub is not None:
        for name in (
            "cpu_us", "user_us", "system_us", "cpu_us_by_kind", "voluntary", "involuntary",
            "private_kib", "shared_kib",
        ):  # fmt: skip
            kept[name] = getattr(result.hub, name)
        for name in ("private_kib_a_client", "private_kib_a_receiver"):
            kept[name] = getattr(result.hub, name) or 0.0
    if result.counters is not None:
        counts = result.counters.counts
        kept["ticks"], kept["ticks_missed"] = counts.get("ticks"), counts.get("missed")
        kept["tick_late_us"] = result.counters.lateness_us
    return kept


def merged(kept: Whole, newer: Whole) -> Whole:
    """A record with the rows of a newer one in place of its own of the same server, load and mode,
    and those it lacks behind them; each says when it was made.

    Raises:
        RecordError: they are of another machine, or of other packets: not for one table.
    """
    for name, one, other in [
        *((f"machine.{name}", kept.provenance.get("machine", {}).get(name),
           newer.provenance.get("machine", {}).get(name)) for name in ("cpu", "cores", "kernel")),
        *((name, kept.settings.get(name), newer.settings.get(name)) for name in _OF_ALL_ROWS),
    ]:  # fmt: skip
        if one != other:
            raise RecordError(f"rows cannot be merged: {name} was {one}, and is {other}")
    rows = {_key(row): row for row in kept.rows}
    commit = str(newer.provenance.get("commit") or "").partition(" ")[0][:7]
    date = str(newer.provenance.get("date", ""))[:10]
    made = f"on {date}{f' at commit {commit}' if commit else ''}"
    rows |= {_key(row): replace(row, made=made) for row in newer.rows}
    return replace(kept, rows=list(rows.values()))


_OF_ALL_ROWS = ("seconds", "frames", "bits", "channels", "rate_hz", "burst")


def _key(row: WholeRow) -> tuple[str, str, int, int, str]:
    return row.table, row.server, row.clients, row.mode, row.queue


def to_text(record: AnyRecord) -> str:
    """As JSON, a line a row."""
    plain = to_plain(record)
    rows = ",\n  ".join(json.dumps(row, ensure_ascii=False) for row in plain.pop("rows"))
    head = {name: plain.pop(name) for name in ("schema", "kind")} | plain
    members = [f" {json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in head.items()]
    return ",\n".join(["{\n" + members[0], *members[1:], f' "rows": [\n  {rows}\n ]']) + "\n}\n"


def path_for(kind: str, folder: Path = RESULTS) -> Path:
    """Where a benchmark of today is kept; one of the same day before it is written over."""
    return folder / f"{kind}-{datetime.now(UTC):%Y-%m-%d}.json"


def write(record: AnyRecord, path: Path) -> None:
    """Keep a record."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(to_text(record))


def read(kind: type[Record], path: Path) -> Record:
    """Read a record.

    Raises:
        RecordError: it is none of this kind.
    """
    wanted = _KINDS[kind]
    try:
        plain = json.loads(path.read_text())
        if not isinstance(plain, dict) or plain.get("kind") != wanted:
            raise RecordError(f"{path}: no record of kind {wanted!r}")
        if plain.get("schema") != SCHEMA:
            raise RecordError(f"{path}: schema {plain.get('schema')!r}; {SCHEMA} can be read")
        return from_plain(kind, plain)
    except OSError as error:
        raise RecordError(f"{path}: {error.strerror}") from error
    except ShapeError as error:
        raise RecordError(f"{path}: {error}") from error
    except ValueError as error:
        if isinstance(error, RecordError):
            raise
        raise RecordError(f"{path}: not JSON: {error}") from error


def newest(kind: type[Record], folder: Path = RESULTS) -> Record | None:
    """The latest record by its own date; None when there is none.

    Raises:
        RecordError: a file of that name is none.
    """
    wanted = _KINDS[kind]
    found = [read(kind, path) for path in sorted(folder.glob(f"{wanted}-*.json"))]
    return max(found, key=lambda record: str(record.provenance.get("date", "")), default=None)
