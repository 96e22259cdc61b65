"""Reads how much of each resource is in use, once a second."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from hub.directory import Directory
from hub.overload.cores import Cores
from hub.overload.line import card_mbps, needed_bps
from hub.overload.realtime import HALF
from hub.overload.resources import Readings
from hub.sessions import Session
from hub.snapshot import lanes_in_use, quantile_ns
from shared.arena import Arena
from shared.layout import RxState

SHARE = 0.99
"""Of the ticks that are within a reading."""


class Gauges:
    """What of the arena and the kernel tells how busy a hub is.

    Args:
        arena, directory: only read.
        cores: of the audio processes.
        line_mbit: as ``--line-speed``.

    Attributes:
        line_bps: bandwidth, None where it is not known.
        realtime_used: of what real-time processes may have of a core, what the hub's used of the
            busiest, in the last reading; 0 where there is no limit.
        realtime_paused: readings in which the kernel has paused them.
    """

    def __init__(
        self, arena: Arena, directory: Directory, cores: Cores, line_mbit: int | str | None
    ) -> None:
        self._arena, self._directory, self._cores = arena, directory, cores
        self._everybody = line_mbit != "auto"
        mbit = card_mbps() if line_mbit == "auto" else line_mbit
        self.line_bps = None if mbit is None else 1e6 * float(mbit)
        header = arena.header[0]
        self._period_ns = int(header["period_frames"]) * 1e9 / int(header["rate_hz"])
        self._lanes = [lane for lane in lanes_in_use(arena) if lane > 0]
        self._seen = self._counters()
        self._seen_s: float | None = None
        self.realtime_used, self.realtime_paused = 0.0, 0

    def read(self, present: Sequence[Session], now_s: float) -> Readings:
        """Shares since the last call."""
        before, self._seen = self._seen, self._counters()
        passed_s = now_s - (self._seen_s if self._seen_s is not None else now_s)
        self._seen_s = now_s
        grown = {name: self._seen[name] - before[name] for name in before}
        works = [row for row in np.maximum(grown["work"], 0).tolist() if sum(row) > 0]
        ticks = np.maximum(grown["ticks"], 1)
        used_s = self._cores.used_s(self._pids())
        given_s = self._cores.given_s(passed_s)
        paused = self._look_at_limit(passed_s, int(grown["missed"].max()))
        late = grown["lateness"].tolist()
        lateness = quantile_ns(late, SHARE) / self._period_ns if sum(late) > 0 else 0.0
        missed = (grown["missed"] > (1.0 - SHARE) * (grown["ticks"] + grown["missed"])).any()
        return Readings(
            work=max((quantile_ns(row, SHARE) for row in works), default=0.0) / self._period_ns,
            mean_work=max(float((grown["work_ns"] / ticks).max()), 0.0) / self._period_ns,
            lateness=max(lateness, 1.0) if missed else lateness,
            cpu=used_s / given_s if given_s > 0.0 else 0.0,
            throttled=float(self._cores.throttled() or paused),
            line=self._line(present),
        )

    def _look_at_limit(self, passed_s: float, missed: int) -> bool:
        """Whether the kernel has paused real-time processes."""
        limit = self._cores.limit
        if limit is None or passed_s <= 0.0:
            return False
        allowed_s = limit.share * passed_s
        self.realtime_used = self._cores.busiest_s(HALF * allowed_s) / allowed_s
        paused = limit.paused(self.realtime_used, missed, self._period_ns / 1e9)
        self.realtime_paused += paused
        return paused

    @property
    def realtime_limit(self) -> float | None:
        """Share of a core that real-time processes may have, or None."""
        return None if self._cores.limit is None else self._cores.limit.share

    def _counters(self) -> dict[str, npt.NDArray[np.int64]]:
        """Of the mixer and each separate lane."""
        clock, lanes = self._arena.clock, self._arena.lanes[self._lanes]
        found = {
            name: np.concatenate([clock[name], lanes[name]])
            for name in ("work", "work_ns", "ticks", "missed")
        }
        return {**found, "lateness": np.array(clock["lateness"][0])}

    def _pids(self) -> Iterable[int]:
        """Of the processes that audio passes; a JACK bridge waits on others."""
        hub = self._directory.hub
        found = [hub.mixer_pid, *hub.lane_pids]
        found += [client.receiver_pid for client in self._directory.listed()]
        return {pid for pid in found if pid is not None}

    def _line(self, present: Sequence[Session]) -> float:
        if self.line_bps is None:
            return 0.0
        slots = [
            session.slot
            for session in present
            if session.active and (self._everybody or not session.address.is_loopback)
        ]
        rx = self._arena.rx[slots]
        return max(needed_bps(rx[rx["state"] == RxState.ACTIVE])) / self.line_bps
