"""Whoever stops for a while, client or hub: afterwards latency is what it was, in samples.

Programmes do not repeat, so a window of what is heard tells by itself which packet it is
of, and with the schedule by which that was sent, how long it took.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.layout import PatchMode
from tests.workers.hearing import in_hub, returned
from tests.workers.players import Player, noise
from tests.workers.rig import Rig
from tests.workers.takes import Take, repeat_if_disturbed, take

pytestmark = pytest.mark.living

RATE = 48000
FRAMES = PERIOD = 128
PROGRAMME = FRAMES * 2400
WINDOW = 1024
AWAY = 750
"""Packets in 2 s."""
HEARD_AGAIN = RATE * 50 // 1000
ALL_HEARD_AGAIN = RATE * 100 // 1000
MAX_WAKEUPS_S = 20
"""Of a receiver in a gap that has long been silent; each tick would be 375."""
MACHINE = RATE * 2 // 1000
"""How late a packet may be through no fault of the hub's."""


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    rig = Rig(mode=PatchMode.FAN_OUT_NO_SELF, lanes=1)
    yield rig
    rig.stop()


class Absence:
    """A route: nothing leaves for AWAY steps, then so many of the packets held back at once.

    A client that does not catch up with all of them goes on that much later for ever.
    """

    def __init__(self, burst: int) -> None:
        self.burst = burst
        self.begin: int | None = None
        self.left: dict[int, int] = {}
        """The step in which a packet left."""

    def __call__(self, step: int) -> Sequence[int]:
        packets: Sequence[int] = (step,)
        if self.begin is not None and step >= self.begin:
            back = self.begin + AWAY
            packets = () if step < back else (step - AWAY + self.burst,)
            if step == back:
                packets = range(self.begin, self.begin + self.burst + 1)
        self.left.update(dict.fromkeys(packets, step))
        return packets


def band(count: int) -> list[Player]:
    return [Player(noise(PROGRAMME, 1, seed=20 + k, level=0.3)) for k in range(count)]


def programme_at(performance: Take, listener: Player, source: Player, at: int) -> int:
    """Which sample of a programme is heard at a hub sample, by correlation of a window."""
    part = performance.heard[listener].part(at, at + WINDOW)[0].astype(np.float64)
    size = PROGRAMME + WINDOW
    spectrum = np.fft.rfft(source.signal[0].astype(np.float64), size)
    likeness = np.fft.irfft(spectrum * np.conj(np.fft.rfft(part, size)), size)
    best = int(np.argmax(likeness))
    energy = np.sqrt(np.sum(part**2) * np.sum(source.signal[0, best : best + WINDOW] ** 2.0))
    assert likeness[best] > 0.9 * energy, f"{likeness[best] / energy:.2f} alike at {at}"
    return best


def wrong_after(performance: Take, listener: Player, source: Player, since: int, until: int) -> int:
    """Samples from a moment on until a programme is heard as at the end, bit by bit, for good."""
    lag = until - WINDOW - programme_at(performance, listener, source, until - WINDOW)
    wanted = returned(in_hub(source.signal, 16), 16)[0, since - lag : until - lag]
    right = performance.heard[listener].part(since, until)[0] == wanted
    right |= performance.excused(listener, since, until)
    return 0 if right.all() else len(right) - int(np.argmin(right[::-1]))


def times_woken(pid: int) -> int:
    """How often a process has slept so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])


def hears_the_next(rig: Rig, players: list[Player]) -> list[tuple[Player, Player]]:
    """Every player hears one other, the last hears the first; (source, listener) of each."""
    pairs = list(zip([*players[1:], players[0]], players, strict=True))
    for source, listener in pairs:
        rig.set_pair(listener.slot, {p.slot: 0.0 for p in players if p not in (source, listener)})
    return pairs


@repeat_if_disturbed
def test_clients_that_stall_return_without_more_latency(rig: Rig, record_property: Any) -> None:
    """After 2 s, with all that was held back, some of it, or nothing, and no sound but theirs."""
    players = band(3)
    absences = {p: Absence(burst) for p, burst in zip(players, (AWAY, 100, 0), strict=True)}
    for player, absence in absences.items():
        player.route = absence

    with take(rig, *players, expected={"starved"}) as performance:
        pids = [rig.counter(player.slot, "pid") for player in players]
        pairs = hears_the_next(rig, players)
        before = performance.play(0.3) - 2 * WINDOW
        for player, absence in absences.items():
            absence.begin = player.steps
        performance.play(0.4)
        woken, starved = [times_woken(pid) for pid in pids], rig.clock("starved")
        performance.play(1.2)
        woken = [times_woken(pid) - times for pid, times in zip(pids, woken, strict=True)]
        rests = rig.clock("starved") == starved
        performance.play(0.4)
        back = rig.now
        end = performance.play(0.5) - 2 * WINDOW
        for player in players:
            rig.set_pair(player.slot, {})

    assert rests
    assert max(woken) <= 1.2 * MAX_WAKEUPS_S
    for source, listener in pairs:
        absence = absences[source]

        def latency(
            at: int,
            source: Player = source,
            listener: Player = listener,
            absence: Absence = absence,
        ) -> int:
            sample = programme_at(performance, listener, source, at)
            return at - (absence.left[sample // FRAMES] * FRAMES + sample % FRAMES)

        change = latency(end - WINDOW) - latency(before)
        silent = wrong_after(performance, listener, source, back, end)
        record_property(f"after_burst_of_{absence.burst}", (change, silent))
        print(f"stalled: latency {change:+} frames, not right for {silent} after its return")
        if absence.burst == AWAY:
            assert change == 0
        assert abs(change) <= PERIOD + FRAMES + MACHINE
        # a burst that does not catch up is told from one that does by what follows
        assert silent <= (ALL_HEARD_AGAIN if 0 < absence.burst < AWAY else HEARD_AGAIN)


@repeat_if_disturbed
def test_a_hub_that_was_stopped_goes_on_without_more_latency(
    rig: Rig, record_property: Any
) -> None:
    """Every process of it, for 300 ms: what came meanwhile is past, no tick is caught up."""
    players = band(3)
    pids = [rig.zygote.pid, *rig.pids.values()]

    with take(rig, *players, expected={"missed", "starved"}) as performance:
        pairs = hears_the_next(rig, players)
        pids += [rig.counter(player.slot, "pid") for player in players]
        before = performance.play(0.3) - 2 * WINDOW
        for pid in set(pids):
            os.kill(pid, signal.SIGSTOP)
        time.sleep(0.3)
        for pid in set(pids):
            os.kill(pid, signal.SIGCONT)
        performance.play(0.02)
        back = rig.now
        end = performance.play(0.5) - 2 * WINDOW
        for player in players:
            rig.set_pair(player.slot, {})

    assert performance.missed * PERIOD >= RATE * 0.25
    for source, listener in pairs:
        lags = [at - programme_at(performance, listener, source, at) for at in (before, end)]
        silent = wrong_after(performance, listener, source, back, end)
        print(f"hub stopped: latency {lags[1] - lags[0]:+} frames, not right for {silent}")
        assert lags[0] == lags[1]
        assert silent <= ALL_HEARD_AGAIN
        stream = performance.heard[listener].stream
        assert stream.numbers == sorted(set(stream.numbers))
        assert np.count_nonzero(~stream.present) == performance.missed * PERIOD
        performance.assert_counters(source, {"restarts": 0, "lost": 0})
