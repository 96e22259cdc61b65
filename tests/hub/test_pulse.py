"""Who notices a receiver that lives but does not go on."""

from __future__ import annotations

import numpy as np
import pytest

from hub.pulse import LOOK_S, STUCK_S, Pulse
from hub.staff import Staff
from shared.arena import Arena, create_arena
from shared.layout import RxState
from tests.hub.listening import directory

HERE, STILL, ENDED, FREE = range(4)
NOBODY = Staff(-1, -1, {}, 0, directory(), lambda fact: None)


@pytest.fixture
def arena() -> Arena:
    _, arena = create_arena(slots=8, rate_hz=48000, period_frames=128)
    arena.control[0]["slots_high"] = 4
    arena.slots["session"][:4] = (11, 12, 13, 0)
    arena.rx["state"][:4] = (RxState.ACTIVE, RxState.KNOCKING, RxState.ENDED, RxState.IDLE)
    return arena


def looks(pulse: Pulse, arena: Arena, began_s: float, lasting_s: float, step_s: float) -> list[int]:
    """What was found, all looks together, while slot HERE is looked after."""
    found = []
    for now in np.arange(began_s, began_s + lasting_s, step_s):
        arena.rx["looked_ns"][HERE] += 1
        found += pulse.still(float(now))
    return found


@pytest.mark.parametrize("step_s", [0.005, 0.05])
def test_who_is_not_looked_after_for_long_is_found(arena: Arena, step_s: float) -> None:
    pulse = Pulse(arena, NOBODY)
    assert looks(pulse, arena, 5.0, STUCK_S - 2 * LOOK_S, step_s) == []
    assert set(looks(pulse, arena, 5.0 + STUCK_S, 4 * LOOK_S, step_s)) == {12}
    arena.rx["looked_ns"][STILL] += 1
    assert looks(pulse, arena, 6.0 + STUCK_S, STUCK_S - 4 * LOOK_S, step_s) == []


def test_a_newcomer_in_a_slot_that_was_still_has_all_its_time(arena: Arena) -> None:
    pulse = Pulse(arena, NOBODY)
    assert looks(pulse, arena, 5.0, 2 * STUCK_S, 0.05)
    arena.slots["session"][STILL] = 20
    arena.slots["session"][FREE] = 21
    assert looks(pulse, arena, 5.0 + 2 * STUCK_S, STUCK_S - 4 * LOOK_S, 0.05) == []
    assert set(looks(pulse, arena, 10.0 + 3 * STUCK_S, STUCK_S, 0.05)) == {20, 21}


def test_a_machine_that_slept_is_nobodys_fault(arena: Arena) -> None:
    """What did not go on meanwhile has not had the time to."""
    pulse = Pulse(arena, NOBODY)
    assert looks(pulse, arena, 5.0, 1.0, 0.05) == []
    assert looks(pulse, arena, 100.0, STUCK_S - 1.5, 0.05) == []
