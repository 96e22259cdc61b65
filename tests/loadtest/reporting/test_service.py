"""What a hub must show, and what it then has shown, from runs made by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from loadtest.clients.state import SPACING
from loadtest.conduct.outcome import Event, EventKind, Finding, FindingKind, Line, Outcome
from loadtest.reporting.evaluate import evaluate
from loadtest.reporting.result import Result
from loadtest.reporting.words import verdict_sentence
from loadtest.scenario.model import Fault, FaultKind, Hub, Service
from shared.limits import PatchMode
from tests.loadtest.reporting.runs import SCENARIO, check, hurt, of, perfect, take, troubled


def unheard_voice(outcome: Outcome) -> None:
    outcome.state.clients["voice_heard"][0] -= 1000


def left_out(outcome: Outcome) -> None:
    outcome.joins = [one for one in outcome.joins if one.index]


def wrong_sum(outcome: Outcome) -> None:
    outcome.tuttis_right -= 1


def named(kind: FindingKind) -> Callable[[Outcome], None]:
    def act(outcome: Outcome) -> None:
        outcome.findings.append(Finding(kind, 0, 1, 1.0, 1.0, 1, "A fault."))

    return act


def no_audio(outcome: Outcome) -> None:
    outcome.joins[2].first_ns = 0


def fewer(outcome: Outcome) -> None:
    outcome.state.clients["returned"][0] -= 100


@pytest.mark.parametrize(
    ("harm", "failed"),
    [
        (hurt("lost"), {"return loss"}),
        (fewer, {"return loss"}),
        (hurt("wrong"), {"wrong sound"}),
        (hurt("silent"), {"wrong sound"}),
        (unheard_voice, {"wrong sound"}),
        (wrong_sum, {"sums"}),
        (left_out, {"left out"}),
        (no_audio, {"left out"}),
        (named(FindingKind.DUPLICATE), {"named faults"}),
        (named(FindingKind.WRONG_GAIN), {"named faults"}),
        (named(FindingKind.DELAYED), {"named faults"}),
        (hurt("restarts"), {"named faults"}),
        (named(FindingKind.CLICK), set()),  # what it spoils is counted as wrong, or as a wrong sum
        (hurt("duplicates"), set()),  # no finding of it: those of sections that are optional
    ],
)
def test_harm_is_not_clean_and_fails_what_it_concerns(
    harm: Callable[[Outcome], None], failed: set[str]
) -> None:
    outcome = perfect()
    harm(outcome)

    result = evaluate(outcome)

    assert not result.clean
    assert {one.name for one in result.service if not one.passed} == failed
    assert result.passed is not bool(failed)


def test_fault_that_could_not_be_done_fails_the_run() -> None:
    outcome = troubled()
    outcome.events.append(Event(5.0, EventKind.REFUSED, -1, "kill-lane was not done: none there"))

    result = evaluate(outcome)

    assert check(result, "not as planned").measured == 1
    assert result.refused == 1  # the client that the hub was too full for


def test_process_without_a_successor_fails_the_run() -> None:
    outcome = perfect()
    outcome.problems.append("mixer was killed and has no successor")

    result = evaluate(outcome)

    assert check(result, "not as planned").measured == 1
    assert not result.passed


def never_checked(outcome: Outcome) -> None:
    outcome.state.clients["checked"] = 0


def never_given_a_voice(outcome: Outcome) -> None:
    for name in ("voice_due", "voice_heard"):
        outcome.state.clients[name] = 0


@pytest.mark.parametrize(
    "mode", [PatchMode.LOOPBACK, PatchMode.FAN_OUT_NO_SELF, PatchMode.FULL_MIX]
)
@pytest.mark.parametrize("harm", [never_checked, never_given_a_voice])
def test_nothing_checked_is_nothing_proved(
    harm: Callable[[Outcome], None], mode: PatchMode
) -> None:
    outcome = perfect(replace(SCENARIO, hub=Hub(mode=mode)))
    harm(outcome)

    one = check(evaluate(outcome), "wrong sound")

    assert one.measured is None
    assert not one.passed


def test_where_nobody_sings_nobody_is_heard() -> None:
    outcome = perfect(replace(SCENARIO, hub=Hub(mode=PatchMode.NONE)))
    never_given_a_voice(outcome)

    assert evaluate(outcome).passed


def test_who_is_alone_hears_nobody() -> None:
    sections = (replace(SCENARIO.sections[0], clients=1),)
    outcome = perfect(replace(SCENARIO, sections=sections, hub=Hub(mode=PatchMode.FAN_OUT_NO_SELF)))
    never_given_a_voice(outcome)

    assert evaluate(outcome).passed


def test_disturbed_packets_are_not_held_against_the_hub() -> None:
    outcome = perfect()
    hurt("wrong")(outcome)
    hurt("disturbed")(outcome)

    result = evaluate(outcome)

    assert result.passed
    assert not result.clean
    assert "100 more soon after" in check(result, "wrong sound").text


def test_nobody_expected_is_nothing_proved() -> None:
    outcome = perfect()
    for name in ("due", "returned", "checked"):
        outcome.state.clients[name] = 0

    assert not check(evaluate(outcome), "return loss").passed


def test_spacing_is_measured_in_hub_periods_at_the_worst_section() -> None:
    outcome = perfect()
    outcome.state.histograms[1, SPACING] = 0
    outcome.state.histograms[1, SPACING, 4000] = 10

    one = check(evaluate(outcome), "spacing p99")

    assert one.measured == pytest.approx(4000 / 2666.67, rel=1e-4)
    assert not one.passed
    assert "winds" in one.text


def test_hub_that_should_have_counted_ticks_is_not_believed_to_have_missed_none() -> None:
    outcome = perfect()
    outcome.counters = None
    outcome.control_expected = True

    result = evaluate(outcome)

    assert check(result, "missed ticks").measured is None
    assert not result.passed
    assert of(outcome, Service(missed_ticks=-1)).passed


def test_spacing_that_was_not_measured_has_not_held() -> None:
    outcome = perfect()
    outcome.state.histograms[:, SPACING] = 0

    assert not check(evaluate(outcome), "spacing p99").passed


def test_hub_that_says_nothing_is_not_blamed_for_ticks() -> None:
    outcome = perfect()
    outcome.counters = None

    result = evaluate(outcome)

    assert check(result, "missed ticks").measured is None
    assert result.passed
    assert not [one for one in result.loss if one.where == "in the hub"]


@pytest.mark.parametrize(
    ("service", "name", "passed"),
    [
        (Service(join_p99_ms=1.0), "join p99", False),
        (Service(join_p99_ms=500.0), "join p99", True),
        (Service(gap_ms=1.0), "longest gap", False),
        (Service(gap_ms=100.0), "longest gap", True),
    ],
)
def test_services_that_are_asked_for(service: Service, name: str, passed: bool) -> None:
    assert check(of(perfect(), service), name).passed is passed


@pytest.mark.parametrize(("what", "slips"), [("overflows", 3), ("restarts", 1), ("underruns", 0)])
def test_slips_are_what_the_hub_counts_as_such(what: str, slips: int) -> None:
    outcome = perfect()
    assert outcome.counters
    outcome.counters.counts[what] += 3 if what == "underruns" else slips

    found = check(of(outcome, Service(slips=0)), "slips")

    assert (found.measured, found.passed) == (slips, slips == 0)
    assert check(of(outcome, Service(slips=slips)), "slips").passed


def test_hub_that_should_have_counted_slips_has_not_shown_that_there_were_none() -> None:
    outcome = perfect()
    outcome.counters = None
    assert check(of(outcome, Service(slips=0)), "slips").passed
    outcome.control_expected = True
    assert not check(of(outcome, Service(slips=0)), "slips").passed


def test_services_that_are_not_asked_for() -> None:
    result = of(perfect(), Service(missed_ticks=-1))

    assert [one.name for one in result.service] == [
        "left out", "return loss", "wrong sound", "sums", "spacing p99", "named faults",
    ]  # fmt: skip


def test_named_faults_need_not_be_looked_at() -> None:
    outcome = perfect()
    named(FindingKind.DUPLICATE)(outcome)

    assert of(outcome, Service(findings=-1)).passed
    assert of(outcome, Service(findings=1)).passed


def test_where_some_sound_may_be_wrong_its_name_does_not_matter() -> None:
    outcome = perfect()
    named(FindingKind.WRONG_GAIN)(outcome)

    assert of(outcome, Service(wrong=0.01)).passed


def test_who_has_the_queue_that_they_need_may_be_later_than_their_like() -> None:
    outcome = perfect(replace(SCENARIO, hub=Hub(queue="auto")))
    named(FindingKind.DELAYED)(outcome)

    assert evaluate(outcome).passed


def test_numbers_may_begin_anew_where_the_mixer_is_killed() -> None:
    outcome = perfect(replace(SCENARIO, faults=(Fault(FaultKind.KILL_MIXER),)))
    hurt("restarts")(outcome)

    assert check(evaluate(outcome), "named faults").passed


def test_what_the_kernels_network_may_have_done_is_not_judged() -> None:
    outcome = perfect()
    outcome.line = Line(70_000, 700, 70_000, 700)
    take(outcome, 0, lost=700)
    hurt("silent")(outcome)

    result = evaluate(outcome)

    assert result.passed
    unjudged = {one.name for one in result.service if not one.judged}
    assert {"return loss", "wrong sound", "sums", "spacing p99", "named faults"} <= unjudged
    assert "missed ticks" not in unjudged
    assert "Not judged, since the network spoils it too: return loss" in verdict_sentence(result)
    assert Result.from_json(result.to_json()).line == outcome.line


def test_a_perfect_line_of_the_kernels_takes_nothing() -> None:
    outcome = perfect()
    outcome.line = Line(70_000, 0, 70_000, 0, perfect=True)
    take(outcome, 0, lost=700)

    assert not check(evaluate(outcome), "return loss").passed


def test_what_drifting_clocks_bring_too_much_must_not_become_delay() -> None:
    outcome = perfect()
    drifting = replace(SCENARIO.sections[0], skew_ppm=-2400.0)
    outcome.scenario = replace(
        SCENARIO, sections=(drifting, *SCENARIO.sections[1:]), service=Service(latency_max_ms=12)
    )

    longest = check(evaluate(outcome), "longest in to out")

    assert longest.measured == pytest.approx(12.346, abs=1e-3)
    assert not longest.passed
    assert "while the clocks went up to 24 ms apart" in longest.text
    assert check(of(outcome, Service(latency_max_ms=13)), "longest in to out").passed
