"""Watches for moments in which a machine stands still: a hypervisor that gives its cores away.

A thread on each watched core, of a higher priority than any hub's, wakes every millisecond and
asks the clock by how much that was late. Nothing but the kernel itself goes before it, so what it
lacks no program on that core had. Only a part of it is booked as steal in /proc/stat: a host that
stops a virtual core for maintenance, or takes away its timer, tells nobody.

It costs some thousandths of the core, and delays what runs there by microseconds.

::

    WATCH  stop  count            log  HALT [LOG], the first halts
           |     `--- halts seen, in the log or not
           `--------- set by us, read by the thread
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from loadtest.conduct.outcome import Halted
from loadtest.conduct.realtime import ask_for_realtime
from shared.atomics import load_acquire, store_release
from shared.kernels import kernel
from shared.libc import CLOCK_MONOTONIC, clock_ns, sleep_until

PRIORITY = 90
"""SCHED_FIFO: above a hub's audio, JACK's, and the generator's."""
STEP_NS = 1_000_000
HALT_NS = 1_000_000
"""Late by so much is a halt."""
LOG = 8192
WATCH = np.dtype([("stop", np.int64), ("count", np.int64)], align=True)
HALT = np.dtype([("at_ns", np.int64), ("late_ns", np.int64)], align=True)
"""When a wake-up was due (CLOCK_MONOTONIC), and how much later it came."""

_STEP_NS, _HALT_NS = STEP_NS, HALT_NS


@kernel
def stand_watch(watch, log, timespec):
    """Wake every step until told to stop, and note each time that this was late."""
    due_ns = clock_ns(CLOCK_MONOTONIC, timespec)
    while load_acquire(watch, "stop") == 0:
        due_ns += _STEP_NS
        sleep_until(due_ns, timespec)
        now_ns = clock_ns(CLOCK_MONOTONIC, timespec)
        if now_ns - due_ns >= _HALT_NS:
            if watch.count < log.size:
                log[watch.count].at_ns = due_ns
                log[watch.count].late_ns = now_ns - due_ns
            store_release(watch, "count", watch.count + 1)
            due_ns = now_ns


@dataclass(slots=True)
class Halts:
    """What was seen of some cores; empty where nobody could watch.

    Attributes:
        logs: of each core, (halts,) HALT in order of time.
        watched: whether all of them could be watched; known after the block.
    """

    logs: list[npt.NDArray[Any]] = field(default_factory=list)
    watched: bool = False

    def summary(self, from_ns: int, until_ns: int) -> Halted | None:
        """The same in short; None: nobody watched."""
        found_ms = self.between(from_ns, until_ns) / 1e6
        if not self.watched:
            return None
        longest_ms = round(float(found_ms.max(initial=0.0)), 3)
        return Halted(len(found_ms), round(float(found_ms.sum()), 3), longest_ms)

    def between(self, from_ns: int, until_ns: int) -> npt.NDArray[np.int64]:
        """(halts,) lengths in ns of all that began between two times, on whichever core."""
        chosen = [
            log["late_ns"][(log["at_ns"] >= from_ns) & (log["at_ns"] < until_ns)]
            for log in self.logs
        ]
        return np.concatenate(chosen) if chosen else np.zeros(0, np.int64)


@contextlib.contextmanager
def watching_cores(cores: Iterable[int]) -> Iterator[Halts]:
    """Watch cores during the block; what was seen is there after it.

    Where real-time scheduling is not permitted nobody watches: who is late there may have had to
    wait for another program.
    """
    seen = Halts()
    posts = [(np.zeros(1, WATCH), np.zeros(LOG, HALT)) for _ in set(cores)]
    warmed = np.zeros(1, WATCH)
    warmed["stop"] = 1
    stand_watch(warmed[0], np.zeros(LOG, HALT), np.zeros(2, np.int64))  # compiles

    permitted: list[int] = []
    at_posts = threading.Barrier(len(posts) + 1)

    def work(core: int, watch: npt.NDArray[Any], log: npt.NDArray[Any]) -> None:
        allowed = False
        try:
            os.sched_setaffinity(0, {core})
            allowed = ask_for_realtime(PRIORITY)
        finally:
            at_posts.wait()
        if allowed:
            permitted.append(core)
            stand_watch(watch[0], log, np.zeros(2, np.int64))

    threads = [
        threading.Thread(target=work, args=(core, *post), name="halts", daemon=True)
        for core, post in zip(sorted(set(cores)), posts, strict=True)
    ]
    for thread in threads:
        thread.start()
    at_posts.wait()  # what happens before they watch nobody sees
    try:
        yield seen
    finally:
        for watch, _ in posts:
            watch["stop"] = 1
        for thread in threads:
            thread.join()
        seen.watched = len(permitted) == len(threads) > 0
        seen.logs = [log[: int(watch["count"][0])] for watch, log in posts]
