"""Datagrams that are lost, doubled, swapped or repeated on purpose: what of it is heard."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from shared.layout import PatchMode
from tests.workers.hearing import runs
from tests.workers.players import Player, noise
from tests.workers.rig import Rig
from tests.workers.takes import WINDOW_FRAMES, Take, repeat_if_disturbed, take

pytestmark = pytest.mark.living

FRAMES = 128
FADE_FRAMES = 128
LOST_EVERY = 7
TROUBLES = ("lost", "late", "duplicates", "reordered", "repaired", "underruns", "malformed")


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    rig = Rig(mode=PatchMode.FULL_MIX)
    yield rig
    rig.stop()


def some_lost(k: int) -> Sequence[int]:
    return () if k % LOST_EVERY == 3 else (k,)


def two_in_a_row_lost(k: int) -> Sequence[int]:
    return () if k % LOST_EVERY in (3, 4) else (k,)


def some_doubled(k: int) -> Sequence[int]:
    return (k, k) if k % LOST_EVERY == 3 else (k,)


def some_swapped(k: int) -> Sequence[int]:
    """Every 3rd of 7 leaves after its successor."""
    match k % LOST_EVERY:
        case 3:
            return ()
        case 4:
            return (k, k - 1)
        case _:
            return (k,)


def some_old(k: int) -> Sequence[int]:
    """An ancient one again, now and then: long played."""
    return (k, k - 40) if k > 40 and k % LOST_EVERY == 3 else (k,)


def troubles(performance: Take, player: Player) -> dict[str, int]:
    counters = performance.settled[player]
    return {name: counters[name] for name in TROUBLES if counters[name]}


def happened(player: Player, remainders: Sequence[int], from_step: int = 0) -> int:
    """How many of the player's steps had one of these remainders."""
    return sum(k % LOST_EVERY in remainders for k in range(from_step, player.steps))


@pytest.mark.parametrize(
    ("redundancy", "route", "lost"),
    [(2, some_lost, (3,)), (3, two_in_a_row_lost, (3, 4)), (4, two_in_a_row_lost, (3, 4))],
    ids=["r2", "r3", "r4"],
)
@repeat_if_disturbed
def test_redundant_copies_repair_what_is_lost(
    rig: Rig, redundancy: int, route: object, lost: tuple[int, ...]
) -> None:
    player = Player(noise(FRAMES * 60), redundancy=redundancy, route=route)  # type: ignore[arg-type]

    with take(rig, player) as performance:
        performance.play(0.5)

    performance.assert_hears(player, {player: 1.0})
    counters = performance.settled[player]
    assert counters["malformed"] == counters["reordered"] == 0
    # those at the very end may lack the datagram that would have repaired them
    whole = player.steps - player.steps % LOST_EVERY
    repaired = range(happened(player, lost) - len(lost), happened(player, lost) + 1)
    assert (counters["lost"] == 0 and counters["repaired"] in repaired) or performance.witnessed
    assert counters["packets"] >= whole
    stream = performance.heard[player].stream
    assert {len(data) // stream.headers[0].packet_bytes for data in player.returned} == {redundancy}
    assert stream.misrouted == 0


@repeat_if_disturbed
def test_no_client_gets_more_than_eight_copies(rig: Rig) -> None:
    """However many it sends: its own repair what they can, the answer stays bounded."""
    player = Player(noise(FRAMES * 60), redundancy=20, route=some_lost)

    with take(rig, player) as performance:
        performance.play(0.3)

    performance.assert_hears(player, {player: 1.0})
    sizes = {len(data) for data in player.returned}
    assert sizes == {8 * performance.heard[player].stream.headers[0].packet_bytes}
    assert performance.heard[player].stream.misrouted == 0


@repeat_if_disturbed
def test_redundant_copies_of_what_was_not_lost_change_nothing(rig: Rig) -> None:
    players = [Player(noise(FRAMES * 60, seed=r), redundancy=r) for r in (1, 2, 4)]
    rig.arena.control[0]["patch"] = PatchMode.LOOPBACK

    with take(rig, *players) as performance:
        performance.play(0.3)
    rig.arena.control[0]["patch"] = PatchMode.FULL_MIX

    for player in players:
        performance.assert_hears(player, {player: 1.0})
        performance.assert_counters(player, dict.fromkeys(TROUBLES, 0))
        assert performance.heard[player].stream.misrouted == 0


@pytest.mark.parametrize(
    ("route", "counter", "remainder"),
    [(some_doubled, "duplicates", 3), (some_swapped, "reordered", 3), (some_old, "duplicates", 3)],
    ids=["doubled", "swapped", "old"],
)
@repeat_if_disturbed
def test_doubled_and_swapped_datagrams_change_nothing(
    rig: Rig, route: object, counter: str, remainder: int
) -> None:
    player = Player(noise(FRAMES * 60), route=route)  # type: ignore[arg-type]

    with take(rig, player) as performance:
        performance.play(0.4)

    performance.assert_hears(player, {player: 1.0})
    expected = happened(player, (remainder,), 41 if route is some_old else 0)
    got = troubles(performance, player)
    got.pop("underruns")  # the silence after the last packet
    assert set(got) == {counter} or performance.witnessed
    assert expected - 1 <= got[counter] <= expected or performance.witnessed


@pytest.mark.parametrize("frames", [64, 128, 480])
@repeat_if_disturbed
def test_a_lost_packet_is_heard_as_one_gap_and_by_nobody_else(rig: Rig, frames: int) -> None:
    """Wrong for the length of the packet, and of a fade if what follows was not there in time;
    right to the bit outside."""
    lossy = Player(noise(frames * 40, seed=1, level=0.2), frames=frames, route=some_lost)
    other = Player(noise(FRAMES * 60, seed=2, level=0.2))
    rig.arena.control[0]["patch"] = PatchMode.FAN_OUT_NO_SELF

    with take(rig, lossy, other) as performance:
        performance.play(0.8)
    rig.arena.control[0]["patch"] = PatchMode.FULL_MIX

    performance.assert_hears(lossy, {other: 1.0})
    low, high = performance.span(lossy, other)
    right = performance.matches(other, {lossy: 1.0}, low, high)
    start = performance.heard[lossy].position
    gone, faded = np.zeros(high - low, bool), np.zeros(high - low, bool)
    for k in range(3, lossy.steps, LOST_EVERY):
        begin = start + k * frames - low
        gone[max(begin, 0) : max(begin + frames, 0)] = True
        faded[max(begin + frames, 0) : max(begin + frames + FADE_FRAMES, 0)] = True
    assert len(runs(gone)) >= 5
    right_or_excused = right | performance.excused(other, low, high)
    window_frames = max(WINDOW_FRAMES, LOST_EVERY * frames)
    performance.assert_right(right_or_excused | gone | faded, window_frames)
    # a sample of a gap may be right by chance only, and most gaps are bridged
    assert np.count_nonzero(right & faded) > 0.5 * np.count_nonzero(faded) or performance.witnessed
    assert np.count_nonzero(right & gone) < 0.1 * np.count_nonzero(gone)
    counters = performance.settled[lossy]
    assert counters["reordered"] == 0
    assert counters["late"] == counters["restarts"] == 0 or performance.witnessed


def happened_below(k: int) -> int:
    return sum(i % LOST_EVERY == 3 for i in range(k))


@repeat_if_disturbed
def test_losses_are_all_accounted_for_at_the_end(rig: Rig) -> None:
    player = Player(noise(FRAMES * 60), route=some_lost)

    with take(rig, player) as performance:
        performance.play(0.4)
        performance.band.remove(player)
        performance.play(0.02)
        player.say_goodbye()
        performance.play(0.1)

    newest = player.steps - 1
    while not some_lost(newest):
        newest -= 1
    counters = performance.settled[player]
    assert counters["lost"] == happened_below(newest)
    assert counters["packets"] == newest + 1 - counters["lost"]
    assert counters["concealed_frames"] >= FRAMES * counters["lost"]


@repeat_if_disturbed
def test_a_client_that_numbers_anew_is_heard_again(rig: Rig) -> None:
    """A jump of the packet number, either way: six datagrams are lost to it, not the session."""
    player = Player(noise(FRAMES * 60))
    rig.arena.control[0]["patch"] = PatchMode.LOOPBACK

    with take(rig, player) as performance:
        performance.play(0.2)
        player.first = (player.first + 20_000) & 0xFFFF
        performance.play(0.3)
        low = rig.now - 4800
        player.first = (player.first - 3_000) & 0xFFFF
        performance.play(0.3)
    rig.arena.control[0]["patch"] = PatchMode.FULL_MIX

    counters = performance.counters[player]
    assert counters["restarts"] == 2
    assert counters["late"] == 10
    heard = performance.heard[player]
    performance.assert_hears(player, {player: 1.0}, heard.end - 9600, heard.end - 4800, 4800)
    assert low < heard.end - 9600
