"""The truth about gains: a strip's own, mutes, and what one listener gets of one source.

::

    heard by listener L of source S  =  strip gain of S  ×  pair (L, S)

A strip's gain and mute count for everybody who hears it; a pair's gain takes the place of
what the preset says of that pair (1 or 0) and is an override as long as it stands. The
arena carries both: ``slots.gain`` (mute included), and for listeners with overrides a row
of ``pair`` in which NaN means 'as the preset says'. Rows of others are never read, nor
touched, so that they cost no memory.

Who is *held* waits to be admitted: nobody hears it, and it hears nothing, whatever else is
set. What is set of it meanwhile holds from its admission on.

Gains belong to slots: a client that comes back finds its own, a newcomer finds none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from hub.pans import MAX_PAN, balance_gains, mono_gains
from hub.values import MAX_GAIN_DB
from shared.arena import Arena

UNITY = 1.0


def from_db(gain_db: float) -> float:
    """Linear factor of a gain in decibels."""
    return float(10.0 ** (gain_db / 20.0))


def to_db(gain: float) -> float:
    """Decibels of a linear factor; −inf for 0."""
    return 20.0 * math.log10(gain) if gain > 0.0 else -math.inf


MAX_GAIN = from_db(MAX_GAIN_DB)


class Levels:
    """Gains of a hub's slots, kept here and mirrored in the arena.

    Args:
        arena: where the mixer and the lanes read them.
        announce: told each listener whose row of ``pair`` changed.
    """

    def __init__(self, arena: Arena, announce: Callable[[int], None]) -> None:
        self._arena = arena
        self._announce = announce
        self._gains: dict[int, float] = {}
        self._muted: set[int] = set()
        self._held: set[int] = set()
        self._pairs: dict[int, dict[int, float]] = {}  # by listener, then source
        self._pans: dict[int, float] = {}

    def gain(self, slot: int) -> float:
        """Linear gain of a strip, were it not muted."""
        return self._gains.get(slot, UNITY)

    def muted(self, slot: int) -> bool:
        return slot in self._muted

    def held(self, slot: int) -> bool:
        return slot in self._held

    def overrides(self, listener: int) -> Mapping[int, float]:
        """Linear gains by source where they are not the preset's."""
        return self._pairs.get(listener, {})

    def involving(self, slot: int) -> list[tuple[int, int, float]]:
        """Overrides of a slot, and of others for it: (listener, source, linear gain)."""
        return [
            (listener, source, gain)
            for listener, row in self._pairs.items()
            for source, gain in row.items()
            if slot in (listener, source)
        ]

    def listeners(self) -> list[int]:
        """Listeners with overrides that hold."""
        return [listener for listener in self._pairs if listener not in self._held]

    def set_gain(self, slot: int, gain: float | None) -> None:
        """Set a strip's linear gain (0..15.85); None makes it 1 again."""
        if gain is None:
            self._gains.pop(slot, None)
        else:
            self._gains[slot] = _checked(gain)
        self._write_strip(slot)

    def pan(self, slot: int) -> float | None:
        """A strip's place, −100..100; None: as channels are connected."""
        return self._pans.get(slot)

    def set_pan(self, slot: int, pan: float | None) -> None:
        """Set a strip's place (−100..100); None: as channels are connected."""
        record = self._arena.slots[slot]
        if pan is None:
            self._pans.pop(slot, None)
            record["panned"] = 0
            return
        if not -MAX_PAN <= pan <= MAX_PAN:
            raise ValueError(f"pan {pan!r} is not in −100..100")
        self._pans[slot] = pan
        record["pan_left"], record["pan_right"] = mono_gains(pan)
        record["balance_left"], record["balance_right"] = balance_gains(pan)
        record["panned"] = 1

    def set_muted(self, slot: int, muted: bool) -> None:
        """Silence a strip for everybody, or let it be heard again."""
        if muted:
            self._muted.add(slot)
        else:
            self._muted.discard(slot)
        self._write_strip(slot)

    def set_pair(self, listener: int, source: int, gain: float | None) -> None:
        """Set how much of a source one listener gets (0..15.85); None: as the preset says."""
        if gain is not None:
            gain = _checked(gain)
            self._pairs.setdefault(listener, {})[source] = gain
        elif source in self.overrides(listener):
            del self._pairs[listener][source]
        else:
            return
        self._write_pair(listener, source)

    def set_held(self, slot: int, held: bool) -> None:
        """Keep a slot out of all mixes and all mixes from it, or admit it."""
        if held == (slot in self._held):
            return
        if held:
            self._held.add(slot)
            if slot in self._pairs:
                self._empty_row(slot)
        else:
            self._held.discard(slot)
        self._arena.slots[slot]["held"] = int(held)
        self._write_strip(slot)
        if not held:
            for source in self.overrides(slot):
                self._write_pair(slot, source)

    def clear(self, slot: int) -> None:
        """Forget all about a slot, as strip, as listener and as source."""
        self._gains.pop(slot, None)
        self._muted.discard(slot)
        self.set_pan(slot, None)
        self.set_held(slot, False)
        self._write_strip(slot)
        if self._pairs.pop(slot, None) is not None:
            self._empty_row(slot)
        for listener in [listener for listener, row in self._pairs.items() if slot in row]:
            self.set_pair(listener, slot, None)

    def _write_strip(self, slot: int) -> None:
        silent = slot in self._muted or slot in self._held
        self._arena.slots[slot]["gain"] = 0.0 if silent else self.gain(slot)

    def _empty_row(self, listener: int) -> None:
        """Let a listener's row of the arena say nothing."""
        self._arena.pair[listener] = math.nan
        self._arena.slots[listener]["overrides"] = 0
        self._announce(listener)

    def _write_pair(self, listener: int, source: int) -> None:
        """Bring one entry of the arena, and the count of its row, up to date."""
        record, row = self._arena.slots[listener], self._pairs[listener]
        if listener in self._held:
            if not row:
                del self._pairs[listener]
            return
        if record["overrides"] == 0:
            self._arena.pair[listener] = math.nan  # stale since its last use, if ever used
        self._arena.pair[listener, source] = row.get(source, math.nan)
        record["overrides"] = len(row)
        if not row:
            del self._pairs[listener]
        self._announce(listener)


def _checked(gain: float) -> float:
    if not 0.0 <= gain <= MAX_GAIN:
        raise ValueError(f"gain {gain!r} is not in 0..{MAX_GAIN:.4f}")
    return gain
