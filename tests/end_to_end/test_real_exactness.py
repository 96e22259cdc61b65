"""Sample for sample: what returns is what was sent, at a constant delay."""

from __future__ import annotations

import numpy as np
import pytest

from tests.end_to_end.hubs import own_hub_only
from tests.end_to_end.measuring import (
    LEAD_FRAMES,
    SIGNAL_FRAMES,
    TAIL_FRAMES,
    Take,
    assert_hears,
    undisturbed,
)
from tests.end_to_end.peers import RATE_HZ
from tests.end_to_end.processes import wait_until
from tests.end_to_end.sound import Voice, noise, shifted, sweep, voice
from tests.end_to_end.stage import Stage


def _ramp_and_noise(seed: int) -> Voice:
    """Every 16-bit value there is, -32767..32767, in an order that is noise."""
    integers = np.random.default_rng(seed).permutation(np.arange(-32767, 32768))
    return voice(np.concatenate((np.zeros(LEAD_FRAMES, np.int64), integers)))


@pytest.mark.parametrize("patch", [1, 4])
def test_one_client_gets_back_every_sample_value(stage: Stage, patch: int) -> None:
    hub = stage.hub(patch, follows_clocks=True)
    client = stage.client(hub, "alone")
    stage.everybody_in(hub)
    sent = _ramp_and_noise(patch)
    frames = len(sent.played) + TAIL_FRAMES

    def judge(take: Take) -> None:
        mixture = assert_hears(take, client, 1, [sent.in_hub])
        if mixture.wrong:
            return
        # The rule itself, once more and without the model: what was sent as v is heard
        # as v / 32768 up to half of full scale, and beyond that as the next smaller v.
        v = np.rint(sent.in_hub * 32768)
        heard = np.rint(take.at(client, 1).astype(np.float64) * 32768)
        expected = np.where(np.abs(v) <= 16384, v, v - np.sign(v))
        assert np.array_equal(heard, shifted(expected, mixture.lags[0], len(heard)))

    undisturbed(
        lambda: stage.record_exactly(hub, {("alone", 1): sent}, [client], frames=frames), judge
    )


def test_own_voice_leaves_no_residue(stage: Stage) -> None:
    """Mode 2, two loud clients: each hears the other and not a trace of itself."""
    hub = stage.hub(2, follows_clocks=True)
    loud = stage.client(hub, "loud")
    tuned = stage.client(hub, "tuned")
    clients = stage.everybody_in(hub)
    voices = {
        ("loud", 1): noise(3, SIGNAL_FRAMES, 1.0, lead=LEAD_FRAMES),
        ("tuned", 1): sweep(100, 12_000, SIGNAL_FRAMES, 0.99, RATE_HZ, lead=LEAD_FRAMES),
    }

    def alone(take: Take) -> None:
        assert_hears(take, tuned, 1, [])
        assert_hears(take, loud, 1, [voices["tuned", 1].in_hub])

    def both(take: Take) -> None:
        assert_hears(take, tuned, 1, [voices["loud", 1].in_hub])
        assert_hears(take, loud, 1, [voices["tuned", 1].in_hub])

    only_tuned = {("tuned", 1): voices["tuned", 1]}
    undisturbed(lambda: stage.record_exactly(hub, only_tuned, clients), alone)
    undisturbed(lambda: stage.record_exactly(hub, voices, clients), both)


def test_a_mix_beyond_full_scale_is_clipped_at_the_encoder_only(stage: Stage) -> None:
    """Mode 4, two voices near full scale: the sum is exact where it fits, else the limit."""
    hub = stage.hub(4, follows_clocks=True)
    clients = [stage.client(hub, "one"), stage.client(hub, "two")]
    stage.everybody_in(hub)
    voices = {
        (name, 1): noise(seed, SIGNAL_FRAMES, 0.9, lead=LEAD_FRAMES)
        for seed, name in enumerate(("one", "two"), start=5)
    }

    def judge(take: Take) -> None:
        for client in clients:
            assert_hears(take, client, 1, [v.in_hub for v in voices.values()])
            assert np.max(np.abs(take.at(client, 1))) == np.float32(32767 / 32768)

    undisturbed(lambda: stage.record_exactly(hub, voices, clients), judge)


@own_hub_only
def test_who_is_resampled_is_not_compared_bit_by_bit_before_it_began_anew(stage: Stage) -> None:
    hub = stage.hub(2, follows_clocks=True)
    fast = stage.client(hub, "fast", jack=stage.odd_jack(48_040), remote_name="fast")
    stage.client(hub, "true", remote_name="true")
    clients = stage.everybody_in(hub)
    first = fast.udp_port

    def until_followed(*_: object) -> None:
        wait_until(lambda: "fast" in hub.resampled(), 60.0, "a clock of 833 ppm is followed")

    until_followed()
    take = stage.record_exactly(hub, {}, clients, frames=LEAD_FRAMES, meanwhile=until_followed)

    assert fast.udp_port != first
    assert len(hub.clients()) == 2
    assert "hub: fast is resampled" in take.disturbances
