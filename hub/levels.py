"""The truth about levels: strips, patch, master, and what listeners hear of single sources.

::

    heard by listener L of source S  =  strip gain of S  ×  (L hears of S)  ×  master

A strip's gain, mute and place count for everybody who hears it; what L hears of S is what the
patch says of that pair (1 or 0) or what ``hub.hearing`` does in its place. The arena carries all of
it: ``slots.gain`` (mute included), for all who hear by the rules of the same sections a monitor
mix (``hub.monitors``) with a row of ``monitor_pair`` and ``monitor_pan``, and for what a listener
hears otherwise a row of ``pair`` and ``pair_pan`` of its own. Rows that tell of nothing are never
read, nor touched, so that they cost no memory.

Changes made ``together`` are written between two raises of ``CONTROL.levels`` and heard from one
frame on by all (``workers.orders``). Before the next are written, mixer and lanes have told that
they have read the last; what is set meanwhile waits for a period or two. A fade is cut off only by
an order for just what is fading, or for patch or master, which take over all that they multiply:
not by who comes or goes.

Who is *held* waits to be admitted: nobody hears it, and it hears nothing, whatever else is
set. What is set of it meanwhile holds from its admission on.

Levels belong to slots: a client that comes back finds its own, a newcomer finds none.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hub.hearing import Entry, Heard, Hearing, Party
from hub.monitors import Monitor, Monitors
from hub.pans import MAX_PAN, balance_gains, mono_gains
from hub.values import MAX_GAIN_DB
from shared.arena import Arena
from shared.layout import PatchMode

UNITY = 1.0
RETRY_S = 0.001
PATIENCE_S = 0.1
"""So long a lane that does not read may hold up what is to be written: it has died."""
PLAIN_FADE_S = 0.5
"""From mixes of their own to what the patch says, and back."""
_CENTRE = 2.0
_AS_CONNECTED = -1.0
_LINGER_S = 1.0
"""Longer than it may take from the writing of a level to the first tick that is mixed by it."""


def from_db(gain_db: float) -> float:
    """Linear factor of a gain in decibels."""
    return float(10.0 ** (gain_db / 20.0))


def to_db(gain: float) -> float:
    """Decibels of a linear factor; −inf for 0."""
    return 20.0 * math.log10(gain) if gain > 0.0 else -math.inf


MAX_GAIN = from_db(MAX_GAIN_DB)


@dataclass(frozen=True, slots=True)
class State:
    """Levels at a time: by slot, linear."""

    patch: PatchMode
    master: float
    gains: dict[int, float]
    muted: set[int]
    pans: dict[int, float]
    hearing: Hearing


class Levels:
    """Levels of a hub's slots, kept here and mirrored in the arena."""

    def __init__(self, arena: Arena) -> None:
        self.hearing = Hearing()
        self.patch = PatchMode(int(arena.control[0]["patch"]))
        self.master = UNITY
        self._arena = arena
        self._gains: dict[int, float] = {}
        self._muted: set[int] = set()
        self._held: set[int] = set()
        self._pans: dict[int, float] = {}
        self._rows: dict[int, dict[int, Entry | None]] = {}  # as written
        self._monitors = Monitors(len(arena.slots))
        self._high = 0  # slots that ever had an owner
        self._strips_due: set[int] = set()
        self._rows_due: set[int] = set()
        self._members_due: set[int] = set()  # rows that who comes or goes has changed
        self._plain = False  # nobody has a mix of its own, whatever is set
        self._all_due = False
        self._fade_ticks = 1  # of what is due
        self._strip_fades: dict[int, int] = {}  # by slot, of what waits to be written
        self._row_fades: dict[int, int] = {}
        self._all_fade = 0  # 0: nothing waits
        self._depth = 0
        self._written_s = 0.0
        self._order = threading.Lock()
        self._later: asyncio.TimerHandle | None = None
        header = arena.header[0]
        self._period_s = float(header["period_frames"]) / float(header["rate_hz"])

    def gain(self, slot: int) -> float:
        """Linear gain of a strip, were it not muted."""
        return self._gains.get(slot, UNITY)

    def muted(self, slot: int) -> bool:
        return slot in self._muted

    def held(self, slot: int) -> bool:
        return slot in self._held

    def pan(self, slot: int) -> float | None:
        """A strip's place, −100..100; None: as channels are connected."""
        return self._pans.get(slot)

    def row(self, listener: int) -> dict[int, Entry]:
        """What a listener hears other than the patch says, by source: linear gain and pan."""
        return {} if listener in self._held else self.hearing.row(listener, self._high)

    def involving(self, slot: int) -> list[tuple[int, int, Heard]]:
        """What is told of a slot and another as such: (listener, source, how)."""
        return [
            (who, what, heard)
            for who, what, heard in self.hearing.rules_of(slot)
            if isinstance(who, int) and isinstance(what, int) and slot in (who, what)
        ]

    def with_sections(self, slot: int) -> list[tuple[bool, str, Heard]]:
        """What is told of a slot and sections: (whether it is the listener, section, how)."""
        return [
            (who == slot, str(what if who == slot else who), heard)
            for who, what, heard in self.hearing.rules_of(slot)
            if slot in (who, what) and isinstance(who, str) != isinstance(what, str)
        ]

    @contextlib.contextmanager
    def together(self, fade_s: float = 0.0) -> Iterator[None]:
        """All that is set inside is heard from one frame on.

        Args:
            fade_s: seconds that it takes to get there, in a straight line; at least one period.
        """
        self._depth += 1
        if fade_s > 0.0:
            self._fade_ticks = max(1, round(fade_s / self._period_s))
        try:
            yield
        finally:
            self._depth -= 1
            if self._depth == 0:
                self._let_wait()
            self._write()

    def state(self) -> State:
        """All that can be set, for ``restore``."""
        return State(
            self.patch, self.master, dict(self._gains), set(self._muted), dict(self._pans),
            self.hearing.copied(),
        )  # fmt: skip

    def restore(self, state: State) -> None:
        """Let all be as it was, inside the ``together`` of all that was set since.

        Nothing of that is due any more: no fade is cut off that runs or waits.
        """
        self._strips_due.clear()
        self._rows_due.clear()
        self._members_due.clear()
        self._all_due, self._fade_ticks = False, 1
        self.patch, self.master = state.patch, state.master
        self._gains, self._muted = dict(state.gains), set(state.muted)
        self._pans, self.hearing = dict(state.pans), state.hearing.copied()

    def set_patch(self, mode: PatchMode) -> None:
        """Change who hears whom."""
        with self.together():
            self.patch, self._all_due = mode, True

    def set_master(self, gain: float) -> None:
        """Set the linear gain (0..15.85) of all that is sent."""
        gain = _checked(gain)
        with self.together():
            self.master, self._all_due = gain, True

    def set_gain(self, slot: int, gain: float | None) -> None:
        """Set a strip's linear gain (0..15.85); None makes it 1 again."""
        with self.together():
            if gain is None:
                self._gains.pop(slot, None)
            else:
                self._gains[slot] = _checked(gain)
            self._strips_due.add(slot)

    def set_pan(self, slot: int, pan: float | None) -> None:
        """Set a strip's place (−100..100); None: as channels are connected."""
        if pan is not None and not -MAX_PAN <= pan <= MAX_PAN:
            raise ValueError(f"pan {pan!r} is not in −100..100")
        with self.together():
            if pan is None:
                self._pans.pop(slot, None)
            else:
                self._pans[slot] = pan
            self._strips_due.add(slot)

    def set_muted(self, slot: int, muted: bool) -> None:
        """Silence a strip for everybody, or let it be heard again."""
        with self.together():
            (self._muted.add if muted else self._muted.discard)(slot)
            self._strips_due.add(slot)

    def set_heard(self, who: Party, what: Party, heard: Heard, *, ordered: bool = True) -> None:
        """Set what a listener or section hears of a source or section.

        Args:
            ordered: or found by who comes back, which hurries no fade that waits.
        """
        if heard.gain is not None:
            _checked(heard.gain)
        with self.together():
            due = self._rows_due if ordered else self._members_due
            due |= self.hearing.set_rule(who, what, heard)

    def set_pair(self, listener: int, source: int, gain: float | None) -> None:
        """Set how much of a source one listener gets (0..15.85); None: as the patch says."""
        self.set_pairs(listener, (source,), (gain,))

    def set_pairs(
        self, listener: int, sources: Sequence[int], gains: Sequence[float | None]
    ) -> None:
        """The same of many sources."""
        for gain in gains:
            if gain is not None:
                _checked(gain)
        with self.together():
            self.hearing.set_gains(listener, sources, gains)
            self._rows_due.add(listener)

    def set_members(self, section: str, members: Iterable[int]) -> None:
        """Make a section, or change who is in it."""
        with self.together():
            self._members_due |= self.hearing.set_members(section, members)

    def join_section(self, section: str, slot: int) -> None:
        """Let a slot be in a section, if there is such a one."""
        members = self.hearing.sections.get(section)
        if members is not None:
            self.set_members(section, members | {slot})

    def remove_section(self, section: str) -> None:
        """End a section, and what is told of it."""
        with self.together():
            self._rows_due |= self.hearing.remove_section(section)

    def set_held(self, slot: int, held: bool) -> None:
        """Keep a slot out of all mixes and all mixes from it, or admit it."""
        if held == (slot in self._held):
            return
        with self.together():
            (self._held.add if held else self._held.discard)(slot)
            self._arena.slots[slot]["held"] = int(held)
            self._strips_due.add(slot)
            self._members_due.add(slot)

    def set_plain(self, plain: bool) -> None:
        """Have all listeners hear what the patch says, whatever else is set, or not any more."""
        if plain == self._plain:
            return
        with self.together(PLAIN_FADE_S):
            self._plain = plain
            self._rows_due |= set(range(self._high))

    def clear(self, slot: int) -> None:
        """Forget all about a slot, as strip, as listener and as source."""
        with self.together():
            self._high = max(self._high, slot + 1)
            self._gains.pop(slot, None)
            self._muted.discard(slot)
            self._pans.pop(slot, None)
            self._arena.slots[slot]["limited"] = self._arena.slots[slot]["underrun"] = 0
            self.set_held(slot, False)
            self._strips_due.add(slot)
            self._members_due |= self.hearing.forget(slot)

    def write_unheard(self, slot: int) -> None:
        """Write the strip of a slot that nobody hears yet, whatever has to wait.

        Whoever is let in after that is not heard for a moment at the level of the slot's last
        owner, or before it is admitted.
        """
        control = self._arena.control[0]
        control["levels"] += 1
        self._in_order()
        self._write_strip(slot, 1)
        self._in_order()
        control["levels"] += 1

    def _let_wait(self) -> None:
        """What is due waits to be written, with its own fade: what is set last counts."""
        self._strip_fades |= dict.fromkeys(self._strips_due, self._fade_ticks)
        self._row_fades |= dict.fromkeys(self._rows_due, self._fade_ticks)
        self._row_fades = dict.fromkeys(self._members_due, self._fade_ticks) | self._row_fades
        if self._all_due:
            self._all_fade = self._fade_ticks
        self._strips_due.clear()
        self._rows_due.clear()
        self._members_due.clear()
        self._all_due = False
        self._fade_ticks = 1

    def _write(self) -> None:
        """Write what is due, unless more is to come or the last is yet to be read."""
        if self._depth or self._later is not None:
            return
        if not (self._strip_fades or self._row_fades or self._all_fade):
            return
        if not self._read() and time.monotonic() - self._written_s < PATIENCE_S:
            loop = asyncio.get_running_loop()
            self._later = loop.call_later(RETRY_S, self._write_later)
            return
        due = self._changed_rows()
        control = self._arena.control[0]
        control["levels"] += 1
        self._in_order()
        try:
            for slot, fade_ticks in self._strip_fades.items():
                self._write_strip(slot, fade_ticks)
            for monitor, row, fade_ticks in due.monitors:
                self._write_monitor(monitor, row, fade_ticks)
            for slot, change in due.rows.items():
                self._write_row(slot, change, self._row_fades[slot])
            if self._all_fade:
                control["patch"], control["master"] = self.patch, self.master
                control["hub_changes"] += 1
                control["hub_fade"] = self._all_fade
        finally:  # or nobody would ever read levels again
            self._in_order()
            control["levels"] += 1
        self._strip_fades.clear()
        self._row_fades.clear()
        self._all_fade = 0
        self._written_s = time.monotonic()

    def _write_later(self) -> None:
        self._later = None
        self._write()

    def _read(self) -> bool:
        """Whether mixer and lanes have read what was written last; true while none lives."""
        arena = self._arena
        clock, lanes, count = arena.clock[0], int(arena.header[0]["lanes"]), arena.control["levels"]
        if clock["pid"] == 0:
            return True
        first = 1 if lanes else 0
        read = arena.lanes["levels_read"][first : lanes + 1]
        return bool(clock["levels_read"] == count[0] and (read == count[0]).all())

    def _in_order(self) -> None:
        """What was written before is seen before what is written after.

        Twice: what surrounds one locked section may be moved into it, and there change places;
        but nothing passes from before an unlocking to behind the locking after it.
        """
        for _ in range(2):
            with self._order:
                pass

    def _write_strip(self, slot: int, fade_ticks: int) -> None:
        record, pan = self._arena.slots[slot], self._pans.get(slot)
        silent = slot in self._muted or slot in self._held
        record["gain"] = 0.0 if silent else self.gain(slot)
        record["panned"] = int(pan is not None)
        if pan is not None:
            record["pan_left"], record["pan_right"] = mono_gains(pan)
            record["balance_left"], record["balance_right"] = balance_gains(pan)
        record["strip_changes"] += 1
        record["strip_fade"] = fade_ticks

    def _changed_rows(self) -> _Due:
        """Monitors and rows that are due and differ from what is written."""
        due = _Due()
        now_s = time.monotonic()
        made: dict[tuple[Party, ...], tuple[Monitor | None, dict[int, Entry]]] = {(): (None, {})}
        fades: dict[Monitor, int] = {}
        for slot, fade_ticks in self._row_fades.items():
            untold = self._plain or slot in self._held
            tables = () if untold else self.hearing.tables_of(slot)
            if tables[:1] == (slot,):
                tables = tables[1:]
            if tables not in made:
                common = self.hearing.row_of(tables, self._high)
                monitor = self._monitors.find(tables, now_s) if tables else None
                made[tables] = monitor, common if monitor else {}
            monitor, common = made[tables]
            row = {} if untold else self.hearing.beyond(slot, common, self._high)
            if row != self._rows.get(slot, {}) or monitor is not self._monitors.of(slot):
                due.rows[slot] = _Change(monitor, _Row(row))
            if monitor is not None:
                fades[monitor] = max(fades.get(monitor, 1), fade_ticks)
        for monitor, common in made.values():
            if monitor is not None and common != monitor.row:
                due.monitors.append((monitor, _Row(common), fades[monitor]))
        return due

    def _write_monitor(self, monitor: Monitor, row: _Row, fade_ticks: int) -> None:
        record, number = self._arena.monitors[monitor.number], monitor.number
        levels, pans = self._arena.monitor_pair[number], self._arena.monitor_pan[number]
        levels[:], pans[:] = math.nan, 0.0
        levels[row.sources], pans[row.sources] = row.gains, row.pans
        monitor.row = {source: entry for source, entry in row.entries.items() if entry is not None}
        record["overrides"] = len(row.entries)
        record["row_changes"] += 1
        record["row_fade"] = fade_ticks
        self._arena.control[0]["monitors_high"] = self._monitors.high

    def _write_row(self, listener: int, change: _Change, fade_ticks: int) -> None:
        row, record = change.row, self._arena.slots[listener]
        before = self._rows.pop(listener, {})
        gains, pans = self._arena.pair[listener], self._arena.pair_pan[listener]
        if not before and row.entries:
            gains[:] = math.nan  # stale since its last use, if ever used
        gone = [source for source in before if source not in row.entries]
        gains[gone], pans[gone] = math.nan, 0.0
        gains[row.sources], pans[row.sources] = row.gains, row.pans
        if row.entries:
            self._rows[listener] = row.entries
        if change.monitor is not self._monitors.of(listener):
            until_s = time.monotonic() + fade_ticks * self._period_s + _LINGER_S
            self._monitors.turn(listener, change.monitor, until_s)
            record["monitor"] = change.monitor.number if change.monitor is not None else 0
        record["overrides"] = len(row.entries)
        record["row_changes"] += 1
        record["row_fade"] = fade_ticks


class _Row:
    """Entries, and the same as the arena has them: sources, gains and pans (float32)."""

    def __init__(self, entries: Mapping[int, Entry | None]) -> None:
        self.entries = dict(entries)
        self.sources = np.fromiter(entries, np.intp, len(entries))
        told = [entry or (None, None) for entry in entries.values()]
        gains = (math.nan if gain is None else gain for gain, _ in told)
        self.gains = np.fromiter(gains, np.float32, len(entries))
        pans = (0.0 if pan is None else _CENTRE + pan / MAX_PAN for _, pan in told)
        self.pans = np.fromiter(pans, np.float32, len(entries))
        self.pans[np.isnan(self.gains) & (self.pans == 0.0)] = _AS_CONNECTED


@dataclass(frozen=True, slots=True)
class _Change:
    """What a listener is to hear: which monitor, and a row of its own."""

    monitor: Monitor | None
    row: _Row


@dataclass(frozen=True, slots=True)
class _Due:
    """What is to be written: monitors with their rows and fades, and rows by listener."""

    monitors: list[tuple[Monitor, _Row, int]] = field(default_factory=list)
    rows: dict[int, _Change] = field(default_factory=dict)


def _checked(gain: float) -> float:
    if not 0.0 <= gain <= MAX_GAIN:
        raise ValueError(f"gain {gain!r} is not in 0..{MAX_GAIN:.4f}")
    return gain
