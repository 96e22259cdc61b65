"""Whether newcomers are let in: never shut in a calm hub, shut under load, no flapping."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.overload.admission import CALM, FIXED_COST, LOOKS, REOPEN_LOOKS, UNSEEN_LOOKS, Admission
from hub.overload.resources import BUSY, REFUSALS, Readings, Resource

LIMIT = 0.8
ALL = ("work", "mean_work", "lateness", "cpu", "throttled", "line")
OVERLOADS = {
    Resource.TICKS: Readings(work=0.8, mean_work=0.5),
    Resource.LATENESS: Readings(lateness=1.0, mean_work=0.5),
    Resource.CPU: Readings(cpu=0.85),
    Resource.THROTTLE: Readings(throttled=1.0, cpu=0.5),
    Resource.LINE: Readings(line=0.9),
}


def looked(admission: Admission, readings: Readings, times: int = 1, active: int = 100) -> None:
    for _ in range(times):
        admission.look(readings, active)


def test_every_resource_has_its_refusal() -> None:
    assert REFUSALS.keys() == set(Resource) == OVERLOADS.keys()
    assert len(set(REFUSALS.values())) == len(Resource)


def test_a_hub_without_a_limit_lets_everybody_in() -> None:
    admission = Admission(None)
    looked(admission, Readings(2.0, 2.0, 2.0, 2.0, 1.0, 2.0), 20)
    for _ in range(5000):
        admission.came()
    assert admission.refuses() is None


@pytest.mark.parametrize("resource", Resource)
def test_too_little_of_anything_shuts_the_door_until_it_was_calm_for_long_enough(
    resource: Resource,
) -> None:
    admission = Admission(LIMIT)
    looked(admission, Readings(), LOOKS)
    assert admission.refuses() is None
    looked(admission, OVERLOADS[resource], LOOKS // 2)
    assert admission.refuses() is None
    looked(admission, OVERLOADS[resource])
    assert (admission.refuses(), admission.shut) == (resource, (resource,))
    looked(admission, Readings(), LOOKS // 2 + REOPEN_LOOKS - 1)
    assert admission.refuses() is resource
    looked(admission, Readings(), 2)
    assert admission.refuses() is None


def test_what_stays_between_calm_and_limit_keeps_it_as_it_is() -> None:
    between = Readings(cpu=LIMIT * (CALM + 1) / 2)
    admission = Admission(LIMIT)
    looked(admission, between, 50)
    assert admission.refuses() is None
    looked(admission, Readings(cpu=LIMIT), LOOKS)
    looked(admission, between, 50)
    assert admission.refuses() is Resource.CPU


@pytest.mark.parametrize("resource", [Resource.TICKS, Resource.LATENESS, Resource.THROTTLE])
def test_ticks_that_a_machine_spoils_are_no_load(resource: Resource) -> None:
    spoilt = Readings(
        work=3.0, lateness=1.0, throttled=1.0, mean_work=0.9 * BUSY * LIMIT, cpu=0.9 * BUSY * LIMIT
    )
    admission = Admission(LIMIT)
    looked(admission, spoilt, 20)
    assert admission.used[resource] < LIMIT
    assert admission.refuses() is None


def test_the_worst_is_told() -> None:
    admission = Admission(LIMIT)
    looked(admission, Readings(cpu=0.85, line=0.95), LOOKS)
    assert set(admission.shut) == {Resource.CPU, Resource.LINE}
    assert admission.refuses() is Resource.LINE


shares = st.floats(0.0, 3.0)
readings = st.builds(Readings, *([shares] * len(ALL)))


@given(st.lists(st.tuples(readings, st.integers(0, 1000)), max_size=60))
def test_it_does_not_flap(looks: list[tuple[Readings, int]]) -> None:
    """Between two changes of one resource to shut there are REOPEN_LOOKS looks, and each of them
    was found at the limit by most of the readings it is of."""
    admission = Admission(LIMIT)
    shut: dict[Resource, list[int]] = {resource: [] for resource in Resource}
    before: tuple[Resource, ...] = ()
    for k, (reading, active) in enumerate(looks):
        admission.look(reading, active)
        for resource in set(admission.shut) - set(before):
            shut[resource].append(k)
            last = [each.used(LIMIT)[resource] for each, _ in looks[max(k - LOOKS + 1, 0) : k + 1]]
            assert sum(used >= LIMIT for used in last) > LOOKS // 2
        before = admission.shut
    for at in shut.values():
        assert all(later - earlier > REOPEN_LOOKS for earlier, later in pairwise(at))


@given(
    st.lists(st.tuples(st.floats(0.0, 0.99 * LIMIT), st.booleans()), min_size=LOOKS, max_size=60),
    st.integers(0, 1000),
)
def test_a_calm_hub_refuses_nobody_who_comes_alone(
    looks: list[tuple[float, bool]], active: int
) -> None:
    """Whatever single seconds are like, as long as no two of three are bad."""
    admission = Admission(LIMIT)
    good = LOOKS
    for share, bad in looks:
        spoilt = bad and good >= 2
        good = 0 if spoilt else good + 1
        reading = Readings(*([3.0 if spoilt else share] * len(ALL)))
        admission.look(reading, active)
        assert admission.refuses() is None


@given(
    per_client=st.floats(0.0005, 0.05),
    own=st.floats(0.0, 0.05),
    here=st.integers(40, 400),
    storm=st.integers(1, 2000),
    resource=st.sampled_from(sorted(FIXED_COST)),
)
def test_a_storm_of_newcomers_does_not_get_past_the_limit(
    per_client: float, own: float, here: int, storm: int, resource: Resource
) -> None:
    def load(clients: int) -> Readings:
        share = own + per_client * clients
        values: dict[str, Any] = {
            Resource.TICKS: {"work": share, "mean_work": share},
            Resource.CPU: {"cpu": share},
            Resource.LINE: {"line": share},
        }[resource]
        return Readings(**values)

    admission = Admission(LIMIT)
    looked(admission, load(here), LOOKS, here)
    was_open = load(here).used(LIMIT)[resource] < LIMIT
    admitted = 0
    for _ in range(storm):
        if admission.refuses() is None:
            admission.came()
            admitted += 1
    assert admitted <= 1 or load(here + admitted - 1).used(LIMIT)[resource] < LIMIT + 1e-9
    assert admitted >= 1 or not was_open
    for _ in range(UNSEEN_LOOKS + LOOKS):
        admission.look(load(here + admitted), here + admitted)
    assert admission.used[resource] <= max(LIMIT, load(here).used(LIMIT)[resource]) + per_client


def test_an_ensemble_that_comes_at_once_is_let_in_by_an_empty_hub() -> None:
    """A hub with one client uses most of what it uses for itself, and not for that client."""
    admission = Admission(LIMIT)
    looked(admission, Readings(work=0.03, mean_work=0.02, lateness=0.1, cpu=0.03), LOOKS, 1)
    for _ in range(600):
        assert admission.refuses() is None
        admission.came()
