"""A capacity measurement as one HTML page that needs nothing else: what each search found, and
what the hub cost with so many clients."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from loadtest.capacity.probe import Figures, Probe
from loadtest.capacity.report import KIND, CapacityFileError, level_words, read
from loadtest.reporting.html import environment, need_charts, provenance_rows
from loadtest.scenario.model import Service

TEMPLATE = "capacity.html.j2"


def is_capacity(path: Path) -> bool:
    """Whether a file is a capacity measurement, and not a run."""
    try:
        return f'"kind": "{KIND}"' in path.read_text()[:1000]
    except (OSError, UnicodeDecodeError):
        return False


def render(path: Path) -> str:
    """The page of a file that ``tuttihub capacity --json`` wrote.

    Raises:
        CapacityFileError: it is none, or damaged.
        MissingExtra: matplotlib or jinja2 is not installed.
    """
    values = read(path)
    need_charts()
    from jinja2 import UndefinedError

    try:
        searches = [_search(each) for each in values["searches"]]
        page: str = (
            environment(Path(__file__).parent)
            .get_template(TEMPLATE)
            .render(
                title="How many clients this machine carries",
                searches=searches,
                chart=_chart(searches),
                assumptions=values["assumptions"] if values["predictions"] else [],
                predictions=values["predictions"],
                provenance=list(provenance_rows(values["provenance"])),
                command=values["provenance"].get("command", ""),
            )
        )
    except (KeyError, TypeError, ValueError, UndefinedError) as error:
        raise CapacityFileError(f"{path}: damaged: {error!r}") from error
    return page


def _search(values: dict[str, Any]) -> dict[str, Any]:
    service = Service(**values["case"]["service"])
    return {
        "label": values["label"],
        "level": level_words(service),
        "found": values["found"],
        "limit": values["limit"],
        "probes": [Probe.from_json(probe) for probe in values["probes"]],
    }


def _chart(searches: Sequence[dict[str, Any]]) -> str:
    """CPU and memory against N as SVG; of several probes of a number, the one in the middle."""
    from loadtest.reporting.charts import styled, to_svg
    from loadtest.reporting.costcharts import Point, cost_lines

    groups: dict[str, list[Point]] = {}
    for each in searches:
        by_clients: dict[int, list[Figures]] = {}
        for probe in each["probes"]:
            if probe.usable and probe.figures.cpu_us:
                by_clients.setdefault(probe.clients, []).append(probe.figures)
        points = [
            Point(
                clients,
                median(sum(one.cpu_us.values()) for one in several),
                median(one.cores() for one in several),
                median(one.private_kib_a_client for one in several) / 1024,
                median(one.private_kib for one in several) / 1024,
            )
            for clients, several in by_clients.items()
        ]
        if points:
            groups[each["label"]] = points
    if not groups:
        return ""
    with styled():
        return to_svg(cost_lines(groups), "capacity-cost", "CPU and private memory against clients")
