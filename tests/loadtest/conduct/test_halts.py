"""Watching a core: what is late on it, and what is not."""

from __future__ import annotations

import os
import threading
import time

import numpy as np
import pytest

from loadtest.conduct import halts
from loadtest.conduct.halts import HALT, Halts, watching_cores
from loadtest.conduct.outcome import Halted

pytestmark = pytest.mark.alone

CORE = min(os.sched_getaffinity(0))
HELD_NS = 15_000_000


def test_halts_are_those_of_the_time_asked_for_on_any_core() -> None:
    seen = Halts(
        [np.array([(10, 5), (20, 6), (30, 7)], HALT), np.array([(19, 8)], HALT), np.zeros(0, HALT)]
    )

    assert sorted(seen.between(19, 30)) == [6, 8]
    assert Halts().between(0, 1 << 62).size == 0


def test_summary_counts_adds_and_names_the_longest() -> None:
    seen = Halts([np.array([(10, 5_000_000), (20, 1_500_000), (30, 7)], HALT)])

    assert seen.summary(10, 30) is None  # nobody watched
    seen.watched = True
    assert seen.summary(10, 30) == Halted(2, 6.5, 5.0)
    assert seen.summary(40, 50) == Halted(0, 0.0, 0.0)


def test_core_that_is_held_for_a_while_was_halted_for_so_long() -> None:
    """Held by a program that goes before the watcher, as a hypervisor does."""
    held: list[int] = []

    def hold() -> None:
        os.sched_setaffinity(0, {CORE})
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(halts.PRIORITY + 5))
        except OSError:
            return
        until_ns = time.monotonic_ns() + HELD_NS
        held.append(time.monotonic_ns())
        while time.monotonic_ns() < until_ns:
            pass
        held.append(time.monotonic_ns())

    with watching_cores([CORE]) as seen:
        time.sleep(0.05)  # until it watches: who holds the core keeps it from its first look
        thread = threading.Thread(target=hold)
        thread.start()
        thread.join()
        time.sleep(0.01)
    if not held:
        pytest.skip("real-time scheduling is not permitted")

    found = seen.between(held[0] - 2 * halts.STEP_NS, held[1])

    # in pieces, where the machine itself lets the watcher in between
    assert found.sum() >= HELD_NS - 3 * halts.STEP_NS
    assert seen.between(0, held[0] - 10**9).size == 0


def test_nobody_watches_without_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halts, "ask_for_realtime", lambda priority: False)

    with watching_cores([CORE]) as seen:
        time.sleep(0.01)

    assert seen.between(0, 1 << 62).size == 0
