"""Memory and disks, of this very process and machine."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from hub.machine import Machine, process_memory
from shared.arena import create_arena
from tests.hub.listening import directory


def read(machine: Machine) -> dict[tuple[str, ...], float]:
    """By name and labels' values."""
    return {
        (one.name, *labels.pairs.values()): value
        for one in machine.families(directory().hub, [])
        for series in one.series
        for labels, value in zip(series.labels, series.values, strict=True)
    }


@pytest.fixture
def arena_fd() -> int:
    fd, arena = create_arena(slots=4, rate_hz=48000, period_frames=128)
    arena.packets[2][:50_000] = 1
    return fd


def test_memory_of_a_process_is_what_the_kernel_says() -> None:
    private, shared = process_memory(os.getpid())
    assert private > 1 << 20
    assert shared > 1 << 20


def test_a_process_that_is_gone_has_none() -> None:
    assert process_memory(2**22 + 1) == (0, 0)


def test_the_arena_uses_what_was_touched(arena_fd: int) -> None:
    found = read(Machine(arena_fd))
    assert found["arena_bytes", "size"] == os.fstat(arena_fd).st_size
    assert 50_000 <= found["arena_bytes", "used"] < found["arena_bytes", "size"] / 4
    os.close(arena_fd)


def test_room_is_told_of_directories_that_are_there(arena_fd: int, tmp_path: Path) -> None:
    found = read(Machine(arena_fd, [tmp_path, tmp_path, tmp_path / "missing"]))
    where = str(tmp_path)
    assert found["disk_size_bytes", where] == shutil.disk_usage(tmp_path).total
    assert 0 < found["disk_free_bytes", where] <= found["disk_size_bytes", where]
    assert not any("missing" in "".join(key) for key in found)
    os.close(arena_fd)
