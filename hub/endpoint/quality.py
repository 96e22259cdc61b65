"""How good a connection is, once a second: what a musician has to know, in one line.

    lost 0 · late 2 · filled in 5.3 ms · waits 8.0 ms · drift +12.4 ppm · received 375/s

Losses and gaps are counted since the connection began; how long sound waits is the queue now.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hub.outlet import Outlet
from hub.snapshot import buffered_frames, drift_known, play_position
from shared.arena import Arena
from shared.layout import EndpointSlot

_SEPARATOR = " · "
DEFAULT_COLUMNS = 80


@dataclass(frozen=True, slots=True)
class Quality:
    """A connection's numbers.

    Attributes:
        received_per_s: packets.
        lost, late, repaired: packets since it began; lost ones that redundancy brought back are
            repaired, not lost.
        concealed_ms: sound that was filled in.
        waits_ms: from a packet's coming to its being played, the queue.
        drift_ppm: of the other side's clock against ours; None: not known yet.
        sent: packets.
        not_sent: that the machine's network refused.
        missed: as ``missed_periods``.
        xruns: JACK's, of all its clients, since it was found.
    """

    received_per_s: float
    lost: int
    late: int
    repaired: int
    concealed_ms: float
    waits_ms: float
    drift_ppm: float | None
    sent: int
    not_sent: int
    missed: int
    xruns: int = 0

    def line(self, columns: int | None = None) -> str:
        """In one line; what has no room is left out, the least important first."""
        parts = [f"lost {self.lost}", f"late {self.late}"]
        parts.append(f"filled in {self.concealed_ms:.1f} ms")
        parts.append(f"waits {self.waits_ms:.1f} ms")
        if self.xruns:
            parts.append(f"xruns {self.xruns}")
        if self.missed:
            parts.append(f"missed {self.missed}")
        if self.not_sent:
            parts.append(f"not sent {self.not_sent}")
        if self.repaired:
            parts.append(f"repaired {self.repaired}")
        if self.drift_ppm is not None:
            parts.append(f"drift {self.drift_ppm:+.1f} ppm")
        parts.append(f"received {self.received_per_s:.0f}/s")
        while columns is not None and len(parts) > 1 and len(_SEPARATOR.join(parts)) > columns:
            parts.pop()
        return _SEPARATOR.join(parts)

    def fields(self) -> dict[str, Any]:
        """For the log; what is not known is left out."""
        drift = {} if self.drift_ppm is None else {"drift_ppm": round(self.drift_ppm, 1)}
        return {
            "received_per_s": round(self.received_per_s),
            "lost": self.lost,
            "late": self.late,
            "repaired": self.repaired,
            "concealed_ms": round(self.concealed_ms, 1),
            "waits_ms": round(self.waits_ms, 1),
            **drift,
            "sent": self.sent,
            "not_sent": self.not_sent,
            "missed": self.missed,
            **({"xruns": self.xruns} if self.xruns else {}),
        }


class Gauge:
    """Reads a connection's quality from its arena; speeds are those since it was last read."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._before: tuple[int, float, int] = (0, 0.0, 0)  # session, when, packets

    def read(self, now: float) -> Quality:
        """Its numbers; now is CLOCK_MONOTONIC in seconds."""
        arena = self._arena
        rx, tx = _record(arena.rx[EndpointSlot.PEER]), _record(arena.tx[EndpointSlot.STREAM])
        rate_hz = int(arena.header[0]["rate_hz"])
        session, since, packets = self._before
        speed = 0.0
        if session == rx["session"] and now > since:
            speed = (rx["packets"] - packets) / (now - since)
        self._before = (rx["session"], now, rx["packets"])
        known = bool(drift_known(rx))
        frame_ms = 1000 * rx["span"] / max(rx["frames"], 1) / rate_hz
        queued = max(0.0, float(buffered_frames(rx, play_position(arena))))
        return Quality(
            received_per_s=speed,
            lost=rx["lost"],
            late=rx["late"],
            repaired=rx["repaired"],
            concealed_ms=rx["concealed_frames"] * frame_ms,
            waits_ms=1000 * queued / rate_hz,
            drift_ppm=rx["clock_ratio"] * 1e6 if known else None,
            sent=tx["packets"],
            not_sent=tx["errors"],
            missed=missed_periods(arena),
            xruns=int(arena.jack[0]["xruns"]),
        )


def missed_periods(arena: Arena) -> int:
    """Periods that this machine came too late for: the mixer, or what JACK or a card calls."""
    jack = arena.jack[0]
    return int(arena.clock[0]["missed"] + jack["lost"] + jack["resyncs"] + jack["gaps"])


def _record(row: Any) -> Mapping[str, Any]:
    """A record as Python's own numbers."""
    return dict(zip(row.dtype.names, row.tolist(), strict=True))


class Ticker:
    """A terminal's last line, renewed in place; log lines go above it.

    It is the log's stream, so that the two never write into each other.

    Args:
        columns: of the terminal now.
    """

    def __init__(self, outlet: Outlet, columns: Callable[[], int] | None = None) -> None:
        self._outlet = outlet
        self._columns = columns or terminal_columns
        self._line = ""

    def isatty(self) -> bool:
        return self._outlet.isatty()

    def write(self, text: str) -> None:
        """A line of the log."""
        self._outlet.write(f"\r\x1b[K{text}{self._line}" if self._line else text)

    def flush(self) -> None:
        self._outlet.flush()

    def show(self, clock: str, quality: Quality) -> None:
        """Renew the last line, as much of it as a line holds: a longer one would scroll."""
        line = f"{clock} {quality.line(self._columns() - len(clock) - 2)}"
        self._line = line
        self._outlet.write(f"\r\x1b[K{line}")

    def end(self) -> None:
        """Leave the last line where it is."""
        if self._line:
            self._line = ""
            self._outlet.write("\n")


def terminal_columns() -> int:
    """Of the terminal that stderr is; 80 where it does not say."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or DEFAULT_COLUMNS
    except (OSError, ValueError):
        return DEFAULT_COLUMNS


def way_to_show(wanted: str, terminal: bool) -> str:
    """'line', 'log' or 'off': what ``--quality`` means here."""
    if wanted != "auto":
        return wanted
    return "line" if terminal else "log"
