"""Figures of a run, and the file they are kept in.

A result is one JSON object with ``schema: 3``; its members are the fields of ``Result``.
``evaluate`` makes one of what a run saw; terminal, HTML and comparison show it.

Times are µs unless a name says otherwise; shares are 0..1.
"""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from loadtest.conduct.outcome import Event, Finding, Halted, HubCounters, Line
from loadtest.reporting.plain import ShapeError, from_plain, to_plain

SCHEMA = 3


class ResultError(ValueError):
    """A file is no result that this release can read; the text says why."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Quantiles of a set of times; all 0 of nothing."""

    count: int = 0
    p50: float = 0.0
    p99: float = 0.0
    max: float = 0.0
    p999: float = 0.0


@dataclass(frozen=True, slots=True)
class Distribution:
    """A distribution, reduced to some 200 points or fewer.

    Attributes:
        edges_us: ascending, log-spaced; the last is not below any value.
        cumulative: entries not above each edge; exact.
    """

    edges_us: list[int] = field(default_factory=list)
    cumulative: list[int] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Entries in all."""
        return self.cumulative[-1] if self.cumulative else 0


@dataclass(frozen=True, slots=True)
class ServiceCheck:
    """One thing that the scenario asks of the hub.

    Attributes:
        name: as in ``Service``, or what is always asked.
        measured: None: could not be measured. That is held against the run, but for counters
            of hubs that have none.
        allowed: at most.
        unit: of both; empty: a share or a number.
        text: for people, a sentence.
        judged: false: it may be the network's doing as well as the hub's, and nobody can tell.
    """

    name: str
    measured: float | None
    allowed: float
    passed: bool
    unit: str
    text: str
    judged: bool = True


@dataclass(frozen=True, slots=True)
class Cause:
    """Why packets did not arrive, or came in vain.

    Attributes:
        where: "to the hub", "in the hub" or "from the hub".
        unit: what is counted: "packets" or "ticks".
        meant: the scenario asks for it.
        blame: "network" (emulated), "generator", "hub" or "nobody".
    """

    where: str
    name: str
    count: int
    unit: str
    meant: bool
    blame: str
    text: str


@dataclass(frozen=True, slots=True)
class KindCost:
    """What the processes of one kind cost; see ``Cost``.

    Attributes:
        processes: that were there in the window; of those that ended, all that were seen.
        private_kib, shared_kib: of those that are there at its end.
    """

    processes: int
    cpu_us: float
    user_us: float
    system_us: float
    voluntary: float
    involuntary: float
    private_kib: int = 0
    shared_kib: int = 0


@dataclass(frozen=True, slots=True)
class Cost:
    """What the hub cost in the window; a client-period is one client for one of its packets.

    Attributes:
        cpu_us: CPU µs a client-period, the whole tree, by the scheduler's account; user_us,
            system_us: of the same, by clock ticks, which can be far off (``conduct.procfs``).
        cores: CPU in cores, the whole tree.
        voluntary, involuntary: context switches a client-period.
        kinds: all this by kind of process; of those that ended (``procfs.ENDED``) switches and
            memory are not known.
        private_kib_a_client: growth of the whole tree since it was empty, by client; None: it
            did not grow, for what a process alone had mapped is no longer private when a
            second one maps it.
        private_kib, shared_kib: the whole tree, with all clients (shared: proportionally).
        before_kib: private, before any client.
        private_kib_a_receiver: of a receiver process, on average; None: there is none.
        shared_kib_a_client: ``shared_kib`` by client.
        split_samples: looks of Linux's clock that the division into user and system rests on;
            0: not known.
    """

    cpu_us: float
    user_us: float
    system_us: float
    cores: float
    voluntary: float
    involuntary: float
    private_kib_a_client: float | None
    private_kib: int
    shared_kib: int
    before_kib: int
    private_kib_a_receiver: float | None = None
    shared_kib_a_client: float = 0.0
    split_samples: int = 0
    kinds: dict[str, KindCost] = field(default_factory=dict)

    @property
    def split_within(self) -> float:
        """By how much the share in user space may be off by chance alone, twice its deviation,
        0..1; 1: nothing is known. Who wakes with the clock is off by more."""
        if not self.split_samples or not self.user_us + self.system_us:
            return 1.0
        user = self.user_us / (self.user_us + self.system_us)
        return min(1.0, 2 * (user * (1 - user) / self.split_samples) ** 0.5)

    @property
    def cpu_us_by_kind(self) -> dict[str, float]:
        """``cpu_us``, divided by kind of process."""
        return {name: kind.cpu_us for name, kind in self.kinds.items()}

    @property
    def processes(self) -> dict[str, int]:
        """How many there are, by kind."""
        return {name: kind.processes for name, kind in self.kinds.items()}


@dataclass(slots=True)
class SectionFigures:
    """The figures of one section; see ``Result``.

    Attributes:
        format: in words.
        optional: what it lacks is no fault, and is in no figure of the whole.
        distributions: "latency", "spacing", "lateness"; empty where there are very many sections.
    """

    name: str
    clients: int
    joined: int
    optional: bool
    format: str
    period_us: float
    sent: int
    expected: int
    returned: int
    lost: int
    shortfall: int
    wrong: int
    silent: int
    concealed: int
    missing: int
    repaired: int
    emulated_up: int
    emulated_down: int
    gap_ms: float
    latency: Spread
    spacing: Spread
    lateness: Spread
    join_ms: Spread
    distributions: dict[str, Distribution] = field(default_factory=dict)


@dataclass(slots=True)
class Timeline:
    """What happened when.

    Attributes:
        bin_s: seconds a bin; bin 0 begins when the window opens.
        totals: by kind (``state.BIN_KINDS``), of all clients, a number a bin (missing: in
            voice frames).
        clients, bins: size of the matrices.
        matrices: by kind, for kinds that occur at all: the same for each client. uint8,
            clients × bins, row by row, 255 for 255 and more; zlib, then base64.
            "present": 1 where anything returned.
        playing: (second, clients in), whenever it changed.
    """

    bin_s: float = 1.0
    totals: dict[str, list[int]] = field(default_factory=dict)
    clients: int = 0
    bins: int = 0
    matrices: dict[str, str] = field(default_factory=dict)
    playing: list[list[float]] = field(default_factory=list)

    def matrix(self, kind: str) -> npt.NDArray[np.uint8]:
        """(clients, bins) uint8; zeros for a kind that never occurred.

        Raises:
            ResultError: damaged.
        """
        shape = (self.clients, self.bins)
        if kind not in self.matrices:
            return np.zeros(shape, np.uint8)
        try:
            cells = zlib.decompress(base64.b64decode(self.matrices[kind], validate=True))
            return np.frombuffer(cells, np.uint8).reshape(shape)
        except (ValueError, zlib.error) as error:
            raise ResultError(f"timeline.matrices.{kind}: damaged: {error}") from error


def pack(matrix: npt.NDArray[Any]) -> str:
    """Counts as ``Timeline.matrices`` has them."""
    cells = np.clip(matrix, 0, 255).astype(np.uint8)
    return base64.b64encode(zlib.compress(cells.tobytes(), 9)).decode()


@dataclass(slots=True)
class Result:
    """All figures of a run. Counts are of the measured window and of all sections that are
    not optional.

    Attributes:
        scenario: as ``Scenario.to_json`` has it.
        usable: whether the generator may be believed; reasons: why not.
        passed: the scenario's service level held, in all of ``service``.
        clean: nothing at all was lost, short, duplicated, foreign, malformed, wrong, silent,
            missing or refused, beyond what the scenario's own network spoils; no finding.
        clients: that were to come in; joined: that did; joins: times that somebody came in;
            unheard: of those, without any audio back in a second or more.
        refused: times that somebody did not; left_out: those, the unheard, and clients that
            never tried; problems: refusals and errors, in words; unplanned: of those, what
            was not done, or did not recover, as the scenario has it; notes: what could not be
            seen in this run.
        sent: datagrams.
        expected: packets that should have come back, by the clock.
        returned: that did, each counted once, repaired ones too.
        lost: missing in the numbering, beyond those that the emulated network took.
        shortfall: expected, but neither returned nor missing in the numbering.
        repaired: gaps filled from redundant copies.
        emulated_up, emulated_down: datagrams that the emulated network took.
        delayed_up, doubled_up: that it delayed and doubled.
        checked: packets whose samples could be checked.
        wrong: with any wrong sample; leaks, shifts: of the wrong, one's own voice, and the right
            voice at another delay. silent: digital silence in place of a voice.
        disturbed: of wrong and silent, soon after the generator itself stalled.
        concealed: wrong or silent where the emulated network had spoilt the packet; no fault.
        voices_expected, voices_heard, voices_excused, missing: voice frames; missing =
            expected − heard − excused.
        tuttis_checked, tuttis_right: (listener, passage) pairs in which everybody sounds;
            tuttis_excused: wrong ones, not checked since the generator had stalled.
        latency: packet in to the first packet out that carries it (send to arrival).
        spacing: |distance of consecutive returned packets − period|.
        lateness: of the generator's own sends.
        gap_ms: longest interruption of anybody's return stream, also one that did not end.
        answer_ms: TCP connect to the hub's answer; join_ms: to the first audio.
        stalls: packets that left more than a period late; skipped: never left; excused: share
            of the run that came so soon after a stall that it is not held against the hub.
        own_drops: by the generator's own socket. overrun: datagrams that the emulated network
            should have delayed, and had no room for.
        floor: of a bare echo, with the same packets on the same cores; None: not measured.
        line: the kernel's network in between; None: there was none.
        halted: how this machine's cores stood still in the window; None: nobody watched.
        own_load: the generator's share of one core; steal_s: CPU seconds that the hypervisor
            took from all cores.
        control_expected: the hub has counters, so that ``counters`` should be there.
        columns: by name, a number for each client of the scenario ("client" is its index).
        joins_log: by name, a number for each join ("at_s" since the opening, −1: none).
        findings_total: of which ``findings`` holds the first.
        provenance: see ``loadtest.reporting.provenance``.
    """

    scenario: dict[str, Any]
    usable: bool
    reasons: list[str]
    passed: bool
    service: list[ServiceCheck]
    clean: bool
    clients: int
    joined: int
    unheard: int
    joins: int
    refused: int
    problems: list[str]
    sent: int
    expected: int
    returned: int
    lost: int
    shortfall: int
    repaired: int
    emulated_up: int
    emulated_down: int
    delayed_up: int
    doubled_up: int
    duplicates: int
    reordered: int
    restarts: int
    malformed: int
    foreign: int
    unknown: int
    goodbyes: int
    checked: int
    wrong: int
    silent: int
    concealed: int
    leaks: int
    shifts: int
    disturbed: int
    voices_expected: int
    voices_heard: int
    voices_excused: int
    missing: int
    tuttis_checked: int
    tuttis_right: int
    latency: Spread
    spacing: Spread
    lateness: Spread
    gap_ms: float
    answer_ms: Spread
    join_ms: Spread
    stalls: int
    skipped: int
    own_drops: int
    send_errors: int
    steal_s: float
    own_load: float
    realtime: bool
    interrupted: bool
    window_s: float
    hub: Cost | None
    counters: HubCounters | None
    loss: list[Cause]
    sections: list[SectionFigures]
    distributions: dict[str, Distribution]
    timeline: Timeline
    events: list[Event]
    findings: list[Finding]
    findings_total: int
    notes: list[str] = field(default_factory=list)
    columns: dict[str, list[int]] = field(default_factory=dict)
    joins_log: dict[str, list[float]] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    left_out: int = 0
    unplanned: int = 0
    excused: float = 0.0
    control_expected: bool = False
    tuttis_excused: int = 0
    overrun: int = 0
    line: Line | None = None
    halted: Halted | None = None
    floor: Cost | None = None
    schema: int = SCHEMA

    def to_json(self) -> str:
        """One line a field, so that files can be looked at and compared."""
        plain = to_plain(self)
        order = ["schema", *(name for name in plain if name != "schema")]
        lines = (
            f"{json.dumps(name)}: {json.dumps(plain[name], ensure_ascii=False, allow_nan=False)}"
            for name in order
        )
        return "{\n" + ",\n".join(lines) + "\n}"

    @property
    def label(self) -> str:
        """A short name for tables and legends: the scenario, how many, and which hub."""
        text = f"{self.scenario.get('name', 'custom')}, {self.joined} clients"
        return text if self.hub_name in ("", "tuttihub") else f"{text}, {self.hub_name}"

    @property
    def hub_name(self) -> str:
        """Which program the hub is; empty: it did not say."""
        versions = self.provenance.get("hub")
        if not isinstance(versions, dict) or not versions:
            return ""
        name, version = next(iter(versions.items()))
        return str(version).split(" ")[0] if name == "hub" else str(name)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of ``to_json``.

        Raises:
            ResultError: it is none, of another schema, or damaged.
        """
        try:
            plain = json.loads(text)
        except ValueError as error:
            raise ResultError(f"not JSON: {error}") from error
        if not isinstance(plain, dict) or "schema" not in plain:
            raise ResultError("not a result of a load test: it has no 'schema'")
        if "kind" in plain:
            raise ResultError(
                f"a file of benchmarks (kind {plain['kind']!r}), and not the result of a run"
            )
        match plain["schema"]:
            case int(schema) if schema == SCHEMA:
                pass
            case int(schema) if schema > SCHEMA:
                raise ResultError(f"schema {schema} is newer than {SCHEMA}: update tuttihub")
            case schema:
                raise ResultError(f"schema {schema!r} cannot be read any more; {SCHEMA} can")
        if "scenario" not in plain or "usable" not in plain:
            raise ResultError("not a result of a load test: it has no 'scenario'")
        try:
            return from_plain(cls, plain)
        except ShapeError as error:
            raise ResultError(f"damaged: {error}") from error


def load(path: Path) -> Result:
    """Read a result.

    Raises:
        ResultError: the file cannot be read or is no result; its path is in the text.
    """
    try:
        return Result.from_json(path.read_text())
    except OSError as error:
        raise ResultError(f"{path}: {error.strerror}") from error
    except (ResultError, UnicodeDecodeError) as error:
        raise ResultError(f"{path}: {error}") from error
