"""Figures, from runs made by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from loadtest.conduct.outcome import Event, EventKind, Finding, FindingKind
from loadtest.reporting import provenance
from loadtest.reporting.evaluate import MAX_EVENTS, MAX_FINDINGS, evaluate, format_words
from loadtest.scenario.model import Format
from tests.loadtest.reporting.runs import GUEST, SCENARIO, hurt, perfect, troubled

ROOT = Path(__file__).resolve().parents[3]


def test_perfect_run_is_usable_passed_and_clean() -> None:
    result = evaluate(perfect())

    assert result.usable, result.reasons
    assert result.passed, result.service
    assert result.clean
    assert (result.joined, result.clients, result.unheard) == (18, 18, 0)
    assert result.expected == result.returned == result.sent
    assert not any(one.count for one in result.loss)


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


def test_notes_are_no_faults() -> None:
    outcome = perfect()
    outcome.notes = ["a tutti is taken apart for one listener in 3"]

    assert evaluate(outcome).clean


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
    ("program", "told"),
    [
        ("/usr/local/bin/tuttihub", "tuttihub --seed 7"),
        (str(ROOT / "loadtest/benchmarks/scenarios.py"),
         "python -m loadtest.benchmarks.scenarios --seed 7"),
        (str(ROOT / "loadtest/benchmarks/__main__.py"), "python -m loadtest.benchmarks --seed 7"),
        ("/usr/lib/python3/pytest/__main__.py", "python -m pytest --seed 7"),
    ],
)  # fmt: skip
def test_a_command_can_be_typed_again(
    program: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", [program, "--seed", "7"])
    assert provenance.command() == told


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
