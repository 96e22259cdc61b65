"""Ready is who ticks and lets clients in."""

from __future__ import annotations

import numpy as np
import pytest

from hub.directory import HubInfo
from hub.load import SPAN, Load
from hub.readiness import why_not_ready
from shared.arena import Arena
from tests.hub.listening import directory, make_arena

SECOND = 10**9


@pytest.fixture
def arena() -> Arena:
    """375 ticks a second, the newest one 750: two seconds after the first."""
    arena = make_arena(lanes=2)
    arena.header[0]["t0_ns"] = 5 * SECOND
    arena.clock[0]["ticks"] = arena.clock[0]["tick"] = 750
    return arena


@pytest.fixture
def hub() -> HubInfo:
    hub = directory().hub
    hub.ready = True
    return hub


def test_a_hub_that_ticks_is_ready(arena: Arena, hub: HubInfo) -> None:
    assert why_not_ready(arena, hub, 7 * SECOND + SECOND // 100) is None


def test_a_hub_whose_ticks_stand_still_is_not(arena: Arena, hub: HubInfo) -> None:
    assert why_not_ready(arena, hub, 9 * SECOND) == "the mixer has not ticked for 2.0 s"


def test_nor_one_whose_supervisor_hangs(arena: Arena, hub: HubInfo) -> None:
    hub.turned_s = 7.0
    assert why_not_ready(arena, hub, 7 * SECOND) is None
    hub.turned_s = 3.5
    assert why_not_ready(arena, hub, 7 * SECOND) == "the supervisor hangs since 3.5 s"


def test_nor_one_that_has_not_begun_or_is_about_to_end(arena: Arena, hub: HubInfo) -> None:
    hub.ready = False
    assert why_not_ready(arena, hub, 7 * SECOND) == "the hub is starting"
    hub.ready, arena.clock[0]["ticks"] = True, 0
    assert why_not_ready(arena, hub, 7 * SECOND) == "the hub is starting"
    arena.control[0]["stop"] = 1
    assert why_not_ready(arena, hub, 7 * SECOND) == "the hub is stopping"


def test_load_is_the_worst_ticks_of_the_busiest_process() -> None:
    arena = make_arena(lanes=2)
    arena.lanes[2]["work"][13] = 10**6  # long ago
    load = Load(arena)
    assert load.look() == 0.0
    arena.clock[0]["work"][1] += 1000  # 25..50 µs of 2667
    assert 25 / 2667 < load.look() <= 50 / 2667
    arena.lanes[1]["work"][6] += 1000  # 800..1600 µs
    arena.lanes[2]["work"][9] += 5  # 6..13 ms, too rarely to count
    arena.lanes[2]["work"][0] += 995
    assert 0.59 < load.look() <= 0.6
    for _ in range(SPAN):
        last = load.look()
    assert last == 0.0
    assert np.all(arena.clock[0]["work"] >= 0)
