"""A client behind a router that gives it another port: for how long it and others are deaf."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from shared.layout import PatchMode
from shared.protocol import EXIT_PACKET
from tests.workers.hearing import runs
from tests.workers.players import Player, noise
from tests.workers.rig import Rig, wait_until
from tests.workers.takes import repeat_if_disturbed, take

pytestmark = pytest.mark.living

RATE = 48000
FRAMES = 128
CLOCK_KNOWN_S = 1.2
"""A client's clock is known when it has been looked at twice, a second apart."""
DEAF = RATE * 140 // 1000
"""100 ms that the old port must be silent, a packet or two, and what the machine adds."""


class Clocked(Player):
    """A player whose packets tell the time, as real ones do."""

    epoch_us = 1_795_323_038_698_913

    def packet(self, k: int) -> bytes:
        whole = super().packet(k)
        if k < 0:
            return whole
        stamp_us = self.epoch_us + k * self.frames * 1_000_000 // RATE
        return stamp_us.to_bytes(8, "little") + whole[8:]


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    rig = Rig(mode=PatchMode.FAN_OUT_NO_SELF, lanes=1)
    yield rig
    rig.stop()


def band(count: int) -> list[Clocked]:
    return [Clocked(noise(FRAMES * (50 + k), seed=k, level=0.3)) for k in range(count)]


def move(player: Player) -> Player:
    """From now on a player's datagrams come from another port; who has the old one."""
    left = Player(player.signal)
    left.socket, player.socket = player.socket, left.socket
    left.hub = player.hub
    return left


def longest(wrong: np.ndarray[Any, np.dtype[np.bool_]]) -> int:
    """The length of a mask's longest run."""
    return max((end - start for start, end in runs(wrong)), default=0)


@repeat_if_disturbed
def test_a_client_that_moves_is_deaf_for_a_tenth_of_a_second(
    rig: Rig, record_property: Any
) -> None:
    """And heard again as soon; its place in time is the same, nobody else loses a sample."""
    mover, witness, third = band(3)

    with take(rig, mover, witness, third, expected={"starved"}) as performance:
        rig.set_pair(third.slot, {mover.slot: 0.0})
        performance.play(CLOCK_KNOWN_S)
        base = rig.counter(mover.slot, "base_position"), rig.counter(mover.slot, "base_sequence")
        moved = rig.now
        left = move(mover)
        port = mover.socket.getsockname()[1]
        performance.play(0.5)
        end = rig.now - 512
        left.socket.close()
        rig.set_pair(third.slot, {})

    silent = longest(~performance.matches(witness, {mover: 1.0, third: 1.0}, moved, end))
    deaf = longest(~performance.heard[mover].present(moved, end))
    record_property("deaf", (silent, deaf))
    print(f"client moved: not heard for {silent} samples, deaf for {deaf}")
    assert 0 < silent <= DEAF
    assert 0 < deaf <= DEAF
    performance.assert_hears(witness, {mover: 1.0, third: 1.0}, end - 9600, end)
    performance.assert_hears(mover, {witness: 1.0, third: 1.0}, end - 9600, end)
    performance.assert_hears(third, {witness: 1.0}, moved, end)
    counters = performance.counters[mover]
    assert counters["moves"] == 1
    assert counters["peer_port"] == port
    assert (counters["base_position"], counters["base_sequence"]) == base
    performance.assert_counters(mover, {"restarts": 0, "late": 0})


@repeat_if_disturbed
def test_others_behind_the_same_router_do_not_take_a_place(rig: Rig) -> None:
    """While a client's network fails: replayed packets, another musician's, random ones."""
    silent: set[int] = set()

    def failing(k: int) -> Sequence[int]:
        return () if silent and k >= min(silent) and k < min(silent) + 150 else (k,)

    victim, listener = band(2)
    victim.route = failing
    rng = np.random.default_rng(3)
    replayer, other, stranger = (Clocked(noise(FRAMES * 50, seed=9)) for _ in range(3))
    other.epoch_us += 7_000_000

    with take(rig, victim, listener, expected={"starved"}) as performance:
        for player in (replayer, other, stranger):
            player.hub = victim.hub
        performance.play(CLOCK_KNOWN_S)
        port = rig.counter(victim.slot, "peer_port")
        silent.add(victim.steps)
        for k in range(170):
            replayer.send(victim.datagram(victim.steps - 300))
            other.send(other.datagram(k))
            other.send(other.datagram(victim.newest + k))
            stranger.send(rng.bytes(8) + rng.bytes(2) + victim.datagram(0)[10:])
            stranger.send(EXIT_PACKET)
            time.sleep(FRAMES / RATE)
        foreign = rig.counter(victim.slot, "foreign")
        wait_until(lambda: victim.newest > min(silent) + 150, what="the client is back")
        performance.play(0.2)
        back = rig.now
        performance.play(0.2)

    counters = performance.counters[victim]
    assert (counters["moves"], counters["peer_port"]) == (0, port)
    assert foreign >= 170 * 4
    performance.assert_hears(listener, {victim: 1.0}, back, back + 8000)
    for player in (replayer, other, stranger):
        player.collect()
        assert not player.returned
        player.close()
