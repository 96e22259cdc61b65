"""Workers that die, and the hub that is gone: what of it is heard, and for how long.

All spans are counted in samples of what came back; nothing is timed by a clock of the
test's, except that processes end.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.layout import EndReason, PatchMode, RxState
from tests.workers.hearing import runs
from tests.workers.players import Player, noise
from tests.workers.rig import Rig, alive, wait_until
from tests.workers.takes import WINDOW_FRAMES, Take, repeat_if_disturbed, take

pytestmark = pytest.mark.living

RATE = 48000
RECEIVER_GAP = RATE * 50 // 1000
MIXER_GAP = RATE * 100 // 1000
PROOF = 64
"""So many right samples in a row end a gap; fewer may be right by chance."""


@pytest.fixture(scope="module", params=[0, 3], ids=lambda lanes: f"{lanes} lanes")
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    rig = Rig(lanes=request.param)
    yield rig
    rig.stop()


def band(count: int) -> list[Player]:
    return [Player(noise(128 * (50 + k), seed=k, level=0.2)) for k in range(count)]


def gaps(performance: Take, listener: Player, source: Player) -> list[tuple[int, int]]:
    """[start, end) of every stretch in which a source was not heard as it was."""
    low, high = performance.span(listener, source)
    right = performance.matches(listener, {source: 1.0}, low, high)
    right |= performance.excused(listener, low, high)
    good = [run for run in runs(right) if run[1] - run[0] >= PROOF]
    assert good, "never heard"
    edges = [(0, 0), *good, (high - low, high - low)]
    found = [(end + low, start + low) for (_, end), (start, _) in itertools.pairwise(edges)]
    return [(start, end) for start, end in found if end > start]


@repeat_if_disturbed
def test_a_killed_receiver_is_a_short_gap_of_its_client_alone(
    rig: Rig, record_property: Any
) -> None:
    """Same socket, same place on the timeline; its own return stream loses nothing either."""
    rig.arena.control[0]["patch"] = PatchMode.FAN_OUT_NO_SELF
    victim, witness, third = players = band(3)
    kills = 4

    with take(rig, *players, queue=4, expected={"starved"}) as performance:
        rig.set_pair(witness.slot, {third.slot: 0.0})
        rig.set_pair(third.slot, {victim.slot: 0.0})
        before = performance.play(0.05)
        base = rig.counter(victim.slot, "base_position"), rig.counter(victim.slot, "base_sequence")
        for _ in range(kills):
            with performance.promptly():
                rig.kill(rig.receiver_token(victim.slot))
                rig.start_receiver(victim.slot)
            after = performance.play(0.2)
        rig.set_pair(witness.slot, {})
        rig.set_pair(third.slot, {})

    performance.assert_hears(victim, {witness: 1.0, third: 1.0})
    performance.assert_hears(third, {witness: 1.0}, before, after, 0)
    heard = [gap for gap in gaps(performance, witness, victim) if before < gap[0] < after - 256]
    lengths = [end - start for start, end in heard]
    record_property("receiver_gaps", lengths)
    print(f"receiver killed: gaps of {lengths} samples")
    assert len(lengths) <= kills or performance.witnessed
    assert max(lengths, default=0) <= RECEIVER_GAP
    counters = performance.counters[victim]
    assert (counters["base_position"], counters["base_sequence"]) == base
    assert counters["restarts"] == counters["malformed"] == counters["foreign"] == 0
    assert counters["state"] == RxState.ACTIVE


@repeat_if_disturbed
def test_a_receiver_killed_before_its_first_datagram_is_replaced(rig: Rig) -> None:
    rig.arena.control[0]["patch"] = PatchMode.LOOPBACK
    player = Player(noise(128 * 50))
    slot = rig.open()
    rig.kill(rig.receiver_token(slot))
    player.slot, player.hub = slot, rig.hub(slot)
    player.step()
    player.step()

    rig.start_receiver(slot)

    wait_until(lambda: rig.state(slot) == RxState.ACTIVE, what="the client is in")
    assert rig.counter(slot, "datagrams") == 2
    assert rig.counter(slot, "packets") in (1, 2)  # the first may have waited too long to begin by
    rig.leave(player)


def test_a_receiver_killed_while_its_client_knocks_is_replaced(rig: Rig) -> None:
    slot = rig.open()
    rig.arena.slots[slot]["admit"] = 0
    player = Player(noise(128 * 50))
    player.slot, player.hub = slot, rig.hub(slot)
    player.step()
    wait_until(lambda: rig.state(slot) == RxState.KNOCKING, what="the client knocks")

    rig.kill(rig.receiver_token(slot))
    rig.start_receiver(slot)

    player.step()
    wait_until(lambda: rig.counter(slot, "datagrams") == 2, what="the second datagram")
    assert rig.state(slot) == RxState.KNOCKING
    rig.arena.slots[slot]["admit"] = rig.arena.slots[slot]["session"]
    player.step()
    wait_until(lambda: rig.state(slot) == RxState.ACTIVE, what="the client is in")
    rig.leave(player)


def heard_again(
    performance: Take, listener: Player, voices: dict[Player, float], since: int, until: int
) -> int:
    """Samples from a moment on until a listener hears exactly these voices, for good.

    For a window at least, if the machine disturbed the take.
    """
    right = performance.matches(listener, voices, since, until)
    if performance.witnessed:
        return next(
            (start for start, end in runs(right) if end - start >= WINDOW_FRAMES), len(right)
        )
    return 0 if right.all() else len(right) - int(np.argmin(right[::-1]))


def assert_one_jump(performance: Take, listener: Player) -> None:
    """The numbering goes up, with a single gap; besides those of ticks that were missed."""
    besides = performance.missed if performance.witnessed else 0
    steps = np.diff(performance.heard[listener].stream.numbers)
    assert steps.min() == 1
    assert steps.max() > 1
    assert np.count_nonzero(steps > 1) <= 1 + besides


@repeat_if_disturbed
def test_all_hear_again_soon_after_the_mixer_was_killed(rig: Rig, record_property: Any) -> None:
    """Numbering goes on as if its packets had been lost; levels are as they were."""
    rig.arena.control[0]["patch"] = PatchMode.FAN_OUT_NO_SELF
    first, second, third = players = band(3)
    voices = {
        first: {second: 1.0, third: 0.25},
        second: {first: 1.0, third: 0.5},
        third: {first: 1.0, second: 1.0},
    }

    with take(rig, *players, expected={"missed", "starved"}) as performance:
        rig.set_gain(third.slot, 0.5)
        rig.set_pair(first.slot, {third.slot: 0.5})
        killed = performance.play(0.15)
        with performance.promptly():
            rig.kill(rig.mixer)
            rig.start_mixer()
        end = performance.play(0.3) - 1024
        rig.set_pair(first.slot, {})

    silences = [heard_again(performance, p, voices[p], killed, end) for p in players]
    record_property("mixer_gaps", silences)
    print(f"mixer killed: heard again after {silences} samples")
    for player in players:
        performance.assert_hears(player, voices[player], killed - 4800, killed - 128, 0)
        assert_one_jump(performance, player)
    assert max(silences) <= MIXER_GAP


@repeat_if_disturbed
def test_a_killed_lane_is_missed_by_its_own_listeners_alone(rig: Rig, record_property: Any) -> None:
    if not rig.lanes:
        pytest.skip("the mixer is the lane")
    rig.arena.control[0]["patch"] = PatchMode.FAN_OUT_NO_SELF
    players = band(4)
    victims = [0, 3]  # by order of slots, which lanes take in turn
    voices = {p: {other: 1.0 for other in players if other is not p} for p in players}

    with take(rig, *players) as performance:
        lane = rig.lane_of(players[0].slot)
        assert [rig.lane_of(player.slot) == lane for player in players] == [
            k in victims for k in range(4)
        ]
        voices[players[0]][players[1]] = 0.5
        rig.set_pair(players[0].slot, {players[1].slot: 0.5})
        killed = performance.play(0.15)
        with performance.promptly():
            rig.kill(rig.lane_tokens[lane])
            rig.start_lane(lane)
        end = performance.play(0.3) - 1024
        performance.play(0.01)
        rig.set_pair(players[0].slot, {})

    silences = [
        heard_again(performance, players[k], voices[players[k]], killed, end) for k in victims
    ]
    record_property("lane_gaps", silences)
    print(f"lane killed: heard again after {silences} samples")
    for k, player in enumerate(players):
        if k in victims:
            performance.assert_hears(player, voices[player], killed - 4800, killed - 128, 0)
            assert_one_jump(performance, player)
        else:
            performance.assert_hears(player, voices[player])
    assert max(silences) <= MIXER_GAP


@contextmanager
def hung(pid: int) -> Iterator[None]:
    """A process that is not let run."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@repeat_if_disturbed
def test_receivers_that_all_hang_are_waited_for_and_then_not_any_more(rig: Rig) -> None:
    """Each tick is mixed in the end, and who has played before is heard again."""
    rig.arena.control[0]["patch"] = PatchMode.FAN_OUT_NO_SELF
    first, second = players = band(2)

    with take(rig, *players, expected={"starved"}) as performance:
        performance.play(0.1)
        waited, ticks = rig.clock("waited"), rig.clock("ticks")
        with hung(rig.counter(first.slot, "pid")), hung(rig.counter(second.slot, "pid")):
            performance.play(0.15)
            waited, ticks = rig.clock("waited") - waited, rig.clock("ticks") - ticks
        performance.play(0.2)
        again = rig.now
        after = performance.play(0.3) - 256

    assert 0 < waited < ticks / 2
    performance.assert_hears(first, {second: 1.0}, again, after)


@repeat_if_disturbed
def test_a_receiver_that_hangs_is_its_clients_loss_alone(rig: Rig) -> None:
    """What its socket held meanwhile was in time, and not read; the place in time stays."""
    rig.arena.control[0]["patch"] = PatchMode.FAN_OUT_NO_SELF
    victim, witness, third = players = band(3)

    with take(rig, *players, expected={"starved"}) as performance:
        rig.set_pair(third.slot, {victim.slot: 0.0})
        before = performance.play(0.1)
        with hung(rig.counter(victim.slot, "pid")):
            stopped = performance.play(0.15)
        performance.play(0.2)
        after = rig.now - 256
        rig.set_pair(third.slot, {})

    performance.assert_hears(third, {witness: 1.0}, before, after)
    performance.assert_hears(victim, {witness: 1.0, third: 1.0})
    again = heard_again(performance, witness, {victim: 1.0, third: 1.0}, stopped, after)
    assert again <= RECEIVER_GAP
    performance.assert_counters(victim, {"restarts": 0, "lost": 0})


@repeat_if_disturbed
def test_a_mixer_that_hangs_skips_to_the_present(rig: Rig) -> None:
    """Its ticks are missed and counted, none is caught up, and numbers go on as after a loss."""
    rig.arena.control[0]["patch"] = PatchMode.FAN_OUT_NO_SELF
    first, second = players = band(2)

    with take(rig, *players, expected={"missed"}) as performance:
        performance.play(0.1)
        with hung(rig.clock("pid")):
            time.sleep(0.1)
        back = rig.now
        performance.play(0.2)

    assert performance.missed >= 30
    for player, other in ((first, second), (second, first)):
        stream = performance.heard[player].stream
        assert np.count_nonzero(~stream.present) == performance.missed * rig.period
        low, high = performance.span(player, other)
        wrong = ~performance.matches(player, {other: 1.0}, low, high)
        performance.assert_right(~(wrong & performance.heard[player].present(low, high)))
        assert stream.numbers == sorted(set(stream.numbers))
        performance.assert_hears(player, {other: 1.0}, back + MIXER_GAP, high)


def test_a_lane_sleeps_while_there_is_no_mixer() -> None:
    """However the last one left the words that lanes look at: a lane that spins starves others."""
    rig = Rig(lanes=1)
    try:
        pid = rig.pids[rig.lane_tokens[1]]
        for word in (0, 7, -1):
            rig.kill(rig.mixer)
            rig.arena.clock[0]["futex"] = word
            before = cpu_ticks(pid)
            time.sleep(0.3)
            assert cpu_ticks(pid) - before <= 0.05 * os.sysconf("SC_CLK_TCK")
            rig.start_mixer()
    finally:
        rig.close()


def cpu_ticks(pid: int) -> int:
    """CPU time of a process in clock ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


@repeat_if_disturbed
def test_after_any_series_of_deaths_all_hear_again(rig: Rig) -> None:
    """Whichever workers die, at whatever moment; nothing is left behind in those that lived."""
    rig.arena.control[0]["patch"] = PatchMode.FAN_OUT_NO_SELF
    players = band(4)
    rng = random.Random(2)
    troubles = {"missed", "starved"}

    with take(rig, *players, expected=troubles) as performance:
        for _ in range(24):
            victim = rng.choice(["mixer", "lane", *players])
            if isinstance(victim, Player):
                rig.kill(rig.receiver_token(victim.slot))
                rig.start_receiver(victim.slot)
            elif victim == "mixer" or not rig.lanes:
                rig.kill(rig.mixer)
                rig.start_mixer()
            else:
                lane = rng.randint(1, rig.lanes)
                rig.kill(rig.lane_tokens[lane])
                rig.start_lane(lane)
            time.sleep(rng.uniform(0, 0.03))
        healed = performance.play(0.2)
        end = performance.play(0.2)

    for player in players:
        others = {other: 1.0 for other in players if other is not player}
        performance.assert_hears(player, others, healed, end - 256)
        steps = np.diff(performance.heard[player].stream.numbers)
        assert steps.min() >= 0  # a mixer may die between a send and its note of it
        assert performance.counters[player]["restarts"] == 0


@repeat_if_disturbed
def test_audio_goes_on_without_a_zygote_and_the_next_one_serves_the_same_arena() -> None:
    rig = Rig(mode=PatchMode.FAN_OUT_NO_SELF, lanes=1)
    try:
        first, second, third = band(3)
        with take(rig, first, second, expected={"starved"}) as performance:
            performance.play(0.1)
            rig.zygote.kill()
            rig.zygote.wait(5)
            alone = performance.play(0.2)
            rig.orders.close()
            rig.start_zygote()
            with performance.promptly():
                os.kill(rig.counter(first.slot, "pid"), signal.SIGKILL)
                rig.start_receiver(first.slot)
            performance.play(0.1)
            healed = rig.now
            end = performance.play(0.2) - 256
            performance.add(third)

        low = performance.span(first, second)[0]
        performance.assert_hears(first, {second: 1.0}, low, end, 0)
        performance.assert_hears(second, {first: 1.0}, low, alone, 0)
        performance.assert_hears(second, {first: 1.0}, healed, end, 0)
        assert third.returned
    finally:
        rig.close()


def rehearsal(period: int, lanes: int) -> tuple[Rig, list[Player], int]:
    """A hub of its own with two players who hear, and the slot of one still awaited."""
    rig = Rig(period=period, lanes=lanes)
    players = band(2)
    rig.join(*players)
    waiting = rig.open()
    for player in players:
        for _ in range(20):
            player.step()
        wait_until(lambda player=player: player.hears(), what="it hears")  # type: ignore[misc]
    return rig, players, waiting


@pytest.mark.parametrize(("period", "lanes"), [(128, 0), (1024, 2)])
def test_every_worker_ends_when_the_hub_is_gone(period: int, lanes: int) -> None:
    """The life pipe closes, whatever else still stands; clients are told."""
    rig, players, waiting = rehearsal(period, lanes)
    workers = dict(rig.pids)

    os.close(rig.life_write)
    rig.life_write = os.dup(rig.life_read)  # something for close() to close

    rig.assert_workers_end(0.5)
    for player in players:
        player.collect()
        assert player.exits == 2
        assert rig.reason(player.slot) == EndReason.HUB_STOP
        player.close()
    assert rig.reason(waiting) == EndReason.HUB_STOP
    for token in workers:
        assert rig.event("exited", token)["status"] == 3
    rig.close()


@pytest.mark.parametrize(("period", "lanes"), [(128, 0), (1024, 2)])
def test_every_worker_ends_at_the_stop_word(period: int, lanes: int) -> None:
    """Clients get two exit packets, each from its own port."""
    rig, players, waiting = rehearsal(period, lanes)
    workers = dict(rig.pids)

    rig.arena.control[0]["stop"] = 1

    rig.assert_workers_end(0.5)
    for player in players:
        player.collect()
        assert player.exits == 2
        assert rig.reason(player.slot) == EndReason.HUB_STOP
        player.close()
    assert rig.state(waiting) == RxState.ENDED
    for token in workers:
        assert rig.event("exited", token)["status"] == 0
    assert alive(rig.zygote.pid)
    rig.close()
