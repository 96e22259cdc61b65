"""Emulated networks: the kernel against a twin in plain Python, and both against the formulas."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numba import njit

from loadtest.clients.network import DOWN, UP, Networks, fate, make_networks
from loadtest.clients.state import NEVER
from loadtest.scenario.model import Jitter, Network, Scenario, ScenarioError, Section

MS = 1_000_000
OPENED_NS = 5_000 * MS
Fates = npt.NDArray[np.int64]


@njit  # not ``kernel``: its cache would not see that ``fate`` has changed
def play(  # type: ignore[no-untyped-def]
    networks, direction, index, count, period_ns, opened_ns, fates
):
    """Send count datagrams, one a period, from time 0 on; fates: (count, 3)."""
    for serial in range(count):
        one = fate(networks, direction, index, serial, serial * period_ns, opened_ns)
        fates[serial, 0], fates[serial, 1], fates[serial, 2] = one


def send(
    network: Network, count: int, *, seed: int = 1, period_ms: float = 1.0, opened_ns: int = NEVER
) -> Fates:
    """Fates of one client's datagrams: copies, delay, delay of the copy."""
    fates = np.zeros((count, 3), np.int64)
    networks = make_networks(Scenario(seed=seed, sections=(Section(clients=1, up=network),)))
    play(networks, UP, 0, count, round(period_ms * MS), opened_ns, fates)
    return fates


def releases(fates: Fates, period_ms: float = 1.0) -> npt.NDArray[np.int64]:
    """When those that pass come out, in the order of sending."""
    serials = np.flatnonzero(fates[:, 0])
    out_ns: npt.NDArray[np.int64] = serials * round(period_ms * MS) + fates[serials, 1]
    return out_ns


class TwinPath:
    """What ``fate`` does, said again."""

    def __init__(self, network: Network, key: int, phase_ns: int) -> None:
        self.network, self.key, self.phase_ns = network, key, phase_ns
        self.bad = False
        self.last_ns = 0

    def draw(self, serial: int, purpose: int) -> float:
        x = (self.key + (serial * 16 + purpose + 1) * 0x9E3779B97F4A7C15) % 2**64
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
        x ^= x >> 31
        return (x >> 11) / 2**53

    def jitter_ms(self, serial: int, copy: int) -> float:
        network = self.network
        if self.draw(serial, 6 + copy) >= network.jitter_share:
            return 0.0
        u = self.draw(serial, 8 + copy)
        match network.jitter:
            case Jitter.UNIFORM:
                scaled = 2 * u
            case Jitter.NORMAL:
                radius = math.sqrt(-2 * math.log(1 - u))
                scaled = abs(radius * math.cos(2 * math.pi * self.draw(serial, 10 + copy)))
            case Jitter.EXPONENTIAL:
                scaled = -math.log(1 - u)
            case Jitter.PARETO:
                scaled = min((1 - u) ** (-1 / network.jitter_shape) - 1, 100)
            case _:
                scaled = 0.0
        return network.jitter_ms * scaled

    def past_stall(self, out_ns: int, opened_ns: int) -> int:
        if not (self.network.stall_ms and self.network.stall_every_s):
            return out_ns
        every_ns, stall_ns = self.network.stall_every_s * 1000 * MS, self.network.stall_ms * MS
        into_ns = out_ns - opened_ns - self.phase_ns
        if into_ns >= 0 and into_ns % every_ns < stall_ns:
            out_ns = round(out_ns - into_ns % every_ns + stall_ns)
        return out_ns

    def release(self, serial: int, copy: int, now_ns: int, opened_ns: int) -> int:
        network = self.network
        delay_ms = network.delay_ms + self.jitter_ms(serial, copy)
        if now_ns >= opened_ns + network.step_at_s * 1000 * MS:
            delay_ms += network.step_ms
        out_ns = now_ns + int(delay_ms * MS)
        if network.ordered and out_ns <= self.last_ns:
            out_ns = self.last_ns + 1
        if self.draw(serial, 3) < network.reorder:
            return self.past_stall(out_ns + int(network.reorder_ms * MS), opened_ns)
        self.last_ns = self.past_stall(out_ns, opened_ns)
        return self.last_ns

    def fate(self, serial: int, now_ns: int, opened_ns: int) -> tuple[int, int, int]:
        network = self.network
        lost = self.draw(serial, 0) < network.loss
        if self.bad:
            lost |= self.draw(serial, 1) < network.burst_loss
            self.bad = self.draw(serial, 2) >= network.burst_end
        else:
            self.bad = self.draw(serial, 2) < network.burst_begin
        if lost:
            return 0, 0, 0
        copies = 2 if self.draw(serial, 4) < network.duplicate else 1
        if not network.delays:
            return copies, 0, 0
        first_ns = self.release(serial, 0, now_ns, opened_ns)
        second_ns = self.release(serial, 1, now_ns, opened_ns) if copies == 2 else now_ns
        return copies, first_ns - now_ns, second_ns - now_ns


SHARES = st.sampled_from([0.0, 0.01, 0.25, 0.5, 0.9, 1.0])
NETWORKS = st.builds(
    Network,
    loss=SHARES,
    burst_begin=SHARES,
    burst_end=st.sampled_from([0.001, 0.25, 1.0]),
    burst_loss=SHARES,
    delay_ms=st.sampled_from([0, 0.5, 20]),
    jitter=st.sampled_from(Jitter),
    jitter_ms=st.sampled_from([0, 0.5, 3, 50]),
    jitter_shape=st.sampled_from([1.01, 2.5, 100]),
    jitter_share=SHARES,
    ordered=st.booleans(),
    reorder=SHARES,
    reorder_ms=st.sampled_from([0, 4, 40]),
    duplicate=SHARES,
    stall_every_s=st.sampled_from([0, 0.125, 0.5]),
    stall_ms=st.sampled_from([0, 20, 100]),
    stall_together=st.booleans(),
    step_at_s=st.sampled_from([0, 0.125]),
    step_ms=st.sampled_from([0, 30]),
)


@given(NETWORKS, st.integers(0, 2**63 - 1), st.sampled_from([0, 300 * MS, NEVER]))
@settings(max_examples=60)
@example(Network(duplicate=1.0), 0, 0)
def test_fate_is_that_of_the_twin(network: Network, seed: int, opened_ns: int) -> None:
    sections = (Section(name="before", clients=1), Section(clients=2, up=network))
    networks = make_networks(Scenario(seed=seed, sections=sections))
    path = networks.paths[UP, 2]
    twin = TwinPath(network, int(path["key"]), int(path["stall_phase_ns"]))
    count, period_ns = 250, 2 * MS
    fates = np.zeros((count, 3), np.int64)

    play(networks, UP, 2, count, period_ns, opened_ns, fates)

    for serial, found in enumerate(fates.tolist()):
        right = twin.fate(serial, serial * period_ns, opened_ns)
        assert found[0] == right[0]
        # Logarithms of two libraries may differ in the last bit, and a queue adds them up.
        assert found[1:] == pytest.approx(right[1:], rel=0, abs=300)


def test_a_perfect_network_touches_nothing() -> None:
    assert (send(Network(), 100) == [1, 0, 0]).all()


def test_a_network_without_delays_delays_nothing() -> None:
    fates = send(Network(loss=0.1, duplicate=0.1), 1000, period_ms=0)

    assert set(fates[:, 0].tolist()) == {0, 1, 2}
    assert not fates[:, 1:].any()


def test_same_seed_same_fates_whatever_the_order_and_the_timing() -> None:
    network = Network(loss=0.2, burst_begin=0.05, duplicate=0.2)
    scenario = Scenario(sections=(Section(clients=3, up=network, down=Network(loss=0.2)),))

    def one_by_one(networks: Networks, index: int, direction: int) -> list[int]:
        return [fate(networks, direction, index, k, k, NEVER)[0] for k in range(200)]

    forwards, backwards = make_networks(scenario), make_networks(scenario)
    ways = [(index, direction) for index in range(3) for direction in (UP, DOWN)]
    first = {way: one_by_one(forwards, *way) for way in ways}
    mixed: dict[tuple[int, int], list[int]] = {way: [] for way in ways}
    for k in range(200):
        for way in reversed(ways):
            mixed[way].append(fate(backwards, way[1], way[0], k, 1000 * k + way[0], NEVER)[0])

    assert first == mixed
    assert len({tuple(fates) for fates in first.values()}) == len(ways)  # each its own
    other = make_networks(replace(scenario, seed=2))
    assert one_by_one(other, 0, UP) != first[0, UP]


def within(share: float, expected: float, count: float) -> bool:
    """Whether a share of so many drawings is within 4.5 standard deviations."""
    return abs(share - expected) < 4.5 * math.sqrt(expected * (1 - expected) / count)


@pytest.mark.parametrize("loss", [0.001, 0.05, 0.5])
def test_loss_is_the_share_that_was_asked_for_and_comes_singly(loss: float) -> None:
    lost = send(Network(loss=loss), 200_000)[:, 0] == 0

    assert within(lost.mean(), loss, lost.size)
    assert within((lost[1:] & lost[:-1]).mean(), loss**2, lost.size)


@pytest.mark.parametrize(("begin", "end"), [(0.001, 0.1), (0.01, 0.25), (0.05, 0.5)])
def test_bursts_are_as_long_and_as_frequent_as_gilbert_and_elliott_say(
    begin: float, end: float
) -> None:
    lost = send(Network(burst_begin=begin, burst_end=end), 400_000)[:, 0] == 0

    edges = np.diff(np.concatenate(([0], lost.astype(np.int8), [0])))
    lengths = np.flatnonzero(edges < 0) - np.flatnonzero(edges > 0)
    deviation = math.sqrt(1 - end) / end / math.sqrt(lengths.size)
    assert lengths.mean() == pytest.approx(1 / end, abs=4.5 * deviation)
    assert lost.mean() == pytest.approx(begin / (begin + end), rel=0.15)


def test_a_burst_may_let_some_through_and_good_times_may_lose_some() -> None:
    network = Network(loss=0.02, burst_begin=0.1, burst_end=0.1, burst_loss=0.4)
    lost = send(network, 400_000)[:, 0] == 0

    expected = 0.5 * 0.02 + 0.5 * (1 - 0.98 * 0.6)
    assert lost.mean() == pytest.approx(expected, rel=0.03)


QUANTILES: dict[Jitter, Any] = {
    Jitter.UNIFORM: lambda q: 2 * q,
    Jitter.EXPONENTIAL: lambda q: -math.log(1 - q),
    Jitter.PARETO: lambda q: (1 - q) ** (-1 / 2.5) - 1,
}


@pytest.mark.parametrize("jitter", [*QUANTILES, Jitter.NORMAL])
def test_jitter_has_its_distribution(jitter: Jitter) -> None:
    network = Network(jitter=jitter, jitter_ms=2.0, delay_ms=10.0, ordered=False)
    scaled = (send(network, 200_000)[:, 1] - 10 * MS) / (2 * MS)

    assert (scaled >= 0).all()
    for q in (0.1, 0.5, 0.9, 0.99, 0.999):
        if jitter == Jitter.NORMAL:  # by its distribution, which has a formula
            value = float(np.quantile(scaled, q))
            assert within(math.erf(value / math.sqrt(2)), q, scaled.size)
        else:
            assert within(float((scaled <= QUANTILES[jitter](q)).mean()), q, scaled.size)


def test_pareto_is_cut() -> None:
    network = Network(jitter=Jitter.PARETO, jitter_ms=1.0, jitter_shape=1.01, ordered=False)

    assert send(network, 10_000)[:, 1].max() == 100 * MS


def test_only_a_share_jitters() -> None:
    network = Network(jitter=Jitter.UNIFORM, jitter_ms=2.0, jitter_share=0.3, ordered=False)
    delays = send(network, 50_000)[:, 1]

    assert within(float((delays > 0).mean()), 0.3, delays.size)


@pytest.mark.parametrize("jitter", list(QUANTILES))
def test_nothing_overtakes_where_datagrams_are_ordered(jitter: Jitter) -> None:
    network = Network(
        jitter=jitter, jitter_ms=20, loss=0.1, stall_every_s=0.5, stall_ms=90, step_ms=5
    )

    ordered = releases(send(network, 20_000, opened_ns=OPENED_NS))
    free = releases(send(replace(network, ordered=False), 20_000, opened_ns=OPENED_NS))

    assert (np.diff(ordered) > 0).all()
    assert (np.diff(free) < 0).any()
    assert (ordered >= free).all()


def test_some_are_held_back_and_overtaken() -> None:
    fates = send(Network(delay_ms=10, reorder=0.05, reorder_ms=4), 50_000)

    held = fates[:, 1] == 14 * MS
    assert within(held.mean(), 0.05, held.size)
    assert (fates[~held, 1] == 10 * MS).all()


def test_some_come_twice_and_the_copy_behind() -> None:
    network = Network(duplicate=0.1, jitter=Jitter.EXPONENTIAL, jitter_ms=2)
    fates = send(network, 50_000)

    twice = fates[:, 0] == 2
    assert within(twice.mean(), 0.1, twice.size)
    assert (fates[twice, 2] > fates[twice, 1]).all()
    assert not fates[~twice, 2].any()


def test_in_a_stall_nothing_comes_out_and_then_all_at_once() -> None:
    network = Network(delay_ms=5, stall_every_s=1.0, stall_ms=200)
    out_ns = releases(send(network, 20_000, opened_ns=OPENED_NS))

    before = out_ns[out_ns < OPENED_NS]
    assert (np.diff(before) == MS).all()  # stalls begin after the opening
    gaps = np.flatnonzero(np.diff(out_ns) > 1.5 * MS)
    assert gaps.size == 15  # 20 s from −5 s on
    begins, ends = out_ns[gaps], out_ns[gaps + 1]
    assert ((ends - begins) > 199 * MS).all()
    assert (np.diff(ends) == 1000 * MS).all()
    for end in ends:
        assert np.count_nonzero((out_ns >= end) & (out_ns < end + MS // 2)) >= 200


@pytest.mark.parametrize(("together", "phases"), [(True, 2), (False, 6)])
def test_stalls_are_everyones_own_or_a_sections(together: bool, phases: int) -> None:
    network = Network(stall_every_s=2.0, stall_ms=50, stall_together=together)
    sections = tuple(Section(name=name, clients=3, up=network) for name in "ab")

    paths = make_networks(Scenario(sections=sections)).paths

    found = paths[UP]["stall_phase_ns"]
    assert len(set(found.tolist())) == phases
    assert (found < 2_000 * MS).all()


def test_a_step_lengthens_the_path_from_its_time_on() -> None:
    network = Network(delay_ms=3, step_at_s=2, step_ms=7)
    delays = send(network, 10_000, opened_ns=OPENED_NS)[:, 1]

    assert [int(at) for at in np.flatnonzero(np.diff(delays))] == [6_999]
    assert sorted(set(delays.tolist())) == [3 * MS, 10 * MS]


def test_each_section_has_its_own_network_each_way() -> None:
    down = Network(loss=1.0)
    sections = (Section(name="a", clients=2, down=down), Section(name="b", clients=1, up=down))
    networks = make_networks(Scenario(sections=sections))

    copies = [[fate(networks, way, k, 0, 0, NEVER)[0] for k in range(3)] for way in (UP, DOWN)]

    assert copies == [[1, 1, 0], [0, 0, 1]]


def test_every_stall_must_end() -> None:
    with pytest.raises(ScenarioError, match="stall_ms: 500 is not less than stall_every_s"):
        Network(stall_every_s=0.5, stall_ms=500)


def test_keys_differ() -> None:
    paths = make_networks(Scenario(sections=(Section(clients=4000),))).paths

    assert len(set(paths["key"].ravel().tolist())) == paths.size
    assert all(a != b for a, b in pairwise(paths["key"][UP].tolist()))
