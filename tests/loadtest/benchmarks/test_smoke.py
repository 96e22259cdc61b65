"""The smoke test's judgement: wrong sound is a fault, lateness is none."""

from __future__ import annotations

from typing import Any

import pytest

from loadtest.benchmarks import smoke
from loadtest.benchmarks.smoke import TAKES, disturbed, faults_of, judge
from loadtest.conduct.outcome import Finding, FindingKind
from loadtest.reporting.evaluate import evaluate
from loadtest.reporting.result import Result
from shared.layout import PatchMode
from tests.loadtest.reporting import runs


def take(late: dict[str, int] | None = None, **changes: Any) -> Result:
    """An undisturbed take, changed; late: counters of the hub."""
    result = evaluate(runs.perfect())
    assert result.counters is not None
    result.counters.counts.update(late or {})
    for name, value in changes.items():
        setattr(result, name, value)
    return result


def finding(kind: FindingKind) -> Finding:
    return Finding(kind, 3, 1, 0.5, 2.5, 40, f"client 3: {kind}")


def judged(*takes: Result, go_on: bool = True) -> tuple[list[str], int]:
    """Faults, and how many takes were played."""
    played = list(takes)
    verdict = judge("hub", lambda: played.pop(0), lambda: go_on)
    return verdict.faults, len(takes) - len(played)


def test_right_sound_is_good_at_once() -> None:
    assert judged(take(), take()) == ([], 1)


@pytest.mark.parametrize("kind", FindingKind)
def test_named_fault_of_an_undisturbed_take_fails(kind: FindingKind) -> None:
    faults, played = judged(take(clean=False, findings=[finding(kind)]), take())
    assert faults == [f"{kind}: client 3: {kind}"]
    assert played == 1


def test_nameless_fault_of_an_undisturbed_take_fails() -> None:
    assert judged(take(clean=False, wrong=7))[0] == [
        "not clean: 0 lost, 0 short, 7 wrong, 0 silent, 0 missing; "
    ]


@pytest.mark.parametrize("counter", smoke.TROUBLE)
def test_late_take_is_repeated(counter: str) -> None:
    late = take({counter: 2}, clean=False, findings=[finding(FindingKind.DROPOUT)])
    assert disturbed(late) == f"the hub counted 2 {counter}"
    assert judged(late, take()) == ([], 2)


def test_take_of_a_late_generator_is_repeated() -> None:
    late = take(usable=False, reasons=["sends were late"], clean=False, lost=9)
    assert judged(late, late, take()) == ([], 3)


def test_lateness_alone_never_fails() -> None:
    late = take({"missed": 5}, clean=False, lost=9, findings=[finding(FindingKind.LOST)])
    assert judged(*[late] * TAKES) == ([], TAKES)
    assert judged(late, late, go_on=False) == ([], 1)


@pytest.mark.parametrize("kind", smoke.NEVER_LATENESS)
def test_what_lateness_cannot_cause_fails_all_the_same(kind: FindingKind) -> None:
    late = take({"missed": 5}, clean=False, findings=[finding(kind), finding(FindingKind.CLICK)])
    assert judged(*[late] * TAKES) == ([f"{kind}: client 3: {kind}"], TAKES)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"joined": 19}, "19 of 20 joined, 0 heard nothing"),
        ({"unheard": 2}, "2 heard nothing"),
        ({"checked": 0}, "no packet could be checked"),
        ({"voices_heard": 0, "voices_expected": 5}, "no voice was heard rightly"),
        ({"tuttis_right": 0}, "none of 40 tutti passages was right"),
    ],
)
@pytest.mark.parametrize("excuse", ["", "late"])
def test_nothing_right_at_all_is_a_fault_whatever_the_excuse(
    change: dict[str, Any], complaint: str, excuse: str
) -> None:
    faults = faults_of(take(**{"joined": 20, "clients": 20, **change}), excuse)
    assert any(complaint in fault for fault in faults)


def test_ensemble_is_of_all_depths_and_several_sizes() -> None:
    plan = smoke.ensemble(PatchMode.FAN_OUT_NO_SELF, 4.0)
    formats = [section.format for section in plan.sections]
    assert {8, 16, 24} <= {form.bits for form in formats}
    assert {64, 128, 256} <= {form.frames for form in formats}
    assert {1, 2} <= {form.sends for form in formats}
    assert any(form.redundancy > 1 for form in formats)
    assert plan.tutti_every > 0


def test_verdict_says_what_was_heard() -> None:
    assert judge("hub", take, lambda: True).text.startswith("18 clients, ")
