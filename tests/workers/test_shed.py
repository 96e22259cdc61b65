"""What kernels leave out under load: the sound is the same, and nothing clicks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.layout import Concealed, PatchMode, Shed, Underrun
from tests.workers.desk import desk_of, noise
from tests.workers.networks import Network, ended, formats, lossy, packets_for, through
from tests.workers.streams import Format, model_orders, plain, take, tone
from tests.workers.streams import noise as stream_noise
from tests.workers.verdicts import loudest_step
from workers.gaps import SMALL_ORDER

METERS, ORDERS = int(Shed.METERS), int(Shed.ORDERS)
LEVELS = ("windows", "peak", "rms", "window_peak", "window_frames", "silent_windows", "sounding")
TRACES = {
    *LEVELS, "shed", "window_squares", "channel_peaks", "channel_squares", "channel_sums",
    "window_sounding", "faint_windows", "full_windows", "guard_run", "guard_calm", "guard_rms",
    "offset_frames", "offset_sums",
}  # fmt: skip
"""Fields that meters write."""


@settings(max_examples=25)
@given(formats(), lossy)
def test_without_meters_everything_else_is_the_same(fmt: Format, network: Network) -> None:
    events = ended(through(network, fmt, packets_for(fmt, 6000)), fmt)
    usual = take(fmt, stream_noise, events, offsets=False)
    left_out = take(fmt, stream_noise, events, offsets=False, shed=METERS)
    np.testing.assert_array_equal(left_out.heard, usual.heard)
    for name, value in usual.rx.items():
        if name not in TRACES:
            np.testing.assert_array_equal(left_out.rx[name], value, err_msg=name)
    assert [left_out.rx[name] for name in LEVELS] == [0] * len(LEVELS)


@pytest.mark.parametrize("shed", [0, ORDERS])
def test_models_of_gaps_are_small_and_counted_as_such(shed: int) -> None:
    fmt = Format(channels=1, queue=8, underrun=Underrun.BURG)
    packets = plain(fmt, 100)
    taken = take(fmt, tone, packets[:60] + packets[61:], shed=shed)
    by = taken.rx["concealed"]
    assert (by[Concealed.BURG_REDUCED] > 0) == (shed != 0)
    assert (by[Concealed.BURG] > 0) == (shed == 0)
    order = model_orders()[0]
    assert order == SMALL_ORDER if shed else order > SMALL_ORDER
    whole = take(fmt, tone, packets)
    assert loudest_step(taken, 0) < 1.5 * loudest_step(whole, 0)


@settings(max_examples=25)
@given(
    limited=st.booleans(),
    wants=st.sampled_from([1, 2, 5]),
    changes=st.lists(st.booleans(), min_size=6, max_size=6),
    seed=st.integers(0, 1 << 32),
)
def test_returns_are_the_same_with_and_without_meters(
    limited: bool, wants: int, changes: list[bool], seed: int
) -> None:
    sent: list[list[bytes]] = []
    for left_out in (False, True):
        rng = np.random.default_rng(seed)
        with desk_of() as desk:
            desk.listener(0, wants=wants)
            desk.mode(PatchMode.FULL_MIX)
            tx, told = desk.arena.tx[0], []
            tx["peak"], tx["rms"] = 0.25, 0.125
            desk.arena.slots[0]["limited"] = 1 if limited else 2
            for change in changes:
                desk.arena.control[0]["shed"] = METERS * (left_out and change)
                desk.publish({1: 2.0 * noise(rng, 2, 128)})
                told += desk.serve(0)
            sent.append(told)
            if left_out and all(changes):
                assert (tx["peak"], tx["rms"], tx["window_frames"]) == (0.25, 0.125, 0)
    assert sent[0] == sent[1]
