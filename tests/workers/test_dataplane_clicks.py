"""No click: what a listener hears of a loud sine is as smooth as its fades allow.

A click is measured by the largest second difference. For a sine of amplitude A and
w radians a sample it is A·w². What the hub adds has these bounds, F being the frames
of a fade and P those of a period:

    raised-cosine fade    |2·x'·f'| + |x·f''|     A·(w·π/F + (π/F)²/2)
    straight ramp         its corner, and 2·x'/P  A·(1/P + 2·w/P)
    mirror at a gap       the slope turns round   A·w in each of two samples: a corner, no step
    glide to silence      the slope ends          A·w, and a cosine fade over P

Each test adds up what may meet in one sample. A step of the sine's height would be A:
the largest bound here is a thirteenth of it, the smallest a three hundredth.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest

from shared.layout import PatchMode
from tests.workers.hearing import Wire, roughness, runs
from tests.workers.players import Player, sine
from tests.workers.rig import Rig
from tests.workers.takes import Take, repeat_if_disturbed, take

pytestmark = pytest.mark.living

PEAK = 30000
PERIOD = FADE = 128
OMEGA = 2 * math.pi * 440 / 48000
ROUNDING = 4.0
"""Of second differences of integers: half a step, weighed 1, 2, 1, at both ends."""

PURE = PEAK * OMEGA**2
COSINE = PEAK * (OMEGA * math.pi / FADE + (math.pi / FADE) ** 2 / 2)
RAMP = PEAK * (1 / PERIOD + 2 * OMEGA / PERIOD)
MIRROR = PEAK * OMEGA
GLIDE = MIRROR + PEAK * (OMEGA * math.pi / PERIOD + (math.pi / PERIOD) ** 2 / 2)

GAP = max(GLIDE, MIRROR + COSINE) + COSINE + RAMP
"""Concealed by the receiver, or glided over by the mixer; and then the voice is back."""


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    rig = Rig(mode=PatchMode.FAN_OUT_NO_SELF)
    yield rig
    rig.stop()


def tone(**form: object) -> Player:
    return Player(sine(9600, peak=PEAK), **form)  # type: ignore[arg-type]


def silent() -> Player:
    return Player(np.zeros((1, 128), np.int64))


def played(performance: Take, listener: Player, *, to_the_end: bool = False) -> list[Wire]:
    """What a listener heard while all played; or with the end, when they stopped sending."""
    heard = performance.heard[listener]
    stopped = min(one.position + one.sent for one in performance.heard.values())
    high = heard.end if to_the_end else min(stopped, heard.end)
    return pieces_of(performance, listener, heard.origin, high)


def pieces_of(performance: Take, listener: Player, low: int, high: int) -> list[Wire]:
    """A stretch of a stream; in pieces if ticks were missed, which is the client's to conceal."""
    heard = performance.heard[listener]
    there = heard.present(low, high)
    assert np.all(there | performance.excused(listener, low, high)), performance.disturbances
    return [heard.part(low + first, low + last) for first, last in runs(there)]


def assert_smooth(pieces: list[Wire], performance: Take, *added: float) -> None:
    """No rougher than the sine and what is said to be added; and the sine was loud."""
    assert max(np.abs(piece).max() for piece in pieces) > 0.9 * PEAK
    rough = max(roughness(piece) for piece in pieces)
    bound = PURE + sum(added) + ROUNDING
    if performance.witnessed:  # somebody was late: a gap, or a glide for one, may be anywhere
        bound += GAP
    print(f"roughness {rough:.0f}, the sine's {PURE:.0f}, bound {bound:.0f}")
    assert rough <= bound, f"disturbances {performance.disturbances}"


@repeat_if_disturbed
def test_an_undisturbed_sine_is_a_sine(rig: Rig) -> None:
    player, listener = tone(), silent()

    with take(rig, player, listener) as performance:
        performance.play(0.2)

    low, high = performance.span()
    assert_smooth(pieces_of(performance, listener, low, high), performance)


@repeat_if_disturbed
def test_a_voice_fades_in_when_it_joins(rig: Rig) -> None:
    player, listener = tone(), silent()

    with take(rig, listener) as performance:
        performance.play(0.05)
        performance.add(player)
        performance.play(0.2)

    assert_smooth(played(performance, listener), performance, COSINE, RAMP)


@repeat_if_disturbed
def test_a_listener_is_faded_in_when_it_joins(rig: Rig) -> None:
    player, listener = tone(), silent()

    with take(rig, player) as performance:
        performance.play(0.05)
        performance.add(listener)
        performance.play(0.2)

    assert_smooth(played(performance, listener), performance, RAMP)


@pytest.mark.parametrize("polite", [True, False], ids=["goodbye", "silence"])
@repeat_if_disturbed
def test_a_voice_that_leaves_fades_out(rig: Rig, polite: bool) -> None:
    player, listener = tone(), silent()

    with take(rig, player, listener) as performance:
        performance.play(0.1)
        performance.band.remove(player)
        if polite:
            player.say_goodbye()
        performance.play(0.1)

    pieces = played(performance, listener, to_the_end=True)
    assert_smooth(pieces, performance, MIRROR, COSINE)
    assert not pieces[-1][:, -128:].any()


@pytest.mark.parametrize("frames", [32, 128, 480])
@repeat_if_disturbed
def test_losses_are_faded_out_and_in(rig: Rig, frames: int) -> None:
    """Single packets and runs of them, at every phase of the sine."""
    lost = {k for start in range(20, 4000, 23) for k in range(start, start + start % 4 + 1)}
    player = tone(frames=frames, route=lambda k: () if k in lost else (k,))
    listener = silent()

    with take(rig, player, listener) as performance:
        performance.play(0.6)

    assert performance.counters[player]["underruns"] >= 2
    assert_smooth(played(performance, listener), performance, MIRROR, COSINE, COSINE)


@repeat_if_disturbed
def test_a_killed_receiver_is_no_click(rig: Rig) -> None:
    player, listener = tone(), silent()

    with take(rig, player, listener, queue=4, expected={"starved"}) as performance:
        for _ in range(5):
            rig.kill(rig.receiver_token(player.slot))
            rig.start_receiver(player.slot)
            performance.play(0.1)

    # the receiver conceals what its predecessor lost, or the mixer glides if nobody does
    assert_smooth(played(performance, listener), performance, GAP)


@repeat_if_disturbed
def test_a_killed_mixer_is_no_click_in_what_comes(rig: Rig) -> None:
    """Before the packets that are missing and after them."""
    player, listener = tone(), silent()

    with take(rig, player, listener, expected={"missed", "starved"}) as performance:
        performance.play(0.1)
        rig.kill(rig.mixer)
        rig.start_mixer()
        performance.play(0.1)

    heard = performance.heard[listener]
    until = heard.position + heard.sent - heard.origin
    values, present = heard.stream.values[:, :until], heard.stream.present[:until]
    gone, back = max(runs(~present), key=lambda gap: gap[1] - gap[0])
    end = next(end for start, end in runs(present) if start == back)
    assert end == len(present) or performance.witnessed, performance.disturbances
    late = GAP if performance.witnessed else 0.0
    assert roughness(values[:, PERIOD * 20 : gone]) <= PURE + ROUNDING + late
    onset = np.concatenate((np.zeros((1, 2)), values[:, back:end]), axis=1)
    # the strip and the listener both come in: the product of two ramps
    assert roughness(onset) <= PURE + 2 * RAMP + 2 * PEAK / PERIOD**2 + ROUNDING + late


@repeat_if_disturbed
def test_levels_and_modes_move_without_a_click(rig: Rig) -> None:
    player, listener = tone(), silent()

    with take(rig, player, listener) as performance:
        performance.play(0.05)
        for gain in (0.0, 1.0, 0.1, 1.0):
            rig.set_gain(player.slot, gain)
            performance.play(0.03)
        for level in (0.0, 1.0, 0.3):
            rig.set_pair(listener.slot, {player.slot: level})
            performance.play(0.03)
        rig.set_pair(listener.slot, {})
        performance.play(0.03)
        for mode in (PatchMode.NONE, PatchMode.FULL_MIX, PatchMode.FAN_OUT_NO_SELF):
            rig.arena.control[0]["patch"] = mode
            performance.play(0.03)

    low, high = performance.span()
    assert_smooth(pieces_of(performance, listener, low, high), performance, RAMP)


@repeat_if_disturbed
def test_a_stalled_client_comes_back_without_a_click(rig: Rig) -> None:
    """It sends nothing for a while, then goes on where it was: a gap, and a new place in time."""
    player, listener = tone(), silent()
    stalled = Stall(player)

    with take(rig, player, listener, queue=4) as performance:
        performance.play(0.1)
        stalled.now = True
        performance.play(0.1)
        stalled.now = False
        performance.play(0.3)

    assert_smooth(played(performance, listener), performance, MIRROR, COSINE, COSINE)


class Stall:
    """A switch in a player's route: while it is on, the player's own clock stands still."""

    def __init__(self, player: Player) -> None:
        self.now = False
        self._sent = 0
        player.route = self._route

    def _route(self, k: int) -> tuple[int, ...]:
        if self.now:
            return ()
        self._sent += 1
        return (self._sent - 1,)
