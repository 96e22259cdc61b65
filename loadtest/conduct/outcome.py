"""Raw facts of a run, before anybody makes figures of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from loadtest.clients.state import State
from loadtest.conduct.procfs import Usage
from loadtest.scenario.model import Scenario


@dataclass(slots=True)
class Joined:
    """One time that a client came in.

    Attributes:
        index: which client; generation: its how-manyth time, from 1.
        hub_port: the UDP port it was answered.
        started_ns: CLOCK_MONOTONIC when its TCP connection was begun.
        answered_ns: when the answer was there.
        first_ns: arrival of the first audio; 0: none came before it left.
    """

    index: int
    generation: int
    hub_port: int
    started_ns: int
    answered_ns: int
    first_ns: int = 0


class EventKind(StrEnum):
    """What happened."""

    JOIN = "join"
    LEAVE = "leave"
    REFUSED = "refused"
    FAULT = "fault"
    """Something was broken on purpose."""
    RECOVERED = "recovered"
    """A killed process has a successor."""
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, for the timeline.

    Attributes:
        at_s: seconds since the opening of the window (negative: before).
        client: whom it concerns; −1: nobody or all.
        text: for people.
    """

    at_s: float
    kind: EventKind
    client: int = -1
    text: str = ""


class FindingKind(StrEnum):
    """Faults of sound that have a name."""

    WRONG_GAIN = "wrong gain"
    OWN_VOICE = "own voice"
    """The listener's own voice where it should be absent."""
    MISSING_SOURCE = "missing source"
    EXTRA_SOURCE = "extra source"
    """Somebody sounds who should not, or twice."""
    SWAPPED_CHANNELS = "swapped channels"
    WRONG_SOURCE = "wrong source"
    """Another's voice in place of the right one."""
    MOVED = "moved"
    """The right voice at another delay: a queue slipped."""
    REPEATED = "repeated"
    """Old samples again, under a new number."""
    DROPOUT = "dropout"
    """Silence in place of sound."""
    CLICK = "click"
    """A few wrong samples in right ones."""
    CLIPPED = "clipped"
    """Loud sums limited, or wrapped around."""
    LOST = "lost"
    """Numbers missing in the return stream."""
    DUPLICATE = "duplicate"
    REORDERED = "reordered"
    DELAYED = "delayed"
    """One client's return is later than the others'."""
    MALFORMED = "malformed"
    FOREIGN = "foreign"
    UNHEARD = "unheard"
    """No audio came back at all."""
    UNEXPLAINED = "unexplained"
    """Wrong samples that are none of these."""


@dataclass(slots=True)
class Finding:
    """A fault, named, with whom it hit and when.

    Attributes:
        listener: who heard it; −1: several or all (see ``listeners``).
        source: whose voice; −1: nobody's or several.
        from_s, to_s: seconds since the opening.
        count: packets (or tutti passages) that showed it.
        gain_db: of a source that is too loud, too soft, or too much; None elsewhere.
        frames: of a shift or delay; 0 elsewhere.
        text: for people: a sentence.
    """

    kind: FindingKind
    listener: int
    source: int
    from_s: float
    to_s: float
    count: int
    text: str
    gain_db: float | None = None
    frames: int = 0
    listeners: list[int] = field(default_factory=list)


@dataclass(slots=True)
class HubCost:
    """What the hub's processes used in the window, and their memory after it.

    Attributes:
        window_ns: between the two snapshots.
        usage: by kind of process.
        before_kib: private memory of the whole tree, before any client.
        private_kib, shared_kib: by pid, with all clients (shared: proportionally, PSS − private).
        kinds: kind of each pid.
        clients: playing on average, in the window.
    """

    window_ns: int
    usage: dict[str, Usage]
    before_kib: int
    private_kib: dict[int, int]
    shared_kib: dict[int, int]
    kinds: dict[int, str]
    clients: float


@dataclass(slots=True)
class HubCounters:
    """A hub's own counters over the window.

    Attributes:
        counts: ticks mixed, missed, overrun and starved; of all clients together: packets lost
            and late, underruns, overflows, restarts, kernel drops, malformed, ...
        lateness_us: quantiles of the ticks' lateness since the hub started.
        load_ratio: the mixer's share of a period since the hub started.
        by_client: the same counts of each slot that is there at the end, by the client's name.
    """

    counts: dict[str, int]
    lateness_us: dict[str, float | None]
    load_ratio: float
    by_client: dict[str, dict[str, int]]


@dataclass(frozen=True, slots=True)
class Line:
    """What a network that the kernel emulates has done, in packets.

    Attributes:
        carried_up, carried_down: that went through, to the hub and back; lost_up, lost_down:
            that it took.
        perfect: nothing was to befall them.
    """

    carried_up: int
    lost_up: int
    carried_down: int
    lost_down: int
    perfect: bool = False


@dataclass(frozen=True, slots=True)
class Halted:
    """Moments of the window in which a core of this machine stood still (``conduct.halts``).

    Attributes:
        count: how many, of a millisecond or more, on whichever watched core.
        total_ms, longest_ms: how long, in all and the longest.
    """

    count: int
    total_ms: float
    longest_ms: float


@dataclass(slots=True)
class Outcome:
    """Everything a run saw.

    Attributes:
        joins: every time a client came in.
        events: in order of time.
        findings: faults of sound, named (``loadtest.hearing``).
        problems: refusals and errors, a line each.
        own_faults: what this program itself did wrong, a line each: nobody can tell what the hub
            would have done otherwise.
        line: the kernel's network in between; None: there is none.
        halted: how the machine stood still in the window; None: nobody watched.
        notes: what cannot be seen in this run, a line each; no faults.
        playing: (second since the opening, clients in), whenever it changed.
        steal_s: CPU time that the hypervisor took from all cores in the window.
        own_load: the generator's share of one core in the window.
        tuttis_checked: (listener, tutti) pairs taken apart; tuttis_right: of those, exact.
        tuttis_excused: pairs that were wrong, and not held against the hub since the generator
            had stalled; excused_in: tuttis with any such.
        versions: of the hub, as it or its command says.
        control_expected: the hub has a control socket, so that its counters are no riddle: a
            ``counters`` of None then means that the measurement failed.
        at_opening: what counters of the generator that do not begin with the window stood at
            when it opened: "skipped", "send_errors", "own_drops" and "overrun", of all clients
            together; empty: nobody looked, and all is taken as the window's.
    """

    scenario: Scenario
    state: State
    joins: list[Joined] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    own_faults: list[str] = field(default_factory=list)
    line: Line | None = None
    halted: Halted | None = None
    notes: list[str] = field(default_factory=list)
    playing: list[tuple[float, int]] = field(default_factory=list)
    realtime: bool = False
    interrupted: bool = False
    cost: HubCost | None = None
    counters: HubCounters | None = None
    steal_s: float = 0.0
    own_load: float = 0.0
    tuttis_checked: int = 0
    tuttis_right: int = 0
    tuttis_excused: int = 0
    excused_in: int = 0
    versions: dict[str, Any] = field(default_factory=dict)
    control_expected: bool = False
    at_opening: dict[str, int] = field(default_factory=dict)


class Progress(Protocol):
    """Whom a run tells how it is getting on; called from the main thread only."""

    def phase(self, text: str, seconds: float = 0.0) -> None:
        """A part of the run has begun; how long it will take, where that is known."""

    def watch(self, state: State) -> None:
        """The clients' memory, which may be looked at from now on at any time."""

    def note(self, text: str) -> None:
        """Something happened that people should know."""


def unexplained_losses(scenario: Scenario, clients: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """(N,) gaps in each client's return stream that the emulated network did not make.

    A packet that it took before the window is noticed in it: so many as it takes in a row say
    nothing. What redundancy repaired is no gap any more, though the network took it.

    Args:
        clients: (N,) CLIENT.
    """
    taken = np.maximum(clients["dropped_down"] - clients["repaired"], 0)
    lost = np.maximum(clients["lost"] - taken, 0)
    border = np.array([section.down.longest_loss for section in scenario.sections])
    return np.where(lost > border[clients["section"]], lost, 0)
