"""Statistics in JackTrip's words, for scripts that read those of ``jacktrip -S -I``.

Every so many seconds one line a client, all but the level counted since its first line::

    2026-11-22T04:55:28 192.0.2.7 send: 0/0 recv: 0/0 prot: 14/3/14 tot: 1393 \
sync: 4/0/0/0/0 skew: 0/0 bcast: 0/0 autoq: 2/0

========  =============================================================================
send      packets to the client that missed ticks have cost / that the kernel refused
recv      packets' worth of its sound filled in / skipped to shorten the queue
prot      packets lost, those that redundancy brought back included / that came behind
          a later one or again / brought back by redundancy
tot       packets that should have come
sync      its queue now / lengthened in gaps / changed by gliding / shortened by skipping /
          shortened by losses (never); all in packets
skew      packets that its clock lost (gained: negative), measured / plainly counted
bcast     of JackTrip's broadcast ports, which this hub has not: 0/0
autoq     packets of queue that it needs / always 0: nothing adapts step by step here
========  =============================================================================
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import structlog

from hub.log import log_limited
from hub.outlet import Outlet
from hub.sessions import Session
from hub.snapshot import BUFFER_FIELDS, buffered_frames, play_position
from shared.arena import Arena
from shared.layout import RxState

log = structlog.get_logger()


RX_FIELDS = (
    "session", "state", "frames", "span", "packets", "lost", "repaired", "reordered", "duplicates",
    "concealed_frames", "overflow_frames", "grown_frames", "glided_frames", "highest",
    "clock_moved", "late_wanted",
)  # fmt: skip


class IostatError(RuntimeError):
    """The file that the lines are to go to cannot be written."""


@dataclass(frozen=True, slots=True)
class Marks:
    """Where the clocks stood when a client was told of first.

    Attributes:
        missed: ticks that the hub had missed.
        tick: the hub's.
        highest: number of the client's newest packet.
        moved: frames that its clock had gone beyond the hub's.
    """

    missed: int
    tick: int
    highest: int
    moved: float

    @classmethod
    def now(cls, rx: Any, clock: Any) -> Marks:
        return cls(
            int(clock["missed"]), int(clock["tick"]), int(rx["highest"]), float(rx["clock_moved"])
        )


def statistics_line(
    local_s: float, address: str, rx: Any, tx: Any, clock: Any, marks: Marks, queued: float
) -> str:
    """One line of JackTrip's.

    Args:
        local_s: when, seconds since 1970; told in local time.
        rx, tx: the client's records, or dicts of numbers; it has been heard.
        clock: the hub's, with ``period_frames`` in it.
        queued: hub frames in the client's queue.
    """
    frames, span = float(rx["frames"]), float(rx["span"])
    now, packets_a_tick = Marks.now(rx, clock), clock["period_frames"] / span
    skipped = rx["overflow_frames"] / span
    numbered = now.highest - marks.highest
    parts = {
        "send": ((now.missed - marks.missed) * packets_a_tick, tx["errors"]),
        "recv": (rx["concealed_frames"] / frames, skipped),
        "prot": (
            rx["lost"] + rx["repaired"],
            rx["reordered"] + rx["duplicates"],
            rx["repaired"],
        ),
        "tot": (rx["packets"] + rx["lost"],),
        "sync": (
            max(0.0, queued) / span,
            rx["grown_frames"] / span,
            rx["glided_frames"] / span,
            skipped,
            0,
        ),
        "skew": (
            (marks.moved - now.moved) / span,
            (now.tick - marks.tick) * packets_a_tick - numbered,
        ),
        "bcast": (0, 0),
    }
    told = " ".join(f"{name}: {'/'.join(map(_whole, values))}" for name, values in parts.items())
    needed = round((float(rx["late_wanted"]) + span) / span, 1)
    when = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(local_s))
    return f"{when} {address} {told} autoq: {needed:g}/0"


def _whole(number: float) -> str:
    return str(round(number))


class Iostat:
    """Writes the lines of all clients when it is told to.

    Args:
        path: appended to; None: stdout.

    Raises:
        IostatError: the file cannot be opened.
    """

    def __init__(self, arena: Arena, path: Path | None = None) -> None:
        self._arena = arena
        try:
            self._file: TextIO | None = path.open("a") if path else None
        except OSError as error:
            raise IostatError(
                f"--iostatlog: {str(path)!r} cannot be written ({error.strerror}); "
                "name a file in a directory that the hub may write to"
            ) from None
        self._outlet = Outlet(
            self._file or sys.stdout,
            lambda lines: log.warning("iostat lines lost: nobody reads them", lines=lines),
            lambda error: log_limited(
                log.warning, "iostat cannot be written", per_s=0.1, why=str(error)
            ),
        )
        self._marks: dict[int, Marks] = {}  # by session

    def tell(self, present: Sequence[Session], local_s: float) -> None:
        """One line for each client that is heard."""
        lines, marks, arena = [], {}, self._arena
        clock = {name: int(arena.clock[0][name]) for name in ("missed", "tick")}
        clock["period_frames"] = int(arena.header[0]["period_frames"])
        play = play_position(arena)
        slots = [session.slot for session in present]
        # at once: a record's fields one by one cost ten times as much
        records = arena.rx[list(RX_FIELDS)][slots].tolist()
        errors = arena.tx["errors"][slots].tolist()
        queues = buffered_frames(arena.rx[list(BUFFER_FIELDS)][slots], play).tolist()
        for session, values, sent, queued in zip(present, records, errors, queues, strict=True):
            rx, tx = dict(zip(RX_FIELDS, values, strict=True)), {"errors": sent}
            if rx["session"] != session.number or rx["state"] != RxState.ACTIVE:
                continue
            since = self._marks.get(session.number) or Marks.now(rx, clock)
            marks[session.number] = since
            lines.append(
                statistics_line(local_s, str(session.address), rx, tx, clock, since, queued)
            )
        self._marks = marks
        if lines:  # at once: who follows it sees whole lines
            self._outlet.write("".join(f"{line}\n" for line in lines))

    def close(self) -> None:
        if self._outlet.close() and self._file is not None:
            self._file.close()
