"""Which loops a hub has compiled, and when. What they are is not looked at."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.arena import Arena
from workers import warm


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[tuple[str, bool]]]:
    """Each loop that was run since the last time, and whether by a child."""
    here, notes = os.getpid(), tmp_path / "notes"

    def loop(name: str) -> Callable[[Arena, int], None]:
        def run(arena: Arena, life: int) -> None:
            assert arena.control[0]["stop"] == 1
            with notes.open("a") as file:
                file.write(f"{name} {os.getpid() != here}\n")

        return run

    def read() -> list[tuple[str, bool]]:
        lines = notes.read_text().splitlines()
        notes.unlink()
        return sorted((name, child == "True") for name, child in map(str.split, lines))

    monkeypatch.setattr(warm, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(warm, "_LOOPS", {name: loop(name) for name in warm._LOOPS})
    return read


def test_a_hub_waits_for_no_loop_that_it_does_not_need(
    ran: Callable[[], list[tuple[str, bool]]],
) -> None:
    warm.warm_up(lanes=False, jack=False)
    cold = ran()
    warm.warm_up(lanes=False, jack=False)
    assert cold == [("mixer", False), ("mixer", True), ("receiver", False), ("receiver", True)]
    assert ran() == [("mixer", False), ("receiver", False)]


def test_what_is_there_already_is_only_loaded(ran: Callable[[], list[tuple[str, bool]]]) -> None:
    warm.warm_up(lanes=True, jack=False)
    ran()
    warm.warm_up()
    assert [name for name, child in ran() if child] == ["jack"]


def test_a_loop_that_cannot_be_compiled_is_named_and_tried_again(
    ran: Callable[[], list[tuple[str, bool]]],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def fails(arena: Arena, life: int) -> None:
        raise ValueError("no such kernel")

    with monkeypatch.context() as patch:
        patch.setitem(warm._LOOPS, "transmit-lanes", fails)
        with pytest.raises(RuntimeError, match="mixer and transmit-lanes"):
            warm.warm_up()
    assert "no such kernel" in capfd.readouterr().err
    ran()
    warm.warm_up()
    assert len([name for name, child in ran() if child]) == 4
