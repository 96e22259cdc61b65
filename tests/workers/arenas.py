"""Arenas for tests of kernels: in-process, at synthetic times."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from shared.arena import Arena, create_arena
from workers import rates
from workers.filters import filters_into

T0_NS = 5_000_000_123
"""CLOCK_MONOTONIC of tick 0 in these arenas: long past, so that nobody waits; odd, so that
rounding shows.
"""
GUARD_NS = 300_000


@contextmanager
def arena_of(
    *,
    slots: int = 1,
    period: int = 128,
    rate_hz: int = 48000,
    lanes: int = 0,
    upmix: bool = False,
) -> Iterator[Arena]:
    """A fresh arena whose tick 0 is at T0_NS."""
    fd, arena = create_arena(
        slots=slots,
        rate_hz=rate_hz,
        period_frames=period,
        lanes=lanes,
        upmix=upmix,
        guard_ns=GUARD_NS,
    )
    os.close(fd)  # the mapping stays as long as the views
    arena.header[0]["t0_ns"] = T0_NS
    arena.control[0]["slots_high"] = slots
    yield arena


def sending(arena: Arena, frames: int, rate_hz: int = 0) -> None:
    """The first client sends packets of so many frames, at the hub's rate or at another."""
    header, rx = arena.header[0], arena.rx[0]
    rx["frames"] = frames
    hub_hz = int(header["rate_hz"])
    rates.adopt(header, rx, filters_into(hub_hz), rate_hz or hub_hz)


def record(view: Any) -> dict[str, Any]:
    """A record of an arena as plain numbers."""
    return {
        name: view[name].tolist() if view[name].shape else view[name].item()
        for name in view.dtype.names
    }
