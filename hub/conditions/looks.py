"""What the arena counts, looked at once a second: the facts that conditions are made of.

A ``Look`` is a copy of the fields needed, of all slots at once; a ``View`` is the last few
looks and answers questions about now and about growth. Every answer is an array with one
entry a slot, so that a look at hundreds of clients costs next to nothing. No clock: the
time is an argument.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hub.overload.info import CALM, OverloadInfo
from hub.sessions import Phase, Session
from shared.arena import Arena
from shared.layout import HISTOGRAM_EDGES_NS, PatchMode, RxState

Flags = npt.NDArray[np.bool_]
Values = npt.NDArray[np.int64]
Reals = npt.NDArray[np.float64]

SPAN = 10
"""Looks back that ``View.grown`` can reach: ten seconds."""
STALL_NS = 50_000_000
"""What comes so much later than its predecessor was held up."""
_STALL_BUCKET = int(np.searchsorted(HISTOGRAM_EDGES_NS, STALL_NS)) + 1

_WAITING, _ACTIVE = int(RxState.WAITING), int(RxState.ACTIVE)

RX_FIELDS = (
    "state", "rate_code", "rate_hz", "frames", "bits", "channels", "wants", "valid_ns",
    "datagrams", "packets", "lost", "late", "malformed", "foreign", "foreign_high",
    "foreign_low", "foreign_port", "odd_bytes", "odd_header", "concealed_frames", "overflows",
    "restarts", "kernel_drops", "sanitised", "windows", "silent_windows", "faint_windows",
    "full_windows", "sounding", "garbage", "guard", "offsets", "late_wanted",
    "margin_frames", "clock_ratio", "clock_sigma",
)  # fmt: skip
TX_FIELDS = ("packets", "errors", "clipped", "peak")
SLOT_FIELDS = ("peer_high", "peer_low", "queue_packets", "gain", "held", "panned")
CLOCK_FIELDS = ("ticks", "missed", "work_ns")
JACK_FIELDS = (
    "state", "coupled", "behind", "lost", "graph_ns", "left_out", "clients", "rate_hz",
    "period_frames",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Look:
    """All slots at one moment.

    Attributes:
        now_s: CLOCK_MONOTONIC.
        sessions: (S,) number of the session in each slot, 0: none.
        values: by "section.field": (S,); zero where the record is of an earlier session.
        clock: hub-wide counters by name; those of a local JACK graph as "jack.field".
        patch: who hears whom.
        overload: how busy the hub is.
    """

    now_s: float
    sessions: npt.NDArray[np.int64]
    values: dict[str, npt.NDArray[Any]]
    clock: dict[str, int]
    patch: PatchMode
    overload: OverloadInfo


def take_look(
    arena: Arena,
    present: Sequence[Session],
    replaced: int,
    now_s: float,
    overload: OverloadInfo = CALM,
) -> Look:
    """Copy what is needed of the arena; sessions that are leaving are left out.

    Args:
        replaced: workers of the hub that had to be replaced so far.
    """
    here = [s for s in present if s.phase not in (Phase.LEAVING, Phase.MOVING)]
    # other slots are not even read: their memory may never have been touched
    at = np.array([session.slot for session in here], np.intp)
    numbers = np.array([session.number for session in here], np.int64)

    def spread(found: npt.NDArray[Any]) -> npt.NDArray[Any]:
        whole = np.zeros(len(arena.slots), found.dtype)
        whole[at] = found
        return whole

    received = arena.rx["session"][at] == numbers
    sent = arena.tx["session"][at] == numbers
    values: dict[str, npt.NDArray[Any]] = {
        "session.age_s": spread(np.array([now_s - session.opened_s for session in here], float)),
        "session.restarts": spread(np.array([session.restarts for session in here], np.int64)),
        "rx.stalls": spread(arena.rx["jitter"][at, _STALL_BUCKET:].sum(axis=1) * received),
        "tx.begun": spread(sent),
    }
    for field in RX_FIELDS:
        values[f"rx.{field}"] = spread(np.where(received, arena.rx[field][at], 0))
    for field in TX_FIELDS:
        values[f"tx.{field}"] = spread(np.where(sent, arena.tx[field][at], 0))
    for field in SLOT_FIELDS:
        values[f"slots.{field}"] = spread(arena.slots[field][at])
    clock = {field: int(arena.clock[0][field]) for field in CLOCK_FIELDS}
    clock["replaced"] = replaced
    clock["lanes_missed"] = int(arena.lanes["missed"].sum())
    clock |= {f"jack.{field}": int(arena.jack[0][field]) for field in JACK_FIELDS}
    patch = PatchMode(int(arena.control[0]["patch"]))
    return Look(now_s, spread(numbers), values, clock, patch, overload)


class View:
    """The last looks, newest last.

    Attributes:
        rate_hz, period_frames, rate_code: of the hub.
        upmix: mono clients are heard on both sides.
        downmix: mono listeners hear both sides.
        sessions: (S,) number of the session in each slot, 0: none.
        present: slots with a session.
        waiting: their port was answered, and no valid datagram has come.
        active: let in, and mixed.
        upset: clients that suffer from their way to the hub.
    """

    def __init__(self, arena: Arena) -> None:
        header = arena.header[0]
        self.rate_hz = int(header["rate_hz"])
        self.period_frames = int(header["period_frames"])
        self.rate_code = int(header["rate_code"])
        self.upmix = bool(header["upmix"]) or bool(header["mono_centre"])
        self.downmix = bool(header["downmix"])
        self.upset = 0
        slots = len(arena.slots)
        self.sessions: Values = np.zeros(slots, np.int64)
        self.present: Flags = np.zeros(slots, np.bool_)
        self.waiting: Flags = np.zeros(slots, np.bool_)
        self.active: Flags = np.zeros(slots, np.bool_)
        self._looks: deque[Look] = deque(maxlen=SPAN + 1)
        self._grown: dict[tuple[str, int], Values] = {}

    def add(self, look: Look) -> None:
        """The next look; all answers are of it from now on."""
        self._looks.append(look)
        self._grown.clear()
        state = look.values["rx.state"]
        self.sessions = look.sessions
        self.present = look.sessions > 0
        self.waiting = self.present & (state <= _WAITING)
        self.active = self.present & (state == _ACTIVE)

    @property
    def looks(self) -> int:
        """How many there are."""
        return len(self._looks)

    @property
    def newest(self) -> Look:
        return self._looks[-1]

    @property
    def elapsed_s(self) -> float:
        """Time since the look before, one second for the first."""
        if len(self._looks) < 2:
            return 1.0
        return max(self.newest.now_s - self._looks[-2].now_s, 1e-3)

    def now(self, name: str) -> Values:
        """A counter or another integer as it stands, by "section.field"."""
        found: Values = self.newest.values[name]
        return found

    def real(self, name: str) -> Reals:
        """The same, of those that are no integers."""
        found: Reals = self.newest.values[name]
        return found

    def grown(self, name: str, looks: int = 1) -> Values:
        """How much a counter has grown over so many looks, or since its client came."""
        if (name, looks) not in self._grown:
            self._grown[name, looks] = self._growth(name, looks)
        return self._grown[name, looks]

    def _growth(self, name: str, looks: int) -> Values:
        before = self._looks[max(len(self._looks) - 1 - looks, 0)]
        if before is self.newest:  # the first look: all clients came since the hub began
            return self.now(name)
        then: Values = np.where(before.sessions == self.sessions, before.values[name], 0)
        return self.now(name) - then

    def per_s(self, name: str) -> Reals:
        """Growth of a counter since the look before, a second."""
        return self.grown(name) / self.elapsed_s

    def seen_lately(self, name: str) -> Values:
        """Bits of a field that were set in any of the last looks at the same session."""
        bits = np.zeros_like(self.now(name))
        for look in self._looks:
            bits |= np.where(look.sessions == self.sessions, look.values[name], 0)
        return bits

    def clock_grown(self, name: str, looks: int = 1) -> int:
        """The same of a hub-wide counter."""
        before = self._looks[max(len(self._looks) - 1 - looks, 0)]
        return self.newest.clock[name] - before.clock[name]
