"""Numbering: the kernel against a twin that remembers every number, and losses told rightly."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from loadtest.clients.numbering import DUPLICATE, JUMP, account
from loadtest.clients.roster import make_state
from loadtest.clients.state import BIN_LOST, BIN_RETURNED, NEVER
from loadtest.conduct.outcome import FindingKind, Outcome, unexplained_losses
from loadtest.hearing import examine
from loadtest.scenario.model import Format, Network, Scenario, Section

PERIOD_NS = 2_666_667
NAMES = ("returned", "lost", "repaired", "duplicates", "reordered", "restarts")
STATE = make_state(Scenario(sections=(Section(clients=1),)))
FRESH = STATE.clients[0].copy()


def begin() -> None:
    """A client that has heard nothing, in a window that is open."""
    STATE.clients[0] = FRESH
    STATE.timeline[:] = 0
    STATE.run["opened_ns"], STATE.run["closed_ns"] = 0, NEVER


def counts() -> dict[str, int]:
    return {name: int(STATE.clients[0][name]) for name in NAMES}


@dataclass
class Twin:
    """Remembers all."""

    highest: int | None = None
    seen: set[int] = field(default_factory=set)
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(NAMES, 0))

    def take(self, number: int, copy: bool) -> int | None:
        """The packet's extended number; None: it is not new."""
        if self.highest is None:
            if copy:
                return None
            return self.restart(number)
        step = (number - self.highest) % 65536
        step -= 65536 * (step >= 32768)
        extended = self.highest + step
        if abs(step) > JUMP:
            self.counts["restarts"] += 1
            return self.restart(extended)
        if step <= -64 or extended in self.seen:
            self.counts["duplicates"] += not copy
            return None
        self.counts["returned"] += 1
        self.counts["repaired"] += copy
        if step > 0:
            self.counts["lost"] += step - 1
            self.highest = extended
        else:
            self.counts["lost"] -= 1
            self.counts["reordered"] += not copy
        self.seen.add(extended)
        return extended

    def restart(self, number: int) -> int:
        self.highest, self.seen = number, {number}
        self.counts["returned"] += 1
        return number


STEPS = st.one_of(
    st.integers(1, 3), st.integers(-5, 5), st.integers(-80, 80), st.integers(-JUMP - 2, JUMP + 2),
    st.integers(-40_000, 40_000),
)  # fmt: skip


@given(st.integers(0, 65535), st.lists(st.tuples(STEPS, st.booleans()), max_size=80))
def test_accounts_are_their_twins(first: int, steps: list[tuple[int, bool]]) -> None:
    begin()
    twin, number = Twin(), first
    for k, (step, copy) in enumerate([(0, False), *steps]):
        number = (number + step) & 0xFFFF

        extended, anew = account(STATE, 0, number, k * PERIOD_NS, int(copy))

        before = twin.counts["restarts"]
        wanted = twin.take(number, copy)
        assert extended == (DUPLICATE if wanted is None else wanted)
        assert anew == (k == 0 or twin.counts["restarts"] > before)
        assert counts() == twin.counts
    assert STATE.timeline[0, :, BIN_LOST].sum() == twin.counts["lost"]
    assert STATE.timeline[0, :, BIN_RETURNED].sum() == twin.counts["returned"]


@given(st.integers(0, 65535), st.integers(1, 4), st.lists(st.booleans(), min_size=4, max_size=80))
def test_redundancy_fills_the_gaps_that_it_can(
    first: int, redundancy: int, arrives: list[bool]
) -> None:
    """Datagram k holds packets k, k − 1, ...; the oldest are taken first."""
    begin()
    arrives = [True, *arrives, *[True] * redundancy]
    for k, there in enumerate(arrives):
        if there:
            for back in range(min(redundancy, k + 1) - 1, -1, -1):
                account(STATE, 0, (first + k - back) & 0xFFFF, k * PERIOD_NS, int(back > 0))

    came = [any(arrives[k : k + redundancy]) for k in range(len(arrives))]
    assert counts() == {
        "returned": sum(came),
        "lost": len(came) - sum(came),
        "repaired": sum(came) - sum(arrives),
        "duplicates": 0,
        "reordered": 0,
        "restarts": 0,
    }


@given(st.lists(st.integers(-3, 4), max_size=60), st.integers(0, 60), st.integers(0, 60))
def test_only_the_window_counts(steps: list[int], opened: int, closed: int) -> None:
    begin()
    STATE.run["opened_ns"], STATE.run["closed_ns"] = opened * PERIOD_NS, closed * PERIOD_NS
    twin, inside = Twin(), dict.fromkeys(NAMES, 0)
    number = 65_500
    for k, step in enumerate([0, *steps]):
        number = (number + step) & 0xFFFF
        account(STATE, 0, number, k * PERIOD_NS, 0)
        before = dict(twin.counts)
        twin.take(number, False)
        if opened <= k < closed:
            for name in NAMES:
                inside[name] += twin.counts[name] - before[name]

    assert counts() == inside


def losses(lost: int, taken: int, repaired: int, network: Network) -> int:
    """What is left of a client's gaps, and whether the examination says so."""
    scenario = Scenario(sections=(Section(clients=1, format=Format(redundancy=2), down=network),))
    state = make_state(scenario)
    client = state.clients[0]
    client["lost"], client["dropped_down"], client["repaired"] = lost, taken, repaired
    left = int(unexplained_losses(scenario, state.clients)[0])
    outcome = Outcome(scenario, state)
    examine(outcome)
    found = [each.count for each in outcome.findings if each.kind == FindingKind.LOST]
    assert found == ([left] if left else [])
    return left


def test_losses_are_the_networks_as_far_as_it_goes() -> None:
    rough = Network(loss=0.1)
    bursts = Network(burst_begin=0.01, burst_end=0.25)

    assert losses(3, 0, 0, Network()) == 3
    assert losses(103, 90, 0, rough) == 13
    assert losses(92, 90, 0, rough) == 0, "taken before the window, noticed in it"
    assert losses(93, 90, 0, rough) == 3
    assert losses(105, 90, 0, bursts) == 0
    assert losses(10, 90, 85, rough) == 5, "what was repaired explains no gap"
    assert losses(10, 90, 20, rough) == 0


def test_timelines_are_of_the_window_only() -> None:
    begin()
    account(STATE, 0, 5, -1, 0)
    account(STATE, 0, 9, 10**15, 0)

    assert not np.any(STATE.timeline)
