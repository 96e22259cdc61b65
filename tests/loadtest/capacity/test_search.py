"""The search, against hubs that are a number and some noise."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.capacity.probe import Figures, Probe
from loadtest.capacity.search import VOTES, Ending, Found, Rules, Search


@dataclass
class FakeHub:
    """Holds up to ``capacity`` clients, but for mishaps; beyond ``generator`` the generator is
    late.

    Attributes:
        mishap: probability that a probe fails though it should pass.
        luck: probability that one passes just above the capacity, within ``soft`` of it.
        hopeless: beyond, nobody is let in at all.
        asked: all questions.
    """

    capacity: int
    hopeless: int = 100_000
    generator: int = 100_000
    mishap: float = 0.0
    luck: float = 0.0
    soft: int = 0
    late: float = 0.0
    seed: int = 1
    asked: list[tuple[int, float]] = field(default_factory=list)

    def __call__(self, clients: int, seconds: float) -> Probe:
        self.asked.append((clients, seconds))
        chance = random.Random(f"{self.seed} {len(self.asked)}")
        if clients > self.generator or chance.random() < self.late:
            return Probe(clients, seconds, False, False, reasons=("sends were late",))
        if clients <= self.capacity:
            passed = chance.random() >= self.mishap
        else:
            passed = clients <= self.capacity + self.soft and chance.random() < self.luck
        seen = Figures(window_s=0.0 if clients > self.hopeless else seconds)
        return Probe(
            clients, seconds, True, passed, () if passed else ("missed ticks",), figures=seen
        )


def search(hub: FakeHub, rules: Rules) -> Found:
    return Search(hub, rules).run()


def test_quiet_machine_gives_the_capacity_to_the_step() -> None:
    found = search(FakeHub(137), Rules(step_share=0.0))

    assert (found.ending, found.clients, found.fails) == (Ending.FOUND, 137, 138)
    assert found.votes(137, 30.0) == (2, 0)
    assert found.meaning == "137 clients hold the service level, 138 do not."


def test_a_number_at_which_nothing_could_be_measured_is_asked_once() -> None:
    hub = FakeHub(100, hopeless=110)

    found = search(hub, Rules(step_share=0.0))

    assert (found.ending, found.clients, found.fails) == (Ending.FOUND, 100, 101)
    asked = [clients for clients, _ in hub.asked]
    assert [asked.count(clients) for clients in (128, 112)] == [1, 1]


@given(
    capacity=st.integers(0, 1100),
    start=st.integers(1, 64),
    share=st.sampled_from([0.0, 0.03, 0.2]),
    step=st.integers(1, 9),
)
def test_any_capacity_is_found_to_the_gap(
    capacity: int, start: int, share: float, step: int
) -> None:
    rules = Rules(start=start, highest=1024, step_share=share, step=step)
    hub = FakeHub(capacity)

    found = search(hub, rules)

    if capacity == 0:
        assert (found.ending, found.clients, found.fails) == (Ending.NOTHING, 0, 1)
    elif capacity >= 1024:
        assert (found.ending, found.clients, found.fails) == (Ending.HIGHEST, 1024, 0)
    else:
        assert found.ending is Ending.FOUND
        assert 1 <= found.clients <= capacity < found.fails
        assert found.fails - found.clients <= rules.gap(found.fails)
    assert len(found.probes) == len(hub.asked) <= 40


@settings(deadline=None, max_examples=200)
@given(
    capacity=st.integers(0, 500),
    mishap=st.floats(0, 0.5),
    luck=st.floats(0, 0.5),
    soft=st.integers(0, 60),
    late=st.floats(0, 0.3),
    seed=st.integers(0, 10_000),
    most=st.integers(1, 80),
)
def test_noise_never_makes_it_endless_or_claim_what_it_did_not_see(
    capacity: int, mishap: float, luck: float, soft: int, late: float, seed: int, most: int
) -> None:
    rules = Rules(highest=512, most=most)
    hub = FakeHub(capacity, mishap=mishap, luck=luck, soft=soft, late=late, seed=seed)

    found = search(hub, rules)

    assert len(found.probes) <= most
    assert found.clients <= capacity + soft
    if found.clients:
        passed, failed = found.votes(found.clients, rules.seconds)
        assert passed == VOTES > failed
    if found.fails:
        assert found.clients < found.fails
        assert found.votes(found.fails, 0)[1] >= VOTES
    if found.ending is Ending.FOUND:
        assert found.fails - found.clients <= rules.gap(found.fails)
    if found.ending is Ending.HIGHEST:
        assert found.clients == 512
    if found.ending is Ending.GENERATOR:
        assert [probe.usable for probe in found.probes].count(False) > rules.repeats


def test_a_mishap_on_the_way_up_does_not_cap_the_answer() -> None:
    """One probe in ten fails for no fault of the hub's: the median search is still right."""
    answers = sorted(
        search(FakeHub(200, mishap=0.1, seed=seed), Rules(highest=512)).clients
        for seed in range(101)
    )

    assert 190 <= answers[50] <= 200
    assert answers[10] >= 150


def test_disturbed_minute_on_the_way_does_not_decide_and_is_told() -> None:
    asked: list[int] = []

    def measure(clients: int, seconds: float) -> Probe:
        asked.append(clients)
        disturbed = clients == 32 and asked.count(32) <= 2
        passed = clients <= 100 and not disturbed
        return Probe(clients, seconds, True, passed, figures=Figures(window_s=seconds))

    found = Search(measure, Rules(step_share=0.0)).run()

    assert (found.clients, found.fails) == (100, 101)
    assert found.below[0] == 2
    assert "2 failed: the machine was disturbed" in found.meaning


def test_number_is_confirmed_by_full_probes_only() -> None:
    hub = FakeHub(20)
    search(hub, Rules(step_share=0.0, seconds=30, screen_s=10))

    assert hub.asked.count((20, 30)) == 2
    assert all(seconds == 10 for clients, seconds in hub.asked if clients not in (20, 21))


def test_what_passes_short_but_not_long_is_not_found() -> None:
    def measure(clients: int, seconds: float) -> Probe:
        return Probe(clients, seconds, True, clients <= (40 if seconds < 30 else 31))

    found = Search(measure, Rules(step_share=0.0)).run()

    assert (found.clients, found.fails) == (31, 32)


def test_short_probes_as_long_as_full_ones_count_as_votes() -> None:
    hub = FakeHub(20)
    search(hub, Rules(step_share=0.0, seconds=5, screen_s=5))

    assert hub.asked.count((20, 5)) == 2


def test_generator_that_gives_out_at_the_first_number_is_searched_below() -> None:
    found = search(FakeHub(10_000, generator=100), Rules(start=160, repeats=1))

    assert found.ending is Ending.GENERATOR
    assert 100 - Rules().gap(100) <= found.clients <= 100


def test_hub_that_fails_below_the_generators_end_is_found() -> None:
    """Doubling meets the generator first."""
    found = search(FakeHub(90, generator=100), Rules(repeats=1))

    assert found.ending is Ending.FOUND
    assert found.clients <= 90 < found.fails <= 100


def test_generator_that_gives_out_ends_the_search_with_what_is_known_below() -> None:
    hub = FakeHub(10_000, generator=100)

    found = search(hub, Rules(repeats=2))

    assert found.ending is Ending.GENERATOR
    assert found.fails == 0
    assert found.clients <= 100 < found.beyond
    assert found.beyond - found.clients <= Rules().gap(found.beyond)
    assert hub.asked.count((128, 10.0)) == 3
    said = f"nothing can be said of the hub there: its capacity is {found.clients} or more"
    assert said in found.meaning


def test_generator_late_once_is_asked_again() -> None:
    late = FakeHub(64, late=0.15, seed=3)

    found = search(late, Rules(step_share=0.0))

    assert any(not probe.usable for probe in found.probes)
    assert (found.ending, found.clients) == (Ending.FOUND, 64)


def test_too_few_probes_are_said_to_be_too_few() -> None:
    found = search(FakeHub(137), Rules(most=6))

    assert found.ending is Ending.UNSETTLED
    assert len(found.probes) == 6


@pytest.mark.parametrize("kept", [0, 1, 7, 100])
def test_interrupted_search_goes_on_where_it_was(kept: int) -> None:
    rules = Rules(highest=512)
    whole = search(FakeHub(137, mishap=0.2, seed=5), rules)
    hub = FakeHub(137, mishap=0.2, seed=5)
    hub.asked = [(0, 0.0)] * min(kept, len(whole.probes))

    known = [Probe.from_json(probe.to_json()) for probe in whole.probes[:kept]]
    resumed = Search(hub, rules, known=known).run()

    assert resumed == whole
    assert len(hub.asked) == len(whole.probes)


def test_progress_says_what_is_done_and_what_came_of_it() -> None:
    said: list[str] = []
    ended: list[Probe] = []

    def progress(text: str, probe: Probe | None) -> None:
        if probe is None:
            said.append(text)
        else:
            ended.append(probe)

    found = Search(FakeHub(20), Rules(), progress=progress).run()

    assert ended == found.probes
    assert said[0] == "looking at 16 clients, 10 s"
    assert said[-1] == "confirming 21 clients, 30 s"


def test_what_measuring_raises_goes_through_and_the_probes_are_kept() -> None:
    hub = FakeHub(100)

    def measure(clients: int, seconds: float) -> Probe:
        if clients > 32:
            raise RuntimeError("no hub")
        return hub(clients, seconds)

    searching = Search(measure, Rules())
    with pytest.raises(RuntimeError, match="no hub"):
        searching.run()
    assert [probe.clients for probe in searching.probes] == [16, 32]


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"start": 0}, r"start: 0 is not in 1\.\.1024"),
        ({"start": 20, "highest": 10}, r"start: 20 is not in 1\.\.10"),
        ({"screen_s": 40}, r"screen_s: 40 is not in 0\.\.30"),
        ({"most": 0}, "most"),
    ],
)
def test_wrong_rules_are_named(wrong: dict[str, int], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Rules(**wrong)


def test_figures_tell_cores_by_kind() -> None:
    figures = Figures(period_us=2000, joined=100, cpu_us={"tutti-mixer": 5, "tutti-rx": 10})

    assert figures.cores() == pytest.approx(0.75)
    assert figures.cores("mixer") == pytest.approx(0.25)
    assert figures.cores("jackd") == 0
    assert Figures().cores() == 0
