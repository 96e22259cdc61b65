"""The arena: made, attached, refused; no name, no trace."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from shared import layout
from shared.arena import Arena, ArenaError, attach_arena, create_arena


@pytest.fixture
def made() -> Iterator[tuple[int, Arena]]:
    fd, arena = create_arena(
        slots=5, rate_hz=44100, period_frames=100, lanes=2, upmix=True, guard_ns=123
    )
    yield fd, arena
    os.close(fd)


def test_header_says_what_it_is(made: tuple[int, Arena]) -> None:
    fd, arena = made
    header = arena.header[0]
    assert header["magic"] == int.from_bytes(b"tuttihub", "big")
    assert header["layout_version"] == layout.LAYOUT_VERSION
    assert header["bytes"] == os.fstat(fd).st_size
    assert (header["slots"], header["rate_hz"], header["period_frames"]) == (5, 44100, 100)
    assert (header["lanes"], header["upmix"], header["guard_ns"]) == (2, 1, 123)
    assert header["rate_code"] == 2
    assert header["pid"] == os.getpid()


def test_begins_with_nothing_but_unity_gains(made: tuple[int, Arena]) -> None:
    _, arena = made
    assert np.all(arena.slots["gain"] == 1.0)
    assert arena.clock[0]["tick"] == -1
    assert np.all(arena.rx["state"] == layout.RxState.IDLE)
    for name, view in arena._asdict().items():
        if view.dtype.names is None and name != "rings":
            assert not view.any(), name


def test_views_have_the_shapes_of_the_layout(made: tuple[int, Arena]) -> None:
    _, arena = made
    for name, (_, dtype, shape) in layout.sections(5, 100).items():
        if name != "end":
            view = getattr(arena, name)
            assert (view.dtype, view.shape) == (dtype, shape)
            assert view.flags.c_contiguous
            assert view.ctypes.data % layout.PAGE == 0


def test_attached_arena_is_the_same_memory(made: tuple[int, Arena]) -> None:
    fd, arena = made
    other = attach_arena(fd)
    arena.rx[3]["watermark"] = 77
    other.rings[2, 15, -1] = 0.5
    assert other.rx[3]["watermark"] == 77
    assert arena.rings[2, 15, -1] == 0.5


def test_another_process_sees_it(made: tuple[int, Arena]) -> None:
    fd, arena = made
    pid = os.fork()
    if pid == 0:
        attach_arena(fd).clock[0]["ticks"] = 42
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert arena.clock[0]["ticks"] == 42


def test_size_is_sealed(made: tuple[int, Arena]) -> None:
    """Nobody can make a worker meet SIGBUS."""
    fd, _ = made
    for size in (0, 1 << 40):
        with pytest.raises(PermissionError):
            os.ftruncate(fd, size)


def test_descriptor_is_not_inherited_by_accident_and_leaves_no_name(
    made: tuple[int, Arena],
) -> None:
    fd, _ = made
    assert not os.get_inheritable(fd)
    assert os.readlink(f"/proc/self/fd/{fd}").startswith("/memfd:")


def test_full_house_costs_nothing_until_it_is_used() -> None:
    fd, arena = create_arena(slots=1024, rate_hz=48000, period_frames=128)
    try:
        assert arena.header[0]["bytes"] > 1 << 32
        touched = os.fstat(fd).st_blocks * 512
        assert touched < 1 << 20
    finally:
        os.close(fd)


def test_refuses_what_is_no_arena(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content, text in ((b"short", "too short"), (bytes(8192), "magic 0x0")):
        path.write_bytes(content)
        with path.open("rb") as file, pytest.raises(ArenaError, match=text):
            attach_arena(file.fileno())


def test_refuses_another_layout_and_another_size(made: tuple[int, Arena]) -> None:
    fd, arena = made
    arena.header[0]["layout_version"] += 1
    with pytest.raises(ArenaError, match="layout version"):
        attach_arena(fd)
    arena.header[0]["layout_version"] -= 1
    arena.header[0]["bytes"] -= 1
    with pytest.raises(ArenaError, match="size"):
        attach_arena(fd)


def test_refuses_a_descriptor_that_is_none() -> None:
    with pytest.raises(ArenaError, match="cannot be read"):
        attach_arena(-1)
