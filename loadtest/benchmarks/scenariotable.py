"""The table of the ready-made scenarios in docs/loadtest.md, from what was kept of their last runs.

python -m loadtest.benchmarks.scenariotable           writes it between the markers
python -m loadtest.benchmarks.scenariotable --check   exit code 1 when it is not what is there
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import click

from loadtest.benchmarks import record
from loadtest.benchmarks.record import RecordError
from loadtest.benchmarks.render import bring_up_to_date, insert, markdown, where
from loadtest.reporting.result import Result, ResultError, Spread, load
from loadtest.reporting.words import Verdict, allowed, grouped, measured, verdict

PAGE = Path(__file__).resolve().parents[2] / "docs" / "loadtest.md"
FOLDER = record.RESULTS / "scenarios"
BEGIN, END = "<!-- scenarios:begin -->", "<!-- scenarios:end -->"
ORDER = (
    "rehearsal-30", "mixed-formats", "followed-clocks", "flaky-wifi", "rolling-churn", "storm-join",
    "hostile", "casualties", "choir-300", "hour-of-drift",
)  # fmt: skip
_NOTHING = "–"


def ordered(names: Collection[str]) -> list[str]:
    """As they are shown: the known ones first, others by name."""
    return [*(name for name in ORDER if name in names), *sorted(set(names) - set(ORDER))]


def read(folder: Path = FOLDER) -> list[Result]:
    """What was kept, in order.

    Raises:
        RecordError: a file is none, or not of the scenario that it is called.
    """
    found = {path.stem: path for path in folder.glob("*.json")}
    results = []
    for name in ordered(found):
        try:
            result = load(found[name])
        except ResultError as error:
            raise RecordError(str(error)) from error
        if result.scenario.get("name") != name:
            raise RecordError(f"{found[name]}: is of {result.scenario.get('name')!r}")
        results.append(result)
    return results


def content(results: Sequence[Result]) -> str:
    """What stands between the page's markers."""
    if not results:
        return "They have not been played yet: `make bench-scenarios` does."
    head = [
        "scenario", "clients", "s", "returned packets lost", "wrong / silent", "sums exact",
        "in → out p50 / p99", "spacing off by p99", "join p50 / p99", "CPU a client-period",
        "ticks missed", "machine stood still", "verdict",
    ]  # fmt: skip
    parts = [
        *_places(results),
        markdown(head, [_line(result) for result in results], left=1),
    ]
    if reasons := [_reason(result) for result in results if verdict(result) is not Verdict.PASSED]:
        parts.append("\n".join(f"- {reason}" for reason in reasons))
    return "\n\n".join(parts)


def _places(results: Sequence[Result]) -> list[str]:
    """Where and when they were played; one sentence if all were at once."""
    places: dict[str, list[str]] = {}
    for result in results:
        places.setdefault(where(result.provenance), []).append(f"`{result.scenario['name']}`")
    if len(places) == 1:
        return [f"Played {next(iter(places))}:"]
    return [f"Played {place}: {', '.join(names)}." for place, names in places.items()]


def _line(result: Result) -> list[str]:
    counts = result.counters.counts if result.counters else {}
    lost = result.lost + result.shortfall
    return [
        f"`{result.scenario['name']}`",
        str(result.joined) if result.joined == result.clients
        else f"{result.joined} of {result.clients}",
        f"{result.window_s:.0f}",
        f"{grouped(lost)} of {grouped(result.expected)}",
        f"{grouped(result.wrong)} / {grouped(result.silent)}",
        f"{grouped(result.tuttis_right)} of {grouped(result.tuttis_checked)}"
        if result.tuttis_checked else _NOTHING,
        _ms(result.latency),
        f"{result.spacing.p99:.0f} µs" if result.spacing.count else _NOTHING,
        f"{result.join_ms.p50:.0f} / {result.join_ms.p99:.0f} ms"
        if result.join_ms.count else _NOTHING,
        f"{result.hub.cpu_us:.1f} µs" if result.hub else _NOTHING,
        f"{counts['missed']} of {grouped(counts['ticks'])}"
        if {"missed", "ticks"} <= set(counts) else _NOTHING,
        f"{result.halted.count} ×, {result.halted.total_ms:.0f} ms" if result.halted else _NOTHING,
        _verdict(result),
    ]  # fmt: skip


def _ms(spread: Spread) -> str:
    return f"{spread.p50 / 1000:.1f} / {spread.p99 / 1000:.1f} ms" if spread.count else _NOTHING


def _verdict(result: Result) -> str:
    match verdict(result):
        case Verdict.PASSED:
            return "passed"
        case Verdict.UNUSABLE:
            return "none: the generator was late"
        case _:
            return "failed"


def _reason(result: Result) -> str:
    """Why a run did not pass."""
    name = f"`{result.scenario['name']}`"
    if not result.usable:
        return f"{name} says nothing of the hub: {'; '.join(result.reasons)}."
    failed = [check for check in result.service if not check.passed]
    named = ", ".join(
        f"{check.name} {measured(check)} (allowed: {allowed(check)})" for check in failed
    )
    return f"{name} failed: {named}."


def rendered(page: Path = PAGE, results: Path = FOLDER) -> str:
    """The page as it should be.

    Raises:
        RenderError: it has no markers.
        RecordError: a result cannot be read.
    """
    return insert(page.read_text(), content(read(results)), BEGIN, END)


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; exit code 1 when it is out of date.")
def main(check: bool) -> None:
    """Write the table of the scenarios from what was kept of their last runs."""
    bring_up_to_date(PAGE, rendered, check, "tables of scenarios")


if __name__ == "__main__":
    main()
