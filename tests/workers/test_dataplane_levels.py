"""The guard on the whole data plane: who sends noise is turned off and on again, unclicked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shared.limits import GuardMode, Noticed
from tests.workers.players import Player, noise
from tests.workers.rig import Rig
from tests.workers.takes import repeat_if_disturbed, take

pytestmark = pytest.mark.living


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.stop()


@repeat_if_disturbed
def test_noise_is_muted_and_bit_exact_again_when_it_is_released(rig: Rig) -> None:
    rig.arena.header[0]["level_guard"] = GuardMode.MUTE
    loud, listener = (
        Player(noise(128 * 60, seed=2, level=0.99)),
        Player(noise(128 * 59, level=0.005)),
    )
    quiet = {listener: 1.0}

    with take(rig, loud, listener) as performance:
        before = performance.play(0.2)
        performance.play(3.0)
        muted = performance.play(0.6)
        assert rig.counter(loud.slot, "guard") == Noticed.NOISE
        rig.arena.slots[loud.slot]["guard_released"] = rig.arena.slots[loud.slot]["session"]
        still = rig.now
        back = performance.play(0.5)
        end = performance.play(0.2)
        assert rig.counter(loud.slot, "guard") == Noticed.QUIET

    first = performance.span(loud, listener)[0]
    performance.assert_hears(listener, quiet | {loud: 1.0}, first, before)
    performance.assert_hears(listener, quiet, muted - 4800, min(muted, still) - 256, 0)
    performance.assert_hears(listener, quiet | {loud: 1.0}, back, end - 256, 0)
