"""When a run may be believed, from runs made by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from loadtest.clients.state import CAPTURE, LATENESS, NEVER
from loadtest.conduct.outcome import Outcome
from loadtest.hearing import examination
from loadtest.reporting.belief import EXCUSED_NS
from loadtest.reporting.evaluate import evaluate
from loadtest.scenario.model import SECOND_NS, Network
from tests.loadtest.reporting.runs import hurt, perfect


def test_run_that_was_stopped_before_its_window_has_figures() -> None:
    outcome = perfect()
    outcome.interrupted = True
    outcome.state.run["opened_ns"] = outcome.state.run["closed_ns"] = NEVER

    result = evaluate(outcome)

    assert not result.usable
    assert result.joins_log["at_s"][-1] == 0.0


def late(outcome: Outcome) -> None:
    outcome.state.histograms[:, LATENESS] = 0
    outcome.state.histograms[0, LATENESS, 500] = 1000


def stalled(outcome: Outcome) -> None:
    outcome.state.run["stalls"] = 200


def skipped(outcome: Outcome) -> None:
    outcome.state.run["skipped"] = 1


def dropped(outcome: Outcome) -> None:
    outcome.state.drops[0] = 1


def out_of_room(outcome: Outcome) -> None:
    outcome.state.run["overrun"] = 9
    outcome.at_opening = {"overrun": 2}


def no_sum_left(outcome: Outcome) -> None:
    outcome.tuttis_checked = outcome.tuttis_right = 0
    outcome.tuttis_excused, outcome.excused_in = 12, 1


def disobeyed(outcome: Outcome) -> None:
    outcome.own_faults.append("the generator does not obey")


def interrupted(outcome: Outcome) -> None:
    outcome.interrupted = True


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (late, "left late: p99 500 µs"),
        (stalled, "200 of 70030 packets left more than a period late"),
        (skipped, "1 packets were never sent"),
        (dropped, "dropped in its own socket"),
        (hurt("send_errors"), "100 packets could not be sent"),
        (out_of_room, "7 packets left at once that its emulated network should have delayed"),
        (no_sum_left, "no passage of everybody could be judged"),
        (disobeyed, "the generator does not obey"),
        (interrupted, "interrupted"),
    ],
)
def test_generator_that_failed_is_not_believed(
    harm: Callable[[Outcome], None], reason: str
) -> None:
    outcome = perfect()
    harm(outcome)

    result = evaluate(outcome)

    assert not result.usable
    assert reason in result.reasons[0]


def test_few_stalls_are_believed() -> None:
    outcome = perfect()
    outcome.state.run["stalls"] = 30

    result = evaluate(outcome)

    assert result.usable
    assert result.excused == pytest.approx(30 / 20 * 0.25 / 10)


def test_one_long_stall_makes_many_packets_late() -> None:
    outcome = perfect()
    outcome.state.run["stalls"] = 70
    outcome.state.run["late_max_ns"] = 12_000_000

    result = evaluate(outcome)

    assert result.usable
    assert 0.02 < result.excused < 0.03


def stalls_all_the_time(outcome: Outcome) -> None:
    outcome.state.run["stalls"] = 60  # of 20 clients, in 10 s


def excuses_all_that_is_wrong(outcome: Outcome) -> None:
    for name in ("wrong", "disturbed"):
        outcome.state.clients[name][:] = outcome.state.clients["checked"] // 10
    outcome.state.run["stalls"] = 2


def late_by_less_than_a_period(outcome: Outcome) -> None:
    """The judge thinks that the network spoilt them; but there is none."""
    sections = tuple(replace(one, up=Network()) for one in outcome.scenario.sections)
    outcome.scenario = replace(outcome.scenario, sections=sections)
    outcome.state.clients["concealed"] = outcome.state.clients["checked"] // 10


def wrong_sums_in_the_round_after_a_stall(outcome: Outcome) -> None:
    outcome.tuttis_checked = outcome.tuttis_right = 36
    outcome.tuttis_excused, outcome.excused_in = 4, 2


def stalls_before_tuttis(outcome: Outcome) -> None:
    log = _tuttis(40)
    hit = log["tutti"] % 10 == 0
    log["stall_ns"][hit] = log["arrival_ns"][hit] - EXCUSED_NS + 1
    _keep(outcome, log)


@pytest.mark.parametrize(
    ("harm", "text"),
    [
        (stalls_all_the_time, "7.5 % of the run"),
        (excuses_all_that_is_wrong, "10 % of the run"),
        (stalls_before_tuttis, "10 % of the run"),
        (late_by_less_than_a_period, "10 % of the run"),
        (wrong_sums_in_the_round_after_a_stall, "10 % of the run"),
    ],
)
def test_run_of_which_much_is_excused_is_not_believed(
    harm: Callable[[Outcome], None], text: str
) -> None:
    outcome = perfect()
    harm(outcome)

    result = evaluate(outcome)

    assert not result.usable
    assert text in result.reasons[0]


def test_one_tutti_soon_after_a_stall_is_chance() -> None:
    outcome = perfect()
    log = _tuttis(8)
    log["tutti"][:3] = 0
    log["stall_ns"][:3] = log["arrival_ns"][:3] - 1
    _keep(outcome, log)

    assert evaluate(outcome).excused == 0


def test_what_is_excused_is_what_the_judge_excuses() -> None:
    assert vars(examination)["DISTURBED_NS"] == EXCUSED_NS


def test_counters_are_of_the_window() -> None:
    outcome = perfect()
    outcome.state.run["skipped"] = 5
    outcome.state.drops[0] = 7
    outcome.state.clients["send_errors"][3] = 2
    outcome.at_opening = {"skipped": 5, "own_drops": 7, "send_errors": 2}

    result = evaluate(outcome)

    assert (result.skipped, result.own_drops, result.send_errors) == (0, 0, 0)
    assert result.usable


def _tuttis(count: int) -> npt.NDArray[Any]:
    """A packet kept of each of so many tuttis, when the generator had never stalled."""
    log = np.zeros(count, CAPTURE)
    log["tutti"] = np.arange(count)
    log["arrival_ns"] = 600 * SECOND_NS + np.arange(count) * 700_000_000
    log["stall_ns"] = -NEVER
    return log


def _keep(outcome: Outcome, log: npt.NDArray[Any]) -> None:
    outcome.state.run["tutti_packets"] = len(log)
    outcome.state = outcome.state._replace(tutti_log=log)
