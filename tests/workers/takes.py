"""A take: players play on a rig for a while, and what each heard is laid on the hub's timeline.

Where a player's sample lies on that timeline is read from the arena, so nothing is
searched: the hub's own books must agree with what it sends, at every sample.

A shared machine lets a process wait now and then. The rule:

- In a take in which nobody was late everything is right, or the test fails.
- A tick for which the mixer was not let run is missed and counted. A listener whose packets
  are a period long gets no packet for it, which is excused as long as there are no more
  missing than ticks missed; all that comes must be right.
- There are witnesses of the machine's doing that the hub's own faults do not move: the
  sender's clock, ticks missed, how long the mixer waited for a CPU (nothing of the hub's
  goes before it), and the host of a virtual machine. In a take that they speak against, a
  span may be judged by its windows: WINDOWS of them right to the bit.
- A test that fails in a take that was disturbed, by these witnesses or only by the hub's
  word that a source starved, is repeated, a bounded number of times.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from shared.layout import RxState
from tests.machine import DATA_PLANE, STOLEN_S, WAITED_S, stolen_s, to_oneself, waited_s
from tests.workers.hearing import Mask, Mix, Stream, Wire, assemble, in_hub, returned
from tests.workers.players import APART_S, Band, Player
from tests.workers.rig import DataPlane, wait_until

ATTEMPTS = 8
LATE_S = 0.003
PROMPT_S = 0.02
REST_S = 0.2
WINDOW_FRAMES, WINDOWS = 2048, 3
APART_TICKS = 3
"""Between the last packets of two players."""
SHORTEST_WINDOW = 128
"""Of a span that has no room for twice as many windows of the full length."""
SETTLED_FRAMES = 512
"""From a voice's first sample on: its fade-in, its gain ramps."""

Test = TypeVar("Test", bound=Callable[..., None])
Voices = Mapping[Player, float | Mix]
"""Levels of players in a mix: of all their channels, or (channels, 1) each its own."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What came back to one player.

    Attributes:
        origin: hub sample of the stream's first sample.
        stream: the packets.
        position: hub sample at which the player's own programme began.
        sent: samples of its programme that were sent.
    """

    origin: int
    stream: Stream
    position: int
    sent: int

    @property
    def end(self) -> int:
        return self.origin + len(self.stream.present)

    def part(self, low: int, high: int) -> Wire:
        """Wire values of hub samples low..high − 1."""
        assert self.origin <= low <= high <= self.end, (self.origin, low, high, self.end)
        return self.stream.values[:, low - self.origin : high - self.origin]

    def present(self, low: int, high: int) -> Mask:
        return self.stream.present[low - self.origin : high - self.origin]


class Take:
    """Everything about one performance; ``heard`` is there when it is over."""

    def __init__(
        self, rig: DataPlane, players: tuple[Player, ...], expected: set[str], apart_s: float
    ) -> None:
        self.rig = rig
        self.players = list(players)
        self.band = Band(players, rig.rate, apart_s)
        self.heard: dict[Player, Heard] = {}
        self.disturbances: list[str] = []
        self.witnessed = False
        """Whether more than the hub's own word says that the machine disturbed this take."""
        self.counters: dict[Player, dict[str, int]] = {}
        """Of every receiver, while all still played."""
        self.settled: dict[Player, dict[str, int]] = {}
        """The same after the last packet had come (and, with it gone, a gap had begun)."""
        self.missed = 0
        self._over = False
        self._expected = expected
        self._before = {name: rig.clock(name) for name in ("missed", "starved")}
        self._mixer_before = {rig.clock("pid"): waited_s(rig.clock("pid"))}
        self._stolen_before = stolen_s()

    # --- while it plays ---

    def play(self, seconds: float) -> int:
        """Let it go on for so long, in hub samples; the hub sample then."""
        until = self.rig.now + int(seconds * self.rig.rate)
        wait_until(lambda: self.rig.now >= until, seconds + 10, "hub time goes on")
        return self.rig.now

    def add(self, *players: Player) -> None:
        """Others join; returns when they are in."""
        self.rig.join(*players)
        self.players += players
        self.band.add(*players)
        self.wait_active(*players)

    def wait_active(self, *players: Player) -> None:
        for player in players:
            wait_until(
                lambda player=player: self.rig.state(player.slot) == RxState.ACTIVE,  # type: ignore[misc]
                what="the client is in",
            )
            wait_until(lambda player=player: player.returned, what="it hears")  # type: ignore[misc]

    @contextmanager
    def promptly(self) -> Iterator[None]:
        """For replacing a worker: if that takes the test itself long, the machine is busy."""
        began = time.monotonic()
        yield
        if (took_s := time.monotonic() - began) > PROMPT_S:
            self.disturbances.append(f"a worker was replaced in {1e3 * took_s:.0f} ms")

    # --- when it is over ---

    def finish(self) -> None:
        """Stop the players, the last first, and read the arena.

        One after another: where many must conceal on few cores at the same moment, a tick may
        pass without one of them, though its packet came.
        """
        for player in self.players:
            self.counters[player] = self._counters(player)
        for player in reversed(self.players):
            self.band.remove(player)
            self.play(APART_TICKS * self.rig.period / self.rig.rate)
        self.band.stop()
        for player in self.players:
            rx = self.rig.arena.rx[player.slot]
            self.settled[player] = self._counters(player)
            stream = assemble(player.returned)
            first = (int(rx["base_sequence"]) - player.first) & 0xFFFF
            position = int(rx["base_position"]) - first * player.frames
            origin = self._origin(player)
            if stream.numbers:
                origin += min(stream.numbers) * player.frames
            sent = (player.newest + 1) * player.frames
            self.heard[player] = Heard(origin, stream, position, sent)
        self.look_around()

    def look_around(self) -> None:
        """Find out what disturbed it, once."""
        if self._over:
            return
        self._over = True
        for player in self.players:
            if player.late_s > LATE_S:
                self._witness(f"a sender was {1e3 * player.late_s:.1f} ms late")
            if drops := self.rig.arena.rx[player.slot]["kernel_drops"]:
                self.disturbances.append(f"{drops} datagrams dropped by the kernel")
        for name, before in self._before.items():
            rose = self.rig.clock(name) - before
            if name == "missed":
                self.missed = rose
            if rose and name not in self._expected:
                self.disturbances.append(f"{name} +{rose}")
                self.witnessed |= name == "missed"
        mixer = self.rig.clock("pid")
        if (waited := waited_s(mixer) - self._mixer_before.get(mixer, 0.0)) > WAITED_S:
            self._witness(f"the mixer waited {1e3 * waited:.1f} ms for a cpu")
        if (stolen := stolen_s() - self._stolen_before) > STOLEN_S:
            self._witness(f"the host took {1e3 * stolen:.0f} ms")

    def _witness(self, what: str) -> None:
        self.disturbances.append(what)
        self.witnessed = True

    def _counters(self, player: Player) -> dict[str, int]:
        rx = self.rig.arena.rx[player.slot]
        return {name: int(rx[name]) for name in rx.dtype.names if rx[name].shape == ()}

    def _origin(self, player: Player) -> int:
        """Hub sample of the first sample of returned packet 0."""
        tx = self.rig.arena.tx[player.slot]
        while True:
            tick = int(tx["last_tick"])
            done = int(tx["sequence"]) * player.frames + int(tx["fill_frames"])
            origin = (tick + 1) * self.rig.period - done
            if self.rig.state(player.slot) == RxState.ENDED:
                return origin
            # the mixer may have been in the middle of it: the next look must say the same
            wait_until(lambda tick=tick: tx["last_tick"] != tick, what="the stream goes on")  # type: ignore[misc]
            again = int(tx["sequence"]) * player.frames + int(tx["fill_frames"])
            if origin == (int(tx["last_tick"]) + 1) * self.rig.period - again:
                return origin

    def span(self, *players: Player) -> tuple[int, int]:
        """Hub samples in which all of them had settled, were heard, and heard."""
        chosen = players or tuple(self.players)
        heard = [self.heard[player] for player in chosen]
        begun = [max(one.position, one.origin) for one in heard]
        ended = [min(one.position + one.sent, one.end) for one in heard]
        return max(begun) + SETTLED_FRAMES + 4 * self.rig.period, min(ended)

    def voice(self, player: Player, low: int, high: int) -> Mix:
        """A player's programme on the hub's timeline, as decoded."""
        heard = self.heard[player]
        at = np.arange(low, high) - heard.position
        inside = (at >= 0) & (at < heard.sent)
        signal = in_hub(player.signal, player.bits)
        return np.where(inside, signal[:, at % signal.shape[1]], 0.0)

    def mix(self, listener: Player, voices: Voices, low: int, high: int) -> Mix:
        """Sum of these voices at these levels, channel by channel, as a listener gets it."""
        upmix = bool(self.rig.arena.header[0]["upmix"])
        total = np.zeros((listener.wants, high - low))
        for player, level in voices.items():
            voice = self.voice(player, low, high)
            if upmix and player.channels == 1:
                voice = np.repeat(voice, 2, axis=0)
            count = min(len(voice), listener.wants)
            total[:count] += level * voice[:count]
        return total

    def matches(self, listener: Player, voices: Voices, low: int, high: int) -> Mask:
        """Where every channel is, to the bit, the sum of these voices."""
        heard = self.heard[listener]
        wanted = returned(self.mix(listener, voices, low, high), listener.bits)
        right: Mask = np.all(heard.part(low, high) == wanted, axis=0)
        return right & heard.present(low, high)

    def holds(
        self, right: Mask, *, window_frames: int = WINDOW_FRAMES, mostly: bool = False
    ) -> bool:
        """Whether a span is right: all of it, or, after witnesses, windows (most) of it."""
        if right.all():
            return True
        frames = min(window_frames, len(right) // (2 * WINDOWS))
        if not self.witnessed or frames < SHORTEST_WINDOW:
            return False
        windows = right[: len(right) // frames * frames].reshape(-1, frames)
        enough = max(WINDOWS, len(windows) // 2 + 1) if mostly else WINDOWS
        return int(np.count_nonzero(windows.all(axis=1))) >= enough

    def assert_right(self, right: Mask, window_frames: int = WINDOW_FRAMES) -> None:
        """For tests that make a mask of their own: true where a sample is as it should be.

        Args:
            window_frames: enough for one of whatever the test is about.
        """
        assert self.holds(right, window_frames=window_frames), (
            f"{np.count_nonzero(~right)} of {len(right)} samples are wrong, first at "
            f"+{int(np.argmin(right))}; disturbances {self.disturbances}"
        )

    def assert_numbered(self, player: Player) -> None:
        """What came back is numbered from 0 in steps of one; ticks missed may be left out."""
        numbers = self.heard[player].stream.numbers
        assert numbers == sorted(set(numbers))
        left_out = sorted(set(range(numbers[-1])) - set(numbers))
        assert not left_out or self.missed, f"left out: {left_out}"

    def assert_counters(self, player: Player, expected: Mapping[str, int]) -> None:
        """Counters as they were while all still played; who was late moves some of them."""
        counters = self.counters[player]
        got = {name: counters[name] for name in expected}
        assert got == expected or self.witnessed, f"disturbances {self.disturbances}"

    def ramps(
        self,
        listener: Player,
        before: Voices,
        after: Voices,
        low: int,
        high: int,
        ticks: int = 1,
    ) -> int:
        """Exactly one sum until a tick, exactly another some ticks on, a straight line between.

        Returns:
            The hub sample at which the line begins.
        """
        period = self.rig.period
        old = self.matches(listener, before, low, high) | self.excused(listener, low, high)
        assert not old.all(), "nothing changed"
        begin = (low + int(np.argmin(old))) // period * period
        if self.witnessed:  # what was wrong first may be another's doing
            begin = min(
                range(begin, high - ticks * period, period),
                key=lambda tick: self._beside(listener, before, after, tick, ticks),
                default=begin,
            )
        error = self._beside(listener, before, after, begin, ticks)
        assert error <= 1, f"{error:g} beside the line; disturbances {self.disturbances}"
        self.assert_hears(listener, before, low, begin, 0)
        self.assert_hears(listener, after, begin + ticks * period, high, 0)
        return begin

    def _beside(
        self,
        listener: Player,
        before: Voices,
        after: Voices,
        tick: int,
        ticks: int,
    ) -> float:
        """By how much so many ticks miss the straight line from one sum to another."""
        frames = ticks * self.rig.period
        there = tick, tick + frames
        if not self.heard[listener].present(*there).all():
            return np.inf
        line = (np.arange(frames) + 1) / frames
        wanted = returned(
            self.mix(listener, before, *there) * (1 - line)
            + self.mix(listener, after, *there) * line,
            listener.bits,
        )
        return float(np.abs(self.heard[listener].part(*there).astype(np.float64) - wanted).max())

    def excused(self, listener: Player, low: int, high: int) -> Mask:
        """Samples that did not come because their ticks were missed."""
        heard = self.heard[listener]
        missing = np.count_nonzero(~heard.stream.present)
        explained = listener.frames == self.rig.period and missing <= self.missed * listener.frames
        return ~heard.present(low, high) & explained

    def assert_hears(
        self,
        listener: Player,
        voices: Voices,
        low: int | None = None,
        high: int | None = None,
        at_least: int = 4800,
        complete: bool = False,
    ) -> None:
        """Every sample of a span (that of all involved unless given) is the sum of these.

        Args:
            complete: not even missed ticks are excused, and after witnesses most of the span
                must be right: for what would be heard throughout, were it heard.
        """
        own_low, own_high = self.span(listener, *voices)
        low = own_low if low is None else low
        high = own_high if high is None else high
        assert high - low >= at_least, f"only {high - low} samples to judge"
        right = self.matches(listener, voices, low, high)
        if not complete:
            right |= self.excused(listener, low, high)
        if not self.holds(right, mostly=complete):
            heard = self.heard[listener]
            wanted = returned(self.mix(listener, voices, low, high), listener.bits)
            error = np.abs(heard.part(low, high).astype(np.float64) - wanted)
            raise AssertionError(
                f"{np.count_nonzero(~right)} of {len(right)} samples differ, first at "
                f"+{int(np.argmin(right))} and last at −{int(np.argmin(right[::-1]))}, "
                f"worst by {error.max():g}, by channel {error.max(axis=1)}; "
                f"{np.count_nonzero(~heard.present(low, high))} missing; "
                f"disturbances {self.disturbances}; counters {self.counters[listener]}"
            )


_TAKES: list[Take] = []


@contextmanager
def take(
    rig: DataPlane,
    *players: Player,
    queue: int | None = None,
    shared: bool = False,
    expected: set[str] | None = None,
    apart_s: float = APART_S,
) -> Iterator[Take]:
    """Players join and play until the block ends; then all leave.

    Args:
        shared: one receiver serves them all.
        expected: counters that what happens in the block raises; others are disturbances.
        apart_s: how long after one's packets the next one's leave.
    """
    DATA_PLANE.takes += 1
    with to_oneself():
        rig.join(*players, queue=queue, shared=shared)
        performance = Take(rig, players, expected or set(), apart_s)
        _TAKES.append(performance)
        try:
            with performance.band:
                performance.wait_active(*players)
                yield performance
                performance.finish()
        except AssertionError:  # what failed in the midst of it may be the machine's doing, too
            performance.look_around()
            raise
        finally:
            rig.leave(*performance.players)


def repeat_if_disturbed(test: Test) -> Test:
    """Run a test again if it failed in a take that was disturbed; at most ATTEMPTS times."""

    @functools.wraps(test)
    def patiently(*args: Any, **kwargs: Any) -> None:
        reasons: list[str] = []
        for attempt in range(ATTEMPTS):
            _TAKES.clear()
            try:
                return test(*args, **kwargs)
            except AssertionError as error:
                disturbed = [reason for one in _TAKES for reason in one.disturbances]
                if not disturbed:
                    raise
                reasons.append("; ".join([*disturbed, str(error)[:300]]))
                DATA_PLANE.repeated.append(f"{test.__name__}: {reasons[-1]}")
                time.sleep(REST_S * (attempt + 1))  # whatever disturbed it may pass
                if attempt == ATTEMPTS - 1:
                    lines = "\n".join(reasons)
                    raise AssertionError(f"never undisturbed:\n{lines}") from error

    return patiently  # type: ignore[return-value]
