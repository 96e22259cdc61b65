"""Figures, verdict and blame, from runs made by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from loadtest.clients.state import CAPTURE, LATENESS, NEVER, SPACING
from loadtest.conduct.outcome import Event, EventKind, Finding, FindingKind, Joined, Outcome
from loadtest.hearing import examination
from loadtest.reporting.belief import EXCUSED_NS
from loadtest.reporting.evaluate import MAX_EVENTS, MAX_FINDINGS, evaluate, format_words
from loadtest.reporting.result import Result, ServiceCheck
from loadtest.scenario.model import SECOND_NS, Format, Hub, Network, Service
from shared.limits import PatchMode
from tests.loadtest.reporting.runs import SCENARIO, perfect, troubled

GUEST = 18
"""The first client of the section that is optional."""


def check(result: Result, name: str) -> ServiceCheck:
    return next(one for one in result.service if one.name == name)


def cause(result: Result, where: str, name: str) -> Any:
    return next(one for one in result.loss if (one.where, one.name) == (where, name))


def of(outcome: Outcome, service: Service) -> Result:
    """The result, had the scenario asked for another service."""
    outcome.scenario = replace(outcome.scenario, service=service)
    return evaluate(outcome)


def test_perfect_run_is_usable_passed_and_clean() -> None:
    result = evaluate(perfect())

    assert result.usable, result.reasons
    assert result.passed, result.service
    assert result.clean
    assert (result.joined, result.clients, result.unheard) == (18, 18, 0)
    assert result.expected == result.returned == result.sent
    assert not any(one.count for one in result.loss)


def hurt(name: str, client: int = 0, count: int = 100) -> Callable[[Outcome], None]:
    def act(outcome: Outcome) -> None:
        outcome.state.clients[name][client] += count

    return act


def unheard_voice(outcome: Outcome) -> None:
    outcome.state.clients["voice_heard"][0] -= 1000


def left_out(outcome: Outcome) -> None:
    outcome.joins = [one for one in outcome.joins if one.index]


def wrong_sum(outcome: Outcome) -> None:
    outcome.tuttis_right -= 1


def found(outcome: Outcome) -> None:
    outcome.findings.append(Finding(FindingKind.CLICK, 0, 1, 1.0, 1.0, 1, "A click."))


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
        (hurt("duplicates"), set()),
        (hurt("foreign"), set()),
        (hurt("malformed"), set()),
        (found, set()),
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


@pytest.mark.parametrize("name", ["lost", "wrong", "silent", "duplicates", "foreign"])
def test_what_optional_sections_lack_is_no_fault(name: str) -> None:
    outcome = perfect()
    hurt(name, GUEST)(outcome)
    outcome.joins = [one for one in outcome.joins if one.index != GUEST + 1]
    outcome.events.append(Event(-1.0, EventKind.REFUSED, GUEST + 1))
    outcome.findings.append(Finding(FindingKind.CLICK, GUEST, 1, 1.0, 1.0, 1, "A click."))

    result = evaluate(outcome)

    assert result.clean
    assert result.passed
    assert result.sections[2].joined == 1


def test_refusal_of_somebody_else_is_a_fault() -> None:
    outcome = perfect()
    outcome.events.append(Event(-1.0, EventKind.REFUSED, 3))

    assert evaluate(outcome).refused == 1
    assert not evaluate(outcome).clean


def test_what_the_emulated_network_took_is_no_loss() -> None:
    outcome = perfect()
    _take(outcome, 0, lost=100)
    outcome.state.clients["dropped_down"][0] = 100

    result = evaluate(outcome)

    assert (result.lost, result.emulated_down) == (0, 100)
    assert result.clean


def test_what_the_emulated_network_took_before_the_window_is_no_loss_in_it() -> None:
    poor = Network(loss=0.02)
    sections = (replace(SCENARIO.sections[0], down=poor), *SCENARIO.sections[1:])
    outcome = perfect(replace(SCENARIO, sections=sections))
    _take(outcome, 0, lost=51)
    outcome.state.clients["dropped_down"][0] = 50

    assert evaluate(outcome).lost == 0


def test_what_redundancy_repaired_does_not_excuse_other_losses() -> None:
    outcome = perfect()
    _take(outcome, 0, lost=30)
    outcome.state.clients["dropped_down"][0] = 100
    outcome.state.clients["repaired"][0] = 90

    result = evaluate(outcome)

    assert result.lost == 20
    assert cause(result, "from the hub", "repaired").count == 90


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


def test_notes_are_no_faults() -> None:
    outcome = perfect()
    outcome.notes = ["a tutti is taken apart for one listener in 3"]

    assert evaluate(outcome).clean


def test_run_that_was_stopped_before_its_window_has_figures() -> None:
    outcome = perfect()
    outcome.interrupted = True
    outcome.state.run["opened_ns"] = outcome.state.run["closed_ns"] = NEVER

    result = evaluate(outcome)

    assert not result.usable
    assert result.joins_log["at_s"][-1] == 0.0


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
    _take(outcome, 0, lost=3)
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
        "left out", "return loss", "wrong sound", "sums", "spacing p99",
    ]  # fmt: skip


def late(outcome: Outcome) -> None:
    outcome.state.histograms[:, LATENESS] = 0
    outcome.state.histograms[0, LATENESS, 500] = 1000


def stalled(outcome: Outcome) -> None:
    outcome.state.run["stalls"] = 200


def skipped(outcome: Outcome) -> None:
    outcome.state.run["skipped"] = 1


def dropped(outcome: Outcome) -> None:
    outcome.state.drops[0] = 1


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


def test_losses_are_divided_by_cause() -> None:
    outcome = perfect()
    outcome.state.clients["dropped_up"][[0, GUEST]] = (40, 10)
    outcome.state.run["skipped"] = 5
    outcome.state.drops[0] = 7
    _take(outcome, 1, lost=20)
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


def test_cost_is_of_a_client_for_one_of_its_packets() -> None:
    result = evaluate(perfect())

    assert result.hub
    due = 12 * 3750 + 6 * 1875 + 2 * 6890
    total_us = 1e7 * (0.002 + 0.05 + 0.001 * 20 + 0.012 * 20)
    assert result.hub.cpu_us == pytest.approx(total_us / due, rel=1e-2)
    assert sum(result.hub.cpu_us_by_kind.values()) == pytest.approx(result.hub.cpu_us, abs=0.01)
    assert result.hub.cores == pytest.approx(0.312)
    assert result.hub.private_kib_a_client == pytest.approx((77190 - 59000) / 20)
    assert result.hub.private_kib_a_receiver == pytest.approx(909.5)
    assert result.hub.shared_kib_a_client == pytest.approx(22 * 700 / 20)
    assert result.hub.processes == {"mixer": 1, "receiver": 20, "tuttihub": 1}


def test_hub_without_receivers_has_none() -> None:
    outcome = perfect()
    assert outcome.cost
    outcome.cost = replace(outcome.cost, kinds=dict.fromkeys(outcome.cost.kinds, "jacktrip"))

    result = evaluate(outcome)

    assert result.hub
    assert result.hub.private_kib_a_receiver is None
    assert result.hub.private_kib_a_client == pytest.approx((77190 - 59000) / 20)


def test_memory_is_divided_by_those_who_were_in_at_the_end() -> None:
    outcome = perfect()
    outcome.playing += [(9.0, 10), (10.6, 0)]

    result = evaluate(outcome)

    assert result.hub
    assert result.hub.private_kib_a_client == pytest.approx((77190 - 59000) / 10)


def test_memory_that_shrank_says_nothing_of_clients() -> None:
    outcome = perfect()
    assert outcome.cost
    outcome.cost = replace(outcome.cost, before_kib=80_000)

    result = evaluate(outcome)

    assert result.hub
    assert result.hub.private_kib_a_client is None


def test_sections_have_figures_of_their_own() -> None:
    result = evaluate(troubled())

    strings, winds, guests = result.sections
    assert (strings.lost, winds.lost, guests.lost) == (444, 0, 0)
    assert winds.emulated_up == 108
    assert guests.optional
    assert winds.format == "256 frames at 48 kHz, 1 to the hub and 2 back, 16 bit"
    assert set(strings.distributions) == {"latency", "spacing", "lateness"}
    assert result.spacing.count == strings.spacing.count + winds.spacing.count


def test_files_keep_what_is_rare_of_very_much() -> None:
    outcome = perfect()
    outcome.events = [Event(n / 100, EventKind.JOIN, 1) for n in range(2 * MAX_EVENTS)]
    outcome.events.append(Event(50.0, EventKind.FAULT, -1, "the mixer was killed"))
    outcome.findings = [
        Finding(FindingKind.CLICK, 0, 1, 1.0, 1.0, 1, "A click.") for _ in range(MAX_FINDINGS + 7)
    ]

    result = evaluate(outcome)

    assert len(result.events) == MAX_EVENTS
    assert sum(event.kind is EventKind.FAULT for event in result.events) == 1
    assert (len(result.findings), result.findings_total) == (MAX_FINDINGS, MAX_FINDINGS + 7)


def test_provenance_says_where_figures_come_from() -> None:
    facts = evaluate(perfect()).provenance

    assert facts["seed"] == SCENARIO.seed
    assert facts["machine"]["cores"] > 0
    assert facts["machine"]["memory_kib"] > 0
    assert {"python", "tuttihub", "numba", "numpy"} <= set(facts["versions"])
    assert facts["hub"] == {"tuttihub": "0.1.0"}
    assert {"date", "command", "commit", "affinity", "realtime"} <= set(facts)
    assert not facts["command"].startswith("/")


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (Format(), "128 frames at 48 kHz, 2 channels, 16 bit"),
        (
            Format(64, 44100, 32, 1, 1, 3),
            "64 frames at 44.1 kHz, 1 channel, 32-bit float, 3 copies",
        ),
    ],
)
def test_formats_in_words(form: Format, text: str) -> None:
    assert format_words(form) == text


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


def _take(outcome: Outcome, client: int, *, lost: int) -> None:
    """Packets that the numbering shows to be missing."""
    outcome.state.clients["returned"][client] -= lost
    outcome.state.clients["lost"][client] += lost
