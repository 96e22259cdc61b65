"""A run, or several, as one HTML page that needs nothing else: no network, no scripts.

``page.html.j2`` says what stands where; here it gets its sentences, rows and charts.
Needs the extra ``loadtest`` (matplotlib, jinja2); they are imported when a page is made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loadtest.conduct.outcome import EventKind
from loadtest.reporting import words
from loadtest.reporting.compare import rows_of
from loadtest.reporting.result import Result

if TYPE_CHECKING:
    from jinja2 import Environment

NEEDED = ("matplotlib", "jinja2")
TEMPLATE = "page.html.j2"
MAX_FULL = 6
"""Results that are shown in full; of more, the others are in the tables and charts of all."""
MAX_FINDINGS, MAX_EVENTS, MAX_PROBLEMS = 40, 40, 20


class MissingExtra(RuntimeError):
    """A library for pages is not installed."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart, and what it shows, in words.

    Attributes:
        svg: as it is put into the page.
        caption: how to read it.
    """

    name: str
    svg: str
    caption: str


def need_charts() -> None:
    """Ask before a long run whether its page can be made after it.

    Raises:
        MissingExtra: no; the text says what to install.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise MissingExtra(
            f"an HTML report needs {' and '.join(missing)}: pip install 'tuttihub[loadtest]'"
        )


def render(results: Sequence[Result], *, title: str = "") -> str:
    """The page. Of several results it begins with all side by side.

    Raises:
        MissingExtra: matplotlib or jinja2 is not installed.
        ValueError: there is no result.
    """
    if not results:
        raise ValueError("a page needs one result at least")
    shown = results[:MAX_FULL]
    page: str = (
        environment()
        .get_template(TEMPLATE)
        .render(
            title=title or _title(results),
            overview=_overview(results) if len(results) > 1 else None,
            runs=[_run(result, f"r{n}") for n, result in enumerate(shown)],
            left_out=len(results) - len(shown),
        )
    )
    return page


def environment(*folders: Path) -> Environment:
    """What makes pages of templates in these folders, or in this one.

    Raises:
        MissingExtra: matplotlib or jinja2 is not installed.
    """
    need_charts()
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader([Path(__file__).parent, *folders]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {"words": words, "measured": words.measured, "allowed": words.allowed}
    return made


def _title(results: Sequence[Result]) -> str:
    if len(results) > 1:
        return f"{len(results)} load tests side by side"
    scenario = results[0].scenario
    return f"Load test: {scenario.get('title') or scenario['name']}"


def _overview(results: Sequence[Result]) -> dict[str, Any]:
    """All results in one table, and what they cost against their number of clients."""
    from loadtest.reporting.charts import styled, to_svg
    from loadtest.reporting.costcharts import against_clients

    table, warnings = rows_of(results)
    charts = []
    sizes = {result.joined for result in results if result.hub}
    if len(sizes) > 1:
        with styled():
            about = "CPU and memory of the hub against the number of clients"
            drawn = to_svg(against_clients(results), "all-cost", about)
        charts.append(Chart("all-cost", drawn, f"{about}, from all the runs above."))
    return {
        "labels": [result.label for result in results],
        "verdicts": [words.verdict(result) for result in results],
        "rows": table,
        "warnings": warnings,
        "charts": charts,
    }


def _run(result: Result, prefix: str) -> dict[str, Any]:
    """What the template needs of one run."""
    scenario = result.scenario
    troubled = [cause for cause in result.loss if cause.count]
    return {
        "prefix": prefix,
        "result": result,
        "verdict": words.verdict(result),
        "sentence": words.verdict_sentence(result),
        "played": list(words.scenario_sentences(scenario)),
        "sections": [
            (figures, words.section_sentence(section))
            for figures, section in zip(result.sections, scenario["sections"], strict=True)
        ],
        "faults": [words.fault_sentence(fault) for fault in scenario["faults"]],
        "findings": result.findings[:MAX_FINDINGS],
        "more_findings": max(0, result.findings_total - MAX_FINDINGS),
        "problems": result.problems[:MAX_PROBLEMS],
        "more_problems": max(0, len(result.problems) - MAX_PROBLEMS),
        "events": _events(result),
        "loss": troubled,
        "quiet": [f"{cause.name} ({cause.where})" for cause in result.loss if not cause.count],
        "generator": words.generator_sentence(result),
        "provenance": list(provenance_rows(result.provenance)),
        "charts": {chart.name: chart for chart in _charts(result, prefix)},
    }


def _events(result: Result) -> list[tuple[str, str]]:
    """The rare ones: when, what."""
    often = {EventKind.JOIN, EventKind.LEAVE}
    rare = [event for event in result.events if event.kind not in often]
    return [(f"{event.at_s:.2f} s", event.text or str(event.kind)) for event in rare[:MAX_EVENTS]]


def _charts(result: Result, prefix: str) -> Iterator[Chart]:
    """Everything there is something to show of."""
    from loadtest.reporting import charts, costcharts, timecharts

    def made(name: str, drawing: Any, caption: str) -> Chart:
        return Chart(name, charts.to_svg(drawing, f"{prefix}-{name}", caption), caption)

    with charts.styled():
        yield made(
            "timeline",
            timecharts.timeline(result),
            "What happened when. Left of 0, if anything, is what happened before the measured "
            "window.",
        )
        if result.timeline.clients and result.timeline.bins:
            yield made(
                "heatmap",
                timecharts.heat_map(result),
                "One row a client, time from left to right. Coloured marks are troubles; a "
                "vertical stripe hit everybody at once, a horizontal one a single client. "
                "Nothing is drawn while a client was not in.",
            )
        for name, title, label, caption in _TIMES:
            if result.distributions[name].count:
                limit = _spacing_limit_us(result) if name == "spacing" else 0.0
                drawing = charts.distributions(
                    _parts(result, name), title=title, label=label, limit_us=limit
                )
                yield made(name, drawing, caption)
        if result.joins_log.get("at_s"):
            yield made(
                "joins",
                charts.joins(result.joins_log["at_s"], result.joins_log["join_ms"]),
                "How long it took from a client's first TCP packet to the first audio from the "
                "hub.",
            )
        if result.hub and result.hub.kinds:
            yield made(
                "cost",
                costcharts.by_kind(result.hub),
                "What the hub's processes used, by kind. A client's period is the time of one of "
                "its packets.",
            )


_TIMES = (
    (
        "latency", "In to out", "from sending to the kernel's arrival stamp",
        "How long sound takes through the hub: from a packet's sending to the arrival of the "
        "first returned packet that carries it. The hub's queues, which absorb the network's "
        "jitter, are part of it.",
    ),
    (
        "spacing", "Spacing off by", "deviation from the period",
        "How evenly packets come back: how far the distance of two consecutive ones is off the "
        "period. What lies far to the right makes a client's buffer run dry.",
    ),
    (
        "lateness", "Generator late by", "after the packet's due time",
        "How late the load generator's own packets left. Beyond a quarter of a period for one "
        "packet in a hundred, nothing on this page can be believed.",
    ),
)  # fmt: skip


def _parts(result: Result, name: str) -> list[tuple[str, Any]]:
    """The whole, then the sections."""
    parts = [("all", result.distributions[name])]
    if len(result.sections) > 1:
        parts += [
            (f"{section.name} (optional)" if section.optional else section.name,
             section.distributions[name])
            for section in result.sections
            if name in section.distributions
        ]  # fmt: skip
    return parts


def _spacing_limit_us(result: Result) -> float:
    hub = result.scenario["hub"]
    periods: float = result.scenario["service"]["spacing_p99"]
    return periods * hub["period"] * 1e6 / hub["rate_hz"]


def provenance_rows(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and text of each fact."""
    machine = facts.get("machine", {})
    if machine:
        virtual = "virtual machine" if machine.get("virtualised") else "not virtualised"
        governor = machine.get("governor")
        yield (
            "machine",
            f"{machine.get('cpu', '?')}, {words.plural(machine.get('cores', 0), 'core')}, "
            f"{machine.get('memory_kib', 0) / 1024**2:.1f} GiB, {virtual}"
            + (f", governor {governor}" if governor else ""),
        )
        yield "system", f"{machine.get('system', '')}, Linux {machine.get('kernel', '?')}"
    for name in ("versions", "hub"):
        if facts.get(name):
            texts = (
                str(value) if key == "hub" else f"{key} {value}"
                for key, value in facts[name].items()
            )
            text = ", ".join(dict.fromkeys(texts))
            yield ("hub under test" if name == "hub" else name), text
    if facts.get("commit"):
        yield "commit", facts["commit"]
    yield "date", facts.get("date", "?")
    yield "cores of the generator", ", ".join(map(str, facts.get("affinity", ())))
    realtime = facts.get("realtime", {})
    if realtime:
        used = "yes" if realtime.get("used") else "no"
        yield "real-time priority", f"{used} (highest permitted: {realtime.get('limit')})"
