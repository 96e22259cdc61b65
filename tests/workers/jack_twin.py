"""Twins of what JACK's callbacks do with sound, and of what listeners hear of it: plain NumPy.

Nothing here shares memory: who plays what in a cycle is told, and the rest is remembered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tests.workers.twins import Doubles, Floats, slope

HALF_POWER = 0.5**0.5


@dataclass
class Strip:
    """What is ordered of a client: its gain, and its place if it has one of its own.

    Attributes:
        place: gains in channels 1 and 2; None: it stands where the hub puts all like it.
        changes: how often that was ordered anew.
        fade: cycles that the last change takes.
    """

    gain: float = 1.0
    place: tuple[float, float] | None = None
    changes: int = 0
    fade: int = 1


@dataclass
class Player:
    """A client of the hub's as a callback finds it.

    Attributes:
        sound: (channels, frames) float32 from tick 0 on, over and over.
        until: frames of it that are there by now.
        alive: it has not left; one that has may have sound yet.
        cut: what the guard takes off its gain, 0..1.
        torn: its strip is just being written.
    """

    session: int
    sound: Floats
    until: int
    alive: bool = True
    strip: Strip = field(default_factory=Strip)
    cut: float = 0.0
    torn: bool = False


@dataclass
class Voice:
    """What a group remembers of a member.

    Attributes:
        ends: last sample of each channel that sounded in the last cycle.
        gains: at its end, of channels 1, 2 and all others.
    """

    session: int = 0
    tick: int = 0
    ends: list[float] = field(default_factory=list)
    gains: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    strip: Strip = field(default_factory=Strip)
    changes: int = 0
    left: int = 1


def fall(frames: int) -> Doubles:
    """From 1 to silence, within a cycle."""
    phase: Doubles = np.arange(1, frames + 1) / frames
    return 0.5 + 0.5 * np.cos(np.pi * phase)


class Group:
    """``workers.jackports.serve_group``.

    Args:
        alone: it has one member, whose channels stay as they are; several are summed with
            their places.
        delay: frames that the broadcast ports are behind; 0: there are none.
        upmix, centre: where the hub puts mono clients: on both sides, in the middle.
    """

    def __init__(
        self, receives: int, period: int, *, alone: bool, delay: int, upmix: bool, centre: bool
    ) -> None:
        self.receives, self.period, self.alone, self.delay = receives, period, alone, delay
        self.upmix, self.centre = upmix, centre
        self.voices: dict[int, Voice] = {}
        self.played = np.zeros((receives, delay))
        self.gaps = 0

    def cycle(
        self, tick: int, members: Sequence[tuple[int, int]], players: list[Player]
    ) -> Doubles:
        """What is in the receive and broadcast ports after a cycle: (ports, period).

        Args:
            tick: −1: JACK's clock is not the hub's.
            members: slot and session of each.
            players: by slot.
        """
        out = np.zeros((self.receives, self.period))
        for slot, session in members:
            voice = self.voices.setdefault(slot, Voice())
            if tick < 0:
                self._let_go(voice, out)
            else:
                self._play(voice, session, tick, players[slot], out)
        if not self.delay:
            return out
        self.played = np.hstack([self.played, out])
        late = self.played[:, : self.period]
        self.played = self.played[:, self.period :]
        return np.vstack([out, late])

    def _let_go(self, voice: Voice, out: Doubles) -> None:
        for k, last in enumerate(voice.ends):
            out[k] += last * fall(self.period)
        voice.ends = []

    def _play(self, voice: Voice, session: int, tick: int, player: Player, out: Doubles) -> None:
        ours = player.session == session
        has = ours and player.until >= (tick + 1) * self.period
        if voice.session != session:
            voice.session, voice.ends = session, []
        if not has:
            self.gaps += bool(voice.ends) and ours and player.alive
            self._let_go(voice, out)
        elif tick != voice.tick + 1:
            self._let_go(voice, out)
        voice.tick = tick
        if not has:
            return
        self._order(voice, player)
        gain = voice.strip.gain * (1.0 - player.cut)
        sides, spread = self._place(voice, len(player.sound))
        goals = [gain * sides[0], gain * sides[1], gain]
        after = [
            goal if voice.left <= 1 else before + (goal - before) / voice.left
            for before, goal in zip(voice.gains, goals, strict=True)
        ]
        rows = [player.sound[0], player.sound[0]] if spread else list(player.sound)
        part = tick * self.period + np.arange(self.period)
        for k, row in enumerate(rows[: self.receives]):
            moved = slope(voice.gains[min(k, 2)], after[min(k, 2)], self.period)
            strip = np.take(row, part, mode="wrap") * moved
            out[k] += strip
            voice.ends.append(float(strip[-1]))
        voice.gains, voice.left = after, max(voice.left - 1, 1)

    @staticmethod
    def _order(voice: Voice, player: Player) -> None:
        """Take over what is ordered, unless it is just being written; who comes takes it anyway."""
        comes = not voice.ends
        if comes:
            voice.gains = [0.0, 0.0, 0.0]
            voice.changes, voice.left = player.strip.changes, 1
        elif not player.torn and voice.changes != player.strip.changes:
            voice.changes, voice.left = player.strip.changes, max(player.strip.fade, 1)
        if comes or not player.torn:
            voice.strip = player.strip
        voice.ends = []

    def _place(self, voice: Voice, channels: int) -> tuple[tuple[float, float], bool]:
        """Gains in channels 1 and 2, and whether a mono voice sounds in both."""
        if self.alone:
            return (1.0, 1.0), False
        if channels > 1:
            return voice.strip.place or (1.0, 1.0), False
        if voice.strip.place is not None:
            return voice.strip.place, True
        if self.centre:
            return (HALF_POWER, HALF_POWER), True
        right = float(self.upmix)
        return (1.0, right), bool(right or voice.gains[1])


class Listener:
    """``workers.local``: what one listener hears of the ports that are its own."""

    def __init__(self, wanted: int, period: int) -> None:
        self.period = period
        self.gain, self.behind = 0.0, 0
        self.ends = [0.0] * wanted

    def tick(self, sound: Floats | None, behind: int, gain: float, folded: float) -> Doubles:
        """(wanted, period) of what joins the mix.

        Args:
            sound: (channels, period) of JACK's for this tick; None: there is none.
            behind: ticks that it is used later.
            folded: as for ``aim_local``.
        """
        out = np.zeros((len(self.ends), self.period))
        if behind != self.behind:
            sound = None
        after = 0.0
        if sound is not None:
            after = gain / folded if len(sound) == 1 else gain
        moved = slope(self.gain, after, self.period)
        for k, end in enumerate(self.ends):
            if sound is not None and k < len(sound):
                out[k] = sound[k].astype(np.float64) * moved
                self.ends[k] = float(out[k, -1])
            else:
                out[k] = end * fall(self.period)
                self.ends[k] = 0.0
        self.gain, self.behind = after, behind
        return out
