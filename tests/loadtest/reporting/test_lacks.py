"""What clients lack, and who is to blame, from runs made by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from loadtest.conduct.outcome import Event, EventKind, Joined, Outcome
from loadtest.reporting.evaluate import evaluate
from loadtest.scenario.model import SECOND_NS, Network, Service
from tests.loadtest.reporting.runs import GUEST, SCENARIO, cause, check, of, perfect, take


def test_refusal_of_somebody_else_is_a_fault() -> None:
    outcome = perfect()
    outcome.events.append(Event(-1.0, EventKind.REFUSED, 3))

    assert evaluate(outcome).refused == 1
    assert not evaluate(outcome).clean


def test_what_the_emulated_network_took_is_no_loss() -> None:
    outcome = perfect()
    take(outcome, 0, lost=100)
    outcome.state.clients["dropped_down"][0] = 100

    result = evaluate(outcome)

    assert (result.lost, result.emulated_down) == (0, 100)
    assert result.clean


def test_what_the_emulated_network_took_before_the_window_is_no_loss_in_it() -> None:
    poor = Network(loss=0.02)
    sections = (replace(SCENARIO.sections[0], down=poor), *SCENARIO.sections[1:])
    outcome = perfect(replace(SCENARIO, sections=sections))
    take(outcome, 0, lost=51)
    outcome.state.clients["dropped_down"][0] = 50

    assert evaluate(outcome).lost == 0


def test_what_redundancy_repaired_does_not_excuse_other_losses() -> None:
    outcome = perfect()
    take(outcome, 0, lost=30)
    outcome.state.clients["dropped_down"][0] = 100
    outcome.state.clients["repaired"][0] = 90

    result = evaluate(outcome)

    assert result.lost == 20
    assert cause(result, "from the hub", "repaired").count == 90


def one_less(outcome: Outcome) -> None:
    """The hub skipped a cycle, and did not number it."""
    outcome.state.clients["returned"] -= 1


def test_one_skipped_cycle_shows() -> None:
    outcome = perfect()
    one_less(outcome)

    result = evaluate(outcome)

    assert result.shortfall == 18
    assert not check(result, "return loss").passed


@pytest.mark.parametrize("after_us", [-300, 300])
def test_packets_near_a_border_may_lie_beyond_it(after_us: int) -> None:
    outcome = perfect()
    one_less(outcome)
    clients = outcome.state.clients
    opened_ns = int(outcome.state.run["opened_ns"][0])
    clients["arrival_ns"] = opened_ns + clients["nominal_ps"] * 6000 // 1000 + after_us * 1000

    assert evaluate(outcome).shortfall == 0


def came_late(outcome: Outcome) -> None:
    for one in outcome.joins:
        one.first_ns += 5 * SECOND_NS


def came_twice(outcome: Outcome) -> None:
    outcome.state.clients["generation"] = 2


def went_early(outcome: Outcome) -> None:
    outcome.events += [Event(9.0, EventKind.LEAVE, client) for client in range(GUEST)]


def was_numbered_anew(outcome: Outcome) -> None:
    outcome.state.clients["restarts"] = 1


@pytest.mark.parametrize("harm", [came_late, came_twice, went_early, was_numbered_anew])
def test_who_was_not_in_all_the_time_may_lack_a_tick(harm: Callable[[Outcome], None]) -> None:
    outcome = perfect()
    harm(outcome)
    outcome.state.clients["returned"] -= 2

    assert evaluate(outcome).shortfall == 0

    outcome.state.clients["returned"] -= 8

    assert evaluate(outcome).shortfall == 18 * 10


def test_clock_of_another_machine_may_differ() -> None:
    outcome = perfect()
    one_less(outcome)
    outcome.cost = None  # the hub is not here

    assert evaluate(outcome).sections[0].shortfall == 0


def test_stream_that_ended_before_the_window_is_a_gap() -> None:
    outcome = perfect()
    outcome.state.clients["arrival_ns"][4] = int(outcome.state.run["closed_ns"][0]) - 2 * SECOND_NS

    result = of(outcome, Service(gap_ms=250))

    assert result.gap_ms == 2000
    assert result.sections[0].gap_ms == 2000
    assert result.columns["gap_ns"][4] == 2 * SECOND_NS
    assert not check(result, "longest gap").passed


def test_stream_of_somebody_who_left_is_none() -> None:
    outcome = perfect()
    outcome.state.clients["arrival_ns"][4] = int(outcome.state.run["closed_ns"][0]) - 2 * SECOND_NS
    outcome.events.append(Event(8.0, EventKind.LEAVE, 4))

    assert evaluate(outcome).gap_ms < 10


def test_missing_voice_that_lost_packets_explain_is_not_counted_twice() -> None:
    outcome = perfect()
    take(outcome, 0, lost=3)
    outcome.state.clients["voice_heard"][0] -= 3 * 128

    result = of(outcome, Service(return_loss=0.01))

    assert result.missing == 3 * 128
    assert result.passed


def comes_again(outcome: Outcome, *, seconds: float, first_ns: int = 0) -> None:
    """Client 2 leaves at 3 s, comes back at 4 s, stays so long, and may hear something."""
    opened_ns = int(outcome.state.run["opened_ns"][0])
    back_ns = opened_ns + 4 * SECOND_NS
    outcome.joins.append(Joined(2, 2, 61002, back_ns, back_ns + 1, first_ns))
    outcome.events += [Event(at, EventKind.LEAVE, 2) for at in (3.0, 4.0 + seconds)]
    outcome.state.clients["generation"][2] = 2


def test_every_join_must_be_heard() -> None:
    outcome = perfect()
    comes_again(outcome, seconds=2.0)

    result = evaluate(outcome)

    assert (result.joined, result.unheard) == (18, 1)
    assert check(result, "left out").measured == 1
    assert not result.passed
    assert not result.clean


def test_who_is_gone_at_once_need_not_hear_anything() -> None:
    outcome = perfect()
    comes_again(outcome, seconds=0.5)

    assert evaluate(outcome).passed


def test_refused_rejoin_fails_the_run() -> None:
    outcome = perfect()
    outcome.events.append(Event(4.0, EventKind.REFUSED, 2, "the hub is full"))
    outcome.problems.append("client 2 (strings 3): the hub is full")

    result = evaluate(outcome)

    assert check(result, "left out").measured == 1
    assert result.unplanned == 0
    assert not result.passed


def test_who_was_refused_and_never_came_is_left_out_once() -> None:
    outcome = perfect()
    outcome.joins = [one for one in outcome.joins if one.index != 2]
    outcome.events.append(Event(-2.0, EventKind.REFUSED, 2, "the hub is full"))

    assert check(evaluate(outcome), "left out").measured == 1


def test_losses_are_divided_by_cause() -> None:
    outcome = perfect()
    outcome.state.clients["dropped_up"][[0, GUEST]] = (40, 10)
    outcome.state.run["skipped"] = 5
    outcome.state.drops[0] = 7
    take(outcome, 1, lost=20)
    assert outcome.counters
    outcome.counters.counts.update(lost=60, kernel_drops=3, late=2, missed=1)

    result = evaluate(outcome)

    counts = {(one.where, one.name): one.count for one in result.loss if one.count}
    assert counts == {
        ("to the hub", "emulated network"): 40,
        ("to the hub", "never sent"): 5,
        ("in the hub", "lost before the hub"): 5,
        ("in the hub", "dropped by the kernel"): 3,
        ("in the hub", "too late for their turn"): 2,
        ("in the hub", "missed ticks"): 1,
        ("from the hub", "generator's own socket"): 7,
        ("from the hub", "numbers missing"): 13,
    }
    assert cause(result, "to the hub", "emulated network").meant


def test_who_was_to_come_after_the_window_is_not_left_out() -> None:
    late = replace(SCENARIO.sections[0], name="late", join_at_s=9.0, join_over_s=3.0)
    outcome = perfect(replace(SCENARIO, sections=(*SCENARIO.sections, late)))
    last = max(one.index for one in outcome.joins)
    outcome.joins = [one for one in outcome.joins if one.index <= last - 8]

    result = evaluate(outcome)

    assert (result.clients, result.left_out) == (18 + 4, 0)

    outcome.joins = [one for one in outcome.joins if one.index <= last - 9]

    assert evaluate(outcome).left_out == 1
